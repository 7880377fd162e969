//! The settings of a run: their values and sentences, `config.toml`, and the recordings that it names.

mod program;

use predicates::prelude::*;
use predicates::str::contains;
use program::*;
use stapes::nn::{self, Variant};
use stapes::train::{SETTINGS, TrainConfig, Values};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// Copies the recordings of a word into a word folder.
fn put(word: &str, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for entry in fs::read_dir(clips().join(word)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
}

/// `train` of the tiny network for an epoch on all words of `data`.
fn train_on(data: &Path, runs: &Path, name: &str) -> assert_cmd::Command {
    let mut command = stapes();
    command.args([
        "train", "-q", "--recipe", "plain", "--batch", "2", "--epochs", "1", "--split", "random", "--name", name,
    ]);
    command.arg("--model").arg(tiny()).arg("--runs").arg(runs).arg("--data").arg(data);
    command
}

fn eval(run: &Path) -> assert_cmd::Command {
    let mut command = stapes();
    command.args(["eval", "-q", "--split", "training"]).arg(run);
    command
}

/// Trains, evaluates, resumes, and repeats a run.
fn usable(data: &Path, runs: &Path, name: &str) -> PathBuf {
    train_on(data, runs, name).assert().success();
    let run = runs.join(name);
    eval(&run).assert().success();
    stapes().args(["train", "-q", "--epochs", "2", "--resume"]).arg(&run).assert().success();
    let mut again = stapes();
    again.args(["train", "-q", "--name", &format!("{name}-again"), "--runs"]).arg(runs);
    again.arg("--config").arg(run.join("config.toml")).assert().success();
    let weights = |name: &str| fs::read(runs.join(name).join("last.safetensors")).unwrap();
    assert!(weights(name) == weights(&format!("{name}-again")), "the configuration repeats its run");
    run
}

#[cfg(unix)]
#[test]
fn case_01_every_class_name_can_be_trained_evaluated_resumed_and_repeated() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let names: [&[u8]; 6] = [b"yes,no", b"bed ", b" bed", b"tab\there \"q\"", b"b\xffd", b"back\\slash"];
    let data = dir.path().join("data");
    for (name, word) in names.iter().zip(["bed", "cat", "one", "six", "two", "five"]) {
        put(word, &data.join(OsStr::from_bytes(name)));
    }
    let run = usable(&data, dir.path(), "names");
    let classes = fs::read_to_string(run.join("classes.txt")).unwrap();
    assert_eq!(classes.lines().count(), 6, "{classes}");
    // Every clip has one line with as many fields as there are columns.
    let split = fs::read_to_string(run.join("split.tsv")).unwrap();
    assert!(split.lines().all(|line| line.split('\t').count() == 4), "{split}");
    assert_eq!(split.lines().count(), 25);
    let predictions = fs::read_to_string(run.join("predictions-training.csv")).unwrap();
    assert!(predictions.starts_with("clip,label,predicted,") && predictions.lines().count() > 10, "{predictions}");
    assert!(predictions.contains("\"yes,no\"") && predictions.contains(r"b\xffd"), "{predictions}");
    // Names of files keep their lines and columns.
    let strange = dir.path().join(OsStr::from_bytes(b"x\ty\nz\xff.wav"));
    fs::copy(clip("bed"), &strange).unwrap();
    let told = stapes().arg("predict").arg(&run).arg(&strange).assert().success();
    told.stdout(predicate::function(|text: &str| {
        text.lines().count() == 1 && text.split('\t').count() == 3 && text.contains(r"x\ty\nz\xff.wav")
    }));
}

#[cfg(unix)]
#[test]
fn case_13_every_path_of_recordings_survives_the_configuration() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let names: [&[u8]; 4] = [b"da\xffta", b"a b\tc\nd\"e", b"sp ", b"embedded"];
    for (number, name) in names.iter().enumerate() {
        let data = dir.path().join(OsStr::from_bytes(name));
        put("bed", &data.join("bed"));
        put("cat", &data.join("cat"));
        let run = usable(&data, dir.path(), &format!("run{number}"));
        // From another folder, and after the recordings have moved.
        let mut elsewhere = eval(&fs::canonicalize(&run).unwrap());
        elsewhere.current_dir(clips()).assert().success();
        fs::rename(&data, dir.path().join("moved")).unwrap();
        eval(&run).assert().code(1).stderr(contains("does not exist"));
        eval(&run).arg("--data").arg(dir.path().join("moved")).assert().success();
        fs::remove_dir_all(dir.path().join("moved")).unwrap();
    }
    // The folder of the run, too.
    let runs = dir.path().join(OsStr::from_bytes(b"ru\xffns"));
    let told = json(train(&runs, "run").args(["--epochs", "1", "--json"]));
    assert!(told["run"].as_str().unwrap().ends_with(r"ru\xffns/run"), "{told}");
    eval(&runs.join("run")).assert().success();
}

