//! Floor 2. conv_block's cases: lengths around the blocks and what the pool leaves over, odd channels, real layers.

use super::{ConvBlock, SHORTEST};
use crate::base::Shape;
use crate::ops::case::Case;

fn case(l: usize, c_in: usize, c_out: usize) -> Case {
    // Of Toom-Cook's sums each is a few times less exact than a direct one of as many terms; those of the weights'
    // gradients are one chain over all cells of a batch.
    let tolerance = 1e-6 * (c_in.max(c_out) as f64 / 16.0).max(l as f64 / 4000.0).sqrt().max(1.0);
    Case { tolerance, ..Case::new(format!("n2_l{l}_c{c_in}_{c_out}"), ConvBlock { c_out }, &[Shape::new(l, c_in)]) }
}

/// Its cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = (SHORTEST..SHORTEST + 5).map(|l| case(l, 3, 5)).collect();
    cases.extend([95, 96, 97, 98, 99, 100, 191, 193].map(|l| case(l, 2, 3)));
    cases.extend([1, 7, 8, 9, 15, 16, 17, 33].map(|c| case(50, c, c + 1)));
    cases.extend([case(100, 1, 32), case(100, 32, 1), case(293, 17, 33)]);
    let real = |l, c_in, c_out| Case { real: true, ..case(l, c_in, c_out) };
    cases.extend([
        real(16000, 1, 32),
        real(5333, 32, 32),
        real(592, 32, 32),
        real(197, 32, 64),
        real(592, 64, 64),
        real(592, 128, 128),
    ]);
    cases
}
