//! The exclusive right to write in a run folder: creating, replacing and continuing a run.

use super::error::TrainError;
use super::run_folder::{RunFolder, SPACE, TEMPORARY};
use super::run_lock::{LockError, RunLock, lock_file};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Folder within a run folder for the files of the run that is being replaced.
const REPLACED: &str = ".stapes-replaced";

/// Attempts to create a folder while other processes create and remove the same one.
const ATTEMPTS: u32 = 100;

/// The exclusive right of this process to write in one run folder.
///
/// Other processes, and other claims of the same process, are refused with [`TrainError::RunInUse`] until it is dropped.
/// A new run is kept from its first checkpoint on: if the claim is dropped before, the folder is removed, and a run that
/// was to be replaced is there as before.
#[derive(Debug)]
pub struct RunClaim {
    folder: RunFolder,
    state: State,
    restored: bool,
    /// Dropped last, after the folder is in order.
    lock: Option<RunLock>,
}

#[derive(Debug)]
enum State {
    /// The folder is new; with the folders above it that were made for it, the outermost first.
    New { made: Vec<PathBuf> },
    /// The run in the folder will be replaced; it is untouched.
    Replace,
    /// The files of the replaced run are in [`REPLACED`].
    Replacing,
    /// The folder stays as it is.
    Kept,
}

impl RunClaim {
    /// Creates the folder `runs/name`, or, if `replace` is set, claims the run in it, which stays until the new one has
    /// begun.
    ///
    /// # Errors
    /// The folder exists and `replace` is not set, another process uses it, it cannot be created, or `runs` lies in the folder of
    /// a run.
    pub fn create(runs: &Path, name: &str, replace: bool) -> Result<RunClaim, TrainError> {
        if let Some(run) = RunFolder::around(runs) {
            return Err(TrainError::RunWithinRun(run.path().into()));
        }
        let path = runs.join(name);
        for _ in 0..ATTEMPTS {
            let made = make_folders(runs)?;
            let is_new = match fs::create_dir(&path) {
                Ok(()) => true,
                Err(e) if e.kind() == ErrorKind::AlreadyExists => false,
                // The folder above was removed by a process that failed.
                Err(e) if e.kind() == ErrorKind::NotFound && !made.is_empty() => continue,
                Err(e) => {
                    remove_folders(&made);
                    return Err(TrainError::io("make the folder", &path, SPACE)(e));
                }
            };
            let lock = match RunLock::acquire(&path, replace) {
                Ok(lock) => lock,
                // The process that made the folder failed and removed it.
                Err(LockError::Io(e)) if e.kind() == ErrorKind::NotFound && !path.exists() => continue,
                Err(LockError::Io(_)) if !is_new && !replace => return Err(TrainError::RunExists(path)),
                Err(e) => {
                    if is_new {
                        _ = fs::remove_dir(&path);
                    }
                    remove_folders(&made);
                    return Err(e.of(&path));
                }
            };
            let mut claim = RunClaim::new(RunFolder::at(&path), lock);
            if claim.is_vacant() {
                claim.state = State::New { made };
            } else if replace {
                claim.state = State::Replace;
            } else {
                return Err(TrainError::RunExists(path));
            }
            return Ok(claim);
        }
        let error = io::Error::new(ErrorKind::NotFound, "other processes create and remove it");
        Err(TrainError::io("make the folder", &path, SPACE)(error))
    }

    /// Creates the folder `runs/name`, or `runs/name-2`, `runs/name-3` and so on, whichever does not exist yet.
    ///
    /// # Errors
    /// The folder cannot be created, or `runs` lies in the folder of a run.
    pub fn create_numbered(runs: &Path, name: &str) -> Result<RunClaim, TrainError> {
        let numbered = (2u32..).map(|number| format!("{name}-{number}"));
        for name in std::iter::once(name.to_string()).chain(numbered) {
            match RunClaim::create(runs, &name, false) {
                Err(TrainError::RunExists(_) | TrainError::RunInUse { .. }) => {}
                other => return other,
            }
        }
        Err(TrainError::RunExists(runs.join(name)))
    }

    /// Claims a run that exists, to continue it or to add files to it.
    ///
    /// # Errors
    /// Another process uses it, or the folder cannot be written.
    pub fn of(folder: &RunFolder) -> Result<RunClaim, TrainError> {
        let lock = RunLock::acquire(folder.path(), true).map_err(|e| e.of(folder.path()))?;
        Ok(RunClaim::new(folder.clone(), lock))
    }

