//! Floor 1. The transforms of a fast convolution over rows and channels: rows to planes, gradients to planes, planes to rows.
//!
//! A transform reads each number once and writes each once, a vector of channels at a time; what is done to the rows of
//! output while they are in registers is an [`Epilogue`].
#![allow(unsafe_code)] // reason: reads and writes whole vectors through pointers; bounds are asserted once, at entry

use super::isa::{Kernel, Simd};
use super::planes::Planes;
use super::winograd::{POINTS, TILE, Toom};
use std::marker::PhantomData;

/// `v[p][t] = B^T d` for the rows `d` from `4 t` on.
pub struct InputTransform<'a, F> {
    /// Rows of `c` channels, from the first tile's first on: `TILE * (tiles - 1) + F::POINTS` of them.
    pub x: &'a [f32],
    /// Channels.
    pub c: usize,
    /// Tiles.
    pub tiles: usize,
    /// Planes; the padding of a row is written too.
    pub v: &'a mut [f32],
    /// Their layout.
    pub planes: Planes,
    /// The algorithm.
    pub algorithm: PhantomData<F>,
}

impl<F: Toom> Kernel for InputTransform<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let InputTransform { x, c, tiles, v, planes: Planes { row, plane }, .. } = self;
        if tiles == 0 {
            return;
        }
        assert!(x.len() >= (TILE * (tiles - 1) + F::POINTS) * c && row >= c.next_multiple_of(S::LANES));
        assert!(v.len() >= (F::POINTS - 1) * plane + tiles * row);
        for t in 0..tiles {
            for j in (0..c).step_by(S::LANES) {
                // SAFETY: the tile's rows lie in `x` and its place of all planes, padding included, in `v`, both
                // asserted above; only the channels that there are are read.
                unsafe {
                    let (from, to) = (x.as_ptr().add(TILE * t * c + j), v.as_mut_ptr().add(t * row + j));
                    let mut d = [s.zero(); POINTS];
                    if c - j >= S::LANES {
                        (0..F::POINTS).for_each(|i| d[i] = s.load(from.add(i * c)));
                    } else {
                        (0..F::POINTS).for_each(|i| d[i] = s.load_first(from.add(i * c), c - j));
                    }
                    let points = F::input(s, d);
                    (0..F::POINTS).for_each(|p| s.store(to.add(p * plane), points[p]));
                }
            }
        }
    }
}

/// `z[p][t] = A dy` for the rows `dy` from `4 t` on.
pub struct GradientTransform<'a, F> {
    /// `TILE * tiles` rows of `c` channels.
    pub dy: &'a [f32],
    /// Channels.
    pub c: usize,
    /// Tiles.
    pub tiles: usize,
    /// Planes; the padding of a row is written too.
    pub z: &'a mut [f32],
    /// Their layout.
    pub planes: Planes,
    /// The algorithm.
    pub algorithm: PhantomData<F>,
}

impl<F: Toom> Kernel for GradientTransform<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let GradientTransform { dy, c, tiles, z, planes: Planes { row, plane }, .. } = self;
        if tiles == 0 {
            return;
        }
        assert!(dy.len() >= TILE * tiles * c && row >= c.next_multiple_of(S::LANES));
        assert!(z.len() >= (F::POINTS - 1) * plane + tiles * row);
        for t in 0..tiles {
            for j in (0..c).step_by(S::LANES) {
                // SAFETY: as for `InputTransform`.
                unsafe {
                    let (from, to) = (dy.as_ptr().add(TILE * t * c + j), z.as_mut_ptr().add(t * row + j));
                    let load = |i: usize| {
                        if c - j >= S::LANES { s.load(from.add(i * c)) } else { s.load_first(from.add(i * c), c - j) }
                    };
                    let points = F::gradient(s, [load(0), load(1), load(2), load(3)]);
                    (0..F::POINTS).for_each(|p| s.store(to.add(p * plane), points[p]));
                }
            }
        }
    }
}

/// Most rows that an epilogue sees at once: those of three tiles, four windows of three.
pub const GROUP: usize = 3 * TILE;

/// What becomes of the rows of output while they are in registers.
pub trait Epilogue {
    /// Tiles whose rows it sees at once, 1 or 3.
    const TILES: usize;

    /// Whether memory is there for the rows `0 .. rows` of `c` channels; called before any row of a block.
    fn fits(&self, rows: usize, c: usize) -> bool;

