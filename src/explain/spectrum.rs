//! Spectra: the magnitude response of taps, and the spectrogram of a clip.

pub use crate::base::mel::{hz_to_mel, mel_edges, mel_to_hz};

use realfft::RealFftPlanner;
use realfft::num_complex::Complex;
use std::f64::consts::TAU;

/// The discrete Fourier transform of real values, `values.len()` at most `size`, zero-padded to `size`: `size / 2 + 1` values, from 0 Hz to the Nyquist frequency.
///
/// # Panics
/// `size` is 0 or less than the number of values.
pub(super) fn transform(planner: &mut RealFftPlanner<f64>, values: &[f64], size: usize) -> Vec<Complex<f64>> {
    let fft = planner.plan_fft_forward(size);
    let mut padded = fft.make_input_vec();
    padded[..values.len()].copy_from_slice(values);
    let mut spectrum = fft.make_output_vec();
    fft.process(&mut padded, &mut spectrum).expect("both buffers are those of the transform");
    spectrum
}

/// The magnitude of the frequency response of a filter with these taps, at the `size / 2 + 1` frequencies of [`frequencies`]. More taps than `size` are transformed without padding to the next
/// power of two that holds them, of which the response has half as many values and one.
pub fn magnitude_response(taps: &[f64], size: usize) -> Vec<f64> {
    let size = if taps.len() > size { taps.len().next_power_of_two() } else { size.max(1) };
    transform(&mut RealFftPlanner::new(), taps, size).iter().map(|value| value.norm()).collect()
}

/// The frequencies, in Hz, of a transform of `size` values sampled at `rate` Hz.
pub fn frequencies(size: usize, rate: f64) -> Vec<f64> {
    (0..=size / 2).map(|bin| bin as f64 * rate / size.max(1) as f64).collect()
}

/// A magnitude in decibels relative to `reference`, not less than `floor`; the floor where there is no such ratio.
pub fn decibels(magnitude: f64, reference: f64, floor: f64) -> f64 {
    let level = 20.0 * (magnitude / reference).log10();
    if level.is_finite() { level.max(floor) } else { floor }
}

/// How a spectrogram is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpectrogramSettings {
    /// Length of the Hann window in seconds.
    pub window: f64,
    /// Seconds from one frame to the next.
    pub hop: f64,
    /// The least value, in decibels relative to the maximum of the clip.
    pub floor: f64,
}

impl Default for SpectrogramSettings {
    /// Windows of 25 ms every 10 ms, which is usual for speech, and a range of 80 dB.
    fn default() -> SpectrogramSettings {
        SpectrogramSettings { window: 0.025, hop: 0.010, floor: -80.0 }
    }
}

/// The power of a clip over time and frequency.
#[derive(Clone, Debug)]
pub struct Spectrogram {
    /// Frames, in time.
    pub frames: usize,
    /// Frequencies, from 0 Hz to `top`.
    pub bins: usize,
    /// Decibels relative to the maximum, `[bins, frames]`.
    pub decibels: Vec<f32>,
    /// Seconds from one frame to the next: frame `t` is centred at `(t + 1/2) * hop`, so that the frames side by side cover the clip.
    pub hop: f64,
    /// Frequency of the last bin, in Hz: half the sample rate.
    pub top: f64,
}

/// The most frames of a spectrogram: with more, the hop is longer. A picture is not wider.
const MOST_FRAMES: usize = 4096;
/// The most samples of a window.
const MOST_SAMPLES: usize = 1 << 16;

impl Spectrogram {
    /// The spectrogram of mono samples at `rate` Hz. The clip is followed and preceded by zeros. A silent clip has the floor everywhere; samples that are not finite count as zero.
    pub fn of(samples: &[f32], rate: f64, settings: &SpectrogramSettings) -> Spectrogram {
        let count = |seconds: f64, least: usize| ((seconds * rate).round() as usize).clamp(least, MOST_SAMPLES);
        let window = count(settings.window, 4);
        let hop = count(settings.hop, 1).max(samples.len().div_ceil(MOST_FRAMES));
        let (size, frames) = (window.next_power_of_two(), samples.len().div_ceil(hop).max(1));
        let bins = size / 2 + 1;
        // The periodic Hann window.
        let hann: Vec<f64> = (0..window).map(|i| 0.5 - 0.5 * (TAU * i as f64 / window as f64).cos()).collect();
        let mut planner = RealFftPlanner::new();
        let mut power = vec![0.0; bins * frames];
        let mut frame = vec![0.0; window];
        for at in 0..frames {
            // The first sample of the window, which is negative in the first frames.
            let first = (at * hop + hop / 2) as i64 - (window / 2) as i64;
            for (i, (value, weight)) in frame.iter_mut().zip(&hann).enumerate() {
                let sample = usize::try_from(first + i as i64).ok().and_then(|i| samples.get(i)).copied();
                *value = weight * f64::from(sample.filter(|sample| sample.is_finite()).unwrap_or(0.0));
            }
            let spectrum = transform(&mut planner, &frame, size);
            for (bin, value) in spectrum.iter().enumerate() {
                power[bin * frames + at] = value.norm();
            }
        }
        let most = power.iter().copied().fold(0.0, f64::max);
        let decibels = power.iter().map(|&value| decibels(value, most, settings.floor) as f32).collect();
        Spectrogram { frames, bins, decibels, hop: hop as f64 / rate, top: rate / 2.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_is_one_line_of_the_spectrogram() {
        let rate = 16_000.0;
        let tone: Vec<f32> = (0..16_000).map(|i| (TAU * 2000.0 * i as f64 / rate).sin() as f32).collect();
        let it = Spectrogram::of(&tone, rate, &SpectrogramSettings::default());
        assert_eq!((it.frames, it.bins, it.top, it.hop), (100, 257, 8000.0, 0.01));
        let column = |frame: usize| (0..it.bins).map(move |bin| bin * it.frames + frame);
        for frame in [5, 50, 95] {
            let loudest = column(frame).max_by(|&a, &b| it.decibels[a].total_cmp(&it.decibels[b])).unwrap();
            assert_eq!(loudest / it.frames, 64, "2000 Hz are bin 64 of 31.25 Hz each");
            assert!(it.decibels[loudest] > -0.1 && it.decibels[160 * it.frames + frame] < -70.0);
        }
    }

    #[test]
    fn a_click_is_in_the_frame_of_its_time() {
        let mut clip = vec![0.0; 16_000];
        clip[8000] = 1.0;
        let it = Spectrogram::of(&clip, 16_000.0, &SpectrogramSettings::default());
        // Sample 8000 is at the border of frames 49 and 50, whose windows reach 200 samples from their centres.
        let loud: Vec<usize> = (0..it.frames).filter(|frame| it.decibels[frame + 10 * it.frames] > -80.0).collect();
        assert_eq!(loud, [49, 50]);
    }

    #[test]
    fn unusual_clips_have_a_spectrogram() {
        let settings = SpectrogramSettings::default();
        for clip in [&[][..], &[0.0; 4000], &[f32::NAN, f32::INFINITY, 0.0]] {
            for rate in [1.0, 16_000.0, 768_000.0] {
                let it = Spectrogram::of(clip, rate, &settings);
                assert_eq!(it.decibels.len(), it.frames * it.bins);
                assert!(it.decibels.iter().all(|&v| v == -80.0), "{} samples at {rate} Hz", clip.len());
            }
        }
        assert_eq!(Spectrogram::of(&vec![0.5; 1 << 20], 8.0, &settings).frames, 4096);
    }
}
