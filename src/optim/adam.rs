//! Adam, with decoupled weight decay (AdamW) and with clipping of the gradient by its norm.
//!
//! **Computes**, in step `t` with gradient `g`: with clipping first `g *= min(1, clip_norm / (|g| + 1e-6))`, where `|g|` is the Euclidean norm
//! of the gradient of all parameters; for parameters that decay `w *= 1 - lr * weight_decay`; then `m = beta1 m + (1 - beta1) g`,
//! `v = beta2 v + (1 - beta2) g^2`, `w -= lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)`.
//! **Cost** one pass over the arena: reads `g w m v`, writes `w m v`. Clipping reads the gradient a second time; decay costs nothing more than its
//! multiplications.
//! **NaN** a NaN gradient makes its parameter NaN, with clipping all parameters; the trainer stops at the loss.
//! **Error** elementwise, a few ulp; the norm is summed in double precision. **Source** Kingma and Ba, arXiv 1412.6980, algorithm 1;
//! Loshchilov and Hutter, arXiv 1711.05101, algorithm 2; order of operations as in PyTorch's `Adam`, `AdamW` and `clip_grad_norm_`.

use crate::base::aligned::Aligned;
use crate::graph::Graph;
use crate::ops::op::Role;
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
    /// Decoupled weight decay, as in AdamW: before each step the weights of [`Adam::decayed`] are multiplied by `1 - lr * weight_decay`.
    /// 0 for none.
    pub weight_decay: f32,
    /// The largest Euclidean norm of the gradient of all parameters; a longer gradient is scaled down to it. 0 for no limit.
    pub clip_norm: f32,
}

impl Default for AdamSettings {
    fn default() -> AdamSettings {
        AdamSettings { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, clip_norm: 0.0 }
    }
}

