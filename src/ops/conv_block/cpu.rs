//! Floor 2. conv_block on the CPU, by blocks of rows whose transforms and products stay in the L1 and L2 caches.
//!
//! Forward: rows -> input transform -> eight products -> output transform -> bias, ReLU, pool. Backward-data: cells ->
//! un-pooled rows -> input transform -> eight products -> output transform. Backward-weight: cells -> sparse update.
//! With one input channel forward and backward-weight are direct.

use super::{Geometry, K, POOL};
use crate::simd::winograd::{InputTransform, KERNEL, OutputTransform, POINTS, TAPS, TILE};
use crate::simd::{Isa, Kernel, Product, RankUpdate, Simd, SparseUpdate};

/// Tiles of a block: a multiple of three (whole cells) and of every register tile's rows (6, 12).
const TILES: usize = 24;
/// Rows of output of a block.
const ROWS: usize = TILE * TILES;
/// Rows that lie before the first row of output that reads them.
const PAD: usize = 2;
/// Cells of a block of backward-weight.
const CELLS: usize = 24;
/// Numbers between planes beyond their content, so that eight planes do not share the same places in the L1 cache.
const SKEW: usize = 16;

/// Numbers of scratch for every pass.
pub fn scratch(g: &Geometry) -> usize {
    let c = g.c_in.max(g.c_out);
    let transforms = 2 * POINTS * (TILES * c + SKEW) + (2 * ROWS + 2 * PAD) * c;
    let weights = (POOL * CELLS + 2 * PAD) * g.c_in + POOL * CELLS * g.c_out + g.weights();
    transforms.max(weights)
}

/// Rows `first ..` of `x`, as many as `scratch` holds, zeros outside; in place where they all lie inside.
fn rows_around<'a>(x: &'a [f32], c: usize, first: isize, rows: usize, scratch: &'a mut [f32]) -> &'a [f32] {
    let l = (x.len() / c) as isize;
    if first >= 0 && first + rows as isize <= l {
        return &x[first as usize * c..][..rows * c];
    }
    let scratch = &mut scratch[..rows * c];
    let inside = (-first).clamp(0, rows as isize) as usize..(l - first).clamp(0, rows as isize) as usize;
    scratch.fill(0.0);
    if !inside.is_empty() {
        let from = (first + inside.start as isize) as usize * c;
        scratch[inside.start * c..inside.end * c].copy_from_slice(&x[from..from + inside.len() * c]);
    }
    scratch
}

/// Packs what the products of both directions are multiplied by: forward's, then backward-data's.
pub struct Pack<'a> {
    pub g: Geometry,
    pub w: &'a [f32],
    pub packed: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let Pack { g: Geometry { c_in, c_out, .. }, w, packed } = self;
        let (forward, backward) = packed.split_at_mut(self.g.packed_forward());
        let tap = |t: usize, i: usize, o: usize| f64::from(w[(t * c_in + i) * c_out + o]);
        if c_in == 1 {
            Product::pack::<S>(forward, K, c_out, |t, o| w[t * c_out + o]);
        } else {
            for (point, plane) in forward.chunks_exact_mut(Product::packed_len(c_in, c_out)).enumerate() {
                Product::pack::<S>(plane, c_in, c_out, |i, o| {
                    (0..TAPS).map(|t| KERNEL[point][t] * tap(t, i, o)).sum::<f64>() as f32
                });
            }
        }
        for (point, plane) in backward.chunks_exact_mut(Product::packed_len(c_out, c_in)).enumerate() {
            Product::pack::<S>(plane, c_out, c_in, |o, i| {
                (0..TAPS).map(|t| KERNEL[point][t] * tap(TAPS - 1 - t, i, o)).sum::<f64>() as f32
            });
        }
    }
}

/// Memory for the transforms of a block.
struct Block<'a> {
    v: &'a mut [f32],
    m: &'a mut [f32],
    isa: Isa,
}

impl Block<'_> {
    /// `y`, `TILE * tiles` rows of `c_out` channels, from the rows `x` around them, through planes of packed weights.
    fn convolve(&mut self, x: &[f32], (c_in, c_out): (usize, usize), tiles: usize, packed: &[f32], y: &mut [f32]) {
        let (v_plane, m_plane) = (TILES * c_in + SKEW, TILES * c_out + SKEW);
        let weights = Product::packed_len(c_in, c_out);
        self.isa.run(InputTransform { x, c: c_in, tiles, v: self.v, plane: v_plane });
        for point in 0..POINTS {
            self.isa.run(Product {
                a: &self.v[point * v_plane..],
                row_stride: c_in,
                taps: 1,
                tap_stride: 0,
                inner: c_in,
                packed: &packed[point * weights..][..weights],
                init: &[],
                c: &mut self.m[point * m_plane..],
                c_stride: c_out,
                outputs: c_out,
                rows: tiles,
            });
        }
        self.isa.run(OutputTransform { m: self.m, plane: m_plane, c: c_out, tiles, y });
    }
}

