//! A trained network from its file: what `eval` and `predict` start from.

use super::checkpoint::{self, key};
use super::error::TrainError;
use super::run_folder::RunFolder;
use super::weights::Weights;
use crate::base::Name;
use crate::nn::{Network, NetworkSpec};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which weights of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// Those best on the validation clips.
    #[default]
    Best,
    /// Those of the last step.
    Last,
}

/// A network with its weights and the names of its classes.
pub struct Bundle {
    /// The network.
    pub network: Arc<Network>,
    /// Its weights.
    pub weights: Weights,
    /// Names of the outputs.
    pub classes: Vec<Name>,
    /// The weight file.
    pub file: PathBuf,
    /// The run it belongs to, if it was given as a folder.
    pub folder: Option<RunFolder>,
}

impl Bundle {
    /// Loads a run folder, or a weight file that says which network it is of.
    pub fn open(path: &Path, which: Which) -> Result<Bundle, TrainError> {
        let folder = if path.is_dir() { Some(RunFolder::open(path)?) } else { None };
        let file = match (&folder, which) {
            (None, _) => path.to_path_buf(),
            (Some(folder), Which::Best) => folder.best(),
            (Some(folder), Which::Last) => folder.last(),
        };
        if folder.is_some() && !file.is_file() {
            let missing = if which == Which::Best { "best.safetensors yet" } else { "last.safetensors yet" };
            return Err(TrainError::NotARun { path: path.into(), missing });
        }
        let metadata = checkpoint::metadata(&file)?;
        let other = |reason: String| TrainError::OtherNetwork { path: file.clone(), reason };
        let text = |key: &str| {
            let found = metadata.get(key).cloned();
            found.ok_or_else(|| other(format!("it does not say which (no `{key}`); give --model and --classes")))
        };
        let spec = NetworkSpec::parse(&text(key::NETWORK)?, &file.display().to_string())?;
        let classes: Vec<Name> = serde_json::from_str(&text(key::CLASSES)?)
            .map_err(|e| TrainError::Damaged { path: file.clone(), reason: format!("its class names: {e}") })?;
        Bundle::with(file, folder, &spec, classes)
    }

    /// Loads a weight file of a network that is known otherwise: a state dict saved from PyTorch, say.
    pub fn open_as(file: &Path, spec: &NetworkSpec, classes: Vec<Name>) -> Result<Bundle, TrainError> {
        Bundle::with(file.into(), None, spec, classes)
    }

    fn with(
        file: PathBuf,
        folder: Option<RunFolder>,
        spec: &NetworkSpec,
        classes: Vec<Name>,
    ) -> Result<Bundle, TrainError> {
        let network = Arc::new(Network::build(spec, classes.len())?);
        let weights = checkpoint::load(&file, &network.graph)?.weights;
        Ok(Bundle { network, weights, classes, file, folder })
    }
}
