//! Other speeds by cubic interpolation (Catmull-Rom).
//!
//! Output frame t has the value of the cubic through the four input frames around position `start + factor * t`:
//! `y = p1 + w/2 (p2 - p0 + w (2 p0 - 5 p1 + 4 p2 - p3 + w (3 (p1 - p2) + p3 - p0)))` with `p1` the frame at the position rounded down and `w` the
//! rest. Frames outside of the clip are zero. There is no low-pass: at a factor of 1.1 only frequencies above 0.45 of the rate alias.
//!
//! **Source**: E. Catmull, R. Rom, "A class of local interpolating splines", 1974; the uniform form with tension 1/2.

/// Frames of a block.
const BLOCK: usize = 8;
/// Frames that are read before the first position and after the last one.
const MARGIN: usize = 2 * BLOCK;
/// Largest difference of a factor to 1 for which the positions of a block lie at two offsets only.
const SMALL: f64 = 0.125;

/// Positions in a clip: frame t of the output is at `start + factor * t` of the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Positions {
    pub(super) start: f64,
    pub(super) factor: f64,
}

/// Writes the frames at `positions` of `samples` (`[frames, channels]`), multiplied by `scale`, to `row`. `buffer` is reused.
pub(super) fn interpolate(
    (samples, channels): (&[i16], usize),
    positions: Positions,
    scale: f32,
    row: &mut [f32],
    buffer: &mut Vec<f32>,
) {
    let Positions { start, factor } = positions;
    let frames = row.len() / channels;
    let first = start.floor() as i64 - MARGIN as i64;
    let len = (factor * frames as f64).ceil() as usize + 2 * MARGIN + BLOCK;
    buffer.resize(len, 0.0);
    for channel in 0..channels {
        take_channel((samples, channels, channel), first, scale, buffer);
        let local = Positions { start: start - first as f64, factor };
        match channels {
            1 => interpolate_channel(buffer, local, row.chunks_mut(BLOCK).map(|frames| frames.iter_mut())),
            _ => {
                let blocks = row.chunks_mut(BLOCK * channels);
                interpolate_channel(buffer, local, blocks.map(|b| b.iter_mut().skip(channel).step_by(channels)));
            }
        }
    }
}

/// Writes the frames of one channel from frame `first` on, which may be negative, to `buffer`: zeros outside of the clip.
fn take_channel((samples, channels, channel): (&[i16], usize, usize), first: i64, scale: f32, buffer: &mut [f32]) {
    let frames = samples.len() / channels;
    let from = first.clamp(0, frames as i64) as usize;
    let to = (first + buffer.len() as i64).clamp(from as i64, frames as i64) as usize;
    let at = (from as i64 - first).clamp(0, buffer.len() as i64) as usize;
    buffer[..at].fill(0.0);
    let (inside, after) = buffer[at..].split_at_mut(to - from);
    if channels == 1 {
        inside.iter_mut().zip(&samples[from..to]).for_each(|(x, &sample)| *x = f32::from(sample) * scale);
    } else {
        let samples = samples[from * channels..to * channels].iter().skip(channel).step_by(channels);
        inside.iter_mut().zip(samples).for_each(|(x, &sample)| *x = f32::from(sample) * scale);
    }
    after.fill(0.0);
}

/// Interpolates one channel, block by block; a block is the places of its frames in the output.
fn interpolate_channel<'a, B: Iterator<Item = &'a mut f32>>(
    input: &[f32],
    Positions { start, factor }: Positions,
    blocks: impl Iterator<Item = B>,
) {
    let small = (factor - 1.0).abs() <= SMALL;
    for (number, block) in blocks.enumerate() {
        let position = start + factor * (number * BLOCK) as f64;
        let whole = position as usize;
        let rest = (position - whole as f64) as f32;
        let values = match small {
            true => near(&input[whole - 2..], rest, factor),
            false => any(&input[whole - 1..], rest, factor as f32),
        };
        block.zip(values).for_each(|(y, value)| *y = value);
    }
}

/// A block of positions `2 + rest + factor * i` in `input`, for a factor near 1: the whole part of each is at one of two distances to
/// its number, so that both can be read as vectors.
#[inline(always)]
fn near(input: &[f32], rest: f32, factor: f64) -> [f32; BLOCK] {
    // With a factor below 1 the distance is 1 or 2, otherwise 2 or 3.
    let (input, rest) = if factor < 1.0 { (input, rest + 1.0) } else { (&input[1..], rest) };
    let taps: &[f32; BLOCK + 4] = input.first_chunk().expect("the input has a margin");
    let factor = factor as f32;
    let mut values = [0.0; BLOCK];
    for (i, value) in values.iter_mut().enumerate() {
        // The difference to 1, so that the sum is exact enough for any i.
        let w = rest + (factor - 1.0) * i as f32;
        let later = w >= 1.0;
        let tap = |k: usize| if later { taps[i + k + 1] } else { taps[i + k] };
        *value = cubic([tap(0), tap(1), tap(2), tap(3)], if later { w - 1.0 } else { w });
    }
    values
}

/// A block of positions `1 + rest + factor * i` in `input`, for any factor.
fn any(input: &[f32], rest: f32, factor: f32) -> [f32; BLOCK] {
    std::array::from_fn(|i| {
        let position = rest + factor * i as f32;
        let whole = position as usize;
        let taps = &input[whole..whole + 4];
        cubic([taps[0], taps[1], taps[2], taps[3]], position - whole as f32)
    })
}

#[inline(always)]
fn cubic([p0, p1, p2, p3]: [f32; 4], w: f32) -> f32 {
    let third = 3.0 * (p1 - p2) + (p3 - p0);
    let second = (2.0 * p0 - 5.0 * p1) + (4.0 * p2 - p3);
    p1 + 0.5 * w * ((p2 - p0) + w * (second + w * third))
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
