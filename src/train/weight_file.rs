//! Weight files: safetensors with PyTorch's names, shapes and order, so that a state dict goes both ways.

use super::error::TrainError;
use super::foreign;
use super::run_folder::write_atomically;
use super::weights::{Weights, file_shape, from_file_order, to_file_order};
use crate::base::name::display;
use crate::base::sha1::{Sha1, hex};
use crate::graph::{Graph, Parameter};
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Metadata key of the hash of everything else in the file.
const HASH: &str = "stapes.hash";

/// Metadata key of the settings of a run, in TOML.
pub(super) const SETTINGS: &str = "stapes.settings";
/// The beginnings of the names of tensors that a checkpoint has beside the weights.
const OF_A_CHECKPOINT: [&str; 2] = ["optimizer.", "average."];

/// Characters of SHA-1 in hexadecimal.
const HASH_LEN: usize = 40;

/// The key of the metadata in a header.
const METADATA: &str = "__metadata__";

/// Bytes of the header's length at the beginning of a file.
pub(super) const PREAMBLE: usize = 8;

/// Saves the weights of any graph as safetensors, completely or not at all.
///
/// The tensors have the names of the graph's parameters and states, and PyTorch's shapes and order: `[c_out, c_in, k]`
/// for a convolution, `[out, in]` for a dense layer. `metadata` is stored beside them; keys that begin with `stapes.` are
/// reserved. The file holds a hash of its content, which [`load_weights`] checks.
///
/// ```
/// use std::collections::HashMap;
/// use stapes::base::Shape;
/// use stapes::graph::Graph;
/// use stapes::ops::{Conv1d, Linear};
/// use stapes::train::{Weights, load_weights, save_weights};
///
/// let mut graph = Graph::new();
/// let x = graph.input("x", Shape::new(16, 1))?;
/// let h = graph.add("conv", Conv1d::new(4, 3), &[x])?;
/// graph.add("fc", Linear { out: 2, bias: true }, &[h])?;
///
/// let mut weights = Weights::zeros(&graph);
/// weights.params[..12].fill(0.5); // conv.weight: 4 channels, 1 input channel, 3 taps
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("weights.safetensors");
/// save_weights(&path, &graph, &weights, HashMap::from([("author".into(), "me".into())]))?;
/// assert_eq!(load_weights(&path, &graph)?.params[..], weights.params[..]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A weight is NaN or infinite, or the file cannot be written.
pub fn save_weights(
    path: &Path,
    graph: &Graph,
    weights: &Weights,
    metadata: HashMap<String, String>,
) -> Result<(), TrainError> {
    write(path, tensors_of(path, graph, weights)?, metadata)
}

/// Loads the weights of any graph from a safetensors file: one of [`save_weights`], or a state dict saved from PyTorch.
///
/// A prefix of all names, such as the `module.` of PyTorch's `DataParallel`, is left out. Tensors of F16 and BF16 are converted.
///
/// # Errors
/// The file cannot be read, is damaged, lacks a tensor of the graph, has a tensor of another shape or type than the graph
/// or one that the graph does not have, or holds a number that is NaN or infinite.
pub fn load_weights(path: &Path, graph: &Graph) -> Result<Weights, TrainError> {
    WeightFile::read(path)?.weights(graph)
}

/// A tensor for a file: its name, its shape, and its numbers in the file's order.
pub(super) type NamedTensor = (String, Vec<usize>, Vec<f32>);

/// The tensors of a graph's weights.
pub(super) fn tensors_of(path: &Path, graph: &Graph, weights: &Weights) -> Result<Vec<NamedTensor>, TrainError> {
    let mut tensors = Vec::new();
    for (parameters, arena) in [(graph.parameters(), &weights.params), (graph.states(), &weights.state)] {
        check_finite(path, &parameters, arena)?;
        tensors.extend(to_tensors("", &parameters, arena));
    }
    Ok(tensors)
}

