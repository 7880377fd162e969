//! Misses and false alarms at many thresholds, and the threshold for a wanted rate.

use super::outputs::{Outputs, Tally};
use crate::listen::Manifest;
use crate::train::{poisson, wilson};
use serde::Serialize;

/// Thresholds of a sweep: their distances from 1 form a geometric series.
const STEPS: usize = 41;
/// The first and last distance from 1.
const DISTANCES: [f64; 2] = [0.7, 1e-4];

/// The thresholds of a sweep, in ascending order.
fn grid() -> impl Iterator<Item = f64> {
    let [first, last] = DISTANCES.map(f64::ln);
    (0..STEPS).map(move |i| 1.0 - (first + (last - first) * i as f64 / (STEPS - 1) as f64).exp())
}

/// Misses and false alarms at a threshold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Operating {
    /// The threshold of all words; none if some have their own.
    pub threshold: Option<f64>,
    /// Words that were spoken.
    pub spoken: u64,
    /// Words that were spoken and detected.
    pub detected: u64,
    /// The share of words that were missed, with its 95 % interval (Wilson).
    pub missed: f64,
    /// Its interval.
    pub missed_interval: [f64; 2],
    /// Words that were detected and not spoken.
    pub false_alarms: u64,
    /// False alarms per hour, with the exact 95 % interval of a Poisson distribution.
    pub per_hour: f64,
    /// Its interval.
    pub per_hour_interval: [f64; 2],
}

impl Operating {
    /// The figures of a tally.
    pub fn of(tally: &Tally, threshold: Option<f64>) -> Operating {
        let [spoken, detected] = tally.recall();
        let false_alarms = tally.false_alarms.len() as u64;
        let hours = tally.hours.max(1e-9);
        let [low, high] = wilson(spoken - detected, spoken);
        Operating {
            threshold,
            spoken,
            detected,
            missed: (spoken - detected) as f64 / spoken.max(1) as f64,
            missed_interval: [low, high],
            false_alarms,
            per_hour: false_alarms as f64 / hours,
            per_hour_interval: poisson(false_alarms).map(|count| count / hours),
        }
    }
}

/// The figures at many thresholds that all words share, in ascending order of the threshold.
pub fn sweep(detected: &Outputs, manifest: &Manifest) -> Vec<(Operating, Tally)> {
    let at = |threshold: f64| {
        let manifest = Manifest { threshold, thresholds: Default::default(), ..manifest.clone() };
        let tally = detected.tally(&manifest);
        (Operating::of(&tally, Some(threshold)), tally)
    };
    grid().map(at).collect()
}

/// The settings with the lowest threshold of a sweep from which on there are at most `per_hour` false alarms, and what the sweep has at it; the highest
/// threshold if all have more. All words share it: a threshold for each word would follow the few clips that its false alarms are from.
pub fn choose(sweep: &[(Operating, Tally)], manifest: &Manifest, per_hour: f64) -> (Manifest, Option<Operating>) {
    let enough = sweep.iter().rev().take_while(|(operating, _)| operating.per_hour <= per_hour).last();
    let chosen = enough.or(sweep.last()).map(|(operating, _)| operating.clone());
    let threshold = chosen.as_ref().and_then(|operating| operating.threshold).unwrap_or(manifest.threshold);
    // Rounded up, so that nothing more is detected; what is a rounding error away from five digits has them.
    let threshold = ((threshold * 1e5 - 1e-6).ceil() / 1e5).min(1.0);
    (Manifest { threshold, thresholds: Default::default(), ..manifest.clone() }, chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_the_lowest_from_which_on_there_are_few_enough_false_alarms() {
        let point = |(threshold, per_hour): (f64, f64)| {
            let operating = Operating::of(&Tally::default(), Some(threshold));
            (Operating { per_hour, ..operating }, Tally::default())
        };
        // A higher threshold can have more: what it leaves out no longer hides what follows.
        let sweep: Vec<_> = [(0.5, 40.0), (0.6, 9.0), (0.7, 11.0), (0.812_341, 10.0), (0.9, 2.0)].map(point).into();
        let mut manifest = Manifest::new(vec!["yes".into(), "no".into()], 16_000);
        manifest.thresholds.insert("no".into(), 0.3);
        for (wanted, threshold) in [(10.0, 0.81235), (100.0, 0.5), (2.0, 0.9), (1.0, 0.9)] {
            let (chosen, at) = choose(&sweep, &manifest, wanted);
            assert_eq!((chosen.threshold, chosen.thresholds.len()), (threshold, 0), "{wanted}");
            assert!((at.unwrap().threshold.unwrap() - threshold).abs() < 1e-4);
        }
        assert_eq!(choose(&[], &manifest, 1.0).0.threshold, manifest.threshold);
    }
}