#[test]
fn case_15_a_clip_that_was_replaced_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    put("bed", &data.join("bed"));
    put("cat", &data.join("cat"));
    train_on(&data, dir.path(), "run").assert().success();
    let run = dir.path().join("run");
    let name = clip("bed").file_name().unwrap().to_str().unwrap().to_string();
    fs::copy(clip("six"), data.join("bed").join(&name)).unwrap();
    let sentence = format!("the clip `bed/{name}` has other samples now");
    eval(&run).assert().code(1).stderr(contains(&sentence));
    let resumed = stapes().args(["train", "--epochs", "2", "--resume"]).arg(&run).assert().code(1);
    resumed.stderr(contains(&sentence));
    fs::copy(clip("bed"), data.join("bed").join(&name)).unwrap();
    fs::copy(clip("six"), data.join("bed/new.wav")).unwrap();
    eval(&run).assert().code(1).stderr(contains("the clip `bed/new.wav` is new"));
    fs::rename(data.join("bed/new.wav"), dir.path().join("new.wav")).unwrap();
    fs::remove_file(data.join("bed").join(&name)).unwrap();
    eval(&run).assert().code(1).stderr(contains(format!("the clip `bed/{name}` is missing now")));
}

#[test]
fn case_28_an_evaluation_is_printed_where_it_cannot_be_saved() {
    let dir = tempfile::tempdir().unwrap();
    let run = copy_of_run(dir.path());
    // Permissions do not bind the superuser; a folder in the place of the lock does.
    fs::create_dir(run.join("run.lock")).unwrap();
    let told = stapes().arg("eval").arg(&run).assert().success();
    told.stdout(contains("accuracy ")).stderr(contains("note: the evaluation is not saved: "));
    let told = json(stapes().args(["eval", "--json"]).arg(&run));
    assert!(told["accuracy"].is_f64());
}

#[cfg(unix)]
#[test]
fn case_30_a_file_without_an_end_or_a_beginning_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe.toml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let zero = dir.path().join("zero.toml");
    std::os::unix::fs::symlink("/dev/zero", &zero).unwrap();
    let large = dir.path().join("large.toml");
    fs::File::create(&large).unwrap().set_len(1 << 32).unwrap();
    let binary = dir.path().join("binary.toml");
    fs::write(&binary, b"lr = \"\x1b[31m\xff\xfe\n").unwrap();
    for (file, sentence) in [
        (&pipe, "it is a device or a pipe, not a file"),
        (&zero, "it is a device or a pipe, not a file"),
        (&large, "too many for such a file"),
        (&binary, "it is not text: byte 11 is not UTF-8"),
        (&dir.path().to_path_buf(), "it is a folder, not a file"),
    ] {
        for option in ["--config", "--model"] {
            let told = stapes().args(["train", option]).arg(file).arg("--runs").arg(dir.path()).assert().code(1);
            told.stderr(contains(sentence).and(contains("\u{1b}").not()));
        }
    }
}

