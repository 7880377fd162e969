//! depthwise_conv1d: a convolution along the rows of the input with one filter for each channel.
//!
//! **Computes** `y[l, j] = b[j] + sum over t of x[l * stride + t * dilation - pad, j] * w[t, j]`, with zeros outside the input.
//! **Shapes** `x [n, l_in, c] -> y [n, l_out, c]`, `w [k, c]`, `b [c]`; `l_out` and the padding are those of
//! [`Conv1d`].
//! **Backward** `dx[i, j]` = sum of `dy[l, j] * w[t, j]` over all `l`, `t` with `l * stride + t * dilation - pad = i`;
//! `dw[t, j] += sum over l of x[l * stride + t * dilation - pad, j] * dy[l, j]`; `db[j] += sum over l of dy[l, j]`.
//! **Saved** nothing; backward reads `x`. **Cost** `l_out * k * c` MACs per pass (one forward, two backward), one load for each; 8 bytes per
//! element forward. **NaN** a sum with a NaN term is NaN.
//! **Error** forward and backward-data are chains of `k` additions: relative rms about 1e-7. Backward-weight adds blocks of 64 rows.
//! **Source** the depthwise convolution of Howard et al., "MobileNets", 2017, section 3.1; that of PyTorch's `Conv1d` with
//! `groups` equal to both numbers of channels. Kernels: `simd/depthwise.rs`.

use super::Conv1d;
use super::case::Case;
use super::conv1d::device::reduction;
use super::conv1d::windows::{forward_windows, residues};
use super::conv1d::{Geometry, Padding};
use super::device::{Batch, Launch, Operand, Passes};
use super::op::{
    Backward, Forward, Layout, Op, Planned, PlannedOp, ReferenceBackward, ReferenceForward, Role, ShapeError, Spec,
    TensorSpec, Tensors, inputs,
};
use crate::base::Shape;
use crate::simd::{DepthwiseProduct, DepthwiseUpdate, Isa};

/// The op's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DepthwiseConv1d {
    /// Kernel size: taps.
    pub k: usize,
    /// Input rows between neighbouring outputs.
    pub stride: usize,
    /// Input rows between neighbouring taps.
    pub dilation: usize,
    /// Rows of zeros around the input.
    pub padding: Padding,
    /// Whether a bias is added.
    pub bias: bool,
}

impl DepthwiseConv1d {
    /// A convolution over `k` taps: stride 1, dilation 1, `same` padding, with bias.
    pub const fn new(k: usize) -> DepthwiseConv1d {
        DepthwiseConv1d { k, stride: 1, dilation: 1, padding: Padding::Same, bias: true }
    }

    /// That of a convolution with as many outputs as inputs.
    fn geometry(&self, x: Shape) -> Result<Geometry, ShapeError> {
        let DepthwiseConv1d { k, stride, dilation, padding, bias } = *self;
        let conv = Conv1d { c_out: x.c, k, stride, dilation, padding, bias };
        conv.geometry(x).map_err(|error| ShapeError { op: self.name(), ..error })
    }

    fn planned(&self, x: Shape) -> Geometry {
        self.geometry(x).expect("the graph has checked the shapes")
    }
}

/// Rows of a piece in inference, at least: a piece should take longer than a thread needs to begin it.
const PIECE_ROWS: usize = 64;

impl Op for DepthwiseConv1d {
    fn name(&self) -> &'static str {
        "depthwise_conv1d"
    }

    fn plan(&self, x: &[Shape]) -> Result<Box<dyn PlannedOp>, ShapeError> {
        let [x] = inputs(self.name(), x)?;
        let g @ Geometry { k, l_out, .. } = self.geometry(x)?;
        let weight = TensorSpec {
            suffix: "weight",
            layout: Layout::Kernel { k, c_in: 1, c_out: x.c },
            role: Role::Kernel { fan_in: k, fan_out: k },
        };
        let bias = TensorSpec { suffix: "bias", layout: Layout::Vector { c: x.c }, role: Role::Bias { fan_in: k } };
        let spec = Spec {
            params: if self.bias { vec![weight, bias] } else { vec![weight] },
            batch_saved: k.saturating_mul(x.c),
            reads_x: true,
            macs: (l_out as u64 * k as u64).saturating_mul(x.c as u64),
            ..Spec::new(Shape::new(l_out, x.c))
        };
        Planned::boxed(*self, g, spec)
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        let g = self.planned(b.shapes[0]);
        let (c, [w, bias]) = (g.c_in, b.params.each());
        for sample in 0..b.n {
            for l in 0..g.l_out {
                for j in 0..c {
                    let products = taps(&g, l).map(|(t, i)| b.x[0][(sample * g.l_in + i) * c + j] * w[t * c + j]);
                    b.y[(sample * g.l_out + l) * c + j] = bias.get(j).unwrap_or(&0.0) + products.sum::<f64>();
                }
            }
        }
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        let g = self.planned(b.shapes[0]);
        let (c, w, [dw, db]) = (g.c_in, &b.params[0], b.dparams.each());
        for sample in 0..b.n {
            for l in 0..g.l_out {
                for j in 0..c {
                    let dy = b.dy[(sample * g.l_out + l) * c + j];
                    for (t, i) in taps(&g, l) {
                        let at = (sample * g.l_in + i) * c + j;
                        dw[t * c + j] += b.x[0][at] * dy;
                        b.dx[0][at] += w[t * c + j] * dy;
                    }
                    if let Some(db) = db.get_mut(j) {
                        *db += dy;
                    }
                }
            }
        }
    }
}

