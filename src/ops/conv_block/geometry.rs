//! The dimensions of a conv_block, the two convolutions that it consists of, and the algorithm of each pass.

use crate::ops::ConvChoice;
use crate::simd::Product;
use crate::simd::planes::Planes;
use crate::simd::transform::GROUP;
use crate::simd::winograd::{FiveTapSums, FiveTaps, TILE, ThreeTaps, Toom};

/// The block's numbers.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Rows of the input.
    pub l: usize,
    /// Its channels.
    pub c_in: usize,
    /// Rows of the convolution's output.
    pub l_out: usize,
    /// Its channels.
    pub c_out: usize,
    /// Taps.
    pub k: usize,
    /// Rows of the input from one row of the convolution's output to the next.
    pub stride: usize,
    /// Rows of zeros before the input.
    pub pad: usize,
    /// Rows of a pooling window; 1 without pool.
    pub window: usize,
    /// Whether a last, incomplete window counts.
    pub ceil: bool,
    /// Whether the algorithm is chosen by shape, or transforms are used wherever an algorithm exists.
    pub choice: ConvChoice,
}

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Products of rows and taps.
    Direct,
    /// F(8, 3), for up to three taps.
    ThreeTaps,
    /// F(8, 5), for backward-weight F(5, 8), in segments for more than five taps.
    FiveTaps,
}

impl Algorithm {
    /// Products of its transform.
    pub fn products(self) -> usize {
        match self {
            Algorithm::Direct => 0,
            Algorithm::ThreeTaps => ThreeTaps::PRODUCTS,
            Algorithm::FiveTaps => FiveTaps::PRODUCTS,
        }
    }

    /// Products of its transform for backward-weight.
    pub fn products_of_sums(self) -> usize {
        match self {
            Algorithm::FiveTaps => FiveTapSums::PRODUCTS,
            other => other.products(),
        }
    }

    /// Taps of a segment.
    pub fn taps(self) -> usize {
        match self {
            Algorithm::Direct => 1,
            Algorithm::ThreeTaps => <ThreeTaps as Toom>::TAPS,
            Algorithm::FiveTaps => <FiveTaps as Toom>::TAPS,
        }
    }

    /// What `G` a tap of a segment is multiplied by for a product.
    pub fn kernel(self, product: usize, tap: usize) -> f64 {
        match self {
            Algorithm::Direct => 1.0,
            Algorithm::ThreeTaps => ThreeTaps::TABLE.kernel[product][tap],
            Algorithm::FiveTaps => FiveTaps::TABLE.kernel[product][tap],
        }
    }

    /// Its name in plans and tables.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Direct => "direct",
            Algorithm::ThreeTaps => ThreeTaps::NAME,
            Algorithm::FiveTaps => FiveTaps::NAME,
        }
    }

    /// Its name where the choice between it and the sparse gradient is made for each sample.
    pub fn name_or_sparse(self) -> &'static str {
        match self {
            Algorithm::Direct => "direct or sparse",
            Algorithm::ThreeTaps => "F(8,3) or sparse",
            Algorithm::FiveTaps => "F(8,5) or sparse",
        }
    }

    /// Its name for backward-weight.
    pub fn name_of_sums(self) -> &'static str {
        match self {
            Algorithm::FiveTaps => FiveTapSums::NAME,
            other => other.name(),
        }
    }
}

/// A convolution: forward, or backward-data with flipped taps and exchanged channels. Only a direct one has another stride than 1.
#[derive(Clone, Copy, Debug)]
pub struct Convolution {
    /// Channels of what it reads.
    pub c_in: usize,
    /// Rows that it makes.
    pub rows_out: usize,
    /// Channels of what it makes.
    pub c_out: usize,
    /// Taps.
    pub k: usize,
    /// Rows of what it reads from one row that it makes to the next.
    pub stride: usize,
    /// Rows of zeros before what it reads.
    pub pad: usize,
    /// How it is computed.
    pub algorithm: Algorithm,
}

impl Convolution {
    /// Whether it goes without register tiles: few products a row.
    pub fn is_mono(&self) -> bool {
        self.algorithm == Algorithm::Direct && self.c_in == 1 && self.k <= 8 && self.stride == 1
    }

    /// Taps from segment to segment of a long kernel; each shares one with the next, which only the first counts.
    fn segment_taps(&self) -> usize {
        self.algorithm.taps() - 1
    }

    /// Pieces that a long kernel is cut into.
    pub fn segments(&self) -> usize {
        match self.algorithm {
            Algorithm::FiveTaps => (self.k.max(2) - 1).div_ceil(self.segment_taps()),
            _ => 1,
        }
    }

