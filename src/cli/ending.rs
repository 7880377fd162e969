//! Floor 7. How a command can end other than well, and the exit code of each way.

use crate::data::DataError;
use crate::train::TrainError;
use std::process::ExitCode;

/// An ending that is not simply an error with a sentence.
#[derive(Debug, thiserror::Error)]
pub enum Ending {
    /// The command line is wrong: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Interrupted by a signal: exit code 130.
    #[error("{0}")]
    Interrupted(String),
    /// Whoever reads our output has heard enough: exit code 0.
    #[error("standard output was closed")]
    ClosedPipe,
    /// Failed, and everything is said: exit code 1.
    #[error("some of it failed")]
    Told,
}

/// A usage error with this sentence.
pub fn usage<S: Into<String>>(sentence: S) -> anyhow::Error {
    Ending::Usage(sentence.into()).into()
}

/// Says what is to be said of an error on standard error, and gives the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let tell = |code: u8| {
        super::output::note(&format!("stapes: error: {error}"));
        ExitCode::from(code)
    };
    match error.downcast_ref::<Ending>() {
        Some(Ending::ClosedPipe) => return ExitCode::SUCCESS,
        Some(Ending::Told) => return ExitCode::from(1),
        Some(Ending::Usage(_)) => {
            let code = tell(2);
            super::output::note("For the options, type the command with --help.");
            return code;
        }
        Some(Ending::Interrupted(sentence)) => {
            super::output::note(&format!("stapes: {sentence}"));
            return ExitCode::from(130);
        }
        None => {}
    }
    let data = error.downcast_ref::<DataError>();
    let data = data.or(match error.downcast_ref::<TrainError>() {
        Some(TrainError::Data(data)) => Some(data),
        _ => None,
    });
    match data {
        Some(DataError::Interrupted) => {
            super::output::note(&format!("stapes: {error}"));
            ExitCode::from(130)
        }
        _ => tell(1),
    }
}
