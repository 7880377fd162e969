//! What max pooling leaves of a gradient: at most one row of a window has one, and none where the ReLU let nothing
//! through. For one output channel every live cell of the pool is a number `g` and a window of contiguous numbers, whose place
//! depends on the cell's position. Backward-weight sums `g * x[window]` ([`SparseUpdate`]); backward-data adds `g * w` to
//! `dx[window]` ([`SparseSpread`]). The live cells of a channel are listed first: dead ones cost nothing more.
//!
//! **Registers** up to ten sums or weights (twenty of AVX-512's 32), one broadcast, a temporary. One load a multiply-add; a
//! load and a store where `dx` is written, which is why its share of the peak is lower. A window's place is read two cells
//! before it is needed: where it follows at once, its multiply-adds wait for it (EPYC Zen 1: 20 % slower).
#![allow(unsafe_code)] // reason: the innermost loops read through pointers; bounds are asserted once, at entry

use super::extent::{product, span};
use super::isa::{Kernel, Simd, SparseEntry};
use super::planes::{Prefetch, Prefetcher};
use super::transform::load_some;

/// Gradients of some cells of a pool, and which of a cell's rows each belongs to.
#[derive(Clone, Copy)]
pub struct Cells<'a> {
    /// Gradients, `[count, outputs]`.
    pub dy: &'a [f32],
    /// Rows, `[count, outputs]`; from `window` on: none, the cell is dead.
    pub argmax: &'a [u8],
    /// Cells, at most [`Cells::MOST`].
    pub count: usize,
    /// Rows of a cell.
    pub window: usize,
    /// Numbers from row to row of what the cells' windows lie in.
    pub row: usize,
}

/// Cells listed beyond the last, which are read and not used.
const BEYOND: usize = 2;

impl Cells<'_> {
    /// Most cells of one call.
    pub const MOST: usize = 48;

    /// Whether the windows, of `width` numbers, lie in `len` numbers; and whether there is anything to do.
    fn fit(&self, outputs: usize, width: usize, len: usize) -> bool {
        let Cells { dy, argmax, count, window, row } = *self;
        if count == 0 || outputs == 0 || width == 0 {
            return false;
        }
        let numbers = product([count, outputs]);
        assert!(count <= Cells::MOST && dy.len() >= numbers && argmax.len() >= numbers);
        assert!(window <= usize::from(u8::MAX) && len <= u32::MAX as usize);
        assert!(len >= span([(product([count, window]), row)], width));
        true
    }
}

/// Most outputs of which the live cells are listed side by side: lanes of the widest vector.
const SIDE: usize = 16;

/// The live cells of as many outputs as a vector has lanes.
struct Lists {
    /// Where each one's window begins, and its gradient.
    live: [[SparseEntry; Cells::MOST + BEYOND]; SIDE],
    counts: [u32; SIDE],
    /// The sums of their gradients.
    sums: [f32; SIDE],
}

impl Lists {
    fn new() -> Lists {
        Lists { live: [[SparseEntry::default(); Cells::MOST + BEYOND]; SIDE], counts: [0; SIDE], sums: [0.0; SIDE] }
    }

    /// Lists those of the outputs from `o` on. **Registers** counts, sums, what a row of cells becomes.
    ///
    /// # Safety
    /// `o < outputs`, and [`Cells::fit`] was true.
    #[inline(always)]
    unsafe fn fill<S: Simd>(&mut self, s: S, cells: &Cells<'_>, o: usize, outputs: usize) {
        let lanes = (outputs - o).min(S::LANES);
        let Cells { window, row, .. } = *cells;
        let mut pairs = [SparseEntry::default(); SIDE];
        let (mut counts, mut sums) = (s.splat_argmax(0), s.zero());
        for cell in 0..cells.count {
            // SAFETY: the numbers are among the `count * outputs` of each; an output has no more live cells than there are.
            unsafe {
                let g = load_some(s, cells.dy.as_ptr().add(cell * outputs + o), lanes);
                let argmax = s.load_argmax(cells.argmax.as_ptr().add(cell * outputs + o), lanes);
                s.store_entries(pairs.as_mut_ptr(), argmax, (cell * window * row) as u32, row as u32, g);
                s.store_counts(self.counts.as_mut_ptr(), counts);
                // Dead ones, too, and the next over them: a branch would be as hard to foresee as the gradient's sign.
                for (lane, &pair) in pairs.iter().enumerate().take(S::LANES) {
                    let to = self.live.get_unchecked_mut(lane).as_mut_ptr();
                    to.add(self.counts[lane] as usize).write(pair);
                }
                let alive = s.argmax_lt(argmax, window as u8);
                counts = s.masked_increment(alive, counts);
                sums = s.add(sums, s.select(alive, g, s.zero()));
            }
        }
        // SAFETY: both have room for a vector.
        unsafe {
            s.store_counts(self.counts.as_mut_ptr(), counts);
            s.store(self.sums.as_mut_ptr(), sums);
        }
    }

