//! Errors of one clip ([`ClipFault`], [`ClipError`]; `advice.rs` has their sentences) and of a data set ([`DataError`]).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::base::Name;
use crate::base::name::display_path;

use super::augment::no_noise_text;
use super::extra::{ExtraError, SILENCE, UNKNOWN};
use super::grouping::Grouping;
use super::split::Split;

/// Why one clip cannot be used. Its text continues the sentence "`clip`: .." and advises for a clip of a data set;
/// [`ClipFault::in_command`] advises for a file that a command line names.
#[derive(Clone, Debug, PartialEq, Error, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ClipFault {
    /// The operating system refused to read the file. Nothing is known about its content, so the fault is never cached.
    Unreadable {
        /// The message of the operating system.
        reason: String,
    },
    /// The file has no bytes.
    EmptyFile,
    /// An audio format that is not read.
    OtherAudio {
        /// The name of the format.
        format: String,
        /// The usual extension of its files.
        extension: String,
    },
    /// The first bytes are not those of an audio file.
    NotAudio {
        /// What the first bytes look like.
        looks_like: String,
    },
    /// The WAV header contradicts itself or lacks a part.
    BadHeader {
        /// The first contradiction.
        reason: String,
    },
    /// A format that is read, with a codec that is not.
    UnsupportedCodec {
        /// The name of the codec as far as it is known.
        codec: String,
    },
    /// A valid header and not one sample.
    NoSamples,
    /// The data end before the length that the header states.
    Truncated {
        /// Samples per channel in the file.
        have: u64,
        /// Samples per channel that the header states.
        promised: u64,
    },
    /// A compressed file of which only a part can be decoded.
    Incomplete {
        /// Samples per channel that could be decoded.
        have: u64,
        /// Samples per channel that its header states.
        promised: u64,
    },
    /// An Ogg file whose last page is missing.
    CutStream,
    /// A floating-point file that contains NaN or infinity.
    NonFinite {
        /// Index of the first such value, channels interleaved.
        at: u64,
    },
    /// Another number of channels than the network's.
    Channels {
        /// Channels of the clip.
        have: u32,
        /// Channels that the network takes.
        want: u32,
    },
    /// A sample rate that is too high to be reduced to that of the network.
    TooFast {
        /// The rate in the header.
        rate_hz: u32,
        /// The rate that the network takes.
        want_hz: u32,
    },
    /// A sample rate outside of the accepted range.
    Rate {
        /// The rate in the header.
        rate_hz: u32,
    },
    /// More samples than a clip may have.
    TooLong {
        /// The limit, all channels counted.
        limit: u64,
    },
    /// A file larger than a clip may be.
    FileTooLarge {
        /// The limit.
        limit_mib: u64,
    },
    /// A compressed stream that fails its own checks.
    Damaged {
        /// The message of the decoder.
        reason: String,
    },
    /// Another clip of the same class has the same file name.
    Repeated,
    /// A row of a Parquet file in which the sound is null.
    MissingBytes,
}

/// A clip of a data set that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Error, Serialize, Deserialize)]
pub struct ClipError {
    /// The clip: `word/file` in a data set, else the name that the caller gave.
    pub name: Name,
    /// What is wrong with it.
    pub fault: ClipFault,
}

