//! What every other module uses.

pub mod aligned;
pub mod name;
pub mod nearest;
pub mod rng;
mod shape;

pub use name::{Name, NameError};
pub use shape::Shape;