    /// The segment of every tap of `k` and its index in the segment; the first tap of a later segment is the last of the one before.
    pub fn taps(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let (long, taps) = (self.segments() > 1, self.segment_taps());
        (0..self.k).map(move |tap| {
            let segment = if long { tap.saturating_sub(1) / taps } else { 0 };
            (tap, segment, tap - segment * taps)
        })
    }

    /// Rows from tile to tile of the transformed input, which has tiles for every segment.
    pub fn tile_step(&self) -> usize {
        if self.segments() > 1 { self.segment_taps() } else { TILE }
    }

    /// Tiles of the transformed input from one tile of output to the next.
    pub fn tile_stride(&self) -> usize {
        TILE / self.tile_step()
    }

    /// Tiles of the transformed input for `tiles` of output.
    pub fn tiles_in(&self, tiles: usize) -> usize {
        self.tile_stride() * (tiles - 1) + self.segments()
    }

    /// Rows that are made before the next begin: few enough for their transforms to stay in the L2 cache, many enough that
    /// the weights are not read too often. A multiple of every group of rows.
    pub fn block_rows(&self) -> usize {
        TILE * 24
    }

    /// Rows of a block of backward-weight, whose sums are read and written once a block.
    pub fn update_rows(&self) -> usize {
        TILE * 48
    }

    /// Rows that the outputs of `rows` rows read.
    pub fn rows_read(&self, rows: usize) -> usize {
        match self.algorithm {
            Algorithm::Direct if self.is_mono() => rows.next_multiple_of(GROUP) + self.k - 1,
            Algorithm::Direct => (rows.max(1) - 1) * self.stride + self.k,
            _ => self.tile_step() * (self.tiles_in(rows.div_ceil(TILE)) - 1) + TILE + self.algorithm.taps() - 1,
        }
    }

    /// The planes of the transformed input and of the products.
    pub fn planes(&self) -> (Planes, Planes) {
        self.planes_of(self.block_rows() / TILE)
    }

    /// The planes of the transformed input and of the transformed gradient.
    pub fn update_planes(&self) -> (Planes, Planes) {
        self.planes_of(self.update_rows() / TILE)
    }

    fn planes_of(&self, tiles: usize) -> (Planes, Planes) {
        let segments = self.segments();
        (Planes::new(tiles, self.tile_stride(), segments - 1, self.c_in), Planes::new(tiles, 1, 0, self.c_out))
    }

    /// Numbers of packed weights.
    pub fn packed(&self) -> usize {
        match self.algorithm {
            Algorithm::Direct => Product::packed_len(self.k * self.c_in, self.c_out),
            algorithm => algorithm.products() * Product::packed_len(self.segments() * self.c_in, self.c_out),
        }
    }

    /// Numbers of scratch for the transforms and products of a block, and for its rows.
    pub fn scratch(&self) -> usize {
        let rows = (self.rows_read(self.block_rows()) * self.c_in).next_multiple_of(16);
        let (v, m) = self.planes();
        rows + match self.algorithm {
            Algorithm::Direct => (self.block_rows() * self.c_out).next_multiple_of(16),
            algorithm => v.len(algorithm.products()) + m.len(algorithm.products()),
        }
    }
}

impl Geometry {
    /// Weights of the convolution.
    pub fn weights(&self) -> usize {
        self.k * self.c_in * self.c_out
    }

    /// Rows of the block's output.
    pub fn cells(&self) -> usize {
        if self.ceil { self.l_out.div_ceil(self.window) } else { self.l_out / self.window }
    }

    /// From input to output. Rows that belong to no pooling window are computed only if `all` is set.
    pub fn forward(&self, all: bool) -> Convolution {
        Convolution {
            c_in: self.c_in,
            rows_out: if all { self.l_out } else { (self.cells() * self.window).min(self.l_out) },
            c_out: self.c_out,
            k: self.k,
            stride: self.stride,
            pad: self.pad,
            algorithm: self.algorithm(self.c_in),
        }
    }

    /// From the gradient of the convolution's output to that of its input.
    pub fn backward_data(&self) -> Convolution {
        Convolution {
            c_in: self.c_out,
            rows_out: self.l,
            c_out: self.c_in,
            k: self.k,
            stride: 1,
            pad: self.k - 1 - self.pad,
            algorithm: self.algorithm(self.c_out),
        }
    }

    /// The algorithm for sums over `depth` channels. Fewer channels or rows than the table's do not pay for the transforms.
    fn algorithm(&self, depth: usize) -> Algorithm {
        let rows = if self.k <= 3 { THREE_TAPS_ROWS } else { FIVE_TAPS_ROWS };
        match self.k {
            1 => Algorithm::Direct,
            _ if self.stride > 1 => Algorithm::Direct,
            _ if self.choice == ConvChoice::Auto && (depth < FAST_CHANNELS || self.l < rows) => Algorithm::Direct,
            2 | 3 => Algorithm::ThreeTaps,
            _ => Algorithm::FiveTaps,
        }
    }

