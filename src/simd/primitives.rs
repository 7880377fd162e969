//! Every primitive of [`Simd`] on every instruction set against the scalar set, bit for bit; and the tiled kernels on sizes around
//! their tiles.
#![allow(unsafe_code)] // reason: the primitives load and store through pointers

use super::isa::SparseEntry;
use super::planes::{PlaneProduct, Planes, Prefetch};
use super::{Isa, Kernel, Product, RankUpdate, Simd};

/// Elements of every operand: a multiple of all sets' lanes.
const LEN: usize = 48;

/// NaNs of both signs, zeros, infinities, denormals, the limits of `f32` and of `i32`, and numbers of all sizes.
fn odd_values(turn: usize) -> [f32; LEN] {
    let special = [
        f32::NAN,
        -f32::NAN,
        0.0,
        -0.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::from_bits(1),
        -f32::from_bits(1),
        f32::from_bits(0x007f_ffff),
        f32::MIN_POSITIVE,
        f32::MAX,
        f32::MIN,
        f32::EPSILON,
        i32::MAX as f32,
        i32::MIN as f32,
        1.0,
        -1.0,
        1.5e-20,
        -3.25e19,
        0.1,
        7.0,
        -7.0,
        16_777_217.0,
    ];
    std::array::from_fn(|i| special[(i * (2 * turn + 1) + turn * 5) % special.len()])
}

/// Indices from 0 to 127, and what no window has.
fn indices() -> [u8; LEN] {
    std::array::from_fn(|i| [0, 1, 2, 3, 4, 7, 8, 15, 63, 126, 127][i * 7 % 11])
}

/// The results of every primitive, element by element.
#[derive(Default)]
struct Results(Vec<(String, Vec<u64>)>);

impl Results {
    fn push(&mut self, name: &str, values: impl IntoIterator<Item = u64>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, all)) => all.extend(values),
            None => self.0.push((name.into(), values.into_iter().collect())),
        }
    }
}

/// The bits of a number; of a NaN only that it is one, since its sign and payload are those of either operand.
fn bits(value: f32) -> u64 {
    if value.is_nan() { u64::from(f32::NAN.to_bits()) } else { u64::from(value.to_bits()) }
}

fn lanes_of<S: Simd>(s: S, v: S::V) -> impl Iterator<Item = u64> {
    let mut all = [0.0; 16];
    s.store_to(&mut all[..S::LANES], v);
    all.into_iter().take(S::LANES).map(bits)
}

fn indices_of<S: Simd>(s: S, argmax: S::Argmax) -> impl Iterator<Item = u64> {
    let mut all = [0u8; 16];
    // SAFETY: sixteen bytes hold the lanes of any set.
    unsafe { s.store_argmax(all.as_mut_ptr(), S::LANES, argmax) };
    all.into_iter().take(S::LANES).map(u64::from)
}

struct Arithmetic<'a>(&'a mut Results);

impl Kernel for Arithmetic<'_> {
    fn run<S: Simd>(self, s: S) {
        let Arithmetic(results) = self;
        for turn in 0..12 {
            let (a, b, c) = (odd_values(turn), odd_values(turn + 3), odd_values(turn + 7));
            for i in (0..LEN).step_by(S::LANES) {
                // SAFETY: `S::LANES` numbers from `i` on are in each array.
                let [a, b, c] = unsafe { [&a, &b, &c].map(|array| s.load(array.as_ptr().add(i))) };
                let mut push = |name, v| results.push(name, lanes_of(s, v));
                push("load", a);
                push("zero", s.zero());
                push("splat", s.splat(-0.0));
                push("fma", s.fma(a, b, c));
                push("add", s.add(a, b));
                push("sub", s.sub(a, b));
                push("mul", s.mul(a, b));
                push("max", s.max(a, b));
                push("select gt", s.select(s.gt(a, b), s.splat(1.0), c));
                push("select le", s.select(s.le(a, b), s.splat(1.0), c));
            }
            for i in 0..LEN {
                results.push("fma_scalar", [bits(s.fma_scalar(a[i], b[i], c[i]))]);
            }
        }
    }
}

struct Indices<'a>(&'a mut Results);

