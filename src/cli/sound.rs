//! The sound of `stapes listen` and `stapes record`: a file, standard input or a microphone.

use super::clip_files::{is_stdin, name};
use super::ending::usage;
use super::microphone::Microphone;
use crate::base::name::display_path;
use crate::data::SoundStream;
use anyhow::{Result, anyhow, bail};
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

/// The options that say where the sound comes from.
#[derive(Debug, clap::Args)]
#[group(id = "source")]
pub struct Args {
    /// Sound file (WAV, FLAC, Ogg Vorbis) of any length; - or nothing is standard input.
    #[arg(value_name = "FILE")]
    sound: Option<PathBuf>,
    /// Take the sound of a microphone: of this one, or of the system's default; an unknown name lists all. Needs a program that was built with the Cargo feature `mic`.
    #[arg(long, value_name = "DEVICE", require_equals = true, conflicts_with = "sound")]
    mic: Option<Option<String>>,
}

/// Sound that arrives piece by piece.
pub struct Source {
    name: String,
    kind: Kind,
}

enum Kind {
    Stream { stream: SoundStream, file: Option<PathBuf> },
    Microphone(Microphone),
}

impl Source {
    /// Opens the sound; `raw_hz` is the rate of samples without a header, and `command` what a user types to read standard input.
    pub fn open(args: &Args, raw_hz: u32, command: &str) -> Result<Source> {
        let instead = format!("arecord -f S16_LE -r 16000 -t raw | {command}");
        if let Some(wanted) = &args.mic {
            let microphone = Microphone::open(wanted.as_deref(), &instead)?;
            return Ok(Source { name: microphone.name().to_string(), kind: Kind::Microphone(microphone) });
        }
        let path = args.sound.as_deref().unwrap_or(Path::new("-"));
        let stdin = is_stdin(path);
        if stdin && std::io::stdin().is_terminal() {
            return Err(usage(format!(
                "there is no sound: standard input is a terminal; give a file or --mic, or pipe the sound of a microphone: {instead}"
            )));
        }
        let bytes: Box<dyn Read + Send + Sync> = match stdin {
            true => Box::new(std::io::stdin()),
            false if path.is_dir() => bail!("{} is a folder; give a sound file", display_path(path)),
            false => Box::new(
                File::open(path).map_err(|e| anyhow!("cannot read {}: {e}; check the path", display_path(path)))?,
            ),
        };
        let file = (!stdin).then(|| path.to_path_buf());
        let name = name(path);
        let stream = SoundStream::open(bytes, stdin.then_some(raw_hz))
            .map_err(|fault| anyhow!("{name}: {}", fault.in_command(file.as_deref())))?;
        Ok(Source { name, kind: Kind::Stream { stream, file } })
    }

    /// The source in a sentence.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a user is told when it begins: nothing can be seen of a microphone until a word is spoken.
    pub fn remark_at_start(&self) -> Option<String> {
        match &self.kind {
            Kind::Stream { .. } => None,
            Kind::Microphone(microphone) => Some(microphone.describe()),
        }
    }

    /// Samples per second.
    pub fn rate_hz(&self) -> u32 {
        match &self.kind {
            Kind::Stream { stream, .. } => stream.rate_hz(),
            Kind::Microphone(microphone) => microphone.rate_hz(),
        }
    }

    /// Seconds of sound that have been read.
    pub fn seconds(&self) -> f64 {
        let samples = match &self.kind {
            Kind::Stream { stream, .. } => stream.samples(),
            Kind::Microphone(microphone) => microphone.samples(),
        };
        samples as f64 / f64::from(self.rate_hz())
    }

    /// Appends what has arrived to `out`, as samples of one channel; waits if nothing has. Returns false at the end. Everything before an error has been returned.
    pub fn read(&mut self, out: &mut Vec<f32>) -> Result<bool> {
        match &mut self.kind {
            Kind::Stream { stream, file } => {
                stream.read(out).map_err(|fault| anyhow!("{}: {}", self.name, fault.in_command(file.as_deref())))
            }
            Kind::Microphone(microphone) => microphone.read(out).map(|()| true),
        }
    }

    /// A remark on sound that was left out, at the end.
    pub fn left_out(&self) -> Option<String> {
        match &self.kind {
            Kind::Microphone(microphone) => microphone.missing(),
            Kind::Stream { stream, .. } => match stream.left_over() {
                0 => None,
                1 => Some(format!("note: {} ends within a frame; its last byte is left out", self.name)),
                bytes => Some(format!("note: {} ends within a frame; its last {bytes} bytes are left out", self.name)),
            },
        }
    }
}
