//! Errors in the description of a network, with the key that was probably meant.

use crate::base::nearest::nearest;
use crate::graph::GraphError;
use std::fmt;
use thiserror::Error;

/// Why a network cannot be built: one sentence that names the file and the line, or the network.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct SpecError {
    /// The file, or the network if there is no file; empty where there is neither.
    pub origin: Box<str>,
    /// Line of the file, counted from 1.
    pub line: Option<usize>,
    /// The key at fault: `blocks.kernel`, `block[2].pool` (counted from 0); empty if there is none.
    pub key: Box<str>,
    /// What is wrong.
    pub reason: Reason,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.origin.is_empty(), self.line) {
            (true, _) => write!(f, "{}", self.reason),
            (false, None) => write!(f, "{}: {}", self.origin, self.reason),
            (false, Some(line)) => write!(f, "{}, line {line}: {}", self.origin, self.reason),
        }
    }
}

/// What is wrong with a network or with the text that describes it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Reason {
    /// The file cannot be read.
    #[error("the file cannot be read ({0}); check the path")]
    Unreadable(String),
    /// The text is not TOML.
    #[error("this is not TOML: {0}")]
    Syntax(String),
    /// A key that does not exist.
    #[error("unknown key `{key}`; {}", meant(nearest, known))]
    UnknownKey {
        /// The key.
        key: String,
        /// The known key closest to it.
        nearest: Option<String>,
        /// All keys that are valid there.
        known: Box<[String]>,
    },
    /// A word that is not one of the words that are valid there.
    #[error("unknown value `{value}`; {}", meant(nearest, known))]
    UnknownValue {
        /// The word.
        value: String,
        /// The known word closest to it.
        nearest: Option<String>,
        /// All words that are valid there.
        known: Box<[String]>,
    },
    /// A required key is missing.
    #[error("the key `{0}` is missing; add it")]
    Missing(String),
    /// A value of the wrong kind.
    #[error("{0}")]
    WrongKind(String),
    /// A network that cannot be built.
    #[error("{0}")]
    Impossible(String),
    /// A layer that cannot be built.
    #[error(transparent)]
    Graph(GraphError),
    /// A name that is not a built-in network.
    #[error("there is no network `{name}`{}; `stapes models` lists them, and a network of your own is a .toml file",
        nearest.as_ref().map_or(String::new(), |n| format!(", did you mean `{n}`")))]
    UnknownNetwork {
        /// The name.
        name: String,
        /// The known name closest to it, or the network file of this name.
        nearest: Option<String>,
    },
}

impl Reason {
    /// An error about a network without a line.
    pub(super) fn at(self, origin: impl Into<Box<str>>, key: impl Into<Box<str>>) -> SpecError {
        SpecError { origin: origin.into(), line: None, key: key.into(), reason: self }
    }
}

fn meant(nearest: &Option<String>, known: &[String]) -> String {
    match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// The message about a word that is not one of those `known`; `what` says what it should be.
pub(super) fn unknown_word(what: &str, word: &str, known: &[&str]) -> String {
    let known_words: Vec<String> = known.iter().map(|&k| k.into()).collect();
    let nearest = nearest(word, known.iter().copied()).map(String::from);
    format!("`{word}` is not a known {what}; {}", meant(&nearest, &known_words))
}
