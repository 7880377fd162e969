//! The record of an epoch, a line of `metrics.jsonl`.

use super::error::TrainError;
use super::run_folder::write_atomically;
use crate::base::sha1::{Sha1, hex};
use serde::{Deserialize, Serialize};
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

/// Reads the records of the first `epochs` epochs.
pub fn read(path: &Path, epochs: u64) -> Result<Vec<EpochRecord>, TrainError> {
    let text = std::fs::read_to_string(path).map_err(TrainError::io("read", path, "check the run folder"))?;
    let mut records = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let record: EpochRecord = serde_json::from_str(line)
            .map_err(|e| TrainError::Damaged { path: path.into(), reason: format!("line {}: {e}", number + 1) })?;
        if record.epoch <= epochs {
            records.push(record);
        }
    }
    Ok(records)
}
