//! Exported networks compute what the library computes.

use stapes::base::rng::{Key, Stream};
use stapes::base::{Shape, Standardisation};
use stapes::export::{ExportError, Layers, Operation};
use stapes::graph::Graph;
use stapes::nn::{self, Initialisation, Network, NetworkSpec, Variant};
use stapes::ops::{Add, BatchNorm, Conv1d, Linear, Over, Relu, SoftmaxCrossEntropy, WeightedSum};
use stapes::train::{Model, Recogniser, Weights};

/// A network with blocks of every kind: valid padding and a strided first layer, depthwise-separable and residual blocks, a pool that
/// extends beyond its input, an average over time.
const MIXED: &str = r#"
name = "mixed"
batch_norm = true
input = { length = 1203, channels = 2, sample_rate = 8000 }
head = { dropout = 0.3, pool = "average", batch_norm = true, dense = [7] }
[[block]]
conv = 12
kernel = 9
stride = 4
padding = "valid"
[[block]]
conv = 12
kernel = 5
dilation = 2
separable = true
residual = true
pool = 3
pool_ceil = true
[[block]]
conv = 10
kernel = 4
padding = [3, 1]
norm = "none"
pool = 3
pool_stride = 2
[[block]]
conv = 11
kernel = 2
stride = 3
activation = "none"
"#;

/// `n` numbers around 0.
fn noise(seed: u64, n: usize) -> Vec<f32> {
    let key = Key::new(seed, Stream::Dropout);
    (0..n as u64).map(|i| (key.bits(i) >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
}

/// Weights as after training: batch norm with scales, shifts and running statistics of its own.
fn trained(graph: &Graph, seed: u64) -> Weights {
    let mut weights = Weights::initial(graph, Initialisation::default(), seed);
    let mut vary = |tensors: Vec<stapes::graph::Parameter>, arena: &mut [f32]| {
        for tensor in tensors {
            let values = &mut arena[tensor.offset..][..tensor.len];
            match tensor.name.rsplit('.').next() {
                Some("running_var") => {
                    values.iter_mut().zip(noise(seed + 1, tensor.len)).for_each(|(v, x)| *v = 1.0 + 0.8 * x)
                }
                Some("running_mean" | "bias") => {
                    values.iter_mut().zip(noise(seed + 2, tensor.len)).for_each(|(v, x)| *v = 0.1 * x);
                }
                _ => values.iter_mut().zip(noise(seed + 3, tensor.len)).for_each(|(v, x)| *v *= 1.0 + 0.3 * x),
            }
        }
    };
    vary(graph.parameters(), &mut weights.params);
    vary(graph.states(), &mut weights.state);
    weights
}

fn study(name: &str, variant: Variant) -> NetworkSpec {
    nn::find(name).unwrap().spec(variant)
}

/// The networks of the tests, with names.
fn networks() -> Vec<NetworkSpec> {
    vec![
        study("custom32-8", Variant::DoBn),
        study("baseline", Variant::Bn),
        study("shrink64-6", Variant::DoBn), // batch norm over the features
        NetworkSpec::parse(MIXED, "mixed.toml").unwrap(),
    ]
}

/// The largest difference between the logits of the recogniser and those of the layers.
fn difference(model: &Model, weights: &Weights, layers: &Layers, clip: &[f32]) -> f64 {
    let mut recogniser = Recogniser::builder(model.clone(), weights.clone()).build().unwrap();
    recogniser.run(clip).unwrap();
    let exported: Vec<f64> = layers.logits(clip).unwrap();
    assert_eq!(exported.len(), recogniser.logits(0).len());
    let pairs = recogniser.logits(0).iter().zip(&exported);
    pairs.map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max)
}

#[test]
fn layers_compute_what_the_recogniser_computes() {
    for spec in networks() {
        let network = Network::build(&spec, 5).unwrap();
        let (model, weights) = (Model::from(&network), trained(&network.graph, 3));
        let plain = Layers::new(&model, &weights, None).unwrap();
        let folded = plain.clone().fold_norms().unwrap();
        let norms = |layers: &Layers| {
            layers.layers.iter().filter(|layer| matches!(layer.operation, Operation::BatchNorm { .. })).count()
        };
        assert!(norms(&plain) > 0, "{}", spec.name);
        assert_eq!(norms(&folded), 0, "{}", spec.name);
        let clip = noise(9, spec.input.length * spec.input.channels);
        for layers in [&plain, &folded] {
            let difference = difference(&model, &weights, layers, &clip);
            assert!(difference < 1e-5, "{}: {difference}", spec.name);
            // In single precision too.
            let (single, double) = (layers.logits::<f32>(&clip).unwrap(), layers.logits::<f64>(&clip).unwrap());
            let rounding = single.iter().zip(&double).map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max);
            assert!(rounding < 1e-5, "{}: {rounding}", spec.name);
        }
    }
}

