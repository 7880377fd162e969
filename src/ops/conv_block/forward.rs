//! conv_block forward without norm, or with the norm folded into the weights: bias, pooling and ReLU are applied to the
//! convolution's rows while they are in registers.
#![allow(unsafe_code)] // reason: whole vectors go through pointers; lengths are asserted before a block

use super::convolve::{Convolve, Rows, Stored, rows_of};
use super::geometry::{Convolution, Geometry};
use crate::simd::transform::{Epilogue, TilePos, Window, Windows, load_some, pool};
use crate::simd::winograd::TILE;
use crate::simd::{Isa, Simd, product};

/// Stored instead of an argmax where the window's largest row is not above zero, so that its gradient is zero.
pub const NO_GRADIENT: u8 = 7;

/// Bias, maximum of every window (with its argmax if `ARGMAX`), ReLU. The bias is the same for all rows of a window and is added after
/// the maximum is known.
pub struct ActivePool<'a, const WINDOW: usize, const ARGMAX: bool> {
    pub bias: &'a [f32],
    pub ceil: bool,
    /// `[cells, c]`.
    pub y: &'a mut [f32],
    /// Argmax, `[cells, c]`; not written in inference or without pool.
    pub argmax: &'a mut [u8],
}

/// Windows that are whole, or that count though they are not.
#[inline(always)]
pub fn windows(rows: usize, window: usize, ceil: bool) -> usize {
    if ceil { rows.div_ceil(window) } else { rows / window }
}

impl<const WINDOW: usize, const ARGMAX: bool> Epilogue for ActivePool<'_, WINDOW, ARGMAX> {
    const TILES: usize = if WINDOW == 3 { 3 } else { 1 };

    #[inline(always)]
    fn fits(&self, rows: usize, c: usize) -> bool {
        let numbers = product([windows(rows, WINDOW, self.ceil), c]);
        self.bias.len() == c && self.y.len() >= numbers && (!ARGMAX || self.argmax.len() >= numbers)
    }

    fn writes(&self, first: usize, rows: usize) -> &[u8] {
        let c = self.bias.len();
        bytemuck::cast_slice(rows_of(self.y, c, first / WINDOW, rows / WINDOW))
    }

    #[inline(always)]
    unsafe fn take<S: Simd, const T: usize>(&mut self, s: S, pos: TilePos, rows: [S::V; TILE], open: &mut Window<S>) {
        // SAFETY: the caller's contract.
        unsafe { pool::<S, _, WINDOW, T>(s, &pos, rows, self.ceil, open, self) }
    }
}

impl<const WINDOW: usize, const ARGMAX: bool> Windows for ActivePool<'_, WINDOW, ARGMAX> {
    const ARGMAX: bool = ARGMAX;

    #[inline(always)]
    unsafe fn close<S: Simd>(
        &mut self,
        s: S,
        cell: usize,
        &TilePos { j, lanes, .. }: &TilePos,
        best: S::V,
        argmax: S::Argmax,
    ) {
        // SAFETY: `lanes` channels from `j` on are among the bias's, and those of the cell among those of `y` and `argmax`, by the
        // caller's contract.
        unsafe {
            let bias = load_some(s, self.bias.as_ptr().add(j), lanes);
            let value = s.add(best, bias);
            let y = s.max(s.zero(), value);
            let to = cell * self.bias.len() + j;
            if lanes == S::LANES {
                s.store(self.y.as_mut_ptr().add(to), y);
            } else {
                s.store_first(self.y.as_mut_ptr().add(to), lanes, y);
            }
            if ARGMAX {
                let argmax = s.masked_max(s.le(value, s.zero()), NO_GRADIENT, argmax);
                s.store_argmax(self.argmax.as_mut_ptr().add(to), lanes, argmax);
            }
        }
    }
}

/// Rows from another's row `from` on, as if it were the first.
struct From<R> {
    rows: R,
    from: usize,
}

impl<R: Rows> Rows for From<R> {
    fn rows<'b>(&'b self, isa: Isa, first: isize, count: usize, scratch: &'b mut [f32]) -> &'b [f32] {
        self.rows.rows(isa, first + self.from as isize, count, scratch)
    }

    fn memory(&self, first: usize, count: usize) -> [&[u8]; 3] {
        self.rows.memory(first + self.from, count)
    }
}

/// `y` from window number `cell` on, and the argmax.
pub struct Forward<'a> {
    pub g: Geometry,
    pub x: &'a [f32],
    pub packed: &'a [f32],
    pub bias: &'a [f32],
    /// The first window of `y`.
    pub cell: usize,
    pub y: &'a mut [f32],
    pub argmax: &'a mut [u8],
    pub scratch: &'a mut [f32],
}

impl Forward<'_> {
    pub fn run(self, isa: Isa) {
        match (self.g.window, self.argmax.is_empty()) {
            (1, _) => self.windows::<1, false>(isa),
            (2, true) => self.windows::<2, false>(isa),
            (2, false) => self.windows::<2, true>(isa),
            (3, true) => self.windows::<3, false>(isa),
            (3, false) => self.windows::<3, true>(isa),
            (_, true) => self.windows::<4, false>(isa),
            (_, false) => self.windows::<4, true>(isa),
        }
    }

    fn windows<const WINDOW: usize, const ARGMAX: bool>(self, isa: Isa) {
        let Forward { g, x, packed, bias, cell, y, argmax, scratch } = self;
        let (whole, from) = (g.forward(false), cell * WINDOW);
        let rows_out = (y.len() / g.c_out * WINDOW).min(whole.rows_out - from);
        let source = From { rows: Stored { x, c: g.c_in }, from: from * g.stride };
        let mut epilogue = ActivePool::<WINDOW, ARGMAX> { bias, ceil: g.ceil, y, argmax };
        let conv = Convolution { rows_out, ..whole };
        let rows = 0..conv.rows_out;
        Convolve { conv, rows, packed, source: &source, epilogue: &mut epilogue, scratch }.run(isa);
    }
}
