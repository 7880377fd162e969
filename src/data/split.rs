//! Which clips are for training, validation and testing: by speaker, by the data set's own lists, or at random.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::Name;
use crate::base::rng::{Key, Stream};
use crate::base::sha1::Sha1;

use super::grouping::Grouping;

/// What a clip is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// The network is trained on it.
    Training,
    /// It is evaluated during training, to choose the best epoch.
    Validation,
    /// It is evaluated once, after training.
    Testing,
}

impl Split {
    /// All three, in the order in which tables list them.
    pub const ALL: [Split; 3] = [Split::Training, Split::Validation, Split::Testing];

    /// `training`, `validation` or `testing`, as in files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Split::Training => "training",
            Split::Validation => "validation",
            Split::Testing => "testing",
        }
    }

    /// `training`, `validation` or `test`, as in sentences and tables.
    pub const fn short_name(self) -> &'static str {
        match self {
            Split::Testing => "test",
            other => other.name(),
        }
    }

    /// What a column or an array of splits may contain, for an error.
    pub(super) const TABLE_VALUES: &str = "a split is train, validation or test";

    /// The split that a column or an array of splits means by `name`.
    pub(super) fn of_table(name: &Name) -> Option<Split> {
        match name.as_bytes().to_ascii_lowercase().as_slice() {
            b"train" | b"training" => Some(Split::Training),
            b"val" | b"valid" | b"validation" | b"dev" => Some(Split::Validation),
            b"test" | b"testing" => Some(Split::Testing),
            _ => None,
        }
    }

    /// The split of this name.
    pub fn from_name(name: &str) -> Option<Split> {
        Split::ALL.into_iter().find(|s| s.name() == name)
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How clips are divided into the three splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitRule {
    /// By a hash of the speaker ([`which_set`]), so that no speaker is in two splits.
    #[default]
    Speaker,
    /// By `validation_list.txt` and `testing_list.txt` of the source; clips in neither list are for training.
    Official,
    /// 80/10/10 at random within each class; a speaker may have clips in several splits.
    Random {
        /// The same seed divides the same clips in the same way.
        seed: u64,
    },
}

/// TensorFlow's `MAX_NUM_WAVS_PER_CLASS`.
const MAX_CLIPS: u64 = (1 << 27) - 1;

/// The speaker: the file name up to the first `_nohash_`. Without it, the speaker is the whole file name with its
/// extension, because this is what TensorFlow hashes. Folders before the file name are ignored.
pub fn speaker(clip: &Name) -> Name {
    const MARK: &[u8] = b"_nohash_";
    let bytes = clip.as_bytes();
    let file = bytes.rsplit(|&b| b == b'/').next().unwrap_or(bytes);
    let end = file.windows(MARK.len()).position(|window| window == MARK).unwrap_or(file.len());
    Name::from_bytes(&file[..end])
}

/// Whether the name of a clip tells who speaks: whether its file name contains `_nohash_`.
pub fn names_speaker(clip: &Name) -> bool {
    let bytes = clip.as_bytes();
    speaker(clip).as_bytes().len() < bytes.rsplit(|&b| b == b'/').next().unwrap_or(bytes).len()
}

/// The percentage in `[0, 100]` that TensorFlow's `which_set` gives a speaker: SHA-1 of the name, as one number,
/// modulo 2^27, times 100 / (2^27 - 1).
pub fn speaker_percentage(speaker: &Name) -> f64 {
    let hash = Sha1::digest(speaker.as_bytes());
    // The modulus is a power of two, so only the last four of the twenty big-endian bytes matter.
    let tail = u32::from_be_bytes([hash[16], hash[17], hash[18], hash[19]]);
    (u64::from(tail) % (MAX_CLIPS + 1)) as f64 * (100.0 / MAX_CLIPS as f64)
}

/// The split of a clip by its speaker: below 10 % validation, below 20 % testing, else training.
pub fn which_set(clip: &Name) -> Split {
    split_of_speaker(&speaker(clip))
}

/// The split of the clips of a speaker.
pub(super) fn split_of_speaker(speaker: &Name) -> Split {
    let percentage = speaker_percentage(speaker);
    if percentage < 10.0 {
        Split::Validation
    } else if percentage < 20.0 {
        Split::Testing
    } else {
        Split::Training
    }
}

/// Divides the `len` clips of `word` 80/10/10 by `seed`. The tenths are rounded to the nearest clip; a word of at least
/// three clips has at least one in each split. The random numbers depend on the name of the word, so the order and choice of
/// classes do not change how its clips are divided.
pub(super) fn random_splits(seed: u64, word: &Name, len: usize) -> Vec<Split> {
    let hash = Sha1::digest(word.as_bytes());
    let word = hash[..8].iter().fold(0, |n, &byte| n << 8 | u64::from(byte));
    let tenth = ((len + 5) / 10).max(usize::from(len >= 3));
    let mut splits = vec![Split::Training; len];
    for (rank, clip) in Key::new(seed, Stream::Split).with(word).permutation(len).into_iter().enumerate() {
        if rank < tenth {
            splits[clip as usize] = Split::Validation;
        } else if rank < 2 * tenth {
            splits[clip as usize] = Split::Testing;
        }
    }
    splits
}

/// Remarks for the user about a division into splits: which splits have no clips, and which classes have none to train
/// with. `listed` is what gives the splits, if the source does; `counts` has the training, validation and test clips of each class; `number` is how many
/// speakers or groups there are.
pub(super) fn remarks(
    (rule, listed): (SplitRule, Option<&'static str>),
    classes: &[Name],
    counts: &[[usize; 3]],
    (number, grouping): (usize, Grouping),
) -> Vec<String> {
    const SHOWN: usize = 5; // classes
    let total = |split: Split| counts.iter().map(|of| of[split as usize]).sum::<usize>();
    let mut remarks = Vec::new();
    let empty: Vec<&str> = Split::ALL.into_iter().filter(|&s| total(s) == 0).map(Split::short_name).collect();
    if counts.is_empty() || empty.len() == Split::ALL.len() {
        return remarks;
    }
    let empty = empty.join(" and no ");
    if !empty.is_empty() {
        let noun = grouping.noun();
        let speakers = if number == 1 { format!("one {noun}") } else { format!("{number} {}", grouping.plural()) };
        remarks.push(match (rule, listed) {
            (SplitRule::Speaker | SplitRule::Official, Some(listed)) => {
                format!("{listed} leaves no {empty} clips; complete it, or use `--split random`")
            }
            (SplitRule::Speaker, None) => format!(
                "the split by {noun} leaves no {empty} clips, because there are clips of {speakers} only; use \
                 `--split random`, or add {}",
                grouping.more()
            ),
            (SplitRule::Official, None) => {
                format!("the official lists leave no {empty} clips; use `--split speaker` or `--split random`")
            }
            (SplitRule::Random { .. }, _) => {
                format!("there are no {empty} clips, because no class has three clips; add recordings")
            }
        });
    }
    let untrained: Vec<String> = classes
        .iter()
        .zip(counts)
        .filter(|(_, of)| of[Split::Training as usize] == 0 && of.iter().sum::<usize>() > 0)
        .map(|(class, _)| format!("`{class}`"))
        .collect();
    if !untrained.is_empty() && total(Split::Training) > 0 {
        let more = if untrained.len() > SHOWN { ", .." } else { "" };
        remarks.push(format!(
            "the network cannot learn {}{more}: all clips of the class are in other splits than training; use \
             `--split random`, or add {}",
            untrained[..untrained.len().min(SHOWN)].join(", "),
            grouping.more()
        ));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_tensorflows() {
        assert_eq!(speaker_percentage(&"0a196374".into()), 29.380001346617945);
        assert_eq!(speaker_percentage(&"bobby".into()), 94.1747873587518);
    }

    #[test]
    fn the_speaker_is_what_stands_before_the_mark() {
        assert_eq!(speaker(&"bed/0a196374_nohash_0.wav".into()), "0a196374");
        assert_eq!(speaker(&"bobby_nohash_1_nohash_2.wav".into()), "bobby");
        assert_eq!(speaker(&"bed/mine.wav".into()), "mine.wav");
        assert!(names_speaker(&"bed/0a196374_nohash_0.wav".into()) && !names_speaker(&"bed_nohash_/mine.wav".into()));
        assert_eq!(which_set(&"bed/bobby_nohash_0.wav".into()), which_set(&"cat/bobby_nohash_7.flac".into()));
    }

    #[test]
    fn random_deals_eight_one_one() {
        let splits = random_splits(3, &"bed".into(), 200);
        let count = |s| splits.iter().filter(|&&x| x == s).count();
        assert_eq!([count(Split::Training), count(Split::Validation), count(Split::Testing)], [160, 20, 20]);
        assert_eq!(splits, random_splits(3, &"bed".into(), 200));
        assert_ne!(splits, random_splits(4, &"bed".into(), 200));
        assert_ne!(splits, random_splits(3, &"cat".into(), 200));
        for len in 0..40 {
            let splits = random_splits(1, &"bed".into(), len);
            let least = Split::ALL.map(|split| splits.iter().filter(|&&s| s == split).count()).into_iter().min();
            assert_eq!(least >= Some(1), len >= 3, "{len} clips");
        }
    }
}