impl PlannedOp for Planned<DepthwiseConv1d, Geometry> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Packs the weights of backward-data, residue by residue in the order of its windows' taps.
    fn prepare(&self, _isa: Isa, params: Tensors<'_>, _state: Tensors<'_>, batch_saved: &mut [f32]) {
        let g = self.geometry;
        let mut rows = batch_saved.chunks_exact_mut(g.c_in);
        for residue in residues(&g) {
            let taps = (0..residue.windows.taps).map(|q| residue.last_tap - q * residue.tap_step);
            taps.zip(&mut rows).for_each(|(t, row)| row.copy_from_slice(&params[0][t * g.c_in..][..g.c_in]));
        }
    }

    fn piece(&self) -> Option<usize> {
        let g = self.geometry;
        (g.l_out > PIECE_ROWS).then_some(PIECE_ROWS * g.c_in)
    }

    fn forward(&self, isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        let g = self.geometry;
        let (c, [w, init]) = (g.c_in, b.params.each());
        let windows = forward_windows(&g).starting_at(b.from / c);
        let count = b.y.len() / c;
        isa.run(DepthwiseProduct { windows, c, x: b.x[0], w, init, y: b.y, y_step: 1, count });
    }

    fn backward(&self, isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        let g = self.geometry;
        let c = g.c_in;
        if !b.dparams.is_empty() {
            let [dw, db] = b.dparams.each();
            let windows = forward_windows(&g);
            isa.run(DepthwiseUpdate { windows, c, x: b.x[0], dy: b.dy, count: g.l_out, dw, db });
        }
        let [dx, _] = &mut b.dx;
        if dx.is_empty() {
            return;
        }
        let mut packed = b.batch_saved;
        for residue in residues(&g) {
            let y = &mut dx[residue.first * c..];
            let (w, rest) = packed.split_at(residue.windows.taps * c);
            packed = rest;
            if residue.windows.taps == 0 {
                y.chunks_mut(g.stride * c).for_each(|rows| rows[..c].fill(0.0));
                continue;
            }
            let Geometry { stride: y_step, .. } = g;
            let (windows, count) = (residue.windows, residue.count);
            isa.run(DepthwiseProduct { windows, c, x: b.dy, w, init: &[], y, y_step, count });
        }
    }

    fn on_device(&self, batch: &Batch) -> Passes {
        let g = self.geometry;
        let (n, c) = (batch.n, g.c_in);
        let (read, made, weights) = (n * g.l_in * c, n * g.l_out * c, g.k * c);
        let flops = 2 * (made * g.k) as u64;
        let sizes = |launch: Launch| {
            let sizes = [n, g.l_in, c, g.l_out, g.k, g.stride, g.dilation, g.pad];
            sizes.into_iter().fold(launch, Launch::int)
        };
        let threads = |rows: usize| rows * if c.is_multiple_of(4) { c / 4 } else { c };
        let forward = Launch::over("depthwise_forward", threads(n * g.l_out.div_ceil(DEVICE_ROWS)), 1)
            .with(Operand::X(0))
            .with(Operand::Params(0));
        let forward = if self.op.bias { forward.with(Operand::Params(1)) } else { forward.null() };
        let data = Launch::over("depthwise_backward_data", threads(n * g.l_in), 1)
            .with(Operand::Dy)
            .with(Operand::Params(0))
            .with(Operand::Dx(0));
        let numbers = weights + if self.op.bias { c } else { 0 };
        let sums = WeightSums::of(n * g.l_out, c, g.k);
        let weight = Launch::new("depthwise_backward_weight", sums.pieces * sums.tiles, 256)
            .with(Operand::X(0))
            .with(Operand::Dy);
        let mut passes = Passes {
            reads_x: true,
            forward: vec![sizes(forward.with(Operand::Y)).costs(read + made + numbers, flops)],
            ..Passes::default()
        };
        let weight = |(operand, offset)| {
            let launch = sizes(weight.clone().at(operand, offset)).int(sums.rows).int(usize::from(self.op.bias));
            launch.costs(read + made + sums.pieces * numbers, flops)
        };
        reduction(weight, [sums.pieces, numbers, 0], &mut passes);
        passes.backward.push(sizes(data).costs(read + made + weights, flops).only_for(Operand::Dx(0)));
        passes
    }
}

