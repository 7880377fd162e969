//! Hints about a data set before a network is trained on it: too few clips or speakers, or a validation split that is too small.

use std::collections::HashSet;

use crate::base::Name;

use super::dataset::Dataset;
use super::split::{Split, SplitRule};

/// A class with fewer training clips than this is learned badly.
pub const FEW_CLIPS: usize = 20;
/// A class whose training clips are of fewer speakers than this is learned as their voices.
pub const FEW_SPEAKERS: usize = 5;
/// With fewer validation clips than this, the best of several epochs or settings is chosen by chance: the standard error of an
/// accuracy of 0.9 on 100 clips is 0.03.
pub const FEW_VALIDATION_CLIPS: usize = 100;

/// Something about a data set that makes a network worse, or its accuracy uncertain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Classes with fewer than [`FEW_CLIPS`] training clips, but at least one.
    FewClips {
        /// The classes with their training clips, those with the fewest clips first.
        classes: Vec<(Name, usize)>,
    },
    /// Classes whose training clips are of fewer than [`FEW_SPEAKERS`] speakers.
    FewSpeakers {
        /// The classes with the speakers of their training clips, those with the fewest speakers first.
        classes: Vec<(Name, usize)>,
    },
    /// No file name tells who speaks, so that a split may put clips of one speaker into several splits.
    UnknownSpeakers,
    /// There are validation clips, but fewer than [`FEW_VALIDATION_CLIPS`].
    SmallValidation {
        /// How many.
        clips: usize,
    },
}

impl Hint {
    /// The hints for training on `data`; none for a data set of usual size. Splits without any clips are remarks of the
    /// data set itself ([`Dataset::remarks`]).
    pub fn of(data: &Dataset) -> Vec<Hint> {
        let mut hints = Vec::new();
        let training: Vec<usize> = data.counts().iter().map(|of| of[Split::Training as usize]).collect();
        let few_clips = fewest_first(data, &training, FEW_CLIPS);
        if !few_clips.is_empty() {
            hints.push(Hint::FewClips { classes: few_clips });
        }
        if data.names_speakers() {
            let mut speakers: Vec<HashSet<&Name>> = vec![HashSet::new(); data.classes().len()];
            for clip in data.clips().iter().filter(|clip| clip.split == Split::Training) {
                speakers[clip.class as usize].insert(&clip.speaker);
            }
            let speakers: Vec<usize> = speakers.iter().map(HashSet::len).collect();
            let few_speakers = fewest_first(data, &speakers, FEW_SPEAKERS);
            if !few_speakers.is_empty() {
                hints.push(Hint::FewSpeakers { classes: few_speakers });
            }
        } else if !data.has_own_splits() && data.split_rule() != SplitRule::Official {
            // Whoever made official lists knew the speakers.
            hints.push(Hint::UnknownSpeakers);
        }
        let validation = data.counts().iter().map(|of| of[Split::Validation as usize]).sum();
        if (1..FEW_VALIDATION_CLIPS).contains(&validation) {
            hints.push(Hint::SmallValidation { clips: validation });
        }
        hints
    }
}

/// The classes with fewer than `limit` in `counts`, but at least one, those with the fewest first.
fn fewest_first(data: &Dataset, counts: &[usize], limit: usize) -> Vec<(Name, usize)> {
    // Segments of noise are drawn anew in each epoch, and have no speakers.
    let is_word = |class: usize| data.silence_class() != Some(class as u32);
    let few = data.classes().iter().cloned().zip(counts.iter().copied()).enumerate();
    let few = few.filter(|&(class, (_, count))| (1..limit).contains(&count) && is_word(class));
    let mut few: Vec<(Name, usize)> = few.map(|(_, of)| of).collect();
    few.sort_by_key(|&(_, count)| count);
    few
}
