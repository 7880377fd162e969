//! softmax_cross_entropy: the loss of one sample from its logits and its label.
//!
//! **Computes** `y = -sum_j q[j] log p[j]` with `p = softmax(x)`, from `log p[j] = x[j] - max(x) - log(sum_i exp(x[i] - max(x)))`. The target
//! is `q[j] = (1 - smoothing) t[j] + smoothing / classes`, where `t` is the label: a class number stands for `t[j] = [j = label]`.
//! **Shapes** `x [n, 1, classes], label [n, 1, 1] (a class number) or [n, 1, classes] (the share of each class) -> y [n, 1, 1]`; logits of more
//! rows count flattened.
//! **Backward** `dx[j] = (p[j] sum_i q[i] - q[j]) * dy`; the label gets no gradient.
//! **Saved** `p[j] sum_i q[i] - q[j]`, `classes` numbers, so that backward reads no input.
//! **Cost** `classes` exponentials, in `f64`. **NaN/edge** a term with `q[j] = 0` is 0, even if `p[j]` is. A label that is no class number (NaN,
//! negative, a fraction, `classes` or more), shares of which one is NaN or negative or whose sum is not within 0.001 of 1, a NaN and an
//! infinite largest logit make the loss and the gradient NaN.
//! **Error** one rounding of loss and gradient each. **Source** Bishop, "Pattern recognition and machine learning",
//! 2006, section 4.3.4; label smoothing: Szegedy et al., arXiv 1512.00567, section 7, as in PyTorch's `CrossEntropyLoss(label_smoothing)`.

use super::case::{Case, Fill, Input};
use super::device::{Batch, Launch, Operand, Passes};
use super::op::{
    Backward, Forward, Op, Planned, PlannedOp, ReferenceBackward, ReferenceForward, ShapeError, Spec, inputs,
};
use crate::base::Shape;
use crate::simd::Isa;

/// The operation. Whether a label is a class number or the shares of the classes follows from its shape.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SoftmaxCrossEntropy {
    /// Label smoothing: this share of the target is spread evenly over all classes. At least 0, which is the default, and less than 1.
    pub smoothing: f32,
}

/// How far the sum of the shares of a label may be from 1.
const SUM_TOLERANCE: f64 = 1e-3;

/// The class that `label` names, if it names one.
fn class(label: f64, classes: usize) -> Option<usize> {
    (label >= 0.0 && label < classes as f64 && label.fract() == 0.0).then_some(label as usize)
}

/// Whether the sum of the shares of a label is that of a distribution.
fn is_one(sum: f64) -> bool {
    (sum - 1.0).abs() <= SUM_TOLERANCE
}

/// The largest logit and the sum of the exponentials of all, taken relative to it.
fn largest_and_sum(logits: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let largest = logits.clone().fold(f64::NEG_INFINITY, f64::max);
    (largest, logits.map(|x| (x - largest).exp()).sum())
}

/// The target of one sample in the kernel.
struct Target<'a> {
    label: Label<'a>,
    /// `1 - smoothing`.
    kept: f64,
    /// `smoothing / classes`.
    spread: f64,
    /// The sum of the target over all classes: 1 up to rounding and [`SUM_TOLERANCE`].
    total: f64,
}

enum Label<'a> {
    Class(usize),
    Shares(&'a [f32]),
}

impl Target<'_> {
    /// The target that `label` describes; none if it is neither a class number nor a distribution.
    fn new(label: &[f32], classes: usize, smoothing: f32) -> Option<Target<'_>> {
        let smoothing = f64::from(smoothing);
        let (kept, spread) = (1.0 - smoothing, smoothing / classes as f64);
        match *label {
            [label] => {
                let label = Label::Class(class(f64::from(label), classes)?);
                Some(Target { label, kept, spread, total: 1.0 })
            }
            _ => {
                let sum = label.iter().map(|&share| f64::from(share)).sum();
                let valid = label.iter().all(|&share| share >= 0.0) && is_one(sum);
                valid.then_some(Target { label: Label::Shares(label), kept, spread, total: kept * sum + smoothing })
            }
        }
    }

    /// The share of class `j`.
    fn share(&self, j: usize) -> f64 {
        let share = match self.label {
            Label::Class(label) => f64::from(u8::from(j == label)),
            Label::Shares(shares) => f64::from(shares[j]),
        };
        self.kept * share + self.spread
    }
}

