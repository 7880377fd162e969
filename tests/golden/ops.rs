//! Single operations: outputs, gradients and new state of the references and of the kernels.

use crate::fixture::{ReferenceAdam, TensorFile, arena_order, channels_last, difference, narrow, widen};
use serde_json::Value;
use stapes::base::{
    Shape,
    rng::{Key, Stream},
};
use stapes::exec::{Cpu, Reference};
use stapes::graph::{Graph, Keep, NodeId, Parameter, Plan, PlanOptions, Work};
use stapes::ops::batch_norm::BatchNormInference;
use stapes::ops::{
    AvgPool, BatchNorm, Conv1d, DepthwiseConv1d, Linear, MaxPool1d, Op, Over, Padding, Relu, SoftmaxCrossEntropy,
    WeightedSum,
};
use stapes::optim::{Adam, AdamSettings};
use stapes::simd::Isa;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Largest accepted difference, relative to the largest value of a tensor: the rounding of double precision, and in single
/// precision that of sums of up to 200 terms.
const TOLERANCE_F64: f64 = 1e-14;
const TOLERANCE_F32: f64 = 1e-6;

/// Cases without an operation: the crate averages over the entire length only.
const WITHOUT_OP: [&str; 3] = ["avg_pool1d.0", "avg_pool1d.1", "avg_pool1d.2"];

/// The operation of a case, or `None` if the crate does not have it.
fn op_of(name: &str, a: &Value) -> Option<Arc<dyn Op>> {
    let size = |key: &str| a[key].as_u64().unwrap() as usize;
    let number = |key: &str| a[key].as_f64().unwrap();
    Some(match name {
        "conv1d" | "depthwise_conv1d" => {
            let pads = a["padding"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize);
            let pads: Vec<usize> = pads.collect();
            let padding = match a["rule"].as_str().unwrap() {
                "same" => Padding::Same,
                "valid" => Padding::Valid,
                _ => Padding::Explicit(pads[0], pads[1]),
            };
            let (c_out, bias) = (size("c_out"), a["bias"].as_bool().unwrap());
            let (k, stride, dilation) = (size("kernel"), size("stride"), size("dilation"));
            match name {
                "conv1d" => Arc::new(Conv1d { c_out, k, stride, dilation, padding, bias }),
                _ => Arc::new(DepthwiseConv1d { k, stride, dilation, padding, bias }),
            }
        }
        "max_pool1d" => {
            let ceil = a["ceil"].as_bool().unwrap();
            Arc::new(MaxPool1d { k: size("kernel"), stride: size("stride"), ceil })
        }
        "mean_over_time" => Arc::new(AvgPool),
        "batch_norm" if a["training"] == true => {
            Arc::new(BatchNorm { over: Over::Channels, momentum: number("momentum"), eps: number("eps") })
        }
        "batch_norm" => Arc::new(BatchNormInference { over: Over::Channels, eps: number("eps") }),
        "relu" => Arc::new(Relu),
        "linear" => Arc::new(Linear { out: size("c_out"), bias: true }),
        "cross_entropy" => Arc::new(SoftmaxCrossEntropy { smoothing: a["smoothing"].as_f64().unwrap_or(0.0) as f32 }),
        "avg_pool1d" => return None,
        other => panic!("the fixture has an op `{other}` that this test does not know"),
    })
}

/// A case as a graph whose loss yields the gradients of the case.
struct Problem<'f> {
    file: &'f TensorFile,
    case: &'f str,
    graph: Graph,
    n: usize,
    x: NodeId,
    y: NodeId,
    loss: NodeId,
    inputs: Vec<Vec<f64>>,
    params: Vec<f64>,
    state: Vec<f64>,
}

/// Results under the names of the fixture, in the order of the arena.
type Results = BTreeMap<String, Vec<f64>>;

/// The name of a parameter or state in the fixture.
fn short(p: &Parameter) -> &str {
    match p.name.as_str() {
        "op.weight" => "w",
        "op.bias" => "b",
        other => other.strip_prefix("op.").unwrap(),
    }
}

fn draw() -> Key {
    Key::new(1, Stream::Dropout)
}