#[test]
fn the_standardisation_of_a_network_is_a_layer() {
    let spec = NetworkSpec::parse(MIXED, "mixed.toml").unwrap();
    let network = Network::build(&spec, 5).unwrap();
    let (model, weights) = (Model::from(&network), trained(&network.graph, 5));
    let standardisation = Standardisation::new(vec![0.2, -0.1], vec![0.5, 2.0]).unwrap();
    let layers = Layers::new(&model, &weights, Some(&standardisation)).unwrap().fold_norms().unwrap();
    assert!(matches!(layers.layers[1].operation, Operation::Standardise(_)));
    let clip = noise(10, 1203 * 2);
    let mut standardised = clip.clone();
    standardisation.apply(&mut standardised);
    let mut recogniser = Recogniser::builder(model.clone(), weights.clone()).build().unwrap();
    recogniser.run(&standardised).unwrap();
    let exported: Vec<f64> = layers.logits(&clip).unwrap();
    for (&ours, exported) in recogniser.logits(0).iter().zip(exported) {
        assert!((f64::from(ours) - exported).abs() < 1e-5);
    }
    let mono = Standardisation::new(vec![0.2], vec![0.5]).unwrap();
    let refused = Layers::new(&model, &weights, Some(&mono)).unwrap_err().to_string();
    assert!(refused.contains("1 channels") && refused.contains("input 2"), "{refused}");
    assert!(matches!(layers.logits::<f32>(&clip[1..]), Err(ExportError::ClipLength { got: 2405, expected: 2406 })));
}

/// A model with these logits on `graph`.
fn model(mut graph: Graph, logits: stapes::graph::NodeId) -> Model {
    let labels = graph.input("labels", Shape::new(1, 1)).unwrap();
    let loss = graph.add("loss", SoftmaxCrossEntropy::default(), &[logits, labels]).unwrap();
    Model::new(graph, logits, loss).unwrap()
}

#[test]
fn a_batch_norm_is_folded_only_where_nothing_else_reads_its_input() {
    let mut graph = Graph::new();
    let x = graph.input("x", Shape::new(20, 3)).unwrap();
    let conv = graph.add("conv", Conv1d::new(3, 5), &[x]).unwrap();
    let norm = graph.add("norm", BatchNorm::new(Over::Channels), &[conv]).unwrap();
    let sum = graph.add("sum", Add, &[norm, conv]).unwrap(); // reads the convolution too
    let before = graph.add("before", BatchNorm::new(Over::Channels), &[sum]).unwrap();
    let relu = graph.add("relu", Relu, &[before]).unwrap(); // no dense layer after it
    let features = graph.add("features", BatchNorm::new(Over::Features), &[relu]).unwrap();
    let fc1 = graph.add("fc1", Linear { out: 4, bias: false }, &[features]).unwrap();
    let twice = graph.add("twice", BatchNorm::new(Over::Channels), &[fc1]).unwrap();
    let fc2 = graph.add("fc2", Linear { out: 3, bias: false }, &[twice]).unwrap();
    let last = graph.add("last", BatchNorm::new(Over::Features), &[fc2]).unwrap();
    let model = model(graph, last);
    let weights = trained(model.graph(), 7);
    let layers = Layers::new(&model, &weights, None).unwrap().fold_norms().unwrap();
    let names: Vec<&str> = layers.layers.iter().map(|layer| layer.name.as_str()).collect();
    assert_eq!(names, ["x", "conv", "norm", "sum", "before", "relu", "fc1", "fc2"]);
    let difference = difference(&model, &weights, &layers, &noise(11, 60));
    assert!(difference < 1e-5, "{difference}");
}

#[test]
fn a_variance_below_zero_is_refused_when_it_is_folded() {
    let mut graph = Graph::new();
    let x = graph.input("x", Shape::new(20, 1)).unwrap();
    let conv = graph.add("conv", Conv1d::new(2, 5), &[x]).unwrap();
    let norm = graph.add("norm", BatchNorm::new(Over::Channels), &[conv]).unwrap();
    let model = model(graph, norm);
    let mut weights = trained(model.graph(), 7);
    weights.state.fill(-1.0);
    let refused = Layers::new(&model, &weights, None).unwrap().fold_norms().unwrap_err().to_string();
    assert!(refused.contains("`norm` into `conv` gives NaN") && refused.contains("--keep-norm"), "{refused}");
}

#[test]
fn an_operation_without_a_form_is_named() {
    let mut graph = Graph::new();
    let x = graph.input("x", Shape::new(1, 3)).unwrap();
    let y = graph.add("fc", Linear { out: 3, bias: true }, &[x]).unwrap();
    let sum = graph.add("sum", WeightedSum, &[y, x]).unwrap();
    let logits = graph.add("fc2", Linear { out: 2, bias: true }, &[sum]).unwrap();
    let model = model(graph, logits);
    let weights = trained(model.graph(), 7);
    let refused = Layers::new(&model, &weights, None).unwrap_err().to_string();
    assert!(refused.contains("`sum`") && refused.contains("`weighted_sum`"), "{refused}");
}
