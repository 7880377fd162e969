//! The record of an epoch, a line of `metrics.jsonl`.

use super::error::TrainError;
use super::run_folder::write_atomically;
use crate::base::sha1::{Sha1, hex};
use crate::base::text_file;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// What an epoch did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// Number, from 1.
    pub epoch: u64,
    /// Mean loss of the training steps, dropout included.
    pub train_loss: f64,
    /// Share of the training clips recognised during the steps, dropout included.
    pub train_accuracy: f64,
    /// Mean loss on the validation clips; none if there are none.
    pub validation_loss: Option<f64>,
    /// Share of the validation clips recognised.
    pub validation_accuracy: Option<f64>,
    /// Learning rate.
    pub lr: f32,
    /// Seconds of training and validation.
    pub seconds: f64,
    /// Training clips a second.
    pub clips_per_second: f64,
    /// SHA-1 of the parameters after the epoch: equal runs have equal hashes.
    pub weights: String,
}

impl EpochRecord {
    /// The record without what differs between equal runs.
    pub fn without_times(&self) -> EpochRecord {
        EpochRecord { seconds: 0.0, clips_per_second: 0.0, ..self.clone() }
    }
}

/// Largest `metrics.jsonl` that is read.
const LARGEST_FILE: u64 = 256 << 20;

/// SHA-1 of numbers, as 40 hexadecimal digits.
pub fn hash(numbers: &[f32]) -> String {
    let mut sha = Sha1::new();
    for block in numbers.chunks(4096) {
        // Byte order is fixed, so that the hash is the same on every machine.
        let bytes: Vec<u8> = block.iter().flat_map(|v| v.to_le_bytes()).collect();
        sha.update(&bytes);
    }
    hex(&sha.finalize())
}

/// Writes the records, one a line.
pub fn write(path: &Path, records: &[EpochRecord]) -> Result<(), TrainError> {
    let mut text = String::new();
    for record in records {
        text += &serde_json::to_string(record).expect("a struct of numbers and text is valid JSON");
        text.push('\n');
    }
    write_atomically(path, text.as_bytes())
}

/// The records in a file; lines that are incomplete are left out, and a file that cannot be read has none.
pub fn read(path: &Path) -> Vec<EpochRecord> {
    let text = text_file::read(path, LARGEST_FILE).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Gives the records of a checkpoint the times that `metrics.jsonl` has for them, and says whether the file has all of
/// these records, as it should.
pub fn add_times(path: &Path, records: &mut [EpochRecord]) -> bool {
    let by_epoch: HashMap<u64, EpochRecord> = read(path).into_iter().map(|record| (record.epoch, record)).collect();
    let mut has_all = true;
    for record in records {
        match by_epoch.get(&record.epoch) {
            Some(line) if line.without_times() == *record => record.clone_from(line),
            _ => has_all = false,
        }
    }
    has_all
}
