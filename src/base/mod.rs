//! Floor 0. What every other room stands on.

pub mod aligned;
pub mod nearest;
pub mod rng;
mod shape;

pub use shape::Shape;
