//! Makes audio files of every kind in memory, for the tests of `data`.

use std::ops::ControlFlow;
use std::path::Path;

use stapes::base::rng::{Key, Stream};
use stapes::data::*;

/// FLAC, 16 kHz, mono, 16 bit: 3,000 values, see `make.py`.
pub const NOISE_FLAC: &[u8] = include_bytes!("noise.flac");
/// FLAC, 48 kHz, two channels, 24 bit, 2,400 frames: a ramp and silence.
pub const STEREO_FLAC: &[u8] = include_bytes!("stereo.flac");
/// The same values as [`NOISE_FLAC`] in Ogg: `flac --ogg`.
pub const NOISE_OGA: &[u8] = include_bytes!("noise.oga");
/// Ogg Vorbis, 16 kHz, mono, 12,000 samples: three tones.
pub const TONES_OGG: &[u8] = include_bytes!("tones.ogg");

/// How the values of a WAV file are coded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Code {
    Int(u16),
    Float(u16),
    MuLaw,
    ALaw,
    /// WAVE_FORMAT_EXTENSIBLE: container bits, valid bits (left-justified), integer.
    Extensible(u16, u16),
    ExtensibleFloat,
}

/// A WAV file to be made.
#[derive(Clone, Copy, Debug)]
pub struct Wav {
    pub code: Code,
    pub channels: u16,
    pub rate_hz: u32,
}

pub const PLAIN: Wav = Wav { code: Code::Int(16), channels: 1, rate_hz: 16_000 };

impl Wav {
    fn bits(&self) -> u16 {
        match self.code {
            Code::Int(bits) | Code::Float(bits) | Code::Extensible(bits, _) => bits,
            Code::MuLaw | Code::ALaw => 8,
            Code::ExtensibleFloat => 32,
        }
    }

    /// The body of the `fmt ` chunk.
    pub fn fmt(&self) -> Vec<u8> {
        let tag: u16 = match self.code {
            Code::Int(_) => 1,
            Code::Float(_) => 3,
            Code::ALaw => 6,
            Code::MuLaw => 7,
            Code::Extensible(..) | Code::ExtensibleFloat => 0xFFFE,
        };
        let block = self.channels * self.bits().div_ceil(8);
        let mut fmt = Vec::new();
        fmt.extend(tag.to_le_bytes());
        fmt.extend(self.channels.to_le_bytes());
        fmt.extend(self.rate_hz.to_le_bytes());
        fmt.extend((self.rate_hz * u32::from(block)).to_le_bytes());
        fmt.extend(block.to_le_bytes());
        fmt.extend(self.bits().to_le_bytes());
        if let Code::Extensible(..) | Code::ExtensibleFloat = self.code {
            let (valid, tag) = if let Code::Extensible(_, valid) = self.code { (valid, 1u16) } else { (32, 3) };
            fmt.extend(22u16.to_le_bytes());
            fmt.extend(valid.to_le_bytes());
            fmt.extend(0u32.to_le_bytes());
            fmt.extend(tag.to_le_bytes());
            fmt.extend(b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71");
        }
        fmt
    }

    /// The values (full scale 1, channels interleaved) as they are stored in the file.
    pub fn encode(&self, values: &[f64]) -> Vec<u8> {
        let mut data = Vec::new();
        for &v in values {
            let int = (v * 2147483648.0).round().clamp(-2147483648.0, 2147483647.0) as i32;
            match self.code {
                Code::Int(8) => data.push((v * 128.0).round().clamp(-128.0, 127.0) as i8 as u8 ^ 0x80),
                Code::Int(bits) => data.extend(&int.to_le_bytes()[4 - usize::from(bits / 8)..]),
                Code::Extensible(bits, valid) => {
                    let justified = int & (-1 << (32 - valid));
                    data.extend(&justified.to_le_bytes()[4 - usize::from(bits / 8)..]);
                }
                Code::Float(64) => data.extend(v.to_le_bytes()),
                Code::Float(_) | Code::ExtensibleFloat => data.extend((v as f32).to_le_bytes()),
                // Sign and magnitude, searched for instead of computed: the nearest code of the table in G.711.
                Code::MuLaw | Code::ALaw => {
                    let nearest = (0..=255u8).min_by_key(|&b| (g711(self.code, b) - (v * 32768.0) as i32).abs());
                    data.push(nearest.expect("256 codes"));
                }
            }
        }
        data
    }

    /// A whole file.
    pub fn file(&self, values: &[f64]) -> Vec<u8> {
        riff(&[(b"fmt ", &self.fmt()), (b"data", &self.encode(values))])
    }
}

/// The value of a byte by the segments of ITU-T G.711, written without shifts.
fn g711(code: Code, byte: u8) -> i32 {
    let byte = if code == Code::MuLaw { !byte } else { byte ^ 0x55 };
    let (segment, step) = (u32::from(byte >> 4 & 7), i32::from(byte & 15));
    let magnitude = match (code, segment) {
        (Code::MuLaw, _) => (8 * step + 132) * 2i32.pow(segment) - 132,
        (_, 0) => 16 * step + 8,
        _ => (16 * step + 264) * 2i32.pow(segment - 1),
    };
    let negative = (byte & 0x80 != 0) == (code == Code::MuLaw);
    if negative { -magnitude } else { magnitude }
}

/// A RIFF file of these chunks, each padded to an even length.
pub fn riff(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVE".to_vec();
    for (id, body) in chunks {
        file.extend(*id);
        file.extend((body.len() as u32).to_le_bytes());
        file.extend(*body);
        file.resize(file.len().next_multiple_of(2), 0);
    }
    let size = file.len() as u32 - 8;
    file[4..8].copy_from_slice(&size.to_le_bytes());
    file
}

/// `file` with the size of its data chunk, and of the whole if given, replaced.
pub fn with_sizes(mut file: Vec<u8>, data: u32, whole: Option<u32>) -> Vec<u8> {
    let at = file.windows(4).position(|w| w == b"data").expect("a data chunk") + 4;
    file[at..at + 4].copy_from_slice(&data.to_le_bytes());
    if let Some(whole) = whole {
        file[4..8].copy_from_slice(&whole.to_le_bytes());
    }
    file
}

/// Gives every page of an Ogg file the checksum of its bytes, so that a mutation gets past it into the decoder.
pub fn correct_ogg_checksums(file: &mut [u8]) {
    let mut at = 0;
    while file.get(at..at + 4) == Some(b"OggS") && at + 27 <= file.len() {
        let body = at + 27 + usize::from(file[at + 26]);
        let Some(table) = file.get(at + 27..body) else {
            return;
        };
        let end = (body + table.iter().map(|&n| usize::from(n)).sum::<usize>()).min(file.len());
        file[at + 22..at + 26].fill(0);
        let crc = file[at..end].iter().fold(0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte) << 24, |c, _| c << 1 ^ if c >> 31 == 1 { 0x04C1_1DB7 } else { 0 })
        });
        file[at + 22..at + 26].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
}

