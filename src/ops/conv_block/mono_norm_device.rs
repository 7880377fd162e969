//! conv_block with batch norm and one input channel on a GPU, in training: the launches of
//! `kernels/mono_norm.cu` around those of the block without norm.
//!
//! As on the CPU (`mono_norm.rs`), for any window: the norm's statistics come from moments of the audio, forward is the convolution with the norm
//! in its weights, backward-weight that of a sparse gradient. The gradient of the audio is the convolution's, whose weights are the
//! folded ones, and a small one of its own. All of it is in f32, whatever the precision, and what the moments give in f64.

use super::Geometry;
use super::device::Block;
use super::planned::{SCALE, SHIFT, WEIGHT};
use crate::base::aligned::round_up;
use crate::ops::BatchNorm;
use crate::ops::batch_norm::device::At;
use crate::ops::conv1d::device::{Convolution, Mode, Output, Rows, with};
use crate::ops::device::{Launch, Operand, Passes, Products};
use Operand::{BatchSaved, DParams, Dx, Params, Saved, Scratch, State, X, Y};

/// Most taps.
const TAPS: usize = 5;
/// Numbers of the moments, which are of twice as many bits.
const MOMENTS: usize = 2 * (TAPS + TAPS * TAPS);
/// Rows of a block of `mono_norm_moments`, numbers of one of `mono_norm_input`.
const PIECE: usize = 4096;
/// Threads of `mono_norm_fold`, `mono_norm_gradients` and the others.
const FOLD_THREADS: u32 = 512;
const GRADIENT_THREADS: u32 = 960;
const THREADS: u32 = 256;
/// Channels of a block of `mono_norm_gradients`.
const GRADIENT_CHANNELS: usize = 8;

/// The contents of `BatchSaved`.
struct Buffers {
    /// Packed weights with the norm in them, and the bias.
    folded: At,
    bias: At,
    /// The same weights, packed for backward-data.
    backward: At,
    /// `[30]`, `[c][2]`, `[c][2]`, each in two numbers, see the kernels.
    moments: At,
    channels: At,
    slopes: At,
    len: usize,
}

impl Block {
    /// Whether the block's norm needs no rows.
    pub fn is_mono(&self) -> bool {
        self.g.c_in == 1 && self.g.k <= TAPS && self.g.stride == 1
    }

    /// The gradient's convolution.
    fn mono_backward(&self) -> Convolution {
        Convolution { products: Products::Fma, ..self.conv }.backward_data()
    }

    fn mono_buffers(&self) -> Buffers {
        let c = self.g.c_out;
        let mut len = 0;
        let mut next = |numbers: usize| {
            len += round_up(numbers);
            (BatchSaved, len - round_up(numbers))
        };
        Buffers {
            folded: next(self.conv.packed()),
            bias: next(c),
            backward: next(self.mono_backward().packed()),
            moments: next(MOMENTS),
            channels: next(4 * c),
            slopes: next(4 * c),
            len,
        }
    }

    /// With batch norm and one input channel. `Saved` contains the argmax.
    pub fn mono_normed(&self, norm: BatchNorm) -> Passes {
        let (at, argmax) = (self.mono_buffers(), Some((Saved, 0)));
        let (window, cells, n) = (self.g.window, self.g.cells(), self.conv.n);
        let output = Output { mode: Mode::Active, argmax, window, cells, ..Output::plain((Y, 0), Some(at.bias)) };
        let rows = Rows { argmax, ..self.gradient_rows() };
        let (sums, pieces) = self.conv.weight_sums(&rows, (Scratch, 0));
        let mut backward = vec![sums, self.mono_gradients(&at, pieces)];
        backward.extend(self.mono_input(&at, &rows));
        Passes {
            saved: self.argmax_len(),
            scratch: (MOMENTS * n * self.g.l_out.div_ceil(PIECE)).max(pieces * (self.g.k + 1) * self.g.c_out),
            batch_saved: at.len,
            reads_x: true,
            forward: vec![
                self.mono_moments(),
                self.mono_fold(norm, &at),
                self.conv.forward(&self.input(), 1, at.folded, &output),
            ],
            backward,
            ..Passes::default()
        }
    }

