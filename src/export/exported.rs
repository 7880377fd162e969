//! A trained network that was compared with the library and can be written.

use super::error::ExportError;
use super::layers::{Layers, Operation};
use super::onnx;
use super::replay::{Replay, ReplayClips, replay};
use crate::base::{Name, Standardisation};
use crate::data::NpzWriter;
use crate::exec::Device;
use crate::nn::{Network, NetworkSpec};
use crate::train::{Bundle, TrainError, Weights, write_atomically};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Metadata key of the replay, JSON.
const REPLAY: &str = "stapes.replay";

/// A trained network as layers, with what a file says about it.
///
/// ```no_run
/// use stapes::exec::Device;
/// use stapes::export::{Export, Layers, ReplayClips};
/// use stapes::train::{Bundle, Which};
/// use std::path::Path;
///
/// let bundle = Bundle::open(Path::new("runs/custom32-8"), Which::Best)?;
/// let clips = ReplayClips::noise(Layers::of(&bundle)?.input_shape(), 20, 1);
/// let export = Export::new(&bundle, true, &clips, &Device::default())?;
/// println!("largest logit difference {:.1e}", export.replay.largest_logit_difference);
/// export.save_onnx(Path::new("words.onnx"), false)?;
/// # Ok::<(), stapes::export::ExportError>(())
/// ```
#[derive(Clone)]
pub struct Export {
    /// The layers.
    pub layers: Layers,
    /// Whether batch norm is folded into other layers.
    pub folded: bool,
    /// The network that the layers compute: without batch norm if it is folded.
    pub network: NetworkSpec,
    /// Names of the outputs.
    pub classes: Vec<Name>,
    /// How the layers standardise the input, if they do.
    pub standardisation: Option<Standardisation>,
    /// The comparison with the library.
    pub replay: Replay,
    /// What every file says about the network.
    metadata: BTreeMap<String, String>,
    /// The weights of the network as it was trained.
    trained: (Arc<Network>, Weights),
}

impl Export {
    /// The layers of a network, after a replay of `clips` on `device`; with `fold`, batch norm is folded into the layers beside it.
    ///
    /// # Errors
    /// A layer has no form as plain data, a folded weight is not finite, or the replay fails.
    pub fn new(bundle: &Bundle, fold: bool, clips: &ReplayClips, device: &Device) -> Result<Export, ExportError> {
        let plain = Layers::of(bundle)?;
        let layers = if fold { plain.fold_norms()? } else { plain };
        let replay = replay(bundle, &layers, clips, device)?;
        let trained = &bundle.network.spec;
        let network = if fold { without_norms(trained) } else { trained.clone() };
        let mut metadata = bundle.metadata();
        metadata.insert(REPLAY.into(), serde_json::to_string(&replay).expect("numbers and text are valid JSON"));
        Ok(Export {
            layers,
            folded: fold,
            network,
            classes: bundle.classes.clone(),
            standardisation: bundle.standardisation.clone(),
            replay,
            metadata,
            trained: (bundle.network.clone(), bundle.weights.clone()),
        })
    }

    /// How many numbers the layers have.
    pub fn numbers(&self) -> usize {
        let tensors = self.layers.layers.iter().flat_map(|layer| layer.operation.tensors());
        tensors.map(|(_, tensor)| tensor.values.len()).sum()
    }

