//! The two classes of a recogniser that listens: `_unknown_` for other words, and `_silence_` for sound without a word.
//!
//! In each split, a class has `ceil(share * clips of the words in the split)` clips, as in the program that defines the protocol of the data set;
//! `_unknown_` has no more than there are. In training, they are drawn anew in each epoch; the validation and test clips are fixed and depend on no
//! seed, so that runs with different seeds are tested on the same clips.
//!
//! **Source**: P. Warden, "Speech commands: a dataset for limited-vocabulary speech recognition", arXiv:1804.03209, 2018, and `input_data.py` of
//! TensorFlow's example, `prepare_data_index`. There, the clips of other words are chosen once, not in each epoch.

mod background;
mod epoch;
mod error;
mod silence;
mod unknown;

use std::path::PathBuf;

use crate::base::Name;

use super::augment::NoiseSource;
use super::classes::resolve_classes;
use super::data_config::DataConfig;
use super::dataset::Dataset;
use super::error::DataError;
use super::layout::Found;
use super::source::{Progress, Source};
use super::split::{Split, SplitRule};
use super::table::Table;

pub(super) use epoch::{ClipBuffers, EpochClips};
pub use error::ExtraError;
pub(super) use silence::Silence;
pub(super) use unknown::file_in;

/// The class of other words.
pub const UNKNOWN: &str = "_unknown_";
/// The class of sound without a word.
pub const SILENCE: &str = "_silence_";

/// The entry of `unknown` for all words of the data set that are no classes.
pub const OTHER_WORDS: &str = "other-words";

/// Smallest and largest share of a class.
pub const SHARES: (f64, f64) = (0.001, 100.0);

/// The classes that are added to the words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExtraClasses {
    /// The class [`UNKNOWN`].
    pub unknown: Option<UnknownClass>,
    /// The class [`SILENCE`].
    pub silence: Option<SilenceClass>,
}

/// The class of other words.
#[derive(Clone, Debug, PartialEq)]
pub struct UnknownClass {
    /// Where its clips come from.
    pub from: Vec<UnknownFrom>,
    /// Its clips in each epoch of training, and in the validation and the test split, as a share of the clips of all words there.
    pub share: f64,
}

/// Where clips of other words come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnknownFrom {
    /// All words of the data set that are no classes.
    OtherWords,
    /// A word of the data set.
    Word(Name),
    /// The sound files directly in a folder, and those in word folders in it.
    Folder(PathBuf),
}

/// The class of sound without a word.
#[derive(Clone, Debug, PartialEq)]
pub struct SilenceClass {
    /// As [`UnknownClass::share`].
    pub share: f64,
    /// The recordings that the segments are cut from.
    pub noise: NoiseSource,
}

impl UnknownFrom {
    /// What `entry` means: a folder if it contains a slash or is `.` or `..`, else a word, or [`OTHER_WORDS`].
    pub fn parse(entry: &Name) -> UnknownFrom {
        match entry.as_bytes() {
            b"." | b".." => UnknownFrom::Folder(entry.to_path()),
            bytes if bytes.iter().any(|&byte| std::path::is_separator(char::from(byte))) => {
                UnknownFrom::Folder(entry.to_path())
            }
            bytes if bytes == OTHER_WORDS.as_bytes() => UnknownFrom::OtherWords,
            _ => UnknownFrom::Word(entry.clone()),
        }
    }

    /// The entry that [`UnknownFrom::parse`] reads.
    pub fn entry(&self) -> Name {
        match self {
            UnknownFrom::OtherWords => OTHER_WORDS.into(),
            UnknownFrom::Word(word) => word.clone(),
            UnknownFrom::Folder(path) => {
                let name = Name::from_os(path.as_os_str());
                match UnknownFrom::parse(&name) {
                    UnknownFrom::Folder(_) => name,
                    _ => Name::from_bytes(&[b"./", name.as_bytes()].concat()),
                }
            }
        }
    }
}

impl ExtraClasses {
    /// Whether no class is added.
    pub fn is_none(&self) -> bool {
        self.unknown.is_none() && self.silence.is_none()
    }

    /// The names of the added classes.
    pub fn names(&self) -> Vec<Name> {
        let unknown = self.unknown.iter().map(|_| UNKNOWN.into());
        unknown.chain(self.silence.iter().map(|_| SILENCE.into())).collect()
    }

