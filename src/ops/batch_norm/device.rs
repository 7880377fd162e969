//! Batch norm on a GPU: the launches of `kernels/norm.cu`, of the op by itself and of the fused block.
//!
//! Rows are all rows of all samples (or for [`Over::Features`] one a sample, with `l * c` channels). A function here fits one
//! kernel; grids and pieces depend on the shape only. Partial sums must begin on an even number of their operand.

use crate::base::Shape;
use crate::ops::device::{Launch, Operand, Passes};
use Operand::{BatchSaved, DParams, Dx, Dy, Params, Scratch, State, X, Y};

/// Where an array of a kernel begins: a number of an operand.
pub(crate) type At = (Operand, usize);

/// Threads of a block that sums or maps.
const THREADS: u32 = 256;
/// Rows of a thread in `norm_statistics`, and here in the gradient's sums.
const SUM_ROWS: usize = 16;
/// Threads of a block that merges, and its channels.
const MERGE_THREADS: u32 = 1024;
const MERGE_CHANNELS: usize = 4;
/// Rows of a thread that maps.
const MAP_ROWS: usize = 8;

/// Columns side by side in a block: all of them up to the next power of two, 32 at most.
fn lanes(columns: usize) -> usize {
    columns.next_power_of_two().min(32)
}

/// Rows whose sums are taken together, by one block.
pub(crate) fn piece_rows(c: usize) -> usize {
    SUM_ROWS * THREADS as usize / lanes(c)
}

/// Pieces of that many rows.
pub(crate) fn pieces(rows: usize, c: usize) -> usize {
    rows.div_ceil(piece_rows(c))
}

fn sums(kernel: &str, rows: usize, c: usize) -> Launch {
    Launch::new(kernel, pieces(rows, c) * c.div_ceil(lanes(c)), THREADS)
}

fn merges(kernel: &str, c: usize) -> Launch {
    Launch::new(kernel, c.div_ceil(MERGE_CHANNELS), MERGE_THREADS)
}

fn maps(kernel: &str, rows: usize, c: usize) -> Launch {
    let columns = if c.is_multiple_of(4) { c / 4 } else { c };
    let lanes = lanes(columns);
    Launch::new(kernel, rows.div_ceil(MAP_ROWS * THREADS as usize / lanes) * columns.div_ceil(lanes), THREADS)
}

/// With arrays as further arguments.
fn with<const N: usize>(launch: Launch, arrays: [At; N]) -> Launch {
    arrays.into_iter().fold(launch, |launch, (operand, offset)| launch.at(operand, offset))
}

/// With an array that need not be there.
fn or_null(launch: Launch, array: Option<At>) -> Launch {
    match array {
        Some((operand, offset)) => launch.at(operand, offset),
        None => launch.null(),
    }
}

/// `partials[pieces][c][2]`: mean of every piece of [`piece_rows`] rows, and sum of squares around it.
pub(crate) fn statistics(x: At, partials: At, rows: usize, c: usize) -> Launch {
    with(sums("norm_statistics", rows, c), [x, partials])
        .int(rows)
        .int(c)
        .costs((rows + 2 * pieces(rows, c)) * c, 4 * (rows * c) as u64)
}

/// From the statistics of pieces to those of the batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merge {
    /// `[n * ceil(l / piece_rows)][c][2]`: mean and sum of squares around it; piece `j` of a sample covers its rows
    /// `j * piece_rows .. min(l, (j + 1) * piece_rows)`.
    pub partials: At,
    /// `[c]`, read where there is an affine map.
    pub scale: At,
    /// `[c]`, read where there is an affine map.
    pub shift: At,
    /// `[c][2]`, written: mean, `1 / sqrt(variance + eps)`.
    pub moments: At,
    /// `[c][2]`, written: factor, offset; `y = factor * z + offset`.
    pub affine: Option<At>,
    /// `[c]`, followed.
    pub running_mean: Option<At>,
    /// `[c]`, follows the unbiased variance.
    pub running_variance: Option<At>,
    /// Samples, rows of a sample, rows of a piece, channels.
    pub n: usize,
    pub l: usize,
    pub piece_rows: usize,
    pub c: usize,
    pub eps: f64,
    pub momentum: f64,
}

/// See [`Merge`].
pub(crate) fn merge(m: &Merge) -> Launch {
    let rows = m.n * m.l.div_ceil(m.piece_rows);
    let launch = with(merges("norm_merge", m.c), [m.partials, m.scale, m.shift, m.moments]);
    or_null(or_null(or_null(launch, m.affine), m.running_mean), m.running_variance)
        .int(m.n)
        .int(m.l)
        .int(m.piece_rows)
        .int(m.c)
        .float(m.eps as f32)
        .float(m.momentum as f32)
        .costs((2 * rows + 10) * m.c, 8 * (rows * m.c) as u64)
}

