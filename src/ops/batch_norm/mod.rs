//! batch_norm: every channel to mean 0 and variance 1 over the batch, then a learned scale and shift.
//!
//! A *channel* here is a channel (`Over::Channels`: its `m = n * l` numbers are every row of every sample) or a feature,
//! that is a row and channel (`Over::Features`: `m = n`, `l * c` of them, for the norm after a flattening).
//!
//! **Computes** `y = w[j] * xhat + b[j]`, `xhat = (x - mean[j]) * inv_std[j]`, `inv_std = 1 / sqrt(var + eps)`, `var` the
//! biased variance. Running statistics follow by `r = (1 - momentum) * r + momentum * s`, the variance there unbiased.
//! **Shapes** `x [n, l, c] -> y [n, l, c]`; parameters and state `[c]` or `[l, c]`.
//! **Backward** `db[j] = sum dy`, `dw[j] = sum dy * xhat`, `dx = w[j] * inv_std[j] * (dy - db[j] / m - xhat * dw[j] / m)`.
//! **Saved** two numbers a channel; backward reads the input. **Cost** two reads and a write of the input forward, four
//! reads and a write backward; 4 FLOPs per element forward, 9 backward, not counted as MACs.
//! **NaN/edge** a NaN spreads over its channel in the whole batch, running statistics included. With `m = 1` the
//! variance would be 0 and nothing could be learned: `min_batch` is 2 there, and a plan refuses such a batch as PyTorch does.
//! **Error** blocks of rows in `f32` around their own mean, merged by Chan's formula, in `f64` between samples: relative
//! rms below 1e-6 where a channel's mean is within ten of its standard deviations from zero. Beyond that the mean, itself a sum in
//! `f32`, limits the precision, and the error grows with the ratio of the two: 6e-6 at a hundred standard deviations.
//! In inference [`BatchNormInference`] replaces it.
//! **Source** Ioffe and Szegedy, ICML 2015, algorithms 1 and 2; Chan, Golub and LeVeque, "Updating formulae and a
//! pairwise algorithm for computing sample variances", 1979.

mod cpu;
pub(crate) mod device;
mod inference;

pub use inference::BatchNormInference;

use super::case::Case;
use super::device::{Batch, Passes};
use super::op::{
    Backward, Forward, Inference, Layout, Merge, Op, Pass, Phase, Planned, PlannedOp, ReferenceBackward,
    ReferenceForward, Role, ShapeError, Spec, TensorSpec, TensorsMut, inputs,
};
use crate::base::Shape;
use crate::simd::Isa;
use cpu::{Affine, GradientSums, InputGradient, Statistics};

/// Which numbers share a mean and a variance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// All rows of a channel.
    Channels,
    /// Every row and channel by itself, over the batch only.
    Features,
}

impl Over {
    /// The input as rows of channels that are normalised on their own.
    fn view(self, x: Shape) -> Shape {
        match self {
            Over::Channels => x,
            Over::Features => Shape::new(1, x.size()),
        }
    }

    fn layout(self, x: Shape) -> Layout {
        match self {
            Over::Channels => Layout::Vector { c: x.c },
            Over::Features => Layout::Features { l: x.l, c: x.c },
        }
    }
}

/// The op while the network learns.
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm {
    /// What shares a mean and a variance.
    pub over: Over,
    /// Weight of a batch in the running statistics, in `[0, 1]`.
    pub momentum: f64,
    /// Added to the variance; above 0.
    pub eps: f64,
}

impl BatchNorm {
    /// PyTorch's defaults: momentum 0.1, eps 1e-5.
    pub fn new(over: Over) -> BatchNorm {
        BatchNorm { over, momentum: 0.1, eps: 1e-5 }
    }
}