    /// The memory that the rows `first .. first + rows` will be written to.
    fn writes(&self, _first: usize, _rows: usize) -> &[u8] {
        &[]
    }

    /// Called after the last of a block of `rows` rows.
    fn end<S: Simd>(&mut self, _s: S, _rows: usize) {}

    /// Takes `lanes` channels from channel `j` on of the rows `first ..  first + valid`, of which the first stands in `rows[0]`.
    /// What stands in the other places means nothing.
    ///
    /// # Safety
    /// The rows and channels are among those that [`Epilogue::fits`] was asked for.
    unsafe fn take<S: Simd>(&mut self, s: S, first: usize, valid: usize, j: usize, lanes: usize, rows: [S::V; GROUP]);
}

/// A block's rows of output, `A^T m`, to an epilogue.
pub struct OutputTransform<'a, F, E> {
    /// Planes.
    pub m: &'a [f32],
    /// Their layout.
    pub planes: Planes,
    /// Channels.
    pub c: usize,
    /// The block's first row: a multiple of [`GROUP`].
    pub first: usize,
    /// Its rows.
    pub rows: usize,
    /// Where they go.
    pub epilogue: &'a mut E,
    /// The algorithm.
    pub algorithm: PhantomData<F>,
}

impl<F: Toom, E: Epilogue> Kernel for OutputTransform<'_, F, E> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let OutputTransform { m, planes: Planes { row, plane }, c, first, rows, epilogue, .. } = self;
        let tiles = rows.next_multiple_of(TILE * E::TILES) / TILE;
        assert!(m.len() >= (F::POINTS - 1) * plane + tiles * row && row >= c.next_multiple_of(S::LANES));
        emit(s, epilogue, first, rows, c, |at, j, tile| {
            // SAFETY: whole groups of tiles, padding included, lie in `m` (asserted).
            unsafe {
                let from = m.as_ptr().add((at / TILE + tile) * row + j);
                let mut points = [s.zero(); POINTS];
                (0..F::POINTS).for_each(|p| points[p] = s.load(from.add(p * plane)));
                F::output(s, points)
            }
        });
    }
}

/// A block's rows that stand in memory, to an epilogue.
pub struct StoredRows<'a, E> {
    /// `[rows, c]`.
    pub z: &'a [f32],
    /// Channels.
    pub c: usize,
    /// The block's first row: a multiple of [`GROUP`].
    pub first: usize,
    /// Its rows.
    pub rows: usize,
    /// Where they go.
    pub epilogue: &'a mut E,
}

impl<E: Epilogue> Kernel for StoredRows<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let StoredRows { z, c, first, rows, epilogue } = self;
        assert!(z.len() >= rows * c);
        emit(s, epilogue, first, rows, c, |at, j, tile| {
            let mut four = [s.zero(); TILE];
            for (i, row) in four.iter_mut().enumerate() {
                let r = at + TILE * tile + i;
                if r < rows {
                    // SAFETY: row `r` lies in `z` (asserted), and as many of its channels are read as there are.
                    unsafe {
                        let from = z.as_ptr().add(r * c + j);
                        *row = if c - j >= S::LANES { s.load(from) } else { s.load_first(from, c - j) };
                    }
                }
            }
            four
        });
    }
}

/// A block's rows of a convolution with one input channel, to an epilogue: too few products a row for register tiles, so that
/// the sums never leave the registers. **Registers** four sums a tile, one weight, one broadcast.
pub struct SingleChannel<'a, E> {
    /// Samples, `rows + k - 1`, from the first row's first tap on; as many zeros or anything behind them as complete a group.
    pub x: &'a [f32],
    /// `[k, c]`.
    pub w: &'a [f32],
    /// Taps.
    pub k: usize,
    /// Channels.
    pub c: usize,
    /// The block's first row: a multiple of [`GROUP`].
    pub first: usize,
    /// Its rows.
    pub rows: usize,
    /// Where they go.
    pub epilogue: &'a mut E,
}

impl<E: Epilogue> Kernel for SingleChannel<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.k {
            3 => self.of_taps::<S, 3>(s),
            5 => self.of_taps::<S, 5>(s),
            _ => self.of_any(s),
        }
    }
}

