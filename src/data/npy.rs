//! Reads arrays of the `.npy` format: the header, and the values as `f32`, whole numbers or text.
//!
//! An array is not trusted: memory is allocated for values that were read, not for those that the header states.
//!
//! **Source** NumPy enhancement proposal 1, "A simple file format for NumPy arrays", versions 1.0 to 3.0.

use std::io::{self, Read};

use crate::base::Name;
use crate::base::name::display;

/// The first bytes of a file.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header that is read; NumPy itself refuses one beyond 10,000 bytes.
const LONGEST_HEADER: usize = 1 << 16;
/// Bytes that are read at once.
const BLOCK: usize = 1 << 16;
/// Most values of a text array, and most characters of one of its values.
const MOST_TEXTS: usize = u32::MAX as usize;
const LONGEST_TEXT: usize = 1 << 16;

/// What is known of an array before its values are read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    kind: Kind,
    big_endian: bool,
    fortran_order: bool,
    /// The sizes of its dimensions.
    pub(super) shape: Vec<usize>,
}

/// The kinds of values, with their bytes or characters.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Float(usize),
    Signed(usize),
    Unsigned(usize),
    Unicode(usize),
    Bytes(usize),
}

/// The values of an array of labels.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Labels {
    Whole(Vec<i128>),
    Text(Vec<Name>),
}

/// Why an array cannot be used; continues a sentence that begins with the array.
pub(super) type Fault = String;

fn system(error: io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "is cut short; save it again".into(),
        _ => format!("cannot be read ({error}); save it again"),
    }
}

impl Header {
    /// Reads the header, after which the values follow.
    pub(super) fn read(from: &mut dyn Read) -> Result<Header, Fault> {
        let mut start = [0; 8];
        from.read_exact(&mut start).map_err(system)?;
        if !start.starts_with(MAGIC) {
            return Err("is no NumPy array; save it with numpy.savez".into());
        }
        let mut len = [0; 4];
        let bytes = if start[6] == 1 { 2 } else { 4 };
        from.read_exact(&mut len[..bytes]).map_err(system)?;
        let len = u32::from_le_bytes(len) as usize;
        if !(1..=3).contains(&start[6]) || len > LONGEST_HEADER {
            return Err(format!("has a header of version {}.{} and {len} bytes; save it again", start[6], start[7]));
        }
        let mut text = Vec::new();
        from.take(len as u64).read_to_end(&mut text).map_err(system)?;
        if text.len() < len {
            return Err("is cut short; save it again".into());
        }
        parse(&String::from_utf8_lossy(&text))
    }

