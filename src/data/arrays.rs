//! Data sets of arrays: an `.npz` file of NumPy with the clips in `x` and their classes in `y`.
//!
//! | array | shape | content |
//! |---|---|---|
//! | `x` | `[n, length, channels]` or `[n, length]` | the clips, as numbers of any kind, which are used as they are |
//! | `y` | `[n]` | the class of each clip: whole numbers or text |
//! | `classes` | `[classes]` | text, optional: the names of the classes 0, 1, .. of `y`, or their order if `y` is text |
//! | `group` | `[n]` | optional: whole numbers or text; a group is never divided between splits |
//! | `split` | `[n]` | optional: `train`, `validation`, `test`, or 0, 1, 2 |
//! | `rate` | `[]` | optional: samples per second; without it a clip counts as one second |
//!
//! The name of a clip is the number of its row, from 0.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use crate::base::INPUT_RATES_HZ;
use crate::base::name::{Name, display, display_path};
use crate::base::sha1::{Sha1, hex};

use super::cache::Index;
use super::clip::Format;
use super::error::{ClipError, ClipFault, DataError};
use super::npy::{Header, Labels, MAGIC};
use super::prepare::{ClipInfo, Kept, stored_frames};
use super::source::{Stage, Wanted};
use super::split::Split;
use super::table::{Row, Table};
use super::zip::Zip;

/// The arrays that are used.
const USED: [&str; 6] = ["x", "y", "classes", "group", "split", "rate"];
/// Rows between two reports of progress.
const REPORT_ROWS: usize = 4096;

/// How many clips an array has, and of which shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayShape {
    /// Clips.
    pub clips: usize,
    /// Samples per clip and channel.
    pub length: usize,
    /// Channels.
    pub channels: usize,
    /// Samples per second, if the file says so.
    pub rate_hz: Option<u32>,
}

impl ArrayShape {
    /// The rate and the channels of a network for these clips; without a rate, a clip counts as one second.
    pub fn format(&self) -> Format {
        let (low, high) = (*INPUT_RATES_HZ.start() as usize, *INPUT_RATES_HZ.end() as usize);
        let second = self.length.clamp(low, high) as u32;
        Format { rate_hz: self.rate_hz.unwrap_or(second), channels: u32::try_from(self.channels).unwrap_or(u32::MAX) }
    }
}

/// A data set of arrays without its samples.
#[derive(Debug)]
pub(super) struct Arrays {
    pub(super) shape: ArrayShape,
    pub(super) table: Table,
    /// What a user may want to know.
    pub(super) remarks: Vec<String>,
}

/// Clips without labels: the array `x` of an `.npz` file, or the array of an `.npy` file.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipArray {
    /// Their number and shape.
    pub shape: ArrayShape,
    /// `[clips, length, channels]`, as in the file.
    pub values: Vec<f32>,
}

impl ClipArray {
    /// Clip number `clip`, `[length, channels]`, if all its values are finite.
    ///
    /// # Errors
    /// A value is NaN or infinite.
    ///
    /// # Panics
    /// There is no such clip.
    pub fn clip(&self, clip: usize) -> Result<&[f32], ClipFault> {
        let size = self.shape.length * self.shape.channels;
        let values = &self.values[clip * size..(clip + 1) * size];
        finite(values).map(|()| values)
    }

    /// Whether the name of a file is that of arrays: whether it ends in `.npz` or `.npy`.
    pub fn is_named_so(path: &Path) -> bool {
        path.extension().is_some_and(|end| end.eq_ignore_ascii_case("npz") || end.eq_ignore_ascii_case("npy"))
    }

    /// Reads the clips of a file for a network of this rate and number of channels.
    ///
    /// # Errors
    /// The file cannot be read, has no array `x` of numbers with two or three dimensions, has clips of another rate or of other channels, or is
    /// damaged.
    pub fn read(path: &Path, format: Format) -> Result<ClipArray, DataError> {
        let file = ArrayFile::open(path)?;
        let rate_hz = file.rate()?;
        let (mut content, header, shape) = file.clips()?;
        let shape = ArrayShape { rate_hz, ..shape };
        check(path, &shape, format)?;
        let values = file.all(&mut *content, &header)?;
        Ok(ClipArray { shape, values: in_order(values, &header, &shape) })
    }
}

/// Whether all values are finite.
fn finite(values: &[f32]) -> Result<(), ClipFault> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(ClipFault::NonFinite { at: at as u64 }),
        None => Ok(()),
    }
}

