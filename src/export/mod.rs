//! Trained networks as files for other programs.
//!
//! [`Layers`] is a network as plain data, from which every format is made. An [`Export`] has been compared with the library on clips, and can
//! be written as ONNX, safetensors or arrays of NumPy.

mod error;
mod execute;
mod exported;
mod fold;
mod layers;
pub mod onnx;
mod replay;

pub use error::ExportError;
pub use execute::Real;
pub use exported::Export;
pub use layers::{ConvolutionGeometry, Layer, Layers, Operation, Tensor};
pub use replay::{Replay, ReplayClips, replay};
