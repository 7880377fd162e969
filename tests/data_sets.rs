//! Data sets from outside: sources, classes, splits, cache, batches, audit.

#[path = "data/files.rs"]
#[allow(dead_code)] // two test programs share it
mod files;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use files::*;
use stapes::base::Name;
use stapes::base::rng::{Key, Stream};
use stapes::data::*;

/// Names, classes, splits and samples of two data sets are the same.
fn assert_same(a: &Dataset, b: &Dataset) {
    assert_eq!(a.classes(), b.classes());
    assert_eq!(a.problems(), b.problems());
    assert_eq!((a.noise(), a.ledger()), (b.noise(), b.ledger()));
    assert_eq!(a.clips().len(), b.clips().len());
    for (i, (x, y)) in a.clips().iter().zip(b.clips()).enumerate() {
        assert_eq!((&x.name, x.class, x.split, &x.fingerprint), (&y.name, y.class, y.split, &y.fingerprint));
        assert_eq!(a.samples(i), b.samples(i), "{}", x.name);
    }
}

#[test]
fn folder_tar_and_gzipped_tar_are_the_same_data_set() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("set");
    small_set(&folder);
    put(&folder, "cat", "broken_nohash_0.wav", b"text");
    std::fs::write(folder.join("validation_list.txt"), "bed/000abeef_nohash_0.wav\n").unwrap();
    std::fs::write(folder.join("testing_list.txt"), "cat/0001beef_nohash_0.wav\ndog/0014beef_nohash_0.wav\n").unwrap();
    let config = DataConfig { split: SplitRule::Official, ..config(CacheMode::Off) };
    let from_folder = open(&folder, &config).unwrap();
    assert_eq!(from_folder.classes(), ["bed", "cat", "dog"]);
    assert_eq!(from_folder.counts(), [[9, 1, 0], [9, 0, 1], [9, 0, 1]]);
    assert_eq!(from_folder.noise(), ["rain.wav"]);
    for (reason, count) in [
        (Reason::OtherFile, 1),
        (Reason::StrayFile, 2),
        (Reason::Hidden, 1),
        (Reason::BackgroundNoise, 1),
        (Reason::UnmatchedListEntry, 0),
    ] {
        assert_eq!(from_folder.ledger().count(reason), count, "{reason:?}");
    }
    assert_eq!(from_folder.problems().len(), 1);
    assert_eq!(from_folder.samples(0).as_i16().unwrap()[..400], noise(10, 400));
    assert_eq!(from_folder.samples(0).as_i16().unwrap()[400..], [0; 100]);

    // As the official archive names its members (`./bed/..`), and below a folder of its own.
    for prefix in [".", "speech_commands"] {
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_dir_all(prefix, &folder).unwrap();
        let tar = tar.into_inner().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &tar).unwrap();
        let gzip = gzip.finish().unwrap();
        for (name, bytes) in [("set.tar", &tar), ("set.tar.gz", &gzip)] {
            let path = temp.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            assert_same(&from_folder, &open(&path, &config).unwrap());
            for part in [3, 2] {
                std::fs::write(&path, &bytes[..bytes.len() / 4 * part]).unwrap();
                let error = open(&path, &config).unwrap_err();
                assert!(matches!(error, DataError::BadArchive { .. }), "{name} cut: {error}");
            }
        }
        let mut damaged = gzip.clone();
        let last = damaged.len() - 6;
        damaged[last] ^= 1; // the checksum
        std::fs::write(temp.path().join("set.tar.gz"), damaged).unwrap();
        let error = open(&temp.path().join("set.tar.gz"), &config).unwrap_err();
        assert!(matches!(error, DataError::BadArchive { .. }), "{error}");
        for round in 0..300 {
            let (key, mut bytes) = (Key::new(round, Stream::Case), tar.clone());
            for i in 0..4 {
                let header = key.below(i, bytes.len() as u64 / 512) as usize * 512;
                bytes[header + key.below(10 + i, 512) as usize] = key.bits(20 + i) as u8;
            }
            std::fs::write(temp.path().join("mutated.tar"), bytes).unwrap();
            _ = Source::open(&temp.path().join("mutated.tar")).map(|s| Dataset::open(&s, &config, QUIET));
        }
    }
}

