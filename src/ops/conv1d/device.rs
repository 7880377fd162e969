//! Convolutions on a GPU: the launches of `kernels/conv_*.cu`, of the op by itself and of the fused block.
//!
//! Forward and backward-data are one kernel: a matrix product over the rows of a source, and an output. A tile of `BM` positions
//! by `BN` outputs takes `T` taps at once (5 or 3 with stride and dilation 1, else 1), longer kernels in segments. Where large tiles
//! are too few for the multiprocessors of a large chip, tiles are small, and the warps of a block share the sum over channels.
//! Rows of all samples are counted through, sample `s` from `s * pitch` on; see `kernels/conv.cuh`.

use super::{Conv1d, Geometry};
use crate::base::aligned::round_up;
use crate::ops::batch_norm::device::At;
use crate::ops::device::{Batch, Launch, Operand, Passes, Products};
use Operand::{BatchSaved, DParams, Dx, Dy, Params, Scratch, X, Y};

/// Threads of a block.
const THREADS: u32 = 128;
/// Positions of a stage of backward-weight.
const STAGE_POSITIONS: usize = 48;
/// Partial sums that are kept until all layers' are reduced by one launch, at most: 32 MB. More are reduced at once, so that all layers share
/// their memory.
const KEPT_PARTIALS: usize = 8 << 20;
/// Taps of a segment in backward-weight of one input channel.
const MONO_TAPS: usize = 5;
/// Blocks that fill a large chip twice.
const MANY_BLOCKS: usize = 264;
/// Blocks that leave a large chip's multiprocessors idle for a third of the time: one and a half for each, so that most have one and the
/// others two.
const FEW_BLOCKS: usize = 198;
/// Outputs and positions of a small tile.
const SMALL: (usize, usize) = (32, 48);
/// Channels from which on a block of a large tile takes so long that small ones pay: with fewer it has one stage or two.
const DEEP: usize = 32;

/// The numbers of a convolution on a GPU. The padding may be negative in a gradient's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Convolution {
    pub n: usize,
    pub l_in: usize,
    pub c_in: usize,
    pub l_out: usize,
    pub c_out: usize,
    pub k: usize,
    pub stride: usize,
    pub dilation: usize,
    pub pad: isize,
    pub products: Products,
}

/// The rows that a convolution reads, see `Source` in `kernels/conv.cuh`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// The rows, or a gradient that the following make rows of.
    pub x: At,
    /// A ReLU's output.
    pub y: Option<At>,
    /// What a pool of `window` rows chose in each of `cells` windows.
    pub argmax: Option<At>,
    /// What a norm normalised, and its coefficients.
    pub norm: Option<(At, At)>,
    /// Rows of a sample and channels.
    pub l: usize,
    pub c: usize,
    pub window: usize,
    pub cells: usize,
}

impl Rows {
    /// Rows as they are in memory.
    pub fn plain(x: At, l: usize, c: usize) -> Rows {
        Rows { x, y: None, argmax: None, norm: None, l, c, window: 1, cells: 0 }
    }

    fn arguments(&self, launch: Launch, n: usize, spread: usize) -> Launch {
        let (z, coefficients) = self.norm.unzip();
        let arrays = [Some(self.x), self.y, self.argmax, z, coefficients];
        [n, self.l, self.c, self.window, self.cells, spread].into_iter().fold(with(launch, arrays), Launch::int)
    }

    /// Numbers that a stage of this kernel holds beside so many numbers of a gradient's rows.
    fn beside(&self, numbers: usize) -> usize {
        let bytes = if self.argmax.is_some() { numbers / 4 } else { 0 };
        bytes + if self.y.is_some() || self.norm.is_some() { numbers } else { 0 }
    }

    /// Numbers of memory in the rows of `n` samples.
    fn numbers(&self, n: usize) -> usize {
        let rows = self.l * self.c;
        let read = if self.argmax.is_some() { self.cells * self.c * 5 / 4 } else { rows };
        n * (read + if self.y.is_some() { rows } else { 0 } + if self.norm.is_some() { rows } else { 0 })
    }
}

