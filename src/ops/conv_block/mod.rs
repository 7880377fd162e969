//! conv_block: convolution, batch norm, ReLU and max pooling in one.
//!
//! **Computes** `y[r, o] = max(0, max over t < window of norm(z)[window r + t, o])` with `z = conv1d(x)`, dilation 1.
//! Without norm it is the identity, without pool the window is one row.
//! **Shapes** `x [n, l, c_in] -> y [n, cells, c_out]`, `w [k, c_in, c_out]`, `b [c_out]`, with norm `scale [c_out]`,
//! `shift [c_out]`; `cells` is the number of pooling windows. Without norm, rows that
//! belong to no window are not computed.
//! **Backward** that of the operations in reverse order: of every window only the largest row has a gradient, and none
//! where the output is not above zero; with batch norm the gradient is dense. `dw` is computed from the sparse gradient, at a cost
//! proportional to the share of pooling windows with a non-zero gradient, or from dense rows. `dx` is computed like the forward pass with
//! flipped taps, or, where few enough windows have a non-zero gradient, from the sparse gradient: a choice for each sample.
//! **Saved** the argmax of each window, one byte each; none without pool, where backward reads the output. With norm
//! also the convolution's rows, see `norm.rs`.
//! **Cost** for eight rows with F(8, 5) 13 MACs instead of forty, with F(5, 8), for weights, 14, with F(8, 3) eleven
//! instead of 24 (`simd/winograd.rs`); longer kernels in segments of four taps; short layers and few channels directly. Without norm
//! neither the full output nor its gradient ever exists.
//! **NaN** a NaN spreads to the rows that share its tile of eight, and passes the pool only if all rows of a window are NaN; with
//! norm it spreads to its channel in the whole batch.
//! **Error** relative rms a few times the direct kernel's, see the cases; from a sparse gradient no more than direct.
//! **Source** `simd/winograd.rs`; the reference consists of those of conv1d, batch_norm, relu and max_pool1d.
//!
//! # The algorithm
//! The forward pass takes a **block** of 192 rows of output (24 **tiles** of 8 rows) from the first row read to the last row written, so that all
//! numbers of a block stay in the L1 and L2 caches. With `F(8, k)` and `p` products:
//!
//! | step | reads | leaves | file |
//! |---|---|---|---|
//! | input transform `B^T d` | rows `[192 + k - 1, c_in]` | `p` planes `[24 tiles, c_in]` | `simd/transform.rs` |
//! | one matrix product for each plane | the planes; packed weights `G g`, `p` matrices `[c_in, c_out]` | `p` planes `[24 tiles, c_out]` | `simd/planes.rs` |
//! | output transform `A^T m` | the planes | the 8 rows of a tile, in registers | `simd/transform.rs` |
//! | epilogue: bias, maximum of each window, ReLU; or statistics | registers | `y` and the argmax | `forward.rs`, `norm_forward.rs` |
//!
//! backward-data is the same with flipped taps and exchanged channels; its rows are those of the gradient, which are made while they are read: from the pooled
//! gradient and the argmax (`gradient.rs`), or from the stored rows `z` and the terms of the norm (`norm_gradient.rs`). backward-weight sums, over all
//! tiles, the products of the planes of the input and of the gradient, and transforms the sums once for each sample (`weight.rs`); or it adds, for each window,
//! the input of its argmax times its gradient (`pooled_weight.rs`).
//!
//! # One tile, by hand
//! The smallest algorithm of the kind is `F(2, 3)`, with the points 0, 1, -1 and infinity: two rows of output of three taps from four products instead of six.
//! One channel, the rows `d = (1, 2, 3, 4)` and the taps `g = (1, 0, -1)`, whose outputs are `1 - 3 = -2` and `2 - 4 = -2`:
//!
//! | | formula | here |
//! |---|---|---|
//! | input transform, for each tile | `(d0 - d2, d1 + d2, d2 - d1, d1 - d3)` | `(-2, 5, 1, -2)` |
//! | weights, packed once for each step | `(g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, g2)` | `(1, 0, 0, -1)` |
//! | products `m`, summed over input channels | one by one | `(-2, 0, 0, 2)` |
//! | output transform | `(m0 + m1 + m2, m1 - m2 - m3)` | `(-2, -2)` |
//!
//! `F(8, 5)` has 13 products for 40 taps: the points 0, +-1/2, +-3/4, +-5/4, +-2, +-i and infinity, of which the imaginary pair costs three.
//!
//! # The planned forms
//! | form | when | kept for the backward pass (a sample) | kept for all samples, after the packed weights |
//! |---|---|---|---|
//! | `plain.rs` | no norm, or its running statistics | argmax `[cells, c_out]` in bytes; without pool nothing | with running statistics the folded bias `[c_out]` |
//! | `norm.rs` | batch norm in training | rows `z [l_out, c_out]`, largest row of each window `[cells, c_out]`, two sums `[2, c_out]`, argmax | mean, inverse deviation, two terms of the gradient: `[4, c_out]` |
//! | `mono_norm.rs` | the same with one input channel, 3 or 5 taps and a pool | moments of the audio, sparse sums `[k + 1, c_out]`, argmax | the same, and weights and bias with the norm in them `[k + 1, c_out]` |
//! | `mono_long.rs` | the same with 9 to 32 taps computed directly, or with a stride | the same | the same, and the packed weights of conv1d |
//!
//! With a stride there are only `mono_long.rs` and, in inference, `plain.rs`.
//!
//! The packed weights are `[forward, backward-data, sparse backward-data]`, each rounded up to cache lines; `planned.rs` has this layout, and what else the forms
//! share. Which algorithm computes which pass is decided there once, by the tables in `geometry.rs`.

