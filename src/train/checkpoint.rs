//! Weight files: safetensors with PyTorch's names, shapes and order, so that a state dict goes both ways.

use super::error::TrainError;
use super::run_folder::write_atomically;
use super::weights::{Weights, file_shape, from_file_order, to_file_order};
use crate::base::aligned::Aligned;
use crate::graph::{Graph, Parameter};
use crate::optim::Adam;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::HashMap;
use std::path::Path;

/// Where a run stands: what resuming needs beside the weights.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Complete epochs.
    pub epoch: u64,
    /// Steps taken in the epoch after them.
    pub step: u64,
    /// Sum of the losses of these steps.
    pub loss_sum: f64,
    /// Clips of these steps that were recognised.
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

/// A weight file's content.
pub struct Checkpoint {
    /// Parameters and state.
    pub weights: Weights,
    /// First and second moments and step, if the file has them.
    pub optimizer: Option<(Aligned, Aligned, u64)>,
    /// Where the run stood, if the file says.
    pub progress: Option<Progress>,
}

/// Metadata keys.
pub mod key {
    /// The network's specification in TOML.
    pub const NETWORK: &str = "stapes.network";
    /// The class names, a JSON array.
    pub const CLASSES: &str = "stapes.classes";
    /// Hz.
    pub const SAMPLE_RATE: &str = "stapes.sample_rate";
    /// The version that wrote the file.
    pub const VERSION: &str = "stapes.version";
    /// A [`super::Progress`] in TOML: its reader gives back every bit of a number, that of JSON not always the last one.
    pub const PROGRESS: &str = "stapes.progress";
    /// The optimiser's steps.
    pub const OPTIMIZER_STEP: &str = "stapes.optimizer_step";
}

const FIRST_MOMENT: &str = "optimizer.m.";
const SECOND_MOMENT: &str = "optimizer.v.";

/// Writes weights, and optimiser and progress if given, with `metadata`.
pub fn save(
    path: &Path,
    graph: &Graph,
    weights: &Weights,
    resume: Option<(&Adam, &Progress)>,
    mut metadata: HashMap<String, String>,
) -> Result<(), TrainError> {
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    let mut add = |prefix: &str, parameters: &[Parameter], arena: &[f32]| {
        for p in parameters {
            tensors.push((format!("{prefix}{}", p.name), file_shape(p.layout), to_file_order(p, arena)));
        }
    };
    let parameters = graph.parameters();
    add("", &parameters, &weights.params);
    add("", &graph.states(), &weights.state);
    if let Some((adam, progress)) = resume {
        add(FIRST_MOMENT, &parameters, &adam.m);
        add(SECOND_MOMENT, &parameters, &adam.v);
        metadata.insert(key::OPTIMIZER_STEP.into(), adam.step.to_string());
        let progress = toml::to_string(progress).expect("a struct of numbers is valid TOML");
        metadata.insert(key::PROGRESS.into(), progress);
    }
    let views = tensors.iter().map(|(name, shape, values)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values));
        (name, view.expect("shape and length of a tensor agree"))
    });
    // The crate has a map type of its own where its feature `std` is off.
    let bytes = safetensors::serialize(views, Some(metadata.into_iter().collect()));
    let mut bytes = bytes.map_err(|e| damaged(path, e))?;
    sort_header(&mut bytes);
    write_atomically(path, &bytes)
}

/// Puts the header in alphabetical order. The crate writes metadata in a hash map's, which differs from process to process,
/// and equal runs are to give equal files.
fn sort_header(file: &mut [u8]) {
    const LENGTH: usize = 8;
    let Some((length, rest)) = file.split_first_chunk_mut::<LENGTH>() else { return };
    let Some(header) = rest.get_mut(..u64::from_le_bytes(*length) as usize) else { return };
    let sorted = serde_json::from_slice::<serde_json::Value>(header).map(|mut map| {
        map.sort_all_objects();
        map.to_string()
    });
    if let Ok(sorted) = sorted
        && sorted.len() <= header.len()
    {
        let (text, padding) = header.split_at_mut(sorted.len());
        text.copy_from_slice(sorted.as_bytes());
        padding.fill(b' ');
    }
}

