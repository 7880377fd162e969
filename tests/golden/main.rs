//! Compares the references in double precision and the kernels with values computed by PyTorch (`fixtures/golden`): single
//! operations, Adam, ten training steps of custom32-8, and ten of a recipe.

mod curve;
mod fixture;
mod ops;
mod recipe;
