//! Computes a network in integers with vector instructions; the bits are those of the reference.

use super::numbers::{Number, Numbers};
use super::{IntegerNetwork, IntegerStage, Multiplier};
use crate::export::error::ExportError;
use crate::export::layers::ConvolutionGeometry;
use crate::export::stages::{Form, Kernel};
use crate::simd::{self, Factors, IntegerProduct, Isa, OUTPUTS, Pairs, Quads, Simd};

/// Rows of a convolution that are computed before they are pooled, so that their sums stay in the L1 and L2 caches.
const BLOCK: usize = 96;

/// Executes a network in integers, one clip at a time, on one thread.
#[derive(Clone)]
pub struct IntegerExecutor {
    network: IntegerNetwork,
    isa: Isa,
    weights: Vec<Packed>,
    /// The input, then the output of each stage, each with the padding that the stage after it needs.
    values: Vec<Numbers>,
    sums: Vec<[i32; OUTPUTS]>,
}

/// The weights of a convolution or a dense layer, in the order of the kernel; without groups for other stages.
#[derive(Clone)]
struct Packed {
    weights: Weights,
    /// `[groups]`.
    bias: Vec<[i32; OUTPUTS]>,
}

/// Weights for an input of words or of bytes.
#[derive(Clone)]
enum Weights {
    /// `[groups, pairs]`.
    Pairs(Vec<Pairs>),
    /// `[groups, quads]`.
    Quads(Vec<Quads>),
}

impl IntegerExecutor {
    /// An executor with the memory for a clip.
    pub fn new(network: IntegerNetwork, isa: Isa) -> IntegerExecutor {
        IntegerExecutor::with_bytes(network, isa, simd::prefers_bytes(isa))
    }

    /// An executor that holds numbers of 8 bits as bytes, or all numbers in 16 bits; [`IntegerExecutor::new`] chooses what is faster. The logits are the same.
    pub fn with_bytes(network: IntegerNetwork, isa: Isa, bytes: bool) -> IntegerExecutor {
        let most = std::iter::once(i32::from(i16::MAX)).chain(network.stages.iter().map(|stage| stage.most));
        let stages = network.stages.iter().zip(most).map(|(stage, most)| {
            let bytes = bytes && most <= i32::from(u8::MAX);
            (Packed::new(stage, bytes), Numbers::repeated(bytes, stage.zero_in, padded_len(&stage.form)))
        });
        let (weights, values) = stages.unzip();
        IntegerExecutor { network, isa, weights, values, sums: Vec::new() }
    }

    /// The logits of a clip, `[length, channels]` with full scale 1, before it is standardised.
    ///
    /// # Errors
    /// The clip has another length than the input.
    pub fn logits(&mut self, clip: &[f32]) -> Result<Vec<f32>, ExportError> {
        match self.network.standardisation.clone() {
            None => self.logits_of_standardised(clip),
            Some(standardisation) => {
                let mut clip = clip.to_vec();
                standardisation.apply(&mut clip);
                self.logits_of_standardised(&clip)
            }
        }
    }

    /// The logits of a clip that has been standardised, or need not be.
    ///
    /// # Errors
    /// The clip has another length than the input.
    pub fn logits_of_standardised(&mut self, clip: &[f32]) -> Result<Vec<f32>, ExportError> {
        let expected = self.network.input.size();
        if clip.len() != expected {
            return Err(ExportError::ClipLength { got: clip.len(), expected });
        }
        let Some(first) = self.network.stages.first() else { return Ok(Vec::new()) };
        let start = first.form.before() * first.form.input.c;
        let Numbers::Words(numbers) = &mut self.values[0] else { unreachable!("the input has 16 bits") };
        numbers[start..].iter_mut().zip(clip).for_each(|(number, &x)| *number = self.network.number(x));
        for i in 0..self.network.stages.len() {
            self.stage(i);
        }
        let logits = self.sums.as_flattened().iter().zip(&self.network.logit_scale);
        Ok(logits.map(|(&sum, scale)| sum as f32 * scale).collect())
    }

