//! Shared by the tests of the program: the binary, a tiny network, a run that is trained once, and files with faults.
#![allow(dead_code, reason = "no test file uses all of it")]

use assert_cmd::Command;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::OnceLock;

/// A temporary folder that all tests of one process share.
fn shared() -> &'static Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIR.get_or_init(|| tempfile::Builder::new().prefix("stapes-tests-").tempdir().unwrap()).path()
}

/// The program, with a cache of its own and without settings from the environment.
pub fn stapes() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("stapes"));
    command.env("STAPES_CACHE", shared().join("cache"));
    for knob in ["STAPES_ISA", "STAPES_THREADS", "COLUMNS"] {
        command.env_remove(knob);
    }
    command
}

/// The recordings of the tests: sixteen words, four clips each.
pub fn clips() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/clips")
}

/// The path of a recording of `word`.
pub fn clip(word: &str) -> PathBuf {
    let mut clips: Vec<PathBuf> = fs::read_dir(clips().join(word)).unwrap().map(|e| e.unwrap().path()).collect();
    clips.sort();
    clips.swap_remove(0)
}

/// The file of a network that trains an epoch of the tests' recordings in milliseconds.
pub fn tiny() -> PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let write = || {
        let file = shared().join("tiny.toml");
        let text = r#"
name = "tiny"
head = { dropout = 0.2, pool = "average" }
[[block]]
conv = 8
kernel = 9
stride = 8
pool = 4
[[block]]
conv = 16
kernel = 5
pool = 4
"#;
        fs::write(&file, text).unwrap();
        file
    };
    FILE.get_or_init(write).clone()
}

/// The command that trains the tiny network on four words.
pub fn train(runs: &Path, name: &str) -> Command {
    let mut command = train_unnamed(runs);
    command.args(["--name", name]);
    command
}

/// The command of [`train`] without `--name`.
pub fn train_unnamed(runs: &Path) -> Command {
    let mut command = stapes();
    command.args(["train", "--recipe", "plain", "--batch", "2", "--classes", "bed,cat,one,six", "--data"]).arg(clips());
    command.arg("--model").arg(tiny()).arg("--runs").arg(runs);
    command
}

/// The run of two epochs that is trained once for all tests, in the state in which the training left it.
fn untouched() -> &'static Path {
    static RUN: OnceLock<PathBuf> = OnceLock::new();
    RUN.get_or_init(|| {
        let runs = shared().join("untouched");
        train(&runs, "tiny").args(["--epochs", "2"]).assert().success();
        runs.join("tiny")
    })
}

/// A run of two epochs that all tests share, which may read and evaluate it but not change it.
pub fn trained() -> PathBuf {
    static RUN: OnceLock<PathBuf> = OnceLock::new();
    RUN.get_or_init(|| copy_of_files(untouched(), &shared().join("runs/tiny"))).clone()
}

/// A copy of the run of [`trained`] that a test may change.
///
/// It does not come from the folder of [`trained`], in which evaluations of other tests write and rename files meanwhile.
pub fn copy_of_run(to: &Path) -> PathBuf {
    copy_of_files(untouched(), &to.join("copy"))
}

/// Copies the files of a folder to a new one, whose path it gives back.
fn copy_of_files(from: &Path, to: &Path) -> PathBuf {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
    to.to_path_buf()
}

/// The standard output of a command, parsed as JSON.
pub fn json(command: &mut Command) -> serde_json::Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Starts a command with its standard output and standard error piped.
pub fn spawn(command: &Command) -> Child {
    let mut plain = std::process::Command::new(command.get_program());
    plain.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => plain.env(name, value),
            None => plain.env_remove(name),
        };
    }
    plain.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap()
}

/// Reads standard error up to and including `mark`, and fails if it ends before.
pub fn read_until(child: &mut Child, mark: &str) -> String {
    let (mut read, mut byte) = (Vec::new(), [0]);
    let stderr = child.stderr.as_mut().unwrap();
    while !String::from_utf8_lossy(&read).contains(mark) && stderr.read(&mut byte).unwrap() == 1 {
        read.push(byte[0]);
    }
    let text = String::from_utf8(read).unwrap();
    assert!(text.contains(mark), "standard error ended without `{mark}`: {text}");
    text
}

/// Sends the signal of Ctrl-C.
pub fn interrupt(child: &Child) {
    let status = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// A WAV file of 16 kHz mono: the format code (1 PCM, 3 float), the bits of a sample, the data, and the length that the
/// header states.
pub fn wav(code: u16, bits: u16, data: &[u8], claimed: u32) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(b"RIFF");
    file.extend(claimed.saturating_add(36).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16u32.to_le_bytes());
    file.extend(code.to_le_bytes());
    file.extend(1u16.to_le_bytes());
    file.extend(16_000u32.to_le_bytes());
    file.extend((16_000 * u32::from(bits) / 8).to_le_bytes());
    file.extend((bits / 8).to_le_bytes());
    file.extend(bits.to_le_bytes());
    file.extend(b"data");
    file.extend(claimed.to_le_bytes());
    file.extend(data);
    file
}