/// What training and inference share: shapes, parameters and state.
fn spec(op: &'static str, over: Over, eps: f64, x: &[Shape]) -> Result<Spec, ShapeError> {
    let [x] = inputs(op, x)?;
    if !(eps > 0.0 && eps.is_finite()) {
        return Err(ShapeError::new(op, format!("eps is {eps}; it must be above 0, as 1e-5")));
    }
    let tensor = |suffix, role| TensorSpec { suffix, layout: over.layout(x), role };
    Ok(Spec {
        params: vec![tensor("weight", Role::Scale), tensor("bias", Role::Shift)],
        state: vec![tensor("running_mean", Role::RunningMean), tensor("running_var", Role::RunningVariance)],
        saved: 2 * over.view(x).c,
        scratch: cpu::scratch_len(over.view(x)),
        reads_x: true,
        ..Spec::new(x)
    })
}

/// Statistics before the output, sums before the gradient.
const PHASES: &[Phase] = &[Phase::Samples, Phase::Merge, Phase::Samples];

impl Op for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn plan(&self, x: &[Shape]) -> Result<Box<dyn PlannedOp>, ShapeError> {
        let spec = spec(self.name(), self.over, self.eps, x)?;
        if !(0.0..=1.0).contains(&self.momentum) {
            let message = format!("momentum is {}; it must be between 0 and 1, as 0.1", self.momentum);
            return Err(ShapeError::new(self.name(), message));
        }
        // Mean, inv_std; then the two terms of the input's gradient, see `merge`.
        let view = self.over.view(x[0]);
        Planned::boxed(*self, view, Spec { batch_saved: 4 * view.c, forward: PHASES, backward: PHASES, ..spec })
    }

    fn min_batch(&self, x: &[Shape]) -> usize {
        if x.iter().any(|&x| self.over.view(x).l == 1) { 2 } else { 1 }
    }

    fn for_inference(&self) -> Inference {
        Inference::Other(Box::new(BatchNormInference { over: self.over, eps: self.eps }))
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        let Shape { c, .. } = self.over.view(b.shapes[0]);
        let m = b.x[0].len() / c;
        for j in 0..c {
            let (mean, var) = reference_statistics(b.x[0], c, j);
            for i in (j..m * c).step_by(c) {
                b.y[i] = b.params[0][j] * (b.x[0][i] - mean) / (var + self.eps).sqrt() + b.params[1][j];
            }
            let unbiased = var * m as f64 / (m - 1).max(1) as f64;
            for (tensor, new) in [mean, unbiased].into_iter().enumerate() {
                let running = &mut b.state[tensor][j];
                *running += self.momentum * (new - *running);
            }
        }
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        let Shape { c, .. } = self.over.view(b.shapes[0]);
        let m = b.x[0].len() / c;
        for j in 0..c {
            let (mean, var) = reference_statistics(b.x[0], c, j);
            let std = (var + self.eps).sqrt();
            let all = || (j..m * c).step_by(c);
            let db: f64 = all().map(|i| b.dy[i]).sum();
            let dw: f64 = all().map(|i| b.dy[i] * (b.x[0][i] - mean) / std).sum();
            for i in all() {
                let xhat = (b.x[0][i] - mean) / std;
                b.dx[0][i] += b.params[0][j] / std * (b.dy[i] - db / m as f64 - xhat * dw / m as f64);
            }
            b.dparams[0][j] += dw;
            b.dparams[1][j] += db;
        }
    }
}

