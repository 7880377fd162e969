//! max_pool1d: the largest number of every window over time.
//!
//! **Computes** `y[r, j] = max_{t < k} x[r * stride + t, j]`.
//! **Shapes** `x [n, l, c] -> y [n, l_out, c]`, `l_out = (l - k) / stride + 1`, rounded down; with `ceil` rounded up,
//! where the last window must begin inside the input and what lies beyond it is left out (PyTorch's rule).
//! **Backward** `dx[r * stride + t, j] = dy[r, j]` where `t` is the window's position, summed over the windows that
//! overlap in it, in their order. **Saved** the position in each window, a byte each.
//! **Cost** `k` comparisons an output; 4 bytes an input and 5 an output forward, the same backward.
//! **NaN/edge** the first of equal numbers wins; a NaN wins over every number, and the last NaN over the others.
//! **Error** exact, but for the sum of overlapping windows. **Source** definition.

use super::case::{Case, Fill};
use super::device::{Batch, Launch, Operand, Passes};
use super::op::{
    Backward, Forward, Op, Planned, PlannedOp, ReferenceBackward, ReferenceForward, ShapeError, Spec, inputs,
};
use crate::base::Shape;
use crate::simd::{Isa, Kernel, Simd};
use std::array;

/// The op.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool1d {
    /// Rows of a window, at most 256.
    pub k: usize,
    /// Rows between the beginnings of neighbouring windows.
    pub stride: usize,
    /// A last window that reaches beyond the input counts too.
    pub ceil: bool,
}

impl MaxPool1d {
    /// Windows of `k` rows side by side; rows left over at the end are not read.
    pub fn new(k: usize) -> MaxPool1d {
        MaxPool1d { k, stride: k, ceil: false }
    }

    /// The number of windows over `l` rows; 0 if there are fewer rows than a window has.
    fn windows(self, l: usize) -> usize {
        let last_row = if self.ceil { l.saturating_add(self.stride - 1) } else { l };
        let windows = last_row.checked_sub(self.k).map_or(0, |last| last / self.stride + 1);
        // Rounding up may add a window that begins at the end or past it.
        windows.min(l.div_ceil(self.stride))
    }

    /// A stride that makes the same windows over `l` rows and, times any row of them, stays a number of memory.
    fn stride_within(self, l: usize) -> usize {
        self.stride.min(l)
    }

    /// Position of the largest number of window `r` in channel `j` of a sample `x`.
    fn position(self, x: &[f64], shape: Shape, r: usize, j: usize) -> usize {
        let at = |t: usize| x[(r * self.stride + t) * shape.c + j];
        let mut best = 0;
        for t in 1..self.k.min(shape.l - r * self.stride) {
            if at(t) > at(best) || at(t).is_nan() {
                best = t;
            }
        }
        best
    }
}

impl Op for MaxPool1d {
    fn name(&self) -> &'static str {
        "max_pool1d"
    }

    fn plan(&self, x: &[Shape]) -> Result<Box<dyn PlannedOp>, ShapeError> {
        let [x @ Shape { l, c }] = inputs(self.name(), x)?;
        let MaxPool1d { k, stride, .. } = *self;
        let refuse = |message| Err(ShapeError::new(self.name(), message));
        if !(1..=256).contains(&k) || stride == 0 {
            return refuse(format!("k is {k} and stride {stride}; k must be 1 to 256 and stride at least 1"));
        }
        let l_out = self.windows(l);
        if l_out == 0 {
            let way_out = "take a smaller k, fewer pooling layers or a longer input";
            return refuse(format!("a window of {k} rows does not fit into {l}; {way_out}"));
        }
        let y = Shape::new(l_out, c);
        Planned::boxed(*self, x, Spec { saved: y.size().div_ceil(size_of::<f32>()), ..Spec::new(y) })
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        let (shape, l_out) = (b.shapes[0], self.windows(b.shapes[0].l));
        for (s, x) in b.x[0].chunks_exact(shape.size()).enumerate() {
            for r in 0..l_out {
                for j in 0..shape.c {
                    let row = r * self.stride + self.position(x, shape, r, j);
                    b.y[(s * l_out + r) * shape.c + j] = x[row * shape.c + j];
                }
            }
        }
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        let (shape, l_out) = (b.shapes[0], self.windows(b.shapes[0].l));
        for (s, x) in b.x[0].chunks_exact(shape.size()).enumerate() {
            for r in 0..l_out {
                for j in 0..shape.c {
                    let row = r * self.stride + self.position(x, shape, r, j);
                    b.dx[0][(s * shape.l + row) * shape.c + j] += b.dy[(s * l_out + r) * shape.c + j];
                }
            }
        }
    }
}

