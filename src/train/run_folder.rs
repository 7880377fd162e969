//! The folder of a run: what is in it, and how files get there whole or not at all.

use super::error::TrainError;
use crate::base::Temporary;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

pub(super) const SPACE: &str = "free some space or choose a folder that can be written (--runs chooses that of a run)";

/// How the names of temporary files begin.
pub(super) const TEMPORARY: &str = ".stapes-";

/// A run's folder and the names of its files.
///
/// It gives no right to write there: that is a [`RunClaim`](super::RunClaim).
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// The folder at `path`, whatever is in it.
    #[cfg(feature = "audio")]
    pub(super) fn at(path: &Path) -> RunFolder {
        RunFolder { path: path.into() }
    }

    /// The folder of a run that exists.
    pub fn open(path: &Path) -> Result<RunFolder, TrainError> {
        let folder = RunFolder { path: path.into() };
        if !folder.config().is_file() {
            return Err(TrainError::NotARun { path: path.into(), missing: "config.toml", nearest: run_named(path) });
        }
        Ok(folder)
    }

    /// The innermost of `path` and the folders around it that holds a run.
    #[cfg(feature = "audio")]
    pub(super) fn around(path: &Path) -> Option<RunFolder> {
        let absolute = std::path::absolute(path).ok()?;
        // `path` need not exist yet, and may contain `..`.
        let existing = absolute.ancestors().find(|folder| folder.exists())?.canonicalize().ok()?;
        let folders = existing.ancestors().map(RunFolder::at);
        let mut runs = folders.filter(|folder| folder.config().is_file() && folder.split().is_file());
        runs.next()
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything resolved; `train --config` repeats the run.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// A line an epoch.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The figures of `metrics.jsonl` for TensorBoard, which takes every file whose name contains `tfevents`.
    pub fn events(&self) -> PathBuf {
        self.path.join("events.out.tfevents.0.stapes")
    }

    /// The weights that were best on the validation clips.
    pub fn best(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// The weights of the last step, with optimiser and progress.
    pub fn last(&self) -> PathBuf {
        self.path.join("last.safetensors")
    }

    /// The class names in the order of the outputs.
    pub fn classes(&self) -> PathBuf {
        self.path.join("classes.txt")
    }

    /// Clip, class and split of every clip.
    pub fn split(&self) -> PathBuf {
        self.path.join("split.tsv")
    }

    /// The evaluation on a split, in JSON.
    pub fn evaluation(&self, split: &str) -> PathBuf {
        self.path.join(format!("eval-{split}.json"))
    }

    /// The confusion matrix on a split.
    pub fn confusion(&self, split: &str) -> PathBuf {
        self.path.join(format!("confusion-{split}.csv"))
    }

    /// The label, the predicted class and the probability of each class for every clip of a split.
    pub fn predictions(&self, split: &str) -> PathBuf {
        self.path.join(format!("predictions-{split}.csv"))
    }

    /// The bins of a reliability diagram on a split.
    pub fn reliability(&self, split: &str) -> PathBuf {
        self.path.join(format!("reliability-{split}.csv"))
    }

    /// A test clip, for a first prediction.
    pub fn example(&self) -> PathBuf {
        self.path.join("example.wav")
    }

    /// All files that a run can have, the last checkpoint first.
    #[cfg(feature = "audio")]
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.last(), self.best(), self.config(), self.metrics(), self.classes(), self.split()];
        files.extend([self.events(), self.example()]);
        for split in ["training", "validation", "test", "other"] {
            files.extend([self.evaluation(split), self.confusion(split)]);
            files.extend([self.predictions(split), self.reliability(split)]);
        }
        files
    }
}

/// The folder in which `stapes train` makes runs unless told otherwise.
const RUNS: &str = "runs";

/// The run folder that was probably meant where the name of a run was given as its path.
pub(super) fn run_named(path: &Path) -> Option<PathBuf> {
    let folder = RunFolder { path: Path::new(RUNS).join(path) };
    folder.config().is_file().then_some(folder.path)
}

/// Writes a file completely or not at all: to a temporary name beside it, synced, then renamed, then the folder synced.
///
/// # Errors
/// The file cannot be written; a file that was there before is unchanged.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    put(stage(path, bytes)?, path)?;
    sync_folder(path);
    Ok(())
}

/// Writes files that belong together: after a kill at any moment, either none of them is there, or some of the new ones;
/// never an old one beside a new one.
#[cfg(feature = "audio")]
pub(super) fn write_together(files: &[(PathBuf, String)]) -> Result<(), TrainError> {
    let staged = files.iter().map(|(path, text)| stage(path, text.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    for (path, _) in files {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(TrainError::io("replace", path, SPACE)(e));
            }
            _ => {}
        }
    }
    for (file, (path, _)) in staged.into_iter().zip(files) {
        put(file, path)?;
        sync_folder(path);
    }
    Ok(())
}

/// A temporary file with these bytes, in the folder of `path`.
fn stage(path: &Path, bytes: &[u8]) -> Result<Temporary, TrainError> {
    let error = TrainError::io("write", path, SPACE);
    let mut file = Temporary::create(folder_of(path), TEMPORARY).map_err(&error)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(&error)?;
    Ok(file)
}

/// Gives a temporary file its name.
fn put(file: Temporary, path: &Path) -> Result<(), TrainError> {
    file.persist(path).map_err(TrainError::io("write", path, SPACE))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_folder(path: &Path) {
    // Not every file system lets a folder be opened; the file is renamed nevertheless.
    if let Ok(folder) = File::open(folder_of(path)) {
        _ = folder.sync_all();
    }
}
