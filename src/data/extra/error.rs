//! Why the classes of other words and of silence cannot be made.

use std::path::PathBuf;

use thiserror::Error;

use crate::base::Name;
use crate::base::name::display_path;

use super::SHARES;
use crate::data::grouping::Grouping;

/// Why the classes `_unknown_` and `_silence_` cannot be made.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ExtraError {
    /// A share that is no number of the range.
    #[error("`{name}` is {share}; it must lie between {} and {}", SHARES.0, SHARES.1)]
    Share {
        /// The setting.
        name: &'static str,
        /// Its value.
        share: f64,
    },
    /// A class of the data set has the name of an added one.
    #[error(
        "{data} has a class `{name}` of its own, which would be added; rename it, or train without the setting that adds it"
    )]
    Reserved {
        /// The source.
        data: String,
        /// The class.
        name: Name,
    },
    /// A word is both a class and an unknown word.
    #[error("`{word}` is a class and cannot be an unknown word too; leave it out of --unknown or of --classes")]
    IsClass {
        /// The word.
        word: Name,
    },
    /// An unknown word that the data set does not have.
    #[error("{data} has no word `{word}` for --unknown{}; name words of `stapes data`, or a folder as ./NAME", nearest_text(.nearest))]
    NoWord {
        /// The source.
        data: String,
        /// The word.
        word: Name,
        /// The word spelt most like it.
        nearest: Option<Name>,
    },
    /// All words of the data set are classes.
    #[error(
        "all words of {data} are classes, so there are no other words for --unknown; name fewer --classes, or give a folder as ./NAME"
    )]
    NoOtherWords {
        /// The source.
        data: String,
    },
    /// The path of a folder leads to none.
    #[error("{} of --unknown is not a folder; give a folder of sound files or of word folders", display_path(.path))]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// A folder without a clip that can be used.
    #[error("the folder {} of --unknown has no sound that can be used{}; it needs WAV, FLAC or Ogg Vorbis files, directly in it or in word folders", display_path(.path), first_text(.first))]
    NoSound {
        /// The folder.
        path: PathBuf,
        /// What is wrong with its first clip, if it has any.
        first: Option<String>,
    },
    /// All words of a folder are classes.
    #[error("all words of the folder {} of --unknown are classes; give a folder of other words", display_path(.path))]
    OnlyClasses {
        /// The folder.
        path: PathBuf,
    },
    /// No unknown clip is for training.
    #[error(
        "there are no training clips of `_unknown_`, only of other splits; add {}, or use --split random", .grouping.more()
    )]
    NoTrainingClips {
        /// What is never divided between splits.
        grouping: Grouping,
    },
    /// A folder of sound for a data set of arrays.
    #[error(
        "the clips of {data} are arrays, to which the sound files of a folder cannot be added; name words of the data in --unknown"
    )]
    FolderForArrays {
        /// The source.
        data: String,
    },
    /// Silence for a data set of arrays.
    #[error("silence is made of sound, and {data} is a data set of arrays; leave out --silence")]
    SilenceForArrays {
        /// The source.
        data: String,
    },
}

fn nearest_text(nearest: &Option<Name>) -> String {
    nearest.as_ref().map_or(String::new(), |word| format!(", did you mean `{word}`"))
}

fn first_text(first: &Option<String>) -> String {
    first.as_ref().map_or(String::new(), |text| format!(" ({text})"))
}
