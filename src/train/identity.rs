//! What a weight file says about the network that it belongs to.

use super::error::TrainError;
use super::weight_file::{WeightFile, damaged, quoted};
use crate::base::Name;
use crate::base::name::display_path;
use crate::nn::NetworkSpec;

/// Metadata key of the network's specification in TOML.
pub const NETWORK: &str = "stapes.network";

/// Metadata key of the class names, a JSON array.
pub const CLASSES: &str = "stapes.classes";

/// A network and its classes.
pub struct Identity {
    /// The network.
    pub spec: NetworkSpec,
    /// Names of the outputs.
    pub classes: Vec<Name>,
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
