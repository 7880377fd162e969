//! Arrays and lists of sound files through the program: train, eval, predict and features.

mod program;

use predicates::str::contains;
use program::{clips, json, stapes, tiny};
use serde_json::Value;
use stapes::base::Name;
use stapes::data::NpzWriter;
use std::fs;
use std::path::{Path, PathBuf};

const CLIPS: usize = 120;
const LENGTH: usize = 96;
const CHANNELS: usize = 3;

/// A network for clips of any shape.
const NETWORK: &str = r#"
name = "small"
head = { pool = "average" }
[[block]]
conv = 8
kernel = 7
pool = 3
[[block]]
conv = 8
kernel = 5
pool = 3
"#;

/// Three classes of waves on the second of three channels with offsets, of ten groups, multiplied by `scale`.
fn arrays(folder: &Path, name: &str, scale: f32) -> PathBuf {
    let path = folder.join(name);
    let mut npz = NpzWriter::create(&path).unwrap();
    npz.begin_f32("x", &[CLIPS, LENGTH, CHANNELS]).unwrap();
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    for clip in 0..CLIPS {
        let phase = 3.0 * noise();
        for t in 0..LENGTH {
            let wave = (t as f32 * [0.15, 0.4, 0.9][clip % 3] + phase).sin();
            let frame = [40.0 + noise(), wave + 0.3 * noise() - 7.0, 0.1 * noise()];
            npz.f32s(&frame.map(|x| x * scale)).unwrap();
        }
    }
    npz.i64s("y", &(0..CLIPS as i64).map(|clip| clip % 3).collect::<Vec<_>>()).unwrap();
    npz.names("classes", ["slow", "middle", "fast"].map(Name::from).iter()).unwrap();
    npz.i64s("group", &(0..CLIPS as i64).map(|clip| clip / 3 % 10).collect::<Vec<_>>()).unwrap();
    npz.i64s("rate", &[128]).unwrap();
    npz.finish(&path).unwrap();
    path
}

/// The command that trains the network on a file.
fn train(folder: &Path, data: &Path, name: &str) -> assert_cmd::Command {
    let network = folder.join("small.toml");
    fs::write(&network, NETWORK).unwrap();
    let mut command = stapes();
    command.args(["train", "--batch", "8", "--name", name, "--data"]).arg(data);
    command.arg("--model").arg(network).arg("--runs").arg(folder.join("runs"));
    command
}

#[test]
fn arrays_train_evaluate_predict_and_give_features() {
    let dir = tempfile::tempdir().unwrap();
    let data = arrays(dir.path(), "waves.npz", 1.0);
    let mut command = train(dir.path(), &data, "waves");
    let trained = command.args(["--epochs", "12", "--set", "standardise=true"]).assert().success();
    let remarks = String::from_utf8(trained.get_output().stderr.clone()).unwrap();
    assert!(remarks.contains("120 clips of 3 classes, 10 groups"), "{remarks}");
    assert!(remarks.contains("note: `noise` and `equaliser` of the recipe alter sound, and are left out for arrays"));
    let run = dir.path().join("runs/waves");
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    for line in ["length = 96", "channels = 3", "sample_rate = 128", "standardise = true"] {
        assert!(config.contains(line), "{config}");
    }
    let evaluated = json(stapes().args(["eval", "--json"]).arg(&run));
    assert!(evaluated["accuracy"].as_f64().unwrap() > 0.9, "{evaluated}");
    // What `predict` computes for each row is what `eval` computed for the clip of this number.
    let lines = stapes().args(["predict", "--json", "--top", "3"]).arg(&run).arg(&data).output().unwrap();
    let lines: Vec<Value> =
        String::from_utf8(lines.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), CLIPS);
    let csv = fs::read_to_string(run.join("predictions-test.csv")).unwrap();
    let head: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    let mut compared = 0;
    for line in csv.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let of_row = &lines[fields[0].parse::<usize>().unwrap()];
        assert!(
            of_row["file"].as_str().unwrap().ends_with(&format!("waves.npz[{}]", fields[0].parse::<usize>().unwrap()))
        );
        for guess in of_row["top"].as_array().unwrap() {
            let class = guess["class"].as_str().unwrap();
            let column = head.iter().position(|name| name.ends_with(class)).unwrap();
            let (own, other) = (fields[column].parse::<f64>().unwrap(), guess["probability"].as_f64().unwrap());
            assert!((own - other).abs() < 1e-5, "{line} {of_row}");
        }
        compared += 1;
    }
    assert!(compared >= 10);
    let out = dir.path().join("f.csv");
    stapes().arg("features").arg(&run).arg("--output").arg(&out).assert().success();
    let features = fs::read_to_string(out).unwrap();
    assert_eq!(features.lines().count(), CLIPS + 1);
    assert!(features.lines().nth(2).unwrap().starts_with("001,middle,"), "rows keep their order");
    // Other arrays, and the same data through a resumed run.
    let other = arrays(dir.path(), "other.npz", 1.0);
    stapes().arg("eval").arg(&run).arg(&other).assert().success().stderr(contains("96 were used to train"));
    stapes().args(["train", "--resume"]).arg(&run).args(["--epochs", "13"]).assert().success();
}

