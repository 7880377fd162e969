//! Networks and batches beyond the memory of the machine: one sentence with the bytes that are needed, and nothing left on the disk.
#![cfg(target_os = "linux")]

mod program;

use program::{clips, stapes};
use std::fs;
use std::path::Path;

/// Runs the program with a limit on its address space, in GiB, and returns its error.
fn refused(gib: u64, arguments: &[&str], network: &str, folder: &Path) -> String {
    let file = folder.join("net.toml");
    fs::write(&file, network).unwrap();
    let program = stapes().get_program().to_owned();
    let mut command = assert_cmd::Command::new("bash");
    command.args(["-c", &format!("ulimit -v {}; exec \"$0\" \"$@\"", gib << 20)]).arg(program).args(arguments);
    command.env("STAPES_CACHE", folder.join("cache")).arg("--model").arg(&file);
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!(error.lines().filter(|line| line.contains("error: ")).count(), 1, "{error}");
    assert!(
        !error.contains("panicked") && error.contains(" of memory, and ") && error.contains("available; "),
        "{error}"
    );
    error
}

fn train(network: &str, batch: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let runs = folder.path().join("runs");
    let [data, at] = [clips(), runs.clone()].map(|path| path.to_str().unwrap().to_owned());
    let arguments = ["train", "--epochs", "1", "--device", "cpu", "--batch", batch, "--name", "run"];
    let error = refused(3, &[&arguments[..], &["--data", &data, "--runs", &at]].concat(), network, folder.path());
    assert!(!runs.join("run").exists(), "the name of the run stays free");
    error
}

#[test]
fn case_38_weights_beyond_memory_end_with_a_sentence() {
    let wide = "name = 'wide'\nhead = { dense = [30000] }\nblock = [{ conv = 8, kernel = 3, pool = 3 }]";
    let error = train(wide, "8");
    assert!(error.contains("no batch would fit; make the network or its input smaller"), "{error}");
}

#[test]
fn case_38_a_batch_beyond_memory_names_one_that_fits() {
    let normed = "name = 'normed'\nbatch_norm = true\nblock = [{ conv = 400, kernel = 3 }, { conv = 400, kernel = 3 }, { conv = 8, kernel = 3, pool = 3 }]";
    let error = train(normed, "32");
    let fits = error.split("take a batch of at most ").nth(1).and_then(|rest| rest.split(' ').next());
    let fits: usize = fits.and_then(|fits| fits.parse().ok()).unwrap_or_else(|| panic!("{error}"));
    assert!((1..32).contains(&fits), "{error}");
}
