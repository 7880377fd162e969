//! Kernels with counts, strides and layouts whose lengths wrap around, or whose slices are too short: each must panic, on every
//! instruction set, before it reads or writes anything.

use super::planes::{PlaneProduct, PlaneUpdate, Planes, Prefetch};
use super::sparse::{PooledGradient, SparseSpread, SparseUpdate};
use super::transform::{GradientTransform, InputTransform, MonoConvolution, OutputTransform, PlainRows, StoredRows};
use super::winograd::ThreeTaps;
use super::{DepthwiseProduct, DepthwiseUpdate, Isa, Product, RankUpdate, Windows};
use std::marker::PhantomData;
use std::panic::catch_unwind;

/// Eight of these wrap around to 0.
const EIGHTH: usize = 1 << (usize::BITS - 3);
/// Two of these wrap around to 0.
const HALF: usize = 1 << (usize::BITS - 1);
/// Three of these wrap around to 1.
const THIRD: usize = usize::MAX / 3 * 2 + 1;

const ALGORITHM: PhantomData<ThreeTaps> = PhantomData;

/// That `run` panics on every instruction set of this machine.
fn refused(name: &str, run: impl Fn(Isa) + std::panic::RefUnwindSafe) {
    for isa in Isa::all() {
        assert!(catch_unwind(|| run(isa)).is_err(), "{name}: the kernel runs on {isa:?}");
    }
}

#[test]
fn the_numbers_of_these_tests_wrap_around() {
    assert_eq!([EIGHTH.wrapping_mul(8), HALF.wrapping_mul(2), THIRD.wrapping_mul(3)], [0, 0, 1]);
}

#[test]
fn case_41_product() {
    let run = |isa: Isa, [row_stride, taps, tap_stride, c_stride, inner, rows]: [usize; 6]| {
        let (a, packed, mut c) = ([1.0; 4], [1.0; 64], [0.0; 64]);
        let (a, packed, init, c) = (&a, &packed, &[], &mut c);
        isa.run(Product { a, row_stride, taps, tap_stride, inner, packed, init, c, c_stride, outputs: 1, rows });
    };
    refused("row stride", |isa| run(isa, [EIGHTH, 1, 0, 1, 4, 9]));
    refused("tap stride", |isa| run(isa, [0, 9, EIGHTH, 1, 4, 1]));
    refused("output stride", |isa| run(isa, [0, 1, 0, EIGHTH, 4, 9]));
    refused("taps times numbers", |isa| run(isa, [0, EIGHTH, 0, 1, 8, 1]));
    refused("rows and taps together", |isa| run(isa, [HALF, 2, HALF, 1, 4, 2]));
    refused("a row too many", |isa| run(isa, [1, 1, 0, 1, 4, 2]));
    refused("unpacked weights", |isa| {
        let c = &mut [0.0; 64];
        let (a, packed) = (&[1.0; 64], &[1.0; 64]);
        isa.run(Product {
            a,
            row_stride: 0,
            taps: 1,
            tap_stride: 0,
            inner: 64,
            packed,
            init: &[],
            c,
            c_stride: 1,
            outputs: 33,
            rows: 1,
        });
    });
}

#[test]
fn case_41_rank_update() {
    let run = |isa: Isa, [a_stride, b_stride, positions, m, outputs]: [usize; 5]| {
        let (a, b, mut c) = ([1.0; 4], [1.0; 64], [0.0; 64]);
        isa.run(RankUpdate { a: &a, a_stride, b: &b, b_stride, positions, c: &mut c, fresh: true, m, outputs });
    };
    refused("left stride", |isa| run(isa, [EIGHTH, 1, 9, 1, 1]));
    refused("right stride", |isa| run(isa, [0, EIGHTH, 9, 1, 1]));
    refused("sums", |isa| run(isa, [0, 0, 1, 4, EIGHTH * 2]));
    refused("a position too many", |isa| run(isa, [1, 1, 5, 1, 1]));
}

/// Windows of two taps over four rows.
const WINDOWS: Windows = Windows { rows: 4, origin: 0, step: 1, taps: 2, tap_step: 1 };