    /// Whether a window of the input is long enough for vectors.
    fn sparse_fits(&self) -> bool {
        self.k * self.c_in >= SPARSE_NUMBERS
    }

    /// The share of windows with a non-zero gradient below which backward-data is faster from the sparse gradient of a pool. The cost is
    /// proportional to that share; from 1 on the sparse gradient is always faster.
    pub fn spread_below(&self) -> f64 {
        if self.window < SPARSE_WINDOW || !self.sparse_fits() || self.choice != ConvChoice::Auto {
            return 0.0;
        }
        let dense = self.backward_data();
        let dense_cost = match dense.algorithm {
            Algorithm::Direct => 1.0,
            algorithm => {
                let products = (algorithm.products() * dense.segments()) as f64 / (TILE * self.k) as f64;
                // Weights beyond the L2 cache are read once a sample, which takes as long as the products of so many tiles.
                let reading =
                    if dense.packed() > L2_NUMBERS { READING_TILES / self.l.div_ceil(TILE) as f64 } else { 0.0 };
                products * (1.0 + reading)
            }
        };
        dense_cost * self.window as f64 / SPREAD_COST
    }

    /// How the weights' gradient is computed, from a gradient that is `sparse` because there is no norm before the pool, or is dense.
    /// With batch norm, the path of one input channel folds the norm into plain weights, so that its forward convolution is not a transform.
    pub fn weight_grad_path(&self, conv: Convolution, sparse: bool) -> WeightGradPath {
        let (auto, direct) = (self.choice == ConvChoice::Auto, conv.algorithm == Algorithm::Direct);
        match self.window {
            2.. if MONO_TAPS.contains(&self.k) && self.c_in == 1 && (sparse || conv.is_mono()) => WeightGradPath::Mono,
            2.. if !sparse && self.c_in == 1 && self.k <= MOST_MONO_TAPS && direct && !conv.is_mono() => {
                WeightGradPath::MonoLong
            }
            SPARSE_WINDOW.. if sparse && self.sparse_fits() && !(auto && self.l < SPARSE_ROWS) => {
                WeightGradPath::Sparse
            }
            // Transforms of the sums cost as much as so short a layer.
            _ if auto && self.l < SUM_ROWS => {
                WeightGradPath::Dense(Convolution { algorithm: Algorithm::Direct, ..conv })
            }
            _ => WeightGradPath::Dense(conv),
        }
    }
}

// From which sizes on an algorithm is faster, measured with `stapes bench` and `cargo bench --bench ops -- conv_block` with `--conv fast` beside `direct`
// (benches/LOG.md says when). It is the same for every instruction set, so that all compute the same.

/// Input channels from which on transforms pay forward and backward-data.
const FAST_CHANNELS: usize = 4;
/// Rows of input from which on they pay with more than three taps.
const FIVE_TAPS_ROWS: usize = 20;
/// Rows of input from which on they pay with three.
const THREE_TAPS_ROWS: usize = 80;
/// Rows of input from which on they pay for backward-weight.
const SUM_ROWS: usize = 128;
/// Rows of input from which on backward-weight pays from a sparse gradient.
const SPARSE_ROWS: usize = 12;
/// Rows of a window from which on a sparse gradient is used: half of the dense arithmetic, or less.
const SPARSE_WINDOW: usize = 2;
/// Weights, in numbers, that fit into an L2 cache beside the other operands.
const L2_NUMBERS: usize = 1 << 17;
/// Tiles of which the products take as long as reading the weights from beyond it.
const READING_TILES: f64 = 3.0;
/// What a MAC of a sparse gradient costs in backward-data, beside one of a dense convolution.
const SPREAD_COST: f64 = 1.75;
/// Numbers of a window of the input from which on it is.
const SPARSE_NUMBERS: usize = 8;
/// Taps for which one input channel has a kernel of its own.
const MONO_TAPS: [usize; 2] = [3, 5];
/// Most taps of a convolution of one input channel whose norm follows from moments of the audio: the moments grow with their square.
pub const MOST_MONO_TAPS: usize = 32;

/// The path of the weight gradient.
#[derive(Clone, Copy, Debug)]
pub enum WeightGradPath {
    /// From the argmax of a pooled gradient.
    Sparse,
    /// From the argmax of a pooled gradient, with one input channel, in registers.
    Mono,
    /// As `Sparse`, with batch norm and one input channel: more taps than `Mono` has registers for, or a stride.
    MonoLong,
    /// From dense rows, as this convolution.
    Dense(Convolution),
}
