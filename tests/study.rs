//! Studies by the program: the queue, its resumption, the tables, and what is refused.

mod program;

use predicates::prelude::*;
use predicates::str::contains;
use program::*;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Stdio;

/// A study of the tiny network in two variants with two seeds, in the folder `runs`.
fn study(action: &str, runs: &Path) -> assert_cmd::Command {
    let mut command = stapes();
    command.args(["study", action, "--variants", "do,bn", "--seeds", "2", "--classes", "bed,cat,one,six", "--data"]);
    command
        .arg(clips())
        .args(["--set", "epochs=2", "--set", "batch=2", "--networks"])
        .arg(tiny())
        .arg("--runs")
        .arg(runs);
    command
}

/// The last lines of `metrics.jsonl` of all runs: their hashes say that the runs are equal.
fn hashes(runs: &Path) -> Vec<(String, Value)> {
    let mut names: Vec<_> =
        fs::read_dir(runs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let hash = |name: &String| {
        let text = fs::read_to_string(runs.join(name).join("metrics.jsonl")).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        (name.clone(), last["weights"].clone())
    };
    names.iter().map(hash).collect()
}

#[test]
fn a_study_is_a_queue_that_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    let told = study("run", &whole).assert().success();
    told.stdout(contains("runs finished: 4 of 4")).stderr(contains("4 of 4: tiny-bn-s2, accuracy 0."));
    let expected = hashes(&whole);
    let names: Vec<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["tiny-bn-s1", "tiny-bn-s2", "tiny-do-s1", "tiny-do-s2"]);
    let table = |runs: &Path| json(study("report", runs).arg("--json"));
    let report = table(&whole);
    let rows = report["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["variant"], &rows[1]["variant"]), (2, &"do".into(), &"bn".into()));
    for row in rows {
        let of = &row["obtained"];
        let accuracies: Vec<f64> = of["accuracies"].as_array().unwrap().iter().map(|a| a.as_f64().unwrap()).collect();
        let mean = (accuracies[0] + accuracies[1]) / 2.0;
        approx::assert_abs_diff_eq!(of["mean"]["mean"].as_f64().unwrap(), mean, epsilon = 1e-12);
        let evaluation =
            fs::read_to_string(whole.join(format!("tiny-{}-s1/eval-test.json", row["variant"].as_str().unwrap())));
        let evaluation: Value = serde_json::from_str(&evaluation.unwrap()).unwrap();
        assert_eq!(evaluation["accuracy"].as_f64(), Some(accuracies[0]));
    }

    // Killed after the first checkpoint that is new, again and again, it comes to the same end.
    let mut kills = 0;
    loop {
        let before = contents_of_checkpoints(&killed);
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("stapes"));
        let shared = study("run", &killed);
        command.args(shared.get_args()).stdout(Stdio::null()).stderr(Stdio::null());
        command.envs(shared.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let mut child = command.spawn().unwrap();
        let ended = loop {
            if child.try_wait().unwrap().is_some() {
                break true;
            }
            if contents_of_checkpoints(&killed) != before {
                child.kill().unwrap();
                child.wait().unwrap();
                break false;
            }
            std::thread::yield_now();
        };
        if ended {
            break;
        }
        kills += 1;
        assert!(kills < 50, "each part of the study does at least one epoch");
    }
    assert!(kills >= 3, "it was killed {kills} times only");
    study("run", &killed).args(["--jobs", "2"]).assert().success();
    assert_eq!(hashes(&killed), expected);
    let without_times = |mut report: Value| {
        report["rows"].as_array_mut().unwrap().iter_mut().for_each(|row| row["obtained"]["seconds"] = Value::Null);
        report
    };
    assert_eq!(without_times(table(&killed)), without_times(report));
}

/// The sizes and times of all checkpoints.
fn contents_of_checkpoints(runs: &Path) -> Vec<(std::path::PathBuf, std::time::SystemTime)> {
    let folders = fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path().join("last.safetensors"));
    let mut all: Vec<_> =
        folders.filter_map(|file| Some((file.clone(), fs::metadata(&file).ok()?.modified().ok()?))).collect();
    all.sort();
    all
}