#[test]
fn depthwise_product() {
    let run = |isa: Isa, windows: Windows, [c, y_step, count, weights]: [usize; 4]| {
        let (x, w, mut y) = ([1.0; 8], vec![1.0; weights], [0.0; 8]);
        isa.run(DepthwiseProduct { windows, c, x: &x, w: &w, init: &[], y: &mut y, y_step, count });
    };
    Isa::all().into_iter().for_each(|isa| run(isa, WINDOWS, [2, 1, 3, 4]));
    refused("a row too many of the input", |isa| run(isa, Windows { rows: 5, ..WINDOWS }, [2, 1, 3, 4]));
    refused("a row too many of the output", |isa| run(isa, WINDOWS, [2, 1, 5, 4]));
    refused("a weight too few", |isa| run(isa, WINDOWS, [2, 1, 3, 3]));
    refused("no tap", |isa| run(isa, Windows { taps: 0, ..WINDOWS }, [2, 1, 3, 4]));
    refused("channels", |isa| run(isa, WINDOWS, [HALF, 1, 3, 4]));
    refused("output step", |isa| run(isa, WINDOWS, [2, HALF, 3, 4]));
    refused("tap step", |isa| run(isa, Windows { tap_step: HALF, ..WINDOWS }, [2, 1, 3, 4]));
    refused("step", |isa| run(isa, Windows { step: THIRD, ..WINDOWS }, [2, 1, 3, 4]));
    refused("taps", |isa| run(isa, Windows { taps: HALF, ..WINDOWS }, [2, 1, 3, 4]));
    refused("origin", |isa| run(isa, Windows { origin: isize::MIN, ..WINDOWS }, [2, 1, 3, 4]));
    refused("rows", |isa| run(isa, Windows { rows: HALF, ..WINDOWS }, [2, 1, 3, 4]));
}

#[test]
fn depthwise_update() {
    let run = |isa: Isa, windows: Windows, [c, count, weights, bias]: [usize; 4]| {
        let (x, dy, mut dw, mut db) = ([1.0; 8], [1.0; 6], vec![0.0; weights], vec![0.0; bias]);
        isa.run(DepthwiseUpdate { windows, c, x: &x, dy: &dy, count, dw: &mut dw, db: &mut db });
    };
    Isa::all().into_iter().for_each(|isa| run(isa, WINDOWS, [2, 3, 4, 2]));
    refused("a row too many of the input", |isa| run(isa, Windows { rows: 5, ..WINDOWS }, [2, 3, 4, 2]));
    refused("a row too many of the gradient", |isa| run(isa, WINDOWS, [2, 4, 4, 2]));
    refused("a weight too few", |isa| run(isa, WINDOWS, [2, 3, 3, 2]));
    refused("a bias too few", |isa| run(isa, WINDOWS, [2, 3, 4, 1]));
    refused("no tap", |isa| run(isa, Windows { taps: 0, ..WINDOWS }, [2, 3, 4, 2]));
    refused("channels", |isa| run(isa, WINDOWS, [HALF, 3, 4, 2]));
    refused("tap step", |isa| run(isa, Windows { tap_step: HALF, ..WINDOWS }, [2, 3, 4, 2]));
    refused("origin", |isa| run(isa, Windows { origin: isize::MAX, ..WINDOWS }, [2, 3, 4, 2]));
}

