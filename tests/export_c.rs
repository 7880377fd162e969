//! Exported C code compiles without warnings and computes what the library computes, to the bit.

use stapes::base::rng::{Key, Stream};
use stapes::base::{Name, Standardisation};
use stapes::data::{DataConfig, Dataset, Format, Source, Split};
use stapes::export::{
    CCode, CDescription, CNetwork, Calibration, Calibrator, ExportError, IntegerExecutor, IntegerNetwork, Layers,
    Range, Stages, calibrate, check_name,
};
use stapes::graph::Graph;
use stapes::nn::{self, Initialisation, Network, NetworkSpec, Variant};
use stapes::simd::Isa;
use stapes::train::{Bundle, Model, Predictor, Weights, Which};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};

/// Every kind of layer: padding in all forms, strides beyond the kernel, dilation, separable and residual blocks, pools that overlap, that leave
/// out rows and that end beyond the input, a block without activation, an average, a hidden dense layer, two channels.
const MIXED: &str = r#"
name = "mixed"
batch_norm = true
input = { length = 1203, channels = 2, sample_rate = 8000 }
head = { dropout = 0.3, pool = "average", batch_norm = true, dense = [7] }
block = [
    { conv = 13, kernel = 9, stride = 3, padding = "valid" },
    { conv = 13, kernel = 5, dilation = 2, separable = true, residual = true, pool = 3, pool_ceil = true },
    { conv = 10, kernel = 4, padding = [9, 1], norm = "none", pool = 3, pool_stride = 2 },
    { conv = 10, kernel = 3, activation = "none", pool = 2, pool_stride = 3 },
    { conv = 10, kernel = 3, residual = true, activation = "none" },
    { conv = 11, kernel = 1, stride = 2 },
]
"#;

/// The first block is separable and adds the sound itself.
const ADDS_INPUT: &str = r#"
name = "adds-input"
input = { length = 500 }
block = [
    { conv = 1, kernel = 5, separable = true, residual = true, activation = "none" },
    { conv = 6, kernel = 5, pool = 4, pool_ceil = true },
]
"#;

/// A network, its weights and its layers.
struct Subject {
    name: &'static str,
    network: Network,
    weights: Weights,
    stages: Stages,
    layers: Layers,
}

impl Subject {
    fn new(name: &'static str, spec: &NetworkSpec, standardisation: Option<&Standardisation>) -> Subject {
        let network = Network::build(spec, 5).unwrap();
        let weights = trained(&network.graph, 3);
        let layers = Layers::new(&Model::from(&network), &weights, standardisation).unwrap().fold_norms().unwrap();
        let stages = Stages::new(&layers, "C code").unwrap();
        Subject { name, network, weights, stages, layers }
    }

    fn all() -> Vec<Subject> {
        let spec = |text: &str| NetworkSpec::parse(text, "test.toml").unwrap();
        let short = |name: &str| {
            let mut spec = nn::find(name).unwrap().spec(Variant::DoBn);
            spec.input.length = 4_000;
            spec
        };
        let standardisation = Standardisation::new(vec![0.1, -0.2], vec![0.5, 0.25]).unwrap();
        vec![
            Subject::new("mixed", &spec(MIXED), None),
            Subject::new("standardised", &spec(MIXED), Some(&standardisation)),
            Subject::new("adds_input", &spec(ADDS_INPUT), None),
            Subject::new("custom", &short("custom32-8"), None),
            Subject::new("dense_only", &short("steep32-1"), None),
        ]
    }

    fn input_len(&self) -> usize {
        self.stages.input.size()
    }

    fn calibration(&self, clips: &[f32]) -> Calibration {
        let model = Model::from(&self.network);
        let mut calibrator = Calibrator::new(&model, &self.weights, &self.stages, 2).unwrap();
        let mut clips = clips.to_vec();
        if let Some(standardisation) = &self.stages.standardisation {
            standardisation.apply(&mut clips);
        }
        clips.chunks(2 * self.input_len()).for_each(|batch| calibrator.add(batch).unwrap());
        calibrator.finish()
    }

