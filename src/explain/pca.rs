//! Principal component analysis: the directions in which the features of clips vary most.
//!
//! **Source**: Jolliffe, "Principal Component Analysis", 2nd edition, 2002, chapters 1 and 3. Computed in double precision, without approximation of the data.

use super::eigen::{Eigenpair, largest};
use super::error::ExplainError;
use crate::base::dot::dot;
use crate::train::TrainError;
use rayon::prelude::*;

/// Components with less than this share of the variance are rounding errors.
const LEAST_SHARE: f64 = 1e-14;

/// The principal components of the features of clips.
#[derive(Clone, Debug, PartialEq)]
pub struct Pca {
    /// The mean of each feature.
    pub mean: Vec<f64>,
    /// The components, each with one number for each feature and length 1, from the largest variance on; the number with the largest magnitude is positive. A component without variance is zero.
    pub components: Vec<Vec<f64>>,
    /// The variance of the clips along each component, divided by clips minus 1.
    pub variances: Vec<f64>,
    /// The share of the whole variance that each component has; 0 if all clips are equal.
    pub shares: Vec<f64>,
    /// The coordinates of each clip along the components, `[clips][components]`.
    pub coordinates: Vec<Vec<f64>>,
}

impl Pca {
    /// The first `count` components of `features`, `[clips, size]`.
    ///
    /// # Errors
    /// There are no clips, the array is not a whole number of clips, or a feature is not finite.
    pub fn new(features: &[f32], size: usize, count: usize) -> Result<Pca, ExplainError> {
        let (mean, rows) = centred(features, size)?;
        let clips = rows.len() / size;
        let freedom = (clips - 1).max(1) as f64;
        let total: f64 = rows.chunks_exact(size).map(|row| dot(row, row)).sum::<f64>() / freedom;
        // The smaller of covariance matrix and Gram matrix: their eigenvalues other than 0 are the same.
        let mut pairs = if size <= clips {
            largest(&products(&transposed(&rows, size), clips, freedom), size, count)
        } else {
            let pairs = largest(&products(&rows, size, freedom), clips, count);
            pairs.into_iter().map(|pair| in_features(&rows, size, pair)).collect()
        };
        pairs.resize(count, Eigenpair { value: 0.0, vector: vec![0.0; size] });
        for Eigenpair { value, vector } in &mut pairs {
            if *value <= LEAST_SHARE * total {
                *value = 0.0;
                vector.fill(0.0);
            }
            fix_sign(vector);
        }
        let share = |pair: &Eigenpair| if total > 0.0 { pair.value / total } else { 0.0 };
        Ok(Pca {
            mean,
            variances: pairs.iter().map(|pair| pair.value).collect(),
            shares: pairs.iter().map(share).collect(),
            coordinates: rows
                .chunks_exact(size)
                .map(|row| pairs.iter().map(|pair| dot(row, &pair.vector)).collect())
                .collect(),
            components: pairs.into_iter().map(|pair| pair.vector).collect(),
        })
    }
}

/// The means of the features, and the features without them.
pub(super) fn centred(features: &[f32], size: usize) -> Result<(Vec<f64>, Vec<f64>), ExplainError> {
    let clips = features.len() / size.max(1);
    if clips == 0 || size == 0 {
        return Err(ExplainError::NoClips);
    }
    if clips * size != features.len() {
        let expected = (clips + 1) * size;
        return Err(TrainError::WrongLength { what: "the features", expected, got: features.len() }.into());
    }
    if let Some(at) = features.iter().position(|value| !value.is_finite()) {
        return Err(ExplainError::NotFinite { clip: at / size });
    }
    let mut mean = vec![0.0; size];
    for row in features.chunks_exact(size) {
        mean.iter_mut().zip(row).for_each(|(mean, &value)| *mean += f64::from(value));
    }
    mean.iter_mut().for_each(|mean| *mean /= clips as f64);
    let rows = features.chunks_exact(size).flat_map(|row| row.iter().zip(&mean).map(|(&v, mean)| f64::from(v) - mean));
    let rows = rows.collect();
    Ok((mean, rows))
}

