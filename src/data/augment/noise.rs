//! Background noise: where it comes from, and how it is added to a clip at a given signal-to-noise ratio.

use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::base::FULL_SCALE;
use crate::base::name::display_path;
use crate::base::rng::Key;
use crate::base::sha1::Sha1;
use crate::base::{Name, name};
use crate::data::archive;
use crate::data::clip::{ClipReader, Format};
use crate::data::dataset::Dataset;
use crate::data::error::{ClipError, ClipFault, DataError};
use crate::data::prepare::{SoundFile, read_file};
use crate::data::source::{FileKind, NOISE, Source, file_kind};

/// Length of each generated track.
const SECONDS: f64 = 30.0;
/// Most samples of all tracks: 70 minutes at 16 kHz, 128 MB.
const MAX_SAMPLES: usize = 1 << 26;
/// Most samples of one track.
const MAX_TRACK: usize = 1 << 24;
/// Mean square below which a clip or a piece of noise counts as silent: one step of 16 bits.
const SILENT: f64 = 1.0 / (1u64 << 30) as f64;
/// The mean square that a silent clip is taken to have when the level of noise is computed: -30 dB of full scale.
const SILENT_LEVEL: f64 = 1e-3;
/// Root mean square of a generated track.
const LEVEL: f64 = 0.1;

/// Where background noise comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NoiseSource {
    /// The folder `_background_noise_` of the data set; generated noise if the data set has none.
    #[default]
    Data,
    /// White, pink and brown noise, generated from the seed.
    Generated,
    /// The WAV, FLAC and Ogg Vorbis files directly in a folder.
    Folder(PathBuf),
}

/// Tracks of noise.
#[derive(Clone, Debug, Default)]
pub(in crate::data) struct NoiseBank {
    tracks: Vec<Vec<i16>>, // none is empty
    names: Vec<Name>,      // of the tracks that were read or generated
    remark: Option<String>,
}

impl NoiseBank {
    /// A bank of the given tracks; empty ones are left out.
    pub(super) fn of(tracks: Vec<Vec<i16>>) -> NoiseBank {
        let tracks = tracks.into_iter().filter(|track| !track.is_empty()).collect();
        NoiseBank { tracks, names: Vec::new(), remark: None }
    }

    /// The three generated tracks.
    fn generated(rate_hz: u32, key: Key) -> NoiseBank {
        let names = ["white", "pink", "brown"].map(Name::from).to_vec();
        NoiseBank { names, ..NoiseBank::of(generate(rate_hz, key)) }
    }

    /// The tracks, mono at the rate of the data set. None is empty.
    pub(in crate::data) fn tracks(&self) -> &[Vec<i16>] {
        &self.tracks
    }

    /// The file of a track, or the colour of generated noise.
    pub(in crate::data) fn name(&self, track: usize) -> Name {
        self.names.get(track).cloned().unwrap_or_else(|| format!("track {}", track + 1).into())
    }

    /// A bank of one stretch of each track.
    pub(in crate::data) fn cut(&self, stretch: impl Fn(&[i16]) -> Range<usize>) -> NoiseBank {
        NoiseBank::of(self.tracks.iter().map(|track| track[stretch(track)].to_vec()).collect())
    }

    /// Reads or generates the tracks of `source` at the rate of `data`.
    pub(in crate::data) fn load(source: &NoiseSource, data: &Dataset, key: Key) -> Result<NoiseBank, DataError> {
        let rate_hz = data.format().rate_hz;
        match source {
            NoiseSource::Generated => Ok(NoiseBank::generated(rate_hz, key)),
            NoiseSource::Folder(folder) => {
                let (bank, first) = decode(files_of(folder)?, rate_hz);
                match bank.tracks.is_empty() {
                    true => Err(DataError::NoNoise { path: folder.clone(), first }),
                    false => Ok(bank),
                }
            }
            NoiseSource::Data => {
                let files = match data.origin() {
                    _ if data.noise().is_empty() => Vec::new(),
                    Some(Source::Folder(root)) => files_of(&root.join(NOISE))?,
                    Some(Source::Archive(path)) => archive::read_noise(path, MAX_SAMPLES)?,
                    Some(Source::Manifest(_) | Source::Arrays(_) | Source::Parquet(_) | Source::Embedded(_)) | None => {
                        Vec::new()
                    }
                };
                let (bank, first) = decode(files, rate_hz);
                if !bank.tracks.is_empty() {
                    return Ok(bank);
                }
                let why = match first {
                    Some(problem) => format!("{NOISE} has no recording that can be used ({problem})"),
                    None => format!("the data set has no folder {NOISE} with recordings"),
                };
                let remark = Some(format!("{why}, so white, pink and brown noise is generated"));
                Ok(NoiseBank { remark, ..NoiseBank::generated(rate_hz, key) })
            }
        }
    }

