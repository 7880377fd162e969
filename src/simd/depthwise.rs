//! The two kernels of a depthwise convolution: one filter for each channel, channels last.
//!
//! - **Product**, `y[r, j] = init[j] + sum_t x[row(r, t), j] * w[t, j]`. Forward and backward-data.
//! - **Update**, `dw[t, j] += sum_r x[row(r, t), j] * dy[r, j]`. Backward-weight.
//!
//! A vector holds neighbouring channels of one row, so that no operand is shuffled or broadcast. Rows are contiguous, and a kernel takes one
//! vector of channels through a block of rows before the next vector. The number of taps of a tile is known when it is compiled: as a loop, they
//! would need an address for each row and tap, and most of these would be spilled.
//!
//! **Registers.** Product: the weights of at most [`TAPS`] = 9 taps and the sum of a row; the input is an operand of the multiplication. The sum is
//! one chain, but those of neighbouring rows are independent, and the processor executes several rows at once. Update: at most 9 sums of taps,
//! one sum of the bias, one vector of `dy`. Both need at most 11 of the 16 registers of AVX2, and load one vector for each multiplication.
//!
//! **Order of additions.** Product: over the taps, in one chain from `init` on; with more taps than a tile has, `y` holds the sum in between.
//! Update: first the rows that reach into the padding, one by one; then the other rows in blocks, each of which is summed in one chain and then
//! added to `dw`. Neither depends on the instruction set.
#![allow(unsafe_code)] // reason: the innermost loops read through pointers; bounds are asserted once, at the entry of a kernel

use super::extent::{product, span};
use super::isa::{Kernel, Simd};
use super::windows::Windows;
use std::ops::Range;

/// Most taps of a tile.
const TAPS: usize = 9;
/// Numbers of the output of a block of the product, about: 8 KiB, so that the rows of both operands stay in the L1 cache for all vectors of channels.
const BLOCK_NUMBERS: usize = 2048;
/// Fewest output rows of such a block: the weights of a tile are read once for so many rows.
const FEWEST_ROWS: usize = 16;
/// Output rows of a block of the update: with 64 channels its rows of `x` and `dy` are 32 KiB.
const BLOCK_ROWS: usize = 64;

/// Calls the unsafe function `$of::<S, T>` for the number of taps `T`.
macro_rules! with_taps {
    ($of:ident::<$S:ident>($taps:expr, $($argument:expr),*)) => {
        match $taps {
            0 => $of::<$S, 0>($($argument),*),
            1 => $of::<$S, 1>($($argument),*),
            2 => $of::<$S, 2>($($argument),*),
            3 => $of::<$S, 3>($($argument),*),
            4 => $of::<$S, 4>($($argument),*),
            5 => $of::<$S, 5>($($argument),*),
            6 => $of::<$S, 6>($($argument),*),
            7 => $of::<$S, 7>($($argument),*),
            8 => $of::<$S, 8>($($argument),*),
            _ => $of::<$S, TAPS>($($argument),*),
        }
    };
}

/// `y[r, j] = init[j] + sum over taps t of x[row(r, t), j] * w[t, j]` for `count` rows, where the rows are those of `windows`.
pub struct DepthwiseProduct<'a> {
    /// The rows that each output row reads.
    pub windows: Windows,
    /// Channels.
    pub c: usize,
    /// The input, `[rows, c]`.
    pub x: &'a [f32],
    /// The weights, `[taps, c]`.
    pub w: &'a [f32],
    /// The start of every sum, one for each channel; empty for zeros.
    pub init: &'a [f32],
    /// The output, from the first row on.
    pub y: &'a mut [f32],
    /// Rows of `c` numbers from one output row to the next.
    pub y_step: usize,
    /// Output rows.
    pub count: usize,
}

impl Kernel for DepthwiseProduct<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let DepthwiseProduct { windows, c, x, w, init, y, y_step, count } = self;
        if count == 0 || c == 0 {
            return;
        }
        windows.check(count);
        let [x_stride, tap_stride, y_stride] = [windows.step, windows.tap_step, y_step].map(|step| product([step, c]));
        assert!(x.len() >= product([windows.rows, c]) && w.len() >= product([windows.taps, c]));
        assert!(y.len() >= span([(count, y_stride)], c));
        assert!(init.is_empty() || init.len() >= c);
        let y = y.as_mut_ptr();
        let inside = windows.inside(count);
        let tile = |taps: Range<usize>, row: usize, rows: usize, resumes: bool| ProductTile {
            x: x.as_ptr().wrapping_offset(windows.row(row, taps.start).wrapping_mul(c as i64) as isize),
            x_stride,
            w: w.as_ptr().wrapping_add(taps.start * c),
            tap_stride,
            init: if init.is_empty() { std::ptr::null() } else { init.as_ptr() },
            resumes,
            y: y.wrapping_add(row * y_stride),
            y_stride,
            rows,
            c,
        };
        for row in (0..inside.start).chain(inside.end..count) {
            let taps = windows.taps_inside(row);
            for piece in pieces(taps.clone()) {
                let (len, resumes) = (piece.len(), piece.start > taps.start);
                // SAFETY: the taps are those that read rows of `x`, which has `rows * c` numbers, `w` has `taps * c`, `init` none or `c`, and `y`
                // has `c` numbers at every row below `count` (asserted). `y` comes from a mutable borrow that lives as long as this call.
                unsafe { with_taps!(product_taps::<S>(len, s, &tile(piece, row, 1, resumes))) };
            }
        }
        let block = (BLOCK_NUMBERS / c).clamp(FEWEST_ROWS, BLOCK_ROWS);
        for row in inside.clone().step_by(block) {
            let rows = block.min(inside.end - row);
            for piece in pieces(0..windows.taps) {
                let (len, resumes) = (piece.len(), piece.start > 0);
                // SAFETY: rows `row..row + rows` are inside: all taps of their windows read rows of `x`; the rest as above.
                unsafe { with_taps!(product_taps::<S>(len, s, &tile(piece, row, rows, resumes))) };
            }
        }
    }
}

