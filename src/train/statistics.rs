//! Intervals and quantiles for accuracies.

use serde::Serialize;

/// Quantile of the standard normal distribution that leaves 2.5 % above it.
const NORMAL_975: f64 = 1.959_963_985;

/// The 95 % interval of a share, `right` of `all` independent trials (Wilson, "Probable inference", JASA 1927).
pub(super) fn wilson(right: u64, all: u64) -> [f64; 2] {
    if all == 0 {
        return [0.0, 1.0];
    }
    const Z: f64 = NORMAL_975;
    let (n, p) = (all as f64, right as f64 / all as f64);
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    [(centre - half).max(0.0), (centre + half).min(1.0)]
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
    fn the_interval_is_wilsons() {
        // Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I: 81 of 263.
        let [low, high] = wilson(81, 263);
        approx::assert_abs_diff_eq!(low, 0.2553, epsilon = 5e-5);
        approx::assert_abs_diff_eq!(high, 0.3662, epsilon = 5e-5);
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