impl PlannedOp for Planned<BatchNorm, Shape> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn forward(&self, isa: Isa, phase: usize, b: &mut Forward<'_>) {
        let Shape { l, c } = self.geometry;
        if phase == 0 {
            let (mean, m2) = b.saved.split_at_mut(c);
            isa.run(Statistics { x: b.x[0], l, mean, m2, scratch: b.scratch });
        } else {
            let (mean, inv_std) = b.batch_saved[..2 * c].split_at(c);
            let [weight, bias] = b.params.each();
            isa.run(Affine { x: b.x[0], l, mean, inv_std, weight, bias, y: b.y, scratch: b.scratch });
        }
    }

    fn backward(&self, isa: Isa, phase: usize, b: &mut Backward<'_>) {
        let Shape { l, c } = self.geometry;
        if phase == 0 {
            let (dy_sum, product_sum) = b.saved.split_at_mut(c);
            let mean = &b.batch_saved[..c];
            isa.run(GradientSums { x: b.x[0], dy: b.dy, l, mean, dy_sum, product_sum, scratch: b.scratch });
        } else if !b.dx[0].is_empty() {
            let weight = b.params.get(0);
            isa.run(InputGradient {
                x: b.x[0],
                dy: b.dy,
                l,
                weight,
                batch_saved: b.batch_saved,
                dx: b.dx[0],
                scratch: b.scratch,
            });
        }
    }

    fn merge(&self, b: &mut Merge<'_>) {
        let Shape { l, c } = self.geometry;
        match b.pass {
            Pass::Forward => self.op.merge_statistics(l, c, b),
            Pass::Backward => merge_gradients(l, c, b),
        }
    }

    fn on_device(&self, batch: &Batch) -> Passes {
        device::training(self.geometry, self.op.eps, self.op.momentum, batch.n)
    }
}

impl BatchNorm {
    /// Every sample saved mean and sum of squares around it, of `l` numbers a channel.
    fn merge_statistics(&self, l: usize, c: usize, b: &mut Merge<'_>) {
        for j in 0..c {
            let (mean, squares) = together(l, (0..b.n).map(|i| ((b.saved)(i)[j], (b.saved)(i)[c + j])));
            b.batch_saved[j] = mean as f32;
            b.batch_saved[c + j] = self.inv_std(squares / (b.n * l) as f64);
            self.follow(&mut b.state, j, mean, squares / ((b.n * l) as f64 - 1.0).max(1.0));
        }
    }

    /// `1 / sqrt(var + eps)`.
    pub(super) fn inv_std(&self, variance: f64) -> f32 {
        (1.0 / (variance + self.eps).sqrt()) as f32
    }

    /// The running statistics of channel `j` follow a batch's mean and unbiased variance.
    pub(super) fn follow(&self, state: &mut TensorsMut<'_>, j: usize, mean: f64, variance: f64) {
        for (tensor, new) in [mean, variance].into_iter().enumerate() {
            let running = &mut state[tensor][j];
            let old = f64::from(*running);
            *running = (old + self.momentum * (new - old)) as f32;
        }
    }
}

/// Mean and sum of squares around it of all samples, from those of each, of `l` numbers.
pub(super) fn together(l: usize, samples: impl ExactSizeIterator<Item = (f32, f32)> + Clone) -> (f64, f64) {
    let means = samples.clone().map(|(mean, _)| f64::from(mean));
    let mean = means.clone().sum::<f64>() / samples.len() as f64;
    let between: f64 = means.map(|own| (own - mean) * (own - mean)).sum();
    let within: f64 = samples.map(|(_, squares)| f64::from(squares)).sum();
    (mean, within + l as f64 * between)
}

/// Every sample saved the sums of `dy` and `dy * (x - mean)`. Leaves what [`InputGradient`] needs.
fn merge_gradients(l: usize, c: usize, b: &mut Merge<'_>) {
    for j in 0..c {
        let samples = (0..b.n).map(|i| ((b.saved)(i)[j], (b.saved)(i)[c + j]));
        let sums = gradient_sums(samples, b.batch_saved[c + j], b.n * l);
        b.dparams[0][j] += sums.scale;
        b.dparams[1][j] += sums.shift;
        (b.batch_saved[2 * c + j], b.batch_saved[3 * c + j]) = sums.terms;
    }
}

/// What the sums of a channel's gradient give.
pub(super) struct Sums {
    /// The scale's gradient.
    pub scale: f32,
    /// The shift's.
    pub shift: f32,
    /// `a` and `b` of `dx = w * inv_std * (dy - a - (x - mean) * b)`.
    pub terms: (f32, f32),
}

