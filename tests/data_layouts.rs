//! Data sets as people have them: names, layouts, links and lists, in folders and in archives.

#[path = "data/files.rs"]
#[allow(dead_code)] // three test programs share it
mod files;

use std::path::Path;

use files::*;
use stapes::base::Name;
use stapes::data::*;

/// The names under a reason.
fn examples(data: &Dataset, reason: Reason) -> Vec<String> {
    data.ledger().examples(reason).iter().map(|name| name.to_string()).collect()
}

/// The clips by name.
fn names(data: &Dataset) -> Vec<String> {
    data.clips().iter().map(|clip| clip.name.to_string()).collect()
}

/// A tar archive of `folder`: as GNU tar writes it, with the file types of `std`, links kept as links.
fn pack(folder: &Path, archive: &Path) {
    let mut tar = tar::Builder::new(std::fs::File::create(archive).unwrap());
    tar.follow_symlinks(false);
    tar.append_dir_all("set", folder).unwrap();
    tar.finish().unwrap();
}

/// Opens a folder and an archive of it and requires that both give the same clips, counts and ledger.
fn open_both(temp: &Path, config: &DataConfig) -> Dataset {
    pack(&temp.join("set"), &temp.join("set.tar"));
    let (folder, archive) = (open(&temp.join("set"), config).unwrap(), open(&temp.join("set.tar"), config).unwrap());
    assert_eq!(names(&folder), names(&archive));
    assert_eq!(folder.counts(), archive.counts());
    assert_eq!(folder.ledger(), archive.ledger());
    assert_eq!(folder.problems(), archive.problems());
    for i in 0..folder.clips().len() {
        assert_eq!(folder.samples(i), archive.samples(i), "{}", folder.clips()[i].name);
    }
    folder
}

fn report() -> DataConfig {
    DataConfig { allow_empty_classes: true, ..config(CacheMode::Off) }
}

/// Adds a member with this header type, path, link target and content to a tar file in memory.
fn member(tar: &mut Vec<u8>, kind: u8, path: &[u8], link: &[u8], content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path);
    header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    tar.extend(header.as_bytes());
    tar.extend(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut gzip, bytes).unwrap();
    gzip.finish().unwrap()
}

/// Writes a clip that differs with `seed` to `folder/word/file`, for names of any bytes.
fn clip(folder: &Path, word: &[u8], file: &[u8], seed: u64) {
    let folder = folder.join(Name::from_bytes(word).to_path());
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(Name::from_bytes(file).to_path()), wav16(&noise(seed, 400))).unwrap();
}

#[cfg(unix)]
#[test]
fn case_01_and_12_names_keep_their_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let words: [&[u8]; 8] =
        [b" bed", b"bed ", b"b\xfed", b"b\xffd", b"yes,no", b"tab\there", b"\x1b[31m", b"caf\xc3\xa9"];
    for (i, word) in words.iter().enumerate() {
        clip(temp.path(), word, b"a\xff_nohash_0.wav", 2 * i as u64);
        clip(temp.path(), word, b"a\xfe_nohash_0.wav", 2 * i as u64 + 1);
    }
    let data = open(temp.path(), &config(CacheMode::Off)).unwrap();
    let mut sorted: Vec<Name> = words.map(Name::from_bytes).to_vec();
    sorted.sort();
    assert_eq!(data.classes(), sorted);
    assert_eq!(data.clips().len(), 16, "no clip is lost");
    let speakers: std::collections::BTreeSet<&Name> = data.clips().iter().map(|clip| &clip.speaker).collect();
    assert_eq!(speakers.len(), 2);
    // A list of text forms selects the same classes.
    let list: Vec<String> = sorted.iter().map(|name| name.to_string().replace(',', "\\,")).collect();
    let classes = Some(Name::parse_list(&list.join(",")).unwrap());
    let chosen = open(temp.path(), &DataConfig { classes, ..config(CacheMode::Off) }).unwrap();
    assert_eq!(chosen.clips(), data.clips());
    let json = serde_json::to_string(&data.clips()[0]).unwrap();
    assert_eq!(serde_json::from_str::<ClipMeta>(&json).unwrap().name, data.clips()[0].name);
}

