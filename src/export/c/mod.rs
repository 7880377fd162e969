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
use super::int8::IntegerNetwork;
use super::stages::Stages;
use crate::base::{Name, Shape, Standardisation};

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
