//! conv1d's cases: odd shapes, every attribute, and the layers of the study's networks.

use super::{Conv1d, Padding};
use crate::base::Shape;
use crate::ops::case::Case;

fn case(l: usize, c_in: usize, op: Conv1d) -> Case {
    let Conv1d { c_out, k, stride, dilation, padding, bias } = op;
    let mut name = format!("n2_l{l}_c{c_in}_{c_out}_k{k}");
    for (tag, value, usual) in [("s", stride, 1), ("d", dilation, 1)] {
        if value != usual {
            name += &format!("_{tag}{value}");
        }
    }
    name += &match padding {
        Padding::Same => String::new(),
        Padding::Valid => "_valid".into(),
        Padding::Explicit(front, back) => format!("_p{front}_{back}"),
    };
    if !bias {
        name += "_nobias";
    }
    // One f32 chain of `sum` terms, backward-weight's being the longest: error grows with its root.
    let sum = (k * c_in.max(c_out)).max(2 * l) as f64;
    Case { tolerance: 2e-7 * sum.sqrt().max(4.0), ..Case::new(name, op, &[Shape::new(l, c_in)]) }
}

/// Its cases.
pub fn cases() -> Vec<Case> {
    let same = Conv1d::new;
    let valid = |c_out, k| Conv1d { padding: Padding::Valid, ..same(c_out, k) };
    let mut cases = Vec::new();
    // Lengths around the tiles and blocks, channels around the vectors.
    for l in [1, 2, 5, 13, 14, 29, 90] {
        cases.push(case(l, 3, same(17, 5)));
    }
    for c in [1, 7, 8, 9, 15, 16, 17, 31, 33, 48, 63, 65, 80] {
        cases.push(case(37, c, same(c, 3)));
    }
    cases.extend([
        case(5, 4, valid(6, 5)),
        case(40, 1, valid(8, 25)),
        case(40, 1, same(1, 1)),
        case(31, 2, same(3, 4)),
        case(31, 5, Conv1d { bias: false, ..same(9, 5) }),
        case(31, 5, Conv1d { padding: Padding::Explicit(7, 0), ..same(4, 3) }),
        case(9, 2, Conv1d { padding: Padding::Explicit(40, 60), ..same(4, 3) }),
        case(3, 2, Conv1d { padding: Padding::Explicit(0, 30), ..same(4, 25) }),
        case(61, 3, Conv1d { stride: 2, ..same(5, 5) }),
        case(61, 3, Conv1d { stride: 3, ..valid(5, 5) }),
        case(61, 3, Conv1d { stride: 7, ..valid(5, 3) }),
        case(5, 3, Conv1d { stride: 9, ..valid(5, 3) }),
        case(61, 3, Conv1d { dilation: 4, ..same(5, 5) }),
        case(61, 4, Conv1d { stride: 3, dilation: 2, padding: Padding::Explicit(4, 4), ..same(7, 5) }),
        case(61, 4, Conv1d { stride: 4, dilation: 2, ..valid(7, 4) }),
        case(61, 4, Conv1d { stride: 2, dilation: 6, ..same(7, 3) }),
        case(200, 1, Conv1d { dilation: 3, ..same(20, 5) }),
        // Channels enough for a GPU's small tiles, with every number of taps that a tile takes.
        case(50, 33, same(40, 1)),
        case(61, 36, Conv1d { stride: 2, ..same(35, 5) }),
        case(61, 32, Conv1d { dilation: 3, ..same(66, 3) }),
        case(100, 40, same(32, 9)),
        // On a GPU the weights' gradient is summed in more pieces than eight warps, and than sixty-four, take one at a time.
        case(2000, 2, same(3, 5)),
        case(8400, 1, same(2, 3)),
    ]);
    let real = |l, c_in, op| Case { real: true, ..case(l, c_in, op) };
    cases.extend([
        real(16000, 1, same(32, 5)),
        real(5333, 32, same(32, 5)),
        real(592, 64, same(64, 5)),
        real(197, 64, same(64, 5)),
        real(592, 128, same(128, 5)),
        real(592, 64, same(64, 3)),
        real(3994, 8, valid(16, 25)),
    ]);
    cases
}
