//! Errors of explanations.

use crate::exec::DeviceError;
use crate::graph::GraphError;
use crate::train::TrainError;
use std::path::PathBuf;
use thiserror::Error;

/// An error of this module, or of a lower one that passes through it.
#[derive(Debug, Error)]
pub enum ExplainError {
    /// Of the training or evaluation of a network.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The network cannot be differentiated.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The memory does not suffice.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The layer has no channel with this number.
    #[error("there is no channel {channel}; the layer has the channels 0 to {}", .channels - 1)]
    NoSuchChannel {
        /// The number that was asked for.
        channel: usize,
        /// How many channels there are.
        channels: usize,
    },
    /// The network has no class activation maps.
    #[error(
        "{network} has no class activation maps: they need a head that averages over time and has one dense layer; \
         take Grad-CAM, which every network has"
    )]
    NoCam {
        /// The network.
        network: String,
    },
    /// The network has no filters.
    #[error("the network has no convolution, and therefore no filters to show; choose a network with at least one")]
    NoConvolution,
    /// The second layer cannot be composed with the first one.
    #[error("the filters of the second layer are not shown, because {reason}")]
    NoSecondLayer {
        /// Why, without a full stop.
        reason: &'static str,
    },
    /// The responses of a layer would take too much memory.
    #[error(
        "the layer `{layer}` has {filters} filters of {span} samples, which are too many for their frequency responses"
    )]
    TooManyFilters {
        /// The name of the layer.
        layer: String,
        /// How many filters it has.
        filters: usize,
        /// Samples from the first tap of a filter to the last.
        span: usize,
    },
    /// The initial weights of the run do not follow from its seed.
    #[error(
        "the filters before training are not shown, because the run began with the weights of {}, and not with weights that follow from its seed",
        .path.display()
    )]
    NoInitialWeights {
        /// The run or weight file whose weights it began with.
        path: PathBuf,
    },
    /// There are no clips to explain.
    #[error("there are no clips to explain; choose a split that has some")]
    NoClips,
    /// A layer has numbers that are not finite.
    #[error(
        "the features of clip {clip} hold a number that is not finite; the weights or the clip are damaged, so try \
         another checkpoint"
    )]
    NotFinite {
        /// The number of the clip among those explained, from 0.
        clip: usize,
    },
    /// The system starts no thread.
    #[error("t-SNE needs a thread, and the system starts none; end other programs, or raise the limit of threads")]
    NoThread,
}
