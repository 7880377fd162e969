//! Computes a network in integers with vector instructions; the bits are those of the reference.

use super::{IntegerNetwork, IntegerStage, Multiplier};
use crate::export::error::ExportError;
use crate::export::layers::ConvolutionGeometry;
use crate::export::stages::{Form, Kernel};
use crate::simd::{self, IntegerProduct, Isa, OUTPUTS, Pairs, Simd};

/// Rows of a convolution that are computed before they are pooled, so that their sums stay in the L1 and L2 caches.
const BLOCK: usize = 96;

/// Executes a network in integers, one clip at a time, on one thread.
#[derive(Clone)]
pub struct IntegerExecutor {
    network: IntegerNetwork,
    isa: Isa,
    weights: Vec<Packed>,
    /// The input, then the output of each stage, each with the padding that the stage after it needs.
    values: Vec<Vec<i16>>,
    sums: Vec<[i32; OUTPUTS]>,
}

/// The weights of a convolution or a dense layer, in the order of the kernel; empty for other stages.
#[derive(Clone, Default)]
struct Packed {
    /// `[groups, pairs]`.
    weights: Vec<Pairs>,
    /// `[groups]`.
    bias: Vec<[i32; OUTPUTS]>,
}

impl IntegerExecutor {
    /// An executor with the memory for a clip.
    pub fn new(network: IntegerNetwork, isa: Isa) -> IntegerExecutor {
        let weights = network.stages.iter().map(Packed::new).collect();
        let values = network.stages.iter().map(|stage| vec![stage.zero_in as i16; padded_len(&stage.form)]).collect();
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
        let numbers = self.values[0][start..].iter_mut().zip(clip);
        numbers.for_each(|(number, &x)| *number = self.network.number(x));
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
        let x = &inputs[i][..];
        // Where the rows of the network's input, or of the output of a stage, begin.
        let rows_of = |source: usize| {
            let reader = &network.stages[source].form;
            &inputs[source][reader.before() * reader.input.c..]
        };
        let residual = form.residual.map(rows_of);
        let start = network.stages.get(i + 1).map_or(0, |next| next.form.before() * channels);
        let mut output = outputs.first_mut().map(|output| &mut output[start..][..form.output.size()]);
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
                    let Packed { weights, bias } = &weights[i];
                    IntegerProduct { x: &x[first * stride..], stride, weights, bias, out: sums }.run(*isa);
                }
                Kernel::Convolution(geometry) if geometry.depthwise => {
                    isa.run(Depthwise { stage, geometry, x, sums, groups });
                }
                _ => {
                    let x = &x[form.before() * form.input.c..][..form.input.size()];
                    let all = stage.sums(x);
                    let rows = all.chunks_exact(channels).zip(sums.chunks_exact_mut(groups));
                    rows.for_each(|(row, sums)| sums.as_flattened_mut()[..channels].copy_from_slice(row));
                }
            }
            if let Some(output) = &mut output {
                let residual = residual.map(|rows| &rows[first * channels..]);
                let first_out = first / form.pool.stride;
                let pooled = rows.div_ceil(form.pool.stride).min(form.output.l.saturating_sub(first_out));
                let output = &mut output[first_out * channels..][..pooled * channels];
                isa.run(Finish { stage, sums, rows, groups, residual, output });
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

/// Numbers of the input of a stage with its padding, and one more for a window with an odd number of them.
fn padded_len(form: &Form) -> usize {
    let padding = match form.kernel {
        Kernel::Convolution(geometry) => geometry.before + geometry.after,
        _ => 0,
    };
    (form.input.l + padding) * form.input.c + 1
}

impl Packed {
    fn new(stage: &IntegerStage) -> Packed {
        if !is_product(&stage.form.kernel) {
            return Packed::default();
        }
        let channels = stage.form.output.c;
        let inputs = stage.weight.len() / channels.max(1);
        let weight = |p: usize, o: usize| match p < inputs && o < channels {
            true => i16::from(stage.weight[p * channels + o]),
            false => 0,
        };
        let pair = |first: usize, p: usize| -> Pairs {
            std::array::from_fn(|o| [weight(2 * p, first + o), weight(2 * p + 1, first + o)])
        };
        let firsts = || (0..channels).step_by(OUTPUTS);
        let bias = |first: usize| std::array::from_fn(|o| stage.bias.get(first + o).copied().unwrap_or(0));
        Packed {
            weights: firsts().flat_map(|first| (0..inputs.div_ceil(2)).map(move |p| pair(first, p))).collect(),
            bias: firsts().map(bias).collect(),
        }
    }
}

/// The sums of all rows of a depthwise convolution.
struct Depthwise<'a> {
    stage: &'a IntegerStage,
    geometry: ConvolutionGeometry,
    /// The input with its padding.
    x: &'a [i16],
    /// `[rows, groups]`.
    sums: &'a mut [[i32; OUTPUTS]],
    groups: usize,
}

impl simd::Kernel for Depthwise<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let channels = self.stage.form.output.c;
        for (r, sums) in self.sums.chunks_exact_mut(self.groups).enumerate() {
            let sums = &mut sums.as_flattened_mut()[..channels];
            sums.copy_from_slice(&self.stage.bias);
            for (t, taps) in self.stage.weight.chunks_exact(channels).enumerate() {
                let x = &self.x[(r * self.geometry.stride + t * self.geometry.dilation) * channels..][..channels];
                sums.iter_mut().zip(x).zip(taps).for_each(|((sum, &x), &w)| *sum += i32::from(x) * i32::from(w));
            }
        }
    }
}

/// The output of some rows: residual, pool, and numbers of 8 bits.
struct Finish<'a> {
    stage: &'a IntegerStage,
    /// `[rows, groups]`.
    sums: &'a mut [[i32; OUTPUTS]],
    rows: usize,
    groups: usize,
    /// The rows that are added, `[rows, channels]`, and more.
    residual: Option<&'a [i16]>,
    /// `[rows after the pool, channels]`.
    output: &'a mut [i16],
}

impl simd::Kernel for Finish<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let stage = self.stage;
        let (channels, pool) = (stage.form.output.c, stage.form.pool);
        let row_len = self.groups * OUTPUTS;
        let sums = self.sums.as_flattened_mut();
        if let (Some(rows), Some(code)) = (self.residual, stage.residual) {
            for (sums, rows) in sums.chunks_exact_mut(row_len).zip(rows.chunks_exact(channels)) {
                for ((sum, &x), rescale) in sums.iter_mut().zip(rows).zip(&stage.rescale) {
                    *sum = rescale.apply(*sum) + code.rescale.apply(i32::from(x) - code.zero);
                }
            }
        }
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
                    *y = (product >> rescale.shift).min(stage.most as u64) as i16;
                }),
                None => {
                    numbers.zip(&stage.rescale).for_each(|((y, &sum), rescale)| *y = number(rescale.apply(sum), stage))
                }
            }
        }
    }
}

#[inline(always)]
fn number(value: i32, stage: &IntegerStage) -> i16 {
    (value + stage.zero_out).clamp(0, stage.most) as i16
}
