//! linear: a dense layer on the flattened input.
//!
//! **Computes** `y[j] = b[j] + sum_i x[i] * w[i, j]`, `i` over the `l * c` numbers of the input.
//! **Shapes** `x [n, l, c] -> y [n, 1, out]`; `w [l * c, out]` here, `[out, c * l]` in a file, `b [out]`.
//! **Backward** `dx[i] = sum_j dy[j] * w[i, j]`, `dw[i, j] += x[i] * dy[j]`, `db[j] += dy[j]`.
//! **Saved** nothing; backward reads the input. **Cost** `l * c * out` MACs forward, twice that backward. The weights are
//! packed once per step and read once per sample and pass; if they are many, they are read once per group of samples, and their gradients are
//! computed once per batch.
//! **NaN** a NaN in `x` spreads to all outputs of its sample, a NaN in `dy` to the whole `dx` of its sample.
//! **Error** sums of `m` terms in one chain: relative rms below `1e-7 * sqrt(m)`. **Source** definition.

use super::case::Case;
use super::device::{Batch, Launch, Operand, Passes};
use super::op::{
    Backward, BatchGradient, Forward, Layout, Op, PER_BATCH, PER_GROUP, PER_SAMPLE, Planned, PlannedOp,
    ReferenceBackward, ReferenceForward, Role, ShapeError, Spec, TensorSpec, Tensors, inputs,
};
use crate::base::Shape;
use crate::simd::{Isa, Kernel, Product, RankUpdate, Simd, panels};

/// The op's attributes.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// The number of outputs.
    pub out: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

/// The number of weights from which on several samples are processed in one call: 256 KiB, half of an L2 cache.
const MANY: usize = 1 << 16;

/// The length of a piece of the parameter gradients in a [`Phase::Batch`](super::op::Phase::Batch), before it is rounded up to whole
/// register tiles: 16 KiB, half of an L1 cache.
const PIECE: usize = 4 * 1024;
/// Rows of a register tile of these gradients.
const PIECE_ROWS: usize = 6;

/// [`Product::packed_len`]; `usize::MAX` if it overflows.
fn packed_len(depth: usize, outputs: usize) -> usize {
    depth.saturating_mul(outputs.checked_next_multiple_of(16).unwrap_or(usize::MAX))
}

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn plan(&self, x: &[Shape]) -> Result<Box<dyn PlannedOp>, ShapeError> {
        let [x @ Shape { l, c }] = inputs(self.name(), x)?;
        let Linear { out, bias } = *self;
        if out == 0 {
            return Err(ShapeError::new(self.name(), "out is 0; give the layer at least one output"));
        }
        let fan_in = x.size();
        let layout = Layout::Dense { l, c, out };
        let mut params = vec![TensorSpec { suffix: "weight", layout, role: Role::Dense { fan_in, fan_out: out } }];
        if bias {
            params.push(TensorSpec { suffix: "bias", layout: Layout::Vector { c: out }, role: Role::Bias { fan_in } });
        }
        let many = fan_in.saturating_mul(out) >= MANY;
        let (forward, backward) = if many { (PER_GROUP, PER_BATCH) } else { (PER_SAMPLE, PER_SAMPLE) };
        let spec = Spec {
            params,
            forward,
            backward,
            batch_saved: packed_len(fan_in, out).saturating_add(packed_len(out, fan_in)),
            reads_x: true,
            macs: (fan_in as u64).saturating_mul(out as u64),
            ..Spec::new(Shape::new(1, out))
        };
        Planned::boxed(*self, x, spec)
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        let (size, out) = (b.shapes[0].size(), self.out);
        for s in 0..b.n {
            for j in 0..out {
                let bias = b.params.get(1).get(j).unwrap_or(&0.0);
                let sum: f64 = (0..size).map(|i| b.x[0][s * size + i] * b.params[0][i * out + j]).sum();
                b.y[s * out + j] = bias + sum;
            }
        }
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        let (size, out) = (b.shapes[0].size(), self.out);
        for s in 0..b.n {
            for j in 0..out {
                let dy = b.dy[s * out + j];
                for i in 0..size {
                    b.dx[0][s * size + i] += dy * b.params[0][i * out + j];
                    b.dparams[0][i * out + j] += dy * b.x[0][s * size + i];
                }
                if self.bias {
                    b.dparams[1][j] += dy;
                }
            }
        }
    }
}

