//! The largest eigenvalues of a symmetric matrix with their eigenvectors: subspace iteration with Rayleigh-Ritz projections.
//!
//! **Source**: Golub and Van Loan, "Matrix Computations", 4th edition, sections 8.2.4 (orthogonal iteration) and 8.5 (Jacobi). The order of every sum is fixed, so that the bits do not depend on
//! the number of threads.

use crate::base::dot::dot;
use crate::base::rng::{Key, Stream};
use rayon::prelude::*;

/// Up to this size all eigenvectors are computed at once, by Jacobi rotations.
const SMALL: usize = 48;
/// Vectors of the iteration beyond those that are asked for: the error shrinks by the ratio of the first eigenvalue left out to the last one asked for.
const MORE: usize = 14;
/// The most iterations; only eigenvalues that are nearly equal need so many, and then any of their eigenvectors will do.
const ITERATIONS: usize = 500;
/// The largest residual `|A v - lambda v|`, relative to the largest eigenvalue.
const TOLERANCE: f64 = 1e-11;
/// Sweeps of Jacobi rotations; convergence is quadratic.
const SWEEPS: usize = 40;

/// An eigenvalue with its eigenvector of length 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Eigenpair {
    pub(super) value: f64,
    pub(super) vector: Vec<f64>,
}

/// The `count` largest eigenvalues of the symmetric matrix `a`, `[n, n]`, which has no negative ones, from the largest on; at most `n`.
pub(super) fn largest(a: &[f64], n: usize, count: usize) -> Vec<Eigenpair> {
    if n == 0 {
        return Vec::new();
    }
    let width = if n <= SMALL { n } else { n.min(count + MORE) };
    let key = Key::new(0, Stream::Case);
    let mut basis: Vec<Vec<f64>> = (0..width).map(|i| unit_or_random(n, width, i, key)).collect();
    let mut pairs = Vec::new();
    for _ in 0..ITERATIONS {
        orthonormalise(&mut basis, key);
        let images: Vec<Vec<f64>> = basis.par_iter().map(|v| product(a, v)).collect();
        pairs = project(&basis, &images);
        // The images of the eigenvectors, by the same combination as the eigenvectors themselves.
        let most = pairs[0].0.abs();
        let done = pairs.iter().take(count).all(|(value, combination)| {
            let vector = combined(&basis, combination);
            let image = combined(&images, combination);
            let residual: f64 = image.iter().zip(&vector).map(|(image, v)| (image - value * v).powi(2)).sum();
            residual.sqrt() <= TOLERANCE * most
        });
        if done || width == n {
            break;
        }
        basis = images;
    }
    let pairs = pairs.into_iter().take(count);
    pairs.map(|(value, combination)| Eigenpair { value, vector: combined(&basis, &combination) }).collect()
}

/// A vector of the first basis: the whole space by its unit vectors, or a random part of it.
fn unit_or_random(n: usize, width: usize, number: usize, key: Key) -> Vec<f64> {
    let random = |i: usize| key.with(number as u64).normal(i as u64);
    (0..n).map(|i| if width == n { f64::from(u8::from(i == number)) } else { random(i) }).collect()
}

fn product(a: &[f64], v: &[f64]) -> Vec<f64> {
    a.chunks_exact(v.len()).map(|row| dot(row, v)).collect()
}

fn combined(basis: &[Vec<f64>], combination: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; basis[0].len()];
    for (vector, &share) in basis.iter().zip(combination) {
        sum.iter_mut().zip(vector).for_each(|(sum, v)| *sum += share * v);
    }
    sum
}

/// Makes the vectors orthogonal and of length 1 (Gram-Schmidt, twice); one that depends on those before it is replaced by a random one.
fn orthonormalise(basis: &mut [Vec<f64>], key: Key) {
    for i in 0..basis.len() {
        let (before, rest) = basis.split_at_mut(i);
        let vector = &mut rest[0];
        for attempt in 0..3 {
            let length = dot(vector, vector).sqrt();
            for _ in 0..2 {
                for other in &*before {
                    let share = dot(vector, other);
                    vector.iter_mut().zip(other).for_each(|(v, other)| *v -= share * other);
                }
            }
            let left = dot(vector, vector).sqrt();
            if left > 1e-10 * length {
                vector.iter_mut().for_each(|v| *v /= left);
                break;
            }
            let key = key.with((attempt + 1) << 32 | i as u64);
            vector.iter_mut().enumerate().for_each(|(at, v)| *v = key.normal(at as u64));
        }
    }
}

