//! The program on a GPU that is made of software: the kernels' own sources, compiled for the processor, and a substitute for the NVIDIA driver
//! (`tests/device/`). The binary is the one that users run.
#![cfg(all(feature = "cuda", target_arch = "x86_64", target_os = "linux"))]

mod program;

use assert_cmd::Command;
use predicates::str::contains;
use program::{clips, json, stapes};
use stapes::exec::{Device, DeviceChoice};
use stapes::nn::{Network, NetworkSpec};
use stapes::simd::Isa;
use stapes::train::{Trainer, parse_freeze};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Whether a tool that builds the software device is missing; the first call then says so.
fn is_skipped() -> bool {
    static MISSING: OnceLock<Option<&str>> = OnceLock::new();
    let find = || {
        let tools = ["bash", "g++"];
        let found = |tool: &str| std::process::Command::new(tool).arg("--version").output().is_ok();
        let missing = tools.into_iter().find(|tool| !found(tool));
        if let Some(tool) = missing {
            // Straight to standard error: the test harness shows what `eprintln` writes only if the test fails.
            let text = format!("skipped: the tests of the software device need {tool}, which is not installed\n");
            _ = std::io::stderr().write_all(text.as_bytes());
        }
        missing
    };
    MISSING.get_or_init(find).is_some()
}

/// The folder of the substitute driver, built when it is first needed.
fn driver() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = root.join("target/device/plain");
        let mut build = std::process::Command::new("bash");
        build.arg(root.join("tests/device/build.sh")).arg(&folder).arg("plain");
        let built = build.output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        folder
    })
}

/// The program with the software device; leaks end it with status 97.
fn on_device() -> Command {
    let mut command = stapes();
    command.env("LD_LIBRARY_PATH", driver()).env("SIMT_LEAKS", "1");
    command
}

/// Every kind of layer that a network may have, on clips short enough for a device that runs one thread after the other.
const NETWORK: &str = r#"
name = "small"
input = { length = 1500, channels = 1, sample_rate = 8000 }
head = { dropout = 0.25, pool = "average", dense = [12] }
block = [
    { conv = 8, kernel = 5, pool = 3 },
    { conv = 16, kernel = 5, pool = 3 },
    { conv = 18, kernel = 9, stride = 2 },
    { conv = 16, kernel = 3, dilation = 2, padding = "valid", pool = 2 },
]
"#;

/// Separable blocks with a stride and a dilation, and residual ones.
const SEPARABLE: &str = r#"
name = "separable"
batch_norm = true
input = { length = 1500, channels = 1, sample_rate = 8000 }
head = { dropout = 0.25, pool = "average" }
block = [
    { conv = 12, kernel = 9, stride = 3, pool = 3 },
    { conv = 12, kernel = 9, separable = true, residual = true, pool = 2 },
    { conv = 17, kernel = 5, stride = 2, dilation = 2, separable = true },
    { conv = 17, kernel = 3, residual = true },
]
"#;

/// A run of three epochs, with norm of eight steps, else of thirty-four of one clip: its folder, its epochs' losses, and the hash of its weights.
struct Trained {
    run: PathBuf,
    losses: Vec<f64>,
    weights: String,
    _folder: tempfile::TempDir,
}

fn train(command: Command, norm: bool, options: &[&str]) -> Trained {
    let batch = if norm { "4" } else { "1" };
    train_network(command, &format!("batch_norm = {norm}\n{NETWORK}"), batch, options)
}

/// Three epochs of the network in `text`.
fn train_network(mut command: Command, text: &str, batch: &str, options: &[&str]) -> Trained {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("small.toml");
    fs::write(&file, text).unwrap();
    command.args(["train", "--quiet", "--epochs", "3", "--batch", batch, "--name", "run", "--model"]).arg(&file);
    command.arg("--data").arg(clips()).arg("--runs").arg(folder.path()).args(options);
    command.assert().success();
    let run = folder.path().join("run");
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let records: Vec<serde_json::Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Trained {
        run,
        losses: records.iter().map(|record| record["train_loss"].as_f64().unwrap()).collect(),
        weights: records[2]["weights"].as_str().unwrap().into(),
        _folder: folder,
    }
}

