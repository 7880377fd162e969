//! How convolutions are computed, and what the planner chose.

use serde::Serialize;
use std::fmt::{self, Display};
use std::str::FromStr;

/// How convolutions are computed on the CPU: the setting `conv`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConvChoice {
    /// Every operation by itself; nothing is fused.
    Direct,
    /// Fused with batch norm, ReLU and pooling, and with a Toom-Cook (Winograd) algorithm wherever one exists.
    Fast,
    /// Fused, with the algorithm that is fastest for the layer's shape.
    #[default]
    Auto,
}

impl ConvChoice {
    /// The names of all, in the order of the variants.
    pub const NAMES: [&'static str; 3] = ["direct", "fast", "auto"];
}

impl Display for ConvChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ConvChoice::NAMES[*self as usize])
    }
}

impl FromStr for ConvChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<ConvChoice, String> {
        match name {
            "direct" => Ok(ConvChoice::Direct),
            "fast" => Ok(ConvChoice::Fast),
            "auto" => Ok(ConvChoice::Auto),
            _ => Err(format!("`{name}` is not a way to compute convolutions; use direct, fast or auto")),
        }
    }
}

/// The algorithm of each pass: `direct`, `F(8,5)`, `sparse`, ..; empty where an operation has only one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Algorithms {
    /// Of the output.
    pub forward: &'static str,
    /// Of the gradients of the inputs.
    pub backward_data: &'static str,
    /// Of the gradients of the parameters.
    pub backward_weight: &'static str,
}
