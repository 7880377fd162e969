//! Surveys a source of any kind, and reads its clips.

use crate::base::sha1::Sha1;

use super::archive::Names;
use super::arrays::{self, Arrays};
use super::error::DataError;
use super::layout::Found;
use super::manifest::{self, Manifest};
use super::parquet_files::ParquetSet;
use super::prepare::{Sink, Stop};
use super::source::{Source, Wanted, modified_ns};
use super::table::Table;
use super::{archive, embedded, folder, parquet_files};

/// The state of a source: when its hash changes, a cache of it is out of date.
pub(super) struct Survey {
    /// The files, where listing them costs little.
    pub(super) folder: Option<folder::Listing>,
    /// The list of sound files.
    manifest: Option<Manifest>,
    /// The arrays, without the samples.
    pub(super) arrays: Option<Arrays>,
    /// The rows of Parquet files, without the sound.
    parquet: Option<ParquetSet>,
    /// A hash of names, sizes and times of change (of the content where it is in memory).
    pub(super) inputs: [u8; 20],
}

impl Survey {
    /// The state of a list of sound files, which is in no cache.
    pub(super) fn of_files(files: Manifest) -> Survey {
        Survey { folder: None, manifest: Some(files), arrays: None, parquet: None, inputs: Default::default() }
    }

    /// What the source says of its clips, if it is no collection of word folders.
    pub(super) fn table(&self) -> Option<&Table> {
        let manifest = self.manifest.as_ref().map(|manifest| &manifest.table);
        let arrays = || self.arrays.as_ref().map(|arrays| &arrays.table);
        manifest.or_else(arrays).or_else(|| self.parquet.as_ref().map(ParquetSet::table))
    }
}

/// What is known of a source before its clips are read.
pub(super) fn survey(source: &Source<'_>) -> Result<Survey, DataError> {
    let mut hash = Sha1::new();
    let (mut folder, mut manifest, mut arrays, mut parquet) = (None, None, None, None);
    match source {
        Source::Folder(path) => {
            let listing = folder::list(path)?;
            listing.hash(&mut hash);
            folder = Some(listing);
        }
        Source::Archive(path) => {
            let meta = std::fs::metadata(path).map_err(|source| DataError::Io { path: path.clone(), source })?;
            hash.update(meta.len().to_le_bytes());
            hash.update(modified_ns(&meta).to_le_bytes());
        }
        Source::Manifest(path) => {
            let list = manifest::survey(path)?;
            list.hash(&mut hash);
            manifest = Some(list);
        }
        Source::Arrays(path) => arrays = Some(arrays::survey(path)?),
        Source::Parquet(path) => {
            let set = parquet_files::survey(path)?;
            set.hash(&mut hash);
            parquet = Some(set);
        }
        Source::Embedded(embedded) => {
            hash.update(embedded.index);
            for (word, ogg) in embedded.words {
                hash.update((word.len() as u64).to_le_bytes());
                hash.update(word);
                hash.update(ogg);
            }
        }
    }
    Ok(Survey { folder, manifest, arrays, parquet, inputs: hash.finalize() })
}

/// Reads the wanted clips of `source` into `sink` in any order. The clips of an archive get provisional names, and the
/// names that belong to them are returned.
pub(super) fn read(
    source: &Source<'_>,
    survey: &Survey,
    wanted: &Wanted<'_>,
    sink: Sink<'_>,
) -> Result<(Found, Option<Names>), Stop> {
    if let Some(manifest) = &survey.manifest {
        return manifest::read(manifest, wanted, sink).map(|()| (manifest.table.found(), None));
    }
    if let Some(set) = &survey.parquet {
        return parquet_files::read(set, wanted, sink).map(|()| (set.table().found(), None));
    }
    match (source, &survey.folder) {
        (Source::Folder(_), Some(listing)) => {
            folder::read(listing, wanted, sink).map(|()| (listing.found.clone(), None))
        }
        (Source::Folder(path), None) => {
            let listing = folder::list(path)?;
            folder::read(&listing, wanted, sink).map(|()| (listing.found, None))
        }
        (Source::Archive(path), _) => archive::read(path, wanted, sink).map(|(found, names)| (found, Some(names))),
        // Surveyed above, or read without this function.
        (Source::Manifest(_) | Source::Arrays(_) | Source::Parquet(_), _) => Ok((Found::default(), None)),
        (Source::Embedded(embedded), _) => embedded::read(embedded, wanted, sink).map(|found| (found, None)),
    }
}
