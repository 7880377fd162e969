//! The classes `_unknown_` and `_silence_`: how many clips of them there are, which, where they come from, and what is refused.

#[path = "data/files.rs"]
#[allow(dead_code)] // other test programs share it
mod files;
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use files::{noise, put, small_set, wav16};
use predicates::str::contains;
use stapes::base::Name;
use stapes::data::*;

/// A set of three words with ten speakers each, and a recording of noise.
fn set(folder: &Path) {
    small_set(folder);
    for speaker in 0..20 {
        let seed = 100 + speaker;
        put(folder, "tree", &format!("{seed:04x}beef_nohash_0.wav"), &wav16(&noise(seed, 400)));
    }
}

/// `bed` and `cat`, with what is asked for, at random splits: of each word eight training clips and one of each other split.
fn config(unknown: &[&str], silence: bool, share: f64) -> DataConfig {
    let from = unknown.iter().map(|entry| UnknownFrom::parse(&Name::from(*entry))).collect();
    let unknown = (!unknown.is_empty()).then_some(UnknownClass { from, share });
    let silence = silence.then_some(SilenceClass { share, noise: NoiseSource::Data });
    DataConfig {
        classes: Some(vec!["bed".into(), "cat".into()]),
        extra: ExtraClasses { unknown, silence },
        split: SplitRule::Random { seed: 1 },
        ..files::config(CacheMode::Off)
    }
}

/// Writes a file directly into a folder.
fn loose(folder: &Path, file: &str, bytes: &[u8]) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join(file), bytes).unwrap();
}

fn open(folder: &Path, config: &DataConfig) -> Arc<Dataset> {
    Arc::new(files::open(folder, config).unwrap())
}

/// The names of the training clips of a class in each of three epochs, with their samples.
fn epochs(data: &Arc<Dataset>, seed: u64, class: u32) -> Vec<BTreeMap<Name, Vec<u32>>> {
    let mut batches = Batches::train(data.clone(), BatchOptions::new(7, seed)).unwrap();
    let mut epochs = vec![BTreeMap::new(); 3];
    for _ in 0..3 * batches.steps_per_epoch() {
        let batch = batches.next_batch().unwrap();
        for ((&clip, row), &label) in batch.clips.iter().zip(batch.inputs.chunks(data.row_len())).zip(&batch.labels) {
            let meta = &data.clips()[clip as usize];
            assert_eq!((meta.class, meta.split), (label as u32, Split::Training));
            if meta.class == class {
                let samples = row.iter().map(|x| x.to_bits()).collect();
                assert!(epochs[batch.epoch as usize].insert(meta.name.clone(), samples).is_none(), "used twice");
            }
        }
    }
    epochs
}

#[test]
fn each_split_and_each_epoch_has_the_share_of_the_words() {
    let temp = tempfile::tempdir().unwrap();
    set(temp.path());
    for (share, [training, other]) in [(0.1, [2, 1]), (0.5, [8, 1]), (1.0, [16, 2])] {
        let data = open(temp.path(), &config(&["dog", "tree"], true, share));
        assert_eq!(data.classes(), ["bed", "cat", UNKNOWN, SILENCE]);
        assert_eq!(data.counts()[..2], [[8, 1, 1]; 2]);
        assert_eq!((data.unknown_class(), data.silence_class()), (Some(2), Some(3)));
        // All training clips of other words are there, of which an epoch uses some.
        assert_eq!(data.counts()[2], [24, other, other], "{share}");
        assert_eq!(data.counts()[3], [training, other, other], "{share}");
        assert_eq!((data.unknown_per_epoch(), data.clips_per_epoch()), (training, 16 + 2 * training));
        for class in [2, 3] {
            assert!(epochs(&data, 5, class).iter().all(|epoch| epoch.len() == training), "{share}");
        }
        assert!(epochs(&data, 5, 0).iter().all(|epoch| epoch.len() == 8), "every clip of a word in each epoch");
    }
    // No clip is used twice, so that there can be fewer.
    let few = open(temp.path(), &config(&["dog"], false, 2.0));
    assert_eq!((few.unknown_per_epoch(), few.counts()[2]), (8, [8, 1, 1]));
    assert!(few.remarks().iter().any(|remark| remark.contains("there are 8 to train with")), "{:?}", few.remarks());
}