impl PlannedOp for Planned<MaxPool1d, Shape> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn forward(&self, isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        let argmax = &mut bytemuck::cast_slice_mut(b.saved)[..b.y.len()];
        let (c, stride) = (self.geometry.c, self.op.stride_within(self.geometry.l));
        isa.run(MaxForward { x: b.x[0], c, k: self.op.k, stride, y: b.y, argmax });
    }

    fn backward(&self, isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        if b.dx[0].is_empty() {
            return;
        }
        let argmax = &bytemuck::cast_slice(b.saved)[..b.dy.len()];
        let (c, stride) = (self.geometry.c, self.op.stride_within(self.geometry.l));
        isa.run(MaxBackward { dy: b.dy, argmax, c, k: self.op.k, stride, dx: b.dx[0] });
    }

    fn on_device(&self, batch: &Batch) -> Passes {
        let (n, Shape { l, c }) = (batch.n, self.geometry);
        let l_out = self.op.windows(l);
        let (read, made) = (n * l * c, n * l_out * c);
        let each = if c.is_multiple_of(4) { 4 } else { 1 };
        let sizes = |launch: Launch| {
            let launch = launch.int(n).int(l).int(c).int(l_out).int(self.op.k).int(self.op.stride_within(l));
            launch.costs(read + made + made / 4, (made * self.op.k) as u64)
        };
        let forward = Launch::over("max_pool1d_forward", made, each).with(Operand::X(0)).with(Operand::Y);
        let backward = Launch::over("max_pool1d_backward", read, each).with(Operand::Dy).with(Operand::Saved);
        Passes {
            saved: (l_out * c).div_ceil(size_of::<f32>()),
            forward: vec![sizes(forward.with(Operand::Saved))],
            backward: vec![sizes(backward.with(Operand::Dx(0))).only_for(Operand::Dx(0))],
            ..Passes::default()
        }
    }
}

struct MaxForward<'a> {
    x: &'a [f32],
    c: usize,
    k: usize,
    stride: usize,
    y: &'a mut [f32],
    argmax: &'a mut [u8],
}

impl Kernel for MaxForward<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        match self.k {
            2 => self.windows::<2>(),
            3 => self.windows::<3>(),
            4 => self.windows::<4>(),
            _ => self.windows::<0>(),
        }
    }
}

impl MaxForward<'_> {
    /// All windows; whole ones of `K` rows with the loop over them unrolled.
    #[inline(always)]
    fn windows<const K: usize>(self) {
        let MaxForward { x, c, k, stride, y, argmax } = self;
        for (r, (y, argmax)) in y.chunks_exact_mut(c).zip(argmax.chunks_exact_mut(c)).enumerate() {
            let x = &x[r * stride * c..];
            if K > 0 && x.len() >= K * c {
                let rows: [&[f32]; K] = array::from_fn(|t| &x[t * c..][..c]);
                largest(rows.iter().copied(), y, argmax);
            } else {
                largest(x.chunks_exact(c).take(k), y, argmax);
            }
        }
    }
}

/// Channels that are worked on together: whole vectors of every set.
const LANES: usize = 16;

/// The maximum of the rows in every channel, and its row.
#[inline(always)]
fn largest<'a>(rows: impl Iterator<Item = &'a [f32]> + Clone, y: &mut [f32], argmax: &mut [u8]) {
    let (y, y_rest) = y.as_chunks_mut::<LANES>();
    let (argmax, at_rest) = argmax.as_chunks_mut::<LANES>();
    for (v, (y, argmax)) in y.iter_mut().zip(argmax).enumerate() {
        let (mut best, mut position) = ([0.0; LANES], [0u32; LANES]);
        for (t, row) in rows.clone().enumerate() {
            let x = row.as_chunks::<LANES>().0[v];
            for i in 0..LANES {
                let take = (t == 0) | (x[i] > best[i]) | x[i].is_nan();
                best[i] = if take { x[i] } else { best[i] };
                position[i] = if take { t as u32 } else { position[i] };
            }
        }
        *y = best;
        *argmax = position.map(|t| t as u8);
    }
    for (i, (y, argmax)) in y_rest.iter_mut().zip(at_rest).enumerate() {
        (*y, *argmax) = (0.0, 0);
        for (t, row) in rows.clone().enumerate() {
            let x = row.as_chunks::<LANES>().1[i];
            if (t == 0) | (x > *y) | x.is_nan() {
                (*y, *argmax) = (x, t as u8);
            }
        }
    }
}

struct MaxBackward<'a> {
    dy: &'a [f32],
    argmax: &'a [u8],
    c: usize,
    k: usize,
    stride: usize,
    dx: &'a mut [f32],
}

impl Kernel for MaxBackward<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        if self.stride < self.k { self.overlapping() } else { self.side_by_side() }
    }
}

impl MaxBackward<'_> {
    /// Every row belongs to one window at most, so that each is written once.
    #[inline(always)]
    fn side_by_side(self) {
        let MaxBackward { dy, argmax, c, k, stride, dx } = self;
        let windows = dy.chunks_exact(c).zip(argmax.chunks_exact(c));
        let read = (windows.len() * stride * c).min(dx.len());
        let (dx, rest) = dx.split_at_mut(read);
        for ((dy, argmax), dx) in windows.zip(dx.chunks_mut(stride * c)) {
            for (t, dx) in dx.chunks_exact_mut(c).enumerate() {
                if t >= k {
                    dx.fill(0.0);
                    continue;
                }
                for ((dx, &dy), &argmax) in dx.iter_mut().zip(dy).zip(argmax) {
                    *dx = if argmax == t as u8 { dy } else { 0.0 };
                }
            }
        }
        rest.fill(0.0);
    }

    #[inline(always)]
    fn overlapping(self) {
        let MaxBackward { dy, argmax, c, k, stride, dx } = self;
        dx.fill(0.0);
        for (r, (dy, argmax)) in dy.chunks_exact(c).zip(argmax.chunks_exact(c)).enumerate() {
            for (t, dx) in dx[r * stride * c..].chunks_exact_mut(c).take(k).enumerate() {
                for ((dx, &dy), &argmax) in dx.iter_mut().zip(dy).zip(argmax) {
                    *dx += if argmax == t as u8 { dy } else { 0.0 };
                }
            }
        }
    }
}

