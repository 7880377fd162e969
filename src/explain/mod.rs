//! What a trained network has learned: the gradients of its outputs, maps of where in a clip it found a class, and what its filters respond to.
//!
//! Everything is computed with the network as it is used: running statistics in batch norm, no dropout.

mod error;
mod gradient;
mod maps;
mod section;

pub use error::ExplainError;
pub use gradient::Differentiator;
pub use maps::{Map, Mapper, Method, STEPS};
pub use section::{Part, Picture, Section, Sound, Table};
