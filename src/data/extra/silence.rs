//! The class of sound without a word: segments of recordings of noise, and of digital silence.

use std::ops::Range;

use crate::base::Name;
use crate::base::rng::{Key, Stream};

use crate::data::augment::{NoiseBank, NoiseSource, pieces};
use crate::data::dataset::{ClipMeta, Dataset, clip_meta};
use crate::data::error::DataError;
use crate::data::prepare::{ClipInfo, fingerprint, peak_and_clipped_run};
use crate::data::samples::Bank;
use crate::data::source::clip_name;
use crate::data::split::Split;

use super::{ExtraError, SILENCE, SilenceClass, share_of};

/// Share of the segments that are digital silence: all samples are 0.
const DIGITAL: f64 = 0.1;
/// Smallest gain of a segment of noise, in dB; the gain in dB is uniform between it and 0.
const LOWEST_GAIN_DB: f64 = -40.0;
/// The seed of generated noise, and of the segments that are the same in every run.
const FIXED_SEED: u64 = 0;
/// The first coordinate of epochs, after those of the splits.
const EPOCHS: u64 = 3;
/// The coordinate of generated noise, beside the splits and the epochs.
const GENERATED: u64 = u64::MAX;

/// The class with the noise that its segments are cut from.
#[derive(Debug)]
pub(in crate::data) struct Silence {
    noise: NoiseBank,
    source: NoiseSource,
    class: u32,
    channels: usize,
}

/// The stretch of a recording of `len` samples that is used in a split: the first eight tenths for training, then a tenth each for validation and testing.
pub(super) fn stretch(len: usize, split: Split) -> Range<usize> {
    let at = |tenths: u128| (len as u128 * tenths / 10) as usize;
    match split {
        Split::Training => 0..at(8),
        Split::Validation => at(8)..at(9),
        Split::Testing => at(9)..len,
    }
}

impl Silence {
    /// Adds the segments of the class to `data`. Those of training are what the class has outside of training: each epoch draws others.
    pub(super) fn add(
        data: &mut Dataset,
        of: &SilenceClass,
        class: u32,
        words: [usize; 3],
    ) -> Result<Silence, DataError> {
        if !data.is_sound() {
            return Err(ExtraError::SilenceForArrays { data: data.source().into() }.into());
        }
        let key = Key::new(FIXED_SEED, Stream::Silence);
        let noise = NoiseBank::load(&of.noise, data, key.with(GENERATED))?;
        let silence = Silence { noise, source: of.noise.clone(), class, channels: data.format().channels as usize };
        let count: usize = words.iter().map(|&words| share_of(of.share, words)).sum();
        let (mut rows, mut clips) = (Vec::new(), Vec::new());
        let reserved = rows.try_reserve_exact(count.saturating_mul(data.row_len()));
        reserved.map_err(|_| DataError::Memory { source: std::io::ErrorKind::OutOfMemory.into() })?;
        for split in Split::ALL {
            for number in 0..share_of(of.share, words[split as usize]) {
                let start = rows.len();
                rows.resize(start + data.row_len(), 0);
                let track = silence.draw(key.with(split as u64).with(number as u64), split, &mut rows[start..]);
                clips.push(silence.segment(data, &rows[start..], (split, number, clips.len() as u32), track));
            }
        }
        data.add_bank(Bank::of_segments(rows), clips);
        Ok(silence)
    }

    /// The entry of a segment, which is row number `row`.
    fn segment(
        &self,
        data: &Dataset,
        samples: &[i16],
        (split, number, row): (Split, usize, u32),
        track: Option<usize>,
    ) -> ClipMeta {
        let (peak, clipped_run) = peak_and_clipped_run(samples);
        let file: Name = format!("{split}-{number:06}").into();
        let info = ClipInfo {
            name: clip_name(&SILENCE.into(), &file),
            listed: None,
            len_samples: data.length() as u64,
            source_rate_hz: data.format().rate_hz,
            source_channels: data.format().channels,
            start_sample: 0,
            peak,
            clipped_run,
            fingerprint: fingerprint(samples),
            row,
            kept: None,
        };
        // Each stretch of a recording counts as a speaker.
        let origin = track.map_or_else(|| "digital silence".into(), |track| self.noise.name(track));
        let speaker = clip_name(&origin, &split.name().into());
        clip_meta(&info, (self.class, split, speaker))
    }

    /// Writes a random segment for `split` to `row`, `[frames, channels]`, alike in all channels, and returns the track it is cut from; none for digital
    /// silence. A stretch that is shorter than the row is repeated.
    fn draw(&self, key: Key, split: Split, row: &mut [i16]) -> Option<usize> {
        let is_usable = |&i: &usize| !stretch(self.noise.tracks()[i].len(), split).is_empty();
        let usable: Vec<usize> = (0..self.noise.tracks().len()).filter(is_usable).collect();
        row.fill(0);
        let frames = row.len() / self.channels;
        if key.uniform(0) < DIGITAL || usable.is_empty() || frames == 0 {
            return None;
        }
        let track = usable[key.below(1, usable.len() as u64) as usize];
        let samples = &self.noise.tracks()[track];
        let samples = &samples[stretch(samples.len(), split)];
        let start = match samples.len() > frames {
            true => key.below(2, (samples.len() - frames) as u64 + 1),
            false => key.below(2, samples.len() as u64),
        };
        let gain = 10f64.powf(LOWEST_GAIN_DB * key.uniform(3) / 20.0);
        for (at, piece) in pieces(samples, start as usize, frames) {
            let row = &mut row[at * self.channels..(at + piece.len()) * self.channels];
            for (frame, &sample) in row.chunks_exact_mut(self.channels).zip(piece) {
                frame.fill((f64::from(sample) * gain).round() as i16);
            }
        }
        Some(track)
    }

    /// Writes the segment that clip number `clip` is in `epoch` of a training with `seed`, `[length, channels]`.
    pub(in crate::data) fn of_epoch(&self, (seed, epoch): (u64, u64), clip: u32, row: &mut [i16]) {
        let key = Key::new(seed, Stream::Silence).with(EPOCHS.wrapping_add(epoch)).with(clip.into());
        self.draw(key, Split::Training, row);
    }

    /// The class.
    pub(in crate::data) fn class(&self) -> u32 {
        self.class
    }

    pub(super) fn remark(&self) -> Option<&str> {
        self.noise.remark()
    }

    pub(super) fn fingerprint(&self) -> Option<String> {
        self.noise.fingerprint()
    }

    /// The training stretches, if the noise is from `source`.
    pub(super) fn training_noise(&self, source: &NoiseSource) -> Option<NoiseBank> {
        (self.source == *source).then(|| self.noise.cut(|track| stretch(track.len(), Split::Training)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stretches_of_a_recording_are_disjoint_and_cover_it() {
        for len in [0, 1, 9, 10, 11, 99, 960_000, usize::MAX] {
            let [training, validation, testing] = Split::ALL.map(|split| stretch(len, split));
            assert_eq!((training.start, training.end), (0, validation.start), "{len}");
            assert_eq!((validation.end, testing.end), (testing.start, len), "{len}");
        }
    }
}
