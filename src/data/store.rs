//! Reads decoded clips from the cache, writes the cache where it is missing or out of date, and decodes into memory where
//! no cache can be written.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::sha1::{Sha1, hex};
use crate::base::{Name, name};

use super::archive;
use super::cache::{self, Index, Rows, Stale, Store, Writer};
use super::error::{ClipError, ClipFault, DataError};
use super::load::{self, Survey};
use super::manifest;
use super::prepare::{Outcome, Stop, read_file};
use super::source::{Source, Stage, Wanted};

/// Whether and where decoded clips are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// In `$STAPES_CACHE`, else `$XDG_CACHE_HOME/stapes`, else `$HOME/.cache/stapes`, else in the temporary folder.
    #[default]
    Auto,
    /// In this folder.
    Folder(PathBuf),
    /// Nowhere: clips are decoded into memory each time.
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
    /// The rows of all clips, one after another.
    pub(super) rows: Rows,
    /// Whether they come from a cache file.
    pub(super) cached: bool,
    pub(super) index: Index,
    /// Remarks for the user.
    pub(super) remarks: Vec<String>,
}

/// What is wanted, with the key of its cache.
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
            Ok((rows, index)) => return Ok(Stored { rows, cached: true, index, remarks }),
            Err(Stop::Source(error)) => return Err(error),
            Err(Stop::Store(e)) => remarks.push(format!(
                "decoded clips cannot be cached in {} ({e}); to save time, set STAPES_CACHE to a folder with space",
                name::display_path(&folder)
            )),
        }
    }
    let mut values: Vec<i16> = Vec::new();
    match request.read_into(&mut values) {
        Ok(index) => Ok(Stored { rows: Rows::Decoded(values), cached: false, index, remarks }),
        Err(Stop::Source(error)) => Err(error),
        Err(Stop::Store(source)) => Err(DataError::Memory { source }),
    }
}

/// What is wanted, as text. Words are sorted: the order of classes changes no sample.
fn key(source: &Source<'_>, wanted: &Wanted<'_>) -> String {
    let mut words = wanted.words.map(<[Name]>::to_vec);
    words.iter_mut().for_each(|w| w.sort_unstable());
    let (identity, format, length) = (source.identity(), wanted.format, wanted.length);
    let crop = wanted.crop;
    let windows = if wanted.windows > 1 { format!(" windows {}", wanted.windows) } else { String::new() };
    format!("{identity:?} words {words:?} {} Hz x {} x {length} {crop}{windows}", format.rate_hz, format.channels)
}

/// The name of the cache for a key, without its extension.
fn stem(key: &str) -> String {
    let hash = Sha1::digest(key.as_bytes());
    format!("clips-{}", hex(&hash[..8]))
}

/// Extension of a lock file.
const LOCK: &str = "lock";
/// What follows the stem in the name of a cache that is being written.
const PART: &str = ".part-";
/// A file system stores times in steps of at most this length, the tick of the kernel's clock (10 ms) with a margin.
const CLOCK_STEP: Duration = Duration::from_millis(20);

