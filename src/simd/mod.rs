//! Instruction sets as values, and the kernels of all convolutions.
//!
//! An [`Isa`] is chosen once and passed down. A kernel is a struct of borrowed slices with one generic body ([`Kernel::run`]); the
//! token that the body is given decides the width of a vector and the instructions.
//!
//! The register tiles and transforms of the convolutions are not part of the library's interface; they are used through the
//! operations of [`ops`](crate::ops).
//!
//! ```compile_fail
//! use stapes::simd::{Product, RankUpdate};
//! ```
//! ```compile_fail
//! use stapes::simd::{PooledGradient, SparseSpread, SparseUpdate};
//! ```
//! ```compile_fail
//! use stapes::simd::{DepthwiseProduct, DepthwiseUpdate, Windows};
//! ```
//! ```compile_fail
//! use stapes::simd::planes;
//! ```
//! ```compile_fail
//! use stapes::simd::transform;
//! ```
//! ```compile_fail
//! use stapes::simd::winograd;
//! ```
//! [`Simd`] cannot be implemented for another type, because kernels trust the properties of the instruction sets:
//! ```compile_fail
//! #[derive(Clone, Copy)]
//! struct Mine;
//! impl stapes::simd::Simd for Mine {}
//! ```

mod check;
mod depthwise;
mod extent;
#[cfg(feature = "export")]
mod integer;
mod isa;
mod peak;
pub(crate) mod planes;
mod portable;
#[cfg(test)]
mod primitives;
#[cfg(test)]
mod soundness;
mod sparse;
mod tile;
pub(crate) mod transform;
#[cfg(all(feature = "export", any(target_arch = "x86_64", test)))]
mod vnni;
mod windows;
pub(crate) mod winograd;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use check::{cpu_brand, missing_cpu_features};
pub(crate) use depthwise::{DepthwiseProduct, DepthwiseUpdate};
pub(crate) use extent::{product, sum};
#[cfg(feature = "export")]
pub(crate) use integer::{Factors, IntegerProduct, OUTPUTS, Pairs, Quads, prefers_bytes};
pub use isa::{Isa, Kernel, Simd};
pub use peak::fma_peak;
pub(crate) use sparse::{PooledGradient, SparseSpread, SparseUpdate};
pub(crate) use tile::{Product, RankUpdate, panels};
pub(crate) use windows::Windows;
