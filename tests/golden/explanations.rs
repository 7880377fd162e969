//! Gradients of a network as it is used, and the maps made from them: those of PyTorch with the same weights.

use crate::activations::{network, weights};
use crate::fixture::{TensorFile, channels_last, difference, widen};
use serde_json::Value;
use stapes::explain::{Differentiator, Mapper, Method, STEPS};
use stapes::nn::Variant;
use stapes::simd::Isa;

/// Largest accepted difference, relative to the largest value of a tensor.
const TOLERANCE: f64 = 1e-4;

/// The clips with full scale 1, and the class of each.
fn clips(file: &TensorFile) -> (Vec<f32>, Vec<usize>) {
    let it: Value = serde_json::from_str(&file.metadata["network"]).unwrap();
    assert_eq!(it["steps"].as_u64(), Some(STEPS as u64));
    let classes = it["explained"].as_array().unwrap().iter().map(|class| class.as_u64().unwrap() as usize).collect();
    (file.tensors["samples"].values.iter().map(|&sample| (sample / 32768.0) as f32).collect(), classes)
}

#[test]
fn gradients_of_the_input_and_of_layers_are_those_of_pytorch() {
    let file = TensorFile::read("activations.safetensors");
    let (inputs, classes) = clips(&file);
    for variant in [Variant::Do, Variant::DoBn] {
        let network = network(&file, variant);
        let weights = weights(&file, &network, variant.name());
        let names = ["audio", "pool1", "relu2", "features"];
        let layers = names.map(|name| match name {
            "features" => network.features,
            _ => network.graph.find(name).unwrap(),
        });
        for isa in Isa::all() {
            // All layers at once, and each alone, which fuses other operations; the batch is not full.
            let all = std::iter::once(layers.to_vec()).chain(layers.map(|layer| vec![layer]));
            for kept in all {
                let mut differentiator =
                    Differentiator::new(&network, &weights, network.logits, &kept, classes.len() + 1, isa).unwrap();
                differentiator.run_channels(&inputs, &classes).unwrap();
                for (name, layer) in names.into_iter().zip(layers).filter(|(_, layer)| kept.contains(layer)) {
                    let got = widen(&differentiator.gradient(layer).unwrap());
                    let expected = channels_last(&file.tensors[&format!("{variant}.gradients.{name}")]);
                    let d = difference(&got, &expected);
                    assert!(d < TOLERANCE, "{variant}, {name} of {}, {}: {d:.1e}", kept.len(), isa.name());
                }
            }
        }
    }
}

#[test]
fn maps_are_those_of_pytorch() {
    let file = TensorFile::read("activations.safetensors");
    let (inputs, classes) = clips(&file);
    for variant in [Variant::Do, Variant::DoBn] {
        let network = network(&file, variant);
        let weights = weights(&file, &network, variant.name());
        let layer = |name: &str| match name {
            "features" => network.features,
            _ => network.graph.find(name).unwrap(),
        };
        let grad_cams =
            ["pool1", "relu2", "features"].map(|name| (Method::GradCam(layer(name)), format!("grad_cam.{name}")));
        let others = [
            (Method::InputGradient, "gradients.audio".to_string()),
            (Method::IntegratedGradients, "integrated_gradients".to_string()),
        ];
        for (method, name) in grad_cams.into_iter().chain(others) {
            // Three clips at a time: the last batch is not full.
            let mut mapper = Mapper::new(&network, &weights, method, 3, Isa::best()).unwrap();
            let maps = mapper.maps(&inputs, &classes).unwrap();
            let got: Vec<f64> = maps.iter().flat_map(|map| widen(&map.values)).collect();
            let d = difference(&got, &file.tensors[&format!("{variant}.{name}")].values);
            assert!(d < TOLERANCE, "{variant}, {name}: {d:.1e}");
        }
    }
}

#[test]
fn classes_and_lengths_that_do_not_fit_are_refused() {
    let file = TensorFile::read("activations.safetensors");
    let (inputs, classes) = clips(&file);
    let network = network(&file, Variant::Do);
    let weights = weights(&file, &network, "do");
    let mut differentiator = Differentiator::new(&network, &weights, network.logits, &[], 2, Isa::best()).unwrap();
    let mut refused =
        |inputs: &[f32], classes: &[usize]| differentiator.run_channels(inputs, classes).unwrap_err().to_string();
    assert!(refused(&inputs, &classes).contains("4"), "more than a batch");
    assert!(refused(&inputs[..60], &[3]).contains("there is no channel 3"));
    assert!(refused(&inputs[..60], &[0, 1]).contains("weights of the sum"));
    assert!(refused(&[], &[]).contains("0"));
    let refused = Mapper::new(&network, &weights, Method::Cam, 1, Isa::best()).err().unwrap().to_string();
    assert!(refused.contains("take Grad-CAM"), "{refused}");
}
