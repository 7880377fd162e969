//! The activations of layers as `features` hands them out, for clips from sound files: those of PyTorch with the same weights.

use crate::fixture::{TensorFile, arena_order, channels_last, difference, narrow, widen};
use serde_json::Value;
use stapes::data::{DataConfig, Dataset, Source};
use stapes::graph::Parameter;
use stapes::nn::{Network, NetworkSpec, Variant};
use stapes::ops::ConvChoice;
use stapes::simd::Isa;
use stapes::train::{FeatureLayer, Predictor, TrainError, Weights, features};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Largest accepted difference, relative to the largest value of a layer.
const TOLERANCE: f64 = 1e-5;

/// The network of the fixture.
pub fn network(file: &TensorFile, variant: Variant) -> Network {
    let it: Value = serde_json::from_str(&file.metadata["network"]).unwrap();
    let mut text = format!("name = \"small\"\ninput.length = {}\n", it["length"]);
    for i in 0..2 {
        text += &format!(
            "[[block]]\nconv = {}\nkernel = {}\npool = {}\n",
            it["channels"][i], it["kernels"][i], it["pools"][i]
        );
    }
    let mut spec = NetworkSpec::parse(&text, "the test").unwrap();
    spec.set_variant(variant);
    Network::build(&spec, it["classes"].as_u64().unwrap() as usize).unwrap()
}

pub fn weights(file: &TensorFile, network: &Network, variant: &str) -> Weights {
    let filled = |len: usize, parameters: Vec<Parameter>| {
        let mut arena = vec![0.0; len];
        for p in parameters {
            let values = &file.tensors[&format!("{variant}.weights.{}", p.name)].values;
            arena[p.offset..][..p.len].copy_from_slice(&arena_order(p.layout, values));
        }
        narrow(&arena)
    };
    let graph = &network.graph;
    Weights { params: filled(graph.params_len(), graph.parameters()), state: filled(graph.state_len(), graph.states()) }
}

/// The clips of the fixture as WAV files of words, in the order of their numbers, as a data set.
fn data(file: &TensorFile, length: usize, folder: &Path) -> Arc<Dataset> {
    let wave = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    for (number, clip) in file.tensors["samples"].values.chunks_exact(length).enumerate() {
        let word = folder.join(["first", "second", "third"][number.min(2)]);
        std::fs::create_dir_all(&word).unwrap();
        let mut wav = hound::WavWriter::create(word.join(format!("{number}.wav")), wave).unwrap();
        clip.iter().for_each(|&value| wav.write_sample(value as i16).unwrap());
        wav.finalize().unwrap();
    }
    // All clips are taken, whichever split they are in.
    let config = DataConfig { length, allow_other_words: true, ..DataConfig::default() };
    let data = Dataset::open(&Source::open(folder).unwrap(), &config, &|_, _, _| ControlFlow::Continue(())).unwrap();
    let names: Vec<String> = data.clips().iter().map(|clip| clip.name.to_string()).collect();
    assert_eq!(names, ["first/0.wav", "second/1.wav", "third/2.wav", "third/3.wav"]);
    Arc::new(data)
}

#[test]
fn activations_are_those_of_pytorch() {
    let folder = tempfile::tempdir().unwrap();
    let file = TensorFile::read("activations.safetensors");
    let mut compared = 0;
    for variant in [Variant::Do, Variant::DoBn] {
        let network = network(&file, variant);
        let data = data(&file, network.spec.input.length, folder.path());
        let prefix = format!("{}.layers.", variant.name());
        let layers = file.tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?, tensor)));
        for (name, expected) in layers {
            let layer = FeatureLayer::find(&network, name).unwrap();
            let expected = channels_last(expected);
            for (isa, conv) in
                Isa::all().into_iter().flat_map(|isa| [(isa, ConvChoice::Direct), (isa, ConvChoice::Fast)])
            {
                let weights = weights(&file, &network, variant.name());
                // Three clips in a batch: the last batch is not full.
                let predictor = Predictor::builder(&network, weights).batch(3).conv(conv).device(isa);
                let mut predictor = predictor.keep([layer.node]).build().unwrap();
                let mut got = Vec::new();
                let take = |clips: &[u32], values: &[f32]| -> Result<(), TrainError> {
                    assert_eq!(values.len(), clips.len() * layer.shape.size());
                    got.extend(widen(values));
                    Ok(())
                };
                features(&mut predictor, &layer, &data, None, take).unwrap();
                let d = difference(&got, &expected);
                assert!(d < TOLERANCE, "{variant}, {name}, {}, {conv:?}: {d:.1e}", isa.name());
                compared += 1;
            }
        }
    }
    // Without batch norm conv, ReLU and pool of two blocks, features, dropout and fc1; with it two more.
    assert_eq!(compared, (9 + 11) * 2 * Isa::all().len());
}
