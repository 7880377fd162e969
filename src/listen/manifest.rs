//! How a network listens: the thresholds and times of the detection, in a small TOML file beside the weights that can be changed without training again.

use super::error::ListenError;
use crate::base::Name;
use crate::base::text_file;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Largest manifest that is read.
const LARGEST: u64 = 1 << 20;
/// The name of the manifest in a run folder.
const FILE: &str = "listen.toml";

/// The settings of the detection.
///
/// ```toml
/// words = ["yes", "no"]      # those of the network; a manifest of other words is refused
/// sample_rate = 16000        # of the network's input, in Hz
/// hop_ms = 20.0              # about the time from one window to the next
/// smoothing_ms = 160.0       # probabilities are averaged over this time
/// decision_ms = 500.0          # an event is decided this long after a probability passed its threshold
/// refractory_ms = 700.0      # after an event, no other for this time
/// threshold = 0.8            # of every word that is not named below
/// quiet_db = -60.0           # in windows without sound above this level nothing is recognised
///
/// [thresholds]
/// no = 0.9
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The words of the network, in the order of its outputs.
    pub words: Vec<Name>,
    /// The sample rate of its input, in hertz.
    pub sample_rate: u32,
    /// Milliseconds from one window to the next; the program takes a near multiple of the network's stride.
    #[serde(default = "hop_ms")]
    pub hop_ms: f64,
    /// Milliseconds over which the probabilities of successive windows are averaged.
    #[serde(default = "smoothing_ms")]
    pub smoothing_ms: f64,
    /// Milliseconds from the moment a probability passes its threshold to the decision which word it was.
    #[serde(default = "decision_ms")]
    pub decision_ms: f64,
    /// Milliseconds from the beginning of an event, when its probability reached the threshold, in which no other begins.
    #[serde(default = "refractory_ms")]
    pub refractory_ms: f64,
    /// The least averaged probability of a word.
    #[serde(default = "threshold")]
    pub threshold: f64,
    /// The level, in decibels relative to full scale, that the loudest 20 ms of a window must reach.
    #[serde(default = "quiet_db")]
    pub quiet_db: f64,
    /// The thresholds of single words.
    #[serde(default)]
    pub thresholds: BTreeMap<Name, f64>,
}

fn hop_ms() -> f64 {
    20.0
}
fn smoothing_ms() -> f64 {
    160.0
}
fn decision_ms() -> f64 {
    500.0
}
fn refractory_ms() -> f64 {
    900.0
}
fn threshold() -> f64 {
    0.8
}
fn quiet_db() -> f64 {
    -60.0
}

impl Manifest {
    /// The default settings for a network with these words.
    pub fn new(words: Vec<Name>, sample_rate: u32) -> Manifest {
        Manifest {
            words,
            sample_rate,
            hop_ms: hop_ms(),
            smoothing_ms: smoothing_ms(),
            decision_ms: decision_ms(),
            refractory_ms: refractory_ms(),
            threshold: threshold(),
            quiet_db: quiet_db(),
            thresholds: BTreeMap::new(),
        }
    }

    /// Where the manifest of a run folder or weight file is.
    pub fn path_for(run: &Path) -> PathBuf {
        if run.is_dir() { run.join(FILE) } else { run.with_extension(FILE) }
    }

    /// Reads a manifest and checks it.
    ///
    /// # Errors
    /// The file cannot be read, has an unknown key, or a value out of range.
    pub fn read(path: &Path) -> Result<Manifest, ListenError> {
        let text =
            text_file::read(path, LARGEST).map_err(|source| ListenError::Manifest { path: path.into(), source })?;
        let content = |reason: String| ListenError::ManifestContent { path: path.into(), reason };
        let manifest: Manifest = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            content(format!("line {line}: {}; correct the line", error.message().replace('\n', " ")))
        })?;
        manifest.check().map_err(|error| content(error.to_string()))?;
        Ok(manifest)
    }

    /// The manifest as TOML.
    pub fn to_toml(&self) -> String {
        let head = "# How this network listens; `stapes listen` reads it. Every value can be changed without training again.\n";
        // Only a map with other keys than text cannot be written.
        head.to_string() + &toml::to_string(self).unwrap_or_default()
    }

    /// Checks the ranges of all values, and that the thresholds are of words of the network.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn check(&self) -> Result<(), ListenError> {
        let times = [
            ("hop_ms", self.hop_ms, 0.1),
            ("smoothing_ms", self.smoothing_ms, 0.0),
            ("decision_ms", self.decision_ms, 0.0),
            ("refractory_ms", self.refractory_ms, 0.0),
        ];
        for (key, value, least) in times {
            if !(least..=60_000.0).contains(&value) {
                let range = if least > 0.0 { "0.1 to 60,000 milliseconds" } else { "0 to 60,000 milliseconds" };
                return Err(ListenError::Setting { key, value, range });
            }
        }
        if !(-200.0..=0.0).contains(&self.quiet_db) {
            let (key, value) = ("quiet_db", self.quiet_db);
            return Err(ListenError::Setting { key, value, range: "-200 to 0 decibels relative to full scale" });
        }
        for &value in self.thresholds.values().chain([&self.threshold]) {
            if !(value > 0.0 && value <= 1.0) {
                let range = "a probability above 0 and up to 1";
                return Err(ListenError::Setting { key: "threshold", value, range });
            }
        }
        match self.thresholds.keys().find(|word| !self.words.contains(word)) {
            Some(word) => Err(ListenError::NoSuchWord { word: word.clone(), words: list(&self.words) }),
            None => Ok(()),
        }
    }

    /// Checks that it is of a network with these words and this rate.
    ///
    /// # Errors
    /// It is of another.
    pub fn check_for(&self, path: &Path, words: &[Name], sample_rate: u32) -> Result<(), ListenError> {
        let reason = if self.words != words {
            format!("`words` are {}, and those of the network are {}", list(&self.words), list(words))
        } else if self.sample_rate != sample_rate {
            format!("`sample_rate` is {}, and that of the network is {sample_rate}", self.sample_rate)
        } else {
            return Ok(());
        };
        let reason = reason + "; delete the file, or give that of this network with --manifest";
        Err(ListenError::ManifestContent { path: path.into(), reason })
    }

    /// The threshold of a word.
    pub fn threshold_of(&self, word: &Name) -> f64 {
        self.thresholds.get(word).copied().unwrap_or(self.threshold)
    }
}

fn list(words: &[Name]) -> String {
    words.iter().map(Name::to_string).collect::<Vec<_>>().join(", ")
}