#[test]
fn every_wrong_value_names_the_setting_its_values_and_what_it_got() {
    for (pair, sentence) in [
        ("dropout=2", "dropout must be at least 0 and below 1, got 2"),
        ("dropout=-0.1", "dropout must be at least 0 and below 1, got -0.1"),
        ("beta1=1", "beta1 must be between 0 and 0.999999, got 1"),
        ("lr=nan", "lr must be between 0.000000001 and 1000, got NaN"),
        ("lr=0", "lr must be between 0.000000001 and 1000, got 0"),
        ("average=0.99999999", "average must be between 0 and 0.999999, got 0.99999999"),
        ("mask_seconds=0", "mask_seconds must be between 0.001 and 60, got 0"),
        ("batch=1.5", "batch must be a whole number between 1 and 1048576, got 1.5"),
        ("strict=maybe", "strict must be true or false, got `maybe`"),
        ("init=zero", "init must be he-normal, he-uniform, glorot-normal, glorot-uniform or pytorch, got `zero`"),
        ("split=chance", "split must be speaker, official or random, got `chance`"),
    ] {
        let sentence = contains(sentence.replace("got NaN", "got nan"));
        stapes().args(["train", "--set", pair]).assert().code(2).stderr(sentence);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut valid = train(dir.path(), "valid");
    valid.args(["-q", "--epochs", "1", "--set", "dropout=0.9995"]).assert().success();
    // The same limits for a network that is listed and one that is trained.
    let file = dir.path().join("net.toml");
    for (line, sentence) in [
        ("input = { sample_rate = 0 }", "`sample_rate` must be between 1 and 768000 Hz, got 0"),
        ("input = { length = 1000, channels = 1, sample_rate = 800000 }", "`sample_rate` must be between 1 and 768000"),
        ("block = [{ conv = 4, kernel = 5, pool = 0 }]", "`pool` is 0; take between 1 and 256"),
        ("block = [{ conv = 4, kernel = 5, pool = 257 }]", "`pool` is 257; take between 1 and 256"),
    ] {
        let block = if line.starts_with("block") { "" } else { "\nblock = [{ conv = 4, kernel = 5 }]" };
        fs::write(&file, format!("name = \"n\"\n{line}{block}\n")).unwrap();
        stapes().arg("models").arg(&file).assert().code(1).stderr(contains(sentence));
        stapes().args(["train", "--model"]).arg(&file).assert().code(1).stderr(contains(sentence));
    }
}

#[test]
fn the_settings_are_listed() {
    let list = stapes().args(["train", "--set", "help"]).assert().success();
    let list = list
        .stdout(contains("dropout").and(contains("values: at least 0 and below 1")).and(contains("default: 0.001")));
    list.stderr("");
    let list = json(stapes().args(["train", "--set", "help", "--json"]));
    assert!(list.as_array().unwrap().iter().any(|setting| setting["key"] == "lr" && setting["default"] == "0.001"));
    stapes().args(["train", "--help"]).assert().success().stdout(contains("--set help"));
}

#[test]
fn a_precision_that_has_no_effect_is_said() {
    let run = trained();
    let told = stapes().args(["eval", "--device", "cpu", "--precision", "bf16"]).arg(&run).assert().success();
    told.stderr(contains("note: a processor always computes in f32; bf16 has an effect on a GPU only"));
}

fn any_config() -> TrainConfig {
    let mut config = TrainConfig::new(nn::find("custom32-8").unwrap().spec(Variant::Do));
    config.set("schedule", "step", "test").unwrap(); // `step_every` and `step_factor` are settings of it
    config
}

#[test]
fn the_ends_of_every_range_are_taken_and_what_is_beyond_is_refused() {
    // With a rate, a length or a share of zero nothing would be learned or altered, or no number would come out.
    let above_zero = [
        "lr",
        "eps",
        "step_factor",
        "step_every",
        "mask_seconds",
        "temperature",
        "unknown_share",
        "silence_share",
        "epochs",
        "batch",
    ];
    for setting in SETTINGS {
        let (inside, beyond) = match setting.values {
            Values::Whole(low, high) => (vec![low.to_string(), high.to_string()], vec![(high + 1).to_string()]),
            Values::Between(low, high) => {
                let outside = [low - 1e-10, high + 0.001 * high.abs()];
                (vec![low.to_string(), high.to_string()], outside.map(|value| value.to_string()).to_vec())
            }
            Values::Below(low, high) => (vec![low.to_string()], vec![high.to_string()]),
            _ => continue,
        };
        let (key, mut config) = (setting.key, any_config());
        for value in &inside {
            config.set(key, value, "test").unwrap_or_else(|error| panic!("{error}"));
        }
        let signed = key.starts_with("snr_"); // decibels
        let small = if signed { "-200" } else { "-1e-7" };
        for value in beyond.iter().map(String::as_str).chain(["nan", "NaN", "inf", "-inf", "", small]) {
            let error = config.set(key, value, "test").expect_err(&format!("{key} = {value}")).to_string();
            assert!(error.starts_with(&format!("test: {key} must be ")), "{error}");
        }
        assert_eq!(config.set(key, "0", "test").is_err(), above_zero.contains(&key), "{key} = 0");
    }
}

/// Numbers that are below 1 in double precision and 1 in the precision in which they are used.
#[test]
fn no_decay_is_rounded_to_1() {
    let mut config = any_config();
    for key in ["average", "beta1", "beta2"] {
        assert!(config.set(key, "0.99999999", "test").is_err(), "{key}");
        config.set(key, "0.999999", "test").unwrap();
    }
    let decays = [config.average, config.adam.beta1, config.adam.beta2];
    assert!(decays.iter().all(|&decay| decay < 1.0), "{decays:?}");
}
