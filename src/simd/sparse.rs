//! The gradient that max pooling leaves: at most one row of each window has one, and none where the ReLU output is zero.
//!
//! For one output channel, every window with a non-zero gradient is a number `g` and a slice of contiguous numbers of the convolution's
//! input, whose offset depends on the window's argmax. The gradient of the weights is the sum of `g * x[slice]` ([`SparseUpdate`]); the
//! gradient of the input is the sum of `g * w` in `dx[slice]` ([`SparseSpread`]). The windows with a non-zero gradient are listed first, so
//! that the others cost nothing more.
//!
//! **Registers** up to ten sums or weights (twenty of AVX-512's 32), one broadcast, one temporary. One load per MAC; a load and a store
//! where `dx` is written, which is why its share of the peak is lower. An offset is read two windows before it is needed: otherwise its
//! MACs wait for it (EPYC Zen 1: 20 % slower).
#![allow(unsafe_code)] // reason: the innermost loops read through pointers; bounds are asserted once, at entry

use super::extent::{product, span};
use super::isa::{Kernel, Simd, SparseEntry};
use super::planes::{Prefetch, Prefetcher};
use super::transform::load_some;

/// The gradient of some pooling windows, and the row of each window that it belongs to.
#[derive(Clone, Copy)]
pub struct PooledGradient<'a> {
    /// Gradients, `[count, outputs]`.
    pub dy: &'a [f32],
    /// The index of the row in its window, `[count, outputs]`; an index that is not below `window` means that the gradient is zero.
    pub argmax: &'a [u8],
    /// The number of windows, at most [`PooledGradient::MAX_WINDOWS`].
    pub count: usize,
    /// The rows of a window.
    pub window: usize,
    /// The distance of neighbouring rows of the convolution's input, in numbers.
    pub row: usize,
}

/// Entries beyond the last of a list, which are read and not used.
const BEYOND: usize = 2;

impl PooledGradient<'_> {
    /// The largest number of windows of one call.
    pub const MAX_WINDOWS: usize = 48;

    /// Whether there is anything to do. Panics unless the slices of all windows, of `width` numbers each, lie in `len` numbers.
    fn fit(&self, outputs: usize, width: usize, len: usize) -> bool {
        let PooledGradient { dy, argmax, count, window, row } = *self;
        if count == 0 || outputs == 0 || width == 0 {
            return false;
        }
        let numbers = product([count, outputs]);
        assert!(count <= PooledGradient::MAX_WINDOWS && dy.len() >= numbers && argmax.len() >= numbers);
        assert!(window <= usize::from(u8::MAX) && len <= u32::MAX as usize);
        assert!(len >= span([(product([count, window]), row)], width));
        true
    }
}

/// The largest number of outputs whose windows are listed side by side: the lanes of the widest vector.
const SIDE: usize = 16;

/// The windows with a non-zero gradient, of as many outputs as a vector has lanes.
struct Lists {
    /// The offset of each window's slice, and its gradient.
    entries: [[SparseEntry; PooledGradient::MAX_WINDOWS + BEYOND]; SIDE],
    counts: [u32; SIDE],
    /// The sums of their gradients.
    sums: [f32; SIDE],
}

impl Lists {
    fn new() -> Lists {
        Lists {
            entries: [[SparseEntry::default(); PooledGradient::MAX_WINDOWS + BEYOND]; SIDE],
            counts: [0; SIDE],
            sums: [0.0; SIDE],
        }
    }

