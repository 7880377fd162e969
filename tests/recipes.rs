//! Recipes, schedules and transfer by the program: what a run says, stores and refuses.

mod program;

use predicates::prelude::*;
use predicates::str::contains;
use program::*;
use safetensors::SafeTensors;
use std::fs;
use std::path::Path;

/// `train` of a tiny network on two words, without a recipe being named.
fn train_two(runs: &Path, name: &str) -> assert_cmd::Command {
    let mut command = stapes();
    command.args(["train", "--batch", "2", "--classes", "bed,cat", "--name", name, "--data"]).arg(clips());
    command.arg("--model").arg(tiny()).arg("--runs").arg(runs);
    command
}

fn config(run: &Path) -> toml::Table {
    toml::from_str(&fs::read_to_string(run.join("config.toml")).unwrap()).unwrap()
}

#[test]
fn a_run_names_its_recipe_and_stores_its_settings() {
    let dir = tempfile::tempdir().unwrap();
    let told = train_two(dir.path(), "best").args(["--epochs", "2"]).assert().success();
    told.stderr(contains("recipe   best: ").and(contains("schedule cosine")).and(contains("weight_decay 0.05")));
    let best = config(&dir.path().join("best"));
    assert_eq!(best["recipe"].as_str(), Some("best"));
    assert_eq!((best["schedule"].as_str(), best["epochs"].as_integer()), (Some("cosine"), Some(2)));
    let network = best["network"].as_table().unwrap();
    assert_eq!(network["head"]["dropout"].as_float(), Some(0.2), "the network's own file says what dropout it has");
    let told = train_two(dir.path(), "plain").args(["--epochs", "1", "--recipe", "plain"]).assert().success();
    told.stderr(contains("recipe   plain: ").and(contains("options  ").not()));
    // A run that repeats another one has its settings, and no recipe is laid over them.
    let repeated = dir.path().join("best/config.toml");
    let mut again = stapes();
    again.args(["train", "-q", "--name", "again", "--runs"]).arg(dir.path()).arg("--config").arg(repeated);
    again.assert().success();
    assert_eq!(config(&dir.path().join("again")), best);
}

#[test]
fn a_file_is_a_recipe_and_options_come_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("own.toml");
    fs::write(
        &file,
        "summary = 'mine'\nlr = 0.004\nepochs = 1\nschedule = 'step'\nstep_every = 0.5\nsmoothing = 0.25\n",
    )
    .unwrap();
    let mut command = train_two(dir.path(), "own");
    let told = command.arg("--recipe").arg(&file).args(["--set", "smoothing=0.125"]).assert().success();
    told.stderr(contains(": mine").and(contains("smoothing 0.125")).and(contains("step_every 0.5")));
    let config = config(&dir.path().join("own"));
    assert_eq!((config["lr"].as_float(), config["step_factor"].as_float()), (Some(0.004), Some(0.1)));
}

#[test]
fn minutes_become_epochs() {
    let dir = tempfile::tempdir().unwrap();
    let told = train_two(dir.path(), "short").args(["--minutes", "1e-9"]).assert().success();
    told.stderr(contains("an epoch takes about").and(contains("1 epoch of")));
    assert_eq!(config(&dir.path().join("short"))["epochs"].as_integer(), Some(1));
}

#[test]
fn patience_ends_a_run_early() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = train_two(dir.path(), "patient");
    // With hardly a learning rate epochs are soon no better than the best before them.
    command.args(["--recipe", "plain", "--lr", "1e-9", "--epochs", "30", "--split", "random", "--set", "patience=3"]);
    let told = command.assert().success();
    let metrics = fs::read_to_string(dir.path().join("patient/metrics.jsonl")).unwrap();
    let epochs = metrics.lines().count();
    assert!((4..30).contains(&epochs), "{epochs}");
    told.stdout(contains(format!("the weights are those of epoch {}\n", epochs - 3)));
}

/// The tensors of a weight file whose names begin with `prefix`, as bytes.
fn tensors(run: &Path, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = fs::read(run.join("last.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<(String, Vec<u8>)> = file
        .tensors()
        .into_iter()
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(name, view)| (name, view.data().to_vec()))
        .collect();
    tensors.sort();
    assert!(!tensors.is_empty(), "{prefix}");
    tensors
}

#[test]
fn frozen_layers_of_another_run_do_not_change_and_the_head_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let base = trained();
    let mut command = stapes();
    command.args(["train", "--batch", "2", "--epochs", "3", "--classes", "two,five,zero", "--name", "tuned", "--data"]);
    // Without --model the network is that of the other run.
    command.arg(clips()).arg("--runs").arg(dir.path());
    command.arg("--init-from").arg(&base).args(["--freeze", "all-but-head"]);
    let told = command.assert().success();
    told.stderr(contains("conv1").and(contains("fc1")));
    let tuned = dir.path().join("tuned");
    let best = base.join("best.safetensors");
    let bytes = fs::read(&best).unwrap();
    let base = SafeTensors::deserialize(&bytes).unwrap();
    for (name, data) in tensors(&tuned, "conv") {
        assert_eq!(base.tensor(&name).unwrap().data(), data, "{name}");
    }
    // Interrupted and resumed runs keep what is frozen as well.
    let before = tensors(&tuned, "conv");
    let head = tensors(&tuned, "fc");
    stapes().args(["train", "-q", "--epochs", "5", "--resume"]).arg(&tuned).assert().success();
    assert_eq!(tensors(&tuned, "conv"), before);
    assert_ne!(tensors(&tuned, "fc"), head);
}

