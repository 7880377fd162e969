//! What a file is that is given as a weight file and is not safetensors.

use super::error::TrainError;
use super::weight_file::PREAMBLE;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// How PyTorch saves safetensors.
const IN_PYTHON: &str =
    "`from safetensors.torch import save_file; save_file(model.state_dict(), \"model.safetensors\")`";

/// The longest header that the crate `safetensors` reads, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// Bytes of a file that are looked at to tell whether it is text.
const LOOKED_AT: usize = 1024;

/// Reads a file that may be safetensors. A device or a pipe, which could have no end, is not read.
///
/// # Errors
/// The file cannot be read, or is certainly not safetensors.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TrainError> {
    let io = TrainError::io("read", path, "check the path");
    let refused = |looks_like: &str, known: bool| TrainError::NotSafetensors {
        path: path.into(),
        looks_like: looks_like.into(),
        advice: match known {
            true => format!("save it as safetensors, in Python: {IN_PYTHON}"),
            false => format!("give a run folder or a .safetensors file, which Python writes with {IN_PYTHON}"),
        },
    };
    let metadata = fs::metadata(path).map_err(&io)?;
    if !metadata.is_file() {
        return Err(refused(if metadata.is_dir() { "a folder" } else { "a device or a pipe" }, false));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(metadata.len() + 1).read_to_end(&mut bytes)).map_err(io)?;
    if let Some(what) = kind_of_weights(&bytes) {
        return Err(refused(what, true));
    }
    match other_kind(&bytes) {
        Some(what) => Err(refused(what, false)),
        None => Ok(bytes),
    }
}

/// Whether the bytes begin as safetensors do: with the length of a header, which is a JSON object.
fn begins_as_safetensors(bytes: &[u8]) -> bool {
    let Some((length, header)) = bytes.split_first_chunk::<PREAMBLE>() else { return false };
    u64::from_le_bytes(*length) <= LONGEST_HEADER && header.first().is_none_or(|&first| first == b'{')
}

/// A format in which other programs store weights.
fn kind_of_weights(bytes: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 7] = [
        (b"PK\x03\x04", "a zip archive, as PyTorch's `torch.save` writes it"),
        (b"\x80\x02", "a Python pickle, as PyTorch's older `torch.save` writes it"),
        (b"\x80\x03", "a Python pickle"),
        (b"\x80\x04", "a Python pickle"),
        (b"\x80\x05", "a Python pickle"),
        (b"\x89HDF", "an HDF5 file, as Keras writes it"),
        (b"GGUF", "a GGUF file"),
    ];
    // The length of a header may have the bytes of any other format.
    if begins_as_safetensors(bytes) {
        return None;
    }
    KINDS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, what)| *what)
}

/// Any other kind of file.
fn other_kind(bytes: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 4] = [
        (b"RIFF", "a WAV file"),
        (b"\x1f\x8b", "a gzip file"),
        (b"\x93NUMPY", "a NumPy array"),
        (b"version https://git-lfs", "a pointer of Git LFS to a file that was not downloaded"),
    ];
    if bytes.is_empty() {
        return Some("an empty file");
    }
    if begins_as_safetensors(bytes) {
        return None;
    }
    if let Some((_, what)) = KINDS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Some(what);
    }
    // The first bytes of safetensors that are cut short are no text: the length of a header has zeros.
    match is_text(&bytes[..bytes.len().min(LOOKED_AT)]) {
        true => Some("a text file"),
        false => (bytes.len() >= PREAMBLE).then_some("another kind of file"),
    }
}

/// Whether bytes are UTF-8 without control characters; the last character may be cut.
fn is_text(bytes: &[u8]) -> bool {
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() => str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default(),
        Err(_) => return false,
    };
    !text.is_empty() && text.chars().all(|c| !c.is_control() || c.is_whitespace())
}
