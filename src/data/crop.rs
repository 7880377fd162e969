//! Which part of a clip that is longer than a network's input is used.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::samples::Sample;

/// Which part of a clip that is longer than a network's input is used. Shorter clips are padded with zeros at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Crop {
    /// The first samples.
    #[default]
    Start,
    /// The samples in the middle.
    Center,
    /// The samples with the largest energy, the first such part if several have the same.
    Loudest,
}

impl Crop {
    /// All values, in the order of the help.
    pub const ALL: [Crop; 3] = [Crop::Start, Crop::Center, Crop::Loudest];

    /// `start`, `center` or `loudest`, as in files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Crop::Start => "start",
            Crop::Center => "center",
            Crop::Loudest => "loudest",
        }
    }

    /// The frames of a clip that are used: at most `length` of `samples` (`[frames, channels]`).
    pub fn frames<T: Sample>(self, samples: &[T], channels: u32, length: usize) -> Range<usize> {
        let frames = samples.len() / (channels as usize).max(1);
        if frames <= length {
            return 0..frames;
        }
        let start = match self {
            Crop::Start => 0,
            Crop::Center => (frames - length) / 2,
            Crop::Loudest => T::loudest(samples, channels as usize, length),
        };
        start..start + length
    }

    /// Writes a clip (`samples`: `[frames, channels]`, full scale 32768 for 16-bit samples) as a network takes it into `input`
    /// (`[length, channels]`, full scale 1): a longer clip is cut, a shorter one padded with zeros at the end.
    pub fn write_input<T: Sample>(self, samples: &[T], channels: u32, input: &mut [f32]) {
        let width = (channels as usize).max(1);
        let frames = self.frames(samples, channels, input.len() / width);
        let used = &samples[frames.start * width..frames.end * width];
        let values = used.iter().map(|&v| v.value() * T::SCALE).chain(std::iter::repeat(0.0));
        input.iter_mut().zip(values).for_each(|(to, from)| *to = from);
    }
}

impl fmt::Display for Crop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Crop {
    type Err = String;

    fn from_str(text: &str) -> Result<Crop, String> {
        let crop = Crop::ALL.into_iter().find(|crop| crop.name() == text);
        crop.ok_or_else(|| format!("crop must be start, center or loudest, got `{}`", crate::base::name::display(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_05_each_crop_takes_its_part_of_a_long_clip() {
        let clip = [1i16, 0, 0, 9, -9, 0, 0, 9, 9, 0];
        let of = |crop: Crop, length| crop.frames(&clip, 1, length);
        assert_eq!([of(Crop::Start, 4), of(Crop::Center, 4), of(Crop::Center, 3)], [0..4, 3..7, 3..6]);
        assert_eq!(of(Crop::Loudest, 2), 3..5, "the first of two equal parts");
        assert_eq!(of(Crop::Loudest, 5), 3..8);
        assert_eq!(of(Crop::Loudest, 6), 3..9);
        for crop in Crop::ALL {
            assert_eq!(of(crop, 10), 0..10);
            assert_eq!(of(crop, 11), 0..10);
            assert_eq!(crop.name().parse::<Crop>(), Ok(crop));
        }
        assert_eq!(Crop::Loudest.frames(&[1, 1, 0, 5, i16::MIN, i16::MIN], 2, 1), 2..3, "frames of two channels");
        assert_eq!(Crop::Loudest.frames(&[0i16; 9], 1, 4), 0..4);
    }

    #[test]
    fn an_input_is_cut_or_padded_and_has_full_scale_1() {
        let mut input = [9.0; 4];
        Crop::Start.write_input(&[i16::MIN, 16_384], 2, &mut input);
        assert_eq!(input, [-1.0, 0.5, 0.0, 0.0]);
        Crop::Center.write_input(&[1i16, 1, 8_192, -8_192, 0, 4_096, 1, 1], 2, &mut input);
        assert_eq!(input, [0.25, -0.25, 0.0, 0.125]);
    }
}
