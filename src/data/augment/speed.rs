//! Other speeds by cubic interpolation (Catmull-Rom).
//!
//! Output frame t has the value of the cubic through the four input frames around position `start + factor * t`:
//! `y = p1 + w/2 (p2 - p0 + w (2 p0 - 5 p1 + 4 p2 - p3 + w (3 (p1 - p2) + p3 - p0)))` with `p1` the frame at the position rounded down and `w` the
//! rest. Frames outside of the clip are zero. There is no low-pass: at a factor of 1.1 only frequencies above 0.45 of the rate alias.
//!
//! **Source**: E. Catmull, R. Rom, "A class of local interpolating splines", 1974; the uniform form with tension 1/2.

use std::ops::{Add, Mul, Sub};

use wide::f32x8;

use crate::data::samples::Sample;

/// Frames of a block: a vector.
const BLOCK: usize = 8;
/// Frames that are read before the first position and after the last one.
const MARGIN: usize = 2 * BLOCK;
/// Factors are at most this.
const MAX_FACTOR: usize = 2;
/// Largest difference of a factor to 1 for which the positions of a block lie at two offsets only.
const SMALL: f64 = 0.125;

/// Positions in a clip: frame t of the output is at `start + factor * t` of the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Positions {
    pub(super) start: f64,
    pub(super) factor: f64,
}

/// Writes the frames at `positions` of `samples` (`[frames, channels]`), multiplied by `scale`, to `row`. `buffer` is reused.
pub(super) fn interpolate<T: Sample>(
    (samples, channels): (&[T], usize),
    positions: Positions,
    scale: f32,
    row: &mut [f32],
    buffer: &mut Vec<f32>,
) {
    let Positions { start, factor } = positions;
    let frames = row.len() / channels;
    let first = start.floor() as i64 - MARGIN as i64;
    let len = (factor * frames as f64).ceil() as usize + 2 * MARGIN + BLOCK;
    let largest = MAX_FACTOR * frames + 2 * MARGIN + BLOCK;
    buffer.reserve(largest.saturating_sub(buffer.len())); // only the first call allocates
    buffer.resize(len, 0.0);
    for channel in 0..channels {
        take_channel((samples, channels, channel), first, scale, buffer);
        let local = Positions { start: start - first as f64, factor };
        let place = (channel, channels);
        if (factor - 1.0).abs() > SMALL {
            write(row, place, |number| any(buffer, local.of_block(number), factor as f32));
        } else if factor < 1.0 {
            write(row, place, |number| near::<1>(buffer, local.of_block(number), factor as f32));
        } else {
            write(row, place, |number| near::<0>(buffer, local.of_block(number), factor as f32));
        }
    }
}

/// Writes the blocks of one channel.
#[inline(always)]
fn write(row: &mut [f32], (channel, channels): (usize, usize), values: impl Fn(usize) -> [f32; BLOCK]) {
    if channels == 1 {
        let (blocks, rest) = row.as_chunks_mut();
        for (number, block) in blocks.iter_mut().enumerate() {
            *block = values(number);
        }
        let number = blocks.len();
        rest.copy_from_slice(&values(number)[..rest.len()]);
    } else {
        for (number, block) in row.chunks_mut(BLOCK * channels).enumerate() {
            let frames = block.iter_mut().skip(channel).step_by(channels);
            frames.zip(values(number)).for_each(|(y, value)| *y = value);
        }
    }
}

/// Writes the frames of one channel from frame `first` on, which may be negative, to `buffer`: zeros outside of the clip.
fn take_channel<T: Sample>(
    (samples, channels, channel): (&[T], usize, usize),
    first: i64,
    scale: f32,
    buffer: &mut [f32],
) {
    let frames = samples.len() / channels;
    let from = first.clamp(0, frames as i64) as usize;
    let to = (first + buffer.len() as i64).clamp(from as i64, frames as i64) as usize;
    let at = (from as i64 - first).clamp(0, buffer.len() as i64) as usize;
    buffer[..at].fill(0.0);
    let (inside, after) = buffer[at..].split_at_mut(to - from);
    if channels == 1 {
        inside.iter_mut().zip(&samples[from..to]).for_each(|(x, &sample)| *x = sample.value() * scale);
    } else {
        let samples = samples[from * channels..to * channels].iter().skip(channel).step_by(channels);
        inside.iter_mut().zip(samples).for_each(|(x, &sample)| *x = sample.value() * scale);
    }
    after.fill(0.0);
}

impl Positions {
    /// The position of the first frame of block number `number`, rounded down, and the rest.
    #[inline(always)]
    fn of_block(&self, number: usize) -> (usize, f32) {
        let position = self.start + self.factor * (number * BLOCK) as i32 as f64;
        let whole = position as i32; // conversions of unsigned numbers take several instructions
        (whole as usize, (position - f64::from(whole)) as f32)
    }
}