impl AdamSettings {
    /// The factors of the step after `steps` others.
    fn rates(self, steps: u64) -> Rates {
        let AdamSettings { lr, beta1, beta2, eps, weight_decay, .. } = self;
        let t = steps.saturating_add(1).min(i32::MAX as u64) as i32;
        Rates {
            beta1,
            beta2,
            eps,
            step_size: (f64::from(lr) / (1.0 - f64::from(beta1).powi(t))) as f32,
            root_scale: (1.0 / (1.0 - f64::from(beta2).powi(t)).sqrt()) as f32,
            decay: (1.0 - f64::from(lr) * f64::from(weight_decay)) as f32,
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
    /// The ranges of the parameters, in ascending order, to which [`AdamSettings::weight_decay`] applies: none at first, see [`decayed`].
    pub decayed: Vec<Range<usize>>,
    /// For each chunk of parameters the sum of the squares of its gradients; empty if the gradient has never been clipped.
    squares: Vec<f64>,
}

/// The ranges of the parameters of `graph`, in ascending order, to which weight decay is usually applied: the weights of convolutions and
/// dense layers, but no bias, and neither scale nor shift of batch norm.
pub fn decayed(graph: &Graph) -> Vec<Range<usize>> {
    let weights = |role: Role| matches!(role, Role::Kernel { .. } | Role::Dense { .. });
    let parameters = graph.parameters().into_iter().filter(|parameter| weights(parameter.role));
    parameters.map(|parameter| parameter.offset..parameter.offset + parameter.len).collect()
}

/// Parameters that one task updates: a fixed number, so that results do not depend on the number of threads.
pub const CHUNK: usize = 16 * 1024;
/// Parameters whose squares are added up at a time.
const BLOCK: usize = 1024;
/// Added to the norm of the gradient before the division, as in PyTorch's `clip_grad_norm_`.
const NORM_EPS: f64 = 1e-6;

impl Adam {
    /// The optimiser before its first step, for `len` parameters.
    pub fn new(len: usize, settings: AdamSettings) -> Adam {
        let (m, v) = (Aligned::zeros(len), Aligned::zeros(len));
        Adam { settings, m, v, step: 0, decayed: Vec::new(), squares: vec![0.0; len.div_ceil(CHUNK)] }
    }

    /// The factors of the next step, in the order of the device's kernels: `beta1`, `beta2`, `eps`, `lr / (1 - beta1^t)`, `1 / sqrt(1 - beta2^t)`,
    /// `1 - lr * weight_decay`, `clip_norm`. For a device that computes the step itself; [`Adam::step`](field@Adam::step) must then be incremented.
    pub fn rates(&self) -> [f32; 7] {
        let Rates { beta1, beta2, eps, step_size, root_scale, decay } = self.settings.rates(self.step);
        [beta1, beta2, eps, step_size, root_scale, decay, self.settings.clip_norm]
    }

    /// Updates the parameters. Parameters in `frozen`, ranges in ascending order, and their moments stay as they are.
    ///
    /// # Panics
    /// If `params` or `gradient` is not as long as the arena.
    pub fn step(&mut self, isa: Isa, params: &mut [f32], gradient: &[f32], frozen: &[Range<usize>]) {
        assert!(params.len() == self.m.len() && gradient.len() == params.len());
        let rates = self.settings.rates(self.step);
        let scale = self.clip_scale(gradient, frozen);
        self.step += 1;
        let decayed = if rates.decay == 1.0 { &[] } else { &self.decayed[..] };
        params
            .par_chunks_mut(CHUNK)
            .zip(self.m.par_chunks_mut(CHUNK))
            .zip(self.v.par_chunks_mut(CHUNK))
            .enumerate()
            .for_each(|(chunk, ((w, m), v))| {
                let start = chunk * CHUNK;
                for block in outside(frozen, start..start + w.len()) {
                    let own = block.start - start..block.end - start;
                    let [w, m, v] = [&mut *w, &mut *m, &mut *v].map(|numbers| &mut numbers[own.clone()]);
                    for range in inside(decayed, block.clone()) {
                        let range = range.start - block.start..range.end - block.start;
                        w[range].iter_mut().for_each(|w| *w *= rates.decay);
                    }
                    isa.run(AdamStep { rates, scale, g: &gradient[block], w, m, v });
                }
            });
    }

    /// The factor that limits the norm of the gradient to [`AdamSettings::clip_norm`]. The squares are summed in a fixed order.
    fn clip_scale(&mut self, gradient: &[f32], frozen: &[Range<usize>]) -> f32 {
        let clip = f64::from(self.settings.clip_norm);
        if clip <= 0.0 {
            return 1.0;
        }
        let len = self.m.len();
        self.squares.par_iter_mut().enumerate().for_each(|(chunk, sum)| {
            *sum = 0.0;
            for first in (chunk * CHUNK..len.min((chunk + 1) * CHUNK)).step_by(BLOCK) {
                for block in outside(frozen, first..len.min(first + BLOCK)) {
                    *sum += sum_of_squares(&gradient[block]);
                }
            }
        });
        let norm = self.squares.iter().sum::<f64>().sqrt();
        let scale = clip / (norm + NORM_EPS);
        // Not `min`, which would turn a NaN into 1.
        if scale >= 1.0 { 1.0 } else { scale as f32 }
    }
}

/// The sum of squares, in an order that is the same for every instruction set: eight sums of every eighth number.
fn sum_of_squares(numbers: &[f32]) -> f64 {
    let mut sums = [0.0f64; 8];
    let (whole, rest) = numbers.as_chunks::<8>();
    for chunk in whole {
        for (sum, &number) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(number) * f64::from(number);
        }
    }
    for (sum, &number) in sums.iter_mut().zip(rest) {
        *sum += f64::from(number) * f64::from(number);
    }
    sums.iter().sum()
}

/// The pieces of `block` that lie in one of `ranges`, which are in order.
fn inside(ranges: &[Range<usize>], block: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let pieces = ranges.iter().map(move |range| range.start.max(block.start)..range.end.min(block.end));
    pieces.filter(|piece| piece.start < piece.end)
}

/// The pieces of `block` that lie in none of `ranges`, which are in order.
fn outside(ranges: &[Range<usize>], block: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let ends = ranges.iter().map(|range| range.end);
    let starts = ranges.iter().map(|range| range.start).chain([usize::MAX]);
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
    /// `1 - lr * weight_decay`.
    decay: f32,
}

struct AdamStep<'a> {
    rates: Rates,
    /// The factor of the gradient.
    scale: f32,
    g: &'a [f32],
    w: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl Kernel for AdamStep<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let Rates { beta1, beta2, eps, step_size, root_scale, .. } = self.rates;
        let len = self.g.len();
        let (w, m, v) = (&mut self.w[..len], &mut self.m[..len], &mut self.v[..len]);
        for i in 0..len {
            let g = self.g[i] * self.scale;
            m[i] += (1.0 - beta1) * (g - m[i]);
            v[i] = beta2 * v[i] + (1.0 - beta2) * (g * g);
            w[i] -= step_size * m[i] / (v[i].sqrt() * root_scale + eps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Shape;
    use crate::ops::{BatchNorm, Conv1d, Linear, Over};

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
    fn frozen_parameters_and_their_moments_stay_as_they_are_and_change_no_other() {
        let len = CHUNK + 2 * BLOCK;
        let frozen = [0..3, 7..BLOCK + 1, CHUNK - 5..CHUNK + 9, len - 1..len];
        let is_frozen = |i: usize| frozen.iter().any(|range| range.contains(&i));
        let gradient: Vec<f32> = (0..len).map(|i| (i % 11) as f32 - 5.0).collect();
        for isa in Isa::all() {
            let step = |frozen: &[Range<usize>]| {
                let (mut adam, mut w) = (Adam::new(len, AdamSettings::default()), vec![0.5; len]);
                // Moments of earlier steps, with which even a gradient of zero would change a parameter.
                adam.m.fill(0.25);
                adam.v.fill(0.125);
                adam.step(isa, &mut w, &gradient, frozen);
                [w, adam.m.to_vec(), adam.v.to_vec()]
            };
            let (all, some) = (step(&[]), step(&frozen));
            for (i, before) in [0.5, 0.25, 0.125].into_iter().enumerate() {
                for (j, &number) in some[i].iter().enumerate() {
                    assert_eq!(number, if is_frozen(j) { before } else { all[i][j] }, "{isa:?}: array {i}, number {j}");
                }
            }
        }
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
                let gradient: Vec<f32> = (0..len).map(|i| gradient(step, i)).collect();
                adam.step(isa, &mut w, &gradient, &[]);
            }
            for i in [0, 1, CHUNK - 1, CHUNK, len - 1] {
                let gradients: Vec<f64> = (0..5).map(|step| f64::from(gradient(step, i))).collect();
                approx::assert_relative_eq!(f64::from(w[i]), reference(&gradients, settings), max_relative = 1e-4);
            }
        }
    }