#[test]
fn a_teacher_changes_what_is_learned() {
    let dir = tempfile::tempdir().unwrap();
    let learned = |name: &str, options: &[&str]| {
        train(dir.path(), name).args(["--epochs", "2"]).args(options).assert().success();
        tensors(&dir.path().join(name), "fc")
    };
    let run = trained();
    let teacher = ["--teacher", run.to_str().unwrap()];
    let (alone, taught) = (learned("alone", &[]), learned("taught", &teacher));
    assert_ne!(alone, taught);
    // Without a share in the labels the teacher has no say.
    let unheard = learned("unheard", &[&teacher[..], &["--set", "teacher_share=0"]].concat());
    assert_eq!(alone, unheard);
}

#[test]
fn a_run_with_other_noise_or_another_teacher_is_not_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let (noise, teacher) = (dir.path().join("noise"), dir.path().join("teacher"));
    fs::create_dir(&noise).unwrap();
    let recording = |word: &str| {
        let clips = fs::read_dir(clips().join(word)).unwrap().map(|entry| entry.unwrap().path());
        clips.filter(|path| path.extension().is_some_and(|end| end == "wav")).min().unwrap()
    };
    fs::copy(recording("bed"), noise.join("noise.wav")).unwrap();
    train(dir.path(), "teacher").args(["--epochs", "1"]).assert().success();
    let first = fs::read(teacher.join("best.safetensors")).unwrap();
    train(dir.path(), "other").args(["--epochs", "1", "--seed", "2"]).assert().success();
    let other = fs::read(dir.path().join("other/best.safetensors")).unwrap();
    let from = format!("noise_from={}", noise.display());
    let mut command = train(dir.path(), "taught");
    command.args(["--epochs", "1", "--set", "noise=1", "--set", &from, "--teacher"]).arg(&teacher).assert().success();
    let resume = |epochs: &str| {
        let mut command = stapes();
        command.args(["train", "-q", "--epochs", epochs, "--resume"]).arg(dir.path().join("taught"));
        command
    };
    fs::write(teacher.join("best.safetensors"), other).unwrap();
    resume("2").assert().failure().stderr(contains("its teacher has other weights than before"));
    fs::write(teacher.join("best.safetensors"), first).unwrap();
    fs::copy(recording("cat"), noise.join("noise.wav")).unwrap();
    resume("2").assert().failure().stderr(contains("its background noise is not the same as before"));
    fs::copy(recording("bed"), noise.join("noise.wav")).unwrap();
    resume("2").assert().success();
}

#[test]
fn wrong_recipes_and_transfers_are_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let base = trained();
    let silent = dir.path().join("no sound");
    fs::create_dir(&silent).unwrap();
    fs::write(silent.join("readme.txt"), "no sound").unwrap();
    let other = dir.path().join("other.toml");
    fs::write(&other, "model = 'mine.toml'\n").unwrap();
    let (base, silent, other) = (base.to_str().unwrap(), silent.to_str().unwrap(), other.to_str().unwrap());
    let cases: &[(&[&str], &str)] = &[
        (&["--recipe", "bset"], "did you mean `best`?"),
        (&["--recipe", other], "a network file is given with --model"),
        (&["--recipe", "absent.toml"], "absent.toml"),
        (&["--set", "recipe=plain"], "a recipe is given with --recipe"),
        (&["--minutes", "0"], "--minutes must be above 0"),
        (&["--minutes", "nan"], "--minutes must be above 0"),
        (&["--minutes", "1", "--epochs", "2"], "cannot be used with"),
        (&["--set", "shift=-1"], "shift must be between 0 and 60, got -1"),
        (&["--set", "noise=2"], "noise must be between 0 and 1, got 2"),
        (&["--set", "snr_low=40"], "`snr_low` is 40; it must lie between -100 and 30"),
        (&["--set", "step_every=0.5"], "only the schedule `step` has it"),
        (&["--set", "patience=2"], "keep=best"),
        (&["--set", &format!("noise_from={silent}")], "no sound"),
        (&["--init-from", "absent"], "absent"),
        (&["--freeze", "conv9"], "conv9"),
        (&["--teacher", "absent"], "absent"),
        (&["--teacher", base], "has the classes bed,cat,one,six, and this run has bed,cat"),
        (&["--init-from", base, "--model", "custom32-8"], "conv1"),
    ];
    for (arguments, part) in cases {
        let mut command = train_two(dir.path(), "wrong");
        // The options of the case come last: a network given twice is a wrong command line.
        if arguments.contains(&"--model") {
            command = stapes();
            command
                .args(["train", "--classes", "bed,cat", "--name", "wrong", "--data"])
                .arg(clips())
                .arg("--runs")
                .arg(dir.path());
        }
        let output = command.args(*arguments).args(["-q"]).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && told.contains(part), "{arguments:?}: {told}");
        assert!(told.contains("error: "), "{told}");
        assert!(!dir.path().join("wrong").exists(), "{arguments:?} left files");
    }
}
