//! A file under a temporary name, which takes its final name when it is complete.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A new file under a temporary name. It is deleted when it is dropped before [`Temporary::persist`].
#[derive(Debug)]
pub struct Temporary {
    file: File,
    path: PathBuf,
    persisted: bool,
}

impl Temporary {
    /// Creates an empty file in `folder` with a name that begins with `prefix`.
    ///
    /// # Errors
    /// The system refuses to create the file.
    pub fn create(folder: &Path, prefix: &str) -> io::Result<Temporary> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{prefix}{}-{number}", std::process::id()));
            match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Temporary { file, path, persisted: false }),
                // A file of an earlier process of this number that was killed.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The open file.
    pub fn as_file(&self) -> &File {
        &self.file
    }

    /// Gives the file its final name; a file that has this name is replaced. The content is not synced.
    ///
    /// # Errors
    /// The system refuses to rename the file, which is deleted then.
    pub fn persist(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.persisted = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.persisted {
            _ = fs::remove_file(&self.path);
        }
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Temporary {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_complete_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result");
        let names = || fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
        let [mut one, mut two] = [(); 2].map(|()| Temporary::create(folder.path(), ".t-").unwrap());
        one.write_all(b"one").unwrap();
        two.write_all(b"two").unwrap();
        assert_eq!(names().len(), 2);
        one.persist(&path).unwrap();
        two.persist(&path).unwrap();
        drop(Temporary::create(folder.path(), ".t-").unwrap());
        assert_eq!(names(), ["result"]);
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert!(Temporary::create(&path, ".t-").is_err());
    }
}
