//! The transforms of a fast convolution over rows and channels: rows to planes, gradients to planes, planes to rows.
//!
//! A transform reads each number once and writes each once, a vector of channels at a time; what is done to the rows of
//! output while they are in registers is an [`Epilogue`].
#![allow(unsafe_code)] // reason: reads and writes whole vectors through pointers; bounds are asserted once, at entry

use super::extent::{product, round_up_to, span, sum};
use super::isa::{Kernel, Simd};
use super::planes::Planes;
use super::winograd::{READ, TILE, Toom};
use std::marker::PhantomData;

/// `v[p][t] = B^T d` for the rows `d` from `step * t` on.
pub struct InputTransform<'a, F> {
    /// Rows of `c` channels, from the first tile's first on: `step * (tiles - 1) + F::READ` of them.
    pub x: &'a [f32],
    /// Channels.
    pub c: usize,
    /// Rows from tile to tile.
    pub step: usize,
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
        let InputTransform { x, c, step, tiles, v, planes: Planes { row, plane }, .. } = self;
        if tiles == 0 {
            return;
        }
        assert!(x.len() >= product([span([(tiles, step)], F::READ), c]) && row >= round_up_to(c, S::LANES));
        assert!(v.len() >= span([(F::PRODUCTS, plane)], product([tiles, row])));
        for t in 0..tiles {
            for j in (0..c).step_by(S::LANES) {
                // SAFETY: the tile's rows lie in `x` and its rows of all planes, padding included, in `v`, both
                // asserted above; only the channels that there are are read.
                unsafe {
                    let (from, to) = (x.as_ptr().add(step * t * c + j), v.as_mut_ptr().add(t * row + j));
                    let mut d = [s.zero(); READ];
                    if c - j >= S::LANES {
                        (0..F::READ).for_each(|i| d[i] = s.load(from.add(i * c)));
                    } else {
                        (0..F::READ).for_each(|i| d[i] = s.load_first(from.add(i * c), c - j));
                    }
                    let products = F::input(s, d);
                    (0..F::PRODUCTS).for_each(|p| s.store(to.add(p * plane), products[p]));
                }
            }
        }
    }
}

/// `z[p][t] = A dy` for the rows `dy` from `TILE * t` on.
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
        assert!(dy.len() >= product([TILE, tiles, c]) && row >= round_up_to(c, S::LANES));
        assert!(z.len() >= span([(F::PRODUCTS, plane)], product([tiles, row])));
        for t in 0..tiles {
            for j in (0..c).step_by(S::LANES) {
                // SAFETY: as for `InputTransform`.
                unsafe {
                    let (from, to) = (dy.as_ptr().add(TILE * t * c + j), z.as_mut_ptr().add(t * row + j));
                    let load = |i: usize| load_some(s, from.add(i * c), c - j);
                    let products = F::gradient(s, std::array::from_fn(load));
                    (0..F::PRODUCTS).for_each(|p| s.store(to.add(p * plane), products[p]));
                }
            }
        }
    }
}

/// Rows after which a tile and a window of one to four rows begin together: three tiles. Blocks begin at its multiples.
pub const GROUP: usize = 3 * TILE;

/// The position of a tile of rows.
#[derive(Clone, Copy)]
pub struct TilePos {
    /// First row.
    pub first: usize,
    /// The number of rows from the first one on, those of later tiles included. The content of a tile's other rows is unspecified.
    pub left: usize,
    /// First channel.
    pub j: usize,
    /// Channels, at most a vector's.
    pub lanes: usize,
}

impl TilePos {
    /// The position of tile `t`, where `self` is that of tile 0.
    #[inline(always)]
    fn tile(self, t: usize) -> TilePos {
        TilePos { first: self.first + TILE * t, left: self.left.saturating_sub(TILE * t), ..self }
    }
}

/// What is done with the rows of output while they are in registers.
pub trait Epilogue {
    /// Tiles after which it begins anew, 1 or 3: a window of three rows may lie in two tiles.
    const TILES: usize;
    /// Whether rows of a single channel and three or five taps have code of their own: where they are rare, it would only take
    /// longer to compile.
    const FEW_TAPS: bool = true;

