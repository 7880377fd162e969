//! Averages over time shifts of a clip (test-time augmentation).

use serde::Serialize;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Seconds between two neighbouring shifts.
const STEP_SECONDS: f64 = 0.02;

/// How many shifted copies of each clip are evaluated; the probabilities of a clip are the mean over them. The shifts are
/// multiples of 20 ms, as many to the left as to the right: three copies are shifted by 0 and +-20 ms, five also by +-40 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Shifts(u32);

impl Shifts {
    /// The clip as it is, no average.
    pub const NONE: Shifts = Shifts(1);
    /// The possible numbers of copies, of which the odd ones are valid.
    const RANGE: RangeInclusive<u32> = 1..=21;

    /// This many copies; none if the number is even or not in 1 to 21.
    pub fn new(copies: u32) -> Option<Shifts> {
        (Shifts::RANGE.contains(&copies) && copies % 2 == 1).then_some(Shifts(copies))
    }

    /// How many copies there are, the unshifted one included.
    pub fn copies(self) -> u32 {
        self.0
    }

    /// The shifts in frames at `rate_hz`, in ascending order; a positive one delays the clip.
    pub(super) fn frames(self, rate_hz: u32) -> impl Iterator<Item = i64> {
        let most = i64::from(self.0 / 2);
        (-most..=most).map(move |step| (step as f64 * STEP_SECONDS * f64::from(rate_hz)).round() as i64)
    }
}

impl Default for Shifts {
    fn default() -> Shifts {
        Shifts::NONE
    }
}

impl fmt::Display for Shifts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Shifts {
    type Err = String;

    fn from_str(text: &str) -> Result<Shifts, String> {
        let shifts = text.parse().ok().and_then(Shifts::new);
        shifts.ok_or_else(|| {
            format!("it must be an odd number from {} to {}", Shifts::RANGE.start(), Shifts::RANGE.end())
        })
    }
}

/// Writes the rows of `inputs`, each of `row_len` values, into `shifted`, each delayed by `values` values; zeros enter at the
/// beginning (at the end if `values` is negative), and what leaves the row is lost.
///
/// # Panics
/// The lengths of both differ.
pub(super) fn shift(inputs: &[f32], row_len: usize, values: i64, shifted: &mut [f32]) {
    assert_eq!(inputs.len(), shifted.len());
    let by = usize::try_from(values.unsigned_abs()).map_or(row_len, |by| by.min(row_len));
    for (from, to) in inputs.chunks_exact(row_len.max(1)).zip(shifted.chunks_exact_mut(row_len.max(1))) {
        let (kept, zeros) =
            if values >= 0 { (&from[..row_len - by], 0..by) } else { (&from[by..], row_len - by..row_len) };
        let start = if values >= 0 { by } else { 0 };
        to[start..start + kept.len()].copy_from_slice(kept);
        to[zeros].fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_an_odd_number() {
        assert_eq!(["1", "5", "21"].map(|text| text.parse::<Shifts>().map(Shifts::copies)), [1, 5, 21].map(Ok));
        for text in ["0", "2", "23", "-1", "x", "1.5", ""] {
            assert_eq!(text.parse::<Shifts>().unwrap_err(), "it must be an odd number from 1 to 21", "{text}");
        }
        let frames = |copies, rate| Shifts::new(copies).unwrap().frames(rate).collect::<Vec<_>>();
        assert_eq!(frames(5, 16_000), [-640, -320, 0, 320, 640]);
        assert_eq!(frames(3, 11_025), [-221, 0, 221]);
        assert_eq!(frames(1, 16_000), [0]);
    }

    #[test]
    fn rows_are_shifted_by_themselves() {
        let inputs = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let of = |values| {
            let mut shifted = [9.0; 6];
            shift(&inputs, 3, values, &mut shifted);
            shifted
        };
        assert_eq!(of(0), inputs);
        assert_eq!(of(1), [0.0, 1.0, 2.0, 0.0, 4.0, 5.0]);
        assert_eq!(of(-2), [3.0, 0.0, 0.0, 6.0, 0.0, 0.0]);
        assert_eq!([of(3), of(i64::MAX), of(i64::MIN)], [[0.0; 6]; 3]);
    }
}
