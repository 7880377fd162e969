//! Linear classifiers: multinomial logistic regression, and the linear support vector machine.
//!
//! **Computes** `argmax_k w_k x + b_k` with the weights that minimise `1/2 sum |w_k|^2 + C sum loss(z, y)`, `z_k = w_k x + b_k` over the training clips; biases are not penalised.
//! The loss of logistic regression is the cross-entropy of `softmax(z)`; that of the support vector machine `sum_k max(0, 1 - s_k z_k)^2` with `s_k = 1` for the label and -1 otherwise:
//! one machine per class against the rest with the squared hinge loss, the default of LIBLINEAR.
//! **Source** Fan et al., "LIBLINEAR: a library for large linear classification", JMLR 2008.

use super::matrix::{Matrix, largest};
use super::minimise::minimise;
use super::{Labelled, Tried};
use crate::base::dot::dot;
use rayon::prelude::*;

/// The values of C that are tried, from the smoothest classifier on.
const PENALTIES: [f64; 5] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0];
/// Parts of the training clips whose sums are computed at once; a fixed number, so that sums do not depend on the threads.
const PARTS: usize = 16;

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Cross-entropy.
    Logistic,
    /// Squared hinge, each class against the rest.
    SquaredHinge,
}

impl Loss {
    /// The loss of a clip, with its derivatives in place of the outputs `z`.
    fn of(self, z: &mut [f64], label: usize) -> f64 {
        match self {
            Loss::Logistic => {
                let most = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let of_label = z[label] - most;
                z.iter_mut().for_each(|z| *z = (*z - most).exp());
                let sum: f64 = z.iter().sum();
                z.iter_mut().for_each(|z| *z /= sum);
                z[label] -= 1.0;
                sum.ln() - of_label
            }
            Loss::SquaredHinge => {
                let mut loss = 0.0;
                for (class, z) in z.iter_mut().enumerate() {
                    let sign = if class == label { 1.0 } else { -1.0 };
                    let margin = (1.0 - sign * *z).max(0.0);
                    loss += margin * margin;
                    *z = -2.0 * sign * margin;
                }
                loss
            }
        }
    }
}

/// The weights of each class and its bias, `[classes, features + 1]`.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    weights: Vec<f64>,
    features: usize,
}

impl Linear {
    /// Predicts nothing yet.
    pub(super) fn new(features: usize, classes: usize) -> Linear {
        Linear { weights: vec![0.0; classes * (features + 1)], features }
    }

    /// Fits the weights, from those that are there.
    pub(super) fn fit(&mut self, training: &Labelled, loss: Loss, c: f64) {
        let features = self.features;
        minimise(&mut self.weights, |weights, gradient| objective(training, (loss, c), features, weights, gradient));
    }

    fn outputs(&self, row: &[f64]) -> Vec<f64> {
        self.weights
            .chunks_exact(self.features + 1)
            .map(|of| dot(&of[..self.features], row) + of[self.features])
            .collect()
    }

    /// The class of each row.
    pub(super) fn predict(&self, rows: &Matrix) -> Vec<u32> {
        rows.iter().map(|row| largest(&self.outputs(row)) as u32).collect()
    }
}

/// The function that is minimised, and its gradient.
fn objective(
    training: &Labelled,
    (loss, c): (Loss, f64),
    features: usize,
    weights: &[f64],
    gradient: &mut [f64],
) -> f64 {
    let n = training.labels.len();
    let classes = weights.len() / (features + 1);
    let of_part = |part: usize| {
        let mut sums = vec![0.0; weights.len()];
        let mut z = vec![0.0; classes];
        let mut value = 0.0;
        for clip in part * n / PARTS..(part + 1) * n / PARTS {
            let row = training.rows.row(clip);
            for (z, of) in z.iter_mut().zip(weights.chunks_exact(features + 1)) {
                *z = dot(&of[..features], row) + of[features];
            }
            value += loss.of(&mut z, training.labels[clip] as usize);
            for (&z, of) in z.iter().zip(sums.chunks_exact_mut(features + 1)) {
                if z != 0.0 {
                    of[..features].iter_mut().zip(row).for_each(|(sum, x)| *sum += z * x);
                    of[features] += z;
                }
            }
        }
        (value, sums)
    };
    let parts: Vec<(f64, Vec<f64>)> = (0..PARTS).into_par_iter().map(of_part).collect();
    let mut value = 0.0;
    gradient.fill(0.0);
    for (of_part, sums) in &parts {
        value += c * of_part;
        gradient.iter_mut().zip(sums).for_each(|(gradient, sum)| *gradient += c * sum);
    }
    for (of, gradient) in weights.chunks_exact(features + 1).zip(gradient.chunks_exact_mut(features + 1)) {
        value += 0.5 * dot(&of[..features], &of[..features]);
        gradient[..features].iter_mut().zip(of).for_each(|(gradient, w)| *gradient += w);
    }
    value
}

/// The predictions for `queries` with each value of C. The weights for one value are where the search for the next begins.
pub(super) fn predictions(training: &Labelled, queries: &Matrix, loss: Loss) -> Vec<Tried> {
    let mut linear = Linear::new(training.rows.cols, training.classes);
    let with = |c: f64| {
        linear.fit(training, loss, c);
        Tried { setting: format!("C = {c}"), predictions: linear.predict(queries) }
    };
    PENALTIES.into_iter().map(with).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::blobs;
    use super::*;

    #[test]
    fn gradients_are_those_of_central_differences() {
        let training = blobs(30, 4, 3, 1.5);
        let weights: Vec<f64> = (0..15).map(|i| f64::from(i * 7 % 11) / 11.0 - 0.5).collect();
        for loss in [Loss::Logistic, Loss::SquaredHinge] {
            let mut gradient = vec![0.0; 15];
            objective(&training, (loss, 0.3), 4, &weights, &mut gradient);
            for i in 0..15 {
                let at = |change: f64| {
                    let mut moved = weights.clone();
                    moved[i] += change;
                    objective(&training, (loss, 0.3), 4, &moved, &mut [0.0; 15])
                };
                let expected = (at(1e-5) - at(-1e-5)) / 2e-5;
                approx::assert_abs_diff_eq!(gradient[i], expected, epsilon = 1e-6 * (1.0 + expected.abs()));
            }
        }
    }

    #[test]
    fn logistic_regression_has_the_coefficients_of_smartcore() {
        use smartcore::linalg::basic::arrays::Array;
        use smartcore::linalg::basic::matrix::DenseMatrix;
        use smartcore::linear::logistic_regression::{LogisticRegression, LogisticRegressionParameters};
        let training = blobs(60, 3, 3, 1.5);
        let mut linear = Linear::new(3, 3);
        linear.fit(&training, Loss::Logistic, 0.5);
        let rows = DenseMatrix::new(60, 3, training.rows.values.clone(), false).unwrap();
        let parameters = LogisticRegressionParameters::default().with_alpha(2.0); // 1 / C
        let theirs = LogisticRegression::fit(&rows, &training.labels, parameters).unwrap();
        for class in 0..3 {
            for feature in 0..3 {
                let (ours, theirs) = (linear.weights[class * 4 + feature], theirs.coefficients().get((class, feature)));
                approx::assert_abs_diff_eq!(ours, *theirs, epsilon = 1e-3);
            }
        }
    }

    #[test]
    fn the_support_vector_machine_separates_what_can_be_separated() {
        let training = blobs(40, 2, 4, 0.2);
        let mut linear = Linear::new(2, 4);
        linear.fit(&training, Loss::SquaredHinge, 10.0);
        assert_eq!(linear.predict(&training.rows), training.labels);
    }
}
