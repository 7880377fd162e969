//! What a weight file says about the network that it belongs to.

use super::error::TrainError;
use super::weight_file::{WeightFile, damaged, quoted};
use crate::base::name::display_path;
use crate::base::{Name, Standardisation};
use crate::nn::NetworkSpec;

/// Metadata key of the network's specification in TOML.
pub const NETWORK: &str = "stapes.network";

/// Metadata key of the class names, a JSON array.
pub const CLASSES: &str = "stapes.classes";

/// Metadata key of the standardisation of the inputs, JSON.
pub const STANDARDISATION: &str = "stapes.standardisation";

/// Metadata key of the sample rate in Hz.
const SAMPLE_RATE: &str = "stapes.sample_rate";

/// Metadata key of the version that wrote the file.
const VERSION: &str = "stapes.version";

/// The metadata of every weight file of a network.
pub fn metadata(network: &NetworkSpec, classes: &[Name]) -> Vec<(String, String)> {
    vec![
        (NETWORK.into(), network.to_toml()),
        (CLASSES.into(), serde_json::to_string(classes).expect("names are valid JSON")),
        (SAMPLE_RATE.into(), network.input.sample_rate.to_string()),
        (VERSION.into(), env!("CARGO_PKG_VERSION").into()),
    ]
}

/// A network and its classes.
pub struct Identity {
    /// The network.
    pub spec: NetworkSpec,
    /// Names of the outputs.
    pub classes: Vec<Name>,
}

/// How the inputs of the network of a weight file are standardised, if they are.
pub fn standardisation(file: &WeightFile, spec: &NetworkSpec) -> Result<Option<Standardisation>, TrainError> {
    let wrong = |why: &str| damaged(file.path(), format!("its standardisation: {}", quoted(why)));
    let Some(text) = file.text(STANDARDISATION) else { return Ok(None) };
    let values: Standardisation = serde_json::from_str(text).map_err(|e| wrong(&e.to_string()))?;
    match values.channels() == spec.input.channels {
        true => Ok(Some(values)),
        false => Err(wrong("it has another number of channels than the network")),
    }
}

/// The network and the classes of a weight file, if it stores both.
pub fn identity(file: &WeightFile) -> Result<Option<Identity>, TrainError> {
    let (Some(network), Some(classes)) = (file.text(NETWORK), file.text(CLASSES)) else {
        return Ok(None);
    };
    let spec = NetworkSpec::parse(network, &format!("{}, `{NETWORK}`", display_path(file.path())))?;
    let classes: Vec<Name> = serde_json::from_str(classes)
        .map_err(|e| damaged(file.path(), format!("its class names: {}", quoted(&e.to_string()))))?;
    Ok(Some(Identity { spec, classes }))
}
