//! Floor 4. What runs a plan: the CPU, and the reference in double precision that judges it.

mod alone;
mod cpu;
mod reference;

pub use alone::{Alone, Errors};
pub use cpu::Cpu;
pub use reference::Reference;
