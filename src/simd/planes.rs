//! The products of a fast convolution: one matrix product for each product of its algorithm.
//!
//! A transform leaves its values in **planes** of `[tile, channel]`. Forward and backward-data multiply every plane by
//! weights of its own ([`PlaneProduct`]); backward-weight multiplies the planes of input and gradient ([`PlaneUpdate`]).
//! Rows of a plane are padded to whole vectors of every set and planes to whole register tiles, so that nothing here
//! needs a mask: what lies in the padding is computed and not read.
//!
//! A kernel of more taps than the transform has is cut into **segments**: their inputs are tiles of their own between those
//! of the first, so that the sum runs over `segments` neighbouring rows of a plane, and tiles of output are `stride` of its
//! rows apart.
//!
//! **Memory** the rows of the next block are prefetched during the products ([`Prefetch`]), because the transforms access memory in
//! bursts that the hardware prefetcher does not predict.
#![allow(unsafe_code)] // reason: the innermost loops read through pointers; bounds are asserted once, where a tile's operands are made

use super::extent::{product, round_up_to, span, sum};
use super::isa::{Kernel, Simd};
use super::tile::{RankUpdate, panels};

/// Numbers to which a row of a plane is padded: the widest vector.
pub const ROW: usize = 16;
/// Unused numbers between planes, so that planes do not map to the same sets of the L1 cache.
const SKEW: usize = 16;
/// Tiles to which a plane is padded: a multiple of every set's rows of a register tile (4, 6, 8, 12).
pub const PLANE_TILES: usize = 24;

/// The planes of one side of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planes {
    /// Numbers from tile to tile.
    pub row: usize,
    /// Numbers from plane to plane.
    pub plane: usize,
}

impl Planes {
    /// Planes of `tiles` tiles of `c` channels, `stride` rows apart, and `more` rows of the segments after the first.
    pub fn new(tiles: usize, stride: usize, more: usize, c: usize) -> Planes {
        let row = c.next_multiple_of(ROW);
        Planes { row, plane: (tiles.next_multiple_of(PLANE_TILES) * stride + more) * row + SKEW }
    }

    /// Numbers of so many planes.
    pub fn len(&self, planes: usize) -> usize {
        product([planes, self.plane])
    }
}

/// Memory that will soon be read or written.
#[derive(Clone, Copy, Default)]
pub struct Prefetch<'a> {
    /// To be read.
    pub read: [&'a [u8]; 3],
    /// To be written.
    pub write: &'a [u8],
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Prefetches an equal share of the memory at each of a fixed number of steps.
pub(super) struct Prefetcher<'a> {
    prefetch: Prefetch<'a>,
    shares: [usize; 4],
    turn: usize,
}

impl<'a> Prefetcher<'a> {
    pub(super) fn new(prefetch: Prefetch<'a>, turns: usize) -> Prefetcher<'a> {
        let [a, b, c] = prefetch.read.map(<[u8]>::len);
        let shares = [a, b, c, prefetch.write.len()].map(|len| len.div_ceil(LINE).div_ceil(turns.max(1)));
        Prefetcher { prefetch, shares, turn: 0 }
    }

    #[inline(always)]
    pub(super) fn step<S: Simd>(&mut self, s: S) {
        let [a, b, c] = self.prefetch.read;
        for (k, memory) in [a, b, c, self.prefetch.write].into_iter().enumerate() {
            let first = memory.as_ptr().wrapping_add(self.turn * self.shares[k] * LINE);
            for line in 0..self.shares[k] {
                let at = first.wrapping_add(line * LINE);
                if k == 3 { s.prefetch_write(at) } else { s.prefetch(at) }
            }
        }
        self.turn += 1;
    }
}

/// `m[p][t, j] = sum over segments g and i < inner of v[p][stride * t + g, i] * u[p][g * inner + i, j]` for all planes `p`.
pub struct PlaneProduct<'a> {
    /// Transformed input.
    pub v: &'a [f32],
    /// Its layout.
    pub v_planes: Planes,
    /// Segments of the kernel.
    pub segments: usize,
    /// Rows of `v` from tile to tile.
    pub stride: usize,
    /// Channels of the input.
    pub inner: usize,
    /// Weights, plane by plane as [`Product::pack`](super::tile::Product::pack) makes them.
    pub packed: &'a [f32],
    /// Products; whole register tiles and vectors are written.
    pub m: &'a mut [f32],
    /// Their layout.
    pub m_planes: Planes,
    /// Channels of the output.
    pub outputs: usize,
    /// Tiles.
    pub tiles: usize,
    /// Planes.
    pub planes: usize,
    /// Memory to prefetch meanwhile.
    pub prefetch: Prefetch<'a>,
}

impl Kernel for PlaneProduct<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // Distances between rows that are known when the tile is compiled leave its registers to the sums.
        match product([self.stride, self.v_planes.row]) {
            32 => self.products::<S, 32>(s),
            64 => self.products::<S, 64>(s),
            128 => self.products::<S, 128>(s),
            256 => self.products::<S, 256>(s),
            _ => self.products::<S, 0>(s),
        }
    }
}