    /// The live cells of output `o`, [`BEYOND`] more, and the sum of their gradients. Outputs are asked for in their order.
    ///
    /// # Safety
    /// As [`Lists::fill`].
    #[inline(always)]
    unsafe fn of<S: Simd>(&mut self, s: S, cells: &Cells<'_>, o: usize, outputs: usize) -> (&[SparseEntry], f32) {
        let lane = o % S::LANES;
        if lane == 0 {
            // SAFETY: the caller's contract.
            unsafe { self.fill(s, cells, o, outputs) };
        }
        (&self.live[lane][..self.counts[lane] as usize + BEYOND], self.sums[lane])
    }
}

/// Calls `$of::<S, V, MASKED>` for the last of the numbers `0 .. $end`: as many vectors as go into registers, in equal shares
/// where they do not go at once; returns from which number on.
macro_rules! share {
    ($of:ident::<$S:ident>($end:expr, |$from:ident| $($argument:expr),*)) => {
        share!(@of $of::<$S>($end, |$from| ($($argument),*)) 20 16 12 10 9 8 7 6 5 4 3 2 1)
    };
    (@of $of:ident::<$S:ident>($end:expr, |$from:ident| $arguments:tt) $($v:literal)*) => {{
        let vectors = $end.div_ceil($S::LANES);
        match vectors.div_ceil(vectors.div_ceil(if $S::LANES == 16 { 20 } else { 10 })) {
            $($v.. if $S::LANES == 16 || $v <= 10 => {
                let $from = (vectors - $v) * $S::LANES;
                if vectors * $S::LANES > $end {
                    share!(@call $of::<$S, $v, true> $arguments)
                } else {
                    share!(@call $of::<$S, $v, false> $arguments)
                }
                $from
            },)*
            _ => unreachable!("a share has at least one vector"),
        }
    }};
    (@call $of:ident::<$S:ident, $v:literal, $masked:literal> ($($argument:expr),*)) => {
        $of::<$S, $v, $masked>($($argument),*)
    };
}

/// `c[o, i] += sum over cells p alive of dy[p, o] * x[(p * window + argmax[p, o]) * row + i]` for `i < width`, and
/// `db[o] += sum of their dy[p, o]`.
pub struct SparseUpdate<'a> {
    /// The gradient.
    pub cells: Cells<'a>,
    /// Left operand, from the first cell's first row on.
    pub x: &'a [f32],
    /// `[outputs, width]`.
    pub c: &'a mut [f32],
    /// `[outputs]`.
    pub db: &'a mut [f32],
    /// Numbers of a window of `x`.
    pub width: usize,
    /// What to ask for meanwhile.
    pub prefetch: Prefetch<'a>,
}

impl Kernel for SparseUpdate<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SparseUpdate { cells, x, c, db, width, prefetch } = self;
        let outputs = db.len();
        if !cells.fit(outputs, width, x.len()) {
            return;
        }
        assert!(c.len() == product([outputs, width]));
        let mut prefetcher = Prefetcher::new(prefetch, outputs);
        let mut lists = Lists::new();
        for (o, (db, c)) in db.iter_mut().zip(c.chunks_exact_mut(width)).enumerate() {
            prefetcher.step(s);
            // SAFETY: `o` is one of the outputs, and the cells fit.
            let (live, sum) = unsafe { lists.of(s, &cells, o, outputs) };
            *db += sum;
            let mut end = width;
            while end > 0 {
                // SAFETY: the macro calls `update` with the numbers `from .. end` of the windows, which lie in `x`, since the windows
                // were found to fit, and with as many sums.
                end = unsafe { share!(update::<S>(end, |from| s, x.as_ptr().add(from), live, &mut c[from..end])) };
            }
        }
    }
}