/// Whether a zip archive that begins with `head` is one of NumPy: whether its first member is an array.
pub(super) fn is_npz(head: &[u8]) -> bool {
    let len = head.get(26..28).map_or(0, |len| usize::from(u16::from_le_bytes([len[0], len[1]])));
    head.starts_with(b"PK\x03\x04") && head.get(30..30 + len).is_some_and(|name| name.ends_with(b".npy"))
}

/// A file of arrays.
struct ArrayFile<'a> {
    path: &'a Path,
    /// None for a single array.
    zip: Option<Zip>,
}

/// The values of an array, its header, and how many bytes of it there are.
type Opened = (Box<dyn Read>, Header);

impl<'a> ArrayFile<'a> {
    fn open(path: &'a Path) -> Result<ArrayFile<'a>, DataError> {
        let failed = |source| DataError::Io { path: path.into(), source };
        let mut head = Vec::new();
        File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut head)).map_err(failed)?;
        if head == MAGIC {
            return Ok(ArrayFile { path, zip: None });
        }
        let zip = Zip::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => wrong(path, format!("is damaged ({error}); save it again")),
            _ => failed(error),
        })?;
        Ok(ArrayFile { path, zip: Some(zip) })
    }

    /// An error about the array `name`.
    fn fault(&self, name: &str, fault: impl std::fmt::Display) -> DataError {
        match self.zip {
            Some(_) => wrong(self.path, format!("cannot be used: its array `{name}` {fault}")),
            None => wrong(self.path, format!("cannot be used: its array {fault}")),
        }
    }

    /// The array `name`, if the file has it.
    fn array(&self, name: &str) -> Result<Option<Opened>, DataError> {
        let damaged = |error: std::io::Error| self.fault(name, format!("cannot be read ({error}); save it again"));
        let Some(zip) = &self.zip else {
            let file = File::open(self.path).map_err(damaged)?;
            let size = file.metadata().map_err(damaged)?.len();
            let mut content = BufReader::with_capacity(1 << 18, file);
            let header = Header::read(&mut content).map_err(|fault| self.fault(name, fault))?;
            if header.bytes().is_none_or(|bytes| bytes >= size) {
                return Err(self.fault(name, "is cut short; save it again"));
            }
            return Ok(Some((Box::new(content), header)));
        };
        let Some(mut content) = zip.read(&format!("{name}.npy")).map_err(damaged)? else { return Ok(None) };
        let header = Header::read(&mut content).map_err(|fault| self.fault(name, fault))?;
        let (promised, have) = (header.bytes(), content.left());
        if promised != Some(have) {
            let shape = header.shape_text();
            return Err(self.fault(name, format!("has the shape {shape} and {have} bytes; save it again")));
        }
        Ok(Some((Box::new(content), header)))
    }

    /// The array `x`, with its shape but not the rate.
    fn clips(&self) -> Result<(Box<dyn Read>, Header, ArrayShape), DataError> {
        let Some((content, header)) = self.array("x")? else {
            return Err(wrong(self.path, format!("has no array `x`; {SAVE}")));
        };
        if !header.is_numeric() {
            return Err(self.fault("x", "has text instead of numbers; save the samples of the clips in it"));
        }
        let (clips, length, channels) = match header.shape[..] {
            [clips, length, channels] => (clips, length, channels),
            [clips, length] => (clips, length, 1),
            _ => {
                let shape = header.shape_text();
                let want = "it must be (clips, length, channels), or (clips, length) for one channel";
                return Err(self.fault("x", format!("has the shape {shape}; {want}")));
            }
        };
        if clips == 0 || length == 0 || channels == 0 {
            let shape = header.shape_text();
            return Err(self.fault("x", format!("has the shape {shape}, which holds no clip; save the clips in it")));
        }
        if u32::try_from(clips).is_err() {
            return Err(self.fault("x", format!("has {clips} clips, more than a data set can have; divide it")));
        }
        Ok((content, header, ArrayShape { clips, length, channels, rate_hz: None }))
    }

    /// All values of an array of numbers. Memory is taken as they are read.
    fn all(&self, content: &mut dyn Read, header: &Header) -> Result<Vec<f32>, DataError> {
        const BLOCK: usize = 1 << 20;
        let mut values = Vec::new();
        let mut left = header.len().unwrap_or(0);
        while left > 0 {
            let (start, n) = (values.len(), left.min(BLOCK));
            reserve(&mut values, n)?;
            values.resize(start + n, 0.0);
            header.read_f32(content, &mut values[start..]).map_err(|fault| self.fault("x", fault))?;
            left -= n;
        }
        Ok(values)
    }

    /// The array `name` with a value for each of `n` clips, or any number of values without `n`.
    fn labels(&self, name: &str, n: Option<usize>) -> Result<Option<Labels>, DataError> {
        let Some((mut content, header)) = self.array(name)? else { return Ok(None) };
        match (&header.shape[..], n) {
            ([_], None) => {}
            ([have], Some(n)) if *have == n => {}
            (_, n) => {
                let shape = header.shape_text();
                let want = n.map_or("one dimension".into(), |n| format!("one value for each of the {n} clips of `x`"));
                let advice = match header.shape.len() {
                    2 if name == "y" => " (numpy.argmax(y, axis=1) makes class numbers of one-hot rows)",
                    _ => "",
                };
                return Err(self.fault(name, format!("has the shape {shape}; it must have {want}{advice}")));
            }
        }
        header.read_labels(&mut *content).map(Some).map_err(|fault| self.fault(name, fault))
    }

    /// Samples per second.
    fn rate(&self) -> Result<Option<u32>, DataError> {
        if self.zip.is_none() {
            return Ok(None);
        }
        let Some((mut content, header)) = self.array("rate")? else { return Ok(None) };
        let mut value = [0.0];
        if header.len() != Some(1) {
            let shape = header.shape_text();
            return Err(self.fault("rate", format!("has the shape {shape}; it must be one number, in Hz")));
        }
        header.read_f32(&mut *content, &mut value).map_err(|fault| self.fault("rate", fault))?;
        let rate = f64::from(value[0]);
        let (low, high) = (*INPUT_RATES_HZ.start(), *INPUT_RATES_HZ.end());
        match rate.fract() == 0.0 && (f64::from(low)..=f64::from(high)).contains(&rate) {
            true => Ok(Some(rate as u32)),
            false => {
                Err(self.fault("rate", format!("is {rate}; it must be a whole number of Hz between {low} and {high}")))
            }
        }
    }

    /// The names of the classes in their order, and the class of each clip.
    fn classes(&self, n: usize) -> Result<(Vec<Name>, Vec<Name>), DataError> {
        let Some(y) = self.labels("y", Some(n))? else {
            return Err(wrong(self.path, format!("has no array `y`; {SAVE}")));
        };
        let listed = match self.labels("classes", None)? {
            None => None,
            Some(Labels::Text(names)) => Some(names),
            Some(Labels::Whole(_)) => {
                return Err(self.fault("classes", "has numbers; it must have the names of the classes, as text"));
            }
        };
        if let Labels::Text(names) = &y
            && let Some(row) = names.iter().position(Name::is_empty)
        {
            return Err(self.fault("y", format!("has no class in row {row}; save a class for every clip")));
        }
        let mut seen = HashSet::new();
        if let Some(at) = listed.iter().flatten().position(|name| name.is_empty() || !seen.insert(name)) {
            let fault = "is empty or a name that comes before it";
            return Err(self.fault("classes", format!("has a value in place {at} that {fault}; name each class once")));
        }
        drop(seen);
        match (y, listed) {
            (Labels::Whole(numbers), None) => {
                let mut known: Vec<i128> = numbers.iter().copied().collect::<HashSet<_>>().into_iter().collect();
                known.sort_unstable();
                let name = |number: &i128| Name::from(number.to_string());
                Ok((known.iter().map(name).collect(), numbers.iter().map(name).collect()))
            }
            (Labels::Whole(numbers), Some(names)) => {
                let name = |(row, number): (usize, &i128)| {
                    let name = usize::try_from(*number).ok().and_then(|number| names.get(number));
                    name.cloned().ok_or_else(|| {
                        let count = names.len();
                        let fault = format!("has {number} in row {row}, and `classes` has the names of 0 to");
                        self.fault("y", format!("{fault} {}; correct one of them", count as i128 - 1))
                    })
                };
                let of_clips = numbers.iter().enumerate().map(name).collect::<Result<_, _>>()?;
                Ok((names, of_clips))
            }
            (Labels::Text(of_clips), None) => {
                let mut known: Vec<Name> = of_clips.iter().cloned().collect::<HashSet<_>>().into_iter().collect();
                known.sort_unstable();
                Ok((known, of_clips))
            }
            (Labels::Text(of_clips), Some(names)) => {
                let known: HashSet<&Name> = names.iter().collect();
                match of_clips.iter().enumerate().find(|(_, name)| !known.contains(name)) {
                    Some((row, name)) => {
                        let fault = format!("has `{name}` in row {row}, which is none of `classes`");
                        Err(self.fault("y", format!("{fault}; correct one of them")))
                    }
                    None => Ok((names, of_clips)),
                }
            }
        }
    }

    /// The split of each clip.
    fn splits(&self, n: usize) -> Result<Option<Vec<Split>>, DataError> {
        let Some(labels) = self.labels("split", Some(n))? else { return Ok(None) };
        let of_number = |number: i128| usize::try_from(number).ok().and_then(|number| Split::ALL.get(number).copied());
        let splits: Vec<Option<Split>> = match &labels {
            Labels::Whole(numbers) => numbers.iter().map(|&number| of_number(number)).collect(),
            Labels::Text(names) => names.iter().map(Split::of_table).collect(),
        };
        if let Some(row) = splits.iter().position(Option::is_none) {
            let fault = format!("has `{}` in row {row}; {}", texts(&labels)[row], Split::TABLE_VALUES);
            return Err(self.fault("split", format!("{fault}, or 0, 1 or 2")));
        }
        Ok(Some(splits.into_iter().flatten().collect()))
    }
}

