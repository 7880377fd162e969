//! Axes: from values to positions, and round values for the marks along them.

use crate::base::mel::{hz_to_mel, mel_to_hz};

/// How values are spaced along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences have equal distances.
    Linear,
    /// Equal ratios have equal distances; values that are not positive have no position.
    Logarithmic,
    /// Equal differences on the mel scale have equal distances; values are frequencies in Hz, and those below 0 have no position.
    Mel,
}

impl Scale {
    /// Whether a value has a position.
    fn shows(self, value: f64) -> bool {
        value.is_finite()
            && match self {
                Scale::Linear => true,
                Scale::Logarithmic => value > 0.0,
                Scale::Mel => value >= 0.0,
            }
    }

    /// A value on the scale, where distances are differences.
    fn scaled(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Logarithmic => value.log10(),
            Scale::Mel => hz_to_mel(value),
        }
    }
}

/// An axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it shows, with the unit: "frequency (Hz)".
    pub label: String,
    /// How values are spaced.
    pub scale: Scale,
    /// First and last value; if none, they follow from the values shown.
    pub range: Option<[f64; 2]>,
    /// Whether only whole numbers are marked, as on an axis of counts.
    pub whole: bool,
}

impl Axis {
    /// A linear axis whose range follows from the values.
    pub fn linear(label: &str) -> Axis {
        Axis { label: label.into(), scale: Scale::Linear, range: None, whole: false }
    }

    /// A logarithmic axis whose range follows from the values.
    pub fn logarithmic(label: &str) -> Axis {
        Axis { label: label.into(), scale: Scale::Logarithmic, range: None, whole: false }
    }

    /// An axis of frequencies in Hz on the mel scale, whose range follows from the values.
    pub fn mel(label: &str) -> Axis {
        Axis { label: label.into(), scale: Scale::Mel, range: None, whole: false }
    }

    /// The same axis from `low` to `high`.
    #[must_use]
    pub fn between(mut self, low: f64, high: f64) -> Axis {
        self.range = Some([low, high]);
        self
    }

    /// The same axis with marks at whole numbers only.
    #[must_use]
    pub fn of_whole_numbers(mut self) -> Axis {
        self.whole = true;
        self
    }

    /// The axis for `values`, on `length` units from its origin.
    pub(super) fn placed(&self, values: impl Iterator<Item = f64>, length: f64) -> Placed {
        let extent = values.filter(|&v| self.scale.shows(v)).fold(None, |extent: Option<[f64; 2]>, v| {
            Some(extent.map_or([v, v], |[low, high]| [low.min(v), high.max(v)]))
        });
        // A logarithmic axis has no place for zero: such a range counts as none.
        let range = self.range.filter(|range| range.iter().all(|&end| self.scale.shows(end)));
        let [low, high] = range.or(extent).unwrap_or(match self.scale {
            Scale::Linear => [0.0, 1.0],
            Scale::Logarithmic => [1.0, 10.0],
            Scale::Mel => [0.0, 8000.0],
        });
        let (mut from, mut to) = (self.scale.scaled(low), self.scale.scaled(high));
        if range.is_none() {
            // Points do not touch the frame.
            let margin = if to > from { (to - from) * 0.06 } else { from.abs().max(1.0) * 0.1 };
            (from, to) = (from - margin, to + margin);
        }
        if from >= to {
            to = from + 1.0;
        }
        Placed { from, to, length, scale: self.scale, least_step: if self.whole { 1.0 } else { 0.0 } }
    }
}

/// An axis with its range.
pub(super) struct Placed {
    /// The first value on the scale.
    from: f64,
    to: f64,
    length: f64,
    scale: Scale,
    /// Marks are no closer.
    least_step: f64,
}

impl Placed {
    /// The distance of a value from the origin; none if it has no place on the axis.
    pub(super) fn at(&self, value: f64) -> Option<f64> {
        if !self.scale.shows(value) {
            return None;
        }
        let share = (self.scale.scaled(value) - self.from) / (self.to - self.from);
        (-1e-9..=1.0 + 1e-9).contains(&share).then_some(share * self.length)
    }

    /// The same for a value outside the range: the nearest end.
    pub(super) fn clamped(&self, value: f64) -> f64 {
        let value = if self.scale == Scale::Logarithmic { value.max(f64::MIN_POSITIVE) } else { value };
        ((self.scale.scaled(value) - self.from) / (self.to - self.from)).clamp(0.0, 1.0) * self.length
    }