impl SoftmaxCrossEntropy {
    /// The target of one sample in the reference: all NaN if the label is neither a class number nor a distribution.
    fn reference_target(&self, label: &[f64], classes: usize) -> Vec<f64> {
        let one_hot = |label: usize| (0..classes).map(|j| f64::from(u8::from(j == label))).collect();
        let is_distribution = label.iter().all(|&share| share >= 0.0) && is_one(label.iter().sum());
        let shares: Option<Vec<f64>> = match *label {
            [label] => class(label, classes).map(one_hot),
            _ => is_distribution.then(|| label.to_vec()),
        };
        let shares = shares.unwrap_or_else(|| vec![f64::NAN; classes]);
        let smoothing = f64::from(self.smoothing);
        shares.iter().map(|share| (1.0 - smoothing) * share + smoothing / classes as f64).collect()
    }
}

impl Op for SoftmaxCrossEntropy {
    fn name(&self) -> &'static str {
        "softmax_cross_entropy"
    }

    fn plan(&self, x: &[Shape]) -> Result<Box<dyn PlannedOp>, ShapeError> {
        let [logits, label] = inputs(self.name(), x)?;
        if label.size() != 1 && label.size() != logits.size() {
            let message = format!(
                "its labels are {label}; give one class number a sample, 1 x 1, or the share of each class, {logits}"
            );
            return Err(ShapeError::new(self.name(), message));
        }
        if !(0.0..1.0).contains(&self.smoothing) {
            let message = format!("its label smoothing is {}; take at least 0 and less than 1", self.smoothing);
            return Err(ShapeError::new(self.name(), message));
        }
        Planned::boxed(*self, [logits, label], Spec { saved: logits.size(), ..Spec::new(Shape::new(1, 1)) })
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        let (classes, size) = (b.shapes[0].size(), b.shapes[1].size());
        for s in 0..b.n {
            let x = &b.x[0][s * classes..][..classes];
            let target = self.reference_target(&b.x[1][s * size..][..size], classes);
            let (largest, sum) = largest_and_sum(x.iter().copied());
            for (q, x) in target.iter().zip(x) {
                if *q != 0.0 {
                    b.y[s] -= q * (x - largest - sum.ln());
                }
            }
        }
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        let (classes, size) = (b.shapes[0].size(), b.shapes[1].size());
        for s in 0..b.n {
            let x = &b.x[0][s * classes..][..classes];
            let target = self.reference_target(&b.x[1][s * size..][..size], classes);
            let (largest, sum) = largest_and_sum(x.iter().copied());
            let total: f64 = target.iter().sum();
            for (j, &x) in x.iter().enumerate() {
                b.dx[0][s * classes + j] += ((x - largest).exp() / sum * total - target[j]) * b.dy[s];
            }
        }
    }
}

impl PlannedOp for Planned<SoftmaxCrossEntropy, [Shape; 2]> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn forward(&self, _isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        let x = b.x[0];
        let Some(target) = Target::new(b.x[1], x.len(), self.op.smoothing) else {
            b.y[0] = f32::NAN;
            b.saved.fill(f32::NAN);
            return;
        };
        let (largest, sum) = largest_and_sum(x.iter().map(|&x| f64::from(x)));
        let (log_sum, mut loss) = (sum.ln(), 0.0);
        for (j, (saved, &x)) in b.saved.iter_mut().zip(x).enumerate() {
            let (x, q) = (f64::from(x), target.share(j));
            if q != 0.0 {
                loss += q * (largest - x + log_sum);
            }
            *saved = ((x - largest).exp() / sum * target.total - q) as f32;
        }
        b.y[0] = loss as f32;
    }

    fn backward(&self, _isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        let [dx, dlabel] = &mut b.dx;
        for (dx, &saved) in dx.iter_mut().zip(&*b.saved) {
            *dx = saved * b.dy[0];
        }
        dlabel.fill(0.0);
    }

    fn on_device(&self, batch: &Batch) -> Passes {
        let [classes, label] = self.geometry.map(|x| x.size());
        let n = batch.n;
        let count = n * classes;
        let forward = Launch::new("softmax_cross_entropy_forward", n, 32)
            .with(Operand::X(0))
            .with(Operand::X(1))
            .with(Operand::Y)
            .with(Operand::Saved)
            .int(n)
            .int(classes)
            .int(label)
            .float(self.op.smoothing)
            .costs(2 * count + n + n * label, 40 * count as u64);
        let backward = Launch::over("softmax_cross_entropy_backward", count, 1)
            .with(Operand::Saved)
            .with(Operand::Dy)
            .with(Operand::Dx(0))
            .int(n)
            .int(classes)
            .costs(2 * count + n, count as u64);
        let no_gradient = Launch::over("fill", n * label, 4).with(Operand::Dx(1)).float(0.0).int(n * label);
        let no_gradient = no_gradient.costs(n * label, 0);
        Passes {
            saved: classes,
            forward: vec![forward],
            backward: vec![backward.only_for(Operand::Dx(0)), no_gradient.only_for(Operand::Dx(1))],
            ..Passes::default()
        }
    }
}

