//! Misses and false alarms at many thresholds, and the thresholds for a wanted rate.

use super::outputs::{Outputs, Tally};
use crate::listen::{Manifest, is_word};
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
    /// The threshold of all words; none if each has its own.
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

/// The thresholds with which there are at most `per_hour` false alarms, for each word its own, chosen on a sweep: starting with the lowest thresholds, the threshold is raised of the word
/// for which this removes the most false alarms for each word that is then missed.
pub fn choose(sweep: &[(Operating, Tally)], manifest: &Manifest, per_hour: f64) -> Manifest {
    let mut chosen = manifest.clone();
    chosen.thresholds.clear();
    let Some((_, first)) = sweep.first() else { return chosen };
    let words: Vec<usize> = (0..manifest.words.len()).filter(|&class| is_word(&manifest.words[class])).collect();
    let alarms = |class: usize, step: usize| sweep[step].1.false_alarms_of(class) as f64;
    let hits = |class: usize, step: usize| sweep[step].1.detected[class] as f64;
    let mut at = vec![0; manifest.words.len()];
    loop {
        let total: f64 = words.iter().map(|&class| alarms(class, at[class])).sum();
        if total / first.hours.max(1e-9) <= per_hour {
            break;
        }
        // How much a word gains by a higher threshold, which may be several steps away.
        let gain = |class: usize| {
            (at[class] + 1..sweep.len())
                .map(|step| {
                    let removed = alarms(class, at[class]) - alarms(class, step);
                    let lost = (hits(class, at[class]) - hits(class, step)).max(0.0);
                    (removed / (lost + 0.5), step)
                })
                .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))
        };
        let best = words.iter().filter_map(|&class| gain(class).map(|(gain, step)| (gain, class, step)));
        let Some((gain, class, step)) = best.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))) else { break };
        if gain <= 0.0 {
            break;
        }
        at[class] = step;
    }
    let thresholds: Vec<f64> = sweep.iter().filter_map(|(operating, _)| operating.threshold).collect();
    for class in words {
        let rounded = (thresholds[at[class]] * 1e5).round() / 1e5;
        chosen.thresholds.insert(manifest.words[class].clone(), rounded);
    }
    chosen
}