#[test]
fn case_41_plane_product() {
    let run = |isa: Isa, [v_plane, m_plane, v_row, stride, tiles, planes, inner, segments]: [usize; 8]| {
        let (v, packed) = (vec![1.0f32; 24 * 16], vec![1.0f32; 9 * 16]);
        let mut m = vec![0.0f32; 24 * 16 * 9];
        let (v_planes, m_planes) = (Planes { row: v_row, plane: v_plane }, Planes { row: 16, plane: m_plane });
        let (v, packed, m, prefetch) = (&v, &packed, &mut m, Prefetch::default());
        isa.run(PlaneProduct {
            v,
            v_planes,
            segments,
            stride,
            inner,
            packed,
            m,
            m_planes,
            outputs: 1,
            tiles,
            planes,
            prefetch,
        });
    };
    refused("planes of input", |isa| run(isa, [EIGHTH, 24 * 16, 16, 1, 1, 9, 1, 1]));
    refused("planes of products", |isa| run(isa, [0, EIGHTH, 16, 1, 1, 9, 1, 1]));
    refused("tile stride", |isa| run(isa, [0, 24 * 16, 16, EIGHTH, 1, 1, 1, 1]));
    refused("row", |isa| run(isa, [0, 24 * 16, EIGHTH, 1, 1, 1, 1, 1]));
    refused("tiles", |isa| run(isa, [0, 24 * 16, 16, 1, usize::MAX, 1, 1, 1]));
    refused("segments", |isa| run(isa, [0, 24 * 16, 16, 1, 1, 1, 16, HALF]));
    refused("planes of weights", |isa| run(isa, [0, 0, 16, 1, 1, HALF, 1, 1]));
}

#[test]
fn case_41_plane_update() {
    let run = |isa: Isa, [v_row, z_plane, inner, tiles, planes]: [usize; 5]| {
        let (v, z, mut du) = (vec![1.0f32; 64], vec![1.0f32; 64], vec![0.0f32; 64]);
        let (v_planes, z_planes) = (Planes { row: v_row, plane: 0 }, Planes { row: 16, plane: z_plane });
        let (v, z, du, prefetch) = (&v, &z, &mut du, Prefetch::default());
        isa.run(PlaneUpdate {
            v,
            v_planes,
            segments: 1,
            stride: 1,
            inner,
            z,
            z_planes,
            du,
            fresh: true,
            outputs: 1,
            tiles,
            planes,
            prefetch,
        });
    };
    refused("row", |isa| run(isa, [EIGHTH, 0, 1, 9, 1]));
    refused("planes of the gradient", |isa| run(isa, [16, 1 << 40, 1, 1, 2]));
    refused("channels", |isa| run(isa, [16, 0, HALF, 1, 1]));
}

#[test]
fn case_41_input_transform() {
    let run = |isa: Isa, [c, step, tiles, row, plane]: [usize; 5]| {
        let (x, mut v) = (vec![0.0; 64], vec![0.0; 20000]);
        isa.run(InputTransform {
            x: &x,
            c,
            step,
            tiles,
            v: &mut v,
            planes: Planes { row, plane },
            algorithm: ALGORITHM,
        });
    };
    refused("step", |isa| run(isa, [1, EIGHTH, 9, 16, 1000]));
    refused("channels", |isa| run(isa, [HALF, 1, 1, 16, 1000]));
    refused("padded channels", |isa| run(isa, [usize::MAX, 0, 1, 16, 1000]));
    refused("planes", |isa| run(isa, [1, 1, 1, 16, HALF / 5]));
    refused("rows of planes", |isa| run(isa, [1, 0, 16, EIGHTH / 2, 1000]));
    refused("a row that is not padded", |isa| run(isa, [17, 0, 1, 15, 1000]));
}

#[test]
fn case_41_gradient_transform() {
    let run = |isa: Isa, [c, tiles, row, plane]: [usize; 4]| {
        let (dy, mut z) = (vec![0.0; 64], vec![0.0; 20000]);
        isa.run(GradientTransform {
            dy: &dy,
            c,
            tiles,
            z: &mut z,
            planes: Planes { row, plane },
            algorithm: ALGORITHM,
        });
    };
    refused("tiles", |isa| run(isa, [1, EIGHTH, 16, 1000]));
    refused("channels", |isa| run(isa, [EIGHTH, 1, 16, 1000]));
    refused("planes", |isa| run(isa, [1, 1, 16, HALF / 5]));
    refused("rows of planes", |isa| run(isa, [1, 8, EIGHTH, 1000]));
}

