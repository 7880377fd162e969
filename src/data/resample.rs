//! Another sample rate for a whole clip, through rubato's windowed-sinc resampler.
//!
//! (Its FFT resampler is generic down to the last butterfly: used here, all of rustfft would be compiled into this
//! crate, which made it take three times as long to build.)

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Async, FixedAsync, Resampler as _, SincInterpolationParameters, WindowFunction};

/// Frames of input that rubato takes at once.
const CHUNK_FRAMES: usize = 1024;
/// Taps of the filter: the passband ends near 7.6 kHz at 16 kHz, and what lies beyond 8 kHz is 90 dB down.
const FILTER_TAPS: usize = 256;

/// Resamples clips; keeps its filter from clip to clip while rates and channels stay the same.
#[derive(Default)]
pub(super) struct Resampler {
    current: Option<((u32, u32, u32), Async<f32>)>,
}

impl Resampler {
    /// `samples` (`channels` interleaved) from `from_hz` to `to_hz`: `ceil(frames * to_hz / from_hz)` frames without
    /// the filter's delay, to within about a sample (rubato drops whole samples of it). The error is a text of rubato's.
    pub(super) fn resample(
        &mut self,
        samples: &[f32],
        channels: u32,
        from_hz: u32,
        to_hz: u32,
    ) -> Result<Vec<f32>, String> {
        let key = (channels, from_hz, to_hz);
        let sinc = match &mut self.current {
            Some((current, sinc)) if *current == key => sinc,
            slot => {
                let ratio = f64::from(to_hz) / f64::from(from_hz);
                let filter = SincInterpolationParameters::new(FILTER_TAPS, WindowFunction::BlackmanHarris2);
                let channels = channels as usize;
                let sinc = Async::new_sinc(ratio, 1.0, &filter, CHUNK_FRAMES, channels, FixedAsync::Input)
                    .map_err(|e| e.to_string())?;
                &mut slot.insert((key, sinc)).1
            }
        };
        let frames = samples.len() / channels as usize;
        let input = InterleavedSlice::new(samples, channels as usize, frames).map_err(|e| e.to_string())?;
        let output = sinc.process_all(&input, frames, None).map_err(|e| e.to_string())?;
        Ok(output.take_data())
    }
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

    /// Height and delay in samples of a tone of `hz` in `clip` at 16 kHz, edges of 5 % left out.
    fn tone(clip: &[f32], hz: f64) -> (f64, f64) {
        let edge = clip.len() / 20;
        let angle = |i: usize| std::f64::consts::TAU * hz * i as f64 / 16_000.0;
        let (mut sine, mut cosine) = (0.0, 0.0);
        for (i, &v) in clip.iter().enumerate().take(clip.len() - edge).skip(edge) {
            sine += f64::from(v) * angle(i).sin();
            cosine += f64::from(v) * angle(i).cos();
        }
        let scale = 2.0 / (clip.len() - 2 * edge) as f64;
        (sine.hypot(cosine) * scale, (-cosine).atan2(sine) / angle(1))
    }

    #[test]
    fn a_tone_keeps_its_height_and_its_place_within_about_a_sample_at_every_common_rate() {
        for rate_hz in [8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000, 16_001] {
            let mut resampler = Resampler::default();
            for hz in [400.0, 3_000.0] {
                let got = resampler.resample(&sine(hz, rate_hz, rate_hz as usize), 1, rate_hz, 16_000).unwrap();
                let (height, delay) = tone(&got, hz);
                assert_eq!(got.len(), 16_000);
                assert!((height - 0.5).abs() < 1e-3, "{rate_hz} Hz, tone of {hz} Hz: height {height}");
                assert!(delay.abs() <= 1.1, "{rate_hz} Hz, tone of {hz} Hz: delay {delay}");
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
