//! The two register tiles of which every convolution pass and dense layer is made.
//!
//! - **Product**, `c[r, j] = init[j] + sum_q a[r, q] * b[q, j]`: rows of `a` overlap (a convolution's windows), `b` is
//!   packed in panels of whole vectors. Forward and backward-data.
//! - **Rank update**, `c[m, j] += sum_p a[p, m] * b[p, j]`: a long sum over positions. Backward-weight.
//!
//! Both are kernels, entered with `isa.run(Product { .. })`, so that each set's tiles are compiled once.
//! A tile keeps all its sums in registers (budgets beside each instruction set's table, in `x86.rs` and `portable.rs`)
//! and adds in the order of the sum's index, one chain an output: every set and every tiling gives the same bits.
#![allow(unsafe_code)] // reason: the innermost loops read through pointers; bounds are asserted once, where a tile's operands are made

use super::extent::{product, round_up_to, span};
use super::isa::{Kernel, Simd};
use super::planes::PlaneTile;

/// The register tiles of an instruction set. The trait cannot be named outside of this crate, so that no other type is a
/// [`Simd`]: kernels trust these numbers where they compute addresses.
pub trait Tiled: Copy {
    /// Vectors in the widest tile of a product.
    const TILE_VECTORS: usize;

    /// The product tile of `vectors` vectors: how many rows it makes at once.
    fn product_rows(vectors: usize) -> usize;
    /// Runs the product tile of `vectors` vectors and `rows` rows: [`Tiled::product_rows`], 4, 2 or 1.
    ///
    /// # Safety
    /// As `tile::product_tile`.
    unsafe fn product_tile(self, vectors: usize, rows: usize, t: &ProductTile);
    /// Vectors and rows of the rank-update tile, widest first; see `tile.rs`.
    fn rank_vectors(outputs: usize) -> usize;
    /// Most rows of a rank-update tile of `vectors` vectors when `rows` are left.
    fn rank_rows(vectors: usize, rows: usize) -> usize;
    /// Runs the rank-update tile.
    ///
    /// # Safety
    /// As `tile::rank_tile`.
    unsafe fn rank_tile(self, vectors: usize, rows: usize, t: &RankTile);
    /// Runs the tile of a plane's product: `vectors` vectors, [`Tiled::product_rows`] rows, rows `STRIDE` numbers apart.
    ///
    /// # Safety
    /// As `planes::plane_tile`.
    unsafe fn plane_tile<const STRIDE: usize>(self, vectors: usize, t: &PlaneTile);
}

/// Outputs of one panel and where its weights begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panel {
    /// First output.
    pub first: usize,
    /// Vectors.
    pub vectors: usize,
    /// Outputs, at most `vectors * LANES`.
    pub outputs: usize,
    /// Where its weights begin in the packed array, in numbers per step of the sum.
    pub offset: usize,
}

/// Cuts `outputs` into panels of at most `widest` vectors of `lanes`: as many of the widest as fit, then one for the rest.
pub fn panels(lanes: usize, widest: usize, outputs: usize) -> impl Iterator<Item = Panel> {
    let width = widest * lanes;
    (0..outputs.div_ceil(width)).map(move |p| {
        let first = p * width;
        let outputs = (outputs - first).min(width);
        Panel { first, vectors: outputs.div_ceil(lanes), outputs, offset: first }
    })
}

/// `c[r, j] = init[j] + sum over taps t and i < inner of a[r * row_stride + t * tap_stride + i] * b[t * inner + i, j]`,
/// for `rows` rows and all outputs of `b`.
pub struct Product<'a> {
    /// Input, from the first tap of the first row on.
    pub a: &'a [f32],
    /// Numbers between the inputs of neighbouring rows.
    pub row_stride: usize,
    /// Taps.
    pub taps: usize,
    /// Numbers between the inputs of neighbouring taps.
    pub tap_stride: usize,
    /// Numbers a tap.
    pub inner: usize,
    /// Weights in panels, see [`Product::pack`].
    pub packed: &'a [f32],
    /// Start of every sum, one an output; empty for zeros.
    pub init: &'a [f32],
    /// Output, from the first row on.
    pub c: &'a mut [f32],
    /// Numbers between neighbouring rows of the output.
    pub c_stride: usize,
    /// Outputs.
    pub outputs: usize,
    /// Rows.
    pub rows: usize,
}