/// `y` and the positions.
pub struct BlockForward<'a> {
    pub g: Geometry,
    pub x: &'a [f32],
    pub packed: &'a [f32],
    pub bias: &'a [f32],
    pub y: &'a mut [f32],
    pub at: &'a mut [u8],
    pub scratch: &'a mut [f32],
}

impl BlockForward<'_> {
    pub fn run(self, isa: Isa) {
        let Geometry { c_in, c_out, cells, .. } = self.g;
        let c = c_in.max(c_out);
        let (v, rest) = self.scratch.split_at_mut(POINTS * (TILES * c + SKEW));
        let (m, rest) = rest.split_at_mut(POINTS * (TILES * c + SKEW));
        let (padded, z) = rest.split_at_mut((ROWS + 2 * PAD) * c);
        let mut block = Block { v, m, isa };
        const BLOCK_CELLS: usize = ROWS / POOL;
        for first in (0..cells).step_by(BLOCK_CELLS) {
            let count = BLOCK_CELLS.min(cells - first);
            let tiles = (POOL * count).div_ceil(TILE);
            let from = (POOL * first) as isize - PAD as isize;
            let x = rows_around(self.x, c_in, from, TILE * tiles + 2 * PAD, padded);
            if c_in == 1 {
                isa.run(Product {
                    a: x,
                    row_stride: 1,
                    taps: 1,
                    tap_stride: 0,
                    inner: K,
                    packed: &self.packed[..Product::packed_len(K, c_out)],
                    init: &[],
                    c: z,
                    c_stride: c_out,
                    outputs: c_out,
                    rows: TILE * tiles,
                });
            } else {
                block.convolve(x, (c_in, c_out), tiles, self.packed, z);
            }
            let cells = first * c_out..(first + count) * c_out;
            isa.run(Pool { z, bias: self.bias, y: &mut self.y[cells.clone()], at: &mut self.at[cells] });
        }
    }
}

/// Bias, ReLU and the largest of three rows with its position; the bias, equal in all three, is added after.
struct Pool<'a> {
    z: &'a [f32],
    bias: &'a [f32],
    y: &'a mut [f32],
    at: &'a mut [u8],
}

impl Kernel for Pool<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let c = self.bias.len();
        let windows = self.z.chunks_exact(POOL * c);
        for ((y, at), z) in self.y.chunks_exact_mut(c).zip(self.at.chunks_exact_mut(c)).zip(windows) {
            let (z0, rest) = z.split_at(c);
            let (z1, z2) = rest.split_at(c);
            let (z2, bias, at) = (&z2[..c], &self.bias[..c], &mut at[..c]);
            for j in 0..c {
                let (mut best, mut position) = (z0[j], 0u8);
                let second = (z1[j] > best) | z1[j].is_nan();
                best = if second { z1[j] } else { best };
                position = if second { 1 } else { position };
                let third = (z2[j] > best) | z2[j].is_nan();
                best = if third { z2[j] } else { best };
                position = if third { 2 } else { position };
                let value = best + bias[j];
                let dead = value <= 0.0;
                y[j] = if dead { 0.0 } else { value };
                at[j] = if dead { 3 } else { position };
            }
        }
    }
}

/// Rows of the gradient before the pool: `rows` from row `first` on, zeros where there is none.
struct Unpool<'a> {
    g: Geometry,
    dy: &'a [f32],
    at: &'a [u8],
    first: isize,
    rows: &'a mut [f32],
}

impl Kernel for Unpool<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let Geometry { c_out: c, cells, .. } = self.g;
        for (i, row) in self.rows.chunks_exact_mut(c).enumerate() {
            let r = self.first + i as isize;
            if r < 0 || r as usize >= POOL * cells {
                row.fill(0.0);
                continue;
            }
            let (cell, phase) = (r as usize / POOL, (r as usize % POOL) as u8);
            let (dy, at) = (&self.dy[cell * c..][..c], &self.at[cell * c..][..c]);
            for j in 0..c {
                row[j] = if at[j] == phase { dy[j] } else { 0.0 };
            }
        }
    }
}

/// `dx`.
pub struct BlockBackwardData<'a> {
    pub g: Geometry,
    pub dy: &'a [f32],
    pub at: &'a [u8],
    pub packed: &'a [f32],
    pub dx: &'a mut [f32],
    pub scratch: &'a mut [f32],
}