#[test]
fn case_41_output_transform() {
    let run = |isa: Isa, [c, first, rows, row, plane]: [usize; 5]| {
        let (m, mut y) = (vec![0.0; 20000], vec![0.0; 64]);
        let (planes, epilogue) = (Planes { row, plane }, &mut PlainRows { y: &mut y, c });
        isa.run(OutputTransform { m: &m, planes, c, first, rows, epilogue, algorithm: ALGORITHM });
    };
    refused("rows", |isa| run(isa, [1, 0, usize::MAX, 16, 1000]));
    refused("rows times channels", |isa| run(isa, [2, 0, HALF, 16, 0]));
    refused("planes", |isa| run(isa, [1, 0, 8, 16, HALF / 5]));
    refused("rows of planes", |isa| run(isa, [1, 0, 64, EIGHTH, 1000]));
    refused("first row", |isa| run(isa, [1, usize::MAX / 24 * 24, 24, 16, 1000]));
    refused("output too short", |isa| run(isa, [4, 0, 24, 16, 1000]));
}

#[test]
fn case_41_stored_rows() {
    let run = |isa: Isa, [c, first, rows]: [usize; 3]| {
        let mut y = [0.0f32; 4];
        isa.run(StoredRows { z: &[1.0; 4], c, first, rows, epilogue: &mut PlainRows { y: &mut y, c } });
    };
    refused("rows", |isa| run(isa, [2, 0, HALF]));
    refused("channels", |isa| run(isa, [HALF, 0, 2]));
    refused("first row", |isa| run(isa, [2, usize::MAX / 24 * 24, 2]));
    refused("a first row within a group", |isa| run(isa, [1, 1, 2]));
}

#[test]
fn case_41_mono_convolution() {
    let run = |isa: Isa, [k, c, rows, first]: [usize; 4]| {
        let mut y = [0.0f32; 64];
        isa.run(MonoConvolution {
            x: &[1.0; 64],
            w: &[1.0; 15],
            k,
            c,
            first,
            rows,
            epilogue: &mut PlainRows { y: &mut y, c },
        });
    };
    refused("rows", |isa| run(isa, [3, 1, usize::MAX, 0]));
    refused("rows and taps", |isa| run(isa, [usize::MAX, 1, 24, 0]));
    refused("channels", |isa| run(isa, [5, THIRD, 1, 0]));
    refused("taps", |isa| run(isa, [8, EIGHTH, 1, 0]));
    refused("too few samples", |isa| run(isa, [3, 1, 64, 0]));
}

#[test]
fn case_41_sparse_update_and_spread() {
    let run = |isa: Isa, [count, window, row, width]: [usize; 4]| {
        let (dy, argmax, x) = ([1.0f32; 4], [0u8; 4], vec![0.0f32; 64]);
        let (mut c, mut db) = ([0.0f32; 1], [0.0f32; 1]);
        let gradient = PooledGradient { dy: &dy, argmax: &argmax, count, window, row };
        isa.run(SparseUpdate {
            gradient,
            x: &x,
            c: &mut c[..width],
            db: &mut db,
            width,
            prefetch: Prefetch::default(),
        });
    };
    let spread = |isa: Isa, [count, window, row, outputs]: [usize; 4]| {
        let (dy, argmax, w, mut dx) = ([1.0f32; 4], [0u8; 4], [1.0f32; 1], vec![0.0f32; 64]);
        let gradient = PooledGradient { dy: &dy, argmax: &argmax, count, window, row };
        isa.run(SparseSpread { gradient, w: &w, outputs, dx: &mut dx, prefetch: Prefetch::default() });
    };
    for (name, [count, window, row]) in [
        ("row", [4, 1, THIRD]),
        ("windows", [4, HALF, 1]),
        ("a window that no argmax reaches", [1, 257, 0]),
        ("no row in a window", [4, 0, 1]),
        ("more windows than a call takes", [49, 1, 1]),
        ("more windows than gradients", [5, 1, 1]),
        ("too few numbers", [4, 17, 1]),
    ] {
        refused(name, |isa| run(isa, [count, window, row, 1]));
        refused(name, |isa| spread(isa, [count, window, row, 1]));
    }
}