/// What a command prints.
fn printed(command: &mut assert_cmd::Command) -> String {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(output.status.success(), "{text}");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_printed_on_arrays_says_groups() {
    let dir = tempfile::tempdir().unwrap();
    let data = arrays(dir.path(), "waves.npz", 1.0);
    let trained = |name: &str, seed: &str| {
        let mut command = train(dir.path(), &data, name);
        printed(command.args(["--recipe", "plain", "--epochs", "1", "--seed", seed]))
    };
    let texts = [trained("a", "1"), trained("b", "2")];
    let (a, b) = (dir.path().join("runs/a"), dir.path().join("runs/b"));
    let with = |command: &str, arguments: &[&Path]| printed(stapes().arg(command).args(arguments));
    let evaluated = with("eval", &[&a]);
    assert!(evaluated.contains("1 group") && evaluated.contains("accuracy by group: median"), "{evaluated}");
    let again = with("eval", &[&a, &data]);
    assert!(again.contains("0 more are of the same groups, so the accuracy is too high for new groups"), "{again}");
    let compared = with("compare", &[&a, &b, &data]);
    assert!(compared.contains("2,000 resamples of 10 groups"), "{compared}");
    let several = with("eval", &[&a, &b]);
    let listed = with("data", &[&data]);
    assert!(listed.contains("120 clips of 3 classes, 10 groups"), "{listed}");
    let mut all = vec![evaluated, again, compared, several, listed];
    all.extend(texts);
    if cfg!(feature = "export") {
        all.push(printed(stapes().args(["eval", "--int8"]).arg(&a)));
    }
    if cfg!(feature = "classify") {
        all.push(printed(stapes().args(["classify", "--classifiers", "knn"]).arg(&a)));
    }
    for text in &all {
        // The name of the option, and of its value, is the same for all data.
        let text = text.replace("--split speaker", "");
        let wrong = ["speaker", "voice", "people"].into_iter().find(|word| text.contains(word));
        assert_eq!(wrong, None, "{text}");
    }
}

/// Removes the line `standardise = false` from the settings of a run, also from those in its weight files, as they are in runs of
/// programs that did not have this setting.
fn without_standardise(run: &Path) {
    const LINE: &str = "standardise = false\n";
    let config = run.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains(LINE));
    fs::write(&config, text.replace(LINE, "")).unwrap();
    let mut changed = 0;
    for file in fs::read_dir(run).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|end| end != "safetensors") {
            continue;
        }
        let bytes = fs::read(&file).unwrap();
        let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header: Value = serde_json::from_slice(&bytes[8..end]).unwrap();
        let metadata = header["__metadata__"].as_object_mut().unwrap();
        metadata.remove("stapes.hash").unwrap();
        for value in metadata.values_mut() {
            let text = value.as_str().unwrap();
            changed += u32::from(text.contains(LINE));
            *value = text.replace(LINE, "").into();
        }
        header.sort_all_objects();
        let mut hash = sha1_smol::Sha1::from(header.to_string());
        hash.update(&bytes[end..]);
        header["__metadata__"]["stapes.hash"] = hash.digest().to_string().into();
        let header = header.to_string();
        fs::write(&file, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes[end..]].concat())
            .unwrap();
    }
    assert!(changed > 0, "no weight file has the settings of the run");
}