/// Runs `gradcheck --device cuda` on a chip of this compute capability.
fn conforms(capability: &str, precision: &str) {
    let mut command = on_device();
    command.env("SIMT_CC", capability);
    command.args(["gradcheck", "--device", "cuda", "--precision", precision]).assert().success();
}

#[test]
fn every_op_meets_the_reference_by_multiply_adds() {
    if is_skipped() {
        return;
    }
    conforms("8.9", "f32");
}

#[test]
fn every_op_meets_the_reference_by_split_products() {
    if is_skipped() {
        return;
    }
    conforms("9.0", "f32");
}

#[test]
fn every_op_meets_the_reference_in_lower_precision() {
    if is_skipped() {
        return;
    }
    conforms("9.0", "tf32");
    conforms("8.6", "bf16");
}

#[test]
fn training_agrees_with_the_processor_and_repeats_bit_for_bit() {
    if is_skipped() {
        return;
    }
    for norm in [false, true] {
        let cpu = train(stapes(), norm, &["--device", "cpu"]);
        let cuda = ["--device", "cuda"];
        let first = train(on_device(), norm, &cuda);
        for (loss, expected) in first.losses.iter().zip(&cpu.losses) {
            assert!((loss - expected).abs() < 1e-4 * expected, "norm {norm}: {:?}, not {:?}", first.losses, cpu.losses);
        }
        let mut other = on_device();
        // Threads, warps and blocks in another order, and memory from the pools of newer drivers.
        other.env("SIMT_ORDER", "reverse").env("SIMT_COPIES", "early").env("SIMT_POOLS", "1");
        // What runs beside other launches as late as it may, and so much memory that the clips stay on the card.
        other.env("SIMT_FORKS", "late").env("SIMT_MEMORY", "7000000");
        let again = train(other, norm, &cuda);
        assert_eq!(first.weights, again.weights, "norm {norm}");
        // Copies from page-locked memory, and all else, as late as they may be.
        let mut late = on_device();
        late.env("SIMT_STREAMS", "late");
        assert_eq!(first.weights, train(late, norm, &cuda).weights, "norm {norm}");
        if !norm {
            continue;
        }
        let told = |mut command: Command, device: &str| {
            json(command.args(["eval", "--json", "--device", device]).arg(&first.run))["accuracy"].as_f64().unwrap()
        };
        assert_eq!(told(on_device(), "cuda"), told(stapes(), "cpu"), "the run's weights recognise alike");
    }
}

#[test]
fn separable_and_residual_blocks_train_as_on_the_processor_and_repeat_bit_for_bit() {
    if is_skipped() {
        return;
    }
    let run = |command: Command, options: &[&str]| train_network(command, SEPARABLE, "4", options);
    // Silent rows lie close to the kink of a ReLU, where a fused convolution rounds to the other side.
    let cpu = run(stapes(), &["--device", "cpu", "--conv", "direct"]);
    let first = run(on_device(), &["--device", "cuda"]);
    for (loss, expected) in first.losses.iter().zip(&cpu.losses) {
        assert!((loss - expected).abs() < 1e-4 * expected, "{:?}, not {:?}", first.losses, cpu.losses);
    }
    let mut other = on_device();
    other.env("SIMT_ORDER", "reverse").env("SIMT_COPIES", "early").env("SIMT_FORKS", "late");
    assert_eq!(first.weights, run(other, &["--device", "cuda"]).weights);
    let file = first.run.with_file_name("small.toml");
    on_device().args(["gradcheck", "--device", "cuda"]).arg(file).assert().success();
}

/// A network for soft labels, with batch norm, and what a recipe adds to Adam. With so large an `eps` a step is proportional to the gradient, so
/// that a gradient that is not clipped is seen, and rounding is not amplified.
mod recipe {
    use super::NETWORK;
    use stapes::exec::Device;
    use stapes::exec::cuda::Gpu;
    use stapes::nn::{Network, NetworkSpec, Objective};
    use stapes::ops::device::Precision;
    use stapes::optim::AdamSettings;
    use stapes::train::{Trainer, Weights};

