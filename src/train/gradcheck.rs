//! Gradients compared with central differences, in double precision, through the reference passes of the operations.

use super::model::Model;
use super::weights::Weights;
use crate::base::rng::{Key, Stream};
use crate::exec::Reference;
use crate::exec::conformance::CaseGraph;
use crate::graph::{Graph, NodeId, Parameter};
use crate::nn::{Initialisation, initialise};
use crate::ops::case::Case;
use crate::ops::device::Precision;
use crate::ops::op::Role;

/// The comparison for one tensor: a parameter or an input.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct GradientCheck {
    /// The parameter, or the input.
    pub tensor: String,
    /// How many elements were compared, without those whose gradient and central difference are both zero: they show nothing.
    pub elements: usize,
    /// The largest gradient of the tensor, absolute.
    pub largest: f64,
    /// Whether no gradient reaches the tensor, because a ReLU is zero for all samples, say: then the comparison shows nothing.
    pub vanishes: bool,
    /// Largest difference between gradient and central difference, relative to [`GradientCheck::largest`], or to a thousandth of the largest
    /// gradient of all tensors if that is more: the gradient of a bias in front of batch norm is zero, and its central difference is only
    /// the rounding of the loss.
    pub error: f64,
    /// The element with this difference; 0 if no element was compared.
    pub worst: usize,
    /// The gradient of that element.
    pub gradient: f64,
    /// Its central difference.
    pub difference: f64,
}

impl GradientCheck {
    /// Whether a gradient reaches the tensor and differs by no more than `limit`.
    pub fn agrees(&self, limit: f64) -> bool {
        !self.vanishes && self.error <= limit
    }
}

/// The numbers for which gradients are compared.
#[derive(Clone, Debug)]
pub struct Point {
    /// Samples in the batch.
    pub n: usize,
    /// The parameters, in the order of the arena.
    pub params: Vec<f64>,
    /// The state, in the order of the arena.
    pub state: Vec<f64>,
    /// The inputs of the graph in their order, `[n, l, c]` each.
    pub inputs: Vec<Vec<f64>>,
    /// Which of the inputs are not differentiated: labels.
    pub fixed: Vec<usize>,
}

/// Half the distances of central differences, relative to the number's size. A difference across a kink of a ReLU or of a
/// maximum is no derivative; a smaller distance that does not reach the kink is then tried.
const STEPS: [f64; 2] = [1e-5, 3e-7];
/// An error above this is taken for a kink at first.
const KINK: f64 = 1e-6;
/// Differences are relative to at least this share of the largest gradient of all tensors.
const SMALL: f64 = 1e-3;
/// A tensor whose largest gradient is below this share of the largest of all tensors has no gradient.
const VANISHED: f64 = 1e-9;
/// Draws of weights and inputs until no gradient vanishes.
const DRAWS: u64 = 16;

/// A tensor with its gradient.
struct Target {
    name: String,
    gradient: Vec<f64>,
    /// Where the tensor is: in the parameters from this number on, or in this input.
    position: Position,
    vanishes: bool,
}

#[derive(Clone, Copy)]
enum Position {
    Parameter(usize),
    Input(usize),
}

/// The key of dropout's random numbers.
fn draw() -> Key {
    Key::new(3, Stream::Dropout)
}

/// All tensors with their gradients of the mean of `loss`, and the largest gradient.
fn targets(graph: &Graph, loss: NodeId, point: &Point) -> (Vec<Target>, f64) {
    let Point { n, params, state, inputs, fixed } = point;
    let mut reference = Reference::forward(graph, *n, params, &mut state.clone(), inputs, draw());
    reference.backward(params, loss);
    // A bias in front of batch norm: the gradients of its outputs are not zero, but their sum is.
    let cancels = |p: &Parameter| {
        let node = graph.ids().zip(graph.nodes()).find(|(_, node)| node.params.range().contains(&p.offset));
        let reached = |id: NodeId| reference.gradients[id.index()].iter().any(|&g| g != 0.0);
        matches!(p.role, Role::Bias { .. } | Role::Shift) && node.is_some_and(|(id, _)| reached(id))
    };
    let mut all = Vec::new();
    let mut exempt = Vec::new();
    for p in graph.parameters() {
        let gradient = reference.parameter_gradients[p.offset..][..p.len].to_vec();
        exempt.push(cancels(&p));
        all.push(Target { name: p.name, gradient, position: Position::Parameter(p.offset), vanishes: false });
    }
    let nodes = graph.ids().zip(graph.nodes()).filter(|(_, node)| node.op.is_none());
    for (given, (id, node)) in nodes.enumerate().filter(|(given, _)| !fixed.contains(given)) {
        let gradient = reference.gradients[id.index()].clone();
        exempt.push(false);
        all.push(Target { name: node.name.clone(), gradient, position: Position::Input(given), vanishes: false });
    }
    let largest = all.iter().map(|target| largest(&target.gradient)).fold(0.0, f64::max);
    for (target, exempt) in all.iter_mut().zip(exempt) {
        target.vanishes = !exempt && self::largest(&target.gradient) <= VANISHED * largest;
    }
    (all, largest)
}

