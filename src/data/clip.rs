//! Decodes one audio file and converts it to the input format of a network: one sample rate, one number of channels, 16
//! bits.

use serde::{Deserialize, Serialize};

use crate::base::Name;
use crate::base::resample::Resampler;

use super::decode::{self, Stream};
use super::error::{ClipError, ClipFault};
use super::pcm::{Pcm, Values};
use super::signature::{self, Readable};
use super::wav;

/// Most values of a file that [`read_clip`] decodes, channels counted: 1 GiB as `f32`, four hours of 16 kHz mono.
const MAX_VALUES: usize = 1 << 28;
/// Accepted sample rates.
const RATES_HZ: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// Largest factor by which a rate is reduced: the filter gets longer with it.
const LARGEST_REDUCTION: u32 = 8_000;

/// Sample rate and channels of a network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// Samples per second and channel.
    pub rate_hz: u32,
    /// 1: clips of any channel count are mixed down. More: clips must have exactly so many.
    pub channels: u32,
}

/// One clip, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clip {
    /// `[frames, channels]`, full scale 32768.
    pub samples: Vec<i16>,
    /// The rate of the file, before resampling.
    pub source_rate_hz: u32,
    /// The channels of the file, before mixing.
    pub source_channels: u32,
}

/// Converts clips to one format; keeps the resampler's filter from clip to clip.
pub(super) struct ClipReader {
    format: Format,
    limit: usize,
    resampler: Resampler,
}

impl ClipReader {
    /// A reader that decodes at most `limit` values of a file.
    pub(super) fn new(format: Format, limit: usize) -> ClipReader {
        ClipReader { format, limit, resampler: Resampler::default() }
    }

    /// Decodes one file.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Clip, ClipFault> {
        let (format, stream) = signature::recognise(bytes)?;
        let pcm = match format {
            Readable::Wav => wav::read(stream, self.limit)?,
            Readable::Flac => decode::read(stream, Stream::Flac, self.limit)?,
            Readable::OggFlac => decode::read(stream, Stream::OggFlac, self.limit)?,
            Readable::OggVorbis => decode::read(stream, Stream::OggVorbis, self.limit)?,
        };
        self.convert(pcm)
    }

    /// Converts decoded values to the format.
    pub(super) fn convert(&mut self, pcm: Pcm) -> Result<Clip, ClipFault> {
        let Format { rate_hz, channels } = self.format;
        let (source_rate_hz, source_channels) = (pcm.rate_hz, pcm.channels);
        if !RATES_HZ.contains(&source_rate_hz) {
            return Err(ClipFault::Rate { rate_hz: source_rate_hz });
        }
        if source_rate_hz / rate_hz.max(1) > LARGEST_REDUCTION {
            return Err(ClipFault::TooFast { rate_hz: source_rate_hz, want_hz: rate_hz });
        }
        if channels > 1 && source_channels != channels {
            return Err(ClipFault::Channels { have: source_channels, want: channels });
        }
        let resampled_len = pcm.values.len() as u64 * u64::from(rate_hz) / u64::from(source_rate_hz);
        if resampled_len > self.limit as u64 {
            return Err(ClipFault::TooLong { limit: self.limit as u64 });
        }
        let mixes = channels == 1 && source_channels != 1;
        let samples = match pcm.values {
            Values::I16(samples) if !mixes && source_rate_hz == rate_hz => samples,
            values => {
                let mut values = finite(values)?;
                if mixes {
                    values = mix(&values, source_channels as usize);
                }
                if source_rate_hz != rate_hz {
                    let resampled = self.resampler.resample(&values, channels, source_rate_hz, rate_hz);
                    values = resampled.map_err(|reason| ClipFault::Damaged { reason })?;
                }
                values.into_iter().map(quantize).collect()
            }
        };
        Ok(Clip { samples, source_rate_hz, source_channels })
    }
}

/// Decodes one audio file (WAV, FLAC, Ogg Vorbis or Ogg FLAC) from memory and brings it to `format`: mixed to mono if that is
/// what the network takes, resampled, rounded to 16 bits. `name` is used only in the error.
///
/// The samples have the length of the file. [`Crop::write_input`](super::Crop::write_input) cuts them to the length of a
/// network's input, or pads them:
///
/// ```no_run
/// use stapes::data::{Crop, Format, read_clip};
/// use stapes::prelude::*;
/// use std::path::Path;
///
/// let Bundle { network, weights, classes, .. } = Bundle::open(Path::new("runs/lamps"), Which::Best)?;
/// let input = network.spec.input;
/// let mut predictor = Predictor::builder(network, weights).build()?;
///
/// let format = Format { rate_hz: input.sample_rate, channels: input.channels as u32 };
/// let clip = read_clip(&std::fs::read("clip.wav")?, "clip.wav", format)?;
/// let mut samples = vec![0.0; input.length * input.channels];
/// Crop::Start.write_input(&clip.samples, format.channels, &mut samples);
/// let prediction = &predictor.predict(&samples)?[0];
/// println!("{} with probability {:.3}", classes[prediction.class], prediction.probability);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Whatever is wrong with the file; nothing is decoded beyond 2^28 values.
pub fn read_clip(bytes: &[u8], name: impl Into<Name>, format: Format) -> Result<Clip, ClipError> {
    let named = |fault| ClipError { name: name.into(), fault };
    ClipReader::new(format, MAX_VALUES).read(bytes).map_err(named)
}

/// Limit on the values of a floating-point file, 48 dB above full scale: larger values would overflow to infinity inside
/// the resampler.
const MAX_VALUE: f32 = 256.0;

/// Values with full scale 1, or a fault with the index of the first value that is not finite.
pub(super) fn finite(values: Values) -> Result<Vec<f32>, ClipFault> {
    match values {
        Values::I16(values) => Ok(values.into_iter().map(|v| f32::from(v) / 32768.0).collect()),
        Values::F32(values) => match values.iter().position(|v| !v.is_finite()) {
            Some(at) => Err(ClipFault::NonFinite { at: at as u64 }),
            None => Ok(values.into_iter().map(|v| v.clamp(-MAX_VALUE, MAX_VALUE)).collect()),
        },
    }
}

/// The mean of the channels, frame by frame.
pub(super) fn mix(values: &[f32], channels: usize) -> Vec<f32> {
    let mean = |frame: &[f32]| (frame.iter().map(|&v| f64::from(v)).sum::<f64>() / channels as f64) as f32;
    values.chunks_exact(channels).map(mean).collect()
}

/// To 16 bits, the nearest, limited to full scale.
fn quantize(value: f32) -> i16 {
    (value * 32768.0).round_ties_even().clamp(-32768.0, 32767.0) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_exact_for_sixteen_bits_and_limited_beyond() {
        for v in i16::MIN..=i16::MAX {
            assert_eq!(quantize(f32::from(v) / 32768.0), v);
        }
        assert_eq!([quantize(1.0), quantize(-1.5), quantize(7.0)], [32767, -32768, 32767]);
    }
}