/// What a file of arrays has to have.
const SAVE: &str = "save a data set with numpy.savez(\"data.npz\", x=x, y=y), where x has the shape (clips, length, channels) and y the class of each clip";

fn wrong(path: &Path, reason: String) -> DataError {
    DataError::BadArrays { path: path.into(), reason }
}

/// Labels as names.
fn texts(labels: &Labels) -> Vec<Name> {
    match labels {
        Labels::Whole(numbers) => numbers.iter().map(|number| Name::from(number.to_string())).collect(),
        Labels::Text(names) => names.clone(),
    }
}

fn reserve(values: &mut Vec<f32>, more: usize) -> Result<(), DataError> {
    let out_of_memory = |_| DataError::Memory { source: std::io::ErrorKind::OutOfMemory.into() };
    values.try_reserve(more).map_err(out_of_memory)
}

/// Values in C order, `[clips, length, channels]`.
fn in_order(values: Vec<f32>, header: &Header, shape: &ArrayShape) -> Vec<f32> {
    if !header.is_fortran() {
        return values;
    }
    let ArrayShape { clips, length, channels, .. } = *shape;
    let frames = (0..clips).flat_map(|clip| (0..length).map(move |t| (clip, t)));
    let at = |(clip, t): (usize, usize)| (0..channels).map(move |c| clip + clips * (t + length * c));
    frames.flat_map(at).map(|at| values[at]).collect()
}

