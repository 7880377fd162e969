//! The sound of `stapes listen` and `stapes record`: a file or standard input.

use super::clip_files::{is_stdin, name};
use super::ending::usage;
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
}

/// Sound that arrives piece by piece.
pub struct Source {
    name: String,
    stream: SoundStream,
    file: Option<PathBuf>,
}

impl Source {
    /// Opens the sound; `raw_hz` is the rate of samples without a header, and `command` what a user types to read standard input.
    pub fn open(args: &Args, raw_hz: u32, command: &str) -> Result<Source> {
        let path = args.sound.as_deref().unwrap_or(Path::new("-"));
        let stdin = is_stdin(path);
        if stdin && std::io::stdin().is_terminal() {
            return Err(usage(format!(
                "there is no sound: standard input is a terminal; give a file, or pipe the sound of a microphone: arecord -f S16_LE -r 16000 -t raw | {command}"
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
        Ok(Source { name, stream, file })
    }

    /// The source in a sentence.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Samples per second.
    pub fn rate_hz(&self) -> u32 {
        self.stream.rate_hz()
    }

    /// Seconds of sound that have been read.
    pub fn seconds(&self) -> f64 {
        self.stream.samples() as f64 / f64::from(self.rate_hz())
    }

    /// Appends what has arrived to `out`, as samples of one channel; waits if nothing has. Returns false at the end. Everything before an error has been returned.
    pub fn read(&mut self, out: &mut Vec<f32>) -> Result<bool> {
        let read = self.stream.read(out);
        read.map_err(|fault| anyhow!("{}: {}", self.name, fault.in_command(self.file.as_deref())))
    }

    /// A remark on sound that was left out, at the end.
    pub fn left_out(&self) -> Option<String> {
        match self.stream.left_over() {
            0 => None,
            1 => Some(format!("note: {} ends within a frame; its last byte is left out", self.name)),
            bytes => Some(format!("note: {} ends within a frame; its last {bytes} bytes are left out", self.name)),
        }
    }
}