/// The tensors in an arena; `prefix` goes before their names.
pub(super) fn to_tensors(prefix: &str, parameters: &[Parameter], arena: &[f32]) -> Vec<NamedTensor> {
    let tensor = |p: &Parameter| (format!("{prefix}{}", p.name), file_shape(p.layout), to_file_order(p, arena));
    parameters.iter().map(tensor).collect()
}

/// Writes tensors and metadata with the hash of both.
pub(super) fn write(
    path: &Path,
    tensors: Vec<NamedTensor>,
    mut metadata: HashMap<String, String>,
) -> Result<(), TrainError> {
    let blank = "0".repeat(HASH_LEN);
    metadata.insert(HASH.into(), blank.clone());
    let views = tensors.iter().map(|(name, shape, values)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values));
        (name, view.expect("shape and length of a tensor agree"))
    });
    let mut bytes =
        safetensors::serialize(views, Some(metadata.into_iter().collect())).map_err(|e| damaged(path, e))?;
    sort_header(&mut bytes);
    if let Some((header, data)) = split(&bytes)
        && let Some(hash) = content_hash(header, data)
    {
        let entry = format!("\"{HASH}\":\"");
        let at = header.windows(entry.len()).position(|window| window == entry.as_bytes());
        if let Some(at) = at.map(|at| PREAMBLE + at + entry.len()) {
            bytes[at..at + HASH_LEN].copy_from_slice(hash.as_bytes());
        }
    }
    write_atomically(path, &bytes)
}

/// Puts the header in alphabetical order. The crate writes metadata in the order of a hash map, which differs from
/// process to process, and equal runs are to give equal files.
fn sort_header(file: &mut [u8]) {
    let Some(header_len) = split(file).map(|(header, _)| header.len()) else { return };
    let header = &mut file[PREAMBLE..PREAMBLE + header_len];
    let sorted = serde_json::from_slice::<Value>(header).map(|mut map| {
        map.sort_all_objects();
        map.to_string()
    });
    if let Ok(sorted) = sorted
        && sorted.len() <= header.len()
    {
        let (text, padding) = header.split_at_mut(sorted.len());
        text.copy_from_slice(sorted.as_bytes());
        padding.fill(b' ');
    }
}

/// The header and the data of a file.
fn split(file: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = file.split_first_chunk::<PREAMBLE>()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}

/// SHA-1 of the header without the hash in it, and of the data.
fn content_hash(header: &[u8], data: &[u8]) -> Option<String> {
    let mut header: Value = serde_json::from_slice(header).ok()?;
    header.get_mut(METADATA)?.as_object_mut()?.remove(HASH);
    header.sort_all_objects();
    let mut sha = Sha1::new();
    sha.update(header.to_string().as_bytes());
    sha.update(data);
    Some(hex(&sha.finalize()))
}

/// A safetensors file that was read and checked.
pub(super) struct WeightFile {
    path: PathBuf,
    bytes: Vec<u8>,
    metadata: HashMap<String, String>,
}