    /// Checks the range of each share.
    ///
    /// # Errors
    /// [`ExtraError::Share`] with the first share that is outside of [`SHARES`].
    pub fn check(&self) -> Result<(), ExtraError> {
        let unknown = self.unknown.iter().map(|class| ("unknown_share", class.share));
        for (name, share) in unknown.chain(self.silence.iter().map(|class| ("silence_share", class.share))) {
            if !(SHARES.0..=SHARES.1).contains(&share) {
                return Err(ExtraError::Share { name, share });
            }
        }
        Ok(())
    }

    fn unknown_from(&self) -> &[UnknownFrom] {
        self.unknown.as_ref().map_or(&[], |class| &class.from)
    }
}

/// The classes of a data set.
#[derive(Debug)]
pub(super) struct Classes {
    /// All, in the order of the network's outputs.
    pub(super) all: Vec<Name>,
    /// Those that are words.
    pub(super) words: Vec<Name>,
    /// Words of the data set whose clips are of [`UNKNOWN`].
    pub(super) unknown: Vec<Name>,
}

impl Classes {
    /// The classes that `config` asks for, among what was found in `source`.
    pub(super) fn resolve(config: &DataConfig, found: &Found, source: &Source<'_>) -> Result<Classes, DataError> {
        let (asked, other_words) = (config.classes.as_deref(), config.allow_other_words);
        if config.extra.is_none() {
            let all = resolve_classes((asked, other_words), found, source)?;
            let takes_others = other_words && all.iter().any(|class| *class == *UNKNOWN);
            let others = found.words.iter().filter(|word| takes_others && !all.contains(word)).cloned();
            return Ok(Classes { unknown: others.collect(), words: all.clone(), all });
        }
        let (names, data) = (config.extra.names(), source.describe());
        if let Some(name) = names.iter().find(|name| found.words.contains(name)) {
            return Err(ExtraError::Reserved { data, name: name.clone() }.into());
        }
        let times = |name: &Name| asked.map_or(0, |asked| asked.iter().filter(|class| *class == name).count());
        if let Some(name) = names.iter().find(|name| times(name) > 1) {
            return Err(DataError::RepeatedClass { name: name.clone() });
        }
        let explicit: Vec<&Name> = config.extra.unknown_from().iter().filter_map(word).collect();
        let asked = match asked {
            Some(asked) => asked.iter().filter(|class| !names.contains(class)).cloned().collect(),
            None => found.words.iter().filter(|word| !explicit.contains(word)).cloned().collect::<Vec<_>>(),
        };
        // Without any word, the error is about the source.
        let known = (!found.words.is_empty()).then_some(&asked[..]);
        let words = resolve_classes((known, other_words), found, source)?;
        let unknown = unknown::words(&config.extra, &words, found, source)?;
        let mut all = config.classes.clone().unwrap_or_else(|| words.clone());
        let missing: Vec<Name> = names.into_iter().filter(|name| !all.contains(name)).collect();
        all.extend(missing);
        Ok(Classes { all, words, unknown })
    }

    /// The class of the clips of a word, if it is one or other words are a class.
    pub(super) fn index(&self, word: &Name) -> Option<u32> {
        let at = self.all.iter().position(|class| class == word);
        at.map(|at| at as u32).or_else(|| self.unknown.contains(word).then(|| self.position(UNKNOWN)).flatten())
    }

    fn position(&self, name: &str) -> Option<u32> {
        self.all.iter().position(|class| *class == *name).map(|at| at as u32)
    }
}

fn word(from: &UnknownFrom) -> Option<&Name> {
    match from {
        UnknownFrom::Word(word) => Some(word),
        _ => None,
    }
}

/// The words whose clips have to be read; none for all.
pub(super) fn wanted_words(config: &DataConfig) -> Option<Vec<Name>> {
    let classes = config.classes.as_ref()?;
    let takes_others = config.allow_other_words && classes.iter().any(|class| *class == *UNKNOWN);
    if takes_others || config.extra.unknown_from().contains(&UnknownFrom::OtherWords) {
        return None;
    }
    let names = config.extra.names();
    let own = classes.iter().filter(|class| !names.contains(class));
    Some(own.chain(config.extra.unknown_from().iter().filter_map(word)).cloned().collect())
}

