//! Where a data set comes from: a folder of word folders, a tar archive of one, a list of sound files, arrays, Parquet files, or sound inside the program.

use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::base::{Name, name};

use super::archive_stream::{self, FileFormat};
use super::arrays::{self, ArrayShape};
use super::clip::Format;
use super::crop::Crop;
use super::error::DataError;
use super::npy;

/// The folder of long recordings of noise, which is not a class.
pub(super) const NOISE: &str = "_background_noise_";

/// Where a data set comes from.
#[derive(Clone, Debug)]
pub enum Source<'a> {
    /// A folder laid out as Google Speech Commands: one folder a word.
    Folder(PathBuf),
    /// A `.tar` or `.tar.gz` of such a folder, read as a stream and never unpacked.
    Archive(PathBuf),
    /// A CSV file that lists sound files: the columns `path` and `label`, and if they are given `speaker` and `split`.
    Manifest(PathBuf),
    /// An `.npz` file of NumPy: the arrays `x` `[n, length, channels]` and `y` `[n]`, and if they are given `classes`, `group`, `split` and `rate`.
    Arrays(PathBuf),
    /// A `.parquet` file, or a folder of such files, with the bytes of a sound file in each row: the columns `audio` (a struct of `bytes` and `path`)
    /// and `label`, and if they are given `speaker_id` and `split`. Read with the feature `parquet`.
    Parquet(PathBuf),
    /// Sound inside the program.
    Embedded(Embedded<'a>),
}

/// Clips inside the program: one Ogg Vorbis stream a word and a table of where each clip lies in it.
#[derive(Clone, Copy, Debug)]
pub struct Embedded<'a> {
    /// Each word and its stream, an entire Ogg Vorbis file.
    pub words: &'a [(&'a str, &'a [u8])],
    /// Lines of four columns divided by tabs: word, clip name, split (`training`, `validation`, `testing`), number of samples; an optional first line names
    /// the columns. The clips of a word follow one another in its stream, in the order of the lines.
    pub index: &'a str,
}

impl Source<'static> {
    /// The folder, the archive, the list, the arrays or the Parquet files at `path`. The content of a file decides what it is, except for a list, whose
    /// name ends in `.csv`. A folder is one of Parquet files if it has some and no word folders.
    ///
    /// # Errors
    /// Nothing is there, it cannot be read, it is nothing of that kind, or it is data in Parquet and this is a build without it.
    pub fn open(path: &Path) -> Result<Source<'static>, DataError> {
        let at_path = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => DataError::NotFound { path: path.into() },
            _ => DataError::Io { path: path.into(), source },
        };
        let meta = std::fs::metadata(path).map_err(at_path)?;
        if meta.is_dir() {
            return match parquet_files_in(path).is_ok_and(|files| !files.is_empty()) {
                true => parquet(path),
                false => Ok(Source::Folder(path.into())),
            };
        }
        if !meta.is_file() {
            return Err(DataError::SpecialFile { path: path.into() }); // opening a pipe could wait for ever
        }
        let mut head = Vec::new();
        File::open(path).and_then(|f| f.take(512).read_to_end(&mut head)).map_err(at_path)?;
        if head.starts_with(npy::MAGIC) || arrays::is_npz(&head) || ends_with(path, "npz") {
            return Ok(Source::Arrays(path.into()));
        }
        if head.starts_with(b"PAR1") || head.starts_with(b"PARE") || ends_with(path, "parquet") {
            return parquet(path);
        }
        if ends_with(path, "csv") {
            return Ok(Source::Manifest(path.into()));
        }
        match archive_stream::format_of(&head) {
            FileFormat::Archive => Ok(Source::Archive(path.into())),
            FileFormat::Other(format, command) => {
                let command = command.replace("{}", &shell_word(path));
                Err(DataError::OtherFormat { path: path.into(), format, command })
            }
            FileFormat::Unknown => Err(DataError::NotASource { path: path.into() }),
        }
    }
}