impl WeightFile {
    /// Reads a file; refuses one that is not safetensors, and one whose content is not that of its hash.
    pub(super) fn read(path: &Path) -> Result<WeightFile, TrainError> {
        let bytes = foreign::read(path)?;
        let refused = |e| damaged(path, structure_fault(e, &bytes));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(refused)?;
        let metadata = header.metadata().iter().flatten();
        let metadata: HashMap<String, String> = metadata.map(|(key, value)| (key.clone(), value.clone())).collect();
        SafeTensors::deserialize(&bytes).map_err(refused)?;
        let content = || split(&bytes).and_then(|(header, data)| content_hash(header, data));
        let as_saved = match metadata.get(HASH) {
            Some(hash) => content().as_ref() == Some(hash),
            // Earlier versions stored neither a hash nor settings; other programs store none.
            None => !metadata.contains_key(SETTINGS),
        };
        if !as_saved {
            let reason = String::from(
                "its content does not match the hash that is stored in it; if another program has changed it on purpose, \
                 save it without the metadata whose keys begin with `stapes.`",
            );
            return Err(damaged(path, reason));
        }
        Ok(WeightFile { path: path.into(), bytes, metadata })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The metadata under a key.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// The weights of `graph`. Refuses tensors that the graph does not have, except PyTorch's batch counters and the
    /// optimiser's state.
    pub(super) fn weights(&self, graph: &Graph) -> Result<Weights, TrainError> {
        let (parameters, states) = (graph.parameters(), graph.states());
        let tensors = self.tensors()?;
        let prefix = common_prefix(&tensors, parameters.iter().chain(&states));
        for name in tensors.names() {
            let own = name.strip_prefix(&prefix).unwrap_or(name);
            let known = parameters.iter().chain(&states).any(|p| p.name == own);
            if !known
                && !own.ends_with("num_batches_tracked")
                && !OF_A_CHECKPOINT.iter().any(|start| own.starts_with(start))
            {
                let reason = format!(
                    "it has a tensor `{}`, which the network does not have; use the model that it was saved from",
                    quoted(name)
                );
                return Err(TrainError::OtherNetwork { path: self.path.clone(), reason });
            }
        }
        // All shapes are compared before memory is reserved, which is then no more than the file has.
        for p in parameters.iter().chain(&states) {
            self.tensor(&tensors, &prefix, p)?;
        }
        let mut weights = Weights::zeros(graph);
        self.fill(&prefix, &parameters, &mut weights.params)?;
        self.fill(&prefix, &states, &mut weights.state)?;
        check_finite(&self.path, &parameters, &weights.params)?;
        check_finite(&self.path, &states, &weights.state)?;
        Ok(weights)
    }

    /// Reads the tensors of an arena; `prefix` goes before their names.
    pub(super) fn fill(&self, prefix: &str, parameters: &[Parameter], arena: &mut [f32]) -> Result<(), TrainError> {
        let tensors = self.tensors()?;
        for p in parameters {
            let tensor = self.tensor(&tensors, prefix, p)?;
            from_file_order(p, values(&tensor), arena);
        }
        Ok(())
    }

    /// Whether it has tensors whose names begin with `prefix`.
    #[cfg(feature = "audio")]
    pub(super) fn has_tensors(&self, prefix: &str) -> Result<bool, TrainError> {
        Ok(self.tensors()?.names().iter().any(|name| name.starts_with(prefix)))
    }

    /// The tensor of a parameter, whose shape and type are those of the network.
    fn tensor<'t>(&self, tensors: &SafeTensors<'t>, prefix: &str, p: &Parameter) -> Result<TensorView<'t>, TrainError> {
        let name = format!("{prefix}{}", p.name);
        let other = |reason: String| TrainError::OtherNetwork { path: self.path.clone(), reason };
        let missing = || other(format!("it has no tensor `{name}`; use the model that it was saved from"));
        let tensor = tensors.tensor(&name).map_err(|_| missing())?;
        let (found, shape) = (tensor.shape(), file_shape(p.layout));
        if found != shape {
            return Err(other(format!(
                "`{name}` is {found:?} in the file and {shape:?} in the network; use the model that it was saved from"
            )));
        }
        let dtype = tensor.dtype();
        if !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(other(format!(
                "`{name}` is stored as {dtype:?}; convert it to F32, in PyTorch with `.float()`"
            )));
        }
        Ok(tensor)
    }

    fn tensors(&self) -> Result<SafeTensors<'_>, TrainError> {
        SafeTensors::deserialize(&self.bytes).map_err(|e| damaged(&self.path, structure_fault(e, &self.bytes)))
    }
}

/// The numbers of a tensor of F32, F16 or BF16; none of any other type.
fn values<'t>(tensor: &TensorView<'t>) -> Box<dyn Iterator<Item = f32> + 't> {
    let halves = tensor.data().chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    match tensor.dtype() {
        Dtype::F32 => Box::new(tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
        Dtype::F16 => Box::new(halves.map(from_f16)),
        // The upper half of an f32.
        Dtype::BF16 => Box::new(halves.map(|half| f32::from_bits(u32::from(half) << 16))),
        _ => Box::new(std::iter::empty()),
    }
}

