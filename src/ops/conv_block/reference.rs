//! The reference of conv_block: the references of its operations, one after the other.

use super::{ConvBlock, Norm, norm_at};
use crate::base::Shape;
use crate::ops::Relu;
use crate::ops::op::{Op, ReferenceBackward, ReferenceForward, Spec};

/// An op of the block with the shape of its input, and how many of the block's parameters are before its own.
struct Component {
    op: Box<dyn Op>,
    shape: Shape,
    params_at: usize,
}

/// The operations that the block replaces, in their order.
fn components(block: &ConvBlock, x: Shape) -> Vec<Component> {
    let norm_at = norm_at(&block.geometry(x).expect("the graph has checked the shapes"));
    let norm: Option<Box<dyn Op>> = match block.norm {
        Norm::None => None,
        Norm::Batch(norm) => Some(Box::new(norm)),
        Norm::Running(norm) => Some(Box::new(norm)),
    };
    let pool = block.pool.map(|pool| Box::new(pool) as Box<dyn Op>);
    let ops: [(Option<Box<dyn Op>>, usize); 4] =
        [(Some(Box::new(block.conv)), 0), (norm, norm_at), (Some(Box::new(Relu)), 0), (pool, 0)];
    let mut components: Vec<Component> = Vec::new();
    for (op, params_at) in ops.into_iter().filter_map(|(op, at)| op.map(|op| (op, at))) {
        let shape = components.last().map_or(x, |last| spec(&*last.op, last.shape).y);
        components.push(Component { op, shape, params_at });
    }
    components
}

fn spec(op: &dyn Op, x: Shape) -> Spec {
    op.spec(&[x]).expect("the graph has checked the shapes")
}

/// The output of every part of the block on `b`'s input.
fn outputs(block: &ConvBlock, b: &mut ReferenceForward<'_>) -> Vec<Vec<f64>> {
    let mut outputs: Vec<Vec<f64>> = Vec::new();
    for Component { op, shape, params_at } in components(block, b.shapes[0]) {
        let spec = spec(&*op, shape);
        let mut y = vec![0.0; b.n * spec.y.size()];
        let x = outputs.last().map_or(b.x[0], |last| &last[..]);
        op.reference_forward(&mut ReferenceForward {
            n: b.n,
            shapes: &[shape],
            x: &[x],
            params: &b.params[params_at..][..spec.params_len()],
            state: &mut b.state[..spec.state_len()],
            draw: b.draw,
            y: &mut y,
        });
        outputs.push(y);
    }
    outputs
}

/// The whole batch forward.
pub fn forward(block: &ConvBlock, b: &mut ReferenceForward<'_>) {
    let outputs = outputs(block, b);
    b.y.copy_from_slice(outputs.last().expect("the block has components"));
}

/// The whole batch backward.
pub fn backward(block: &ConvBlock, b: &mut ReferenceBackward<'_>) {
    let (n, draw, shapes, mut state) = (b.n, b.draw, b.shapes, b.state.to_vec());
    let mut recomputed = ReferenceForward { n, shapes, x: b.x, params: b.params, state: &mut state, draw, y: &mut [] };
    let outputs = outputs(block, &mut recomputed);
    let mut dy = b.dy.to_vec();
    for (i, Component { op, shape, params_at }) in components(block, shapes[0]).into_iter().enumerate().rev() {
        let spec = spec(&*op, shape);
        let x = if i == 0 { b.x[0] } else { &outputs[i - 1] };
        let mut dx = vec![if i == 0 { std::mem::take(&mut b.dx[0]) } else { vec![0.0; x.len()] }];
        op.reference_backward(&mut ReferenceBackward {
            n,
            shapes: &[shape],
            x: &[x],
            params: &b.params[params_at..][..spec.params_len()],
            state: &b.state[..spec.state_len()],
            draw,
            dy: &dy,
            dx: &mut dx,
            dparams: &mut b.dparams[params_at..][..spec.params_len()],
        });
        dy = std::mem::take(&mut dx[0]);
    }
    b.dx[0] = dy;
}
