//! The ways a command can end other than with success, and their exit codes.

/// An ending that differs from an error with one sentence and exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum Ending {
    /// The command line is wrong: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// A signal interrupted the command: exit code 130.
    #[error("{0}")]
    Interrupted(String),
    /// The reader of standard output has closed it: exit code 0.
    #[error("standard output was closed")]
    ClosedPipe,
    /// The command failed and has printed every reason already: exit code 1.
    #[error("the command failed; the reasons are above")]
    Reported,
}

/// A usage error with this sentence.
pub fn usage<S: Into<String>>(sentence: S) -> anyhow::Error {
    Ending::Usage(sentence.into()).into()
}