/// Reads a weight file of `graph`. Tensors that the network does not have are refused, but for PyTorch's batch counters.
pub fn load(path: &Path, graph: &Graph) -> Result<Checkpoint, TrainError> {
    let bytes = read(path)?;
    let (metadata, tensors) = parse(path, &bytes)?;
    let mut weights = Weights::zeros(graph);
    let parameters = graph.parameters();
    let known = parameters.iter().chain(&graph.states()).map(|p| p.name.clone()).collect::<Vec<_>>();
    for name in tensors.names() {
        let counter = name.ends_with(".num_batches_tracked");
        let own = [FIRST_MOMENT, SECOND_MOMENT].iter().any(|prefix| name.starts_with(prefix));
        if !counter && !own && !known.iter().any(|k| k == name) {
            let reason = format!("it has a tensor `{name}`, the network has not; use the model that made it");
            return Err(TrainError::OtherNetwork { path: path.into(), reason });
        }
    }
    read_all(path, &tensors, "", &parameters, &mut weights.params)?;
    read_all(path, &tensors, "", &graph.states(), &mut weights.state)?;
    let text = |key: &str| metadata.get(key);
    let optimizer = match text(key::OPTIMIZER_STEP) {
        None => None,
        Some(step) => {
            let step = step.parse().map_err(|_| damaged(path, format!("the optimiser's step is `{step}`")))?;
            let (mut m, mut v) = (Aligned::zeros(graph.params_len()), Aligned::zeros(graph.params_len()));
            read_all(path, &tensors, FIRST_MOMENT, &parameters, &mut m)?;
            read_all(path, &tensors, SECOND_MOMENT, &parameters, &mut v)?;
            Some((m, v, step))
        }
    };
    let progress = text(key::PROGRESS).map(|toml| toml::from_str(toml));
    let reason = |e: toml::de::Error| damaged(path, format!("its progress record: {}", e.message()));
    let progress = progress.transpose().map_err(reason)?;
    Ok(Checkpoint { weights, optimizer, progress })
}

/// The metadata of a weight file.
pub fn metadata(path: &Path) -> Result<HashMap<String, String>, TrainError> {
    let bytes = read(path)?;
    Ok(parse(path, &bytes)?.0)
}

fn read(path: &Path) -> Result<Vec<u8>, TrainError> {
    std::fs::read(path).map_err(TrainError::io("read", path, "check the path"))
}

fn damaged(path: &Path, reason: impl ToString) -> TrainError {
    TrainError::Damaged { path: path.into(), reason: reason.to_string() }
}

fn parse<'b>(path: &Path, bytes: &'b [u8]) -> Result<(HashMap<String, String>, SafeTensors<'b>), TrainError> {
    let reason = |e| {
        use safetensors::SafeTensorError as E;
        let reason = match e {
            E::HeaderTooSmall | E::InvalidHeaderLength | E::MetadataIncompleteBuffer => "it is cut short".to_string(),
            E::HeaderTooLarge | E::InvalidHeader(_) => "it is no safetensors file".to_string(),
            E::InvalidHeaderDeserialization(e) => format!("its header is no JSON: {e}"),
            other => other.to_string(),
        };
        damaged(path, reason)
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(reason)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(reason)?;
    let metadata = header.metadata().iter().flatten().map(|(key, text)| (key.clone(), text.clone()));
    Ok((metadata.collect(), tensors))
}

fn read_all(
    path: &Path,
    tensors: &SafeTensors<'_>,
    prefix: &str,
    parameters: &[Parameter],
    arena: &mut [f32],
) -> Result<(), TrainError> {
    for p in parameters {
        let name = format!("{prefix}{}", p.name);
        let other = |reason: String| TrainError::OtherNetwork { path: path.into(), reason };
        let tensor = tensors
            .tensor(&name)
            .map_err(|_| other(format!("it has no tensor `{name}`; use the model that made it")))?;
        let shape = file_shape(p.layout);
        if tensor.shape() != shape {
            let found = tensor.shape();
            return Err(other(format!("`{name}` is {found:?} there and {shape:?} here; use the model that made it")));
        }
        if tensor.dtype() != Dtype::F32 {
            return Err(other(format!("`{name}` is stored as {:?}; convert it to F32", tensor.dtype())));
        }
        let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        from_file_order(p, values, arena);
    }
    Ok(())
}
