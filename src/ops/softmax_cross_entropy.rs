//! softmax_cross_entropy: the loss of one sample from its logits and its class.
//!
//! **Computes** `y = log(sum_j exp(x[j])) - x[label]`, with the largest logit taken off first.
//! **Shapes** `x [n, 1, classes], label [n, 1, 1] (a class number) -> y [n, 1, 1]`; logits of more rows count flattened.
//! **Backward** `dx[j] = (softmax(x)[j] - [j = label]) * dy`; the label gets no gradient.
//! **Saved** `softmax(x)[j] - [j = label]`, `classes` numbers, so that backward reads no input.
//! **Cost** `classes` exponentials, in `f64`. **NaN/edge** a label that is no class number (NaN, negative, a fraction,
//! `classes` or more), a NaN and an infinite largest logit make the loss and the gradient NaN.
//! **Error** one rounding of loss and gradient each. **Source** Bishop, "Pattern recognition and machine learning",
//! 2006, section 4.3.4.

use super::case::{Case, Fill, Input};
use super::device::{Batch, Launch, Operand, Passes};
use super::op::{Backward, Forward, Op, ReferenceBackward, ReferenceForward, ShapeError, Spec, inputs};
use crate::base::Shape;
use crate::simd::Isa;

/// The op; it has no attributes.
#[derive(Clone, Copy, Debug, Default)]
pub struct SoftmaxCrossEntropy;

/// The class that `label` names, if it names one.
fn class(label: f64, classes: usize) -> Option<usize> {
    (label >= 0.0 && label < classes as f64 && label.fract() == 0.0).then_some(label as usize)
}

/// The largest logit and the sum of the exponentials of all, taken relative to it.
fn largest_and_sum(logits: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let largest = logits.clone().fold(f64::NEG_INFINITY, f64::max);
    (largest, logits.map(|x| (x - largest).exp()).sum())
}

impl Op for SoftmaxCrossEntropy {
    fn name(&self) -> &'static str {
        "softmax_cross_entropy"
    }

    fn spec(&self, x: &[Shape]) -> Result<Spec, ShapeError> {
        let [logits, label] = inputs(self.name(), x)?;
        if label.size() != 1 {
            let message = format!("its labels are {label}; give one class number a sample, 1 x 1");
            return Err(ShapeError::new(self.name(), message));
        }
        Ok(Spec { saved: logits.size(), ..Spec::new(Shape::new(1, 1)) })
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        let classes = b.shapes[0].size();
        for s in 0..b.n {
            let x = &b.x[0][s * classes..][..classes];
            let (largest, sum) = largest_and_sum(x.iter().copied());
            b.y[s] = class(b.x[1][s], classes).map_or(f64::NAN, |label| largest + sum.ln() - x[label]);
        }
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        let classes = b.shapes[0].size();
        for s in 0..b.n {
            let x = &b.x[0][s * classes..][..classes];
            let (largest, sum) = largest_and_sum(x.iter().copied());
            let label = class(b.x[1][s], classes);
            for (j, &x) in x.iter().enumerate() {
                let target = label.map_or(f64::NAN, |label| f64::from(u8::from(j == label)));
                b.dx[0][s * classes + j] += ((x - largest).exp() / sum - target) * b.dy[s];
            }
        }
    }

    fn forward(&self, _isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        let x = b.x[0];
        let (largest, sum) = largest_and_sum(x.iter().map(|&x| f64::from(x)));
        let label = class(f64::from(b.x[1][0]), x.len());
        b.y[0] = label.map_or(f32::NAN, |label| (largest - f64::from(x[label]) + sum.ln()) as f32);
        for (j, (saved, &x)) in b.saved.iter_mut().zip(x).enumerate() {
            let target = label.map_or(f64::NAN, |label| f64::from(u8::from(j == label)));
            *saved = ((f64::from(x) - largest).exp() / sum - target) as f32;
        }
    }

    fn backward(&self, _isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        let [dx, dlabel] = &mut b.dx;
        for (dx, &saved) in dx.iter_mut().zip(&*b.saved) {
            *dx = saved * b.dy[0];
        }
        dlabel.fill(0.0);
    }

    fn on_device(&self, batch: &Batch<'_>) -> Passes {
        let (n, classes) = (batch.n, batch.shapes[0].size());
        let count = n * classes;
        let forward = Launch::new("softmax_cross_entropy_forward", n, 32)
            .with(Operand::X(0))
            .with(Operand::X(1))
            .with(Operand::Y)
            .with(Operand::Saved)
            .int(n)
            .int(classes)
            .costs(2 * count + 2 * n, 40 * count as u64);
        let backward = Launch::over("softmax_cross_entropy_backward", count, 1)
            .with(Operand::Saved)
            .with(Operand::Dy)
            .with(Operand::Dx(0))
            .int(n)
            .int(classes)
            .costs(2 * count + n, count as u64);
        let no_gradient = Launch::over("fill", n, 4).with(Operand::Dx(1)).float(0.0).int(n).costs(n, 0);
        Passes {
            saved: classes,
            forward: vec![forward],
            backward: vec![backward.only_for(Operand::Dx(0)), no_gradient.only_for(Operand::Dx(1))],
            ..Passes::default()
        }
    }
}

/// Its cases.
pub fn cases() -> Vec<Case> {
    // At least two classes: the loss of a single one is constant.
    [(1, 2, 2), (1, 3, 5), (1, 12, 32), (1, 17, 1), (2, 8, 3)]
        .into_iter()
        .map(|(l, c, n)| {
            let logits = Shape::new(l, c);
            let mut case = Case::new(format!("n{n}_l{l}_c{c}"), SoftmaxCrossEntropy, &[logits]);
            case.inputs.push(Input { shape: Shape::new(1, 1), fill: Fill::Class(logits.size()) });
            Case { n, ..case }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::{Key, Stream};

    fn loss_and_saved(logits: &[f32], label: f32) -> (f32, Vec<f32>) {
        let (mut y, mut saved) = ([0.0], vec![0.0; logits.len()]);
        let mut b = Forward {
            shapes: [Shape::new(1, logits.len()), Shape::new(1, 1)],
            sample: 0,
            draw: Key::new(0, Stream::Case),
            x: [logits, &[label]],
            from: 0,
            y: &mut y,
            saved: &mut saved,
            scratch: &mut [],
            params: &[],
            state: &[],
            batch_saved: &[],
        };
        SoftmaxCrossEntropy.forward(Isa::best(), 0, &mut b);
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
    fn labels_of_more_than_one_number_are_refused() {
        let error = SoftmaxCrossEntropy.spec(&[Shape::new(1, 5), Shape::new(1, 5)]).unwrap_err().to_string();
        assert_eq!(error, "softmax_cross_entropy: its labels are 1 x 5; give one class number a sample, 1 x 1");
    }
}
