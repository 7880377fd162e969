//! A folder of word folders: its files, and its clips decoded block by block on all threads.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::base::Name;
use crate::base::sha1::Sha1;

use super::error::DataError;
use super::layout::{self, Kind, Layout, Tree};
use super::prepare::{BLOCK_CLIPS, RawClip, Sink, Stop, decode_block, read_file};
use super::source::{Stage, Wanted, clip_name, modified_ns};

/// One file of a folder.
pub(super) struct Entry {
    path: PathBuf,
    size: u64,
    modified_ns: u128,
}

/// All files of a folder that matter.
pub(super) type Listing = Layout<Entry>;

impl Listing {
    pub(super) fn hash(&self, hash: &mut Sha1) {
        for (word, entries) in &self.words {
            hash.update(format!("{word}/\n"));
            for (file, e) in entries {
                hash.update(format!("{file}\t{}\t{}\n", e.size, e.modified_ns));
            }
        }
        hash.update(format!("{:?}", self.found));
    }
}

/// The files of the folder at `root`.
pub(super) fn list(root: &Path) -> Result<Listing, DataError> {
    layout::examine(&Disk, root.to_path_buf(), false)
}

/// Folders on a disk; links are followed.
struct Disk;

impl Tree for Disk {
    type At = PathBuf;
    type File = Entry;

    fn entries(&self, folder: &PathBuf) -> Result<Vec<(Name, Kind<PathBuf, Entry>)>, DataError> {
        let failed = |source| DataError::Io { path: folder.into(), source };
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let linked = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let kind = match std::fs::metadata(&path) {
                Ok(meta) if meta.is_dir() => Kind::Folder { at: path, linked },
                Ok(meta) if meta.is_file() => {
                    Kind::File(Entry { path, size: meta.len(), modified_ns: modified_ns(&meta) })
                }
                Ok(_) => Kind::Special,
                Err(e) if linked && e.kind() != std::io::ErrorKind::PermissionDenied => Kind::Broken,
                Err(_) => Kind::File(Entry { path, size: 0, modified_ns: 0 }), // reading it tells why
            };
            entries.push((Name::from_os(&entry.file_name()), kind));
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    }

    fn head(&self, file: &Entry, limit: u64) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(&file.path)?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Decodes the wanted clips into `sink`, in name order.
pub(super) fn read(listing: &Listing, wanted: &Wanted<'_>, sink: Sink<'_>) -> Result<(), Stop> {
    let chosen = listing.words.iter().filter(|(word, _)| wanted.wants(word));
    let files: Vec<(&Name, &Name, &Entry)> =
        chosen.flat_map(|(word, files)| files.iter().map(move |(file, entry)| (word, file, entry))).collect();
    for (block, chunk) in files.chunks(BLOCK_CLIPS).enumerate() {
        wanted.report(Stage::Reading, (block * BLOCK_CLIPS) as u64, files.len() as u64)?;
        let outcomes = decode_block(chunk, wanted, |&(word, file, entry)| RawClip {
            name: clip_name(word, file),
            bytes: read_file(&entry.path, entry.size).map(Into::into),
        });
        for outcome in outcomes {
            sink(outcome)?;
        }
    }
    wanted.report(Stage::Reading, files.len() as u64, files.len() as u64)?;
    Ok(())
}
