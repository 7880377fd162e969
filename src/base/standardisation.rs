//! Per-channel standardisation of inputs: the mean of each channel is subtracted, and the difference divided by the standard deviation.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The mean and the standard deviation of each channel of some clips.
///
/// ```
/// use stapes::base::Standardisation;
///
/// let of_two_channels = Standardisation::new(vec![1.0, 0.0], vec![2.0, 0.5])?;
/// let mut clip = [3.0, 1.0, 1.0, -1.0]; // two frames
/// of_two_channels.apply(&mut clip);
/// assert_eq!(clip, [1.0, 2.0, 0.0, -2.0]);
/// # Ok::<(), stapes::base::StandardisationError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Standardisation {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

/// What a file stores.
#[derive(Deserialize)]
struct Stored {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl TryFrom<Stored> for Standardisation {
    type Error = StandardisationError;

    fn try_from(stored: Stored) -> Result<Standardisation, StandardisationError> {
        Standardisation::new(stored.mean, stored.deviation)
    }
}

/// Why there is no such standardisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a standardisation has a finite mean and a positive standard deviation for each channel")]
pub struct StandardisationError;

impl Standardisation {
    /// A standardisation by these values, one for each channel.
    ///
    /// # Errors
    /// There is no channel, the lengths differ, a value is not finite, or a deviation is not positive.
    pub fn new(mean: Vec<f32>, deviation: Vec<f32>) -> Result<Standardisation, StandardisationError> {
        let finite = mean.iter().chain(&deviation).all(|value| value.is_finite());
        match finite && !mean.is_empty() && mean.len() == deviation.len() && deviation.iter().all(|&value| value > 0.0)
        {
            true => Ok(Standardisation { mean, deviation }),
            false => Err(StandardisationError),
        }
    }

    /// Channels.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// The mean of each channel.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The standard deviation of each channel.
    pub fn deviation(&self) -> &[f32] {
        &self.deviation
    }

    /// Fills `frames`, `[frames, channels]`, with the mean of each channel, which [`Standardisation::apply`] turns into 0: the padding of a clip that is
    /// standardised together with it.
    pub fn fill_padding(&self, frames: &mut [f32]) {
        frames.iter_mut().zip(self.mean.iter().cycle()).for_each(|(x, &mean)| *x = mean);
    }

    /// Standardises `frames`, `[frames, channels]`, in place.
    pub fn apply(&self, frames: &mut [f32]) {
        for frame in frames.chunks_mut(self.channels()) {
            for ((x, mean), deviation) in frame.iter_mut().zip(&self.mean).zip(&self.deviation) {
                *x = (*x - mean) / deviation;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_standardisation_is_refused_from_code_and_from_files() {
        assert!(Standardisation::new(vec![], vec![]).is_err());
        assert!(Standardisation::new(vec![0.0], vec![1.0, 1.0]).is_err());
        assert!(Standardisation::new(vec![f32::NAN], vec![1.0]).is_err());
        assert!(Standardisation::new(vec![0.0], vec![0.0]).is_err());
        assert!(serde_json::from_str::<Standardisation>(r#"{"mean":[1.0],"deviation":[-1.0]}"#).is_err());
        let stored = Standardisation::new(vec![0.1, 1e-30], vec![0.3, 1e30]).unwrap();
        let text = serde_json::to_string(&stored).unwrap();
        assert_eq!(serde_json::from_str::<Standardisation>(&text).unwrap(), stored, "{text}");
    }
}
