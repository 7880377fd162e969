//! Every kind of bad input: one sentence that names the file and the way out, exit code 1, nothing half-written.

mod program;

use predicates::prelude::*;
use predicates::str::contains;
use program::*;
use std::fs;
use std::path::Path;

/// Fails with code 1 and one sentence on standard error that has all of these parts.
#[track_caller]
fn refused(command: &mut assert_cmd::Command, parts: &[&str]) {
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}\n{err}");
    let error: Vec<&str> = err.lines().filter(|line| line.contains("error: ")).collect();
    assert_eq!(error.len(), 1, "{err}");
    assert!(error[0].starts_with("stapes: error: "), "{err}");
    for part in parts {
        assert!(error[0].contains(part), "`{part}` is not in: {err}");
    }
    assert!(!err.contains("panicked") && !err.contains("/.stapes-"), "{err}");
}

/// A copy of some of the recordings.
fn folder_of(words: &[&str], to: &Path) {
    for word in words {
        fs::create_dir_all(to.join(word)).unwrap();
        for entry in fs::read_dir(clips().join(word)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, to.join(word).join(path.file_name().unwrap())).unwrap();
        }
    }
}

fn train_on(data: &Path, runs: &Path) -> assert_cmd::Command {
    let mut command = stapes();
    command.args(["train", "--batch", "2", "--epochs", "1", "--name", "run", "--data"]).arg(data);
    command.arg("--model").arg(tiny()).arg("--runs").arg(runs);
    command
}

#[test]
fn recordings_that_are_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let (data, runs) = (dir.path().join("data"), dir.path().join("runs"));
    refused(&mut train_on(&data, &runs), &["data does not exist", "give a folder"]);
    refused(stapes().arg("data").arg(&data), &["data does not exist"]);
    fs::create_dir(&data).unwrap();
    refused(&mut train_on(&data, &runs), &["contains no word folders", "one folder for each word"]);
    folder_of(&["bed", "six"], &data);
    fs::create_dir(data.join("seven")).unwrap();
    refused(train_on(&data, &runs).args(["--classes", "bed,seven"]), &["`seven`", "no clip", "--classes"]);
    refused(train_on(&data, &runs).args(["--classes", "bed,sevn"]), &["no word `sevn`", "did you mean `seven`"]);
    refused(train_on(&data, &runs).args(["--classes", "bed,bed"]), &["`bed` is listed twice"]);
    refused(train_on(&data, &runs).args(["--classes", "bed,six", "--split", "official"]), &["validation_list.txt"]);
    refused(&mut train_on(&tiny(), &runs), &["tiny.toml is neither a folder nor a tar archive"]);
    assert!(!runs.exists(), "nothing is left behind");
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_in_a_build_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let (words, runs) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet/words"), dir.path().join("runs"));
    let file = words.join("test-00000-of-00001.parquet");
    let how =
        "which this program was built without; build it with `cargo install --locked --path . --features parquet`";
    refused(&mut train_on(&file, &runs), &["test-00000-of-00001.parquet is data in Parquet", how]);
    refused(&mut train_on(&words, &runs), &["tests/parquet/words is data in Parquet", how]);
    refused(
        stapes().arg("predict").arg(trained()).arg(&file),
        &["test-00000-of-00001.parquet is data in Parquet", how],
    );
    assert!(!runs.exists(), "nothing is left behind");
}

