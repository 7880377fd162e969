//! Floor 1. Another sample rate for a whole clip, through rubato's FFT resampler.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

/// Frames of a block of the higher rate, about: the filter spans it, so the larger, the steeper. At 16 kHz out of
/// 44.1 or 48 kHz the passband ends near 7.8 kHz.
const BLOCK_FRAMES: usize = 4096;

/// Resamples clips; keeps its filter from clip to clip while rates and channels stay the same.
#[derive(Default)]
pub(super) struct Resampler {
    current: Option<((u32, u32, u32), Fft<f32>)>,
}

impl Resampler {
    /// `samples` (`channels` interleaved) from `from_hz` to `to_hz`: `ceil(frames * to_hz / from_hz)` frames without
    /// the filter's delay. The error is a text of rubato's.
    pub(super) fn resample(
        &mut self,
        samples: &[f32],
        channels: u32,
        from_hz: u32,
        to_hz: u32,
    ) -> Result<Vec<f32>, String> {
        let key = (channels, from_hz, to_hz);
        let fft = match &mut self.current {
            Some((current, fft)) if *current == key => fft,
            slot => {
                let (from, to, wide) = (from_hz as usize, to_hz as usize, channels as usize);
                let window = WindowFunction::BlackmanHarris2;
                let block = block_frames(from, to);
                let fft =
                    Fft::new_custom(from, to, block, 1, wide, window, FixedSync::Both).map_err(|e| e.to_string())?;
                &mut slot.insert((key, fft)).1
            }
        };
        let frames = samples.len() / channels as usize;
        let input = InterleavedSlice::new(samples, channels as usize, frames).map_err(|e| e.to_string())?;
        let output = fft.process_all(&input, frames, None).map_err(|e| e.to_string())?;
        Ok(output.take_data())
    }
}

/// Frames of a block at the rate `from`: near [`BLOCK_FRAMES`] at the higher of both rates, whole periods of both, and
/// even, because the filter of an odd block lies half a sample off its centre.
fn block_frames(from: usize, to: usize) -> usize {
    let (mut period, mut rest) = (from, to); // Euclid: `period` ends as the greatest common divisor
    while rest != 0 {
        (period, rest) = (rest, period % rest);
    }
    let step = 2 * (from / period);
    let wanted = BLOCK_FRAMES * from / from.max(to);
    wanted.div_ceil(step).max(1) * step
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f64, rate_hz: u32, frames: usize) -> Vec<f32> {
        (0..frames).map(|i| (std::f64::consts::TAU * hz * i as f64 / f64::from(rate_hz)).sin() as f32 * 0.5).collect()
    }

    /// Root mean square of the difference to `expected`, edges of 5 % left out, relative to full scale.
    fn error(actual: &[f32], expected: &[f32]) -> f64 {
        assert_eq!(actual.len(), expected.len());
        let edge = actual.len() / 20;
        let inner = edge..actual.len() - edge;
        let sum: f64 = inner.clone().map(|i| f64::from(actual[i] - expected[i]).powi(2)).sum();
        (sum / inner.len() as f64).sqrt()
    }

    #[test]
    fn a_tone_keeps_its_place_and_height_at_every_common_rate() {
        for rate_hz in [8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000, 16_001] {
            let mut resampler = Resampler::default();
            for hz in [440.0, 3_000.0] {
                let clip = sine(hz, rate_hz, rate_hz as usize);
                let got = resampler.resample(&clip, 1, rate_hz, 16_000).unwrap();
                assert!(error(&got, &sine(hz, 16_000, 16_000)) < 1e-4, "{rate_hz} Hz, tone of {hz} Hz");
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_filtered_away() {
        for hz in [8_500.0, 10_000.0, 15_000.0] {
            let clip = sine(hz, 44_100, 44_100);
            let got = Resampler::default().resample(&clip, 1, 44_100, 16_000).unwrap();
            assert!(error(&got, &[0.0; 16_000]) < 1e-4, "tone of {hz} Hz");
        }
    }

    #[test]
    fn channels_stay_apart_and_short_clips_have_their_length() {
        let left = sine(500.0, 48_000, 4_800);
        let interleaved: Vec<f32> = left.iter().flat_map(|&v| [v, 0.0]).collect();
        let got = Resampler::default().resample(&interleaved, 2, 48_000, 16_000).unwrap();
        assert_eq!(got.len(), 2 * 1_600);
        assert!(got.iter().skip(1).step_by(2).all(|&v| v == 0.0));
        assert_eq!(Resampler::default().resample(&[0.5], 1, 48_000, 16_000).unwrap().len(), 1);
    }
}
