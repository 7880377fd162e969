//! Networks with 8-bit weights and activations, computed in integers, after training.
//!
//! A number `x` is stored as an integer `q`, `x = scale * (q - zero)`. Weights have 8 bits with a sign, `zero` 0 and a scale for each output channel;
//! activations have 8 bits without a sign and one scale and zero for each layer, after ReLU with `zero` 0; the input and the outputs of the first two
//! stages have 16 bits, because rounding errors there change the logits most. Sums have 32 bits and cannot overflow. From a sum to the number of
//! the next layer leads a factor, which is stored as an integer of 31 bits and a shift ([`Multiplier`]). The logits are floating-point numbers: a sum times a scale.
//! **Source** Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", 2018, sections 2.1 to 2.4;
//! scales by channel: Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018, section 3.1.
//!
//! [`Calibrator`] finds the ranges of the activations, [`IntegerNetwork`] is the network, and its `logits` are the reference for every other
//! execution of it, which must give the same bits. [`IntegerExecutor`] computes it with vector instructions.

mod calibrate;
mod compare;
mod execute;
mod fast;
mod multiplier;
mod numbers;
mod quantise;
mod timing;

pub use calibrate::{Calibration, Calibrator, Range};
pub use compare::{IntegerComparison, calibrate, compare_integer, integer_network, label_flips};
pub use fast::IntegerExecutor;
pub use multiplier::{LARGEST_TERM, Multiplier};
pub use timing::{IntegerTiming, time_integer};

use super::stages::Form;
use crate::base::{Shape, Standardisation};

/// A network that is computed in integers.
#[derive(Clone, Debug)]
pub struct IntegerNetwork {
    /// The shape of a clip, channels last.
    pub input: Shape,
    /// What is done to the clip first.
    pub standardisation: Option<Standardisation>,
    /// Numbers of the input for 1.0: a clip becomes integers of 16 bits by this factor, rounded to the nearest, halves away from zero.
    pub input_factor: f32,
    /// The stages; each reads the one before it.
    pub stages: Vec<IntegerStage>,
    /// For each class the logit that one unit of its sum stands for.
    pub logit_scale: Vec<f32>,
}

/// A stage of it.
#[derive(Clone, Debug)]
pub struct IntegerStage {
    /// What it computes.
    pub form: Form,
    /// In the order of [`super::Stage::weight`].
    pub weight: Vec<i8>,
    /// What a sum begins with, which contains what the zero of the input adds to it; empty for a pool.
    pub bias: Vec<i32>,
    /// For each channel the factor from sums to numbers of the output; with a residual, to 256ths of them. Empty for a pool and the last stage.
    pub rescale: Vec<Multiplier>,
    /// How the residual is added.
    pub residual: Option<IntegerResidual>,
    /// The number of the input that stands for 0.
    pub zero_in: i32,
    /// The number of the output that stands for 0.
    pub zero_out: i32,
    /// The largest number of the output: 255, or 32,767 where it has 16 bits.
    pub most: i32,
}

/// How earlier rows are added to the sums of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntegerResidual {
    /// The number in them that stands for 0.
    pub zero: i32,
    /// The factor from their numbers to 256ths of a number of the output.
    pub rescale: Multiplier,
}
