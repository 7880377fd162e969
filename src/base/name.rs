//! Names that come from outside: of classes, clips and files, kept byte for byte.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A name from outside the program: any bytes, in any encoding, compared and sorted by bytes.
///
/// A name has one text form, used on terminals, in TSV, CSV, TOML and JSON files and in weight files: valid UTF-8 stays
/// as it is, except for a backslash (`\\`), a tab (`\t`), a line feed (`\n`), a carriage return (`\r`), and other control
/// or direction-changing characters and bytes that are not UTF-8 (`\xNN`, one byte each). [`fmt::Display`] writes the
/// text form and [`Name::parse`] reads it, so every name survives the way to a file and back, no name can break a line
/// or a column, and none can send a command to a terminal.
///
/// ```
/// use stapes::base::Name;
///
/// let name = Name::from_bytes(b"b\xffd\t");
/// assert_eq!(name.to_string(), r"b\xffd\t");
/// assert_eq!(Name::parse(r"b\xffd\t")?, name);
/// # Ok::<(), stapes::base::NameError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

/// Why a text is not the text form of a name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{text}` contains `{escape}`, which is not an escape; write a backslash as `\\\\`, and a byte as `\\x` with two hexadecimal digits"
)]
pub struct NameError {
    /// The whole text, itself escaped for display.
    pub text: String,
    /// The backslash with what follows it.
    pub escape: String,
}

impl Name {
    /// The name with these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Name {
        Name(bytes.into())
    }

    /// The name of a file or folder. On systems whose names are not bytes, the name's UTF-8 form, lossy for unpaired
    /// surrogates.
    pub fn from_os(name: &OsStr) -> Name {
        Name(name.as_encoded_bytes().into())
    }

    /// The name with the text form `text`.
    ///
    /// # Errors
    /// A backslash is not followed by `\`, `t`, `n`, `r` or `x` with two hexadecimal digits.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('\\') {
            bytes.extend(&rest.as_bytes()[..at]);
            let escape = &rest[at..];
            let (byte, len) = match escape.as_bytes() {
                [_, b'\\', ..] => (b'\\', 2),
                [_, b't', ..] => (b'\t', 2),
                [_, b'n', ..] => (b'\n', 2),
                [_, b'r', ..] => (b'\r', 2),
                [_, b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    let digits = &escape[2..4];
                    (u8::from_str_radix(digits, 16).expect("two hexadecimal digits are a byte"), 4)
                }
                _ => {
                    let escape = escape.chars().take(if escape.starts_with("\\x") { 4 } else { 2 }).collect();
                    return Err(NameError { text: display(text), escape });
                }
            };
            bytes.push(byte);
            rest = &escape[len..];
        }
        bytes.extend(rest.as_bytes());
        Ok(Name(bytes.into()))
    }

    /// The names in a list of text forms separated by commas, as on the command line; `\,` is a comma within a name.
    /// Empty entries are left out; spaces belong to names.
    ///
    /// # Errors
    /// Those of [`Name::parse`].
    pub fn parse_list(text: &str) -> Result<Vec<Name>, NameError> {
        let mut entries = vec![String::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let entry = entries.last_mut().expect("the list is never empty");
            match c {
                ',' => entries.push(String::new()),
                '\\' => match chars.next() {
                    Some(',') => entry.push(','),
                    Some(other) => entry.extend(['\\', other]),
                    None => entry.push('\\'),
                },
                _ => entry.push(c),
            }
        }
        entries.iter().filter(|entry| !entry.is_empty()).map(|entry| Name::parse(entry)).collect()
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name as text, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The name as the system writes names of files.
    pub fn to_os(&self) -> OsString {
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStrExt;
            OsStr::from_bytes(&self.0).to_owned()
        }
        #[cfg(not(unix))]
        {
            String::from_utf8_lossy(&self.0).into_owned().into()
        }
    }

    /// The name as a path.
    pub fn to_path(&self) -> PathBuf {
        self.to_os().into()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A text from outside as it can be shown on a terminal or stored in one column of a line: the escapes of [`Name`].
pub fn display(text: &str) -> String {
    Name::from(text).to_string()
}

/// A path as it can be shown: the escapes of [`Name`], except that a backslash stays as it is, so that a path can be
/// copied into a shell.
pub fn display_path(path: &Path) -> String {
    let mut text = String::new();
    write_escaped(path.as_os_str().as_encoded_bytes(), false, &mut text).expect("writing to a string cannot fail");
    text
}

fn write_escaped(bytes: &[u8], escape_backslash: bool, out: &mut impl fmt::Write) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' if escape_backslash => out.write_str("\\\\")?,
                '\t' => out.write_str("\\t")?,
                '\n' => out.write_str("\\n")?,
                '\r' => out.write_str("\\r")?,
                c if c.is_control() || changes_direction(c) => {
                    let mut buffer = [0; 4];
                    for byte in c.encode_utf8(&mut buffer).bytes() {
                        write!(out, "\\x{byte:02x}")?;
                    }
                }
                c => out.write_char(c)?,
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

/// Characters that reorder or hide the text around them: bidirectional controls, line and paragraph separators, the
/// byte order mark.
fn changes_direction(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(self.0.len());
        write_escaped(&self.0, true, &mut text)?;
        f.pad(&text)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl From<&str> for Name {
    /// The name with the bytes of `text`: no escape is read.
    fn from(text: &str) -> Name {
        Name(text.as_bytes().into())
    }
}

impl From<String> for Name {
    fn from(text: String) -> Name {
        Name(text.into_bytes().into())
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other.as_bytes()
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == *other.as_bytes()
    }
}

/// As the text form.
impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// From the text form.
impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let text = String::deserialize(deserializer)?;
        Name::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_survives_its_text_form() {
        let mut names: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![b'a', byte, b'z']).collect();
        let texts = ["", "yes,no", " bed", "bed ", "tab\there", "\x1b[31m", "\u{202e}gnp.wav", "größe", "\\x41", "\\"];
        names.extend(texts.map(|text| text.as_bytes().to_vec()));
        for bytes in names {
            let name = Name::from_bytes(&bytes);
            let text = name.to_string();
            assert!(!text.chars().any(|c| c.is_control() || changes_direction(c)), "{text}");
            assert_eq!(Name::parse(&text).unwrap().as_bytes(), bytes, "{text}");
            let json = serde_json::to_string(&name).unwrap();
            assert_eq!(serde_json::from_str::<Name>(&json).unwrap(), name, "{json}");
        }
    }

    #[test]
    fn a_wrong_escape_is_named() {
        for (text, escape) in [("a\\q", "\\q"), ("a\\", "\\"), ("\\x4", "\\x4"), ("\\xgg.wav", "\\xgg")] {
            assert_eq!(Name::parse(text).unwrap_err().escape, escape);
        }
    }

    #[test]
    fn a_list_is_separated_by_commas_that_can_be_escaped() {
        let names = |text| Name::parse_list(text).unwrap().iter().map(Name::to_string).collect::<Vec<_>>();
        assert_eq!(names("bed,cat"), ["bed", "cat"]);
        assert_eq!(names("yes\\,no, bed ,,"), ["yes,no", " bed "]);
        assert_eq!(names("a\\\\,b"), ["a\\\\", "b"]);
    }

    #[test]
    fn columns_are_padded_by_their_text_form() {
        assert_eq!(format!("{:6}|", Name::from("a\t")), "a\\t   |");
    }
}