/// Its cases.
pub fn cases() -> Vec<Case> {
    let case = |n: usize, l: usize, c: usize, k: usize, stride: usize, ceil: bool| {
        let name = format!("n{n}_l{l}_c{c}_k{k}_s{stride}{}", if ceil { "_ceil" } else { "" });
        let mut case = Case::new(name, MaxPool1d { k, stride, ceil }, &[Shape::new(l, c)]);
        case.inputs[0].fill = Fill::Distinct;
        Case { n, tolerance: if stride < k { 1e-7 } else { 0.0 }, real: l > 100, ..case }
    };
    vec![
        case(1, 1, 1, 1, 1, false),
        case(2, 3, 3, 3, 3, false),
        case(2, 11, 1, 3, 3, false),
        case(2, 11, 17, 3, 3, true),
        case(2, 12, 15, 2, 2, false),
        case(2, 9, 16, 4, 4, false),
        case(2, 7, 8, 5, 5, true),
        case(2, 9, 31, 3, 2, false),
        case(2, 10, 7, 3, 2, true),
        case(2, 7, 33, 3, 1, false),
        case(2, 13, 3, 2, 5, false),
        case(2, 2, 3, 3, 3, true),
        // All numbers of a window are equal.
        case(2, 12, 15, 2, 2, false).silent(),
        case(2, 11, 17, 3, 3, true).silent(),
        case(2, 9, 16, 4, 4, false).silent(),
        case(2, 10, 7, 3, 2, true).silent(),
        case(2, 13, 33, 6, 6, false).silent(),
        case(2, 592, 64, 3, 3, false),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(op: MaxPool1d, x: &[f32]) -> (Vec<f32>, Vec<u8>) {
        let l_out = op.windows(x.len());
        let (mut y, mut argmax) = (vec![f32::NAN; l_out], vec![9; l_out]);
        Isa::best().run(MaxForward { x, c: 1, k: op.k, stride: op.stride, y: &mut y, argmax: &mut argmax });
        (y, argmax)
    }

    #[test]
    fn the_first_of_equal_numbers_wins() {
        assert_eq!(pool(MaxPool1d::new(3), &[1.0, 2.0, 2.0, -0.0, 0.0, -1.0]), (vec![2.0, -0.0], vec![1, 0]));
        assert_eq!(pool(MaxPool1d::new(6), &[1.0, 2.0, 2.0, 0.0, 0.0, -1.0]), (vec![2.0], vec![1]));
    }

    #[test]
    fn a_nan_wins_wherever_it_stands() {
        for k in [3, 5] {
            for place in 0..k {
                let mut x = vec![1.0, f32::INFINITY, 2.0, 3.0, 4.0];
                x.truncate(k);
                x[place] = f32::NAN;
                let (y, argmax) = pool(MaxPool1d::new(k), &x);
                assert!(y[0].is_nan());
                assert_eq!(argmax, [place as u8]);
            }
        }
    }

    #[test]
    fn window_counts_are_pytorchs() {
        // (l, k, stride) -> floor, ceil; 0 where torch.nn.MaxPool1d refuses.
        let table =
            [(7, 3, 3, 2, 3), (6, 3, 3, 2, 2), (2, 3, 3, 0, 1), (1, 5, 2, 0, 0), (5, 2, 4, 1, 2), (4, 1, 4, 1, 1)];
        for (l, k, stride, floor, ceil) in table {
            assert_eq!(MaxPool1d { k, stride, ceil: false }.windows(l), floor, "l {l} k {k} stride {stride}");
            assert_eq!(MaxPool1d { k, stride, ceil: true }.windows(l), ceil, "l {l} k {k} stride {stride}, ceil");
        }
    }

    #[test]
    fn impossible_windows_are_refused_with_their_numbers() {
        let error = MaxPool1d::new(3).spec(&[Shape::new(2, 64)]).unwrap_err().to_string();
        assert!(error.starts_with("max_pool1d: a window of 3 rows does not fit into 2; take a smaller k"), "{error}");
        for (k, stride) in [(0, 1), (257, 1), (3, 0)] {
            assert!(MaxPool1d { k, stride, ceil: true }.spec(&[Shape::new(9, 1)]).is_err());
        }
        assert!(MaxPool1d { k: 2, stride: usize::MAX, ceil: true }.spec(&[Shape::new(9, 1)]).is_ok());
    }
}
