//! A Parquet file: its columns, and the values of a column, row group by row group.
//!
//! The file is not trusted. Its footer is checked before the crate `parquet` reads it (`thrift.rs`), pages are bounded (`pages.rs`), and a panic of the
//! crate, which asserts what a damaged file contradicts, becomes an error of the file. The reader of columns suffices; that of Arrow would bring 11 crates
//! more.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Type;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
};
use parquet::schema::types::ColumnDescPtr;

use crate::base::Name;
use crate::base::name::display;

use super::super::archive_stream::{FREE_BYTES, MAX_RATIO};
use super::super::error::DataError;
use super::super::prepare::{BLOCK_CLIPS, Stop};
use super::super::quiet_panic::catch_quietly;
use super::pages::{Pages, unread};
use super::thrift::check_footer;
use super::wrong;

const MAGIC: &[u8; 4] = b"PAR1";
/// The end of a file whose footer is encrypted.
const ENCRYPTED: &[u8; 4] = b"PARE";
/// Largest footer that is read, of which the crate takes up to about 100 times as much memory. A row group of 100 clips has about 1 kB in it, or 9 kB with the
/// statistics of short texts.
const MAX_FOOTER: u64 = 16 << 20;
/// Most rows: Google Speech Commands has 0.1 million.
const MAX_ROWS: u64 = 4_000_000;
/// Most bytes of the texts of a column.
const MAX_TEXT_BYTES: usize = 1 << 30;
/// Bytes of sound that are decoded at a time, about.
const BLOCK_BYTES: u64 = 16 << 20;
/// Values of other columns that are read at a time.
const BLOCK_VALUES: usize = 4096;

/// A file whose footer was read.
pub(super) struct ParquetFile {
    path: PathBuf,
    file: Arc<File>,
    size: u64,
    metadata: ParquetMetaData,
    rows: usize,
}

/// A value of a column of texts or of whole numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Text(Name),
    Whole(i64),
}

/// Takes values, some at a time.
type Take<'a, V> = &'a mut dyn FnMut(&[V]) -> Result<(), Stop>;

/// The bytes of a value, or nothing where the column or the struct around it is null.
pub(super) type Sound = Option<ByteArray>;