fn transposed(rows: &[f64], size: usize) -> Vec<f64> {
    let clips = rows.len() / size;
    (0..size).flat_map(|col| (0..clips).map(move |row| rows[row * size + col])).collect()
}

/// The products of all rows of length `len` with each other, divided by `freedom`.
fn products(rows: &[f64], len: usize, freedom: f64) -> Vec<f64> {
    let n = rows.len() / len;
    let mut all = vec![0.0; n * n];
    all.par_chunks_exact_mut(n).enumerate().for_each(|(i, line)| {
        for (to, other) in line[..=i].iter_mut().zip(rows.chunks_exact(len)) {
            *to = dot(&rows[i * len..][..len], other) / freedom;
        }
    });
    for i in 0..n {
        for j in 0..i {
            all[j * n + i] = all[i * n + j];
        }
    }
    all
}

/// The component that belongs to an eigenvector of the Gram matrix, which has one number for each clip.
fn in_features(rows: &[f64], size: usize, Eigenpair { value, vector }: Eigenpair) -> Eigenpair {
    let mut component = vec![0.0; size];
    for (row, share) in rows.chunks_exact(size).zip(&vector) {
        component.iter_mut().zip(row).for_each(|(sum, v)| *sum += share * v);
    }
    let length = dot(&component, &component).sqrt();
    if length > 0.0 {
        component.iter_mut().for_each(|v| *v /= length);
    }
    Eigenpair { value, vector: component }
}

/// Makes the number with the largest magnitude positive; of nearly equal ones the first decides.
fn fix_sign(vector: &mut [f64]) {
    let most = vector.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
    let leading = vector.iter().find(|v| v.abs() >= most * (1.0 - 1e-9));
    if leading.is_some_and(|&v| v < 0.0) {
        vector.iter_mut().for_each(|v| *v = -*v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_with_few_clips_and_with_few_features() {
        // Clips along (3, -4) / 5 around (1, 1); then the same with many constant features.
        for constants in [0, 9] {
            let row = |t: f32| [1.0 + 3.0 * t, 1.0 - 4.0 * t].into_iter().chain(std::iter::repeat_n(7.0, constants));
            let features: Vec<f32> = [-1.0, 0.0, 1.0].into_iter().flat_map(row).collect();
            let pca = Pca::new(&features, 2 + constants, 2).unwrap();
            approx::assert_abs_diff_eq!(pca.components[0][..2], [-0.6, 0.8][..], epsilon = 1e-12);
            approx::assert_abs_diff_eq!(pca.variances[..], [25.0, 0.0][..], epsilon = 1e-12);
            approx::assert_abs_diff_eq!(pca.shares[..], [1.0, 0.0][..], epsilon = 1e-12);
            let x: Vec<f64> = pca.coordinates.iter().map(|at| at[0]).collect();
            approx::assert_abs_diff_eq!(x[..], [5.0, 0.0, -5.0][..], epsilon = 1e-12);
            assert!(pca.components[1].iter().all(|&v| v == 0.0) && pca.coordinates.iter().all(|at| at[1] == 0.0));
        }
    }

    #[test]
    fn few_or_equal_clips_have_zero_coordinates_and_bad_features_are_named() {
        for (features, size) in [(vec![1.0, 2.0], 2), (vec![0.1; 12], 3), (vec![0.1; 12], 6)] {
            let pca = Pca::new(&features, size, 2).unwrap();
            assert!(pca.coordinates.iter().flatten().all(|v| v.abs() < 1e-7), "{:?}", pca.coordinates);
            assert_eq!(pca.coordinates.len(), features.len() / size);
        }
        assert!(matches!(Pca::new(&[], 2, 2), Err(ExplainError::NoClips)));
        assert!(matches!(Pca::new(&[1.0], 0, 2), Err(ExplainError::NoClips)));
        assert!(matches!(Pca::new(&[0.0, 1.0, 2.0, f32::NAN], 2, 2), Err(ExplainError::NotFinite { clip: 1 })));
        assert!(matches!(Pca::new(&[0.0; 3], 2, 2), Err(ExplainError::Train(TrainError::WrongLength { .. }))));
    }
}