impl PlannedOp for Planned<Linear, Shape> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn prepare(&self, isa: Isa, params: Tensors<'_>, _state: Tensors<'_>, batch_saved: &mut [f32]) {
        isa.run(Pack { depth: self.geometry.size(), out: self.op.out, weights: params.get(0), batch_saved });
    }

    fn forward(&self, isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        let (depth, out) = (self.geometry.size(), self.op.out);
        isa.run(RowProduct {
            a: b.x[0],
            depth,
            packed: &b.batch_saved[..packed_len(depth, out)],
            init: b.params.get(1),
            c: b.y,
            outputs: out,
        });
    }

    fn gradient_piece(&self) -> usize {
        (PIECE / self.op.out).max(1).next_multiple_of(PIECE_ROWS) * self.op.out
    }

    fn batch_gradient(&self, isa: Isa, b: &mut BatchGradient<'_>) {
        let (depth, out) = (self.geometry.size(), self.op.out);
        if b.tensor == 1 {
            for dy in b.dy.chunks_exact(out) {
                b.gradient.iter_mut().zip(&dy[b.from..]).for_each(|(db, &dy)| *db += dy);
            }
            return;
        }
        isa.run(RankUpdate {
            a: &b.x[0][b.from / out..],
            a_stride: depth,
            b: b.dy,
            b_stride: out,
            positions: b.dy.len() / out,
            m: b.gradient.len() / out,
            c: b.gradient,
            fresh: false,
            outputs: out,
        });
    }

    fn backward(&self, isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        let (depth, out) = (self.geometry.size(), self.op.out);
        let gradients: [&mut [f32]; 2] = b.dparams.each();
        for (tensor, gradient) in gradients.into_iter().enumerate().filter(|(_, gradient)| !gradient.is_empty()) {
            self.batch_gradient(isa, &mut BatchGradient { x: b.x, y: b.y, dy: b.dy, tensor, from: 0, gradient });
        }
        if !b.dx[0].is_empty() {
            let packed = &b.batch_saved[packed_len(depth, out)..];
            isa.run(RowProduct { a: b.dy, depth: out, packed, init: &[], c: b.dx[0], outputs: depth });
        }
    }

    fn on_device(&self, batch: &Batch) -> Passes {
        let Linear { out, bias } = self.op;
        let sizes = Sizes { n: batch.n, depth: self.geometry.size(), out, bias };
        let passes = if out <= 64 && sizes.depth.saturating_mul(out) <= FEW { sizes.small() } else { sizes.large() };
        Passes { reads_x: true, ..passes }
    }
}

/// Packs the weights for the forward pass and, after them, the transposed weights for the backward pass.
struct Pack<'a> {
    depth: usize,
    out: usize,
    weights: &'a [f32],
    batch_saved: &'a mut [f32],
}

/// Weights of a row that are transposed before the next row: the cache lines that they are written to stay in the L1 cache.
const TURNED: usize = 16;

impl Kernel for Pack<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let Pack { depth, out, weights, batch_saved } = self;
        let (forward, backward) = batch_saved.split_at_mut(packed_len(depth, out));
        for panel in panels(S::LANES, S::TILE_VECTORS, out) {
            let width = panel.vectors * S::LANES;
            let to = &mut forward[depth * panel.offset..][..depth * width];
            for (to, row) in to.chunks_exact_mut(width).zip(weights.chunks_exact(out)) {
                let (own, rest) = to.split_at_mut(panel.outputs);
                own.copy_from_slice(&row[panel.first..][..panel.outputs]);
                rest.fill(0.0);
            }
        }
        for panel in panels(S::LANES, S::TILE_VECTORS, depth) {
            let width = panel.vectors * S::LANES;
            let to = &mut backward[out * panel.offset..][..out * width];
            for (to, first) in to.chunks_mut(TURNED * width).zip((0..out).step_by(TURNED)) {
                for i in 0..width {
                    let to = to[i..].iter_mut().step_by(width);
                    if i < panel.outputs {
                        let row = &weights[(panel.first + i) * out..][first..];
                        to.zip(row).for_each(|(to, weight)| *to = *weight);
                    } else {
                        to.for_each(|to| *to = 0.0);
                    }
                }
            }
        }
    }
}

