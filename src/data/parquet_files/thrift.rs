//! Thrift's compact protocol, as far as the headers of pages and a check of the footer of a Parquet file need it.
//!
//! The crate `parquet` reads both too, but takes as much memory as a number in them claims: for the children of a group of the schema, for a page,
//! and for a dictionary. It also calls itself once for each level of the schema. A failed allocation and a full stack end the process, and neither
//! can be caught as a panic can; so these numbers are compared with what the file has before the crate sees them.
//!
//! **Source** Apache Thrift, "Thrift compact protocol encoding"; Apache Parquet, `parquet.thrift`.

/// Most levels of structs and lists within one another: a schema has three, statistics four.
const MAX_DEPTH: u32 = 32;
/// Most levels of a schema: a list of structs of lists has about ten.
const MAX_SCHEMA_DEPTH: usize = 64;

/// Types of fields and elements.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

/// Why bytes are no struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// They end too early.
    Short,
    /// They contradict themselves.
    Wrong,
}

/// Reads bytes one after another.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// What is done with a field: it is read if this returns true, else skipped.
type Visit<'v, 'a> = &'v mut dyn FnMut(&mut Reader<'a>, i64, u8) -> Result<bool, Fault>;

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.bytes.get(self.at).ok_or(Fault::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn pass(&mut self, bytes: u64) -> Result<(), Fault> {
        let left = (self.bytes.len() - self.at) as u64;
        if bytes > left {
            return Err(Fault::Short);
        }
        self.at += bytes as usize;
        Ok(())
    }

    fn unsigned(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::Wrong)
    }

    fn signed(&mut self) -> Result<i64, Fault> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The type and the number of the elements of a list, each of which has at least one byte.
    fn list(&mut self) -> Result<(u8, usize), Fault> {
        let head = self.byte()?;
        let len = match head >> 4 {
            15 => self.unsigned()?,
            len => len.into(),
        };
        if len > (self.bytes.len() - self.at) as u64 {
            return Err(Fault::Short);
        }
        Ok((head & 15, len as usize))
    }

    /// Reads a struct up to its end.
    fn fields(&mut self, depth: u32, visit: Visit<'_, 'a>) -> Result<(), Fault> {
        let mut id = 0i64;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            id = match head >> 4 {
                0 => self.signed()?,
                more => id.saturating_add(more.into()),
            };
            let mut inner = Reader { bytes: self.bytes, at: self.at };
            match visit(&mut inner, id, head & 15)? {
                true => self.at = inner.at,
                false => self.skip(head & 15, depth)?,
            }
        }
    }

    fn skip(&mut self, kind: u8, depth: u32) -> Result<(), Fault> {
        let depth = depth.checked_sub(1).ok_or(Fault::Wrong)?;
        match kind {
            TRUE | FALSE => Ok(()),
            BYTE => self.pass(1),
            I16..=I64 => self.unsigned().map(drop),
            DOUBLE => self.pass(8),
            BINARY => self.unsigned().and_then(|len| self.pass(len)),
            LIST | SET => {
                let (kind, len) = self.list()?;
                (0..len).try_for_each(|_| self.skip_element(kind, depth))
            }
            MAP => {
                let len = self.unsigned()?;
                if len == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                (0..len).try_for_each(|_| {
                    self.skip_element(kinds >> 4, depth)?;
                    self.skip_element(kinds & 15, depth)
                })
            }
            STRUCT => self.fields(depth, &mut |_, _, _| Ok(false)),
            UUID => self.pass(16),
            _ => Err(Fault::Wrong),
        }
    }

    /// In a list, a boolean has a byte.
    fn skip_element(&mut self, kind: u8, depth: u32) -> Result<(), Fault> {
        if matches!(kind, TRUE | FALSE) { self.pass(1) } else { self.skip(kind, depth) }
    }
}

/// Fields of a struct that can be read, and of those within it.
const FIELDS: usize = 9;

/// The integers of a struct and of the structs in it; booleans are 0 and 1.
#[derive(Debug)]
pub(super) struct Integers([[Option<i64>; FIELDS]; FIELDS]);

impl Integers {
    /// Reads a struct at the start of `bytes`, and says how many bytes it has.
    pub(super) fn read(bytes: &[u8]) -> Result<(Integers, usize), Fault> {
        let mut found = Integers([[None; FIELDS]; FIELDS]);
        let mut reader = Reader { bytes, at: 0 };
        reader.fields(MAX_DEPTH, &mut |reader, id, kind| {
            let known = usize::try_from(id).ok().filter(|id| (1..FIELDS).contains(id));
            match (known, kind) {
                (Some(outer), STRUCT) => {
                    reader.fields(MAX_DEPTH, &mut |reader, id, kind| found.take(reader, outer, (id, kind)))?;
                    Ok(true)
                }
                _ => found.take(reader, 0, (id, kind)),
            }
        })?;
        Ok((found, reader.at))
    }

    fn take(&mut self, reader: &mut Reader<'_>, outer: usize, (id, kind): (i64, u8)) -> Result<bool, Fault> {
        let Some(id) = usize::try_from(id).ok().filter(|id| (1..FIELDS).contains(id)) else { return Ok(false) };
        let value = match kind {
            TRUE => 1,
            FALSE => 0,
            I16..=I64 => reader.signed()?,
            _ => return Ok(false),
        };
        self.0[outer][id] = Some(value);
        Ok(true)
    }