    /// Computes a stage: its output, or for the last stage its sums.
    fn stage(&mut self, i: usize) {
        let IntegerExecutor { network, isa, weights, values, sums } = self;
        let stage = &network.stages[i];
        let form = &stage.form;
        let channels = form.output.c;
        let (inputs, outputs) = values.split_at_mut(i + 1);
        let x = &inputs[i];
        // Where the rows of the network's input, or of the output of a stage, begin.
        let start_of = |reader: &IntegerStage| reader.form.before() * reader.form.input.c;
        let start = network.stages.get(i + 1).map_or(0, start_of);
        let block = match is_product(&form.kernel) {
            true => BLOCK.next_multiple_of(form.pool.stride),
            false => form.rows,
        };
        let groups = channels.div_ceil(OUTPUTS);
        for first in (0..form.rows).step_by(block.max(1)) {
            let rows = block.min(form.rows - first);
            sums.resize(rows * groups, [0; OUTPUTS]);
            match form.kernel {
                _ if is_product(&form.kernel) => {
                    let stride = form.stride() * form.input.c;
                    let factors = weights[i].factors(x, first * stride);
                    IntegerProduct { factors, stride, bias: &weights[i].bias, out: sums }.run(*isa);
                }
                Kernel::Convolution(geometry) if geometry.depthwise => match x {
                    Numbers::Bytes(x) => isa.run(Depthwise { stage, geometry, x, sums, groups }),
                    Numbers::Words(x) => isa.run(Depthwise { stage, geometry, x, sums, groups }),
                },
                _ => {
                    let all = stage.sums(&x.words(start_of(stage), form.input.size()));
                    let rows = all.chunks_exact(channels).zip(sums.chunks_exact_mut(groups));
                    rows.for_each(|(row, sums)| sums.as_flattened_mut()[..channels].copy_from_slice(row));
                }
            }
            if let Some(source) = form.residual {
                let from = start_of(&network.stages[source]) + first * channels;
                match &inputs[source] {
                    Numbers::Bytes(x) => isa.run(Add { stage, sums, groups, added: &x[from..] }),
                    Numbers::Words(x) => isa.run(Add { stage, sums, groups, added: &x[from..] }),
                }
            }
            if let Some(output) = outputs.first_mut() {
                let first_out = first / form.pool.stride;
                let pooled = rows.div_ceil(form.pool.stride).min(form.output.l.saturating_sub(first_out));
                let place = start + first_out * channels..start + (first_out + pooled) * channels;
                match output {
                    Numbers::Bytes(y) => isa.run(Finish { stage, sums, rows, groups, output: &mut y[place] }),
                    Numbers::Words(y) => isa.run(Finish { stage, sums, rows, groups, output: &mut y[place] }),
                }
            }
        }
    }
}

/// Whether the windows of the kernel are contiguous, so that it is a matrix product.
fn is_product(kernel: &Kernel) -> bool {
    match kernel {
        Kernel::Convolution(geometry) => !geometry.depthwise && (geometry.dilation == 1 || geometry.k == 1),
        Kernel::Dense => true,
        Kernel::MaxPool { .. } | Kernel::Mean => false,
    }
}

/// Numbers of the input of a stage with its padding, and three more for a window that does not end with a quad.
fn padded_len(form: &Form) -> usize {
    let padding = match form.kernel {
        Kernel::Convolution(geometry) => geometry.before + geometry.after,
        _ => 0,
    };
    (form.input.l + padding) * form.input.c + 3
}

impl Packed {
    fn new(stage: &IntegerStage, bytes: bool) -> Packed {
        let pack = match is_product(&stage.form.kernel) {
            true => stage.form.output.c,
            false => 0,
        };
        let bias = |first: usize| std::array::from_fn(|o| stage.bias.get(first + o).copied().unwrap_or(0));
        Packed {
            weights: match bytes {
                true => Weights::Quads(packed(stage, pack, |weight| weight)),
                false => Weights::Pairs(packed(stage, pack, i16::from)),
            },
            bias: (0..pack).step_by(OUTPUTS).map(bias).collect(),
        }
    }

    /// The weights, and the input from `from` on.
    fn factors<'a>(&'a self, x: &'a Numbers, from: usize) -> Factors<'a> {
        match (x, &self.weights) {
            (Numbers::Words(x), Weights::Pairs(weights)) => Factors::Words(&x[from..], weights),
            (Numbers::Bytes(x), Weights::Quads(weights)) => Factors::Bytes(&x[from..], weights),
            _ => unreachable!("weights are packed for the numbers of their stage"),
        }
    }
}

