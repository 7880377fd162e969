//! Adam.
//!
//! **Computes**, in step `t` with gradient `g`: `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g^2`,
//! `w -= lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)`.
//! **Cost** one pass over the arena: reads the gradient accumulators of the shards and `w m v`, writes `w m v`.
//! **NaN** a NaN gradient makes its parameter NaN; the trainer stops at the loss. **Error** elementwise, a few ulp.
//! **Source** Kingma and Ba, arXiv 1412.6980, algorithm 1; order of operations as in PyTorch's `Adam`.

use crate::base::aligned::Aligned;
use crate::simd::{Isa, Kernel, Simd};
use rayon::prelude::*;
use std::ops::Range;

/// Adam's hyper-parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamSettings {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
}

impl Default for AdamSettings {
    fn default() -> AdamSettings {
        AdamSettings { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }
}

impl AdamSettings {
    /// The factors of the step after `steps` others.
    fn rates(self, steps: u64) -> Rates {
        let AdamSettings { lr, beta1, beta2, eps } = self;
        let t = steps.saturating_add(1).min(i32::MAX as u64) as i32;
        Rates {
            beta1,
            beta2,
            eps,
            step_size: (f64::from(lr) / (1.0 - f64::from(beta1).powi(t))) as f32,
            root_scale: (1.0 / (1.0 - f64::from(beta2).powi(t)).sqrt()) as f32,
        }
    }
}

/// The optimiser with its state, over an arena of parameters.
#[derive(Clone)]
pub struct Adam {
    /// Hyper-parameters; the learning rate may change between steps.
    pub settings: AdamSettings,
    /// First moments, in the order of the arena.
    pub m: Aligned,
    /// Second moments, in the order of the arena.
    pub v: Aligned,
    /// Steps taken.
    pub step: u64,
}

/// Parameters that one task updates: a fixed number, so that results do not depend on the number of threads.
const CHUNK: usize = 16 * 1024;
/// Parameters whose gradients are summed at a time: they stay in the L1 cache.
const BLOCK: usize = 1024;

impl Adam {
    /// The optimiser before its first step, for `len` parameters.
    pub fn new(len: usize, settings: AdamSettings) -> Adam {
        Adam { settings, m: Aligned::zeros(len), v: Aligned::zeros(len), step: 0 }
    }

    /// The factors of the next step, in the order of the kernel `adam`: `beta1`, `beta2`, `eps`, `lr / (1 - beta1^t)`,
    /// `1 / sqrt(1 - beta2^t)`. For a device that computes the step itself; [`Adam::step`](field@Adam::step) must then be incremented.
    pub fn rates(&self) -> [f32; 5] {
        let Rates { beta1, beta2, eps, step_size, root_scale } = self.settings.rates(self.step);
        [beta1, beta2, eps, step_size, root_scale]
    }