impl ParquetFile {
    pub(super) fn open(path: &Path) -> Result<ParquetFile, DataError> {
        let failed = |source| DataError::Io { path: path.into(), source };
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(wrong(path, "is no file; give .parquet files, or a folder of them".into()));
        }
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let footer = footer(path, &file, size)?;
        let damaged = || damaged(path, "its footer contradicts itself");
        check_footer(&footer).map_err(|_| damaged())?;
        // Statistics are the largest part of a footer.
        let options = ParquetMetaDataOptions::new()
            .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
            .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll);
        let metadata =
            catch_quietly(|| ParquetMetaDataReader::decode_metadata_with_options(&footer, Some(&options)).ok());
        let metadata = metadata.flatten().ok_or_else(damaged)?;
        let groups = metadata.row_groups().iter();
        let rows = groups.map(|group| u64::try_from(group.num_rows()).ok());
        let rows = rows.sum::<Option<u64>>().ok_or_else(damaged)?;
        if rows > MAX_ROWS {
            return Err(wrong(path, format!("has {rows} rows, more than {MAX_ROWS}; divide it into several files")));
        }
        Ok(ParquetFile { path: path.into(), file: Arc::new(file), size, metadata, rows: rows as usize })
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The names of the columns, not of the fields within them.
    pub(super) fn columns(&self) -> Vec<String> {
        let root = self.metadata.file_metadata().schema_descr().root_schema();
        root.get_fields().iter().map(|field| field.name().to_string()).collect()
    }

    /// The number of the column with this name, or of a field of a struct, if it has one value in each row.
    pub(super) fn column(&self, path: &[&str]) -> Option<usize> {
        let columns = self.metadata.file_metadata().schema_descr().columns();
        columns.iter().position(|column| column.path().parts() == path && column.max_rep_level() == 0)
    }

    fn descriptor(&self, column: usize) -> ColumnDescPtr {
        self.metadata.file_metadata().schema_descr().column(column)
    }

    /// Whether a column has bytes.
    pub(super) fn has_bytes(&self, column: usize) -> bool {
        self.descriptor(column).physical_type() == Type::BYTE_ARRAY
    }

    /// The names of the classes 0, 1, .. of a column of class numbers, as the library `datasets` stores them.
    pub(super) fn class_names(&self, column: &str) -> Option<Vec<Name>> {
        let pairs = self.metadata.file_metadata().key_value_metadata()?;
        let text = pairs.iter().find(|pair| pair.key == "huggingface")?.value.as_ref()?;
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        let names = value.get("info")?.get("features")?.get(column)?.get("names")?.as_array()?;
        names.iter().map(|name| name.as_str().map(Name::from)).collect()
    }

    /// All values of a column of texts or of whole numbers.
    pub(super) fn cells(&self, column: usize) -> Result<Vec<Option<Cell>>, DataError> {
        let mut cells = Vec::new();
        let mut text_bytes = 0;
        let name = self.name(column);
        let mut text = |bytes: &ByteArray| {
            text_bytes += bytes.len();
            (text_bytes <= MAX_TEXT_BYTES).then(|| Cell::Text(Name::from_bytes(bytes.data())))
        };
        let too_long = || Stop::Source(wrong(&self.path, format!("has more than 1 GiB of text in {name}; divide it")));
        let kind = self.descriptor(column).physical_type();
        for group in 0..self.metadata.num_row_groups() {
            let place = (group, column);
            let read = match kind {
                Type::INT32 => self.each::<Int32Type>(place, BLOCK_VALUES, &mut |values| {
                    cells.extend(values.iter().map(|value| value.map(|value| Cell::Whole(value.into()))));
                    Ok(())
                }),
                Type::INT64 => self.each::<Int64Type>(place, BLOCK_VALUES, &mut |values| {
                    cells.extend(values.iter().map(|value| value.map(Cell::Whole)));
                    Ok(())
                }),
                Type::BYTE_ARRAY => self.each::<ByteArrayType>(place, BLOCK_VALUES, &mut |values| {
                    for value in values {
                        let cell = value.as_ref().map(|bytes| text(bytes).ok_or_else(too_long)).transpose()?;
                        cells.push(cell);
                    }
                    Ok(())
                }),
                other => {
                    let reason = format!(
                        "cannot be used: {name} has values of the type {other}; it must have whole numbers or text"
                    );
                    return Err(wrong(&self.path, reason));
                }
            };
            read.map_err(error_of)?;
        }
        Ok(cells)
    }

    /// Hands the sound of all rows to `take`, some rows at a time.
    pub(super) fn each_sound(&self, column: usize, take: Take<'_, Sound>) -> Result<(), Stop> {
        let limit = FREE_BYTES.max(MAX_RATIO.saturating_mul(self.size));
        let mut bytes = 0;
        for group in 0..self.metadata.num_row_groups() {
            let of_group = self.metadata.row_group(group);
            // How many rows have about the bytes of a block, as far as the file says; what it has in truth is bounded by its pages.
            let rows = u64::try_from(of_group.num_rows()).unwrap_or(0).max(1);
            let of_row = u64::try_from(of_group.column(column).uncompressed_size()).unwrap_or(0) / rows;
            let block = (BLOCK_BYTES / of_row.max(1)).clamp(1, BLOCK_CLIPS as u64) as usize;
            self.each::<ByteArrayType>((group, column), block, &mut |values| {
                // Equal values are stored once in a dictionary.
                bytes += values.iter().flatten().map(|value| value.len() as u64).sum::<u64>();
                if bytes > limit {
                    let reason = format!("is not read on because it expands to more than {MAX_RATIO} times its size");
                    return Err(Stop::Source(wrong(&self.path, format!("{reason}; write its clips as single files"))));
                }
                take(values)
            })?;
        }
        Ok(())
    }

    /// Hands the values of a column in a row group to `take`, at most `block` at a time.
    fn each<T: DataType>(
        &self,
        (group, column): (usize, usize),
        block: usize,
        take: Take<'_, Option<T::T>>,
    ) -> Result<(), Stop> {
        let fault = |reason: String| {
            let name = self.name(column);
            Stop::Source(damaged(&self.path, &format!("{name}, row group {group}: {reason}")))
        };
        let descriptor = self.descriptor(column);
        // A text has at least its length.
        let value_bytes = if T::get_physical_type() == Type::INT64 { 8 } else { 4 };
        let pages = self.pages(group, column, value_bytes)?;
        let max = descriptor.max_def_level();
        let mut reader = ColumnReaderImpl::<T>::new(descriptor, Box::new(pages));
        let mut left = usize::try_from(self.metadata.row_group(group).num_rows()).unwrap_or(0);
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        while left > 0 {
            levels.clear();
            values.clear();
            let read = catch_quietly(|| reader.read_records(block.min(left), Some(&mut levels), None, &mut values));
            let (rows, ..) = match read {
                Some(Ok(read)) => read,
                Some(Err(error)) => return Err(fault(text_of(&error))),
                None => return Err(fault("its values contradict one another".into())),
            };
            if rows == 0 {
                return Err(fault("it has fewer values than rows".into()));
            }
            let mut present = values.drain(..);
            let of_rows: Vec<Option<T::T>> = match max {
                0 => present.map(Some).collect(),
                _ => levels.iter().map(|&level| if level == max { present.next() } else { None }).collect(),
            };
            left -= rows.min(left);
            take(&of_rows)?;
        }
        Ok(())
    }

    fn pages(&self, group: usize, column: usize, value_bytes: usize) -> Result<Pages, DataError> {
        let chunk = self.metadata.row_group(group).column(column);
        if let Some(name) = unread(chunk.compression()) {
            let reason = format!("is compressed with {name}, which is not read");
            return Err(wrong(&self.path, format!("{reason}; write it with Snappy, Zstandard or GZIP")));
        }
        let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
        let bytes = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
        let lies_in_file = |&(start, len): &(u64, u64)| start.checked_add(len).is_some_and(|end| end <= self.size);
        let bytes = bytes.filter(lies_in_file).ok_or_else(|| {
            damaged(&self.path, &format!("{}, row group {group}: it lies outside of the file", self.name(column)))
        })?;
        Ok(Pages::new(&self.file, bytes, chunk.compression(), value_bytes))
    }

    /// A column in a sentence.
    fn name(&self, column: usize) -> String {
        format!("its column `{}`", display(&self.descriptor(column).path().string()))
    }
}