/// The weights of the first `channels` outputs, in groups of outputs and steps of `N` inputs, zeros beyond either.
fn packed<W, const N: usize>(stage: &IntegerStage, channels: usize, of: fn(i8) -> W) -> Vec<[[W; N]; OUTPUTS]> {
    let inputs = stage.weight.len() / channels.max(1);
    let weight = |i: usize, o: usize| match i < inputs && o < channels {
        true => of(stage.weight[i * channels + o]),
        false => of(0),
    };
    let steps = |first: usize| {
        (0..inputs.div_ceil(N))
            .map(move |step| std::array::from_fn(|o| std::array::from_fn(|i| weight(N * step + i, first + o))))
    };
    (0..channels).step_by(OUTPUTS).flat_map(steps).collect()
}

/// The sums of all rows of a depthwise convolution.
struct Depthwise<'a, X> {
    stage: &'a IntegerStage,
    geometry: ConvolutionGeometry,
    /// The input with its padding.
    x: &'a [X],
    /// `[rows, groups]`.
    sums: &'a mut [[i32; OUTPUTS]],
    groups: usize,
}

impl<X: Number> simd::Kernel for Depthwise<'_, X> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let channels = self.stage.form.output.c;
        for (r, sums) in self.sums.chunks_exact_mut(self.groups).enumerate() {
            let sums = &mut sums.as_flattened_mut()[..channels];
            sums.copy_from_slice(&self.stage.bias);
            for (t, taps) in self.stage.weight.chunks_exact(channels).enumerate() {
                let x = &self.x[(r * self.geometry.stride + t * self.geometry.dilation) * channels..][..channels];
                sums.iter_mut().zip(x).zip(taps).for_each(|((sum, &x), &w)| *sum += x.into() * i32::from(w));
            }
        }
    }
}

/// Adds a residual to the sums of some rows, in 256ths of a number of the output.
struct Add<'a, X> {
    stage: &'a IntegerStage,
    /// `[rows, groups]`.
    sums: &'a mut [[i32; OUTPUTS]],
    groups: usize,
    /// The rows that are added, `[rows, channels]`, and more.
    added: &'a [X],
}

impl<X: Number> simd::Kernel for Add<'_, X> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Some(code) = self.stage.residual else { return };
        let rows = self.added.chunks_exact(self.stage.form.output.c);
        for (sums, rows) in self.sums.as_flattened_mut().chunks_exact_mut(self.groups * OUTPUTS).zip(rows) {
            for ((sum, &x), rescale) in sums.iter_mut().zip(rows).zip(&self.stage.rescale) {
                *sum = rescale.apply(*sum) + code.rescale.apply(x.into() - code.zero);
            }
        }
    }
}

/// The output of some rows: pool, and numbers of the next stage.
struct Finish<'a, Y> {
    stage: &'a IntegerStage,
    /// `[rows, groups]`.
    sums: &'a mut [[i32; OUTPUTS]],
    rows: usize,
    groups: usize,
    /// `[rows after the pool, channels]`.
    output: &'a mut [Y],
}

impl<Y: Number> simd::Kernel for Finish<'_, Y> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let stage = self.stage;
        let (channels, pool) = (stage.form.output.c, stage.form.pool);
        let row_len = self.groups * OUTPUTS;
        let sums = self.sums.as_flattened_mut();
        for (r, output) in self.output.chunks_exact_mut(channels).enumerate() {
            let first = r * pool.stride;
            let window = &mut sums[first * row_len..self.rows.min(first + pool.k) * row_len];
            let (largest, others) = window.split_at_mut(row_len);
            for row in others.chunks_exact(row_len) {
                largest.iter_mut().zip(row).for_each(|(a, &b)| *a = (*a).max(b));
            }
            let numbers = output.iter_mut().zip(&*largest);
            match stage.residual {
                Some(_) => numbers.for_each(|(y, &sum)| *y = number(Multiplier::UNIT.apply(sum), stage)),
                None if stage.rescale.is_empty() => numbers.for_each(|(y, &sum)| *y = number(sum, stage)),
                // What is below 0 becomes 0, so that no shift of a negative number is needed.
                None if stage.form.relu => numbers.zip(&stage.rescale).for_each(|((y, &sum), rescale)| {
                    let product = sum.max(0) as u64 * rescale.factor as u64 + (1u64 << (rescale.shift - 1));
                    *y = Y::of((product >> rescale.shift).min(stage.most as u64) as i32);
                }),
                None => {
                    numbers.zip(&stage.rescale).for_each(|((y, &sum), rescale)| *y = number(rescale.apply(sum), stage))
                }
            }
        }
    }
}

#[inline(always)]
fn number<Y: Number>(value: i32, stage: &IntegerStage) -> Y {
    Y::of((value + stage.zero_out).clamp(0, stage.most))
}
