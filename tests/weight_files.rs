//! A weight file is used only for what it was saved for: the same network, classes, input and settings, and its own numbers.

mod program;

use predicates::prelude::*;
use predicates::str::contains;
use program::*;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Checks that a command fails with one sentence that contains all of `parts`.
#[track_caller]
fn refused(command: &mut assert_cmd::Command, parts: &[&str]) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("stapes: error: ")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    for part in parts {
        assert!(errors[0].contains(part), "`{part}` is not in: {said}");
    }
}

/// `predict` of a weight file, with further arguments.
fn predict(file: &Path, arguments: &[&str]) -> assert_cmd::Command {
    let mut command = stapes();
    command.args(["predict", "--threads", "1"]).arg(file).arg(clip("six")).args(arguments);
    command
}

/// `predict` of a weight file as the tiny network.
fn predict_as_tiny(file: &Path, classes: &str) -> assert_cmd::Command {
    let mut command = predict(file, &["--classes", classes, "--model"]);
    command.arg(tiny());
    command
}

const CLASSES: &str = "bed,cat,one,six";

fn resume(run: &Path) -> assert_cmd::Command {
    let mut command = stapes();
    command.args(["train", "-q", "--epochs", "3", "--resume"]).arg(run);
    command
}

/// The header and the data of a safetensors file.
fn parts(file: &Path) -> (Value, Vec<u8>) {
    let bytes = fs::read(file).unwrap();
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..end]).unwrap(), bytes[end..].to_vec())
}

/// A safetensors file of a header and data.
fn assemble(file: &Path, header: &Value, data: &[u8]) -> PathBuf {
    let header = header.to_string();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat();
    fs::write(file, bytes).unwrap();
    file.to_path_buf()
}

/// The best weights of the tests' run as another program saves them: without metadata.
fn plain(file: &Path) -> PathBuf {
    let (mut header, data) = parts(&trained().join("best.safetensors"));
    header.as_object_mut().unwrap().remove("__metadata__");
    assemble(file, &header, &data)
}

