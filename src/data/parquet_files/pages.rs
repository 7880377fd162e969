//! The pages of a column of a Parquet file, decompressed within bounds.
//!
//! The crate `parquet` has such a reader, which takes as much memory as the header of a page claims, up to 2 GiB, and inflates gzip without a limit.
//! Here a page has at most [`MAX_RATIO`] times its compressed size, or [`FREE_BYTES`], and memory is taken as the content is decompressed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};

use super::super::archive_stream::{FREE_BYTES, MAX_RATIO};
use super::thrift::{Fault, Integers};

/// Bytes that are read for a header, and for one with long statistics.
const HEADER_BYTES: [u64; 3] = [1 << 9, 1 << 14, 1 << 20];

/// The pages of a column within a row group.
pub(super) struct Pages {
    file: Arc<File>,
    /// Where the next page begins, and the bytes from there to the end of the column.
    at: u64,
    left: u64,
    compression: Compression,
    /// Fewest bytes of a value in a dictionary.
    value_bytes: usize,
}

/// What a header says.
struct Header {
    /// Bytes of the page in the file, and decompressed.
    stored: usize,
    size: usize,
    crc: Option<u32>,
    kind: Kind,
}

enum Kind {
    Dictionary { values: u32, encoding: Encoding },
    First { values: u32, encoding: Encoding, levels: Encoding },
    Second { values: u32, nulls: u32, rows: u32, encoding: Encoding, levels: [u32; 2], compressed: bool },
    Other,
}

fn fault(text: impl Into<String>) -> ParquetError {
    ParquetError::General(text.into())
}

impl Pages {
    /// The pages in the bytes `[start, start + len)` of `file`; values have at least `value_bytes` bytes.
    pub(super) fn new(
        file: &Arc<File>,
        (start, len): (u64, u64),
        compression: Compression,
        value_bytes: usize,
    ) -> Pages {
        Pages { file: Arc::clone(file), at: start, left: len, compression, value_bytes }
    }

    /// The next `len` bytes, or as many as the column has.
    fn peek(&self, len: u64) -> Result<Vec<u8>> {
        let len = len.min(self.left);
        let mut bytes = Vec::with_capacity(len.min(1 << 20) as usize);
        (&*self.file).seek(SeekFrom::Start(self.at))?;
        let read = (&*self.file).take(len).read_to_end(&mut bytes)?;
        if (read as u64) < len { Err(fault("the file ends within a page")) } else { Ok(bytes) }
    }

    fn pass(&mut self, len: u64) -> Result<()> {
        self.left = self.left.checked_sub(len).ok_or_else(|| fault("a page is longer than its column"))?;
        self.at += len;
        Ok(())
    }

    fn header(&mut self) -> Result<Header> {
        for len in HEADER_BYTES {
            match Integers::read(&self.peek(len)?) {
                Ok((found, len)) => {
                    self.pass(len as u64)?;
                    return header_of(&found);
                }
                Err(Fault::Short) if len < self.left => {}
                Err(_) => break,
            }
        }
        Err(wrong_header())
    }
}

fn wrong_header() -> ParquetError {
    fault("the header of a page is wrong")
}

/// The header with these fields of the struct `PageHeader`.
fn header_of(found: &Integers) -> Result<Header> {
    const TOP: usize = 0;
    const V1: usize = 5;
    const DICTIONARY: usize = 7;
    const V2: usize = 8;
    let get = |outer: usize, id: usize| found.get(outer, id).ok_or_else(wrong_header);
    let count = |outer: usize, id: usize| u32::try_from(get(outer, id)?).map_err(|_| wrong_header());
    let size =
        |id: usize| i32::try_from(get(TOP, id)?).ok().and_then(|n| usize::try_from(n).ok()).ok_or_else(wrong_header);
    let encoding = |outer: usize, id: usize| encoding_of(get(outer, id)?);
    let kind = match get(TOP, 1)? {
        0 => {
            // The other encoding of levels, bit-packed, is named for columns without levels only; the crate refuses any but this one.
            let levels = if get(V1, 3)? == 3 { Encoding::RLE } else { Encoding::PLAIN };
            Kind::First { values: count(V1, 1)?, encoding: encoding(V1, 2)?, levels }
        }
        2 => Kind::Dictionary { values: count(DICTIONARY, 1)?, encoding: encoding(DICTIONARY, 2)? },
        3 => Kind::Second {
            values: count(V2, 1)?,
            nulls: count(V2, 2)?,
            rows: count(V2, 3)?,
            encoding: encoding(V2, 4)?,
            levels: [count(V2, 6)?, count(V2, 5)?],
            compressed: found.get(V2, 7) != Some(0),
        },
        _ => Kind::Other,
    };
    let crc = found.get(TOP, 4).map(|crc| crc as u32);
    Ok(Header { stored: size(3)?, size: size(2)?, crc, kind })
}