    /// A step by `settings` on `threads` threads from the weights 0.5; parameters of `DECAYED` decay.
    fn stepped(settings: AdamSettings, isa: Isa, threads: usize, gradient: &[f32]) -> Vec<f32> {
        let len = gradient.len();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (mut adam, mut w) = (Adam::new(len, settings), vec![0.5; len]);
        adam.decayed = DECAYED.into();
        pool.install(|| adam.step(isa, &mut w, gradient, &[]));
        w
    }

    const LEN: usize = 2 * CHUNK + BLOCK + 5;
    const DECAYED: [Range<usize>; 3] = [3..BLOCK + 7, CHUNK - 1..CHUNK + 1, 2 * CHUNK..LEN - 1];

    #[test]
    fn only_the_parameters_of_the_ranges_decay() {
        let settings = AdamSettings { lr: 0.01, weight_decay: 0.25, ..AdamSettings::default() };
        for isa in Isa::all() {
            let without = stepped(AdamSettings { weight_decay: 0.0, ..settings }, isa, 2, &[0.0; LEN]);
            assert!(without.iter().all(|&w| w == 0.5));
            let w = stepped(settings, isa, 2, &[0.0; LEN]);
            for (i, w) in w.into_iter().enumerate() {
                let decays = DECAYED.iter().any(|range| range.contains(&i));
                let expected = if decays { 0.5 * (1.0 - 0.01f32 * 0.25) } else { 0.5 };
                assert_eq!(w, expected, "parameter {i}, {isa:?}");
            }
        }
    }

