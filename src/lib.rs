//! stapes trains and runs small networks that hear words in the raw waveform.

pub mod base;
pub mod cli;
pub mod data;
pub mod exec;
pub mod graph;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod simd;
pub mod train;