    fn code(&self, network: CNetwork<'_>) -> CCode {
        let classes: Vec<Name> = (0..5).map(|class| format!("word \"{class}\"??/*@NAME@").as_str().into()).collect();
        let remarks = ["A remark that ends no comment: */".to_string()];
        let description =
            CDescription { name: "model", network: "test", classes: &classes, rate_hz: 16_000, remarks: &remarks };
        CCode::new(network, &description).unwrap()
    }
}

/// `n` numbers around 0.
fn noise(seed: u64, n: usize) -> Vec<f32> {
    let key = Key::new(seed, Stream::Dropout);
    (0..n as u64).map(|i| (key.bits(i) >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
}

/// Weights as after training: batch norm with running statistics of its own, and biases.
fn trained(graph: &Graph, seed: u64) -> Weights {
    let mut weights = Weights::initial(graph, Initialisation::default(), seed);
    let vary = |tensors: Vec<stapes::graph::Parameter>, arena: &mut [f32]| {
        for tensor in tensors {
            let values = arena[tensor.offset..][..tensor.len].iter_mut().zip(noise(seed + 1, tensor.len));
            match tensor.name.rsplit('.').next() {
                Some("running_var") => values.for_each(|(v, x)| *v = 1.0 + 0.8 * x),
                Some("running_mean" | "bias") => values.for_each(|(v, x)| *v = 0.1 * x),
                _ => values.for_each(|(v, x)| *v *= 1.0 + 0.3 * x),
            }
        }
    };
    vary(graph.parameters(), &mut weights.params);
    vary(graph.states(), &mut weights.state);
    weights
}

/// A program that computes the logits of clips of floating-point samples from standard input, each three times: as a whole, in pieces, and, where
/// the samples have 16 bits, from these.
const MAIN: &str = r#"
#include "model.h"
#include <stdio.h>
#include <string.h>

static float clip[MODEL_INPUT_LENGTH * MODEL_INPUT_CHANNELS];
static int16_t samples[MODEL_INPUT_LENGTH * MODEL_INPUT_CHANNELS];

int main(void)
{
    while (fread(clip, sizeof clip, 1, stdin) == 1) {
        float logits[MODEL_CLASSES], other[MODEL_CLASSES], share[MODEL_CLASSES];
        uint32_t i, piece = 1, exact = 1;
        if (model_run(clip, logits) != 0 || model_run(NULL, logits) != -1 || model_run(clip, NULL) != -1) {
            return 2;
        }
        model_begin();
        for (i = 0; i < MODEL_INPUT_LENGTH; i += piece, piece = piece * 3 % 1279 + 1) {
            const uint32_t left = MODEL_INPUT_LENGTH - i;
            const int done = model_push(clip + i * MODEL_INPUT_CHANNELS, piece < left ? piece : left, other);
            if (done != (piece >= left)) {
                return 3;
            }
        }
        if (memcmp(logits, other, sizeof logits) != 0 || model_push(clip, 1, other) != 1) {
            return 4;
        }
        for (i = 0; i < MODEL_INPUT_LENGTH * MODEL_INPUT_CHANNELS; i++) {
            samples[i] = (int16_t)(clip[i] * 32768.0f);
            exact = exact && (float)samples[i] == clip[i] * 32768.0f;
        }
        if (!exact || model_run_i16(samples, other) != 0 || memcmp(logits, other, sizeof logits) != 0) {
            return 5;
        }
        model_softmax(logits, share);
        for (i = 1; i < MODEL_CLASSES; i++) {
            share[0] += share[i];
        }
        if (!(share[0] > 0.999f && share[0] < 1.001f) || strncmp(model_class_names[1], "word \"1\"", 8) != 0) {
            return 6;
        }
        fwrite(logits, sizeof logits, 1, stdout);
    }
    return 0;
}
"#;

/// Whether programs can be compiled here; prints why not.
fn has_compiler() -> bool {
    let found =
        Command::new("gcc").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if !found {
        println!("skipped: gcc is not installed");
    }
    found
}

/// Compiles the code with further options and runs it; the logits of the clips. None if the system lacks what the options need.
fn run(folder: &Path, code: &CCode, options: &[&str], clips: &[f32]) -> Option<Vec<f32>> {
    std::fs::write(folder.join("model.h"), &code.header).unwrap();
    std::fs::write(folder.join("model.c"), &code.source).unwrap();
    std::fs::write(folder.join("main.c"), MAIN).unwrap();
    let strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"];
    let compiler = Command::new("gcc")
        .args(strict)
        .args(options)
        .args(["main.c", "model.c", "-o", "model", "-lm"])
        .current_dir(folder)
        .output()
        .unwrap();
    let messages = String::from_utf8_lossy(&compiler.stderr);
    if messages.contains("cannot find -lasan") || messages.contains("cannot find libasan") {
        println!("skipped: {messages}");
        return None;
    }
    assert!(compiler.status.success(), "{messages}");
    let mut child = Command::new(folder.join("model"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let bytes: Vec<u8> = clips.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&bytes)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{} {}", output.status, String::from_utf8_lossy(&output.stderr));
    Some(output.stdout.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect())
}

/// The options of a build, and the clips that it computes.
const BUILDS: [(&[&str], usize); 2] =
    [(&["-O2"], 6), (&["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"], 1)];

/// Clips of samples with 16 bits.
fn clips(subject: &Subject, n: usize) -> Vec<f32> {
    noise(11, n * subject.input_len()).iter().map(|x| (x * 20_000.0).round() / 32_768.0).collect()
}

#[test]
fn code_in_floating_point_gives_the_bits_of_the_layers_and_the_logits_of_the_library() {
    if !has_compiler() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for subject in Subject::all() {
        let code = subject.code(CNetwork::Float(&subject.stages));
        for (options, n) in BUILDS {
            let clips = clips(&subject, n);
            let Some(logits) = run(folder.path(), &code, options, &clips) else { continue };
            assert_eq!(logits.len(), n * 5, "{}", subject.name);
            let model = Model::from(&subject.network);
            let mut predictor = Predictor::builder(model, subject.weights.clone()).build().unwrap();
            for (clip, logits) in clips.chunks_exact(subject.input_len()).zip(logits.chunks_exact(5)) {
                assert_eq!(logits, subject.layers.logits::<f32>(clip).unwrap(), "{} {options:?}", subject.name);
                let mut clip = clip.to_vec();
                subject.stages.standardisation.iter().for_each(|values| values.apply(&mut clip));
                predictor.run(&clip).unwrap();
                for (a, b) in logits.iter().zip(predictor.logits(0)) {
                    assert!((a - b).abs() < 1e-4, "{}: {a} {b}", subject.name);
                }
            }
        }
    }
}

#[test]
fn code_in_integers_gives_the_bits_of_the_reference() {
    if !has_compiler() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for subject in Subject::all() {
        let calibration = subject.calibration(&clips(&subject, 4));
        let integer = IntegerNetwork::new(&subject.stages, &calibration).unwrap();
        let code = subject.code(CNetwork::Integer(&subject.stages, &integer));
        let float = subject.code(CNetwork::Float(&subject.stages));
        assert!(code.ram_bytes < float.ram_bytes && code.weight_bytes < float.weight_bytes, "{}", subject.name);
        for (options, n) in BUILDS {
            let clips = clips(&subject, n);
            let Some(logits) = run(folder.path(), &code, options, &clips) else { continue };
            for (clip, logits) in clips.chunks_exact(subject.input_len()).zip(logits.chunks_exact(5)) {
                assert_eq!(logits, integer.logits(clip).unwrap(), "{} {options:?}", subject.name);
            }
        }
    }
}

#[test]
fn logits_in_integers_are_near_those_in_floating_point() {
    for subject in Subject::all() {
        let clips = clips(&subject, 8);
        let integer = IntegerNetwork::new(&subject.stages, &subject.calibration(&clips)).unwrap();
        let (mut error, mut power) = (0.0, 0.0);
        for clip in clips.chunks_exact(subject.input_len()) {
            let (exact, rounded) = (subject.layers.logits::<f64>(clip).unwrap(), integer.logits(clip).unwrap());
            for (exact, rounded) in exact.iter().zip(rounded) {
                error += (exact - f64::from(rounded)).powi(2);
                power += exact.powi(2);
            }
        }
        let relative = (error / power).sqrt();
        assert!(relative < 0.05, "{}: the logits differ by {relative:.4} of their magnitude", subject.name);
    }
}

#[test]
fn vector_instructions_give_the_bits_of_the_reference() {
    for subject in Subject::all() {
        let clips = clips(&subject, 3);
        let integer = IntegerNetwork::new(&subject.stages, &subject.calibration(&clips)).unwrap();
        for (isa, bytes) in Isa::all().into_iter().flat_map(|isa| [(isa, false), (isa, true)]) {
            // One clip after another in the same memory.
            let mut executor = IntegerExecutor::with_bytes(integer.clone(), isa, bytes);
            for clip in clips.chunks_exact(subject.input_len()) {
                let (got, expected) = (executor.logits(clip).unwrap(), integer.logits(clip).unwrap());
                assert_eq!(got, expected, "{} {isa:?} bytes: {bytes}", subject.name);
            }
            assert!(executor.logits(&clips[1..]).is_err());
        }
    }
}

#[test]
fn the_memory_is_that_of_a_few_rows() {
    let network = Network::build(&nn::find("custom32-8").unwrap().spec(Variant::DoBn), 12).unwrap();
    let weights = trained(&network.graph, 1);
    let layers = Layers::new(&Model::from(&network), &weights, None).unwrap().fold_norms().unwrap();
    let stages = Stages::new(&layers, "C code").unwrap();
    let classes: Vec<Name> = (0..12).map(|class| format!("{class}").as_str().into()).collect();
    let description = CDescription { name: "m", network: "n", classes: &classes, rate_hz: 16_000, remarks: &[] };
    let code = CCode::new(CNetwork::Float(&stages), &description).unwrap();
    // The output of the first pool alone has 682,624 bytes.
    assert!(code.ram_bytes < 10_000, "{}", code.ram_bytes);
    let refused = CCode::new(CNetwork::Float(&stages), &CDescription { classes: &classes[1..], ..description });
    assert!(matches!(refused, Err(ExportError::Classes { got: 11, expected: 12 })));
}

/// `--nocapture` prints the memory of each.
#[test]
fn all_networks_of_the_study_have_code_with_little_memory() {
    let classes: Vec<Name> = (0..16).map(|class| format!("{class}").as_str().into()).collect();
    let description = CDescription { name: "m", network: "n", classes: &classes, rate_hz: 16_000, remarks: &[] };
    let mut count = 0;
    for study in nn::all() {
        let network = Network::build(&study.spec(Variant::DoBn), 16).unwrap();
        // The text of the others would be slow to write in a build for tests, and has no other layers.
        if network.params() > 600_000 {
            continue;
        }
        count += 1;
        let weights = Weights::zeros(&network.graph);
        let layers = Layers::new(&Model::from(&network), &weights, None).unwrap().fold_norms().unwrap();
        let stages = Stages::new(&layers, "C code").unwrap();
        let float = CCode::new(CNetwork::Float(&stages), &description).unwrap();
        let range = Range { low: 0.0, high: 1.0 };
        let ranges = vec![range; stages.stages.len()];
        let calibration = Calibration { input_peak: 1.0, outputs: ranges.clone(), extents: ranges, clips: 0 };
        let integer = IntegerNetwork::new(&stages, &calibration).unwrap();
        let integer = CCode::new(CNetwork::Integer(&stages, &integer), &description).unwrap();
        let sizes = [float.ram_bytes, float.weight_bytes, integer.ram_bytes, integer.weight_bytes];
        println!("{:<12} {sizes:?}", study.name);
        assert!(float.ram_bytes < 100_000 && integer.ram_bytes < float.ram_bytes, "{}: {sizes:?}", study.name);
    }
    assert!(count > 20, "{count}");
}

#[test]
fn names_that_are_no_names_in_c_are_refused() {
    assert!(["stapes_model", "m", "Model2"].iter().all(|name| check_name(name).is_ok()));
    for name in ["", "2x", "_x", "a-b", "a b", "int", "class", "é", "../x", &"x".repeat(49)] {
        let error = check_name(name).unwrap_err().to_string();
        assert!(error.contains("--name"), "{name}: {error}");
    }
}

/// The clips of `STAPES_DATA` as a run reads them.
fn recordings_of(bundle: &Bundle, data: &Path) -> Dataset {
    let input = bundle.network.spec.input;
    let reading = DataConfig {
        classes: Some(bundle.classes.clone()),
        allow_other_words: true,
        length: input.length,
        format: Format { rate_hz: input.sample_rate, channels: input.channels as u32 },
        ..DataConfig::default()
    };
    Dataset::open(&Source::open(data).unwrap(), &reading, &|_, _, _| ControlFlow::Continue(())).unwrap()
}

/// Runs that the variable `STAPES_RUNS` names, separated by colons, as C code in integers on 500 test clips of `STAPES_DATA`.
#[test]
#[ignore = "needs trained runs and their recordings, which the repository does not have"]
fn code_in_integers_on_real_clips() {
    let (Ok(runs), Ok(data)) = (std::env::var("STAPES_RUNS"), std::env::var("STAPES_DATA")) else {
        return println!("skipped: STAPES_RUNS and STAPES_DATA are not set");
    };
    if !has_compiler() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for run_folder in runs.split(':') {
        let bundle = Bundle::open(Path::new(run_folder), Which::Best).unwrap();
        assert!(bundle.standardisation.is_none(), "the program takes samples of 16 bits, padded with zeros");
        let data = recordings_of(&bundle, Path::new(&data));
        let stages = Stages::new(&Layers::of(&bundle).unwrap().fold_norms().unwrap(), "C code").unwrap();
        let integer = IntegerNetwork::new(&stages, &calibrate(&bundle, &stages, &data, 256).unwrap()).unwrap();
        let names: Vec<Name> = (0..bundle.classes.len()).map(|i| format!("word \"{i}\"").as_str().into()).collect();
        let description =
            CDescription { name: "model", network: "test", classes: &names, rate_hz: 16_000, remarks: &[] };
        let code = CCode::new(CNetwork::Integer(&stages, &integer), &description).unwrap();
        let test = data.in_split(Split::Testing);
        let n = test.len().min(500);
        let numbers: Vec<u32> = (0..n).map(|i| test[i * test.len() / n]).collect();
        let mut inputs = vec![0.0; n * data.row_len()];
        for (&clip, input) in numbers.iter().zip(inputs.chunks_exact_mut(data.row_len())) {
            data.write_input(clip as usize, input);
        }
        let Some(logits) = run(folder.path(), &code, &["-O2"], &inputs) else { continue };
        let mut predictor = Predictor::builder(&bundle.network, bundle.weights.clone()).build().unwrap();
        let largest =
            |logits: &[f32]| (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        let (mut correct, mut flips, mut difference) = ([0, 0], 0, 0f32);
        let of_clips = inputs.chunks_exact(data.row_len()).zip(logits.chunks_exact(names.len()));
        for (&clip, (input, logits)) in numbers.iter().zip(of_clips) {
            assert_eq!(logits, integer.logits(input).unwrap(), "{run_folder}: {}", data.clips()[clip as usize].name);
            predictor.run(input).unwrap();
            let exact = predictor.logits(0);
            let label = data.clips()[clip as usize].class as usize;
            let classes = [largest(exact), largest(logits)];
            correct.iter_mut().zip(classes).for_each(|(correct, class)| *correct += usize::from(class == label));
            flips += usize::from(classes[0] != classes[1]);
            difference = exact.iter().zip(logits).fold(difference, |most, (a, b)| most.max((a - b).abs()));
        }
        assert_eq!(logits.len(), n * names.len());
        println!(
            "{run_folder}: {n} clips, the bits of the reference for all; correct {} in floating point, {} in integers; another class for {flips}; largest logit difference {difference:.2}",
            correct[0], correct[1]
        );
    }
}
