//! The bytes of one sound file to the samples that a network hears: one rate, one channel count, 16 bits.

use serde::{Deserialize, Serialize};

use crate::base::Name;

use super::decode::{self, Container};
use super::error::{ClipError, ClipFault};
use super::pcm::{Pcm, Values};
use super::resample::Resampler;
use super::wav;

/// Most values of a file that [`read_clip`] decodes, channels counted: 1 GiB as `f32`, four hours of 16 kHz mono.
const MAX_VALUES: usize = 1 << 28;
/// Sample rates that a recording can have.
pub(super) const RATES_HZ: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// What a network listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// Samples a second and channel.
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

/// Reads clip after clip into one format; keeps the resampler's filter in between.
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
        let pcm = match bytes {
            [] => return Err(ClipFault::EmptyFile),
            [b'R', b'I', b'F', b'F', ..] | [b'R', b'F', b'6', b'4', ..] => wav::read(bytes, self.limit)?,
            [b'f', b'L', b'a', b'C', ..] => decode::read(bytes, Container::Flac, self.limit)?,
            [b'O', b'g', b'g', b'S', ..] => decode::read(bytes, Container::Ogg, self.limit)?,
            _ => {
                return Err(ClipFault::NotAudio { looks_like: looks_like(bytes).into() });
            }
        };
        self.convert(pcm)
    }

    /// Brings decoded values to the format.
    pub(super) fn convert(&mut self, pcm: Pcm) -> Result<Clip, ClipFault> {
        let Format { rate_hz, channels } = self.format;
        let (source_rate_hz, source_channels) = (pcm.rate_hz, pcm.channels);
        if !RATES_HZ.contains(&source_rate_hz) {
            return Err(ClipFault::Rate { rate_hz: source_rate_hz });
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

/// Decodes one sound file (WAV, FLAC or Ogg Vorbis) from memory and brings it to `format`: mixed to mono if that is
/// what the network takes, resampled, rounded to 16 bits. `name` appears in the error alone.
///
/// # Errors
/// Whatever is wrong with the file; nothing is decoded beyond 2^28 values.
pub fn read_clip(bytes: &[u8], name: impl Into<Name>, format: Format) -> Result<Clip, ClipError> {
    let named = |fault| ClipError { name: name.into(), fault };
    ClipReader::new(format, MAX_VALUES).read(bytes).map_err(named)
}

/// Largest value of a floating-point file that is kept, 48 dB above full scale: what is larger is no sound, and would
/// overflow to infinity inside the resampler.
const MAX_VALUE: f32 = 256.0;

/// Values with full scale 1, or the place of the first that is no finite number.
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
fn mix(values: &[f32], channels: usize) -> Vec<f32> {
    let mean = |frame: &[f32]| (frame.iter().map(|&v| f64::from(v)).sum::<f64>() / channels as f64) as f32;
    values.chunks_exact(channels).map(mean).collect()
}

/// To 16 bits, the nearest, limited to full scale.
fn quantize(value: f32) -> i16 {
    (value * 32768.0).round_ties_even().clamp(-32768.0, 32767.0) as i16
}

/// What bytes that are no sound look like, for people.
fn looks_like(bytes: &[u8]) -> &'static str {
    let head = &bytes[..bytes.len().min(512)];
    match head {
        [b'I', b'D', b'3', ..] | [0xFF, 0xE2..=0xFF, ..] => "an MP3 file",
        [b'R', b'I', b'F', b'X', ..] => "a big-endian WAV file",
        [b'F', b'O', b'R', b'M', ..] => "an AIFF file",
        [0x1F, 0x8B, ..] => "a gzip archive",
        [b'P', b'K', ..] => "a zip archive",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "an MP4 file",
        _ if head.iter().all(|&b| b == 0) => "a file of zeros",
        _ if text(head) => "a text file",
        _ => "a file of another kind",
    }
}

fn text(head: &[u8]) -> bool {
    let printable = |c: char| !c.is_control() || c.is_whitespace();
    match std::str::from_utf8(head) {
        Ok(text) => text.chars().all(printable),
        // A character may be cut where the sample ends.
        Err(e) => e.error_len().is_none() && head.len() == 512 && e.valid_up_to() > 500,
    }
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

    #[test]
    fn strange_bytes_are_named() {
        for (bytes, what) in [
            (&b"ID3\x04"[..], "an MP3 file"),
            (b"hello, this is no sound", "a text file"),
            (b"\0\0\0\0", "a file of zeros"),
            (b"\x7fELF\x02\x01\x01\0", "a file of another kind"),
        ] {
            let error = read_clip(bytes, "a.wav", Format { rate_hz: 16_000, channels: 1 }).unwrap_err();
            assert_eq!(error.fault, ClipFault::NotAudio { looks_like: what.into() });
            assert!(error.to_string().starts_with("a.wav: it is "), "{error}");
        }
    }
}
