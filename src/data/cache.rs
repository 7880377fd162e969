//! The file of decoded clips: written once, memory-mapped by every process that uses it, never trusted.
//!
//! Layout: a header of [`HEADER_BYTES`], the rows (`i16`, the machine's byte order, each of the same length), the index as
//! JSON. The header holds the magic, the version, the sizes of all parts, the hash of the inputs and a checksum of itself
//! and of the index; the index holds one of each row. A file that fails any of them is not used.
//!
//! A file is written under a temporary name, synced and renamed, and no byte of it is changed afterwards: an old mapping
//! keeps the old file.
#![allow(unsafe_code)] // reason: one call maps a file, see `map`

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use memmap2::Mmap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::base::Temporary;

use super::error::ClipError;
use super::prepare::ClipInfo;
use super::source::Found;

/// Bytes before the rows: a page, so that the rows are aligned for any machine.
const HEADER_BYTES: usize = 4096;
/// Rows of another byte order are another file format.
const MAGIC: [u8; 8] = if cfg!(target_endian = "big") { *b"STAPESCB" } else { *b"STAPESCL" };
const VERSION: u64 = 2;
/// Bytes of the header that carry something: magic, 6 numbers, hash of the inputs, checksum.
const USED_BYTES: usize = 8 + 6 * 8 + 20 + 8;

/// Everything about the stored clips but their samples.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Index {
    /// The question that these clips answer: source, words, format and length.
    pub(super) key: String,
    pub(super) found: Found,
    /// Sorted by name.
    pub(super) clips: Vec<ClipInfo>,
    /// Of each row, in row order.
    pub(super) checksums: Vec<u64>,
    /// Sorted by name.
    pub(super) problems: Vec<ClipError>,
}

/// The rows of all clips, one behind the other.
#[derive(Debug)]
pub(super) enum Rows {
    /// Pages of the cache file, shared between processes.
    Mapped {
        map: Mmap,
        /// Bytes of the rows, from [`HEADER_BYTES`] on.
        len: usize,
        /// Holds the shared lock: whoever cleans up caches can see that this one is in use.
        _file: File,
    },
    /// Where no file could be written.
    Memory(Vec<i16>),
}

impl Rows {
    /// All values.
    pub(super) fn values(&self) -> &[i16] {
        match self {
            Rows::Mapped { map, len, .. } => bytemuck::cast_slice(&map[HEADER_BYTES..HEADER_BYTES + len]),
            Rows::Memory(values) => values,
        }
    }

    /// Whether they come from a file.
    pub(super) fn is_mapped(&self) -> bool {
        matches!(self, Rows::Mapped { .. })
    }
}

/// Why a cache file is not used.
#[derive(Debug, PartialEq)]
pub(super) enum Stale {
    /// There is none.
    Absent,
    /// The source, or the format of the cache, has changed.
    Outdated,
    /// It is not what was written.
    Damaged(&'static str),
}

/// The numbers of the header.
struct Header {
    row_len: u64, // values
    rows: u64,
    index_bytes: u64,
    index_checksum: u64,
    inputs: [u8; 20],
}

impl Header {
    fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MAGIC);
        for number in [VERSION, HEADER_BYTES as u64, self.row_len, self.rows, self.index_bytes, self.index_checksum] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.inputs);
        bytes.extend(checksum(&bytes).to_le_bytes());
        bytes.resize(HEADER_BYTES, 0);
        bytes.try_into().expect("it was resized to this length")
    }

    fn parse(bytes: &[u8]) -> Result<Header, Stale> {
        let used = bytes.get(..USED_BYTES).ok_or(Stale::Damaged("it is shorter than its header"))?;
        let number = |i: usize| u64::from_le_bytes(used[8 + 8 * i..16 + 8 * i].try_into().expect("eight bytes"));
        if used[..8] != MAGIC {
            return Err(Stale::Damaged("it does not start like a cache"));
        }
        if number(0) != VERSION {
            return Err(Stale::Outdated);
        }
        let (body, sum) = used.split_at(USED_BYTES - 8);
        if sum != checksum(body).to_le_bytes() || number(1) != HEADER_BYTES as u64 {
            return Err(Stale::Damaged("its header has another checksum"));
        }
        let inputs = used[56..76].try_into().expect("twenty bytes");
        Ok(Header { row_len: number(2), rows: number(3), index_bytes: number(4), index_checksum: number(5), inputs })
    }
}

