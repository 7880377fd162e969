//! A network as C99 source: a header and one source file, static memory, no functions of a library but `memcpy`, `memmove`, `memset` and `expf`.
//!
//! The code computes rows depth first (`crate::export::stages`): each row of the input is pushed through the stages as far as it goes, and a stage
//! keeps only the rows that its next output depends on. The memory is that of a few rows for each layer, and the input need not be stored either.
//! `control.c` is this order, `convolution.c`, `depthwise.c` and `kernels.c` are the sums, and `finish_f32.c` or `finish_int8.c` what becomes of a sum.
//! Sums in floating point are in the order of [`Layers::logits`](super::Layers::logits), and in integers exact: the bits are those of the Rust code,
//! unless a compiler is allowed to contract products and sums.

mod memory;
mod schedule;
mod source;
mod template;

use super::error::ExportError;
use super::int8::{IntegerComparison, IntegerNetwork};
use super::replay::Replay;
use super::stages::Stages;
use crate::base::{Name, Shape, Standardisation};
use crate::train::{TrainError, write_atomically};
use std::path::{Path, PathBuf};

/// What the C code computes with.
#[derive(Clone, Copy, Debug)]
pub enum CNetwork<'a> {
    /// 32-bit floating-point numbers.
    Float(&'a Stages),
    /// Integers; the stages in floating point that they are from.
    Integer(&'a Stages, &'a IntegerNetwork),
}

impl CNetwork<'_> {
    fn stages(&self) -> &Stages {
        match self {
            CNetwork::Float(stages) | CNetwork::Integer(stages, _) => stages,
        }
    }

    fn input(&self) -> Shape {
        self.stages().input
    }

    fn standardisation(&self) -> Option<&Standardisation> {
        self.stages().standardisation.as_ref()
    }
}

/// What the header says of a network.
#[derive(Clone, Debug)]
pub struct CDescription<'a> {
    /// The name of the files, and what the names of functions begin with: an identifier of C.
    pub name: &'a str,
    /// The name of the network.
    pub network: &'a str,
    /// The classes, in the order of the logits.
    pub classes: &'a [Name],
    /// Frames per second.
    pub rate_hz: u32,
    /// Sentences for the comment at the top, such as the result of a comparison.
    pub remarks: &'a [String],
}

/// A network as C code.
#[derive(Clone, Debug)]
pub struct CCode {
    /// The header `NAME.h`.
    pub header: String,
    /// The source `NAME.c`.
    pub source: String,
    /// Bytes of static memory.
    pub ram_bytes: usize,
    /// Bytes of weights and tables, which are constant.
    pub weight_bytes: usize,
}

impl CCode {
    /// Writes a network as C.
    ///
    /// # Errors
    /// The name is no identifier of C, the number of classes is not that of the network, or a layer adds a row that would not be there yet.
    pub fn new(network: CNetwork<'_>, description: &CDescription<'_>) -> Result<CCode, ExportError> {
        check_name(description.name)?;
        let (classes, got) = (network.stages().classes(), description.classes.len());
        if classes != got {
            return Err(ExportError::Classes { got, expected: classes });
        }
        source::write(network, description)
    }

    /// Writes `NAME.h` and `NAME.c` into a folder, which is made if it does not exist; returns their paths.
    ///
    /// # Errors
    /// The folder cannot be made, or a file cannot be written.
    pub fn save(&self, folder: &Path, name: &str) -> Result<[PathBuf; 2], ExportError> {
        std::fs::create_dir_all(folder).map_err(TrainError::io("create", folder, "give the name of a folder"))?;
        let files = [(format!("{name}.h"), &self.header), (format!("{name}.c"), &self.source)];
        let paths = files.each_ref().map(|(file, _)| folder.join(file));
        for (path, (_, text)) in paths.iter().zip(files) {
            write_atomically(path, text.as_bytes())?;
        }
        Ok(paths)
    }
}

/// What a header says of the comparison of the layers in floating point with the library.
pub fn replay_remark(replay: &Replay) -> String {
    format!(
        "Comparison with the trained network on {} {}, computed with the arithmetic of a network in floating point as it is exported: largest \
         difference of a logit {:.1e} (largest logit {:.1}), clips with another most probable class: {}.",
        replay.clips, replay.source, replay.largest_logit_difference, replay.largest_logit, replay.label_flips
    )
}

/// What a header says of the comparison of a network in integers with the trained one.
pub fn integer_remark(comparison: &IntegerComparison, calibration_clips: usize) -> String {
    let points = |share: f64| 100.0 * share;
    let IntegerComparison { clips, largest_logit_difference, label_flips, accuracies, comparison } = comparison;
    format!(
        "Comparison of the integers with the trained network on {clips} test clips, with the arithmetic of this code: accuracy {:.2} % instead of {:.2} %, \
         difference {:+.2} points, 95 % interval {:+.2} to {:+.2}; largest difference of a logit {largest_logit_difference:.2}, clips with another most \
         probable class: {label_flips}. The ranges of the activations are from {calibration_clips} training clips.",
        points(accuracies[1]),
        points(accuracies[0]),
        points(comparison.difference),
        points(comparison.interval[0]),
        points(comparison.interval[1]),
    )
}

/// Words of C and C++ that are no identifiers.
const WORDS: &str = "alignas alignof and asm auto bitand bitor bool break case catch char class compl const continue decltype default delete do double else enum \
                     explicit export extern false final float for friend goto if import inline int int8_t int16_t int32_t int64_t long main module mutable namespace new \
                     noexcept not nullptr operator or override private protected public register requires restrict return short signed sizeof static struct switch \
                     template this throw true try typedef typeid typename uint8_t uint16_t uint32_t uint64_t union unsigned using virtual void volatile while xor";

/// Checks that a name can begin the names of functions and be that of a file.
///
/// # Errors
/// It is no identifier of C, or a word of C or C++, or too long.
pub fn check_name(name: &str) -> Result<(), ExportError> {
    let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    match letters && first && name.len() <= 48 && !WORDS.split_whitespace().any(|word| word == name) {
        true => Ok(()),
        false => Err(ExportError::CName { name: crate::base::name::display(name) }),
    }
}
