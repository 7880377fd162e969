//! A run folder has one owner: it is created, replaced, continued and evaluated by one process at a time.

mod program;

use program::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// The names in a folder, sorted.
fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The content of every file of a folder.
fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    names(path).into_iter().map(|name| (name.clone(), fs::read(path.join(name)).unwrap())).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Checks that a command fails with one sentence that contains all of `parts`.
#[track_caller]
fn refused(command: &mut assert_cmd::Command, parts: &[&str]) {
    let output = command.output().unwrap();
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("stapes: error: ")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    for part in parts {
        assert!(errors[0].contains(part), "`{part}` is not in: {said}");
    }
}

fn resume(run: &Path, epochs: &str) -> assert_cmd::Command {
    let mut command = stapes();
    command.args(["train", "-q", "--epochs", epochs, "--resume"]).arg(run);
    command
}

/// Epochs in the metrics of a run.
fn epochs(run: &Path) -> Vec<u64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let epoch = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["epoch"].as_u64().unwrap();
    text.lines().map(epoch).collect()
}

#[test]
fn case_02_runs_without_a_name_that_start_at_once_get_a_folder_each() {
    let dir = tempfile::tempdir().unwrap();
    trained(); // fills the cache
    let start = |seed: u32| {
        let mut command = train_unnamed(dir.path());
        command.args(["--epochs", "1", "--threads", "1", "-q", "--seed", &seed.to_string()]);
        spawn(&command)
    };
    let children: Vec<_> = (0..16).map(start).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let runs: Vec<PathBuf> = names(dir.path()).iter().map(|name| dir.path().join(name)).collect();
    assert_eq!(runs.len(), 16, "{runs:?}");
    let seed = |run: &PathBuf| {
        let config = fs::read_to_string(run.join("config.toml")).unwrap();
        config.lines().find(|line| line.starts_with("seed = ")).unwrap().to_string()
    };
    let mut seeds: Vec<String> = runs.iter().map(seed).collect();
    seeds.sort();
    seeds.dedup();
    assert_eq!(seeds.len(), 16, "each folder holds one run");
}

#[test]
fn case_03_a_run_in_use_is_refused_with_the_process_id() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("live");
    let mut live = spawn(train(dir.path(), "live").args(["--epochs", "100000"]));
    read_until(&mut live, "epoch      2/100000");
    let pid = format!("in use by process {};", live.id());
    refused(&mut train(dir.path(), "live"), &[&pid]);
    refused(train(dir.path(), "live").arg("--force"), &[&pid]);
    refused(&mut resume(&run, "9"), &[&pid]);
    // An evaluation reads only: it prints its result and says why it is not saved.
    let eval = stapes().args(["eval", "--split", "validation"]).arg(&run).output().unwrap();
    let said = stderr(&eval);
    assert!(eval.status.success() && String::from_utf8_lossy(&eval.stdout).starts_with("accuracy "), "{said}");
    assert!(said.contains("not saved") && said.contains(&pid), "{said}");
    assert!(!run.join("eval-validation.json").exists());
    // After its end it can be continued.
    interrupt(&live);
    live.wait_with_output().unwrap();
    let goal = epochs(&run).len() + 2;
    resume(&run, &goal.to_string()).assert().success();
    assert_eq!(epochs(&run), (1..=goal as u64).collect::<Vec<_>>());
    assert!(!names(&run).iter().any(|name| name.ends_with(".lock")), "{:?}", names(&run));
}

#[test]
fn case_32_a_run_is_replaced_only_by_one_that_has_begun() {
    let dir = tempfile::tempdir().unwrap();
    let run = copy_of_run(dir.path());
    fs::write(run.join("notes.txt"), "not of the run").unwrap();
    let before = contents(&run);
    let force = || {
        let mut command = train(dir.path(), "copy");
        command.args(["--force", "-q"]);
        command
    };
    let missing = dir.path().join("missing");
    refused(force().args(["--device", "cuda:99"]), &["cuda"]);
    refused(force().args(["--set", "classes=bed,nothere"]), &["no word `nothere`"]);
    let mut command = stapes();
    command.args(["train", "--force", "-q", "--name", "copy", "--runs"]).arg(dir.path()).arg("--data").arg(&missing);
    refused(&mut command, &["missing does not exist"]);
    // Fails after it has begun, while it writes its first checkpoint.
    #[cfg(target_os = "linux")]
    {
        let begun = force();
        let mut limited = assert_cmd::Command::new("sh");
        limited.args(["-c", "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\""]);
        limited.arg(begun.get_program()).args(begun.get_args()).env("STAPES_CACHE", dir.path().join("cache"));
        refused(&mut limited, &["cannot write", "safetensors"]);
    }
    assert!(contents(&run) == before, "{:?}", names(&run));
    // Succeeds: the files of the old run are gone, others stay.
    force().args(["--epochs", "1"]).assert().success();
    assert_eq!(epochs(&run), [1]);
    assert_eq!(fs::read_to_string(run.join("notes.txt")).unwrap(), "not of the run");
    assert!(!names(&run).iter().any(|name| name.starts_with('.')), "{:?}", names(&run));
}