/// A block whose frame i is at position `whole + rest + factor * i` of `input`, for a factor near 1. The whole part of each position is then at one of two
/// distances to its number, `EARLIER` frames before those of factor 1 or one frame after that, so that both can be read as vectors. `EARLIER` is 1 for
/// factors below 1, else 0.
#[inline(always)]
fn near<const EARLIER: usize>(input: &[f32], (whole, rest): (usize, f32), factor: f32) -> [f32; BLOCK] {
    let rest = rest + EARLIER as f32;
    let taps: &[f32; BLOCK + 4] = input[whole - 1 - EARLIER..].first_chunk().expect("the input has a margin");
    let tap = |k: usize| f32x8::from(<[f32; BLOCK]>::try_from(&taps[k..k + BLOCK]).expect("a block of the input"));
    // The difference to 1, so that the sum is exact enough for any place in the block.
    let place = f32x8::from([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    let w = f32x8::splat(rest) + f32x8::splat(factor - 1.0) * place;
    let one = f32x8::ONE;
    let later = w.simd_ge(one);
    let [t0, t1, t2, t3, t4] = [tap(0), tap(1), tap(2), tap(3), tap(4)];
    let chosen = [(t1, t0), (t2, t1), (t3, t2), (t4, t3)].map(|(after, now)| later.select(after, now));
    cubic(chosen, later.select(w - one, w)).to_array()
}

/// A block whose frame i is at position `whole + rest + factor * i` of `input`, for any factor.
fn any(input: &[f32], (whole, rest): (usize, f32), factor: f32) -> [f32; BLOCK] {
    let input = &input[whole - 1..];
    std::array::from_fn(|i| {
        let position = rest + factor * i as f32;
        let whole = position as i32;
        let taps: &[f32; 4] = input[whole as usize..].first_chunk().expect("the input has a margin");
        cubic(*taps, position - whole as f32)
    })
}

/// The cubic through the values at -1, 0, 1 and 2, at `w` from 0 to 1.
#[inline(always)]
fn cubic<T>([p0, p1, p2, p3]: [T; 4], w: T) -> T
where
    T: Copy + From<f32> + Add<Output = T> + Sub<Output = T> + Mul<Output = T>,
{
    let [half, two, three, four, five] = [0.5, 2.0, 3.0, 4.0, 5.0].map(T::from);
    let third = three * (p1 - p2) + (p3 - p0);
    let second = (two * p0 - five * p1) + (four * p2 - p3);
    p1 + half * w * ((p2 - p0) + w * (second + w * third))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::{Key, Stream};

    fn interpolated(samples: &[i16], channels: usize, frames: usize, positions: Positions) -> Vec<f32> {
        // What was in the buffers does not matter.
        let (mut row, mut buffer) = (vec![f32::NAN; frames * channels], vec![f32::NAN; 7]);
        interpolate((samples, channels), positions, 1.0, &mut row, &mut buffer);
        row
    }

    /// The formula in f64.
    fn reference(samples: &[i16], frames: usize, Positions { start, factor }: Positions) -> Vec<f64> {
        let at = |i: i64| usize::try_from(i).ok().and_then(|i| samples.get(i)).map_or(0.0, |&v| f64::from(v));
        let value = |t: usize| {
            let position = start + factor * t as f64;
            let (whole, w) = (position.floor() as i64, position - position.floor());
            let [p0, p1, p2, p3] = [-1, 0, 1, 2].map(|k| at(whole + k));
            p1 + 0.5 * w * (p2 - p0 + w * (2.0 * p0 - 5.0 * p1 + 4.0 * p2 - p3 + w * (3.0 * (p1 - p2) + p3 - p0)))
        };
        (0..frames).map(value).collect()
    }

    #[test]
    fn every_factor_and_length_equals_the_formula() {
        let key = Key::new(1, Stream::Case);
        for frames in [1, 2, 7, 8, 9, 100, 4_000] {
            let samples: Vec<i16> = (0..frames).map(|i| (20_000.0 * key.uniform(i) - 10_000.0) as i16).collect();
            let frames = frames as usize;
            for factor in [0.5, 0.87, 0.875, 0.9, 0.999_999_999, 1.0, 1.000_000_001, 1.05, 1.125, 1.13, 1.5, 2.0] {
                for start in [0.0, -0.999_999_999, 0.999_999_99, -300.25, 1.5, frames as f64 - 0.5, 10_000.0] {
                    let positions = Positions { start, factor };
                    let row = interpolated(&samples, 1, frames, positions);
                    for (t, (y, expected)) in row.iter().zip(reference(&samples, frames, positions)).enumerate() {
                        assert!(
                            (f64::from(*y) - expected).abs() < 0.05,
                            "{positions:?} {frames} at {t}: {y} {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn whole_positions_return_the_samples_themselves() {
        let samples: Vec<i16> = (0..50).map(|i| (i * i * 7 % 311) as i16).collect();
        let row = interpolated(&samples, 1, 50, Positions { start: 3.0, factor: 1.0 });
        let expected = samples[3..].iter().chain(&[0, 0, 0]).map(|&v| f32::from(v));
        assert!(row.into_iter().eq(expected));
    }

    #[test]
    fn the_frequency_of_a_sine_is_multiplied_by_the_factor() {
        let (rate, hz) = (16_000.0, 440.0);
        let sine = |hz: f64, t: usize| 10_000.0 * (std::f64::consts::TAU * hz * t as f64 / rate).sin();
        let samples: Vec<i16> = (0..16_000).map(|t| sine(hz, t) as i16).collect();
        for factor in [0.8, 0.9, 0.95, 1.05, 1.1, 1.3] {
            let row = interpolated(&samples, 1, 12_000, Positions { start: 0.0, factor });
            let error = (10..12_000).map(|t| (f64::from(row[t]) - sine(factor * hz, t)).abs()).fold(0.0, f64::max);
            assert!(error < 20.0, "{factor}: {error}");
        }
    }

    #[test]
    fn channels_are_interpolated_alike() {
        let mono: Vec<i16> = (0..333).map(|i| (i * i % 1_000) as i16).collect();
        let stereo: Vec<i16> = mono.iter().flat_map(|&v| [v, -v]).collect();
        for factor in [0.9, 1.4] {
            let positions = Positions { start: -4.7, factor };
            let expected: Vec<f32> = interpolated(&mono, 1, 333, positions).iter().flat_map(|&v| [v, -v]).collect();
            assert_eq!(interpolated(&stereo, 2, 333, positions), expected);
        }
    }
}
