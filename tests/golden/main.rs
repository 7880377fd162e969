//! Compares the references in double precision and the kernels with values computed by PyTorch (`fixtures/golden`): single
//! operations, Adam, ten training steps of custom32-8, ten of a recipe, and activations of layers.

mod activations;
mod curve;
#[cfg(feature = "explain")]
mod explanations;
#[cfg(feature = "explain")]
mod filters;
mod fixture;
mod ops;
#[cfg(feature = "explain")]
mod pca;
mod recipe;
