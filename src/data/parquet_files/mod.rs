//! Data sets in Parquet files, as the library `datasets` of Hugging Face writes them: the bytes of a sound file in each row, with its class.
//!
//! | column | type | content |
//! |---|---|---|
//! | `audio` | struct | `bytes`: a sound file; `path`, optional: its name |
//! | `label` | whole numbers or text | the class; the names of class numbers are in the metadata of the file |
//! | `speaker_id` | whole numbers or text | optional; where it is null or not there, what stands before `_nohash_` in `audio.path` |
//! | `split` | text | optional; without it, the names of several files say it: `train-00000-of-00009.parquet` |
//!
//! The name of a clip is `FILE/ROW` or `FILE/ROW/NAME`, with the number of the row from 0.

mod file;
mod pages;
mod thrift;

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::base::Name;
use crate::base::sha1::Sha1;

use super::clip::{Clip, ClipReader, Format};
use super::error::{ClipFault, DataError};
use super::prepare::{MAX_CLIP_VALUES, MAX_FILE_BYTES, RawClip, Sink, Stop, decode_block};
use super::source::{Stage, Wanted, modified_ns, parquet_files_in};
use super::split::{Split, names_speaker, speaker, split_of_speaker};
use super::table::{Row, Table};
use file::{Cell, ParquetFile, Sound, error_of};

/// What a file has to have.
const COLUMNS: &str = "a data set has the columns `audio`, a struct of `bytes` and `path`, and `label`, as the library datasets writes them";

/// A data set in Parquet files, without the sound.
#[derive(Debug)]
pub(super) struct ParquetSet {
    files: Vec<Listed>,
    table: Table,
    inputs: [u8; 20],
}

/// A file of a data set, and the names of the clips in its rows.
#[derive(Debug)]
struct Listed {
    path: PathBuf,
    names: Vec<Name>,
}

/// What the rows of a file say.
struct Rows {
    /// The name of the file, by which the file is called in the names of its clips.
    file: Name,
    names: Vec<Name>,
    labels: Vec<Cell>,
    class_names: Option<Vec<Name>>,
    speakers: Option<Vec<Option<Cell>>>,
    splits: Option<Vec<Split>>,
}

impl ParquetSet {
    /// What the files say of their clips.
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// Adds to `hash` what changes when one of the files changes.
    pub(super) fn hash(&self, hash: &mut Sha1) {
        hash.update(self.inputs);
    }
}

fn wrong(path: &Path, reason: String) -> DataError {
    DataError::BadParquet { path: path.into(), reason }
}

/// Reads everything but the sound of the file at `path`, or of the files in the folder.
pub(super) fn survey(path: &Path) -> Result<ParquetSet, DataError> {
    let paths = if path.is_dir() { parquet_files_in(path)? } else { vec![path.to_path_buf()] };
    let mut hash = Sha1::new();
    let mut all = Vec::new();
    for path in &paths {
        let meta = std::fs::metadata(path).map_err(|source| DataError::Io { path: path.clone(), source })?;
        let rows = rows_of(path)?;
        hash.update(format!("{}\t{}\t{}\n", rows.file, meta.len(), modified_ns(&meta)));
        all.push(rows);
    }
    let (classes, mut classes_of) = classes(&paths, &mut all)?;
    let of_files = file_splits(&paths, &all)?;
    let listed = match (all.iter().any(|rows| rows.splits.is_some()), &of_files) {
        (true, _) => Some("the column `split`"),
        (false, Some(_)) => Some("the division into files"),
        (false, None) => None,
    };
    let mut named = false;
    let (mut files, mut table) = (Vec::new(), Vec::new());
    for (number, (path, rows)) in paths.into_iter().zip(all).enumerate() {
        named |= rows.speakers.is_some();
        for (row, (name, class)) in rows.names.iter().zip(std::mem::take(&mut classes_of[number])).enumerate() {
            named |= names_speaker(name);
            let told = rows.speakers.as_ref().and_then(|speakers| speakers[row].as_ref()).map(text_of);
            let who = told.unwrap_or_else(|| if names_speaker(name) { speaker(name) } else { name.clone() });
            let split = rows.splits.as_ref().map(|splits| splits[row]);
            let split = split.or(of_files.as_ref().map(|of_files| of_files[number]));
            let split = split.unwrap_or_else(|| split_of_speaker(&who));
            table.push(Row { name: name.clone(), class, speaker: who, split: Some(split) });
        }
        files.push(Listed { path, names: rows.names });
    }
    if table.is_empty() {
        return Err(wrong(path, "has no rows; write the clips into it".into()));
    }
    Ok(ParquetSet { files, table: Table::new(classes, table, listed, named), inputs: hash.finalize() })
}