/// Opens the cache at `path` if it answers `key`, was made of `inputs`, has rows of `row_len` values, and every checksum
/// holds.
pub(super) fn open(path: &Path, key: &str, inputs: &[u8; 20], row_len: usize) -> Result<(Rows, Index), Stale> {
    let file = File::open(path).map_err(|_| Stale::Absent)?;
    // A file system without locks is no reason to decode everything again: renaming keeps readers safe by itself.
    _ = file.lock_shared();
    let mut head = Vec::with_capacity(HEADER_BYTES);
    (&file).take(HEADER_BYTES as u64).read_to_end(&mut head).map_err(|_| Stale::Absent)?;
    let header = Header::parse(&head)?;
    if header.inputs != *inputs || header.row_len != row_len as u64 {
        return Err(Stale::Outdated);
    }
    let size = file.metadata().map_err(|_| Stale::Absent)?.len();
    let rows_bytes = header.row_len.checked_mul(2).and_then(|n| n.checked_mul(header.rows));
    let end = rows_bytes.and_then(|n| n.checked_add(HEADER_BYTES as u64)?.checked_add(header.index_bytes));
    let (Some(rows_bytes), true) = (rows_bytes, end == Some(size)) else {
        return Err(Stale::Damaged("it was cut or lengthened"));
    };
    let map = map(&file).map_err(|_| Stale::Absent)?;
    let index_bytes = &map[HEADER_BYTES + rows_bytes as usize..];
    if checksum(index_bytes) != header.index_checksum {
        return Err(Stale::Damaged("its index has another checksum"));
    }
    let index: Index = serde_json::from_slice(index_bytes).map_err(|_| Stale::Damaged("its index cannot be read"))?;
    if index.key != key {
        return Err(Stale::Outdated);
    }
    let rows = Rows::Mapped { map, len: rows_bytes as usize, _file: file };
    check(&rows, &index, row_len)?;
    Ok((rows, index))
}

/// Maps a cache file for reading.
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the pages are read as plain integers, for which every pattern of bits is valid, so all that could go wrong
    // is that the file changes or shrinks below the mapping. This program never writes into a finished cache: a new one
    // is a new file that takes over the name, and the mapped one lives on without a name until it is unmapped.
    unsafe { Mmap::map(file) }
}

/// Compares every row with its checksum, on all threads, and every entry with the number of rows.
fn check(rows: &Rows, index: &Index, row_len: usize) -> Result<(), Stale> {
    let values = rows.values();
    let len = index.checksums.len();
    if values.len() != len * row_len || index.clips.iter().any(|c| c.row as usize >= len) {
        return Err(Stale::Damaged("its index belongs to other rows"));
    }
    let intact = values.par_chunks_exact(row_len).zip(&index.checksums).all(|(row, &sum)| row_checksum(row) == sum);
    if intact { Ok(()) } else { Err(Stale::Damaged("its samples have another checksum")) }
}

/// The checksum of a row of samples.
pub(super) fn row_checksum(row: &[i16]) -> u64 {
    checksum(bytemuck::cast_slice(row))
}

/// A 64-bit checksum against damage, not against forgery: eight lanes of multiply and rotate over words of eight bytes,
/// about as fast as memory.
fn checksum(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let step = |lane: u64, word: u64| (lane ^ word).wrapping_mul(PRIME).rotate_left(29);
    let word = |b: &[u8]| u64::from_le_bytes(b.try_into().expect("eight bytes"));
    let mut lanes: [u64; 8] = std::array::from_fn(|i| PRIME.wrapping_mul(i as u64 + 1));
    let (blocks, rest) = bytes.as_chunks::<64>();
    for block in blocks {
        for (lane, b) in lanes.iter_mut().zip(block.chunks_exact(8)) {
            *lane = step(*lane, word(b));
        }
    }
    let mut sum = lanes.into_iter().fold(bytes.len() as u64, step);
    for b in rest.chunks(8) {
        let mut padded = [0; 8];
        padded[..b.len()].copy_from_slice(b);
        sum = step(sum, word(&padded));
    }
    sum ^ (sum >> 32)
}

