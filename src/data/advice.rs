//! The sentence about a clip that cannot be used: what is wrong with it, and what to do where it was met.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::{ClipError, ClipFault};
use super::source::shell_word;

/// What can be done with a useless clip of a data set: the next run finds it again unless it is deleted.
const IN_A_DATA_SET: &str = "delete it";
/// What can be done with a useless file that a command line names.
const IN_A_COMMAND: &str = "leave it out";

impl fmt::Display for ClipFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence(None, IN_A_DATA_SET))
    }
}

impl fmt::Display for ClipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.fault.sentence(Some(&self.name.to_path()), IN_A_DATA_SET))
    }
}

impl ClipFault {
    /// What is wrong with a file that a command line names, and what to do; `file` is its path, if it has one. The command
    /// that converts the file contains its path, and the file is left out rather than deleted.
    pub fn in_command(&self, file: Option<&Path>) -> String {
        self.sentence(file, IN_A_COMMAND)
    }

    /// `CAUSE; REMEDY`, or `CAUSE; REMEDY or DISCARD` for a file that may be of no use at all.
    fn sentence(&self, file: Option<&Path>, discard: &str) -> String {
        let remedy = match self {
            ClipFault::Unreadable { .. } => "check the file and its permissions".into(),
            ClipFault::EmptyFile | ClipFault::NoSamples => format!("record it again or {discard}"),
            ClipFault::OtherAudio { extension, .. } => format!("convert it: {}", conversion(file, extension)),
            ClipFault::NotAudio { .. } => format!("replace it with a recording or {discard}"),
            ClipFault::BadHeader { .. } => format!("convert it again from the original or {discard}"),
            ClipFault::UnsupportedCodec { .. } => format!("convert it: {}", conversion(file, "wav")),
            ClipFault::Truncated { .. }
            | ClipFault::Incomplete { .. }
            | ClipFault::CutStream
            | ClipFault::Damaged { .. } => format!("copy it again or {discard}"),
            ClipFault::NonFinite { .. } => format!("export it again with finite values or {discard}"),
            ClipFault::Channels { have, .. } => format!("convert it or use a network for {have} channels"),
            ClipFault::TooFast { .. } => "convert it to a lower rate or use a network for a higher one".into(),
            ClipFault::Rate { .. } => format!("correct its header or {discard}"),
            ClipFault::TooLong { .. } | ClipFault::FileTooLarge { .. } => "cut it into shorter clips".into(),
            ClipFault::Repeated => "rename one of them".into(),
            ClipFault::MissingBytes => format!("write the file again with it or {discard}"),
        };
        format!("{}; {remedy}", self.cause())
    }

    /// What is wrong.
    fn cause(&self) -> String {
        match self {
            ClipFault::Unreadable { reason } => format!("it cannot be read ({reason})"),
            ClipFault::EmptyFile => "it is an empty file".into(),
            ClipFault::OtherAudio { format, .. } => format!("it is {format}"),
            ClipFault::NotAudio { looks_like } => format!("it is {looks_like}, not WAV, FLAC or Ogg Vorbis"),
            ClipFault::BadHeader { reason } => format!("its WAV header is invalid ({reason})"),
            ClipFault::UnsupportedCodec { codec } => format!("its codec, {codec}, is not supported"),
            ClipFault::NoSamples => "it contains no samples".into(),
            ClipFault::Truncated { have, promised } => format!(
                "it is truncated: its header states {promised} samples per channel and the file contains {have}"
            ),
            ClipFault::Incomplete { have, promised } => {
                format!("it is truncated or damaged: {have} of {promised} samples per channel can be decoded")
            }
            ClipFault::CutStream => "it is truncated or damaged: its stream has no last page".into(),
            ClipFault::NonFinite { at } => format!("its value number {at} is NaN or infinite"),
            ClipFault::Channels { have, want } => {
                let s = if *have == 1 { "" } else { "s" };
                format!("it has {have} channel{s} and the network takes {want}")
            }
            ClipFault::TooFast { rate_hz, want_hz } => {
                format!("its sample rate of {rate_hz} Hz cannot be reduced to the {want_hz} Hz of the network")
            }
            ClipFault::Rate { rate_hz } => format!("its sample rate of {rate_hz} Hz is outside 1000 to 768000 Hz"),
            ClipFault::TooLong { limit } => format!("it is longer than {limit} samples"),
            ClipFault::FileTooLarge { limit_mib } => format!("its file is larger than {limit_mib} MiB"),
            ClipFault::Damaged { reason } => format!("its compressed data are damaged ({reason})"),
            ClipFault::Repeated => "the data set contains another clip of this name".into(),
            ClipFault::MissingBytes => "its row has no sound: `audio.bytes` is null".into(),
        }
    }
}

/// The command that converts `file`, or a file whose name is not known, to a format that is read: WAV, or FLAC where the name
/// would be the same.
fn conversion(file: Option<&Path>, extension: &str) -> String {
    let from = file.map_or_else(|| PathBuf::from(format!("x.{extension}")), Path::to_path_buf);
    let is_wav = from.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("wav"));
    let to = from.with_extension(if is_wav { "flac" } else { "wav" });
    format!("ffmpeg -i {} {}", shell_word(&from), shell_word(&to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other_audio() -> ClipFault {
        ClipFault::OtherAudio { format: "MP3".into(), extension: "mp3".into() }
    }

    #[test]
    fn the_command_that_converts_a_file_contains_its_name_and_never_writes_to_it() {
        assert_eq!(other_audio().to_string(), "it is MP3; convert it: ffmpeg -i x.mp3 x.wav");
        for (name, command) in [
            ("bed/a.ogg", "ffmpeg -i bed/a.ogg bed/a.wav"),
            ("bed/a.WAV", "ffmpeg -i bed/a.WAV bed/a.flac"),
            ("my bed/it's.flac", r"ffmpeg -i 'my bed/it'\''s.flac' 'my bed/it'\''s.wav'"),
        ] {
            let error = ClipError { name: name.into(), fault: other_audio() };
            assert_eq!(error.to_string(), format!("{name}: it is MP3; convert it: {command}"));
        }
        let codec = ClipFault::UnsupportedCodec { codec: "GSM 6.10".into() };
        let text = "its codec, GSM 6.10, is not supported; convert it: ffmpeg -i a.wav a.flac";
        assert_eq!(codec.in_command(Some(Path::new("a.wav"))), text);
    }

    #[test]
    fn a_command_leaves_a_file_out_and_deletes_nothing() {
        let fault = ClipFault::NotAudio { looks_like: "a text file".into() };
        let cause = "it is a text file, not WAV, FLAC or Ogg Vorbis; replace it with a recording or";
        assert_eq!(fault.to_string(), format!("{cause} delete it"));
        assert_eq!(fault.in_command(Some(Path::new("m1.toml"))), format!("{cause} leave it out"));
        let of = [
            ClipFault::EmptyFile,
            ClipFault::NoSamples,
            ClipFault::BadHeader { reason: "it is short".into() },
            ClipFault::Truncated { have: 1, promised: 2 },
            ClipFault::CutStream,
            ClipFault::NonFinite { at: 3 },
            ClipFault::Rate { rate_hz: 1 },
            ClipFault::Damaged { reason: "bad checksum".into() },
        ];
        for fault in of {
            assert!(fault.to_string().ends_with(" or delete it"), "{fault}");
            assert!(fault.in_command(None).ends_with(" or leave it out"), "{fault}");
        }
    }
}