fn largest(numbers: &[f64]) -> f64 {
    numbers.iter().fold(0.0, |most, g| most.max(g.abs()))
}

/// Compares the gradient of the mean of `loss` with respect to every parameter, and every input that is not fixed, at no more than
/// `elements` elements of each tensor. Where gradient and central difference of an element are both zero, its neighbour with the
/// largest gradient is compared in its place.
///
/// **Source**: central differences, error of the order of the squared distance.
pub fn check_graph(graph: &Graph, loss: NodeId, point: &Point, elements: usize) -> Vec<GradientCheck> {
    let (targets, most) = targets(graph, loss, point);
    compare(graph, loss, point, (&targets, most), elements)
}

fn compare(
    graph: &Graph,
    loss: NodeId,
    point: &Point,
    (targets, most): (&[Target], f64),
    elements: usize,
) -> Vec<GradientCheck> {
    let mut moved = point.clone();
    let mut all = Vec::new();
    for target in targets {
        let Target { name, gradient, vanishes, .. } = target;
        let scale = largest(gradient).max(SMALL * most).max(1e-8);
        let stride = gradient.len().div_ceil(elements.max(1)).max(1);
        let mut check = GradientCheck {
            tensor: name.clone(),
            elements: 0,
            largest: largest(gradient),
            vanishes: *vanishes,
            error: 0.0,
            worst: 0,
            gradient: 0.0,
            difference: 0.0,
        };
        for first in (0..gradient.len()).step_by(stride) {
            let mut at = first;
            let mut difference = central_difference(graph, loss, &mut moved, target, at, scale);
            if shows_nothing(gradient[at], difference) {
                let piece = first..gradient.len().min(first + stride);
                at = piece.max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs())).unwrap_or(first);
                if gradient[at] == 0.0 {
                    continue;
                }
                difference = central_difference(graph, loss, &mut moved, target, at, scale);
            }
            let error = (gradient[at] - difference).abs() / scale;
            check.elements += 1;
            if check.elements == 1 || error > check.error || error.is_nan() {
                check = GradientCheck { error, worst: at, gradient: gradient[at], difference, ..check };
            }
        }
        all.push(check);
    }
    all
}

/// Whether the element has no influence on the loss: both are exactly zero, as behind a ReLU that is zero for all samples.
fn shows_nothing(gradient: f64, difference: f64) -> bool {
    gradient == 0.0 && difference == 0.0
}

/// The central difference of the mean of `loss` with respect to element `at` of `target`, from the one of [`STEPS`] with which it
/// is closest to the gradient. `point` is changed and restored; `scale` is what errors are relative to.
fn central_difference(graph: &Graph, loss: NodeId, point: &mut Point, target: &Target, at: usize, scale: f64) -> f64 {
    let number = |point: &mut Point, value: Option<f64>| -> f64 {
        let number = match target.position {
            Position::Parameter(offset) => &mut point.params[offset + at],
            Position::Input(given) => &mut point.inputs[given][at],
        };
        if let Some(value) = value {
            *number = value;
        }
        *number
    };
    let start = number(point, None);
    let mut loss_at = |value: f64| {
        number(point, Some(value));
        let Point { n, params, state, inputs, .. } = &*point;
        Reference::forward(graph, *n, params, &mut state.clone(), inputs, draw()).loss(loss)
    };
    let mut best: Option<(f64, f64)> = None;
    for step in STEPS.map(|step| step * start.abs().max(1.0)) {
        let difference = (loss_at(start + step) - loss_at(start - step)) / (2.0 * step);
        let error = (target.gradient[at] - difference).abs() / scale;
        if best.is_none_or(|(least, _)| error < least) {
            best = Some((error, difference));
        }
        if error <= KINK {
            break;
        }
    }
    number(point, Some(start));
    best.map_or(f64::NAN, |(_, difference)| difference)
}