    /// Round values on the axis, about `count`, with their text.
    pub(super) fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => linear_ticks(self.from, self.to, count, self.least_step),
            Scale::Logarithmic => self.logarithmic_ticks(count),
            Scale::Mel => self.mel_ticks(count),
        }
    }

    /// Doublings from 250 Hz, which are about as far apart as 0 Hz is from the first.
    fn mel_ticks(&self, count: usize) -> Vec<(f64, String)> {
        let values = std::iter::once(0.0).chain((0..16).map(|octave| 250.0 * f64::from(1u32 << octave)));
        let ticks: Vec<_> = values.filter(|&v| self.at(v).is_some()).map(|v| (v, short(v, 0))).collect();
        match ticks.len() {
            0..3 => linear_ticks(mel_to_hz(self.from), mel_to_hz(self.to), count, self.least_step),
            _ => ticks,
        }
    }

    fn logarithmic_ticks(&self, count: usize) -> Vec<(f64, String)> {
        if self.to - self.from < 0.6 {
            // Less than a factor of four: equal differences are easier to read.
            return linear_ticks(10f64.powf(self.from), 10f64.powf(self.to), count, self.least_step);
        }
        let steps: &[f64] = match self.to - self.from {
            decades if decades > 4.0 => &[1.0],
            decades if decades > 1.5 => &[1.0, 3.0],
            _ => &[1.0, 2.0, 5.0],
        };
        let decades = self.from.floor() as i32..=self.to.ceil() as i32;
        let values = decades.flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
        values.filter(|&v| self.at(v).is_some()).map(|v| (v, short(v, 0))).collect()
    }
}

fn linear_ticks(from: f64, to: f64, count: usize, least_step: f64) -> Vec<(f64, String)> {
    let rough = ((to - from) / count.max(1) as f64).max(least_step);
    let unit = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * unit).into_iter().find(|&s| s >= rough).unwrap_or(10.0 * unit);
    let digits = (-step.log10().floor()).max(0.0) as usize;
    let first = (from / step).ceil() as i64;
    let last = (to / step + 1e-9).floor() as i64;
    (first..=last)
        .take(100)
        .map(|i| {
            let value = i as f64 * step;
            (value, short(value, digits))
        })
        .collect()
}

/// `20`, `0.95`, `2k`, `1.5M`.
fn short(value: f64, digits: usize) -> String {
    let scaled = |value: f64, unit: &str| {
        let text = format!("{value:.2}");
        format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
    };
    match value.abs() {
        size if size >= 1e9 => scaled(value / 1e9, "G"),
        size if size >= 1e6 => scaled(value / 1e6, "M"),
        size if size >= 1e3 => scaled(value / 1e3, "k"),
        size if size > 0.0 && size < 1e-4 => format!("{value:.0e}"),
        size if digits == 0 && size > 0.0 && size < 1.0 => scaled_small(value),
        _ => format!("{value:.digits$}"),
    }
}

/// A value below one with as many digits as it needs: `0.003`.
fn scaled_small(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis, values: &[f64]) -> Vec<String> {
        axis.placed(values.iter().copied(), 400.0).ticks(6).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(texts(&Axis::linear("").between(0.0, 1.0), &[]), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(texts(&Axis::linear("").between(4.0, 9.0), &[]), ["4", "5", "6", "7", "8", "9"]);
        assert_eq!(texts(&Axis::linear("").between(5.7, 7.3), &[]), ["6.0", "6.5", "7.0"]);
        assert_eq!(texts(&Axis::linear("").between(5.7, 7.3).of_whole_numbers(), &[]), ["6", "7"]);
        assert_eq!(texts(&Axis::linear("").between(0.0, 8000.0), &[]), ["0", "2k", "4k", "6k", "8k"]);
        assert_eq!(texts(&Axis::logarithmic(""), &[3e4, 2.2e6]), ["30k", "100k", "300k", "1M"]);
        assert_eq!(
            texts(&Axis::logarithmic("").between(1e-3, 1.0), &[]),
            ["0.001", "0.003", "0.01", "0.03", "0.1", "0.3", "1"]
        );
    }

    #[test]
    fn a_mel_axis_has_its_marks_in_hertz() {
        let axis = Axis::mel("").between(0.0, 8000.0);
        assert_eq!(texts(&axis, &[]), ["0", "250", "500", "1k", "2k", "4k", "8k"]);
        assert_eq!(texts(&Axis::mel("").between(0.0, 100.0), &[]), ["0", "20", "40", "60", "80", "100"]);
        let placed = axis.placed(std::iter::empty(), 100.0);
        assert_eq!([placed.at(0.0), placed.at(8000.0), placed.at(-1.0)], [Some(0.0), Some(100.0), None]);
        // 1000 of the 2840 mel.
        assert!((placed.at(1000.0).unwrap() - 35.2).abs() < 0.1);
    }

    #[test]
    fn positions_cover_the_axis_and_nothing_else_has_one() {
        let axis = Axis::logarithmic("").between(1.0, 100.0).placed(std::iter::empty(), 200.0);
        assert_eq!([axis.at(1.0), axis.at(10.0), axis.at(100.0)], [Some(0.0), Some(100.0), Some(200.0)]);
        assert_eq!([axis.at(0.0), axis.at(-1.0), axis.at(f64::NAN), axis.at(101.0)], [None; 4]);
        assert_eq!((axis.clamped(0.0), axis.clamped(1e9)), (0.0, 200.0));
        for values in [&[][..], &[2.0], &[0.0, 0.0], &[-1.0], &[f64::NAN, f64::INFINITY], &[1e-300, 1e300]] {
            let logarithmic = [Axis::logarithmic(""), Axis::logarithmic("").between(0.0, 1.0)];
            for axis in logarithmic.into_iter().chain([Axis::linear(""), Axis::mel("")]) {
                let ticks = axis.placed(values.iter().copied(), 100.0).ticks(5);
                assert!(!ticks.is_empty() && ticks.len() < 1000, "{axis:?} {values:?}: {ticks:?}");
            }
        }
    }
}