#[test]
fn epochs_differ_and_depend_on_the_seed_alone() {
    let temp = tempfile::tempdir().unwrap();
    set(temp.path());
    let data = open(temp.path(), &config(&["other-words"], true, 0.5));
    for class in [2, 3] {
        let of_seed_5 = epochs(&data, 5, class);
        assert_eq!(of_seed_5, epochs(&data, 5, class), "the same seed");
        assert_ne!(of_seed_5, epochs(&data, 6, class), "another seed");
        assert!(of_seed_5[0] != of_seed_5[1] && of_seed_5[1] != of_seed_5[2], "other clips in other epochs");
    }
    let used: BTreeSet<Name> = epochs(&data, 5, 2).into_iter().flat_map(BTreeMap::into_keys).collect();
    assert!(used.len() > 8, "three epochs of 8 clips use only {} of 24", used.len());
    // The clips of validation and testing have no seed.
    let again = open(temp.path(), &config(&["other-words"], true, 0.5));
    let fixed = |data: &Dataset| -> Vec<(Name, String)> {
        data.clips().iter().map(|clip| (clip.name.clone(), clip.fingerprint.clone())).collect()
    };
    assert_eq!(fixed(&data), fixed(&again));
}

#[test]
fn no_stretch_of_noise_and_no_speaker_is_in_two_splits() {
    let temp = tempfile::tempdir().unwrap();
    set(temp.path());
    // A recording that tells by each sample where it is.
    let ramp: Vec<i16> = (1..=10_000).map(|i| 3 * i).collect();
    put(temp.path(), "_background_noise_", "rain.wav", &wav16(&ramp));
    let by_speaker = |folder| DataConfig { split: SplitRule::Speaker, ..config(&["dog", "tree", folder], true, 5.0) };
    let extra = temp.path().join("more");
    for i in 0..60 {
        put(&extra, "up", &format!("{:04x}beef_nohash_0.wav", 100 + i), &wav16(&noise(i, 300)));
    }
    let data = open(temp.path(), &by_speaker(extra.to_str().unwrap()));
    let mut splits: BTreeMap<&Name, BTreeSet<Split>> = BTreeMap::new();
    for clip in data.clips().iter().filter(|clip| Some(clip.class) == data.unknown_class()) {
        splits.entry(&clip.speaker).or_default().insert(clip.split);
    }
    assert!(splits.len() > 40 && splits.values().all(|of| of.len() == 1));
    let mut noisy = [0; 3];
    for number in 0..data.clips().len() {
        let clip = &data.clips()[number];
        let samples = data.samples(number).as_i16().unwrap();
        if Some(clip.class) != data.silence_class() || samples.iter().all(|&v| v == 0) {
            continue;
        }
        // The ratio of the last sample and the first tells the position, whatever the gain.
        let (first, last) = (f64::from(samples[0]), f64::from(samples[499]));
        let start = 499.0 / (last / first - 1.0) / 10_000.0;
        let [low, high] = [[0.0, 0.8], [0.8, 0.9], [0.9, 1.0]][clip.split as usize];
        let rounding = 0.03 + 40.0 / first;
        assert!((low - rounding..=high + rounding).contains(&start), "{}: {start}", clip.name);
        noisy[clip.split as usize] += 1;
    }
    assert!(noisy.iter().all(|&n| n > 2), "{noisy:?}");
    // In each epoch, too: the segments of training reach no sample of the last fifth.
    let loudest = (3 * 8_000) as f32 / 32_768.0;
    for epoch in epochs(&data, 3, data.silence_class().unwrap()) {
        let largest = epoch.values().flatten().map(|&bits| f32::from_bits(bits)).fold(0.0, f32::max);
        assert!((0.1..=loudest).contains(&largest), "{largest}");
    }
}