/// Rows of input that are multiplied with every panel before the next rows: they stay in the L1 cache.
const BLOCK_ROWS: usize = 96;

impl Product<'_> {
    /// Numbers that [`Product::pack`] writes for sums of `depth` numbers, whatever the instruction set.
    pub fn packed_len(depth: usize, outputs: usize) -> usize {
        depth * outputs.next_multiple_of(16)
    }

    /// Packs `weight(q, j)` for set `S`: panel by panel, in each the vectors of `q = 0, 1, ..`, zeros past the last output.
    #[inline(always)]
    pub fn pack<S: Simd>(packed: &mut [f32], depth: usize, outputs: usize, weight: impl Fn(usize, usize) -> f32) {
        for panel in panels(S::LANES, S::TILE_VECTORS, outputs) {
            let width = panel.vectors * S::LANES;
            let to = &mut packed[depth * panel.offset..][..depth * width];
            for (q, row) in to.chunks_exact_mut(width).enumerate() {
                for (j, value) in row.iter_mut().enumerate() {
                    *value = if j < panel.outputs { weight(q, panel.first + j) } else { 0.0 };
                }
            }
        }
    }
}

impl Kernel for Product<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if self.rows == 0 || self.outputs == 0 {
            return;
        }
        let depth = product([self.taps, self.inner]);
        let read = span([(self.rows, self.row_stride), (self.taps, self.tap_stride)], self.inner);
        assert!(depth > 0 && self.a.len() >= read);
        assert!(self.c.len() >= span([(self.rows, self.c_stride)], self.outputs));
        assert!(self.packed.len() >= product([depth, round_up_to(self.outputs, S::LANES)]));
        assert!(self.init.is_empty() || self.init.len() == self.outputs);
        let c = self.c.as_mut_ptr();
        for block in (0..self.rows).step_by(BLOCK_ROWS) {
            let end = (block + BLOCK_ROWS).min(self.rows);
            for panel in panels(S::LANES, S::TILE_VECTORS, self.outputs) {
                let mut tile = ProductTile {
                    a: self.a.as_ptr(),
                    row_stride: self.row_stride,
                    taps: self.taps,
                    tap_stride: self.tap_stride,
                    inner: self.inner,
                    // SAFETY: the panels' weights lie one after the other in `packed`, which is long enough for all (asserted).
                    b: unsafe { self.packed.as_ptr().add(depth * panel.offset) },
                    init: if self.init.is_empty() { std::ptr::null() } else { self.init[panel.first..].as_ptr() },
                    c,
                    c_stride: self.c_stride,
                    last_lanes: panel.outputs - (panel.vectors - 1) * S::LANES,
                };
                let mut row = block;
                while row < end {
                    let rows = match end - row {
                        left if left >= S::product_rows(panel.vectors) => S::product_rows(panel.vectors),
                        4.. => 4,
                        2.. => 2,
                        _ => 1,
                    };
                    // SAFETY: rows `row..row + rows` are among the product's: each row's window lies in `a`, its outputs
                    // in `c`, the panel's weights in `packed` and its outputs in `init` (asserted above). `c` comes from
                    // a mutable borrow that lives as long as this call.
                    unsafe {
                        tile.a = self.a.as_ptr().add(row * self.row_stride);
                        tile.c = c.add(row * self.c_stride + panel.first);
                        s.product_tile(panel.vectors, rows, &tile);
                    }
                    row += rows;
                }
            }
        }
    }
}

