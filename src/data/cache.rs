//! The file of decoded clips: written once, read by every process that uses it, and compared with its checksums.
//!
//! Layout: a header of [`HEADER_BYTES`], the rows (`i16`, the machine's byte order, each of the same length), the index as
//! JSON. The header holds the magic, the version, the sizes of all parts, the hash of the inputs and a checksum of itself
//! and of the index; the index holds one of each row. A file that fails any of them is not used.
//!
//! A file is written under a temporary name, synced and renamed, and this program never changes it afterwards. Other
//! programs may, so the rows are copied into memory (32 kB per second of 16 kHz audio) instead of mapped: a file that is
//! truncated below a mapping ends the process with a signal, and no check can prevent that. Reading needs no lock.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Deref;
use std::path::Path;

use memmap2::{Mmap, MmapMut};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::base::Temporary;

use super::error::ClipError;
use super::layout::Found;
use super::prepare::ClipInfo;

/// Bytes before the rows: a page, so that the rows are aligned for any machine.
const HEADER_BYTES: usize = 4096;
/// Rows of another byte order are another file format.
const MAGIC: [u8; 8] = if cfg!(target_endian = "big") { *b"STAPESCB" } else { *b"STAPESCL" };
const VERSION: u64 = 4;
/// Bytes of the header that carry something: magic, 6 numbers, hash of the inputs, checksum.
const USED_BYTES: usize = 8 + 6 * 8 + 20 + 8;

/// Everything about the stored clips but their samples.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Index {
    /// What was asked for: source, words, format, length and crop.
    pub(super) key: String,
    pub(super) found: Found,
    /// Sorted by name.
    pub(super) clips: Vec<ClipInfo>,
    /// Of each row, in row order.
    pub(super) checksums: Vec<u64>,
    /// Sorted by name.
    pub(super) problems: Vec<ClipError>,
}

/// The rows of all clips, one after another.
///
/// Rows from a cache are copied into memory of their own. A mapping of the file itself would end the process with SIGBUS if
/// another program truncated the file.
#[derive(Debug)]
pub(super) enum Rows {
    /// Decoded just now.
    Decoded(Vec<i16>),
    /// Read from a cache, into pages that belong to no file: the system zeroes them as they are written, a refused
    /// allocation is an error, and they are read-only afterwards.
    Cached(Mmap),
}

impl Rows {
    /// Reads `bytes` bytes of rows from the current position of a cache file.
    fn read(file: &mut File, bytes: u64) -> Result<Rows, Stale> {
        if bytes == 0 {
            return Ok(Rows::Decoded(Vec::new())); // a mapping cannot be empty
        }
        let len = usize::try_from(bytes).map_err(|_| Stale::NoMemory)?;
        let mut map = MmapMut::map_anon(len).map_err(|_| Stale::NoMemory)?;
        read_exact(file, &mut map)?;
        map.make_read_only().map(Rows::Cached).map_err(|_| Stale::NoMemory)
    }
}

impl Deref for Rows {
    type Target = [i16];

    fn deref(&self) -> &[i16] {
        match self {
            Rows::Decoded(values) => values,
            Rows::Cached(map) => bytemuck::cast_slice(map),
        }
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
    /// Its rows do not fit into memory.
    NoMemory,
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

/// Reads the cache at `path` into memory if it was made for `key` and `inputs`, has rows of `row_len` values, and all its
/// checksums are right. Returns the rows one after another.
pub(super) fn open(path: &Path, key: &str, inputs: &[u8; 20], row_len: usize) -> Result<(Rows, Index), Stale> {
    // What is no regular file is not opened: a pipe would wait for a writer.
    if !std::fs::metadata(path).is_ok_and(|meta| meta.is_file()) {
        return Err(Stale::Absent);
    }
    let mut file = File::open(path).map_err(|_| Stale::Absent)?;
    let mut head = Vec::with_capacity(HEADER_BYTES);
    (&file).take(HEADER_BYTES as u64).read_to_end(&mut head).map_err(|_| Stale::Absent)?;
    let header = Header::parse(&head)?;
    if header.inputs != *inputs || header.row_len != row_len as u64 {
        return Err(Stale::Outdated);
    }
    let size = file.metadata().map_err(|_| Stale::Absent)?.len();
    let row_bytes = header.row_len.checked_mul(2).and_then(|n| n.checked_mul(header.rows));
    let end = row_bytes.and_then(|n| n.checked_add(HEADER_BYTES as u64)?.checked_add(header.index_bytes));
    let (Some(row_bytes), true) = (row_bytes, end == Some(size)) else {
        return Err(Stale::Damaged("it was truncated or extended"));
    };
    file.seek(SeekFrom::Start(HEADER_BYTES as u64 + row_bytes)).map_err(|_| Stale::Absent)?;
    let index_len = usize::try_from(header.index_bytes).map_err(|_| Stale::NoMemory)?;
    let mut index_bytes = Vec::new();
    index_bytes.try_reserve_exact(index_len).map_err(|_| Stale::NoMemory)?;
    index_bytes.resize(index_len, 0);
    read_exact(&mut file, &mut index_bytes)?;
    if checksum(&index_bytes) != header.index_checksum {
        return Err(Stale::Damaged("its index has another checksum"));
    }
    let index: Index = serde_json::from_slice(&index_bytes).map_err(|_| Stale::Damaged("its index cannot be read"))?;
    if index.key != key {
        return Err(Stale::Outdated);
    }
    file.seek(SeekFrom::Start(HEADER_BYTES as u64)).map_err(|_| Stale::Absent)?;
    let rows = Rows::read(&mut file, row_bytes)?;
    check(&rows, &index, row_len)?;
    Ok((rows, index))
}

/// Fills `bytes` from a file; a file that is too short is damaged.
fn read_exact(file: &mut File, bytes: &mut [u8]) -> Result<(), Stale> {
    file.read_exact(bytes).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => Stale::Damaged("it was truncated"),
        _ => Stale::Absent,
    })
}

/// Compares every row with its checksum, on all threads, and every entry with the number of rows.
fn check(rows: &[i16], index: &Index, row_len: usize) -> Result<(), Stale> {
    let len = index.checksums.len();
    let outside =
        |c: &ClipInfo| c.row as usize >= len || c.kept.is_some_and(|kept| !kept.fits(c.row, row_len, rows.len()));
    if rows.len() != len * row_len || index.clips.iter().any(outside) {
        return Err(Stale::Damaged("its index belongs to other rows"));
    }
    let intact = rows.par_chunks_exact(row_len).zip(&index.checksums).all(|(row, &sum)| row_checksum(row) == sum);
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

/// Receives rows: a cache file, or memory.
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

/// A cache file that is being written; if it is dropped before [`Writer::finish`], no file remains.
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
        assert_eq!(*rows, [1, 2, 3, -4, 5, i16::MIN]);
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
    fn case_29_a_cache_that_changes_after_it_was_opened_changes_no_sample() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        write(&path, &[[1, 2, 3]]);
        let (rows, _) = open(&path, "k", &[7; 20], 3).unwrap();
        std::fs::write(&path, b"").unwrap();
        assert_eq!(*rows, [1, 2, 3]);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(open(&path, "k", &[7; 20], 3).unwrap_err(), Stale::Absent);
    }

    #[test]
    fn case_44_a_lock_of_another_program_does_not_delay_reading() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        write(&path, &[[1, 2, 3]]);
        let other = File::open(&path).unwrap();
        other.lock().unwrap();
        assert_eq!(*open(&path, "k", &[7; 20], 3).unwrap().0, [1, 2, 3]);
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