#[test]
fn one_command_for_each_run_and_tables_with_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().join("runs");
    let commands = String::from_utf8(study("commands", &runs).output().unwrap().stdout).unwrap();
    let lines: Vec<&str> = commands.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(lines[0].contains(" study run ") && lines[0].ends_with("--only tiny-do-s1"), "{commands}");
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", lines[1]])
        .env("STAPES_CACHE", dir.path().join("cache"))
        .stderr(Stdio::null())
        .stdout(Stdio::null());
    assert!(shell.status().unwrap().success());
    let commands = String::from_utf8(study("commands", &runs).output().unwrap().stdout).unwrap();
    assert_eq!(commands.lines().count(), 3, "a finished run has no command: {commands}");
    let text = study("report", &runs).assert().success();
    text.stdout(contains("| tiny | bn |").and(contains("Not finished: tiny-do-s1, tiny-do-s2, tiny-bn-s2.")));
    let [md, csv, html, pictures] = ["s.md", "s.csv", "s.html", "pictures"].map(|name| dir.path().join(name));
    let mut files = study("report", &runs);
    for file in [&md, &csv, &html] {
        files.arg("--output").arg(file);
    }
    files.arg("--pictures").arg(&pictures).assert().success();
    assert!(fs::read_to_string(md).unwrap().starts_with("Runs finished: 1 of 4. Recipe plain with "));
    let html = fs::read_to_string(html).unwrap();
    assert!(html.contains("Not finished: tiny-do-s1") && html.contains("<td>tiny</td><td>bn</td>"), "{html}");
    assert!(!html.contains("http://") || html.matches("http").count() == html.matches("xmlns=\"http").count());
    let picture = fs::read_to_string(pictures.join("accuracy-by-parameters.svg")).unwrap();
    assert!(html.contains(picture.trim_end()) && picture.contains("<title>tiny bn: "), "{picture}");
    let csv = fs::read_to_string(csv).unwrap();
    let columns = csv.lines().map(|line| line.split(',').count()).collect::<Vec<_>>();
    assert!(columns.len() == 3 && columns.iter().all(|&count| count == columns[0]), "{csv}");
    let mut other = study("report", &runs);
    other.args(["--set", "lr=0.5"]).assert().code(1).stderr(contains("`lr` is 0.001").and(contains("tiny-bn-s1")));
}

#[test]
fn a_file_describes_a_study_and_its_faults_are_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("study.toml");
    let names = |text: &str| {
        fs::write(&file, text).unwrap();
        let output = stapes().args(["study", "commands"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.rsplit(' ').next().unwrap().trim_matches('\'').to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        names("networks = ['custom32-8']\nseeds = [7]\n[grid]\nlr = [0.1, 1]"),
        ["custom32-8-do-lr=0.1-s7", "custom32-8-do-lr=1-s7"]
    );
    assert_eq!(names("tables = ['steep32']\nvariants = ['do', 'bn', 'do+bn']").len(), 27);
    for (text, part) in [
        ("", "it has no runs"),
        ("tables = ['steep']", "there is no table `steep`"),
        ("networks = ['custom32-88']", "custom32-8"),
        ("networks = ['custom32-8']\nvariants = ['dob']", "dob"),
        ("networks = ['custom32-8']\nseeds = 0", "it has no runs"),
        ("networks = ['custom32-8', 'custom32-8']", "two runs would be called `custom32-8-do-s1`"),
        ("networks = ['custom32-8']\n[set]\nlrr = 1", "there is no setting `lrr`; did you mean `lr`?"),
        ("networks = ['custom32-8']\n[set]\nseed = 1", "`seed` is a key of the study itself"),
        ("networks = ['custom32-8']\n[grid]\nlr = [-1]", "lr must be between"),
        ("network = ['custom32-8']", "line 1: unknown field `network`"),
        ("networks = ['custom32-8']\nseeds = 1000000", "100000 are the most"),
        ("networks = ['custom32-8']\nseeds = 9000000000000000000", "it has 9000000000000000000 seeds"),
        (
            "networks = ['custom32-8']\nseeds = [1, -2]",
            "line 2: expected a number of seeds, or a list of seeds from 0 on",
        ),
        ("networks = ['custom32-8']\n[grid]\nlr = []", "`lr` in [grid] has no values"),
    ] {
        fs::write(&file, text).unwrap();
        let told = stapes().args(["study", "run"]).arg(&file).assert().failure();
        told.stderr(contains(part).and(contains("stapes: error: ")));
    }
    stapes()
        .args(["study", "run", "--networks", "custom32-8", "--only", "custom32-8-do-s2"])
        .assert()
        .code(2)
        .stderr(contains("did you mean `custom32-8-do-s1`?"));
}