/// Everything but the sound of a file.
fn rows_of(path: &Path) -> Result<Rows, DataError> {
    let file = ParquetFile::open(path)?;
    audio(path, &file)?;
    let (label, class_names) = match file.column(&["label"]) {
        Some(column) => (file.cells(column)?, file.class_names("label")),
        None => return Err(wrong(path, missing(&file, "label"))),
    };
    let n = file.rows();
    let name = path.file_name().map(Name::from_os).unwrap_or_default();
    let sounds = match file.column(&["audio", "path"]).filter(|&column| file.has_bytes(column)) {
        Some(column) => file.cells(column)?,
        None => vec![None; n],
    };
    let speakers = file.column(&["speaker_id"]).map(|column| file.cells(column)).transpose()?;
    let splits = file.column(&["split"]).map(|column| file.cells(column)).transpose()?;
    let labels = label.into_iter().enumerate().map(|(row, cell)| match cell {
        Some(Cell::Text(text)) if text.is_empty() => {
            Err(wrong(path, format!("has an empty `label` in row {row}; {LABEL}")))
        }
        Some(cell) => Ok(cell),
        None => Err(wrong(path, format!("has no `label` in row {row}, where it is null; {LABEL}"))),
    });
    let split = |(row, cell): (usize, Option<Cell>)| {
        let text = cell.as_ref().map(text_of).unwrap_or_default();
        Split::of_table(&text)
            .ok_or_else(|| wrong(path, format!("has the `split` `{text}` in row {row}; {}", Split::TABLE_VALUES)))
    };
    Ok(Rows {
        names: sounds.iter().enumerate().map(|(row, sound)| clip_name(&name, (row, n), sound.as_ref())).collect(),
        labels: labels.collect::<Result<_, _>>()?,
        splits: splits.map(|cells| cells.into_iter().enumerate().map(split).collect()).transpose()?,
        file: name,
        class_names,
        speakers,
    })
}

/// What to do about a row without a class.
const LABEL: &str = "give every row its class, or leave the row out";

/// The column with the sound.
fn audio(path: &Path, file: &ParquetFile) -> Result<usize, DataError> {
    match file.column(&["audio", "bytes"]).filter(|&column| file.has_bytes(column)) {
        Some(column) => Ok(column),
        None if file.columns().iter().any(|column| column == "audio") => Err(only_paths(path)),
        None => Err(wrong(path, missing(file, "audio"))),
    }
}

fn only_paths(path: &Path) -> DataError {
    let advice =
        "write it with the bytes of the sound files in the field `bytes` of `audio`, or list the files in a .csv file";
    wrong(path, format!("has no sound, only the paths of sound files; {advice}"))
}

fn missing(file: &ParquetFile, column: &str) -> String {
    const SHOWN: usize = 10;
    let names = file.columns();
    let names: Vec<String> = names.iter().map(|name| format!("`{}`", crate::base::name::display(name))).collect();
    let more = if names.len() > SHOWN { ", .." } else { "" };
    let own = names[..names.len().min(SHOWN)].join(", ");
    format!("has no column `{column}`, its own are {own}{more}; {COLUMNS}")
}

