//! Intervals and quantiles for accuracies.

use crate::base::rng::{Key, Stream};
use serde::Serialize;

/// Quantile of the standard normal distribution that leaves 2.5 % above it.
const NORMAL_975: f64 = 1.959_963_985;

/// The 95 % interval of a share, `right` of `all` independent trials (Wilson, "Probable inference", JASA 1927).
pub(crate) fn wilson(right: u64, all: u64) -> [f64; 2] {
    if all == 0 {
        return [0.0, 1.0];
    }
    const Z: f64 = NORMAL_975;
    let (n, p) = (all as f64, right as f64 / all as f64);
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    [(centre - half).max(0.0), (centre + half).min(1.0)]
}

/// The exact 95 % interval of the mean of a Poisson distribution of which `count` was observed (Garwood, "Fiducial limits for the Poisson distribution",
/// Biometrika 1936).
pub(crate) fn poisson(count: u64) -> [f64; 2] {
    // The probability of at most `most` events if `mean` are expected.
    let at_most = |most: u64, mean: f64| {
        let mut log = -mean;
        (0..=most)
            .map(|k| {
                log += if k == 0 { 0.0 } else { (mean / k as f64).ln() };
                log.exp()
            })
            .sum::<f64>()
    };
    let solve = |holds: &dyn Fn(f64) -> bool| {
        let (mut low, mut high) = (0.0, 2.0 * count as f64 + 20.0);
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if holds(middle) { low = middle } else { high = middle }
        }
        low
    };
    let low = if count == 0 { 0.0 } else { solve(&|mean| 1.0 - at_most(count - 1, mean) < 0.025) };
    [low, solve(&|mean| at_most(count, mean) > 0.025)]
}

/// The quantile of order `q`, 0 to 1, of values in ascending order, interpolated linearly between two of them (definition 7 of
/// Hyndman and Fan, "Sample quantiles in statistical packages", 1996); 0 without values.
pub(super) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = q.clamp(0.0, 1.0) * last as f64;
    let low = (at as usize).min(last);
    let high = (low + 1).min(last);
    sorted[low] + (at - low as f64) * (sorted[high] - sorted[low])
}

/// Resamples of the bootstrap.
const RESAMPLES: u64 = 2_000;

/// The 95 % interval of a mean over clips that are not independent, from resamples of whole groups, each with its clips and the sum of their
/// values (the cluster bootstrap: Davison and Hinkley, "Bootstrap methods and their application", 1997, section 3.8). The random numbers have
/// a fixed seed, so that equal groups give an equal interval.
pub(super) fn bootstrap(groups: &[(u64, f64)]) -> [f64; 2] {
    let key = Key::new(1, Stream::Resample);
    let resample = |number: u64| {
        let key = key.with(number);
        let (mut clips, mut sum) = (0, 0.0);
        for draw in 0..groups.len() as u64 {
            let of = groups[key.below(draw, groups.len() as u64) as usize];
            clips += of.0;
            sum += of.1;
        }
        sum / clips.max(1) as f64
    };
    let mut means: Vec<f64> = (0..RESAMPLES).map(resample).collect();
    means.sort_by(f64::total_cmp);
    [0.025, 0.975].map(|q| quantile(&means, q))
}

/// The exact two-sided p value of McNemar's test: of `first + second` clips that one of two networks recognises and the other does not, as
/// many fall to each if they are equally good (McNemar, "Note on the sampling error of the difference between correlated proportions",
/// Psychometrika 1947; with the binomial distribution in place of its approximation).
pub(super) fn mcnemar(first: u64, second: u64) -> f64 {
    let (n, least) = (first + second, first.min(second));
    if first == second {
        return 1.0;
    }
    // ln C(n, k) - n ln 2, for k = 0 first.
    let mut term = -(n as f64) * std::f64::consts::LN_2;
    let mut sum = term.exp();
    for k in 0..least {
        term += ((n - k) as f64).ln() - ((k + 1) as f64).ln();
        sum += term.exp();
    }
    (2.0 * sum).min(1.0)
}

/// The p values of several tests, adjusted so that the probability of at least one false discovery is at most the level that they are compared
/// with (Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979).
pub(super) fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut largest = 0.0f64;
    for (rank, &i) in order.iter().enumerate() {
        largest = largest.max(((p.len() - rank) as f64 * p[i]).min(1.0));
        adjusted[i] = largest;
    }
    adjusted
}

/// The mean of some values, and how far it is known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// The standard deviation of a value, with n - 1 in the denominator; none of a single value.
    pub standard_deviation: Option<f64>,
    /// The 95 % interval of the mean by Student's t distribution, for values from a normal distribution; none of a single value.
    pub interval: Option<[f64; 2]>,
}

impl Mean {
    /// The mean of `values`; 0 if there are none.
    pub fn of(values: &[f64]) -> Mean {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n.max(1.0);
        if values.len() < 2 {
            return Mean { mean, standard_deviation: None, interval: None };
        }
        let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        let half = t_975(values.len() as u64 - 1) * deviation / n.sqrt();
        Mean { mean, standard_deviation: Some(deviation), interval: Some([mean - half, mean + half]) }
    }
}