/// The name of a clip of `n`: the number of its row, as long as the last one, so that the order of names is that of the rows.
fn row_name(row: usize, n: usize) -> Name {
    let width = (n.max(1) - 1).to_string().len();
    format!("{row:0width$}").into()
}

/// Reads everything but the samples of the file at `path`.
pub(super) fn survey(path: &Path) -> Result<Arrays, DataError> {
    let file = ArrayFile::open(path)?;
    let Some(zip) = &file.zip else {
        return Err(wrong(path, format!("is a single array, without classes; {SAVE}")));
    };
    let (_, _, shape) = file.clips()?;
    let shape = ArrayShape { rate_hz: file.rate()?, ..shape };
    let n = shape.clips;
    let (classes, of_clips) = file.classes(n)?;
    let groups = file.labels("group", Some(n))?.map(|labels| texts(&labels));
    let splits = file.splits(n)?;
    let row = |(row, class)| {
        let name = row_name(row, n);
        let speaker = groups.as_ref().map_or_else(|| name.clone(), |groups| groups[row].clone());
        Row { name, class, speaker, split: splits.as_ref().map(|splits| splits[row]) }
    };
    let rows = of_clips.into_iter().enumerate().map(row).collect();
    let table = Table::new(classes, rows, splits.as_ref().map(|_| "the array `split`"), groups.is_some());
    let mut remarks = Vec::new();
    let is_used = |name: &&str| USED.iter().any(|used| name.strip_suffix(".npy") == Some(used));
    let unused: Vec<String> = zip.names().filter(|name| !is_used(name)).map(shown).collect();
    if !unused.is_empty() {
        let (path, names) = (display_path(path), unused.join(", "));
        remarks.push(format!("the arrays that are used are {}; {path} has {names} too", USED.join(", ")));
    }
    if shape.channels > shape.length {
        remarks.push(format!(
            "the clips have {} samples of {} channels; if that is the other way round, save x.transpose(0, 2, 1)",
            shape.length, shape.channels
        ));
    }
    Ok(Arrays { shape, table, remarks })
}

