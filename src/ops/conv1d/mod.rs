//! conv1d: a convolution along the rows of the input.
//!
//! **Computes** `y[l, o] = b[o] + sum over t, i of x[l * stride + t * dilation - pad, i] * w[t, i, o]`, with zeros outside the
//! input (a cross-correlation, as in all frameworks).
//! **Shapes** `x [n, l_in, c_in] -> y [n, l_out, c_out]`, `w [k, c_in, c_out]`, `b [c_out]`;
//! `l_out = (l_in + pads - dilation * (k - 1) - 1) / stride + 1`, rounded down; with `same` padding `l_out = l_in / stride`,
//! rounded up; of an odd number of padding rows, the additional one is at the end.
//! **Backward** `dx[j, i]` = sum of `dy[l, o] * w[t, i, o]` over all `l`, `t` with `l * stride + t * dilation - pad = j`;
//! `dw[t, i, o] += sum over l of x[l * stride + t * dilation - pad, i] * dy[l, o]`; `db[o] += sum over l of dy[l, o]`.
//! **Saved** nothing; backward reads `x`. **Cost** `l_out * k * c_in * c_out` MACs per product (one forward, two
//! backward); each reads its operands once per panel of outputs. **NaN** a sum with a NaN term is NaN.
//! **Error** each element is one chain of f32 additions: relative rms about 1e-7 times the root of `k * c_in` (forward) or of
//! `l_out` (backward-weight).
//! **Source** the operation is that of PyTorch's `Conv1d`; the tiling is that of Goto and van de Geijn, "Anatomy of
//! high-performance matrix multiplication", 2008, over rows that overlap.

mod cases;
mod cpu;
pub(crate) mod device;
mod reference;
pub(super) mod windows;

use super::device::{Batch, Passes};
use super::op::{
    Algorithms, Backward, Forward, Layout, Op, Planned, PlannedOp, ReferenceBackward, ReferenceForward, Role,
    ShapeError, Spec, TensorSpec, Tensors, inputs,
};
use crate::base::Shape;
use crate::simd::{Isa, Product};
pub use cases::cases;

/// Rows of zeros around the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding {
    /// So many that the output has the length of the input divided by the stride, rounded up; if their number is odd, one more at the end.
    Same,
    /// None.
    Valid,
    /// The numbers of rows before and after the input.
    Explicit(usize, usize),
}

impl Padding {
    /// The rows of zeros before and after an input of `length` rows, for a kernel that spans `span` rows and moves by `stride` rows.
    pub fn rows(self, length: usize, span: usize, stride: usize) -> (usize, usize) {
        match self {
            Padding::Valid => (0, 0),
            Padding::Explicit(before, after) => (before, after),
            Padding::Same => {
                let last = length.div_ceil(stride).max(1) - 1;
                let total = last.saturating_mul(stride).saturating_add(span).saturating_sub(length);
                (total / 2, total - total / 2)
            }
        }
    }
}

/// The op's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv1d {
    /// Output channels.
    pub c_out: usize,
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

/// The largest kernel size, stride, dilation, padding, length and number of channels: larger than any use, and no product overflows.
const LARGEST: usize = 1 << 24;

impl Conv1d {
    /// A convolution to `c_out` channels over `k` taps: stride 1, dilation 1, `same` padding, with bias.
    pub const fn new(c_out: usize, k: usize) -> Conv1d {
        Conv1d { c_out, k, stride: 1, dilation: 1, padding: Padding::Same, bias: true }
    }

    pub(super) fn geometry(&self, x: Shape) -> Result<Geometry, ShapeError> {
        let fail = |message: String| Err(ShapeError::new("conv1d", message));
        let Conv1d { c_out, k, stride, dilation, padding, .. } = *self;
        if k == 0 || stride == 0 || dilation == 0 || c_out == 0 {
            return fail(format!(
                "kernel {k}, stride {stride}, dilation {dilation} and {c_out} output channels must all be at least 1"
            ));
        }
        let pads = match padding {
            Padding::Explicit(front, back) => front.max(back),
            _ => 0,
        };
        if k.max(stride).max(dilation).max(pads).max(x.l).max(x.c).max(c_out) > LARGEST {
            return fail(format!("kernel, stride, dilation, padding, length and channels may be at most {LARGEST}"));
        }
        let span = dilation * (k - 1) + 1;
        let (front, back) = padding.rows(x.l, span, stride);
        if x.l == 0 || x.l + front + back < span {
            return fail(format!(
                "a kernel of {k} taps spans {span} rows, but the input has {} (with {} of padding); take a smaller kernel or more padding",
                x.l + front + back,
                front + back
            ));
        }
        let l_out = (x.l + front + back - span) / stride + 1;
        Ok(Geometry { l_in: x.l, c_in: x.c, l_out, c_out, k, stride, dilation, pad: front })
    }
}

