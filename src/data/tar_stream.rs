//! The members of a tar stream, one after another, with a bound on everything that is kept in memory.
//!
//! Read are the formats of POSIX (ustar, pax), GNU and V7 tar, with GNU and pax sparse files.

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

/// Bytes of a header, and the unit of everything in a tar file.
const BLOCK: usize = 512;
/// Longest name of a member or of the target of a link; no system unpacks longer ones.
const MAX_NAME_BYTES: u64 = 8 << 10;
/// Largest extended header of a member.
const MAX_PAX_BYTES: u64 = 1 << 20;
/// Most pieces of a sparse file.
const MAX_PIECES: usize = 1 << 16;

/// Why a tar stream cannot be read on.
#[derive(Debug)]
pub(super) enum TarFault {
    /// The first block is not a header.
    NotTar,
    /// It contradicts itself or ends too early.
    Damaged(String),
    /// It needs more memory than a data set should.
    Limit(String),
    /// Reading the bytes failed.
    Io(io::Error),
}

/// What a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MemberKind {
    File,
    Folder,
    /// Another name of an earlier member.
    HardLink(Vec<u8>),
    SymbolicLink(Vec<u8>),
    /// A named pipe or a device.
    Special,
}

/// One member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) path: Vec<u8>,
    pub(super) kind: MemberKind,
    /// Bytes of its content, holes included.
    pub(super) size: u64,
}

/// What extended headers say of the member that follows them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    /// The keys `GNU.sparse.*`.
    sparse_major: Option<u64>,
    real_size: Option<u64>,
    pieces: Vec<(u64, u64)>,
    next_offset: u64,
}

/// Reads member after member.
pub(super) struct TarStream<R> {
    inner: R,
    any: bool,
    /// Bytes of the current member's content that have not been read.
    left: u64,
    /// Zeros after them up to a whole block.
    padding: u64,
    size: u64,
    /// Where the content lies in a sparse file: offset and length of each piece.
    pieces: Option<Vec<(u64, u64)>>,
}

impl<R: Read> TarStream<R> {
    pub(super) fn new(inner: R) -> TarStream<R> {
        TarStream { inner, any: false, left: 0, padding: 0, size: 0, pieces: None }
    }

    /// The next member; none after the mark of the end, or where the stream ends between two members.
    pub(super) fn next(&mut self) -> Result<Option<Member>, TarFault> {
        self.skip(self.left + self.padding)?;
        (self.left, self.padding, self.pieces) = (0, 0, None);
        let mut extended = Extended::default();
        loop {
            let Some(block) = self.header()? else {
                return Ok(None);
            };
            let header = Header::from_byte_slice(&block);
            let size = header.entry_size().map_err(|e| TarFault::Damaged(e.to_string()))?;
            match header.entry_type() {
                EntryType::GNULongName => extended.path = Some(self.long_name(size)?),
                EntryType::GNULongLink => extended.link = Some(self.long_name(size)?),
                EntryType::XHeader => parse_pax(&self.small(size, MAX_PAX_BYTES)?, &mut extended)?,
                EntryType::XGlobalHeader => self.skip(padded(size)?)?,
                _ => return self.member(header, size, extended).map(Some),
            }
        }
    }

    /// The content of the current member; at most [`Member::size`] bytes, so the caller looks at that first.
    pub(super) fn content(&mut self) -> Result<Vec<u8>, TarFault> {
        let Some(pieces) = self.pieces.take() else {
            let mut bytes = Vec::with_capacity(self.left.min(1 << 20) as usize);
            let wanted = self.left;
            let read = (&mut self.inner).take(wanted).read_to_end(&mut bytes).map_err(TarFault::Io)? as u64;
            self.left -= read;
            return if read == wanted { Ok(bytes) } else { Err(ends_early()) };
        };
        let mut bytes = vec![0; self.size as usize];
        for (offset, len) in pieces {
            let end = offset.checked_add(len).filter(|&end| end <= self.size && len <= self.left);
            let end = end.ok_or_else(|| TarFault::Damaged("a piece of a sparse file lies outside of it".into()))?;
            self.inner.read_exact(&mut bytes[offset as usize..end as usize]).map_err(fault_of)?;
            self.left -= len;
        }
        Ok(bytes)
    }

