//! Exported networks compute what the library computes.

#[path = "export/interpreter.rs"]
mod interpreter;
mod program;

use predicates::prelude::*;
use predicates::str::contains;
use program::*;
use safetensors::Dtype;
use serde_json::Value;
use stapes::base::rng::{Key, Stream};
use stapes::base::{Shape, Standardisation};
use stapes::data::{Crop, DataConfig, Dataset, Format, Source, Split, SplitRule, Standardise, read_clip};
use stapes::exec::Device;
use stapes::export::{
    CCode, CDescription, CNetwork, Export, ExportError, IntegerNetwork, Layers, Operation, ReplayClips, Stages,
    calibrate, compare_integer, onnx, replay,
};
use stapes::graph::Graph;
use stapes::nn::{self, Initialisation, Network, NetworkSpec, Variant};
use stapes::ops::{Add, BatchNorm, Conv1d, Linear, Over, Relu, SoftmaxCrossEntropy, WeightedSum};
use stapes::simd::Isa;
use stapes::train::{Bundle, Model, Predictor, Weights, Which, file_shape, to_file_order};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

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
fn trained_weights(graph: &Graph, seed: u64) -> Weights {
    let mut weights = Weights::initial(graph, Initialisation::default(), seed);
    let vary = |tensors: Vec<stapes::graph::Parameter>, arena: &mut [f32]| {
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

/// The largest difference between the logits of the predictor and those of the layers.
fn difference(model: &Model, weights: &Weights, layers: &Layers, clip: &[f32]) -> f64 {
    let mut predictor = Predictor::builder(model.clone(), weights.clone()).build().unwrap();
    predictor.run(clip).unwrap();
    let exported: Vec<f64> = layers.logits(clip).unwrap();
    assert_eq!(exported.len(), predictor.logits(0).len());
    let pairs = predictor.logits(0).iter().zip(&exported);
    pairs.map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max)
}

#[test]
fn layers_compute_what_the_recogniser_computes() {
    for spec in networks() {
        let network = Network::build(&spec, 5).unwrap();
        let (model, weights) = (Model::from(&network), trained_weights(&network.graph, 3));
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
    let (model, weights) = (Model::from(&network), trained_weights(&network.graph, 5));
    let standardisation = Standardisation::new(vec![0.2, -0.1], vec![0.5, 2.0]).unwrap();
    let layers = Layers::new(&model, &weights, Some(&standardisation)).unwrap().fold_norms().unwrap();
    assert!(matches!(layers.layers[1].operation, Operation::Standardise(_)));
    let clip = noise(10, 1203 * 2);
    let mut standardised = clip.clone();
    standardisation.apply(&mut standardised);
    let mut predictor = Predictor::builder(model.clone(), weights.clone()).build().unwrap();
    predictor.run(&standardised).unwrap();
    let exported: Vec<f64> = layers.logits(&clip).unwrap();
    for (&ours, exported) in predictor.logits(0).iter().zip(exported) {
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
    let weights = trained_weights(model.graph(), 7);
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
    let mut weights = trained_weights(model.graph(), 7);
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
    let weights = trained_weights(model.graph(), 7);
    let refused = Layers::new(&model, &weights, None).unwrap_err().to_string();
    assert!(refused.contains("`sum`") && refused.contains("`weighted_sum`"), "{refused}");
}

/// A network with weights as after training, as if it were loaded from a file.
fn bundle(spec: &NetworkSpec, classes: usize, seed: u64) -> Bundle {
    let network = Arc::new(Network::build(spec, classes).unwrap());
    let weights = trained_weights(&network.graph, seed);
    let classes = (0..classes).map(|i| format!("word {i}").as_str().into()).collect();
    let standardisation =
        (spec.input.channels == 2).then(|| Standardisation::new(vec![0.2, -0.1], vec![0.5, 2.0]).unwrap());
    Bundle { network, weights, classes, standardisation, file: "test".into(), folder: None, config: None }
}

/// A mean far from zero, and a length that no recording of the tests has: every clip is padded.
#[test]
fn a_clip_that_is_shorter_than_the_input_is_padded_as_in_training() {
    let text = MIXED.replace("length = 1203, channels = 2", "length = 9000, channels = 1");
    let spec = NetworkSpec::parse(&text, "mixed.toml").unwrap();
    let standardisation = Standardisation::new(vec![0.4], vec![0.1]).unwrap();
    let reading = DataConfig {
        classes: Some(["bed", "cat", "one", "six"].map(Into::into).to_vec()),
        length: spec.input.length,
        format: Format { rate_hz: 8_000, channels: 1 },
        split: SplitRule::Random { seed: 1 },
        standardise: Standardise::By(standardisation.clone()),
        ..DataConfig::default()
    };
    let data = Dataset::open(&Source::open(&clips()).unwrap(), &reading, &|_, _, _| ControlFlow::Continue(())).unwrap();
    let bundle = Bundle { standardisation: Some(standardisation), ..bundle(&spec, 4, 3) };
    let layers = Layers::of(&bundle).unwrap().fold_norms().unwrap();
    let mut predictor = Predictor::builder(&bundle.network, bundle.weights.clone()).build().unwrap();
    let [mut trained, mut exported, mut zeros] = [(); 3].map(|()| vec![0.0; data.row_len()]);
    let mut farthest = 0f32;
    for clip in 0..data.clips().len() {
        assert!(data.clips()[clip].len_samples < 9_000);
        data.write_input(clip, &mut trained);
        data.write_for(bundle.standardisation.as_ref(), clip, &mut exported);
        data.samples(clip).write(&mut zeros);
        predictor.run(&trained).unwrap();
        let [padded, with_zeros] = [&exported, &zeros].map(|input| layers.logits::<f32>(input).unwrap());
        for ((a, b), c) in predictor.logits(0).iter().zip(padded).zip(with_zeros) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
            farthest = farthest.max((a - c).abs());
        }
    }
    assert!(farthest > 0.1, "zeros before standardisation are another input: {farthest}");
    // What the export command replays, and what it compares in integers.
    let replayed = ReplayClips::of_recordings(&bundle, &data, 1);
    let first = data.in_split(Split::Testing)[0] as usize;
    data.write_for(bundle.standardisation.as_ref(), first, &mut exported);
    assert_eq!(replayed.inputs, exported);
    let stages = Stages::new(&layers, "integers").unwrap();
    let integer = IntegerNetwork::new(&stages, &calibrate(&bundle, &stages, &data, 8).unwrap()).unwrap();
    let compared = compare_integer(&bundle, &integer, &data, usize::MAX, Isa::best()).unwrap();
    let evaluated = predictor.evaluate(&Arc::new(data), Split::Testing).unwrap();
    assert_eq!(compared.accuracies[0], evaluated.accuracy);
    // Files say with what a clip is padded.
    let classes = &bundle.classes;
    let description = CDescription { name: "m", network: "n", classes, rate_hz: 8_000, remarks: &[] };
    let header = CCode::new(CNetwork::Float(&stages), &description).unwrap().header;
    assert!(header.contains("#define M_INPUT_PADDING { 4e-1f }"), "{header}");
    assert!(bundle.metadata()["stapes.standardisation"].contains("\"mean\":[0.4]"));
}

/// The clips `[n, length, channels]` as a file of `[n, channels, length]`, and the logits of the library as a file.
fn write_arrays(folder: &Path, bundle: &Bundle, clips: &[f32]) {
    let Shape { l, c } = bundle.network.graph.shape(bundle.network.audio);
    let mut predictor = Predictor::builder(&bundle.network, bundle.weights.clone()).build().unwrap();
    let (mut turned, mut logits) = (Vec::new(), Vec::new());
    for clip in clips.chunks(l * c) {
        turned.extend((0..c).flat_map(|j| (0..l).map(move |r| clip[r * c + j])));
        let mut clip = clip.to_vec();
        if let Some(values) = &bundle.standardisation {
            values.apply(&mut clip);
        }
        predictor.run(&clip).unwrap();
        logits.extend_from_slice(predictor.logits(0));
    }
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    fs::write(folder.join("clips.f32"), bytes(&turned)).unwrap();
    fs::write(folder.join("logits.f32"), bytes(&logits)).unwrap();
}

fn read_f32(file: &Path) -> Vec<f32> {
    fs::read(file).unwrap().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// What a Python script under `tests/export` prints, or nothing where Python or a package is not installed.
fn python(script: &str, arguments: &[PathBuf]) -> Option<Value> {
    let python = std::env::var("STAPES_PYTHON").unwrap_or("python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/export").join(script);
    let output = match Command::new(&python).arg(script).args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: {python} cannot be started: {error}");
            return None;
        }
    };
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.code() == Some(3) {
        println!("skipped: {said}");
        return None;
    }
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// Checks the report of a runtime on a model.
#[track_caller]
fn check_report(of: &str, report: &Value, clips: usize) {
    assert_eq!(report["clips"], clips, "{of}: {report}");
    assert!(report["difference"].as_f64().unwrap() < 1e-4, "{of}: {report}");
    assert_eq!(report["flips"], 0, "{of}: {report}");
    println!("{of}: largest logit difference {} over {clips} clips", report["difference"]);
}

/// Recordings of several words for networks of sound, and noise for others.
fn replayed(shape: Shape) -> ReplayClips {
    if shape != Shape::new(16_000, 1) {
        return ReplayClips::noise(shape, 5, 8);
    }
    let format = Format { rate_hz: 16_000, channels: 1 };
    let mut inputs = vec![0.0; 5 * shape.size()];
    for (word, input) in ["bed", "cat", "one", "six", "two"].into_iter().zip(inputs.chunks_mut(shape.size())) {
        let read = read_clip(&fs::read(clip(word)).unwrap(), word, format).unwrap();
        Crop::Start.write_input(&read.samples, 1, input);
    }
    ReplayClips { source: "clips", inputs }
}

#[test]
fn an_onnx_model_computes_what_the_recogniser_computes() {
    for spec in networks() {
        let bundle = bundle(&spec, 5, 3);
        let shape = Shape::new(spec.input.length, spec.input.channels);
        let clips = replayed(shape);
        let n = clips.inputs.len() / shape.size();
        let dir = tempfile::tempdir().unwrap();
        write_arrays(dir.path(), &bundle, &clips.inputs);
        let [x, expected] = ["clips.f32", "logits.f32"].map(|name| read_f32(&dir.path().join(name)));
        for fold in [true, false] {
            let export = Export::new(&bundle, fold, &clips, &Device::default()).unwrap();
            assert!(export.replay.largest_logit_difference < 1e-4 && export.replay.label_flips == 0);
            let file = dir.path().join("model.onnx");
            export.save_onnx(&file, false).unwrap();
            let model = onnx::Model::from_bytes(&fs::read(&file).unwrap()).unwrap();
            let logits = interpreter::run(&model, &x);
            assert_eq!(logits.len(), expected.len());
            let difference = logits.iter().zip(&expected).map(|(a, &b)| (a - f64::from(b)).abs()).fold(0.0, f64::max);
            assert!(difference < 1e-4, "{} {fold}: {difference}", spec.name);
            // With softmax: the same classes, and probabilities.
            let probabilities = interpreter::run(&onnx::Model::new(&export, true).unwrap(), &x);
            assert!((probabilities[..5].iter().sum::<f64>() - 1.0).abs() < 1e-9);
            let report = python("runtime.py", &[file, dir.path().join("clips.f32"), dir.path().join("logits.f32")]);
            let Some(report) = report else { continue };
            check_report(&format!("{}, ONNX Runtime", spec.name), &report, n);
            assert!(report["single"].as_f64().unwrap() < 1e-4, "{report}");
            assert_eq!((&report["input"], &report["output"]), (&"audio".into(), &"logits".into()));
            assert_eq!((&report["ir"], &report["opset"]), (&8.into(), &17.into()));
            assert_eq!(report["metadata"]["stapes.norm"], if fold { "folded" } else { "kept" });
            assert_eq!(report["metadata"]["stapes.sample_rate"], spec.input.sample_rate.to_string());
            assert_eq!(report["metadata"]["stapes.classes"], r#"["word 0","word 1","word 2","word 3","word 4"]"#);
            let replay: Value = serde_json::from_str(report["metadata"]["stapes.replay"].as_str().unwrap()).unwrap();
            assert_eq!((&replay["clips"], &replay["label_flips"]), (&n.into(), &0.into()));
        }
    }
}

#[test]
fn an_export_is_the_same_bytes_at_any_number_of_threads() {
    let bundle = bundle(&NetworkSpec::parse(MIXED, "mixed.toml").unwrap(), 5, 3);
    let clips = ReplayClips::noise(Shape::new(1203, 2), 20, 8);
    let bytes = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let export = pool.install(|| Export::new(&bundle, true, &clips, &Device::default())).unwrap();
        onnx::Model::new(&export, true).unwrap().to_bytes()
    };
    assert!(bytes(1) == bytes(3));
}

#[test]
fn weights_are_written_for_other_programs_and_read_again() {
    for spec in networks() {
        let bundle = bundle(&spec, 5, 3);
        let clips = ReplayClips::noise(Shape::new(spec.input.length, spec.input.channels), 2, 8);
        let dir = tempfile::tempdir().unwrap();
        for fold in [true, false] {
            let export = Export::new(&bundle, fold, &clips, &Device::default()).unwrap();
            let [npz, file] = ["weights.npz", "weights.safetensors"].map(|name| dir.path().join(name));
            export.save_npz(&npz).unwrap();
            export.save_safetensors(&file).unwrap();
            // The weight file is a network that computes the same.
            let again = Bundle::open(&file, Which::Best).unwrap();
            assert_eq!(again.standardisation, bundle.standardisation);
            assert_eq!(again.network.graph.states().is_empty(), fold, "{}", spec.name);
            let layers = Layers::of(&again).unwrap();
            let replayed = replay(&bundle, &layers, &clips, &Device::default()).unwrap();
            assert!(replayed.largest_logit_difference < 1e-4, "{}: {replayed:?}", spec.name);
            let Some(read) = python("arrays.py", &[npz, file]) else { continue };
            let (npz, safetensors) = (read["npz"].as_object().unwrap(), read["safetensors"].as_object().unwrap());
            for layer in &export.layers.layers {
                for (suffix, tensor) in layer.operation.tensors() {
                    let name = format!("{}.{suffix}", layer.name);
                    assert_eq!(npz[&name][0], serde_json::json!(tensor.torch_shape()), "{name}");
                    assert_eq!(npz[&name], safetensors[&name], "{name}");
                }
            }
            assert_eq!(read["classes"][4], "word 4");
            assert_eq!(read["rate"], spec.input.sample_rate);
            assert_eq!(read["replay"]["clips"], 2);
            assert_eq!(read["metadata"]["format"], "pt");
        }
    }
}

#[test]
fn a_replay_that_differs_is_refused() {
    let bundle = bundle(&NetworkSpec::parse(MIXED, "mixed.toml").unwrap(), 5, 3);
    let clips = ReplayClips::noise(Shape::new(1203, 2), 2, 8);
    let mut layers = Layers::of(&bundle).unwrap();
    let last = layers.layers.last_mut().unwrap();
    let Operation::Linear { bias: Some(bias), .. } = &mut last.operation else { panic!("a dense layer") };
    bias.values[2] += 0.1;
    let refused = replay(&bundle, &layers, &clips, &Device::default()).unwrap_err().to_string();
    assert!(refused.contains("over 2 clips is 1.0e-1") && refused.contains("nothing was written"), "{refused}");
    let half = ReplayClips { inputs: clips.inputs[1..].to_vec(), ..clips };
    assert!(matches!(replay(&bundle, &layers, &half, &Device::default()), Err(ExportError::ClipLength { .. })));
}

#[test]
fn a_run_is_exported_and_its_test_clips_are_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("words.onnx");
    let out = json(stapes().args(["export", "--json", "--clips", "5"]).arg(trained()).arg("--out").arg(&file));
    assert_eq!((&out["format"], &out["norm"]), (&"onnx".into(), &"folded".into()));
    assert_eq!(out["bytes"], fs::metadata(&file).unwrap().len());
    assert_eq!(out["classes"], serde_json::json!(["bed", "cat", "one", "six"]));
    assert_eq!((&out["replay"]["clips"], &out["replay"]["label_flips"]), (&out["replay"]["clips"], &0.into()));
    assert!(out["replay"]["source"].as_str().unwrap().ends_with(" clips"), "{out}");
    assert!(out["replay"]["largest_logit_difference"].as_f64().unwrap() < 1e-4, "{out}");
    // A weight file names no recordings.
    let weights = dir.path().join("words.safetensors");
    let mut command = stapes();
    command.args(["export", "--format", "safetensors", "--keep-norm", "--out"]).arg(&weights);
    let noise = command.arg(trained().join("best.safetensors")).assert().success();
    noise.stdout(contains("100 clips of seeded noise")).stderr(contains("give some with --data"));
    // What was written is used as the run is.
    let predict = |run: &Path| stapes().arg("predict").arg(run).arg(clip("six")).output().unwrap().stdout;
    assert_eq!(predict(&weights), predict(&trained()));
}

#[test]
fn a_wrong_command_line_of_an_export_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], out: &str, code: i32, sentence: &str| {
        let mut command = stapes();
        command.arg("export").arg(trained()).args(arguments).arg("--out").arg(dir.path().join(out));
        command.assert().code(code).stderr(contains(sentence));
    };
    refused(&[], "words.tflite", 2, "does not end in .onnx, .safetensors, .npz or .html");
    refused(&["--softmax"], "words.npz", 2, "--softmax goes with --format onnx");
    refused(&["--clips", "0"], "words.npz", 2, "0 is not in 1..=100000");
    refused(&["--data", "nowhere"], "words.onnx", 1, "nowhere");
    refused(&[], "missing/words.onnx", 1, "missing");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left on disk");
}