/// Compares the gradients of a model for `n` samples at no more than `elements` elements of each tensor. Weights and inputs are drawn from
/// `seed`, and drawn anew while a gradient vanishes; [`GradientCheck::vanishes`] says where one still does.
///
/// ```
/// use stapes::prelude::*;
/// use stapes::train::gradcheck::check_model;
///
/// let mut graph = Graph::new();
/// let audio = graph.input("audio", Shape::new(40, 1))?;
/// let labels = graph.input("labels", Shape::new(1, 1))?;
/// let hidden = graph.add("conv1", Conv1d::new(4, 5), &[audio])?;
/// let hidden = graph.add("relu1", Relu, &[hidden])?;
/// let logits = graph.add("fc1", Linear { out: 2, bias: true }, &[hidden])?;
/// let loss = graph.add("loss", SoftmaxCrossEntropy::default(), &[logits, labels])?;
/// let model = Model::new(graph, logits, loss)?;
/// assert!(check_model(&model, 2, 10, 1).iter().all(|check| check.agrees(1e-5)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check_model(model: &Model, n: usize, elements: usize, seed: u64) -> Vec<GradientCheck> {
    let (graph, loss) = (model.graph(), model.loss());
    let drawn = |number: u64| {
        let point = draw_point(model, n, Key::new(seed, Stream::Case).with(number));
        let (targets, most) = targets(graph, loss, &point);
        let vanished = targets.iter().filter(|target| target.vanishes).count();
        (vanished, point, targets, most)
    };
    let mut best = drawn(0);
    for number in 1..DRAWS {
        if best.0 == 0 {
            break;
        }
        let next = drawn(number);
        if next.0 < best.0 {
            best = next;
        }
    }
    let (_, point, targets, most) = best;
    compare(graph, loss, &point, (&targets, most), elements)
}

/// Initial weights with random biases, normal inputs, and labels of all classes.
fn draw_point(model: &Model, n: usize, key: Key) -> Point {
    let graph = model.graph();
    let mut weights = Weights::zeros(graph);
    initialise(graph, Initialisation::default(), key.value(), &mut weights.params, &mut weights.state);
    let wide = |numbers: &[f32]| numbers.iter().map(|&w| f64::from(w)).collect::<Vec<_>>();
    let (mut params, state) = (wide(&weights.params), wide(&weights.state));
    for p in graph.parameters().iter().filter(|p| matches!(p.role, Role::Bias { .. } | Role::Shift)) {
        let numbers = params[p.offset..][..p.len].iter_mut().enumerate();
        numbers.for_each(|(i, b)| *b = 0.1 * key.with(1).normal((p.offset + i) as u64));
    }
    let noise = |id: NodeId| -> Vec<f64> {
        let key = key.with(2 + id.index() as u64);
        (0..(n * graph.shape(id).size()) as u64).map(|i| f64::from(key.normal(i) as f32)).collect()
    };
    let labels = match model.labels_name_classes() {
        true => wide(&model.example_labels(n)),
        false => noise(model.labels()),
    };
    let audio = noise(model.input());
    let (inputs, fixed) =
        if model.labels_first() { (vec![labels, audio], vec![0]) } else { (vec![audio, labels], vec![1]) };
    Point { n, params, state, inputs, fixed }
}