/// From every sample's sums of `dy` and `dy * (x - mean)`, over `m` numbers in all.
pub(super) fn gradient_sums(samples: impl Iterator<Item = (f32, f32)>, inv_std: f32, m: usize) -> Sums {
    let (shift, products) =
        samples.fold((0.0, 0.0), |(sum, products), (dy, p)| (sum + f64::from(dy), products + f64::from(p)));
    let inv_std = f64::from(inv_std);
    let scale = products * inv_std;
    let terms = ((shift / m as f64) as f32, (scale * inv_std / m as f64) as f32);
    Sums { scale: scale as f32, shift: shift as f32, terms }
}

/// Mean and biased variance of channel `j` of `c`, over everything.
fn reference_statistics(x: &[f64], c: usize, j: usize) -> (f64, f64) {
    let m = (x.len() / c) as f64;
    let all = || x[j..].iter().step_by(c);
    let mean = all().sum::<f64>() / m;
    (mean, all().map(|x| (x - mean) * (x - mean)).sum::<f64>() / m)
}

/// Its cases, those of [`BatchNormInference`] among them.
pub fn cases() -> Vec<Case> {
    let case = |n: usize, l: usize, c: usize, over| {
        let features = if over == Over::Features { "_features" } else { "" };
        let name = format!("n{n}_l{l}_c{c}{features}");
        Case { n, real: l == 592, ..Case::new(name, BatchNorm::new(over), &[Shape::new(l, c)]) }
    };
    let running = |n: usize, l: usize, c: usize, over| {
        let features = if over == Over::Features { "_features" } else { "" };
        let name = format!("n{n}_l{l}_c{c}_running{features}");
        Case { n, ..Case::new(name, BatchNormInference { over, eps: 1e-5 }, &[Shape::new(l, c)]) }
    };
    vec![
        case(3, 1, 3, Over::Channels),
        case(1, 9, 1, Over::Channels),
        case(5, 1, 2, Over::Channels),
        case(3, 7, 17, Over::Channels),
        case(2, 130, 16, Over::Channels),
        case(2, 70, 33, Over::Channels),
        case(3, 5, 100, Over::Channels),
        case(2, 50, 100, Over::Channels),
        case(2, 1500, 3, Over::Channels),
        case(3, 1, 3, Over::Features),
        case(9, 3, 5, Over::Features),
        case(7, 1, 65, Over::Features),
        case(4, 592, 64, Over::Channels),
        running(2, 7, 17, Over::Channels),
        running(2, 66, 1, Over::Channels),
        running(2, 3, 5, Over::Features),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_far_from_zero_does_not_spoil_the_variance() {
        // Alternating +1 and -1 around 4096: mean and variance are exact.
        let (l, c) = (3000, 3);
        let x: Vec<f32> = (0..l * c).map(|i| 4096.0 + if i / c % 2 == 0 { 1.0 } else { -1.0 }).collect();
        for isa in Isa::all() {
            let mut scratch = vec![f32::NAN; cpu::scratch_len(Shape::new(l, c))];
            let (mut mean, mut m2) = ([f32::NAN; 3], [f32::NAN; 3]);
            isa.run(Statistics { x: &x, l, mean: &mut mean, m2: &mut m2, scratch: &mut scratch });
            assert_eq!((mean, m2), ([4096.0; 3], [l as f32; 3]), "{isa:?}");
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let x = [Shape::new(4, 2)];
        for (momentum, eps) in [(-0.1, 1e-5), (1.1, 1e-5), (f64::NAN, 1e-5), (0.1, 0.0), (0.1, f64::NAN)] {
            assert!(BatchNorm { momentum, eps, over: Over::Channels }.spec(&x).is_err(), "{momentum} {eps}");
        }
        let error = BatchNorm { eps: 0.0, ..BatchNorm::new(Over::Channels) }.spec(&x).unwrap_err().to_string();
        assert_eq!(error, "batch_norm: eps is 0; it must be above 0, as 1e-5");
    }
}
