//! Arrays in a file that `numpy.load` reads: a zip archive without compression (`.npz`) whose members are `.npy` files.
//!
//! **Sources** NumPy enhancement proposal 1, "A simple file format for NumPy arrays"; PKWARE, "APPNOTE.TXT", 6.3.10, sections 4.3.7 to 4.3.16.

use crate::base::{Name, Temporary};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

/// The largest archive: beyond it a zip file needs 64-bit fields.
const LARGEST: u64 = u32::MAX as u64;
/// Bytes of a local header without the name, and the offset of the checksum in it.
const LOCAL_HEADER: u64 = 30;
const CHECKSUM_AT: u64 = 14;

/// An archive that is being written, under a temporary name until [`NpzWriter::finish`].
pub struct NpzWriter {
    file: BufWriter<Temporary>,
    at: u64,
    members: Vec<Member>,
}

struct Member {
    name: String,
    start: u64,
    bytes: u64,
    crc: flate2::Crc,
}

impl NpzWriter {
    /// Begins an archive that will be `path`.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn create(path: &Path) -> io::Result<NpzWriter> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = BufWriter::new(Temporary::create(folder, ".stapes-")?);
        Ok(NpzWriter { file, at: 0, members: Vec::new() })
    }

    /// Begins an array of f32 of this shape, whose values follow by [`NpzWriter::f32s`].
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn begin_f32(&mut self, name: &str, shape: &[usize]) -> io::Result<()> {
        self.begin(name, "<f4", shape)
    }

    /// Appends values to the array that was begun last.
    ///
    /// # Errors
    /// The file cannot be written, or gets larger than 4 GiB.
    pub fn f32s(&mut self, values: &[f32]) -> io::Result<()> {
        for part in values.chunks(4096) {
            let bytes: Vec<u8> = part.iter().flat_map(|value| value.to_le_bytes()).collect();
            self.write(&bytes)?;
        }
        Ok(())
    }

    /// Adds an array `[n]` of 64-bit integers.
    ///
    /// # Errors
    /// As for [`NpzWriter::f32s`].
    pub fn i64s(&mut self, name: &str, values: &[i64]) -> io::Result<()> {
        self.begin(name, "<i8", &[values.len()])?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.write(&bytes)
    }

    /// Adds an array `[n]` of text, each in the text form of names.
    ///
    /// # Errors
    /// As for [`NpzWriter::f32s`].
    pub fn names<'a>(&mut self, name: &str, values: impl Iterator<Item = &'a Name>) -> io::Result<()> {
        let texts: Vec<Vec<char>> = values.map(|value| value.to_string().chars().collect()).collect();
        let width = texts.iter().map(Vec::len).max().unwrap_or(0).max(1);
        self.begin(name, &format!("<U{width}"), &[texts.len()])?;
        for text in &texts {
            let padded = text.iter().copied().chain(std::iter::repeat('\0')).take(width);
            self.write(&padded.flat_map(|c| u32::from(c).to_le_bytes()).collect::<Vec<u8>>())?;
        }
        Ok(())
    }

    fn begin(&mut self, name: &str, kind: &str, shape: &[usize]) -> io::Result<()> {
        self.end()?;
        let name = format!("{name}.npy");
        let member = Member { name, start: self.at, bytes: 0, crc: flate2::Crc::new() };
        let mut header = b"PK\x03\x04".to_vec();
        header.extend(fields(&member));
        header.extend((member.name.len() as u16).to_le_bytes());
        header.extend([0, 0]); // no extra field
        header.extend(member.name.as_bytes());
        self.append(&header)?;
        self.members.push(member);
        self.write(&npy_header(kind, shape))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let member = self.members.last_mut().expect("an array was begun");
        member.crc.update(bytes);
        member.bytes += bytes.len() as u64;
        self.append(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        if self.at > LARGEST {
            return Err(io::Error::other("the arrays have more than 4 GiB"));
        }
        self.file.write_all(bytes)
    }

    /// Writes the checksum and the size of the last member into its header.
    fn end(&mut self) -> io::Result<()> {
        let Some(member) = self.members.last() else { return Ok(()) };
        debug_assert!(member.start + LOCAL_HEADER <= self.at);
        self.file.seek(SeekFrom::Start(member.start + CHECKSUM_AT))?;
        self.file.write_all(&sizes(member))?;
        self.file.seek(SeekFrom::Start(self.at))?;
        Ok(())
    }

    /// Ends the archive and gives it its name.
    ///
    /// # Errors
    /// The file cannot be written, synced or renamed.
    pub fn finish(mut self, path: &Path) -> io::Result<()> {
        self.end()?;
        let start = self.at;
        for member in std::mem::take(&mut self.members) {
            let mut entry = b"PK\x01\x02\x14\x00".to_vec();
            entry.extend(fields(&member));
            entry.extend((member.name.len() as u16).to_le_bytes());
            entry.extend([0; 12]); // neither extra field nor comment, first disk, no attributes
            entry.extend((member.start as u32).to_le_bytes());
            entry.extend(member.name.as_bytes());
            self.append(&entry)?;
            self.members.push(member);
        }
        let count = (self.members.len() as u16).to_le_bytes();
        let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
        end.extend(count);
        end.extend(count);
        end.extend(((self.at - start) as u32).to_le_bytes());
        end.extend((start as u32).to_le_bytes());
        end.extend([0, 0]); // no comment
        self.append(&end)?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.as_file().sync_all()?;
        file.persist(path)
    }
}

