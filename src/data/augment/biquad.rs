//! Second-order filters (biquads), eight samples at a time.
//!
//! The filter is in state-space form, `y[n] = C s[n] + b0 x[n]` and `s[n+1] = A s[n] + (x[n], 0)`, with the normal matrix
//! `A = [[re, im], [-im, re]]` of its poles `re +- i im`, so that rounding errors are not amplified however low the frequency. Eight steps
//! together are products with constant matrices: `y[0..8] = M x[0..8] + N s` and `s' = A^8 s + P x[0..8]`.
//! Only the two sums of the new state wait for the block before.
//!
//! **Source** of the coefficients: R. Bristow-Johnson, "Cookbook formulae for audio equalizer biquad filter coefficients".

use std::f64::consts::{FRAC_1_SQRT_2, TAU};

use crate::base::rng::Key;

/// Samples of a block.
const BLOCK: usize = 8;
/// Limits of the cutoff frequency of a high-pass in Hz.
const HIGH_PASS_HZ: (f64, f64) = (100.0, 500.0);
/// Limits of the cutoff frequency of a low-pass in Hz.
const LOW_PASS_HZ: (f64, f64) = (2_500.0, 7_000.0);
/// Limits of the centre frequency of a peak or notch in Hz.
const CENTRE_HZ: (f64, f64) = (100.0, 7_000.0);
/// Limits of the quality factor of a peak or notch. With a peak of -12 dB the poles have half of it, which must exceed 1/2: only then are
/// they complex.
const QUALITY: (f64, f64) = (1.2, 4.0);
/// Largest gain of a peak in dB.
const PEAK_DB: f64 = 12.0;
/// The largest frequency, as a share of the sample rate.
const MAX_FREQUENCY: f64 = 0.45;
/// States below this become zero: numbers that decay further would become subnormal, and arithmetic with them is slow.
const TINY: f32 = 1e-20;

/// What a filter does, with its frequency in Hz.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Response {
    /// Butterworth high-pass.
    HighPass { hz: f64 },
    /// Butterworth low-pass.
    LowPass { hz: f64 },
    /// A gain around a frequency.
    Peak { hz: f64, quality: f64, gain_db: f64 },
    /// Zero at a frequency.
    Notch { hz: f64, quality: f64 },
}

impl Response {
    /// A random filter: each of the four kinds with the same probability, frequencies and quality log-uniform, the gain uniform.
    pub(super) fn draw(key: Key, rate_hz: f64) -> Response {
        let limited = |hz: f64| hz.min(MAX_FREQUENCY * rate_hz);
        let hz = |range: (f64, f64)| limited(log_uniform(key, 1, range));
        let quality = log_uniform(key, 2, QUALITY);
        match key.below(0, 4) {
            0 => Response::HighPass { hz: hz(HIGH_PASS_HZ) },
            1 => Response::LowPass { hz: hz(LOW_PASS_HZ) },
            2 => Response::Peak { hz: hz(CENTRE_HZ), quality, gain_db: PEAK_DB * (2.0 * key.uniform(3) - 1.0) },
            _ => Response::Notch { hz: hz(CENTRE_HZ), quality },
        }
    }