#[test]
fn clips_that_are_broken() {
    let dir = tempfile::tempdir().unwrap();
    let whole = fs::read(clip("bed")).unwrap();
    let nan: Vec<u8> = [0.5f32, f32::NAN].iter().cycle().take(1600).flat_map(|v| v.to_le_bytes()).collect();
    let broken: [(&str, Vec<u8>, &str); 7] = [
        ("text", b"this is a letter, not a sound\n".repeat(9), "it is a text file, not WAV"),
        ("empty", Vec::new(), "it is an empty file"),
        ("truncated", whole[..9000].to_vec(), "it is truncated"),
        ("silent", wav(1, 16, &[], 0), "it contains no samples"),
        ("giant", wav(1, 16, &[1; 64], 0xffff_ff00), "truncated"),
        ("nan", wav(3, 32, &nan, 6400), "its value number 1 is NaN"),
        ("header", whole[..30].to_vec(), "header is invalid"),
    ];
    let run = trained();
    for (name, bytes, sentence) in &broken {
        let file = dir.path().join(format!("{name}.wav"));
        fs::write(&file, bytes).unwrap();
        refused(stapes().arg("predict").arg(&run).arg(&file), &[&format!("{name}.wav: "), sentence]);
    }
    // The others go on.
    let good = clip("six");
    let mixed = stapes().arg("predict").arg(&run).arg(dir.path().join("nan.wav")).arg(&good).assert().code(1);
    mixed.stdout(predicate::function(|text: &str| text.lines().count() == 1 && text.contains("/six/")));
    let missing = dir.path().join("missing.wav");
    refused(stapes().arg("predict").arg(&run).arg(missing), &["missing.wav", "check the path"]);
    refused(stapes().arg("predict").arg(&run).arg(clips()), &["is a folder; give the sound files in it"]);

    // In a data set they are skipped, counted and told of; --strict makes them fatal.
    let (data, runs) = (dir.path().join("data"), dir.path().join("runs"));
    folder_of(&["bed", "six"], &data);
    for (name, bytes, _) in &broken {
        fs::write(data.join("bed").join(format!("{name}.wav")), bytes).unwrap();
    }
    refused(train_on(&data, &runs).arg("--strict"), &["7 clips cannot be used", "bed/empty.wav", "--strict"]);
    assert!(!runs.exists());
    let done = train_on(&data, &runs).assert().success();
    done.stderr(contains("7 clips are skipped").and(contains("bed/empty.wav: it is an empty file")));
    let told = json(stapes().args(["data", "--json"]).arg(&data));
    assert_eq!((told["totals"]["unreadable"].as_u64(), told["totals"]["empty"].as_u64()), (Some(5), Some(2)));
    assert_eq!(told["classes"][0]["skipped"], 7);
}

#[test]
fn a_cache_that_is_cut_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let audit =
        || stapes().env("STAPES_CACHE", &cache).args(["data", "--classes", "bed"]).arg(clips()).output().unwrap();
    let first = audit();
    assert!(first.status.success());
    let file = fs::read_dir(&cache).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().unwrap() == "cache");
    let file = file.unwrap();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let second = audit();
    assert_eq!(first.stdout, second.stdout);
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(second.status.success() && said.contains("was damaged"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), whole);
}

/// A file that the command line names is left out, not deleted: it may be dear to its owner.
#[test]
fn files_that_are_no_clips() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("my song.m4a"), b"\0\0\0\x1CftypM4A \0").unwrap();
    let predict = |file: &str| {
        let mut command = stapes();
        command.current_dir(dir.path()).arg("predict").arg(trained()).arg(file);
        command
    };
    fs::copy(tiny(), dir.path().join("m1.toml")).unwrap();
    let sentence =
        "m1.toml: it is a text file, not WAV, FLAC or Ogg Vorbis; replace it with a recording or leave it out";
    refused(&mut predict("m1.toml"), &[sentence]);
    refused(&mut predict("my song.m4a"), &["convert it: ffmpeg -i 'my song.m4a' 'my song.wav'"]);
    let piped = predict("-").write_stdin("no sound").assert().code(1);
    piped.stderr(contains(
        "standard input: it is a text file, not WAV, FLAC or Ogg Vorbis; replace it with a recording or leave it out",
    ));
}

