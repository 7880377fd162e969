//! Evaluations of the program: several runs, other recordings, time shifts, speakers, and what is refused.

mod program;

use predicates::prelude::*;
use predicates::str::contains;
use program::*;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The command that evaluates `run`.
fn eval(run: &Path) -> assert_cmd::Command {
    let mut command = stapes();
    command.arg("eval").arg(run);
    command
}

/// Checks that a command ends with this exit code and one sentence that contains all of `parts`.
#[track_caller]
fn refused(command: &mut assert_cmd::Command, code: i32, parts: &[&str]) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("stapes: error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    for part in parts {
        assert!(errors[0].contains(part), "`{part}` is not in: {text}");
    }
}

/// Copies the clips of a word of the fixtures to `folder/to`, by file name as `name` says.
fn copy_word(word: &str, folder: &Path, to: &str, name: impl Fn(usize, &str) -> String) {
    fs::create_dir_all(folder.join(to)).unwrap();
    let mut files: Vec<PathBuf> = fs::read_dir(clips().join(word)).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for (i, file) in files.iter().enumerate() {
        let old = file.file_name().unwrap().to_str().unwrap();
        fs::copy(file, folder.join(to).join(name(i, old))).unwrap();
    }
}

/// A run in `runs`, with these further options.
fn run_with(runs: &Path, name: &str, options: &[&str]) -> PathBuf {
    train(runs, name).arg("-q").args(options).assert().success();
    runs.join(name)
}

#[test]
fn an_evaluation_has_calibration_speakers_and_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    let run = copy_of_run(dir.path());
    let told = json(eval(&run).args(["--json", "--split", "training"]));
    let (clips, correct) = (told["clips"].as_u64().unwrap(), told["correct"].as_u64().unwrap());
    let bins = told["calibration"]["bins"].as_array().unwrap();
    assert_eq!(bins.len(), 15);
    assert_eq!(bins.iter().map(|bin| bin["clips"].as_u64().unwrap()).sum::<u64>(), clips);
    let error = told["calibration"]["expected_error"].as_f64().unwrap();
    let gap = (told["calibration"]["mean_confidence"].as_f64().unwrap() - told["accuracy"].as_f64().unwrap()).abs();
    assert!(error >= gap - 1e-9 && error <= 1.0, "the error is at least the gap between the means: {error} {gap}");
    let speakers = &told["speakers"];
    assert!(speakers["speakers"].as_u64().unwrap() >= 5, "{speakers}");
    assert!(speakers["quantile_10"].as_f64() <= speakers["median"].as_f64(), "{speakers}");
    let mistakes = told["worst_mistakes"].as_array().unwrap();
    assert_eq!(mistakes.len() as u64, (clips - correct).min(20));
    let sure = |mistake: &Value| mistake["probability"].as_f64().unwrap();
    assert!(mistakes.windows(2).all(|pair| sure(&pair[0]) >= sure(&pair[1])), "{mistakes:?}");
    assert!(mistakes.iter().all(|mistake| mistake["label"] != mistake["predicted"]));
    // The file has the bins of the report.
    let csv = fs::read_to_string(run.join("reliability-training.csv")).unwrap();
    assert_eq!(csv.lines().next(), Some("low,high,clips,confidence,accuracy"));
    for (line, bin) in csv.lines().skip(1).zip(bins) {
        assert_eq!(line.split(',').nth(2).unwrap(), bin["clips"].to_string());
    }
    let text = eval(&run).args(["--split", "training"]).assert().success();
    text.stdout(contains("expected calibration error").and(contains("accuracy by speaker: median")));
}

#[test]
fn shifts_change_the_probabilities_and_one_shift_does_not() {
    let of = |shifts: &str| json(eval(&trained()).args(["--json", "--split", "training", "--shifts", shifts]));
    let (plain, once, five) = (json(eval(&trained()).args(["--json", "--split", "training"])), of("1"), of("5"));
    assert_eq!(plain, once);
    assert_eq!(five["shifts"], 5);
    assert_eq!(five["clips"], plain["clips"]);
    assert_ne!(five["loss"], plain["loss"]);
    for wrong in ["0", "2", "23", "many"] {
        let refused = eval(&trained()).args(["--shifts", wrong]).assert().code(2);
        refused.stderr(contains("it must be an odd number from 1 to 21"));
    }
}

