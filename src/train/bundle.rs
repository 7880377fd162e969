//! A trained network from its file: what `eval` and `predict` start from.

use super::agreement::Side;
#[cfg(feature = "audio")]
use super::agreement::file_name;
#[cfg(feature = "audio")]
use super::config::TrainConfig;
use super::error::TrainError;
use super::identity::{self, Identity, STANDARDISATION, identity, standardisation};
use super::run_folder::{RunFolder, run_named};
#[cfg(feature = "audio")]
use super::weight_file::damaged;
use super::weight_file::{WeightFile, save_weights};
use super::weights::Weights;
use crate::base::{Name, Standardisation};
use crate::nn::{Network, NetworkSpec};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which weights of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// Those with the best validation accuracy.
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
    /// How inputs have to be standardised ([`Standardisation::apply`]) before they are given to the network, if it was trained so.
    pub standardisation: Option<Standardisation>,
    /// The weight file.
    pub file: PathBuf,
    /// The run that it belongs to, if a run folder was opened.
    pub folder: Option<RunFolder>,
    /// The configuration of that run.
    #[cfg(feature = "audio")]
    pub config: Option<TrainConfig>,
}

impl Bundle {
    /// Loads a run folder, or a weight file that stores its network and its classes.
    ///
    /// # Errors
    /// The weight file cannot be read, is damaged, or does not agree with the network and classes in its metadata, or,
    /// in a run folder, with `config.toml`.
    pub fn open(path: &Path, which: Which) -> Result<Bundle, TrainError> {
        let is_folder = path.is_dir() || !path.exists() && run_named(path).is_some();
        let folder = if is_folder { Some(RunFolder::open(path)?) } else { None };
        let file = match (&folder, which) {
            (None, _) => path.to_path_buf(),
            (Some(folder), Which::Best) => folder.best(),
            (Some(folder), Which::Last) => folder.last(),
        };
        if folder.is_some() && !file.is_file() {
            let missing = if which == Which::Best { "best.safetensors yet" } else { "last.safetensors yet" };
            return Err(TrainError::NotARun { path: path.into(), missing, nearest: None });
        }
        let weights = WeightFile::read(&file)?;
        let Some(identity) = identity(&weights)? else {
            return Err(TrainError::NoIdentity(file));
        };
        #[cfg(feature = "audio")]
        let config = match &folder {
            None => None,
            Some(folder) => {
                let config = TrainConfig::load(&folder.config())?;
                let side = Side {
                    place: file_name(&folder.config()),
                    advice: "the configuration of a run must stay as it was; change it back",
                };
                side.config(&config, &file, &identity)?;
                if config.standardise != standardisation(&weights, &identity.spec)?.is_some() {
                    let reason = "its standardisation and the setting `standardise` of config.toml do not agree";
                    return Err(damaged(&file, reason));
                }
                Some(config)
            }
        };
        let bundle = Bundle::with(&weights, identity)?;
        Ok(Bundle {
            folder,
            #[cfg(feature = "audio")]
            config,
            ..bundle
        })
    }

    /// Loads a weight file as the weights of a network that is given, such as a state dict saved from PyTorch.
    ///
    /// # Errors
    /// The file cannot be read, is damaged, is of another network, or stores another network or other classes than those
    /// given; or a class is given twice.
    pub fn open_as(file: &Path, spec: &NetworkSpec, classes: Vec<Name>) -> Result<Bundle, TrainError> {
        let weights = WeightFile::read(file)?;
        let given = Identity { spec: spec.clone(), classes };
        if let Some(stored) = identity(&weights)? {
            let side =
                Side { place: "--model and --classes".into(), advice: "the file stores both; leave the options out" };
            side.given(&given, file, &stored)?;
        }
        Bundle::with(&weights, given)
    }

    /// What a weight file says about the network: its description, classes, sample rate, standardisation, and the version of this program.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let standardisation = self.standardisation.as_ref().map(|values| {
            (STANDARDISATION.into(), serde_json::to_string(values).expect("finite numbers are valid JSON"))
        });
        identity::metadata(&self.network.spec, &self.classes).into_iter().chain(standardisation).collect()
    }

    /// Writes the network with its weights, classes and standardisation as one weight file, which [`Bundle::open`] loads; `more` is stored
    /// beside them. `"format": "pt"` says to other programs that the tensors are those of PyTorch.
    ///
    /// # Errors
    /// A weight is not finite, or the file cannot be written.
    pub fn save(&self, path: &Path, more: impl IntoIterator<Item = (String, String)>) -> Result<(), TrainError> {
        let metadata = self.metadata().into_iter().chain([("format".into(), "pt".into())]).chain(more);
        save_weights(path, &self.network.graph, &self.weights, metadata.collect())
    }

    fn with(file: &WeightFile, identity: Identity) -> Result<Bundle, TrainError> {
        let Identity { spec, classes } = identity;
        if let Some((_, name)) = classes.iter().enumerate().find(|(i, name)| classes[..*i].contains(name)) {
            return Err(TrainError::RepeatedClass { path: file.path().into(), name: name.clone() });
        }
        let standardisation = standardisation(file, &spec)?;
        let network = Arc::new(Network::build(&spec, classes.len())?);
        let weights = file.weights(&network.graph)?;
        Ok(Bundle {
            network,
            weights,
            classes,
            standardisation,
            file: file.path().into(),
            folder: None,
            #[cfg(feature = "audio")]
            config: None,
        })
    }
}