/// A safetensors file of these tensors: name, type, shape, bytes.
fn state_dict(file: &Path, tensors: &[(String, Dtype, Vec<usize>, Vec<u8>)]) {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name.clone(), safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    let metadata = [("format".to_string(), "pt".to_string())].into_iter().collect();
    fs::write(file, safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
}

#[test]
fn a_state_dict_of_pytorch_is_imported_in_any_precision() {
    let dir = tempfile::tempdir().unwrap();
    let trained = Bundle::open(&trained(), Which::Best).unwrap();
    // Numbers that all three types hold exactly.
    let tensors = |dtype: Dtype| {
        let tensor = |p: &stapes::graph::Parameter| {
            let values = to_file_order(p, &trained.weights.params);
            let bytes = values.iter().flat_map(|&value| {
                let upper = (value.to_bits() >> 16) as u16; // cut to the precision of bf16
                let sign = (upper & 0x8000) as i32;
                let (exponent, fraction) = (i32::from(upper >> 7 & 0xff) - 112, i32::from(upper & 0x7f));
                let half = if exponent > 0 { (sign | exponent << 10 | fraction << 3) as u16 } else { 0 };
                let cut = if exponent > 0 { upper } else { 0 };
                match dtype {
                    Dtype::F32 => f32::from_bits(u32::from(cut) << 16).to_le_bytes().to_vec(),
                    Dtype::BF16 => cut.to_le_bytes().to_vec(),
                    _ => half.to_le_bytes().to_vec(),
                }
            });
            (format!("module.{}", p.name), dtype, file_shape(p.layout), bytes.collect())
        };
        trained.network.graph.parameters().iter().map(tensor).collect::<Vec<_>>()
    };
    let import = |dtype: Dtype, name: &str| {
        let (from, to) = (dir.path().join(format!("{name}.st")), dir.path().join(format!("{name}.safetensors")));
        state_dict(&from, &tensors(dtype));
        let mut command = stapes();
        command
            .args(["import", "--classes", "bed,cat,one,six", "--model"])
            .arg(tiny())
            .arg(&from)
            .arg("--out")
            .arg(&to);
        command.assert().success().stdout(contains("tiny, ").and(contains("4 classes")));
        Bundle::open(&to, Which::Best).unwrap()
    };
    let whole = import(Dtype::F32, "f32");
    assert_eq!(whole.classes, trained.classes);
    for (dtype, name) in [(Dtype::BF16, "bf16"), (Dtype::F16, "f16")] {
        assert_eq!(import(dtype, name).weights.params[..], whole.weights.params[..], "{name}");
    }
    // The file names its network and classes.
    stapes().arg("predict").arg(dir.path().join("f16.safetensors")).arg(clip("six")).assert().success();
}

#[test]
fn a_wrong_import_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let refused = |file: &Path, arguments: &[&str], code: i32, sentence: &str| {
        let mut command = stapes();
        command.arg("import").arg(file).args(arguments).current_dir(dir.path());
        command.assert().code(code).stderr(contains(sentence));
        assert!(!path("imported.safetensors").exists());
    };
    fs::write(path("state.pt"), b"PK\x03\x04archive/data.pkl").unwrap();
    let tiny = tiny();
    let model = ["--model", tiny.to_str().unwrap(), "--classes", "bed,cat,one,six"];
    refused(&path("state.pt"), &model, 1, "save_file(model.state_dict()");
    state_dict(&path("empty.safetensors"), &[("fc1.bias".into(), Dtype::F16, vec![4], vec![0; 8])]);
    refused(&path("empty.safetensors"), &model, 1, "it has no tensor `conv1.weight`");
    state_dict(&path("bytes.safetensors"), &[("conv1.weight".into(), Dtype::I8, vec![8, 1, 9], vec![0; 72])]);
    refused(&path("bytes.safetensors"), &model, 1, "is stored as I8; convert it to F32");
    refused(&path("empty.safetensors"), &["--model", "custom32-8"], 2, "--classes is missing");
    refused(&path("empty.safetensors"), &[], 1, "`stapes import` with --model and --classes");
    fs::write(path("notes.txt"), "yes\n").unwrap();
    for arguments in [&model[..], &[]] {
        refused(&path("notes.txt"), arguments, 1, "is a text file, not a safetensors file");
        refused(dir.path(), arguments, 1, "is a folder without a run; give the .safetensors file in it");
        refused(&path("none.safetensors"), arguments, 1, "cannot read");
    }
    refused(&trained(), &model, 2, "is a run folder");
    let best = trained().join("best.safetensors");
    refused(&best, &["--model", tiny.to_str().unwrap(), "--classes", "bed,cat,six,one"], 1, "`classes[2]`");
    refused(&path("empty.safetensors"), &["--out", "words.onnx"], 2, "words.onnx must end in .safetensors");
    refused(&path("empty.safetensors"), &["--out", "empty.safetensors"], 2, "--out is the file that is read");
}