#[test]
fn weights_that_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let run = copy_of_run(dir.path());
    let clip = clip("bed");
    refused(stapes().arg("predict").arg(dir.path()).arg(&clip), &["is not a run folder: it has no config.toml"]);
    refused(stapes().arg("predict").arg(dir.path().join("gone")).arg(&clip), &["gone", "check the path"]);
    refused(stapes().arg("predict").arg(&clip).arg(&clip), &["is a WAV file, not a safetensors file"]);
    for file in ["best.safetensors", "last.safetensors"] {
        let whole = fs::read(run.join(file)).unwrap();
        fs::write(run.join(file), &whole[..whole.len() / 2]).unwrap();
    }
    refused(stapes().arg("predict").arg(&run).arg(&clip), &["best.safetensors is damaged (it is cut short)"]);
    refused(stapes().arg("eval").arg(&run), &["best.safetensors is damaged (it is cut short)"]);
    refused(stapes().arg("train").arg("--epochs").arg("3").arg("--resume").arg(&run), &["last.safetensors is damaged"]);

    // Of another network.
    let other = dir.path().join("other.toml");
    fs::write(&other, fs::read_to_string(tiny()).unwrap().replace("conv = 16", "conv = 12")).unwrap();
    let mut command = stapes();
    command.args([
        "train",
        "--recipe",
        "plain",
        "--batch",
        "2",
        "--epochs",
        "1",
        "--name",
        "other",
        "--classes",
        "bed,cat,one,six",
    ]);
    command.arg("--data").arg(clips()).arg("--model").arg(&other).arg("--runs").arg(dir.path()).assert().success();
    fs::copy(dir.path().join("other/last.safetensors"), run.join("last.safetensors")).unwrap();
    let resumed = &["`network.block[1].conv` is 16 in config.toml, and 12 in ", "last.safetensors", "change it back"];
    refused(stapes().args(["train", "--epochs", "3", "--resume"]).arg(&run), resumed);

    // A run that never saved.
    fs::remove_file(run.join("last.safetensors")).unwrap();
    refused(stapes().args(["train", "--epochs", "3", "--resume"]).arg(&run), &["ended before its first checkpoint"]);
    // A run whose recordings have changed.
    let data = dir.path().join("data");
    folder_of(&["bed", "cat", "one"], &data);
    let moved = stapes().arg("eval").arg(trained()).arg("--data").arg(&data).assert().code(1);
    moved.stderr(contains("has no word `six`"));
    let elsewhere = dir.path().join("elsewhere");
    folder_of(&["dog", "tree"], &elsewhere);
    let sentence = "has none of the words `bed`, `cat`, `one`, `six`; its own are `dog`, `tree`; give the data that has \
                    them";
    refused(stapes().arg("eval").arg(trained()).arg("--data").arg(&elsewhere), &[sentence]);
    folder_of(&["six"], &data);
    fs::remove_file(data.join("bed").join(clip.file_name().unwrap())).unwrap();
    refused(stapes().arg("eval").arg(trained()).arg("--data").arg(&data), &["are not those of", "split.tsv", "bed/"]);
}

#[test]
fn settings_that_are_wrong_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let config = fs::read_to_string(trained().join("config.toml")).unwrap();
    let file = dir.path().join("config.toml");
    let runs = dir.path().join("runs");
    for (from, to, parts) in [
        ("\nepochs = 2", "\nepoch = 2", &["config.toml, line ", "no setting `epoch`", "did you mean `epochs`"][..]),
        (
            "\nepochs = 2",
            "\nepochs = -2",
            &["config.toml, line ", "epochs must be a whole number between 1 and 100000, got -2"],
        ),
        ("\nepochs = 2", "\nepochs 2", &["config.toml"]),
        ("stride = 8", "strid = 8", &["config.toml", "unknown key `strid`", "did you mean `stride`"]),
        ("kernel = 9", "kernel = 99999", &["config.toml", "kernel"]),
        ("[network]", "[netwrk]", &["config.toml", "no setting `netwrk`", "did you mean `network`"]),
    ] {
        assert!(config.contains(from), "{from:?} is not in {config}");
        fs::write(&file, config.replacen(from, to, 1)).unwrap();
        refused(stapes().arg("train").arg("--config").arg(&file).arg("--runs").arg(&runs), parts);
    }
    let network = dir.path().join("net.toml");
    for (text, parts) in [
        ("name = \"n\"\nblocks = { rule = \"custom\", start = 8, depth = 12 }\n", &["net.toml, line 2", "pool"][..]),
        ("name = \"n\"\n[[block]]\nconv = 0\nkernel = 5\n", &["net.toml, line 3", "0 channels"]),
        ("name = \"n\"\n[[block]]\nconv = 4\nkernal = 5\n", &["net.toml, line 4", "did you mean `kernel`"]),
        (
            "name = \"n\"\nhead = { dense = [1000000000000] }\n[[block]]\nconv = 4\nkernel = 5\n",
            &["net.toml", "1000000000000"],
        ),
    ] {
        fs::write(&network, text).unwrap();
        let mut command = stapes();
        refused(command.args(["train", "--runs"]).arg(&runs).arg("--model").arg(&network), parts);
    }
    refused(stapes().args(["models", "gone.toml"]), &["gone.toml", "check the path"]);
    assert!(!runs.exists());
}

