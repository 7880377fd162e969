//! What the planned forms of a conv_block share: the convolutions of its passes with their algorithms, the layout of their memory, and
//! backward-data.

use super::convolve::{Convolve, Pack, Rows};
use super::geometry::{Convolution, Geometry, WeightGradPath};
use super::{Norm, moments, norm_gradient, pooled_weight, spread, weight};
use crate::base::aligned::round_up;
use crate::ops::op::{Algorithms, Spec, Tensors, TensorsMut};
use crate::simd::Isa;
use crate::simd::transform::PlainRows;
use std::ops::Range;

/// The numbers of the block's parameter tensors: those of the convolution, then those of the norm.
pub const WEIGHT: usize = 0;
/// See [`WEIGHT`].
pub const BIAS: usize = 1;
/// See [`WEIGHT`].
pub const SCALE: usize = 2;
/// See [`WEIGHT`].
pub const SHIFT: usize = 3;

/// 1, or -1 where the norm's scale is negative.
pub fn sign(scale: f32) -> f32 {
    if scale < 0.0 { -1.0 } else { 1.0 }
}

/// A conv_block for an input of known shape.
#[derive(Debug)]
pub struct BlockPlan {
    /// Its numbers.
    pub g: Geometry,
    /// Whether it has a backward pass.
    pub learns: bool,
    /// The convolution forward.
    pub forward: Convolution,
    /// The dense convolution of backward-data, if it is ever used.
    pub data: Option<Convolution>,
    /// The share of windows with a non-zero gradient below which backward-data is sparse.
    pub spread_below: f64,
    /// How the gradient of the weights is computed.
    pub weights: WeightGradPath,
    /// In the memory for all samples, where the packed weights of backward-data begin: those of the dense convolution, and those of the sparse gradient.
    pub data_at: [usize; 2],
    /// Where the norm's numbers begin, after the packed weights.
    pub numbers_at: usize,
    /// What the block needs. Each form adds what it saves, and its numbers after the packed weights.
    pub spec: Spec,
}

impl BlockPlan {
    /// The plan of a block with this norm and these tensors.
    pub fn new(g: Geometry, norm: &Norm, learns: bool, tensors: Spec) -> BlockPlan {
        let batch = matches!(norm, Norm::Batch(_));
        let forward = g.forward(batch);
        let spread_below = if matches!(norm, Norm::None) { g.spread_below() } else { 0.0 };
        let weights = g.weight_grad_path(forward, !batch);
        // Where the whole gradient is made at once, `mono_long.rs` has a convolution of its own for it.
        let dense = learns && spread_below < 1.0 && !matches!(weights, WeightGradPath::MonoLong);
        let data = dense.then(|| g.backward_data());
        let dense_at = round_up(forward.packed());
        let sparse_at = dense_at + round_up(data.map_or(0, |conv| conv.packed()));
        let numbers_at = sparse_at + if learns && spread_below > 0.0 { round_up(g.weights()) } else { 0 };
        let block = BlockPlan {
            g,
            learns,
            forward,
            data,
            spread_below,
            weights,
            data_at: [dense_at, sparse_at],
            numbers_at,
            spec: tensors,
        };
        let (scratch, backward) = (block.scratch(batch), if learns { block.spec.backward } else { &[] });
        let spec = Spec { batch_saved: numbers_at, scratch, backward, ..block.spec.clone() };
        BlockPlan { spec, ..block }
    }