impl Kernel for Indices<'_> {
    fn run<S: Simd>(self, s: S) {
        let Indices(results) = self;
        let (all, a, b) = (indices(), odd_values(1), odd_values(4));
        for i in (0..LEN).step_by(S::LANES) {
            // SAFETY: `S::LANES` numbers and bytes from `i` on are in the arrays.
            let (argmax, a, b) = unsafe {
                (s.load_argmax(all.as_ptr().add(i), S::LANES), s.load(a.as_ptr().add(i)), s.load(b.as_ptr().add(i)))
            };
            let mask = s.gt(a, b);
            results.push("load_argmax, store_argmax", indices_of(s, argmax));
            for index in [0, 1, 7, 127] {
                results.push(&format!("splat_argmax({index})"), indices_of(s, s.splat_argmax(index)));
                results.push(&format!("masked_max({index})"), indices_of(s, s.masked_max(mask, index, argmax)));
                let is = |mask| lanes_of(s, s.select(mask, s.splat(1.0), s.splat(2.0)));
                results.push(&format!("argmax_eq({index})"), is(s.argmax_eq(argmax, index)));
                results.push(&format!("argmax_lt({index})"), is(s.argmax_lt(argmax, index)));
            }
            let counts = s.masked_increment(mask, s.splat_argmax(126));
            results.push("masked_increment", indices_of(s, counts));
            let mut stored = [u32::MAX; 16];
            // SAFETY: sixteen numbers hold the lanes of any set.
            unsafe { s.store_counts(stored.as_mut_ptr(), counts) };
            results.push("store_counts", stored[..S::LANES].iter().map(|&count| u64::from(count)));
            let limits = [0, 1, 3, 127, i32::MAX as u32, i32::MAX as u32 + 1, u32::MAX];
            for (first, step) in limits.into_iter().flat_map(|first| limits.map(|step| (first, step))) {
                let mut entries = [SparseEntry::default(); 16];
                // SAFETY: sixteen entries hold the lanes of any set.
                unsafe { s.store_entries(entries.as_mut_ptr(), argmax, first, step, a) };
                let entry = |entry: &SparseEntry| [u64::from(entry.offset), bits(entry.value)];
                results.push(&format!("store_entries({first}, {step})"), entries[..S::LANES].iter().flat_map(entry));
            }
        }
        // Bytes that are no index of any window are not below, nor equal to, one that is.
        for i in (0..256).step_by(16) {
            let bytes: [u8; 16] = std::array::from_fn(|lane| (i + lane) as u8);
            for at in (0..16).step_by(S::LANES) {
                // SAFETY: `S::LANES` bytes from `at` on are in the array.
                let argmax = unsafe { s.load_argmax(bytes.as_ptr().add(at), S::LANES) };
                let is = |mask| lanes_of(s, s.select(mask, s.splat(1.0), s.splat(2.0)));
                results.push("argmax_eq of any byte", is(s.argmax_eq(argmax, 7)));
                results.push("argmax_lt of any byte", is(s.argmax_lt(argmax, 4)));
            }
        }
    }
}

struct Lookups<'a>(&'a mut Results);

impl Lookups<'_> {
    fn window<S: Simd, const K: usize>(&mut self, s: S, name: &'static str) {
        let (table, all) = (odd_values(2), indices());
        for i in (0..LEN).step_by(S::LANES) {
            // SAFETY: the bytes are in the array, and more than sixteen numbers in the table.
            let found = unsafe {
                let argmax = s.load_argmax(all.as_ptr().add(i), S::LANES);
                s.lookup::<K>(table.as_ptr(), argmax)
            };
            let found: Vec<Vec<u64>> = found.into_iter().map(|v| lanes_of(s, v).collect()).collect();
            (0..S::LANES).for_each(|lane| self.0.push(name, found.iter().map(|of_tap| of_tap[lane])));
        }
    }
}

impl Kernel for Lookups<'_> {
    fn run<S: Simd>(mut self, s: S) {
        self.window::<S, 1>(s, "lookup of 1");
        self.window::<S, 2>(s, "lookup of 2");
        self.window::<S, 3>(s, "lookup of 3");
        self.window::<S, 4>(s, "lookup of 4");
        self.window::<S, 5>(s, "lookup of 5");
    }
}