#[test]
fn several_runs_have_a_mean_and_an_ensemble() {
    let dir = tempfile::tempdir().unwrap();
    let runs: Vec<PathBuf> = (1..=3)
        .map(|seed| run_with(dir.path(), &format!("s{seed}"), &["--epochs", "1", "--seed", &seed.to_string()]))
        .collect();
    let all = |options: &[&str]| {
        let mut command = eval(&runs[0]);
        command.args(&runs[1..]).args(["--split", "training"]).args(options);
        command
    };
    let told = json(&mut all(&["--json"]));
    let accuracies: Vec<f64> =
        told["runs"].as_array().unwrap().iter().map(|run| run["accuracy"].as_f64().unwrap()).collect();
    assert_eq!(accuracies.len(), 3);
    for (run, accuracy) in runs.iter().zip(&accuracies) {
        let single = json(eval(run).args(["--json", "--split", "training"]));
        assert_eq!(single["accuracy"].as_f64(), Some(*accuracy), "each run is evaluated as it is alone");
        assert!(run.join("eval-training.json").is_file());
    }
    let mean = accuracies.iter().sum::<f64>() / 3.0;
    assert!((told["accuracy"]["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
    let [low, high] = [0, 1].map(|i| told["accuracy"]["interval"][i].as_f64().unwrap());
    assert!(low <= mean && mean <= high);
    assert_eq!(told["ensemble"]["clips"], told["runs"][0]["clips"]);
    let output = all(&[]).env("COLUMNS", "80").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("mean accuracy ") && text.contains(" over 3 runs, standard deviation "), "{text}");
    assert!(text.contains("mean of the probabilities of all runs (ensemble)\naccuracy "), "{text}");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("differ"), "runs of other seeds only");
    // Other settings are named, other clips and classes are refused.
    let longer = run_with(dir.path(), "longer", &["--epochs", "2"]);
    eval(&runs[0]).arg(&longer).assert().success().stderr(contains("`epochs` is 1 in "));
    let random = run_with(dir.path(), "random", &["--epochs", "1", "--split", "random"]);
    refused(eval(&runs[0]).arg(&random), 1, &["cannot be compared: the clip `", "test clips of the "]);
    let other = run_with(dir.path(), "other", &["--epochs", "1", "--set", "classes=bed,cat,one,two"]);
    let parts = ["their classes are bed,cat,one,six and bed,cat,one,two", "recordings, classes and split"];
    refused(eval(&runs[0]).arg(&other), 1, &parts);
    refused(eval(&runs[0]).arg(&runs[0]), 2, &["is given twice"]);
}

#[test]
fn other_recordings_are_evaluated_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let run = copy_of_run(dir.path());
    let other = dir.path().join("other");
    // Two words of the network, one of them under names that tell no speaker, and two words that it does not know.
    copy_word("bed", &other, "bed", |i, _| format!("{i}.wav"));
    copy_word("one", &other, "one", |i, _| format!("{i}.wav"));
    copy_word("dog", &other, "dog", |_, old| old.into());
    copy_word("bird", &other, "bird", |_, old| old.into());
    let archive = dir.path().join("other.tar");
    let mut tar = tar::Builder::new(fs::File::create(&archive).unwrap());
    tar.append_dir_all("other", &other).unwrap();
    tar.finish().unwrap();
    for path in [&other, &archive] {
        let output = eval(&run).arg(path).output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success(), "{err}");
        assert!(out.contains("of 8 (95 % interval "), "{out}");
        assert!(out.contains("no file name is SPEAKER_nohash_NUMBER"), "{out}");
        assert!(err.contains("has no clips of 2 of the 4 words: cat, six"), "{err}");
        assert!(err.contains("8 clips of 2 words are left out, which the network does not know: bird, dog"), "{err}");
        // The clips are copies of clips of the run under other names.
        let listed = fs::read_to_string(run.join("split.tsv")).unwrap();
        let trained = |line: &&str| line.contains("\ttraining\t") && ["bed", "one"].iter().any(|w| line.starts_with(w));
        let trained = listed.lines().filter(trained).count();
        assert!(err.contains(&format!(", {trained} were used to train ")) && trained > 0, "{err}");
        assert!(err.contains(" and 0 more are of the same speakers"), "{err}");
        let told = json(eval(&run).arg(path).arg("--json"));
        assert_eq!((told["clips"].as_u64(), &told["split"], &told["speakers"]), (Some(8), &Value::Null, &Value::Null));
        assert_eq!(told["overlap"]["clips"], trained);
        let left_out: Vec<(&Value, &Value)> =
            told["unused"].as_array().unwrap().iter().map(|of| (&of["reason"], &of["class"])).collect();
        assert_eq!(left_out, [(&"other-word".into(), &"bird".into()), (&"other-word".into(), &"dog".into())]);
    }
    for file in ["eval-other.json", "predictions-other.csv", "confusion-other.csv", "reliability-other.csv"] {
        assert!(run.join(file).is_file(), "{file}");
    }
    // Recordings of the same speakers under the names of the run's clips, one of them of other samples.
    let same = dir.path().join("same");
    copy_word("bed", &same, "bed", |_, old| old.into());
    copy_word("dog", &same, "bed", |_, old| old.replace("nohash_", "nohash_9"));
    let listed = fs::read_to_string(run.join("split.tsv")).unwrap();
    let clip = listed.lines().find(|line| line.starts_with("bed/") && line.contains("\ttraining\t")).unwrap();
    let clip = clip.split('\t').next().unwrap();
    fs::copy(fs::read_dir(clips().join("dog")).unwrap().next().unwrap().unwrap().path(), same.join(clip)).unwrap();
    let moved = same.join(clip.replace("nohash_", "nohash_7"));
    fs::copy(same.join(clip), moved).unwrap();
    let of_bed = listed.lines().filter(|line| line.starts_with("bed/") && line.contains("\ttraining\t")).count();
    let note = format!(", {of_bed} were used to train ");
    eval(&run)
        .arg(&same)
        .assert()
        .success()
        .stderr(contains(note).and(contains(" and 1 more are of the same speakers")));
    // With several runs, too.
    let second = run_with(dir.path(), "second", &["--epochs", "1", "--seed", "2"]);
    assert_eq!(json(eval(&run).arg(&other).arg(&second).arg("--json"))["ensemble"]["clips"], 8);
}

