//! stapes trains and runs small networks that hear words in the raw waveform.

pub mod base;
pub mod data;