    /// What a user may want to know about the origin of the noise.
    pub(in crate::data) fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }

    /// SHA-1 of the tracks and their lengths, in hexadecimal digits; none if there are no tracks.
    pub(in crate::data) fn fingerprint(&self) -> Option<String> {
        let mut sha = Sha1::new();
        for track in &self.tracks {
            sha.update((track.len() as u64).to_le_bytes());
            for piece in track.chunks(4096) {
                sha.update(piece.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>());
            }
        }
        (!self.tracks.is_empty()).then(|| sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Adds a random piece of a random track to `row`, `[frames, channels]`, alike in all channels. Its level gives the
    /// signal-to-noise ratio `snr_db` over the row. A row that counts as silent before the `gain` that it has is taken to have
    /// [`SILENT_LEVEL`]; a silent piece is not added.
    pub(super) fn add(&self, key: Key, snr_db: f64, gain: f64, row: &mut [f32], channels: usize) {
        let frames = row.len() / channels;
        if self.tracks.is_empty() || frames == 0 {
            return;
        }
        let track = &self.tracks[key.below(0, self.tracks.len() as u64) as usize];
        let start = match track.len() > frames {
            true => key.below(1, (track.len() - frames) as u64 + 1),
            false => key.below(1, track.len() as u64), // a short track is repeated
        } as usize;
        let noise = pieces(track, start, frames).map(|(_, piece)| energy(piece)).sum::<f64>() / frames as f64;
        let noise = noise * f64::from(FULL_SCALE).powi(2);
        let own = energy(row) / row.len() as f64;
        let own = if own < SILENT * gain * gain { SILENT_LEVEL * gain * gain } else { own };
        if noise < SILENT {
            return;
        }
        let scale = ((own / noise / 10f64.powf(snr_db / 10.0)).sqrt() * f64::from(FULL_SCALE)) as f32;
        for (at, piece) in pieces(track, start, frames) {
            let row = &mut row[at * channels..(at + piece.len()) * channels];
            if channels == 1 {
                row.iter_mut().zip(piece).for_each(|(x, &sample)| *x += scale * f32::from(sample));
            } else {
                for (frame, &sample) in row.chunks_exact_mut(channels).zip(piece) {
                    frame.iter_mut().for_each(|x| *x += scale * f32::from(sample));
                }
            }
        }
    }
}

/// The pieces of `track` that make `frames` frames from `start` on, repeated if it ends before; each with its first frame.
pub(in crate::data) fn pieces(track: &[i16], start: usize, frames: usize) -> impl Iterator<Item = (usize, &[i16])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let from = (start + at) % track.len();
        let piece = &track[from..track.len().min(from + frames - at)];
        let first = at;
        at += piece.len();
        (!piece.is_empty()).then_some((first, piece))
    })
}

/// The sum of squares. Lanes of f32 over at most 512 values, which the compiler vectorises, then f64: the relative error is below 1e-5,
/// and the order of the sum is the same in any build.
fn energy<T: Copy + Into<f32>>(values: &[T]) -> f64 {
    const LANES: usize = 16;
    let sum_of = |chunk: &[T]| {
        let mut lanes = [0f32; LANES];
        let (blocks, rest) = chunk.as_chunks::<LANES>();
        for block in blocks {
            for (lane, &value) in lanes.iter_mut().zip(block) {
                let value: f32 = value.into();
                *lane += value * value;
            }
        }
        for (lane, &value) in lanes.iter_mut().zip(rest) {
            let value: f32 = value.into();
            *lane += value * value;
        }
        lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>()
    };
    values.chunks(512).map(sum_of).sum()
}

