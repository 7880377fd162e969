//! One clip as a file that `stapes predict` can read, for the command that a finished run suggests.

use crate::data::Dataset;
use crate::train::{RunFolder, write_atomically};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// A file with clip `number` of `data`: the clip's own file if the recordings are the folder `source`, else a WAV file that is
/// written into `run`. None if there is no such clip, or if it cannot be written.
pub fn clip_file(data: &Dataset, source: Option<&Path>, number: usize, run: &RunFolder) -> Option<PathBuf> {
    let clip = data.clips().get(number)?;
    if let Some(folder) = source.filter(|source| source.is_dir()) {
        let file = folder.join(clip.name.to_path());
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
    for &sample in data.samples(number) {
        writer.write_sample(sample).ok()?;
    }
    writer.finalize().ok()?;
    let file = run.example();
    write_atomically(&file, bytes.get_ref()).ok()?;
    Some(file)
}
