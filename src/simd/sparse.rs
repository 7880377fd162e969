//! Floor 1. The update of weights from a gradient that max pooling has left sparse.
//!
//! Behind a pool of three, at most one of three rows of a channel's gradient is not zero. For one output channel every
//! cell of the pool adds `g * x[window]`, where the window's numbers are contiguous and its place depends on the cell's
//! position: a third of the dense arithmetic, without a branch.
//!
//! **Registers** ten sums (twenty of AVX-512's 32), one broadcast; one load of `x` a multiply-add.
#![allow(unsafe_code)] // reason: the innermost loop reads through pointers; bounds are asserted once, at entry

use super::isa::{Kernel, Simd};
use super::planes::{Ahead, Asking};

/// `c[o, i] += sum over cells p of g[p, o] * x[p * x_stride + offset[p, o] + i]`, for `i < width`.
pub struct SparseUpdate<'a> {
    /// Left operand, from the first cell's first row on.
    pub x: &'a [f32],
    /// Numbers from cell to cell.
    pub x_stride: usize,
    /// `[cells, outputs]`.
    pub g: &'a [f32],
    /// `[cells, outputs]`, each at most `largest_offset`.
    pub offset: &'a [u32],
    /// The largest offset.
    pub largest_offset: usize,
    /// Cells.
    pub cells: usize,
    /// `[outputs, width]`.
    pub c: &'a mut [f32],
    /// Outputs.
    pub outputs: usize,
    /// Numbers of a window.
    pub width: usize,
    /// What to ask for meanwhile.
    pub ahead: Ahead<'a>,
}

impl Kernel for SparseUpdate<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SparseUpdate { x, x_stride, g, offset, largest_offset, cells, c, outputs, width, ahead } = self;
        if cells == 0 || outputs == 0 || width == 0 {
            return;
        }
        assert!(g.len() >= cells * outputs && offset.len() >= cells * outputs && c.len() >= outputs * width);
        assert!(x.len() >= (cells - 1) * x_stride + largest_offset + width);
        assert!(offset[..cells * outputs].iter().all(|&at| at as usize <= largest_offset));
        let mut asking = Asking::new(ahead, outputs);
        for o in 0..outputs {
            asking.step(s);
            let mut i = 0;
            while i < width {
                let vectors = (width - i) / S::LANES;
                // SAFETY: windows, gradients, offsets and sums lie in their slices, as asserted above: numbers
                // `i .. i + V * LANES` (or what is left of them) are among the window's `width`.
                unsafe {
                    let operands = Operands {
                        x: x.as_ptr().add(i),
                        x_stride,
                        g: g.as_ptr().add(o),
                        offset: offset.as_ptr().add(o),
                        step: outputs,
                        cells,
                        c: c.as_mut_ptr().add(o * width + i),
                    };
                    i += match vectors {
                        20.. if S::LANES == 16 => sums::<S, 20, false>(s, &operands, S::LANES),
                        10.. => sums::<S, 10, false>(s, &operands, S::LANES),
                        5.. => sums::<S, 5, false>(s, &operands, S::LANES),
                        1.. => sums::<S, 1, false>(s, &operands, S::LANES),
                        0 => sums::<S, 1, true>(s, &operands, width - i),
                    };
                }
            }
        }
    }
}

struct Operands {
    x: *const f32,
    x_stride: usize,
    g: *const f32,
    offset: *const u32,
    step: usize,
    cells: usize,
    c: *mut f32,
}

/// `V` vectors of one output's sums; returns how many numbers it did.
///
/// # Safety
/// For every cell, `V` vectors (or `lanes` numbers) are readable at its window, and as many writable at `c`.
#[inline(always)]
unsafe fn sums<S: Simd, const V: usize, const MASKED: bool>(s: S, t: &Operands, lanes: usize) -> usize {
    // SAFETY: the caller's contract.
    unsafe {
        let load = |from: *const f32| if MASKED { s.load_first(from, lanes) } else { s.load(from) };
        let mut sums = [s.zero(); V];
        let (mut x, mut g, mut offset) = (t.x, t.g, t.offset);
        for _ in 0..t.cells {
            let (window, value) = (x.add(*offset as usize), s.splat(*g));
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = s.fma(value, load(window.add(v * S::LANES)), *sum);
            }
            // Past the last cell nothing is read.
            (x, g, offset) = (x.wrapping_add(t.x_stride), g.wrapping_add(t.step), offset.wrapping_add(t.step));
        }
        for (v, sum) in sums.iter().enumerate() {
            // The cells' own sum joins the total at its end: a chain as short as the cells.
            let to = t.c.add(v * S::LANES);
            let total = s.add(load(to), *sum);
            if MASKED { s.store_first(to, lanes, total) } else { s.store(to, total) }
        }
        if MASKED { lanes } else { V * S::LANES }
    }
}