/// The name of the clip in a row of `n`. The number of the row is as long as that of the last one, so that the order of names is that of rows.
fn clip_name(file: &Name, (row, n): (usize, usize), sound: Option<&Cell>) -> Name {
    let width = (n.max(1) - 1).to_string().len();
    let row = format!("/{row:0width$}");
    match sound {
        Some(Cell::Text(path)) if !path.is_empty() => {
            let own = path.as_bytes().rsplit(|&byte| byte == b'/').next().unwrap_or_default();
            Name::from_bytes(&[file.as_bytes(), row.as_bytes(), b"/", own].concat())
        }
        _ => Name::from_bytes(&[file.as_bytes(), row.as_bytes()].concat()),
    }
}

fn text_of(cell: &Cell) -> Name {
    match cell {
        Cell::Text(text) => text.clone(),
        Cell::Whole(number) => number.to_string().into(),
    }
}

/// The classes in the order of the outputs, and the class of each row of each file.
type Classes = (Vec<Name>, Vec<Vec<Name>>);

fn classes(paths: &[PathBuf], all: &mut [Rows]) -> Result<Classes, DataError> {
    let Some(first) = all.first() else { return Ok((Vec::new(), Vec::new())) };
    let is_text = |rows: &Rows| rows.labels.first().map(|label| matches!(label, Cell::Text(_)));
    let (names, text, first_file) = (first.class_names.clone(), all.iter().find_map(is_text), first.file.clone());
    for (path, rows) in paths.iter().zip(&*all) {
        let other = if rows.class_names != names {
            "names other classes than"
        } else if is_text(rows).is_some_and(|own| Some(own) != text) {
            "has another type of `label` than"
        } else {
            continue;
        };
        return Err(wrong(path, format!("{other} {first_file}; give files of one data set")));
    }
    let mut seen = HashSet::new();
    if let Some(twice) = names.iter().flatten().find(|name| !seen.insert(*name)) {
        return Err(wrong(&paths[0], format!("names the class `{twice}` twice in its metadata; name each class once")));
    }
    let (mut numbers, mut texts) = (BTreeSet::new(), BTreeSet::new());
    let mut of_files = Vec::with_capacity(all.len());
    for (path, rows) in paths.iter().zip(all) {
        let mut of_rows = Vec::with_capacity(rows.labels.len());
        for (row, label) in std::mem::take(&mut rows.labels).into_iter().enumerate() {
            match (label, &names) {
                (Cell::Whole(number), Some(names)) => {
                    let name = usize::try_from(number).ok().and_then(|number| names.get(number)).cloned();
                    of_rows.push(name.ok_or_else(|| {
                        let last = names.len() as i128 - 1;
                        let fault = format!("has the `label` {number} in row {row}, and names the classes 0 to {last}");
                        wrong(path, format!("{fault}; {LABEL}"))
                    })?);
                }
                (Cell::Whole(number), None) => {
                    numbers.insert(number);
                    of_rows.push(number.to_string().into());
                }
                (Cell::Text(text), _) => {
                    if !texts.contains(&text) {
                        texts.insert(text.clone());
                    }
                    of_rows.push(text);
                }
            }
        }
        of_files.push(of_rows);
    }
    let classes = match (names, text) {
        (Some(names), Some(false)) => names,
        (_, Some(true)) => texts.into_iter().collect(),
        _ => numbers.iter().map(|number| number.to_string().into()).collect(),
    };
    Ok((classes, of_files))
}

/// The split of each file, if their names say it, of at least two splits.
fn file_splits(paths: &[PathBuf], all: &[Rows]) -> Result<Option<Vec<Split>>, DataError> {
    let has_column = |rows: &Rows| rows.splits.is_some();
    if all.iter().any(has_column) {
        return match all.iter().position(|rows| !has_column(rows)) {
            Some(at) => Err(wrong(&paths[at], "has no column `split`, which other files have; add it".into())),
            None => Ok(None),
        };
    }
    let of_name = |rows: &Rows| {
        let name = rows.file.as_bytes();
        let end = name.iter().position(|byte| b"-._".contains(byte)).unwrap_or(name.len());
        Split::of_table(&Name::from_bytes(&name[..end]))
    };
    let splits: Vec<Option<Split>> = all.iter().map(of_name).collect();
    if splits.iter().flatten().collect::<BTreeSet<_>>().len() < 2 {
        return Ok(None);
    }
    match splits.iter().position(Option::is_none) {
        Some(at) => {
            let fault = "does not say by its name which split it is of, as other files do";
            let advice = "let it begin with train-, validation- or test-, or take it out of the folder";
            Err(wrong(&paths[at], format!("{fault}; {advice}")))
        }
        None => Ok(Some(splits.into_iter().flatten().collect())),
    }
}