    /// Numbers of scratch for any pass.
    fn scratch(&self, normed: bool) -> usize {
        let g = &self.g;
        let forward = self.forward.scratch();
        if !self.learns {
            return forward;
        }
        let dense = self.data.map_or(0, |conv| conv.scratch());
        let data = if self.spread_below > 0.0 { dense.max(pooled_weight::sparse_scratch(g)) } else { dense };
        let backward = match self.weights {
            WeightGradPath::Sparse | WeightGradPath::MonoLong => pooled_weight::sparse_scratch(g).max(data),
            WeightGradPath::Mono => pooled_weight::mono_scratch(g).max(data),
            WeightGradPath::Dense(conv) => weight::sums_len(&conv) + weight::dense_scratch(&conv).max(data),
        };
        let recomputed = match self.weights {
            WeightGradPath::Mono if normed => norm_gradient::recomputed_scratch(g) + moments::scratch(g),
            _ => 0,
        };
        round_up(4 * g.c_out) + recomputed + forward.max(backward)
    }

    /// The algorithms of the passes.
    pub fn algorithms(&self) -> Algorithms {
        Algorithms {
            forward: self.forward.algorithm.name(),
            backward_data: match (self.data, self.spread_below > 0.0) {
                (Some(conv), false) => conv.algorithm.name(),
                (Some(conv), true) => conv.algorithm.name_or_sparse(),
                (None, _) if matches!(self.weights, WeightGradPath::MonoLong) => "direct",
                (None, _) => "sparse",
            },
            backward_weight: match self.weights {
                WeightGradPath::Sparse | WeightGradPath::Mono | WeightGradPath::MonoLong => "sparse",
                WeightGradPath::Dense(conv) => conv.algorithm.name_of_sums(),
            },
        }
    }

    /// Packs the weights of every convolution: output channel `o` of the forward convolution times `forward(o)`, of backward-data times `data(o)`.
    pub fn pack(
        &self,
        isa: Isa,
        weights: &[f32],
        (forward, data): (impl Fn(usize) -> f32, impl Fn(usize) -> f32),
        batch_saved: &mut [f32],
    ) {
        let g = &self.g;
        let at = |tap: usize, i: usize, o: usize| weights[(tap * g.c_in + i) * g.c_out + o];
        let [dense_at, sparse_at] = self.data_at;
        let packed = &mut batch_saved[..self.forward.packed()];
        isa.run(Pack { conv: self.forward, weight: |tap, i, o| forward(o) * at(tap, i, o), packed });
        if let Some(conv) = self.data {
            let packed = &mut batch_saved[dense_at..][..conv.packed()];
            isa.run(Pack { conv, weight: |tap: usize, o, i| data(o) * at(g.k - 1 - tap, i, o), packed });
        }
        let sparse = &mut batch_saved[sparse_at..self.numbers_at];
        if !sparse.is_empty() {
            spread::pack(g, weights, sparse);
        }
    }

    /// Packs the weights for a norm in training: those of the forward convolution with the sign of their channel's scale.
    pub fn pack_signed(&self, isa: Isa, params: Tensors<'_>, batch_saved: &mut [f32]) {
        let scale = &params[SCALE];
        self.pack(isa, &params[WEIGHT], (|o| sign(scale[o]), |_| 1.0), batch_saved);
    }

    /// Brings the accumulated gradients into the order of the parameters.
    pub fn reorder_gradients(&self, mut dparams: TensorsMut<'_>, scratch: &mut [f32]) {
        if matches!(self.weights, WeightGradPath::Sparse) {
            pooled_weight::reorder_gradients(&self.g, &mut dparams[WEIGHT], scratch);
        }
    }

    /// Computes these rows of `dx` by the dense convolution, if they are needed.
    pub fn backward_data(
        &self,
        isa: Isa,
        (dz, rows): (&impl Rows, Range<usize>),
        batch_saved: &[f32],
        dx: &mut [f32],
        scratch: &mut [f32],
    ) {
        if dx.is_empty() {
            return;
        }
        let conv =
            self.data.expect("a block that has a gradient of its input has a convolution for it, or a sparse gradient");
        let mut epilogue = PlainRows { y: dx, c: self.g.c_in };
        let [from, to] = self.data_at;
        Convolve { conv, rows, packed: &batch_saved[from..to], source: dz, epilogue: &mut epilogue, scratch }.run(isa);
    }
}
