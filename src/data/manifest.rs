//! Data sets listed in a CSV file: a line per sound file with its path, label and, if they are given, speaker and split.
//!
//! The first line names the columns `path`, `label`, `speaker` and `split` in any order; other columns are not used. Paths are relative to the
//! folder of the CSV file. A clip has its path as name.
//!
//! **Source** Y. Shafranovich, RFC 4180, section 2; a line may also end with a line feed alone.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::base::Name;
use crate::base::name::display_path;
use crate::base::sha1::Sha1;

use super::error::DataError;
use super::prepare::{BLOCK_CLIPS, RawClip, Sink, Stop, decode_block, read_file};
use super::source::{FileKind, Stage, Wanted, file_kind, modified_ns};
use super::split::{Split, names_speaker, speaker};
use super::table::{Row, Table};

/// Largest CSV file that is read.
const LARGEST_FILE: u64 = 1 << 30;
/// The columns that are used.
const COLUMNS: [&str; 4] = ["path", "label", "speaker", "split"];

/// A list of sound files.
#[derive(Debug)]
pub(super) struct Manifest {
    files: Vec<Entry>,
    pub(super) table: Table,
    inputs: [u8; 20],
}

#[derive(Debug)]
struct Entry {
    name: Name,
    class: Name,
    path: PathBuf,
    size: u64,
}

/// A record with the number of its first line.
struct Record {
    line: usize,
    fields: Vec<Vec<u8>>,
}

/// The file of a clip of the manifest at `path`.
pub(super) fn file_of(path: &Path, clip: &Name) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(clip.to_path())
}

impl Manifest {
    /// Adds to `hash` what changes when the list or one of its files changes.
    pub(super) fn hash(&self, hash: &mut Sha1) {
        hash.update(self.inputs);
    }
}

