//! conv_block: convolution, batch norm, ReLU and max pooling in one.
//!
//! **Computes** `y[r, o] = max(0, max over t < window of norm(z)[window r + t, o])` with `z = conv1d(x)`, stride and dilation 1.
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

mod cases;
mod convolve;
mod device;
mod forward;
mod geometry;
mod gradient;
mod mono_norm;
mod mono_norm_device;
mod norm;
mod norm_gradient;
mod reference;
mod spread;
mod weight;

use super::batch_norm::{BatchNormInference, Over};
use super::device::{Batch, Passes};
use super::op::{
    Algorithms, Backward, Forward, Inference, Layout, Merge, Op, Phase, ReferenceBackward, ReferenceForward, Role,
    ShapeError, Spec, TensorSpec, inputs,
};
use super::{BatchNorm, Conv1d, ConvChoice, MaxPool1d, Padding};
use crate::base::{Shape, aligned::round_up};
use crate::simd::Isa;
use crate::simd::transform::PlainRows;
pub use cases::cases;
use convolve::{Convolve, Pack, Rows};
use geometry::{Convolution, Geometry, WeightGradPath};
use gradient::Unpooled;
use std::ops::Range;

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

/// The operation: a convolution of stride and dilation 1 with bias, perhaps batch norm over its channels, a ReLU, and perhaps a pool
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

impl ConvBlock {
    /// The block of `conv`, `norm`, a ReLU and `pool`, computed as `choice` says, if there is one.
    pub fn of(conv: &Conv1d, norm: Norm, pool: Option<&MaxPool1d>, choice: ConvChoice) -> Option<ConvBlock> {
        // With `k` or more zeros in front, some rows depend on zeros only, which the fused kernels do not support.
        let front_fits = !matches!(conv.padding, Padding::Explicit(front, _) if front >= conv.k);
        let conv_fits = conv.stride == 1 && conv.dilation == 1 && conv.bias && front_fits;
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

    fn geometry(&self, x: Shape) -> Result<Geometry, ShapeError> {
        let (front, l_out) = self.conv.rows(x)?;
        Ok(Geometry {
            l: x.l,
            c_in: x.c,
            l_out,
            c_out: self.conv.c_out,
            k: self.conv.k,
            pad: front,
            window: self.pool.map_or(1, |pool| pool.k),
            ceil: self.pool.is_some_and(|pool| pool.ceil),
            choice: self.choice,
        })
    }

    fn planned(&self, x: Shape) -> Geometry {
        self.geometry(x).expect("the graph has checked the shapes")
    }

    /// The norm with its running statistics.
    fn running_norm(&self) -> Norm {
        match self.norm {
            Norm::Batch(norm) => Norm::Running(BatchNormInference { over: norm.over, eps: norm.eps }),
            other => other,
        }
    }

    fn batch_norm(&self) -> Option<BatchNorm> {
        match self.norm {
            Norm::Batch(norm) => Some(norm),
            _ => None,
        }
    }

    /// The convolution forward.
    fn forward_of(&self, g: &Geometry) -> Convolution {
        g.forward(self.batch_norm().is_some())
    }

    fn weight_grad_path(&self, g: &Geometry) -> WeightGradPath {
        g.weight_grad_path(self.forward_of(g), self.batch_norm().is_none())
    }

    /// The share of windows with a non-zero gradient below which backward-data is sparse.
    fn spread_below(&self, g: &Geometry) -> f64 {
        if matches!(self.norm, Norm::None) { g.spread_below() } else { 0.0 }
    }

    /// The dense convolution of backward-data, if it is ever used.
    fn dense_data(&self, g: &Geometry) -> Option<Convolution> {
        (self.learns && self.spread_below(g) < 1.0).then(|| g.backward_data())
    }

    /// Numbers of scratch for any pass.
    fn scratch(&self, g: &Geometry) -> usize {
        let forward = self.forward_of(g).scratch();
        let terms = round_up(4 * g.c_out);
        if !self.learns {
            return forward;
        }
        let dense = self.dense_data(g).map_or(0, |conv| conv.scratch());
        let data = if self.spread_below(g) > 0.0 { dense.max(weight::sparse_scratch(g)) } else { dense };
        let backward = match self.weight_grad_path(g) {
            WeightGradPath::Sparse => weight::sparse_scratch(g).max(data),
            WeightGradPath::Mono => weight::mono_scratch(g).max(data),
            WeightGradPath::Dense(conv) => weight::sums_len(&conv) + weight::dense_scratch(&conv).max(data),
        };
        let recomputed = match (self.batch_norm(), self.weight_grad_path(g)) {
            (Some(_), WeightGradPath::Mono) => norm_gradient::recomputed_scratch(g) + mono_norm::scratch(g),
            _ => 0,
        };
        terms + recomputed + forward.max(backward)
    }

    /// Where the norm's parameters begin: after the convolution's, at a cache line, as in the graph's arena.
    fn norm_at(&self, g: &Geometry) -> usize {
        round_up(g.weights() + g.c_out)
    }

    /// Of the memory for all samples, where packed weights of backward-data begin, dense and sparse, and the norm's numbers.
    fn batch_saved_at(&self, g: &Geometry) -> [usize; 3] {
        let dense = round_up(self.forward_of(g).packed());
        let sparse = dense + round_up(self.dense_data(g).map_or(0, |conv| conv.packed()));
        let spreads = self.learns && self.spread_below(g) > 0.0;
        [dense, sparse, sparse + if spreads { round_up(g.weights()) } else { 0 }]
    }
}

/// Statistics before the output, sums before the gradient.
const NORM_PHASES: &[Phase] = &[Phase::Samples, Phase::Merge, Phase::Samples];

impl Op for ConvBlock {
    fn name(&self) -> &'static str {
        "conv_block"
    }

