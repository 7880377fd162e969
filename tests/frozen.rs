//! Frozen layers: what learns has the gradient of the reference, what does not stays as it is to the bit, and costs no backward pass.

use stapes::base::rng::{Key, Stream};
use stapes::exec::{Cpu, Reference, conformance::tensors};
use stapes::graph::{Graph, GraphError, Keep, NodeId, Plan, PlanOptions, Stage, Work};
use stapes::nn::{self, Initialisation, Network, NetworkSpec, Variant, initialise};
use stapes::ops::case::Case;
use stapes::ops::device::Products;
use stapes::ops::op::{Inference, Pass};
use stapes::ops::{ALL, ConvChoice, Linear};
use stapes::simd::Isa;
use stapes::train::{TrainError, Trainer, Weights};
use std::sync::Arc;

const CLASSES: usize = 4;
/// Samples of a batch: no power of two, so that the sums over them are no complete binary tree.
const BATCH: usize = 9;
const SEED: u64 = 5;

/// Networks with fused blocks, with an average head, with blocks that are not fused (stride, no activation, overlapping windows), with a norm
/// over features and hidden dense layers, one of which has its gradients computed once for the batch, and with separable blocks, one of
/// them residual.
const NETWORKS: [&str; 5] = [
    r#"
    blocks = { rule = "custom", start = 6, depth = 3, kernel = 5, pool = 3 }
    input = { length = 90, channels = 1, sample_rate = 8000 }
    "#,
    r#"
    input = { length = 70, channels = 2, sample_rate = 8000 }
    block = [{ conv = 5, kernel = 3, pool = 2 }, { conv = 7, kernel = 5, pool = 3 }]
    head = { pool = "average" }
    "#,
    r#"
    input = { length = 80, channels = 1, sample_rate = 8000 }
    block = [
        { conv = 6, kernel = 5, stride = 2 },
        { conv = 8, kernel = 3, norm = "none", pool = 3 },
        { conv = 5, kernel = 3, pool = 3, pool_stride = 2 },
        { conv = 4, kernel = 1, activation = "none" },
    ]
    "#,
    r#"
    input = { length = 260, channels = 1, sample_rate = 8000 }
    block = [{ conv = 8, kernel = 5, pool = 4 }]
    head = { batch_norm = true, dense = [128, 10] }
    "#,
    r#"
    input = { length = 60, channels = 1, sample_rate = 8000 }
    block = [
        { conv = 5, kernel = 5, separable = true, pool = 3 },
        { conv = 5, kernel = 3, separable = true, residual = true, pool = 2 },
    ]
    head = { pool = "average" }
    "#,
];

/// The network of `text` in a variant.
fn network(text: &str, variant: Variant) -> Network {
    let mut spec = NetworkSpec::parse(&format!("name = \"small\"\n{text}"), "test").unwrap();
    spec.set_variant(variant);
    Network::build(&spec, CLASSES).unwrap()
}

fn normals(stream: u64, len: usize) -> impl Iterator<Item = f64> {
    let key = Key::new(SEED, Stream::Case).with(stream);
    (0..len as u64).map(move |i| f64::from(key.normal(i) as f32))
}

/// Weights of a network that has learned: no running statistics of new layers, and no biases of zero.
fn weights(graph: &Graph) -> Weights {
    let mut weights = Weights::zeros(graph);
    initialise(graph, Initialisation::default(), SEED, &mut weights.params, &mut weights.state);
    for (arena, tensors) in [(&mut weights.params, graph.parameters()), (&mut weights.state, graph.states())] {
        for (number, tensor) in tensors.into_iter().enumerate() {
            let values = &mut arena[tensor.offset..][..tensor.len];
            values.iter_mut().zip(normals(number as u64, tensor.len)).for_each(|(value, normal)| {
                *value = (*value + 0.2 * normal as f32).max(if tensor.name.ends_with("var") { 0.1 } else { f32::MIN });
            });
        }
    }
    weights
}

