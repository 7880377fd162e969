//! Floor 2. conv_block's judge: the references of its ops, one after the other.

use super::ConvBlock;
use crate::base::Shape;
use crate::ops::Relu;
use crate::ops::op::{Op, ReferenceBackward, ReferenceForward};

/// The ops that the block stands for, with the shape of each one's input.
fn parts(block: &ConvBlock, x: Shape) -> Vec<(Box<dyn Op>, Shape)> {
    let mut parts: Vec<(Box<dyn Op>, Shape)> = vec![(Box::new(block.conv), x)];
    let mut shape = x;
    let ops: [Option<Box<dyn Op>>; 2] = [Some(Box::new(Relu)), block.pool.map(|pool| Box::new(pool) as Box<dyn Op>)];
    for op in ops.into_iter().flatten() {
        let (last, at) = parts.last().expect("the convolution is there");
        shape = last.spec(&[*at]).map_or(shape, |spec| spec.y);
        parts.push((op, shape));
    }
    parts
}

/// The output of every part of the block on `b`'s input.
fn outputs(block: &ConvBlock, b: &ReferenceForward<'_>) -> Vec<Vec<f64>> {
    let mut outputs: Vec<Vec<f64>> = Vec::new();
    for (op, shape) in parts(block, b.shapes[0]) {
        let y = op.spec(&[shape]).expect("the graph has checked the shapes").y;
        let mut all = vec![0.0; b.n * y.size()];
        let x = outputs.last().map_or(b.x[0], |last| &last[..]);
        let params = if outputs.is_empty() { b.params } else { &[] };
        let (n, shapes, draw) = (b.n, &[shape][..], b.draw);
        op.reference_forward(&mut ReferenceForward { n, shapes, x: &[x], params, state: &mut [], draw, y: &mut all });
        outputs.push(all);
    }
    outputs
}

/// The whole batch forward.
pub fn forward(block: &ConvBlock, b: &mut ReferenceForward<'_>) {
    let outputs = outputs(block, b);
    b.y.copy_from_slice(outputs.last().expect("the block has parts"));
}

/// The whole batch backward.
pub fn backward(block: &ConvBlock, b: &mut ReferenceBackward<'_>) {
    let (n, draw, shapes) = (b.n, b.draw, b.shapes);
    let forward = ReferenceForward { n, shapes, x: b.x, params: b.params, state: &mut [], draw, y: &mut [] };
    let outputs = outputs(block, &forward);
    let mut dy = b.dy.to_vec();
    for (i, (op, shape)) in parts(block, shapes[0]).into_iter().enumerate().rev() {
        let x = if i == 0 { b.x[0] } else { &outputs[i - 1] };
        let mut dx = vec![if i == 0 { std::mem::take(&mut b.dx[0]) } else { vec![0.0; x.len()] }];
        let (params, dparams) = if i == 0 { (b.params, &mut *b.dparams) } else { (&[][..], &mut [][..]) };
        op.reference_backward(&mut ReferenceBackward {
            n,
            shapes: &[shape],
            x: &[x],
            params,
            state: &[],
            draw,
            dy: &dy,
            dx: &mut dx,
            dparams,
        });
        dy = std::mem::take(&mut dx[0]);
    }
    b.dx[0] = dy;
}