/// The added classes of a data set that was read.
#[derive(Debug, Default)]
pub(super) struct Extra {
    unknown: Option<Unknown>,
    silence: Option<Silence>,
}

#[derive(Debug)]
struct Unknown {
    class: u32,
    per_epoch: usize,
}

/// Adds the clips of the added classes to a data set that has those of its own words, in their splits.
pub(super) fn add(
    data: &mut Dataset,
    config: &DataConfig,
    classes: &Classes,
    progress: Progress<'_>,
) -> Result<(), DataError> {
    let mut extra = Extra::default();
    let words = words_by_split(data, classes);
    if let (Some(of), Some(class)) = (&config.extra.unknown, classes.position(UNKNOWN)) {
        for folder in unknown::folders(&of.from) {
            unknown::add_folder(data, &folder, (config, classes), class, progress)?;
        }
        data.sort_clips();
        let per_epoch = unknown::choose(data, class, of.share, words)?;
        extra.unknown = Some(Unknown { class, per_epoch });
    }
    if let (Some(of), Some(class)) = (&config.extra.silence, classes.position(SILENCE)) {
        extra.silence = Some(Silence::add(data, of, class, words)?);
        data.sort_clips();
    }
    data.set_extra(extra);
    Ok(())
}

/// The clips of words that are classes in training, validation and testing.
fn words_by_split(data: &Dataset, classes: &Classes) -> [usize; 3] {
    let is_word = |class: u32| classes.words.contains(&classes.all[class as usize]);
    let mut counts = [0; 3];
    for clip in data.clips().iter().filter(|clip| is_word(clip.class)) {
        counts[clip.split as usize] += 1;
    }
    counts
}

/// How many clips `share` of `words` are: rounded up, where a product that is off by its rounding error counts as whole.
fn share_of(share: f64, words: usize) -> usize {
    (share * words as f64 - 1e-9).ceil().max(0.0) as usize
}

impl Dataset {
    /// The class of other words, if one was added ([`ExtraClasses::unknown`]).
    pub fn unknown_class(&self) -> Option<u32> {
        self.extra().unknown.as_ref().map(|unknown| unknown.class)
    }

    /// The class of sound without a word, if one was added ([`ExtraClasses::silence`]).
    pub fn silence_class(&self) -> Option<u32> {
        self.extra().silence.as_ref().map(Silence::class)
    }

    /// How many of the training clips of other words each epoch uses.
    pub fn unknown_per_epoch(&self) -> usize {
        self.extra().unknown.as_ref().map_or(0, |unknown| unknown.per_epoch)
    }

    /// How many clips an epoch of training uses: all training clips, except that of other words there may be more ([`Dataset::unknown_per_epoch`]).
    pub fn clips_per_epoch(&self) -> usize {
        EpochClips::new(self, 0).len()
    }

    /// Whether clip number `clip` is of one of the added classes.
    pub fn is_extra(&self, clip: usize) -> bool {
        let class = self.clips().get(clip).map(|clip| clip.class);
        class.is_some() && (class == self.unknown_class() || class == self.silence_class())
    }

    /// What a user may want to know about the noise that the class of silence is cut from.
    pub fn silence_remark(&self) -> Option<&str> {
        self.extra().silence.as_ref().and_then(Silence::remark)
    }

    /// A hash of the noise that the class of silence is cut from.
    pub fn silence_fingerprint(&self) -> Option<String> {
        self.extra().silence.as_ref().and_then(Silence::fingerprint)
    }

    /// The training stretches of the noise that the class of silence is cut from, if it is this noise.
    pub(super) fn silence_noise(&self, noise: &NoiseSource) -> Option<super::augment::NoiseBank> {
        self.extra().silence.as_ref().and_then(|silence| silence.training_noise(noise))
    }

    /// The silence class with its noise.
    pub(super) fn silence(&self) -> Option<&Silence> {
        self.extra().silence.as_ref()
    }
}

/// Divides the clips of the data set itself at random, word by word, if that is the rule.
pub(super) fn divide(data: &mut Dataset, rule: SplitRule, table: Option<&Table>) {
    if let SplitRule::Random { seed } = rule {
        data.deal(seed, |clip| super::dataset::class_name(clip, table));
    }
}

/// All splits with fixed clips.
const FIXED: [Split; 2] = [Split::Validation, Split::Testing];
