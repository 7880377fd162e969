//! conv_block's cases: lengths around the blocks and what the pool leaves over, odd channels, every window and kernel,
//! real layers.

use super::{ConvBlock, Norm};
use crate::base::Shape;
use crate::ops::case::{Case, Fill};
use crate::ops::{BatchNorm, Conv1d, ConvChoice, MaxPool1d, Over, Padding};
use std::sync::Arc;

/// A case of `conv` on `l` rows of `c_in` channels, with a pool of `window` rows (none for 1).
fn case(l: usize, c_in: usize, conv: Conv1d, window: usize, ceil: bool) -> Case {
    let pool = (window > 1).then_some(MaxPool1d { ceil, ..MaxPool1d::new(window) });
    let block = ConvBlock::of(&conv, Norm::None, pool.as_ref(), ConvChoice::Auto).expect("the cases are blocks");
    let valid = if conv.padding == Padding::Valid { "_valid" } else { "" };
    let ceil = if ceil { "_ceil" } else { "" };
    let stride = if conv.stride > 1 { format!("_s{}", conv.stride) } else { String::new() };
    let name = format!("n2_l{l}_c{c_in}_{}_k{}{stride}_p{window}{valid}{ceil}", conv.c_out, conv.k);
    // Of Toom-Cook's sums each is a few times less exact than a direct one of as many terms; those of the weights'
    // gradients are one chain over all cells of a batch.
    let terms = (c_in.max(conv.c_out) * conv.k.div_ceil(5)) as f64;
    let tolerance = 1e-6 * (terms / 16.0).max(l as f64 / 4000.0).sqrt().max(1.0);
    Case { tolerance, ..Case::new(name, block, &[Shape::new(l, c_in)]) }
}

/// The same with batch norm: `x` is of `n` samples.
fn normed(n: usize, l: usize, c_in: usize, conv: Conv1d, window: usize, ceil: bool) -> Case {
    let pool = (window > 1).then_some(MaxPool1d { ceil, ..MaxPool1d::new(window) });
    let norm = Norm::Batch(BatchNorm::new(Over::Channels));
    let block = ConvBlock::of(&conv, norm, pool.as_ref(), ConvChoice::Auto).expect("the cases are blocks");
    let plain = case(l, c_in, conv, window, ceil);
    Case { name: plain.name.replacen("n2", &format!("n{n}"), 1) + "_bn", op: Arc::new(block), n, ..plain }
}

/// What the table would leave to direct products, by transforms.
fn fast(l: usize, c_in: usize, k: usize, window: usize) -> Case {
    let (conv, pool) = (Conv1d::new(5, k), MaxPool1d::new(window));
    let block = ConvBlock::of(&conv, Norm::None, Some(&pool), ConvChoice::Fast).expect("the cases are blocks");
    let auto = case(l, c_in, conv, window, false);
    Case { name: auto.name.clone() + "_fast", op: Arc::new(block), ..auto }
}

/// With batch norm, by transforms wherever there is an algorithm.
fn normed_fast(l: usize, c_in: usize, k: usize, window: usize) -> Case {
    let conv = Conv1d::new(5, k);
    let pool = (window > 1).then_some(MaxPool1d::new(window));
    let norm = Norm::Batch(BatchNorm::new(Over::Channels));
    let block = ConvBlock::of(&conv, norm, pool.as_ref(), ConvChoice::Fast).expect("the cases are blocks");
    let auto = normed(3, l, c_in, conv, window, false);
    // The transforms' rounding does not shrink with few channels, and the norm brings the rows to the size of one.
    Case { name: auto.name.clone() + "_fast", op: Arc::new(block), tolerance: 3e-6, ..auto }
}

/// Five taps and a pool of three.
fn five(l: usize, c_in: usize, c_out: usize) -> Case {
    case(l, c_in, Conv1d::new(c_out, 5), 3, false)
}