/// Replaces text in the `config.toml` of a run.
fn edit(run: &Path, from: &str, to: &str) {
    let file = run.join("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from:?} is not in {text}");
    fs::write(file, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn case_06_a_file_that_stores_its_network_and_classes_is_used_for_no_others() {
    let best = trained().join("best.safetensors");
    predict_as_tiny(&best, CLASSES).assert().success();
    refused(
        &mut predict_as_tiny(&best, "six,one,cat,bed"),
        &["`classes[0]` is \"six\" in --model", "\"bed\" in ", "leave"],
    );
    refused(&mut predict_as_tiny(&best, "bed,cat,one"), &["`classes[3]` is not there", "\"six\""]);
    refused(&mut predict(&best, &["--model", "custom32-8", "--classes", CLASSES]), &["`network."]);
    refused(predict_as_tiny(&best, CLASSES).args(["--variant", "bn"]), &["`network.batch_norm` is true", "false"]);
    let dir = tempfile::tempdir().unwrap();
    let file = plain(&dir.path().join("plain.safetensors"));
    refused(&mut predict_as_tiny(&file, "bed,bed,one,six"), &["`bed` is listed twice"]);
}

#[test]
fn case_07_case_36_the_configuration_of_a_run_agrees_with_its_weights() {
    for (from, to, key) in [
        (r#"["bed", "cat", "#, r#"["cat", "bed", "#, "`classes[0]` is \"cat\" in config.toml, and \"bed\" in "),
        (r#"["bed", "#, "[", "`classes[0]`"),
        ("length = 16000", "length = 8000", "`network.input.length` is 8000 in config.toml, and 16000 in "),
        ("sample_rate = 16000", "sample_rate = 8000", "`network.input.sample_rate` is 8000"),
        ("pool = \"average\"", "pool = \"flatten\"", "`network.head.pool`"),
        ("stride = 8", "stride = 4", "`network.block[0].stride` is 4"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let run = copy_of_run(dir.path());
        edit(&run, from, to);
        for command in [stapes().arg("eval").arg(&run), &mut predict(&run, &[])] {
            refused(command, &[key, "change it back"]);
        }
        refused(&mut resume(&run), &[key, "change it back, or start a new run"]);
    }
}

#[test]
fn case_08_a_number_that_is_not_finite_is_refused_with_its_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let file = plain(&dir.path().join("plain.safetensors"));
    let own = predict(&trained(), &[]).output().unwrap().stdout;
    predict_as_tiny(&file, CLASSES).assert().success().stdout(predicate::eq(own));
    let (header, data) = parts(&file);
    for (tensor, value, said) in [
        ("conv1.weight", f32::NAN, "NaN"),
        ("conv2.bias", f32::INFINITY, "inf"),
        ("fc1.bias", f32::NEG_INFINITY, "-inf"),
    ] {
        let end = header[tensor]["data_offsets"][1].as_u64().unwrap() as usize;
        let mut data = data.clone();
        data[end - 4..end].copy_from_slice(&value.to_le_bytes());
        let wrong = assemble(&dir.path().join("wrong.safetensors"), &header, &data);
        refused(&mut predict_as_tiny(&wrong, CLASSES), &[&format!("`{tensor}`"), &format!("holds {said},")]);
    }
}

#[test]
fn case_16_case_34_a_setting_that_is_edited_is_named_when_the_run_is_resumed() {
    for (from, to, key) in [
        ("\nlr = 0.001", "\nlr = 0.5", "`lr` is 0.5 in config.toml, and 0.001 in "),
        ("\nbatch = 2", "\nbatch = 4", "`batch` is 4 in config.toml, and 2 in "),
        ("\nseed = 1", "\nseed = 77", "`seed` is 77"),
        ("dropout = 0.2", "dropout = 0.9", "`network.head.dropout` is 0.9"),
        ("\nbeta2 = 0.999", "\nbeta2 = 0.9", "`beta2`"),
        ("\ninit = \"he-normal\"", "\ninit = \"pytorch\"", "`init`"),
        ("\nsplit = \"speaker\"", "\nsplit = \"random\"", "`split`"),
        ("\nconv = \"auto\"", "\nconv = \"direct\"", "`conv`"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let run = copy_of_run(dir.path());
        edit(&run, from, to);
        refused(&mut resume(&run), &[key, "a resumed run keeps its settings"]);
    }
    // What does not change the training may change.
    let dir = tempfile::tempdir().unwrap();
    let run = copy_of_run(dir.path());
    edit(&run, "\nstrict = false", "\nstrict = true");
    edit(&run, "\nepochs = 2", "\nepochs = 3");
    resume(&run).assert().success();
}

#[test]
fn case_26_what_is_not_a_complete_safetensors_file_is_called_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let whole = fs::read(trained().join("best.safetensors")).unwrap();
    let [trailing, cut] = [[&whole[..], b"xx"].concat(), whole[..whole.len() - 3].to_vec()];
    let python = "`from safetensors.torch import save_file; save_file(model.state_dict(), \"model.safetensors\")`";
    for (bytes, parts) in [
        (&trailing[..], &["2 trailing bytes after its last tensor"][..]),
        (&cut, &["it is cut short"]),
        (&whole[..100], &["it is cut short"]),
        (b"PK\x03\x04archive/data.pkl and more", &["a zip archive", "torch.save", python]),
        (b"\x80\x02}q\x00(X\x0b\x00\x00\x00conv1", &["a Python pickle", python]),
        (b"\x89HDF\r\n\x1a\n", &["an HDF5 file", "safetensors"]),
        (b"", &["an empty file"]),
        (b"conv1.weight = [1, 2, 3]\n", &["a text file, not a safetensors file", python]),
        (b"yes\n", &["a text file, not a safetensors file", python]),
        (b"{\"conv\": {\"weight\": [1, 2, 3]}}\n", &["a text file"]),
        (b"version https://git-lfs.github.com/spec/v1\n", &["a pointer of Git LFS"]),
        (b"\x93NUMPY\x01\0v\0{'descr': '<f4'}", &["a NumPy array"]),
        (&[&[7; 8], &b"{\"a\": 1}"[..]].concat(), &["another kind of file, not a safetensors file", python]),
        (&whole[..5], &["it is cut short"]),
        (&whole[..8], &["it is cut short"]),
        (b"\x10\0\0\0\0\0\0\0{\"a\xff\x1b[31m\": 1}  ", &["is damaged"]),
    ] {
        let file = dir.path().join("state.pt");
        fs::write(&file, bytes).unwrap();
        refused(&mut predict(&file, &[]), parts);
    }
    let folder = dir.path().join("empty");
    fs::create_dir(&folder).unwrap();
    let sentence = "is not a run folder: it has no config.toml; give the folder that `stapes train` made";
    refused(stapes().arg("eval").arg(&folder), &[sentence]);
    refused(&mut resume(&folder), &[sentence]);
}

#[cfg(unix)]
#[test]
fn case_26_a_device_is_not_read() {
    refused(&mut predict(Path::new("/dev/zero"), &[]), &["/dev/zero is a device or a pipe"]);
}

#[test]
fn case_35_a_flipped_bit_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let run = copy_of_run(dir.path());
    for (file, times) in [("best.safetensors", 24), ("last.safetensors", 8)] {
        let whole = fs::read(run.join(file)).unwrap();
        for time in 0..times {
            let mut bytes = whole.clone();
            let bit = (whole.len() * 8 - 1) * (2 * time + 1) / (2 * times);
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(run.join(file), bytes).unwrap();
            let command = &mut if file == "best.safetensors" { predict(&run, &[]) } else { resume(&run) };
            command.assert().code(1).stderr(contains("stapes: error: "));
        }
        fs::write(run.join(file), whole).unwrap();
    }
    predict(&run, &[]).assert().success();
    // A flip in the name of the hash does not hide it.
    let (mut header, data) = parts(&run.join("best.safetensors"));
    header["__metadata__"].as_object_mut().unwrap().remove("stapes.hash");
    let hidden = assemble(&dir.path().join("hidden.safetensors"), &header, &data);
    refused(&mut predict(&hidden, &[]), &["is damaged", "hash"]);
    // The best weights of another run are whole, and yet not those of this one.
    let mut other = train(dir.path(), "other");
    other.args(["--epochs", "2", "-q", "--seed", "9"]).assert().success();
    fs::copy(dir.path().join("other/best.safetensors"), run.join("best.safetensors")).unwrap();
    refused(&mut resume(&run), &["best.safetensors does not hold the weights of epoch"]);
}

/// A limit on the address space simulates little memory.
#[cfg(target_os = "linux")]
#[test]
fn case_40_memory_is_bounded_by_the_size_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (mut header, data) = parts(&trained().join("best.safetensors"));
    let metadata = header["__metadata__"].as_object_mut().unwrap();
    metadata.remove("stapes.hash");
    metadata.remove("stapes.settings");
    let network = metadata["stapes.network"].as_str().unwrap().replace("conv = 16", "conv = 16000000");
    metadata["stapes.network"] = network.into();
    let huge = assemble(&dir.path().join("huge.safetensors"), &header, &data);
    let command = predict(&huge, &[]);
    let mut limited = assert_cmd::Command::new("bash");
    limited.args(["-c", "ulimit -v 700000; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    refused(&mut limited, &["holds the weights of another network", "conv2"]);
}

#[test]
fn case_43_metrics_that_are_lost_are_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let epoch = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let whole = fs::read_to_string(trained().join("metrics.jsonl")).unwrap();
    let first = whole.lines().next().unwrap();
    let cut = &whole[..whole.len() / 2 + 20];
    let other = whole.replace("\"epoch\":2", "\"epoch\":7");
    for (number, text) in ["", first, cut, &other, "\0\u{1b}[31m\n", &whole].into_iter().enumerate() {
        let place = dir.path().join(number.to_string());
        fs::create_dir(&place).unwrap();
        let run = copy_of_run(&place);
        fs::write(run.join("metrics.jsonl"), text).unwrap();
        let resumed = stapes().args(["train", "--epochs", "2", "--resume"]).arg(&run).assert().success();
        resumed.stderr(contains("metrics.jsonl was incomplete").count(usize::from(text != whole)));
        let now = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        assert_eq!(now.lines().count(), 2, "{now}");
        for (now, before) in now.lines().map(epoch).zip(whole.lines().map(epoch)) {
            for key in ["epoch", "train_loss", "validation_loss", "weights"] {
                assert_eq!(now[key], before[key], "{key}");
            }
        }
    }
}

#[test]
fn a_prefix_of_all_names_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (header, data) = parts(&plain(&dir.path().join("plain.safetensors")));
    let own = predict(&trained(), &[]).output().unwrap().stdout;
    for prefix in ["module.", "_orig_mod.", "module._orig_mod.", "model.net."] {
        let renamed =
            header.as_object().unwrap().iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone()));
        let file = assemble(&dir.path().join("prefix.safetensors"), &renamed.collect(), &data);
        predict_as_tiny(&file, CLASSES).assert().success().stdout(predicate::eq(own.clone()));
    }
    // A prefix of some names is another network.
    let mut mixed = header.clone();
    let tensor = mixed.as_object_mut().unwrap().remove("conv1.weight").unwrap();
    mixed["module.conv1.weight"] = tensor;
    let file = assemble(&dir.path().join("mixed.safetensors"), &mixed, &data);
    refused(&mut predict_as_tiny(&file, CLASSES), &["module.conv1.weight"]);
}

#[test]
fn a_file_without_a_hash_predicts_and_is_not_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let run = copy_of_run(dir.path());
    for (file, keys) in [
        ("best.safetensors", &["stapes.hash", "stapes.settings"][..]),
        ("last.safetensors", &["stapes.hash", "stapes.settings", "stapes.epochs"]),
    ] {
        let (mut header, data) = parts(&run.join(file));
        let metadata = header["__metadata__"].as_object_mut().unwrap();
        keys.iter().for_each(|key| drop(metadata.remove(*key)));
        assemble(&run.join(file), &header, &data);
    }
    predict(&run, &[]).assert().success();
    stapes().arg("eval").arg(&run).assert().success();
    refused(&mut resume(&run), &["cannot be resumed", "does not store the optimiser and the settings"]);
}