impl<E: Epilogue> SingleChannel<'_, E> {
    /// With the taps in registers: every sample is read once a tile, and serves all rows that see it.
    #[inline(always)]
    fn of_taps<S: Simd, const K: usize>(self, s: S) {
        let SingleChannel { x, w, c, first, rows, epilogue, .. } = self;
        assert!(x.len() + 1 >= rows.next_multiple_of(GROUP) + K && w.len() >= K * c);
        emit(s, epilogue, first, rows, c, |at, j, tile| {
            let mut four = [s.zero(); TILE];
            // SAFETY: whole groups of rows, and `K - 1` more samples, lie in `x`, the taps in `w` (asserted); as many
            // channels are read as there are.
            unsafe {
                let mut taps = [s.zero(); K];
                for (tap, weight) in taps.iter_mut().enumerate() {
                    let from = w.as_ptr().add(tap * c + j);
                    *weight = if c - j >= S::LANES { s.load(from) } else { s.load_first(from, c - j) };
                }
                let from = x.as_ptr().add(at + TILE * tile);
                for i in 0..TILE + K - 1 {
                    let sample = s.splat(*from.add(i));
                    for (tap, &weight) in taps.iter().enumerate() {
                        if i >= tap && i - tap < TILE {
                            four[i - tap] = s.fma(sample, weight, four[i - tap]);
                        }
                    }
                }
            }
            four
        });
    }

    #[inline(always)]
    fn of_any<S: Simd>(self, s: S) {
        let SingleChannel { x, w, k, c, first, rows, epilogue } = self;
        assert!(x.len() + 1 >= rows.next_multiple_of(GROUP) + k && w.len() >= k * c);
        emit(s, epilogue, first, rows, c, |at, j, tile| {
            let mut four = [s.zero(); TILE];
            for tap in 0..k {
                // SAFETY: as in `of_taps`.
                unsafe {
                    let from = w.as_ptr().add(tap * c + j);
                    let weight = if c - j >= S::LANES { s.load(from) } else { s.load_first(from, c - j) };
                    for (i, row) in four.iter_mut().enumerate() {
                        *row = s.fma(s.splat(*x.as_ptr().add(at + TILE * tile + i + tap)), weight, *row);
                    }
                }
            }
            four
        });
    }
}

/// Hands `rows` rows from row `first` on to `epilogue`, group by group; `tile(at, j, t)` are the four rows of a group's tile
/// `t`, where the group begins at the block's row `at`, from channel `j` on.
#[inline(always)]
fn emit<S: Simd, E: Epilogue>(
    s: S,
    epilogue: &mut E,
    first: usize,
    rows: usize,
    c: usize,
    tile: impl Fn(usize, usize, usize) -> [S::V; TILE],
) {
    let group = TILE * E::TILES;
    assert!(first.is_multiple_of(GROUP) && epilogue.fits(first + rows, c));
    for at in (0..rows).step_by(group) {
        for j in (0..c).step_by(S::LANES) {
            let mut all = [s.zero(); GROUP];
            for t in 0..E::TILES {
                all[TILE * t..][..TILE].copy_from_slice(&tile(at, j, t));
            }
            let (valid, lanes) = (rows - at, c - j);
            // SAFETY: the epilogue has memory for these rows and channels (asserted). Twice, so that the usual case is
            // compiled without conditions.
            unsafe {
                if valid >= group && lanes >= S::LANES {
                    epilogue.take(s, first + at, group, j, S::LANES, all);
                } else {
                    epilogue.take(s, first + at, valid.min(group), j, lanes.min(S::LANES), all);
                }
            }
        }
    }
    epilogue.end(s, rows);
}

/// Writes the rows as they are.
pub struct PlainRows<'a> {
    /// `[rows, c]`.
    pub y: &'a mut [f32],
    /// Channels.
    pub c: usize,
}

impl Epilogue for PlainRows<'_> {
    const TILES: usize = 1;

    #[inline(always)]
    fn fits(&self, rows: usize, c: usize) -> bool {
        c == self.c && self.y.len() >= rows * c
    }

    fn writes(&self, first: usize, rows: usize) -> &[u8] {
        bytemuck::cast_slice(&self.y[first * self.c..(first + rows) * self.c])
    }

    #[inline(always)]
    unsafe fn take<S: Simd>(&mut self, s: S, first: usize, valid: usize, j: usize, lanes: usize, rows: [S::V; GROUP]) {
        for (i, row) in rows.into_iter().enumerate().take(TILE) {
            if i < valid {
                // SAFETY: the caller's contract.
                unsafe {
                    let to = self.y.as_mut_ptr().add((first + i) * self.c + j);
                    if lanes == S::LANES { s.store(to, row) } else { s.store_first(to, lanes, row) }
                }
            }
        }
    }
}