#[test]
fn recordings_and_options_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (run, other) = (trained(), dir.path().join("other"));
    copy_word("dog", &other, "dog", |_, old| old.into());
    refused(eval(&run).arg(&other), 1, &["other has none of the words `bed`, `cat`, `one`, `six`; its own are `dog`"]);
    refused(eval(&run).arg(dir.path().join("nothing")), 1, &["nothing does not exist; give the folder of a run"]);
    refused(eval(&run).arg(tiny()), 1, &["neither a folder nor a tar archive"]);
    refused(eval(&run).arg(&other).arg(clips()), 2, &["neither ", "is a run; give recordings once"]);
    refused(eval(&run).arg(&other).args(["--split", "test"]), 2, &["--split chooses among the run's own recordings"]);
    refused(eval(&run).arg(&other).arg("--data").arg(clips()), 2, &["--data says where the run's own recordings are"]);
    refused(&mut eval(&other), 1, &["is not a run folder"]);
    // A word of the network whose only file is no sound.
    fs::create_dir(other.join("bed")).unwrap();
    fs::write(other.join("bed/a.wav"), "no sound").unwrap();
    refused(eval(&run).arg(&other), 1, &["has no clip that can be used (bed/a.wav: "]);
}

#[test]
fn training_says_what_the_recordings_lack() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // Twelve copies of each clip with the names of twelve speakers, so that each class has enough clips.
    for word in ["bed", "cat"] {
        for speaker in 0..12 {
            copy_word(word, &data, word, |i, _| format!("{speaker:02}{word}_nohash_{i}.wav"));
        }
    }
    let train_on = |data: &Path, name: &str| {
        let mut command = stapes();
        command.args(["train", "--epochs", "1", "--batch", "2", "--name", name, "--data"]).arg(data);
        command.arg("--model").arg(tiny()).arg("--runs").arg(dir.path().join("runs")).args(["--split", "random"]);
        String::from_utf8(command.assert().success().get_output().stderr.clone()).unwrap()
    };
    let enough = train_on(&data, "enough");
    assert!(!enough.contains("fewer than 20 ") && !enough.contains("fewer than 5 "), "{enough}");
    assert!(enough.contains("note: fewer than 100 validation clips ("), "{enough}");
    for file in fs::read_dir(data.join("cat")).unwrap().map(|entry| entry.unwrap().path()).skip(8) {
        fs::remove_file(file).unwrap();
    }
    let few = train_on(&data, "few");
    assert!(few.contains("note: fewer than 20 training clips of cat (6): such"), "{few}");
    copy_word("six", &data, "six", |i, _| format!("0six_nohash_{i}.wav"));
    assert!(train_on(&data, "voice").contains("fewer than 5 speakers in the training clips of six (1)"));
    let unknown = dir.path().join("unknown");
    for word in ["bed", "cat"] {
        copy_word(word, &unknown, word, |i, _| format!("{i}.wav"));
    }
    let unknown = train_on(&unknown, "unknown");
    assert!(unknown.contains("speakers cannot be told apart") && !unknown.contains("fewer than 5"), "{unknown}");
}

