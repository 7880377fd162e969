//! What runs a plan: the CPU, a GPU, and the reference in double precision that judges them.

pub mod conformance;
mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(not(feature = "cuda"))]
#[path = "no_cuda.rs"]
pub mod cuda;
mod device;
mod error;
mod executor;
mod measured;
mod memory;
mod reference;
mod single_op;

pub use cpu::Cpu;
pub use device::{Device, DeviceChoice};
pub use error::DeviceError;
pub use executor::Executor;
pub use measured::{Cost, Tally};
pub use reference::Reference;
pub use single_op::{Errors, SingleOp};