    const CLASSES: usize = 5;
    const BATCH: usize = 4;
    /// Largest accepted difference between the devices, relative to the largest value of an array.
    const TOLERANCE: f32 = 1e-5;

    fn trainer(device: Device, settings: AdamSettings, average: f32) -> Trainer {
        let spec = NetworkSpec::parse(&format!("batch_norm = true\n{NETWORK}"), "test").unwrap();
        let objective = Objective { smoothing: 0.125, soft_labels: true };
        let network = Network::build_with(&spec, CLASSES, objective).unwrap();
        Trainer::builder(&network).batch(BATCH).adam(settings).average(average).device(device).build().unwrap()
    }

    /// Clips of one step, of which the last step has fewer, and the shares of their classes.
    fn batch(step: usize) -> (Vec<i16>, Vec<f32>) {
        let n = if step == 3 { BATCH - 1 } else { BATCH };
        let sample = |at: usize| ((at * (3 + step) + at * at % 97) % 211) as i16 * 90 - 9000;
        let labels = (0..n).flat_map(|clip| {
            let mut shares = [0.0; CLASSES];
            shares[(clip + step) % CLASSES] += 0.625;
            shares[(clip * clip + 1) % CLASSES] += 0.375;
            shares
        });
        ((0..n * 1500).map(sample).collect(), labels.collect())
    }

    fn inputs(clips: &[i16]) -> Vec<f32> {
        clips.iter().map(|&sample| f32::from(sample) / 32768.0).collect()
    }

    /// Losses and correct predictions of four steps, then the weights, their average, and the first moments.
    fn steps(trainer: &mut Trainer) -> (Vec<(f64, u64)>, [Vec<f32>; 5]) {
        let results = (0..4).map(|step| {
            let (clips, labels) = batch(step);
            trainer.set_lr(0.05 / (1 + step) as f32);
            let done = trainer.step(&inputs(&clips), &labels).unwrap();
            (done.loss, done.correct)
        });
        let results = results.collect();
        trainer.download().unwrap();
        (results, learned(trainer))
    }

    fn learned(trainer: &Trainer) -> [Vec<f32>; 5] {
        let (weights, zeros) = (trainer.weights(), Weights::zeros(trainer.model().graph()));
        let average = trainer.averaged().unwrap_or(&zeros);
        [&weights.params, &weights.state, &average.params, &average.state, &trainer.adam().m].map(|all| all.to_vec())
    }

    /// The largest difference, relative to the largest value.
    fn difference(a: &[f32], b: &[f32]) -> f32 {
        let largest = b.iter().fold(f32::MIN_POSITIVE, |most, v| most.max(v.abs()));
        a.iter().zip(b).fold(0.0, |most: f32, (a, b)| most.max((a - b).abs())) / largest
    }

    #[test]
    #[ignore = "run by `a_recipe_on_the_device_agrees_with_the_processor`, with the software device as the driver"]
    fn on_the_device() {
        let Ok(gpu) = Gpu::open(0) else {
            println!("skipped: there is no GPU");
            return;
        };
        let cuda = || Device::Cuda(gpu.clone(), Precision::F32);
        let plain = AdamSettings { eps: 0.5, ..AdamSettings::default() };
        let ways = [
            (AdamSettings { weight_decay: 1.0, clip_norm: 0.25, ..plain }, 0.375),
            (AdamSettings { weight_decay: 1.0, ..plain }, 0.0),
            (AdamSettings { clip_norm: 0.25, ..plain }, 0.0),
            (plain, 0.375),
            (plain, 0.0),
        ];
        let (mut all, mut largest): (Vec<[Vec<f32>; 5]>, f32) = (Vec::new(), 0.0);
        for (settings, average) in ways {
            let (expected, on_cpu) = steps(&mut trainer(Device::default(), settings, average));
            let mut on_gpu = trainer(cuda(), settings, average);
            let (got, weights) = steps(&mut on_gpu);
            for ((loss, correct), (expected, right)) in got.iter().zip(&expected) {
                assert!((loss - expected).abs() < 1e-5 * expected && correct == right, "{got:?}, not {expected:?}");
            }
            for (i, (got, expected)) in weights.iter().zip(&on_cpu).enumerate() {
                let d = difference(got, expected);
                largest = largest.max(d);
                assert!(d < TOLERANCE, "array {i} differs by {d} with {settings:?}, average {average}");
            }
            all.push(on_cpu);
            not_finite_and_resumed(on_gpu, || trainer(cuda(), settings, average), &weights);
        }
        // Each addition matters: the weights or the moments differ by far more than the tolerance.
        let matters = |a: usize, b: usize, array: usize| difference(&all[a][array], &all[b][array]) > 1e3 * TOLERANCE;
        assert!(matters(0, 2, 0) && matters(0, 1, 4) && matters(1, 4, 0) && matters(2, 4, 4));
        let apart = difference(&all[3][2], &all[3][0]);
        println!("largest difference {largest:.1e}; the average and the weights are {apart:.1e} apart");
        assert!(apart > 30.0 * TOLERANCE, "the average is not the weights");
    }