/// The sound files directly in a folder, sorted by name.
fn files_of(folder: &Path) -> Result<Vec<SoundFile>, DataError> {
    let failed = |source| DataError::Io { path: folder.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let file = path.file_name().map(Name::from_os).unwrap_or_default();
        // What is no regular file is not opened: a pipe would wait for a writer.
        let size = std::fs::metadata(&path).ok().filter(|meta| meta.is_file()).map(|meta| meta.len());
        if let (FileKind::Clip, Some(size)) = (file_kind(&file), size) {
            files.push((file, path, size));
        }
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(files.into_par_iter().map(|(file, path, size)| (file, read_file(&path, size))).collect())
}

/// Decodes files as mono tracks, and returns the first problem.
fn decode(files: Vec<SoundFile>, rate_hz: u32) -> (NoiseBank, Option<Box<ClipError>>) {
    let format = Format { rate_hz, channels: 1 };
    let read = |reader: &mut ClipReader, (name, bytes): SoundFile| {
        let track = bytes.and_then(|bytes| reader.read(&bytes)).and_then(|clip| match clip.samples.is_empty() {
            true => Err(ClipFault::NoSamples),
            false => Ok(clip.samples),
        });
        match track {
            Ok(track) => Ok((name, track)),
            Err(fault) => Err(ClipError { name, fault }),
        }
    };
    let outcomes: Vec<_> = files.into_par_iter().map_init(|| ClipReader::new(format, MAX_TRACK), read).collect();
    let (mut tracks, mut names, mut first, mut samples) = (Vec::new(), Vec::new(), None, 0);
    for outcome in outcomes {
        match outcome {
            Ok((name, track)) if samples + track.len() <= MAX_SAMPLES => {
                samples += track.len();
                tracks.push(track);
                names.push(name);
            }
            Ok(_) => {}
            Err(problem) => first = first.or(Some(Box::new(problem))),
        }
    }
    (NoiseBank { names, ..NoiseBank::of(tracks) }, first)
}

/// One track each of white, pink (3 dB per octave) and brown noise (6 dB per octave above 20 Hz).
///
/// **Source** of the filter for pink noise: J. O. Smith, "Spectral audio signal processing", section "Example: synthesis of 1/f noise".
fn generate(rate_hz: u32, key: Key) -> Vec<Vec<i16>> {
    let len = ((SECONDS * f64::from(rate_hz)) as usize).clamp(1, MAX_TRACK);
    let white = |colour: u64| {
        let key = key.with(colour);
        (0..len as u64).map(move |i| key.normal(i))
    };
    let mut pink = [0.0; 3];
    let to_pink = |x: f64| {
        let w = x + 2.494956002 * pink[0] - 2.017265875 * pink[1] + 0.522189400 * pink[2];
        let y = 0.049922035 * w - 0.095993537 * pink[0] + 0.050612699 * pink[1] - 0.004408786 * pink[2];
        pink = [w, pink[0], pink[1]];
        y
    };
    let decay = (-std::f64::consts::TAU * 20.0 / f64::from(rate_hz)).exp();
    let mut brown = 0.0;
    let to_brown = |x: f64| {
        brown = decay * brown + x;
        brown
    };
    vec![
        quantize(white(0).collect()),
        quantize(white(1).map(to_pink).collect()),
        quantize(white(2).map(to_brown).collect()),
    ]
}

/// Values with a root mean square of [`LEVEL`] of full scale.
fn quantize(values: Vec<f64>) -> Vec<i16> {
    let mean_square = values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64;
    let scale = LEVEL / mean_square.sqrt().max(f64::MIN_POSITIVE) / f64::from(FULL_SCALE);
    values.into_iter().map(|v| (v * scale).round().clamp(-32768.0, 32767.0) as i16).collect()
}

/// The description of a folder without usable noise, for an error.
pub(in crate::data) fn no_noise_text(path: &Path, first: Option<&ClipError>) -> String {
    let path = display_path(path);
    match first {
        Some(problem) => {
            format!("no recording in the folder {path} can be used as noise ({})", name::display(&problem.to_string()))
        }
        None => format!("the folder {path} contains no recording of noise"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Stream;

    const KEY: Key = Key::new(5, Stream::Augment);

    fn speech(frames: usize) -> Vec<f32> {
        (0..frames).map(|t| 0.2 * (t as f32 * 0.1).sin() * (t as f32 * 0.001).sin()).collect()
    }

    /// The signal-to-noise ratio in dB, in f64.
    fn snr_db(clean: &[f32], noisy: &[f32]) -> f64 {
        let square = |v: f64| v * v;
        let own: f64 = clean.iter().map(|&v| square(f64::from(v))).sum();
        let noise: f64 = clean.iter().zip(noisy).map(|(&c, &n)| square(f64::from(n) - f64::from(c))).sum();
        10.0 * (own / noise).log10()
    }

    #[test]
    fn the_signal_to_noise_ratio_is_the_requested_one() {
        let short = vec![300, -200, 100, 77, -5];
        let banks = [NoiseBank::of(generate(16_000, KEY)), NoiseBank::of(vec![short]), NoiseBank::of(vec![vec![1; 3]])];
        for bank in &banks {
            for channels in [1, 3] {
                for (i, snr) in [-10.0, 0.0, 5.0, 17.3, 30.0].into_iter().enumerate() {
                    let clean = speech(16_000 * channels);
                    let mut noisy = clean.clone();
                    bank.add(KEY.with(i as u64), snr, 1.0, &mut noisy, channels);
                    let measured = snr_db(&clean, &noisy);
                    assert!((measured - snr).abs() < 0.05, "{measured} dB for {snr} dB, {channels} channels");
                    let added: Vec<f32> = clean.iter().zip(&noisy).map(|(c, n)| n - c).collect();
                    let alike = |frame: &[f32]| frame.iter().all(|v| (v - frame[0]).abs() < 1e-6);
                    assert!(added.chunks(channels).all(alike), "all channels have the same noise");
                }
            }
        }
    }

    #[test]
    fn a_silent_clip_has_noise_relative_to_full_scale_and_silent_noise_is_not_added() {
        let bank = NoiseBank::of(generate(16_000, KEY));
        for (gain, level) in [(1.0, -30.0 - 10.0), (10.0, 20.0 - 30.0 - 10.0)] {
            let mut row = vec![0.0; 16_000];
            bank.add(KEY, 10.0, gain, &mut row, 1);
            let db = 10.0 * (energy(&row) / 16_000.0).log10();
            assert!((db - level).abs() < 0.05, "{db} dB for {level} dB");
        }
        let silent = NoiseBank::of(vec![vec![0; 5_000], vec![0]]);
        let mut row = speech(100);
        silent.add(KEY, 10.0, 1.0, &mut row, 1);
        NoiseBank::of(vec![Vec::new()]).add(KEY, 10.0, 1.0, &mut row, 1);
        assert_eq!(row, speech(100));
        bank.add(KEY, 10.0, 1.0, &mut [], 1);
    }

    #[test]
    fn every_piece_of_a_track_can_be_drawn() {
        let track: Vec<i16> = (1..=9).map(|i| 100 * i).collect();
        let bank = NoiseBank::of(vec![track.clone()]);
        let mut starts = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut row = vec![0.0; 7];
            bank.add(KEY.with(seed), 0.0, 1.0, &mut row, 1);
            let ratio = row[1] / row[0];
            let start = (0..9).find(|&s| (ratio - f32::from(track[(s + 1) % 9]) / f32::from(track[s])).abs() < 1e-3);
            starts.insert(start.expect("the row is a piece of the track"));
        }
        assert_eq!(starts, [0, 1, 2].into(), "a track is not repeated where it is long enough");
    }

    #[test]
    fn energies_are_exact_to_a_few_millionths() {
        for len in [0, 1, 15, 16, 17, 511, 513, 16_000] {
            let values: Vec<i16> = (0..len).map(|i| (i * 7919 % 65_536 - 32_768) as i16).collect();
            let exact = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
            assert!((energy(&values) - exact).abs() <= 1e-5 * exact, "{len}");
        }
    }

    /// The share of the power that a first-order low-pass lets through.
    fn share_below(track: &[i16], rate: f64, hz: f64) -> f64 {
        let decay = (-std::f64::consts::TAU * hz / rate).exp();
        let (mut low, mut below, mut all) = (0.0, 0.0, 0.0);
        for &v in track {
            low = decay * low + (1.0 - decay) * f64::from(v);
            below += low * low;
            all += f64::from(v) * f64::from(v);
        }
        below / all
    }

    #[test]
    fn generated_noise_has_its_level_and_colour_and_depends_on_the_key() {
        let tracks = generate(16_000, KEY);
        assert_eq!(tracks, generate(16_000, KEY));
        assert_ne!(tracks, generate(16_000, KEY.with(1)));
        for track in &tracks {
            assert_eq!(track.len(), 480_000);
            let level = (energy(track) / track.len() as f64).sqrt() * f64::from(FULL_SCALE);
            assert!((level - LEVEL).abs() < 1e-3, "{level}");
        }
        // First-order low-passes at 125 and 1000 Hz: three octaves. White noise gains 9 dB; pink noise has the same power in each
        // octave; brown noise is low already.
        let gain = |track: &[i16]| {
            10.0 * (share_below(track, 16_000.0, 1_000.0) / share_below(track, 16_000.0, 125.0)).log10()
        };
        let [white, pink, brown] = [gain(&tracks[0]), gain(&tracks[1]), gain(&tracks[2])];
        assert!((8.0..9.5).contains(&white), "{white}");
        assert!((1.5..4.0).contains(&pink), "{pink}");
        assert!((0.1..1.0).contains(&brown), "{brown}");
        assert!(generate(100, KEY).iter().all(|track| track.len() == 3_000));
    }
}
