//! Small text files from outside: configurations, networks, lists.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use thiserror::Error;

/// Why a text file cannot be read. Each text continues the sentence "cannot read `file`: ..".
#[derive(Debug, Error)]
pub enum TextFileError {
    /// The operating system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A folder, a device or a pipe, which may have no end.
    #[error("it is {0}, not a file")]
    NotAFile(&'static str),
    /// More bytes than such a file can need.
    #[error("it has more than {0} bytes, which is too many for such a file")]
    TooLarge(u64),
    /// Bytes that are not UTF-8.
    #[error("it is not text: byte {0} is not UTF-8")]
    NotText(usize),
}

/// Reads a text file of at most `limit` bytes, without a byte order mark.
///
/// # Errors
/// It is not a regular file, has more bytes, is not UTF-8, or cannot be read.
pub fn read(path: &Path, limit: u64) -> Result<String, TextFileError> {
    // Asked before it is opened: opening a pipe waits for a process that writes.
    let kind = fs::metadata(path)?;
    if !kind.is_file() {
        return Err(TextFileError::NotAFile(if kind.is_dir() { "a folder" } else { "a device or a pipe" }));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(TextFileError::TooLarge(limit));
    }
    let text = String::from_utf8(bytes).map_err(|e| TextFileError::NotText(e.utf8_error().valid_up_to()))?;
    Ok(text.strip_prefix('\u{feff}').map(String::from).unwrap_or(text))
}