/// A folder in which nothing can be made, whoever runs the tests.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_written() {
    refused(&mut train_on(&clips(), Path::new("/proc/stapes")), &["cannot make the folder /proc/stapes", "--runs"]);
    let dir = tempfile::tempdir().unwrap();
    let mut permissions = fs::metadata(dir.path()).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(dir.path(), permissions).unwrap();
    // Permissions do not bind the superuser.
    if fs::write(dir.path().join("probe"), "").is_err() {
        refused(&mut train_on(&clips(), &dir.path().join("runs")), &["make the folder", "--runs"]);
    }
    // A cache that cannot be written is no failure.
    let uncached =
        stapes().env("STAPES_CACHE", "/proc/stapes").args(["data", "--classes", "bed"]).arg(clips()).assert();
    uncached.success().stderr(contains("note: decoded clips cannot be cached in /proc/stapes"));
}

/// The command where no file may have more than so many KiB.
#[cfg(target_os = "linux")]
fn limited_to(kib: u32, command: &assert_cmd::Command) -> assert_cmd::Command {
    let mut limited = assert_cmd::Command::new("bash");
    limited.args(["-c", &format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"")]);
    limited.arg(command.get_program()).args(command.get_args()).env("STAPES_CACHE", "/proc/stapes");
    limited
}

/// A disk that is full behaves as one on which files may not grow beyond a size: writing fails in the middle.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let mut train = train_on(&clips(), dir.path());
    train.args(["--classes", "bed,cat,one,six"]);
    let mut limited = assert_cmd::Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\""])
        .arg(train.get_program())
        .args(train.get_args());
    limited.env("STAPES_CACHE", dir.path().join("cache"));
    refused(&mut limited, &["cannot write", "last.safetensors", "free some space"]);
    assert!(!dir.path().join("run").exists(), "a run without a checkpoint is removed");
    // Not even the configuration fits: nothing stays.
    let mut limited = limited_to(1, &train_on(&clips(), &dir.path().join("runs")));
    refused(&mut limited, &["cannot write", "run/config.toml: File too large", "free some space"]);
    assert!(!dir.path().join("runs").exists());

    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = std::process::Command::new(stapes().get_program()).arg("models").stdout(full).output().unwrap();
    let said = String::from_utf8(status.stderr).unwrap();
    assert_eq!(status.status.code(), Some(1));
    assert!(said.contains("cannot write to standard output") && said.contains("free some space"), "{said}");
}

#[test]
fn a_reader_who_has_heard_enough() {
    for arguments in
        [&["models"][..], &["models", "--json"], &["--help"], &["train", "--help"], &["devices", "--knobs"]]
    {
        let mut child = spawn(stapes().args(arguments));
        drop(child.stdout.take());
        let end = child.wait_with_output().unwrap();
        assert_eq!(end.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&end.stderr));
        assert!(end.stderr.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&end.stderr));
    }
}

#[test]
fn an_interrupt_while_clips_are_read_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (data, runs, cache) = (dir.path().join("data"), dir.path().join("runs"), dir.path().join("cache"));
    // Enough clips that reading takes a while.
    fs::create_dir_all(data.join("bed")).unwrap();
    folder_of(&["cat"], &data);
    let whole = fs::read(clip("bed")).unwrap();
    let slow = wav(1, 16, &whole[44..].repeat(60), 60 * (whole.len() as u32 - 44));
    fs::write(dir.path().join("slow.wav"), &slow).unwrap();
    for number in 0..600 {
        fs::hard_link(dir.path().join("slow.wav"), data.join(format!("bed/{number}.wav"))).unwrap();
    }
    let mut command = train_on(&data, &runs);
    let mut reading = spawn(command.env("STAPES_CACHE", &cache));
    read_until(&mut reading, "reading the clips");
    interrupt(&reading);
    let end = reading.wait_with_output().unwrap();
    let said = String::from_utf8(end.stderr).unwrap();
    assert_eq!(end.status.code(), Some(130), "{said}");
    assert!(said.contains("was interrupted; run the command again"), "{said}");
    assert!(!runs.exists());
    let left: Vec<_> = fs::read_dir(&cache).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(left.iter().all(|path| path.extension().unwrap() == "lock"), "{left:?}");
}