/// A sine of `hz`, `frames` long, half of full scale.
pub fn sine(hz: f64, rate_hz: u32, frames: usize) -> Vec<f64> {
    (0..frames).map(|i| 0.5 * (std::f64::consts::TAU * hz * i as f64 / f64::from(rate_hz)).sin()).collect()
}

/// Noise that differs with `seed`, a quarter of full scale, as 16-bit values.
pub fn noise(seed: u64, frames: usize) -> Vec<i16> {
    let key = Key::new(seed, Stream::Case);
    (0..frames as u64).map(|i| key.below(i, 16_384) as i16 - 8_192).collect()
}

/// A plain WAV file of these samples.
pub fn wav16(samples: &[i16]) -> Vec<u8> {
    PLAIN.file(&samples.iter().map(|&v| f64::from(v) / 32768.0).collect::<Vec<_>>())
}

/// Writes `bytes` to `folder/word/file`.
pub fn put(folder: &Path, word: &str, file: &str, bytes: &[u8]) {
    std::fs::create_dir_all(folder.join(word)).unwrap();
    std::fs::write(folder.join(word).join(file), bytes).unwrap();
}

/// A small data set of three words, ten speakers each with one clip of 400 samples, noise and other files.
pub fn small_set(folder: &Path) {
    for (w, word) in ["cat", "bed", "dog"].into_iter().enumerate() {
        for speaker in 0..10 {
            let seed = (10 * w + speaker) as u64;
            put(folder, word, &format!("{seed:04x}beef_nohash_0.wav"), &wav16(&noise(seed, 400)));
        }
    }
    put(folder, "_background_noise_", "rain.wav", &wav16(&noise(99, 2_000)));
    put(folder, "_background_noise_", "README.md", b"noise");
    put(folder, "bed", "notes.txt", b"not sound");
    put(folder, "bed", ".hidden.wav", b"not sound");
    std::fs::write(folder.join("LICENSE"), "CC BY 4.0").unwrap();
}

/// Progress that nobody looks at.
pub const QUIET: Progress<'static> = &|_, _, _| ControlFlow::Continue(());

/// Inputs of 500 samples, the rest as by default.
pub fn config(cache: CacheMode) -> DataConfig {
    DataConfig { length: 500, cache, ..DataConfig::default() }
}

/// The data set at `path`.
pub fn open(path: &Path, config: &DataConfig) -> Result<Dataset, DataError> {
    Dataset::open(&Source::open(path)?, config, QUIET)
}
