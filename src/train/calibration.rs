//! Calibration: whether the probability of a prediction is the share of such predictions that are right.
//!
//! **Source**: Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017, section 2: the expected
//! calibration error (ECE) with equal-width bins of the probability of the predicted class.

use super::eval::{ClipPrediction, Evaluation};
use serde::Serialize;

/// Bins of the probability of the predicted class.
const BINS: usize = 15;

/// Predictions of similar probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConfidenceBin {
    /// Probabilities in the bin are larger than this.
    pub low: f64,
    /// Probabilities in the bin are at most this.
    pub high: f64,
    /// Clips in the bin.
    pub clips: u64,
    /// Mean probability of their predicted classes; none in an empty bin.
    pub confidence: Option<f64>,
    /// Share of them whose prediction is right; none in an empty bin.
    pub accuracy: Option<f64>,
}

/// How far the probabilities of predictions agree with the share of right ones.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// Expected calibration error: the mean over the clips of the difference between confidence and accuracy in their bin. It is
    /// above 0 even for exact probabilities, the more so the fewer clips there are.
    pub expected_error: f64,
    /// Mean probability of the predicted class over all clips; compare it with the accuracy.
    pub mean_confidence: f64,
    /// The bins, in ascending order: the data of a reliability diagram.
    pub bins: Vec<ConfidenceBin>,
}

impl Calibration {
    /// The calibration of an evaluation.
    pub fn of(evaluation: &Evaluation) -> Calibration {
        let outcomes =
            evaluation.predictions.iter().map(|clip: &ClipPrediction| (clip.prediction.probability, clip.is_correct()));
        Calibration::of_outcomes(outcomes)
    }

    /// The calibration of predictions: the probability of each, and whether it is right.
    fn of_outcomes(outcomes: impl Iterator<Item = (f64, bool)>) -> Calibration {
        let mut sums = [(0u64, 0.0, 0u64); BINS];
        for (probability, right) in outcomes {
            let above = (probability * BINS as f64).ceil() as usize;
            let (clips, confidence, correct) = &mut sums[above.clamp(1, BINS) - 1];
            *clips += 1;
            *confidence += probability;
            *correct += u64::from(right);
        }
        let all = sums.iter().map(|sum| sum.0).sum::<u64>().max(1) as f64;
        let mean_confidence = sums.iter().map(|sum| sum.1).sum::<f64>() / all;
        // Of each bin: its share of the clips, times the difference of the two means.
        let expected_error =
            sums.iter().map(|&(_, confidence, correct)| (confidence - correct as f64).abs()).sum::<f64>() / all;
        let bin = |(i, &(clips, confidence, correct)): (usize, &(u64, f64, u64))| {
            let mean = |sum: f64| (clips > 0).then(|| sum / clips as f64);
            let [low, high] = [i, i + 1].map(|edge| edge as f64 / BINS as f64);
            ConfidenceBin { low, high, clips, confidence: mean(confidence), accuracy: mean(correct as f64) }
        };
        Calibration { expected_error, mean_confidence, bins: sums.iter().enumerate().map(bin).collect() }
    }

    /// The bins as CSV, with empty fields for the means of empty bins.
    pub fn csv(&self) -> String {
        let mut csv = String::from("low,high,clips,confidence,accuracy\n");
        let mean = |mean: Option<f64>| mean.map_or(String::new(), |mean| format!("{mean:.6}"));
        for bin in &self.bins {
            let (confidence, accuracy) = (mean(bin.confidence), mean(bin.accuracy));
            csv += &format!("{:.6},{:.6},{},{confidence},{accuracy}\n", bin.low, bin.high, bin.clips);
        }
        csv
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_the_mean_gap_of_the_bins() {
        // Bin 8 (0.467 to 0.533]: 0.5 right, 0.5 wrong: gap 0. Bin 14 (0.867 to 0.933]: 0.9 right, 0.9 wrong: gap 0.4.
        // Bin 15: 1.0 wrong: gap 1. ECE = (2 * 0 + 2 * 0.4 + 1 * 1) / 5 = 0.36.
        let outcomes = [(0.5, true), (0.5, false), (0.9, true), (0.9, false), (1.0, false)];
        let calibration = Calibration::of_outcomes(outcomes.into_iter());
        approx::assert_relative_eq!(calibration.expected_error, 0.36, epsilon = 1e-12);
        approx::assert_relative_eq!(calibration.mean_confidence, 0.76, epsilon = 1e-12);
        let filled: Vec<(usize, u64)> =
            calibration.bins.iter().map(|bin| bin.clips).enumerate().filter(|b| b.1 > 0).collect();
        assert_eq!(filled, [(7, 2), (13, 2), (14, 1)]);
        assert_eq!((calibration.bins[7].confidence, calibration.bins[7].accuracy), (Some(0.5), Some(0.5)));
        assert_eq!(calibration.bins[14].accuracy, Some(0.0));
        let csv = calibration.csv();
        assert_eq!(csv.lines().count(), BINS + 1);
        assert_eq!(csv.lines().nth(1), Some("0.000000,0.066667,0,,"));
        assert_eq!(csv.lines().nth(8), Some("0.466667,0.533333,2,0.500000,0.500000"));
    }

    #[test]
    fn an_edge_belongs_to_the_bin_below_it_and_no_probability_is_out_of_range() {
        let of = |probability: f64| {
            let calibration = Calibration::of_outcomes(std::iter::once((probability, true)));
            calibration.bins.iter().position(|bin| bin.clips == 1)
        };
        assert_eq!([of(0.2), of(0.2000001), of(0.0), of(1.0), of(f64::NAN)], [2, 3, 0, 14, 0].map(Some));
        let empty = Calibration::of_outcomes(std::iter::empty());
        assert_eq!((empty.expected_error, empty.mean_confidence), (0.0, 0.0));
    }
}