    /// The moments of the audio's pieces.
    fn mono_moments(&self) -> Launch {
        let Geometry { l, l_out, pad, .. } = self.g;
        let (n, pieces) = (self.conv.n, l_out.div_ceil(PIECE));
        let launch = Launch::new("mono_norm_moments", n * pieces, THREADS).with(X(0)).with(Scratch);
        let flops = 2 * (TAPS as u64 + 1) * (n * l_out) as u64;
        [l, l_out, pad, pieces].into_iter().fold(launch, Launch::int).costs(n * l + n * pieces * MOMENTS, flops)
    }

    /// From those to statistics, and weights and bias with the norm in them.
    fn mono_fold(&self, norm: BatchNorm, at: &Buffers) -> Launch {
        let Geometry { l_out, c_out: c, k, .. } = self.g;
        let (n, pieces, outputs) = (self.conv.n, self.conv.n * l_out.div_ceil(PIECE), self.conv.packed() / TAPS);
        let [w, scale, shift] = [WEIGHT, SCALE, SHIFT].map(|tensor| (Params(tensor), 0));
        let launch = Launch::new("mono_norm_fold", 1, FOLD_THREADS).with(Scratch);
        let launch = with(launch, [Some(w), self.bias(), Some(scale), Some(shift)]);
        let written = [at.moments, at.channels, at.folded, at.bias, (State(0), 0), (State(1), 0)];
        [pieces, n * l_out, k, c, outputs]
            .into_iter()
            .fold(with(launch, written.map(Some)), Launch::int)
            .float(norm.eps as f32)
            .float(norm.momentum as f32)
            .costs((pieces + 1) * MOMENTS + (k + 12) * c + self.conv.packed(), (pieces * MOMENTS + 80 * c) as u64)
    }

    /// The gradients of all parameters from the sums of pieces.
    fn mono_gradients(&self, at: &Buffers, pieces: usize) -> Launch {
        let Geometry { l_out, c_out: c, k, .. } = self.g;
        let launch = Launch::new("mono_norm_gradients", c.div_ceil(GRADIENT_CHANNELS), GRADIENT_THREADS);
        let read = [(Scratch, 0), (Params(WEIGHT), 0), (Params(SCALE), 0), at.moments, at.channels];
        let written = [(DParams(WEIGHT), 0), (DParams(SCALE), 0), (DParams(SHIFT), 0), at.slopes];
        let launch = with(with(launch, read.map(Some)), written.map(Some));
        // The bias, which the norm removes, has a gradient of zero.
        let zeros = c;
        [pieces, self.conv.n * l_out, zeros, k, c]
            .into_iter()
            .fold(launch, Launch::int)
            .costs((pieces * (k + 1) + 2 * k + 12) * c + MOMENTS, ((pieces * (k + 1) + 100) * c) as u64)
    }

    /// The gradient of the audio, if it is needed: of the convolution with the folded weights, and what the norm's means add.
    fn mono_input(&self, at: &Buffers, rows: &Rows) -> [Launch; 3] {
        let Geometry { l, l_out, c_out: c, k, pad, .. } = self.g;
        let (n, pieces) = (self.conv.n, l.div_ceil(PIECE));
        let forward = Convolution { products: Products::Fma, ..self.conv };
        let pack = self.mono_backward().pack_from(at.folded, self.conv.packed() / TAPS, at.backward, true);
        let launch = Launch::new("mono_norm_input", n * pieces, THREADS);
        let means = with(launch, [(X(0), 0), (Params(WEIGHT), 0), at.slopes, (Dx(0), 0)].map(Some));
        let means = [l, l_out, pad, k, c, pieces].into_iter().fold(means, Launch::int);
        let means = means.costs(3 * n * l + (k + 4) * c, 2 * (n * l * k * (k + 1)) as u64);
        [pack, forward.input_gradient(rows, at.backward), means].map(|launch| launch.only_for(Dx(0)))
    }
}
