//! conv_block: convolution, batch norm, ReLU and max pooling in one.
//!
//! **Computes** `y[r, o] = max(0, max over t < window of norm(z)[window r + t, o])` with `z = conv1d(x)`, stride and dilation 1.
//! Without norm it is the identity, without pool the window is one row.
//! **Shapes** `x [n, l, c_in] -> y [n, cells, c_out]`, `w [k, c_in, c_out]`, `b [c_out]`, with norm `scale [c_out]`,
//! `shift [c_out]`; `cells` as the pool counts its windows. Without norm, rows that no window holds are not computed.
//! **Backward** that of the ops one after the other: of every window only the largest row has a gradient, and none
//! where the output is not above zero; a norm makes it dense again. `dw` from the sparse gradient (of the arithmetic a
//! `window`th, times the share of cells that are alive) or from dense rows; `dx` as forward, with flipped taps, or where few
//! enough cells are alive from the sparse gradient too: a choice for every sample, by its own count.
//! **Saved** the position of the largest row, a byte each; none without pool, where backward reads the output. With norm
//! also the convolution's rows, see `norm.rs`.
//! **Cost** for eight rows with F(8, 5) 13 multiply-adds instead of forty, with F(5, 8), for weights, 14, with F(8, 3) eleven
//! instead of 24 (`simd/winograd.rs`); longer kernels in segments of four taps; short layers and few channels directly. Without norm
//! neither the full output nor its gradient ever exists.
//! **NaN** a NaN spreads to the rows that share its tile of eight, and passes the pool of a window of such rows alone; with
//! norm to its channel in the whole batch.
//! **Error** relative rms a few times the direct kernel's, see the cases; from a sparse gradient no more than direct.
//! **Source** `simd/winograd.rs`; the judge is conv1d, batch_norm, relu and max_pool1d in double precision.

mod cases;
mod convolve;
mod device;
mod forward;
mod geometry;
mod gradient;
mod norm;
mod norm_gradient;
mod reference;
mod single_norm;
mod single_norm_device;
mod spread;
mod weight;

use super::batch_norm::{BatchNormInference, Over};
use super::device::{Batch, Passes};
use super::op::{
    Algorithms, Backward, Forward, Inference, Layout, Merge, Op, Phase, ReferenceBackward, ReferenceForward, Role,
    ShapeError, Spec, TensorSpec,
};
use super::{BatchNorm, Conv1d, ConvChoice, MaxPool1d, Padding};
use crate::base::{Shape, aligned::round_up};
use crate::simd::Isa;
use crate::simd::transform::PlainRows;
pub use cases::cases;
use convolve::{Convolve, Pack, Rows};
use geometry::{Convolution, Geometry, Weight};
use gradient::Unpooled;
use std::ops::Range;

/// What stands between convolution and ReLU.
#[derive(Clone, Copy, Debug)]
pub enum Norm {
    /// Nothing.
    None,
    /// Batch norm that learns.
    Batch(BatchNorm),
    /// Batch norm with its running statistics, folded into the weights.
    Running(BatchNormInference),
}

/// The op: a convolution of stride and dilation 1 with bias, perhaps batch norm over its channels, a ReLU, and perhaps a pool
/// of two to four rows side by side.
#[derive(Clone, Copy, Debug)]
pub struct ConvBlock {
    conv: Conv1d,
    norm: Norm,
    pool: Option<MaxPool1d>,
    choice: ConvChoice,
    /// Whether it has a backward pass.
    learns: bool,
}

/// Widest pooling window.
const WIDEST_WINDOW: usize = 4;

impl ConvBlock {
    /// The block of `conv`, `norm`, a ReLU and `pool`, computed as `choice` says, if there is one.
    pub fn of(conv: &Conv1d, norm: Norm, pool: Option<&MaxPool1d>, choice: ConvChoice) -> Option<ConvBlock> {
        // With more zeros in front than a window's taps but one there are rows of zeros alone, which the block does not know.
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

    fn weight(&self, g: &Geometry) -> Weight {
        g.weight(self.forward_of(g), self.batch_norm().is_none())
    }

    /// The share of live cells below which backward-data is sparse.
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
        let backward = match self.weight(g) {
            Weight::Sparse => weight::sparse_scratch(g).max(data),
            Weight::Single => weight::single_scratch(g).max(data),
            Weight::Dense(conv) => weight::sums_len(&conv) + weight::dense_scratch(&conv).max(data),
        };
        let again = match (self.batch_norm(), self.weight(g)) {
            (Some(_), Weight::Single) => norm_gradient::again_scratch(g) + single_norm::scratch(g),
            _ => 0,
        };
        terms + again + forward.max(backward)
    }

