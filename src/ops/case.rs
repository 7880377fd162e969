//! One list of cases an op, for conformance, gradient checks and benches alike.

use super::op::Op;
use crate::base::{
    Shape,
    rng::{Key, Stream},
};
use std::sync::Arc;

/// What the numbers of an input are.
#[derive(Clone, Copy, Debug)]
pub enum Fill {
    /// Standard normal.
    Normal,
    /// Evenly spaced in `[-2, 2)` and in random order, so that no two of an input are near each other.
    Distinct,
    /// Standard normal, but every other sample is silent, all zeros: a convolution makes its bias of that in every row, exactly and by
    /// every algorithm, so that all rows of a pool's window are equal.
    Silent,
    /// Normal around eight: what a sum forgets to take off shows.
    Far,
    /// Class numbers below the bound.
    Class(usize),
}

impl Fill {
    /// Whether operations are differentiable in such numbers: not in a class, nor where all rows of a window are equal.
    pub fn differentiable(self) -> bool {
        !matches!(self, Fill::Silent | Fill::Class(_))
    }
}

/// One input of a case.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    /// Its shape.
    pub shape: Shape,
    /// Its numbers.
    pub fill: Fill,
}

/// An op on given shapes.
#[derive(Debug)]
pub struct Case {
    /// Its name, in the grammar of kernels: `n2_l592_c64_k5`.
    pub name: String,
    /// The op.
    pub op: Arc<dyn Op>,
    /// Its inputs.
    pub inputs: Vec<Input>,
    /// Samples in the batch.
    pub n: usize,
    /// Largest relative rms error of the f32 kernels against the reference, for outputs and gradients alike.
    pub tolerance: f64,
    /// Inputs nearer than this to zero are moved away from it, so that central differences do not cross a kink.
    pub kink: f64,
    /// A layer of a real network: taken by benches, too large for gradient checks.
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

    /// The numbers of input `i`, `[n, l, c]`, from the case's own seed.
    pub fn input(&self, i: usize) -> Vec<f64> {
        let seed = self.name.bytes().fold(0u64, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
        let key = Key::new(seed, Stream::Case).with(i as u64);
        let input = self.inputs[i];
        let len = self.n * input.shape.size();
        let order = if matches!(input.fill, Fill::Distinct) { key.permutation(len) } else { Vec::new() };
        (0..len as u64)
            .map(|at| match input.fill {
                Fill::Class(bound) => key.below(at, bound as u64) as f64,
                Fill::Distinct => 4.0 * f64::from(order[at as usize]) / len as f64 - 2.0,
                Fill::Far => 8.0 + key.normal(at),
                Fill::Silent if (at as usize / input.shape.size()).is_multiple_of(2) => 0.0,
                Fill::Normal | Fill::Silent => {
                    // Rounded to f32, so that reference and kernels start from the same numbers.
                    let v = f64::from(key.normal(at) as f32);
                    if v.abs() < self.kink { v + 2.0 * self.kink.copysign(v) } else { v }
                }
            })
            .map(|v| f64::from(v as f32))
            .collect()
    }
}
