//! Single sound files as clips, as the commands take them that read no data set.

use crate::base::Standardisation;
use crate::base::name::display_path;
use crate::data::{Crop, Format, Sample, read_clip};
use anyhow::{Result, anyhow};
use std::io::Read;
use std::path::Path;

/// Largest sound file that is read.
const MOST_BYTES: u64 = 1 << 30;

/// Whether the path stands for standard input.
pub fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// The path in a sentence.
pub fn name(path: &Path) -> String {
    if is_stdin(path) { "standard input".into() } else { display_path(path) }
}

/// The samples of a file in the network's format; never reads more than [`MOST_BYTES`].
pub fn samples(path: &Path, format: Format) -> Result<Vec<i16>> {
    let name = name(path);
    let mut bytes = Vec::new();
    let mut read = |source: &mut dyn Read| source.take(MOST_BYTES + 1).read_to_end(&mut bytes);
    let done = match is_stdin(path) {
        true => read(&mut std::io::stdin().lock()),
        false if path.is_dir() => return Err(anyhow!("{name} is a folder; give the sound files in it")),
        false => std::fs::File::open(path).and_then(|mut file| read(&mut file)),
    };
    done.map_err(|e| anyhow!("cannot read {name}: {e}; check the path"))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(anyhow!("{name} has more than {MOST_BYTES} bytes; cut it into shorter clips"));
    }
    let file = (!is_stdin(path)).then_some(path);
    let clip = read_clip(&bytes, name.as_str(), format);
    Ok(clip.map_err(|error| anyhow!("{name}: {}", error.fault.in_command(file)))?.samples)
}

/// How a clip becomes the input of a network.
pub struct ToInput {
    /// The part of a longer clip that is used.
    pub crop: Crop,
    /// Rate and channels.
    pub format: Format,
    /// How the training clips of the network were standardised, if they were.
    pub standardisation: Option<Standardisation>,
}

impl ToInput {
    /// Writes a clip into `input`, `[length, channels]`.
    pub fn write<T: Sample>(&self, samples: &[T], input: &mut [f32]) {
        self.crop.write_input(samples, self.format.channels, input);
        if let Some(standardisation) = &self.standardisation {
            // Padding stays zero.
            let used = samples.len().min(input.len());
            standardisation.apply(&mut input[..used]);
        }
    }
}