    /// Updates the parameters; the gradient is the sum of `sums`, added in their order. For parameters in `once`, ranges in ascending
    /// order, the first of `sums` is the whole gradient, and the others are not read.
    ///
    /// # Panics
    /// If `params` or a sum is not as long as the arena.
    pub fn step<'g, I>(&mut self, isa: Isa, params: &mut [f32], sums: I, once: &[Range<usize>])
    where
        I: Iterator<Item = &'g [f32]> + Clone + Sync,
    {
        assert!(params.len() == self.m.len() && sums.clone().all(|sum| sum.len() == params.len()));
        let rates = self.settings.rates(self.step);
        self.step += 1;
        params
            .par_chunks_mut(CHUNK)
            .zip(self.m.par_chunks_mut(CHUNK))
            .zip(self.v.par_chunks_mut(CHUNK))
            .enumerate()
            .for_each(|(chunk, ((w, m), v))| {
                let mut gradient = [0.0f32; BLOCK];
                for from in (0..w.len()).step_by(BLOCK) {
                    let block = from..(from + BLOCK).min(w.len());
                    let g = &mut gradient[..block.len()];
                    g.fill(0.0);
                    let first = chunk * CHUNK + block.start;
                    for (number, sum) in sums.clone().enumerate() {
                        let once = if number == 0 { &[] } else { once };
                        for range in outside(once, first..first + g.len()) {
                            let g = &mut g[range.start - first..range.end - first];
                            g.iter_mut().zip(&sum[range]).for_each(|(g, s)| *g += s);
                        }
                    }
                    isa.run(AdamStep {
                        rates,
                        g,
                        w: &mut w[block.clone()],
                        m: &mut m[block.clone()],
                        v: &mut v[block],
                    });
                }
            });
    }
}

/// The pieces of `block` that lie in none of `once`, which are in order.
fn outside(once: &[Range<usize>], block: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let ends = once.iter().map(|range| range.end);
    let starts = once.iter().map(|range| range.start).chain([usize::MAX]);
    let between = std::iter::once(0).chain(ends).zip(starts);
    let pieces = between.map(move |(from, to)| from.max(block.start)..to.min(block.end));
    pieces.filter(|piece| piece.start < piece.end)
}

#[derive(Clone, Copy)]
struct Rates {
    beta1: f32,
    beta2: f32,
    eps: f32,
    /// `lr / (1 - beta1^t)`.
    step_size: f32,
    /// `1 / sqrt(1 - beta2^t)`.
    root_scale: f32,
}

struct AdamStep<'a> {
    rates: Rates,
    g: &'a [f32],
    w: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl Kernel for AdamStep<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let Rates { beta1, beta2, eps, step_size, root_scale } = self.rates;
        let len = self.g.len();
        let (w, m, v) = (&mut self.w[..len], &mut self.m[..len], &mut self.v[..len]);
        for i in 0..len {
            let g = self.g[i];
            m[i] += (1.0 - beta1) * (g - m[i]);
            v[i] = beta2 * v[i] + (1.0 - beta2) * (g * g);
            w[i] -= step_size * m[i] / (v[i].sqrt() * root_scale + eps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Algorithm 1 in double precision, one number.
    fn reference(gradients: &[f64], s: AdamSettings) -> f64 {
        let (b1, b2) = (f64::from(s.beta1), f64::from(s.beta2));
        let (mut w, mut m, mut v) = (0.5, 0.0, 0.0);
        for (t, g) in (1..).zip(gradients) {
            m = b1 * m + (1.0 - b1) * g;
            v = b2 * v + (1.0 - b2) * g * g;
            w -= f64::from(s.lr) * (m / (1.0 - b1.powi(t))) / ((v / (1.0 - b2.powi(t))).sqrt() + f64::from(s.eps));
        }
        w
    }

    #[test]
    fn gradients_computed_once_are_read_from_the_first_accumulator_only() {
        let len = CHUNK + 2 * BLOCK;
        let once = [5..BLOCK + 3, BLOCK + 3..BLOCK + 4, CHUNK - 1..CHUNK + 7];
        let is_once = |i: usize| once.iter().any(|range| range.contains(&i));
        let first: Vec<f32> = (0..len).map(|i| (i % 11) as f32 - 5.0).collect();
        let second: Vec<f32> = (0..len).map(|i| if is_once(i) { 0.0 } else { 0.5 }).collect();
        let poisoned: Vec<f32> = (0..len).map(|i| if is_once(i) { f32::NAN } else { 0.5 }).collect();
        let step = |second: &[f32], once: &[Range<usize>]| {
            let (mut adam, mut w) = (Adam::new(len, AdamSettings::default()), vec![0.5; len]);
            adam.step(Isa::best(), &mut w, [&first[..], second].into_iter(), once);
            w
        };
        assert_eq!(step(&second, &[]), step(&poisoned, &once));
    }

    #[test]
    fn agrees_with_the_paper_for_every_parameter_and_instruction_set() {
        let len = 3 * CHUNK / 2 + 5;
        for isa in Isa::all() {
            let settings = AdamSettings { lr: 0.01, ..AdamSettings::default() };
            let mut adam = Adam::new(len, settings);
            let mut w = vec![0.5; len];
            let gradient = |step: usize, i: usize| ((i % 7) as f32 - 3.0) * 0.1 + step as f32 * 0.01;
            for step in 0..5 {
                let first: Vec<f32> = (0..len).map(|i| gradient(step, i) - 1.0).collect();
                let second = vec![1.0; len];
                adam.step(isa, &mut w, [&first[..], &second[..]].into_iter(), &[]);
            }
            for i in [0, 1, CHUNK - 1, CHUNK, len - 1] {
                let gradients: Vec<f64> = (0..5).map(|step| f64::from(gradient(step, i))).collect();
                approx::assert_relative_eq!(f64::from(w[i]), reference(&gradients, settings), max_relative = 1e-4);
            }
        }
    }

    #[test]
    fn rates_for_a_device_are_those_of_a_step() {
        let settings = AdamSettings::default();
        let (mut here, mut there) = (Adam::new(1, settings), Adam::new(1, settings));
        assert_eq!(there.rates()[..3], [settings.beta1, settings.beta2, settings.eps]);
        approx::assert_relative_eq!(there.rates()[3], 0.01, max_relative = 1e-6);
        for _ in 0..3 {
            here.step(Isa::best(), &mut [0.5], [&[1.0f32][..]].into_iter(), &[]);
            there.step += 1;
            assert_eq!((here.step, here.rates()), (there.step, there.rates()));
        }
    }
}
