//! PyTorch's values (`fixtures/golden`) against the references in double precision and the kernels: single ops, Adam,
//! and ten training steps of custom32-8.

mod curve;
mod fixture;
mod ops;
