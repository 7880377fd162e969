//! The block on a GPU: the convolution's kernels with the ReLU and pool in their output, and the norm's between them.
//!
//! Without norm forward is one launch and the convolution's rows never exist; backward reads the pooled gradient and the argmax.
//! A norm keeps the rows `z` and what the pool will choose of them, by the sign of its scale; their gradient is an affine map of
//! the chosen rows' gradients and of `z`, made while it is read. With running statistics the norm is the output's affine map. With one
//! input channel the norm needs no rows either: `mono_norm_device.rs`.

use super::geometry::Geometry;
use super::planned::{BIAS, BlockPlan, SCALE, SHIFT};
use crate::base::aligned::round_up;
use crate::ops::BatchNorm;
use crate::ops::batch_norm::device::{
    At, GradientMerge, GradientSums, Merge, RunningAffine, gradient_merge, gradient_sums, merge, piece_rows, pieces,
    pool_apply, running_affine, statistics,
};
use crate::ops::conv1d::device::{Convolution, Mode, Output, Rows};
use crate::ops::device::{Batch, Launch, Operand, Passes};
use Operand::{BatchSaved, DParams, Dx, Dy, Params, Saved, Scratch, State, X, Y};

/// The block with the numbers that its passes share.
pub(super) struct Block {
    pub g: Geometry,
    pub conv: Convolution,
}

impl Block {
    /// The block for batches of this size.
    pub fn new(planned: &BlockPlan, batch: &Batch) -> Block {
        let g = planned.g;
        let conv = Convolution {
            n: batch.n,
            l_in: g.l,
            c_in: g.c_in,
            l_out: g.l_out,
            c_out: g.c_out,
            k: g.k,
            stride: g.stride,
            dilation: 1,
            pad: g.pad as isize,
            products: batch.products,
        };
        Block { g, conv }
    }

    /// With batch norm in training.
    pub fn with_norm(&self, norm: BatchNorm) -> Passes {
        if self.is_mono() { self.mono_normed(norm) } else { self.normed(norm) }
    }

    pub fn bias(&self) -> Option<At> {
        Some((Params(BIAS), 0))
    }

    pub fn input(&self) -> Rows {
        Rows::plain((X(0), 0), self.g.l, self.g.c_in)
    }

    /// Packed weights for backward-data follow those for forward.
    fn backward_weights(&self) -> At {
        (BatchSaved, self.conv.packed())
    }

    fn pack(&self) -> Vec<Launch> {
        let backward = self.conv.backward_data().pack(self.backward_weights(), true);
        vec![self.conv.pack((BatchSaved, 0), false), backward.only_for(Dx(0))]
    }

    fn packed(&self) -> usize {
        self.conv.packed() + self.conv.backward_data().packed()
    }

    /// The length of a sample's argmax, in numbers.
    pub fn argmax_len(&self) -> usize {
        (self.g.cells() * self.g.c_out).div_ceil(size_of::<f32>())
    }

    /// Bias, or an affine map in its place, pool and ReLU.
    fn active(&self, affine: Option<At>, argmax: Option<At>) -> Launch {
        let (bias, window, cells) = (self.bias(), self.g.window, self.g.cells());
        let output = Output { mode: Mode::Active, affine, argmax, window, cells, ..Output::plain((Y, 0), bias) };
        self.conv.forward(&self.input(), 1, (BatchSaved, 0), &output)
    }

    /// The convolution's rows' gradient, from that of the output.
    pub fn gradient_rows(&self) -> Rows {
        let (window, cells) = (self.g.window, self.g.cells());
        Rows { window, cells, ..Rows::plain((Dy, 0), self.g.l_out, self.g.c_out) }
    }

    /// Without norm.
    pub fn plain(&self, learns: bool) -> Passes {
        if !learns {
            let (batch_saved, prepare) = (self.conv.packed(), vec![self.conv.pack((BatchSaved, 0), false)]);
            return Passes { batch_saved, prepare, forward: vec![self.active(None, None)], ..Passes::default() };
        }
        let pooled = self.g.window > 1;
        let argmax = pooled.then_some((Saved, 0));
        let rows = Rows { argmax, y: (!pooled).then_some((Y, 0)), ..self.gradient_rows() };
        let mut passes = Passes {
            saved: if pooled { self.argmax_len() } else { 0 },
            batch_saved: self.packed(),
            reads_x: true,
            reads_y: !pooled,
            prepare: self.pack(),
            forward: vec![self.active(None, argmax)],
            ..Passes::default()
        };
        self.conv.gradients(&rows, self.backward_weights(), (true, 0), &mut passes);
        passes
    }

