//! Compares the references in double precision and the kernels with values computed by PyTorch (`fixtures/golden`): single
//! operations, Adam, and ten training steps of custom32-8.

mod curve;
mod fixture;
mod ops;