impl<'f> Problem<'f> {
    /// Builds the problem; `None` if the crate has no operation for the case.
    fn new(file: &'f TensorFile, case: &'f str) -> Option<Problem<'f>> {
        let tensor = |name: &str| file.tensors.get(&format!("{case}.{name}"));
        let op_name = case.split('.').next().unwrap();
        let mut attributes: Value = serde_json::from_str(&file.metadata[case]).unwrap();
        assert_eq!(attributes["op"], op_name);
        attributes["c_out"] = tensor("w").map_or(0, |w| w.shape[0]).into();
        attributes["bias"] = tensor("b").is_some().into();
        let op = op_of(op_name, &attributes)?;
        let x = tensor("x").unwrap();
        let (n, c, l) = (x.shape[0], x.shape[1], x.shape.get(2).copied().unwrap_or(1));
        let mut inputs = vec![channels_last(x)];
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::new(l, c)).unwrap();
        let (y, loss) = if let Some(labels) = tensor("labels") {
            inputs.push(labels.values.clone());
            let size = labels.shape.get(1).copied().unwrap_or(1);
            let labels = graph.input("labels", Shape::new(1, size)).unwrap();
            let y = graph.add_shared("op", op, &[x, labels]).unwrap();
            (y, y)
        } else {
            inputs.push(channels_last(tensor("dy").unwrap()));
            let y = graph.add_shared("op", op, &[x]).unwrap();
            let dy = graph.input("dy", graph.shape(y)).unwrap();
            (y, graph.add("loss", WeightedSum, &[y, dy]).unwrap())
        };
        let arena = |len: usize, parameters: Vec<Parameter>| {
            let mut arena = vec![0.0; len];
            for p in parameters {
                let values = arena_order(p.layout, &tensor(short(&p)).unwrap().values);
                arena[p.offset..][..p.len].copy_from_slice(&values);
            }
            arena
        };
        let params = arena(graph.params_len(), graph.parameters());
        let state = arena(graph.state_len(), graph.states());
        Some(Problem { file, case, graph, n, x, y, loss, inputs, params, state })
    }

    /// Collects results under the names of the fixture. The graph computes gradients of the mean over the batch; those of
    /// the fixture are gradients of the sum, except for the loss operation.
    fn named(&self, y: Vec<f64>, dx: Vec<f64>, dparams: &[f64], state: &[f64]) -> Results {
        let mean = self.y == self.loss;
        let scale = |values: &[f64]| values.iter().map(|v| if mean { *v } else { v * self.n as f64 }).collect();
        let y = if mean { vec![y.iter().sum::<f64>() / self.n as f64] } else { y };
        let mut results = Results::from([("y".into(), y), ("dx".into(), scale(&dx))]);
        for p in self.graph.parameters() {
            results.insert(format!("d{}", short(&p)), scale(&dparams[p.offset..][..p.len]));
        }
        for p in self.graph.states() {
            // Outside training the fixture has no new state, and the old one must be unchanged.
            results.insert(format!("new_{}", short(&p)), state[p.offset..][..p.len].to_vec());
        }
        results
    }

    fn by_reference(&self) -> Results {
        let mut state = self.state.clone();
        let mut run = Reference::forward(&self.graph, self.n, &self.params, &mut state, &self.inputs, draw());
        run.backward(&self.params, self.loss);
        let [y, dx] = [&run.activations[self.y.index()], &run.gradients[self.x.index()]].map(Vec::clone);
        self.named(y, dx, &run.parameter_gradients, &state)
    }

    fn by_kernels(&self, isa: Isa) -> Results {
        let options = PlanOptions::new(self.n, Work::Train(self.loss)).keep(Keep::Everything);
        let mut cpu = Cpu::new(Arc::new(Plan::new(&self.graph, &options).unwrap()), isa).unwrap();
        let (params, mut state) = (narrow(&self.params), narrow(&self.state));
        let inputs: Vec<_> = self.inputs.iter().map(|x| narrow(x)).collect();
        cpu.prepare(&params, &state);
        cpu.run(&params, &mut state, &inputs.iter().map(|x| &x[..]).collect::<Vec<_>>(), draw());
        let [y, dx] = [cpu.activation(self.y).unwrap(), cpu.gradient(self.x).unwrap()].map(|v| widen(&v));
        self.named(y, dx, &widen(cpu.parameter_gradients()), &widen(&state))
    }

    /// The values that PyTorch computed. Panics if a tensor of the case is not compared.
    fn expected(&self) -> Results {
        let tensor = |name: &str| &self.file.tensors[&format!("{}.{name}", self.case)];
        let mut expected =
            Results::from([("y".into(), channels_last(tensor("y"))), ("dx".into(), channels_last(tensor("dx")))]);
        for p in self.graph.parameters() {
            let name = format!("d{}", short(&p));
            let values = arena_order(p.layout, &tensor(&name).values);
            expected.insert(name, values);
        }
        for p in self.graph.states() {
            let name = format!("new_{}", short(&p));
            let new = self.file.tensors.get(&format!("{}.{name}", self.case));
            expected.insert(name, new.unwrap_or(tensor(short(&p))).values.clone());
        }
        let prefix = format!("{}.", self.case);
        let given = ["x", "dy", "labels", "w", "b", "running_mean", "running_var"];
        for name in self.file.tensors.keys().filter_map(|name| name.strip_prefix(&prefix)) {
            assert!(given.contains(&name) || expected.contains_key(name), "{prefix}{name} is not compared");
        }
        expected
    }
}

/// The cases of the fixture: the entries of its metadata that name an operation.
fn cases(file: &TensorFile) -> Vec<&str> {
    file.metadata.iter().filter(|(_, text)| text.starts_with('{')).map(|(name, _)| name.as_str()).collect()
}

