//! Decoded clips from the cache, and into it: where the cache lies, who may write it, and what is done without.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::base::Name;
use crate::base::sha1::{Sha1, hex};

use super::cache::{self, Index, Rows, Stale, Store, Writer};
use super::error::{ClipError, ClipFault, DataError};
use super::load::{self, Survey};
use super::prepare::{Outcome, Stop};
use super::source::{Source, Stage, Wanted};

/// Whether and where decoded clips are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// In `$STAPES_CACHE`, else `$XDG_CACHE_HOME/stapes`, else `$HOME/.cache/stapes`, else in the temporary folder.
    #[default]
    Auto,
    /// In this folder.
    Folder(PathBuf),
    /// In memory alone.
    Off,
}

impl CacheMode {
    /// The folders to try, best first.
    fn folders(&self) -> Vec<PathBuf> {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        match self {
            CacheMode::Off => Vec::new(),
            CacheMode::Folder(folder) => vec![folder.clone()],
            CacheMode::Auto => match set("STAPES_CACHE") {
                Some(folder) => vec![folder],
                None => {
                    let home = || set("HOME").map(|h| h.join(".cache"));
                    let own = set("XDG_CACHE_HOME").or_else(home).map(|f| f.join("stapes"));
                    own.into_iter().chain([std::env::temp_dir().join("stapes")]).collect()
                }
            },
        }
    }
}

/// All wanted clips, decoded.
pub(super) struct Stored {
    pub(super) rows: Rows,
    pub(super) index: Index,
    /// What a user may want to know and need not act upon.
    pub(super) remarks: Vec<String>,
}

/// One question to the cache.
struct Request<'a> {
    source: &'a Source<'a>,
    survey: &'a Survey,
    wanted: &'a Wanted<'a>,
    key: String,
}

/// The wanted clips of `source`: from a cache that is up to date, else decoded and cached, else decoded into memory.
pub(super) fn load(
    source: &Source<'_>,
    survey: &Survey,
    wanted: &Wanted<'_>,
    mode: &CacheMode,
) -> Result<Stored, DataError> {
    let request = Request { source, survey, wanted, key: key(source, wanted) };
    let mut remarks = Vec::new();
    for folder in mode.folders() {
        match request.load_cached(&folder, &mut remarks) {
            Ok((rows, index)) => return Ok(Stored { rows, index, remarks }),
            Err(Stop::Source(error)) => return Err(error),
            Err(Stop::Store(e)) => remarks.push(format!(
                "cannot keep decoded clips in {} ({e}); set STAPES_CACHE to a folder with space to save time",
                folder.display()
            )),
        }
    }
    let mut values = Vec::new();
    match request.read_into(&mut values) {
        Ok(index) => Ok(Stored { rows: Rows::Memory(values), index, remarks }),
        Err(Stop::Source(error)) => Err(error),
        Err(Stop::Store(source)) => Err(DataError::Memory { source }),
    }
}

/// The question in words. Words are sorted: the order of classes changes no sample.
fn key(source: &Source<'_>, wanted: &Wanted<'_>) -> String {
    let mut words = wanted.words.map(<[Name]>::to_vec);
    words.iter_mut().for_each(|w| w.sort_unstable());
    let (identity, format, length) = (source.identity(), wanted.format, wanted.length);
    format!("{identity:?} words {words:?} {} Hz x {} x {length}", format.rate_hz, format.channels)
}

/// The name of the cache that answers a question, without its extension.
fn stem(key: &str) -> String {
    let hash = Sha1::digest(key.as_bytes());
    format!("clips-{}", hex(&hash[..8]))
}

impl Request<'_> {
    fn load_cached(&self, folder: &Path, remarks: &mut Vec<String>) -> Result<(Rows, Index), Stop> {
        let stem = stem(&self.key);
        let path = folder.join(format!("{stem}.cache"));
        if let Ok(stored) = self.open(&path) {
            return Ok(stored);
        }
        if let Some(stored) = self.open_cache_of_all(folder) {
            return Ok(stored);
        }
        std::fs::create_dir_all(folder).map_err(Stop::Store)?;
        let lock = self.lock(&folder.join(format!("{stem}.lock")))?;
        // Whoever held the lock may have made what is wanted.
        match self.open(&path) {
            Ok(stored) => return Ok(stored),
            Err(Stale::Damaged(reason)) => {
                remarks.push(format!("the cache {} was damaged ({reason}) and is made anew", path.display()));
            }
            Err(Stale::Absent | Stale::Outdated) => {}
        }
        let prefix = format!("{stem}.part-");
        if lock.is_some() {
            remove_leftovers(folder, &prefix);
        }
        let mut writer = Writer::new(folder, &prefix).map_err(Stop::Store)?;
        let index = self.read_into(&mut writer)?;
        writer.finish(&path, &index, &self.survey.inputs, self.wanted.row_len()).map_err(Stop::Store)?;
        let damaged = |stale| Stop::Store(io::Error::other(format!("what was written cannot be read back: {stale:?}")));
        self.open(&path).map_err(damaged)
    }

    fn open(&self, path: &Path) -> Result<(Rows, Index), Stale> {
        cache::open(path, &self.key, &self.survey.inputs, self.wanted.row_len())
    }

    /// The cache that was made when no words were named, if those named now are all that there are.
    fn open_cache_of_all(&self, folder: &Path) -> Option<(Rows, Index)> {
        self.wanted.words?;
        let key = key(self.source, &Wanted { words: None, ..*self.wanted });
        let path = folder.join(format!("{}.cache", stem(&key)));
        let (rows, index) = cache::open(&path, &key, &self.survey.inputs, self.wanted.row_len()).ok()?;
        let all = index.found.words.iter().all(|word| self.wanted.wants(word));
        all.then_some((rows, index))
    }

    /// The right to make this cache, waiting for another process if need be; nothing where there are no locks.
    fn lock(&self, path: &Path) -> Result<Option<File>, Stop> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(Stop::Store)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::Error(_)) => return Ok(None),
                Err(TryLockError::WouldBlock) => {
                    self.wanted.report(Stage::Waiting, 0, 0)?;
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
            }
        }
    }

    /// Decodes everything into `store`.
    fn read_into(&self, store: &mut dyn Store) -> Result<Index, Stop> {
        let mut index = Index { key: self.key.clone(), ..Index::default() };
        let mut sink = |outcome: Outcome| {
            match outcome {
                Ok(mut clip) => {
                    clip.info.row = index.checksums.len() as u32;
                    store.push(&clip.samples).map_err(Stop::Store)?;
                    index.checksums.push(cache::row_checksum(&clip.samples));
                    index.clips.push(clip.info);
                }
                Err(problem) => index.problems.push(problem),
            }
            Ok(())
        };
        index.found = load::read(self.source, self.survey, self.wanted, &mut sink)?;
        index.clips.sort_by(|a, b| (&a.name, a.row).cmp(&(&b.name, b.row)));
        let problems = &mut index.problems;
        index.clips.dedup_by(|later, first| {
            let repeated = later.name == first.name;
            if repeated {
                problems.push(ClipError { name: later.name.clone(), fault: ClipFault::Repeated });
            }
            repeated
        });
        index.problems.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(index)
    }
}

/// Removes parts that killed processes have left; the lock says that nobody is at work on one.
fn remove_leftovers(folder: &Path, prefix: &str) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            _ = std::fs::remove_file(entry.path());
        }
    }
}