    /// Reads on to the end of the stream; returns how many bytes after the mark of the end are not zero.
    pub(super) fn finish(&mut self) -> Result<u64, TarFault> {
        let (mut buffer, mut trailing) = ([0; 1 << 13], 0);
        loop {
            match self.inner.read(&mut buffer) {
                Ok(0) => return Ok(trailing),
                Ok(n) => trailing += buffer[..n].iter().filter(|&&byte| byte != 0).count() as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(TarFault::Io(e)),
            }
        }
    }

    /// The next header block; nothing at the mark of the end or at the end of the stream.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, TarFault> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            match self.inner.read(&mut block[have..]) {
                Ok(0) if have == 0 => return Ok(None),
                Ok(0) if !self.any => return Err(TarFault::NotTar),
                Ok(0) => return Err(TarFault::Damaged("it ends within a header".into())),
                Ok(n) => have += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(TarFault::Io(e)),
            }
        }
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        if !is_header(&block) {
            let fault = TarFault::Damaged("the checksum of a header differs".into());
            return Err(if self.any { fault } else { TarFault::NotTar });
        }
        self.any = true;
        Ok(Some(block))
    }

    fn member(&mut self, header: &Header, stored: u64, extended: Extended) -> Result<Member, TarFault> {
        let path = extended.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = || extended.link.or_else(|| header.link_name_bytes().map(Into::into)).unwrap_or_default();
        let kind = match header.entry_type() {
            EntryType::Regular if path.ends_with(b"/") => MemberKind::Folder, // as V7 tar writes them
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => MemberKind::File,
            EntryType::Directory => MemberKind::Folder,
            EntryType::Link => MemberKind::HardLink(link()),
            EntryType::Symlink => MemberKind::SymbolicLink(link()),
            EntryType::Char | EntryType::Block | EntryType::Fifo => MemberKind::Special,
            _ => MemberKind::File, // POSIX: an unknown type is a regular file
        };
        let stored = extended.size.unwrap_or(stored);
        (self.left, self.padding) = (stored, padded(stored)? - stored);
        self.size = stored;
        if let (EntryType::GNUSparse, Some(gnu)) = (header.entry_type(), header.as_gnu()) {
            let mut pieces = Vec::new();
            add_pieces(&gnu.sparse, &mut pieces)?;
            let mut more = gnu.is_extended();
            while more {
                let mut block = GnuExtSparseHeader::new();
                self.inner.read_exact(block.as_mut_bytes()).map_err(fault_of)?;
                add_pieces(block.sparse(), &mut pieces)?;
                more = block.is_extended();
            }
            self.size = gnu.real_size().map_err(|e| TarFault::Damaged(e.to_string()))?;
            self.pieces = Some(pieces);
        } else if let (Some(real_size), MemberKind::File) = (extended.real_size, &kind) {
            let pieces = match extended.sparse_major {
                Some(1) => self.map_of_pieces()?,
                _ => extended.pieces,
            };
            (self.size, self.pieces) = (real_size, Some(pieces));
        }
        Ok(Member { path, kind, size: self.size })
    }

    /// The map at the beginning of the content of a sparse file, pax version 1.0: decimal numbers, one a line.
    fn map_of_pieces(&mut self) -> Result<Vec<(u64, u64)>, TarFault> {
        let damaged = || TarFault::Damaged("the map of a sparse file is wrong".into());
        let (mut numbers, mut digits) = (Vec::new(), Vec::new());
        loop {
            let mut block = [0; BLOCK];
            self.left = self.left.checked_sub(BLOCK as u64).ok_or_else(damaged)?;
            self.inner.read_exact(&mut block).map_err(fault_of)?;
            for byte in block {
                match byte {
                    b'\n' => {
                        numbers.push(number(&digits).ok_or_else(damaged)?);
                        digits.clear();
                    }
                    _ => digits.push(byte),
                }
                let count = numbers.first().copied().unwrap_or(0);
                if count > MAX_PIECES as u64 || digits.len() > 20 && numbers.len() as u64 <= 2 * count {
                    return Err(if digits.len() > 20 { damaged() } else { too_many_pieces() });
                }
                if !numbers.is_empty() && numbers.len() as u64 == 1 + 2 * count {
                    return Ok(numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect());
                }
            }
        }
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, TarFault> {
        let mut name = self.small(size, MAX_NAME_BYTES)?;
        name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
        Ok(name)
    }

    /// The content of an extended header.
    fn small(&mut self, size: u64, limit: u64) -> Result<Vec<u8>, TarFault> {
        if size > limit {
            return Err(TarFault::Limit(format!("the header of a member has {size} bytes, more than {limit}")));
        }
        let mut bytes = vec![0; padded(size)? as usize];
        self.inner.read_exact(&mut bytes).map_err(fault_of)?;
        bytes.truncate(size as usize);
        Ok(bytes)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), TarFault> {
        let skipped = io::copy(&mut (&mut self.inner).take(bytes), &mut io::sink()).map_err(TarFault::Io)?;
        if skipped == bytes { Ok(()) } else { Err(ends_early()) }
    }
}

