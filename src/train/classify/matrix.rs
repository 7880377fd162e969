//! Feature matrices in double precision: rows are clips, columns features.

/// Numbers that are multiplied at once; sums in as many parts let the compiler use vector registers.
const LANES: usize = 8;

/// Rows of numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Matrix {
    /// Features.
    pub(super) cols: usize,
    /// `[rows, cols]`.
    pub(super) values: Vec<f64>,
}

impl Matrix {
    pub(super) fn rows(&self) -> usize {
        self.values.len() / self.cols.max(1)
    }

    pub(super) fn row(&self, number: usize) -> &[f64] {
        &self.values[number * self.cols..][..self.cols]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.cols.max(1))
    }

    /// Features as rows: `[cols, rows]`.
    pub(super) fn transposed(&self) -> Matrix {
        let rows = self.rows();
        let values = (0..self.cols).flat_map(|col| (0..rows).map(move |row| self.values[row * self.cols + col]));
        Matrix { cols: rows, values: values.collect() }
    }
}

/// The square of the Euclidean distance.
pub(super) fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    let ((a, rest_of_a), (b, rest_of_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += (a[lane] - b[lane]) * (a[lane] - b[lane]);
        }
    }
    sums.iter().sum::<f64>() + rest_of_a.iter().zip(rest_of_b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>()
}

/// The number of the largest value, the first of equal ones.
pub(super) fn largest<T: PartialOrd>(values: &[T]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// Means and standard deviations of the features of training clips, with which all clips are standardised.
pub(super) struct Standardiser {
    mean: Vec<f64>,
    /// 1 over the standard deviation; 0 for a feature that is constant, which then says nothing of any clip.
    scale: Vec<f64>,
}

impl Standardiser {
    /// That of the rows of `training`.
    pub(super) fn of(training: &Matrix) -> Standardiser {
        let n = training.rows().max(1) as f64;
        let mut mean = vec![0.0; training.cols];
        for row in training.iter() {
            mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value / n);
        }
        let mut variance = vec![0.0; training.cols];
        for row in training.iter() {
            let deviations = row.iter().zip(&mean).map(|(value, mean)| value - mean);
            variance.iter_mut().zip(deviations).for_each(|(sum, deviation)| *sum += deviation * deviation / n);
        }
        // Below this the deviation is the rounding error of the mean.
        let least = |mean: f64| 1e-12 * mean.abs().max(f64::MIN_POSITIVE);
        let inverse = |(variance, &mean): (f64, &f64)| match variance.sqrt() {
            deviation if deviation > least(mean) => 1.0 / deviation,
            _ => 0.0,
        };
        let scale = variance.into_iter().zip(&mean).map(inverse).collect();
        Standardiser { mean, scale }
    }

    /// Brings every feature to mean 0 and standard deviation 1 on the training clips.
    pub(super) fn apply(&self, matrix: &mut Matrix) {
        for row in matrix.values.chunks_exact_mut(matrix.cols.max(1)) {
            for ((value, mean), scale) in row.iter_mut().zip(&self.mean).zip(&self.scale) {
                *value = (*value - mean) * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::dot::dot;

    #[test]
    fn sums_in_lanes_are_the_plain_sums() {
        for len in [0, 1, 7, 8, 9, 31] {
            let (a, b): (Vec<f64>, Vec<f64>) = (0..len).map(|i| (f64::from(i), f64::from(i * i - 3))).unzip();
            assert_eq!(dot(&a, &b), a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>());
            assert_eq!(squared_distance(&a, &b), a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f64>());
        }
        assert_eq!((largest(&[1, 3, 3]), largest::<u32>(&[])), (1, 0));
    }

    #[test]
    fn standardised_features_have_mean_0_and_deviation_1_and_constant_ones_are_0() {
        let mut training = Matrix { cols: 3, values: vec![1.0, 0.1, 5e8, 3.0, 0.1, -5e8, 5.0, 0.1, 0.0] };
        let standardiser = Standardiser::of(&training);
        standardiser.apply(&mut training);
        let columns = training.transposed();
        for col in [0, 2] {
            approx::assert_abs_diff_eq!(columns.row(col).iter().sum::<f64>(), 0.0, epsilon = 1e-12);
            approx::assert_abs_diff_eq!(dot(columns.row(col), columns.row(col)), 3.0, epsilon = 1e-12);
        }
        assert_eq!(columns.row(1), [0.0; 3]);
        let mut other = Matrix { cols: 3, values: vec![3.0, 7.0, 0.0] };
        standardiser.apply(&mut other);
        assert_eq!(other.values[1], 0.0, "a feature without spread in training is left out");
    }
}
