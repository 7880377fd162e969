//! Conversion of a clip or a stream to another sample rate, through rubato's windowed-sinc resampler.
//!
//! **Computes** a low-pass filter that is interpolated at the position of every output sample. The filter spans
//! [`FILTER_LEN`] samples *at the lower of both rates*, so its transition band has the same width relative to that rate,
//! whatever the ratio: frequencies up to 0.91 of the lower rate's Nyquist frequency pass unchanged, and everything from
//! the Nyquist frequency on is at least 100 dB down.
//!
//! **Cost** `4 * FILTER_LEN` multiply-accumulates per sample at the higher rate, and a table of `FILTER_LEN *
//! max(128, 4 * from_hz / to_hz)` filter values.
//!
//! rubato's FFT resampler would compile all of rustfft into this crate, which triples the time to build it.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Async, FixedAsync, Indexing, Resampler as _, SincInterpolationParameters, WindowFunction, calculate_cutoff,
};

/// Fewest frames of input that rubato takes at once.
const CHUNK_FRAMES: usize = 1024;
/// Length of the filter in samples at the lower of both rates.
const FILTER_LEN: usize = 256;
/// Points of the filter's table per sample at the lower rate; rubato interpolates between them with cubic polynomials.
const TABLE_POINTS: f64 = 128.0;
/// Fewest points of the table per sample at the input rate, as many as a cubic polynomial needs.
const MIN_OVERSAMPLING: usize = 4;

/// Resamples clips; keeps its filter from clip to clip while rates and channels stay the same.
#[cfg(feature = "audio")]
#[derive(Default)]
pub(crate) struct Resampler {
    current: Option<((u32, u32, u32), Async<f32>)>,
}

#[cfg(feature = "audio")]
impl Resampler {
    /// Converts `samples` (`channels` interleaved) from `from_hz` to `to_hz`. The result has `ceil(frames * to_hz /
    /// from_hz)` frames; the filter's delay is removed to within one sample at the lower rate, because rubato drops
    /// whole output samples.
    ///
    /// # Errors
    /// rubato's message, if it refuses the rates or the number of channels.
    pub(crate) fn resample(
        &mut self,
        samples: &[f32],
        channels: u32,
        from_hz: u32,
        to_hz: u32,
    ) -> Result<Vec<f32>, String> {
        let key = (channels, from_hz, to_hz);
        let sinc = match &mut self.current {
            Some((current, sinc)) if *current == key => sinc,
            outdated => &mut outdated.insert((key, new_filter(channels, from_hz, to_hz)?)).1,
        };
        let frames = samples.len() / channels as usize;
        let input = InterleavedSlice::new(samples, channels as usize, frames).map_err(|e| e.to_string())?;
        let output = sinc.process_all(&input, frames, None).map_err(|e| e.to_string())?;
        Ok(output.take_data())
    }
}

/// Resamples a stream of one channel. The result has the same bits as that of [`Resampler`] for the whole stream, however it is cut into pieces.
pub(crate) struct StreamResampler {
    sinc: Async<f32>,
    ratio: f64,
    /// Samples that wait until rubato takes them.
    waiting: Vec<f32>,
    /// Room for the result of a chunk.
    chunk: Vec<f32>,
    /// Samples of the filter's delay that are still to be left out.
    delay: usize,
    /// Samples taken and given.
    taken: u64,
    given: u64,
}

impl StreamResampler {
    /// # Errors
    /// rubato's message, if it refuses the rates.
    pub(crate) fn new(from_hz: u32, to_hz: u32) -> Result<StreamResampler, String> {
        let sinc = new_filter(1, from_hz, to_hz)?;
        let (ratio, delay) = (sinc.resample_ratio(), sinc.output_delay());
        let chunk = vec![0.0; sinc.output_frames_max()];
        Ok(StreamResampler { sinc, ratio, waiting: Vec::new(), chunk, delay, taken: 0, given: 0 })
    }

    /// Takes the next samples, and appends to `out` what they complete.
    ///
    /// # Errors
    /// rubato's message.
    pub(crate) fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<(), String> {
        self.taken += samples.len() as u64;
        self.waiting.extend_from_slice(samples);
        let mut at = 0;
        while self.waiting.len() - at > self.sinc.input_frames_next() {
            at += self.chunk(at, None, out)?;
        }
        self.waiting.drain(..at);
        Ok(())
    }