mod cases;
mod convolve;
mod device;
mod forward;
mod geometry;
mod gradient;
mod moments;
mod mono_long;
mod mono_norm;
mod mono_norm_device;
mod norm;
mod norm_forward;
mod norm_gradient;
mod plain;
mod planned;
mod pooled_weight;
mod reference;
mod spread;
mod weight;

use super::batch_norm::{BatchNormInference, Over};
use super::op::{Inference, Op, Phase, PlannedOp, ReferenceBackward, ReferenceForward, ShapeError, Spec, inputs};
use super::{BatchNorm, Conv1d, ConvChoice, MaxPool1d, Padding};
use crate::base::Shape;
pub use cases::cases;
use geometry::{Geometry, MOST_MONO_TAPS, WeightGradPath};
use mono_long::MonoLong;
use mono_norm::MonoNormed;
use norm::Normed;
use plain::Plain;
use planned::BlockPlan;

/// The normalisation between convolution and ReLU.
#[derive(Clone, Copy, Debug)]
pub enum Norm {
    /// None.
    None,
    /// Batch norm of a network in training.
    Batch(BatchNorm),
    /// Batch norm with its running statistics, folded into the weights.
    Running(BatchNormInference),
}

/// The operation: a convolution of dilation 1 with bias, perhaps batch norm over its channels, a ReLU, and perhaps a pool
/// of two to four rows side by side.
#[derive(Clone, Copy, Debug)]
pub struct ConvBlock {
    conv: Conv1d,
    norm: Norm,
    pool: Option<MaxPool1d>,
    choice: ConvChoice,
    /// Whether it has a backward pass. With running statistics this is the backward pass of a frozen block: it computes the gradient of the
    /// input only.
    learns: bool,
}

/// Widest pooling window.
const WIDEST_WINDOW: usize = 4;
/// Largest stride: the rows that a block reads grow with it.
const LARGEST_STRIDE: usize = 16;

impl ConvBlock {
    /// The block of `conv`, `norm`, a ReLU and `pool`, computed as `choice` says, if there is one. With a stride it depends on its input, too: see
    /// [`ConvBlock::has_kernels`].
    pub fn of(conv: &Conv1d, norm: Norm, pool: Option<&MaxPool1d>, choice: ConvChoice) -> Option<ConvBlock> {
        // With `k` or more zeros in front, some rows depend on zeros only, which the fused kernels do not support.
        let front_fits = !matches!(conv.padding, Padding::Explicit(front, _) if front >= conv.k);
        let conv_fits = conv.stride <= LARGEST_STRIDE && conv.dilation == 1 && conv.bias && front_fits;
        let pool_fits = pool.is_none_or(|pool| pool.stride == pool.k && (2..=WIDEST_WINDOW).contains(&pool.k));
        let over = match norm {
            Norm::None => Over::Channels,
            Norm::Batch(norm) => norm.over,
            Norm::Running(norm) => norm.over,
        };
        let learns = !matches!(norm, Norm::Running(_));
        let fits = conv_fits && pool_fits && over == Over::Channels;
        fits.then_some(ConvBlock { conv: *conv, norm, pool: pool.copied(), choice, learns })
    }