    /// What a file says about the network: its description, classes, sample rate and standardisation, the version of this program, and the
    /// replay.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        self.metadata.clone()
    }

    /// Writes an ONNX model; with `softmax` its output is `probabilities` instead of `logits`. The input is `[n, channels, length]`.
    ///
    /// # Errors
    /// The file would be larger than 2 GiB, or cannot be written.
    pub fn save_onnx(&self, path: &Path, softmax: bool) -> Result<(), ExportError> {
        Ok(write_atomically(path, &onnx::Model::new(self, softmax)?.to_bytes())?)
    }

    /// Writes a weight file of this library, whose tensors have PyTorch's names, shapes and order. If batch norm is folded, it is the weight
    /// file of a network without batch norm, whose convolutions and dense layers all have a bias.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_safetensors(&self, path: &Path) -> Result<(), ExportError> {
        let (network, weights) = if self.folded { self.folded_weights()? } else { self.trained.clone() };
        let replay = self.metadata.get(REPLAY).cloned().unwrap_or_default();
        let bundle = Bundle {
            network,
            weights,
            classes: self.classes.clone(),
            standardisation: self.standardisation.clone(),
            file: path.into(),
            folder: None,
            config: None,
        };
        Ok(bundle.save(path, [(REPLAY.into(), replay)])?)
    }

    /// The weights in the order of a network without batch norm.
    fn folded_weights(&self) -> Result<(Arc<Network>, Weights), ExportError> {
        let network = Network::build(&self.network, self.classes.len()).map_err(TrainError::from)?;
        let mut weights = Weights::zeros(&network.graph);
        for parameter in network.graph.parameters() {
            let Some((layer, suffix)) = parameter.name.rsplit_once('.') else { continue };
            let layers = self.layers.layers.iter().filter(|own| own.name == layer);
            let tensors = layers.flat_map(|own| own.operation.tensors());
            // A layer that has no bias gets one of zeros.
            if let Some((_, tensor)) = tensors.into_iter().find(|(name, _)| *name == suffix) {
                weights.params[parameter.offset..][..parameter.len].copy_from_slice(&tensor.values);
            }
        }
        let kept = self.layers.layers.iter().find(|layer| matches!(layer.operation, Operation::BatchNorm { .. }));
        match kept {
            None => Ok((Arc::new(network), weights)),
            Some(layer) => Err(ExportError::NoForm {
                layer: layer.name.clone(),
                operation: "a batch norm that stands beside no layer into which it can be folded".into(),
                format: "a weight file without batch norm",
                advice: "export with --keep-norm",
            }),
        }
    }

    /// Writes the arrays of the network as an `.npz` file, which `numpy.load` reads: each tensor under PyTorch's name, in PyTorch's shape
    /// and order; `classes`, `sample_rate` in Hz, `input_shape` (channels, length) and the replay; with standardisation `input.mean` and
    /// `input.deviation`.
    ///
    /// # Errors
    /// The file would be larger than 4 GiB, or cannot be written.
    pub fn save_npz(&self, path: &Path) -> Result<(), ExportError> {
        Ok(self.write_npz(path).map_err(TrainError::io("write", path, "check the folder and the free space"))?)
    }

    fn write_npz(&self, path: &Path) -> io::Result<()> {
        let mut file = NpzWriter::create(path)?;
        for layer in &self.layers.layers {
            for (suffix, tensor) in layer.operation.tensors() {
                file.begin_f32(&format!("{}.{suffix}", layer.name), &tensor.torch_shape())?;
                file.f32s(&tensor.torch_values())?;
            }
        }
        if let Some(values) = &self.standardisation {
            for (name, values) in [("input.mean", values.mean()), ("input.deviation", values.deviation())] {
                file.begin_f32(name, &[values.len()])?;
                file.f32s(values)?;
            }
        }
        let input = self.layers.input_shape();
        file.names("classes", self.classes.iter())?;
        file.i64s("sample_rate", &[i64::from(self.network.input.sample_rate)])?;
        file.i64s("input_shape", &[input.c as i64, input.l as i64])?;
        let replay: Name = self.metadata.get(REPLAY).map(String::as_str).unwrap_or_default().into();
        file.names("stapes.replay", [replay].iter())?;
        file.finish(path)
    }
}

/// The network whose layers have the weights of folded batch norm.
fn without_norms(spec: &NetworkSpec) -> NetworkSpec {
    let has_norm = spec.batch_norm || spec.head.batch_norm || spec.block.iter().any(|block| block.norm.is_some());
    let mut spec = spec.clone();
    if has_norm {
        spec.batch_norm = false;
        spec.block.iter_mut().for_each(|block| block.norm = None);
        spec.head.batch_norm = false;
        (spec.bias, spec.head.bias) = (true, true);
    }
    spec
}