/// Why a data set cannot be used.
#[derive(Debug, Error)]
pub enum DataError {
    /// The path does not exist.
    #[error("{} does not exist; give a folder of word folders or a .tar.gz of one, a .csv list of sound files, an .npz file, or .parquet files", display_path(.path))]
    NotFound {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// A file or folder of the source cannot be read.
    #[error("cannot read {}: {source}; check the path and its permissions", display_path(.path))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The message of the operating system.
        source: std::io::Error,
    },
    /// A file that is not an archive.
    #[error("{} is neither a folder nor a tar archive (.tar or .tar.gz), .csv list, .npz or .parquet file; give one of these", display_path(.path))]
    NotASource {
        /// The file.
        path: PathBuf,
    },
    /// A named pipe, a socket or a device.
    #[error("{} is a pipe, a socket or a device; give a folder or a tar archive (.tar or .tar.gz)", display_path(.path))]
    SpecialFile {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// A file of arrays that cannot be used as a data set.
    #[error("{} {reason}", display_path(.path))]
    BadArrays {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do; continues a sentence that begins with the file.
        reason: String,
    },
    /// A Parquet file that cannot be used as a data set.
    #[error("{} {reason}", display_path(.path))]
    BadParquet {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do; continues a sentence that begins with the file.
        reason: String,
    },
    /// A Parquet file, or a folder of such files, and a build without the feature `parquet`.
    #[error("{} is data in Parquet, which this program was built without; build it with `cargo install --locked --path . --features parquet`", display_path(.path))]
    WithoutParquet {
        /// The file or folder.
        path: PathBuf,
    },
    /// A list of sound files that cannot be used as a data set.
    #[error("{}, line {line}: {reason}", display_path(.path))]
    BadManifest {
        /// The CSV file.
        path: PathBuf,
        /// Line number from 1.
        line: usize,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The splits of the data set itself were asked for and it gives none.
    #[error("{data} gives no splits; use --split speaker or --split random instead")]
    NoSplits {
        /// The source.
        data: String,
    },
    /// Augmentation for sound was asked for and the data set is one of arrays.
    #[error("`{name}` alters sound, and {data} is a data set of arrays; set {name}=0")]
    AugmentsSound {
        /// The setting.
        name: &'static str,
        /// The source.
        data: String,
    },
    /// An archive or a compressed file of another format than `.tar` and `.tar.gz`.
    #[error("{} is {format}, which is not read; run `{command}` and give what it writes", display_path(.path))]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// What it is: "a zip archive", "compressed with xz".
        format: &'static str,
        /// The command that unpacks or converts it.
        command: String,
    },
    /// A gzip file whose content is not a tar archive.
    #[error("{} contains no tar archive; give a folder of word folders, or a .tar or .tar.gz of one", display_path(.path))]
    NotTar {
        /// The file.
        path: PathBuf,
    },
    /// An archive that ends too early or contradicts itself.
    #[error("the archive {} is damaged ({reason}); download it again", display_path(.path))]
    BadArchive {
        /// The archive.
        path: PathBuf,
        /// Where it breaks.
        reason: String,
    },
    /// An archive that needs more memory or time than a data set does.
    #[error("the archive {} is not read on because {reason}; unpack it and give the folder", display_path(.path))]
    ArchiveLimit {
        /// The archive.
        path: PathBuf,
        /// Which limit it goes beyond.
        reason: String,
    },
    /// The index of an embedded set contradicts its sound.
    #[error("line {line} of the embedded index is wrong ({reason}); make the fixture again")]
    BadIndex {
        /// Line number from 1.
        line: usize,
        /// What is wrong in it.
        reason: String,
    },
    /// A source without a word folder.
    #[error("{data} contains no word folders; {advice}")]
    NoWords {
        /// The source.
        data: String,
        /// What to do about it.
        advice: String,
    },
    /// A source whose word folders lie in a folder within it.
    #[error("the word folders of {data} lie {} down: {}", levels_text(*.levels), deeper_text(.folder, *.unpack))]
    Deeper {
        /// The source.
        data: String,
        /// How many folders lie between.
        levels: usize,
        /// The folder to give instead.
        folder: String,
        /// Whether an archive has to be unpacked for it.
        unpack: bool,
    },
    /// A class that is no word folder of the source.
    #[error("{data} has no word `{name}`{}; see its words with `stapes data`, then correct --classes or --data", nearest_text(.name, .nearest))]
    UnknownClass {
        /// The source.
        data: String,
        /// The name that was asked for.
        name: Name,
        /// The word spelt most like it, if most of the names that were asked for are words.
        nearest: Option<Name>,
    },
    /// Several classes, none of which is a word folder of the source: it is probably the wrong folder.
    #[error("{data} has none of the words {}; its own are {}; give the data that has them", names_text(.classes), names_text(.words))]
    NoKnownWord {
        /// The source.
        data: String,
        /// The classes.
        classes: Vec<Name>,
        /// The words of the source.
        words: Vec<Name>,
    },
    /// A source without a clip that can be used.
    #[error("{data} has no clip that can be used{}; add recordings", first_text(.first))]
    NoClips {
        /// The source.
        data: String,
        /// The first broken clip, if there is any.
        first: Option<Box<ClipError>>,
    },
    /// A class that is listed twice.
    #[error("the class `{name}` is listed twice; name each class once in --classes")]
    RepeatedClass {
        /// The class.
        name: Name,
    },
    /// A class without a clip that can be used.
    #[error("the class `{name}` of {data} has no clip that can be used{}; {advice}, or leave it out with --classes", first_text(.first))]
    EmptyClass {
        /// The source.
        data: String,
        /// The class.
        name: Name,
        /// The first broken clip of the class, if it has any.
        first: Option<Box<ClipError>>,
        /// What to do about it.
        advice: String,
    },
    /// `strict` was asked for and some clips cannot be used.
    #[error("{} cannot be used, the first is {first} (run without --strict to skip such clips)", clips_text(.count))]
    Strict {
        /// How many clips.
        count: usize,
        /// The first of them in name order.
        first: ClipError,
    },
    /// The official split was asked for and the source has no lists.
    #[error("{data} has no {missing} that can be read; use --split speaker or --split random instead")]
    NoLists {
        /// The source.
        data: String,
        /// The lists that are missing.
        missing: String,
    },
    /// A split without clips.
    #[error("there are no {split} clips; use --split random or add {}", .grouping.more())]
    EmptySplit {
        /// The split.
        split: Split,
        /// What is never divided between splits.
        grouping: Grouping,
    },
    /// An input length, rate, channel count or batch size that cannot be.
    #[error("the {what} of {value} cannot be; it must lie between {min} and {max}")]
    BadSetting {
        /// What was set.
        what: &'static str,
        /// To which value.
        value: u64,
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
    },
    /// A setting of the augmentation that cannot be.
    #[error("the augmentation setting `{name}` is {value}; it must lie between {min} and {max}")]
    BadAugment {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: f64,
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// Mixup was asked for and the labels are class numbers, which cannot be mixed.
    #[error("mixup needs labels that are probabilities of classes; set `soft_labels` of the batches, or `mixup` to 0")]
    MixupLabels,
    /// Fewer classes in the labels than in the data set.
    #[error("the labels have {have} classes and the data set has {want}; set `soft_labels` of the batches to {want}")]
    FewClasses {
        /// Classes of the labels.
        have: usize,
        /// Classes of the data set.
        want: usize,
    },
    /// The classes of other words and of silence cannot be made.
    #[error(transparent)]
    Extra(#[from] ExtraError),
    /// A folder without a recording of noise that can be used.
    #[error("{}; give a folder with WAV, FLAC or Ogg Vorbis files directly in it", no_noise_text(.path, .first.as_deref()))]
    NoNoise {
        /// The folder.
        path: PathBuf,
        /// The first broken recording, if it has any.
        first: Option<Box<ClipError>>,
    },
    /// The decoded clips do not fit into memory.
    #[error(
        "the decoded clips do not fit into memory ({source}); name fewer --classes or set STAPES_CACHE to a folder with space"
    )]
    Memory {
        /// The message of the system.
        source: std::io::Error,
    },
    /// The thread that prepares batches could not be started.
    #[error("cannot start the thread that prepares batches ({source}); close other programs and try again")]
    Thread {
        /// The message of the operating system.
        source: std::io::Error,
    },
    /// The progress callback asked to stop.
    #[error("reading the clips was interrupted; run the command again")]
    Interrupted,
}

fn levels_text(levels: usize) -> String {
    if levels == 1 { "one level".into() } else { format!("{levels} levels") }
}

fn deeper_text(folder: &str, unpack: bool) -> String {
    match unpack {
        true => format!("unpack the archive and give its folder {folder}"),
        false => format!("give {folder}"),
    }
}

fn nearest_text(name: &Name, nearest: &Option<Name>) -> String {
    for (class, option) in [(UNKNOWN, "--unknown"), (SILENCE, "--silence")] {
        if *name == *class {
            return format!(" (the class `{class}` is added by {option})");
        }
    }
    if name.as_bytes().starts_with(b"_") {
        return " (a folder whose name begins with `_` is not a class; rename it to use it)".into();
    }
    nearest.as_ref().map_or(String::new(), |n| format!(", did you mean `{n}`"))
}

fn first_text(first: &Option<Box<ClipError>>) -> String {
    first.as_ref().map_or(String::new(), |e| format!(" ({e})"))
}

/// The first few of some names, each between grave accents.
fn names_text(names: &[Name]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    shown.join(", ") + if names.len() > SHOWN { ", .." } else { "" }
}

fn clips_text(count: &usize) -> String {
    if *count == 1 { "1 clip".into() } else { format!("{count} clips") }
}
