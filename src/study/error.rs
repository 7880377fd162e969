//! Errors of studies.

use crate::base::name::display_path;
use crate::base::text_file::TextFileError;
use crate::nn::SpecError;
use crate::train::TrainError;
use std::path::PathBuf;
use thiserror::Error;

/// An error of this module, or of a lower one that passes through it.
#[derive(Debug, Error)]
pub enum StudyError {
    /// Of a run.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Of a network.
    #[error(transparent)]
    Network(#[from] SpecError),
    /// The description cannot be read.
    #[error("cannot read {}: {source}; give a study file in TOML", display_path(.path))]
    Text {
        /// The file.
        path: PathBuf,
        /// Why.
        source: TextFileError,
    },
    /// The description is wrong.
    #[error("{place}: {message}")]
    Spec {
        /// The file, or the command line.
        place: String,
        /// What is wrong, and what to do.
        message: String,
    },
    /// A folder has a run with other settings under the name of a planned run.
    #[error(
        "the run {} has other settings than the study: `{key}` is {theirs} there and {ours} in the study; choose another folder with --runs, or remove the run",
        display_path(.run)
    )]
    OtherRun {
        /// The folder of the run.
        run: PathBuf,
        /// The setting.
        key: String,
        /// Its value in the run.
        theirs: String,
        /// Its value in the study.
        ours: String,
    },
}
