//! The gradient of the convolution's output, computed row by row from that of the block's output when it is needed; it is never stored
//! as a whole.
#![allow(unsafe_code)] // reason: whole vectors go through pointers; lengths are asserted at entry

use super::WIDEST_WINDOW;
use super::convolve::{Rows, clear_outside, rows_of};
use super::geometry::Geometry;
use crate::simd::transform::load_some;
use crate::simd::{Isa, Kernel, Simd, product, sum};

/// From a pooled gradient: every window's gradient in the row of its argmax, and zeros elsewhere.
/// Without pool: the gradient where the output is above zero.
#[derive(Clone, Copy)]
pub struct Unpooled<'a> {
    pub g: Geometry,
    /// `[cells, c_out]`.
    pub dy: &'a [f32],
    /// Argmax, `[cells, c_out]`; empty without pool.
    pub argmax: &'a [u8],
    /// Output, `[cells, c_out]`; empty with pool.
    pub y: &'a [f32],
}

impl Rows for Unpooled<'_> {
    fn rows<'b>(&'b self, isa: Isa, first: isize, count: usize, scratch: &'b mut [f32]) -> &'b [f32] {
        let rows = &mut scratch[..count * self.g.c_out];
        isa.run(Unpool { gradient: self, first, rows });
        rows
    }

    fn memory(&self, first: usize, count: usize) -> [&[u8]; 3] {
        let (c, cell) = (self.g.c_out, first / self.g.window);
        let cells = count.div_ceil(self.g.window);
        let of = |all| bytemuck::cast_slice(rows_of(all, c, cell, cells));
        [of(self.dy), of(self.y), rows_of(self.argmax, c, cell, cells)]
    }
}

struct Unpool<'a, 'g> {
    gradient: &'a Unpooled<'g>,
    first: isize,
    rows: &'a mut [f32],
}

impl Kernel for Unpool<'_, '_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Unpool { gradient: Unpooled { g, dy, y, .. }, first, rows } = self;
        let c = g.c_out;
        let inside = clear_outside(rows, c, first, (g.cells() * g.window).min(g.l_out));
        if inside.is_empty() {
            return;
        }
        let from = (first + inside.start as isize) as usize;
        let rows = &mut rows[inside.start * c..inside.end * c];
        if g.window == 1 {
            assert!(dy.len() == product([g.cells(), c]) && y.len() == dy.len());
            let numbers = from * c..from * c + rows.len();
            for ((to, &dy), &y) in rows.iter_mut().zip(&dy[numbers.clone()]).zip(&y[numbers]) {
                *to = if y > 0.0 { dy + 0.0 } else { 0.0 };
            }
            return;
        }
        match g.window {
            2 => windows::<S, 2>(s, self.gradient, from, rows),
            3 => windows::<S, 3>(s, self.gradient, from, rows),
            _ => windows::<S, WIDEST_WINDOW>(s, self.gradient, from, rows),
        }
    }
}

/// The rows from row `from` on, all of them of windows of `WINDOW` rows. **Registers** a window's gradients and argmax, a row.
#[inline(always)]
fn windows<S: Simd, const WINDOW: usize>(
    s: S,
    &Unpooled { g, dy, argmax, .. }: &Unpooled<'_>,
    from: usize,
    rows: &mut [f32],
) {
    let c = g.c_out;
    let count = rows.len() / c;
    let numbers = product([g.cells(), c]);
    assert!(g.window == WINDOW && dy.len() == numbers && argmax.len() == numbers);
    assert!(sum([from, count]) <= product([g.cells(), WINDOW]));

    for cell in from / WINDOW..(from + count).div_ceil(WINDOW) {
        let start = cell * WINDOW;
        // Only some rows of the first and the last window may have been requested.
        let whole = start >= from && start + WINDOW <= from + count;
        for j in (0..c).step_by(S::LANES) {
            let (lanes, number) = ((c - j).min(S::LANES), cell * c + j);
            // SAFETY: `lanes` channels from `j` on are among the cell's in `dy` and `argmax`, and among those of every row that is
            // written: row `start + t` of the gradient is row `start + t - from` of `rows`.
            unsafe {
                let dy = load_some(s, dy.as_ptr().add(number), lanes);
                let argmax = s.load_argmax(argmax.as_ptr().add(number), lanes);
                for t in 0..WINDOW {
                    if whole || (start + t >= from && start + t < from + count) {
                        let row = s.select(s.argmax_eq(argmax, t as u8), dy, s.zero());
                        let to = rows.as_mut_ptr().add((start + t - from) * c + j);
                        if lanes == S::LANES { s.store(to, row) } else { s.store_first(to, lanes, row) }
                    }
                }
            }
        }
    }
}