/// Runs that the variable `STAPES_RUNS` names, separated by colons, on 500 test clips of `STAPES_DATA`, in ONNX Runtime and in rten.
#[test]
#[ignore = "needs trained runs and their recordings, which the repository does not have"]
fn real_clips_in_onnx_runtime_and_rten() {
    let (Ok(runs), Ok(data)) = (std::env::var("STAPES_RUNS"), std::env::var("STAPES_DATA")) else {
        return println!("skipped: STAPES_RUNS and STAPES_DATA are not set");
    };
    for run in runs.split(':') {
        let bundle = Bundle::open(Path::new(run), Which::Best).unwrap();
        let input = bundle.network.spec.input;
        let reading = DataConfig {
            classes: Some(bundle.classes.clone()),
            allow_other_words: true,
            length: input.length,
            format: Format { rate_hz: input.sample_rate, channels: input.channels as u32 },
            ..DataConfig::default()
        };
        let source = Source::open(Path::new(&data)).unwrap();
        let data = Dataset::open(&source, &reading, &|_, _, _| std::ops::ControlFlow::Continue(())).unwrap();
        let test = data.in_split(Split::Testing);
        let n = test.len().min(500);
        let mut inputs = vec![0.0; n * data.row_len()];
        for (i, input) in inputs.chunks_exact_mut(data.row_len()).enumerate() {
            data.samples(test[i * test.len() / n] as usize).write(input);
        }
        let dir = tempfile::tempdir().unwrap();
        write_arrays(dir.path(), &bundle, &inputs);
        let clips = ReplayClips { source: "test clips", inputs };
        for fold in [true, false] {
            let export = Export::new(&bundle, fold, &clips, &Device::default()).unwrap();
            let norm = if fold { "folded" } else { "kept" };
            println!("{run}, norm {norm}, replay: {:?}", export.replay);
            let [file, clips, logits] = ["model.onnx", "clips.f32", "logits.f32"].map(|name| dir.path().join(name));
            export.save_onnx(&file, false).unwrap();
            if let Some(report) = python("runtime.py", &[file.clone(), clips.clone(), logits.clone()]) {
                check_report(&format!("{run}, norm {norm}, ONNX Runtime ({})", report["versions"]), &report, n);
            }
            if let Some(report) = rten(&[file, clips, logits]) {
                check_report(&format!("{run}, norm {norm}, rten"), &report, n);
            }
        }
    }
}

