//! Costs and results that a GPU reports.

use serde::Serialize;

/// The cost of a launch.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// The name of the layer; `step` for a launch of no single layer.
    pub layer: String,
    /// `input`, `forward`, `backward`, `finish`, `update` or `prepare`.
    pub pass: &'static str,
    /// The kernel.
    pub kernel: String,
    /// Bytes read and written in device memory, each once.
    pub bytes: u64,
    /// Multiply-accumulate operations (MACs); any other operation counts as half of one.
    pub macs: u64,
}

/// The result of a training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tally {
    /// The sum of the losses over the batch.
    pub loss: f64,
    /// Samples whose largest logit is their label's.
    pub correct: u64,
}
