//! Recognising clips, and how well a network does on those of a split.

use super::error::TrainError;
use super::trainer::largest;
use super::weights::Weights;
use crate::base::rng::{Key, Stream};
use crate::data::{Batches, Dataset, Split};
use crate::exec::{Device, Executor};
use crate::graph::{Plan, PlanOptions, Work};
use crate::nn::Network;
use serde::Serialize;
use std::sync::Arc;

/// What a network says of one clip.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// The likeliest class.
    pub class: usize,
    /// Its probability.
    pub probability: f64,
    /// Probabilities of all classes.
    pub probabilities: Vec<f64>,
}

/// A network that recognises, with the memory to do it.
pub struct Recogniser {
    weights: Weights,
    executor: Executor,
    labels: Vec<f32>,
}

impl Recogniser {
    /// A recogniser of batches of `batch` clips.
    pub fn new(
        network: Arc<Network>,
        weights: Weights,
        batch: usize,
        device: impl Into<Device>,
    ) -> Result<Recogniser, TrainError> {
        let options = Recogniser::options(&network, batch);
        Recogniser::with_plan(network, weights, &options, device)
    }

    /// How [`Recogniser::new`] lowers a network: fused where that is faster.
    pub fn options(network: &Network, batch: usize) -> PlanOptions {
        PlanOptions::new(batch, Work::Infer(network.logits))
    }

    /// A recogniser that lowers the network by other options than [`Recogniser::options`], which they must begin from.
    pub fn with_plan(
        network: Arc<Network>,
        weights: Weights,
        options: &PlanOptions,
        device: impl Into<Device>,
    ) -> Result<Recogniser, TrainError> {
        let device = device.into();
        let plan = Plan::new(&network.graph, &device.options(options))?;
        let labels = vec![0.0; options.n];
        let mut executor = Executor::new(Arc::new(plan), &device)?;
        executor.prepare(&weights.params, &weights.state)?;
        Ok(Recogniser { executor, labels, weights })
    }

    /// Takes other weights of the same network.
    ///
    /// # Errors
    /// The GPU refuses them.
    pub fn set_weights(&mut self, weights: &Weights) -> Result<(), TrainError> {
        self.weights.params.copy_from_slice(&weights.params);
        self.weights.state.copy_from_slice(&weights.state);
        Ok(self.executor.prepare(&self.weights.params, &self.weights.state)?)
    }

    /// Computes the logits of a batch of clips, `[n, length, channels]`.
    ///
    /// # Errors
    /// The GPU fails; never on the processor.
    ///
    /// # Panics
    /// If `inputs` has not the batch's length.
    pub fn run(&mut self, inputs: &[f32]) -> Result<(), TrainError> {
        let draw = Key::new(0, Stream::Dropout);
        let Weights { params, state } = &mut self.weights;
        Ok(self.executor.run(params, state, &[inputs, &self.labels], draw)?)
    }

    /// On a GPU: seconds that a batch takes, that of the last run; median of `runs`.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn measure(&mut self, runs: usize) -> Result<f64, TrainError> {
        Ok(self.executor.measure(runs)?)
    }

    /// The logits of one clip of the batch.
    pub fn logits(&self, sample: usize) -> &[f32] {
        self.executor.target_of(sample)
    }

    /// What the network says of one clip of the batch.
    pub fn prediction(&self, sample: usize) -> Prediction {
        let logits = self.logits(sample);
        let probabilities = softmax(logits);
        let class = largest(logits);
        Prediction { class, probability: probabilities[class], probabilities }
    }

    /// Recognises all clips of `split`.
    pub fn evaluate(&mut self, data: &Arc<Dataset>, split: Split) -> Result<Evaluation, TrainError> {
        let mut batches = Batches::eval(data.clone(), split, self.labels.len())?;
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

fn softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&z| f64::from(z - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

/// How well one class is recognised.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassFigures {
    /// Its name.
    pub class: String,
    /// Clips of it.
    pub clips: u64,
    /// Of the clips called so, the share that are.
    pub precision: f64,
    /// Of its clips, the share called so.
    pub recall: f64,
    /// Harmonic mean of the two.
    pub f1: f64,
}

/// How well a network does on the clips of a split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// The split.
    pub split: Split,
    /// Clips.
    pub clips: u64,
    /// Clips recognised.
    pub correct: u64,
    /// Their share.
    pub accuracy: f64,
    /// Its 95 % interval (Wilson, "Probable inference", JASA 1927).
    pub interval: [f64; 2],
    /// Mean cross-entropy.
    pub loss: f64,
    /// Class by class.
    pub classes: Vec<ClassFigures>,
    /// Clips by class (rows) and answer (columns).
    pub confusion: Vec<Vec<u64>>,
    /// The answer to each clip: its number in the data set, the class it was called, and with which probability.
    #[serde(skip)]
    pub answers: Vec<(u32, usize, f64)>,
}

impl Evaluation {
    fn new(split: Split, classes: &[String]) -> Evaluation {
        let figures =
            |class: &String| ClassFigures { class: class.clone(), clips: 0, precision: 0.0, recall: 0.0, f1: 0.0 };
        Evaluation {
            split,
            clips: 0,
            correct: 0,
            accuracy: 0.0,
            interval: [0.0, 1.0],
            loss: 0.0,
            classes: classes.iter().map(figures).collect(),
            confusion: vec![vec![0; classes.len()]; classes.len()],
            answers: Vec::new(),
        }
    }

    fn add(&mut self, label: usize, clip: u32, prediction: Prediction) {
        self.clips += 1;
        self.correct += u64::from(prediction.class == label);
        self.loss -= prediction.probabilities[label].max(f64::MIN_POSITIVE).ln();
        self.confusion[label][prediction.class] += 1;
        self.answers.push((clip, prediction.class, prediction.probability));
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

    /// The confusion matrix as CSV: a line a class, a column an answer.
    pub fn confusion_csv(&self) -> String {
        let quote = |name: &String| {
            if name.contains([',', '"', '\n']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.clone() }
        };
        let names: Vec<String> = self.classes.iter().map(|figures| quote(&figures.class)).collect();
        let mut csv = format!("class,{}\n", names.join(","));
        for (name, row) in names.iter().zip(&self.confusion) {
            let row: Vec<String> = row.iter().map(u64::to_string).collect();
            csv += &format!("{name},{}\n", row.join(","));
        }
        csv
    }
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
