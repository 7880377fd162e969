//! The settings of the augmentation, and their ranges.

use crate::data::error::DataError;

/// How training clips are altered; the default alters nothing.
///
/// Every time that a clip is used, new values are drawn for each alteration. `docs/recipes.md` has the formulas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augment {
    /// Largest time shift in seconds; the shift is uniform in `[-shift, shift]`, in whole frames. What is shifted in is zero, or the
    /// samples of a longer clip with [`Augment::random_crop`].
    pub shift: f64,
    /// Largest gain in dB; the gain in dB is uniform in `[-gain, gain]`.
    pub gain: f64,
    /// Probability that the sign of all samples is inverted.
    pub polarity: f64,
    /// Probability that the clip is filtered by one biquad: a high-pass, a low-pass, a peak or a notch.
    pub equaliser: f64,
    /// Probability that background noise is added.
    pub noise: f64,
    /// Smallest signal-to-noise ratio in dB; the ratio of a clip with noise is uniform in `[snr_low, snr_high]`.
    pub snr_low: f64,
    /// Largest signal-to-noise ratio in dB.
    pub snr_high: f64,
    /// The speed of every clip is changed by a factor whose logarithm is uniform in `[-ln(1 + speed), ln(1 + speed)]`.
    pub speed: f64,
    /// Probability that a stretch of the clip is set to zero.
    pub mask: f64,
    /// Longest such stretch in seconds; its length is uniform in `[mask_seconds / 4, mask_seconds]`.
    pub mask_seconds: f64,
    /// The parameter of mixup: each clip is mixed with another clip of its batch in proportions from the distribution
    /// Beta(`mixup`, `mixup`). 0 mixes nothing.
    pub mixup: f64,
    /// Whether a clip that is longer than the input of the network gives another random window of it each time. An evaluation always
    /// uses the window that [`Crop`](crate::data::Crop) selects.
    pub random_crop: bool,
}

impl Default for Augment {
    /// [`Augment::NONE`].
    fn default() -> Augment {
        Augment::NONE
    }
}

impl Augment {
    /// Nothing is altered. The values that other settings depend on are those to start from: 5 to 30 dB, 0.2 seconds.
    pub const NONE: Augment = Augment {
        shift: 0.0,
        gain: 0.0,
        polarity: 0.0,
        equaliser: 0.0,
        noise: 0.0,
        snr_low: 5.0,
        snr_high: 30.0,
        speed: 0.0,
        mask: 0.0,
        mask_seconds: 0.2,
        mixup: 0.0,
        random_crop: false,
    };

    /// Whether nothing is altered.
    pub fn is_none(&self) -> bool {
        let Augment { shift, gain, polarity, equaliser, noise, speed, mask, mixup, random_crop, .. } = *self;
        !random_crop && [shift, gain, polarity, equaliser, noise, speed, mask, mixup].iter().all(|&value| value == 0.0)
    }

    /// Checks the range of each value.
    ///
    /// # Errors
    /// [`DataError::BadAugment`] with the first value that is outside of its range or is not a number.
    pub fn check(&self) -> Result<(), DataError> {
        for (name, value, min, max) in [
            ("shift", self.shift, 0.0, 60.0),
            ("gain", self.gain, 0.0, 60.0),
            ("polarity", self.polarity, 0.0, 1.0),
            ("equaliser", self.equaliser, 0.0, 1.0),
            ("noise", self.noise, 0.0, 1.0),
            ("snr_high", self.snr_high, -100.0, 100.0),
            ("snr_low", self.snr_low, -100.0, self.snr_high),
            ("speed", self.speed, 0.0, 1.0),
            ("mask", self.mask, 0.0, 1.0),
            ("mask_seconds", self.mask_seconds, 0.001, 60.0),
            ("mixup", self.mixup, 0.0, 100.0),
        ] {
            if !(min..=max).contains(&value) {
                return Err(DataError::BadAugment { name, value, min, max });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_none_and_any_alteration_is_not() {
        let none = Augment::default();
        assert!(none.is_none() && none.check().is_ok());
        assert!(Augment { snr_low: 0.0, mask_seconds: 1.0, ..none }.is_none(), "nothing uses these values");
        for some in [
            Augment { shift: 0.1, ..none },
            Augment { gain: 6.0, ..none },
            Augment { polarity: 0.5, ..none },
            Augment { equaliser: 0.5, ..none },
            Augment { noise: 0.5, ..none },
            Augment { speed: 0.1, ..none },
            Augment { mask: 0.5, ..none },
            Augment { mixup: 0.2, ..none },
            Augment { random_crop: true, ..none },
        ] {
            assert!(!some.is_none() && some.check().is_ok(), "{some:?}");
        }
    }

    #[test]
    fn values_outside_of_their_range_are_named() {
        let none = Augment::default();
        for (wrong, text) in [
            (
                Augment { polarity: 1.5, ..none },
                "the augmentation setting `polarity` is 1.5; it must lie between 0 and 1",
            ),
            (
                Augment { shift: f64::NAN, ..none },
                "the augmentation setting `shift` is NaN; it must lie between 0 and 60",
            ),
            (
                Augment { snr_low: 31.0, ..none },
                "the augmentation setting `snr_low` is 31; it must lie between -100 and 30",
            ),
            (Augment { mixup: -1.0, ..none }, "the augmentation setting `mixup` is -1; it must lie between 0 and 100"),
        ] {
            assert_eq!(wrong.check().unwrap_err().to_string(), text);
        }
    }
}