/// Compares the gradients of one operation on one case, through the weighted sum of its output.
///
/// # Panics
/// If the operation refuses the shapes of the case.
pub fn check_case(case: &Case, elements: usize) -> Vec<GradientCheck> {
    let CaseGraph { graph, loss, inputs, params, state, .. } =
        CaseGraph::new(case, Precision::F32).expect("the shapes of a case are valid");
    let mut fixed: Vec<usize> = (0..case.inputs.len()).filter(|&i| !case.inputs[i].fill.differentiable()).collect();
    fixed.push(case.inputs.len());
    check_graph(&graph, loss, &Point { n: case.n, params, state, inputs, fixed }, elements)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Shape;
    use crate::nn::{Network, NetworkSpec};
    use crate::ops::{Linear, Relu, SoftmaxCrossEntropy};

    /// Deep and narrow, with a pool that leaves a single row: a draw of weights often leaves no positive unit.
    #[test]
    fn weights_are_drawn_until_no_gradient_vanishes() {
        let text = "name = 'deep'\ninput = { length = 81, channels = 1, sample_rate = 8000 }\n\
                    blocks = { rule = 'custom', start = 2, depth = 5, pool = 3 }";
        let network = Network::build(&NetworkSpec::parse(text, "test").unwrap(), 3).unwrap();
        for seed in 1..20 {
            for check in check_model(&Model::from(&network), 2, 2, seed) {
                assert!(check.agrees(1e-4), "{seed}: {check:?}");
            }
        }
    }

    /// With batch norm and without, also where the input of a block is the audio itself.
    #[test]
    fn separable_and_residual_blocks_have_the_gradients_of_differences() {
        for norm in [false, true] {
            let text = format!(
                "name = 'separable'\nbatch_norm = {norm}\ninput = {{ length = 60, channels = 2, sample_rate = 8000 }}\n\
                 head = {{ pool = 'average' }}\nblock = [\n\
                 {{ conv = 2, kernel = 3, residual = true, pool = 2 }},\n\
                 {{ conv = 5, kernel = 5, stride = 2, dilation = 2, separable = true }},\n\
                 {{ conv = 5, kernel = 3, separable = true, residual = true, activation = 'none' }}]"
            );
            let network = Network::build(&NetworkSpec::parse(&text, "test").unwrap(), 3).unwrap();
            for check in check_model(&Model::from(&network), 3, 20, 1) {
                assert!(check.agrees(1e-5), "norm {norm}: {check:?}");
            }
        }
    }

    /// A hidden layer of four units, and its loss.
    fn four_units() -> (Graph, NodeId) {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::new(1, 3)).unwrap();
        let labels = graph.input("labels", Shape::new(1, 1)).unwrap();
        let h = graph.add("fc1", Linear { out: 4, bias: true }, &[x]).unwrap();
        let h = graph.add("relu", Relu, &[h]).unwrap();
        let logits = graph.add("fc2", Linear { out: 2, bias: true }, &[h]).unwrap();
        let loss = graph.add("loss", SoftmaxCrossEntropy::default(), &[logits, labels]).unwrap();
        (graph, loss)
    }

    /// Three of four units are never positive. With few elements, the first of each piece belongs to such a unit.
    #[test]
    fn elements_without_a_gradient_give_way_to_others() {
        let (graph, loss) = four_units();
        let parameter = |name: &str| graph.parameters().into_iter().find(|p| p.name == name).unwrap();
        let mut params: Vec<f64> = (0..graph.params_len()).map(|i| 0.5 + 0.1 * i as f64).collect();
        let bias = parameter("fc1.bias");
        params[bias.offset..][..3].fill(-9.0);
        let inputs = vec![vec![0.1, 0.2, 0.3], vec![1.0]];
        let point = Point { n: 1, params, state: Vec::new(), inputs, fixed: vec![1] };
        for elements in [1, 2, 100] {
            let checks = check_graph(&graph, loss, &point, elements);
            for check in &checks {
                assert!(check.agrees(1e-6) && check.elements > 0 && check.gradient != 0.0, "{elements}: {check:?}");
            }
            let weight = checks.iter().find(|check| check.tensor == "fc1.weight").unwrap();
            // Of the twelve weights those of one unit have a gradient.
            assert!(weight.elements <= 3 && weight.worst % 4 == 3, "{weight:?}");
        }
    }

    #[test]
    fn a_gradient_that_vanishes_does_not_agree() {
        let (graph, loss) = four_units();
        let mut params = vec![0.5; graph.params_len()];
        // The bias makes every unit negative.
        let bias = graph.parameters().into_iter().find(|p| p.name == "fc1.bias").unwrap();
        params[bias.offset..][..bias.len].fill(-9.0);
        let inputs = vec![vec![0.1, -0.2, 0.3], vec![1.0]];
        let point = Point { n: 1, params, state: Vec::new(), inputs, fixed: vec![1] };
        let checks = check_graph(&graph, loss, &point, 10);
        let vanishing: Vec<&str> = checks.iter().filter(|c| c.vanishes).map(|c| c.tensor.as_str()).collect();
        assert_eq!(vanishing, ["fc1.weight", "fc1.bias", "fc2.weight", "x"]);
        assert!(checks.iter().all(|c| c.agrees(1e-6) != c.vanishes && c.error < 1e-6));
    }
}
