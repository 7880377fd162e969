//! The background noise of a split.

use crate::base::FULL_SCALE;
use crate::base::rng::{Key, Stream};
use crate::data::augment::{NoiseBank, NoiseSource};
use crate::data::dataset::Dataset;
use crate::data::error::DataError;
use crate::data::split::Split;

use super::silence::stretch;

impl Dataset {
    /// Recordings of background noise for one split, mono at the rate of the data set with full scale 1: of each recording the stretch from which the class
    /// `_silence_` has its segments in this split.
    ///
    /// # Errors
    /// The noise cannot be read, or there is none.
    pub fn background(&self, source: &NoiseSource, split: Split) -> Result<Vec<Vec<f32>>, DataError> {
        let bank =
            NoiseBank::load(source, self, Key::new(0, Stream::Silence))?.cut(|track| stretch(track.len(), split));
        let scaled = |track: &Vec<i16>| track.iter().map(|&x| f32::from(x) * FULL_SCALE).collect();
        Ok(bank.tracks().iter().map(scaled).collect())
    }
}
