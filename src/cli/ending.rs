//! How a command can end other than well, and the exit code of each way.

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
