//! conv_block with batch norm and one input channel in training, with so many taps that a window does not fit into registers, or with a stride: the
//! first layer of the recommended networks.
//!
//! The method is that of `mono_norm.rs`: statistics from moments of the audio (`moments.rs`), one convolution with the norm in its weights, whose
//! rows are never stored, and the gradients of the parameters from one sparse sum. What differs is how they are computed:
//!
//! - The convolution is a product of overlapping rows and packed weights (`convolve.rs`). The weights with the norm in them are packed
//!   once for each sample, since a merge does not know the instruction set; they are few beside the rows.
//! - The sparse sum is that of a convolution of several channels (`pooled_weight.rs`), and so has the layout `[c_out, k]`.
//! - The gradient of the audio, which training does not need, is that of conv1d, from the gradient of all rows of a sample.
//!
//! **Cost** of 27 taps at stride 3 to 32 channels, with a window of three rows: beside the convolution 78 products a row for the moments, a tenth of its
//! MACs, and in backward-weight a third of them where every window has a gradient. Without this form, each of four operations reads and writes the
//! rows in both passes.

use super::convolve::{Convolve, Pack, Stored};
use super::geometry::Geometry;
use super::moments::{self, Observe};
use super::mono_norm::{folded_len, saved, saved_len};
use super::norm::Channels;
use super::norm_gradient::{NormGradient, TurnRows};
use super::planned::{BIAS, BlockPlan, SCALE, WEIGHT};
use super::{NORM_PHASES, device, forward, pooled_weight};
use crate::base::aligned::round_up;
use crate::ops::BatchNorm;
use crate::ops::device::{Batch, Passes};
use crate::ops::op::{Algorithms, Backward, Forward, Merge, PlannedOp, Spec, Tensors, TensorsMut};
use crate::simd::Isa;
use crate::simd::transform::PlainRows;

/// The planned form.
#[derive(Debug)]
pub struct MonoLong {
    block: BlockPlan,
    norm: BatchNorm,
    /// The convolution by itself, for the gradient of the audio.
    conv: Box<dyn PlannedOp>,
    /// Where its packed weights begin in the memory for all samples.
    conv_at: usize,
}

impl MonoLong {
    /// The form of `block` with `norm`, where `conv` is the convolution by itself. For all samples it keeps what [`MonoNormed`] keeps, and after it
    /// the packed weights of `conv`.
    ///
    /// [`MonoNormed`]: super::mono_norm::MonoNormed
    pub fn new(block: BlockPlan, norm: BatchNorm, conv: Box<dyn PlannedOp>) -> MonoLong {
        let g = &block.g;
        let own = block.forward.scratch();
        let audio = round_up(4 * g.c_out) + round_up(g.l_out * g.c_out) + own.max(conv.spec().scratch);
        let forward = round_up(block.forward.packed()) + own;
        let scratch = [moments::scratch(g), forward, pooled_weight::sparse_scratch(g), audio].into_iter().max();
        let conv_at = round_up(block.numbers_at + 4 * g.c_out + folded_len(g));
        let spec = Spec {
            saved: saved_len(g),
            scratch: scratch.unwrap_or(0),
            batch_saved: conv_at + conv.spec().batch_saved,
            forward: NORM_PHASES,
            backward: NORM_PHASES,
            ..block.spec.clone()
        };
        MonoLong { block: BlockPlan { spec, ..block }, norm, conv, conv_at }
    }