/// The name of a member in a sentence.
fn shown(member: &str) -> String {
    format!("`{}`", display(member.strip_suffix(".npy").unwrap_or(member)))
}

/// Checks that the arrays are those of a network with this input.
fn check(path: &Path, shape: &ArrayShape, format: Format) -> Result<(), DataError> {
    let Format { rate_hz, channels } = format;
    if shape.channels != channels as usize {
        let (have, want) = (shape.channels, channels);
        let advice = format!("take a network whose input has {}", count(have, "channel"));
        return Err(wrong(
            path,
            format!("has clips of {}, and the network takes {want}; {advice}", count(have, "channel")),
        ));
    }
    match shape.rate_hz {
        Some(have) if have != rate_hz => Err(wrong(
            path,
            format!(
                "has clips of {have} Hz, and the network takes {rate_hz} Hz; arrays are not resampled: take a network for {have} Hz"
            ),
        )),
        _ => Ok(()),
    }
}

fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// Reads the wanted clips of the file at `path`: their rows, one after another, and what is known of each.
pub(super) fn read(path: &Path, arrays: &Arrays, wanted: &Wanted<'_>) -> Result<(Vec<f32>, Index), DataError> {
    let file = ArrayFile::open(path)?;
    let shape = &arrays.shape;
    check(path, shape, wanted.format)?;
    let (mut content, header, now) = file.clips()?;
    if (ArrayShape { rate_hz: shape.rate_hz, ..now }) != *shape {
        return Err(wrong(path, "has changed while it was read; run the command again".into()));
    }
    // Of an array in Fortran order, a clip is spread over the whole file.
    let whole = match header.is_fortran() {
        true => Some(in_order(file.all(&mut *content, &header)?, &header, shape)),
        false => None,
    };
    let size = shape.length * shape.channels;
    let (mut clip, mut rows, mut index) =
        (Vec::new(), Vec::new(), Index { found: arrays.table.found(), ..Index::default() });
    reserve(&mut clip, size.min(header.len().unwrap_or(0)))?;
    clip.resize(size, 0.0);
    for row in 0..shape.clips {
        if row % REPORT_ROWS == 0 {
            wanted.report(Stage::Reading, row as u64, shape.clips as u64)?;
        }
        match &whole {
            Some(values) => clip.copy_from_slice(&values[row * size..(row + 1) * size]),
            None => header.read_f32(&mut *content, &mut clip).map_err(|fault| file.fault("x", fault))?,
        }
        let name = row_name(row, shape.clips);
        if !arrays.table.row(&name).is_some_and(|row| wanted.wants(&row.class)) {
            continue;
        }
        match finite(&clip) {
            Ok(()) => index.clips.push(prepare(name, &clip, wanted, &mut rows)?),
            Err(fault) => index.problems.push(ClipError { name, fault }),
        }
    }
    wanted.report(Stage::Reading, shape.clips as u64, shape.clips as u64)?;
    Ok((rows, index))
}

/// Appends the part of a clip that is wanted to `rows`, cut or padded with zeros at the end.
fn prepare(name: Name, clip: &[f32], wanted: &Wanted<'_>, rows: &mut Vec<f32>) -> Result<ClipInfo, DataError> {
    let Format { rate_hz, channels } = wanted.format;
    let width = channels as usize;
    let used = wanted.crop.frames(clip, channels, wanted.length);
    let stored = stored_frames(&used, clip.len() / width, wanted);
    let kept = (stored != used)
        .then(|| Kept { offset: ((used.start - stored.start) * width) as u64, len: (stored.len() * width) as u64 });
    let row = rows.len() / wanted.row_len();
    let end = (row + stored.len().div_ceil(wanted.length).max(1)) * wanted.row_len();
    reserve(rows, end - rows.len())?;
    rows.extend_from_slice(&clip[stored.start * width..stored.end * width]);
    rows.resize(end, 0.0);
    let mut sha = Sha1::new();
    for part in clip.chunks(4096) {
        sha.update(part.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    }
    Ok(ClipInfo {
        name,
        listed: None,
        len_samples: (clip.len() / width) as u64,
        source_rate_hz: rate_hz,
        source_channels: channels,
        start_sample: used.start as u64,
        peak: 0,
        clipped_run: 0,
        fingerprint: hex(&sha.finalize()),
        row: u32::try_from(row).map_err(|_| DataError::Memory { source: std::io::ErrorKind::OutOfMemory.into() })?,
        kept,
    })
}
