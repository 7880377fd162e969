//! A build without the repository's compiler flags chooses the same instruction set when it starts, and trains to the same bits.
//!
//! The test builds the program a second time, for the oldest x86-64 processor, into `target/any-build`.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod program;

use assert_cmd::Command;
use program::{clips, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Fused blocks with and without batch norm, unfused convolutions of every kind, both pools and two dense layers, on clips
/// that have to be resampled.
const NETWORK: &str = r#"
name = "any"
input = { length = 6000, channels = 1, sample_rate = 8000 }
batch_norm = true
head = { dropout = 0.25, pool = "average", dense = [12] }
block = [
    { conv = 8, kernel = 5, pool = 3 },
    { conv = 12, kernel = 5, pool = 3 },
    { conv = 17, kernel = 9, stride = 2 },
    { conv = 16, kernel = 3, dilation = 2, padding = "valid", pool = 2 },
]
"#;

/// Builds the program without compiler flags: an empty RUSTFLAGS replaces those in `.cargo/config.toml`. The dependencies
/// are not optimised, which makes the build faster.
fn build_without_flags() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = root.join("target/any-build");
    let cargo = std::env::var("CARGO").unwrap_or("cargo".into());
    let mut build = std::process::Command::new(cargo);
    build
        .args(["build", "--locked", "--offline", "--no-default-features", "--features", "cli", "--bin", "stapes"])
        .current_dir(root);
    build.args(["--config", r#"profile.dev.package."*".opt-level=0"#, "--config", "profile.dev.debug=false"]);
    build.arg("--target-dir").arg(&target).env("RUSTFLAGS", "");
    for other in ["CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        build.env_remove(other);
    }
    let built = build.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    target.join("debug/stapes")
}

/// One of the two builds, with a cache of its own and without settings from the environment.
struct Build {
    binary: PathBuf,
    folder: tempfile::TempDir,
}

/// The results of a training run.
struct Trained {
    metrics: serde_json::Value,
    weights: Vec<u8>,
}

impl Build {
    fn new(binary: PathBuf) -> Build {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("any.toml"), NETWORK).unwrap();
        Build { binary, folder }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.env("STAPES_CACHE", self.folder.path().join("cache"));
        command.env_remove("STAPES_ISA").env_remove("STAPES_THREADS");
        command
    }

    /// The instruction set that is used by default, and those that the build requires.
    fn devices(&self) -> (String, Vec<String>) {
        let devices = json(self.command().args(["devices", "--json"]));
        let sets = devices["cpu"]["instruction_sets"].as_array().unwrap();
        let used = sets.iter().find(|set| set["used"] == true).unwrap()["name"].as_str().unwrap().to_string();
        let assumed = devices["built_for"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_string());
        (used, assumed.collect())
    }

    /// Trains two epochs on sixteen clips with the instruction set `isa`, or with the default one if `isa` is `best`.
    fn train(&self, isa: &str, variant: &str) -> Trained {
        let name = format!("{isa}-{variant}");
        let mut train = self.command();
        train.args([
            "train",
            "--batch",
            "3",
            "--epochs",
            "2",
            "--classes",
            "bed,cat,one,six",
            "--name",
            &name,
            "--data",
        ]);
        train.arg(clips()).arg("--model").arg(self.folder.path().join("any.toml"));
        train.args(["--variant", variant, "--runs"]).arg(self.folder.path());
        if isa != "best" {
            train.env("STAPES_ISA", isa);
        }
        train.assert().success();
        let run = self.folder.path().join(name);
        let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let last = metrics.lines().last().unwrap();
        Trained {
            metrics: serde_json::from_str(last).unwrap(),
            weights: fs::read(run.join("last.safetensors")).unwrap(),
        }
    }
}

impl Trained {
    fn hash(&self) -> &str {
        self.metrics["weights"].as_str().unwrap()
    }

    fn loss(&self) -> f64 {
        self.metrics["train_loss"].as_f64().unwrap()
    }

    /// All trained parameters.
    fn params(&self) -> Vec<f32> {
        let file = safetensors::SafeTensors::deserialize(&self.weights).unwrap();
        let mut tensors = file.tensors();
        tensors.retain(|(name, _)| name.ends_with("weight") || name.ends_with("bias"));
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let numbers = tensors.iter().flat_map(|(_, tensor)| tensor.data().chunks_exact(4));
        numbers.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    }
}

fn norm(numbers: impl Iterator<Item = f32>) -> f64 {
    numbers.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}

#[test]
#[ignore = "builds the program a second time, which takes minutes; `.ci/run --full` runs it"]
fn a_build_without_flags_trains_to_the_same_bits() {
    let flagged = Build::new(assert_cmd::cargo::cargo_bin!("stapes").to_path_buf());
    let plain = Build::new(build_without_flags());
    let ((used, assumed), (plain_used, plain_assumed)) = (flagged.devices(), plain.devices());
    assert_eq!(plain_assumed, [""; 0], "the second build has no flags");
    assert_eq!(plain_used, used, "the instruction set is chosen when the program starts");
    for variant in ["do", "do+bn"] {
        let [a, b] = [&flagged, &plain].map(|build| build.train("best", variant));
        assert_eq!(a.hash(), b.hash(), "{used}, {variant}");
        assert!(a.metrics["train_loss"] == b.metrics["train_loss"] && a.weights == b.weights, "{used}, {variant}");

        // `wide` rounds a multiply-add once only where the build has FMA: elsewhere sums differ in the last digits. Adam's
        // first steps all have the size of the learning rate, 0.001; where a gradient consists of rounding errors only (the
        // bias of a convolution before batch norm), the two builds take such steps in different directions.
        let [a, b] = [&flagged, &plain].map(|build| build.train("wide", variant));
        if assumed == plain_assumed {
            assert_eq!(a.hash(), b.hash(), "wide, {variant}");
        }
        let difference = norm(a.params().iter().zip(b.params()).map(|(a, b)| a - b)) / norm(a.params().into_iter());
        println!("wide, {variant}: losses {} and {}, weights differ by {difference:.1e}", a.loss(), b.loss());
        assert!((a.loss() / b.loss() - 1.0).abs() < 1e-4, "wide, {variant}: {} and {}", a.loss(), b.loss());
        assert!(difference < 2e-3, "wide, {variant}: weights differ by {difference:.1e}");
    }
}
