//! conv1d in double precision: the formulas as loops.

use super::Geometry;
use crate::ops::op::{ReferenceBackward, ReferenceForward};

/// Calls `visit` with (output row, tap, input row) for every product that is not with padding.
fn products(g: &Geometry, mut visit: impl FnMut(usize, usize, usize)) {
    for l in 0..g.l_out {
        for t in 0..g.k {
            let row = l * g.stride + t * g.dilation;
            if row >= g.pad && row - g.pad < g.l_in {
                visit(l, t, row - g.pad);
            }
        }
    }
}

pub fn forward(g: &Geometry, b: &mut ReferenceForward<'_>) {
    let [w, bias] = b.params.each();
    for sample in 0..b.n {
        let x = &b.x[0][sample * g.l_in * g.c_in..];
        let y = &mut b.y[sample * g.l_out * g.c_out..][..g.l_out * g.c_out];
        for row in y.chunks_exact_mut(g.c_out) {
            row.iter_mut().zip(bias).for_each(|(y, b)| *y = *b);
        }
        products(g, |l, t, j| {
            for i in 0..g.c_in {
                for o in 0..g.c_out {
                    y[l * g.c_out + o] += x[j * g.c_in + i] * w[(t * g.c_in + i) * g.c_out + o];
                }
            }
        });
    }
}

pub fn backward(g: &Geometry, b: &mut ReferenceBackward<'_>) {
    let (w, [dw, db]) = (&b.params[0], b.dparams.each());
    for sample in 0..b.n {
        let x = &b.x[0][sample * g.l_in * g.c_in..];
        let dy = &b.dy[sample * g.l_out * g.c_out..][..g.l_out * g.c_out];
        let dx = &mut b.dx[0][sample * g.l_in * g.c_in..];
        for row in dy.chunks_exact(g.c_out) {
            db.iter_mut().zip(row).for_each(|(db, dy)| *db += dy);
        }
        products(g, |l, t, j| {
            for i in 0..g.c_in {
                for o in 0..g.c_out {
                    let weight = (t * g.c_in + i) * g.c_out + o;
                    dw[weight] += x[j * g.c_in + i] * dy[l * g.c_out + o];
                    dx[j * g.c_in + i] += w[weight] * dy[l * g.c_out + o];
                }
            }
        });
    }
}
