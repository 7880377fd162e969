//! A folder of word folders: its files, and its clips decoded block by block on all threads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::base::Name;
use crate::base::sha1::Sha1;

use super::error::DataError;
use super::prepare::{BLOCK_CLIPS, RawClip, Sink, Stop, decode_block, read_file};
use super::source::{FileKind, Found, Lists, NOISE, Stage, Wanted, clip_name, file_kind, is_word, modified_ns};

/// One sound file.
struct Entry {
    file: Name,
    path: PathBuf,
    size: u64,
    modified_ns: u128,
}

/// All files of a folder that matter.
pub(super) struct Listing {
    words: BTreeMap<Name, Vec<Entry>>, // files sorted by name
    pub(super) found: Found,
}

impl Listing {
    pub(super) fn hash(&self, hash: &mut Sha1) {
        for (word, entries) in &self.words {
            hash.update(format!("{word}/\n"));
            for e in entries {
                hash.update(format!("{}\t{}\t{}\n", e.file, e.size, e.modified_ns));
            }
        }
        hash.update(format!("{:?}{}", self.found.noise, self.found.other_files));
        for list in self.found.lists.iter().flat_map(|l| [&l.validation, &l.testing]) {
            let mut names: Vec<&Name> = list.iter().collect();
            names.sort_unstable();
            hash.update(format!("{names:?}"));
        }
    }

    /// Sound files of a word.
    pub(super) fn clips_of(&self, word: &Name) -> usize {
        self.words.get(word).map_or(0, Vec::len)
    }
}

/// The files of the folder at `root`.
pub(super) fn list(root: &Path) -> Result<Listing, DataError> {
    let mut listing = Listing { words: BTreeMap::new(), found: Found::default() };
    for (name, path, meta) in entries_of(root)? {
        if !meta.is_some_and(|m| m.is_dir()) {
            continue;
        }
        if name == NOISE {
            let files = entries_of(&path)?.into_iter().map(|(file, ..)| file);
            listing.found.noise = files.filter(|f| file_kind(f) == FileKind::Clip).collect();
        } else if is_word(&name) {
            let clips = clips_of(&path, &mut listing.found.other_files)?;
            listing.words.insert(name, clips);
        }
    }
    listing.found.words = listing.words.keys().cloned().collect();
    listing.found.lists = lists_of(root)?;
    Ok(listing)
}

/// Name, path and (where it can be had) metadata of everything in a folder, sorted by name; links are followed.
fn entries_of(folder: &Path) -> Result<Vec<(Name, PathBuf, Option<std::fs::Metadata>)>, DataError> {
    let failed = |source| DataError::Io { path: folder.into(), source };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let meta = std::fs::metadata(&path).ok();
        entries.push((Name::from_os(&entry.file_name()), path, meta));
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(entries)
}

fn clips_of(folder: &Path, other_files: &mut u64) -> Result<Vec<Entry>, DataError> {
    let mut clips = Vec::new();
    for (file, path, meta) in entries_of(folder)? {
        // A file without metadata (a dangling link) stays in the list and becomes a problem with a name. What is no
        // regular file, a pipe for instance, is never opened: that could wait for ever.
        let regular = meta.as_ref().is_none_or(|m| m.is_file());
        match file_kind(&file) {
            FileKind::Clip if regular => {
                let (size, modified_ns) = meta.map_or((0, 0), |m| (m.len(), modified_ns(&m)));
                clips.push(Entry { file, path, size, modified_ns });
            }
            FileKind::Other if regular => *other_files += 1,
            _ => {}
        }
    }
    Ok(clips)
}

fn lists_of(root: &Path) -> Result<Option<Lists>, DataError> {
    let read = |name: &str| {
        let path = root.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DataError::Io { path, source }),
        }
    };
    let (validation, testing) = (read("validation_list.txt")?, read("testing_list.txt")?);
    Ok(validation.zip(testing).map(|(v, t)| Lists::parse(&v, &t)))
}

/// Decodes the wanted clips into `sink`, in name order.
pub(super) fn read(listing: &Listing, wanted: &Wanted<'_>, sink: Sink<'_>) -> Result<(), Stop> {
    let chosen = listing.words.iter().filter(|(word, _)| wanted.wants(word));
    let files: Vec<(&Name, &Entry)> = chosen.flat_map(|(word, files)| files.iter().map(move |f| (word, f))).collect();
    for (block, chunk) in files.chunks(BLOCK_CLIPS).enumerate() {
        wanted.report(Stage::Reading, (block * BLOCK_CLIPS) as u64, files.len() as u64)?;
        let outcomes = decode_block(chunk, wanted, |&(word, entry)| RawClip {
            name: clip_name(word, &entry.file),
            bytes: read_file(&entry.path, entry.size).map(Into::into),
        });
        for outcome in outcomes {
            sink(outcome)?;
        }
    }
    wanted.report(Stage::Reading, files.len() as u64, files.len() as u64)?;
    Ok(())
}