    /// Whether there are kernels for an input of so many channels, and for the gradient of the output if `learns`. With stride 1 there are.
    pub fn has_kernels(&self, channels: usize, learns: bool) -> bool {
        match self.norm {
            _ if self.conv.stride == 1 => true,
            Norm::Batch(_) => channels == 1 && self.pool.is_some() && self.conv.k <= MOST_MONO_TAPS,
            Norm::None | Norm::Running(_) => !learns,
        }
    }

    fn geometry(&self, x: Shape) -> Result<Geometry, ShapeError> {
        let (front, l_out) = self.conv.rows(x)?;
        Ok(Geometry {
            l: x.l,
            c_in: x.c,
            l_out,
            c_out: self.conv.c_out,
            k: self.conv.k,
            stride: self.conv.stride,
            pad: front,
            window: self.pool.map_or(1, |pool| pool.k),
            ceil: self.pool.is_some_and(|pool| pool.ceil),
            choice: self.choice,
        })
    }

    /// The norm with its running statistics.
    fn running_norm(&self) -> Norm {
        match self.norm {
            Norm::Batch(norm) => Norm::Running(BatchNormInference { over: norm.over, eps: norm.eps }),
            other => other,
        }
    }

    /// The requirements of the block, except for its memory.
    fn tensors(&self, x: &[Shape]) -> Result<Spec, ShapeError> {
        let convolved = self.conv.spec(x)?;
        let norm = match self.norm {
            Norm::None => None,
            Norm::Running(norm) => Some(norm.spec(&[convolved.y])?),
            Norm::Batch(norm) => Some(norm.spec(&[convolved.y])?),
        };
        let y = match self.pool {
            Some(pool) => pool.spec(&[convolved.y])?.y,
            None => convolved.y,
        };
        let (mut params, mut state) = (convolved.params, Vec::new());
        if let Some(norm) = norm {
            params.extend(norm.params);
            state = norm.state;
        }
        Ok(Spec { params, state, reads_x: true, macs: convolved.macs, ..Spec::new(y) })
    }
}

/// Statistics before the output, sums before the gradient.
const NORM_PHASES: &[Phase] = &[Phase::Samples, Phase::Merge, Phase::Samples];

impl Op for ConvBlock {
    fn name(&self) -> &'static str {
        "conv_block"
    }

    fn plan(&self, x: &[Shape]) -> Result<Box<dyn PlannedOp>, ShapeError> {
        let [shape] = inputs(self.name(), x)?;
        if !self.has_kernels(shape.c, self.learns) {
            let message =
                format!("there are no kernels for stride {} here; compute each operation by itself", self.conv.stride);
            return Err(ShapeError::new(self.name(), message));
        }
        let g = self.geometry(shape)?;
        let spec = self.tensors(x)?;
        let block = BlockPlan::new(g, &self.norm, self.learns, spec);
        Ok(match (self.norm, block.weights) {
            (Norm::None, _) => Box::new(Plain::new(block, None)),
            (Norm::Running(norm), _) => Box::new(Plain::new(block, Some(norm.eps))),
            (Norm::Batch(norm), WeightGradPath::Mono) => Box::new(MonoNormed::new(block, norm)),
            (Norm::Batch(norm), WeightGradPath::MonoLong) => Box::new(MonoLong::new(block, norm, self.conv.plan(x)?)),
            (Norm::Batch(norm), _) => Box::new(Normed::new(block, norm)),
        })
    }

    fn for_inference(&self) -> Inference {
        Inference::Other(Box::new(ConvBlock { learns: false, norm: self.running_norm(), ..*self }))
    }

    fn for_frozen(&self) -> Inference {
        match self.norm {
            Norm::None => Inference::Same,
            _ => Inference::Other(Box::new(ConvBlock { learns: true, norm: self.running_norm(), ..*self })),
        }
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        reference::forward(self, b);
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        reference::backward(self, b);
    }
}