/// Operands of one product tile.
pub struct ProductTile {
    a: *const f32,
    row_stride: usize,
    taps: usize,
    tap_stride: usize,
    inner: usize,
    b: *const f32,
    init: *const f32,
    c: *mut f32,
    c_stride: usize,
    last_lanes: usize,
}

/// `R` rows by `V` vectors. Registers: `R * V` sums, `V` weights, one broadcast.
///
/// # Safety
/// For `r < R`, `t.taps` taps of `t.inner` numbers from `a + r * row_stride` on are readable, and
/// `(V - 1) * LANES + last_lanes` numbers from `c + r * c_stride` on writable; `b` holds `taps * inner` steps of `V`
/// vectors; `init` is null or holds as many numbers as a row of `c`.
#[inline(always)]
pub unsafe fn product_tile<S: Simd, const R: usize, const V: usize>(s: S, t: &ProductTile) {
    // SAFETY: every access below lies in the ranges that the caller vouches for.
    unsafe {
        if t.last_lanes == S::LANES {
            product_tile_lanes::<S, R, V, false>(s, t);
        } else {
            product_tile_lanes::<S, R, V, true>(s, t);
        }
    }
}

#[inline(always)]
unsafe fn product_tile_lanes<S: Simd, const R: usize, const V: usize, const MASKED: bool>(s: S, t: &ProductTile) {
    // SAFETY: as for `product_tile`.
    unsafe {
        let mut start = [s.zero(); V];
        if !t.init.is_null() {
            for (v, start) in start.iter_mut().enumerate() {
                let lanes = if MASKED && v + 1 == V { t.last_lanes } else { S::LANES };
                *start = s.load_first(t.init.add(v * S::LANES), lanes);
            }
        }
        let mut sums = [start; R];
        let mut b = t.b;
        for tap in 0..t.taps {
            let a = t.a.add(tap * t.tap_stride);
            for i in 0..t.inner {
                let mut weights = [s.zero(); V];
                for (v, weight) in weights.iter_mut().enumerate() {
                    *weight = s.load(b.add(v * S::LANES));
                }
                for (r, row) in sums.iter_mut().enumerate() {
                    let x = s.splat(*a.add(r * t.row_stride + i));
                    for (sum, weight) in row.iter_mut().zip(weights) {
                        *sum = s.fma(x, weight, *sum);
                    }
                }
                b = b.add(V * S::LANES);
            }
        }
        for (r, row) in sums.iter().enumerate() {
            let c = t.c.add(r * t.c_stride);
            for (v, sum) in row.iter().enumerate() {
                if MASKED && v + 1 == V {
                    s.store_first(c.add(v * S::LANES), t.last_lanes, *sum);
                } else {
                    s.store(c.add(v * S::LANES), *sum);
                }
            }
        }
    }
}

/// `c[m, j] += sum over p < positions of a[p * a_stride + m] * b[p * b_stride + j]`.
pub struct RankUpdate<'a> {
    /// Left operand, from the first position on.
    pub a: &'a [f32],
    /// Numbers between neighbouring positions of `a`.
    pub a_stride: usize,
    /// Right operand, from the first position on.
    pub b: &'a [f32],
    /// Numbers between neighbouring positions of `b`.
    pub b_stride: usize,
    /// Length of the sum.
    pub positions: usize,
    /// Sums, `[m, outputs]` without gaps.
    pub c: &'a mut [f32],
    /// Whether `c` is assigned instead of added to.
    pub fresh: bool,
    /// Rows of `c`.
    pub m: usize,
    /// Outputs.
    pub outputs: usize,
}

