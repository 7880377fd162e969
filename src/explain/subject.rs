//! What is explained: a trained network, the recordings that it was tested on, and single clips.

use super::error::ExplainError;
use super::maps::Method;
use crate::base::Name;
use crate::data::{Dataset, Samples, Split};
use crate::graph::NodeId;
use crate::nn::Network;
use crate::simd::Isa;
use crate::train::{EVAL_BATCH, EpochRecord, Evaluation, Prediction, Predictor, TrainConfig, Weights};
use std::sync::Arc;

/// A trained network with the recordings of its run.
pub struct Subject {
    /// The name of the run.
    pub name: String,
    /// The network and its variant in words.
    pub description: String,
    /// The network.
    pub network: Arc<Network>,
    /// Its weights.
    pub weights: Weights,
    /// The settings of the training.
    pub config: TrainConfig,
    /// The records of its epochs; none if the run has lost them.
    pub epochs: Vec<EpochRecord>,
    /// The recordings.
    pub data: Arc<Dataset>,
    /// The split whose clips are explained.
    pub split: Split,
    /// The layer of Grad-CAM; the last block if none.
    pub layer: Option<NodeId>,
    /// How the network is computed.
    pub isa: Isa,
}

/// A clip whose maps are shown.
#[derive(Clone, Debug)]
pub struct ExplainedClip {
    /// Its name.
    pub name: Name,
    /// Its class, if it is known.
    pub label: Option<usize>,
    /// The input of the network, `[length, channels]`.
    pub input: Vec<f32>,
    /// What the network recognises.
    pub prediction: Prediction,
}

impl Subject {
    /// The classes.
    pub fn classes(&self) -> &[Name] {
        self.data.classes()
    }

    /// The methods of its maps.
    pub fn methods(&self) -> Vec<Method> {
        Method::of(&self.network, self.layer)
    }

    /// The rate of the input, Hz.
    pub fn rate(&self) -> f64 {
        f64::from(self.network.spec.input.sample_rate)
    }

    /// A predictor of the network for batches of the usual size.
    ///
    /// # Errors
    /// The memory does not suffice.
    pub fn predictor(&self) -> Result<Predictor, ExplainError> {
        let builder = Predictor::builder(&*self.network, self.weights.clone()).batch(EVAL_BATCH);
        Ok(builder.conv(self.config.conv).device(self.isa).build()?)
    }

    /// The predictions for all clips of the split.
    ///
    /// # Errors
    /// The split has no clips, or the memory does not suffice.
    pub fn evaluate(&self) -> Result<Evaluation, ExplainError> {
        Ok(self.predictor()?.evaluate(&self.data, self.split)?)
    }

    /// The clips with these predictions.
    pub fn clips<'a>(
        &'a self,
        predictions: impl IntoIterator<Item = &'a crate::train::ClipPrediction> + 'a,
    ) -> impl Iterator<Item = ExplainedClip> + 'a {
        predictions.into_iter().map(|of| {
            let mut input = vec![0.0; self.data.row_len()];
            self.data.write_input(of.clip as usize, &mut input);
            let name = self.data.clips()[of.clip as usize].name.clone();
            ExplainedClip { name, label: Some(of.label), input, prediction: of.prediction.clone() }
        })
    }

    /// The samples of a clip as sound; none if the recordings are no sound of one channel.
    pub fn sound(&self, clip: u32) -> Option<Vec<i16>> {
        match self.data.samples(clip as usize) {
            Samples::I16(samples) if self.data.format().channels == 1 => Some(samples.to_vec()),
            _ => None,
        }
    }
}

/// Numbers of at most `count` predictions that show most: by turns the most confident mistake and the most probable clip of a class, class after class.
pub fn choose(evaluation: &Evaluation, count: usize) -> Vec<usize> {
    let all = &evaluation.predictions;
    let mut mistakes: Vec<usize> = (0..all.len()).filter(|&i| !all[i].is_correct()).collect();
    mistakes.sort_by(|&a, &b| all[b].prediction.probability.total_cmp(&all[a].prediction.probability).then(a.cmp(&b)));
    let best = |class: usize| {
        let of_class = (0..all.len()).filter(|&i| all[i].label == class && all[i].is_correct());
        of_class
            .max_by(|&a, &b| all[a].prediction.probability.total_cmp(&all[b].prediction.probability).then(b.cmp(&a)))
    };
    // Two of three are recognised, so that a reader first sees what a good map looks like.
    let mut typical = (0..evaluation.classes.len()).filter_map(best);
    let mut mistakes = mistakes.into_iter();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let next = if chosen.len() % 3 == 2 {
            mistakes.next().or_else(|| typical.next())
        } else {
            typical.next().or_else(|| mistakes.next())
        };
        match next {
            Some(next) => chosen.push(next),
            None => break,
        }
    }
    chosen
}