/// The networks of the tests in rten, which needs a newer compiler than the crate.
#[test]
#[ignore = "builds another package"]
fn rten_computes_what_the_recogniser_computes() {
    for spec in networks() {
        let bundle = bundle(&spec, 5, 3);
        let clips = ReplayClips::noise(Shape::new(spec.input.length, spec.input.channels), 3, 8);
        let dir = tempfile::tempdir().unwrap();
        write_arrays(dir.path(), &bundle, &clips.inputs);
        let [file, x, logits] = ["model.onnx", "clips.f32", "logits.f32"].map(|name| dir.path().join(name));
        for fold in [true, false] {
            Export::new(&bundle, fold, &clips, &Device::default()).unwrap().save_onnx(&file, false).unwrap();
            let Some(report) = rten(&[file.clone(), x.clone(), logits.clone()]) else { return };
            check_report(&format!("{}, rten", spec.name), &report, 3);
        }
    }
}

/// What the package in `tests/rten` prints, or nothing if it cannot be built.
fn rten(arguments: &[PathBuf]) -> Option<Value> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rten");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "--locked"]).current_dir(&package);
    if !cargo.status().is_ok_and(|status| status.success()) {
        println!("skipped: tests/rten cannot be built");
        return None;
    }
    let output = Command::new(package.join("target/release/stapes-rten")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}