/// What becomes of a convolution's sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They are stored, with the bias.
    Store = 0,
    /// Bias or affine map, the largest row of every window, ReLU.
    Active = 1,
    /// They are stored with the bias, and what the pool will choose, and the statistics of every tile.
    Observe = 2,
}

/// Where the sums go, see `Output` in `kernels/conv_forward.cuh`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub mode: Mode,
    pub bias: Option<At>,
    pub affine: Option<At>,
    pub scale: Option<At>,
    pub rows: At,
    pub pooled: Option<At>,
    pub argmax: Option<At>,
    pub partials: Option<At>,
    pub window: usize,
    pub cells: usize,
}

impl Output {
    /// All rows, with a bias.
    pub fn plain(rows: At, bias: Option<At>) -> Output {
        let (affine, scale, pooled, argmax, partials) = (None, None, None, None, None);
        Output { mode: Mode::Store, bias, affine, scale, rows, pooled, argmax, partials, window: 1, cells: 0 }
    }
}

/// With arrays as further arguments, null where there is none.
pub(crate) fn with<const N: usize>(launch: Launch, arrays: [Option<At>; N]) -> Launch {
    arrays.into_iter().fold(launch, |launch, array| match array {
        Some((operand, offset)) => launch.at(operand, offset),
        None => launch.null(),
    })
}

impl Convolution {
    /// The convolution that gives the gradient of the input: flipped taps over the gradient's rows, spread by the stride.
    pub fn backward_data(&self) -> Convolution {
        let pad = (self.dilation * (self.k - 1)) as isize - self.pad;
        let (l_in, c_in, l_out, c_out) = (self.l_out, self.c_out, self.l_in, self.c_in);
        Convolution { l_in, c_in, l_out, c_out, pad, ..*self }
    }

    /// Whether it has the kernel for one input channel.
    fn is_mono(&self) -> bool {
        self.c_in == 1 && self.stride == 1 && self.dilation == 1
    }

    /// Taps of a segment: as few segments as few wasted taps allow.
    fn taps(&self) -> usize {
        let waste = |taps: usize| self.k.next_multiple_of(taps);
        match self.k {
            _ if self.is_mono() => 5,
            _ if self.stride > 1 || self.dilation > 1 => 1,
            1 => 1,
            _ if waste(5) <= waste(3) => 5,
            _ => 3,
        }
    }

    /// Outputs and positions of a large tile.
    fn large(&self) -> (usize, usize) {
        if self.c_out <= 32 { (32, 192) } else { (64, 96) }
    }

    /// Whether tiles are small because there are too few large ones to occupy the chip. The choice depends on the shape only, so that the
    /// order of the sums does, too.
    fn small(&self) -> bool {
        let (outputs, positions) = self.large();
        let rows = self.n * (self.l_out + self.taps() - 1);
        let blocks = rows.div_ceil(positions) * self.c_out.div_ceil(outputs);
        self.c_in >= DEEP && blocks <= FEW_BLOCKS
    }

    /// Outputs and positions of a tile.
    fn tile(&self) -> (usize, usize) {
        if self.small() { SMALL } else { self.large() }
    }

    /// Positions of a tile, whose statistics [`Mode::Observe`] takes together.
    pub fn tile_rows(&self) -> usize {
        self.tile().1
    }

    /// Channels of a stage.
    fn stage_channels(&self) -> usize {
        match (self.products, self.taps()) {
            _ if self.is_mono() => 1,
            (Products::Fma, _) => 8,
            (Products::Bf16, _) if self.small() => 32,
            (Products::Split, 3 | 5) if !self.small() => 8,
            _ => 16,
        }
    }

    /// How weights are packed: as they are for one input channel, and for small tiles, which split them themselves.
    fn packing(&self) -> Products {
        match self.products {
            _ if self.is_mono() => Products::Fma,
            Products::Split if self.small() => Products::Fma,
            products => products,
        }
    }