impl PlaneProduct<'_> {
    #[inline(always)]
    fn products<S: Simd, const STRIDE: usize>(self, s: S) {
        let PlaneProduct {
            v,
            v_planes,
            segments,
            stride,
            inner,
            packed,
            m,
            m_planes,
            outputs,
            tiles,
            planes,
            prefetch,
        } = self;
        if tiles == 0 || planes == 0 {
            return;
        }
        let padded = round_up_to(tiles, PLANE_TILES);
        let (depth, width) = (product([segments, inner]), round_up_to(outputs, ROW));
        assert!(inner <= v_planes.row && width <= m_planes.row && segments > 0);
        let rows = sum([product([padded, stride]), segments - 1]);
        assert!(v.len() >= span([(planes, v_planes.plane)], product([rows, v_planes.row])));
        assert!(m.len() >= span([(planes, m_planes.plane)], product([padded, m_planes.row])));
        assert!(packed.len() >= product([planes, depth, width]));
        let turns = panels(S::LANES, S::TILE_VECTORS, outputs)
            .map(|panel| tiles.div_ceil(S::product_rows(panel.vectors)))
            .sum::<usize>();
        let mut prefetcher = Prefetcher::new(prefetch, planes * turns);
        for plane in 0..planes {
            for panel in panels(S::LANES, S::TILE_VECTORS, outputs) {
                for t in (0..tiles).step_by(S::product_rows(panel.vectors)) {
                    // SAFETY: a register tile ends within the padded tiles, whose planes `v` and `m` hold (asserted), as
                    // `packed` holds the panels of every plane; `panel.vectors` whole vectors lie in the padded row.
                    // `m` is a mutable borrow that lives as long as this call.
                    unsafe {
                        let tile = PlaneTile {
                            a: v.as_ptr().add(plane * v_planes.plane + t * stride * v_planes.row),
                            stride: stride * v_planes.row,
                            segment_stride: v_planes.row,
                            segments,
                            inner,
                            b: packed.as_ptr().add(depth * (plane * width + panel.offset)),
                            c: m.as_mut_ptr().add(plane * m_planes.plane + t * m_planes.row + panel.first),
                            c_stride: m_planes.row,
                        };
                        s.plane_tile::<STRIDE>(panel.vectors, &tile);
                    }
                    prefetcher.step(s);
                }
            }
        }
    }
}

/// Operands of one register tile.
pub struct PlaneTile {
    a: *const f32,
    stride: usize,
    segment_stride: usize,
    segments: usize,
    inner: usize,
    b: *const f32,
    c: *mut f32,
    c_stride: usize,
}

/// `R` tiles by `V` vectors. Registers: `R * V` sums, `V` weights, one broadcast. `STRIDE` is the distance of rows, 0 where it
/// is known only at run time.
///
/// # Safety
/// For `r < R` and `g < segments`, `inner` numbers from `a + r * stride + g * segment_stride` on are readable; `V` vectors from
/// `c + r * c_stride` on writable; `b` holds `segments * inner` steps of `V` vectors.
#[inline(always)]
pub unsafe fn plane_tile<S: Simd, const R: usize, const V: usize, const STRIDE: usize>(s: S, t: &PlaneTile) {
    let stride = if STRIDE > 0 { STRIDE } else { t.stride };
    // SAFETY: every access below lies in the ranges that the caller vouches for.
    unsafe {
        let mut sums = [[s.zero(); V]; R];
        let mut b = t.b;
        for segment in 0..t.segments {
            let a = t.a.add(segment * t.segment_stride);
            for i in 0..t.inner {
                let mut weights = [s.zero(); V];
                for (v, weight) in weights.iter_mut().enumerate() {
                    *weight = s.load(b.add(v * S::LANES));
                }
                for (r, row) in sums.iter_mut().enumerate() {
                    let x = s.splat(*a.add(r * stride + i));
                    for (sum, weight) in row.iter_mut().zip(weights) {
                        *sum = s.fma(x, weight, *sum);
                    }
                }
                b = b.add(V * S::LANES);
            }
        }
        for (r, row) in sums.iter().enumerate() {
            for (v, sum) in row.iter().enumerate() {
                s.store(t.c.add(r * t.c_stride + v * S::LANES), *sum);
            }
        }
    }
}

/// `du[p][g * inner + i, j] += sum over tiles t of v[p][stride * t + g, i] * z[p][t, j]` for all planes `p` and segments `g`.
pub struct PlaneUpdate<'a> {
    /// Transformed input.
    pub v: &'a [f32],
    /// Its layout.
    pub v_planes: Planes,
    /// Segments of the kernel.
    pub segments: usize,
    /// Rows of `v` from tile to tile.
    pub stride: usize,
    /// Channels of the input.
    pub inner: usize,
    /// Transformed gradient.
    pub z: &'a [f32],
    /// Its layout.
    pub z_planes: Planes,
    /// Sums, plane by plane `[segments * inner, outputs]`.
    pub du: &'a mut [f32],
    /// Whether the sums are assigned instead of added to.
    pub fresh: bool,
    /// Channels of the output.
    pub outputs: usize,
    /// Tiles.
    pub tiles: usize,
    /// Planes.
    pub planes: usize,
    /// Memory to prefetch meanwhile.
    pub prefetch: Prefetch<'a>,
}

impl Kernel for PlaneUpdate<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let PlaneUpdate {
            v,
            v_planes,
            segments,
            stride,
            inner,
            z,
            z_planes,
            du,
            fresh,
            outputs,
            tiles,
            planes,
            prefetch,
        } = self;
        let mut prefetcher = Prefetcher::new(prefetch, planes * segments);
        for plane in 0..planes {
            for segment in 0..segments {
                let at = (plane * segments + segment) * inner * outputs;
                let update = RankUpdate {
                    a: &v[plane * v_planes.plane + segment * v_planes.row..],
                    a_stride: stride * v_planes.row,
                    b: &z[plane * z_planes.plane..],
                    b_stride: z_planes.row,
                    positions: tiles,
                    c: &mut du[at..at + inner * outputs],
                    fresh,
                    m: inner,
                    outputs,
                };
                update.run(s);
                prefetcher.step(s);
            }
        }
    }
}