/// The encodings that are read: those that writers use unless they are told otherwise.
///
/// The decoders of the crate for `DELTA_LENGTH_BYTE_ARRAY` and `DELTA_BYTE_ARRAY` take memory for as many values as a page claims.
fn encoding_of(number: i64) -> Result<Encoding> {
    match number {
        0 => Ok(Encoding::PLAIN),
        2 => Ok(Encoding::PLAIN_DICTIONARY),
        5 => Ok(Encoding::DELTA_BINARY_PACKED),
        8 => Ok(Encoding::RLE_DICTIONARY),
        6 => Err(fault("its encoding DELTA_LENGTH_BYTE_ARRAY is not read")),
        7 => Err(fault("its encoding DELTA_BYTE_ARRAY is not read")),
        other => Err(fault(format!("its encoding number {other} is not read"))),
    }
}

/// The name of a compression that is not read.
pub(super) fn unread(compression: Compression) -> Option<String> {
    match compression {
        Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) | Compression::ZSTD(_) => None,
        // Without the level that some have.
        other => other.to_string().split('(').next().map(Into::into),
    }
}

/// Decompresses what has to have `size` bytes.
fn decompress(compression: Compression, bytes: &[u8], size: usize) -> Result<Vec<u8>> {
    let damaged = |error: &dyn std::fmt::Display| fault(format!("a page cannot be decompressed ({error})"));
    // One byte more tells a page that is too long.
    let limit = size as u64 + 1;
    let mut content = Vec::new();
    match compression {
        Compression::SNAPPY => {
            // Snappy makes at most 64 bytes of three; its decoder takes the memory at once.
            let stated = snap::raw::decompress_len(bytes).map_err(|error| damaged(&error))?;
            if stated == size && size / 22 <= bytes.len() {
                content = snap::raw::Decoder::new().decompress_vec(bytes).map_err(|error| damaged(&error))?;
            }
        }
        Compression::GZIP(_) => {
            let inflated = flate2::read::MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut content);
            inflated.map_err(|error| damaged(&error))?;
        }
        Compression::ZSTD(_) => {
            // A window is taken at once: of the page's size, or the smallest that every decoder has to accept.
            let window = (size as u64).max(8 << 20);
            let frame = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(bytes, window);
            let frame = frame.map_err(|error| damaged(&error))?;
            frame.take(limit).read_to_end(&mut content).map_err(|error| damaged(&error))?;
        }
        _ => return Err(fault("its compression is not read")),
    }
    if content.len() == size { Ok(content) } else { Err(damaged(&"it has another size than its header states")) }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        while self.left > 0 {
            let Header { stored, size, crc, kind } = self.header()?;
            if stored as u64 > self.left {
                return Err(fault("a page is longer than its column"));
            }
            let mut bytes = self.peek(stored as u64)?;
            self.pass(stored as u64)?;
            let has_crc = crc.is_none_or(|crc| {
                let mut own = flate2::Crc::new();
                own.update(&bytes);
                own.sum() == crc
            });
            if !has_crc {
                return Err(fault("a page has another checksum"));
            }
            if size as u64 > FREE_BYTES.max(MAX_RATIO.saturating_mul(stored as u64)) {
                return Err(fault(format!("a page expands to more than {MAX_RATIO} times its size")));
            }
            let levels = match &kind {
                Kind::Other => continue,
                Kind::Second { levels, .. } => levels.iter().map(|&len| len as usize).sum(),
                Kind::Dictionary { .. } | Kind::First { .. } => 0,
            };
            if levels > stored.min(size) {
                return Err(wrong_header());
            }
            let is_compressed = !matches!(kind, Kind::Second { compressed: false, .. });
            if self.compression != Compression::UNCOMPRESSED && is_compressed && size > levels {
                let content = decompress(self.compression, &bytes[levels..], size - levels)?;
                bytes.truncate(levels);
                bytes.extend(content);
            }
            let len = bytes.len();
            let buf = bytes.into();
            return Ok(Some(match kind {
                Kind::Dictionary { values: num_values, encoding } => {
                    if num_values as usize > len / self.value_bytes {
                        return Err(fault("a dictionary has fewer values than its header states"));
                    }
                    Page::DictionaryPage { buf, num_values, encoding, is_sorted: false }
                }
                Kind::Second { values, nulls, rows, encoding, levels: [repetition, definition], .. } => {
                    Page::DataPageV2 {
                        buf,
                        num_values: values,
                        encoding,
                        num_nulls: nulls,
                        num_rows: rows,
                        def_levels_byte_len: definition,
                        rep_levels_byte_len: repetition,
                        is_compressed: false,
                        statistics: None,
                    }
                }
                Kind::First { values, encoding, levels } => Page::DataPage {
                    buf,
                    num_values: values,
                    encoding,
                    def_level_encoding: levels,
                    rep_level_encoding: Encoding::RLE,
                    statistics: None,
                },
                Kind::Other => continue,
            }));
        }
        Ok(None)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        Err(fault("pages are read one after another"))
    }

    fn skip_next_page(&mut self) -> Result<()> {
        Err(fault("pages are read one after another"))
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Result<Page>> {
        self.get_next_page().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn number(to: &mut Vec<u8>, value: i64) {
        let mut value = (value << 1 ^ value >> 63) as u64;
        while value > 127 {
            to.push(value as u8 | 0x80);
            value >>= 7;
        }
        to.push(value as u8);
    }

    /// A header: the type, the sizes, and the integers of the struct in the field `outer`.
    fn header(kind: i64, [size, stored]: [i64; 2], outer: u8, fields: &[i64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for value in [kind, size, stored] {
            bytes.push(0x15);
            number(&mut bytes, value);
        }
        bytes.push((outer - 3) << 4 | 0x0C);
        for &field in fields {
            bytes.push(0x15);
            number(&mut bytes, field);
        }
        bytes.extend([0, 0]);
        bytes
    }

    /// What the first page is of a column of these bytes.
    fn first(bytes: &[u8], compression: Compression) -> std::result::Result<Page, String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut pages = Pages::new(&Arc::new(file), (0, bytes.len() as u64), compression, 4);
        pages.get_next_page().map_err(|error| error.to_string()).map(|page| page.expect("there is a page"))
    }

    const GIB2: i64 = i32::MAX as i64;
    const SNAPPY: Compression = Compression::SNAPPY;

    #[test]
    fn a_page_that_claims_more_than_it_has_takes_no_memory() {
        let of = |sizes: [i64; 2], content: &[u8], compression: Compression| {
            first(&[&header(0, sizes, 5, &[1, 0, 3, 3]), content].concat(), compression).unwrap_err()
        };
        let gzip = || Compression::GZIP(Default::default());
        for compression in [SNAPPY, gzip(), Compression::ZSTD(Default::default())] {
            let text = of([GIB2, 10], &[0; 10], compression);
            assert!(text.contains("expands to more than 50 times its size"), "{text}");
            assert!(of([200 << 20, 10], &[0; 10], compression).contains("cannot be decompressed"));
        }
        // The stream of Snappy itself states a length.
        assert!(of([100_000, 4], &[0xA0, 0x8D, 6, 0], SNAPPY).contains("cannot be decompressed"));
        assert!(of([10, 1_000], &[0; 10], SNAPPY).contains("longer than its column"));
        assert!(of([-1, 10], &[0; 10], SNAPPY).contains("header of a page is wrong"));
        // A bomb: 64 MiB of zeros in 64 kB, which claim to be 1,000 bytes.
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 64 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        assert!(of([1_000, bomb.len() as i64], &bomb, gzip()).contains("another size than its header states"));
    }

    #[test]
    fn a_dictionary_has_no_more_values_than_its_bytes_can_hold() {
        let of = |values: i64, content: &[u8]| {
            let sizes = [content.len() as i64; 2];
            first(&[&header(2, sizes, 7, &[values, 0]), content].concat(), Compression::UNCOMPRESSED)
        };
        assert!(of(2, &[0; 8]).is_ok());
        for values in [3, GIB2] {
            assert!(of(values, &[0; 8]).unwrap_err().contains("a dictionary has fewer values"));
        }
    }

    #[test]
    fn encodings_that_take_memory_for_what_a_page_claims_are_refused() {
        for (encoding, name) in [(6, "DELTA_LENGTH_BYTE_ARRAY"), (7, "DELTA_BYTE_ARRAY"), (9, "number 9")] {
            let error = first(&header(0, [0, 0], 5, &[1, encoding, 3, 3]), Compression::UNCOMPRESSED).unwrap_err();
            assert!(error.contains(&format!("its encoding {name} is not read")), "{error}");
        }
        // Levels of version 2 lie before the values and are not compressed.
        let of = |levels: i64| {
            first(&[&header(3, [6, 6], 8, &[1, 0, 1, 0, levels, 0])[..], &[0; 6]].concat(), Compression::UNCOMPRESSED)
        };
        assert!(of(6).is_ok());
        assert!(of(7).unwrap_err().contains("header of a page is wrong"));
    }
}