    /// `[b0, b1, b2, a1, a2]` of `y[n] = b0 x[n] + b1 x[n-1] + b2 x[n-2] - a1 y[n-1] - a2 y[n-2]`.
    fn coefficients(self, rate_hz: f64) -> [f64; 5] {
        let (hz, quality) = match self {
            Response::HighPass { hz } | Response::LowPass { hz } => (hz, FRAC_1_SQRT_2),
            Response::Peak { hz, quality, .. } | Response::Notch { hz, quality } => (hz, quality),
        };
        let (sin, cos) = (TAU * hz / rate_hz).sin_cos();
        let alpha = sin / (2.0 * quality);
        let ([b0, b1, b2], [a0, a1, a2]) = match self {
            Response::HighPass { .. } => {
                let b = (1.0 + cos) / 2.0;
                ([b, -2.0 * b, b], [1.0 + alpha, -2.0 * cos, 1.0 - alpha])
            }
            Response::LowPass { .. } => {
                let b = (1.0 - cos) / 2.0;
                ([b, 2.0 * b, b], [1.0 + alpha, -2.0 * cos, 1.0 - alpha])
            }
            Response::Peak { gain_db, .. } => {
                let a = 10f64.powf(gain_db / 40.0);
                ([1.0 + alpha * a, -2.0 * cos, 1.0 - alpha * a], [1.0 + alpha / a, -2.0 * cos, 1.0 - alpha / a])
            }
            Response::Notch { .. } => ([1.0, -2.0 * cos, 1.0], [1.0 + alpha, -2.0 * cos, 1.0 - alpha]),
        };
        [b0 / a0, b1 / a0, b2 / a0, a1 / a0, a2 / a0]
    }
}

/// The number at `index` whose logarithm is uniform between those of `low` and `high`.
fn log_uniform(key: Key, index: u64, (low, high): (f64, f64)) -> f64 {
    low * (high / low).powf(key.uniform(index))
}

/// A filter with the matrices of a block, computed in f64.
#[derive(Clone, Debug)]
pub(super) struct Biquad {
    /// M by columns: the outputs of a block for each input.
    outputs: [[f32; BLOCK]; BLOCK],
    /// N by columns: the outputs of a block for each number of the state.
    outputs_of_state: [[f32; BLOCK]; 2],
    /// P by rows: each number of the new state.
    next: [[f32; BLOCK]; 2],
    /// A^8 by rows.
    power: [[f32; 2]; 2],
}

impl Biquad {
    pub(super) fn new(response: Response, rate_hz: f64) -> Biquad {
        let [b0, b1, b2, a1, a2] = response.coefficients(rate_hz);
        let re = -a1 / 2.0;
        let im = (a2 - re * re).max(f64::MIN_POSITIVE).sqrt();
        let (c1, c2) = (b1 - a1 * b0, b2 - a2 * b0);
        let c = [c1, -(c2 + c1 * re) / im];
        // Powers of A are [[r, i], [-i, r]] with r + i j the power of re + im j.
        let mut powers = [(1.0, 0.0); BLOCK + 1];
        for n in 0..BLOCK {
            let (r, i) = powers[n];
            powers[n + 1] = (r * re - i * im, r * im + i * re);
        }
        // C A^n, which is the response of the outputs to the two numbers of the state.
        let of_state = |n: usize| {
            let (r, i) = powers[n];
            [c[0] * r - c[1] * i, c[0] * i + c[1] * r]
        };
        let mut biquad = Biquad {
            outputs: [[0.0; BLOCK]; BLOCK],
            outputs_of_state: [[0.0; BLOCK]; 2],
            next: [[0.0; BLOCK]; 2],
            power: [[0.0; 2]; 2],
        };
        for n in 0..BLOCK {
            for j in 0..=n {
                biquad.outputs[j][n] = if j == n { b0 } else { of_state(n - j - 1)[0] } as f32;
            }
            let [first, second] = of_state(n);
            (biquad.outputs_of_state[0][n], biquad.outputs_of_state[1][n]) = (first as f32, second as f32);
            let (r, i) = powers[BLOCK - 1 - n];
            (biquad.next[0][n], biquad.next[1][n]) = (r as f32, -i as f32);
        }
        let (r, i) = powers[BLOCK];
        biquad.power = [[r as f32, i as f32], [-i as f32, r as f32]];
        biquad
    }