    /// A claim of whatever is in the folder, after removing what killed processes have left there.
    fn new(folder: RunFolder, lock: RunLock) -> RunClaim {
        let mut claim = RunClaim { folder, state: State::Kept, restored: false, lock: Some(lock) };
        if claim.lock.as_ref().is_some_and(RunLock::is_exclusive) {
            claim.recover();
        }
        claim
    }

    /// The folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Whether a process was killed while it replaced the run, so that the earlier run was put back.
    pub fn restored(&self) -> bool {
        self.restored
    }

    /// Makes room for the files of a new run: those of a run to be replaced are put aside until [`RunClaim::keep`].
    pub(super) fn begin(&mut self) -> Result<(), TrainError> {
        if !matches!(self.state, State::Replace) {
            return Ok(());
        }
        let aside = self.aside();
        let moved = fs::create_dir(&aside).and_then(|()| {
            self.state = State::Replacing;
            // The checkpoint goes first: a folder without one is a run that has not begun.
            self.folder.files().iter().try_for_each(|file| move_into(file, &aside))
        });
        if moved.is_err() && matches!(self.state, State::Replacing) {
            self.restore();
        }
        moved.map_err(TrainError::io("replace", self.folder.path(), SPACE))
    }

    /// Keeps the run: it has a checkpoint. The run that it replaces is removed.
    pub(super) fn keep(&mut self) {
        if let State::Replacing = std::mem::replace(&mut self.state, State::Kept) {
            _ = fs::remove_dir_all(self.aside());
        }
    }

    fn aside(&self) -> PathBuf {
        self.folder.path().join(REPLACED)
    }

    /// Whether the folder holds nothing but our lock.
    fn is_vacant(&self) -> bool {
        let lock = lock_file(self.folder.path());
        let entries = fs::read_dir(self.folder.path());
        entries.is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| entry.path() == lock)))
    }

    /// Puts the files of the replaced run back.
    fn restore(&mut self) {
        let aside = self.aside();
        for entry in fs::read_dir(&aside).into_iter().flatten().flatten() {
            _ = fs::rename(entry.path(), self.folder.path().join(entry.file_name()));
        }
        _ = fs::remove_dir(&aside);
        self.state = State::Kept;
    }

    /// Ends what killed processes have left undone: a replacement, and temporary files.
    fn recover(&mut self) {
        if self.aside().is_dir() {
            if self.folder.last().exists() {
                _ = fs::remove_dir_all(self.aside());
            } else {
                self.restore();
                self.restored = true;
            }
        }
        for entry in fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
            let is_temporary = entry.file_name().as_encoded_bytes().starts_with(TEMPORARY.as_bytes());
            if is_temporary && entry.file_type().is_ok_and(|kind| kind.is_file()) {
                _ = fs::remove_file(entry.path());
            }
        }
    }

    fn remove_files(&self) {
        for file in self.folder.files() {
            _ = fs::remove_file(file);
        }
    }
}

impl Drop for RunClaim {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.state, State::Kept) {
            State::New { made } => {
                self.remove_files();
                self.lock = None;
                // Both remove empty folders only.
                _ = fs::remove_dir(self.folder.path());
                remove_folders(&made);
            }
            State::Replacing => {
                self.remove_files();
                self.restore();
            }
            State::Replace | State::Kept => {}
        }
    }
}