    /// Channels in a word of the packed weights.
    fn word(&self) -> usize {
        if self.packing() == Products::Bf16 { 2 } else { 1 }
    }

    /// Parts of a packed weight.
    fn parts(&self) -> usize {
        if self.packing() == Products::Split { 2 } else { 1 }
    }

    /// Taps, rows of a tap and outputs of the packed weights.
    fn packed_shape(&self) -> [usize; 3] {
        let depth = self.c_in.next_multiple_of(self.stage_channels()) / self.word();
        [self.k.next_multiple_of(self.taps()), depth, self.c_out.next_multiple_of(self.tile().0)]
    }

    /// Numbers of packed weights.
    pub fn packed(&self) -> usize {
        round_up(self.parts() * self.packed_shape().iter().product::<usize>())
    }

    /// Packs the weights from the first parameter tensor; for the gradient of the input (`backward`, when this is its convolution) flipped and
    /// transposed.
    pub fn pack(&self, packed: At, backward: bool) -> Launch {
        self.pack_from((Params(0), 0), if backward { self.c_in } else { self.c_out }, packed, backward)
    }

    /// The same from weights of `columns` outputs, of which those beyond the convolution's are zeros.
    pub fn pack_from(&self, weights: At, columns: usize, packed: At, backward: bool) -> Launch {
        let [taps, depth, outputs] = self.packed_shape();
        let c_in = if backward { self.c_out } else { self.c_in };
        let launch = Launch::over("conv_pack", taps * depth * outputs, 1);
        let launch = with(launch, [Some(weights), Some(packed)]);
        [self.k, c_in, columns, taps, depth, outputs, usize::from(backward), self.packing() as usize]
            .into_iter()
            .fold(launch, Launch::int)
            .costs(self.k * self.c_in * self.c_out + self.packed(), 0)
            .many()
    }

    /// Bytes of shared memory of a tile: two stages, or its sums; of a small one three, or the sums of its shares.
    fn shared_bytes(&self, source: &Rows) -> usize {
        let ((outputs, rows), taps, channels) = (self.tile(), self.taps(), self.stage_channels());
        let stride = if self.is_mono() { 1 } else { channels + 4 * self.word() };
        let weight_rows = self.parts() * taps * channels / self.word();
        let rows_read = rows + taps - 1;
        let beside = if self.is_mono() { 0 } else { source.beside(rows_read * channels) };
        let stage = rows_read * stride + weight_rows * (outputs + 8) + beside;
        let sums = rows * (outputs + 4);
        let shares = if self.products == Products::Fma { 4 } else { 2 };
        let numbers =
            if self.small() { (3 * stage).max(shares * sums) } else { (2 * stage).max(sums + 2 * THREADS as usize) };
        4 * numbers
    }

    /// Products of the whole batch, two operations each.
    fn flops(&self) -> u64 {
        2 * (self.n * self.l_out * self.k) as u64 * (self.c_in * self.c_out) as u64
    }

    /// The sums over taps and channels of `source` with packed `weights`, into `output`. With a `spread` above 1 there are zeros
    /// between the source's rows.
    pub fn forward(&self, source: &Rows, spread: usize, weights: At, output: &Output) -> Launch {
        let ((outputs, rows), taps) = (self.tile(), self.taps());
        // Tiles whose statistics are taken are of one sample.
        let whole = if output.partials.is_some() { rows } else { output.window };
        let pitch = (self.l_out + taps - 1).next_multiple_of(whole);
        let stride = if spread > 1 { 1 } else { self.stride };
        let suffix = if self.is_mono() { "mono" } else { self.products.suffix() };
        let tile = if self.small() { format!("small_{taps}") } else { format!("{taps}x{outputs}") };
        let kernel = format!("conv_forward_{tile}_{suffix}");
        let launch = Launch::new(kernel, (self.n * pitch).div_ceil(rows), THREADS)
            .grid(self.c_out.div_ceil(outputs), 1)
            .shared_bytes(self.shared_bytes(source));
        let launch = with(source.arguments(launch, self.n, spread), [Some(weights)]);
        let segments = self.k.div_ceil(taps);
        let launch = [segments, stride, self.dilation, self.pad as usize, pitch, output.mode as usize]
            .into_iter()
            .fold(launch, Launch::int);
        let Output { bias, affine, scale, rows, pooled, argmax, partials, window, cells, .. } = *output;
        let launch = with(launch, [bias, affine, scale, Some(rows), pooled, argmax, partials]);
        let written = match output.mode {
            Mode::Store => self.l_out,
            Mode::Active => cells,
            Mode::Observe => self.l_out + pooled.map_or(0, |_| cells),
        } + argmax.map_or(0, |_| cells / 4);
        [self.l_out, self.c_out, window, cells]
            .into_iter()
            .fold(launch, Launch::int)
            .costs(source.numbers(self.n) + self.packed() + self.n * written * self.c_out, self.flops())
    }