    /// Filters each channel of `row`, `[frames, channels]`, from rest.
    pub(super) fn filter(&self, row: &mut [f32], channels: usize) {
        if channels == 1 {
            let mut state = [0.0; 2];
            let (blocks, rest) = row.as_chunks_mut::<BLOCK>();
            for block in blocks {
                self.step(&mut state, block);
            }
            let mut block = [0.0; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            self.step(&mut state, &mut block);
            rest.copy_from_slice(&block[..rest.len()]);
            return;
        }
        for channel in 0..channels {
            let mut state = [0.0; 2];
            for frames in row.chunks_mut(BLOCK * channels) {
                let mut block = [0.0; BLOCK];
                let samples = frames.iter().skip(channel).step_by(channels);
                block.iter_mut().zip(samples).for_each(|(x, &sample)| *x = sample);
                self.step(&mut state, &mut block);
                let samples = frames.iter_mut().skip(channel).step_by(channels);
                samples.zip(block).for_each(|(sample, y)| *sample = y);
            }
        }
    }

    /// Filters one block of one channel.
    #[inline(always)]
    fn step(&self, state: &mut [f32; 2], block: &mut [f32; BLOCK]) {
        let [s0, s1] = *state;
        let mut y = [0.0; BLOCK];
        for (&x, column) in block.iter().zip(&self.outputs) {
            for (y, &m) in y.iter_mut().zip(column) {
                *y += m * x;
            }
        }
        for ((y, &n0), &n1) in y.iter_mut().zip(&self.outputs_of_state[0]).zip(&self.outputs_of_state[1]) {
            *y += n0 * s0 + n1 * s1;
        }
        for ((s, row), power) in state.iter_mut().zip(&self.next).zip(&self.power) {
            let products: [f32; BLOCK] = std::array::from_fn(|j| row[j] * block[j]);
            let [a, b, c, d]: [f32; 4] = std::array::from_fn(|j| products[j] + products[j + 4]);
            let next = ((a + c) + (b + d)) + (power[0] * s0 + power[1] * s1);
            *s = if next.abs() < TINY { 0.0 } else { next };
        }
        *block = y;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Stream;

    const RATE: f64 = 16_000.0;

    const RESPONSES: [Response; 6] = [
        Response::HighPass { hz: 100.0 },
        Response::HighPass { hz: 433.0 },
        Response::LowPass { hz: 2_500.0 },
        Response::LowPass { hz: 7_000.0 },
        Response::Peak { hz: 1_000.0, quality: 1.2, gain_db: -12.0 },
        Response::Notch { hz: 150.0, quality: 4.0 },
    ];

    /// The filter by its difference equation in f64 (direct form II).
    fn reference(response: Response, rate: f64, x: &[f32]) -> Vec<f64> {
        let [b0, b1, b2, a1, a2] = response.coefficients(rate);
        let (mut w1, mut w2) = (0.0, 0.0);
        let step = |&x: &f32| {
            let w = f64::from(x) - a1 * w1 - a2 * w2;
            let y = b0 * w + b1 * w1 + b2 * w2;
            (w2, w1) = (w1, w);
            y
        };
        x.iter().map(step).collect()
    }

    /// The magnitude in dB of the analogue filter whose bilinear transform this is; the frequency of the filter is warped to 1.
    fn prototype_db(response: Response, hz: f64) -> f64 {
        let warped = |own: f64| (TAU * hz / RATE / 2.0).tan() / (TAU * own / RATE / 2.0).tan();
        // Numerator and denominator as `(1 - w^2, w / q)` of `1 + s / q + s^2`.
        let square = |re: f64, im: f64| re * re + im * im;
        let power = match response {
            Response::LowPass { hz } => 1.0 / (1.0 + warped(hz).powi(4)),
            Response::HighPass { hz } => 1.0 / (1.0 + warped(hz).powi(-4)),
            Response::Peak { hz, quality, gain_db } => {
                let (w, a) = (warped(hz), 10f64.powf(gain_db / 40.0));
                square(1.0 - w * w, w * a / quality) / square(1.0 - w * w, w / (a * quality))
            }
            Response::Notch { hz, quality } => {
                let w = warped(hz);
                square(1.0 - w * w, 0.0) / square(1.0 - w * w, w / quality)
            }
        };
        10.0 * power.log10()
    }

    #[test]
    fn the_frequency_responses_are_those_of_the_analogue_filters() {
        for response in RESPONSES {
            let mut impulse = vec![0.0; 1 << 14];
            impulse[0] = 1.0;
            Biquad::new(response, RATE).filter(&mut impulse, 1);
            for hz in [50.0, 149.0, 433.0, 1_000.0, 2_500.0, 6_000.0] {
                let w = TAU * hz / RATE;
                let (mut re, mut im) = (0.0, 0.0);
                for (n, &h) in impulse.iter().enumerate() {
                    re += f64::from(h) * (w * n as f64).cos();
                    im -= f64::from(h) * (w * n as f64).sin();
                }
                let (measured, expected) = (10.0 * (re * re + im * im).log10(), prototype_db(response, hz));
                assert!((measured - expected).abs() < 0.01, "{response:?} at {hz} Hz: {measured} for {expected} dB");
            }
        }
    }

    #[test]
    fn blocks_equal_the_difference_equation() {
        let key = Key::new(3, Stream::Case);
        for rate in [16_000.0, 48_000.0] {
            for response in RESPONSES {
                for len in [1, 7, 8, 9, 17, 16_000] {
                    for signal in [|k: Key, i| k.normal(i) as f32, |_, _| 1.0, |_, i| (i % 2) as f32 * 2.0 - 1.0] {
                        let x: Vec<f32> = (0..len).map(|i| signal(key, i)).collect();
                        let expected = reference(response, rate, &x);
                        let mut y = x;
                        Biquad::new(response, rate).filter(&mut y, 1);
                        let largest = expected.iter().fold(1.0f64, |m, v| m.max(v.abs()));
                        for (i, (&y, e)) in y.iter().zip(&expected).enumerate() {
                            let error = (f64::from(y) - e).abs();
                            assert!(error <= 1e-5 * largest, "{response:?} {rate} {len} sample {i}: {y} for {e}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn channels_are_filtered_alike() {
        let key = Key::new(4, Stream::Case);
        let biquad = Biquad::new(RESPONSES[1], RATE);
        for frames in [1, 8, 21] {
            let mono: Vec<f32> = (0..frames).map(|i| key.normal(i) as f32).collect();
            let mut stereo: Vec<f32> = mono.iter().flat_map(|&v| [v, -2.0 * v]).collect();
            let mut y = mono;
            biquad.filter(&mut y, 1);
            biquad.filter(&mut stereo, 2);
            assert_eq!(stereo, y.iter().flat_map(|&v| [v, -2.0 * v]).collect::<Vec<f32>>());
        }
    }

    #[test]
    fn an_impulse_decays_to_zero_and_not_to_subnormal_numbers() {
        for response in RESPONSES {
            let mut y = vec![0.0; 100_000];
            y[0] = 1.0;
            Biquad::new(response, RATE).filter(&mut y, 1);
            assert!(y.iter().all(|v| *v == 0.0 || v.is_normal()), "{response:?}");
            assert_eq!(y[99_999], 0.0, "{response:?}");
        }
    }

    #[test]
    fn random_filters_are_stable_at_every_rate() {
        for rate in [1.0, 100.0, 1_000.0, 8_000.0, 16_000.0, 768_000.0] {
            for seed in 0..200 {
                let response = Response::draw(Key::new(seed, Stream::Case), rate);
                let [.., a1, a2] = response.coefficients(rate);
                assert!(a2 < 1.0 && a1.abs() < 1.0 + a2 && a1 * a1 / 4.0 < a2, "{response:?} at {rate}");
                let mut y = vec![1.0; 1_000];
                Biquad::new(response, rate).filter(&mut y, 1);
                assert!(y.iter().all(|v| v.is_finite() && v.abs() < 10.0), "{response:?} at {rate}");
            }
        }
    }
}