/// The taps of output row `l` that read the input, each with the row that it reads.
fn taps(g: &Geometry, l: usize) -> impl Iterator<Item = (usize, usize)> {
    let Geometry { l_in, k, stride, dilation, pad, .. } = *g;
    (0..k).filter_map(move |t| Some((t, (l * stride + t * dilation).checked_sub(pad).filter(|&row| row < l_in)?)))
}

/// Output rows of a thread of `depthwise_forward`.
const DEVICE_ROWS: usize = 4;
/// Taps of a block of `depthwise_backward_weight`.
const DEVICE_TAPS: usize = 8;

/// How `depthwise_backward_weight` is cut: depends on the shape only, so that the order of the sums does, too.
struct WeightSums {
    /// Pieces of the rows.
    pieces: usize,
    /// Rows of a piece.
    rows: usize,
    /// Blocks of a piece: each has at most 32 channels and [`DEVICE_TAPS`] taps.
    tiles: usize,
}

impl WeightSums {
    /// As few pieces as give some hundred blocks; a piece has 256 to 4,096 rows.
    fn of(rows: usize, c: usize, k: usize) -> WeightSums {
        let tiles = c.div_ceil(32) * k.div_ceil(DEVICE_TAPS);
        let count = rows.div_ceil(4096).max(528_usize.div_ceil(tiles).min(rows.div_ceil(256)));
        let piece = rows.div_ceil(count);
        WeightSums { pieces: rows.div_ceil(piece), rows: piece, tiles }
    }
}