/// The quantile of Student's t distribution with `freedom` degrees of freedom, at least 1, that leaves 2.5 % above it.
fn t_975(freedom: u64) -> f64 {
    if freedom > 10_000 {
        return NORMAL_975; // the difference is below 0.0003
    }
    let (mut low, mut high) = (1.0, 13.0);
    while high - low > 1e-12 * high {
        let middle = 0.5 * (low + high);
        if within(middle, freedom) < 0.95 { low = middle } else { high = middle }
    }
    high
}

/// The probability that a t distributed number has at most the magnitude `t` (Abramowitz and Stegun, "Handbook of mathematical
/// functions", 26.7.3 and 26.7.4).
fn within(t: f64, freedom: u64) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sin, cos) = angle.sin_cos();
    let odd = freedom % 2;
    // The terms cos^odd, cos^(odd + 2), .. up to cos^(freedom - 2).
    let (mut term, mut sum) = (if odd == 1 { cos } else { 1.0 }, 0.0);
    for k in (odd..freedom.saturating_sub(1)).step_by(2) {
        sum += term;
        term *= (k + 1) as f64 / (k + 2) as f64 * cos * cos;
    }
    if odd == 1 { std::f64::consts::FRAC_2_PI * (angle + sin * sum) } else { sin * sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_poisson_interval_is_that_of_the_tables() {
        // Pearson and Hartley, "Biometrika tables for statisticians", table 40.
        for (count, table) in [(0, [0.0, 3.689]), (1, [0.0253, 5.572]), (10, [4.795, 18.39]), (50, [37.11, 65.92])] {
            let found = poisson(count);
            assert!(found.iter().zip(table).all(|(a, b)| (a - b).abs() < 0.006), "{count}: {found:?}");
        }
    }

    #[test]
    fn the_interval_is_wilsons() {
        // Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I: 81 of 263.
        let [low, high] = wilson(81, 263);
        approx::assert_abs_diff_eq!(low, 0.2553, epsilon = 5e-5);
        approx::assert_abs_diff_eq!(high, 0.3662, epsilon = 5e-5);
    }

    #[test]
    fn mcnemars_test_is_the_binomial_one() {
        // 2 (1 + 8 + 28) / 2^8, and R's binom.test(7, 41)$p.value.
        approx::assert_relative_eq!(mcnemar(2, 6), 74.0 / 256.0, epsilon = 1e-12);
        approx::assert_relative_eq!(mcnemar(34, 7), mcnemar(7, 34));
        approx::assert_relative_eq!(mcnemar(34, 7), 2.532_080e-5, max_relative = 1e-5);
        assert_eq!((mcnemar(0, 0), mcnemar(5, 5)), (1.0, 1.0));
        approx::assert_relative_eq!(mcnemar(0, 5), 2.0 / 32.0, epsilon = 1e-12);
        assert!((0.0..1e-250).contains(&mcnemar(0, 1000)));
        approx::assert_relative_eq!(mcnemar(2450, 2550), 0.1615, epsilon = 2e-4);
    }

    #[test]
    fn holms_correction_is_monotone() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (value, expected) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            approx::assert_relative_eq!(*value, expected, epsilon = 1e-12);
        }
        assert_eq!((holm(&[0.9, 0.8]), holm(&[])), (vec![1.0, 1.0], vec![]));
    }

    #[test]
    fn quantiles_are_interpolated() {
        let values = [0.0, 1.0, 2.0, 4.0];
        assert_eq!([0.0, 0.5, 1.0].map(|q| quantile(&values, q)), [0.0, 1.5, 4.0]);
        approx::assert_relative_eq!(quantile(&values, 0.9), 2.0 + 0.7 * 2.0);
        assert_eq!((quantile(&[3.0], 0.1), quantile(&[], 0.5)), (3.0, 0.0));
    }

    #[test]
    fn quantiles_of_t_are_those_of_tables() {
        let table = [
            (1, 12.7062),
            (2, 4.3027),
            (3, 3.1824),
            (4, 2.7764),
            (5, 2.5706),
            (9, 2.2622),
            (10, 2.2281),
            (30, 2.0423),
            (120, 1.9799),
            (10_000, 1.9602),
            (1_000_000, 1.9600),
        ];
        for (freedom, quantile) in table {
            approx::assert_abs_diff_eq!(t_975(freedom), quantile, epsilon = 6e-5);
        }
    }

    #[test]
    fn a_mean_has_its_interval() {
        // The mean is 0.92 and the standard deviation 0.02: the half-width is 4.3027 * 0.02 / sqrt(3).
        let Mean { mean, standard_deviation, interval } = Mean::of(&[0.90, 0.92, 0.94]);
        approx::assert_relative_eq!(mean, 0.92, epsilon = 1e-12);
        approx::assert_relative_eq!(standard_deviation.unwrap(), 0.02, epsilon = 1e-12);
        let [low, high] = interval.unwrap();
        approx::assert_abs_diff_eq!(low, 0.87032, epsilon = 1e-5);
        approx::assert_abs_diff_eq!(high, 0.96968, epsilon = 1e-5);
        assert_eq!(Mean::of(&[0.5]), Mean { mean: 0.5, standard_deviation: None, interval: None });
        assert_eq!(Mean::of(&[0.5, 0.5]).interval, Some([0.5, 0.5]));
    }
}