/// Cuts taps into pieces of at most [`TAPS`] that differ in size by at most one. Of no taps there is one piece, in which a product stores its start.
fn pieces(taps: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let (first, len) = (taps.start, taps.len());
    let count = len.div_ceil(TAPS).max(1);
    (0..count).map(move |piece| first + len * piece / count..first + len * (piece + 1) / count)
}

/// The operands of some neighbouring taps and output rows. Strides are in numbers.
struct ProductTile {
    x: *const f32,
    x_stride: usize,
    w: *const f32,
    tap_stride: usize,
    init: *const f32,
    /// Whether `y` holds the sums of earlier taps.
    resumes: bool,
    y: *mut f32,
    y_stride: usize,
    rows: usize,
    c: usize,
}

/// `T` taps of all channels.
///
/// # Safety
/// For `r < rows` and `k < T`, `c` numbers from `x + r * x_stride + k * tap_stride` and from `w + k * c` on are readable, and `c` numbers from
/// `y + r * y_stride` on are writable and, if `resumes`, readable; `init` is null or has `c` numbers.
#[inline(always)]
unsafe fn product_taps<S: Simd, const T: usize>(s: S, t: &ProductTile) {
    let whole = t.c / S::LANES * S::LANES;
    // SAFETY: `whole` is a multiple of the lanes, and the last, cut vector ends at `c`.
    unsafe {
        for j in (0..whole).step_by(S::LANES) {
            product_vector::<S, T, false>(s, t, j);
        }
        if whole < t.c {
            product_vector::<S, T, true>(s, t, whole);
        }
    }
}

/// The channels from `j` on of `T` taps: a vector of them, or those that are left if `CUT`.
///
/// # Safety
/// That of [`product_taps`], for a vector that is not cut with `j + LANES <= c`.
#[inline(always)]
unsafe fn product_vector<S: Simd, const T: usize, const CUT: bool>(s: S, t: &ProductTile, j: usize) {
    let lanes = t.c - j;
    // SAFETY: every access below is to channels `j..` of a row that the caller vouches for.
    unsafe {
        let start = if t.init.is_null() { s.zero() } else { load::<S, CUT>(s, t.init.add(j), lanes) };
        let mut weights = [s.zero(); T];
        for (tap, weight) in weights.iter_mut().enumerate() {
            *weight = load::<S, CUT>(s, t.w.add(tap * t.c + j), lanes);
        }
        for r in 0..t.rows {
            let (x, y) = (t.x.wrapping_add(r * t.x_stride + j), t.y.add(r * t.y_stride + j));
            let mut sum = if t.resumes { load::<S, CUT>(s, y, lanes) } else { start };
            for (tap, &weight) in weights.iter().enumerate() {
                sum = s.fma(load::<S, CUT>(s, x.add(tap * t.tap_stride), lanes), weight, sum);
            }
            store::<S, CUT>(s, y, lanes, sum);
        }
    }
}

/// A vector, or its first `lanes` numbers if `CUT`.
///
/// # Safety
/// As many numbers from `from` on are readable.
#[inline(always)]
unsafe fn load<S: Simd, const CUT: bool>(s: S, from: *const f32, lanes: usize) -> S::V {
    // SAFETY: the caller's contract.
    unsafe { if CUT { s.load_first(from, lanes) } else { s.load(from) } }
}

/// Writes a vector, or its first `lanes` numbers if `CUT`.
///
/// # Safety
/// As many numbers from `to` on are writable.
#[inline(always)]
unsafe fn store<S: Simd, const CUT: bool>(s: S, to: *mut f32, lanes: usize, v: S::V) {
    // SAFETY: the caller's contract.
    unsafe { if CUT { s.store_first(to, lanes, v) } else { s.store(to, v) } }
}

/// `dw[t, j] += sum over rows r of x[row(r, t), j] * dy[r, j]` and `db[j] += sum over rows r of dy[r, j]`, where the rows are those of `windows`.
pub struct DepthwiseUpdate<'a> {
    /// The rows that each output row reads.
    pub windows: Windows,
    /// Channels.
    pub c: usize,
    /// The input, `[rows, c]`.
    pub x: &'a [f32],
    /// The gradient of the output, `[count, c]`.
    pub dy: &'a [f32],
    /// Output rows.
    pub count: usize,
    /// The gradient of the weights, `[taps, c]`.
    pub dw: &'a mut [f32],
    /// The gradient of the bias; empty if there is none.
    pub db: &'a mut [f32],
}