/// Its cases: class numbers, class numbers with smoothing, and shares without and with.
pub fn cases() -> Vec<Case> {
    let of = |suffix: &str, smoothing: f32, shares: bool, (l, c, n): (usize, usize, usize)| {
        let logits = Shape::new(l, c);
        let name = format!("n{n}_l{l}_c{c}{suffix}");
        let mut case = Case::new(name, SoftmaxCrossEntropy { smoothing }, &[logits]);
        case.inputs.push(match shares {
            false => Input { shape: Shape::new(1, 1), fill: Fill::Class(logits.size()) },
            true => Input { shape: logits, fill: Fill::Shares(logits.size()) },
        });
        Case { n, ..case }
    };
    // At least two classes: the loss of a single one is constant.
    let sizes = [(1, 2, 2), (1, 3, 5), (1, 12, 32), (1, 17, 1), (2, 8, 3)];
    let kinds = [("", 0.0, false), ("_smooth", 0.1, false), ("_shares", 0.0, true), ("_smooth_shares", 0.25, true)];
    kinds
        .iter()
        .flat_map(|&(suffix, smoothing, shares)| sizes.map(|size| of(suffix, smoothing, shares, size)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::{Key, Stream};
    use crate::ops::op::Tensors;

    fn loss_and_saved(logits: &[f32], label: f32) -> (f32, Vec<f32>) {
        of_label(0.0, logits, &[label])
    }

    fn of_label(smoothing: f32, logits: &[f32], label: &[f32]) -> (f32, Vec<f32>) {
        let (mut y, mut saved) = ([0.0], vec![0.0; logits.len()]);
        let mut b = Forward {
            sample: 0,
            draw: Key::new(0, Stream::Case),
            x: [logits, label],
            from: 0,
            y: &mut y,
            saved: &mut saved,
            scratch: &mut [],
            params: Tensors::NONE,
            state: Tensors::NONE,
            batch_saved: &[],
        };
        let x = [logits, label].map(|x| Shape::new(1, x.len()));
        SoftmaxCrossEntropy { smoothing }.plan(&x).unwrap().forward(Isa::best(), 0, &mut b);
        (y[0], saved)
    }

    #[test]
    fn large_logits_neither_overflow_nor_vanish() {
        assert_eq!(loss_and_saved(&[1e4, 0.0, -1e4], 0.0).0, 0.0);
        assert_eq!(loss_and_saved(&[1e4, 0.0, -1e4], 2.0).0, 2e4);
        assert_eq!(loss_and_saved(&[3e38, 3e38], 1.0).0, std::f32::consts::LN_2);
        let (loss, saved) = loss_and_saved(&[f32::NEG_INFINITY, 0.0], 1.0);
        assert_eq!((loss, saved), (0.0, vec![0.0, 0.0]));
    }

    #[test]
    fn equal_logits_cost_the_log_of_their_number() {
        let (loss, saved) = loss_and_saved(&[0.5; 4], 3.0);
        assert_eq!(loss, 4f32.ln());
        assert_eq!(saved, [0.25, 0.25, 0.25, -0.75]);
    }

    #[test]
    fn no_class_and_no_number_give_nan_and_no_panic() {
        for label in [f32::NAN, -1.0, 3.0, 0.5, f32::INFINITY, -f32::INFINITY] {
            let (loss, saved) = loss_and_saved(&[0.0, 1.0, 2.0], label);
            assert!(loss.is_nan() && saved.iter().all(|v| v.is_nan()), "label {label}");
        }
        for logit in [f32::NAN, f32::INFINITY] {
            assert!(loss_and_saved(&[0.0, logit, 2.0], 0.0).0.is_nan(), "logit {logit}");
        }
        assert!(loss_and_saved(&[f32::NEG_INFINITY; 2], 0.0).0.is_nan());
    }

    #[test]
    fn shares_of_a_single_class_give_the_bits_of_its_number() {
        let logits = [0.3, -2.0, 1.7, 0.0, f32::NEG_INFINITY];
        for class in 0..4 {
            let shares = std::array::from_fn::<f32, 5, _>(|j| if j == class { 1.0 } else { 0.0 });
            let (loss, saved) = of_label(0.0, &logits, &shares);
            let (expected, expected_saved) = loss_and_saved(&logits, class as f32);
            assert_eq!((loss.to_bits(), saved), (expected.to_bits(), expected_saved), "class {class}");
        }
    }

    #[test]
    fn smoothing_is_a_mixture_of_the_label_and_equal_shares() {
        let logits = [0.3f32, -2.0, 1.7];
        let log = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        // The label has 0.75 * 1 + 0.25 / 3 of the target, each other class 0.25 / 3.
        let mean = logits.iter().map(|&x| log - f64::from(x)).sum::<f64>() / 3.0;
        let expected = 0.75 * (log + 2.0) + 0.25 * mean;
        let (loss, saved) = of_label(0.25, &logits, &[1.0]);
        approx::assert_relative_eq!(f64::from(loss), expected, max_relative = 1e-6);
        let shares = [0.25f32 / 3.0, 0.75 + 0.25 / 3.0, 0.25 / 3.0];
        let (same, same_saved) = of_label(0.0, &logits, &shares);
        approx::assert_relative_eq!(loss, same, max_relative = 1e-6);
        for (a, b) in saved.iter().zip(&same_saved) {
            approx::assert_relative_eq!(a, b, max_relative = 1e-5);
        }
        let (smoothed, _) = of_label(0.25, &logits, &[0.0, 1.0, 0.0]);
        assert_eq!(smoothed, loss);
    }

    #[test]
    fn shares_that_are_no_distribution_give_nan() {
        let logits = [0.0, 1.0, 2.0];
        let invalid = [
            [0.5, 0.5, 0.01],
            [0.2, 0.2, 0.2],
            [1.5, -0.5, 0.0],
            [f32::NAN, 0.5, 0.5],
            [f32::INFINITY, 0.0, 0.0],
            [0.0; 3],
        ];
        for shares in invalid {
            let (loss, saved) = of_label(0.1, &logits, &shares);
            assert!(loss.is_nan() && saved.iter().all(|v| v.is_nan()), "{shares:?}");
            let shares = shares.map(f64::from);
            let op = SoftmaxCrossEntropy { smoothing: 0.1 };
            assert!(op.reference_target(&shares, 3).iter().all(|q| q.is_nan()), "{shares:?}");
        }
        // Rounding of the shares is no mistake; the gradient still sums to zero.
        let (loss, saved) = of_label(0.0, &logits, &[0.3333, 0.3333, 0.333]);
        assert!(loss.is_finite() && saved.iter().sum::<f32>().abs() < 1e-6, "{saved:?}");
    }

    #[test]
    fn labels_of_another_size_and_smoothing_out_of_range_are_refused() {
        let error = |smoothing: f32, label: usize| {
            let shapes = [Shape::new(1, 5), Shape::new(1, label)];
            SoftmaxCrossEntropy { smoothing }.spec(&shapes).unwrap_err().to_string()
        };
        let expected = "softmax_cross_entropy: its labels are 1 x 4; give one class number a sample, 1 x 1, or the share of each class, 1 x 5";
        assert_eq!(error(0.0, 4), expected);
        let expected = "softmax_cross_entropy: its label smoothing is 1; take at least 0 and less than 1";
        assert_eq!(error(1.0, 5), expected);
        assert!(error(-0.1, 1).contains("is -0.1") && error(f32::NAN, 1).contains("is NaN"));
    }
}