    /// Whether the memory suffices for the rows `0 .. rows` of `c` channels; called before any row of a block.
    fn fits(&self, rows: usize, c: usize) -> bool;

    /// The memory that the rows `first .. first + rows` will be written to.
    fn writes(&self, _first: usize, _rows: usize) -> &[u8] {
        &[]
    }

    /// Called after the last of a block of `rows` rows.
    fn end<S: Simd>(&mut self, _s: S, _rows: usize) {}

    /// Takes the rows of tile `T` of [`Epilogue::TILES`] in some channels; `open` is what it leaves for the next tile.
    ///
    /// # Safety
    /// [`Epilogue::fits`] was true for rows and channels that include these.
    unsafe fn take<S: Simd, const T: usize>(&mut self, s: S, pos: TilePos, rows: [S::V; TILE], open: &mut Window<S>);
}

/// A window's largest row so far, and its index in the window.
#[derive(Clone, Copy)]
pub struct Window<S: Simd> {
    best: S::V,
    argmax: S::Argmax,
}

/// The destination of pooled rows.
pub trait Windows {
    /// Whether the index of the largest row in its window is needed.
    const ARGMAX: bool;

    /// Takes the largest row of window number `cell` and its index, in the channels of `pos`.
    ///
    /// # Safety
    /// The window and the channels are among those that there is memory for.
    unsafe fn close<S: Simd>(&mut self, s: S, cell: usize, pos: &TilePos, best: S::V, argmax: S::Argmax);
}

/// Pools the rows of tile `T` by windows of `WINDOW`, of which those that end here are closed; a last one that is not whole
/// ends with the rows if `ceil`.
///
/// # Safety
/// As [`Windows::close`], for all windows of the rows.
#[inline(always)]
pub unsafe fn pool<S: Simd, W: Windows, const WINDOW: usize, const T: usize>(
    s: S,
    pos: &TilePos,
    rows: [S::V; TILE],
    ceil: bool,
    open: &mut Window<S>,
    to: &mut W,
) {
    let group = (pos.first - TILE * T) / WINDOW;
    for (i, row) in rows.into_iter().enumerate() {
        if i < pos.left {
            let (window, t) = ((TILE * T + i) / WINDOW, (TILE * T + i) % WINDOW);
            if t == 0 {
                *open = Window { best: row, argmax: s.splat_argmax(0) };
            } else {
                if W::ARGMAX {
                    open.argmax = s.masked_max(s.gt(row, open.best), t as u8, open.argmax);
                }
                open.best = s.max(open.best, row);
            }
            if t + 1 == WINDOW || (ceil && i + 1 == pos.left) {
                // SAFETY: the caller's contract.
                unsafe { to.close(s, group + window, pos, open.best, open.argmax) }
            }
        }
    }
}

/// A source of tiles of rows. It is not a closure, because a closure would not be compiled for the instruction set.
trait Tiles {
    /// The rows of tile `t` of the group that begins at the block's row `at`, from channel `j` on.
    ///
    /// # Safety
    /// `at` is below the number of rows and a multiple of the rows of a group, tile `t` is one of the group's, and `j` is a channel.
    unsafe fn tile<S: Simd>(&self, s: S, at: usize, j: usize, t: usize) -> [S::V; TILE];
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
    /// Their destination.
    pub epilogue: &'a mut E,
    /// The algorithm.
    pub algorithm: PhantomData<F>,
}

impl<F: Toom, E: Epilogue> Kernel for OutputTransform<'_, F, E> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let OutputTransform { m, planes, c, first, rows, epilogue, algorithm } = self;
        let tiles = round_up_to(rows, TILE * E::TILES) / TILE;
        assert!(m.len() >= span([(F::PRODUCTS, planes.plane)], product([tiles, planes.row])));
        assert!(planes.row >= round_up_to(c, S::LANES));
        emit(s, epilogue, first, rows, c, &Interpolated { m, planes, algorithm });
    }
}

/// Whole groups of tiles, padding included, lie in `m`.
struct Interpolated<'a, F> {
    m: &'a [f32],
    planes: Planes,
    algorithm: PhantomData<F>,
}

