//! Instruction sets as values, and the register tiles that all convolution kernels are made of.
//!
//! [`Isa`] is chosen once and handed down. A kernel is a struct of borrowed slices with one generic body
//! ([`Kernel::run`]); the token it gets decides the width of a vector and the instructions.

mod check;
mod isa;
mod peak;
pub mod planes;
mod portable;
mod sparse;
mod tile;
pub mod transform;
pub mod winograd;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use check::{cpu_brand, missing_cpu_features};
pub use isa::{Isa, Kernel, Simd};
pub use peak::fma_peak;
pub use sparse::{Cells, SparseSpread, SparseUpdate};
pub use tile::{Product, RankUpdate, panels};
