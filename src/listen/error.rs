//! Why a network cannot listen, each in one sentence with a way out.

use crate::base::Name;
use crate::base::name::display_path;
use crate::base::text_file::TextFileError;
use crate::exec::DeviceError;
use crate::graph::GraphError;
use crate::train::TrainError;
use std::path::PathBuf;
use thiserror::Error;

/// An error of this module, or of a lower one that passes through it.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Of the network's weights or files.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The network cannot be cut.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The memory does not suffice.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Windows do not overlap.
    #[error(
        "a window every {hop} samples does not suit a network whose input has {window} samples; take a hop between 1 sample and the whole input"
    )]
    Hop {
        /// Samples from window to window.
        hop: usize,
        /// Samples of a window.
        window: usize,
    },
    /// The network does not take sound.
    #[error(
        "the network takes {channels} channels, and sound that is listened to has one; train a network with one channel"
    )]
    Channels {
        /// Channels of the network's input.
        channels: usize,
    },
    /// The sound's rate cannot be converted.
    #[error(
        "sound of {from_hz} Hz cannot be converted to the network's {to_hz} Hz ({reason}); take a rate between 1,000 and 768,000 Hz"
    )]
    Rate {
        /// Rate of the sound.
        from_hz: u32,
        /// Rate of the network.
        to_hz: u32,
        /// The reason.
        reason: String,
    },
    /// A sample is not a number.
    #[error("sample {at} of the sound is not a finite number; check the program that produces it")]
    NonFinite {
        /// Its index in what was given.
        at: usize,
    },
    /// The manifest cannot be read.
    #[error("cannot read {}: {source}; write it again with `stapes listen --write-manifest`", display_path(.path))]
    Manifest {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: TextFileError,
    },
    /// The manifest has a wrong key or value.
    #[error("{}: {reason}", display_path(.path))]
    ManifestContent {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the way out.
        reason: String,
    },
    /// A setting is out of range.
    #[error("`{key}` is {value}; take {range}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: f64,
        /// What is accepted.
        range: &'static str,
    },
    /// A word that the network does not have.
    #[error("the network has no word `{word}`; it has {words}")]
    NoSuchWord {
        /// The word.
        word: Name,
        /// Those of the network.
        words: String,
    },
}
