//! Floor 2. conv_block: convolution of five taps, bias, ReLU and max pooling by three, in one.
//!
//! **Computes** `y[r, o] = max(0, b[o] + max over t < 3 of z[3 r + t, o])` with `z = conv1d(x)`, five taps, `same` padding.
//! **Shapes** `x [n, l, c_in] -> y [n, l / 3, c_out]`, `w [5, c_in, c_out]`, `b [c_out]`; rows left over by the pool are
//! not computed.
//! **Backward** that of the three ops one after the other: of every window only the largest row has a gradient, and none
//! where the output is not above zero. `dx` by the same transforms as forward, with flipped taps; `dw` from that sparse
//! gradient directly: a third of the arithmetic.
//! **Saved** the position of the largest row, a byte each; 3 where the window is dead.
//! **Cost** eight multiply-adds instead of twenty for four rows forward and backward-data (Toom-Cook F(4, 5)); the full
//! output never exists. With one input channel forward is direct.
//! **NaN** a NaN spreads to the rows that share its tile of four. **Error** relative rms up to 1e-6; the conformance
//! cases say which.
//! **Source** `simd/winograd.rs`; the judge is conv1d, relu and max_pool1d in double precision.

mod cases;
mod cpu;

use super::op::{Algorithms, Backward, Forward, Op, ReferenceBackward, ReferenceForward, ShapeError, Spec};
use super::{Conv1d, MaxPool1d, Padding, Relu};
use crate::base::Shape;
use crate::simd::{Isa, Product, winograd::POINTS};
pub use cases::cases;

/// The op.
#[derive(Clone, Copy, Debug)]
pub struct ConvBlock {
    /// Channels of the output.
    pub c_out: usize,
}

/// Taps.
const K: usize = 5;
/// Rows of a pooling window.
const POOL: usize = 3;
/// Shorter inputs are left to the ops one by one: there is nothing to gain from them.
const SHORTEST: usize = 48;

/// The op on a given input.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    l: usize,
    c_in: usize,
    cells: usize,
    c_out: usize,
}

impl Geometry {
    fn weights(&self) -> usize {
        K * self.c_in * self.c_out
    }

    /// Numbers of packed weights for the forward pass; those for backward-data follow.
    fn packed_forward(&self) -> usize {
        match self.c_in {
            1 => Product::packed_len(K, self.c_out),
            c_in => POINTS * Product::packed_len(c_in, self.c_out),
        }
    }
}

impl ConvBlock {
    /// The block that stands for `conv`, a ReLU and `pool` on an input of `x`, if there is one.
    pub fn of(conv: &Conv1d, pool: &MaxPool1d, x: Shape) -> Option<ConvBlock> {
        let conv_fits = *conv == Conv1d::new(conv.c_out, K) && conv.padding == Padding::Same;
        let pool_fits = pool.k == POOL && pool.stride == POOL && !pool.ceil;
        (conv_fits && pool_fits && x.l >= SHORTEST).then_some(ConvBlock { c_out: conv.c_out })
    }

    fn geometry(&self, x: Shape) -> Geometry {
        Geometry { l: x.l, c_in: x.c, cells: x.l / POOL, c_out: self.c_out }
    }

    fn parts(&self) -> (Conv1d, Relu, MaxPool1d) {
        (Conv1d::new(self.c_out, K), Relu, MaxPool1d::new(POOL))
    }
}

impl Op for ConvBlock {
    fn name(&self) -> &'static str {
        "conv_block"
    }

    fn spec(&self, x: &[Shape]) -> Result<Spec, ShapeError> {
        let (conv, _, pool) = self.parts();
        let convolved = conv.spec(x)?;
        let y = pool.spec(&[convolved.y])?.y;
        let g = self.geometry(x[0]);
        let backward = POINTS * Product::packed_len(g.c_out, g.c_in);
        Ok(Spec {
            params: convolved.params,
            saved: y.size().div_ceil(size_of::<f32>()),
            shared: g.packed_forward() + backward,
            scratch: cpu::scratch(&g),
            reads_x: true,
            macs: convolved.macs,
            ..Spec::new(y)
        })
    }

    fn algorithms(&self, x: &[Shape]) -> Algorithms {
        let (forward, backward_weight) = if x[0].c == 1 { ("direct", "dense") } else { ("toom-cook", "sparse") };
        Algorithms { forward, backward_data: "toom-cook", backward_weight }
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        let (conv, relu, pool) = self.parts();
        let mut z = vec![0.0; b.n * b.shapes[0].l * self.c_out];
        let mut a = z.clone();
        let shapes = [Shape::new(b.shapes[0].l, self.c_out)];
        conv.reference_forward(&mut ReferenceForward { y: &mut z, state: &mut [], ..*b });
        relu.reference_forward(&mut ReferenceForward { shapes: &shapes, x: &[&z], y: &mut a, state: &mut [], ..*b });
        pool.reference_forward(&mut ReferenceForward { shapes: &shapes, x: &[&a], y: b.y, state: &mut [], ..*b });
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        let (conv, relu, pool) = self.parts();
        let mut z = vec![0.0; b.n * b.shapes[0].l * self.c_out];
        let mut a = z.clone();
        let shapes = [Shape::new(b.shapes[0].l, self.c_out)];
        let forward = ReferenceForward {
            n: b.n,
            shapes: b.shapes,
            x: b.x,
            params: b.params,
            state: &mut [],
            draw: b.draw,
            y: &mut z,
        };
        conv.reference_forward(&mut { forward });
        for (a, &z) in a.iter_mut().zip(&z) {
            *a = if z > 0.0 { z } else { 0.0 };
        }
        let (mut da, mut dz) = (vec![vec![0.0; z.len()]], vec![vec![0.0; z.len()]]);
        pool.reference_backward(&mut ReferenceBackward {
            shapes: &shapes,
            x: &[&a],
            dx: &mut da,
            dparams: &mut [],
            ..*b
        });
        relu.reference_backward(&mut ReferenceBackward {
            shapes: &shapes,
            x: &[&z],
            dy: &da[0],
            dx: &mut dz,
            dparams: &mut [],
            ..*b
        });
        conv.reference_backward(&mut ReferenceBackward { dy: &dz[0], dx: b.dx, dparams: b.dparams, ..*b });
    }

    fn prepare(&self, isa: Isa, x: &[Shape], params: &[f32], shared: &mut [f32]) {
        let g = self.geometry(x[0]);
        isa.run(cpu::Pack { g, w: &params[..g.weights()], packed: shared });
    }

    fn forward(&self, isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        let g = self.geometry(b.shapes[0]);
        let at = &mut bytemuck::cast_slice_mut(b.saved)[..b.y.len()];
        let bias = &b.params[g.weights()..];
        cpu::BlockForward { g, x: b.x[0], packed: b.shared, bias, y: b.y, at, scratch: b.scratch }.run(isa);
    }

    fn backward(&self, isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        let g = self.geometry(b.shapes[0]);
        let at = &bytemuck::cast_slice(b.saved)[..b.dy.len()];
        if !b.dparams.is_empty() {
            let (dw, db) = b.dparams.split_at_mut(g.weights());
            cpu::BlockBackwardWeight { g, x: b.x[0], dy: b.dy, at, dw, db, scratch: b.scratch }.run(isa);
        }
        let [dx, _] = &mut b.dx;
        if !dx.is_empty() {
            let packed = &b.shared[g.packed_forward()..];
            cpu::BlockBackwardData { g, dy: b.dy, at, packed, dx, scratch: b.scratch }.run(isa);
        }
    }
}
