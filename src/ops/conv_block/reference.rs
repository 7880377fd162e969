//! The reference of conv_block: the references of its operations, one after the other.

use super::{ConvBlock, Norm};
use crate::base::Shape;
use crate::ops::Relu;
use crate::ops::op::{Op, ReferenceBackward, ReferenceForward, Spec, TensorRanges};
use std::ops::Range;

/// An op of the block with the shape of its input, what it needs, and which of the block's parameter tensors are its own.
struct Component {
    op: Box<dyn Op>,
    shape: Shape,
    spec: Spec,
    params: Range<usize>,
}

/// The operations that the block replaces, in their order.
fn components(block: &ConvBlock, x: Shape) -> Vec<Component> {
    let norm: Option<Box<dyn Op>> = match block.norm {
        Norm::None => None,
        Norm::Batch(norm) => Some(Box::new(norm)),
        Norm::Running(norm) => Some(Box::new(norm)),
    };
    let pool = block.pool.map(|pool| Box::new(pool) as Box<dyn Op>);
    let ops: [Option<Box<dyn Op>>; 4] = [Some(Box::new(block.conv)), norm, Some(Box::new(Relu)), pool];
    let mut components: Vec<Component> = Vec::new();
    for op in ops.into_iter().flatten() {
        let (shape, first) = components.last().map_or((x, 0), |last| (last.spec.y, last.params.end));
        let spec = spec(&*op, shape);
        let params = first..first + spec.params.len();
        components.push(Component { op, shape, spec, params });
    }
    components
}

fn spec(op: &dyn Op, x: Shape) -> Spec {
    op.spec(&[x]).expect("the graph has checked the shapes")
}

/// The output of every part of the block on `b`'s input.
fn outputs(block: &ConvBlock, b: &mut ReferenceForward<'_>) -> Vec<Vec<f64>> {
    let mut outputs: Vec<Vec<f64>> = Vec::new();
    for Component { op, shape, spec, params } in components(block, b.shapes[0]) {
        let mut y = vec![0.0; b.n * spec.y.size()];
        let x = outputs.last().map_or(b.x[0], |last| &last[..]);
        op.reference_forward(&mut ReferenceForward {
            n: b.n,
            shapes: &[shape],
            x: &[x],
            params: b.params.part(params),
            state: b.state.part(0..spec.state.len()),
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
    let (n, draw, shapes) = (b.n, b.draw, b.shapes);
    let ranges = TensorRanges::new(0, &spec(block, shapes[0]).state);
    // The forward pass changes the state, which a backward pass only reads.
    let mut copy: Vec<f64> = (0..b.state.count()).flat_map(|tensor| b.state.get(tensor)).copied().collect();
    let state = ranges.of_mut(&mut copy);
    let mut recomputed = ReferenceForward { n, shapes, x: b.x, params: b.params, state, draw, y: &mut [] };
    let outputs = outputs(block, &mut recomputed);
    let mut dy = b.dy.to_vec();
    for (i, Component { op, shape, spec, params }) in components(block, shapes[0]).into_iter().enumerate().rev() {
        let x = if i == 0 { b.x[0] } else { &outputs[i - 1] };
        let mut dx = vec![if i == 0 { std::mem::take(&mut b.dx[0]) } else { vec![0.0; x.len()] }];
        op.reference_backward(&mut ReferenceBackward {
            n,
            shapes: &[shape],
            x: &[x],
            params: b.params.part(params.clone()),
            state: b.state.part(0..spec.state.len()),
            draw,
            dy: &dy,
            dx: &mut dx,
            dparams: b.dparams.part(params),
        });
        dy = std::mem::take(&mut dx[0]);
    }
    b.dx[0] = dy;
}
