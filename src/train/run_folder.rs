//! The folder of a run: what is in it, and how files get there whole or not at all.

use super::error::TrainError;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

const SPACE: &str = "free some space or choose a folder that can be written with --runs";

/// A run's folder and the names of its files.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder `runs/name`; one that exists is replaced only if `force`.
    pub fn create(runs: &Path, name: &str, force: bool) -> Result<RunFolder, TrainError> {
        let path = runs.join(name);
        if path.exists() {
            if !force {
                return Err(TrainError::RunExists(path));
            }
            let folder = RunFolder { path };
            // Only what a run is made of: a mistyped name must not cost a user's folder.
            for file in folder.files() {
                match fs::remove_file(&file) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        return Err(TrainError::io("replace", &file, SPACE)(e));
                    }
                    _ => {}
                }
            }
            return Ok(folder);
        }
        fs::create_dir_all(&path).map_err(TrainError::io("make the folder", &path, SPACE))?;
        Ok(RunFolder { path })
    }

    /// The folder of a run that exists.
    pub fn open(path: &Path) -> Result<RunFolder, TrainError> {
        let folder = RunFolder { path: path.into() };
        if !folder.config().is_file() {
            return Err(TrainError::NotARun { path: path.into(), missing: "config.toml" });
        }
        Ok(folder)
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

    fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.config(), self.metrics(), self.best(), self.last(), self.classes(), self.split()];
        for split in ["training", "validation", "test"] {
            files.extend([self.evaluation(split), self.confusion(split)]);
        }
        files
    }
}

/// Writes a file whole or not at all: to a temporary name beside it, synced, then renamed, then the folder synced.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let io = TrainError::io("write", path, SPACE);
    let error = |e| io(without_path(e));
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".stapes-").tempfile_in(folder).map_err(error)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // A temporary file is the owner's alone; a result is everybody's who may read the folder.
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(error)?;
    }
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(error)?;
    file.persist(path).map_err(|e| error(e.error))?;
    // Not every file system lets a folder be opened; the rename is done all the same.
    if let Ok(folder) = File::open(folder) {
        _ = folder.sync_all();
    }
    Ok(())
}

/// The system's own words: a temporary file's error goes on with a path that nobody knows.
fn without_path(e: std::io::Error) -> std::io::Error {
    match e.to_string().split_once(" at path ") {
        Some((system, _)) => std::io::Error::new(e.kind(), system),
        None => e,
    }
}