/// The eigenvalues within the subspace, from the largest on, with the combination of the basis that gives each eigenvector.
fn project(basis: &[Vec<f64>], images: &[Vec<f64>]) -> Vec<(f64, Vec<f64>)> {
    let n = basis.len();
    let mut small: Vec<f64> = (0..n * n).into_par_iter().map(|at| dot(&basis[at / n], &images[at % n])).collect();
    for i in 0..n {
        for j in 0..i {
            let mean = (small[i * n + j] + small[j * n + i]) / 2.0;
            (small[i * n + j], small[j * n + i]) = (mean, mean);
        }
    }
    let mut vectors = jacobi(&mut small, n);
    vectors.sort_by(|a, b| b.0.total_cmp(&a.0));
    vectors
}

/// All eigenvalues of the symmetric matrix `a`, `[n, n]`, with their eigenvectors, by Jacobi rotations.
fn jacobi(a: &mut [f64], n: usize) -> Vec<(f64, Vec<f64>)> {
    // Rows are eigenvectors.
    let mut vectors: Vec<f64> = (0..n * n).map(|at| f64::from(u8::from(at / n == at % n))).collect();
    let size = dot(a, a).sqrt();
    for _ in 0..SWEEPS {
        let beside: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * n + j].powi(2)).sum();
        if beside.sqrt() <= 1e-15 * size {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(a, &mut vectors, n, [p, q]);
            }
        }
    }
    let rows = vectors.chunks_exact(n.max(1));
    rows.enumerate().map(|(i, row)| (a[i * n + i], row.to_vec())).collect()
}

/// The rotation of the plane of `p` and `q` that makes their element zero.
fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, [p, q]: [usize; 2]) {
    let beside = a[p * n + q];
    if beside == 0.0 {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * beside);
    let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let cos = 1.0 / t.hypot(1.0);
    let sin = t * cos;
    for k in 0..n {
        let (kp, kq) = (a[k * n + p], a[k * n + q]);
        (a[k * n + p], a[k * n + q]) = (cos * kp - sin * kq, sin * kp + cos * kq);
    }
    for rows in [a, vectors] {
        for k in 0..n {
            let (pk, qk) = (rows[p * n + k], rows[q * n + k]);
            (rows[p * n + k], rows[q * n + k]) = (cos * pk - sin * qk, sin * pk + cos * qk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `V^T D V` of random orthogonal rows `V`, with these eigenvalues.
    fn matrix(values: &[f64]) -> (Vec<f64>, Vec<Vec<f64>>) {
        let (n, key) = (values.len(), Key::new(3, Stream::Case));
        let mut vectors: Vec<Vec<f64>> = (0..n).map(|i| unit_or_random(n, 0, i, key.with(9))).collect();
        orthonormalise(&mut vectors, key);
        let element = |at: usize| (0..n).map(|k| values[k] * vectors[k][at / n] * vectors[k][at % n]).sum();
        ((0..n * n).map(element).collect(), vectors)
    }

    #[test]
    fn eigenvectors_are_those_the_matrix_was_made_from() {
        for n in [1, 2, 7, SMALL, SMALL + 1, 90] {
            let values: Vec<f64> = (0..n).map(|i| 5.0 * 0.8f64.powi(i as i32)).collect();
            let (a, vectors) = matrix(&values);
            let found = largest(&a, n, 3);
            assert_eq!(found.len(), n.min(3));
            for (i, pair) in found.iter().enumerate() {
                approx::assert_relative_eq!(pair.value, values[i], max_relative = 1e-9);
                approx::assert_abs_diff_eq!(dot(&pair.vector, &vectors[i]).abs(), 1.0, epsilon = 1e-9);
            }
        }
    }

    #[test]
    fn equal_eigenvalues_and_missing_rank_give_orthogonal_vectors() {
        let of = |ones: usize, n: usize| matrix(&(0..n).map(|i| f64::from(u8::from(i < ones))).collect::<Vec<_>>()).0;
        for (a, n, values) in
            [(of(60, 60), 60, [1.0, 1.0]), (of(1, 70), 70, [1.0, 0.0]), (vec![0.0; 3600], 60, [0.0; 2])]
        {
            let found = largest(&a, n, 2);
            for (pair, value) in found.iter().zip(values) {
                approx::assert_abs_diff_eq!(pair.value, value, epsilon = 1e-9);
                approx::assert_abs_diff_eq!(dot(&pair.vector, &pair.vector), 1.0, epsilon = 1e-9);
            }
            approx::assert_abs_diff_eq!(dot(&found[0].vector, &found[1].vector), 0.0, epsilon = 1e-9);
        }
        assert!(largest(&[], 0, 2).is_empty());
    }
}