impl Request<'_> {
    fn load_cached(&self, folder: &Path, remarks: &mut Vec<String>) -> Result<(Rows, Index), Stop> {
        let stem = stem(&self.key);
        let path = folder.join(format!("{stem}.cache"));
        if let Ok(stored) = self.open(&path)? {
            return Ok(stored);
        }
        if let Some(stored) = self.open_cache_of_all(folder)? {
            return Ok(stored);
        }
        std::fs::create_dir_all(folder).map_err(Stop::Store)?;
        let lock = self.lock(&folder.join(format!("{stem}.{LOCK}")))?;
        // Another process may have made it while this one waited for the lock.
        match self.open(&path)? {
            Ok(stored) => return Ok(stored),
            Err(Stale::Damaged(reason)) => {
                let path = name::display_path(&path);
                remarks.push(format!("the cache {path} was damaged ({reason}), so all clips are decoded again"));
            }
            Err(Stale::Absent | Stale::Outdated | Stale::NoMemory) => {}
        }
        if lock.is_some() {
            remove_leftovers(folder, &stem);
        }
        let survey = self.unchanging_survey()?;
        let request = Request { survey: &survey, key: self.key.clone(), ..*self };
        let mut writer = Writer::new(folder, &format!("{stem}{PART}")).map_err(Stop::Store)?;
        let index = request.read_into(&mut writer)?;
        writer.finish(&path, &index, &survey.inputs, self.wanted.row_len()).map_err(Stop::Store)?;
        let damaged = |stale| Stop::Store(io::Error::other(format!("what was written cannot be read back: {stale:?}")));
        cache::open(&path, &self.key, &survey.inputs, self.wanted.row_len()).map_err(damaged)
    }

    /// The cache at `path`, or why it is not used. That its rows do not fit into memory is an error: decoding them again
    /// would not help.
    fn open(&self, path: &Path) -> Result<Result<(Rows, Index), Stale>, Stop> {
        match cache::open(path, &self.key, &self.survey.inputs, self.wanted.row_len()) {
            Ok((_, index)) if self.can_now_be_read(&index) => Ok(Err(Stale::Outdated)),
            Err(Stale::NoMemory) => {
                Err(Stop::Source(DataError::Memory { source: io::Error::from(io::ErrorKind::OutOfMemory) }))
            }
            other => Ok(other),
        }
    }

    /// Whether a file that the system refused to read when the cache was made can be read now.
    fn can_now_be_read(&self, index: &Index) -> bool {
        let file_of = |name: &Name| match self.source {
            Source::Folder(root) => Some(root.join(name.to_path())),
            Source::Manifest(path) => Some(manifest::file_of(path, name)),
            Source::Archive(_) | Source::Arrays(_) | Source::Parquet(_) | Source::Embedded(_) => None,
        };
        let mut refused = index.problems.iter().filter(|p| matches!(p.fault, ClipFault::Unreadable { .. }));
        refused.any(|problem| {
            let Some(path) = file_of(&problem.name) else { return false };
            let regular = std::fs::metadata(&path).is_ok_and(|meta| meta.is_file());
            regular && !matches!(read_file(&path, 0), Err(ClipFault::Unreadable { .. }))
        })
    }

    /// The cache that was made when no words were named, if those named now are all that there are.
    fn open_cache_of_all(&self, folder: &Path) -> Result<Option<(Rows, Index)>, Stop> {
        if self.wanted.words.is_none() {
            return Ok(None);
        }
        let wanted = Wanted { words: None, ..*self.wanted };
        let request = Request { key: key(self.source, &wanted), wanted: &wanted, ..*self };
        let stored = request.open(&folder.join(format!("{}.cache", stem(&request.key))))?.ok();
        Ok(stored.filter(|(_, index)| index.found.words.iter().all(|word| self.wanted.wants(word))))
    }

    /// A survey of the source that equals the one before it, so that whatever changes from now on gets another time: two
    /// changes within one step of the file system's clock could not be told apart.
    fn unchanging_survey(&self) -> Result<Survey, DataError> {
        let mut before = self.survey.inputs;
        loop {
            if !matches!(self.source, Source::Embedded(_)) {
                std::thread::sleep(CLOCK_STEP);
            }
            let survey = load::survey(self.source)?;
            if survey.inputs == before {
                return Ok(survey);
            }
            before = survey.inputs;
            self.wanted.report(Stage::Reading, 0, 0)?;
        }
    }

    /// The right to make this cache. Waits for another process if need be, and reports for which file; nothing where the
    /// file system has no locks.
    fn lock(&self, path: &Path) -> Result<Option<File>, Stop> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(Stop::Store)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::Error(_)) => return Ok(None),
                Err(TryLockError::WouldBlock) => {
                    self.wanted.report(Stage::Waiting { lock: path.into() }, 0, 0)?;
                    std::thread::sleep(Duration::from_millis(100));
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
                    let rows = clip.samples.chunks_exact(self.wanted.row_len());
                    index.checksums.extend(rows.map(cache::row_checksum));
                    index.clips.push(clip.info);
                }
                Err(problem) => index.problems.push(problem),
            }
            Ok(())
        };
        let (found, names) = load::read(self.source, self.survey, self.wanted, &mut sink)?;
        index.found = found;
        if let Some(names) = names {
            archive::give_names(&names, &mut index.clips, &mut index.problems);
        }
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