/// `y = (x - mean) / std * scale + shift`; parameters are scale and shift.
fn apply(moments: At, rows: usize, c: usize) -> Launch {
    with(maps("norm_apply", rows, c), [(X(0), 0), moments, (Params(0), 0), (Params(1), 0), (Y, 0)])
        .int(rows)
        .int(c)
        .costs((2 * rows + 4) * c, 3 * (rows * c) as u64)
}

/// `y = max(0, factor * z + offset)`; an argmax becomes 7 where `y` is not above 0.
#[allow(dead_code, reason = "launched by the fused block only")]
pub(crate) fn pool_apply(pooled_z: At, argmax: Option<At>, affine: At, y: At, cells: usize, c: usize) -> Launch {
    let bytes = if argmax.is_some() { cells * c / 2 } else { 0 };
    with(or_null(with(maps("norm_pool_apply", cells, c), [pooled_z]), argmax), [affine, y])
        .int(cells)
        .int(c)
        .costs((2 * cells + 2) * c + bytes, 3 * (cells * c) as u64)
}

/// The sums of the gradient of the output of a norm: `partials[pieces(rows, c)][c][2]`, of `g` and of `g * xhat`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GradientSums {
    /// `[rows, c]`.
    pub dy: At,
    /// Bytes `[rows, c]`: 7 where there is no gradient.
    pub argmax: Option<At>,
    /// `[rows, c]`, what was normalised.
    pub z: At,
    /// `[c][2]`.
    pub moments: At,
    /// Written.
    pub partials: At,
    /// Rows, or cells of the pool.
    pub rows: usize,
    pub c: usize,
}

/// See [`GradientSums`]; with argmax or without.
pub(crate) fn gradient_sums(s: &GradientSums) -> Launch {
    let numbers = (2 * s.rows + 2 * pieces(s.rows, s.c) + 2) * s.c;
    let launch = match s.argmax {
        Some(argmax) => with(sums("norm_pool_gradient_sums", s.rows, s.c), [s.dy, argmax, s.z]),
        None => with(sums("norm_gradient_sums", s.rows, s.c), [s.z, s.dy]),
    };
    with(launch, [s.moments, s.partials])
        .int(s.rows)
        .int(s.c)
        .int(piece_rows(s.c))
        .costs(numbers + if s.argmax.is_some() { s.rows * s.c / 4 } else { 0 }, 4 * (s.rows * s.c) as u64)
}

/// From the sums of pieces to the gradients of scale and shift, and to the gradient of the input as an affine map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GradientMerge {
    /// `[pieces][c][2]`.
    pub partials: At,
    /// `[c][2]`.
    pub moments: At,
    /// `[c]`.
    pub scale: At,
    /// `[c]`, assigned.
    pub dscale: Option<At>,
    /// `[c]`, assigned.
    pub dshift: Option<At>,
    /// `[c][3]`, written: alpha, beta, delta; `dz = alpha * g + beta * z + delta`.
    pub coefficients: Option<At>,
    /// Pieces of the partial sums.
    pub pieces: usize,
    /// Numbers of a channel in the batch: `n * l` of what was normalised, not of the pool's cells.
    pub count: usize,
    pub c: usize,
}

/// See [`GradientMerge`].
pub(crate) fn gradient_merge(m: &GradientMerge) -> Launch {
    let launch = with(merges("norm_gradient_merge", m.c), [m.partials, m.moments, m.scale]);
    or_null(or_null(or_null(launch, m.dscale), m.dshift), m.coefficients)
        .int(m.pieces)
        .int(m.count)
        .int(m.c)
        .costs((2 * m.pieces + 8) * m.c, 2 * (m.pieces * m.c) as u64)
}

/// The running statistics as an affine map, with a preceding convolution's bias in it if there is one.
#[allow(dead_code, reason = "launched by the fused block only")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunningAffine {
    /// `[c]` each.
    pub scale: At,
    pub shift: At,
    pub mean: At,
    pub variance: At,
    pub bias: Option<At>,
    /// `[c][2]`, written: factor, offset.
    pub affine: At,
    pub c: usize,
    pub eps: f64,
}

/// See [`RunningAffine`].
#[allow(dead_code, reason = "launched by the fused block only")]
pub(crate) fn running_affine(r: &RunningAffine) -> Launch {
    let launch = with(Launch::over("norm_running_affine", r.c, 1), [r.scale, r.shift, r.mean, r.variance]);
    with(or_null(launch, r.bias), [r.affine]).int(r.c).float(r.eps as f32).costs(7 * r.c, 6 * r.c as u64)
}

