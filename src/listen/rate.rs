//! Samples of a stream at the network's rate.

use super::error::ListenError;
use crate::base::resample::StreamResampler;

/// Largest absolute value of a sample: 48 dB above full scale. Larger ones would overflow inside the resampler.
const MOST: f32 = 256.0;
/// Rates that can be converted.
const RATES_HZ: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// Converts a stream of one channel to another sample rate. The result does not depend on how the stream is cut into pieces.
pub struct RateConverter(Conversion);

enum Conversion {
    /// It has the wanted rate.
    None,
    /// It is resampled.
    Resampled { from_hz: u32, to_hz: u32, resampler: Box<StreamResampler> },
}

impl RateConverter {
    /// A stream that has the wanted rate already.
    pub(super) fn none() -> RateConverter {
        RateConverter(Conversion::None)
    }

    /// A converter between two rates in hertz.
    ///
    /// # Errors
    /// The rate of the stream is below 1,000 or above 768,000 Hz, or cannot be converted.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<RateConverter, ListenError> {
        if from_hz == to_hz {
            return Ok(RateConverter::none());
        }
        let refused = |reason: String| ListenError::Rate { from_hz, to_hz, reason };
        if !RATES_HZ.contains(&from_hz) {
            return Err(refused("it is no rate of sound".into()));
        }
        let resampler = Box::new(StreamResampler::new(from_hz, to_hz).map_err(refused)?);
        Ok(RateConverter(Conversion::Resampled { from_hz, to_hz, resampler }))
    }

    /// Takes the next samples, and appends what they complete to `out`.
    ///
    /// # Errors
    /// A sample is not finite.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<(), ListenError> {
        if let Some(at) = samples.iter().position(|x| !x.is_finite()) {
            return Err(ListenError::NonFinite { at });
        }
        match &mut self.0 {
            Conversion::None => out.extend_from_slice(samples),
            Conversion::Resampled { from_hz, to_hz, resampler } => {
                let limited: Vec<f32> = samples.iter().map(|x| x.clamp(-MOST, MOST)).collect();
                let (from_hz, to_hz) = (*from_hz, *to_hz);
                resampler.push(&limited, out).map_err(|reason| ListenError::Rate { from_hz, to_hz, reason })?;
            }
        }
        Ok(())
    }

    /// Appends the rest of the stream.
    ///
    /// # Errors
    /// The resampler fails.
    pub fn finish(self, out: &mut Vec<f32>) -> Result<(), ListenError> {
        match self.0 {
            Conversion::None => Ok(()),
            Conversion::Resampled { from_hz, to_hz, resampler } => {
                resampler.finish(out).map_err(|reason| ListenError::Rate { from_hz, to_hz, reason })
            }
        }
    }
}
