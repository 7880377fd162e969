//! What a GPU tells of its work.

use serde::Serialize;

/// Whose launch it is, and what it costs.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// The layer's name; `step` for what belongs to none.
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

/// What a step of training did: the sum over the batch of the target, and how many samples were recognised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tally {
    /// Sum of the losses.
    pub loss: f64,
    /// Samples whose largest logit is their label's.
    pub correct: u64,
}