    /// Where the norm's parameters begin: after the convolution's, at a cache line, as in the graph's arena.
    fn norm_at(&self, g: &Geometry) -> usize {
        round_up(g.weights() + g.c_out)
    }

    /// Of the memory for all samples, where packed weights of backward-data begin, dense and sparse, and the norm's numbers.
    fn shared(&self, g: &Geometry) -> [usize; 3] {
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
        let convolved = self.conv.spec(x)?;
        let g = self.geometry(x[0])?;
        let y = match self.pool {
            Some(pool) => pool.spec(&[convolved.y])?.y,
            None => convolved.y,
        };
        let positions = if self.pool.is_some() { y.size().div_ceil(size_of::<f32>()) } else { 0 };
        let [.., packed] = self.shared(&g);
        let spec = Spec {
            params: convolved.params,
            saved: if self.learns { positions } else { 0 },
            shared: packed,
            scratch: self.scratch(&g),
            reads_x: true,
            reads_y: self.pool.is_none(),
            backward: if self.learns { super::op::EACH } else { &[] },
            macs: convolved.macs,
            ..Spec::new(y)
        };
        let normed = |norm: Spec, numbers: usize| {
            let mut params = spec.params.clone();
            let gap = self.norm_at(&g) - spec.params_len();
            let layout = Layout::Vector { c: gap };
            params.extend((gap > 0).then_some(TensorSpec { suffix: "padding", layout, role: Role::Shift }));
            params.extend(norm.params);
            Spec { params, state: norm.state, shared: packed + numbers, ..spec.clone() }
        };
        match self.norm {
            Norm::None => Ok(spec),
            // The folded bias.
            Norm::Running(norm) => Ok(normed(norm.spec(&[convolved.y])?, g.c_out)),
            // Mean, inv_std; then the two terms of the gradient, see `merge`.
            Norm::Batch(norm) if matches!(self.weight(&g), Weight::Single) => Ok(Spec {
                saved: single_norm::saved_len(&g),
                forward: NORM_PHASES,
                backward: NORM_PHASES,
                ..normed(norm.spec(&[convolved.y])?, 4 * g.c_out + single_norm::folded_len(&g))
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
        let norm = match self.norm {
            Norm::Batch(norm) => Norm::Running(BatchNormInference { over: norm.over, eps: norm.eps }),
            other => other,
        };
        Inference::Other(Box::new(ConvBlock { learns: false, norm, ..*self }))
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
            backward_weight: match self.weight(&g) {
                Weight::Sparse | Weight::Single => "sparse",
                Weight::Dense(conv) => conv.algorithm.name_of_sums(),
            },
        }
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        reference::forward(self, b);
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        reference::backward(self, b);
    }

    fn prepare(&self, isa: Isa, x: &[Shape], params: &[f32], state: &[f32], shared: &mut [f32]) {
        let g = self.planned(x[0]);
        let (conv, [dense_at, sparse_at, norm_at]) = (self.forward_of(&g), self.shared(&g));
        let (packed, numbers) = shared.split_at_mut(norm_at);
        let (packed, sparse) = packed.split_at_mut(sparse_at);
        let (forward, dense) = packed.split_at_mut(dense_at);
        let at = |tap: usize, i: usize, o: usize| params[(tap * g.c_in + i) * g.c_out + o];
        let scale = &params[self.norm_at(&g).min(params.len())..];
        match self.norm {
            Norm::None => isa.run(Pack { conv, weight: at, packed: &mut forward[..conv.packed()] }),
            Norm::Batch(_) => {
                let weight = |tap, i, o| norm::sign(scale[o]) * at(tap, i, o);
                isa.run(Pack { conv, weight, packed: &mut forward[..conv.packed()] });
            }
            Norm::Running(norm) => {
                let factor = |o: usize| scale[o] / (state[g.c_out + o] + norm.eps as f32).sqrt();
                for (o, bias) in numbers.iter_mut().enumerate() {
                    *bias = (params[g.weights() + o] - state[o]) * factor(o) + scale[g.c_out + o];
                }
                let weight = |tap, i, o| factor(o) * at(tap, i, o);
                isa.run(Pack { conv, weight, packed: &mut forward[..conv.packed()] });
            }
        }
        if let Some(conv) = self.dense_data(&g) {
            let weight = |tap, o, i| at(g.k - 1 - tap, i, o);
            isa.run(Pack { conv, weight, packed: &mut dense[..conv.packed()] });
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
        let [packed, _, norm_at] = self.shared(&g);
        if self.batch_norm().is_none() {
            let positions = if g.window > 1 && self.learns { b.y.len() } else { 0 };
            let at = &mut bytemuck::cast_slice_mut(b.saved)[..positions];
            let bias = match self.norm {
                Norm::Running(_) => &b.shared[norm_at..],
                _ => &b.params[g.weights()..],
            };
            let (packed, cell) = (&b.shared[..packed], b.from / g.c_out);
            forward::Forward { g, x: b.x[0], packed, bias, cell, y: b.y, at, scratch: b.scratch }.run(isa);
            return;
        }
        match self.weight(&g) {
            Weight::Single => self.single_norm_forward(isa, phase, &g, b),
            _ => self.norm_forward(isa, phase, &g, b),
        }
    }

    fn backward(&self, isa: Isa, phase: usize, b: &mut Backward<'_>) {
        let g = self.planned(b.shapes[0]);
        if self.batch_norm().is_some() {
            return match self.weight(&g) {
                Weight::Single => self.single_norm_backward(isa, phase, &g, b),
                _ => self.norm_backward(isa, phase, &g, b),
            };
        }
        let positions = if g.window > 1 { b.dy.len() } else { 0 };
        let dz = Unpooled { g, dy: b.dy, at: &bytemuck::cast_slice(b.saved)[..positions], y: b.y };
        if !b.dparams.is_empty() {
            let (dw, db) = b.dparams.split_at_mut(g.weights());
            let (x, dy, at, scratch) = (b.x[0], dz.dy, dz.at, &mut *b.scratch);
            match self.weight(&g) {
                Weight::Sparse => weight::PooledWeight { g, x, dy, at, dw, db, scratch }.sparse(isa),
                Weight::Single => weight::PooledWeight { g, x, dy, at, dw, db, scratch }.single(isa),
                Weight::Dense(conv) => {
                    isa.run(weight::BiasSums { dz: &dz, db });
                    let (sums, scratch) = scratch.split_at_mut(weight::sums_len(&conv));
                    let mut of_weights = weight::DenseWeight { conv, x, dw, sums };
                    of_weights.add(isa, &dz, 0..conv.rows_out, scratch);
                    of_weights.finish(isa);
                }
            }
        }
        let (dx, scratch) = (&mut *b.dx[0], &mut *b.scratch);
        if dx.is_empty() || !self.spreads(&g, dz.at) {
            self.backward_data(isa, &g, (&dz, 0..g.l), b.shared, dx, scratch);
            return;
        }
        let packed = &b.shared[self.shared(&g)[1]..][..g.weights()];
        spread::Spread { g, dy: dz.dy, at: dz.at, packed, dx, scratch }.run(isa);
    }

    fn settle(&self, x: &[Shape], dparams: &mut [f32], scratch: &mut [f32]) {
        let g = self.planned(x[0]);
        if matches!(self.weight(&g), Weight::Sparse) {
            weight::settle(&g, &mut dparams[..g.weights()], scratch);
        }
    }

    fn merge(&self, b: &mut Merge<'_>) {
        let Some(norm) = self.batch_norm() else { return };
        let g = self.planned(b.shapes[0]);
        let ([.., at], norm_at) = (self.shared(&g), self.norm_at(&g));
        let channels = norm::Channels { g, norm, norm_at, at, merge: b };
        match self.weight(&g) {
            Weight::Single => channels.of_moments(),
            _ => channels.of_rows(),
        }
    }

    fn on_device(&self, batch: &Batch<'_>) -> Passes {
        self.device_passes(batch)
    }
}

impl ConvBlock {
    /// Whether so few cells are alive that backward-data pays from them.
    fn spreads(&self, g: &Geometry, at: &[u8]) -> bool {
        let below = self.spread_below(g);
        let alive = || at.iter().map(|&at| u32::from(usize::from(at) < g.window)).sum::<u32>();
        below >= 1.0 || (below > 0.0 && f64::from(alive()) < below * at.len() as f64)
    }

    /// These rows of `dx` by the dense convolution, if anybody needs them.
    fn backward_data(
        &self,
        isa: Isa,
        g: &Geometry,
        (dz, rows): (&impl Rows, Range<usize>),
        shared: &[f32],
        dx: &mut [f32],
        scratch: &mut [f32],
    ) {
        if !dx.is_empty() {
            let [from, to, _] = self.shared(g);
            let mut epilogue = PlainRows { y: dx, c: g.c_in };
            let (conv, packed) = (g.backward_data(), &shared[from..to]);
            Convolve { conv, rows, packed, source: dz, epilogue: &mut epilogue, scratch }.run(isa);
        }
    }
}