/// The sums and merge that give the parameters' gradients.
fn parameter_gradients(rows: usize, c: usize) -> Vec<Launch> {
    let (partials, moments) = ((Scratch, 0), (BatchSaved, 0));
    vec![
        gradient_sums(&GradientSums { dy: (Dy, 0), argmax: None, z: (X(0), 0), moments, partials, rows, c }),
        gradient_merge(&GradientMerge {
            partials,
            moments,
            scale: (Params(0), 0),
            dscale: Some((DParams(0), 0)),
            dshift: Some((DParams(1), 0)),
            coefficients: None,
            pieces: pieces(rows, c),
            count: rows,
            c,
        }),
    ]
}

/// The passes while the network learns, for `n` samples of the shape that [`Over::view`] gives. `BatchSaved` holds the moments.
pub(super) fn training(Shape { l, c }: Shape, eps: f64, momentum: f64, n: usize) -> Passes {
    let rows = n * l;
    let (partials, moments) = ((Scratch, 0), (BatchSaved, 0));
    let mut backward = parameter_gradients(rows, c);
    backward.push(
        with(
            maps("norm_gradient_apply", rows, c),
            [(X(0), 0), (Dy, 0), moments, (Params(0), 0), (DParams(0), 0), (DParams(1), 0)],
        )
        .with(Dx(0))
        .int(rows)
        .int(c)
        .costs((3 * rows + 6) * c, 5 * (rows * c) as u64)
        .only_for(Dx(0)),
    );
    Passes {
        scratch: 2 * pieces(rows, c) * c,
        batch_saved: 2 * c,
        reads_x: true,
        forward: vec![
            statistics((X(0), 0), partials, rows, c),
            merge(&Merge {
                partials,
                scale: (Params(0), 0),
                shift: (Params(1), 0),
                moments,
                affine: None,
                running_mean: Some((State(0), 0)),
                running_variance: Some((State(1), 0)),
                n: 1,
                l: rows,
                piece_rows: piece_rows(c),
                c,
                eps,
                momentum,
            }),
            apply(moments, rows, c),
        ],
        backward,
        ..Passes::default()
    }
}

/// The passes with running statistics. `BatchSaved` holds them as moments.
pub(super) fn inference(Shape { l, c }: Shape, eps: f64, n: usize) -> Passes {
    let rows = n * l;
    let moments = (BatchSaved, 0);
    let mut backward = parameter_gradients(rows, c);
    backward.push(
        with(maps("norm_scale", rows, c), [(Dy, 0), moments, (Params(0), 0), (Dx(0), 0)])
            .int(rows)
            .int(c)
            .costs((2 * rows + 2) * c, (rows * c) as u64)
            .only_for(Dx(0)),
    );
    Passes {
        scratch: 2 * pieces(rows, c) * c,
        batch_saved: 2 * c,
        reads_x: true,
        prepare: vec![
            with(Launch::over("norm_running_moments", c, 1), [(State(0), 0), (State(1), 0), moments])
                .int(c)
                .float(eps as f32)
                .costs(4 * c, 3 * c as u64),
        ],
        forward: vec![apply(moments, rows, c)],
        backward,
        ..Passes::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_all_rows_and_channels() {
        for c in [1usize, 2, 3, 31, 32, 33, 512] {
            for rows in [1, 127, 128, 129, 5000] {
                let wide = c.div_ceil(lanes(c));
                assert!(pieces(rows, c) * piece_rows(c) >= rows && (pieces(rows, c) - 1) * piece_rows(c) < rows);
                let launch = statistics((X(0), 0), (Scratch, 0), rows, c);
                assert_eq!(launch.grid, [(pieces(rows, c) * wide) as u32, 1, 1]);
                let launch = maps("norm_apply", rows, c);
                let columns = if c % 4 == 0 { c / 4 } else { c };
                assert!(launch.grid[0] as usize * launch.block as usize * MAP_ROWS >= rows * columns, "{rows} x {c}");
            }
        }
    }

    #[test]
    fn work_for_the_gradient_of_the_input_is_left_out_without_it() {
        for passes in [training(Shape::new(7, 5), 1e-5, 0.1, 3), inference(Shape::new(1, 35), 1e-5, 3)] {
            let only: Vec<_> = passes.backward.iter().map(|launch| launch.only_for).collect();
            assert_eq!(only, [None, None, Some(Dx(0))]);
        }
    }
}
