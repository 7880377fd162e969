//! Distillation: the labels of a batch are mixed with the probabilities that a larger, trained network gives to the same clips.
//!
//! **Computes** for each clip `(1 - share) * label + share * softmax(z / temperature)`, where `z` are the teacher's logits for the clip as it
//! was altered. The loss is the cross-entropy with these labels. **Source** Hinton, Vinyals and Dean, "Distilling the knowledge in a
//! neural network", arXiv 1503.02531, section 2, with the student's own temperature left at 1.

use super::bundle::{Bundle, Which};
use super::config::TrainConfig;
use super::error::TrainError;
use super::metrics;
use super::predictor::{Predictor, softmax};
use crate::base::name::display_path;
use crate::base::{Name, Standardisation};
use crate::exec::Device;
use crate::nn::Network;
use std::path::Path;

/// A trained network whose probabilities become labels.
pub struct Teacher {
    predictor: Predictor,
    /// The hash of its weights, as in `metrics.jsonl`.
    pub weights: String,
    share: f64,
    temperature: f64,
    classes: usize,
    labels: Vec<f32>,
}

impl Teacher {
    /// The teacher of a run, for batches of at most `batch` clips.
    ///
    /// # Errors
    /// It cannot be loaded, or has other classes, another input or another standardisation than the run.
    pub fn open(
        path: &Path,
        (config, standardisation): (&TrainConfig, Option<&Standardisation>),
        network: &Network,
        batch: usize,
        device: &Device,
    ) -> Result<Teacher, TrainError> {
        let teacher = Bundle::open(path, Which::Best)?;
        let refuse = |difference: String| {
            let message = format!("it {difference}; give a run of the same classes and of the same input");
            Err(TrainError::Config { place: format!("the teacher {}", display_path(path)), message })
        };
        if teacher.classes != config.classes {
            let list = |names: &[Name]| names.iter().map(Name::to_string).collect::<Vec<_>>().join(",");
            return refuse(format!(
                "has the classes {}, and this run has {}",
                list(&teacher.classes),
                list(&config.classes)
            ));
        }
        let (own, other) = (network.spec.input, teacher.network.spec.input);
        if own != other {
            return refuse(format!(
                "takes {} samples of {} channels at {} Hz, and this network takes {} of {} at {} Hz",
                other.length, other.channels, other.sample_rate, own.length, own.channels, own.sample_rate
            ));
        }
        if teacher.standardisation.as_ref() != standardisation {
            return refuse("takes inputs that are standardised in another way".into());
        }
        let weights = metrics::hash(&teacher.weights.params);
        let predictor = Predictor::builder(&teacher.network, teacher.weights).batch(batch);
        let predictor = predictor.conv(config.conv).device(device.clone()).build()?;
        let (share, temperature) = (config.teacher_share, config.temperature);
        Ok(Teacher { predictor, weights, share, temperature, classes: network.classes, labels: Vec::new() })
    }

    /// The labels `[n, classes]` mixed with the teacher's probabilities for `inputs` `[n, length, channels]`.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn labels(&mut self, inputs: &[f32], labels: &[f32]) -> Result<&[f32], TrainError> {
        self.predictor.run(inputs)?;
        self.labels.clear();
        for (sample, hard) in labels.chunks_exact(self.classes).enumerate() {
            let scaled = self.predictor.logits(sample).iter().map(|&z| (f64::from(z) / self.temperature) as f32);
            let soft = softmax(&scaled.collect::<Vec<f32>>());
            let mixed =
                hard.iter().zip(soft).map(|(&hard, soft)| (1.0 - self.share) * f64::from(hard) + self.share * soft);
            self.labels.extend(mixed.map(|label| label as f32));
        }
        Ok(&self.labels)
    }
}