#[test]
fn words_folders_and_sound_files_are_other_words() {
    let temp = tempfile::tempdir().unwrap();
    let [data, folder] = ["data", "more"].map(|name| temp.path().join(name));
    set(&data);
    put(&folder, "up", "a_nohash_0.wav", &wav16(&noise(1, 300)));
    put(&folder, "bed", "b_nohash_0.wav", &wav16(&noise(2, 300)));
    loose(&folder, "loose.wav", &wav16(&noise(3, 300)));
    loose(&folder, "broken.wav", b"text");
    let other = temp.path().join("other/more");
    loose(&other, "loose.wav", &wav16(&noise(4, 300)));
    let paths = [&folder, &other].map(|path| path.to_str().unwrap().to_string());
    let all = DataConfig { split: SplitRule::Speaker, ..config(&["dog", &paths[0], &paths[1]], false, 100.0) };
    let open = open(&data, &all);
    let of_folders = open.clips().iter().filter(|clip| clip.name.as_bytes().starts_with(b"_unknown_/"));
    let names: Vec<String> = of_folders.map(|clip| clip.name.to_string()).collect();
    assert_eq!(names, ["_unknown_/more-2/loose.wav", "_unknown_/more/loose.wav", "_unknown_/more/up/a_nohash_0.wav"]);
    for (name, file) in
        names.iter().zip([other.join("loose.wav"), folder.join("loose.wav"), folder.join("up/a_nohash_0.wav")])
    {
        let number = open.clips().iter().position(|clip| clip.name.to_string() == *name).unwrap();
        assert_eq!(open.file_of(number), Some(file));
        assert_eq!(open.samples(number).as_i16().unwrap()[300..], [0; 200]);
    }
    let problems: Vec<String> = open.problems().iter().map(|problem| problem.name.to_string()).collect();
    assert_eq!(problems, ["_unknown_/more/broken.wav"]);
    assert!(open.remarks().iter().any(|remark| remark.contains("`bed` are classes")), "{:?}", open.remarks());
    // Without --classes, the words that are named are no classes.
    let rest = DataConfig { classes: None, ..config(&["dog", "tree"], false, 0.1) };
    assert_eq!(files::open(&data, &rest).unwrap().classes(), ["bed", "cat", UNKNOWN]);
    // The order that --classes gives is that of the outputs.
    let order = [UNKNOWN, "cat", "bed"].map(Name::from).to_vec();
    let ordered = DataConfig { classes: Some(order), ..config(&["dog"], true, 0.5) };
    let ordered = files::open(&data, &ordered).unwrap();
    assert_eq!(ordered.classes(), [UNKNOWN, "cat", "bed", SILENCE]);
    assert_eq!(ordered.counts()[0][0], 8);
}

#[test]
fn the_words_alone_stay_as_they_are() {
    let temp = tempfile::tempdir().unwrap();
    set(temp.path());
    let [without, with] = [(&[][..], false), (&["dog"][..], true)]
        .map(|(unknown, silence)| open(temp.path(), &config(unknown, silence, 0.5)));
    assert_eq!(without.clips_per_epoch(), without.in_split(Split::Training).len());
    let words = |data: &Dataset| -> Vec<(Name, u32, Split)> {
        let clips = data.clips().iter().filter(|clip| clip.class < 2);
        clips.map(|clip| (clip.name.clone(), clip.class, clip.split)).collect()
    };
    assert_eq!(words(&without), words(&with));
}

#[test]
fn other_recordings_have_other_words() {
    let temp = tempfile::tempdir().unwrap();
    set(temp.path());
    let classes = ["bed", UNKNOWN, SILENCE].map(Name::from).to_vec();
    let reading = DataConfig { allow_other_words: true, classes: Some(classes), ..files::config(CacheMode::Off) };
    let data = files::open(temp.path(), &reading).unwrap();
    let counts: Vec<usize> = data.counts().iter().map(|of| of.iter().sum()).collect();
    assert_eq!((counts, data.ledger().count(Reason::OtherWord)), (vec![10, 40, 0], 0));
}

