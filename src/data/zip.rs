//! Reads the members of a zip archive, stored or deflated, with 64-bit fields where there are any.
//!
//! The archive is not trusted: every offset is compared with the size of the file, memory is allocated for bytes that were read and not for
//! those that a header states, and the checksum of a member is compared when its last byte has been read.
//!
//! **Source** PKWARE, "APPNOTE.TXT", 6.3.10, sections 4.3.7 to 4.3.16 and 4.5.3.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::read::DeflateDecoder;

/// Bytes of the record at the end without its comment, and the longest comment.
const END: u64 = 22;
const LONGEST_COMMENT: u64 = u16::MAX as u64;
/// Largest directory that is read.
const LARGEST_DIRECTORY: u64 = 16 << 20;
/// Bytes of the fixed part of an entry of the directory, and of a local header.
const ENTRY: usize = 46;
const LOCAL_HEADER: usize = 30;
const BUFFER: usize = 1 << 18;

/// The members of an archive.
#[derive(Debug)]
pub(super) struct Zip {
    file: File,
    size: u64,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    name: String,
    encrypted: bool,
    method: u16,
    crc: u32,
    compressed: u64,
    bytes: u64,
    start: u64, // of the local header
}

/// The content of a member.
pub(super) struct Content {
    inner: Box<dyn Read>,
    left: u64,
    crc: flate2::Crc,
    expected: u32,
}

/// A number of `N` bytes at `at`, little-endian.
fn number(bytes: &[u8], at: usize, len: usize) -> io::Result<u64> {
    let part = bytes.get(at..at + len).ok_or_else(|| damaged("its directory ends too early"))?;
    Ok(part.iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte)))
}

fn damaged(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_string())
}

impl Zip {
    /// Opens an archive and reads its directory. An error of the kind `InvalidData` says what is wrong with the archive, any other one is of
    /// the operating system.
    pub(super) fn open(path: &Path) -> io::Result<Zip> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let (start, bytes, count) = directory_place(&mut file, size)?;
        if bytes > LARGEST_DIRECTORY || start.checked_add(bytes).is_none_or(|end| end > size) {
            return Err(damaged("its directory lies outside of the file"));
        }
        let mut directory = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        (&file).take(bytes).read_to_end(&mut directory)?;
        let (mut members, mut at) = (Vec::new(), 0);
        for _ in 0..count {
            let (member, len) = entry(&directory, at)?;
            members.push(member);
            at += len;
        }
        Ok(Zip { file, size, members })
    }

    /// The names of the members.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.name.as_str())
    }

    /// The content of the member of this name, if there is one.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Content>> {
        let Some(member) = self.members.iter().find(|member| member.name == name) else { return Ok(None) };
        if member.encrypted {
            return Err(damaged("it is encrypted"));
        }
        let mut file = self.file.try_clone()?;
        let mut header = [0; LOCAL_HEADER];
        file.seek(SeekFrom::Start(member.start))?;
        file.read_exact(&mut header).map_err(|_| damaged("a member lies outside of the file"))?;
        if !header.starts_with(b"PK\x03\x04") {
            return Err(damaged("its directory names a member where there is none"));
        }
        let names = number(&header, 26, 2)? + number(&header, 28, 2)?;
        let start = member.start + LOCAL_HEADER as u64 + names;
        if start.checked_add(member.compressed).is_none_or(|end| end > self.size) {
            return Err(damaged("a member lies outside of the file"));
        }
        // Deflate makes at most 1032 bytes of one, so a size beyond that is none of the content.
        let most = if member.method == 0 { member.compressed } else { member.compressed.saturating_mul(1032) };
        if member.bytes > most {
            return Err(damaged("a member is shorter than its directory says"));
        }
        file.seek(SeekFrom::Start(start))?;
        let stored = BufReader::with_capacity(BUFFER, file.take(member.compressed));
        let inner: Box<dyn Read> = match member.method {
            0 => Box::new(stored),
            8 => Box::new(DeflateDecoder::new(stored)),
            method => return Err(damaged(&format!("it is compressed by method {method}, not deflated"))),
        };
        Ok(Some(Content { inner, left: member.bytes, crc: flate2::Crc::new(), expected: member.crc }))
    }
}

