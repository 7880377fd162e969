//! Evaluation: the predictions of a network for the clips of a split, compared with their labels.

use super::error::TrainError;
use super::recogniser::{Prediction, Recogniser};
use crate::base::Name;
use crate::data::{Batches, Dataset, Split};
use serde::Serialize;
use std::sync::Arc;

impl Recogniser {
    /// Predicts all clips of `split`, and compares the predictions with the labels.
    ///
    /// # Errors
    /// The split has no clips, or the GPU fails.
    pub fn evaluate(&mut self, data: &Arc<Dataset>, split: Split) -> Result<Evaluation, TrainError> {
        let mut batches = Batches::eval(data.clone(), split, self.batch())?;
        let mut evaluation = Evaluation::new(split, data.classes());
        while let Some(batch) = batches.next_batch() {
            self.run(&batch.inputs)?;
            for (sample, &clip) in batch.clips.iter().enumerate() {
                let prediction = self.prediction(sample);
                evaluation.add(batch.labels[sample] as usize, clip, prediction);
            }
        }
        evaluation.finish();
        Ok(evaluation)
    }
}

/// The figures of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassFigures {
    /// Its name.
    pub class: Name,
    /// Clips with this label.
    pub clips: u64,
    /// Of the clips that are predicted as this class, the share that have its label.
    pub precision: f64,
    /// Of the clips with this label, the share that are predicted as this class.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
}

/// The figures of a network on the clips of a split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// The split.
    pub split: Split,
    /// Clips.
    pub clips: u64,
    /// Clips whose prediction is the label.
    pub correct: u64,
    /// The share of correct clips.
    pub accuracy: f64,
    /// Its 95 % interval (Wilson, "Probable inference", JASA 1927).
    pub interval: [f64; 2],
    /// Mean cross-entropy.
    pub loss: f64,
    /// The figures of each class, in the order of the outputs.
    pub classes: Vec<ClassFigures>,
    /// Clips by label (rows) and predicted class (columns).
    pub confusion: Vec<Vec<u64>>,
    /// The prediction for each clip, in the order of the clips' names.
    #[serde(skip)]
    pub predictions: Vec<ClipPrediction>,
}

/// What a network predicts for one labelled clip.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipPrediction {
    /// Number of the clip in the data set.
    pub clip: u32,
    /// Its class.
    pub label: usize,
    /// The prediction.
    pub prediction: Prediction,
}

impl ClipPrediction {
    /// Whether the prediction is the label.
    pub fn is_correct(&self) -> bool {
        self.prediction.class == self.label
    }
}

impl Evaluation {
    fn new(split: Split, classes: &[Name]) -> Evaluation {
        let figures =
            |class: &Name| ClassFigures { class: class.clone(), clips: 0, precision: 0.0, recall: 0.0, f1: 0.0 };
        Evaluation {
            split,
            clips: 0,
            correct: 0,
            accuracy: 0.0,
            interval: [0.0, 1.0],
            loss: 0.0,
            classes: classes.iter().map(figures).collect(),
            confusion: vec![vec![0; classes.len()]; classes.len()],
            predictions: Vec::new(),
        }
    }

    fn add(&mut self, label: usize, clip: u32, prediction: Prediction) {
        self.clips += 1;
        self.correct += u64::from(prediction.class == label);
        self.loss -= prediction.probabilities[label].max(f64::MIN_POSITIVE).ln();
        self.confusion[label][prediction.class] += 1;
        self.predictions.push(ClipPrediction { clip, label, prediction });
    }

    fn finish(&mut self) {
        let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        self.accuracy = share(self.correct, self.clips);
        self.interval = wilson(self.correct, self.clips);
        self.loss /= self.clips.max(1) as f64;
        for (c, figures) in self.classes.iter_mut().enumerate() {
            let right = self.confusion[c][c];
            let called = self.confusion.iter().map(|row| row[c]).sum();
            figures.clips = self.confusion[c].iter().sum();
            figures.precision = share(right, called);
            figures.recall = share(right, figures.clips);
            figures.f1 = share(2 * right, called + figures.clips);
        }
    }

    /// The mistakes, the most confident prediction first.
    pub fn mistakes(&self) -> Vec<&ClipPrediction> {
        let mut wrong: Vec<&ClipPrediction> = self.predictions.iter().filter(|clip| !clip.is_correct()).collect();
        wrong.sort_by(|a, b| b.prediction.probability.total_cmp(&a.prediction.probability).then(a.clip.cmp(&b.clip)));
        wrong
    }

    /// The confusion matrix as CSV: a row for each label, a column for each predicted class.
    pub fn confusion_csv(&self) -> String {
        let names: Vec<String> = self.classes.iter().map(|figures| csv_field(&figures.class)).collect();
        let mut csv = format!("class,{}\n", names.join(","));
        for (name, row) in names.iter().zip(&self.confusion) {
            let row: Vec<String> = row.iter().map(u64::to_string).collect();
            csv += &format!("{name},{}\n", row.join(","));
        }
        csv
    }

    /// The predictions as CSV: clip, label, predicted class, and the probability of each class. `data` is the data set
    /// that was evaluated.
    pub fn predictions_csv(&self, data: &Dataset) -> String {
        let names: Vec<String> = self.classes.iter().map(|figures| csv_field(&figures.class)).collect();
        let mut csv = format!("clip,label,predicted,{}\n", names.join(","));
        for clip in &self.predictions {
            let name = csv_field(&data.clips()[clip.clip as usize].name);
            csv += &format!("{name},{},{}", names[clip.label], names[clip.prediction.class]);
            clip.prediction.probabilities.iter().for_each(|probability| csv += &format!(",{probability:.6}"));
            csv.push('\n');
        }
        csv
    }
}

/// A name as a field of a CSV file (RFC 4180).
fn csv_field(name: &impl std::fmt::Display) -> String {
    let text = name.to_string();
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// The 95 % interval of a share: `right` of `all`.
fn wilson(right: u64, all: u64) -> [f64; 2] {
    if all == 0 {
        return [0.0, 1.0];
    }
    const Z: f64 = 1.959_963_985;
    let (n, p) = (all as f64, right as f64 / all as f64);
    let centre = (p + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    [(centre - half).max(0.0), (centre + half).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_wilsons() {
        // Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I: 81 of 263.
        let [low, high] = wilson(81, 263);
        approx::assert_abs_diff_eq!(low, 0.2553, epsilon = 5e-5);
        approx::assert_abs_diff_eq!(high, 0.3662, epsilon = 5e-5);
    }

    #[test]
    fn figures_follow_from_the_matrix() {
        let mut e = Evaluation::new(Split::Testing, &["yes".into(), "no".into()]);
        let say = |class: usize| Prediction { class, probability: 0.5, probabilities: vec![0.5, 0.5] };
        [(0, 0), (0, 0), (0, 1), (1, 1)].into_iter().for_each(|(label, class)| e.add(label, 0, say(class)));
        e.finish();
        assert_eq!(e.confusion, [[2, 1], [0, 1]]);
        assert_eq!(e.accuracy, 0.75);
        assert_eq!((e.classes[0].precision, e.classes[1].precision), (1.0, 0.5));
        assert_eq!(e.confusion_csv(), "class,yes,no\nyes,2,1\nno,0,1\n");
        approx::assert_relative_eq!(e.loss, 2f64.ln());
    }
}
