//! Accuracy by speaker: how much it differs from voice to voice, and its interval over speakers.

use super::eval::Evaluation;
use super::statistics::{bootstrap, quantile};
use crate::base::Name;
use crate::data::Dataset;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Fewest speakers for an interval: from fewer, the bootstrap gives one that is far too narrow.
pub(super) const SPEAKERS_FOR_INTERVAL: usize = 10;
/// Fewest clips of a speaker whose accuracy is named.
const CLIPS_TO_BE_NAMED: u64 = 5;
/// Most speakers that are named.
const NAMED: usize = 5;

/// The figures of one speaker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpeakerFigures {
    /// Who, as the file names say.
    pub speaker: Name,
    /// Clips of this speaker.
    pub clips: u64,
    /// Clips whose prediction is the label.
    pub correct: u64,
    /// The share of correct clips.
    pub accuracy: f64,
}

/// How much the accuracy differs between speakers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SpeakerSpread {
    /// Speakers; a clip whose file name names nobody counts as a speaker of its own, and so does each recording of noise of the class `_silence_`.
    pub speakers: u64,
    /// The accuracy that half of the speakers exceed.
    pub median: f64,
    /// The accuracy below which are 10 % of the speakers.
    pub quantile_10: f64,
    /// The accuracy above which are 10 % of the speakers.
    pub quantile_90: f64,
    /// The 95 % interval of the accuracy over all clips if other speakers had spoken them: percentiles of 2,000 resamples of
    /// whole speakers (the cluster bootstrap: Davison and Hinkley, "Bootstrap methods and their application", 1997, section 3.8).
    /// None with fewer than ten speakers.
    pub interval: Option<[f64; 2]>,
    /// The speakers with the lowest accuracy, at most five, of those with at least five clips and a mistake.
    pub worst: Vec<SpeakerFigures>,
}

impl SpeakerSpread {
    /// The spread of an evaluation of `data`; none if nothing tells the speakers of its clips ([`Dataset::tells_speaker`]).
    pub fn of(evaluation: &Evaluation, data: &Dataset) -> Option<SpeakerSpread> {
        let mut counts: BTreeMap<&Name, (u64, u64)> = BTreeMap::new();
        let mut noise: BTreeSet<&Name> = BTreeSet::new();
        let mut named = false;
        for clip in &evaluation.predictions {
            let meta = &data.clips()[clip.clip as usize];
            named |= data.tells_speaker(meta);
            if Some(meta.class) == data.silence_class() {
                noise.insert(&meta.speaker);
            }
            let (clips, correct) = counts.entry(&meta.speaker).or_default();
            *clips += 1;
            *correct += u64::from(clip.is_correct());
        }
        let figures = |(&speaker, &(clips, correct)): (&&Name, &(u64, u64))| SpeakerFigures {
            speaker: speaker.clone(),
            clips,
            correct,
            accuracy: correct as f64 / clips as f64,
        };
        let spread = || {
            let mut spread = SpeakerSpread::of_figures(counts.iter().map(figures).collect());
            spread.worst.retain(|of| !noise.contains(&of.speaker));
            spread
        };
        named.then(spread)
    }

    /// The spread over speakers in the order of their names.
    fn of_figures(speakers: Vec<SpeakerFigures>) -> SpeakerSpread {
        let mut accuracies: Vec<f64> = speakers.iter().map(|of| of.accuracy).collect();
        accuracies.sort_by(f64::total_cmp);
        let counts: Vec<(u64, f64)> = speakers.iter().map(|of| (of.clips, of.correct as f64)).collect();
        let is_named = |of: &SpeakerFigures| of.clips >= CLIPS_TO_BE_NAMED && of.correct < of.clips;
        let count = speakers.len();
        let mut worst: Vec<SpeakerFigures> = speakers.into_iter().filter(is_named).collect();
        worst.sort_by(|a, b| a.accuracy.total_cmp(&b.accuracy).then(b.clips.cmp(&a.clips)));
        worst.truncate(NAMED);
        SpeakerSpread {
            speakers: count as u64,
            median: quantile(&accuracies, 0.5),
            quantile_10: quantile(&accuracies, 0.1),
            quantile_90: quantile(&accuracies, 0.9),
            interval: (count >= SPEAKERS_FOR_INTERVAL).then(|| bootstrap(&counts)),
            worst,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::statistics::wilson;
    use super::*;

    fn speaker(number: usize, clips: u64, correct: u64) -> SpeakerFigures {
        SpeakerFigures {
            speaker: format!("s{number:03}").into(),
            clips,
            correct,
            accuracy: correct as f64 / clips as f64,
        }
    }

    #[test]
    fn the_spread_follows_from_the_speakers() {
        let spread = SpeakerSpread::of_figures(vec![
            speaker(0, 10, 10),
            speaker(1, 4, 0),
            speaker(2, 5, 4),
            speaker(3, 10, 5),
            speaker(4, 5, 5),
        ]);
        assert_eq!((spread.speakers, spread.median), (5, 0.8));
        approx::assert_relative_eq!(spread.quantile_10, 0.2);
        assert_eq!((spread.quantile_90, spread.interval), (1.0, None));
        // Speaker 1 has fewer than five clips, speakers 0 and 4 have no mistake.
        let names: Vec<String> = spread.worst.iter().map(|of| of.speaker.to_string()).collect();
        assert_eq!(names, ["s003", "s002"]);
    }

    #[test]
    fn the_interval_over_speakers_is_wide_where_speakers_differ_and_that_over_clips_is_not() {
        // One clip of each of 400 speakers: both intervals agree. Forty speakers of ten clips, all right or all wrong: the
        // interval is that of forty trials.
        let single: Vec<(u64, f64)> = (0..400).map(|i| (1, f64::from(i % 4 != 0))).collect();
        let whole: Vec<(u64, f64)> = (0..40).map(|i| (10, if i % 4 == 0 { 0.0 } else { 10.0 })).collect();
        for (counts, trials) in [(single, (300, 400)), (whole, (30, 40))] {
            let (interval, expected) = (bootstrap(&counts), wilson(trials.0, trials.1));
            for (bound, expected) in interval.into_iter().zip(expected) {
                approx::assert_abs_diff_eq!(bound, expected, epsilon = 0.02);
            }
            assert_eq!(interval, bootstrap(&counts), "the resamples are the same at every call");
        }
        assert_eq!(bootstrap(&[(5, 5.0), (3, 3.0)]), [1.0, 1.0]);
    }
}
