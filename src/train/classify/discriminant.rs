//! Linear discriminant analysis: normal distributions with one covariance matrix for all classes.
//!
//! **Computes** `argmax_k w_k x - 1/2 w_k m_k + ln p_k` with the means `m_k` of the classes, `S w_k = m_k`, and the shares `p_k` of the classes among the training clips. `S` is the covariance
//! matrix within the classes, shrunk towards a multiple of the identity, `(1 - g) S + g (trace S / d) I`, which makes it positive definite.
//! **Source** Hastie, Tibshirani and Friedman, "The elements of statistical learning", 2nd edition, 2009, section 4.3; Ledoit and Wolf, "A well-conditioned estimator for
//! large-dimensional covariance matrices", 2004. smartcore has the analysis for the reduction of dimensions only; its Cholesky decomposition solves the equations here.

use super::matrix::{Matrix, largest};
use super::{Labelled, Tried};
use crate::base::dot::dot;
use rayon::prelude::*;
use smartcore::error::Failed;
use smartcore::linalg::basic::arrays::Array;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linalg::traits::cholesky::CholeskyDecomposable;

/// The values of the shrinkage `g` that are tried, from the smoothest classifier on.
const SHRINKAGES: [f64; 5] = [0.5, 0.2, 0.1, 0.01, 0.001];

/// What is computed once for all values of the shrinkage.
struct Moments {
    /// The classes that have training clips.
    classes: Vec<u32>,
    /// Their means.
    means: Matrix,
    /// The logarithm of their share.
    shares: Vec<f64>,
    /// The covariance matrix within the classes, `[features, features]`.
    within: Matrix,
}

impl Moments {
    fn of(training: &Labelled) -> Moments {
        let (n, cols) = (training.labels.len(), training.rows.cols);
        let mut counts = vec![0usize; training.classes];
        training.labels.iter().for_each(|&label| counts[label as usize] += 1);
        let mut means = vec![0.0; training.classes * cols];
        for (row, &label) in training.rows.iter().zip(&training.labels) {
            let (mean, count) = (&mut means[label as usize * cols..][..cols], counts[label as usize] as f64);
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value / count);
        }
        let mut centred = training.rows.clone();
        for (row, &label) in centred.values.chunks_exact_mut(cols).zip(&training.labels) {
            row.iter_mut().zip(&means[label as usize * cols..]).for_each(|(value, mean)| *value -= mean);
        }
        let features = centred.transposed();
        let row =
            |i: usize| (0..cols).map(move |j| (i, j)).map(|(i, j)| dot(features.row(i), features.row(j)) / n as f64);
        let within = (0..cols).into_par_iter().flat_map_iter(row).collect();
        let present: Vec<usize> = (0..training.classes).filter(|&class| counts[class] > 0).collect();
        Moments {
            classes: present.iter().map(|&class| class as u32).collect(),
            means: Matrix {
                cols,
                values: present.iter().flat_map(|&class| means[class * cols..][..cols].to_vec()).collect(),
            },
            shares: present.iter().map(|&class| (counts[class] as f64 / n as f64).ln()).collect(),
            within: Matrix { cols, values: within },
        }
    }

    /// The weights of each class, `[classes, features]`, and its constant.
    fn solve(&self, shrinkage: f64) -> Result<(Matrix, Vec<f64>), Failed> {
        let cols = self.within.cols;
        let trace: f64 = (0..cols).map(|i| self.within.row(i)[i]).sum();
        // Clips that agree in all features have no covariance: any positive number does.
        let identity = if trace > 0.0 { shrinkage * trace / cols as f64 } else { 1.0 };
        let mut values: Vec<f64> = self.within.values.iter().map(|value| (1.0 - shrinkage) * value).collect();
        (0..cols).for_each(|i| values[i * (cols + 1)] += identity);
        let matrix = DenseMatrix::new(cols, cols, values, false)?;
        let means = DenseMatrix::new(cols, self.classes.len(), self.means.values.clone(), true)?; // columns are means
        let solved = matrix.cholesky_solve_mut(means)?;
        let numbers = (0..self.classes.len()).flat_map(|class| (0..cols).map(move |feature| (feature, class)));
        let weights = Matrix { cols, values: numbers.map(|at| *solved.get(at)).collect() };
        let constant = |class: usize| self.shares[class] - 0.5 * dot(weights.row(class), self.means.row(class));
        let constants = (0..self.classes.len()).map(constant).collect();
        Ok((weights, constants))
    }
}

/// The predictions for `queries` with each value of the shrinkage.
pub(super) fn predictions(training: &Labelled, queries: &Matrix) -> Result<Vec<Tried>, Failed> {
    let moments = Moments::of(training);
    let with = |shrinkage: f64| -> Result<Tried, Failed> {
        let (weights, constants) = moments.solve(shrinkage)?;
        let class = |row: &[f64]| {
            let scores: Vec<f64> =
                weights.iter().zip(&constants).map(|(of, constant)| dot(of, row) + constant).collect();
            moments.classes[largest(&scores)]
        };
        Ok(Tried { setting: format!("shrinkage = {shrinkage}"), predictions: queries.iter().map(class).collect() })
    };
    SHRINKAGES.into_par_iter().map(with).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::blobs;
    use super::*;

    #[test]
    fn weights_follow_from_the_covariance() {
        // Two classes on two features with the covariance [[1, 0], [0, 4]] within each, means (0, 0) and (2, 4).
        let corner = |x: f64, y: f64| [[x - 1.0, y - 2.0], [x - 1.0, y + 2.0], [x + 1.0, y - 2.0], [x + 1.0, y + 2.0]];
        let rows: Vec<f64> = [corner(0.0, 0.0), corner(2.0, 4.0)].concat().concat();
        let rows = Matrix { cols: 2, values: rows };
        let training = Labelled { rows, labels: vec![0, 0, 0, 0, 1, 1, 1, 1], classes: 2 };
        let (weights, constants) = Moments::of(&training).solve(0.0).unwrap();
        for (got, expected) in weights.values.iter().zip([0.0, 0.0, 2.0, 1.0]) {
            approx::assert_abs_diff_eq!(*got, expected, epsilon = 1e-12);
        }
        approx::assert_abs_diff_eq!(constants[1], 0.5f64.ln() - 4.0, epsilon = 1e-12);
    }

    #[test]
    fn features_that_say_the_same_and_classes_without_clips_are_no_obstacle() {
        let mut training = blobs(30, 2, 2, 0.3);
        let doubled = training.rows.iter().flat_map(|row| [row[0], row[1], row[0], 0.0]).collect();
        training.rows = Matrix { cols: 4, values: doubled };
        training.classes = 3;
        for tried in predictions(&training, &training.rows).unwrap() {
            assert_eq!(tried.predictions, training.labels, "{}", tried.setting);
        }
        // All clips are equal.
        let equal = Labelled { rows: Matrix { cols: 1, values: vec![0.0; 4] }, labels: vec![0, 1, 1, 1], classes: 2 };
        assert!(predictions(&equal, &equal.rows).unwrap().iter().all(|tried| tried.predictions == [1; 4]));
    }
}