    /// The field `id` of the struct itself (`outer` is 0), or of the struct in its field `outer`.
    pub(super) fn get(&self, outer: usize, id: usize) -> Option<i64> {
        self.0[outer][id]
    }
}

/// Checks a footer, the struct `FileMetaData`: each list has the elements that it states, and each group of the schema its children, at most
/// [`MAX_SCHEMA_DEPTH`] levels deep.
pub(super) fn check_footer(footer: &[u8]) -> Result<(), Fault> {
    const SCHEMA: i64 = 2;
    const CHILDREN: i64 = 5;
    let mut reader = Reader { bytes: footer, at: 0 };
    reader.fields(MAX_DEPTH, &mut |reader, id, kind| {
        if (id, kind) != (SCHEMA, LIST) {
            return Ok(false);
        }
        let (STRUCT, len) = reader.list()? else { return Err(Fault::Wrong) };
        // For each open group, how many of its children follow.
        let mut open: Vec<usize> = Vec::new();
        for element in 0..len {
            while open.last() == Some(&0) {
                open.pop();
            }
            match open.last_mut() {
                Some(left) => *left -= 1,
                None if element > 0 => return Err(Fault::Wrong),
                None => {}
            }
            let mut children = 0;
            reader.fields(MAX_DEPTH, &mut |reader, id, kind| {
                let is_count = id == CHILDREN && (I16..=I64).contains(&kind);
                if is_count {
                    children = reader.signed()?;
                }
                Ok(is_count)
            })?;
            let children = usize::try_from(children).ok().filter(|&n| n < len - element).ok_or(Fault::Wrong)?;
            open.push(children);
            if open.len() > MAX_SCHEMA_DEPTH {
                return Err(Fault::Wrong);
            }
        }
        if open.iter().all(|&left| left == 0) { Ok(true) } else { Err(Fault::Wrong) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_a_struct_and_of_structs_in_it_are_read_and_the_rest_is_skipped() {
        // 1: i32 3, 3: i32 -2 (zigzag), 4: binary of two bytes, 5: struct { 1: i32 100, 3: true, 5: struct { 1: i32 7 } }, end.
        let bytes = [0x15, 6, 0x25, 3, 0x18, 2, 9, 9, 0x1C, 0x15, 0xC8, 1, 0x21, 0x2C, 0x15, 14, 0, 0, 0, 77];
        let (found, len) = Integers::read(&bytes).unwrap();
        assert_eq!(len, bytes.len() - 1);
        assert_eq!([found.get(0, 1), found.get(0, 3), found.get(0, 2)], [Some(3), Some(-2), None]);
        assert_eq!([found.get(5, 1), found.get(5, 3)], [Some(100), Some(1)]);
        assert_eq!([found.get(5, 5), found.get(7, 1)], [None; 2]);
        for cut in 0..len {
            assert_eq!(Integers::read(&bytes[..cut]).map(drop), Err(Fault::Short), "{cut}");
        }
    }

    /// A footer with a schema of these numbers of children.
    fn footer(children: &[i64]) -> Vec<u8> {
        let mut bytes = vec![0x15, 2, 0x19, 0xFC];
        let number = |bytes: &mut Vec<u8>, mut value: u64| {
            while value > 127 {
                bytes.push(value as u8 | 0x80);
                value >>= 7;
            }
            bytes.push(value as u8);
        };
        number(&mut bytes, children.len() as u64);
        for &count in children {
            bytes.extend([0x48, 1, b'x', 0x15]);
            number(&mut bytes, (count << 1 ^ count >> 63) as u64);
            bytes.push(0);
        }
        bytes.push(0);
        bytes
    }

    #[test]
    fn a_schema_has_the_children_that_it_states_and_few_levels() {
        assert_eq!(check_footer(&footer(&[2, 2, 0, 0, 0])), Ok(()));
        for wrong in [&[1 << 30, 0][..], &[2, 0], &[1, 0, 0], &[-1], &[0, 0], &[1, 1 << 31, 0]] {
            assert_eq!(check_footer(&footer(wrong)), Err(Fault::Wrong), "{wrong:?}");
        }
        let deep = |levels: usize| [vec![1; levels], vec![0]].concat();
        assert_eq!(check_footer(&footer(&deep(60))), Ok(()));
        assert_eq!(check_footer(&footer(&deep(100_000))), Err(Fault::Wrong));
    }

    #[test]
    fn lists_and_structs_that_claim_more_than_there_is_are_short_or_wrong() {
        assert_eq!(check_footer(&[0x49, 0xFC, 0xFF, 0xFF, 0xFF, 0xFF, 7, 0, 0]), Err(Fault::Short));
        assert_eq!(check_footer(&[0x18, 0xFF, 0xFF, 0xFF, 0xFF, 7, 0]), Err(Fault::Short));
        assert_eq!(check_footer(&vec![0x1C; 10_000]), Err(Fault::Wrong), "structs in structs");
        assert_eq!(check_footer(&vec![0x19; 10_000]), Err(Fault::Wrong), "lists in lists");
        assert_eq!(
            check_footer(&[0x15, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]),
            Err(Fault::Wrong)
        );
        assert_eq!(check_footer(&[0x1E, 0]), Err(Fault::Wrong), "no such type");
    }
}