impl Content {
    /// Bytes that have not been read.
    pub(super) fn left(&self) -> u64 {
        self.left
    }
}

impl Read for Content {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if len == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut buf[..len])?;
        if n == 0 {
            return Err(damaged("it ends too early"));
        }
        self.crc.update(&buf[..n]);
        self.left -= n as u64;
        match self.left == 0 && self.crc.sum() != self.expected {
            true => Err(damaged("its checksum differs")),
            false => Ok(n),
        }
    }
}

/// Start, bytes and entries of the directory.
fn directory_place(file: &mut File, size: u64) -> io::Result<(u64, u64, u64)> {
    let tail_start = size.saturating_sub(END + LONGEST_COMMENT);
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(tail_start))?;
    (&*file).take(END + LONGEST_COMMENT).read_to_end(&mut tail)?;
    let at = tail.windows(4).rposition(|window| window == b"PK\x05\x06");
    let at = at.filter(|at| at + END as usize <= tail.len()).ok_or_else(|| damaged("it is cut short"))?;
    let (count, bytes, start) = (number(&tail, at + 10, 2)?, number(&tail, at + 12, 4)?, number(&tail, at + 16, 4)?);
    let is_full = count == u64::from(u16::MAX) || bytes == u64::from(u32::MAX) || start == u64::from(u32::MAX);
    let locator = at.checked_sub(20).filter(|&at| tail[at..].starts_with(b"PK\x06\x07"));
    let (Some(locator), true) = (locator, is_full) else { return Ok((start, bytes, count)) };
    let mut end = [0; 56];
    file.seek(SeekFrom::Start(number(&tail, locator + 8, 8)?))?;
    file.read_exact(&mut end).map_err(|_| damaged("it is cut short"))?;
    if !end.starts_with(b"PK\x06\x06") {
        return Err(damaged("its directory cannot be found"));
    }
    Ok((number(&end, 48, 8)?, number(&end, 40, 8)?, number(&end, 32, 8)?))
}

/// The entry of the directory at `at`, and its length.
fn entry(directory: &[u8], at: usize) -> io::Result<(Member, usize)> {
    let bytes = directory.get(at..).unwrap_or_default();
    if !bytes.starts_with(b"PK\x01\x02") {
        return Err(damaged("its directory ends too early"));
    }
    let field = |at, len| number(bytes, at, len);
    let [name_len, extra_len, comment_len] = [field(28, 2)?, field(30, 2)?, field(32, 2)?].map(|len| len as usize);
    let name = bytes.get(ENTRY..ENTRY + name_len).ok_or_else(|| damaged("its directory ends too early"))?;
    let extra = bytes.get(ENTRY + name_len..ENTRY + name_len + extra_len);
    let mut wide = wide_fields(extra.ok_or_else(|| damaged("its directory ends too early"))?);
    // Bytes, compressed bytes and start, each in the wide fields if the narrow one is full.
    let mut narrow_or_wide = |narrow: u64| match narrow == u64::from(u32::MAX) {
        true => wide.next().ok_or_else(|| damaged("its directory lacks a size")),
        false => Ok(narrow),
    };
    let member = Member {
        name: String::from_utf8_lossy(name).into_owned(),
        encrypted: field(8, 2)? & 1 == 1,
        method: field(10, 2)? as u16,
        crc: field(16, 4)? as u32,
        bytes: narrow_or_wide(field(24, 4)?)?,
        compressed: narrow_or_wide(field(20, 4)?)?,
        start: narrow_or_wide(field(42, 4)?)?,
    };
    Ok((member, ENTRY + name_len + extra_len + comment_len))
}

/// The 64-bit numbers in the extra fields of an entry.
fn wide_fields(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut numbers = Vec::new();
    while let Some((head, rest)) = extra.split_first_chunk::<4>() {
        let [kind, len] = [[head[0], head[1]], [head[2], head[3]]].map(u16::from_le_bytes);
        let (field, after) = rest.split_at(rest.len().min(len.into()));
        if kind == 1 {
            numbers = field.as_chunks::<8>().0.iter().map(|&bytes| u64::from_le_bytes(bytes)).collect();
        }
        extra = after;
    }
    numbers.into_iter()
}