    #[test]
    fn a_long_gradient_is_scaled_to_the_norm_and_a_short_one_is_kept() {
        let gradient: Vec<f32> = (0..LEN).map(|i| ((i % 13) as f32 - 6.0) * 0.01).collect();
        let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        // With so large an `eps` a step is proportional to the gradient: it is lr * g / (|g| + eps), nearly lr * g / eps.
        let settings = AdamSettings { lr: 1.0, eps: 1e4, ..AdamSettings::default() };
        let update = |clip_norm: f32| -> f64 {
            let w = stepped(AdamSettings { clip_norm, ..settings }, Isa::best(), 2, &gradient);
            let moved = w.iter().map(|&w| (f64::from(w) - 0.5).powi(2)).sum::<f64>().sqrt();
            moved * 1e4
        };
        let free = stepped(settings, Isa::best(), 1, &gradient);
        assert_eq!(stepped(AdamSettings { clip_norm: 2.0 * norm as f32, ..settings }, Isa::best(), 1, &gradient), free);
        approx::assert_relative_eq!(update(0.0), norm, max_relative = 1e-2);
        approx::assert_relative_eq!(update(0.25 * norm as f32), 0.25 * norm, max_relative = 1e-2);
    }

    #[test]
    fn clipping_and_decay_do_not_depend_on_threads_or_the_instruction_set() {
        let gradient: Vec<f32> = (0..LEN).map(|i| (i as f32 * 0.7).sin() * 1e-3).collect();
        let settings = AdamSettings { weight_decay: 0.05, clip_norm: 0.01, ..AdamSettings::default() };
        let first = stepped(settings, Isa::Scalar, 1, &gradient);
        assert_ne!(first, stepped(AdamSettings { clip_norm: 0.0, ..settings }, Isa::Scalar, 1, &gradient));
        for threads in [1, 2, 3, 8] {
            for isa in Isa::all() {
                assert_eq!(first, stepped(settings, isa, threads, &gradient), "{threads} threads, {isa:?}");
            }
        }
    }

    #[test]
    fn a_gradient_with_a_nan_is_not_hidden_by_clipping() {
        let mut gradient = [1.0f32; 20];
        gradient[7] = f32::NAN;
        let settings = AdamSettings { clip_norm: 1.0, ..AdamSettings::default() };
        let mut w = [0.5; 20];
        Adam::new(20, settings).step(Isa::best(), &mut w, &gradient, &[]);
        assert!(w.iter().all(|w| w.is_nan()));
    }

    #[test]
    fn weights_of_convolutions_and_dense_layers_decay() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::new(20, 2)).unwrap();
        let h = graph.add("conv1", Conv1d::new(3, 5), &[x]).unwrap();
        let h = graph.add("bn1", BatchNorm::new(Over::Channels), &[h]).unwrap();
        graph.add("fc1", Linear { out: 4, bias: true }, &[h]).unwrap();
        let names = ["conv1.weight", "fc1.weight"];
        let expected = graph.parameters().into_iter().filter(|p| names.contains(&p.name.as_str()));
        let expected: Vec<Range<usize>> = expected.map(|p| p.offset..p.offset + p.len).collect();
        assert_eq!(expected.iter().map(|range| range.len()).collect::<Vec<_>>(), [5 * 2 * 3, 20 * 3 * 4]);
        assert_eq!(decayed(&graph), expected);
    }

    #[test]
    fn rates_for_a_device_are_those_of_a_step() {
        let settings = AdamSettings { weight_decay: 0.5, clip_norm: 3.0, ..AdamSettings::default() };
        let (mut here, mut there) = (Adam::new(1, settings), Adam::new(1, settings));
        assert_eq!(there.rates()[..3], [settings.beta1, settings.beta2, settings.eps]);
        approx::assert_relative_eq!(there.rates()[3], 0.01, max_relative = 1e-6);
        assert_eq!(there.rates()[5..], [1.0 - 0.5e-3, 3.0]);
        for _ in 0..3 {
            here.step(Isa::best(), &mut [0.5], &[1.0], &[]);
            there.step += 1;
            assert_eq!((here.step, here.rates()), (there.step, there.rates()));
        }
    }
}
