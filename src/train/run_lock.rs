//! The lock of a run folder: the file `run.lock`, which holds the id of the only process that may write there.

use super::error::TrainError;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Attempts to lock before a folder counts as in use. An evaluation locks only while it writes its files.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// A lock that this process holds; dropping it removes the file.
#[derive(Debug)]
pub(super) struct RunLock {
    /// None where the file system has no locks.
    file: Option<File>,
    path: PathBuf,
}

/// Why a folder cannot be locked.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another process holds the lock; its id, where it can be read.
    InUse(Option<u32>),
    /// The lock file cannot be made.
    Io(io::Error),
}

impl LockError {
    /// As the error of the run in `folder`.
    pub(super) fn of(self, folder: &Path) -> TrainError {
        match self {
            LockError::InUse(pid) => TrainError::RunInUse { path: folder.into(), pid },
            LockError::Io(e) => TrainError::io("lock", folder, "check the folder and its permissions")(e),
        }
    }
}

/// The lock file of a run folder.
pub(super) fn lock_file(folder: &Path) -> PathBuf {
    folder.join("run.lock")
}

impl RunLock {
    /// Locks `folder` for this process; `wait` for a moment if another process holds the lock.
    pub(super) fn acquire(folder: &Path, wait: bool) -> Result<RunLock, LockError> {
        let path = lock_file(folder);
        let mut attempts = if wait { ATTEMPTS } else { 1 };
        loop {
            let mut options = OpenOptions::new();
            let mut file =
                options.create(true).truncate(false).read(true).write(true).open(&path).map_err(LockError::Io)?;
            match file.try_lock() {
                Ok(()) if is_file_at(&file, &path) => {
                    // The id only serves the message of another process.
                    _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
                    return Ok(RunLock { file: Some(file), path });
                }
                // The previous owner removed the file between the two calls: this lock would exclude nobody.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    attempts -= 1;
                    if attempts == 0 {
                        return Err(LockError::InUse(owner(&path)));
                    }
                    std::thread::sleep(PAUSE);
                }
                Err(TryLockError::Error(_)) => return Ok(RunLock { file: None, path }),
            }
        }
    }

    /// Whether the lock excludes other processes.
    pub(super) fn is_exclusive(&self) -> bool {
        self.file.is_some()
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // Removed while the lock is held: whoever locks the removed file notices it and opens the file once more.
        _ = fs::remove_file(&self.path);
    }
}

/// The id of the process that holds a lock. The process writes it just after it has locked.
fn owner(path: &Path) -> Option<u32> {
    (0..4).find_map(|attempt| {
        std::thread::sleep(PAUSE * u32::from(attempt > 0));
        fs::read_to_string(path).ok()?.trim().parse().ok()
    })
}

#[cfg(unix)]
fn is_file_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (ours, there) = (file.metadata().map(id), fs::metadata(path).map(id));
    matches!((ours, there), (Ok(ours), Ok(there)) if ours == there)
}

/// A file that is open cannot be removed there.
#[cfg(not(unix))]
fn is_file_at(_file: &File, _path: &Path) -> bool {
    true
}
