//! Gradients against central differences, in double precision through the reference of each op.

use crate::base::rng::{Key, Stream};
use crate::exec::Reference;
use crate::graph::{Graph, NodeId};
use crate::ops::WeightedSum;
use crate::ops::case::Case;

/// The gradient of one tensor, checked.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Checked {
    /// The parameter, or the input.
    pub tensor: String,
    /// Elements that were tried.
    pub elements: usize,
    /// Largest difference between gradient and central difference, relative to the tensor's largest gradient, or to a
    /// thousandth of the largest of all tensors where that is more: a bias before batch norm has a gradient of zero, and
    /// a central difference only that of the loss's rounding.
    pub error: f64,
    /// Where it is.
    pub worst: usize,
    /// The gradient there.
    pub gradient: f64,
    /// The central difference there.
    pub difference: f64,
}

/// Half the distance of a central difference, relative to the number's size.
const STEP: f64 = 1e-5;
/// Gradients below this share of the largest of all are judged as if they were so large.
const SMALL: f64 = 1e-3;

/// Checks the gradient of the mean of `loss` with respect to every parameter and every input of normal numbers, at no
/// more than `elements` elements a tensor. `inputs` are the graph's, `[n, l, c]` each; those in `fixed` (labels) are not moved.
///
/// **Source**: central differences, error of order `STEP^2`.
pub fn check_graph(
    graph: &Graph,
    loss: NodeId,
    n: usize,
    (params, inputs, fixed): (&[f64], &[Vec<f64>], &[usize]),
    elements: usize,
) -> Vec<Checked> {
    let draw = Key::new(3, Stream::Dropout);
    let state = vec![0.0; graph.state_len()];
    let loss_of = |params: &[f64], inputs: &[Vec<f64>]| {
        Reference::forward(graph, n, params, &mut state.clone(), inputs, draw).loss(loss)
    };
    let mut reference = Reference::forward(graph, n, params, &mut state.clone(), inputs, draw);
    reference.backward(params, loss);
    let inputs_at: Vec<usize> = (0..graph.nodes().len()).filter(|&i| graph.nodes()[i].op.is_none()).collect();
    let moved_inputs = || inputs_at.iter().enumerate().filter(|(given, _)| !fixed.contains(given));
    let every = moved_inputs().flat_map(|(_, &node)| &reference.gradients[node]).chain(&reference.parameter_gradients);
    let floor = every.fold(1e-8_f64, |most, g| most.max(SMALL * g.abs()));
    let mut all = Vec::new();
    for p in graph.parameters() {
        let gradient = &reference.parameter_gradients[p.offset..][..p.len];
        let mut moved = params.to_vec();
        all.push(check(p.name.clone(), gradient, (elements, floor), |at, by| {
            let size = params[p.offset + at].abs().max(1.0);
            moved[p.offset + at] = params[p.offset + at] + by * size;
            let value = loss_of(&moved, inputs);
            moved[p.offset + at] = params[p.offset + at];
            (value, size)
        }));
    }
    for (given, &node) in moved_inputs() {
        let name = graph.nodes()[node].name.clone();
        let mut moved = inputs.to_vec();
        all.push(check(name, &reference.gradients[node], (elements, floor), |at, by| {
            let size = inputs[given][at].abs().max(1.0);
            moved[given][at] = inputs[given][at] + by * size;
            let value = loss_of(params, &moved);
            moved[given][at] = inputs[given][at];
            (value, size)
        }));
    }
    all
}

/// Checks one op on one case, through the weighted sum of its output.
///
/// # Panics
/// If the op refuses the case's shapes.
pub fn check_case(case: &Case, elements: usize) -> Vec<Checked> {
    let mut graph = Graph::new();
    let x: Vec<NodeId> = (0..case.inputs.len())
        .map(|i| graph.input(&format!("x{i}"), case.inputs[i].shape).expect("a case's shapes are valid"))
        .collect();
    let spec = case.op.spec(&case.inputs.iter().map(|i| i.shape).collect::<Vec<_>>());
    let y_shape = spec.expect("a case's shapes are valid").y;
    let y = graph.add_shared("op", case.op.clone(), &x).expect("a case's shapes are valid");
    let w = graph.input("w", y_shape).expect("a case's shapes are valid");
    let loss = graph.add("loss", WeightedSum, &[y, w]).expect("two inputs of one shape");
    let noise = |len: usize, tag: u64| -> Vec<f64> {
        let key = Key::new(5, Stream::Case).with(tag);
        (0..len as u64).map(|i| key.normal(i)).collect()
    };
    let mut inputs: Vec<Vec<f64>> = (0..case.inputs.len()).map(|i| case.input(i)).collect();
    inputs.push(noise(case.n * y_shape.size(), 1));
    let mut fixed: Vec<usize> = (0..case.inputs.len()).filter(|&i| !case.inputs[i].fill.differentiable()).collect();
    fixed.push(case.inputs.len());
    let params = noise(graph.params_len(), 2);
    check_graph(&graph, loss, case.n, (&params, &inputs, &fixed), elements)
}

/// Compares `gradient` with the central differences of `value(element, distance) -> (loss, size)`.
fn check(
    tensor: String,
    gradient: &[f64],
    (elements, floor): (usize, f64),
    mut value: impl FnMut(usize, f64) -> (f64, f64),
) -> Checked {
    let scale = gradient.iter().fold(floor, |most, g| most.max(g.abs()));
    let stride = gradient.len().div_ceil(elements.max(1)).max(1);
    let mut result = Checked { tensor, elements: 0, error: 0.0, worst: 0, gradient: 0.0, difference: 0.0 };
    for at in (0..gradient.len()).step_by(stride) {
        let ((above, size), (below, _)) = (value(at, STEP), value(at, -STEP));
        let difference = (above - below) / (2.0 * STEP * size);
        let error = (gradient[at] - difference).abs() / scale;
        result.elements += 1;
        if error > result.error || error.is_nan() {
            result = Checked { error, worst: at, gradient: gradient[at], difference, ..result };
        }
    }
    result
}