/// What a local header and an entry of the directory have in common: version 2.0, no flags, stored, 1 January 1980, checksum and sizes.
fn fields(member: &Member) -> Vec<u8> {
    let mut fields = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
    fields.extend(sizes(member));
    fields
}

/// The checksum and both sizes, which are equal without compression.
fn sizes(member: &Member) -> Vec<u8> {
    let bytes = member.bytes as u32;
    [member.crc.sum(), bytes, bytes].iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The header of a `.npy` file, version 1.0, padded to a multiple of 64 bytes.
fn npy_header(kind: &str, shape: &[usize]) -> Vec<u8> {
    let sizes = shape.iter().map(|size| format!("{size},")).collect::<Vec<_>>().join(" ");
    let mut text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({sizes}), }}");
    let len = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text.push_str(&" ".repeat(len - 1 - text.len()));
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((text.len() as u16).to_le_bytes());
    header.extend(text.as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_its_arrays_and_their_checksums() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let mut npz = NpzWriter::create(&path).unwrap();
        npz.begin_f32("x", &[2, 3]).unwrap();
        npz.f32s(&[1.0, 2.0, 3.0]).unwrap();
        npz.f32s(&[4.0, 5.0, 6.5]).unwrap();
        npz.i64s("y", &[-1, 1 << 40]).unwrap();
        npz.names("clips", ["yes/ä.wav".into(), "no".into()].iter()).unwrap();
        npz.finish(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let mut at = 0;
        let mut contents = Vec::new();
        while bytes[at..].starts_with(b"PK\x03\x04") {
            let (crc, size, name) = (word(at + 14), word(at + 18), usize::from(bytes[at + 26]));
            assert_eq!(size, word(at + 22));
            let data = &bytes[at + 30 + name..][..size];
            let mut sum = flate2::Crc::new();
            sum.update(data);
            assert_eq!(sum.sum() as usize, crc);
            let header = usize::from(u16::from_le_bytes([data[8], data[9]]));
            assert_eq!((10 + header) % 64, 0);
            contents.push((String::from_utf8_lossy(&data[10..10 + header]).into_owned(), data[10 + header..].to_vec()));
            at += 30 + name + size;
        }
        let [(x, of_x), (y, of_y), (clips, of_clips)] = &contents[..] else { panic!("{}", contents.len()) };
        assert!(x.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3,), }"), "{x}");
        assert_eq!(of_x[20..], 6.5f32.to_le_bytes());
        assert!(y.contains("'<i8'") && y.contains("(2,)"), "{y}");
        assert_eq!(of_y[8..], (1i64 << 40).to_le_bytes());
        assert!(clips.contains("'<U9'"), "{clips}");
        assert_eq!(of_clips[16..20], u32::from('ä').to_le_bytes());
        assert_eq!(of_clips.len(), 2 * 9 * 4);
        assert!(bytes[at..].starts_with(b"PK\x01\x02"));
    }
}