/// Takes rows in any place they can be kept.
pub(super) trait Store {
    fn push(&mut self, row: &[i16]) -> io::Result<()>;
}

impl Store for Vec<i16> {
    fn push(&mut self, row: &[i16]) -> io::Result<()> {
        // An allocation that fails is an error here and not the end of the process.
        self.try_reserve(row.len()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.extend_from_slice(row);
        Ok(())
    }
}

/// A cache file in the making; dropped before [`Writer::finish`] it leaves nothing behind.
pub(super) struct Writer {
    file: BufWriter<Temporary>,
}

impl Writer {
    /// Starts a file in `folder` whose temporary name begins with `prefix`.
    pub(super) fn new(folder: &Path, prefix: &str) -> io::Result<Writer> {
        let mut file = Temporary::create(folder, prefix)?;
        file.write_all(&[0; HEADER_BYTES])?;
        Ok(Writer { file: BufWriter::with_capacity(1 << 20, file) })
    }

    /// Writes index and header, syncs, and gives the file its name.
    pub(super) fn finish(self, path: &Path, index: &Index, inputs: &[u8; 20], row_len: usize) -> io::Result<()> {
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let json = serde_json::to_vec(index)?;
        file.write_all(&json)?;
        let header = Header {
            row_len: row_len as u64,
            rows: index.checksums.len() as u64,
            index_bytes: json.len() as u64,
            index_checksum: checksum(&json),
            inputs: *inputs,
        };
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&header.to_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        // The new name is on disk only when the folder is, too; not every system lets a folder be synced.
        if let Some(folder) = path.parent() {
            _ = File::open(folder).and_then(|f| f.sync_all());
        }
        Ok(())
    }
}

impl Store for Writer {
    fn push(&mut self, row: &[i16]) -> io::Result<()> {
        self.file.write_all(bytemuck::cast_slice(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, rows: &[[i16; 3]]) -> Index {
        let mut writer = Writer::new(path.parent().unwrap(), "t").unwrap();
        for row in rows {
            writer.push(row).unwrap();
        }
        let checksums = rows.iter().map(|r| row_checksum(r)).collect();
        let index = Index { key: "k".into(), checksums, ..Index::default() };
        writer.finish(path, &index, &[7; 20], 3).unwrap();
        index
    }

    #[test]
    fn what_is_written_is_read_and_other_questions_are_outdated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        assert_eq!(open(&path, "k", &[7; 20], 3).unwrap_err(), Stale::Absent);
        let written = write(&path, &[[1, 2, 3], [-4, 5, i16::MIN]]);
        let (rows, index) = open(&path, "k", &[7; 20], 3).unwrap();
        assert_eq!(rows.values(), [1, 2, 3, -4, 5, i16::MIN]);
        assert_eq!(index, written);
        for (key, inputs, row_len) in [("l", 7, 3), ("k", 8, 3), ("k", 7, 2)] {
            assert_eq!(open(&path, key, &[inputs; 20], row_len).unwrap_err(), Stale::Outdated);
        }
    }

    #[test]
    fn every_changed_bit_that_matters_and_every_cut_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        write(&path, &[[1, 2, 3]]);
        let good = std::fs::read(&path).unwrap();
        for at in (0..USED_BYTES).chain(HEADER_BYTES..good.len()) {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                std::fs::write(&path, &bad).unwrap();
                assert!(open(&path, "k", &[7; 20], 3).is_err(), "bit {bit} of byte {at}");
            }
        }
        for len in (0..good.len()).step_by(13).chain([good.len() - 1]) {
            std::fs::write(&path, &good[..len]).unwrap();
            assert!(matches!(open(&path, "k", &[7; 20], 3), Err(Stale::Damaged(_))), "cut to {len}");
        }
        std::fs::write(&path, [&good[..], b"x"].concat()).unwrap();
        assert!(matches!(open(&path, "k", &[7; 20], 3), Err(Stale::Damaged(_))));
    }

    #[test]
    fn an_unfinished_file_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(folder.path(), "t").unwrap();
        writer.push(&[1; 100]).unwrap();
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
