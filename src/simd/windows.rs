//! Which rows of its input an output row of a convolution depends on.

use std::ops::Range;

/// The rows that output row `r` reads of an input of `rows` rows: `origin + r * step + t * tap_step` for `t < taps`. Rows
/// outside the input are zeros.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Rows of the input.
    pub rows: usize,
    /// The first row that output row 0 reads; negative where there is padding.
    pub origin: isize,
    /// Input rows between the windows of neighbouring output rows.
    pub step: usize,
    /// Rows that a window reads.
    pub taps: usize,
    /// Input rows between neighbouring rows that a window reads.
    pub tap_step: usize,
}

/// Counts, strides and distances up to this one give sums and products of two of them that an `i64` holds.
const LARGEST: usize = 1 << 30;

impl Windows {
    /// The number of rows from the first to the last row of a window.
    pub fn span(&self) -> usize {
        (self.taps - 1) * self.tap_step + 1
    }

    /// The windows from output row `first` on.
    pub fn starting_at(self, first: usize) -> Windows {
        Windows { origin: self.origin + (first * self.step) as isize, ..self }
    }

    /// Panics if the rows of `count` windows cannot be computed in `i64`, or if a window has no row or no distance to the next one.
    #[inline(always)]
    pub(super) fn check(&self, count: usize) {
        let numbers = [self.rows, self.step, self.taps, self.tap_step, count];
        assert!(numbers.iter().all(|&number| number <= LARGEST), "windows that describe no memory");
        assert!(self.origin.unsigned_abs() as u64 <= 1 << 61 && self.taps > 0 && self.step > 0 && self.tap_step > 0);
    }

    /// The row that tap `t` of output row `r` reads; in the padding it is negative, or not below `rows`.
    #[inline(always)]
    pub(super) fn row(&self, r: usize, t: usize) -> i64 {
        self.origin as i64 + r as i64 * self.step as i64 + t as i64 * self.tap_step as i64
    }

    /// The output rows, of `count`, whose windows lie inside the input. Where there are none, the range is empty and ends at `count`.
    #[inline(always)]
    pub(super) fn inside(&self, count: usize) -> Range<usize> {
        let (step, origin) = (self.step as i64, self.origin as i64);
        let last_start = self.rows as i64 - 1 - (self.taps as i64 - 1) * self.tap_step as i64;
        let first = if origin < 0 { (-origin + step - 1) / step } else { 0 };
        let end = if last_start < origin { 0 } else { (last_start - origin) / step + 1 };
        let end = end.min(count as i64);
        if first < end { first as usize..end as usize } else { count..count }
    }

    /// The taps of output row `r` that read the input, not padding.
    #[inline(always)]
    pub(super) fn taps_inside(&self, r: usize) -> Range<usize> {
        let (from, tap_step, taps) = (self.row(r, 0), self.tap_step as i64, self.taps as i64);
        let first = if from < 0 { ((-from + tap_step - 1) / tap_step).min(taps) } else { 0 };
        let left = self.rows as i64 - from;
        let end = if left > 0 { ((left + tap_step - 1) / tap_step).min(taps) } else { 0 };
        first as usize..end.max(first) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_and_windows_inside_are_those_of_each_row_tried() {
        let sizes = [1, 2, 3, 5];
        let all = [1, 4, 9].into_iter().flat_map(|rows| (-9..12).map(move |origin| (rows, origin)));
        for (rows, origin) in all {
            for (step, taps, tap_step) in
                sizes.into_iter().flat_map(|s| sizes.into_iter().flat_map(move |t| sizes.map(|d| (s, t, d))))
            {
                let (windows, count) = (Windows { rows, origin, step, taps, tap_step }, 7);
                let reads = |r: usize, t: usize| origin + (r * step + t * tap_step) as isize;
                let is_inside = |row: isize| (0..rows as isize).contains(&row);
                for r in 0..count {
                    let expected: Vec<usize> = (0..taps).filter(|&t| is_inside(reads(r, t))).collect();
                    assert_eq!(windows.taps_inside(r).collect::<Vec<_>>(), expected, "{windows:?}, row {r}");
                    let whole = expected.len() == taps;
                    assert_eq!(windows.inside(count).contains(&r), whole, "{windows:?}, row {r}");
                }
            }
        }
    }
}