/// `V` vectors of sums, the last of them incomplete if `MASKED`.
///
/// # Safety
/// `c` holds so many numbers, and as many are readable from `x` plus the place of any live cell on.
#[inline(always)]
unsafe fn update<S: Simd, const V: usize, const MASKED: bool>(
    s: S,
    x: *const f32,
    live: &[SparseEntry],
    c: &mut [f32],
) {
    debug_assert!(c.len() > (V - 1) * S::LANES && (MASKED || c.len() == V * S::LANES));
    let last = c.len() - (V - 1) * S::LANES;
    let lanes = |v: usize| if MASKED && v + 1 == V { last } else { S::LANES };
    let mut sums = [s.zero(); V];
    let (mut soon, rest) = ([live[0], live[1]], &live[BEYOND..]);
    for &then in rest {
        let [SparseEntry { offset, value }, next] = soon;
        let g = s.splat(value);
        for (v, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's contract: cells are used two turns after they are read, so that the last two never are.
            unsafe { *sum = s.fma(g, load_some(s, x.add(offset as usize + v * S::LANES), lanes(v)), *sum) }
        }
        soon = [next, then];
    }
    for (v, sum) in sums.into_iter().enumerate() {
        // SAFETY: `c` holds `V` vectors, the last of them up to its end. The cells' own sum joins the total at its end: a chain
        // as short as the cells.
        unsafe {
            let to = c.as_mut_ptr().add(v * S::LANES);
            let total = s.add(load_some(s, to, lanes(v)), sum);
            if lanes(v) == S::LANES { s.store(to, total) } else { s.store_first(to, lanes(v), total) }
        }
    }
}

/// `dx[(p * window + argmax[p, o]) * row + i] += sum over outputs o of dy[p, o] * w[o, i]` for cells `p` alive and `i < width`.
pub struct SparseSpread<'a> {
    /// The gradient.
    pub cells: Cells<'a>,
    /// `[outputs, width]`.
    pub w: &'a [f32],
    /// Outputs.
    pub outputs: usize,
    /// From the first cell's first row on.
    pub dx: &'a mut [f32],
    /// What to ask for meanwhile.
    pub prefetch: Prefetch<'a>,
}

impl Kernel for SparseSpread<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SparseSpread { cells, w, outputs, dx, prefetch } = self;
        let width = w.len() / outputs.max(1);
        if !cells.fit(outputs, width, dx.len()) {
            return;
        }
        let mut prefetcher = Prefetcher::new(prefetch, outputs);
        let mut lists = Lists::new();
        for (o, w) in w.chunks_exact(width).enumerate().take(outputs) {
            prefetcher.step(s);
            // SAFETY: `o` is one of the outputs, and the cells fit.
            let (live, _) = unsafe { lists.of(s, &cells, o, outputs) };
            let mut end = width;
            while end > 0 {
                // The last numbers of a window come first: they belong to the earlier windows of the gradient, so that every sum
                // takes these windows in their order, however the numbers are shared out.
                // SAFETY: the macro calls `spread` with the numbers `from .. end` of the windows, which lie in `dx`, since the
                // windows were found to fit, and with as many weights.
                end = unsafe { share!(spread::<S>(end, |from| s, dx.as_mut_ptr().add(from), live, &w[from..end])) };
            }
        }
    }
}

/// `V` vectors of weights, the last of them incomplete if `MASKED`.
///
/// # Safety
/// `w` holds so many numbers, and as many are writable from `dx` plus the place of any live cell on.
#[inline(always)]
unsafe fn spread<S: Simd, const V: usize, const MASKED: bool>(s: S, dx: *mut f32, live: &[SparseEntry], w: &[f32]) {
    debug_assert!(w.len() > (V - 1) * S::LANES && (MASKED || w.len() == V * S::LANES));
    let last = w.len() - (V - 1) * S::LANES;
    let lanes = |v: usize| if MASKED && v + 1 == V { last } else { S::LANES };
    let mut weights = [s.zero(); V];
    for (v, weight) in weights.iter_mut().enumerate() {
        // SAFETY: `w` holds `V` vectors, the last of them up to its end.
        *weight = unsafe { load_some(s, w.as_ptr().add(v * S::LANES), lanes(v)) };
    }
    let (mut soon, rest) = ([live[0], live[1]], &live[BEYOND..]);
    for &then in rest {
        let [SparseEntry { offset, value }, next] = soon;
        let g = s.splat(value);
        for (v, &weight) in weights.iter().enumerate() {
            // SAFETY: the caller's contract: cells are used two turns after they are read, so that the last two never are.
            unsafe {
                let to = dx.add(offset as usize + v * S::LANES);
                let sum = s.fma(g, weight, load_some(s, to, lanes(v)));
                if lanes(v) == S::LANES { s.store(to, sum) } else { s.store_first(to, lanes(v), sum) }
            }
        }
        soon = [next, then];
    }
}
