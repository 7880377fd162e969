//! Where in a window the sound of a word lies.

use std::ops::Range;

/// Milliseconds of a frame.
const FRAME_MS: usize = 10;
/// Decibels below the loudest frame that still belong to the word.
const RANGE_DB: f64 = 25.0;
/// Decibels above the quietest frames that a frame must reach.
const ABOVE_NOISE_DB: f64 = 6.0;
/// Longest pause within a word, in frames: the closure of a plosive is shorter.
const PAUSE: usize = 12;

/// The energy of each frame, in decibels relative to full scale.
fn levels(samples: &[f32], rate_hz: u32) -> (Vec<f64>, usize) {
    let frame = (rate_hz as usize * FRAME_MS / 1000).max(1);
    let level = |frame: &[f32]| {
        let power = frame.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / frame.len() as f64;
        10.0 * power.max(1e-20).log10()
    };
    (samples.chunks(frame).map(level).collect(), frame)
}

/// The samples of the loudest connected sound in `samples`: frames of 10 ms that are at most 25 dB below the loudest one and at least 6 dB above the quietest tenth, with pauses of up to 120 ms.
/// It is empty if `samples` is.
pub fn extent(samples: &[f32], rate_hz: u32) -> Range<usize> {
    let (levels, frame) = levels(samples, rate_hz);
    let Some(loudest) = (0..levels.len()).max_by(|&a, &b| levels[a].total_cmp(&levels[b])) else { return 0..0 };
    let mut sorted = levels.clone();
    sorted.sort_by(f64::total_cmp);
    // In a window that sounds all over, the noise is not above the word.
    let least = (sorted[sorted.len() / 10] + ABOVE_NOISE_DB).min(levels[loudest]).max(levels[loudest] - RANGE_DB);
    let reach = |frames: &mut dyn Iterator<Item = usize>| {
        let mut last = loudest;
        for at in frames {
            if levels[at] >= least {
                last = at;
            } else if at.abs_diff(last) > PAUSE {
                break;
            }
        }
        last
    };
    let (first, last) = (reach(&mut (0..loudest).rev()), reach(&mut (loudest + 1..levels.len())));
    first * frame..((last + 1) * frame).min(samples.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_in_noise_is_found_to_within_a_frame() {
        let noise = |i: usize| ((i * 7919 % 1000) as f32 / 1000.0 - 0.5) * 0.01;
        let mut samples: Vec<f32> = (0..16_000).map(noise).collect();
        for range in [4_000..6_000, 7_000..9_000] {
            range.for_each(|i| samples[i] += (i as f32 * 0.3).sin() * 0.3); // a pause of 62 ms
        }
        let found = extent(&samples, 16_000);
        assert!(found.start.abs_diff(4_000) <= 160 && found.end.abs_diff(9_000) <= 160, "{found:?}");
    }

    #[test]
    fn silence_and_nothing_have_an_extent() {
        assert_eq!(extent(&[], 16_000), 0..0);
        let all = extent(&[0.0; 1_000], 16_000);
        assert!(all.start < all.end && all.end <= 1_000);
    }
}