#[cfg(unix)]
#[test]
fn case_42_what_a_killed_process_has_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("killed");
    let mut child = spawn(train(dir.path(), "killed").args(["--epochs", "100000"]));
    read_until(&mut child, "epoch      2/100000");
    child.kill().unwrap();
    child.wait().unwrap();
    // As a process leaves it that is killed while it writes a file.
    fs::write(run.join(".stapes-Ab12"), "half").unwrap();
    let done = epochs(&run).len();
    resume(&run, &(done + 1).to_string()).assert().success();
    assert!(!names(&run).iter().any(|name| name.starts_with('.') || name.ends_with(".lock")), "{:?}", names(&run));
    // Killed while it replaced a run: the earlier run is continued.
    let config = fs::read(run.join("config.toml")).unwrap();
    fs::create_dir(run.join(".stapes-replaced")).unwrap();
    for name in names(&run).iter().filter(|name| !name.starts_with('.')) {
        fs::rename(run.join(name), run.join(".stapes-replaced").join(name)).unwrap();
    }
    fs::write(run.join("config.toml"), "half").unwrap();
    let mut again = stapes();
    let again = again.args(["train", "--epochs", &(done + 1).to_string(), "--resume"]).arg(&run).assert().success();
    again.stderr(predicates::str::contains("holds its earlier run"));
    assert_eq!(fs::read(run.join("config.toml")).unwrap(), config);
    // Killed before it wrote anything: the name is free.
    fs::create_dir(dir.path().join("empty")).unwrap();
    fs::write(dir.path().join("empty/run.lock"), "4194304\n").unwrap();
    train(dir.path(), "empty").args(["--epochs", "1", "-q"]).assert().success();
}

#[test]
fn runs_are_listed_with_what_their_files_say() {
    let dir = tempfile::tempdir().unwrap();
    let list = |options: &[&str]| {
        let mut command = stapes();
        command.arg("runs").arg(dir.path()).args(options);
        command
    };
    list(&[]).assert().success().stdout(predicates::str::contains("no runs in"));
    train(&dir.path().join("study"), "b").args(["-q", "--epochs", "2"]).assert().success();
    train(dir.path(), "a").args(["-q", "--epochs", "1", "--seed", "7"]).assert().success();
    let broken = dir.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("config.toml"), "lr = 'x'").unwrap();
    // The last line of a file that is being written counts as missing.
    let metrics = dir.path().join("study/b/metrics.jsonl");
    let text = std::fs::read_to_string(&metrics).unwrap();
    std::fs::write(&metrics, &text[..text.len() - 20]).unwrap();
    let told = json(list(&["--sort", "name", "--json"]).arg("-q"));
    let names: Vec<&str> = told.as_array().unwrap().iter().map(|run| run["run"].as_str().unwrap()).collect();
    assert!(names.len() == 2 && names[0].ends_with("/a") && names[1].ends_with("/study/b"), "{names:?}");
    assert_eq!((&told[0]["seed"], &told[0]["epochs"], &told[1]["epochs_done"]), (&7.into(), &1.into(), &1.into()));
    let evaluation = std::fs::read_to_string(dir.path().join("a/eval-test.json")).unwrap();
    let evaluation: serde_json::Value = serde_json::from_str(&evaluation).unwrap();
    assert_eq!(told[0]["test"]["accuracy"], evaluation["accuracy"]);
    assert!(told[0]["bytes"].as_u64().unwrap() > 10_000 && told[0]["params"].as_u64().unwrap() > 100);
    let listed = list(&[]).assert().success();
    listed.stdout(predicates::str::contains("1 of 2")).stderr(predicates::str::contains("broken is left out"));
    list(&["--sort", "colour"]).assert().code(2);
    stapes().args(["runs", "absent"]).assert().code(1).stderr(predicates::str::contains("absent is not a folder"));
}