/// Its cases.
pub fn cases() -> Vec<Case> {
    let case = |l: usize, c: usize, op: DepthwiseConv1d| {
        let DepthwiseConv1d { k, stride, dilation, padding, bias } = op;
        let padding = match padding {
            Padding::Same => String::new(),
            Padding::Valid => "_valid".into(),
            Padding::Explicit(front, back) => format!("_p{front}_{back}"),
        };
        let bias = if bias { "" } else { "_nobias" };
        let name = format!("n2_l{l}_c{c}_k{k}_s{stride}_d{dilation}{padding}{bias}");
        // On a GPU a sum of the weights' gradient is one chain of up to an eighth of a piece.
        let sum = k.max(2 * l.min(512)) as f64;
        Case { tolerance: 2e-7 * sum.sqrt().max(4.0), ..Case::new(name, op, &[Shape::new(l, c)]) }
    };
    let same = DepthwiseConv1d::new;
    let valid = |k| DepthwiseConv1d { padding: Padding::Valid, ..same(k) };
    let mut cases = Vec::new();
    // Lengths around the tiles and blocks; shorter than the kernel.
    for l in [1, 2, 5, 8, 12, 13, 23, 90] {
        cases.push(case(l, 3, same(5)));
    }
    // Channels around the vectors.
    for c in [1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 65] {
        cases.push(case(37, c, same(3)));
    }
    // Every number of taps of a tile, and more than one tile has.
    for k in [1, 2, 4, 6, 7, 8, 9, 10, 15, 25] {
        cases.push(case(29, 5, same(k)));
    }
    cases.extend([
        case(3, 4, same(9)),
        case(1, 2, same(7)),
        case(5, 4, valid(5)),
        case(40, 17, valid(9)),
        case(31, 5, DepthwiseConv1d { bias: false, ..same(5) }),
        case(31, 5, DepthwiseConv1d { padding: Padding::Explicit(7, 0), ..same(3) }),
        case(9, 2, DepthwiseConv1d { padding: Padding::Explicit(40, 60), ..same(3) }),
        case(3, 2, DepthwiseConv1d { padding: Padding::Explicit(0, 30), ..same(25) }),
        case(61, 3, DepthwiseConv1d { stride: 2, ..same(5) }),
        case(61, 17, DepthwiseConv1d { stride: 3, ..valid(5) }),
        case(61, 3, DepthwiseConv1d { stride: 7, ..valid(3) }),
        case(5, 3, DepthwiseConv1d { stride: 9, ..valid(3) }),
        case(61, 3, DepthwiseConv1d { dilation: 2, ..same(5) }),
        case(200, 20, DepthwiseConv1d { dilation: 3, ..same(5) }),
        case(61, 4, DepthwiseConv1d { stride: 3, dilation: 2, padding: Padding::Explicit(4, 4), ..same(5) }),
        case(61, 4, DepthwiseConv1d { stride: 4, dilation: 2, ..valid(4) }),
        case(61, 4, DepthwiseConv1d { stride: 2, dilation: 6, ..same(3) }),
        // Several blocks of rows, and on a GPU several pieces.
        case(700, 2, same(9)),
        Case { real: true, ..case(1000, 64, same(9)) },
        Case { real: true, ..case(592, 64, same(5)) },
        Case { real: true, ..case(5333, 32, DepthwiseConv1d { stride: 3, ..same(9) }) },
    ]);
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::SingleOp;
    use crate::ops::case::{Fill, Input};
    use crate::ops::op::{TensorRanges, TensorsMut};

    #[test]
    fn it_is_a_convolution_whose_other_weights_are_zero() {
        let (c, k, shape) = (3, 4, Shape::new(11, 3));
        let key = crate::base::rng::Key::new(1, crate::base::rng::Stream::Case);
        let x: Vec<f64> = (0..shape.size() as u64).map(|i| key.normal(i)).collect();
        let own: Vec<f64> = (0..(k * c + c) as u64).map(|i| key.with(1).normal(i)).collect();
        let mut full = vec![0.0; k * c * c];
        for (i, &w) in own[..k * c].iter().enumerate() {
            full[i / c * c * c + i % c * (c + 1)] = w;
        }
        full.extend(&own[k * c..]);
        for (stride, dilation, padding) in [(1, 1, Padding::Same), (2, 3, Padding::Explicit(5, 2))] {
            let depthwise = DepthwiseConv1d { k, stride, dilation, padding, bias: true };
            let conv = Conv1d { c_out: c, k, stride, dilation, padding, bias: true };
            let run = |op: &dyn Op, params: &[f64]| {
                let spec = op.spec(&[shape]).unwrap();
                let mut y = vec![0.0; spec.y.size()];
                op.reference_forward(&mut ReferenceForward {
                    n: 1,
                    shapes: &[shape],
                    x: &[&x],
                    params: TensorRanges::new(0, &spec.params).of(params),
                    state: TensorsMut::none(),
                    draw: key,
                    y: &mut y,
                });
                y
            };
            let (got, expected) = (run(&depthwise, &own), run(&conv, &full));
            assert!(got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-13), "{got:?} {expected:?}");
        }
    }

    #[test]
    fn weights_are_stored_as_pytorch_stores_them() {
        let spec = DepthwiseConv1d::new(9).spec(&[Shape::new(100, 64)]).unwrap();
        assert_eq!(spec.params[0].layout, Layout::Kernel { k: 9, c_in: 1, c_out: 64 });
        assert_eq!(spec.params[0].role, Role::Kernel { fan_in: 9, fan_out: 9 });
        assert_eq!((spec.params_len(), spec.macs), (9 * 64 + 64, 100 * 9 * 64));
    }

    #[test]
    fn impossible_attributes_are_refused_under_its_name() {
        let x = [Shape::new(5, 2)];
        for op in [
            DepthwiseConv1d { padding: Padding::Valid, ..DepthwiseConv1d::new(6) },
            DepthwiseConv1d::new(0),
            DepthwiseConv1d { stride: 0, ..DepthwiseConv1d::new(3) },
            DepthwiseConv1d { dilation: usize::MAX, ..DepthwiseConv1d::new(3) },
            DepthwiseConv1d { padding: Padding::Explicit(usize::MAX, 1), ..DepthwiseConv1d::new(3) },
        ] {
            assert!(op.spec(&x).unwrap_err().to_string().starts_with("depthwise_conv1d: "), "{op:?}");
        }
    }

    #[test]
    fn sums_of_many_rows_stay_exact() {
        let input = Input { shape: Shape::new(16_000, 3), fill: Fill::Normal };
        let errors = SingleOp::new(&DepthwiseConv1d::new(5), &[input], 2, Isa::best(), 1).unwrap().errors();
        assert!(errors.backward_weight.unwrap() < 2e-6 && errors.forward < 3e-7, "{errors:?}");
    }
}
