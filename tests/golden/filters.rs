//! Frequency responses of the filters of the first two layers: those of numpy's FFT with the same weights.

use crate::fixture::{Tensor, TensorFile, arena_order, difference};
use serde_json::Value;
use stapes::explain::{FilterBank, frequencies, magnitude_response};
use stapes::graph::Parameter;
use stapes::nn::{Network, NetworkSpec};
use stapes::train::Weights;

/// Largest accepted difference, relative to the largest value.
const TOLERANCE: f64 = 1e-6;

/// A network of the fixture: `[channels, rate, blocks]`.
fn network(described: &Value) -> Network {
    let mut text = format!(
        "name = \"small\"\nbatch_norm = true\ninput = {{ length = 400, channels = {}, sample_rate = {} }}\n",
        described[0], described[1]
    );
    for block in described[2].as_array().unwrap() {
        text += "[[block]]\n";
        block.as_object().unwrap().iter().for_each(|(key, value)| text += &format!("{key} = {value}\n"));
    }
    Network::build(&NetworkSpec::parse(&text, "the test").unwrap(), 2).unwrap()
}

/// Initial weights, with those of the file where it has them.
fn weights(network: &Network, file: &TensorFile, name: &str) -> Weights {
    let mut weights = Weights::initial(&network.graph, Default::default(), 1);
    let fill = |parameters: Vec<Parameter>, arena: &mut [f32]| {
        for p in parameters {
            let Some(tensor) = file.tensors.get(&format!("{name}.{}", p.name)) else { continue };
            let values = arena_order(p.layout, &tensor.values);
            arena[p.offset..][..p.len].iter_mut().zip(values).for_each(|(to, from)| *to = from as f32);
        }
    };
    fill(network.graph.parameters(), &mut weights.params);
    fill(network.graph.states(), &mut weights.state);
    weights
}

#[test]
fn responses_of_both_layers_are_those_of_numpy() {
    let file = TensorFile::read("filters.safetensors");
    let [size, step] = ["size", "step"].map(|key| file.metadata[key].parse::<usize>().unwrap());
    let networks: Value = serde_json::from_str(&file.metadata["networks"]).unwrap();
    for (name, described) in networks.as_object().unwrap() {
        let network = network(described);
        let weights = weights(&network, &file, name);
        let first = FilterBank::first_layer(&network, &weights, None).unwrap();
        let second = FilterBank::second_layer(&network, &weights, None).unwrap();
        for (layer, bank) in [("first", first), ("second", second)] {
            let expected = &file.tensors[&format!("{name}.{layer}")];
            assert_eq!(bank.frequencies, frequencies(size, bank.rate));
            assert_eq!(bank.filters.len(), expected.shape[0]);
            for filter in &bank.filters {
                let row = &expected.values[filter.channel * expected.shape[1]..][..expected.shape[1]];
                let got: Vec<f64> = filter.response.iter().copied().step_by(step).collect();
                let d = difference(&got, row);
                assert!(d < TOLERANCE, "{name}, {layer} layer, filter {}: {d:.1e}", filter.channel);
            }
        }
    }
}

#[test]
fn the_response_of_taps_is_that_of_numpy() {
    let file = TensorFile::read("filters.safetensors");
    let Tensor { shape, values } = &file.tensors["mono.conv1.weight"];
    let expected = &file.tensors["mono.first"];
    for (filter, taps) in values.chunks_exact(shape[2]).enumerate() {
        let got: Vec<f64> = magnitude_response(taps, 1024).into_iter().step_by(8).collect();
        let row = &expected.values[filter * expected.shape[1]..][..expected.shape[1]];
        let scale = file.tensors["mono.bn1.weight"].values[filter].abs()
            / (file.tensors["mono.bn1.running_var"].values[filter] + 1e-5).sqrt();
        let unscaled: Vec<f64> = row.iter().map(|value| value / scale).collect();
        assert!(difference(&got, &unscaled) < TOLERANCE, "filter {filter}");
    }
}