#[test]
fn every_primitive_gives_the_bits_of_the_scalar_set() {
    let results = |isa: Isa| {
        let mut results = Results::default();
        isa.run(Arithmetic(&mut results));
        isa.run(Indices(&mut results));
        isa.run(Lookups(&mut results));
        results.0
    };
    let expected = results(Isa::Scalar);
    assert_eq!(
        expected.len(),
        11 + 3 + 4 * 4 + 49 + 2 + 5,
        "{:?}",
        expected.iter().map(|(name, _)| name).collect::<Vec<_>>()
    );
    for isa in Isa::all() {
        // In a build for processors without fused multiply-adds, the portable set rounds twice.
        let fused = cfg!(any(target_feature = "fma", target_arch = "aarch64")) || !matches!(isa, Isa::Wide);
        for ((name, got), (_, expected)) in results(isa).iter().zip(&expected) {
            if fused || !name.starts_with("fma") {
                assert_eq!(got.len(), expected.len(), "{name} on {isa:?}");
                let differs = got.iter().zip(expected).position(|(got, expected)| got != expected);
                assert_eq!(differs, None, "{name} on {isa:?} differs: {got:x?} instead of {expected:x?}");
            }
        }
    }
}

/// Loads and stores of every number of lanes, at an address that is aligned to nothing but a number.
struct Partial;

impl Kernel for Partial {
    fn run<S: Simd>(self, s: S) {
        let from = odd_values(5).map(|v| if v.is_nan() { 9.0 } else { v });
        let bytes: [u8; LEN] = indices();
        // SAFETY: at most sixteen elements from the second on are read and written, of arrays of 48.
        unsafe {
            for lanes in 0..=S::LANES {
                let mut to = [3.5f32; LEN];
                s.store_first(to.as_mut_ptr().add(1), lanes, s.load_first(from.as_ptr().add(1), lanes));
                let expected: [f32; LEN] =
                    std::array::from_fn(|i| if (1..=lanes).contains(&i) { from[i] } else { 3.5 });
                assert_eq!(to.map(f32::to_bits), expected.map(f32::to_bits), "store_first of {lanes}");
                let mut loaded = [3.5f32; 16];
                s.store_to(&mut loaded, s.load_first(from.as_ptr().add(1), lanes));
                assert!(
                    loaded[lanes..S::LANES].iter().all(|v| v.to_bits() == 0),
                    "load_first of {lanes} pads with zeros"
                );
                let mut cut = [3.5f32; 16];
                s.store_to(&mut cut[..lanes], s.splat(1.0));
                assert!((0..16).all(|i| cut[i] == if i < lanes { 1.0 } else { 3.5 }), "store_to of {lanes}");
                let mut places = [99u8; LEN];
                s.store_argmax(places.as_mut_ptr().add(1), lanes, s.load_argmax(bytes.as_ptr().add(1), lanes));
                let expected: [u8; LEN] = std::array::from_fn(|i| if (1..=lanes).contains(&i) { bytes[i] } else { 99 });
                assert_eq!(places, expected, "store_argmax of {lanes}");
            }
            let mut to = crate::base::aligned::Aligned::zeros(64);
            for at in [0, 1, 16, 17] {
                s.stream(to.as_mut_ptr().add(at), s.load(from.as_ptr()));
                s.fence();
                assert_eq!(
                    to[at..at + S::LANES].iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
                    from[..S::LANES].iter().map(|v| v.to_bits()).collect::<Vec<_>>()
                );
            }
            let mut to = [0.0f32; 17];
            s.store(to.as_mut_ptr().add(1), s.splat(2.0));
            assert!((0..17).all(|i| to[i] == if (1..=S::LANES).contains(&i) { 2.0 } else { 0.0 }));
        }
        for address in [std::ptr::null(), std::ptr::without_provenance(usize::MAX), std::ptr::without_provenance(64)] {
            s.prefetch(address);
            s.prefetch_write(address);
        }
    }
}

#[test]
fn parts_of_vectors_touch_no_other_memory() {
    Isa::all().into_iter().for_each(|isa| isa.run(Partial));
}

/// Numbers that differ, with sums that round.
fn numbers(len: usize, seed: u32) -> Vec<f32> {
    (0..len as u32).map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) >> 8) as f32 / 16_777_216.0 - 0.5).collect()
}