    /// A step without a finite loss changes nothing; and another trainer continues where this one is, from clips on the card.
    fn not_finite_and_resumed(mut trainer: Trainer, another: impl Fn() -> Trainer, before: &[Vec<f32>; 5]) {
        let (clips, labels) = batch(0);
        let poisoned: Vec<f32> = labels.iter().map(|share| 2.0 * share).collect();
        assert!(trainer.step(&inputs(&clips), &poisoned).unwrap().loss.is_nan());
        trainer.download().unwrap();
        let [params, _, average, _, m] = learned(&trainer);
        assert!([&params, &average, &m] == [&before[0], &before[2], &before[4]], "a loss of NaN changed the weights");
        let mut other = another();
        other.set_lr(trainer.adam().settings.lr);
        other.set_weights(trainer.weights().clone(), Some(trainer.adam().clone())).unwrap();
        if let Some(average) = trainer.averaged() {
            other.set_averaged(average.clone()).unwrap();
        }
        let expected = trainer.step(&inputs(&clips), &labels).unwrap();
        trainer.download().unwrap();
        let rows: Vec<&[i16]> = clips.chunks_exact(1500).collect();
        other.upload_clips(rows.iter().copied()).unwrap();
        let numbers: Vec<u32> = (0..rows.len() as u32).collect();
        other.submit(&numbers, |clip| rows[clip as usize], &labels).unwrap();
        assert_eq!(other.wait().unwrap(), [expected]);
        other.download().unwrap();
        assert!(learned(&trainer) == learned(&other), "a resumed trainer takes another step");
    }
}

/// With other words the clips of each epoch stay on the card, with silence its segments come from the host.
#[test]
fn other_words_and_silence_train_as_on_the_processor() {
    if is_skipped() {
        return;
    }
    let words = ["--recipe", "plain", "--classes", "bed,cat,one,six", "--unknown", "other-words"];
    for silence in [false, true] {
        let options = |device| [&words[..], &["--device", device], if silence { &["--silence"] } else { &[] }].concat();
        let cpu = train(stapes(), true, &options("cpu"));
        let cuda = train(on_device(), true, &options("cuda"));
        for (loss, expected) in cuda.losses.iter().zip(&cpu.losses) {
            let losses = (&cuda.losses, &cpu.losses);
            assert!((loss - expected).abs() < 1e-4 * expected, "silence {silence}: {losses:?}");
        }
    }
}

#[test]
fn a_recipe_on_the_device_agrees_with_the_processor() {
    if is_skipped() {
        return;
    }
    // The driver is found when a process starts: this program again, with the test of that name only.
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "recipe::on_the_device", "--include-ignored", "--nocapture"]);
    let output = again.env("LD_LIBRARY_PATH", driver()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("1 passed") && !told.contains("skipped"), "{told}");
}

