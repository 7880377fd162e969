//! Trained networks as files for other programs.
//!
//! [`Layers`] is a network as plain data, from which every format is made. An [`Export`] has been compared with the library on clips, and can
//! be written as ONNX, safetensors or arrays of NumPy. [`Stages`] are the layers in the form that is computed row by row: [`CCode`] is made from
//! them, and [`IntegerNetwork`], which has 8-bit weights and activations.

mod c;
mod error;
mod execute;
mod exported;
mod fold;
mod int8;
mod layers;
pub mod onnx;
mod replay;
mod stages;
pub mod web;

pub use c::{CCode, CDescription, CNetwork, check_name, integer_remark, replay_remark};
pub use error::ExportError;
pub use execute::Real;
pub use exported::Export;
pub use int8::{
    Calibration, Calibrator, IntegerComparison, IntegerExecutor, IntegerNetwork, IntegerResidual, IntegerStage,
    IntegerTiming, Multiplier, Range, calibrate, compare_integer, integer_network, label_flips, time_integer,
};
pub use layers::{ConvolutionGeometry, Layer, Layers, Operation, Tensor};
pub use replay::{Replay, ReplayClips, replay};
pub use stages::{Form, Kernel, Pool, Stage, Stages};