#[cfg(unix)]
#[test]
fn case_04_links_in_an_archive_give_the_clips_of_the_folder() {
    use std::os::unix::fs::symlink;
    let temp = tempfile::tempdir().unwrap();
    let set = temp.path().join("set");
    for (i, word) in [b"bed", b"cat"].into_iter().enumerate() {
        clip(&set, word, b"a_nohash_0.wav", i as u64);
    }
    put(&set, "bed", "broken_nohash_0.wav", b"text");
    clip(&set, b"cat/sub", b"deep_nohash_0.wav", 9);
    symlink("a_nohash_0.wav", set.join("bed/b_nohash_0.wav")).unwrap();
    symlink("../cat/a_nohash_0.wav", set.join("bed/c_nohash_0.wav")).unwrap();
    symlink("sub/deep_nohash_0.wav", set.join("cat/d_nohash_0.wav")).unwrap(); // no member of this path is a clip
    symlink("broken_nohash_0.wav", set.join("bed/e_nohash_0.wav")).unwrap();
    symlink("nowhere.wav", set.join("bed/f_nohash_0.wav")).unwrap();
    symlink("g_nohash_0.wav", set.join("bed/g_nohash_0.wav")).unwrap();
    symlink("bed", set.join("linked")).unwrap();
    symlink("../../set", set.join("bed/up")).unwrap();
    let data = open_both(temp.path(), &report());
    let clips = ["a", "b", "c"].map(|file| format!("bed/{file}_nohash_0.wav"));
    assert_eq!(names(&data)[..3], clips);
    assert_eq!(names(&data)[3..5], ["cat/a_nohash_0.wav", "cat/d_nohash_0.wav"]);
    assert_eq!((data.clips().len(), data.problems().len()), (8, 4), "the folder `linked` has those of bed");
    assert_eq!(data.ledger().count(Reason::BrokenLink), 4);
    assert_eq!(examples(&data, Reason::NestedClip), ["cat/sub/deep_nohash_0.wav"]);
    // A word that is asked for with a link into one that is not.
    let classes = Some(vec!["bed".into()]);
    let bed = open_both(temp.path(), &DataConfig { classes, ..report() });
    assert_eq!(names(&bed), clips);

    // Hard links, which name a member from the top of the archive, also across words.
    let wav = |seed| wav16(&noise(seed, 400));
    let mut tar = Vec::new();
    member(&mut tar, b'0', b"./bed/a.wav", b"", &wav(1));
    member(&mut tar, b'1', b"./bed/b.wav", b"./bed/a.wav", b"");
    member(&mut tar, b'1', b"./cat/c.wav", b"bed/a.wav", b"");
    member(&mut tar, b'1', b"./cat/d.wav", b"bed/none.wav", b"");
    member(&mut tar, b'0', b"./cat/e.wav", b"", &wav(2));
    member(&mut tar, b'0', b"./cat/e.wav", b"", &wav(3));
    tar.resize(tar.len() + 1024, 0);
    let path = temp.path().join("hard.tar");
    std::fs::write(&path, &tar).unwrap();
    let data = open(&path, &config(CacheMode::Off)).unwrap();
    assert_eq!(names(&data), ["bed/a.wav", "bed/b.wav", "cat/c.wav", "cat/e.wav"]);
    assert_eq!(data.samples(2).as_i16().unwrap()[..400], noise(1, 400));
    assert_eq!(
        data.samples(3).as_i16().unwrap()[..400],
        noise(3, 400),
        "the later member of a name is the one that unpacking leaves"
    );
    assert_eq!(examples(&data, Reason::BrokenLink), ["cat/d.wav"]);
    assert_eq!(data.ledger().count(Reason::Replaced), 1);
}