/// In a process of its own, whose driver is the software device.
#[test]
fn frozen_layers_stay_as_they_are_on_the_device_and_the_others_learn_as_on_the_processor() {
    if is_skipped() {
        return;
    }
    if std::env::var_os("LD_LIBRARY_PATH").is_none_or(|path| Path::new(&path) != driver()) {
        let name = "frozen_layers_stay_as_they_are_on_the_device_and_the_others_learn_as_on_the_processor";
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--exact", name]).env("LD_LIBRARY_PATH", driver()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("1 passed"), "{told}");
        return;
    }
    let spec = NetworkSpec::parse(&format!("batch_norm = true\n{NETWORK}"), "test").unwrap();
    let network = Network::build(&spec, 3).unwrap();
    let (gpu, _) = Device::open(DeviceChoice::Cuda(0), Isa::best()).unwrap();
    let step = |trainer: &mut Trainer, n: usize| {
        let inputs: Vec<f32> = (0..n * 1500).map(|i| ((i * 37 + i / 1500 * 11) % 101) as f32 / 50.0 - 1.0).collect();
        let labels: Vec<f32> = (0..n).map(|i| (i % 3) as f32).collect();
        trainer.step(&inputs, &labels).unwrap().loss
    };
    // Moments of steps with all layers: with them even a gradient of zero would change a weight.
    let mut start = Trainer::builder(&network).batch(4).build().unwrap();
    step(&mut start, 4);
    for text in ["conv1,conv2", "conv1,conv2,conv3,conv4,fc1"] {
        let frozen = parse_freeze(text, &network).unwrap();
        let train = |device: Device| {
            let builder = Trainer::builder(&network).batch(4).device(device).frozen(frozen.clone());
            let mut trainer = builder.build().unwrap();
            trainer.set_weights(start.weights().clone(), Some(start.adam().clone())).unwrap();
            let losses: Vec<f64> = [4, 3, 4].map(|n| step(&mut trainer, n)).into();
            trainer.download().unwrap();
            (trainer, losses)
        };
        let ((on_gpu, losses), (_, expected)) = (train(gpu.clone()), train(Device::default()));
        for (loss, expected) in losses.iter().zip(&expected) {
            assert!((loss - expected).abs() < 1e-4 * expected, "{text}: {losses:?}, not {expected:?}");
        }
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
        let gradients = on_gpu.gradients().unwrap();
        for id in network.graph.ids() {
            let node = network.graph.node(id);
            let params = node.params.range();
            let state = node.state.range();
            let of = |trainer: &Trainer| {
                let (weights, adam) = (trainer.weights(), trainer.adam());
                let [w, m, v] = [&weights.params, &adam.m, &adam.v].map(|arena| bits(&arena[params.clone()]));
                [w, m, v, bits(&weights.state[state.clone()])]
            };
            let expected = frozen.contains(&id);
            for (i, (old, new)) in of(&start).into_iter().zip(of(&on_gpu)).enumerate() {
                assert_eq!(old == new, expected || old.is_empty(), "{text}: array {i} of {}", node.name);
            }
            assert!(!expected || gradients[params].iter().all(|&g| g == 0.0), "{text}: gradient of {}", node.name);
        }
    }
}