/// With batch norm and one input channel, where statistics follow from moments of the audio: samples, rows, outputs, taps and windows, what a
/// window or a GPU's piece of 4,096 rows leaves over, more zeros before the audio than after it, and audio far from zero.
fn single() -> Vec<Case> {
    let padded = |c_out, k, padding| Conv1d { padding, ..Conv1d::new(c_out, k) };
    let same = |n, l, c_out, k, window| normed(n, l, 1, Conv1d::new(c_out, k), window, false);
    let mut cases = vec![
        same(1, 37, 2, 3, 1),
        same(5, 23, 3, 5, 1),
        same(3, 64, 33, 2, 3),
        same(3, 131, 70, 5, 3),
        same(1, 200, 70, 3, 4),
        same(5, 19, 1, 4, 2),
        same(2, 4096, 3, 5, 2),
        normed(1, 4103, 1, padded(4, 5, Padding::Valid), 3, true),
        normed(2, 8195, 1, padded(3, 3, Padding::Explicit(2, 0)), 3, true),
        normed(3, 33, 1, padded(6, 5, Padding::Explicit(0, 6)), 4, true),
        normed(2, 50, 1, padded(2, 5, Padding::Explicit(4, 7)), 1, false),
    ];
    for window in [1, 3] {
        let mut far = same(3, 401, 9, 5, window);
        far.name += "_far";
        far.inputs[0].fill = Fill::Far;
        // The sparse sums, in f32, hold the mean until it is taken off.
        far.tolerance = 4e-6;
        cases.push(far);
    }
    cases
}

/// With batch norm and one input channel, and so many taps that a window does not fit into registers, or a stride: rows, outputs, taps and windows
/// as in [`single`], taps fewer than the stride, and blocks of sums and moments that are not full.
fn single_long() -> Vec<Case> {
    let conv = |c_out, k, stride| Conv1d { stride, ..Conv1d::new(c_out, k) };
    let padded = |conv: Conv1d, padding| Conv1d { padding, ..conv };
    let mut cases = vec![
        normed(3, 101, 1, conv(5, 9, 1), 3, false),
        normed(2, 75, 1, conv(33, 25, 1), 2, true),
        normed(1, 300, 1, conv(1, 32, 1), 4, false),
        normed(3, 200, 1, conv(6, 27, 3), 3, false),
        normed(5, 40, 1, conv(17, 27, 3), 3, true),
        normed(2, 1703, 1, conv(9, 5, 3), 3, false),
        normed(2, 1100, 1, conv(40, 8, 2), 4, true),
        normed(3, 90, 1, conv(3, 3, 4), 2, false),
        normed(2, 97, 1, conv(8, 1, 2), 3, true),
        normed(1, 500, 1, conv(70, 31, 16), 2, true),
        normed(3, 131, 1, padded(conv(4, 11, 2), Padding::Valid), 3, true),
        normed(3, 122, 1, padded(conv(4, 10, 5), Padding::Explicit(9, 0)), 2, false),
        normed(2, 64, 1, padded(conv(7, 9, 3), Padding::Explicit(0, 20)), 4, true),
    ];
    let mut far = normed(3, 401, 1, conv(9, 27, 3), 3, false);
    far.name += "_far";
    far.inputs[0].fill = Fill::Far;
    far.tolerance = 4e-6;
    cases.push(far);
    cases.push(normed(2, 203, 1, conv(6, 27, 3), 3, false).silent());
    cases
}

/// Rows and channels that fill the tiles of a GPU, and others beside them.
fn long() -> Vec<Case> {
    vec![
        normed(2, 230, 33, Conv1d::new(17, 5), 3, false),
        // Long enough for a GPU's tiles of 192 or 96 rows to be full: they make the norm's statistics themselves.
        normed(2, 300, 5, Conv1d::new(6, 5), 3, true),
        normed(2, 192, 3, Conv1d::new(40, 5), 2, false),
        normed(2, 188, 1, Conv1d::new(9, 5), 4, false),
        // Channels enough for small tiles, full ones and others; and the longest sums of large ones.
        normed(2, 140, 32, Conv1d::new(36, 5), 3, true),
        normed(3, 45, 40, Conv1d::new(33, 3), 4, false),
        five(150, 48, 40),
        case(77, 36, Conv1d::new(64, 3), 1, false),
        case(99, 64, Conv1d::new(32, 2), 2, true),
        case(40, 31, Conv1d::new(36, 25), 3, false),
    ]
}