    /// How many values there are; none if the product overflows.
    pub(super) fn len(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size))
    }

    /// Bytes of a value.
    fn item(&self) -> usize {
        match self.kind {
            Kind::Float(bytes) | Kind::Signed(bytes) | Kind::Unsigned(bytes) | Kind::Bytes(bytes) => bytes,
            Kind::Unicode(characters) => 4 * characters,
        }
    }

    /// Bytes of all values.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.len()?.checked_mul(self.item()).map(|bytes| bytes as u64)
    }

    /// Whether the values are numbers.
    pub(super) fn is_numeric(&self) -> bool {
        !matches!(self.kind, Kind::Unicode(_) | Kind::Bytes(_))
    }

    /// Whether the first dimension is the one whose neighbours follow one another in memory, in an array in which that matters.
    pub(super) fn is_fortran(&self) -> bool {
        self.fortran_order && self.shape.iter().filter(|&&size| size > 1).count() > 1
    }

    /// The shape as Python writes it.
    pub(super) fn shape_text(&self) -> String {
        match self.shape[..] {
            [size] => format!("({size},)"),
            _ => format!("({})", self.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
        }
    }

    /// Reads the next values, in the order of the file, rounded to `f32`, to `into`.
    pub(super) fn read_f32(&self, from: &mut dyn Read, into: &mut [f32]) -> Result<(), Fault> {
        if !self.is_numeric() {
            return Err("has text instead of numbers; save it as numbers".into());
        }
        let item = self.item();
        let mut block = vec![0; BLOCK / item * item];
        for part in into.chunks_mut(BLOCK / item) {
            let bytes = &mut block[..part.len() * item];
            from.read_exact(bytes).map_err(system)?;
            for (value, bytes) in part.iter_mut().zip(bytes.chunks_exact(item)) {
                *value = self.number(bytes);
            }
        }
        Ok(())
    }

    /// A number of any kind as `f32`.
    fn number(&self, bytes: &[u8]) -> f32 {
        let bits = self.bits(bytes);
        match self.kind {
            Kind::Float(2) => half(bits as u16),
            Kind::Float(4) => f32::from_bits(bits as u32),
            Kind::Float(_) => f64::from_bits(bits as u64) as f32,
            _ => self.whole(bytes) as f32,
        }
    }

    fn bits(&self, bytes: &[u8]) -> u128 {
        let join = |n: u128, &byte: &u8| n << 8 | u128::from(byte);
        if self.big_endian { bytes.iter().fold(0, join) } else { bytes.iter().rev().fold(0, join) }
    }

    fn whole(&self, bytes: &[u8]) -> i128 {
        let bits = self.bits(bytes) as i128;
        let width = 8 * bytes.len() as u32;
        match self.kind {
            Kind::Signed(_) => bits << (128 - width) >> (128 - width),
            _ => bits,
        }
    }

    /// Reads all values of an array of one dimension as whole numbers or text.
    pub(super) fn read_labels(&self, from: &mut dyn Read) -> Result<Labels, Fault> {
        let len = self.len().filter(|&len| len <= MOST_TEXTS).ok_or("has too many values")?;
        let item = self.item();
        if matches!(self.kind, Kind::Float(_)) {
            return Err(
                "has numbers that are not whole; save it as whole numbers, with .astype(int), or as text".into()
            );
        }
        if item == 0 {
            return Err("has only empty text; save a name for every clip".into());
        }
        let mut bytes = vec![0; item];
        let (mut whole, mut text) = (Vec::new(), Vec::new());
        for row in 0..len {
            from.read_exact(&mut bytes).map_err(system)?;
            match self.kind {
                Kind::Unicode(_) => text.push(
                    self.unicode(&bytes)
                        .ok_or_else(|| format!("has a value that is not Unicode text in row {row}; save it again"))?,
                ),
                Kind::Bytes(_) => text.push(Name::from_bytes(until_zero(&bytes))),
                _ => whole.push(self.whole(&bytes)),
            }
        }
        Ok(if self.is_numeric() { Labels::Whole(whole) } else { Labels::Text(text) })
    }

    /// Text of four bytes a character, padded with zeros.
    fn unicode(&self, bytes: &[u8]) -> Option<Name> {
        let characters: Vec<u32> = bytes.chunks_exact(4).map(|bytes| self.bits(bytes) as u32).collect();
        let end = characters.iter().rposition(|&character| character != 0).map_or(0, |last| last + 1);
        let text: Option<String> = characters[..end].iter().map(|&character| char::from_u32(character)).collect();
        text.map(Name::from)
    }
}

/// Text without the zeros that it is padded with.
fn until_zero(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

/// A number of 16 bits (IEEE 754 binary16).
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    match exponent {
        0 => sign * fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1024.0 + fraction) * 2f32.powi(exponent - 25),
    }
}

/// The header's text: a Python dictionary with the keys `descr`, `fortran_order` and `shape`.
fn parse(text: &str) -> Result<Header, Fault> {
    let wrong = || format!("has the header `{}`, which is none of NumPy; save it again", display(&head(text)));
    let after = |key: &str| {
        let at = text.find(&format!("'{key}':"))?;
        Some(text[at + key.len() + 3..].trim_start())
    };
    let descr = after("descr").ok_or_else(wrong)?;
    let order = after("fortran_order").ok_or_else(wrong)?;
    let shape = after("shape").and_then(|rest| rest.strip_prefix('(')?.split_once(')')).ok_or_else(wrong)?.0;
    if descr.starts_with('[') {
        return Err("is a structured array, which has several values of different kinds in each place; save each field as an array of its own".into());
    }
    let descr = descr.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).ok_or_else(wrong)?.0;
    let fortran_order = match order {
        _ if order.starts_with("True") => true,
        _ if order.starts_with("False") => false,
        _ => return Err(wrong()),
    };
    let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape: Option<Vec<usize>> = sizes.map(|size| size.parse().ok()).collect();
    let (kind, big_endian) = kind(descr)?;
    Ok(Header { kind, big_endian, fortran_order, shape: shape.ok_or_else(wrong)? })
}

