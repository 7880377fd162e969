//! What is known about the runs below a folder, from their files, without their recordings.

use super::config::{Kept, TrainConfig};
use super::error::TrainError;
use super::metrics::{self, EpochRecord};
use super::run_folder::RunFolder;
use crate::nn::{Network, NetworkSpec};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How deep below a folder runs are looked for: a folder of studies, a study, its runs.
const DEPTH: usize = 4;

/// The result of a run's test, as `eval-test.json` has it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestResult {
    /// Clips.
    pub clips: u64,
    /// Clips that were recognised.
    pub correct: u64,
    /// The share of them.
    pub accuracy: f64,
    /// Its 95 % interval over clips.
    pub interval: [f64; 2],
}

/// A run as its files describe it.
#[derive(Clone, Debug)]
pub struct RunSummary {
    /// Its folder.
    pub path: PathBuf,
    /// Its network.
    pub network: NetworkSpec,
    /// The recipe of its settings, if it had one.
    pub recipe: Option<String>,
    /// The seed.
    pub seed: u64,
    /// Classes.
    pub classes: usize,
    /// Parameters of the network.
    pub params: u64,
    /// MACs of one clip.
    pub macs: u64,
    /// Complete epochs.
    pub epochs_done: u64,
    /// Epochs that the settings ask for.
    pub epochs: u64,
    /// Epochs without a better validation accuracy after which the settings end it; 0: none do.
    pub patience: u64,
    /// Epochs since the best one.
    pub epochs_since_best: u64,
    /// Seconds of the epochs.
    pub seconds: f64,
    /// Validation accuracy of the epoch whose weights are kept.
    pub validation: Option<f64>,
    /// The result on the test clips.
    pub test: Option<TestResult>,
    /// Bytes of its files.
    pub bytes: u64,
    /// When its newest file was written.
    pub modified: Option<SystemTime>,
}

impl RunSummary {
    /// Reads the files of a run.
    ///
    /// # Errors
    /// There is no `config.toml`, or it cannot be read. Files that a run gets later may be missing or incomplete.
    pub fn read(path: &Path) -> Result<RunSummary, TrainError> {
        let folder = RunFolder::open(path)?;
        let config = TrainConfig::load(&folder.config())?;
        let records = metrics::read(&folder.metrics());
        let (params, macs) = match Network::build(&config.network, config.classes.len().max(1)) {
            Ok(network) => (network.params(), network.macs()),
            Err(_) => (0, 0),
        };
        let test = fs::read(folder.evaluation("test")).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let files: Vec<fs::Metadata> = entries.filter_map(|entry| entry.metadata().ok()).collect();
        Ok(RunSummary {
            path: path.into(),
            recipe: config.recipe.clone(),
            seed: config.seed,
            classes: config.classes.len(),
            params,
            macs,
            epochs_done: records.len() as u64,
            epochs: config.epochs,
            patience: config.patience,
            epochs_since_best: kept(&records, Kept::Best)
                .map_or(0, |best| records.last().map_or(0, |last| last.epoch - best.epoch)),
            seconds: records.iter().map(|record| record.seconds).sum(),
            validation: kept(&records, config.keep).and_then(|record| record.validation_accuracy),
            test,
            bytes: files.iter().filter(|file| file.is_file()).map(fs::Metadata::len).sum(),
            modified: files.iter().filter_map(|file| file.modified().ok()).max(),
            network: config.network,
        })
    }

    /// Whether its patience has ended it before its last epoch.
    pub fn ended_early(&self) -> bool {
        self.patience > 0 && self.epochs_done < self.epochs && self.epochs_since_best >= self.patience
    }

    /// Whether no epoch is left, and it is tested.
    pub fn is_finished(&self) -> bool {
        (self.epochs_done >= self.epochs || self.ended_early()) && self.test.is_some()
    }
}

/// The record of the epoch whose weights a run keeps.
fn kept(records: &[EpochRecord], keep: Kept) -> Option<&EpochRecord> {
    let loss = |record: &EpochRecord| record.validation_loss.unwrap_or(f64::INFINITY);
    let better = |a: &EpochRecord, b: &EpochRecord| {
        b.validation_accuracy > a.validation_accuracy
            || b.validation_accuracy == a.validation_accuracy && loss(b) < loss(a)
    };
    match keep {
        Kept::Last => records.last(),
        Kept::Best => records.iter().reduce(|best, record| if better(best, record) { record } else { best }),
    }
}

/// The folders of runs in `folder` and at most four levels below it, in the order of their paths; `folder` itself if it is one. Hidden folders and folders
/// within a run are left out.
pub fn find_runs(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(folder, DEPTH, &mut found);
    found.sort();
    found
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    if RunFolder::open(folder).is_ok() {
        return found.push(folder.into());
    }
    if depth == 0 {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && entry.path().is_dir() {
            walk(&entry.path(), depth - 1, found);
        }
    }
}