#[test]
fn a_run_on_arrays_without_the_setting_standardise_is_evaluated_and_resumed_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let data = arrays(dir.path(), "waves.npz", 1.0);
    let run = |name: &str| {
        train(dir.path(), &data, name).args(["--recipe", "plain", "--epochs", "1"]).assert().success();
        dir.path().join("runs").join(name)
    };
    let (now, before) = (run("now"), run("before"));
    without_standardise(&before);
    let accuracy = |run: &Path| json(stapes().args(["eval", "--json"]).arg(run))["loss"].clone();
    assert_eq!(accuracy(&now), accuracy(&before));
    let resumed =
        |run: &Path| json(stapes().args(["train", "--json", "--epochs", "2", "--resume"]).arg(run))["weights"].clone();
    assert!(resumed(&now).is_string());
    assert_eq!(resumed(&now), resumed(&before));
    assert_eq!(accuracy(&now), accuracy(&before));
    let predicted = |run: &Path| stapes().arg("predict").arg(run).arg(&data).output().unwrap().stdout;
    assert_eq!(predicted(&now), predicted(&before));
}

#[test]
fn a_study_of_arrays_gives_networks_their_shape_and_leaves_out_alterations_of_sound() {
    let dir = tempfile::tempdir().unwrap();
    let data = arrays(dir.path(), "waves.npz", 1.0);
    let (network, runs) = (dir.path().join("small.toml"), dir.path().join("runs"));
    fs::write(&network, NETWORK).unwrap();
    let study = |action: &str, more: &[&str]| {
        let mut command = stapes();
        command.args(["study", action, "--recipe", "best", "--set", "epochs=1", "--networks"]).arg(&network);
        command.args(more).arg("--data").arg(&data).arg("--runs").arg(&runs);
        command
    };
    study("run", &[]).assert().success().stdout(contains("runs finished: 1 of 1"));
    let config = fs::read_to_string(runs.join("small-do-s1/config.toml")).unwrap();
    for line in ["length = 96", "channels = 3", "sample_rate = 128", "noise = 0.0", "equaliser = 0.0"] {
        assert!(config.contains(line), "{line}: {config}");
    }
    let report = json(&mut study("report", &["--json"]));
    assert_eq!(report["rows"][0]["missing"].as_array().unwrap().len(), 0, "{report}");
}

#[test]
fn the_unit_of_arrays_does_not_matter_where_they_are_standardised() {
    let dir = tempfile::tempdir().unwrap();
    let weights = |name: &str, scale: f32, standardise: &str| {
        let data = arrays(dir.path(), name, scale);
        let mut command = train(dir.path(), &data, &format!("{standardise}-{scale}"));
        command.args(["--json", "--epochs", "1", "--recipe", "plain", "--set", &format!("standardise={standardise}")]);
        json(&mut command)["weights"].as_str().unwrap().to_string()
    };
    // Powers of two, so that the standardised values are equal to the bit.
    assert_eq!(weights("a.npz", 1.0, "true"), weights("b.npz", 1024.0, "true"));
    assert_ne!(weights("a.npz", 1.0, "false"), weights("b.npz", 1024.0, "false"));
    let run = dir.path().join("runs/true-1");
    // A run whose settings no longer say what its weights need is refused.
    let config = run.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("standardise = true", "standardise = false")).unwrap();
    stapes().arg("eval").arg(&run).assert().code(1).stderr(contains("`standardise` of config.toml do not agree"));
}

#[test]
fn arrays_and_networks_that_do_not_fit_are_refused_with_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let data = arrays(dir.path(), "waves.npz", 1.0);
    let fails = |command: &mut assert_cmd::Command, sentence: &str| {
        let output = command.arg("-q").output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.contains(sentence) && text.lines().count() == 1, "{text}");
    };
    fails(train(dir.path(), &data, "a").args(["--set", "noise=0.5"]), "`noise` alters sound");
    fails(train(dir.path(), &data, "b").args(["--split", "official"]), "gives no splits; use --split speaker");
    fails(train(dir.path(), &data, "c").args(["--classes", "slow,fats"]), "did you mean `fast`");
    let wide = dir.path().join("wide.toml");
    fs::write(&wide, format!("input = {{ length = 96, channels = 2, sample_rate = 128 }}\n{NETWORK}")).unwrap();
    let mut command = stapes();
    command.args(["train", "--name", "e", "--data"]).arg(&data).arg("--model").arg(&wide);
    fails(command.arg("--runs").arg(dir.path().join("runs")), "has clips of 3 channels, and the network takes 2");
    assert!(!dir.path().join("runs/e").exists(), "a run that fails before its first step leaves no folder");
    let npy = dir.path().join("y.npy");
    fs::write(&npy, b"\x93NUMPY\x01\0").unwrap();
    fails(train(dir.path(), &npy, "f").args(["--epochs", "1"]), "y.npy is a single array, without classes");
}