    /// In inference: the norm's affine map follows the packed weights in memory.
    pub fn running(&self, eps: f64) -> Passes {
        let c = self.g.c_out;
        let affine = (BatchSaved, self.conv.packed());
        let map = running_affine(&RunningAffine {
            scale: (Params(SCALE), 0),
            shift: (Params(SHIFT), 0),
            mean: (State(0), 0),
            variance: (State(1), 0),
            bias: self.bias(),
            affine,
            c,
            eps,
        });
        Passes {
            batch_saved: self.conv.packed() + round_up(2 * c),
            prepare: vec![self.conv.pack((BatchSaved, 0), false), map],
            forward: vec![self.active(Some(affine), None)],
            ..Passes::default()
        }
    }

    /// With batch norm. `Saved` holds the rows, with a pool the largest row of each window, and the argmax; `BatchSaved` holds after the weights the
    /// norm's moments, affine map and coefficients.
    fn normed(&self, norm: BatchNorm) -> Passes {
        let Geometry { l_out, c_out: c, window, .. } = self.g;
        let (n, cells) = (self.conv.n, self.g.cells());
        let (z, rows, kept) = ((Saved, 0), n * l_out * c, if window > 1 { cells * c } else { 0 });
        let pooled = (window > 1).then_some((Saved, rows));
        let argmax = (Saved, rows + n * kept);
        let numbers = |i: usize| (BatchSaved, self.packed() + i * round_up(3 * c));
        let (moments, affine, coefficients) = (numbers(0), numbers(1), numbers(2));
        let (scale, shift) = ((Params(SCALE), 0), (Params(SHIFT), 0));
        let chosen = pooled.unwrap_or(z);

        let mut forward = self.observe(z, pooled, argmax);
        let (samples, l, piece) =
            if forward.len() == 1 { (n, l_out, self.conv.tile_rows()) } else { (1, n * l_out, piece_rows(c)) };
        forward.push(merge(&Merge {
            partials: (Scratch, 0),
            scale,
            shift,
            moments,
            affine: Some(affine),
            running_mean: Some((State(0), 0)),
            running_variance: Some((State(1), 0)),
            n: samples,
            l,
            piece_rows: piece,
            c,
            eps: norm.eps,
            momentum: norm.momentum,
        }));
        forward.push(pool_apply(chosen, Some(argmax), affine, (Y, 0), n * cells, c));

        let backward = self.norm_gradients(argmax, chosen, moments, coefficients);
        let tiles = 2 * c * (n * l_out.div_ceil(self.conv.tile_rows())).max(pieces(n * l_out, c));
        let mut passes = Passes {
            saved: l_out * c + kept + self.argmax_len(),
            scratch: tiles,
            batch_saved: self.packed() + 3 * round_up(3 * c),
            reads_x: true,
            prepare: self.pack(),
            forward,
            backward,
            ..Passes::default()
        };
        // The bias, which the norm removes, has a gradient of zero.
        let dz = Rows { argmax: Some(argmax), norm: Some((z, coefficients)), ..self.gradient_rows() };
        self.conv.gradients(&dz, self.backward_weights(), (false, c), &mut passes);
        passes
    }

    /// The gradients of scale and shift, and the coefficients of the gradient of the rows.
    fn norm_gradients(&self, argmax: At, chosen: At, moments: At, coefficients: At) -> Vec<Launch> {
        let Geometry { l_out, c_out: c, .. } = self.g;
        let (n, cells, scale) = (self.conv.n, self.g.cells(), (Params(SCALE), 0));
        let (dy, partials) = ((Dy, 0), (Scratch, 0));
        let sums = GradientSums { dy, argmax: Some(argmax), z: chosen, moments, partials, rows: n * cells, c };
        vec![
            gradient_sums(&sums),
            gradient_merge(&GradientMerge {
                partials,
                moments,
                scale,
                dscale: Some((DParams(SCALE), 0)),
                dshift: Some((DParams(SHIFT), 0)),
                coefficients: Some(coefficients),
                pieces: pieces(n * cells, c),
                count: n * l_out,
                c,
            }),
        ]
    }

    /// The rows, what the pool will choose, and statistics at `Scratch`: a tile's at a time, or where tiles of one sample would be
    /// mostly empty, from the rows by a second launch.
    fn observe(&self, z: At, pooled: Option<At>, argmax: At) -> Vec<Launch> {
        let (rows, tile, partials) = (self.g.l_out + self.g.k - 1, self.conv.tile_rows(), (Scratch, 0));
        let short = 2 * rows.next_multiple_of(tile) > 3 * rows;
        let output = Output {
            mode: Mode::Observe,
            scale: Some((Params(SCALE), 0)),
            pooled,
            argmax: Some(argmax),
            partials: (!short).then_some(partials),
            window: self.g.window,
            cells: self.g.cells(),
            ..Output::plain(z, self.bias())
        };
        let mut launches = vec![self.conv.forward(&self.input(), 1, (BatchSaved, 0), &output)];
        if short {
            launches.push(statistics(z, partials, self.conv.n * self.g.l_out, self.g.c_out));
        }
        launches
    }
}