impl Kernel for DepthwiseUpdate<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let DepthwiseUpdate { windows, c, x, dy, count, dw, db } = self;
        if count == 0 || c == 0 {
            return;
        }
        windows.check(count);
        let [x_stride, tap_stride] = [windows.step, windows.tap_step].map(|step| product([step, c]));
        assert!(x.len() >= product([windows.rows, c]) && dw.len() >= product([windows.taps, c]));
        assert!(dy.len() >= product([count, c]));
        assert!(db.is_empty() || db.len() >= c);
        let (dw, db) = (dw.as_mut_ptr(), if db.is_empty() { std::ptr::null_mut() } else { db.as_mut_ptr() });
        let inside = windows.inside(count);
        let tile = |taps: Range<usize>, row: usize, rows: usize, db: *mut f32| UpdateTile {
            x: x.as_ptr().wrapping_offset(windows.row(row, taps.start).wrapping_mul(c as i64) as isize),
            x_stride,
            tap_stride,
            dy: dy.as_ptr().wrapping_add(row * c),
            rows,
            dw: dw.wrapping_add(taps.start * c),
            db,
            c,
        };
        for row in (0..inside.start).chain(inside.end..count) {
            // SAFETY: the taps are those that read rows of `x`, which has `rows * c` numbers; `dy` has `count * c`, `dw` has `taps * c`, and
            // `db` is null or has `c` numbers (asserted). Both come from mutable borrows that live as long as this call.
            unsafe {
                if !db.is_null() {
                    update_taps::<S, 0>(s, &tile(0..0, row, 1, db));
                }
                for tap in windows.taps_inside(row) {
                    update_taps::<S, 1>(s, &tile(tap..tap + 1, row, 1, std::ptr::null_mut()));
                }
            }
        }
        for row in inside.clone().step_by(BLOCK_ROWS) {
            let rows = BLOCK_ROWS.min(inside.end - row);
            for piece in pieces(0..windows.taps) {
                let (len, db) = (piece.len(), if piece.start == 0 { db } else { std::ptr::null_mut() });
                // SAFETY: rows `row..row + rows` are inside: all taps of their windows read rows of `x`; the rest as above.
                unsafe { with_taps!(update_taps::<S>(len, s, &tile(piece, row, rows, db))) };
            }
        }
    }
}

/// The operands of some neighbouring taps and output rows. Strides are in numbers.
struct UpdateTile {
    x: *const f32,
    x_stride: usize,
    tap_stride: usize,
    dy: *const f32,
    rows: usize,
    dw: *mut f32,
    /// Null if no bias is summed.
    db: *mut f32,
    c: usize,
}

/// `T` taps of all channels.
///
/// # Safety
/// For `r < rows` and `k < T`, `c` numbers from `x + r * x_stride + k * tap_stride` and from `dy + r * c` on are readable, and `c` numbers from
/// `dw + k * c` on are writable; `db` is null or has `c` numbers.
#[inline(always)]
unsafe fn update_taps<S: Simd, const T: usize>(s: S, t: &UpdateTile) {
    let whole = t.c / S::LANES * S::LANES;
    // SAFETY: `whole` is a multiple of the lanes, and the last, cut vector ends at `c`.
    unsafe {
        for j in (0..whole).step_by(S::LANES) {
            update_vector::<S, T, false>(s, t, j);
        }
        if whole < t.c {
            update_vector::<S, T, true>(s, t, whole);
        }
    }
}

/// The channels from `j` on of `T` taps: a vector of them, or those that are left if `CUT`.
///
/// # Safety
/// That of [`update_taps`], for a vector that is not cut with `j + LANES <= c`.
#[inline(always)]
unsafe fn update_vector<S: Simd, const T: usize, const CUT: bool>(s: S, t: &UpdateTile, j: usize) {
    let lanes = t.c - j;
    // SAFETY: every access below is to channels `j..` of a row that the caller vouches for.
    unsafe {
        let (mut sums, mut bias) = ([s.zero(); T], s.zero());
        for r in 0..t.rows {
            let dy = load::<S, CUT>(s, t.dy.add(r * t.c + j), lanes);
            let x = t.x.wrapping_add(r * t.x_stride + j);
            for (tap, sum) in sums.iter_mut().enumerate() {
                *sum = s.fma(load::<S, CUT>(s, x.add(tap * t.tap_stride), lanes), dy, *sum);
            }
            bias = s.add(bias, dy);
        }
        for (tap, sum) in sums.into_iter().enumerate() {
            let dw = t.dw.add(tap * t.c + j);
            store::<S, CUT>(s, dw, lanes, s.add(load::<S, CUT>(s, dw, lanes), sum));
        }
        if !t.db.is_null() {
            let db = t.db.add(j);
            store::<S, CUT>(s, db, lanes, s.add(load::<S, CUT>(s, db, lanes), bias));
        }
    }
}