/// A list of the clips of four words, with `split` and `speaker`.
fn list(folder: &Path) -> String {
    let mut text = String::from("label,path,speaker,comment,split\r\n");
    for word in ["bed", "cat", "one", "six"] {
        let mut files: Vec<_> = fs::read_dir(clips().join(word)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        fs::create_dir_all(folder.join("sound")).unwrap();
        for (number, file) in files.iter().take(4).enumerate() {
            let name = format!("{word}, number {number}.wav");
            fs::copy(file, folder.join("sound").join(&name)).unwrap();
            let split = ["train", "train", "validation", "test"][number];
            text += &format!("{word}/{word},\"sound/{name}\",s{number},\"say \"\"{word}\"\"\",{split}\r\n");
        }
    }
    text
}

#[test]
fn a_list_of_sound_files_is_a_data_set() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clips.csv");
    fs::write(&path, list(dir.path())).unwrap();
    let audit = json(stapes().args(["data", "--json"]).arg(&path));
    assert_eq!((audit["clips"].as_u64(), audit["speakers"].as_u64()), (Some(16), Some(4)));
    let names: Vec<&str> = audit["classes"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["bed/bed", "cat/cat", "one/one", "six/six"]);
    for class in audit["classes"].as_array().unwrap() {
        assert_eq!([&class["training"], &class["validation"], &class["testing"]], [2, 1, 1]);
    }
    let mut command = stapes();
    command.args(["train", "--recipe", "plain", "--epochs", "1", "--name", "list", "--data"]).arg(&path);
    let output = command.arg("--model").arg(tiny()).arg("--runs").arg(dir.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("number 3.wav"),
        "the next command names a file of the list: {text}"
    );
    stapes().arg("eval").arg(dir.path().join("list")).assert().success().stdout(contains("4 (95 % interval"));
    let bed = dir.path().join("sound/bed, number 3.wav");
    stapes().arg("predict").arg(dir.path().join("list")).arg(bed).assert().success();
    // A file that cannot be read is skipped and counted in its class; a changed one is noticed.
    fs::write(dir.path().join("sound/bed, number 0.wav"), b"no sound").unwrap();
    let audit = json(stapes().args(["data", "--json"]).arg(&path));
    assert_eq!([&audit["classes"][0]["skipped"], &audit["classes"][0]["training"]], [1, 1]);
}

#[test]
fn what_is_wrong_in_a_list_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let (path, good) = (dir.path().join("clips.csv"), list(dir.path()));
    let fails = |text: &str, sentence: &str| {
        fs::write(&path, text).unwrap();
        let output = stapes().args(["data", "-q"]).arg(&path).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(sentence) && error.lines().count() == 1, "{error}");
    };
    let with = |from: &str, to: &str| good.replacen(from, to, 1);
    fails(&with("sound/bed, number 1", "sound/gone"), "clips.csv, line 3: the file ");
    fails(&with("cat/cat,", ","), "clips.csv, line 6: there is no label");
    fails(&with("\"sound/cat, number 0.wav\"", ""), "clips.csv, line 6: there is no path");
    fails(&with(",s0,", ",,"), "clips.csv, line 2: there is no speaker");
    fails(
        &with(",train\r", ",traing\r"),
        "clips.csv, line 2: the split is `traing`; a split is train, validation or test",
    );
    fails(
        &with("bed, number 1", "bed, number 0"),
        "clips.csv, line 3: the path `sound/bed, number 0.wav` is in line 2 too",
    );
    fails(&with("label,", "word,"), "clips.csv, line 1: there is no column `label`");
    fails(&with("comment", "split"), "clips.csv, line 1: the column `split` is named twice");
    fails(&with("number 2.wav\"", "number 2.wav"), "line 4: ");
    fails("path,label\n", "clips.csv, line 1: no clips follow");
    fails("", "clips.csv, line 1: there is no column `path`");
    let one = format!("path,label\n{}", "\"sound/bed, number 0.wav\",bed\n");
    fs::write(&path, one).unwrap();
    let mut command = stapes();
    command.args(["train", "-q", "--runs"]).arg(dir.path()).arg("--data").arg(&path);
    command.assert().code(1).stderr(contains("clips.csv has a single class, `bed`; a network needs at least two"));
}