#[test]
fn what_cannot_be_is_one_sentence() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    set(&data);
    let [empty, broken, classes] = ["empty", "broken", "classes"].map(|name| temp.path().join(name));
    std::fs::create_dir(&empty).unwrap();
    loose(&broken, "a.wav", b"text");
    put(&classes, "bed", "a.wav", &wav16(&noise(1, 10)));
    let path = |path: &Path| path.to_str().unwrap().to_string();
    let error = |config: &DataConfig| files::open(&data, config).unwrap_err().to_string();
    let of = |entry: &str| error(&config(&[entry], false, 0.1));
    for (entry, text) in [
        ("cat", "`cat` is a class and cannot be an unknown word too"),
        ("tre", "has no word `tre` for --unknown, did you mean `tree`"),
        ("./nothing", "./nothing of --unknown is not a folder"),
        (&path(&broken.join("a.wav")), "is not a folder"),
        (&path(&empty), "has no sound that can be used;"),
        (&path(&broken), "has no sound that can be used (_unknown_/broken/a.wav: it is"),
        (&path(&classes), "all words of the folder"),
    ] {
        let error = of(entry);
        assert!(error.contains(text) && !error.contains('\n'), "{entry}: {error}");
    }
    for share in [0.0, -1.0, f64::NAN, 101.0] {
        assert!(error(&config(&["dog"], false, share)).starts_with("`unknown_share` is "), "{share}");
        assert!(error(&config(&[], true, share)).starts_with("`silence_share` is "), "{share}");
    }
    let all = DataConfig { classes: None, ..config(&["other-words"], false, 0.1) };
    assert!(error(&all).contains("are classes, so there are no other words"), "{}", error(&all));
    let twice = Some([UNKNOWN, "bed", UNKNOWN].map(Name::from).to_vec());
    let twice = error(&DataConfig { classes: twice, ..config(&["dog"], false, 0.1) });
    assert!(twice.contains("the class `_unknown_` is listed twice"), "{twice}");
    let strict = DataConfig { strict: true, ..config(&["dog", &path(&broken)], false, 0.1) };
    assert!(error(&strict).contains("the first is _unknown_/broken/a.wav"), "{}", error(&strict));
    // A list may have labels of any name.
    let list = data.join("list.csv");
    let clip = std::fs::read_dir(data.join("bed"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.ends_with("000abeef_nohash_0.wav"));
    let clip = clip.unwrap();
    std::fs::write(&list, format!("path,label\n{},_unknown_\n", clip.display())).unwrap();
    let listed = DataConfig { classes: None, ..config(&["dog"], false, 0.1) };
    let error = files::open(&list, &listed).unwrap_err().to_string();
    assert!(error.contains("has a class `_unknown_` of its own"), "{error}");
    // Arrays are no sound.
    let npz = temp.path().join("a.npz");
    let npy = |descr: &str, shape: &str, data: &[u8]| {
        let mut head = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        head += &" ".repeat(63 - (10 + head.len()) % 64);
        head.push('\n');
        [b"\x93NUMPY\x01\0", &(head.len() as u16).to_le_bytes()[..], head.as_bytes(), data].concat()
    };
    let x: Vec<u8> = (0..40).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let y: Vec<u8> = (0..20i64).flat_map(|i| (i % 2).to_le_bytes()).collect();
    let mut zip = Vec::new();
    let parts = [("x.npy", npy("<f4", "(20, 2, 1)", &x)), ("y.npy", npy("<i8", "(20,)", &y))];
    stored_zip(&mut zip, &parts);
    std::fs::write(&npz, zip).unwrap();
    let shape = Source::open(&npz).unwrap().array_shape().unwrap().unwrap();
    let arrays = |unknown: &[&str], silence| {
        let config = DataConfig { classes: None, length: 2, format: shape.format(), ..config(unknown, silence, 0.5) };
        files::open(&npz, &config).unwrap_err().to_string()
    };
    assert!(arrays(&[], true).starts_with("silence is made of sound, and "), "{}", arrays(&[], true));
    assert!(arrays(&[&path(&empty)], false).contains("are arrays, to which"), "{}", arrays(&[&path(&empty)], false));
}

