//! Where recordings come from: a folder of word folders, a tar archive of one, or sound inside the program.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::{Name, name};

use super::clip::Format;
use super::crop::Crop;
use super::error::DataError;
use super::split::Split;

/// The folder of long noise recordings: known, and never a class.
pub(super) const NOISE: &str = "_background_noise_";

/// Where recordings come from.
#[derive(Clone, Debug)]
pub enum Source<'a> {
    /// A folder laid out as Google Speech Commands: one folder a word.
    Folder(PathBuf),
    /// A `.tar` or `.tar.gz` of such a folder, read as a stream and never unpacked.
    Archive(PathBuf),
    /// Sound inside the program.
    Embedded(Embedded<'a>),
}

/// Clips inside the program: one Ogg Vorbis stream a word and a table of where each clip lies in it.
#[derive(Clone, Copy, Debug)]
pub struct Embedded<'a> {
    /// Each word and its stream, an entire Ogg Vorbis file.
    pub words: &'a [(&'a str, &'a [u8])],
    /// Lines of five columns divided by tabs: word, clip name, split (`training`, `validation`, `testing`), first
    /// sample, number of samples; an optional first line names the columns.
    pub index: &'a str,
}

impl Source<'static> {
    /// The folder or archive at `path`.
    ///
    /// # Errors
    /// Nothing is there, it cannot be read, or it is a file but no tar archive.
    pub fn open(path: &Path) -> Result<Source<'static>, DataError> {
        let at_path = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => DataError::NotFound { path: path.into() },
            _ => DataError::Io { path: path.into(), source },
        };
        if std::fs::metadata(path).map_err(at_path)?.is_dir() {
            return Ok(Source::Folder(path.into()));
        }
        let mut head = Vec::new();
        File::open(path).and_then(|f| f.take(512).read_to_end(&mut head)).map_err(at_path)?;
        let is_archive = head.starts_with(&[0x1F, 0x8B]) || head.get(257..262) == Some(b"ustar");
        if is_archive { Ok(Source::Archive(path.into())) } else { Err(DataError::NotASource { path: path.into() }) }
    }
}

impl Source<'_> {
    /// The source in words: its path, or "the embedded set".
    pub fn describe(&self) -> String {
        match self {
            Source::Folder(path) | Source::Archive(path) => name::display_path(path),
            Source::Embedded(_) => "the embedded set".into(),
        }
    }

    /// What stays the same when the source's content changes: the name of its cache is made of it.
    pub(super) fn identity(&self) -> String {
        match self {
            Source::Folder(path) | Source::Archive(path) => {
                let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
                Name::from_os(path.as_os_str()).to_string()
            }
            Source::Embedded(_) => "embedded".into(),
        }
    }
}

/// A number that changes with the content of a file: the times, in nanoseconds since 1970, at which its content and (on
/// Unix) anything about it last changed. The second cannot be set by a program, so a file that was replaced by one of the
/// same size and modification time is noticed.
pub(super) fn modified_ns(meta: &std::fs::Metadata) -> u128 {
    let since = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    let modified = since.map_or(0, |d| d.as_nanos());
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let changed = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
        (modified << 64) ^ (changed as u128 & u128::from(u64::MAX))
    }
    #[cfg(not(unix))]
    modified
}

/// What a source holds beside the clips that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Found {
    /// All word folders, sorted.
    pub(super) words: Vec<Name>,
    /// The files of [`NOISE`], sorted.
    pub(super) noise: Vec<Name>,
    /// Files in word folders that are not called like sound.
    pub(super) other_files: u64,
    /// The official lists, if both are there; only the embedded set keeps the split beside the clip.
    pub(super) lists: Option<Lists>,
}

/// The official lists of clip names (`word/file`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Lists {
    pub(super) validation: HashSet<Name>,
    pub(super) testing: HashSet<Name>,
}

impl Lists {
    /// The lists from the texts of both files, one name a line.
    pub(super) fn parse(validation: &str, testing: &str) -> Lists {
        let names = |text: &str| text.lines().map(str::trim).filter(|l| !l.is_empty()).map(Name::from).collect();
        Lists { validation: names(validation), testing: names(testing) }
    }

    pub(super) fn split(&self, clip: &Name) -> Split {
        if self.validation.contains(clip) {
            Split::Validation
        } else if self.testing.contains(clip) {
            Split::Testing
        } else {
            Split::Training
        }
    }
}

/// The name of a clip: its word folder and its file.
pub(super) fn clip_name(word: &Name, file: &Name) -> Name {
    Name::from_bytes(&[word.as_bytes(), b"/", file.as_bytes()].concat())
}

/// The word folder in the name of a clip.
pub(super) fn word_of(clip: &Name) -> Name {
    let bytes = clip.as_bytes();
    Name::from_bytes(bytes.split(|&b| b == b'/').next().unwrap_or(bytes))
}

/// What a file below a word folder is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Clip,
    Hidden,
    Other,
}

/// Judges a file by its name alone; whether a clip is sound is seen when it is read.
pub(super) fn file_kind(file: &Name) -> FileKind {
    let file = file.as_bytes();
    let extension = file.iter().rposition(|&b| b == b'.').map_or(&[][..], |dot| &file[dot + 1..]);
    if file.starts_with(b".") {
        FileKind::Hidden
    } else if ["wav", "wave", "flac", "ogg", "oga"].iter().any(|e| extension.eq_ignore_ascii_case(e.as_bytes())) {
        FileKind::Clip
    } else {
        FileKind::Other
    }
}

/// Whether a folder of this name is a word: `_background_noise_` and hidden folders are not.
pub(super) fn is_word(folder: &Name) -> bool {
    !matches!(folder.as_bytes(), [b'_' | b'.', ..])
}

/// What a long read is doing, for a progress bar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Another process has locked the cache to decode the same clips, and this one waits for it.
    Waiting {
        /// The locked file.
        lock: PathBuf,
    },
    /// Clips are decoded; the unit is clips, or bytes of an archive.
    Reading,
    /// The cache is compared with its checksums; the unit is clips.
    Checking,
}

/// Called with the stage, how much of it is done and how much there is; `Break` stops with [`DataError::Interrupted`].
pub type Progress<'a> = &'a (dyn Fn(Stage, u64, u64) -> ControlFlow<()> + Sync);

/// What is asked of a source.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The words to read; all, if none are named.
    pub(super) words: Option<&'a [Name]>,
    pub(super) format: Format,
    /// Frames of a row.
    pub(super) length: usize,
    /// Which part of a longer clip is used.
    pub(super) crop: Crop,
    pub(super) progress: Progress<'a>,
}

impl Wanted<'_> {
    pub(super) fn wants(&self, word: &Name) -> bool {
        self.words.is_none_or(|words| words.contains(word))
    }

    /// Values of a row: every clip is cut or padded to it.
    pub(super) fn row_len(&self) -> usize {
        self.length * self.format.channels as usize
    }

    pub(super) fn report(&self, stage: Stage, done: u64, total: u64) -> Result<(), DataError> {
        match (self.progress)(stage, done, total) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(DataError::Interrupted),
        }
    }
}