/// The bytes of a sound file, or why there are none.
fn bytes_of(sound: &Sound) -> Result<&[u8], ClipFault> {
    match sound {
        None => Err(ClipFault::MissingBytes),
        Some(bytes) if bytes.len() as u64 > MAX_FILE_BYTES => {
            Err(ClipFault::FileTooLarge { limit_mib: MAX_FILE_BYTES >> 20 })
        }
        Some(bytes) => Ok(bytes.data()),
    }
}

/// Decodes the wanted clips into `sink`, file by file in the order of the rows.
pub(super) fn read(set: &ParquetSet, wanted: &Wanted<'_>, sink: Sink<'_>) -> Result<(), Stop> {
    let wants = |name: &Name| set.table.row(name).is_some_and(|row| wanted.wants(&row.class));
    let of_file = |file: &Listed| file.names.iter().filter(|name| wants(name)).count() as u64;
    let total: u64 = set.files.iter().map(of_file).sum();
    let (mut done, mut present) = (0, false);
    for file in set.files.iter().filter(|file| of_file(file) > 0) {
        let opened = ParquetFile::open(&file.path)?;
        if opened.rows() != file.names.len() {
            return Err(wrong(&file.path, "has changed while it was read; run the command again".into()).into());
        }
        let mut names = file.names.iter();
        opened.each_sound(audio(&file.path, &opened)?, &mut |sounds| {
            wanted.report(Stage::Reading, done, total)?;
            present |= sounds.iter().any(Option::is_some);
            // In this order: the end of the block is noticed before a name is taken.
            let rows = sounds.iter().zip(names.by_ref()).map(|(sound, name)| (name, sound));
            let chosen: Vec<(&Name, &Sound)> = rows.filter(|(name, _)| wants(name)).collect();
            done += chosen.len() as u64;
            let outcomes = decode_block(&chosen, wanted, |&(name, sound)| RawClip {
                name: name.clone(),
                bytes: bytes_of(sound).map(Into::into),
            });
            outcomes.into_iter().try_for_each(&mut *sink)
        })?;
    }
    wanted.report(Stage::Reading, total, total)?;
    match set.files.first() {
        Some(file) if total > 0 && !present => Err(only_paths(&file.path).into()),
        _ => Ok(()),
    }
}

/// Decodes the sound in each row of the Parquet file at `path`, whatever its class, and hands the clips to `take` in the order of the rows, from 0;
/// `Break` ends the reading. It needs the feature `parquet`.
///
/// # Errors
/// The file cannot be read, is no Parquet file, is damaged, or has no column `audio` with the bytes of sound files.
pub fn read_parquet_clips(
    path: &Path,
    format: Format,
    take: &mut dyn FnMut(Result<Clip, ClipFault>) -> ControlFlow<()>,
) -> Result<(), DataError> {
    let file = ParquetFile::open(path)?;
    let reader = || ClipReader::new(format, MAX_CLIP_VALUES);
    let read = file.each_sound(audio(path, &file)?, &mut |sounds| {
        let decode = |reader: &mut ClipReader, sound: &Sound| bytes_of(sound).and_then(|bytes| reader.read(bytes));
        let clips: Vec<Result<Clip, ClipFault>> = sounds.par_iter().map_init(reader, decode).collect();
        match clips.into_iter().try_for_each(&mut *take) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Stop::Source(DataError::Interrupted)),
        }
    });
    match read.map_err(error_of) {
        Err(DataError::Interrupted) => Ok(()),
        read => read,
    }
}