    /// The gradient of the input from that of the output, whose rows are `gradient`; this is the convolution forward.
    pub fn input_gradient(&self, gradient: &Rows, weights: At) -> Launch {
        let backward = self.backward_data();
        backward.forward(gradient, self.stride, weights, &Output::plain((Dx(0), 0), None)).only_for(Dx(0))
    }

    /// How backward-weight is cut, from the gradient's rows.
    fn weight_plan(&self, gradient: &Rows) -> WeightPlan {
        let taps = self.taps();
        if self.c_in == 1 {
            let lanes = self.c_out.next_power_of_two().min(32);
            let tiles = self.k.div_ceil(MONO_TAPS) * self.c_out.div_ceil(lanes);
            let sparse = gradient.argmax.is_some() && gradient.norm.is_none();
            let rows = self.n * if sparse { gradient.cells } else { gradient.l };
            let (kernel, lengths) = ("conv_backward_weight_mono".into(), [256, 8192]);
            let pieces = Pieces::of(rows, tiles, 4 * MANY_BLOCKS, lengths, 1);
            return WeightPlan { kernel, tiles, pieces, shared_bytes: 0, unit: lanes };
        }
        let inputs = if taps == 5 || self.products != Products::Fma { 32 } else { 64 };
        let tiles = self.k.div_ceil(taps) * self.c_in.div_ceil(inputs) * self.c_out.div_ceil(32);
        let kernel = format!("conv_backward_weight_{taps}_{}", self.products.suffix());
        let stage = (STAGE_POSITIONS + taps - 1) * (inputs + 8)
            + STAGE_POSITIONS * (32 + 8)
            + gradient.beside(STAGE_POSITIONS * 32);
        let pitch = self.l_out + taps - 1;
        let lengths = [10 * STAGE_POSITIONS, 4096];
        let pieces = Pieces::of(self.n * pitch, tiles, MANY_BLOCKS, lengths, STAGE_POSITIONS);
        WeightPlan { kernel, tiles, pieces, shared_bytes: 4 * 2 * stage, unit: pitch }
    }

    /// Numbers of a piece's partial sums.
    fn gradient_numbers(&self, bias: bool) -> usize {
        self.k * self.c_in * self.c_out + if bias { self.c_out } else { 0 }
    }

    /// Puts the launches of both gradients into `passes`: of the weights and, if `bias` is set, of the bias, by way of partial sums, and of
    /// the input. The `zeros` parameters after the bias get a gradient of zero.
    pub fn gradients(&self, gradient: &Rows, weights: At, (bias, zeros): (bool, usize), passes: &mut Passes) {
        let (pieces, numbers) = (self.weight_plan(gradient).pieces.count, self.gradient_numbers(bias));
        let sums = |partials| self.weight_gradient(gradient, partials, bias);
        reduction(sums, [pieces, numbers, zeros], passes);
        passes.backward.push(self.input_gradient(gradient, weights));
    }