#[test]
fn classes_follow_the_caller_and_wrong_ones_are_named() {
    let temp = tempfile::tempdir().unwrap();
    small_set(temp.path());
    let with = |classes: &[&str]| {
        let classes = Some(classes.iter().map(|&c| c.into()).collect());
        open(temp.path(), &DataConfig { classes, ..config(CacheMode::Off) })
    };
    let data = with(&["dog", "bed"]).unwrap();
    assert_eq!(data.classes(), ["dog", "bed"]);
    assert_eq!(data.clips().len(), 20);
    assert!(data.clips().iter().all(|c| data.classes()[c.class as usize].as_bytes() == &c.name.as_bytes()[..3]));
    assert_eq!(data.clips()[0].name, "bed/000abeef_nohash_0.wav");
    for (classes, says) in [
        (&["dog", "bad"][..], "no word `bad`, did you mean `bed`"),
        (&["dog", "marvin"], "no word `marvin`; see its words with `stapes data`, then correct --classes or --data"),
        (&["dog", "bad", "marvin"], "no word `bad`; see"),
        (&["marvin", "bad", "bat"], "has none of the words `marvin`, `bad`, `bat`; its own are `bed`, `"),
        (&["_background_noise_"], "no word `_background_noise_`"),
        (&["dog", "dog"], "`dog` is listed twice"),
        (&[], "number of classes of 0"),
    ] {
        let error = with(classes).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    std::fs::create_dir(temp.path().join("cow")).unwrap();
    let data = open(temp.path(), &config(CacheMode::Off)).unwrap();
    assert_eq!(data.ledger().examples(Reason::EmptyFolder), [&Name::from("cow/")]);
    put(temp.path(), "cow", "a.wav", b"RIFF");
    let error = open(temp.path(), &config(CacheMode::Off)).unwrap_err().to_string();
    assert!(error.contains("the class `cow`") && error.contains("cow/a.wav: its WAV header"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(open(empty.path(), &config(CacheMode::Off)), Err(DataError::NoWords { .. })));
    assert!(matches!(open(&empty.path().join("none"), &config(CacheMode::Off)), Err(DataError::NotFound { .. })));
    std::fs::write(empty.path().join("a.zip"), "PK").unwrap();
    assert!(matches!(open(&empty.path().join("a.zip"), &config(CacheMode::Off)), Err(DataError::NotASource { .. })));
}

#[test]
fn a_broken_clip_is_skipped_or_fatal() {
    let temp = tempfile::tempdir().unwrap();
    small_set(temp.path());
    put(temp.path(), "dog", "cut_nohash_0.wav", &wav16(&noise(1, 400))[..500]);
    let data = open(temp.path(), &config(CacheMode::Off)).unwrap();
    assert_eq!((data.clips().len(), data.problems().len()), (30, 1));
    assert_eq!(data.problems()[0].fault, ClipFault::Truncated { have: 228, promised: 400 });
    let strict = DataConfig { strict: true, ..config(CacheMode::Off) };
    let error = open(temp.path(), &strict).unwrap_err().to_string();
    assert!(error.starts_with("1 clip cannot be used, the first is dog/cut_nohash_0.wav: it is truncated"), "{error}");
}

#[test]
fn splits_come_from_the_lists_or_a_seed() {
    let temp = tempfile::tempdir().unwrap();
    small_set(temp.path());
    let with = |split| open(temp.path(), &DataConfig { split, ..config(CacheMode::Off) });
    let error = with(SplitRule::Official).unwrap_err().to_string();
    assert!(error.contains("no validation_list.txt"), "{error}");
    let splits = |d: &Dataset| d.clips().iter().map(|c| c.split).collect::<Vec<_>>();
    let one = with(SplitRule::Random { seed: 1 }).unwrap();
    assert_eq!(one.counts(), [[8, 1, 1]; 3]);
    assert!(one.remarks().is_empty(), "every speaker has one clip: {:?}", one.remarks());
    assert_eq!(splits(&one), splits(&with(SplitRule::Random { seed: 1 }).unwrap()));
    assert_ne!(splits(&one), splits(&with(SplitRule::Random { seed: 2 }).unwrap()));
    for i in 0..20 {
        put(temp.path(), "cat", &format!("same_nohash_{i}.wav"), &wav16(&noise(200 + i, 400)));
    }
    let leaking = with(SplitRule::Random { seed: 1 }).unwrap();
    assert!(leaking.remarks()[0].contains("1 of 31 speakers"), "{:?}", leaking.remarks());
    let audit = Audit::of(&leaking);
    assert_eq!(audit.totals[&FindingKind::SpeakerInTwoSplits], 1);
    assert!(with(SplitRule::Speaker).unwrap().remarks().is_empty());
}

#[test]
fn the_cache_is_used_and_made_anew_when_the_source_or_the_file_changes() {
    let temp = tempfile::tempdir().unwrap();
    let (folder, cache) = (temp.path().join("set"), temp.path().join("cache"));
    small_set(&folder);
    let mode = || CacheMode::Folder(cache.clone());
    let decoded = std::sync::atomic::AtomicBool::new(false);
    let open_noting = |config: &DataConfig| {
        decoded.store(false, std::sync::atomic::Ordering::Relaxed);
        let note = |stage: Stage, _, _| {
            decoded.fetch_or(stage == Stage::Reading, std::sync::atomic::Ordering::Relaxed);
            ControlFlow::Continue(())
        };
        let data = Dataset::open(&Source::open(&folder).unwrap(), config, &note).unwrap();
        (data, decoded.load(std::sync::atomic::Ordering::Relaxed))
    };
    let in_memory = open(&folder, &config(CacheMode::Off)).unwrap();
    let (first, read) = open_noting(&config(mode()));
    assert!(read && first.is_cached() && !in_memory.is_cached());
    assert_same(&in_memory, &first);
    let (second, read) = open_noting(&config(mode()));
    assert!(!read);
    assert_same(&in_memory, &second);
    let (other, read) = open_noting(&DataConfig { length: 300, ..config(mode()) });
    assert!(read && other.samples(0).len() == 300);

    put(&folder, "cat", "feed_nohash_0.wav", &wav16(&noise(77, 450)));
    let (changed, read) = open_noting(&config(mode()));
    assert!(read && changed.clips().len() == 31);
    assert_same(&in_memory, &second); // the old mapping keeps the old file

    let file = |e: std::io::Result<std::fs::DirEntry>| e.unwrap().path();
    let caches = || std::fs::read_dir(&cache).unwrap().map(file).filter(|p| p.extension().unwrap() == "cache");
    assert_eq!(caches().count(), 2);
    drop((first, second, other));
    for damage in [0, 1, 2] {
        for path in caches() {
            let bytes = std::fs::read(&path).unwrap();
            let bytes = match damage {
                0 => bytes[..bytes.len() / 2].to_vec(),
                1 => [&bytes[..5_000], &[bytes[5_000] ^ 1], &bytes[5_001..]].concat(),
                _ => Vec::new(),
            };
            // A file of the same name, as a crash of the machine may leave it; nobody writes into one in place.
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, bytes).unwrap();
        }
        let (again, read) = open_noting(&config(mode()));
        assert!(read && again.remarks()[0].contains("was damaged"), "{:?}", again.remarks());
        assert_same(&changed, &again);
        assert!(open_noting(&config(mode())).0.remarks().is_empty());
    }
}

#[test]
fn where_nothing_can_be_written_clips_stay_in_memory() {
    let temp = tempfile::tempdir().unwrap();
    small_set(&temp.path().join("set"));
    std::fs::write(temp.path().join("file"), "in the way").unwrap();
    let data = open(&temp.path().join("set"), &config(CacheMode::Folder(temp.path().join("file/cache")))).unwrap();
    assert!(!data.is_cached());
    assert!(data.remarks()[0].starts_with("decoded clips cannot be cached in"), "{:?}", data.remarks());
    assert_same(&data, &open(&temp.path().join("set"), &config(CacheMode::Off)).unwrap());
}

#[test]
fn an_interrupted_read_leaves_nothing_behind() {
    let temp = tempfile::tempdir().unwrap();
    let (folder, cache) = (temp.path().join("set"), temp.path().join("cache"));
    small_set(&folder);
    let config = config(CacheMode::Folder(cache.clone()));
    let stop = |_, done, total| {
        if done == total { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let error = Dataset::open(&Source::open(&folder).unwrap(), &config, &stop).unwrap_err();
    assert!(matches!(error, DataError::Interrupted));
    let names = std::fs::read_dir(&cache).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|n| n.ends_with(".lock")));
}

/// The other half of the next test: a process of its own that opens the set twice.
#[test]
fn child_opens_the_set() {
    let Some(folder) = std::env::var_os("STAPES_TEST_SET") else {
        return;
    };
    for _ in 0..2 {
        let data = open(Path::new(&folder), &config(CacheMode::Auto)).unwrap();
        assert!(data.is_cached() && data.remarks().is_empty(), "{:?}", data.remarks());
        for (i, clip) in data.clips().iter().enumerate() {
            let seed = u64::from_str_radix(&clip.name.to_string()[4..8], 16).unwrap();
            assert_eq!(data.samples(i).as_i16().unwrap()[..400], noise(seed, 400));
        }
    }
}

#[test]
fn processes_share_a_cache() {
    let temp = tempfile::tempdir().unwrap();
    small_set(&temp.path().join("set"));
    let start = |cache: &str, value: &Path| {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_opens_the_set", "--quiet"])
            .env("STAPES_TEST_SET", temp.path().join("set"))
            .env_remove("STAPES_CACHE")
            .env_remove("XDG_CACHE_HOME")
            .env("HOME", temp.path().join("home"))
            .env(cache, value)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    for round in 0..5 {
        let cache = temp.path().join(format!("cache{round}"));
        let children: Vec<_> = (0..4).map(|_| start("STAPES_CACHE", &cache)).collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        let files = std::fs::read_dir(&cache).unwrap().count();
        assert_eq!(files, 2, "one cache and its lock");
    }
    // The places where a cache lies without STAPES_CACHE.
    assert!(start("XDG_CACHE_HOME", &temp.path().join("xdg")).wait().unwrap().success());
    assert_eq!(std::fs::read_dir(temp.path().join("xdg/stapes")).unwrap().count(), 2);
    assert!(start("UNRELATED", Path::new("")).wait().unwrap().success());
    assert_eq!(std::fs::read_dir(temp.path().join("home/.cache/stapes")).unwrap().count(), 2);
}

#[test]
fn batches_are_shuffled_by_seed_and_epoch_and_start_anywhere() {
    let temp = tempfile::tempdir().unwrap();
    small_set(temp.path());
    let split = SplitRule::Random { seed: 1 };
    let data = Arc::new(open(temp.path(), &DataConfig { split, ..config(CacheMode::Off) }).unwrap());
    let options = |batch, seed, start| BatchOptions { start, ..BatchOptions::new(batch, seed) };
    let mut batches = Batches::train(Arc::clone(&data), options(5, 7, (0, 0))).unwrap();
    assert_eq!(batches.steps_per_epoch(), 5); // 24 clips: the last batch has four
    let all: Vec<Batch> = (0..15).map(|_| batches.next_batch().unwrap().clone()).collect();
    for (i, batch) in all.iter().enumerate() {
        let valid = if i % 5 == 4 { 4 } else { 5 };
        assert_eq!((batch.epoch, batch.step, batch.valid), (i as u64 / 5, i as u64 % 5, valid));
        assert_eq!((batch.valid_labels().len(), batch.valid_inputs().len()), (valid, valid * 500));
        for (row, &clip) in batch.clips.iter().enumerate() {
            let meta = &data.clips()[clip as usize];
            assert_eq!((meta.split, batch.labels[row]), (Split::Training, meta.class as f32));
            let samples = data.samples(clip as usize).as_i16().unwrap().iter().map(|&v| f32::from(v) / 32768.0);
            assert!(samples.eq(batch.inputs[row * 500..(row + 1) * 500].iter().copied()));
        }
    }
    let mut epoch: Vec<u32> = all[..5].iter().flat_map(|b| b.clips.clone()).collect();
    let next: Vec<u32> = all[5..10].iter().flat_map(|b| b.clips.clone()).collect();
    assert_ne!(epoch, next);
    epoch.sort_unstable();
    epoch.dedup();
    assert_eq!(epoch.len(), 24);
    for (start, from) in [((0, 3), 3), ((0, 4), 4), ((1, 0), 5), ((1, 2), 7), ((0, 7), 7)] {
        let mut resumed = Batches::train(Arc::clone(&data), options(5, 7, start)).unwrap();
        for expected in &all[from..] {
            assert_eq!(resumed.next_batch().unwrap(), expected);
        }
    }
    let mut other = Batches::train(Arc::clone(&data), options(5, 8, (0, 0))).unwrap();
    assert_ne!(other.next_batch().unwrap().clips, all[0].clips);

    let mut places: Vec<*const f32> = (0..50).map(|_| other.next_batch().unwrap().inputs.as_ptr()).collect();
    places.sort_unstable();
    places.dedup();
    assert!(places.len() <= 3, "buffers go round");

    let mut all_at_once = Batches::train(Arc::clone(&data), options(25, 7, (0, 0))).unwrap();
    let batch = all_at_once.next_batch().unwrap();
    assert_eq!((batch.valid, batch.labels.len(), batch.epoch), (24, 24, 0));
    assert_eq!(all_at_once.next_batch().unwrap().epoch, 1);
    assert!(matches!(Batches::train(data, options(0, 7, (0, 0))), Err(DataError::BadSetting { .. })));
}

#[test]
fn an_evaluation_sees_every_clip_once_and_knows_which_rows_count() {
    let temp = tempfile::tempdir().unwrap();
    small_set(temp.path());
    let split = SplitRule::Random { seed: 1 };
    let data = Arc::new(open(temp.path(), &DataConfig { split, ..config(CacheMode::Off) }).unwrap());
    for batch in [1, 2, 3, 24, 100] {
        let mut batches = Batches::eval(Arc::clone(&data), Split::Training, batch).unwrap();
        let (mut seen, mut steps) = (Vec::new(), 0);
        while let Some(b) = batches.next_batch() {
            assert_eq!((b.inputs.len(), b.labels.len(), b.clips.len()), (batch * 500, batch, b.valid));
            assert!(b.inputs[b.valid * 500..].iter().chain(&b.labels[b.valid..]).all(|&v| v == 0.0));
            seen.extend(&b.clips);
            steps += 1;
        }
        assert_eq!((seen, steps), (data.in_split(Split::Training), batches.steps_per_epoch()));
        assert!(batches.next_batch().is_none());
    }
    let split = SplitRule::Speaker;
    let classes = Some(vec!["cat".into()]);
    let one = Arc::new(open(temp.path(), &DataConfig { split, classes, ..config(CacheMode::Off) }).unwrap());
    let empty = Split::ALL.into_iter().find(|&s| one.in_split(s).is_empty());
    let error = Batches::eval(one, empty.expect("ten speakers leave a split empty"), 4).unwrap_err();
    assert!(matches!(error, DataError::EmptySplit { .. }));
}

#[test]
fn hints_are_given_where_a_class_or_a_split_is_small_only() {
    // A data set of usual size gives none.
    let config_of_all = DataConfig { cache: CacheMode::Off, ..DataConfig::default() };
    let embedded = Dataset::open(&Source::Embedded(embedded()), &config_of_all, QUIET).unwrap();
    assert_eq!(Hint::of(&embedded), []);
    let temp = tempfile::tempdir().unwrap();
    for word in ["bed", "cat", "dog"] {
        for i in 0..40 {
            let speaker = if word == "cat" { i % 2 } else { i };
            put(temp.path(), word, &format!("s{speaker}_nohash_{i}.wav"), &wav16(&noise(i, 400)));
        }
    }
    for i in 10..40 {
        std::fs::remove_file(temp.path().join(format!("dog/s{i}_nohash_{i}.wav"))).unwrap();
    }
    let random = DataConfig { split: SplitRule::Random { seed: 1 }, ..config(CacheMode::Off) };
    let hints = Hint::of(&open(temp.path(), &random).unwrap());
    let expected = [
        Hint::FewClips { classes: vec![("dog".into(), 8)] },
        Hint::FewSpeakers { classes: vec![("cat".into(), 2)] },
        Hint::SmallValidation { clips: 9 },
    ];
    assert_eq!(hints, expected);
    // Without speakers; official lists are not doubted.
    let unnamed = tempfile::tempdir().unwrap();
    for i in 0..40 {
        put(unnamed.path(), "bed", &format!("{i}.wav"), &wav16(&noise(i, 400)));
    }
    let list = (0..4).map(|i| format!("bed/{i}.wav\n")).collect::<String>();
    std::fs::write(unnamed.path().join("validation_list.txt"), &list).unwrap();
    std::fs::write(unnamed.path().join("testing_list.txt"), "").unwrap();
    let hints = |split| Hint::of(&open(unnamed.path(), &DataConfig { split, ..config(CacheMode::Off) }).unwrap());
    assert_eq!(hints(SplitRule::Random { seed: 1 }), [Hint::UnknownSpeakers, Hint::SmallValidation { clips: 4 }]);
    assert_eq!(hints(SplitRule::Official), [Hint::SmallValidation { clips: 4 }]);
}

#[test]
fn other_words_are_counted_and_missing_ones_are_allowed_where_that_is_asked_for() {
    let temp = tempfile::tempdir().unwrap();
    small_set(temp.path());
    let with = |classes: &[&str]| {
        let classes = Some(classes.iter().map(|&class| class.into()).collect());
        open(temp.path(), &DataConfig { classes, allow_other_words: true, ..config(CacheMode::Off) })
    };
    let data = with(&["marvin", "dog"]).unwrap();
    assert_eq!(data.classes(), ["marvin", "dog"]);
    assert!(data.clips().len() == 10 && data.clips().iter().all(|clip| clip.class == 1));
    assert_eq!(data.ledger().count(Reason::OtherWord), 20);
    let words: Vec<&Name> = data.ledger().examples(Reason::OtherWord);
    assert_eq!(words, [&Name::from("bed/"), &Name::from("cat/")]);
    assert!(data.remarks().is_empty(), "nothing is said about splits: {:?}", data.remarks());
    let error = with(&["marvin", "sheila"]).unwrap_err();
    let sentence = "has none of the words `marvin`, `sheila`; its own are `bed`, `cat`, `dog`";
    assert!(error.to_string().contains(sentence), "{error}");
    let mut batches = Batches::eval(Arc::new(data), None::<Split>, 4).unwrap();
    let mut clips = 0;
    while let Some(batch) = batches.next_batch() {
        clips += batch.valid;
    }
    assert_eq!(clips, 10);
}
