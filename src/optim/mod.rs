//! Optimisers: kernels over the one flat parameter arena.

mod adam;

pub use adam::{Adam, AdamSettings};
