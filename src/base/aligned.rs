//! Memory for tensors: `f32` values that start at a multiple of 64 bytes, so that no vector load crosses a cache line.

use std::ops::{Deref, DerefMut};
use thiserror::Error;

/// The number of `f32` values in a cache line; offsets in an arena are multiples of it.
pub const LINE: usize = 16;

/// One cache line: 64 bytes, aligned to 64 bytes.
type Line = wide::f32x16;

/// The system refused an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("cannot allocate {bytes} bytes of memory")]
pub struct OutOfMemory {
    /// The size of the allocation.
    pub bytes: usize,
}

/// An array of `f32` of fixed length, aligned to 64 bytes.
#[derive(Clone)]
pub struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl Aligned {
    /// An array of `len` zeros. For a length that depends on input, use [`Aligned::try_zeros`]: without the memory, this
    /// function ends the process.
    pub fn zeros(len: usize) -> Aligned {
        Aligned { lines: vec![Line::ZERO; len.div_ceil(LINE)], len }
    }

    /// An array of `len` zeros.
    ///
    /// # Errors
    /// The memory cannot be allocated.
    pub fn try_zeros(len: usize) -> Result<Aligned, OutOfMemory> {
        let count = len.div_ceil(LINE);
        let mut lines = Vec::new();
        let bytes = count.saturating_mul(size_of::<Line>());
        lines.try_reserve_exact(count).map_err(|_| OutOfMemory { bytes })?;
        lines.resize(count, Line::ZERO);
        Ok(Aligned { lines, len })
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

/// Rounds `len` up to a multiple of [`LINE`], or to `usize::MAX` if that multiple does not fit.
pub const fn round_up(len: usize) -> usize {
    len.div_ceil(LINE).saturating_mul(LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zeroed_and_aligned_or_refused() {
        for len in [0, 1, 16, 17, 1000] {
            let memory = Aligned::try_zeros(len).unwrap();
            assert_eq!(memory[..], vec![0.0; len][..]);
            assert_eq!(memory.as_ptr() as usize % 64, 0);
        }
        let refused = Aligned::try_zeros(usize::MAX / 8).map(|memory| memory.len());
        assert!(refused.unwrap_err().to_string().starts_with("cannot allocate 9223372036854775"), "{refused:?}");
    }
}