/// Removes the unfinished caches that killed processes have left, those of `own` and of every other stem whose lock can be
/// taken: nobody writes them.
fn remove_leftovers(folder: &Path, own: &str) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut locks: Vec<File> = Vec::new();
    let (mut free, mut busy) = (HashSet::from([own.to_string()]), HashSet::new());
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((stem, _)) = name.split_once(PART).filter(|(stem, _)| stem.starts_with("clips-")) else {
            continue;
        };
        if !free.contains(stem) && !busy.contains(stem) {
            let lock = OpenOptions::new().write(true).open(folder.join(format!("{stem}.{LOCK}")));
            match lock {
                Ok(lock) if lock.try_lock().is_ok() => {
                    locks.push(lock); // held until all files are removed
                    free.insert(stem.to_string());
                }
                _ => _ = busy.insert(stem.to_string()),
            }
        }
        if free.contains(stem) {
            _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clip::Format;
    use super::super::crop::Crop;
    use super::*;
    use std::ops::ControlFlow;

    /// A WAV file of 16-bit mono samples at 16 kHz.
    fn wav(samples: &[i16]) -> Vec<u8> {
        let size = 2 * samples.len() as u32;
        let mut file = b"RIFF".to_vec();
        file.extend((36 + size).to_le_bytes());
        file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3E\0\0\0\x7D\0\0\x02\0\x10\0data");
        file.extend(size.to_le_bytes());
        file.extend(bytemuck::cast_slice::<i16, u8>(samples));
        file
    }

    fn wanted() -> Wanted<'static> {
        let format = Format { rate_hz: 16_000, channels: 1 };
        let progress = &|_: Stage, _, _| ControlFlow::Continue(());
        Wanted { words: None, format, length: 2, crop: Crop::Start, windows: 1, progress }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn case_14_and_33_a_refusal_of_the_system_is_tried_again() {
        let (data, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(data.path().join("bed")).unwrap();
        for (file, samples) in [("a.wav", [1, 2]), ("b.wav", [3, 4])] {
            std::fs::write(data.path().join("bed").join(file), wav(&samples)).unwrap();
        }
        let (source, mode) = (Source::Folder(data.path().into()), CacheMode::Folder(cache.path().into()));
        let survey = load::survey(&source).unwrap();
        let wanted = wanted();
        let stored = load(&source, &survey, &wanted, &mode).unwrap();
        assert_eq!((stored.rows.to_vec(), stored.index.problems.len()), (vec![1, 2, 3, 4], 0));
        let path = cache.path().join(names(cache.path()).into_iter().find(|n| n.ends_with(".cache")).unwrap());
        // The cache as it would be if the second file could not have been read.
        for (file, readable) in [("b.wav", true), ("gone.wav", false)] {
            let mut index = Index { key: key(&source, &wanted), ..Index::default() };
            index.clips.extend(stored.index.clips.iter().take(1).cloned());
            index.checksums.push(cache::row_checksum(&[1, 2]));
            let fault = ClipFault::Unreadable { reason: "Too many open files".into() };
            index.problems.push(ClipError { name: Name::from(format!("bed/{file}")), fault });
            let mut writer = Writer::new(cache.path(), "t").unwrap();
            writer.push(&[1, 2]).unwrap();
            writer.finish(&path, &index, &survey.inputs, 2).unwrap();
            let again = load(&source, &survey, &wanted, &mode).unwrap();
            let expected = if readable { (4, 0) } else { (2, 1) };
            assert_eq!((again.rows.len(), again.index.problems.len()), expected, "{file}");
        }
    }

    #[test]
    fn unfinished_caches_of_killed_processes_are_removed_and_those_of_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let touch = |name: &str| std::fs::write(folder.path().join(name), b"x").unwrap();
        for name in
            ["clips-1.part-a", "clips-2.part-b", "clips-2.lock", "clips-3.part-c", "clips-3.lock", "clips-4.part-d"]
        {
            touch(name);
        }
        touch("notes.part-1");
        let busy = File::open(folder.path().join("clips-3.lock")).unwrap();
        busy.lock().unwrap();
        remove_leftovers(folder.path(), "clips-1");
        assert_eq!(
            names(folder.path()),
            ["clips-2.lock", "clips-3.lock", "clips-3.part-c", "clips-4.part-d", "notes.part-1"]
        );
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_a_remark() {
        let (data, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(data.path().join("bed")).unwrap();
        std::fs::write(data.path().join("bed/a.wav"), wav(&[1, 2])).unwrap();
        let source = Source::Folder(data.path().into());
        let survey = load::survey(&source).unwrap();
        let file = cache.path().join("file");
        std::fs::write(&file, b"no folder").unwrap();
        let stored = load(&source, &survey, &wanted(), &CacheMode::Folder(file)).unwrap();
        assert_eq!((stored.rows.to_vec(), stored.cached), (vec![1, 2], false));
        assert!(stored.remarks[0].starts_with("decoded clips cannot be cached in "), "{:?}", stored.remarks);
    }
}