/// `c = init + a * b`, where the rows of `a` have `depth` numbers and `b` is packed.
struct RowProduct<'a> {
    a: &'a [f32],
    depth: usize,
    packed: &'a [f32],
    init: &'a [f32],
    c: &'a mut [f32],
    outputs: usize,
}

impl Kernel for RowProduct<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let RowProduct { a, depth, packed, init, c, outputs } = self;
        Product {
            rows: a.len() / depth,
            a,
            row_stride: depth,
            taps: 1,
            tap_stride: 0,
            inner: depth,
            packed,
            init,
            c,
            c_stride: outputs,
            outputs,
        }
        .run(s);
    }
}

/// The largest number of weights with which a layer of at most 64 outputs uses the small kernels on a GPU: a block reads them in a few
/// microseconds.
const FEW: usize = 1 << 15;
/// The number of rows, and of columns, of a tile of a product on a GPU.
const TILE: usize = 64;
/// The number of blocks that dividing the depth of a product aims at: two waves of a large chip. Fewer if pieces would be shorter than
/// [`SHORTEST`].
const BLOCKS: usize = 256;
/// The shortest piece of a product's depth.
const SHORTEST: usize = 128;

/// The sizes of a layer, for the launches of `kernels/linear.cu`.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    n: usize,
    depth: usize,
    out: usize,
    bias: bool,
}

/// Divides a product of `m` rows, `j` columns and depth `depth`. Returns the number of tiles, the depth of a piece, the number of pieces.
fn cut(m: usize, j: usize, depth: usize) -> (usize, usize, usize) {
    let tiles = m.div_ceil(TILE) * j.div_ceil(TILE);
    let pieces = (BLOCKS / tiles).clamp(1, (depth / SHORTEST).max(1));
    let piece = depth.div_ceil(pieces).next_multiple_of(16);
    (tiles, piece, depth.div_ceil(piece))
}

impl Sizes {
    fn weights(self) -> usize {
        (self.depth + usize::from(self.bias)) * self.out
    }

    fn ints(self, launch: Launch) -> Launch {
        launch.int(self.depth).int(self.out)
    }

    fn with_bias(self, launch: Launch) -> Launch {
        if self.bias { launch.with(Operand::Params(1)) } else { launch.null() }
    }

    /// One launch per pass.
    fn small(self) -> Passes {
        let Sizes { n, depth, out, bias } = self;
        let (numbers, macs) = (n * (depth + out) + self.weights(), (n * depth * out) as u64);
        let forward = Launch::new("linear_forward_small", n, 256).with(Operand::X(0)).with(Operand::Params(0));
        let forward = self.ints(self.with_bias(forward).with(Operand::Y)).costs(numbers, 2 * macs);
        let blocks = self.weights().div_ceil(256) + (n * depth).div_ceil(256);
        let backward = Launch::new("linear_backward_small", blocks, 256)
            .with(Operand::X(0))
            .with(Operand::Dy)
            .with(Operand::Params(0))
            .with(Operand::Dx(0))
            .with(Operand::DParams(0)) // and the bias after the weights
            .int(n);
        let backward = self.ints(backward).int(usize::from(bias)).costs(2 * numbers, 4 * macs);
        Passes { forward: vec![forward], backward: vec![backward], ..Passes::default() }
    }