impl Kernel for RankUpdate<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if self.positions == 0 || self.m == 0 || self.outputs == 0 {
            return;
        }
        assert!(self.a.len() >= span([(self.positions, self.a_stride)], self.m));
        assert!(self.b.len() >= span([(self.positions, self.b_stride)], self.outputs));
        assert!(self.c.len() >= product([self.m, self.outputs]));
        let c = self.c.as_mut_ptr();
        let mut first = 0;
        while first < self.outputs {
            let vectors = S::rank_vectors(self.outputs - first);
            let outputs = (self.outputs - first).min(vectors * S::LANES);
            let mut row = 0;
            while row < self.m {
                let rows = S::rank_rows(vectors, self.m - row);
                // SAFETY: rows `row..row + rows` and outputs `first..first + outputs` lie in all three operands for
                // every position (asserted above); `c` comes from a mutable borrow that lives as long as this call.
                unsafe {
                    let tile = RankTile {
                        a: self.a.as_ptr().add(row),
                        a_stride: self.a_stride,
                        b: self.b.as_ptr().add(first),
                        b_stride: self.b_stride,
                        positions: self.positions,
                        c: c.add(row * self.outputs + first),
                        c_stride: self.outputs,
                        fresh: self.fresh,
                        last_lanes: outputs - (vectors - 1) * S::LANES,
                    };
                    s.rank_tile(vectors, rows, &tile);
                }
                row += rows;
            }
            first += outputs;
        }
    }
}

/// Operands of one rank-update tile.
pub struct RankTile {
    a: *const f32,
    a_stride: usize,
    b: *const f32,
    b_stride: usize,
    positions: usize,
    c: *mut f32,
    c_stride: usize,
    fresh: bool,
    last_lanes: usize,
}

/// `R` rows by `V` vectors of sums. Registers: `R * V` sums, `V` of `b`, one broadcast of `a`.
///
/// # Safety
/// For every position, `R` numbers from `a + p * a_stride` on and `(V - 1) * LANES + last_lanes` from `b + p * b_stride`
/// on are readable, and as many from `c + r * c_stride` on writable for `r < R`.
#[inline(always)]
pub unsafe fn rank_tile<S: Simd, const R: usize, const V: usize>(s: S, t: &RankTile) {
    // SAFETY: every access below lies in the ranges that the caller vouches for.
    unsafe {
        if t.last_lanes == S::LANES {
            rank_tile_lanes::<S, R, V, false>(s, t);
        } else {
            rank_tile_lanes::<S, R, V, true>(s, t);
        }
    }
}

#[inline(always)]
unsafe fn rank_tile_lanes<S: Simd, const R: usize, const V: usize, const MASKED: bool>(s: S, t: &RankTile) {
    // SAFETY: as for `rank_tile`.
    unsafe {
        let load = |from: *const f32, v: usize| {
            if MASKED && v + 1 == V {
                s.load_first(from.add(v * S::LANES), t.last_lanes)
            } else {
                s.load(from.add(v * S::LANES))
            }
        };
        // The totals, which are needed at the end, are often not in the caches.
        for r in 0..R {
            for v in (0..V).step_by((16 / S::LANES).max(1)) {
                s.prefetch_write(t.c.wrapping_add(r * t.c_stride + v * S::LANES).cast());
            }
        }
        let mut sums = [[s.zero(); V]; R];
        for p in 0..t.positions {
            let (a, from) = (t.a.add(p * t.a_stride), t.b.add(p * t.b_stride));
            let mut b = [s.zero(); V];
            for (v, b) in b.iter_mut().enumerate() {
                *b = load(from, v);
            }
            for (r, row) in sums.iter_mut().enumerate() {
                let x = s.splat(*a.add(r));
                for (sum, b) in row.iter_mut().zip(b) {
                    *sum = s.fma(x, b, *sum);
                }
            }
        }
        for (r, row) in sums.iter().enumerate() {
            let c = t.c.add(r * t.c_stride);
            for (v, sum) in row.iter().enumerate() {
                // The sum of this update is added to the total at the end, so that chains of additions stay short.
                let total = if t.fresh { *sum } else { s.add(load(c.cast_const(), v), *sum) };
                if MASKED && v + 1 == V {
                    s.store_first(c.add(v * S::LANES), t.last_lanes, total);
                } else {
                    s.store(c.add(v * S::LANES), total);
                }
            }
        }
    }
}
