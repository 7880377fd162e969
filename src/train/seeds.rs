//! Several runs of one network, on the same clips: mean and spread of their accuracy, and their ensemble.

use super::agreement::first_difference;
use super::config::TrainConfig;
use super::error::TrainError;
use super::eval::{Evaluation, mean_prediction};
use super::statistics::Mean;
use crate::base::Name;
use crate::data::{ClipMeta, Dataset, Split};
use std::collections::HashMap;
use std::path::Path;

/// What several evaluations on the same clips have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct SeveralRuns {
    /// The mean of their accuracies. Its interval says how far the mean is known of all runs of this network with other seeds, on
    /// these clips.
    pub accuracy: Mean,
    /// The evaluation of the mean of their probabilities.
    pub ensemble: Evaluation,
}

impl SeveralRuns {
    /// Summarises evaluations of the same clips in the same order ([`check_same_clips`]); nothing if there are none.
    pub fn of(evaluations: &[Evaluation]) -> Option<SeveralRuns> {
        let first = evaluations.first()?;
        let accuracies: Vec<f64> = evaluations.iter().map(|evaluation| evaluation.accuracy).collect();
        let classes: Vec<Name> = first.classes.iter().map(|figures| figures.class.clone()).collect();
        let mut ensemble = Evaluation::new(first.split, first.shifts, &classes);
        for (at, clip) in first.predictions.iter().enumerate() {
            let mut sums = vec![0.0; classes.len()];
            for prediction in evaluations.iter().filter_map(|evaluation| evaluation.predictions.get(at)) {
                sums.iter_mut().zip(&prediction.prediction.probabilities).for_each(|(sum, p)| *sum += p);
            }
            ensemble.add(clip.label, clip.clip, mean_prediction(sums, evaluations.len() as u32));
        }
        ensemble.finish();
        Some(SeveralRuns { accuracy: Mean::of(&accuracies), ensemble })
    }
}

/// A run folder, and the recordings on which the run is evaluated.
type Evaluated<'a> = (&'a Path, &'a Dataset);

/// Checks that two runs have the same classes, and the same clips in a split, or in the whole data set without one.
///
/// # Errors
/// The first difference.
pub fn check_same_clips(first: Evaluated<'_>, second: Evaluated<'_>, split: Option<Split>) -> Result<(), TrainError> {
    match difference(first.1, second.1, split) {
        None => Ok(()),
        Some(difference) => Err(TrainError::OtherClips { first: first.0.into(), second: second.0.into(), difference }),
    }
}

fn difference(first: &Dataset, second: &Dataset, split: Option<Split>) -> Option<String> {
    if first.classes() != second.classes() {
        let list = |data: &Dataset| data.classes().iter().map(Name::to_string).collect::<Vec<_>>().join(",");
        return Some(format!("their classes are {} and {}", list(first), list(second)));
    }
    let kind = split.map_or(String::new(), |split| format!("{} ", split.short_name()));
    let chosen = |clip: &&ClipMeta| split.is_none_or(|split| clip.split == split);
    let by_name = |data: &'_ Dataset| -> HashMap<Name, String> {
        data.clips().iter().filter(chosen).map(|clip| (clip.name.clone(), clip.fingerprint.clone())).collect()
    };
    let (of_first, of_second) = (by_name(first), by_name(second));
    for clip in first.clips().iter().filter(chosen) {
        match of_second.get(&clip.name) {
            None => return Some(format!("the clip `{}` is one of the {kind}clips of the first run only", clip.name)),
            // Networks for other rates have other samples of the same recordings.
            Some(fingerprint) if first.format() == second.format() && *fingerprint != clip.fingerprint => {
                return Some(format!("the clip `{}` has other samples in the recordings of the second run", clip.name));
            }
            Some(_) => {}
        }
    }
    let new = second.clips().iter().filter(chosen).find(|clip| !of_first.contains_key(&clip.name))?;
    Some(format!("the clip `{}` is one of the {kind}clips of the second run only", new.name))
}

/// The first setting beside the seed in which two runs differ, with its two values; none if they are runs of one network, trained
/// alike.
pub fn differing_setting(a: &TrainConfig, b: &TrainConfig) -> Option<(String, String, String)> {
    let settings = |config: &TrainConfig| {
        let mut settings = config.fixed();
        settings.remove("seed");
        settings.insert("epochs".into(), toml::Value::from(config.epochs as i64));
        settings
    };
    first_difference(&settings(a), &settings(b))
}

#[cfg(test)]
mod tests {
    use super::super::eval::ClipPrediction;
    use super::super::predictor::Prediction;
    use super::super::shifts::Shifts;
    use super::*;
    use crate::nn::{self, Variant};

    #[test]
    fn the_ensemble_is_the_mean_of_the_probabilities() {
        let run = |probabilities: [[f64; 2]; 3]| {
            let mut evaluation = Evaluation::new(None, Shifts::NONE, &["yes".into(), "no".into()]);
            for (clip, of) in probabilities.into_iter().enumerate() {
                evaluation.add(0, clip as u32, mean_prediction(of.to_vec(), 1));
            }
            evaluation.finish();
            evaluation
        };
        // The second run is sure of the first clip, so that both together are right; both are wrong about the last one.
        let runs = [run([[0.4, 0.6], [0.6, 0.4], [0.1, 0.9]]), run([[0.9, 0.1], [0.55, 0.45], [0.3, 0.7]])];
        let several = SeveralRuns::of(&runs).unwrap();
        approx::assert_relative_eq!(several.accuracy.mean, 0.5, epsilon = 1e-12);
        approx::assert_relative_eq!(several.accuracy.standard_deviation.unwrap(), 1.0 / 18f64.sqrt(), epsilon = 1e-12);
        let ClipPrediction { prediction: Prediction { class, probability, .. }, .. } = &several.ensemble.predictions[0];
        assert_eq!((*class, several.ensemble.correct, several.ensemble.clips), (0, 2, 3));
        approx::assert_relative_eq!(*probability, 0.65, epsilon = 1e-12);
        let single = SeveralRuns::of(&runs[..1]).unwrap();
        assert_eq!((single.ensemble, single.accuracy.interval), (runs[0].clone(), None));
        assert_eq!(SeveralRuns::of(&[]), None);
    }

    #[test]
    fn a_seed_is_no_difference_and_every_other_setting_is() {
        let config = TrainConfig::new(nn::find("custom32-8").unwrap().spec(Variant::Do));
        let with = |key: &str, value: &str| {
            let mut other = config.clone();
            other.set(key, value, "test").unwrap();
            differing_setting(&config, &other)
        };
        assert_eq!(with("seed", "2"), None);
        assert_eq!(with("epochs", "30"), Some(("epochs".into(), "20".into(), "30".into())));
        assert_eq!(with("lr", "0.5").map(|(key, ..)| key), Some("lr".into()));
    }
}