    /// Tiled products, divided along their depth where there are few tiles.
    fn large(self) -> Passes {
        let Sizes { n, depth, out, bias } = self;
        let mut scratch = 0;
        let mut product = |kernel: &str, operands: [Operand; 2], (m, j, k): (usize, usize, usize), to: Operand| {
            let (tiles, piece, pieces) = cut(m, j, k);
            let forward = kernel == "linear_forward";
            let to_here = if pieces == 1 { to } else { Operand::Scratch };
            let launch = Launch::new(kernel, tiles, 256).grid(pieces, 1).with(operands[0]).with(operands[1]);
            let launch = match forward {
                true if pieces == 1 => self.with_bias(launch),
                true => launch.null(),
                false => launch,
            };
            let launch = self.ints(launch.with(to_here).int(n));
            let launch = if to == Operand::DParams(0) { launch.int(usize::from(bias)) } else { launch };
            let numbers = m * k + k * j + pieces * m * j;
            let mut launches = vec![launch.int(piece).costs(numbers, 2 * (m * j * k) as u64)];
            if pieces > 1 {
                scratch = scratch.max(pieces * m * j);
                let sum = Launch::over("linear_sum", m * j, 1).with(Operand::Scratch);
                let sum = if forward { self.with_bias(sum) } else { sum.null() };
                let sum = sum.with(to).int(m * j).int(j).int(pieces);
                launches.push(sum.costs((pieces + 1) * m * j, (pieces * m * j) as u64));
            }
            launches
        };
        let forward = product("linear_forward", [Operand::X(0), Operand::Params(0)], (n, out, depth), Operand::Y);
        let rows = depth + usize::from(bias);
        let mut backward =
            product("linear_backward_weight", [Operand::X(0), Operand::Dy], (rows, out, n), Operand::DParams(0));
        let data = product("linear_backward_data", [Operand::Dy, Operand::Params(0)], (n, depth, out), Operand::Dx(0));
        backward.extend(data.into_iter().map(|launch| launch.only_for(Operand::Dx(0))));
        Passes { scratch, forward, backward, ..Passes::default() }
    }
}

/// The test cases.
pub fn cases() -> Vec<Case> {
    [
        (2, 1, 1, 1, true),
        (2, 1, 3, 17, true),
        (2, 5, 3, 8, false),
        (2, 3, 17, 15, true),
        (2, 2, 8, 33, true),
        (19, 3, 101, 217, true),
        (2, 15, 64, 12, true),
    ]
    .into_iter()
    .map(|(n, l, c, out, bias)| {
        let name = format!("n{n}_l{l}_c{c}_o{out}{}", if bias { "" } else { "_nobias" });
        let tolerance = 1e-7 * ((l * c).max(out).max(16) as f64).sqrt();
        Case { n, real: l == 15, tolerance, ..Case::new(name, Linear { out, bias }, &[Shape::new(l, c)]) }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::device::Products;

    #[test]
    fn no_outputs_are_refused_and_absurdly_many_do_not_overflow() {
        let x = [Shape::new(1 << 20, 64)];
        let error = Linear { out: 0, bias: true }.spec(&x).unwrap_err().to_string();
        assert_eq!(error, "linear: out is 0; give the layer at least one output");
        let spec = Linear { out: usize::MAX, bias: true }.spec(&x).unwrap();
        assert_eq!((spec.batch_saved, spec.params_len()), (usize::MAX, usize::MAX));
    }

    #[test]
    fn pieces_of_a_product_cover_its_depth_and_depend_on_nothing_else() {
        for (m, j, depth) in
            [(1, 1, 1), (32, 128, 11_008), (32, 1024, 1024), (11_009, 128, 32), (300, 70, 129), (64, 64, 127)]
        {
            let (tiles, piece, pieces) = cut(m, j, depth);
            assert!(piece % 16 == 0 && pieces * piece >= depth && (pieces - 1) * piece < depth, "{m} {j} {depth}");
            assert!(
                pieces == 1 || (piece >= SHORTEST && tiles * pieces <= BLOCKS),
                "{m} {j} {depth}: {pieces} of {piece}"
            );
        }
        assert_eq!(cut(32, 128, 11_008), (2, 128, 86));
    }

    #[test]
    fn a_sum_of_pieces_follows_where_there_are_some() {
        let kernels = |n, l, c, out| -> Vec<String> {
            let planned = Linear { out, bias: true }.plan(&[Shape::new(l, c)]).unwrap();
            let passes = planned.on_device(&Batch { n, products: Products::Fma });
            passes.forward.iter().chain(&passes.backward).map(|launch| launch.kernel.clone()).collect()
        };
        assert_eq!(kernels(32, 15, 64, 12), ["linear_forward_small", "linear_backward_small"]);
        let large = ["linear_forward", "linear_sum", "linear_backward_weight", "linear_backward_data"];
        assert_eq!(kernels(32, 86, 128, 128), large);
    }
}
