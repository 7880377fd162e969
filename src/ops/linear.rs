//! Floor 2. linear: a dense layer on the flattened input.
//!
//! **Computes** `y[j] = b[j] + sum_i x[i] * w[i, j]`, `i` over `l * c` numbers, rows of channels.
//! **Shapes** `x [n, l, c] -> y [n, 1, out]`; `w [l * c, out]` here, `[out, c * l]` in a file, `b [out]`.
//! **Backward** `dx[i] = sum_j dy[j] * w[i, j]`, `dw[i, j] += x[i] * dy[j]`, `db[j] += dy[j]`.
//! **Saved** nothing; backward reads the input. **Cost** `l * c * out` multiply-adds forward, twice that backward; the
//! weights once a sample and pass, or if they are many once a part of the batch; packed once a step.
//! **NaN** spreads to every output, forward and backward. **Error** sums of `m` terms in one chain: relative rms below
//! `1e-7 * sqrt(m)`. **Source** definition.

use super::case::Case;
use super::op::{
    Backward, EACH, Forward, Layout, Op, ReferenceBackward, ReferenceForward, Role, ShapeError, Spec, TOGETHER,
    TensorSpec, inputs,
};
use crate::base::Shape;
use crate::simd::{Isa, Kernel, Product, RankUpdate, Simd};

/// The op.
#[derive(Clone, Copy, Debug)]
pub struct Linear {
    /// Outputs.
    pub out: usize,
    /// Adds a bias.
    pub bias: bool,
}

/// Weights from which on the samples of a part go together: half an L2 cache of them.
const MANY: usize = 1 << 16;

/// [`Product::packed_len`], the largest `usize` where it is beyond it.
fn packed_len(depth: usize, outputs: usize) -> usize {
    depth.saturating_mul(outputs.checked_next_multiple_of(16).unwrap_or(usize::MAX))
}

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn spec(&self, x: &[Shape]) -> Result<Spec, ShapeError> {
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
        let phases = if fan_in.saturating_mul(out) >= MANY { TOGETHER } else { EACH };
        Ok(Spec {
            params,
            forward: phases,
            backward: phases,
            shared: packed_len(fan_in, out).saturating_add(packed_len(out, fan_in)),
            reads_x: true,
            macs: (fan_in as u64).saturating_mul(out as u64),
            ..Spec::new(Shape::new(1, out))
        })
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        let (size, out) = (b.shapes[0].size(), self.out);
        for s in 0..b.n {
            for j in 0..out {
                let bias = if self.bias { b.params[size * out + j] } else { 0.0 };
                let sum: f64 = (0..size).map(|i| b.x[0][s * size + i] * b.params[i * out + j]).sum();
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
                    b.dx[0][s * size + i] += dy * b.params[i * out + j];
                    b.dparams[i * out + j] += dy * b.x[0][s * size + i];
                }
                if self.bias {
                    b.dparams[size * out + j] += dy;
                }
            }
        }
    }

    fn prepare(&self, isa: Isa, x: &[Shape], params: &[f32], _state: &[f32], shared: &mut [f32]) {
        isa.run(Pack { depth: x[0].size(), out: self.out, params, shared });
    }

    fn forward(&self, isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        let depth = b.shapes[0].size();
        isa.run(RowProduct {
            a: b.x[0],
            depth,
            packed: &b.shared[..packed_len(depth, self.out)],
            init: &b.params[depth * self.out..],
            c: b.y,
            outputs: self.out,
        });
    }

    fn backward(&self, isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        let (depth, out) = (b.shapes[0].size(), self.out);
        if !b.dparams.is_empty() {
            let (dw, db) = b.dparams.split_at_mut(depth * out);
            let (x, dy) = (b.x[0], b.dy);
            isa.run(RankUpdate {
                a: x,
                a_stride: depth,
                b: dy,
                b_stride: out,
                positions: dy.len() / out,
                c: dw,
                fresh: false,
                m: depth,
                outputs: out,
            });
            for dy in dy.chunks_exact(out) {
                db.iter_mut().zip(dy).for_each(|(db, &dy)| *db += dy);
            }
        }
        if !b.dx[0].is_empty() {
            let packed = &b.shared[packed_len(depth, out)..];
            isa.run(RowProduct { a: b.dy, depth: out, packed, init: &[], c: b.dx[0], outputs: depth });
        }
    }
}

/// Packs the weights for forward, and after them transposed for backward.
struct Pack<'a> {
    depth: usize,
    out: usize,
    params: &'a [f32],
    shared: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        let Pack { depth, out, params, shared } = self;
        let (forward, backward) = shared.split_at_mut(packed_len(depth, out));
        Product::pack::<S>(forward, depth, out, |i, j| params[i * out + j]);
        Product::pack::<S>(backward, out, depth, |j, i| params[i * out + j]);
    }
}

/// `c = init + a * b` for rows `a` of `depth` numbers and packed `b`.
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

/// Its cases.
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

    #[test]
    fn no_outputs_are_refused_and_absurdly_many_do_not_overflow() {
        let x = [Shape::new(1 << 20, 64)];
        let error = Linear { out: 0, bias: true }.spec(&x).unwrap_err().to_string();
        assert_eq!(error, "linear: out is 0; give the layer at least one output");
        let spec = Linear { out: usize::MAX, bias: true }.spec(&x).unwrap();
        assert_eq!((spec.shared, spec.params_len()), (usize::MAX, usize::MAX));
    }
}