    /// Lists the windows of the outputs from `o` on. **Registers** counts, sums, and the entries of one window.
    ///
    /// # Safety
    /// `o < outputs`, and [`PooledGradient::fit`] was true.
    #[inline(always)]
    unsafe fn fill<S: Simd>(&mut self, s: S, gradient: &PooledGradient<'_>, o: usize, outputs: usize) {
        let lanes = (outputs - o).min(S::LANES);
        let PooledGradient { window, row, .. } = *gradient;
        let mut pairs = [SparseEntry::default(); SIDE];
        let (mut counts, mut sums) = (s.splat_argmax(0), s.zero());
        for window_index in 0..gradient.count {
            // SAFETY: the numbers are among the `count * outputs` of each; an output has no more entries than there are windows.
            unsafe {
                let g = load_some(s, gradient.dy.as_ptr().add(window_index * outputs + o), lanes);
                let argmax = s.load_argmax(gradient.argmax.as_ptr().add(window_index * outputs + o), lanes);
                s.store_entries(pairs.as_mut_ptr(), argmax, (window_index * window * row) as u32, row as u32, g);
                s.store_counts(self.counts.as_mut_ptr(), counts);
                // Windows without a gradient are written, too, and overwritten by the next one: a branch would be as unpredictable as the
                // sign of the output.
                for (lane, &pair) in pairs.iter().enumerate().take(S::LANES) {
                    let to = self.entries.get_unchecked_mut(lane).as_mut_ptr();
                    to.add(self.counts[lane] as usize).write(pair);
                }
                let nonzero = s.argmax_lt(argmax, window as u8);
                counts = s.masked_increment(nonzero, counts);
                sums = s.add(sums, s.select(nonzero, g, s.zero()));
            }
        }
        // SAFETY: both arrays are at least as long as a vector.
        unsafe {
            s.store_counts(self.counts.as_mut_ptr(), counts);
            s.store(self.sums.as_mut_ptr(), sums);
        }
    }

    /// The entries of output `o`, [`BEYOND`] more, and the sum of their gradients. Outputs must be requested in their order.
    ///
    /// # Safety
    /// As [`Lists::fill`].
    #[inline(always)]
    unsafe fn of<S: Simd>(
        &mut self,
        s: S,
        gradient: &PooledGradient<'_>,
        o: usize,
        outputs: usize,
    ) -> (&[SparseEntry], f32) {
        let lane = o % S::LANES;
        if lane == 0 {
            // SAFETY: the caller's contract.
            unsafe { self.fill(s, gradient, o, outputs) };
        }
        (&self.entries[lane][..self.counts[lane] as usize + BEYOND], self.sums[lane])
    }
}

/// Calls the unsafe function `$of::<S, V, MASKED>` for the last of the numbers `0 .. $end`: as many vectors as fit into registers, or
/// an equal share where they do not all fit. Evaluates to the first of these numbers.
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

/// `c[o, i] += sum over windows p with a non-zero gradient of dy[p, o] * x[(p * window + argmax[p, o]) * row + i]` for `i < width`, and
/// `db[o] += sum of their dy[p, o]`.
pub struct SparseUpdate<'a> {
    /// The gradient.
    pub gradient: PooledGradient<'a>,
    /// Left operand, from the first row of the first window on.
    pub x: &'a [f32],
    /// `[outputs, width]`.
    pub c: &'a mut [f32],
    /// `[outputs]`.
    pub db: &'a mut [f32],
    /// Numbers of a slice of `x`.
    pub width: usize,
    /// Memory to prefetch meanwhile.
    pub prefetch: Prefetch<'a>,
}

impl Kernel for SparseUpdate<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SparseUpdate { gradient, x, c, db, width, prefetch } = self;
        let outputs = db.len();
        if !gradient.fit(outputs, width, x.len()) {
            return;
        }
        assert!(c.len() == product([outputs, width]));
        let mut prefetcher = Prefetcher::new(prefetch, outputs);
        let mut lists = Lists::new();
        for (o, (db, c)) in db.iter_mut().zip(c.chunks_exact_mut(width)).enumerate() {
            prefetcher.step(s);
            // SAFETY: `o` is one of the outputs, and `fit` was true.
            let (entries, sum) = unsafe { lists.of(s, &gradient, o, outputs) };
            *db += sum;
            let mut end = width;
            while end > 0 {
                // SAFETY: the macro calls `update` with the numbers `from .. end` of the windows, which lie in `x`, since the windows
                // were found to fit, and with as many sums.
                end = unsafe { share!(update::<S>(end, |from| s, x.as_ptr().add(from), entries, &mut c[from..end])) };
            }
        }
    }
}