impl<F: Toom> Tiles for Interpolated<'_, F> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, at: usize, j: usize, t: usize) -> [S::V; TILE] {
        let Planes { row, plane } = self.planes;
        // SAFETY: the group's products, padding included, lie in `m`, as `OutputTransform` has asserted; the caller names one of its tiles.
        unsafe {
            let from = self.m.as_ptr().add((at / TILE + t) * row + j);
            F::output(s, |p| s.load(from.add(p * plane)))
        }
    }
}

/// Passes a block's rows, which are in memory, to an epilogue.
pub struct StoredRows<'a, E> {
    /// `[rows, c]`.
    pub z: &'a [f32],
    /// Channels.
    pub c: usize,
    /// The block's first row: a multiple of [`GROUP`].
    pub first: usize,
    /// Its rows.
    pub rows: usize,
    /// Their destination.
    pub epilogue: &'a mut E,
}

impl<E: Epilogue> Kernel for StoredRows<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let StoredRows { z, c, first, rows, epilogue } = self;
        assert!(z.len() >= product([rows, c]));
        emit(s, epilogue, first, rows, c, &InMemory { z, c, rows });
    }
}

/// `rows` rows of `c` channels lie in `z`.
struct InMemory<'a> {
    z: &'a [f32],
    c: usize,
    rows: usize,
}

impl Tiles for InMemory<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, at: usize, j: usize, t: usize) -> [S::V; TILE] {
        let &InMemory { z, c, rows } = self;
        let mut tile = [s.zero(); TILE];
        for (i, row) in tile.iter_mut().enumerate() {
            let r = at + TILE * t + i;
            if r < rows {
                // SAFETY: row `r` lies in `z`, as asserted where it is made, and as many of its channels are read as there are.
                unsafe { *row = load_some(s, z.as_ptr().add(r * c + j), c - j) }
            }
        }
        tile
    }
}

/// A vector from `from` on, or as much of it as `lanes` say.
///
/// # Safety
/// `lanes` numbers from `from` on are readable.
#[inline(always)]
pub unsafe fn load_some<S: Simd>(s: S, from: *const f32, lanes: usize) -> S::V {
    // SAFETY: the caller's contract.
    unsafe { if lanes >= S::LANES { s.load(from) } else { s.load_first(from, lanes) } }
}

/// Passes a block's rows of a convolution with one input channel to an epilogue: too few products a row for register tiles, so that
/// the sums never leave the registers. **Registers** a tile's eight sums, the taps, one broadcast.
pub struct MonoConvolution<'a, E> {
    /// Samples, `rows + k - 1`, from the first row's first tap on; after them as many other numbers (zeros, for example) as complete a group.
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
    /// Their destination.
    pub epilogue: &'a mut E,
}

impl<E: Epilogue> Kernel for MonoConvolution<'_, E> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let MonoConvolution { x, w, k, c, first, rows, epilogue } = self;
        assert!(x.len() + 1 >= sum([round_up_to(rows, GROUP), k]) && w.len() >= product([k, c]));
        match k {
            3 if E::FEW_TAPS => emit(s, epilogue, first, rows, c, &FewTaps::<3> { x, w, c }),
            5 if E::FEW_TAPS => emit(s, epilogue, first, rows, c, &FewTaps::<5> { x, w, c }),
            _ => emit(s, epilogue, first, rows, c, &AnyTaps { x, w, k, c }),
        }
    }
}

/// `K` taps of `c` channels lie in `w`; whole groups of rows, and `K - 1` more samples, in `x`. The taps stay in registers:
/// every sample is read once a tile, and serves all rows that see it.
struct FewTaps<'a, const K: usize> {
    x: &'a [f32],
    w: &'a [f32],
    c: usize,
}

