//! One clip as a file that `stapes predict` can read, for the command that a finished run suggests.

use crate::data::{Dataset, Samples};
use crate::train::{RunFolder, write_atomically};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// A file with clip `number` of `data`: the clip's own file if it has one, for arrays the file of all clips, else a WAV file that is
/// written into `run`. None if there is no such clip, or if it cannot be written.
pub fn clip_file(data: &Dataset, number: usize, run: &RunFolder) -> Option<PathBuf> {
    data.clips().get(number)?;
    if let Some(file) = data.file_of(number) {
        let here = std::env::current_dir().ok();
        let shorter = here.and_then(|here| file.strip_prefix(here).ok().map(Path::to_path_buf));
        let file = shorter.unwrap_or(file);
        if file.is_file() {
            return Some(file);
        }
    }
    let format = data.format();
    let spec = hound::WavSpec {
        channels: u16::try_from(format.channels).ok()?,
        sample_rate: format.rate_hz,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut bytes, spec).ok()?;
    let Samples::I16(samples) = data.samples(number) else { return None };
    for &sample in samples {
        writer.write_sample(sample).ok()?;
    }
    writer.finalize().ok()?;
    let file = run.example();
    write_atomically(&file, bytes.get_ref()).ok()?;
    Some(file)
}
