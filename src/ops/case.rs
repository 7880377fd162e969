//! Test cases of operations: one list for each operation, which conformance tests, gradient checks and benches share.

use super::op::Op;
use crate::base::{
    Shape,
    rng::{Key, Stream},
};
use std::sync::Arc;

/// The values of an input.
#[derive(Clone, Copy, Debug)]
pub enum Fill {
    /// Standard normal.
    Normal,
    /// Evenly spaced in `[-2, 2)` and in random order, so that no two values are close to each other.
    Distinct,
    /// Standard normal, except that every other sample is all zeros. There the output of a convolution is exactly its bias in every
    /// row, whatever the algorithm, so that all rows of a pooling window are equal.
    Silent,
    /// Normal with mean 8, so that an error in subtracting the mean is large.
    Far,
    /// Class numbers, below the given number of classes.
    Class(usize),
    /// Shares of the given number of classes: for each sample non-negative numbers, every third of them 0, whose sum is 1.
    Shares(usize),
}

impl Fill {
    /// Whether operations are differentiable with respect to such values: not labels, nor where all rows of a window are equal.
    pub fn differentiable(self) -> bool {
        !self.is_label() && !matches!(self, Fill::Silent)
    }

    /// Whether the values are labels, which get no gradient.
    pub fn is_label(self) -> bool {
        matches!(self, Fill::Class(_) | Fill::Shares(_))
    }

    /// The values of a label of shares, from positive numbers; of any other fill, the numbers as they are.
    pub fn normalised(self, mut numbers: Vec<f64>) -> Vec<f64> {
        if let Fill::Shares(classes) = self {
            numbers.iter_mut().skip(2).step_by(3).for_each(|share| *share = 0.0);
            for label in numbers.chunks_mut(classes) {
                let sum: f64 = label.iter().sum();
                label.iter_mut().for_each(|share| *share /= sum);
            }
        }
        numbers
    }
}

/// One input of a case.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// The shape.
    pub shape: Shape,
    /// The values.
    pub fill: Fill,
}

/// An operation with inputs of given shapes, to test or measure it.
#[derive(Debug)]
pub struct Case {
    /// The name, made of letters and sizes: `n2_l592_c64_k5` has 2 samples, 592 rows, 64 channels and 5 taps.
    pub name: String,
    /// The operation.
    pub op: Arc<dyn Op>,
    /// The inputs.
    pub inputs: Vec<Input>,
    /// Samples in the batch.
    pub n: usize,
    /// Largest relative rms error of the f32 kernels against the reference, for outputs and gradients.
    pub tolerance: f64,
    /// Normal values closer to zero than this are moved away from zero, so that central differences do not cross a kink.
    pub kink: f64,
    /// Whether it is a layer of a real network: used by benches, too large for gradient checks.
    pub real: bool,
}

impl Case {
    /// A case of `op` on normal inputs of these shapes, two samples, tolerance 1e-6.
    pub fn new(name: impl Into<String>, op: impl Op + 'static, shapes: &[Shape]) -> Case {
        Case {
            name: name.into(),
            op: Arc::new(op),
            inputs: shapes.iter().map(|&shape| Input { shape, fill: Fill::Normal }).collect(),
            n: 2,
            tolerance: 1e-6,
            kink: 0.0,
            real: false,
        }
    }

    /// This case with silent samples in its first input.
    pub fn silent(mut self) -> Case {
        self.inputs[0].fill = Fill::Silent;
        Case { name: self.name + "_silent", ..self }
    }

    /// The values of input `i`, `[n, l, c]`. They depend only on the case, whose name is the seed.
    pub fn input(&self, i: usize) -> Vec<f64> {
        let seed = self.name.bytes().fold(0u64, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
        let key = Key::new(seed, Stream::Case).with(i as u64);
        let input = self.inputs[i];
        let len = self.n * input.shape.size();
        let order = if matches!(input.fill, Fill::Distinct) { key.permutation(len) } else { Vec::new() };
        let values = (0..len as u64)
            .map(|at| match input.fill {
                Fill::Class(bound) => key.below(at, bound as u64) as f64,
                Fill::Shares(_) => key.normal(at).exp(),
                Fill::Distinct => 4.0 * f64::from(order[at as usize]) / len as f64 - 2.0,
                Fill::Far => 8.0 + key.normal(at),
                Fill::Silent if (at as usize / input.shape.size()).is_multiple_of(2) => 0.0,
                Fill::Normal | Fill::Silent => {
                    // Rounded to f32, so that reference and kernels start from the same numbers.
                    let v = f64::from(key.normal(at) as f32);
                    if v.abs() < self.kink { v + 2.0 * self.kink.copysign(v) } else { v }
                }
            })
            .collect();
        input.fill.normalised(values).into_iter().map(|v| f64::from(v as f32)).collect()
    }
}