/// A zip file of members that are stored without compression.
fn stored_zip(zip: &mut Vec<u8>, members: &[(&str, Vec<u8>)]) {
    let mut directory = Vec::new();
    for (name, data) in members {
        let mut crc = flate2::Crc::new();
        crc.update(data);
        let start = zip.len() as u32;
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        common.extend(crc.sum().to_le_bytes());
        common.extend([data.len() as u32; 2].into_iter().flat_map(u32::to_le_bytes));
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        zip.extend(b"PK\x03\x04");
        zip.extend(&common);
        zip.extend(name.as_bytes());
        zip.extend(data);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = zip.len() as u32;
    zip.extend(&directory);
    zip.extend(b"PK\x05\x06\0\0\0\0");
    zip.extend([members.len() as u16; 2].into_iter().flat_map(u16::to_le_bytes));
    zip.extend((directory.len() as u32).to_le_bytes());
    zip.extend(start.to_le_bytes());
    zip.extend([0, 0]);
}

/// `train` of the tiny network on four words, with other words and silence.
fn train(runs: &Path, name: &str, augmented: bool) -> assert_cmd::Command {
    let mut command = program::train(runs, name);
    command.args(["-q", "--epochs", "3", "--unknown", "bird,two,tree,five,four", "--silence"]);
    if augmented {
        command.args(["--set", "noise=0.5", "--set", "shift=0.1", "--set", "gain=6", "--set", "mixup=0.3"]);
    }
    command
}

#[test]
fn a_run_is_repeated_by_its_files_whatever_the_threads() {
    let temp = tempfile::tempdir().unwrap();
    let runs = temp.path();
    let weights = |name: &str| std::fs::read(runs.join(name).join("last.safetensors")).unwrap();
    for augmented in [false, true] {
        let name = |of: &str| format!("{of}-{augmented}");
        train(runs, &name("a"), augmented).args(["--threads", "1"]).assert().success();
        train(runs, &name("b"), augmented).args(["--threads", "9"]).assert().success();
        assert!(weights(&name("a")) == weights(&name("b")), "the number of threads");
        let mut again = program::stapes();
        again.args(["train", "-q", "--name", &name("c"), "--runs"]).arg(runs).arg("--config");
        again.arg(runs.join(name("a")).join("config.toml")).assert().success();
        assert!(weights(&name("a")) == weights(&name("c")), "config.toml repeats the run");
        // Epoch by epoch.
        let part = runs.join(name("part"));
        program::train(runs, &name("part")).args(["-q", "--epochs", "1", "--config"]).assert().failure();
        let mut first = program::stapes();
        first.args(["train", "-q", "--epochs", "1", "--name", &name("part"), "--runs"]).arg(runs).arg("--config");
        first.arg(runs.join(name("a")).join("config.toml")).assert().success();
        for epochs in ["2", "3"] {
            program::stapes().args(["train", "-q", "--epochs", epochs, "--resume"]).arg(&part).assert().success();
        }
        assert!(weights(&name("a")) == weights(&name("part")), "resumed");
    }
    let run = runs.join("a-true");
    let classes = std::fs::read_to_string(run.join("classes.txt")).unwrap();
    assert_eq!(classes, "bed\ncat\none\nsix\n_unknown_\n_silence_\n");
    for split in ["training", "validation", "test"] {
        let report = program::json(program::stapes().args(["eval", "--json", "--split", split]).arg(&run));
        let clips: u64 = report["classes"].as_array().unwrap().iter().map(|of| of["clips"].as_u64().unwrap()).sum();
        assert_eq!(report["clips"].as_u64(), Some(clips));
        assert!(report["classes"][5]["clips"].as_u64() > Some(0), "{split}: {report}");
    }
    // A run with another seed has the same test clips.
    train(runs, "seed", false).args(["--seed", "7"]).assert().success();
    let mut compare = program::stapes();
    compare.arg("compare").arg(runs.join("a-false")).arg(runs.join("seed")).assert().success();
    program::stapes().arg("predict").arg(&run).arg(program::clip("bird")).assert().success();
    // A split.tsv of other silence is noticed.
    let table = std::fs::read_to_string(run.join("split.tsv")).unwrap();
    let line = table.lines().find(|line| line.starts_with("_silence_/testing")).unwrap();
    let other = line.rsplit_once('\t').unwrap().0;
    std::fs::write(run.join("split.tsv"), table.replace(line, &format!("{other}\t00"))).unwrap();
    let mut eval = program::stapes();
    eval.arg("eval").arg(&run).assert().failure().stderr(contains("has other samples now"));
}

#[test]
fn the_program_says_what_the_classes_are_made_of() {
    let temp = tempfile::tempdir().unwrap();
    let mut command = program::train(temp.path(), "a");
    command.args(["--epochs", "1", "--unknown", "other-words", "--set", "unknown_share=0.5"]);
    command.assert().success().stderr(contains("\nunknown  ")).stderr(contains(" clips in each epoch, "));
    let mut command = program::train(temp.path(), "b");
    command.args(["--epochs", "1", "--silence"]);
    command.assert().success().stderr(contains("\nsilence  ")).stderr(contains(" segments in each epoch, "));
    for (options, text) in [
        (&["--unknown", "bed"][..], "`bed` is a class and cannot be an unknown word too"),
        (&["--set", "unknown_share=0"], "unknown_share must be between 0.001 and 100, got 0"),
        (&["--set", "silence_share=x"], "silence_share must be between 0.001 and 100, got `x`"),
        (&["--set", "silence=maybe"], "silence must be true or false, got `maybe`"),
        (&["--classes", "bed,_silence_"], "the class `_silence_` is added by --silence"),
    ] {
        let mut command = match options[0] {
            "--classes" => program::stapes(),
            _ => program::train_unnamed(temp.path()),
        };
        if options[0] == "--classes" {
            command.args(["train", "--data"]).arg(program::clips());
        }
        command.args(options).assert().failure().stderr(contains(text));
    }
    let data = program::json(program::stapes().arg("--json").arg("data").arg(program::clips()).args([
        "--classes",
        "bed,cat",
        "--silence",
    ]));
    assert_eq!(data["classes"][2]["name"], "_silence_");
}