    /// The launch that writes the sums of weights' and bias's gradients over pieces of the rows, `[pieces][k c_in + 1][c_out]`, and how many pieces.
    pub fn weight_sums(&self, gradient: &Rows, partials: At) -> (Launch, usize) {
        (self.weight_gradient(gradient, partials, true), self.weight_plan(gradient).pieces.count)
    }

    fn weight_gradient(&self, gradient: &Rows, partials: At, bias: bool) -> Launch {
        let WeightPlan { kernel, tiles, pieces, shared_bytes, unit } = self.weight_plan(gradient);
        let numbers = self.gradient_numbers(bias);
        let launch = Launch::new(kernel, pieces.count * tiles, THREADS).shared_bytes(shared_bytes);
        let launch = with(gradient.arguments(launch, self.n, 1), [Some((X(0), 0))]);
        let geometry = [self.l_in, self.c_in, self.k, self.stride, self.dilation, self.pad as usize, unit, pieces.rows];
        let launch = with(geometry.into_iter().fold(launch, Launch::int), [Some(partials)]);
        let read = gradient.numbers(self.n) + self.n * self.l_in * self.c_in;
        launch.int(numbers).int(usize::from(bias)).costs(read + pieces.count * numbers, self.flops())
    }
}

/// Puts two launches into `passes`: the one that writes a gradient's partial sums, `[pieces][numbers]`, to the address that `sums` is
/// given, and the one that adds the pieces. `numbers` counts the weights, and the bias if it has a
/// gradient; the `zeros` parameters after them get one of zero.
pub(crate) fn reduction(sums: impl Fn(At) -> Launch, [pieces, numbers, zeros]: [usize; 3], passes: &mut Passes) {
    let partials = pieces * numbers;
    let keeps = partials <= KEPT_PARTIALS;
    let at = if keeps { (BatchSaved, passes.batch_saved) } else { (Scratch, 0) };
    let threads = if pieces > 64 { 1024 } else { 256 };
    let reduce = Launch::new("conv_reduce", (numbers + zeros).div_ceil(32), threads);
    let reduce = with(reduce, [Some(at), Some((DParams(0), 0))]).int(pieces).int(numbers).int(zeros);
    let reduce = reduce.costs(partials + numbers + zeros, partials as u64).many();
    if keeps {
        passes.backward.push(sums(at).concurrent());
        passes.batch_saved += round_up(partials);
        // All of one size, so that they can be one launch.
        passes.finish.push(Launch { block: 256, ..reduce });
    } else {
        passes.scratch = passes.scratch.max(partials);
        passes.backward.extend([sums(at), reduce]);
    }
}

/// A launch of backward-weight.
struct WeightPlan {
    kernel: String,
    /// Blocks of a piece.
    tiles: usize,
    pieces: Pieces,
    shared_bytes: usize,
    /// The pitch, or with one input channel the channels side by side.
    unit: usize,
}

/// Pieces of the rows of a sum.
struct Pieces {
    count: usize,
    rows: usize,
}

impl Pieces {
    /// Of `total` rows, so that pieces times `tiles` are many blocks, but no piece has fewer rows than the first of `lengths` for
    /// that, nor more than the second; a multiple of `step`. It depends on the shape only, so that the
    /// order of the sum does, too.
    fn of(total: usize, tiles: usize, blocks: usize, [shortest, longest]: [usize; 2], step: usize) -> Pieces {
        let count = total.div_ceil(longest).max(blocks.div_ceil(tiles).min(total.div_ceil(shortest)));
        let rows = total.div_ceil(count).next_multiple_of(step);
        Pieces { count: total.div_ceil(rows), rows }
    }
}