/// Inputs and labels of a batch.
fn batch(network: &Network, step: u64) -> [Vec<f64>; 2] {
    let input = normals(100 + step, BATCH * network.graph.shape(network.audio).size()).collect();
    let key = Key::new(SEED, Stream::Case).with(step);
    [input, (0..BATCH as u64).map(|i| key.below(i, CLASSES as u64) as f64).collect()]
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// The nodes with parameters.
fn layers(graph: &Graph) -> Vec<NodeId> {
    graph.ids().filter(|&id| !graph.node(id).spec.params.is_empty()).collect()
}

/// The same graph, in which every operation of `frozen` is that of inference.
fn with_running_statistics(graph: &Graph, frozen: &[NodeId]) -> Graph {
    let mut other = Graph::new();
    for id in graph.ids() {
        let node = graph.node(id);
        let Some(op) = &node.op else {
            other.input(&node.name, graph.shape(id)).unwrap();
            continue;
        };
        let op = match op.for_inference() {
            Inference::Other(op) if frozen.contains(&id) => Arc::from(op),
            _ => op.clone(),
        };
        other.add_shared(&node.name, op, &node.inputs).unwrap();
    }
    other
}

/// The distance of two arrays, as a share of the length of the second.
fn distance(got: &[f32], expected: &[f64]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let apart = square(&mut got.iter().zip(expected).map(|(&a, &b)| f64::from(a) - b));
    (apart / square(&mut expected.iter().copied()).max(f64::MIN_POSITIVE)).sqrt()
}

/// Compares a step with `frozen` layers with the reference; what differs.
fn compare(network: &Network, frozen: &[NodeId], options: &PlanOptions, isa: Isa) -> Option<String> {
    let graph = &network.graph;
    let weights = weights(graph);
    let inputs = batch(network, 0);
    let draw = Key::new(SEED, Stream::Dropout);
    let judged = with_running_statistics(graph, frozen);
    let mut expected_state = widen(&weights.state);
    let params = widen(&weights.params);
    let mut reference = Reference::forward(&judged, BATCH, &params, &mut expected_state, &inputs, draw);
    reference.backward(&params, network.loss);

    let plan = Plan::new(graph, &options.clone().frozen(frozen.to_vec())).unwrap();
    let mut cpu = Cpu::new(Arc::new(plan), isa).unwrap();
    cpu.prepare(&weights.params, &weights.state);
    let mut state = weights.state.clone();
    // Twice: what a first run leaves in memory must not matter.
    for _ in 0..2 {
        state = weights.state.clone();
        cpu.run(&weights.params, &mut state, &[&narrow(&inputs[0]), &narrow(&inputs[1])], draw);
    }
    let gradients = cpu.parameter_gradients();
    let mut expected = reference.parameter_gradients.clone();
    for id in graph.ids().filter(|id| frozen.contains(id)) {
        let node = graph.node(id);
        let params = node.params.range();
        if gradients[params.clone()].iter().any(|&g| g != 0.0) {
            return Some(format!("the frozen layer {} has a gradient", node.name));
        }
        expected[params].fill(0.0);
        let numbers = node.state.range();
        if state[numbers.clone()] != weights.state[numbers] {
            return Some(format!("the running statistics of the frozen layer {} change", node.name));
        }
    }
    let loss = (cpu.loss() - reference.loss(network.loss)).abs();
    let figures = [
        ("loss", loss / reference.loss(network.loss)),
        ("parameters", distance(gradients, &expected)),
        ("state", if state.is_empty() { 0.0 } else { distance(&state, &expected_state) }),
        // Where it is kept: the gradient of the input, that of the whole network.
        ("input", cpu.gradient(network.audio).map_or(0.0, |dx| distance(&dx, &reference.gradients[0]))),
    ];
    figures.into_iter().find(|(_, figure)| figure.is_nan() || *figure > 2e-5).map(|figure| format!("{figure:?}"))
}

#[test]
fn every_set_of_frozen_layers_leaves_the_others_the_gradients_of_the_reference() {
    let mut wrong = Vec::new();
    for (text, variant) in
        NETWORKS.iter().flat_map(|text| [(text, Variant::Do), (text, Variant::Bn), (text, Variant::DoBn)])
    {
        let network = network(text, variant);
        let layers = layers(&network.graph);
        // All sets, but not the set of all.
        for set in 0..(1u32 << layers.len()) - 1 {
            let frozen: Vec<NodeId> = (0..layers.len()).filter(|i| set >> i & 1 == 1).map(|i| layers[i]).collect();
            let conv = [ConvChoice::Auto, ConvChoice::Fast, ConvChoice::Direct][set as usize % 3];
            let keep = [Keep::Target, Keep::Everything, Keep::Nodes(vec![network.audio])][set as usize / 3 % 3].clone();
            let options = PlanOptions::new(BATCH, Work::Train(network.loss)).keep(keep).conv(conv);
            // Each instruction set with each of these, for other sets of layers.
            let isa = Isa::all()[set as usize / 9 % Isa::all().len()];
            if let Some(difference) = compare(&network, &frozen, &options, isa) {
                let names: Vec<_> = frozen.iter().map(|&id| &network.graph.node(id).name).collect();
                wrong.push(format!("{variant:?} {isa:?} {conv} {:?} {names:?}: {difference}\n{text}", options.keep));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
}

/// The graph of `op` on `case`'s inputs and a dense layer with one output, the loss.
fn graph_of(case: &Case) -> Option<(Graph, NodeId, NodeId)> {
    let mut graph = Graph::new();
    let inputs = case.inputs.iter().enumerate();
    let x: Vec<NodeId> = inputs.map(|(i, input)| graph.input(&format!("x{i}"), input.shape).unwrap()).collect();
    let op = graph.add_shared("op", case.op.clone(), &x).unwrap();
    let loss = graph.add("loss", Linear { out: 1, bias: false }, &[op]).unwrap();
    (!graph.node(op).spec.params.is_empty()).then_some((graph, op, loss))
}

#[test]
fn every_frozen_operation_has_the_input_gradient_of_the_reference() {
    let mut wrong = Vec::new();
    let (mut compared, mut strided, draw) = (0, 0, Key::new(SEED, Stream::Dropout));
    for case in ALL.iter().flat_map(|family| (family.cases)()).filter(|case| !case.real) {
        let Some((graph, op, loss)) = graph_of(&case) else { continue };
        let judged = with_running_statistics(&graph, &[op]);
        let [op_params, loss_params] = [op, loss].map(|id| tensors(&graph.node(id).spec.params, id.index() as u64));
        let mut params = vec![0.0; graph.params_len()];
        params[..op_params.len()].copy_from_slice(&op_params);
        params[graph.node(loss).params.range()].copy_from_slice(&loss_params);
        let mut state = tensors(&graph.node(op).spec.state, 7);
        state.resize(graph.state_len(), 0.0);
        let inputs: Vec<Vec<f64>> = (0..case.inputs.len()).map(|i| case.input(i)).collect();
        let mut reference = Reference::forward(&judged, case.n, &params, &mut state.clone(), &inputs, draw);
        reference.backward(&params, loss);

        let options = PlanOptions::new(case.n, Work::Train(loss)).keep(Keep::Everything).frozen(vec![op]);
        let plan = match Plan::new(&graph, &options) {
            Ok(plan) => Arc::new(plan),
            // A frozen convolution with a stride is not fused where it needs a gradient.
            Err(GraphError::Shape { source, .. }) if source.message.contains("no kernels for stride") => {
                strided += 1;
                continue;
            }
            Err(error) => panic!("{}: {error}", case.name),
        };
        for isa in Isa::all() {
            let mut cpu = Cpu::new(plan.clone(), isa).unwrap();
            let (params, mut state) = (narrow(&params), narrow(&state));
            cpu.prepare(&params, &state);
            let inputs: Vec<Vec<f32>> = inputs.iter().map(|x| narrow(x)).collect();
            let inputs: Vec<&[f32]> = inputs.iter().map(|x| &x[..]).collect();
            cpu.run(&params, &mut state, &inputs, draw);
            let y = distance(&cpu.activation(op).unwrap(), &reference.activations[op.index()]);
            let dx = distance(&cpu.gradient(graph.find("x0").unwrap()).unwrap(), &reference.gradients[0]);
            compared += 1;
            // The reference of an operation with running statistics rounds its state, the kernel its folded weights.
            if ![y, dx].iter().all(|&apart| apart <= 3.0 * case.tolerance) {
                wrong.push(format!("{} {} {isa:?}: output {y:.1e}, gradient {dx:.1e}", case.op.name(), case.name));
            }
        }
    }
    assert!(compared > 300 && (1..20).contains(&strided), "{compared} comparisons, {strided} with a stride");
    assert!(wrong.is_empty(), "{} of {compared} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn find(graph: &Graph, names: &[&str]) -> Vec<NodeId> {
    names.iter().map(|name| graph.find(name).unwrap()).collect()
}

/// The bits of the numbers of a node in an arena.
fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn five_steps_change_what_learns_and_leave_frozen_layers_as_they_are_to_the_bit() {
    let sets: [&[&str]; 4] = [&["conv1", "bn1"], &["conv2", "bn2"], &["bn1", "conv3", "bn3"], &["fc1"]];
    let network = network(NETWORKS[0], Variant::DoBn);
    let graph = &network.graph;
    for names in sets {
        let frozen = find(graph, names);
        let train = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let builder = Trainer::builder(&network).batch(BATCH).weights(weights(graph));
                let step = |trainer: &mut Trainer, number: u64| {
                    let [inputs, labels] = batch(&network, number);
                    trainer.step(&narrow(&inputs), &narrow(&labels)).unwrap();
                };
                // Steps with all layers first: then the moments of the frozen ones are not zero.
                let mut trainer = builder.clone().build().unwrap();
                (0..2).for_each(|number| step(&mut trainer, number));
                let before = (trainer.weights().clone(), trainer.adam().clone());
                let mut trainer = builder.frozen(frozen.clone()).build().unwrap();
                trainer.set_weights(before.0.clone(), Some(before.1.clone())).unwrap();
                (2..7).for_each(|number| step(&mut trainer, number));
                (before, (trainer.weights().clone(), trainer.adam().clone()))
            })
        };
        let ((weights, adam), (new_weights, new_adam)) = train(2);
        for id in layers(graph) {
            let node = graph.node(id);
            let (params, state) = (node.params.range(), node.state.range());
            let arenas = [
                ("parameters", &weights.params, &new_weights.params, params.clone()),
                ("first moments", &adam.m, &new_adam.m, params.clone()),
                ("second moments", &adam.v, &new_adam.v, params),
                ("running statistics", &weights.state, &new_weights.state, state),
            ];
            for (what, old, new, range) in arenas {
                let same = bits(&old[range.clone()]) == bits(&new[range.clone()]);
                let expected = frozen.contains(&id) || range.is_empty();
                assert_eq!(same, expected, "{what} of {} with {names:?} frozen", node.name);
            }
        }
        let (_, (single, _)) = train(1);
        assert_eq!(bits(&single.params), bits(&new_weights.params));
    }
}

/// The names of the nodes that have a backward pass, with whether it computes gradients of inputs and of parameters.
fn backward_passes(plan: &Plan) -> Vec<(&str, (bool, bool))> {
    let nodes = plan.nodes.iter().enumerate();
    let all = nodes.map(|(i, node)| (node.name.as_str(), plan.backward_of(i)));
    all.filter(|(_, passes)| *passes != (false, false)).collect()
}

#[test]
fn below_the_lowest_layer_that_learns_there_is_no_backward_pass() {
    for variant in [Variant::Do, Variant::Bn, Variant::DoBn] {
        let network = Network::build(&nn::find("custom32-8").unwrap().spec(variant), 12).unwrap();
        let frozen: Vec<NodeId> = layers(&network.graph).into_iter().filter(|&id| id <= network.features).collect();
        let plan = |conv, device: Option<Products>| {
            let options = PlanOptions::new(32, Work::Train(network.loss)).conv(conv).frozen(frozen.clone());
            let options = device.map_or(options.clone(), |products| options.device(products));
            Plan::new(&network.graph, &options).unwrap()
        };
        for conv in [ConvChoice::Auto, ConvChoice::Direct] {
            let plan = plan(conv, None);
            assert_eq!(backward_passes(&plan), [("fc1", (false, true)), ("loss", (true, false))], "{variant:?} {conv}");
            assert!(plan.steps.iter().all(|step| {
                let name = step.node.map_or("", |node| plan.nodes[node].op.name());
                step.pass == Pass::Forward || !name.starts_with("conv")
            }));
            // Batch norm with running statistics couples no samples.
            assert!(!plan.stages.iter().any(|stage| matches!(stage, Stage::Merge(_))), "{variant:?} {conv}");
            let fused = plan.nodes.iter().filter(|node| node.op.name() == "conv_block").count();
            assert_eq!(fused, if conv == ConvChoice::Auto { 8 } else { 0 });
        }
        let on_gpu = plan(ConvChoice::Auto, Some(Products::Fma));
        let launches = on_gpu.launches().into_iter().chain(on_gpu.finishing_launches());
        let backward = launches.filter(|planned| planned.pass == "backward" || planned.pass == "finish");
        let named: Vec<_> = backward.filter_map(|planned| planned.node).map(|i| &on_gpu.nodes[i].name[..]).collect();
        assert!(!named.is_empty() && named.iter().all(|name| ["fc1", "loss"].contains(name)), "{named:?}");
    }
}

#[test]
fn a_frozen_block_above_a_layer_that_learns_is_fused_and_computes_the_gradient_of_its_input_only() {
    for variant in [Variant::Do, Variant::Bn] {
        let network = network(NETWORKS[0], variant);
        let second = if variant == Variant::Do { "conv2+relu2+pool2" } else { "conv2+bn2+relu2+pool2" };
        let frozen = if variant == Variant::Do {
            find(&network.graph, &["conv2"])
        } else {
            find(&network.graph, &["conv2", "bn2"])
        };
        let options = PlanOptions::new(BATCH, Work::Train(network.loss)).frozen(frozen);
        let plan = Plan::new(&network.graph, &options).unwrap();
        let passes = backward_passes(&plan);
        assert!(passes.contains(&(second, (true, false))), "{passes:?}");
        assert_eq!(passes[0].1, (false, true), "{passes:?}");
    }
}

#[test]
fn layers_that_differ_in_being_frozen_are_not_fused() {
    let network = network(NETWORKS[0], Variant::Bn);
    for name in ["conv2", "bn2"] {
        let options = PlanOptions::new(BATCH, Work::Train(network.loss)).frozen(find(&network.graph, &[name]));
        let plan = Plan::new(&network.graph, &options).unwrap();
        let names: Vec<_> = plan.nodes.iter().map(|node| node.name.as_str()).collect();
        assert!(names.contains(&"conv2") && names.contains(&"bn2"), "{names:?}");
    }
}

#[test]
fn frozen_ranges_begin_at_cache_lines_and_leave_what_learns() {
    let network = network(NETWORKS[0], Variant::Bn);
    let graph = &network.graph;
    let options = PlanOptions::new(BATCH, Work::Train(network.loss));
    let whole = Plan::new(graph, &options).unwrap();
    assert!(whole.frozen.is_empty());
    assert!(whole.learning().into_iter().eq(std::iter::once(0..graph.params_len())));
    let plan = Plan::new(graph, &options.frozen(find(graph, &["conv3", "conv1", "bn1"]))).unwrap();
    let at = |name: &str| graph.node(graph.find(name).unwrap()).params.range().start;
    assert_eq!(plan.frozen, [0..at("conv2"), at("conv3")..at("bn3")]);
    assert_eq!(plan.learning(), [at("conv2")..at("conv3"), at("bn3")..graph.params_len()]);
    assert!(plan.learning().iter().all(|range| range.start.is_multiple_of(16)));
}

#[test]
fn a_single_sample_is_a_batch_where_the_norm_is_frozen() {
    let text = "block = [{ conv = 4, kernel = 3 }]\ninput = { length = 30, channels = 1, sample_rate = 8000 }\n\
                head = { pool = \"average\", batch_norm = true }";
    let network = Network::build(&NetworkSpec::parse(&format!("name = \"n\"\n{text}"), "test").unwrap(), 2).unwrap();
    let plan = |frozen| Plan::new(&network.graph, &PlanOptions::new(1, Work::Train(network.loss)).frozen(frozen));
    assert!(matches!(plan(vec![]), Err(GraphError::BatchTooSmall { .. })));
    assert_eq!(plan(find(&network.graph, &["bn_features"])).unwrap().min_batch, 1);
}

#[test]
fn what_cannot_be_frozen_is_refused_with_a_sentence() {
    let network = network(NETWORKS[0], Variant::Bn);
    let graph = &network.graph;
    let error = Trainer::builder(&network).batch(BATCH).frozen(layers(graph)).build().err().unwrap();
    assert!(matches!(error, TrainError::Graph(GraphError::NothingLearns)), "{error}");
    // In inference nothing learns anyway, and nodes without parameters, or of another graph, have no effect.
    Plan::new(graph, &PlanOptions::new(1, Work::Infer(network.logits)).frozen(layers(graph))).unwrap();
    let larger = nn::find("custom32-8").unwrap().spec(Variant::Bn);
    let foreign = Network::build(&larger, 12).unwrap().logits;
    let options = PlanOptions::new(BATCH, Work::Train(network.loss));
    let odd = options.clone().frozen(vec![foreign, graph.find("relu1").unwrap(), network.audio]);
    assert!(Plan::new(graph, &odd).unwrap().frozen.is_empty());

    let on_gpu = |names| Plan::new(graph, &options.clone().frozen(find(graph, names)).device(Products::Fma));
    let error = on_gpu(&["conv2", "bn2"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "layer `conv2` is frozen, and a layer before it needs a gradient, which no frozen layer computes on a GPU; \
         freeze the layers before it too, or train on the CPU"
    );
    on_gpu(&["conv1", "bn1", "conv2", "bn2"]).unwrap();
}