/// A WAV file whose samples `from..` are zeros.
fn silent_from(from: usize, frames: usize) -> Vec<u8> {
    let mut samples = noise(5, frames);
    samples[from..].fill(0);
    wav16(&samples)
}

#[test]
fn case_04_sparse_members_are_expanded() {
    let temp = tempfile::tempdir().unwrap();
    let file = silent_from(300, 2_000); // 44 + 600 bytes of content, then a hole
    let (head, hole) = file.split_at(1024);
    assert!(hole.iter().all(|&byte| byte == 0));
    let (size, stored) = (file.len() as u64, head.len() as u64);
    let mut gnu = tar::Header::new_gnu();
    gnu.as_mut_bytes()[..9].copy_from_slice(b"bed/a.wav");
    gnu.set_entry_type(tar::EntryType::GNUSparse);
    gnu.set_size(stored);
    let fields = gnu.as_gnu_mut().unwrap();
    fields.set_real_size(size);
    for (field, (offset, len)) in fields.sparse.iter_mut().zip([(0, stored), (size, 0)]) {
        field.set_offset(offset);
        field.set_length(len);
    }
    gnu.set_cksum();
    let mut tar = gnu.as_bytes().to_vec();
    tar.extend(head);
    // The three pax forms, as GNU tar writes them.
    let pax = |tar: &mut Vec<u8>, records: &[(&str, String)], content: &[u8]| {
        let mut text = String::new();
        for (key, value) in records {
            let mut len = key.len() + value.len() + 3;
            while len != key.len() + value.len() + 3 + len.to_string().len() {
                len = key.len() + value.len() + 3 + len.to_string().len();
            }
            text += &format!("{len} {key}={value}\n");
        }
        member(tar, b'x', b"pax", b"", text.as_bytes());
        member(tar, b'0', b"GNUSparseFile.0/x", b"", content);
    };
    let name = |file: &str| ("GNU.sparse.name", file.to_string());
    let number = |key, value: u64| (key, value.to_string());
    let (of_size, of_real) = (number("GNU.sparse.size", size), number("GNU.sparse.realsize", size));
    pax(&mut tar, &[name("bed/b.wav"), of_size.clone(), ("GNU.sparse.map", format!("0,{stored},{size},0"))], head);
    let pieces = [number("GNU.sparse.offset", 0), number("GNU.sparse.numbytes", stored)];
    pax(&mut tar, &[&[name("bed/c.wav"), of_size][..], &pieces].concat(), head);
    let mut map = format!("2\n0\n{stored}\n{size}\n0\n").into_bytes();
    map.resize(512, 0);
    let version = [number("GNU.sparse.major", 1), number("GNU.sparse.minor", 0), name("bed/d.wav"), of_real];
    pax(&mut tar, &version, &[&map, head].concat());
    member(&mut tar, b'0', b"bed/e.wav", b"", &file);
    tar.resize(tar.len() + 1024, 0);
    let path = temp.path().join("sparse.tar");
    std::fs::write(&path, &tar).unwrap();
    let data = open(&path, &config(CacheMode::Off)).unwrap();
    assert_eq!(names(&data), ["a", "b", "c", "d", "e"].map(|file| format!("bed/{file}.wav")));
    assert!(data.clips().iter().all(|clip| clip.fingerprint == data.clips()[0].fingerprint));
}

#[test]
fn case_05_clips_that_are_too_long_are_found() {
    let temp = tempfile::tempdir().unwrap();
    clip(temp.path(), b"bed", b"a.wav", 1);
    put(temp.path(), "bed", "long.wav", &wav16(&noise(2, 1_501)));
    let audit = Audit::of(&open(temp.path(), &config(CacheMode::Off)).unwrap());
    let long: Vec<_> = audit.findings.iter().filter(|f| f.kind == FindingKind::TooLong).collect();
    assert_eq!(long.len(), 1);
    assert_eq!((long[0].subject.to_string(), long[0].detail.contains("1501")), ("bed/long.wav".into(), true));
}