/// The sizes of the op on a given input; `pad` is the number of rows of zeros before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    pub l_in: usize,
    pub c_in: usize,
    pub l_out: usize,
    pub c_out: usize,
    pub k: usize,
    pub stride: usize,
    pub dilation: usize,
    pub pad: usize,
}

impl Geometry {
    /// Numbers of packed weights for the forward pass; those for backward-data follow.
    fn packed_forward(&self) -> usize {
        Product::packed_len(self.k * self.c_in, self.c_out)
    }
}

impl Op for Conv1d {
    fn name(&self) -> &'static str {
        "conv1d"
    }

    fn plan(&self, x: &[Shape]) -> Result<Box<dyn PlannedOp>, ShapeError> {
        let [x] = inputs(self.name(), x)?;
        let g = self.geometry(x)?;
        let (k, c_in, c_out) = (g.k, g.c_in, g.c_out);
        let weight = TensorSpec {
            suffix: "weight",
            layout: Layout::Kernel { k, c_in, c_out },
            role: Role::Kernel { fan_in: k * c_in, fan_out: k * c_out },
        };
        let bias =
            TensorSpec { suffix: "bias", layout: Layout::Vector { c: c_out }, role: Role::Bias { fan_in: k * c_in } };
        // Saturating: the graph refuses tensors that are too large, and checks the parameters first.
        let packed = |depth: usize, outputs: usize| (k * depth).saturating_mul(outputs.next_multiple_of(16));
        let spec = Spec {
            params: if self.bias { vec![weight, bias] } else { vec![weight] },
            batch_saved: packed(c_in, c_out).saturating_add(packed(c_out, c_in)),
            scratch: cpu::scratch(&g),
            reads_x: true,
            macs: (g.l_out as u64 * k as u64).saturating_mul(c_in as u64 * c_out as u64),
            ..Spec::new(Shape::new(g.l_out, c_out))
        };
        Planned::boxed(*self, g, spec)
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        reference::forward(&self.planned(b.shapes[0]), b);
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        reference::backward(&self.planned(b.shapes[0]), b);
    }
}

impl PlannedOp for Planned<Conv1d, Geometry> {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn algorithms(&self) -> Algorithms {
        Algorithms { forward: "direct", backward_data: "direct", backward_weight: "direct" }
    }

    fn prepare(&self, isa: Isa, params: Tensors<'_>, _state: Tensors<'_>, batch_saved: &mut [f32]) {
        let g = self.geometry;
        isa.run(cpu::Pack { g, w: params.get(0), packed: batch_saved });
    }

    fn forward(&self, isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        let g = self.geometry;
        let bias = b.params.get(1);
        cpu::Conv1dForward { g, x: b.x[0], packed: b.batch_saved, bias, y: b.y, scratch: b.scratch }.run(isa);
    }

    fn backward(&self, isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        let g = self.geometry;
        if !b.dparams.is_empty() {
            let [dw, db] = b.dparams.each();
            cpu::Conv1dBackwardWeight { g, x: b.x[0], dy: b.dy, dw, db, scratch: b.scratch }.run(isa);
        }
        let [dx, _] = &mut b.dx;
        if !dx.is_empty() {
            cpu::Conv1dBackwardData { g, dy: b.dy, packed: b.batch_saved, dx, scratch: b.scratch }.run(isa);
        }
    }

    fn on_device(&self, batch: &Batch) -> Passes {
        self.op.device_passes(&self.geometry, batch)
    }
}

impl Conv1d {
    /// The rows of zeros before an input of shape `x`, and the rows of the output.
    pub(super) fn rows(&self, x: Shape) -> Result<(usize, usize), ShapeError> {
        self.geometry(x).map(|g| (g.pad, g.l_out))
    }

    fn planned(&self, x: Shape) -> Geometry {
        self.geometry(x).expect("the graph has checked the shapes")
    }
}