impl BlockBackwardData<'_> {
    pub fn run(self, isa: Isa) {
        let BlockBackwardData { g, dy, at, packed, dx, scratch } = self;
        let c = g.c_in.max(g.c_out);
        let (v, rest) = scratch.split_at_mut(POINTS * (TILES * c + SKEW));
        let (m, rest) = rest.split_at_mut(POINTS * (TILES * c + SKEW));
        let (rows, spill) = rest.split_at_mut((ROWS + 2 * PAD) * c);
        let mut block = Block { v, m, isa };
        for first in (0..g.l).step_by(ROWS) {
            let count = ROWS.min(g.l - first);
            let tiles = count.div_ceil(TILE);
            let rows = &mut rows[..(TILE * tiles + 2 * PAD) * g.c_out];
            isa.run(Unpool { g, dy, at, first: first as isize - PAD as isize, rows });
            let to = &mut dx[first * g.c_in..(first + count) * g.c_in];
            if count == TILE * tiles {
                block.convolve(rows, (g.c_out, g.c_in), tiles, packed, to);
            } else {
                let surplus = &mut spill[..TILE * tiles * g.c_in];
                block.convolve(rows, (g.c_out, g.c_in), tiles, packed, surplus);
                to.copy_from_slice(&surplus[..to.len()]);
            }
        }
    }
}

/// `dw += ..` and `db += ..`.
pub struct BlockBackwardWeight<'a> {
    pub g: Geometry,
    pub x: &'a [f32],
    pub dy: &'a [f32],
    pub at: &'a [u8],
    pub dw: &'a mut [f32],
    pub db: &'a mut [f32],
    pub scratch: &'a mut [f32],
}

impl BlockBackwardWeight<'_> {
    pub fn run(self, isa: Isa) {
        if self.g.c_in == 1 { self.dense(isa) } else { self.sparse(isa) }
    }

    /// From the sparse gradient; sums stand `[c_out, 5 * c_in]`, so that a window is contiguous.
    fn sparse(self, isa: Isa) {
        let BlockBackwardWeight { g, x, dy, at, dw, db, scratch } = self;
        let Geometry { c_in, c_out, cells, .. } = g;
        let width = K * c_in;
        let (sums, rest) = scratch.split_at_mut(g.weights());
        let (live, rest) = rest.split_at_mut(CELLS * c_out);
        let (offset, padded) = rest.split_at_mut(CELLS * c_out);
        let offset: &mut [u32] = bytemuck::cast_slice_mut(offset);
        sums.fill(0.0);
        for first in (0..cells).step_by(CELLS) {
            let count = CELLS.min(cells - first);
            let block = first * c_out..(first + count) * c_out;
            isa.run(Live { dy: &dy[block.clone()], at: &at[block], row: c_in as u32, live, offset, db });
            let from = (POOL * first) as isize - PAD as isize;
            isa.run(SparseUpdate {
                x: rows_around(x, c_in, from, POOL * count + 2 * PAD, padded),
                x_stride: POOL * c_in,
                g: live,
                offset,
                largest_offset: (POOL - 1) * c_in,
                cells: count,
                c: sums,
                outputs: c_out,
                width,
            });
        }
        for (q, dw) in dw.chunks_exact_mut(c_out).enumerate() {
            dw.iter_mut().zip(sums[q..].iter().step_by(width)).for_each(|(dw, sum)| *dw += sum);
        }
    }

    /// From un-pooled rows: with one input channel a window is too short for vectors, which lie along the outputs instead.
    fn dense(self, isa: Isa) {
        let BlockBackwardWeight { g, x, dy, at, dw, db, scratch } = self;
        let (rows, padded) = scratch.split_at_mut(POOL * CELLS * g.c_out);
        for first in (0..g.cells).step_by(CELLS) {
            let count = POOL * CELLS.min(g.cells - first);
            let from = (POOL * first) as isize;
            let rows = &mut rows[..count * g.c_out];
            isa.run(Unpool { g, dy, at, first: from, rows });
            let update = |a, a_stride, c, m| RankUpdate {
                a,
                a_stride,
                b: rows,
                b_stride: g.c_out,
                positions: count,
                c,
                m,
                outputs: g.c_out,
            };
            isa.run(update(rows_around(x, 1, from - PAD as isize, count + 2 * PAD, padded), 1, dw, K));
            // The bias is the weight of an input that is always one.
            isa.run(update(&[1.0], 0, db, 1));
        }
    }
}

/// Of a block of cells: gradients with those of dead windows cleared, offsets of the largest rows, and their sum.
struct Live<'a> {
    dy: &'a [f32],
    at: &'a [u8],
    /// Numbers from row to row.
    row: u32,
    live: &'a mut [f32],
    offset: &'a mut [u32],
    db: &'a mut [f32],
}

impl Kernel for Live<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let len = self.dy.len();
        let (at, live, offset) = (&self.at[..len], &mut self.live[..len], &mut self.offset[..len]);
        for i in 0..len {
            let dead = at[i] > 2;
            live[i] = if dead { 0.0 } else { self.dy[i] };
            offset[i] = if dead { 0 } else { u32::from(at[i]) * self.row };
        }
        let c = self.db.len();
        for live in live.chunks_exact(c) {
            self.db.iter_mut().zip(live).for_each(|(db, g)| *db += g);
        }
    }
}