#[test]
fn case_09_official_lists_match_or_are_named() {
    let temp = tempfile::tempdir().unwrap();
    let set = temp.path().join("set");
    for seed in 0..10 {
        clip(&set, b"bed", format!("{seed}_nohash_0.wav").as_bytes(), seed);
        clip(&set, b"cat", format!("{seed}_nohash_0.wav").as_bytes(), 10 + seed);
    }
    let official = DataConfig { split: SplitRule::Official, ..config(CacheMode::Off) };
    let absolute = format!("{}/cat/", set.display());
    for (start, end, from) in [
        ("", "\n", "cat/"),
        ("\u{feff}", "\n", "cat/"),
        ("", "\r\n", "cat/"),
        ("", "\r", "cat/"),
        ("", "\n", "./cat/"),
        ("", "\n", "cat\\"),
        ("", "  \n", "C:\\data\\cat\\"),
        ("", "\n", absolute.as_str()),
    ] {
        let list =
            |numbers: [u32; 2]| start.to_string() + &numbers.map(|n| format!("{from}{n}_nohash_0.wav{end}")).concat();
        std::fs::write(set.join("validation_list.txt"), list([0, 1])).unwrap();
        std::fs::write(set.join("testing_list.txt"), list([2, 3])).unwrap();
        let data = open_both(temp.path(), &official);
        assert_eq!(data.counts(), [[10, 0, 0], [6, 2, 2]], "{from:?} {end:?}");
        assert_eq!(data.ledger().count(Reason::UnmatchedListEntry), 0);
    }
    std::fs::write(set.join("validation_list.txt"), "nothere/x.wav\nbed/none.wav\nbed/1_nohash_0.wav\n").unwrap();
    let data = open_both(temp.path(), &official);
    assert_eq!(examples(&data, Reason::UnmatchedListEntry), ["bed/none.wav", "nothere/x.wav"]);
    assert!(data.remarks().iter().any(|remark| remark.starts_with("2 entries of the official lists")));
    // A clip in both lists, a list in UTF-16, one list only.
    std::fs::write(set.join("testing_list.txt"), "bed/1_nohash_0.wav\nbed/2_nohash_0.wav\n").unwrap();
    assert_eq!(examples(&open_both(temp.path(), &official), Reason::ListedTwice), ["bed/1_nohash_0.wav"]);
    let utf16: Vec<u8> = "\u{feff}bed/1_nohash_0.wav\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(set.join("testing_list.txt"), utf16).unwrap();
    let error = open(&set, &official).unwrap_err().to_string();
    assert!(error.contains("no testing_list.txt that can be read"), "{error}");
    assert_eq!(open_both(temp.path(), &config(CacheMode::Off)).ledger().count(Reason::UnreadableList), 1);
}

#[test]
fn case_18_folders_within_word_folders_are_named() {
    let temp = tempfile::tempdir().unwrap();
    let set = temp.path().join("set");
    for (i, folder) in ["train/bed", "train/cat", "test/bed", "test/cat"].into_iter().enumerate() {
        clip(&set, folder.as_bytes(), b"a.wav", i as u64);
    }
    let error = open(&set, &config(CacheMode::Off)).unwrap_err();
    assert!(matches!(error, DataError::Deeper { levels: 1, unpack: false, .. }));
    let train = set.join("train").display().to_string();
    assert!(error.to_string().ends_with(&format!("lie one level down: give {train}")), "{error}");
    pack(&set, &temp.path().join("set.tar"));
    let error = open(&temp.path().join("set.tar"), &config(CacheMode::Off)).unwrap_err();
    assert!(
        matches!(&error, DataError::Deeper { levels: 1, unpack: true, folder, .. } if folder == "train"),
        "{error}"
    );
    // Beside clips in their right place.
    clip(&set, b"dog", b"a.wav", 8);
    clip(&set, b"dog/takes/two", b"b.wav", 9);
    let data = open_both(temp.path(), &report());
    assert_eq!(names(&data), ["dog/a.wav"]);
    assert_eq!(data.ledger().count(Reason::NestedClip), 5, "{:?}", data.ledger());
    // No folders at all.
    let flat = temp.path().join("flat");
    std::fs::create_dir(&flat).unwrap();
    clip(&flat, b".", b"a.wav", 1);
    let error = open(&flat, &report()).unwrap_err().to_string();
    assert!(error.contains("1 clips lie directly in it"), "{error}");
}