/// That `run` leaves the same bits on all sets; the portable set may round otherwise.
fn agree(name: &str, run: impl Fn(Isa) -> Vec<f32>) {
    let expected = run(Isa::Scalar);
    for isa in Isa::all() {
        let got = run(isa);
        let near = |(got, expected): (&f32, &f32)| (got - expected).abs() <= 1e-5;
        let equal = |(got, expected): (&f32, &f32)| got.to_bits() == expected.to_bits();
        let exact = !matches!(isa, Isa::Wide) || cfg!(any(target_feature = "fma", target_arch = "aarch64"));
        assert!(
            got.iter().zip(&expected).all(|pair| if exact { equal(pair) } else { near(pair) }),
            "{name} on {isa:?}"
        );
    }
}

struct PackProduct<'a>(&'a mut [f32], usize, usize, &'a [f32]);

impl Kernel for PackProduct<'_> {
    fn run<S: Simd>(self, _s: S) {
        let PackProduct(packed, depth, outputs, w) = self;
        Product::pack::<S>(packed, depth, outputs, |q, j| w[q * outputs + j]);
    }
}

#[test]
fn every_register_tile_gives_the_bits_of_the_scalar_set() {
    for outputs in [1, 7, 8, 9, 16, 17, 24, 33, 48, 49, 64, 65, 81] {
        for rows in [1, 2, 3, 4, 5, 6, 7, 12, 13, 25, 97] {
            let (depth, a) = (5, numbers(rows + 8, 1));
            let w = numbers(depth * outputs, 2);
            agree(&format!("product of {rows} rows, {outputs} outputs"), |isa| {
                let mut packed = vec![0.0; Product::packed_len(depth, outputs)];
                isa.run(PackProduct(&mut packed, depth, outputs, &w));
                let (init, mut c) = (numbers(outputs, 3), vec![f32::NAN; rows * outputs]);
                isa.run(Product {
                    a: &a,
                    row_stride: 1,
                    taps: 1,
                    tap_stride: 0,
                    inner: depth,
                    packed: &packed,
                    init: &init,
                    c: &mut c,
                    c_stride: outputs,
                    outputs,
                    rows,
                });
                c
            });
            let b = numbers(11 * outputs, 4);
            agree(&format!("rank update of {rows} rows, {outputs} outputs"), |isa| {
                let mut c = numbers(rows * outputs, 5);
                let a = numbers(11 * rows, 6);
                isa.run(RankUpdate {
                    a: &a,
                    a_stride: rows,
                    b: &b,
                    b_stride: outputs,
                    positions: 11,
                    c: &mut c,
                    fresh: false,
                    m: rows,
                    outputs,
                });
                c
            });
        }
    }
}

#[test]
fn every_tile_of_planes_gives_the_bits_of_the_scalar_set() {
    for (inner, outputs, tiles) in
        [(3, 1, 1), (16, 17, 25), (33, 8, 7), (5, 49, 24), (70, 64, 13), (2, 40, 12), (130, 3, 5)]
    {
        for (segments, stride) in [(1, 1), (2, 2)] {
            let v_planes = Planes::new(tiles, stride, segments - 1, inner);
            let m_planes = Planes::new(tiles, 1, 0, outputs);
            let (v, w) = (numbers(v_planes.len(2), 7), numbers(2 * segments * inner * outputs, 8));
            let depth = segments * inner;
            agree(&format!("planes of {inner} channels, {outputs} outputs, {tiles} tiles"), |isa| {
                let mut packed = vec![0.0; 2 * Product::packed_len(depth, outputs)];
                for (plane, to) in packed.chunks_exact_mut(Product::packed_len(depth, outputs)).enumerate() {
                    isa.run(PackProduct(to, depth, outputs, &w[plane * depth * outputs..]));
                }
                let mut m = vec![f32::NAN; m_planes.len(2)];
                isa.run(PlaneProduct {
                    v: &v,
                    v_planes,
                    segments,
                    stride,
                    inner,
                    packed: &packed,
                    m: &mut m,
                    m_planes,
                    outputs,
                    tiles,
                    planes: 2,
                    prefetch: Prefetch::default(),
                });
                let row = |plane: usize, t: usize| &m[plane * m_planes.plane + t * m_planes.row..][..outputs];
                (0..2).flat_map(|plane| (0..tiles).flat_map(move |t| row(plane, t).to_vec())).collect()
            });
        }
    }
}