/// Whether a block is the header of a member: its checksum is right.
pub(super) fn is_header(block: &[u8]) -> bool {
    if block.len() < BLOCK {
        return false;
    }
    let block = &block[..BLOCK];
    let rest = || block[..148].iter().chain(&block[156..]);
    let unsigned = 8 * 32 + rest().map(|&byte| u32::from(byte)).sum::<u32>();
    let signed = 8 * 32 + rest().map(|&byte| i32::from(byte as i8)).sum::<i32>(); // some old programs
    let stored = Header::from_byte_slice(block).cksum();
    stored.is_ok_and(|stored| stored == unsigned || i32::try_from(stored) == Ok(signed))
}

fn padded(size: u64) -> Result<u64, TarFault> {
    size.checked_next_multiple_of(BLOCK as u64).ok_or_else(|| TarFault::Damaged("a member has no possible size".into()))
}

fn ends_early() -> TarFault {
    TarFault::Damaged("it ends within a member".into())
}

fn fault_of(error: io::Error) -> TarFault {
    if error.kind() == io::ErrorKind::UnexpectedEof { ends_early() } else { TarFault::Io(error) }
}

fn too_many_pieces() -> TarFault {
    TarFault::Limit(format!("a sparse file has more than {MAX_PIECES} pieces"))
}

fn add_pieces(headers: &[GnuSparseHeader], pieces: &mut Vec<(u64, u64)>) -> Result<(), TarFault> {
    for header in headers.iter().filter(|header| !header.is_empty()) {
        let number = |n: io::Result<u64>| n.map_err(|e| TarFault::Damaged(e.to_string()));
        pieces.push((number(header.offset())?, number(header.length())?));
    }
    if pieces.len() > MAX_PIECES { Err(too_many_pieces()) } else { Ok(()) }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Reads the records of an extended header: `LENGTH KEY=VALUE\n`, the length in decimal and of the whole record, so that
/// a value can contain any byte.
fn parse_pax(mut records: &[u8], extended: &mut Extended) -> Result<(), TarFault> {
    let damaged = || TarFault::Damaged("an extended header is wrong".into());
    while !records.is_empty() && records[0] != 0 {
        let space = records.iter().position(|&byte| byte == b' ').ok_or_else(damaged)?;
        let len = number(&records[..space]).and_then(|len| usize::try_from(len).ok()).ok_or_else(damaged)?;
        let record = records.get(space + 1..len).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(damaged)?;
        let equals = record.iter().position(|&byte| byte == b'=').ok_or_else(damaged)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let parsed = || number(value).ok_or_else(damaged);
        match key {
            b"path" if extended.path.is_none() => extended.path = Some(bounded(value)?),
            b"GNU.sparse.name" => extended.path = Some(bounded(value)?),
            b"linkpath" => extended.link = Some(bounded(value)?),
            b"size" => extended.size = Some(parsed()?),
            b"GNU.sparse.major" => extended.sparse_major = Some(parsed()?),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => extended.real_size = Some(parsed()?),
            b"GNU.sparse.offset" => extended.next_offset = parsed()?,
            b"GNU.sparse.numbytes" => extended.pieces.push((extended.next_offset, parsed()?)),
            b"GNU.sparse.map" => {
                let numbers: Option<Vec<u64>> = value.split(|&byte| byte == b',').map(number).collect();
                let numbers = numbers.filter(|numbers| numbers.len().is_multiple_of(2)).ok_or_else(damaged)?;
                extended.pieces = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
            }
            _ => {}
        }
        records = &records[len..];
    }
    if extended.pieces.len() > MAX_PIECES { Err(too_many_pieces()) } else { Ok(()) }
}

fn bounded(name: &[u8]) -> Result<Vec<u8>, TarFault> {
    match name.len() as u64 {
        len if len > MAX_NAME_BYTES => Err(TarFault::Limit(format!("the name of a member has {len} bytes"))),
        _ => Ok(name.to_vec()),
    }
}
