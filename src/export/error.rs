//! Errors of export and import.

use crate::train::TrainError;
use thiserror::Error;

/// An error of this module, or of a lower one that passes through it.
#[derive(Debug, Error)]
pub enum ExportError {
    /// Of the network or of a weight file.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A layer cannot be part of a file.
    #[error("the layer `{layer}` is {operation}, which {format} cannot hold; {advice}")]
    NoForm {
        /// The layer.
        layer: String,
        /// Its operation.
        operation: String,
        /// The format.
        format: &'static str,
        /// The way out.
        advice: &'static str,
    },
    /// The standardisation has another number of channels than the input.
    #[error(
        "the standardisation has {channels} channels and the network's input {expected}; give the one it was trained with"
    )]
    Standardisation {
        /// Channels of the standardisation.
        channels: usize,
        /// Channels of the input.
        expected: usize,
    },
    /// The fold of a batch norm gives no finite number.
    #[error(
        "folding the batch norm `{norm}` into `{layer}` gives {value}; export with --keep-norm, or train again with a lower learning rate"
    )]
    FoldNotFinite {
        /// The batch norm.
        norm: String,
        /// The layer whose weights it would change.
        layer: String,
        /// The first number that is not finite.
        value: f64,
    },
    /// The ranges of activations are those of another network.
    #[error("the calibration is of another network; calibrate this one")]
    Calibration,
    /// A name that cannot be used in C.
    #[error(
        "`{name}` cannot name functions in C; give --name a name of at most 48 letters, digits and underscores that begins with a letter and is no word of C or C++"
    )]
    CName {
        /// The name.
        name: String,
    },
    /// Another number of class names than of classes.
    #[error("{got} class names are given, and the network has {expected} classes; give a name for each class")]
    Classes {
        /// Names.
        got: usize,
        /// Classes.
        expected: usize,
    },
    /// A network in integers needs clips.
    #[error("{data} has no {split} clips, {purpose}; give recordings that have some with --data")]
    NoClips {
        /// The data set.
        data: String,
        /// `training`, `test`.
        split: &'static str,
        /// What they are for.
        purpose: &'static str,
    },
    /// A thread for a measurement cannot be started.
    #[error("a thread for the measurement cannot be started; end other programs, or measure later")]
    NoThread,
    /// The replay differs by more than rounding explains.
    #[error(
        "the exported network differs from the trained one: the largest difference of a logit over {clips} clips is {difference:.1e}, \
         and rounding explains {allowed:.1e}; nothing was written: try --keep-norm, and report this as an error of the program"
    )]
    Differs {
        /// The largest difference of a logit.
        difference: f64,
        /// Clips that were replayed.
        clips: usize,
        /// The largest difference that is allowed.
        allowed: f64,
    },
    /// A file would be too large for its format.
    #[error(
        "the file would have {bytes} bytes, and a file of the format {format} has at most {most}; take the format safetensors"
    )]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// The format.
        format: &'static str,
        /// The most bytes.
        most: usize,
    },
    /// Bytes that are no ONNX model.
    #[error("the content is not an ONNX model: {reason}; give a file that `stapes export` wrote")]
    NotOnnx {
        /// Why.
        reason: String,
    },
    /// A clip does not have the length of the input.
    #[error("the clip has {got} numbers and the network's input {expected}; give samples of one clip, channels last")]
    ClipLength {
        /// Numbers of the clip.
        got: usize,
        /// Numbers of the input.
        expected: usize,
    },
}

impl ExportError {
    /// The operation of a layer has no form as plain data.
    pub(super) fn without_form(layer: &str, operation: &str) -> ExportError {
        ExportError::NoForm {
            layer: layer.into(),
            operation: format!("of the operation `{operation}`"),
            format: "an export",
            advice: "only the operations of networks in TOML can be exported",
        }
    }
}
