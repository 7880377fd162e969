//! Errors of explanations.

use crate::exec::DeviceError;
use crate::graph::GraphError;
use crate::train::TrainError;
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