/// The footer of a file.
fn footer(path: &Path, mut file: &File, size: u64) -> Result<Vec<u8>, DataError> {
    let failed = |source| DataError::Io { path: path.into(), source };
    let mut head = [0; 4];
    let has_head = size >= 4 && file.read_exact(&mut head).is_ok();
    if !has_head || head != *MAGIC && head != *ENCRYPTED {
        return Err(wrong(
            path,
            "is no Parquet file, whatever its name says; give one, or name it after its content".into(),
        ));
    }
    let cut = || wrong(path, "is cut short: a Parquet file ends with its footer; download it again".into());
    // The head, the length of the footer, and the mark of the end.
    if size < 12 {
        return Err(cut());
    }
    let mut tail = [0; 8];
    file.seek(SeekFrom::Start(size - 8)).and_then(|_| file.read_exact(&mut tail)).map_err(failed)?;
    let (len, mark) = tail.split_at(4);
    if head == *ENCRYPTED || mark == ENCRYPTED {
        return Err(wrong(path, "is encrypted; write it without encryption".into()));
    }
    let len = u64::from(u32::from_le_bytes([len[0], len[1], len[2], len[3]]));
    if mark != MAGIC || len > size - 12 {
        return Err(cut());
    }
    if len > MAX_FOOTER {
        return Err(wrong(
            path,
            format!("has a footer of {len} bytes, more than {MAX_FOOTER}; write it with larger row groups"),
        ));
    }
    let mut footer = Vec::with_capacity(len as usize);
    file.seek(SeekFrom::Start(size - 8 - len)).map_err(failed)?;
    file.take(len).read_to_end(&mut footer).map_err(failed)?;
    Ok(footer)
}

fn damaged(path: &Path, reason: &str) -> DataError {
    wrong(path, format!("cannot be read ({reason}); download it again, or write it again with the defaults of pyarrow"))
}

fn text_of(error: &ParquetError) -> String {
    let text = error.to_string();
    display(text.trim_start_matches("Parquet error: ")).to_string()
}

/// The error of a source; there is no other where nothing is stored.
pub(super) fn error_of(stop: Stop) -> DataError {
    match stop {
        Stop::Source(error) => error,
        Stop::Store(source) => DataError::Memory { source },
    }
}
