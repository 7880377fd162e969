//! Mixup: a clip and its label are mixed with another clip of the batch.
//!
//! **Source**: H. Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018. The gamma distribution: G. Marsaglia, W. W. Tsang, "A
//! simple method for generating gamma variables", ACM TOMS 26, 2000.

use crate::base::rng::Key;

/// Candidates after which the sampler takes the mode; the probability of that is below 1e-60.
const MAX_CANDIDATES: u64 = 64;

/// A number from Beta(`alpha`, `alpha`), `alpha` > 0, as `x / (x + y)` of two numbers from the gamma distribution.
pub(super) fn beta(key: Key, alpha: f64) -> f64 {
    let alpha = alpha.max(1e-6); // a smaller one gives 0 or 1 as well, and infinite logarithms
    let difference = ln_gamma_variate(key.with(1), alpha) - ln_gamma_variate(key.with(0), alpha);
    // The logarithms of small numbers are exact where the numbers themselves would be zero.
    1.0 / (1.0 + difference.exp())
}

/// The logarithm of a number from Gamma(`shape`, 1): that of Gamma(`shape` + 1, 1) times `u^(1 / shape)`.
fn ln_gamma_variate(key: Key, shape: f64) -> f64 {
    let d = shape + 1.0 - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    let candidate = |i: u64| {
        let x = key.normal(2 * i); // of the numbers 4 i and 4 i + 1
        let v = (1.0 + c * x).powi(3);
        let u = 1.0 - key.uniform(4 * i + 2);
        (v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln()).then(|| d.ln() + v.ln())
    };
    let value = (0..MAX_CANDIDATES).find_map(candidate).unwrap_or(d.ln());
    value + (1.0 - key.with(0).uniform(0)).ln() / shape
}

/// Mixes each row of `rows`, of `len` values each, with the row after it in `order`, the last with the first: row `i` becomes `share(i)` of itself and the rest of
/// the other. `saved` is reused.
pub(super) fn mix(rows: &mut [f32], len: usize, order: &[u32], share: impl Fn(usize) -> f32, saved: &mut Vec<f32>) {
    let [first, others @ ..] = order else { return };
    if others.is_empty() || len == 0 {
        return;
    }
    let first = *first as usize;
    saved.clear();
    saved.extend_from_slice(&rows[first * len..(first + 1) * len]);
    let mut at = first;
    for &next in others {
        let next = next as usize;
        // Rows are different items of a permutation, so the two ranges do not overlap.
        let (row, other) = match at < next {
            true => {
                let (before, after) = rows.split_at_mut(next * len);
                (&mut before[at * len..(at + 1) * len], &after[..len])
            }
            false => {
                let (before, after) = rows.split_at_mut(at * len);
                (&mut after[..len], &before[next * len..(next + 1) * len])
            }
        };
        mix_row(row, other, share(at));
        at = next;
    }
    mix_row(&mut rows[at * len..(at + 1) * len], saved, share(at));
}

fn mix_row(row: &mut [f32], other: &[f32], share: f32) {
    let rest = 1.0 - share;
    row.iter_mut().zip(other).for_each(|(x, &other)| *x = share * *x + rest * other);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Stream;

    #[test]
    fn beta_has_its_mean_and_variance() {
        let key = Key::new(2, Stream::Case);
        for alpha in [0.1, 0.2, 0.5, 1.0, 2.0, 8.0, 100.0] {
            let n = 20_000;
            let values: Vec<f64> = (0..n).map(|i| beta(key.with(i), alpha)).collect();
            assert!(values.iter().all(|v| (0.0..=1.0).contains(v)));
            let mean = values.iter().sum::<f64>() / n as f64;
            let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n as f64;
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            // Five standard errors.
            assert!((mean - 0.5).abs() < 5.0 * (expected / n as f64).sqrt(), "{alpha}: mean {mean}");
            assert!((variance / expected - 1.0).abs() < 0.05, "{alpha}: variance {variance} for {expected}");
        }
    }

    #[test]
    fn beta_of_a_tiny_parameter_is_zero_or_one() {
        let key = Key::new(2, Stream::Case);
        let values: Vec<f64> = (0..100).map(|i| beta(key.with(i), 1e-6)).collect();
        assert!(values.iter().all(|&v| !(0.001..=0.999).contains(&v)));
        assert!((20..80).contains(&values.iter().filter(|&&v| v > 0.5).count()));
    }

    #[test]
    fn each_row_is_mixed_with_the_row_after_it_as_both_were() {
        let mut rows = vec![1.0, 10.0, 2.0, 20.0, 4.0, 40.0, 8.0, 80.0];
        let shares = [0.75, 0.5, 1.0, 0.0];
        mix(&mut rows, 2, &[2, 0, 3, 1], |i| shares[i], &mut Vec::new());
        // 2 with 0, 0 with 3, 3 with 1, 1 with 2
        assert_eq!(rows, [0.75 + 2.0, 7.5 + 20.0, 1.0 + 2.0, 10.0 + 20.0, 4.0, 40.0, 2.0, 20.0]);
        let mut single = vec![3.0];
        mix(&mut single, 1, &[0], |_| 0.5, &mut Vec::new());
        mix(&mut single, 1, &[], |_| 0.5, &mut Vec::new());
        assert_eq!(single, [3.0]);
    }
}