/// The number with the bits of an IEEE 754 binary16, exactly.
fn from_f16(half: u16) -> f32 {
    let (exponent, fraction) = (u32::from(half >> 10) & 31, u32::from(half) & 1023);
    let size = match exponent {
        0 => fraction as f32 * (-24f32).exp2(),
        31 => f32::from_bits(0xff << 23 | fraction << 13),
        _ => f32::from_bits((exponent + 127 - 15) << 23 | fraction << 13),
    };
    if half >> 15 == 1 { -size } else { size }
}

/// The prefix of the network's own names in all names of the file: `module.` for PyTorch's `DataParallel`,
/// `_orig_mod.` for a compiled model; mostly nothing.
fn common_prefix<'p>(tensors: &SafeTensors<'_>, mut parameters: impl Iterator<Item = &'p Parameter>) -> String {
    let Some(first) = parameters.next().map(|p| p.name.as_str()) else { return String::new() };
    if tensors.tensor(first).is_ok() {
        return String::new();
    }
    let names = tensors.names();
    let mut prefixes = names.iter().filter_map(|name| name.strip_suffix(first));
    let candidate = prefixes.find(|prefix| prefix.ends_with('.') && names.iter().all(|name| name.starts_with(prefix)));
    candidate.unwrap_or_default().to_string()
}

/// What is wrong with the structure of a safetensors file.
fn structure_fault(error: SafeTensorError, bytes: &[u8]) -> String {
    use SafeTensorError as E;
    match error {
        E::HeaderTooSmall | E::InvalidHeaderLength => "it is cut short".into(),
        E::MetadataIncompleteBuffer => match promised(bytes) {
            Some(end) if (end as u128) < bytes.len() as u128 => {
                format!("it has {} trailing bytes after its last tensor", bytes.len() as u64 - end)
            }
            _ => "it is cut short".into(),
        },
        E::HeaderTooLarge => "its header is too large".into(),
        E::InvalidHeader(_) => "its header is not text".into(),
        E::InvalidHeaderDeserialization(e) => {
            format!("its header is not the JSON of safetensors: {}", quoted(&e.to_string()))
        }
        other => quoted(&other.to_string()),
    }
}

/// Where the last tensor of a file ends, as its header says.
fn promised(bytes: &[u8]) -> Option<u64> {
    let (header, _) = split(bytes)?;
    let header: Value = serde_json::from_slice(header).ok()?;
    let tensors = header.as_object()?.iter().filter(|(name, _)| *name != METADATA);
    let end = tensors.filter_map(|(_, tensor)| tensor.get("data_offsets")?.get(1)?.as_u64()).max().unwrap_or(0);
    end.checked_add((PREAMBLE + split(bytes)?.0.len()) as u64)
}

/// A piece of a file in a message: without control characters, and not long.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 120;
    let cut: String = text.chars().take(MOST).collect();
    display(&cut) + if cut.len() < text.len() { ".." } else { "" }
}

fn check_finite(path: &Path, parameters: &[Parameter], arena: &[f32]) -> Result<(), TrainError> {
    for p in parameters {
        if let Some(&value) = arena[p.offset..][..p.len].iter().find(|value| !value.is_finite()) {
            return Err(TrainError::WeightsNotFinite { path: path.into(), tensor: p.name.clone(), value });
        }
    }
    Ok(())
}

pub(super) fn damaged(path: &Path, reason: impl ToString) -> TrainError {
    TrainError::Damaged { path: path.into(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_converted_exactly() {
        let cases = [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0400, 2f32.powi(-14)),
            (0x0001, 2f32.powi(-24)),
            (0x83ff, -1023.0 * 2f32.powi(-24)),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
        ];
        for (half, expected) in cases {
            assert_eq!(from_f16(half), expected, "{half:#06x}");
        }
        assert!(from_f16(0x7e00).is_nan());
    }
}