#[test]
fn case_19_and_21_what_lies_beside_the_words_is_counted() {
    let temp = tempfile::tempdir().unwrap();
    let set = temp.path().join("set");
    clip(&set, b"bed", b"a.wav", 1);
    clip(&set, b"cat", b"b.wav", 2);
    clip(&set, b".", b"intro.wav", 3);
    for (folder, seed) in [("_unknown_", 4), ("_silence_", 5), ("_background_noise_", 6)] {
        clip(&set, folder.as_bytes(), b"c.wav", seed);
    }
    put(&set, ".", "README.md", b"text");
    put(&set, ".", "song.mp3", b"text");
    put(&set, ".git", "config", b"text");
    put(&set, "bed", "._a.wav", b"text");
    put(&set, "bed", "notes.txt", b"text");
    let data = open_both(temp.path(), &report());
    assert_eq!(data.classes(), ["bed", "cat"]);
    for (reason, files) in [
        (Reason::StrayClip, &["intro.wav"][..]),
        (Reason::StrayFile, &["README.md"]),
        (Reason::OtherFormat, &["song.mp3"]),
        (Reason::UnderscoreFolder, &["_silence_/", "_unknown_/"]),
        (Reason::BackgroundNoise, &["_background_noise_/c.wav"]),
        (Reason::Hidden, &[".git/", "bed/._a.wav"]),
        (Reason::OtherFile, &["bed/notes.txt"]),
    ] {
        assert_eq!(examples(&data, reason), files, "{reason:?}");
    }
    for (class, wanted) in
        [("_background_noise_", "whose name begins with `_`"), ("_unknown_", "is added by --unknown")]
    {
        let classes = Some(vec![class.into()]);
        let error = open(&set, &DataConfig { classes, ..report() }).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn case_20_other_formats_are_named_with_the_command_that_converts_them() {
    let temp = tempfile::tempdir().unwrap();
    let set = temp.path().join("set");
    clip(&set, b"cat", b"a.wav", 1);
    for file in ["a.mp3", "b.M4A", "b.opus"] {
        put(&set, "bed", file, b"ID3");
    }
    let data = open_both(temp.path(), &report());
    assert_eq!(data.classes(), ["bed", "cat"], "a class of files to be converted is not left out");
    assert_eq!(examples(&data, Reason::OtherFormat), ["bed/a.mp3", "bed/b.M4A", "bed/b.opus"]);
    let bed = set.join("bed").display().to_string();
    assert_eq!(
        data.conversion().unwrap(),
        format!("for f in {bed}/*.M4A {bed}/*.mp3 {bed}/*.opus; do ffmpeg -i \"$f\" \"$f.wav\"; done")
    );
    let error = open(&set, &config(CacheMode::Off)).unwrap_err().to_string();
    assert!(error.contains("the class `bed`") && error.contains("ffmpeg -i"), "{error}");
}

#[test]
fn case_22_empty_folders_and_classes_without_training_clips_are_noted() {
    let temp = tempfile::tempdir().unwrap();
    let set = temp.path().join("set");
    for seed in 0..30 {
        clip(&set, b"bed", format!("{seed}_nohash_0.wav").as_bytes(), seed);
    }
    let validation = |n: &u64| which_set(&format!("{n}_nohash_0.wav").as_str().into()) == Split::Validation;
    let speaker = (0..100).find(validation).unwrap();
    clip(&set, b"cat", format!("{speaker}_nohash_0.wav").as_bytes(), 50);
    std::fs::create_dir(set.join("dog")).unwrap();
    put(&set, "docs", "page.html", b"text");
    let data = open_both(temp.path(), &config(CacheMode::Off));
    assert_eq!(data.classes(), ["bed", "cat"]);
    assert_eq!(examples(&data, Reason::EmptyFolder), ["docs/", "dog/"]);
    assert!(data.remarks().iter().any(|remark| remark.contains("cannot learn `cat`")), "{:?}", data.remarks());
    let audit = Audit::of(&data);
    assert!(audit.findings.iter().any(|f| f.kind == FindingKind::MissingClips && f.subject == "cat"));
    let classes = Some(vec!["bed".into(), "dog".into()]);
    let error = open(&set, &DataConfig { classes, ..config(CacheMode::Off) }).unwrap_err().to_string();
    assert!(error.contains("the class `dog`") && error.contains("has no clip"), "{error}");
    // Broken clips: refused for training, reported otherwise.
    put(&set, "cow", "a.wav", b"text");
    let error = open(&set, &config(CacheMode::Off)).unwrap_err().to_string();
    assert!(error.contains("the class `cow`") && error.contains("cow/a.wav: "), "{error}");
    assert_eq!(open_both(temp.path(), &report()).counts()[2], [0, 0, 0]);
}

#[test]
fn case_24_a_split_without_clips_names_the_way_out() {
    let temp = tempfile::tempdir().unwrap();
    for (i, word) in [b"bed", b"cat"].into_iter().enumerate() {
        for n in 0..4 {
            clip(temp.path(), word, format!("carl_nohash_{n}.wav").as_bytes(), 10 * i as u64 + n);
        }
    }
    let data = open(temp.path(), &config(CacheMode::Off)).unwrap();
    let remark = data.remarks().join("\n");
    assert!(remark.contains("clips of one speaker only; use `--split random`"), "{remark}");
    let random = DataConfig { split: SplitRule::Random { seed: 1 }, ..config(CacheMode::Off) };
    let data = open(temp.path(), &random).unwrap();
    assert_eq!(data.counts(), [[2, 1, 1]; 2]);
    assert!(data.remarks()[0].ends_with("the measured accuracy will be optimistic"), "{:?}", data.remarks());
}

#[test]
fn case_39_hostile_archives_end_with_a_sentence() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("hostile.tar.gz");
    let says = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        open(&path, &config(CacheMode::Off)).unwrap_err().to_string()
    };
    // A long name and an extended header of 1 MiB and 2 MiB: refused at their header.
    for (kind, len) in [(b'L', 1 << 20), (b'K', 1 << 20), (b'x', 2 << 20)] {
        let mut tar = Vec::new();
        member(&mut tar, kind, b"long", b"", &vec![b'a'; len]);
        let error = says(&gzip(&tar));
        assert!(error.contains("the header of a member has") && error.contains("unpack it"), "{error}");
    }
    // 320 MB of zeros in 0.3 MB, as gzip members that follow one another.
    let mut tar = Vec::new();
    member(&mut tar, b'0', b"bed/a.wav", b"", &wav16(&noise(1, 400)));
    tar.resize(64 << 20, 0);
    let error = says(&gzip(&tar).repeat(5));
    assert!(error.contains("expands to more than 50 times its size"), "{error}");
    // A list of 20 MB is not read and not kept.
    let mut tar = Vec::new();
    member(&mut tar, b'0', b"bed/a.wav", b"", &wav16(&noise(1, 400)));
    member(&mut tar, b'0', b"validation_list.txt", b"", &b"a\n".repeat(10 << 20));
    tar.resize(tar.len() + 1024, 0);
    std::fs::write(&path, gzip(&tar)).unwrap();
    let data = open(&path, &config(CacheMode::Off)).unwrap();
    assert_eq!(examples(&data, Reason::UnreadableList), ["validation_list.txt"]);
}