impl<const K: usize> Tiles for FewTaps<'_, K> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, at: usize, j: usize, t: usize) -> [S::V; TILE] {
        let mut sums = [s.zero(); TILE];
        // SAFETY: the samples of whole groups and the taps are there, as `MonoConvolution` has asserted; the caller names one of the
        // tiles, and no more channels are read than there are.
        unsafe {
            let mut taps = [s.zero(); K];
            for (tap, weight) in taps.iter_mut().enumerate() {
                *weight = load_some(s, self.w.as_ptr().add(tap * self.c + j), self.c - j);
            }
            let from = self.x.as_ptr().add(at + TILE * t);
            for i in 0..TILE + K - 1 {
                let sample = s.splat(*from.add(i));
                for (tap, &weight) in taps.iter().enumerate() {
                    if i >= tap && i - tap < TILE {
                        sums[i - tap] = s.fma(sample, weight, sums[i - tap]);
                    }
                }
            }
        }
        sums
    }
}

/// `k` taps of `c` channels in `w`, for any number of taps; the samples as in [`FewTaps`].
struct AnyTaps<'a> {
    x: &'a [f32],
    w: &'a [f32],
    k: usize,
    c: usize,
}

impl Tiles for AnyTaps<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, at: usize, j: usize, t: usize) -> [S::V; TILE] {
        let mut sums = [s.zero(); TILE];
        for tap in 0..self.k {
            // SAFETY: as for `FewTaps`.
            unsafe {
                let weight = load_some(s, self.w.as_ptr().add(tap * self.c + j), self.c - j);
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = s.fma(s.splat(*self.x.as_ptr().add(at + TILE * t + i + tap)), weight, *sum);
                }
            }
        }
        sums
    }
}

/// Hands `rows` rows from row `first` on to `epilogue`, tile by tile.
#[inline(always)]
fn emit<S: Simd, E: Epilogue, T: Tiles>(s: S, epilogue: &mut E, first: usize, rows: usize, c: usize, tiles: &T) {
    let group = TILE * E::TILES;
    assert!(first.is_multiple_of(GROUP) && epilogue.fits(sum([first, rows]), c));
    for at in (0..rows).step_by(group) {
        for j in (0..c).step_by(S::LANES) {
            let pos = TilePos { first: first + at, left: rows - at, j, lanes: c - j };
            // SAFETY: the epilogue has memory for these rows and channels (asserted). Twice, so that the usual case is
            // compiled without conditions.
            unsafe {
                if pos.left >= group && pos.lanes >= S::LANES {
                    emit_group(s, epilogue, TilePos { left: group, lanes: S::LANES, ..pos }, at, tiles);
                } else {
                    emit_group(s, epilogue, TilePos { lanes: pos.lanes.min(S::LANES), ..pos }, at, tiles);
                }
            }
        }
    }
    epilogue.end(s, rows);
}

/// Hands on the tiles of the group that begins at the block's row `at`.
///
/// # Safety
/// As [`Epilogue::take`].
#[inline(always)]
unsafe fn emit_group<S: Simd, E: Epilogue, T: Tiles>(s: S, epilogue: &mut E, pos: TilePos, at: usize, tiles: &T) {
    let mut open = Window { best: s.zero(), argmax: s.splat_argmax(0) };
    // SAFETY: the caller's contract.
    unsafe {
        epilogue.take::<S, 0>(s, pos, tiles.tile(s, at, pos.j, 0), &mut open);
        if E::TILES == 3 {
            epilogue.take::<S, 1>(s, pos.tile(1), tiles.tile(s, at, pos.j, 1), &mut open);
            epilogue.take::<S, 2>(s, pos.tile(2), tiles.tile(s, at, pos.j, 2), &mut open);
        }
    }
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
        c == self.c && self.y.len() >= product([rows, c])
    }

    fn writes(&self, first: usize, rows: usize) -> &[u8] {
        bytemuck::cast_slice(&self.y[first * self.c..(first + rows) * self.c])
    }

    #[inline(always)]
    unsafe fn take<S: Simd, const T: usize>(
        &mut self,
        s: S,
        TilePos { first, left, j, lanes }: TilePos,
        rows: [S::V; TILE],
        _open: &mut Window<S>,
    ) {
        for (i, row) in rows.into_iter().enumerate() {
            if i < left {
                // SAFETY: the caller's contract.
                unsafe {
                    let to = self.y.as_mut_ptr().add((first + i) * self.c + j);
                    if lanes == S::LANES { s.store(to, row) } else { s.store_first(to, lanes, row) }
                }
            }
        }
    }
}
