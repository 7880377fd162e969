//! Floor 2. conv_block: convolution, bias, ReLU and max pooling in one.
//!
//! **Computes** `y[r, o] = max(0, b[o] + max over t < window of z[window r + t, o])` with `z = conv1d(x)`, stride and dilation 1.
//! Without pool the window is one row.
//! **Shapes** `x [n, l, c_in] -> y [n, cells, c_out]`, `w [k, c_in, c_out]`, `b [c_out]`; `cells` as the pool counts its
//! windows. Rows that no window holds are not computed.
//! **Backward** that of the ops one after the other: of every window only the largest row has a gradient, and none
//! where the output is not above zero. `dx` as forward, with flipped taps; `dw` from that sparse gradient directly (one
//! `window`th of the arithmetic) or, without pool and with very many channels, from dense rows.
//! **Saved** the position of the largest row, a byte each; none without pool, where backward reads the output.
//! **Cost** with F(4, 5) eight multiply-adds instead of twenty for four rows, with F(4, 3) six instead of twelve
//! (`simd/winograd.rs`); longer kernels in segments of four taps; short layers and few channels directly. Neither
//! the full output nor its gradient ever exists.
//! **NaN** a NaN spreads to the rows that share its tile of four, and passes the pool of a window of such rows alone.
//! **Error** relative rms a few times the direct kernel's, see the cases.
//! **Source** `simd/winograd.rs`; the judge is conv1d, relu and max_pool1d in double precision.

mod cases;
mod convolve;
mod forward;
mod geometry;
mod gradient;
mod reference;
mod weight;

use super::op::{Algorithms, Backward, Forward, Op, ReferenceBackward, ReferenceForward, ShapeError, Spec};
use super::{Conv1d, MaxPool1d};
use crate::base::Shape;
use crate::simd::Isa;
use crate::simd::transform::PlainRows;
pub use cases::cases;
use convolve::{Convolve, Pack};
use geometry::{Convolution, Geometry};
use gradient::Unpooled;

/// The op: a convolution of stride and dilation 1 with bias, a ReLU, and perhaps a pool of two to four rows side by side.
#[derive(Clone, Copy, Debug)]
pub struct ConvBlock {
    conv: Conv1d,
    pool: Option<MaxPool1d>,
}

/// Widest pooling window.
const WIDEST_WINDOW: usize = 4;

impl ConvBlock {
    /// The block of `conv`, a ReLU and `pool`, if there is one.
    pub fn of(conv: &Conv1d, pool: Option<&MaxPool1d>) -> Option<ConvBlock> {
        let conv_fits = conv.stride == 1 && conv.dilation == 1 && conv.bias;
        let pool_fits = pool.is_none_or(|pool| pool.stride == pool.k && (2..=WIDEST_WINDOW).contains(&pool.k));
        (conv_fits && pool_fits).then_some(ConvBlock { conv: *conv, pool: pool.copied() })
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
        })
    }

    fn planned(&self, x: Shape) -> Geometry {
        self.geometry(x).expect("the graph has checked the shapes")
    }
}

/// How backward-weight is computed.
#[derive(Clone, Copy, Debug)]
enum Weight {
    /// From the positions of a pooled gradient.
    Sparse,
    /// Likewise, with one input channel.
    Single,
    /// From dense rows, as this convolution.
    Dense(Convolution),
}

impl Geometry {
    fn weight(&self) -> Weight {
        let conv = self.forward(false);
        match conv.algorithm {
            _ if self.window == 3 && self.c_in == 1 && weight::SINGLE_TAPS.contains(&self.k) => Weight::Single,
            // A window of few input channels is too short for vectors.
            _ if self.window == 3 && self.c_in > 1 && self.c_in < 256 => Weight::Sparse,
            _ => Weight::Dense(conv),
        }
    }
}

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
        let (forward, backward) = (g.forward(false), g.backward_data());
        let weight = match g.weight() {
            Weight::Sparse => weight::sparse_scratch(&g),
            Weight::Single => weight::single_scratch(&g),
            Weight::Dense(conv) => weight::dense_scratch(&conv),
        };
        Ok(Spec {
            params: convolved.params,
            saved: if self.pool.is_some() { y.size().div_ceil(size_of::<f32>()) } else { 0 },
            shared: forward.packed() + backward.packed(),
            scratch: forward.scratch().max(backward.scratch()).max(weight),
            reads_x: true,
            reads_y: self.pool.is_none(),
            macs: convolved.macs,
            ..Spec::new(y)
        })
    }

    fn algorithms(&self, x: &[Shape]) -> Algorithms {
        let g = self.planned(x[0]);
        Algorithms {
            forward: g.forward(false).algorithm.name(),
            backward_data: g.backward_data().algorithm.name(),
            backward_weight: match g.weight() {
                Weight::Sparse | Weight::Single => "sparse",
                Weight::Dense(conv) => conv.algorithm.name(),
            },
        }
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        reference::forward(self, b);
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        reference::backward(self, b);
    }

    fn prepare(&self, isa: Isa, x: &[Shape], params: &[f32], shared: &mut [f32]) {
        let g = self.planned(x[0]);
        let (conv, back) = (g.forward(false), g.backward_data());
        let (forward, backward) = shared.split_at_mut(conv.packed());
        let at = |tap: usize, i: usize, o: usize| params[(tap * g.c_in + i) * g.c_out + o];
        isa.run(Pack { conv, weight: at, packed: forward });
        isa.run(Pack { conv: back, weight: |tap, o, i| at(g.k - 1 - tap, i, o), packed: backward });
    }

    fn forward(&self, isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        let g = self.planned(b.shapes[0]);
        let positions = if g.window > 1 { b.y.len() } else { 0 };
        let at = &mut bytemuck::cast_slice_mut(b.saved)[..positions];
        let bias = &b.params[g.weights()..];
        forward::Forward { g, x: b.x[0], packed: b.shared, bias, y: b.y, at, scratch: b.scratch }.run(isa);
    }

    fn backward(&self, isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        let g = self.planned(b.shapes[0]);
        let positions = if g.window > 1 { b.dy.len() } else { 0 };
        let dz = Unpooled { g, dy: b.dy, at: &bytemuck::cast_slice(b.saved)[..positions], y: b.y };
        if !b.dparams.is_empty() {
            let (dw, db) = b.dparams.split_at_mut(g.weights());
            match g.weight() {
                Weight::Sparse => {
                    let (x, dy, at, scratch) = (b.x[0], dz.dy, dz.at, &mut *b.scratch);
                    weight::SparseWeight { g, x, dy, at, dw, db, scratch }.run(isa);
                }
                Weight::Single => {
                    let (x, dy, at, scratch) = (b.x[0], dz.dy, dz.at, &mut *b.scratch);
                    weight::SingleWeight { g, x, dy, at, dw, db, scratch }.run(isa);
                }
                Weight::Dense(conv) => {
                    weight::BiasSums { dz: &dz, rows: conv.rows_out, db, scratch: b.scratch }.run(isa);
                    weight::DenseWeight { conv, x: b.x[0], dz: &dz, dw, scratch: b.scratch }.run(isa);
                }
            }
        }
        let [dx, _] = &mut b.dx;
        if !dx.is_empty() {
            let conv = g.backward_data();
            let packed = &b.shared[g.forward(false).packed()..];
            let mut epilogue = PlainRows { y: dx, c: g.c_in };
            Convolve { conv, packed, source: &dz, epilogue: &mut epilogue, scratch: b.scratch }.run(isa);
        }
    }
}