/// The sound files directly in a folder, sorted by name, as clips of one class; none if there are none.
pub(super) fn of_folder(folder: &Path, class: &Name) -> Result<Option<Manifest>, DataError> {
    let failed = |source| DataError::Io { path: folder.into(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().map(Name::from_os).unwrap_or_default();
        // What is no regular file is not opened: a pipe would wait for a writer.
        let size = std::fs::metadata(&path).ok().filter(|meta| meta.is_file()).map(|meta| meta.len());
        if let (FileKind::Clip, Some(size)) = (file_kind(&name), size) {
            files.push(Entry { name, class: class.clone(), path, size });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let table = Table::new(vec![class.clone()], Vec::new(), None, false);
    Ok((!files.is_empty()).then(|| Manifest { files, table, inputs: Default::default() }))
}

/// Reads the list at `path`, and looks for its files.
pub(super) fn survey(path: &Path) -> Result<Manifest, DataError> {
    let failed = |source| DataError::Io { path: path.into(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)).map_err(failed)?;
    let wrong = |line: usize, reason: String| DataError::BadManifest { path: path.into(), line, reason };
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(wrong(1, "the file has more than 1 GiB, which is no list of files; give a CSV file".into()));
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let mut records = records(text).map_err(|(line, reason)| wrong(line, reason.into()))?.into_iter();
    let columns = columns(records.next()).map_err(|reason| wrong(1, reason))?;
    let mut hash = Sha1::new();
    hash.update(&bytes);
    let (mut files, mut rows, mut lines) = (Vec::new(), Vec::new(), HashMap::new());
    let (mut classes, mut named) = (BTreeSet::new(), columns[2].is_some());
    for record in records {
        let line = record.line;
        let row = row(&record, &columns).map_err(|reason| wrong(line, reason))?;
        if let Some(first) = lines.insert(row.name.clone(), line) {
            return Err(wrong(line, format!("the path `{}` is in line {first} too; leave one of them out", row.name)));
        }
        let file = file_of(path, &row.name);
        let meta = std::fs::metadata(&file).map_err(|error| {
            let (shown, advice) = (display_path(&file), "paths are relative to the folder of the CSV file");
            wrong(line, format!("the file {shown} cannot be read ({error}); correct the path: {advice}"))
        })?;
        if !meta.is_file() {
            let shown = display_path(&file);
            return Err(wrong(line, format!("{shown} is no file; give the path of a sound file")));
        }
        hash.update(format!("{}\t{}\n", meta.len(), modified_ns(&meta)));
        named |= names_speaker(&row.name);
        classes.insert(row.class.clone());
        files.push(Entry { name: row.name.clone(), class: row.class.clone(), path: file, size: meta.len() });
        rows.push(row);
    }
    if rows.is_empty() {
        return Err(wrong(1, "no clips follow the names of the columns; add a line for each clip".into()));
    }
    let listed = columns[3].map(|_| "the column `split`");
    let table = Table::new(classes.into_iter().collect(), rows, listed, named);
    Ok(Manifest { files, table, inputs: hash.finalize() })
}

/// Where each of [`COLUMNS`] is; the first two have to be there.
fn columns(head: Option<Record>) -> Result<[Option<usize>; 4], String> {
    let head = head.map(|record| record.fields).unwrap_or_default();
    let is = |field: &Vec<u8>, column: &str| field.trim_ascii().eq_ignore_ascii_case(column.as_bytes());
    let places = COLUMNS.map(|column| head.iter().position(|field| is(field, column)));
    for (column, place) in COLUMNS.iter().zip(places) {
        if head.iter().filter(|field| is(field, column)).count() > 1 {
            return Err(format!("the column `{column}` is named twice; name each column once"));
        }
        if place.is_none() && ["path", "label"].contains(column) {
            return Err(format!(
                "there is no column `{column}`; the first line must name the columns, such as path,label,speaker,split"
            ));
        }
    }
    Ok(places)
}

/// A clip.
fn row(record: &Record, columns: &[Option<usize>; 4]) -> Result<Row, String> {
    let [path, label, speaker_at, split] = columns.map(|at| {
        let field = record.fields.get(at?)?;
        Some(Name::from_bytes(field))
    });
    let missing = |what: &str| format!("there is no {what}; every line needs one");
    let path = path.filter(|path| !path.is_empty()).ok_or_else(|| missing("path"))?;
    let name = Name::from_bytes(path.as_bytes().strip_prefix(b"./").unwrap_or(path.as_bytes()));
    let class = label.filter(|label| !label.is_empty()).ok_or_else(|| missing("label"))?;
    let who = match (columns[2], speaker_at.filter(|speaker| !speaker.is_empty())) {
        (None, _) => speaker(&name),
        (Some(_), Some(speaker)) => speaker,
        (Some(_), None) => return Err(missing("speaker")),
    };
    let split = match columns[3] {
        None => None,
        Some(_) => {
            let text = split.unwrap_or_default();
            let known = Split::of_table(&text).ok_or_else(|| format!("the split is `{text}`; {}", Split::TABLE_VALUES));
            Some(known?)
        }
    };
    Ok(Row { name, class, speaker: who, split })
}

/// The records of a CSV text, without empty lines; or the line of the first fault and the fault.
fn records(text: &[u8]) -> Result<Vec<Record>, (usize, &'static str)> {
    let (mut records, mut line, mut at) = (Vec::new(), 1, 0);
    while at < text.len() {
        let mut record = Record { line, fields: Vec::new() };
        let is_empty = matches!(text[at..], [b'\n', ..] | [b'\r', b'\n', ..]);
        loop {
            let mut field = Vec::new();
            if text.get(at) == Some(&b'"') {
                at += 1;
                loop {
                    match (text.get(at), text.get(at + 1)) {
                        (Some(b'"'), Some(b'"')) => at += 1,
                        (Some(b'"'), _) => break,
                        (Some(b'\n'), _) => line += 1,
                        (Some(_), _) => {}
                        (None, _) => {
                            let fault = "a quotation mark is opened and not closed; close it, or double it if it belongs to the text";
                            return Err((record.line, fault));
                        }
                    }
                    field.push(text[at]);
                    at += 1;
                }
                at += 1;
            } else {
                let len = text[at..].iter().position(|byte| b",\r\n".contains(byte)).unwrap_or(text.len() - at);
                field.extend_from_slice(&text[at..at + len]);
                at += len;
            }
            record.fields.push(field);
            match text[at..] {
                [b',', ..] => at += 1,
                [] => break,
                [b'\n', ..] => {
                    at += 1;
                    break;
                }
                [b'\r', b'\n', ..] => {
                    at += 2;
                    break;
                }
                _ => {
                    let fault = "text follows a closing quotation mark; put the whole field between quotation marks";
                    return Err((line, fault));
                }
            }
        }
        line += 1;
        if !is_empty {
            records.push(record);
        }
    }
    Ok(records)
}

/// Decodes the wanted clips into `sink`.
pub(super) fn read(manifest: &Manifest, wanted: &Wanted<'_>, sink: Sink<'_>) -> Result<(), Stop> {
    let chosen: Vec<&Entry> = manifest.files.iter().filter(|file| wanted.wants(&file.class)).collect();
    for (block, chunk) in chosen.chunks(BLOCK_CLIPS).enumerate() {
        wanted.report(Stage::Reading, (block * BLOCK_CLIPS) as u64, chosen.len() as u64)?;
        let outcomes = decode_block(chunk, wanted, |file| RawClip {
            name: file.name.clone(),
            bytes: read_file(&file.path, file.size).map(Into::into),
        });
        for outcome in outcomes {
            sink(outcome)?;
        }
    }
    wanted.report(Stage::Reading, chosen.len() as u64, chosen.len() as u64)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Vec<(usize, Vec<String>)> {
        let records = records(text.as_bytes()).unwrap();
        let text = |field: &Vec<u8>| String::from_utf8_lossy(field).into_owned();
        records.iter().map(|record| (record.line, record.fields.iter().map(text).collect())).collect()
    }

    #[test]
    fn quoted_fields_have_commas_quotation_marks_and_line_feeds() {
        let of = |line: usize, fields: &[&str]| (line, fields.iter().map(ToString::to_string).collect::<Vec<_>>());
        let text = "a,b\r\n\"x,y\",\"say \"\"no\"\"\"\n\n\"two\nlines\",\nlast,\"\"";
        let expected =
            [of(1, &["a", "b"]), of(2, &["x,y", "say \"no\""]), of(4, &["two\nlines", ""]), of(6, &["last", ""])];
        assert_eq!(fields(text), expected);
        assert_eq!(fields(""), []);
        assert_eq!(records(b"a,b\nc,\"d").map(drop).unwrap_err().0, 2);
        assert_eq!(records(b"a\n\"b\"c\n").map(drop).unwrap_err().0, 2);
        assert_eq!(records(b"a\rb").map(drop).unwrap_err().0, 1);
    }
}