/// `V` vectors of sums, the last of them incomplete if `MASKED`.
///
/// # Safety
/// `c` has so many numbers, and as many are readable from `x` plus the offset of any entry on.
#[inline(always)]
unsafe fn update<S: Simd, const V: usize, const MASKED: bool>(
    s: S,
    x: *const f32,
    entries: &[SparseEntry],
    c: &mut [f32],
) {
    debug_assert!(c.len() > (V - 1) * S::LANES && (MASKED || c.len() == V * S::LANES));
    let last = c.len() - (V - 1) * S::LANES;
    let lanes = |v: usize| if MASKED && v + 1 == V { last } else { S::LANES };
    let mut sums = [s.zero(); V];
    let (mut soon, rest) = ([entries[0], entries[1]], &entries[BEYOND..]);
    for &then in rest {
        let [SparseEntry { offset, value }, next] = soon;
        let g = s.splat(value);
        for (v, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller's contract; entries are used two iterations after they are read, so that the last two never are.
            unsafe { *sum = s.fma(g, load_some(s, x.add(offset as usize + v * S::LANES), lanes(v)), *sum) }
        }
        soon = [next, then];
    }
    for (v, sum) in sums.into_iter().enumerate() {
        // SAFETY: `c` has `V` vectors, the last of them up to its end. The sum of these windows is added to the total at the end, so that
        // chains of additions stay short.
        unsafe {
            let to = c.as_mut_ptr().add(v * S::LANES);
            let total = s.add(load_some(s, to, lanes(v)), sum);
            if lanes(v) == S::LANES { s.store(to, total) } else { s.store_first(to, lanes(v), total) }
        }
    }
}

/// `dx[(p * window + argmax[p, o]) * row + i] += sum over outputs o of dy[p, o] * w[o, i]` for windows `p` with a
/// non-zero gradient and `i < width`.
pub struct SparseSpread<'a> {
    /// The gradient.
    pub gradient: PooledGradient<'a>,
    /// `[outputs, width]`.
    pub w: &'a [f32],
    /// Outputs.
    pub outputs: usize,
    /// The gradient of the input, from the first row of the first window on.
    pub dx: &'a mut [f32],
    /// Memory to prefetch meanwhile.
    pub prefetch: Prefetch<'a>,
}

impl Kernel for SparseSpread<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SparseSpread { gradient, w, outputs, dx, prefetch } = self;
        let width = w.len() / outputs.max(1);
        if !gradient.fit(outputs, width, dx.len()) {
            return;
        }
        let mut prefetcher = Prefetcher::new(prefetch, outputs);
        let mut lists = Lists::new();
        for (o, w) in w.chunks_exact(width).enumerate().take(outputs) {
            prefetcher.step(s);
            // SAFETY: `o` is one of the outputs, and `fit` was true.
            let (entries, _) = unsafe { lists.of(s, &gradient, o, outputs) };
            let mut end = width;
            while end > 0 {
                // The last numbers of a window come first: they belong to the earlier windows of the gradient, so that every sum
                // takes these windows in their order, however the numbers are shared out.
                // SAFETY: the macro calls `spread` with the numbers `from .. end` of the windows, which lie in `dx`, since the
                // windows were found to fit, and with as many weights.
                end = unsafe { share!(spread::<S>(end, |from| s, dx.as_mut_ptr().add(from), entries, &w[from..end])) };
            }
        }
    }
}

/// `V` vectors of weights, the last of them incomplete if `MASKED`.
///
/// # Safety
/// `w` has so many numbers, and as many are writable from `dx` plus the offset of any entry on.
#[inline(always)]
unsafe fn spread<S: Simd, const V: usize, const MASKED: bool>(s: S, dx: *mut f32, entries: &[SparseEntry], w: &[f32]) {
    debug_assert!(w.len() > (V - 1) * S::LANES && (MASKED || w.len() == V * S::LANES));
    let last = w.len() - (V - 1) * S::LANES;
    let lanes = |v: usize| if MASKED && v + 1 == V { last } else { S::LANES };
    let mut weights = [s.zero(); V];
    for (v, weight) in weights.iter_mut().enumerate() {
        // SAFETY: `w` has `V` vectors, the last of them up to its end.
        *weight = unsafe { load_some(s, w.as_ptr().add(v * S::LANES), lanes(v)) };
    }
    let (mut soon, rest) = ([entries[0], entries[1]], &entries[BEYOND..]);
    for &then in rest {
        let [SparseEntry { offset, value }, next] = soon;
        let g = s.splat(value);
        for (v, &weight) in weights.iter().enumerate() {
            // SAFETY: the caller's contract; entries are used two iterations after they are read, so that the last two never are.
            unsafe {
                let to = dx.add(offset as usize + v * S::LANES);
                let sum = s.fma(g, weight, load_some(s, to, lanes(v)));
                if lanes(v) == S::LANES { s.store(to, sum) } else { s.store_first(to, lanes(v), sum) }
            }
        }
        soon = [next, then];
    }
}