    /// The gradient of the audio: the signed rows, which become their gradient, and from that of the convolution.
    fn audio(&self, isa: Isa, b: &mut Backward<'_>) {
        let BlockPlan { g, forward: conv, numbers_at, data_at: [packed, _], .. } = self.block;
        let (_, argmax) = saved(&g, b.saved);
        let (terms, scratch) = b.scratch.split_at_mut(round_up(4 * g.c_out));
        let (rows, scratch) = scratch.split_at_mut(round_up(g.l_out * g.c_out));
        let rows = &mut rows[..g.l_out * g.c_out];
        let (source, packed) = (Stored { x: b.x[0], c: 1 }, &b.batch_saved[..packed]);
        let mut epilogue = PlainRows { y: &mut *rows, c: g.c_out };
        Convolve { conv, rows: 0..g.l_out, packed, source: &source, epilogue: &mut epilogue, scratch }.run(isa);
        let terms = NormGradient::terms(&b.batch_saved[numbers_at..], &b.params[SCALE], terms);
        let gradient = NormGradient { g, dy: b.dy, argmax, y: &[], terms };
        isa.run(TurnRows { gradient: &gradient, first: 0, rows: &mut *rows });
        let [dx, _] = &mut b.dx;
        self.conv.backward(
            isa,
            0,
            &mut Backward {
                sample: b.sample,
                draw: b.draw,
                x: b.x,
                y: &[],
                dy: rows,
                dx: [&mut **dx, &mut []],
                dparams: TensorsMut::none(),
                saved: &mut [],
                scratch,
                params: b.params.part(WEIGHT..BIAS + 1),
                batch_saved: &b.batch_saved[self.conv_at..],
            },
        );
    }
}

/// The index of the sum of tap `t` in channel `j` in a sample's sparse sums; with `t = k` that of the gradient itself.
fn sum_at(g: &Geometry, t: usize, j: usize) -> usize {
    if t < g.k { j * g.k + t } else { g.weights() + j }
}

impl PlannedOp for MonoLong {
    fn spec(&self) -> &Spec {
        &self.block.spec
    }

    fn algorithms(&self) -> Algorithms {
        self.block.algorithms()
    }

    fn prepare(&self, isa: Isa, params: Tensors<'_>, state: Tensors<'_>, batch_saved: &mut [f32]) {
        self.block.pack_signed(isa, params, batch_saved);
        self.conv.prepare(isa, params.part(WEIGHT..BIAS + 1), state.part(0..0), &mut batch_saved[self.conv_at..]);
    }

    /// Moments; then the convolution with the norm in its weights.
    fn forward(&self, isa: Isa, phase: usize, b: &mut Forward<'_>) {
        let BlockPlan { g, numbers_at, forward: conv, .. } = self.block;
        if phase == 0 {
            Observe { g, x: b.x[0], saved: b.saved, scratch: b.scratch }.run(isa);
            return;
        }
        let (folded, bias) = b.batch_saved[numbers_at + 4 * g.c_out..][..folded_len(&g)].split_at(g.weights());
        let (packed, scratch) = b.scratch.split_at_mut(round_up(conv.packed()));
        let packed = &mut packed[..conv.packed()];
        isa.run(Pack { conv, weight: |tap, _, o| folded[tap * g.c_out + o], packed });
        let (_, argmax) = saved(&g, b.saved);
        forward::Forward { g, x: b.x[0], packed, bias, cell: 0, y: b.y, argmax, scratch }.run(isa);
    }

    /// The sparse sums; then the gradient of the audio, if it is needed.
    fn backward(&self, isa: Isa, phase: usize, b: &mut Backward<'_>) {
        let g = self.block.g;
        if phase == 0 {
            let (sums, argmax) = saved(&g, b.saved);
            sums.fill(0.0);
            let (dw, db) = sums.split_at_mut(g.weights());
            pooled_weight::PooledWeight { g, x: b.x[0], dy: b.dy, argmax, dw, db, scratch: b.scratch }.sparse(isa);
        } else if !b.dx[0].is_empty() {
            self.audio(isa, b);
        }
    }

    fn merge(&self, b: &mut Merge<'_>) {
        let g = self.block.g;
        Channels::new(&self.block, self.norm, b).of_moments(|t, j| sum_at(&g, t, j));
    }

    fn on_device(&self, batch: &Batch) -> Passes {
        device::Block::new(&self.block, batch).with_norm(self.norm)
    }
}
