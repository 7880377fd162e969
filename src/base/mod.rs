//! What all other modules use: shapes, aligned memory, random numbers, digests, names from outside, spelling suggestions,
//! temporary files, CPU time, standardisation of inputs, the mel scale.

pub mod aligned;
pub mod cpu_time;
#[cfg(any(feature = "classify", feature = "explain"))]
pub(crate) mod dot;
pub mod mel;
pub mod name;
pub mod nearest;
#[cfg(feature = "listen")]
pub(crate) mod resample;
pub mod rng;
pub mod sha1;
mod shape;
mod standardisation;
mod temporary;
pub mod text_file;

pub use aligned::OutOfMemory;
pub use name::{Name, NameError};
pub use shape::Shape;
pub use standardisation::{Standardisation, StandardisationError};
pub use temporary::Temporary;

/// The factor that turns a 16-bit sample into a number of full scale 1.
pub const FULL_SCALE: f32 = 1.0 / 32768.0;

/// The sample rates that a network's input can have, in hertz.
pub const INPUT_RATES_HZ: std::ops::RangeInclusive<u32> = 1..=768_000;