impl Conv1d {
    /// Its passes: three matrix products.
    pub(super) fn device_passes(&self, g: &Geometry, batch: &Batch) -> Passes {
        let Geometry { l_in, c_in, l_out, c_out, k, stride, dilation, pad } = *g;
        let (n, products, pad) = (batch.n, batch.products, pad as isize);
        let conv = Convolution { n, l_in, c_in, l_out, c_out, k, stride, dilation, pad, products };
        let backward_data = conv.backward_data();
        let (weights, backward_weights) = ((BatchSaved, 0), (BatchSaved, conv.packed()));
        let gradient = Rows::plain((Dy, 0), l_out, c_out);
        let bias = self.bias.then_some((Params(1), 0));
        let mut passes = Passes {
            batch_saved: conv.packed() + backward_data.packed(),
            reads_x: true,
            prepare: vec![conv.pack(weights, false), backward_data.pack(backward_weights, true).only_for(Dx(0))],
            forward: vec![conv.forward(&Rows::plain((X(0), 0), l_in, c_in), 1, weights, &Output::plain((Y, 0), bias))],
            ..Passes::default()
        };
        conv.gradients(&gradient, backward_weights, (self.bias, 0), &mut passes);
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Shape;
    use crate::ops::device::Argument;
    use crate::ops::op::Op;
    use crate::ops::{conv_block, conv1d};
    use Operand::Saved;

    /// Bytes of shared memory that every chip of a kernel's kind gives a block.
    fn limit(kernel: &str) -> u32 {
        let everywhere = ["_fma", "_mono"].iter().any(|end| kernel.ends_with(end));
        if everywhere { 64 << 10 } else { 99 << 10 }
    }

    fn passes_of_all_cases(mut check: impl FnMut(&str, &dyn Op, &[Shape], usize, &Passes)) {
        for case in conv1d::cases().into_iter().chain(conv_block::cases()) {
            let shapes: Vec<Shape> = case.inputs.iter().map(|input| input.shape).collect();
            for products in [Products::Fma, Products::Split, Products::Tf32, Products::Bf16] {
                let passes = case.op.plan(&shapes).unwrap().on_device(&Batch { n: case.n, products });
                check(&case.name, &*case.op, &shapes, case.n, &passes);
            }
        }
    }

    fn launches(passes: &Passes) -> impl Iterator<Item = &Launch> {
        passes.prepare.iter().chain(&passes.forward).chain(&passes.backward)
    }

    #[test]
    fn launches_stay_within_the_limits_of_chips() {
        passes_of_all_cases(|name, _, _, _, passes| {
            for launch in launches(passes) {
                let Launch { kernel, grid: [x, y, z], block, shared_bytes, .. } = launch;
                assert!(
                    *shared_bytes <= limit(kernel),
                    "{name}: {kernel} takes {shared_bytes} bytes of shared_bytes memory"
                );
                assert!(*x > 0 && *y > 0 && *y < 65_536 && *z == 1 && *block <= 1024, "{name}: {kernel}");
            }
        });
    }

    #[test]
    fn arguments_begin_within_their_operands() {
        passes_of_all_cases(|name, op, shapes, n, passes| {
            let spec = op.spec(shapes).unwrap();
            for launch in launches(passes) {
                for argument in &launch.arguments {
                    let Argument::At(operand, at) = *argument else { continue };
                    let len = match operand {
                        Saved => n * passes.saved,
                        Scratch => passes.scratch,
                        BatchSaved => passes.batch_saved,
                        Params(tensor) | DParams(tensor) => spec.params[tensor].len(),
                        Operand::State(tensor) => spec.state[tensor].len(),
                        _ => continue,
                    };
                    assert!(at < len, "{name}: {} is given {operand:?} {at} of {len}", launch.kernel);
                }
            }
        });
    }

    #[test]
    fn long_sums_are_cut_by_shape_alone() {
        let Pieces { count, rows } = Pieces::of(170_000, 1, MANY_BLOCKS, [480, 4096], STAGE_POSITIONS);
        assert!((200..=MANY_BLOCKS).contains(&count) && rows.is_multiple_of(STAGE_POSITIONS));
        let Pieces { count, rows } = Pieces::of(57_000, 64, MANY_BLOCKS, [480, 4096], STAGE_POSITIONS);
        assert!(count == 14 && rows <= 4128, "{count} pieces of {rows}");
    }
}
