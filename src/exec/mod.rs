//! Executors of plans: on the CPU, on a GPU, and the reference in double precision with which both are compared.

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
mod update;

pub use cpu::{Cpu, Part};
pub use device::{Device, DeviceChoice};
pub use error::DeviceError;
pub use executor::Executor;
pub use measured::{Cost, Tally};
pub(crate) use memory::check as check_memory;
pub use reference::Reference;
pub use single_op::{Errors, SingleOp};
pub use update::{Rates, Update};
