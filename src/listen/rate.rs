//! Samples of a stream at the network's rate.

use super::error::ListenError;
use crate::base::resample::StreamResampler;

/// Largest absolute value of a sample: 48 dB above full scale. Larger ones would overflow inside the resampler.
const MOST: f32 = 256.0;
/// Rates that can be converted.
const RATES_HZ: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// Converts a stream of one channel to another sample rate.
pub(super) enum Rate {
    /// It has the network's rate.
    Same,
    /// It is resampled.
    Resampled { from_hz: u32, to_hz: u32, resampler: Box<StreamResampler> },
}

impl Rate {
    pub(super) fn new(from_hz: u32, to_hz: u32) -> Result<Rate, ListenError> {
        if from_hz == to_hz {
            return Ok(Rate::Same);
        }
        let refused = |reason: String| ListenError::Rate { from_hz, to_hz, reason };
        if !RATES_HZ.contains(&from_hz) {
            return Err(refused("it is no rate of sound".into()));
        }
        let resampler = Box::new(StreamResampler::new(from_hz, to_hz).map_err(refused)?);
        Ok(Rate::Resampled { from_hz, to_hz, resampler })
    }

    /// Takes the next samples, and appends what they complete to `out`.
    pub(super) fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<(), ListenError> {
        if let Some(at) = samples.iter().position(|x| !x.is_finite()) {
            return Err(ListenError::NonFinite { at });
        }
        match self {
            Rate::Same => out.extend_from_slice(samples),
            Rate::Resampled { from_hz, to_hz, resampler } => {
                let limited: Vec<f32> = samples.iter().map(|x| x.clamp(-MOST, MOST)).collect();
                let (from_hz, to_hz) = (*from_hz, *to_hz);
                resampler.push(&limited, out).map_err(|reason| ListenError::Rate { from_hz, to_hz, reason })?;
            }
        }
        Ok(())
    }

    /// Appends the rest.
    pub(super) fn finish(self, out: &mut Vec<f32>) -> Result<(), ListenError> {
        match self {
            Rate::Same => Ok(()),
            Rate::Resampled { from_hz, to_hz, resampler } => {
                resampler.finish(out).map_err(|reason| ListenError::Rate { from_hz, to_hz, reason })
            }
        }
    }
}
