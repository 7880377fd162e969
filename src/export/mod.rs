//! Trained networks as files for other programs, and weights of other programs.
//!
//! [`Layers`] is a network as plain data; the formats are made from it.

mod error;
mod execute;
mod fold;
mod layers;

pub use error::ExportError;
pub use execute::Real;
pub use layers::{ConvolutionGeometry, Layer, Layers, Operation, Tensor};
