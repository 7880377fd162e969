//! Trained networks as files for other programs, and weights of other programs.
//!
//! [`Layers`] is a network as plain data; the formats are made from it.

mod c;
mod error;
mod execute;
mod fold;
mod int8;
mod layers;
mod stages;

pub use c::{CCode, CDescription, CNetwork, check_name};
pub use error::ExportError;
pub use execute::Real;
pub use int8::{Calibration, Calibrator, IntegerNetwork, IntegerResidual, IntegerStage, Multiplier, Range};
pub use layers::{ConvolutionGeometry, Layer, Layers, Operation, Tensor};
pub use stages::{Form, Kernel, Pool, Stage, Stages};