/// For each clip of a run's evaluation, whether it was recognised.
fn recognised(run: &Path) -> Vec<(String, bool)> {
    let text = fs::read_to_string(run.join("predictions-training.csv")).unwrap();
    let rows = text.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    rows.map(|row| (row[0].to_string(), row[1] == row[2])).collect()
}

#[test]
fn a_comparison_counts_the_clips_that_only_one_run_recognises() {
    let dir = tempfile::tempdir().unwrap();
    let runs: Vec<PathBuf> = [("a", "1", "1"), ("b", "100", "2"), ("c", "30", "3")]
        .map(|(name, epochs, seed)| {
            run_with(dir.path(), name, &["--epochs", epochs, "--seed", seed, "--lr", "0.01", "--set", "dropout=0"])
        })
        .into();
    let compare = |runs: &[PathBuf], options: &[&str]| {
        let mut command = stapes();
        command.arg("compare").args(runs).args(["--split", "training"]).args(options);
        command
    };
    let picture = dir.path().join("two.svg");
    let two = json(compare(&runs[..2], &["--json", "--picture"]).arg(&picture));
    let pair = &two["pairs"][0];
    for run in &runs[..2] {
        eval(run).args(["-q", "--split", "training"]).assert().success();
    }
    let (a, b) = (recognised(&runs[0]), recognised(&runs[1]));
    let of = |kind: (bool, bool)| a.iter().zip(&b).filter(|(a, b)| (a.1, b.1) == kind).count() as u64;
    let figure = |name: &str| pair[name].as_u64().unwrap();
    let expected = [(true, true), (true, false), (false, true), (false, false)].map(of);
    assert_eq!(["both", "only_first", "only_second", "neither"].map(figure), expected);
    assert!(expected[1] + expected[2] > 0, "the runs are of different quality: {pair}");
    let number = expected.iter().sum::<u64>() as f64;
    let (difference, p) = (pair["difference"].as_f64().unwrap(), pair["p"].as_f64().unwrap());
    approx::assert_abs_diff_eq!(difference, (expected[2] as f64 - expected[1] as f64) / number, epsilon = 1e-12);
    assert!(p > 0.0 && p <= 1.0);
    let interval = [0, 1].map(|bound| pair["interval"][bound].as_f64().unwrap());
    assert!(interval[0] <= difference && difference <= interval[1], "{interval:?} around {difference}");
    let flips = pair["flips"].as_array().unwrap();
    assert_eq!(flips.len() as u64, expected[1] + expected[2]);
    for flip in flips {
        let name = flip["clip"].as_str().unwrap();
        let right = |list: &[(String, bool)]| list.iter().find(|(clip, _)| clip == name).unwrap().1;
        assert_eq!(flip["first"] == flip["label"], right(&a), "{flip}");
        assert_eq!(flip["second"] == flip["label"], right(&b), "{flip}");
    }
    let changes = pair["confusion"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
    assert_eq!(changes.map(|n| n.as_i64().unwrap()).sum::<i64>(), 0, "both matrices have the same clips");
    let svg = fs::read_to_string(picture).unwrap();
    assert_eq!(svg.matches("<g transform").count(), 3);
    assert!(svg.contains(">bed</text>") && svg.trim_end().ends_with("</svg>"));
    let text = compare(&runs[..2], &[]).assert().success();
    text.stdout(contains("difference B - A:").and(contains("McNemar's exact test")).and(contains("confusion matrix")));

    // Three runs have three pairs, with larger p values.
    let three = json(&mut compare(&runs, &["--json"]));
    let pairs = three["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 3);
    assert_eq!(pairs[0]["only_first"], pair["only_first"]);
    assert!(pairs.iter().all(|pair| pair["adjusted_p"].as_f64() >= pair["p"].as_f64()));
    compare(&runs, &[]).assert().success().stdout(contains("C - B").and(contains("p (Holm)")));

    // A run and its copy do not differ.
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(&runs[0]).unwrap().map(|file| file.unwrap()) {
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let same = compare(&[runs[0].clone(), copy], &[]).assert().success();
    same.stdout(contains("no clip is recognised by A only").and(contains("p = 1.0000")));

    compare(&runs[..1], &[]).assert().code(2);
    refused(
        stapes().arg("compare").arg(&runs[0]).arg(clips()),
        2,
        &["only one of the paths is a run; give two runs or more"],
    );
    refused(compare(&runs, &["--picture"]).arg(dir.path().join("x.svg")), 2, &["give two runs"]);
    let mut words = stapes();
    words.args([
        "train",
        "-q",
        "--recipe",
        "plain",
        "--batch",
        "2",
        "--epochs",
        "1",
        "--classes",
        "bed,cat,six",
        "--data",
    ]);
    words
        .arg(clips())
        .arg("--model")
        .arg(tiny())
        .args(["--name", "other", "--runs"])
        .arg(dir.path())
        .assert()
        .success();
    let other = [runs[0].clone(), dir.path().join("other")];
    refused(&mut compare(&other, &[]), 1, &["their classes are bed,cat,one,six and bed,cat,six"]);
}

#[test]
fn features_times_the_last_layer_are_the_predictions() {
    let dir = tempfile::tempdir().unwrap();
    let run = run_with(dir.path(), "run", &["--epochs", "30", "--lr", "0.01", "--set", "dropout=0"]);
    let features = |output: &Path, options: &[&str]| {
        let mut command = stapes();
        command.arg("features").arg(&run).args(options).arg("--output").arg(output);
        command
    };
    let (csv, npz) = (dir.path().join("f.csv"), dir.path().join("f.npz"));
    let told = json(&mut features(&csv, &["--json"]));
    let (rows, channels) = (told["rows"].as_u64().unwrap() as usize, told["channels"].as_u64().unwrap() as usize);
    features(&npz, &[]).assert().success().stdout(contains("layer "));
    let text = fs::read_to_string(&csv).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(
        (lines[0][2], lines[0].len(), lines.len() as u64 - 1),
        ("split", 3 + rows * channels, told["clips"].as_u64().unwrap())
    );

    // The head of the network is an average over the rows, then a dense layer.
    let file = fs::read(run.join("best.safetensors")).unwrap();
    let weights = safetensors::SafeTensors::deserialize(&file).unwrap();
    let tensor = |name: &str| -> Vec<f32> {
        weights
            .tensor(name)
            .unwrap()
            .data()
            .chunks(4)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
            .collect()
    };
    let (weight, bias) = (tensor("fc1.weight"), tensor("fc1.bias"));
    eval(&run).args(["-q", "--split", "training"]).assert().success();
    let predictions = fs::read_to_string(run.join("predictions-training.csv")).unwrap();
    let classes: Vec<&str> = predictions.lines().next().unwrap().split(',').skip(3).collect();
    let mut checked = 0;
    for prediction in predictions.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>()) {
        let line = lines.iter().find(|line| line[0] == prediction[0]).unwrap();
        assert_eq!((line[1], line[2]), (prediction[1], "training"));
        let values: Vec<f64> = line[3..].iter().map(|value| value.parse().unwrap()).collect();
        let mean: Vec<f64> =
            (0..channels).map(|c| (0..rows).map(|r| values[r * channels + c]).sum::<f64>() / rows as f64).collect();
        let logit = |class: usize| -> f64 {
            let products = mean.iter().enumerate().map(|(i, value)| value * f64::from(weight[class * channels + i]));
            products.sum::<f64>() + f64::from(bias[class])
        };
        let best = (0..classes.len()).max_by(|&a, &b| logit(a).total_cmp(&logit(b))).unwrap();
        assert_eq!(classes[best], prediction[2], "{}", prediction[0]);
        let sum: f64 = (0..classes.len()).map(|class| logit(class).exp()).sum();
        let probability: f64 = prediction[3 + best].parse().unwrap();
        approx::assert_abs_diff_eq!(logit(best).exp() / sum, probability, epsilon = 2e-6);
        checked += 1;
    }
    assert!(checked >= 6, "{checked}");
    // The first member of the archive is x, with the numbers of the text.
    let bytes = fs::read(&npz).unwrap();
    let header = 35 + 10 + usize::from(u16::from_le_bytes([bytes[43], bytes[44]]));
    let first = f32::from_le_bytes(bytes[header..header + 4].try_into().unwrap());
    assert_eq!((&bytes[30..35], lines[1][3].parse()), (&b"x.npy"[..], Ok(first)));

    features(&npz, &["--layer", "pool1"]).assert().success();
    let other = dir.path().join("other.csv");
    let mut of_other = stapes();
    of_other.arg("features").arg(&run).arg(clips()).arg("--output").arg(&other).assert().success();
    assert_eq!(fs::read_to_string(&other).unwrap().lines().count(), lines.len());
    // Sound files have the features that they have in the data set, and no labels.
    let (of_files, file) = (dir.path().join("files.csv"), clip("six"));
    let of = |paths: &[&Path]| {
        let mut command = stapes();
        command.arg("features").arg(&run).args(paths).arg("--output").arg(&of_files);
        command
    };
    of(&[&file, &clip("cat")]).assert().success().stdout(contains("2 clips of"));
    let in_set = format!("six/{}", file.file_name().unwrap().to_str().unwrap());
    let expected = lines.iter().find(|line| line[0] == in_set).unwrap();
    let text = fs::read_to_string(&of_files).unwrap();
    let line: Vec<&str> = text.lines().nth(1).unwrap().split(',').collect();
    assert_eq!((line[0], line[1], line[2]), (file.to_str().unwrap(), "", ""));
    assert_eq!(line[3..], expected[3..]);
    let sent = fs::read(&file).unwrap();
    of(&[Path::new("-")]).write_stdin(sent).assert().success();
    let text = fs::read_to_string(&of_files).unwrap();
    assert_eq!(text.lines().nth(1), Some(format!("standard input,,,{}", expected[3..].join(",")).as_str()));
    of(&[&clips().join("six")]).assert().success().stdout(contains("4 clips of"));
    let wrong = dir.path().join("wrong.wav");
    fs::write(&wrong, b"no sound").unwrap();
    fs::remove_file(&of_files).unwrap();
    refused(&mut of(&[&file, &wrong]), 1, &["wrong.wav: "]);
    refused(&mut of(&[&file, Path::new("absent.wav")]), 1, &["cannot read absent.wav"]);
    refused(&mut of(&[Path::new("-"), Path::new("-")]), 2, &["only once"]);
    assert!(!of_files.exists(), "nothing is written where a file cannot be read");

    refused(&mut features(&npz, &["--layer", "pool9"]), 1, &["has no layer `pool9` (did you mean `pool"]);
    refused(&mut features(&dir.path().join("f.txt"), &[]), 2, &["must end in .npz or .csv"]);
    refused(&mut features(&dir.path().join("absent/f.npz"), &[]), 1, &["cannot write", "absent"]);
}