/// Moves a file into a folder, if there is such a file.
fn move_into(file: &Path, folder: &Path) -> io::Result<()> {
    let Some(name) = file.file_name() else { return Ok(()) };
    match fs::rename(file, folder.join(name)) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Makes a folder and those above it; gives those that were missing, the outermost first.
fn make_folders(path: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let missing = path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
    let mut missing: Vec<PathBuf> = missing.map(Path::to_path_buf).collect();
    missing.reverse();
    let made = fs::create_dir_all(path);
    if made.is_err() {
        remove_folders(&missing);
    }
    made.map_err(TrainError::io("make the folder", path, SPACE))?;
    Ok(missing)
}

/// Removes those of these folders that are empty, the innermost first.
fn remove_folders(folders: &[PathBuf]) {
    for folder in folders.iter().rev() {
        _ = fs::remove_dir(folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(folder: &RunFolder, text: &str) {
        for file in [folder.config(), folder.last(), folder.best()] {
            fs::write(file, text).unwrap();
        }
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_run_that_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("a/b");
        let claim = RunClaim::create(&runs, "run", false).unwrap();
        fs::write(claim.folder().config(), "x").unwrap();
        drop(claim);
        assert!(names(dir.path()).is_empty());
        let mut claim = RunClaim::create(&runs, "run", false).unwrap();
        fs::write(claim.folder().config(), "x").unwrap();
        claim.keep();
        drop(claim);
        assert_eq!(names(&runs.join("run")), ["config.toml"]);
    }

    #[test]
    fn a_claimed_folder_is_refused_with_the_process_id() {
        let dir = tempfile::tempdir().unwrap();
        let claim = RunClaim::create(dir.path(), "run", false).unwrap();
        for replace in [false, true] {
            let error = RunClaim::create(dir.path(), "run", replace).unwrap_err().to_string();
            assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        }
        assert!(RunClaim::of(claim.folder()).is_err());
        let other = RunClaim::create_numbered(dir.path(), "run").unwrap();
        assert_eq!(other.folder().path(), dir.path().join("run-2"));
    }

    #[test]
    fn no_run_is_made_within_another() {
        let dir = tempfile::tempdir().unwrap();
        let mut claim = RunClaim::create(dir.path(), "run", false).unwrap();
        put(claim.folder(), "x");
        fs::write(claim.folder().split(), "x").unwrap();
        claim.keep();
        let run = claim.folder().path().to_path_buf();
        for runs in [run.clone(), run.join("more/runs"), run.join("../run")] {
            let error = RunClaim::create(&runs, "inner", false).unwrap_err();
            let within = run.canonicalize().unwrap();
            assert!(matches!(&error, TrainError::RunWithinRun(path) if *path == within), "{error}");
        }
        assert!(RunClaim::create(&run.join(".."), "other", false).is_ok(), "beside a run");
        assert!(!run.join("more").exists());
    }

    #[test]
    fn a_replaced_run_stays_until_the_new_one_has_a_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let mut claim = RunClaim::create(dir.path(), "run", false).unwrap();
        put(claim.folder(), "old");
        fs::write(dir.path().join("run/notes.txt"), "mine").unwrap();
        claim.keep();
        drop(claim);
        assert!(matches!(RunClaim::create(dir.path(), "run", false), Err(TrainError::RunExists(_))));
        let all = ["best.safetensors", "config.toml", "last.safetensors", "notes.txt"];
        let read = || fs::read_to_string(dir.path().join("run/config.toml")).unwrap();
        for begins in [false, true] {
            let mut claim = RunClaim::create(dir.path(), "run", true).unwrap();
            if begins {
                claim.begin().unwrap();
                fs::write(claim.folder().config(), "new").unwrap();
                fs::write(claim.folder().split(), "new").unwrap();
            }
            drop(claim);
            assert_eq!((names(&dir.path().join("run")), read()), (all.map(String::from).into(), "old".into()));
        }
        let mut claim = RunClaim::create(dir.path(), "run", true).unwrap();
        claim.begin().unwrap();
        fs::write(claim.folder().config(), "new").unwrap();
        claim.keep();
        drop(claim);
        assert_eq!(
            (names(&dir.path().join("run")), read()),
            (["config.toml", "notes.txt"].map(String::from).into(), "new".into())
        );
    }

    #[test]
    fn what_a_killed_process_has_left_is_put_in_order() {
        let dir = tempfile::tempdir().unwrap();
        // Killed before the first file: the folder is free.
        fs::create_dir(dir.path().join("run")).unwrap();
        fs::write(dir.path().join("run/run.lock"), "99999\n").unwrap();
        let mut claim = RunClaim::create(dir.path(), "run", false).unwrap();
        put(claim.folder(), "old");
        claim.keep();
        // Killed while it replaced a run, before and after the first checkpoint.
        for (checkpoint, expected) in [(false, "old"), (true, "new")] {
            claim.state = State::Replace;
            claim.begin().unwrap();
            fs::write(claim.folder().config(), "new").unwrap();
            fs::write(claim.folder().path().join(".stapes-abc"), "half").unwrap();
            if checkpoint {
                fs::write(claim.folder().last(), "new").unwrap();
            }
            claim.state = State::Kept;
            let folder = claim.folder().clone();
            drop(claim);
            claim = RunClaim::of(&folder).unwrap();
            assert_eq!(claim.restored(), !checkpoint);
            assert_eq!(fs::read_to_string(folder.config()).unwrap(), expected);
            assert!(names(folder.path()).iter().all(|name| !name.starts_with('.')));
        }
    }
}