#[cfg(target_os = "linux")]
#[test]
fn case_30_special_files_are_never_opened() {
    use std::os::unix::fs::symlink;
    let temp = tempfile::tempdir().unwrap();
    let set = temp.path().join("set");
    clip(&set, b"bed", b"a.wav", 1);
    symlink("/dev/zero", set.join("validation_list.txt")).unwrap();
    symlink("/dev/zero", set.join("bed/zero.wav")).unwrap();
    let pipe = |path: &Path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    pipe(&set.join("testing_list.txt"));
    pipe(&set.join("bed/pipe.wav"));
    let _socket = std::os::unix::net::UnixListener::bind(set.join("bed/socket.wav")).unwrap();
    let data = open(&set, &config(CacheMode::Off)).unwrap();
    assert_eq!((data.clips().len(), data.ledger().count(Reason::SpecialFile)), (1, 5));
    let official = DataConfig { split: SplitRule::Official, ..config(CacheMode::Off) };
    assert!(matches!(open(&set, &official), Err(DataError::NoLists { .. })));
    for path in [set.join("bed/pipe.wav"), "/dev/zero".into()] {
        assert!(matches!(open(&path, &official), Err(DataError::SpecialFile { .. })), "{}", path.display());
    }
}

#[test]
fn archives_of_other_formats_and_sound_archives_are_not_called_damaged() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("data set");
    let says = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        open(&path, &config(CacheMode::Off)).unwrap_err().to_string()
    };
    for (magic, command) in [
        (&b"PK\x03\x04"[..], "unzip '"),
        (b"7z\xbc\xaf\x27\x1c", "7z x '"),
        (b"Rar!\x1a\x07\x01", "unrar x '"),
        (b"BZh9", "bzip2 -dc '"),
        (b"\xfd7zXZ\0", "xz -dc '"),
        (b"\x28\xb5\x2f\xfd", "zstd -dc '"),
    ] {
        let error = says(&[magic, &[0; 600]].concat());
        assert!(error.contains(command) && !error.contains("damaged"), "{error}");
    }
    assert!(says(&gzip(b"hello, this is not an archive")).contains("contains no tar archive"));
    assert!(says(&gzip(&[7; 5_000])).contains("contains no tar archive"));
    assert!(says(b"text").contains("neither a folder nor a tar archive"));
    assert!(says(&[0; 10_240]).contains("no word folders"), "an archive without members");
    let mut tar = Vec::new();
    member(&mut tar, b'0', b"bed/a.wav", b"", &wav16(&noise(1, 400)));
    tar.resize(tar.len() + 1024, 0);
    let sound = gzip(&tar);
    for (bytes, trailing) in [
        (sound.clone(), 0),
        ([&sound[..], &[0; 1024]].concat(), 0),
        ([&sound[..], b"garbage"].concat(), 7),
        ([&tar[..], b"x"].concat(), 1),
        ([gzip(&tar[..700]), gzip(&tar[700..])].concat(), 0),
        (gzip(&tar[..tar.len() - 1024]), 0), // gzip has a checksum of its own
    ] {
        std::fs::write(&path, &bytes).unwrap();
        match open(&path, &config(CacheMode::Off)) {
            Ok(data) => {
                assert_eq!((data.clips().len() as u64, data.ledger().count(Reason::TrailingBytes)), (1, trailing))
            }
            // A plain file that ends with another byte than zero may have been cut.
            Err(error) => assert!(trailing == 1, "{error}"),
        }
    }
    assert!(says(&sound[..sound.len() / 2]).contains("is damaged"));
}