impl Source<'_> {
    /// The source in words: its path, or "the embedded set".
    pub fn describe(&self) -> String {
        match self {
            Source::Folder(path)
            | Source::Archive(path)
            | Source::Manifest(path)
            | Source::Arrays(path)
            | Source::Parquet(path) => name::display_path(path),
            Source::Embedded(_) => "the embedded set".into(),
        }
    }

    /// The number and shape of the clips of arrays, for a network that is to take them; nothing for sound, which is converted to the format of a
    /// network.
    ///
    /// # Errors
    /// The file cannot be read, or its arrays are not those of a data set.
    pub fn array_shape(&self) -> Result<Option<ArrayShape>, DataError> {
        match self {
            Source::Arrays(path) => Ok(Some(arrays::survey(path)?.shape)),
            _ => Ok(None),
        }
    }

    /// The source without what is inside the program.
    pub(super) fn on_disk(&self) -> Option<Source<'static>> {
        match self {
            Source::Folder(path) => Some(Source::Folder(path.clone())),
            Source::Archive(path) => Some(Source::Archive(path.clone())),
            Source::Manifest(path) => Some(Source::Manifest(path.clone())),
            Source::Arrays(path) => Some(Source::Arrays(path.clone())),
            Source::Parquet(path) => Some(Source::Parquet(path.clone())),
            Source::Embedded(_) => None,
        }
    }

    /// What stays the same when the source's content changes: the name of its cache is made of it.
    pub(super) fn identity(&self) -> String {
        match self {
            Source::Folder(path)
            | Source::Archive(path)
            | Source::Manifest(path)
            | Source::Arrays(path)
            | Source::Parquet(path) => {
                let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
                Name::from_os(path.as_os_str()).to_string()
            }
            Source::Embedded(_) => "embedded".into(),
        }
    }
}

/// Data in Parquet, if this build reads it.
fn parquet(path: &Path) -> Result<Source<'static>, DataError> {
    match cfg!(feature = "parquet") {
        true => Ok(Source::Parquet(path.into())),
        false => Err(DataError::WithoutParquet { path: path.into() }),
    }
}

/// The Parquet files directly in a folder, sorted by name; none if it has word folders.
pub(super) fn parquet_files_in(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let failed = |source| DataError::Io { path: folder.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().map(Name::from_os).unwrap_or_default();
        if ends_with(&path, "parquet") && !name.as_bytes().starts_with(b".") && path.is_file() {
            files.push(path);
        } else if is_word(&name) && path.is_dir() {
            return Ok(Vec::new());
        }
    }
    files.sort();
    Ok(files)
}

/// Whether the name of a file has this extension.
fn ends_with(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case(extension))
}

/// A path as a word of a shell command.
pub(super) fn shell_word(path: &Path) -> String {
    let text = name::display_path(path);
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:,@%".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
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

/// The name of a clip: its word folder and its file.
pub(super) fn clip_name(word: &Name, file: &Name) -> Name {
    Name::from_bytes(&[word.as_bytes(), b"/", file.as_bytes()].concat())
}

/// The word folder in the name of a clip.
pub(super) fn word_of(clip: &Name) -> Name {
    let bytes = clip.as_bytes();
    Name::from_bytes(bytes.split(|&b| b == b'/').next().unwrap_or(bytes))
}

/// What the name of a file says of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    /// Called like a format that is read.
    Clip,
    /// Called like audio in another format.
    OtherAudio,
    Hidden,
    Other,
}

/// Whether the name of a file says that it is sound in a format that is read: WAV, FLAC or Ogg Vorbis.
pub fn is_sound_file(path: &Path) -> bool {
    path.file_name().is_some_and(|file| file_kind(&Name::from_os(file)) == FileKind::Clip)
}

/// Extensions of the formats that are read.
const CLIPS: [&str; 5] = ["wav", "wave", "flac", "ogg", "oga"];
/// Extensions of other formats of audio, all of which FFmpeg converts.
const OTHER_AUDIO: [&str; 30] = [
    "mp3", "m4a", "m4b", "aac", "opus", "wma", "aif", "aiff", "aifc", "amr", "3gp", "webm", "weba", "mp4", "mov",
    "mka", "mkv", "caf", "au", "snd", "ac3", "w64", "rf64", "ape", "wv", "mpc", "tta", "mp2", "spx", "sph",
];

/// Sorts a file by its name; whether a clip can be read is seen later.
pub(super) fn file_kind(file: &Name) -> FileKind {
    let file = file.as_bytes();
    let extension = file.iter().rposition(|&b| b == b'.').map_or(&[][..], |dot| &file[dot + 1..]);
    let is_one_of = |list: &[&str]| list.iter().any(|e| extension.eq_ignore_ascii_case(e.as_bytes()));
    if file.starts_with(b".") {
        FileKind::Hidden
    } else if is_one_of(&CLIPS) {
        FileKind::Clip
    } else if is_one_of(&OTHER_AUDIO) {
        FileKind::OtherAudio
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
    /// How many times the length of a row is kept of a longer clip.
    pub(super) windows: usize,
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
