//! Memory for tensors: zeroed `f32`, aligned to a cache line so that no full vector straddles two lines.

use std::ops::{Deref, DerefMut};

/// How many `f32` a cache line holds; offsets in an arena are multiples of it.
pub const LINE: usize = 16;

/// A cache line: its type has 64 bytes and is aligned to them.
type Line = wide::f32x16;

/// A fixed-size array of `f32`, aligned to 64 bytes.
#[derive(Clone)]
pub struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl Aligned {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Aligned {
        Aligned { lines: vec![Line::ZERO; len.div_ceil(LINE)], len }
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

/// The next multiple of a cache line's worth of numbers; the largest `usize` where it is beyond it.
pub const fn round_up(len: usize) -> usize {
    len.div_ceil(LINE).saturating_mul(LINE)
}