    /// Appends the rest of the stream to `out`, which then has `ceil(taken * to_hz / from_hz)` samples in all.
    ///
    /// # Errors
    /// rubato's message.
    pub(crate) fn finish(mut self, out: &mut Vec<f32>) -> Result<(), String> {
        let all = (self.ratio * self.taken as f64).ceil() as u64;
        if !self.waiting.is_empty() {
            self.chunk(0, Some(self.waiting.len()), out)?;
        }
        while self.given < all {
            self.chunk(0, Some(0), out)?;
        }
        out.truncate(out.len() - (self.given - all) as usize);
        Ok(())
    }

    /// Resamples a chunk of what waits from `at` on, filled up with zeros if only `part` of it is there.
    fn chunk(&mut self, at: usize, part: Option<usize>, out: &mut Vec<f32>) -> Result<usize, String> {
        let waiting = &self.waiting[at..];
        let input = InterleavedSlice::new(waiting, 1, waiting.len()).map_err(|e| e.to_string())?;
        let frames = self.chunk.len();
        let mut output = InterleavedSlice::new_mut(&mut self.chunk, 1, frames).map_err(|e| e.to_string())?;
        let indexing = Indexing { input_offset: 0, output_offset: 0, partial_len: part, active_channels_mask: None };
        let (read, written) =
            self.sinc.process_into_buffer(&input, &mut output, Some(&indexing)).map_err(|e| e.to_string())?;
        let late = self.delay.min(written);
        self.delay -= late;
        self.given += (written - late) as u64;
        out.extend_from_slice(&self.chunk[late..written]);
        Ok(read)
    }
}

