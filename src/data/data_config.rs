//! How a data set is read.

use crate::base::{INPUT_RATES_HZ, Name};

use super::clip::Format;
use super::crop::Crop;
use super::error::DataError;
use super::extra::ExtraClasses;
use super::split::SplitRule;
use super::statistics::Standardise;
use super::store::CacheMode;

/// Most channels of a clip.
const MOST_CHANNELS: u32 = 4096;

/// How a data set is read.
#[derive(Clone, Debug, PartialEq)]
pub struct DataConfig {
    /// Frames of a network's input: longer clips are cut, shorter ones padded with zeros at the end.
    pub length: usize,
    /// Which part of a longer clip is used.
    pub crop: Crop,
    /// How many times `length` is kept in memory of a longer clip, for random windows of it in training ([`Augment`](super::Augment)): 1 keeps only the
    /// part that is used, 4 is enough to choose from.
    pub windows: usize,
    /// Rate and channels.
    pub format: Format,
    /// The classes in the order of the network's outputs; all word folders in alphabetical order if not given.
    pub classes: Option<Vec<Name>>,
    /// The classes that are added to the words. Where [`DataConfig::classes`] names them, their outputs have that place, else the last ones.
    pub extra: ExtraClasses,
    /// How clips are divided into training, validation and test clips.
    pub split: SplitRule,
    /// Whether a single clip that cannot be used is an error.
    pub strict: bool,
    /// Whether a class may be without clips. A report needs to show such a class; training refuses it.
    pub allow_empty_classes: bool,
    /// Whether the source may lack classes, and may have words that are no class, whose clips are counted in the ledger; it
    /// implies `allow_empty_classes`. If [`UNKNOWN`](super::UNKNOWN) is one of the classes, they are of that class. This is for the evaluation of a
    /// network on recordings that it was not made for.
    pub allow_other_words: bool,
    /// Whether the mean of each channel is subtracted and the difference divided by the standard deviation.
    pub standardise: Standardise,
    /// Where decoded clips are kept.
    pub cache: CacheMode,
}

impl Default for DataConfig {
    /// One second of 16 kHz mono, all words, split by speaker.
    fn default() -> DataConfig {
        DataConfig {
            length: 16_000,
            crop: Crop::Start,
            windows: 1,
            format: Format { rate_hz: 16_000, channels: 1 },
            classes: None,
            extra: ExtraClasses::default(),
            split: SplitRule::Speaker,
            strict: false,
            allow_empty_classes: false,
            allow_other_words: false,
            standardise: Standardise::No,
            cache: CacheMode::Auto,
        }
    }
}

impl DataConfig {
    /// Checks the ranges of the settings.
    pub(super) fn check(&self) -> Result<(), DataError> {
        self.extra.check()?;
        let Format { rate_hz, channels } = self.format;
        let (min_hz, max_hz) = (u64::from(*INPUT_RATES_HZ.start()), u64::from(*INPUT_RATES_HZ.end()));
        for (what, value, min, max) in [
            ("input length", self.length as u64, 1, 1 << 24),
            ("number of windows", self.windows as u64, 1, 1 << 10),
            ("sample rate", rate_hz.into(), min_hz, max_hz),
            ("channel count", channels.into(), 1, MOST_CHANNELS.into()),
        ] {
            if !(min..=max).contains(&value) {
                return Err(DataError::BadSetting { what, value, min, max });
            }
        }
        Ok(())
    }
}