/// Thirteen convolutions, which overflow when every weight has become a thousand.
fn deep() -> String {
    let layers = "{ conv = 16, kernel = 3 }, ".repeat(12);
    format!(
        "name = 'deep'\ninput = {{ length = 200, channels = 1, sample_rate = 8000 }}\nhead = {{ pool = 'average' }}\n\
         block = [{{ conv = 16, kernel = 3, pool = 3 }}, {layers}]"
    )
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_at_its_step_though_others_are_under_way() {
    if is_skipped() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("deep.toml");
    fs::write(&file, deep()).unwrap();
    let ended = |mut command: Command, device: &str| {
        command.args(["train", "--quiet", "--device", device, "--lr", "1000", "--batch", "4", "--force", "--model"]);
        command.arg(&file).args(["--name", "run", "--runs"]).arg(folder.path()).arg("--data").arg(clips());
        let output = command.assert().code(1).get_output().stderr.clone();
        String::from_utf8(output).unwrap()
    };
    let told = ended(stapes(), "cpu");
    assert!(told.contains("the loss became") && told.contains("epoch 1, step 2"), "{told}");
    assert_eq!(ended(on_device(), "cuda"), told);
}

#[test]
fn a_networks_gradients_meet_the_reference() {
    if is_skipped() {
        return;
    }
    for variant in ["do", "bn"] {
        let mut command = on_device();
        command.args(["gradcheck", "custom32-8", "--variant", variant, "--length", "2187", "--device", "cuda"]);
        command.assert().success();
    }
}

#[test]
fn a_gpu_is_told_of_and_measured() {
    if is_skipped() {
        return;
    }
    let told = json(on_device().args(["devices", "--json"]));
    let facts = &told["cuda"][0]["facts"];
    assert_eq!(facts["capability"], "9.0");
    assert!(facts["kernels"].as_u64().unwrap() > 20, "{told}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("small.toml");
    fs::write(&file, NETWORK).unwrap();
    let mut bench = on_device();
    bench.args(["bench", "--device", "cuda", "--quick", "--batch", "2", "--json"]).arg(&file);
    let measured = json(&mut bench);
    assert!(measured["kernels"].as_array().unwrap().len() > 20);
    assert!(measured["step_seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn what_cannot_be_used_is_said_in_a_sentence() {
    if is_skipped() {
        return;
    }
    let train = |command: &mut Command, device: &str| {
        command.args(["gradcheck", "--device", device]);
    };
    let mut none = on_device();
    train(none.env("SIMT_DEVICES", "0"), "cuda");
    none.assert().code(1).stderr(contains("the NVIDIA driver sees no GPU"));
    let mut second = on_device();
    train(&mut second, "cuda:3");
    second.assert().code(1).stderr(contains("there is no cuda:3: this machine has one GPU"));
    let mut old = on_device();
    train(old.env("SIMT_CC", "6.1"), "cuda");
    old.assert().code(1).stderr(contains("compute capability 6.1, and the kernels need 7.5"));
    let mut driver = on_device();
    train(driver.env("SIMT_DRIVER", "11040"), "cuda");
    driver.assert().code(1).stderr(contains("CUDA 11.4, and the kernels need 12.0"));
    stapes().args(["gradcheck", "--device", "gpu"]).assert().code(2).stderr(contains("take auto, cpu, cuda"));
}

#[test]
fn a_batch_too_large_for_the_memory_names_one_that_fits() {
    if is_skipped() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let train = |batch: &str| {
        let mut command = on_device();
        command.env("SIMT_MEMORY", "7000000").args(["train", "--device", "cuda", "--epochs", "1", "--batch", batch]);
        command.arg("--runs").arg(folder.path()).arg("--data").arg(clips()).arg("--model").arg(program::tiny());
        command.args(["--force", "--name", "run"]).assert()
    };
    let told = train("32").code(1).stderr(contains("a batch of 32 takes ")).stderr(contains("of the GPU's memory"));
    let told = String::from_utf8_lossy(&told.get_output().stderr).into_owned();
    let fits = told.split("--batch ").nth(1).unwrap().trim();
    assert!((2..32).contains(&fits.parse::<u32>().unwrap()), "{told}");
    train(fits).success();
}

#[test]
fn without_a_usable_gpu_auto_computes_on_the_processor() {
    if is_skipped() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = on_device();
    command.env("SIMT_DEVICES", "0").args(["train", "--epochs", "1", "--runs"]).arg(folder.path());
    command.arg("--data").arg(clips()).arg("--model").arg(program::tiny());
    command
        .assert()
        .success()
        .stderr(contains("the NVIDIA driver sees no GPU"))
        .stderr(contains("computing on the CPU"));
}

#[test]
fn without_a_driver_cuda_is_refused() {
    let told = json(stapes().args(["devices", "--json"]));
    let Some(reason) = told["cuda"][0]["unusable"].as_str() else {
        println!("this machine has a GPU: its absence cannot be tried");
        return;
    };
    if reason.contains("libcuda is not found") {
        stapes().args(["gradcheck", "--device", "cuda"]).assert().code(1).stderr(contains("no NVIDIA driver here"));
    }
}
