//! What a GPU does at the end of each training step.

use crate::graph::NodeId;
use std::ops::Range;

/// The update at the end of each training step of [`Cuda::for_training`](super::cuda::Cuda::for_training), in addition to Adam.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// The logits, which are compared with the labels to count correct predictions.
    pub logits: NodeId,
    /// Which input of the graph the labels are: class numbers, or as many shares as there are logits.
    pub labels: usize,
    /// The ranges of parameters that weight decay applies to; none without weight decay.
    pub decayed: &'a [Range<usize>],
    /// Whether the gradient is clipped.
    pub clip: bool,
    /// Whether there is a moving average of the parameters and the state.
    pub average: bool,
}

/// The numbers of an update that change from step to step: those of [`Adam::rates`](crate::optim::Adam::rates), and the share of the new weights
/// in the moving average.
pub type Rates = [f32; 8];