fn new_filter(channels: u32, from_hz: u32, to_hz: u32) -> Result<Async<f32>, String> {
    let ratio = f64::from(to_hz) / f64::from(from_hz);
    // Input samples per sample at the lower rate.
    let decimation = (1.0 / ratio).max(1.0);
    let taps = ((FILTER_LEN as f64 * decimation).ceil() as usize).next_multiple_of(8);
    let window = WindowFunction::BlackmanHarris2;
    let parameters = SincInterpolationParameters::new(taps, window)
        // rubato scales this cutoff by the ratio; left to itself it would choose it for `taps` at the lower rate, which
        // puts the transition band of a decimating filter beyond the lower Nyquist frequency.
        .f_cutoff(calculate_cutoff(FILTER_LEN, window))
        .oversampling_factor(((TABLE_POINTS / decimation).ceil() as usize).max(MIN_OVERSAMPLING));
    let chunk_frames = CHUNK_FRAMES.max(taps); // rubato moves `taps` frames of history with every chunk
    Async::new_sinc(ratio, 1.0, &parameters, chunk_frames, channels as usize, FixedAsync::Input)
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAU: f64 = std::f64::consts::TAU;

    fn sine(hz: f64, rate_hz: u32, frames: usize) -> Vec<f32> {
        (0..frames).map(|i| (TAU * hz * i as f64 / f64::from(rate_hz)).sin() as f32 * 0.5).collect()
    }

    fn decibels(ratio: f64) -> f64 {
        20.0 * ratio.max(1e-12).log10()
    }

    /// The tone of `hz` in a clip of `rate_hz` without its first and last quarter: amplitude, delay in samples, and the
    /// root mean square of everything else. A least-squares fit, so that no leakage of the tone counts as noise.
    fn tone(clip: &[f32], hz: f64, rate_hz: u32) -> (f64, f64, f64) {
        let inner = clip.len() / 4..clip.len() - clip.len() / 4;
        let basis = |i: usize| (TAU * hz * i as f64 / f64::from(rate_hz)).sin_cos();
        let (mut ss, mut sc, mut cc, mut sx, mut cx) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for i in inner.clone() {
            let (x, (s, c)) = (f64::from(clip[i]), basis(i));
            (ss, sc, cc, sx, cx) = (ss + s * s, sc + s * c, cc + c * c, sx + s * x, cx + c * x);
        }
        let determinant = ss * cc - sc * sc;
        let (a, b) = ((sx * cc - cx * sc) / determinant, (cx * ss - sx * sc) / determinant);
        let rest: f64 = inner.clone().map(|i| (f64::from(clip[i]) - a * basis(i).0 - b * basis(i).1).powi(2)).sum();
        (a.hypot(b), (-b).atan2(a) / (TAU * hz / f64::from(rate_hz)), (rest / inner.len() as f64).sqrt())
    }

    /// Rates up and down, from equal factors to the ends of what is accepted.
    const RATES: [(u32, u32); 25] = [
        (1_000, 16_000),
        (8_000, 16_000),
        (11_025, 16_000),
        (15_999, 16_000),
        (16_001, 16_000),
        (22_050, 16_000),
        (24_000, 16_000),
        (32_000, 16_000),
        (44_100, 16_000),
        (48_000, 16_000),
        (64_000, 16_000),
        (88_200, 16_000),
        (96_000, 16_000),
        (176_400, 16_000),
        (192_000, 16_000),
        (384_000, 16_000),
        (768_000, 16_000),
        (16_000, 1_000),
        (16_000, 8_000),
        (16_000, 44_100),
        (16_000, 192_000),
        (192_000, 4_001),
        (768_000, 1_000),
        (16_000, 50),
        (1_000, 768_000),
    ];

    #[test]
    fn case_11_stop_band_is_100_db_down_and_pass_band_flat_for_every_ratio() {
        for (from_hz, to_hz) in RATES {
            let lower = f64::from(from_hz.min(to_hz));
            // 640 samples at the lower rate: the filter of 256 rings in the quarters that are not measured.
            let frames = (640.0 * f64::from(from_hz) / lower) as usize;
            // The cost grows with the ratio: fewer tones where it is extreme.
            let sparse = usize::from(f64::from(from_hz.max(to_hz)) > 40.0 * lower) * 2 + 1;
            let mut resampler = Resampler::default();
            for fraction in [0.91, 0.02, 0.25, 0.5, 0.8].into_iter().step_by(sparse) {
                let hz = fraction * lower / 2.0;
                let got = resampler.resample(&sine(hz, from_hz, frames), 1, from_hz, to_hz).unwrap();
                assert_eq!(got.len() as u64, (frames as u64 * u64::from(to_hz)).div_ceil(u64::from(from_hz)));
                let (amplitude, delay, rest) = tone(&got, hz, to_hz);
                let gain = decibels(amplitude / 0.5);
                let noise = decibels(rest / (0.5 / 2f64.sqrt()));
                let text = format!("{from_hz} to {to_hz} Hz, tone of {hz} Hz");
                assert!(gain.abs() < 0.02, "{text}: gain {gain} dB");
                assert!(noise < -100.0, "{text}: images and noise at {noise} dB");
                assert!(delay.abs() <= 1.1 * f64::from(to_hz) / lower, "{text}: delay of {delay} samples");
            }
            for fraction in [1.0, 1.05, 1.2, 1.0625, 1.5, 2.0, 2.9, 7.3, 40.0, 500.0].into_iter().step_by(sparse) {
                let hz = fraction * lower / 2.0 + 0.1;
                if hz < f64::from(from_hz) / 2.0 {
                    let got = resampler.resample(&sine(hz, from_hz, frames), 1, from_hz, to_hz).unwrap();
                    let inner = &got[got.len() / 4..got.len() - got.len() / 4];
                    let power = inner.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / inner.len() as f64;
                    let level = decibels(power.sqrt() / (0.5 / 2f64.sqrt()));
                    assert!(level < -100.0, "{from_hz} to {to_hz} Hz, tone of {hz} Hz: {level} dB");
                }
            }
        }
    }

    #[test]
    fn channels_stay_apart_and_short_clips_have_their_length() {
        let left = sine(500.0, 48_000, 4_800);
        let interleaved: Vec<f32> = left.iter().flat_map(|&v| [v, 0.0]).collect();
        let got = Resampler::default().resample(&interleaved, 2, 48_000, 16_000).unwrap();
        assert_eq!(got.len(), 2 * 1_600);
        assert!(got.iter().skip(1).step_by(2).all(|&v| v == 0.0));
        for (from_hz, to_hz) in RATES {
            let got = Resampler::default().resample(&[0.5], 1, from_hz, to_hz).unwrap();
            assert_eq!(got.len() as u32, to_hz.div_ceil(from_hz));
        }
    }
}