/// The kind of values that `descr` names, and whether they are big-endian.
fn kind(descr: &str) -> Result<(Kind, bool), Fault> {
    let refuse = |what: &str| Err(format!("{what}; save it as numbers of 16, 32 or 64 bits, or as text, with .astype"));
    let mut characters = descr.chars();
    let (order, kind, size) = (characters.next(), characters.next(), characters.as_str());
    let size = size.parse::<usize>().ok();
    let kind = match (kind, size) {
        (Some('f'), Some(size @ (2 | 4 | 8))) => Kind::Float(size),
        (Some('i'), Some(size @ (1 | 2 | 4 | 8))) => Kind::Signed(size),
        (Some('u'), Some(size @ (1 | 2 | 4 | 8))) | (Some('b'), Some(size @ 1)) => Kind::Unsigned(size),
        (Some('U'), Some(size)) if size <= LONGEST_TEXT => Kind::Unicode(size),
        (Some('S'), Some(size)) if size <= LONGEST_TEXT => Kind::Bytes(size),
        (Some('O'), _) => return refuse("has Python objects, which only Python can read"),
        (Some('c'), _) => return refuse("has complex numbers"),
        (Some('M' | 'm'), _) => return refuse("has dates or times"),
        _ => return refuse(&format!("has values of the type `{}`, which is not read", display(&head(descr)))),
    };
    match order {
        Some('<' | '|' | '=') => Ok((kind, false)),
        Some('>') => Ok((kind, true)),
        _ => refuse(&format!("has values of the type `{}`, which is not read", display(&head(descr)))),
    }
}

/// The first characters of a text.
fn head(text: &str) -> String {
    text.trim_end().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_sixteen_bits_are_exact() {
        for (bits, value) in [
            (0, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (1, 5.960_464_5e-8),
            (0x03ff, 1023.0 * 2f32.powi(-24)),
            (0x7bff, 65_504.0),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(half(bits), value, "{bits:x}");
        }
        assert!(half(0x7e00).is_nan());
    }

    #[test]
    fn signed_numbers_keep_their_sign_in_both_orders() {
        for (descr, bytes) in [("<i2", [0xfe, 0xff]), (">i2", [0xff, 0xfe])] {
            let (kind, big_endian) = kind(descr).unwrap();
            let header = Header { kind, big_endian, fortran_order: false, shape: vec![1] };
            assert_eq!((header.whole(&bytes), header.number(&bytes)), (-2, -2.0));
        }
    }

    #[test]
    fn headers_of_other_kinds_are_refused_with_a_reason() {
        let of = |descr: &str| {
            parse(&format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (3,), }}")).map(drop).unwrap_err()
        };
        assert!(of("'|O'").starts_with("has Python objects"), "{}", of("'|O'"));
        assert!(of("'<c16'").starts_with("has complex numbers"));
        assert!(of("[('a', '<f4')]").starts_with("is a structured array"));
        assert!(of("'<f3'").starts_with("has values of the type `<f3`"));
        assert!(of("'é'").contains("`é`"));
        for text in ["", "{}", "'descr':", "{'descr': '<f4', 'fortran_order': 1, 'shape': (1,)}"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let shape = |text: &str| {
            parse(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {text}, }}")).map(|header| header.shape)
        };
        assert_eq!(shape("()"), Ok(vec![]));
        assert_eq!(shape("(2, 3)"), Ok(vec![2, 3]));
        assert!(shape("(-1,)").is_err() && shape("(99999999999999999999,)").is_err());
    }
}
