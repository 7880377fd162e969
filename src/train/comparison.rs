//! Two networks on the same clips: which clips only one of them recognises, and whether the difference is more than chance.

use super::eval::Evaluation;
use super::speakers::SPEAKERS_FOR_INTERVAL;
use super::statistics::{bootstrap, holm, mcnemar};
use crate::base::Name;
use crate::data::Dataset;
use serde::Serialize;
use std::collections::BTreeMap;

/// How many clips each of two networks recognises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Agreement {
    /// Clips that both recognise.
    pub both: u64,
    /// Clips that only the first recognises.
    pub only_first: u64,
    /// Clips that only the second recognises.
    pub only_second: u64,
    /// Clips that neither recognises.
    pub neither: u64,
}

impl Agreement {
    pub(super) fn add(&mut self, first: bool, second: bool) {
        *match (first, second) {
            (true, true) => &mut self.both,
            (true, false) => &mut self.only_first,
            (false, true) => &mut self.only_second,
            (false, false) => &mut self.neither,
        } += 1;
    }

    /// All clips.
    pub fn clips(self) -> u64 {
        self.both + self.only_first + self.only_second + self.neither
    }

    /// The accuracy of the second network less that of the first.
    pub fn difference(self) -> f64 {
        (self.only_second as f64 - self.only_first as f64) / self.clips().max(1) as f64
    }
}

/// What the interval of a difference resamples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resampled {
    /// Speakers with all their clips.
    Speakers,
    /// Single clips, because the file names tell no speakers, or too few.
    Clips,
}

/// The clips of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassAgreement {
    /// Its name.
    pub class: Name,
    /// How many of its clips are recognised by which network.
    #[serde(flatten)]
    pub agreement: Agreement,
}

/// A clip that one of two networks recognises and the other does not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flip {
    /// The clip, `word/file`.
    pub clip: Name,
    /// Its class.
    pub label: Name,
    /// What the first network predicts.
    pub first: Name,
    /// The probability that it gives to its prediction.
    pub first_probability: f64,
    /// What the second network predicts.
    pub second: Name,
    /// The probability that it gives to its prediction.
    pub second_probability: f64,
}

/// Two networks on the same clips.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// How many clips are recognised by which network.
    #[serde(flatten)]
    pub agreement: Agreement,
    /// The accuracy of the second network less that of the first.
    pub difference: f64,
    /// Its 95 % interval for other clips of such speakers: percentiles of 2,000 resamples.
    pub interval: [f64; 2],
    /// What was resampled.
    pub resampled: Resampled,
    /// Of how many speakers the clips are.
    pub speakers: u64,
    /// The two-sided p value of McNemar's exact test, which takes clips as independent.
    pub p: f64,
    /// The same figures of each class, in the order of the outputs.
    pub classes: Vec<ClassAgreement>,
    /// Clips by label (rows) and predicted class (columns): those of the second network less those of the first.
    pub confusion: Vec<Vec<i64>>,
    /// The clips that only one of them recognises, by class; within it those of the first network first, then by name.
    pub flips: Vec<Flip>,
}

impl Comparison {
    /// Compares two evaluations of the same clips of `data` ([`super::check_same_clips`]).
    pub fn of(first: &Evaluation, second: &Evaluation, data: &Dataset) -> Comparison {
        let classes = data.classes();
        let mut agreement = Agreement::default();
        let mut by_class = vec![Agreement::default(); classes.len()];
        let mut differences = Vec::new();
        let mut flips = Vec::new();
        for (a, b) in first.predictions.iter().zip(&second.predictions) {
            let (of_a, of_b) = (a.is_correct(), b.is_correct());
            agreement.add(of_a, of_b);
            by_class[a.label].add(of_a, of_b);
            let clip = &data.clips()[a.clip as usize];
            differences.push((a.clip, f64::from(of_b) - f64::from(of_a)));
            if of_a != of_b {
                let flip = Flip {
                    clip: clip.name.clone(),
                    label: classes[a.label].clone(),
                    first: classes[a.prediction.class].clone(),
                    first_probability: a.prediction.probability,
                    second: classes[b.prediction.class].clone(),
                    second_probability: b.prediction.probability,
                };
                flips.push((a.label, of_b, flip));
            }
        }
        flips.sort_by(|(a, a_second, one), (b, b_second, other)| {
            (a, a_second, &one.clip).cmp(&(b, b_second, &other.clip))
        });
        let (resampled, interval, speakers) = interval_of_difference(&differences, data);
        let cells = |(a, b): (&Vec<u64>, &Vec<u64>)| a.iter().zip(b).map(|(&a, &b)| b as i64 - a as i64).collect();
        Comparison {
            agreement,
            difference: agreement.difference(),
            interval,
            resampled,
            speakers,
            p: mcnemar(agreement.only_first, agreement.only_second),
            classes: classes
                .iter()
                .zip(by_class)
                .map(|(class, agreement)| ClassAgreement { class: class.clone(), agreement })
                .collect(),
            confusion: first.confusion.iter().zip(&second.confusion).map(cells).collect(),
            flips: flips.into_iter().map(|(.., flip)| flip).collect(),
        }
    }
}

/// The 95 % interval of the mean of a difference, given for clips by their numbers: over speakers, or over clips where the file names tell no speakers, or too few; and the number of
/// speakers.
pub(super) fn interval_of_difference(differences: &[(u32, f64)], data: &Dataset) -> (Resampled, [f64; 2], u64) {
    let mut speakers: BTreeMap<&Name, (u64, f64)> = BTreeMap::new();
    let mut named = false;
    for &(clip, value) in differences {
        let clip = &data.clips()[clip as usize];
        named |= data.tells_speaker(clip);
        let of_speaker = speakers.entry(&clip.speaker).or_default();
        *of_speaker = (of_speaker.0 + 1, of_speaker.1 + value);
    }
    let whole: Vec<(u64, f64)> = speakers.into_values().collect();
    let (resampled, interval) = match named && whole.len() >= SPEAKERS_FOR_INTERVAL {
        true => (Resampled::Speakers, bootstrap(&whole)),
        false => {
            let clips: Vec<(u64, f64)> = differences.iter().map(|&(_, value)| (1, value)).collect();
            (Resampled::Clips, bootstrap(&clips))
        }
    };
    (resampled, interval, whole.len() as u64)
}

/// Two of several networks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// The number of the first, from 0.
    pub first: usize,
    /// The number of the second.
    pub second: usize,
    /// The comparison of the two.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// The p value, adjusted by Holm's method for the number of pairs.
    pub adjusted_p: f64,
}

/// Compares each evaluation with each later one.
pub fn all_pairs(evaluations: &[&Evaluation], data: &Dataset) -> Vec<Pair> {
    let numbers = 0..evaluations.len();
    let pairs: Vec<(usize, usize)> =
        numbers.clone().flat_map(|first| (first + 1..numbers.end).map(move |second| (first, second))).collect();
    let compare = |&(first, second): &(usize, usize)| Comparison::of(evaluations[first], evaluations[second], data);
    let comparisons: Vec<Comparison> = pairs.iter().map(compare).collect();
    let adjusted = holm(&comparisons.iter().map(|comparison| comparison.p).collect::<Vec<f64>>());
    let pairs = pairs.into_iter().zip(comparisons).zip(adjusted);
    pairs.map(|(((first, second), comparison), adjusted_p)| Pair { first, second, comparison, adjusted_p }).collect()
}
