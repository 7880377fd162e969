//! The bytes of an archive file: what kind of file it is, and its content, decompressed within limits.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::GzDecoder;

use super::error::DataError;
use super::tar_stream::{TarFault, is_header};

/// Bytes that the content of a compressed archive may have whatever its size.
pub(super) const FREE_BYTES: u64 = 256 << 20;
/// How many times its size a larger archive may expand to. Recordings shrink to a half or a tenth.
pub(super) const MAX_RATIO: u64 = 50;
/// First two bytes of a gzip stream.
const GZIP: [u8; 2] = [0x1F, 0x8B];

/// The formats of archives and compression that are not read: first bytes, name, and the command that unpacks or
/// converts a file.
const OTHER: [(&[u8], &str, &str); 9] = [
    (b"PK\x03\x04", "a zip archive", "unzip {} -d FOLDER"),
    (b"PK\x05\x06", "an empty zip archive", "unzip {} -d FOLDER"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x {} -oFOLDER"),
    (b"Rar!\x1a\x07", "a RAR archive", "unrar x {} FOLDER/"),
    (b"BZh", "compressed with bzip2", "bzip2 -dc {} > data.tar"),
    (b"\xfd7zXZ\0", "compressed with xz", "xz -dc {} > data.tar"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "zstd -dc {} > data.tar"),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "lz4 -dc {} > data.tar"),
    (b"\x1f\x9d", "compressed with compress", "uncompress -c {} > data.tar"),
];

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileFormat {
    /// A tar archive, perhaps compressed with gzip.
    Archive,
    /// A format that is not read: its name, and a command that unpacks it with `{}` for the file.
    Other(&'static str, &'static str),
    Unknown,
}

/// What a file is that begins with `head`; 512 bytes are enough.
pub(super) fn format_of(head: &[u8]) -> FileFormat {
    if head.starts_with(&GZIP) || is_header(head) || head.get(257..262) == Some(b"ustar") {
        return FileFormat::Archive;
    }
    let other = OTHER.iter().find(|(magic, ..)| head.starts_with(magic));
    match other {
        Some(&(_, name, command)) => FileFormat::Other(name, command),
        None if head.len() == 512 && head.iter().all(|&byte| byte == 0) => FileFormat::Archive, // without members
        None => FileFormat::Unknown,
    }
}

/// An archive file that counts the bytes read, for the progress.
pub(super) struct Stream {
    file: BufReader<Counted>,
    done: Arc<AtomicU64>,
}

struct Counted {
    file: File,
    done: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buf)?;
        self.done.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// How a stream ended, known when its last byte has been read.
pub(super) struct Ending {
    gzipped: bool,
    zeros: Arc<AtomicU64>,
    trailing: Arc<AtomicU64>,
}

impl Ending {
    /// Whether nothing was cut off after the last member. A plain tar file ends with a block of zeros; gzip has a
    /// checksum.
    pub(super) fn is_marked(&self) -> bool {
        self.gzipped || self.zeros.load(Ordering::Relaxed) >= 512
    }

    /// Bytes after the gzip stream that belong to nothing; zeros do not count.
    pub(super) fn trailing_bytes(&self) -> u64 {
        self.trailing.load(Ordering::Relaxed)
    }
}

impl Stream {
    pub(super) fn new(file: File, done: Arc<AtomicU64>) -> Stream {
        Stream { file: BufReader::with_capacity(1 << 16, Counted { file, done: Arc::clone(&done) }), done }
    }

    /// The content, and how it ends.
    pub(super) fn decompress(mut self) -> io::Result<(Box<dyn Read + Send>, Ending)> {
        let gzipped = self.file.fill_buf()?.starts_with(&GZIP);
        let (zeros, trailing) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let ending = Ending { gzipped, zeros: Arc::clone(&zeros), trailing: Arc::clone(&trailing) };
        let content: Box<dyn Read + Send> = if gzipped {
            let inner = Gunzip { decoder: Some(GzDecoder::new(self.file)), trailing };
            Box::new(Bounded { inner, read: self.done, content: 0 })
        } else {
            Box::new(Tail { inner: self.file, zeros })
        };
        Ok((content, ending))
    }
}

/// Counts the zeros at the end.
struct Tail<R> {
    inner: R,
    zeros: Arc<AtomicU64>, // zero bytes since the last other one
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        let zeros = buf[..n].iter().rev().take_while(|&&b| b == 0).count();
        let before = if zeros == n { self.zeros.load(Ordering::Relaxed) } else { 0 };
        self.zeros.store(before + zeros as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// The content of gzip members that follow one another. What comes after them and is not gzip is counted and not
/// decompressed, as `gzip` does.
struct Gunzip {
    decoder: Option<GzDecoder<BufReader<Counted>>>,
    trailing: Arc<AtomicU64>,
}

impl Read for Gunzip {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            let n = decoder.read(buf).map_err(damaged_unless_io)?;
            if n > 0 || buf.is_empty() {
                return Ok(n);
            }
            let mut rest = self.decoder.take().expect("the loop has looked").into_inner();
            if rest.fill_buf()?.starts_with(&GZIP) {
                self.decoder = Some(GzDecoder::new(rest));
            } else {
                self.count_trailing(&mut rest)?;
            }
        }
        Ok(0)
    }
}

impl Gunzip {
    fn count_trailing(&self, rest: &mut impl Read) -> io::Result<()> {
        let mut buffer = [0; 1 << 13];
        loop {
            match rest.read(&mut buffer)? {
                0 => return Ok(()),
                n => {
                    let count = buffer[..n].iter().filter(|&&byte| byte != 0).count() as u64;
                    self.trailing.fetch_add(count, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Ends a stream that expands to many times its size.
struct Bounded<R> {
    inner: R,
    read: Arc<AtomicU64>,
    content: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.content += n as u64;
        if self.content > FREE_BYTES && self.content / MAX_RATIO > self.read.load(Ordering::Relaxed) {
            return Err(io::Error::other(Expands(MAX_RATIO)));
        }
        Ok(n)
    }
}

/// The error of [`Bounded`].
#[derive(Debug, thiserror::Error)]
#[error("it expands to more than {0} times its size")]
struct Expands(u64);

/// The error of a gzip stream that is damaged, to tell it from a disk that fails.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Corrupt(String);

fn damaged_unless_io(error: io::Error) -> io::Error {
    let corrupt =
        matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof);
    if corrupt && error.raw_os_error().is_none() {
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof => "its compressed data end too early".to_string(),
            _ => format!("its compressed data are wrong: {error}"),
        };
        return io::Error::other(Corrupt(reason));
    }
    error
}

/// The error of an archive at `path`.
pub(super) fn error(path: &Path, fault: TarFault) -> DataError {
    let path = path.to_path_buf();
    match fault {
        TarFault::NotTar => DataError::NotTar { path },
        TarFault::Damaged(reason) => DataError::BadArchive { path, reason },
        TarFault::Limit(reason) => DataError::ArchiveLimit { path, reason },
        TarFault::Io(source) => {
            let inner = source.get_ref();
            if inner.is_some_and(|inner| inner.is::<Expands>()) {
                DataError::ArchiveLimit { path, reason: source.to_string() }
            } else if inner.is_some_and(|inner| inner.is::<Corrupt>()) {
                DataError::BadArchive { path, reason: source.to_string() }
            } else {
                DataError::Io { path, source }
            }
        }
    }
}
