//! The weight files of a run: weights with the network, the classes and the settings that they belong to.

use super::error::TrainError;
use super::identity;
use super::metrics::EpochRecord;
use super::prepared::Sources;
use super::weight_file::{self, SETTINGS, WeightFile, damaged, quoted, tensors_of, to_tensors};
use super::weights::Weights;
use crate::base::Name;
use crate::base::aligned::Aligned;
use crate::graph::Graph;
use crate::nn::NetworkSpec;
use crate::optim::Adam;
use std::collections::HashMap;
use std::path::Path;

/// The progress of a run: what resuming needs in addition to the weights.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Complete epochs.
    pub epoch: u64,
    /// Steps taken in the epoch after them.
    pub step: u64,
    /// Sum of the losses of these steps.
    pub loss_sum: f64,
    /// Clips of these steps that were classified correctly.
    pub correct: u64,
    /// Seconds spent on this epoch.
    pub seconds: f64,
    /// Best validation accuracy so far.
    pub best_accuracy: Option<f64>,
    /// Validation loss of that epoch.
    pub best_loss: Option<f64>,
    /// That epoch, from 1.
    pub best_epoch: u64,
}

/// The content of a run's last checkpoint.
pub struct Checkpoint {
    /// Parameters and state.
    pub weights: Weights,
    /// First and second moments and steps of the optimiser.
    pub optimizer: (Aligned, Aligned, u64),
    /// The moving average of parameters and state, if the run has one.
    pub average: Option<Weights>,
    /// Where the run stood.
    pub progress: Progress,
    /// The settings that it was trained with, in TOML.
    pub settings: String,
    /// Hashes of what it read beside the recordings.
    pub sources: Sources,
    /// Its epochs, without their times.
    pub records: Vec<EpochRecord>,
}

/// Metadata keys.
mod key {
    /// A [`super::Sources`] in TOML.
    pub const SOURCES: &str = "stapes.sources";
    /// A [`super::Progress`] in TOML.
    pub const PROGRESS: &str = "stapes.progress";
    /// The epochs so far, a JSON array.
    pub const EPOCHS: &str = "stapes.epochs";
    /// The optimiser's steps.
    pub const OPTIMIZER_STEP: &str = "stapes.optimizer_step";
}

const FIRST_MOMENT: &str = "optimizer.m.";
const SECOND_MOMENT: &str = "optimizer.v.";
const AVERAGE: &str = "average.";

/// The metadata of every weight file of a run.
pub fn metadata(network: &NetworkSpec, classes: &[Name], settings: String) -> HashMap<String, String> {
    identity::metadata(network, classes).into_iter().chain([(SETTINGS.into(), settings)]).collect()
}

/// The state of a run beside its weights.
pub struct State<'a> {
    /// The optimiser.
    pub adam: &'a Adam,
    /// The moving average of parameters and state, if there is one.
    pub average: Option<&'a Weights>,
    /// Hashes of what the run reads beside the recordings.
    pub sources: &'a Sources,
    /// The progress of the run.
    pub progress: &'a Progress,
    /// Its epochs.
    pub records: &'a [EpochRecord],
}

/// Writes the last checkpoint of a run.
pub fn save(
    path: &Path,
    graph: &Graph,
    weights: &Weights,
    state: &State<'_>,
    mut metadata: HashMap<String, String>,
) -> Result<(), TrainError> {
    let mut tensors = tensors_of(path, graph, weights)?;
    let parameters = graph.parameters();
    tensors.extend(to_tensors(FIRST_MOMENT, &parameters, &state.adam.m));
    tensors.extend(to_tensors(SECOND_MOMENT, &parameters, &state.adam.v));
    if let Some(average) = state.average {
        tensors.extend(to_tensors(AVERAGE, &parameters, &average.params));
        tensors.extend(to_tensors(AVERAGE, &graph.states(), &average.state));
    }
    metadata.insert(key::OPTIMIZER_STEP.into(), state.adam.step.to_string());
    let sources = toml::to_string(state.sources).expect("a struct of text is valid TOML");
    metadata.insert(key::SOURCES.into(), sources);
    let progress = toml::to_string(state.progress).expect("a struct of numbers is valid TOML");
    metadata.insert(key::PROGRESS.into(), progress);
    // Times differ between equal runs, whose files are equal.
    let records: Vec<EpochRecord> = state.records.iter().map(EpochRecord::without_times).collect();
    metadata.insert(key::EPOCHS.into(), serde_json::to_string(&records).expect("records are valid JSON"));
    weight_file::write(path, tensors, metadata)
}

/// The settings that a checkpoint was trained with, in TOML.
pub fn settings(file: &WeightFile) -> Option<&str> {
    file.text(SETTINGS)
}

/// Reads the last checkpoint of a run, if the file is one.
pub fn load(file: &WeightFile, graph: &Graph) -> Result<Option<Checkpoint>, TrainError> {
    let wrong = |what: &str, why: String| damaged(file.path(), format!("its {what}: {}", quoted(&why)));
    let weights = file.weights(graph)?;
    let (Some(step), Some(progress), Some(settings), Some(records)) =
        (file.text(key::OPTIMIZER_STEP), file.text(key::PROGRESS), file.text(SETTINGS), file.text(key::EPOCHS))
    else {
        return Ok(None);
    };
    let step = step.parse().map_err(|_| wrong("optimiser's step", step.into()))?;
    let progress = toml::from_str(progress).map_err(|e| wrong("progress record", e.message().into()))?;
    let sources = toml::from_str(file.text(key::SOURCES).unwrap_or_default());
    let sources = sources.map_err(|e| wrong("hashes", e.message().into()))?;
    let records = serde_json::from_str(records).map_err(|e| wrong("epochs", e.to_string()))?;
    let parameters = graph.parameters();
    let (mut m, mut v) = (Aligned::zeros(graph.params_len()), Aligned::zeros(graph.params_len()));
    file.fill(FIRST_MOMENT, &parameters, &mut m)?;
    file.fill(SECOND_MOMENT, &parameters, &mut v)?;
    let average = match file.has_tensors(AVERAGE)? {
        false => None,
        true => {
            let mut average = Weights::zeros(graph);
            file.fill(AVERAGE, &parameters, &mut average.params)?;
            file.fill(AVERAGE, &graph.states(), &mut average.state)?;
            Some(average)
        }
    };
    let (optimizer, settings) = ((m, v, step), settings.into());
    Ok(Some(Checkpoint { weights, optimizer, average, progress, settings, sources, records }))
}
