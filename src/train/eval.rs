//! Evaluation: the predictions of a network for labelled clips, compared with their labels.

use super::error::TrainError;
use super::predictor::{Prediction, Predictor};
use super::shifts::{Shifts, shift};
use super::statistics::wilson;
use crate::base::Name;
use crate::data::{Batch, Batches, Dataset, Split};
use serde::Serialize;
use std::sync::Arc;

impl Predictor {
    /// Predicts all clips of a split, or of the whole data set where `clips` is `None`, and compares the predictions with the
    /// labels.
    ///
    /// # Errors
    /// There are no such clips, or the GPU fails.
    pub fn evaluate(&mut self, data: &Arc<Dataset>, clips: impl Into<Option<Split>>) -> Result<Evaluation, TrainError> {
        self.evaluate_shifted(data, clips, Shifts::NONE)
    }

    /// As [`Predictor::evaluate`], with the mean probabilities over shifted copies of each clip, which takes as many times as
    /// long as there are copies. A shifted copy has zeros where the part of the clip that is used ends.
    ///
    /// # Errors
    /// There are no such clips, or the GPU fails.
    pub fn evaluate_shifted(
        &mut self,
        data: &Arc<Dataset>,
        clips: impl Into<Option<Split>>,
        shifts: Shifts,
    ) -> Result<Evaluation, TrainError> {
        let split = clips.into();
        let mut batches = Batches::eval(data.clone(), split, self.batch())?;
        let mut evaluation = Evaluation::new(split, shifts, data.classes());
        while let Some(batch) = batches.next_batch() {
            let predictions = match shifts {
                Shifts::NONE => {
                    self.run(&batch.inputs)?;
                    (0..batch.clips.len()).map(|sample| self.prediction(sample)).collect()
                }
                _ => self.mean_predictions(batch, data, shifts)?,
            };
            for (sample, prediction) in predictions.into_iter().enumerate() {
                evaluation.add(batch.labels[sample] as usize, batch.clips[sample], prediction);
            }
        }
        evaluation.finish();
        Ok(evaluation)
    }

    /// The prediction for each clip of a batch from the mean of its probabilities over the shifts.
    fn mean_predictions(
        &mut self,
        batch: &Batch,
        data: &Dataset,
        shifts: Shifts,
    ) -> Result<Vec<Prediction>, TrainError> {
        let format = data.format();
        let mut sums = vec![vec![0.0; data.classes().len()]; batch.clips.len()];
        let mut shifted = vec![0.0; batch.inputs.len()];
        for frames in shifts.frames(format.rate_hz) {
            shift(&batch.inputs, data.row_len(), frames * i64::from(format.channels), &mut shifted);
            self.run(&shifted)?;
            for (sample, sum) in sums.iter_mut().enumerate() {
                let probabilities = self.prediction(sample).probabilities;
                sum.iter_mut().zip(probabilities).for_each(|(sum, probability)| *sum += probability);
            }
        }
        Ok(sums.into_iter().map(|sum| mean_prediction(sum, shifts.copies())).collect())
    }
}

/// The prediction from the mean of `n` probabilities, given their sum for each class.
pub(super) fn mean_prediction(sums: Vec<f64>, n: u32) -> Prediction {
    let probabilities: Vec<f64> = sums.into_iter().map(|sum| sum / f64::from(n)).collect();
    // The first of equal ones, as for a single output of the network.
    let largest = |best: usize, i: usize| if probabilities[i] > probabilities[best] { i } else { best };
    let class = (1..probabilities.len()).fold(0, largest);
    Prediction { class, probability: probabilities.get(class).copied().unwrap_or(0.0), probabilities }
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

/// The figures of a network on labelled clips.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// The split that the clips are of; none for all clips of a data set.
    pub split: Option<Split>,
    /// How many shifted copies of each clip the probabilities are averaged over.
    pub shifts: Shifts,
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
    /// The evaluation of predictions for clips of a split, or of a whole data set where `split` is none, from any source.
    pub fn of(split: Option<Split>, classes: &[Name], predictions: Vec<ClipPrediction>) -> Evaluation {
        let mut evaluation = Evaluation::new(split, Shifts::NONE, classes);
        for ClipPrediction { clip, label, prediction } in predictions {
            evaluation.add(label, clip, prediction);
        }
        evaluation.finish();
        evaluation
    }

    /// An evaluation without clips.
    pub(super) fn new(split: Option<Split>, shifts: Shifts, classes: &[Name]) -> Evaluation {
        let figures =
            |class: &Name| ClassFigures { class: class.clone(), clips: 0, precision: 0.0, recall: 0.0, f1: 0.0 };
        Evaluation {
            split,
            shifts,
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

    /// Adds the prediction for a clip.
    pub(super) fn add(&mut self, label: usize, clip: u32, prediction: Prediction) {
        self.clips += 1;
        self.correct += u64::from(prediction.class == label);
        self.loss -= prediction.probabilities[label].max(f64::MIN_POSITIVE).ln();
        self.confusion[label][prediction.class] += 1;
        self.predictions.push(ClipPrediction { clip, label, prediction });
    }

    /// Computes the figures from what was added.
    pub(super) fn finish(&mut self) {
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

    /// The clips in one word, as in file names: `test`, `validation`, `training`, or `other` for all clips of a data set.
    pub fn clips_name(&self) -> &'static str {
        self.split.map_or("other", Split::short_name)
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
pub fn csv_field(name: &impl std::fmt::Display) -> String {
    let text = name.to_string();
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_follow_from_the_matrix() {
        let mut e = Evaluation::new(Some(Split::Testing), Shifts::NONE, &["yes".into(), "no".into()]);
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
