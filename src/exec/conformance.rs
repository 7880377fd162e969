//! A case of an operation on a device, compared with the reference: for `stapes gradcheck --device` and the tests.

use super::{Device, DeviceError, Executor, Reference};
use crate::base::{
    aligned::Aligned,
    rng::{Key, Stream},
};
use crate::graph::{Graph, GraphError, Keep, NodeId, Parameter, Plan, PlanOptions, Work};
use crate::ops::WeightedSum;
use crate::ops::case::Case;
use crate::ops::device::Precision;
use crate::ops::op::{Inference, ReferenceForward, Role, TensorSpec};
use serde::Serialize;
use std::sync::Arc;
use thiserror::Error;

/// Why a case cannot be run.
#[derive(Debug, Error)]
pub enum ConformanceError {
    /// The graph or the plan refuses it.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The device refuses it.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// The comparison of a tensor that a device computed with that of the reference.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// `y`, `dx[0]`, `dparams`, `state`, `y in inference`.
    pub tensor: String,
    /// Root mean square of the differences, relative to that of the reference's numbers (or to a thousandth, if that is more). Infinite if
    /// a number is not finite.
    pub error: f64,
    /// The largest error that is accepted.
    pub tolerance: f64,
}

impl Compared {
    /// Whether the error is accepted.
    pub fn agrees(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// Errors are relative to at least this root mean square, for results that cancel to zero.
const FLOOR: f64 = 1e-3;
/// Running statistics are rounded to f32 even where an output is exact.
const STATE: f64 = 1e-6;
/// The largest error of the gradients of a network, which allows for a different choice between two nearly equal maxima among some ten thousand.
const NETWORK: f64 = 1e-2;

/// The largest error of a case in a precision. Inputs and parameters are rounded to it beforehand, so that no maximum and no sign depends on the
/// rounding. What remains is the rounding of the gradient at the input of a norm, which is computed first and then rounded.
pub fn tolerance(case: &Case, precision: Precision) -> f64 {
    match precision {
        Precision::F32 => case.tolerance,
        Precision::Tf32 => case.tolerance.max(1e-3),
        Precision::Bf16 => case.tolerance.max(8e-3),
    }
}

/// Rounds to as many bits of mantissa as the precision has, to nearest, ties to even.
fn rounded(v: f64, precision: Precision) -> f64 {
    let cut = match precision {
        Precision::F32 => return v,
        Precision::Tf32 => 13,
        Precision::Bf16 => 16,
    };
    let bits = (v as f32).to_bits();
    let half = (1u32 << (cut - 1)) - 1 + ((bits >> cut) & 1);
    f64::from(f32::from_bits(bits.wrapping_add(half) >> cut << cut))
}

/// A case as a graph with all its numbers: the operation, and the sum of its output with random weights.
pub struct CaseGraph {
    /// The inputs of the operation, the operation, the weights (one more input), and the weighted sum.
    pub graph: Graph,
    /// The inputs of the operation.
    pub x: Vec<NodeId>,
    /// Its output.
    pub y: NodeId,
    /// The weighted sum of the output.
    pub loss: NodeId,
    /// The inputs of the graph, `[n, l, c]` each.
    pub inputs: Vec<Vec<f64>>,
    /// The parameters, in the order of the arena.
    pub params: Vec<f64>,
    /// The state, in the order of the arena.
    pub state: Vec<f64>,
}

/// `len` normal numbers, rounded to f32; `tag` names what they are for.
pub fn noise(len: usize, tag: u64) -> Vec<f64> {
    let key = Key::new(11, Stream::Case).with(tag);
    (0..len as u64).map(|i| f64::from(key.normal(i) as f32)).collect()
}

/// Random numbers for each tensor by its role: a variance is positive.
pub fn tensors(specs: &[TensorSpec], tag: u64) -> Vec<f64> {
    let mut all = noise(specs.iter().map(TensorSpec::len).sum(), tag);
    let mut at = 0;
    for spec in specs {
        if spec.role == Role::RunningVariance {
            all[at..at + spec.len()].iter_mut().for_each(|v| *v = 0.5 + v.abs());
        }
        at += spec.len();
    }
    all
}

fn step_key() -> Key {
    Key::new(3, Stream::Dropout).with(1)
}

impl CaseGraph {
    /// The graph of a case, with inputs other than labels and parameters rounded to `precision`.
    ///
    /// # Errors
    /// The operation refuses the shapes of the case.
    pub fn new(case: &Case, precision: Precision) -> Result<CaseGraph, GraphError> {
        let mut graph = Graph::new();
        let inputs = case.inputs.iter().enumerate();
        let x: Vec<NodeId> =
            inputs.map(|(i, input)| graph.input(&format!("x{i}"), input.shape)).collect::<Result<_, _>>()?;
        let y = graph.add_shared("op", case.op.clone(), &x)?;
        let w = graph.input("w", graph.shape(y))?;
        let loss = graph.add("loss", WeightedSum, &[y, w])?;
        let spec = &graph.node(y).spec;
        let round = |mut all: Vec<f64>| {
            all.iter_mut().for_each(|v| *v = rounded(*v, precision));
            all
        };
        let (mut params, mut state) = (round(tensors(&spec.params, 2)), tensors(&spec.state, 3));
        let weights = noise(case.n * spec.y.size(), 1);
        // Labels stay as they are: rounded shares of classes would no longer have the sum 1.
        let input = |i: usize| if case.inputs[i].fill.is_label() { case.input(i) } else { round(case.input(i)) };
        let inputs = (0..x.len()).map(input).chain([round(weights)]).collect();
        params.resize(graph.params_len(), 0.0);
        state.resize(graph.state_len(), 0.0);
        Ok(CaseGraph { x, y, loss, inputs, params, state, graph })
    }

    /// The output of the operation that replaces that of the case in inference, by its reference.
    fn recognised(&self, case: &Case) -> Option<Vec<f64>> {
        let Inference::Other(op) = case.op.for_inference() else { return None };
        let node = self.graph.node(self.y);
        let shapes: Vec<_> = case.inputs.iter().map(|input| input.shape).collect();
        let x: Vec<&[f64]> = self.inputs[..shapes.len()].iter().map(|x| &x[..]).collect();
        let mut y = vec![0.0; case.n * node.spec.y.size()];
        op.reference_forward(&mut ReferenceForward {
            n: case.n,
            shapes: &shapes,
            x: &x,
            params: node.params.of(&self.params),
            state: node.state.of_mut(&mut self.state.clone()),
            draw: step_key(),
            y: &mut y,
        });
        Some(y)
    }
}

fn narrow(values: &[f64]) -> Aligned {
    let mut all = Aligned::zeros(values.len());
    all.iter_mut().zip(values).for_each(|(to, &from)| *to = from as f32);
    all
}

fn rms(numbers: impl ExactSizeIterator<Item = f64>) -> f64 {
    let len = numbers.len().max(1) as f64;
    (numbers.map(|v| v * v).sum::<f64>() / len).sqrt()
}

/// Relative rms of the differences, or relative to `floor` if that is more; infinite if a number is none.
fn error(got: &[f32], expected: &[f64], floor: f64) -> f64 {
    if got.len() != expected.len() {
        return f64::INFINITY;
    }
    let difference = rms(got.iter().zip(expected).map(|(&g, e)| f64::from(g) - e));
    let error = difference / rms(expected.iter().copied()).max(floor);
    if error.is_nan() { f64::INFINITY } else { error }
}

/// Runs `case` forward and backward on `device`, twice (the first run must not influence the second), and in inference where another operation
/// replaces it.
///
/// # Errors
/// The device cannot run it.
pub fn conformance(case: &Case, device: &Device, precision: Precision) -> Result<Vec<Compared>, ConformanceError> {
    let device = &device.clone().precision(precision);
    let setting = CaseGraph::new(case, precision)?;
    let CaseGraph { graph, x, y, loss, .. } = &setting;
    let mut end_state = setting.state.clone();
    let mut reference = Reference::forward(graph, case.n, &setting.params, &mut end_state, &setting.inputs, step_key());
    reference.backward(&setting.params, *loss);

    let options = PlanOptions::new(case.n, Work::Train(*loss)).keep(Keep::Everything);
    let mut executor = Executor::new(Arc::new(Plan::new(graph, &device.options(&options))?), device)?;
    let (params, inputs) = (narrow(&setting.params), setting.inputs.iter().map(|x| narrow(x)).collect::<Vec<_>>());
    let given: Vec<&[f32]> = inputs.iter().map(|x| &x[..]).collect();
    let mut state = narrow(&setting.state);
    for _ in 0..2 {
        state = narrow(&setting.state);
        executor.prepare(&params, &state)?;
        executor.run(&params, &mut state, &given, step_key())?;
    }
    let tolerance = tolerance(case, precision);
    let compare = |tensor: &str, got: &[f32], expected: &[f64], tolerance: f64| Compared {
        tensor: tensor.into(),
        error: error(got, expected, FLOOR),
        tolerance,
    };
    let kept = |got: Option<Vec<f32>>| got.unwrap_or_default();
    let mut all = vec![compare("y", &kept(executor.activation(*y)?), &reference.activations[y.index()], tolerance)];
    for (i, node) in x.iter().enumerate() {
        // A label has no gradient.
        if let Some(dx) = executor.gradient(*node)? {
            all.push(compare(&format!("dx[{i}]"), &dx, &reference.gradients[node.index()], tolerance));
        }
    }
    if !reference.parameter_gradients.is_empty() {
        let dparams = executor.parameter_gradients()?;
        all.push(compare("dparams", &dparams, &reference.parameter_gradients, tolerance));
    }
    if !end_state.is_empty() {
        all.push(compare("state", &state, &end_state, tolerance.max(STATE)));
    }
    if let Some(expected) = setting.recognised(case) {
        let options = PlanOptions::new(case.n, Work::Infer(*y));
        let mut executor = Executor::new(Arc::new(Plan::new(graph, &device.options(&options))?), device)?;
        let mut state = narrow(&setting.state);
        executor.prepare(&params, &state)?;
        // In inference the weights of the sum are not an input of the plan.
        executor.run(&params, &mut state, &given[..x.len()], step_key())?;
        all.push(compare("y in inference", &kept(executor.activation(*y)?), &expected, tolerance));
    }
    Ok(all)
}

/// The gradients of a network's parameters on `device` in single precision, compared with the reference for the same numbers: `params`,
/// `state` and `inputs` (`[n, l, c]` each) of the graph. The tolerance allows for a different choice between nearly equal maxima.
///
/// # Errors
/// The device cannot run it.
pub fn network_conformance(
    graph: &Graph,
    loss: NodeId,
    n: usize,
    (params, state, inputs): (&[f64], &[f64], &[Vec<f64>]),
    device: &Device,
) -> Result<Vec<Compared>, ConformanceError> {
    let mut end_state = state.to_vec();
    let mut reference = Reference::forward(graph, n, params, &mut end_state, inputs, step_key());
    reference.backward(params, loss);
    let options = PlanOptions::new(n, Work::Train(loss));
    let mut executor = Executor::new(Arc::new(Plan::new(graph, &device.options(&options))?), device)?;
    let (params, mut state) = (narrow(params), narrow(state));
    let narrowed: Vec<Aligned> = inputs.iter().map(|x| narrow(x)).collect();
    executor.prepare(&params, &state)?;
    executor.run(&params, &mut state, &narrowed.iter().map(|x| &x[..]).collect::<Vec<_>>(), step_key())?;
    let got = executor.parameter_gradients()?;
    let expected = |p: &Parameter| &reference.parameter_gradients[p.offset..][..p.len];
    // The error of a gradient that cancels to nearly zero, as that of a bias before a norm, is relative to the others.
    let largest = graph.parameters().iter().map(|p| rms(expected(p).iter().copied())).fold(0.0, f64::max);
    let compared = |p: &Parameter| Compared {
        tensor: p.name.clone(),
        error: error(&got[p.offset..][..p.len], expected(p), 1e-3 * largest),
        tolerance: NETWORK,
    };
    Ok(graph.parameters().iter().map(compared).collect())
}