#[test]
fn every_op_gives_pytorchs_outputs_and_gradients() {
    let file = TensorFile::read("ops.safetensors");
    let (mut wrong, mut without_op, mut compared) = (Vec::new(), Vec::new(), BTreeSet::new());
    let mut largest: BTreeMap<&str, f64> = BTreeMap::new();
    for case in cases(&file).into_iter().filter(|case| !case.starts_with("adam.")) {
        let Some(problem) = Problem::new(&file, case) else {
            without_op.push(case);
            continue;
        };
        compared.insert(case.split('.').next().unwrap());
        let expected = problem.expected();
        let by_kernels = Isa::all().into_iter().map(|isa| (isa.name(), problem.by_kernels(isa), TOLERANCE_F32));
        for (way, got, tolerance) in by_kernels.chain([("reference", problem.by_reference(), TOLERANCE_F64)]) {
            assert!(got.keys().eq(expected.keys()), "{case}: {:?} and {:?}", got.keys(), expected.keys());
            for (name, expected) in &expected {
                let d = difference(&got[name], expected);
                let most = largest.entry(way).or_default();
                *most = most.max(d);
                if d > tolerance {
                    wrong.push(format!("{case}.{name} by {way}: relative difference {d:.1e}"));
                }
            }
        }
    }
    for (way, d) in largest {
        println!("{way}: largest relative difference {d:.1e}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(without_op, WITHOUT_OP);
    let ops =
        ["batch_norm", "conv1d", "cross_entropy", "depthwise_conv1d", "linear", "max_pool1d", "mean_over_time", "relu"];
    assert!(compared.iter().eq(&ops), "{compared:?}");
}

#[test]
fn features_of_one_row_are_normalised_as_pytorchs_channels() {
    let file = TensorFile::read("ops.safetensors");
    let case = "batch_norm.3";
    let x = &file.tensors[&format!("{case}.x")];
    let mut problem = Problem::new(&file, case).unwrap();
    let of_channels = problem.by_reference();
    let &[_, c] = &x.shape[..] else { panic!("{case} has rows") };
    // The operation over features, in a graph with the same nodes.
    let mut graph = Graph::new();
    let x = graph.input("x", Shape::new(1, c)).unwrap();
    let y = graph.add("op", BatchNorm::new(Over::Features), &[x]).unwrap();
    let dy = graph.input("dy", Shape::new(1, c)).unwrap();
    graph.add("loss", WeightedSum, &[y, dy]).unwrap();
    problem.graph = graph;
    let params = |graph: &Graph| graph.parameters().iter().map(|p| p.offset).collect::<Vec<_>>();
    assert_eq!(params(&problem.graph), [0, c]);
    assert_eq!(problem.by_reference(), of_channels);
}

#[test]
fn adam_takes_pytorchs_steps() {
    let file = TensorFile::read("ops.safetensors");
    let adam_cases: Vec<&str> = cases(&file).into_iter().filter(|case| case.starts_with("adam.")).collect();
    assert_eq!(adam_cases.len(), 3);
    for case in adam_cases {
        let a: Value = serde_json::from_str(&file.metadata[case]).unwrap();
        let tensor = |name: &str| &file.tensors[&format!("{case}.{name}")].values;
        let (lr, eps) = (a["lr"].as_f64().unwrap(), a["eps"].as_f64().unwrap());
        let betas = (a["betas"][0].as_f64().unwrap(), a["betas"][1].as_f64().unwrap());
        let p = tensor("p");
        let steps = || tensor("gradients").chunks_exact(p.len()).zip(tensor("p_after").chunks_exact(p.len()));

        let (mut exact, mut w) = (ReferenceAdam::new(p.len(), lr, betas, eps), p.clone());
        for (gradient, after) in steps() {
            exact.step(&mut w, gradient);
            assert!(difference(&w, after) < 1e-14, "{case}, double precision");
        }
        assert!(difference(&exact.m, tensor("m")).max(difference(&exact.v, tensor("v"))) < 1e-13, "{case}");

        let beta = |b: f64| b as f32;
        let (beta1, beta2) = (beta(betas.0), beta(betas.1));
        let settings = AdamSettings { lr: lr as f32, beta1, beta2, eps: eps as f32, ..AdamSettings::default() };
        for isa in Isa::all() {
            let (mut adam, mut w) = (Adam::new(p.len(), settings), narrow(p));
            for (step, (gradient, after)) in steps().enumerate() {
                let gradient = narrow(gradient);
                adam.step(isa, &mut w, &gradient, &[]);
                // Compares the sum of the updates, without the initial value. Each step rounds its result by up to half an
                // ulp of p, 6e-8 relative.
                let moved = |after: &[f64]| after.iter().zip(p).map(|(a, p)| a - p).collect::<Vec<f64>>();
                let rounding = 6e-8 * p.iter().fold(0.0_f64, |most, p| most.max(p.abs())) / lr;
                let d = difference(&moved(&widen(&w)), &moved(after));
                assert!(d < rounding + 1e-5, "{case} {isa:?} step {step}: relative difference {d:.1e} of the updates");
            }
            assert!(difference(&widen(&adam.m), tensor("m")) < 1e-6, "{case} {isa:?}");
            // In single precision 1 - 0.999 is 1.3e-5 too small; the bias correction of v has the same factor.
            assert!(difference(&widen(&adam.v), tensor("v")) < 2e-5, "{case} {isa:?}");
        }
    }
}