    fn spec(&self, x: &[Shape]) -> Result<Spec, ShapeError> {
        let [shape] = inputs(self.name(), x)?;
        let convolved = self.conv.spec(x)?;
        let g = self.geometry(shape)?;
        let y = match self.pool {
            Some(pool) => pool.spec(&[convolved.y])?.y,
            None => convolved.y,
        };
        let argmax_len = if self.pool.is_some() { y.size().div_ceil(size_of::<f32>()) } else { 0 };
        let [.., packed] = self.batch_saved_at(&g);
        let spec = Spec {
            params: convolved.params,
            saved: if self.learns { argmax_len } else { 0 },
            batch_saved: packed,
            scratch: self.scratch(&g),
            reads_x: true,
            reads_y: self.pool.is_none(),
            backward: if self.learns { super::op::PER_SAMPLE } else { &[] },
            macs: convolved.macs,
            ..Spec::new(y)
        };
        let normed = |norm: Spec, numbers: usize| {
            let mut params = spec.params.clone();
            let gap = self.norm_at(&g) - spec.params_len();
            let layout = Layout::Vector { c: gap };
            params.extend((gap > 0).then_some(TensorSpec { suffix: "padding", layout, role: Role::Shift }));
            params.extend(norm.params);
            Spec { params, state: norm.state, batch_saved: packed + numbers, ..spec.clone() }
        };
        match self.norm {
            Norm::None => Ok(spec),
            // The folded bias. Only the gradients of the parameters would read the input.
            Norm::Running(norm) => Ok(Spec { reads_x: false, ..normed(norm.spec(&[convolved.y])?, g.c_out) }),
            // Mean, inv_std; then the two terms of the gradient, see `merge`.
            Norm::Batch(norm) if matches!(self.weight_grad_path(&g), WeightGradPath::Mono) => Ok(Spec {
                saved: mono_norm::saved_len(&g),
                forward: NORM_PHASES,
                backward: NORM_PHASES,
                ..normed(norm.spec(&[convolved.y])?, 4 * g.c_out + mono_norm::folded_len(&g))
            }),
            Norm::Batch(norm) => Ok(Spec {
                saved: norm::saved_len(&g),
                reads_y: true,
                forward: NORM_PHASES,
                backward: NORM_PHASES,
                ..normed(norm.spec(&[convolved.y])?, 4 * g.c_out)
            }),
        }
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

    fn algorithms(&self, x: &[Shape]) -> Algorithms {
        let g = self.planned(x[0]);
        Algorithms {
            forward: self.forward_of(&g).algorithm.name(),
            backward_data: match (self.dense_data(&g), self.spread_below(&g) > 0.0) {
                (Some(conv), false) => conv.algorithm.name(),
                (Some(conv), true) => conv.algorithm.name_or_sparse(),
                (None, _) => "sparse",
            },
            backward_weight: match self.weight_grad_path(&g) {
                WeightGradPath::Sparse | WeightGradPath::Mono => "sparse",
                WeightGradPath::Dense(conv) => conv.algorithm.name_of_sums(),
            },
        }
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        reference::forward(self, b);
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        reference::backward(self, b);
    }

    fn prepare(&self, isa: Isa, x: &[Shape], params: &[f32], state: &[f32], batch_saved: &mut [f32]) {
        let g = self.planned(x[0]);
        let (conv, [dense_at, sparse_at, norm_at]) = (self.forward_of(&g), self.batch_saved_at(&g));
        let (packed, numbers) = batch_saved.split_at_mut(norm_at);
        let (packed, sparse) = packed.split_at_mut(sparse_at);
        let (forward, dense) = packed.split_at_mut(dense_at);
        let at = |tap: usize, i: usize, o: usize| params[(tap * g.c_in + i) * g.c_out + o];
        let scale = &params[self.norm_at(&g).min(params.len())..];
        // By which a norm with running statistics multiplies output channel `o` of the convolution.
        let factor = |eps: f64, o: usize| scale[o] / (state[g.c_out + o] + eps as f32).sqrt();
        match self.norm {
            Norm::None => isa.run(Pack { conv, weight: at, packed: &mut forward[..conv.packed()] }),
            Norm::Batch(_) => {
                let weight = |tap, i, o| norm::sign(scale[o]) * at(tap, i, o);
                isa.run(Pack { conv, weight, packed: &mut forward[..conv.packed()] });
            }
            Norm::Running(BatchNormInference { eps, .. }) => {
                for (o, bias) in numbers.iter_mut().enumerate() {
                    *bias = (params[g.weights() + o] - state[o]) * factor(eps, o) + scale[g.c_out + o];
                }
                let weight = |tap, i, o| factor(eps, o) * at(tap, i, o);
                isa.run(Pack { conv, weight, packed: &mut forward[..conv.packed()] });
            }
        }
        if let Some(conv) = self.dense_data(&g) {
            let packed = &mut dense[..conv.packed()];
            let weight = |tap, o, i| at(g.k - 1 - tap, i, o);
            match self.norm {
                Norm::Running(BatchNormInference { eps, .. }) => {
                    isa.run(Pack { conv, weight: |tap, o, i| factor(eps, o) * weight(tap, o, i), packed });
                }
                _ => isa.run(Pack { conv, weight, packed }),
            }
        }
        if !sparse.is_empty() {
            spread::pack(&g, params, sparse);
        }
    }

    fn piece(&self, x: &[Shape]) -> Option<usize> {
        let g = self.planned(x[0]);
        let cells = self.forward_of(&g).block_rows() / g.window;
        (!self.learns && g.cells() > cells).then_some(cells * g.c_out)
    }

    fn forward(&self, isa: Isa, phase: usize, b: &mut Forward<'_>) {
        let g = self.planned(b.shapes[0]);
        let [packed, _, norm_at] = self.batch_saved_at(&g);
        if self.batch_norm().is_none() {
            let argmax_len = if g.window > 1 && self.learns { b.y.len() } else { 0 };
            let argmax = &mut bytemuck::cast_slice_mut(b.saved)[..argmax_len];
            let bias = match self.norm {
                Norm::Running(_) => &b.batch_saved[norm_at..],
                _ => &b.params[g.weights()..],
            };
            let (packed, cell) = (&b.batch_saved[..packed], b.from / g.c_out);
            forward::Forward { g, x: b.x[0], packed, bias, cell, y: b.y, argmax, scratch: b.scratch }.run(isa);
            return;
        }
        match self.weight_grad_path(&g) {
            WeightGradPath::Mono => self.mono_norm_forward(isa, phase, &g, b),
            _ => self.norm_forward(isa, phase, &g, b),
        }
    }

    fn backward(&self, isa: Isa, phase: usize, b: &mut Backward<'_>) {
        let g = self.planned(b.shapes[0]);
        if self.batch_norm().is_some() {
            return match self.weight_grad_path(&g) {
                WeightGradPath::Mono => self.mono_norm_backward(isa, phase, &g, b),
                _ => self.norm_backward(isa, phase, &g, b),
            };
        }
        let argmax_len = if g.window > 1 { b.dy.len() } else { 0 };
        debug_assert!(b.dparams.is_empty() || matches!(self.norm, Norm::None), "a frozen block has no such gradients");
        let dz = Unpooled { g, dy: b.dy, argmax: &bytemuck::cast_slice(b.saved)[..argmax_len], y: b.y };
        if !b.dparams.is_empty() {
            let (dw, db) = b.dparams.split_at_mut(g.weights());
            let (x, dy, argmax, scratch) = (b.x[0], dz.dy, dz.argmax, &mut *b.scratch);
            match self.weight_grad_path(&g) {
                WeightGradPath::Sparse => weight::PooledWeight { g, x, dy, argmax, dw, db, scratch }.sparse(isa),
                WeightGradPath::Mono => weight::PooledWeight { g, x, dy, argmax, dw, db, scratch }.mono(isa),
                WeightGradPath::Dense(conv) => {
                    isa.run(weight::BiasSums { dz: &dz, db });
                    let (sums, scratch) = scratch.split_at_mut(weight::sums_len(&conv));
                    let mut of_weights = weight::DenseWeight { conv, x, dw, sums };
                    of_weights.add(isa, &dz, 0..conv.rows_out, scratch);
                    of_weights.finish(isa);
                }
            }
        }
        let (dx, scratch) = (&mut *b.dx[0], &mut *b.scratch);
        if dx.is_empty() || !self.spreads(&g, dz.argmax) {
            self.backward_data(isa, &g, (&dz, 0..g.l), b.batch_saved, dx, scratch);
            return;
        }
        let packed = &b.batch_saved[self.batch_saved_at(&g)[1]..][..g.weights()];
        spread::Spread { g, dy: dz.dy, argmax: dz.argmax, packed, dx, scratch }.run(isa);
    }

    fn reorder_gradients(&self, x: &[Shape], dparams: &mut [f32], scratch: &mut [f32]) {
        let g = self.planned(x[0]);
        if matches!(self.weight_grad_path(&g), WeightGradPath::Sparse) {
            weight::reorder_gradients(&g, &mut dparams[..g.weights()], scratch);
        }
    }

    fn merge(&self, b: &mut Merge<'_>) {
        let norm = self.batch_norm().expect("only a norm that learns has a merge phase");
        let g = self.planned(b.shapes[0]);
        let ([.., statistics_at], norm_at) = (self.batch_saved_at(&g), self.norm_at(&g));
        let channels = norm::Channels { g, norm, norm_at, statistics_at, merge: b };
        match self.weight_grad_path(&g) {
            WeightGradPath::Mono => channels.of_moments(),
            _ => channels.of_rows(),
        }
    }

    fn on_device(&self, batch: &Batch<'_>) -> Passes {
        self.device_passes(batch)
    }
}

impl ConvBlock {
    /// Whether so few windows have a non-zero gradient that backward-data is computed from the sparse gradient.
    fn spreads(&self, g: &Geometry, argmax: &[u8]) -> bool {
        let below = self.spread_below(g);
        let nonzero = || argmax.iter().map(|&index| u32::from(usize::from(index) < g.window)).sum::<u32>();
        below >= 1.0 || (below > 0.0 && f64::from(nonzero()) < below * argmax.len() as f64)
    }

    /// Computes these rows of `dx` by the dense convolution, if they are needed.
    fn backward_data(
        &self,
        isa: Isa,
        g: &Geometry,
        (dz, rows): (&impl Rows, Range<usize>),
        batch_saved: &[f32],
        dx: &mut [f32],
        scratch: &mut [f32],
    ) {
        if !dx.is_empty() {
            let [from, to, _] = self.batch_saved_at(g);
            let mut epilogue = PlainRows { y: dx, c: g.c_in };
            let (conv, packed) = (g.backward_data(), &batch_saved[from..to]);
            Convolve { conv, rows, packed, source: dz, epilogue: &mut epilogue, scratch }.run(isa);
        }
    }
}