/// Layers of the networks of the study.
fn real() -> Vec<Case> {
    let cases = [
        five(16000, 1, 32),
        five(5333, 32, 32),
        five(592, 32, 32),
        five(197, 32, 64),
        five(592, 64, 64),
        five(592, 128, 128),
        five(1777, 256, 256),
        normed(2, 16000, 1, Conv1d::new(128, 5), 3, false),
        normed(2, 16000, 1, Conv1d { stride: 3, ..Conv1d::new(32, 27) }, 3, false),
        normed(2, 5333, 128, Conv1d::new(128, 5), 3, false),
        normed(2, 1777, 256, Conv1d::new(256, 5), 3, false),
        case(5333, 64, Conv1d::new(64, 3), 1, false),
        case(5333, 64, Conv1d::new(64, 3), 3, false),
        case(3994, 8, Conv1d { padding: Padding::Valid, ..Conv1d::new(16, 25) }, 4, true),
    ];
    cases.map(|case| Case { real: true, ..case }).into()
}

/// Its cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [3, 5, 47, 48, 49, 50, 51, 52].map(|l| five(l, 5, 6)).into();
    cases.extend([95, 96, 97, 98, 99, 100, 191, 193].map(|l| five(l, 4, 5)));
    cases.extend([1, 7, 8, 9, 15, 16, 17, 33].map(|c| five(50, c, c + 1)));
    cases.extend([five(100, 1, 32), five(100, 32, 1), five(293, 17, 33), five(200, 256, 8), five(200, 8, 260)]);
    for window in 1..=4 {
        for k in [1, 2, 3, 5, 6, 9, 25] {
            cases.push(case(61, 5, Conv1d::new(6, k), window, window == 4));
        }
        let valid = |c_out, k| Conv1d { padding: Padding::Valid, ..Conv1d::new(c_out, k) };
        let lengths = [(3, 101, 1, 5), (3, 67, 6, 5), (2, 60, 4, 9), (1, 7, 1, 5), (2, 70, 1, 25), (2, 53, 17, 3)];
        for (n, l, c_in, k) in lengths {
            cases.push(normed(n, l, c_in, Conv1d::new(5, k), window, window == 2));
        }
        cases.push(normed(3, 81, 4, valid(5, 5), window, true));
        cases.push(case(117, 6, valid(7, 5), window, true));
        cases.push(case(110, 4, valid(6, 25), window, window == 2));
        cases.push(case(103, 1, valid(8, 25), window, true));
    }
    cases.extend(long());
    cases.extend([(7, 2, 5), (30, 3, 3), (18, 9, 9)].map(|(l, c_in, k)| fast(l, c_in, k, 3)));
    for window in 1..=4 {
        cases
            .extend([(1, 37), (2, 29), (3, 41), (4, 23), (5, 101), (9, 61)].map(|(k, l)| normed_fast(l, 1, k, window)));
        cases.extend([(3, 26), (5, 33)].map(|(k, l)| normed_fast(l, 2, k, window)));
    }
    // All rows of a window are equal.
    for window in 2..=4 {
        let conv = Conv1d::new(6, 5);
        let plain = [case(61, 1, conv, window, true), case(61, 5, conv, window, false), fast(61, 5, 3, window)];
        let behind = [normed(2, 101, 1, conv, window, false), normed(2, 101, 5, conv, window, true)];
        cases.extend(plain.into_iter().chain(behind).map(Case::silent));
    }
    cases.extend(single());
    cases.extend(single_long());
    cases.extend(real());
    cases
}
