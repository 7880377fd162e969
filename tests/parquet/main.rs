//! Data sets in Parquet files: files that pyarrow wrote (`make.py`), files with faults, and the program on both.

#[path = "../program/mod.rs"]
mod program;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Encoding;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use predicates::str::contains;
use program::{clip, clips, json, stapes, tiny};
use serde_json::Value;
use stapes::base::Name;
use stapes::data::*;

const LENGTH: usize = 800;
const PERIODS: [i32; 3] = [64, 24, 9];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parquet").join(name)
}

/// The wave of `make.py`.
fn wave(period: i32, phase: i32) -> Vec<i16> {
    let value =
        |t: i32| (((((t + phase) * 2).rem_euclid(2 * period) - period).abs() * 2 - period) * 12_000).div_euclid(period);
    (0..LENGTH as i32).map(|t| value(t) as i16).collect()
}

fn open_with(path: &Path, change: impl Fn(&mut DataConfig)) -> Result<Dataset, DataError> {
    let mut config = DataConfig { length: LENGTH, cache: CacheMode::Off, ..DataConfig::default() };
    change(&mut config);
    Dataset::open(&Source::open(path)?, &config, &|_, _, _| ControlFlow::Continue(()))
}

fn open(path: &Path) -> Result<Dataset, DataError> {
    open_with(path, |_| {})
}

fn samples(data: &Dataset, clip: usize) -> Vec<i16> {
    match data.samples(clip) {
        Samples::I16(values) => values.to_vec(),
        Samples::F32(_) => panic!("sound is stored in 16 bits"),
    }
}

fn number(data: &Dataset, name: &str) -> usize {
    data.clips().iter().position(|clip| clip.name == *name).unwrap_or_else(|| panic!("no clip {name}"))
}

#[test]
fn what_pyarrow_wrote_is_read_with_any_compression_and_version_of_pages() {
    let data = open(&file("words")).unwrap();
    assert_eq!(data.classes(), ["low", "middle", "high"].map(Name::from), "in the order of the names in the metadata");
    assert_eq!(data.counts(), [[6, 2, 2]; 3], "the names of the files say which split they are of");
    assert!(data.problems().is_empty() && data.remarks().is_empty(), "{:?}", data.remarks());
    assert!(data.names_speakers() && data.has_own_splits() && data.grouping() == Grouping::Speakers);
    let files = [("train-00000-of-00002", 0..12), ("train-00001-of-00002", 12..18)];
    let files = files.into_iter().chain([("validation-00000-of-00001", 18..24), ("test-00000-of-00001", 24..30)]);
    for (file, numbers) in files {
        let digits = (numbers.len() - 1).to_string().len();
        for (row, of) in numbers.enumerate() {
            let end = if of == 7 {
                "wav"
            } else if of == 13 {
                "ogg"
            } else {
                "flac"
            };
            let clip = number(&data, &format!("{file}.parquet/{row:0digits$}/s{}_nohash_{}.{end}", of / 3, of % 3));
            let meta = &data.clips()[clip];
            assert_eq!((meta.class, meta.speaker.to_string()), (of as u32 % 3, format!("s{}", of / 3)));
            let expected = wave(PERIODS[of % 3], of as i32);
            let same = |(a, b): (&i16, &i16)| if end == "ogg" { (a - b).abs() < 6_000 } else { a == b };
            assert!(samples(&data, clip).iter().zip(&expected).all(same), "{file}, row {row}");
        }
    }
}

#[test]
fn a_single_file_is_divided_by_the_hash_of_its_speakers() {
    let path = file("words/train-00000-of-00002.parquet");
    let data = open(&path).unwrap();
    assert!(!data.has_own_splits());
    for clip in data.clips() {
        assert_eq!(clip.split, which_set(&format!("low/{}_nohash_0.wav", clip.speaker).into()), "{}", clip.name);
    }
    let random = open_with(&file("words"), |config| config.split = SplitRule::Random { seed: 3 }).unwrap();
    assert_eq!(random.counts(), [[8, 1, 1]; 3], "--split random goes before the names of the files");
    let official = open_with(&path, |config| config.split = SplitRule::Official).unwrap_err();
    assert!(official.to_string().contains("gives no splits"), "{official}");
}

#[test]
fn columns_of_text_splits_and_speakers_are_followed_and_a_row_without_sound_is_skipped() {
    let data = open(&file("table.parquet")).unwrap();
    assert_eq!(data.classes(), ["high", "low", "middle"].map(Name::from), "sorted");
    assert_eq!(data.counts(), [[1, 1, 1], [1, 1, 1], [1, 0, 1]]);
    let speaker = |row: usize| data.clips()[number(&data, &format!("table.parquet/{row}"))].speaker.to_string();
    assert_eq!([speaker(0), speaker(3), speaker(8)], ["100", "101", "table.parquet/8"], "null: a speaker of its own");
    assert_eq!(samples(&data, number(&data, "table.parquet/5")), wave(PERIODS[0], 5));
    let problems: Vec<String> = data.problems().iter().map(ToString::to_string).collect();
    let missing =
        "table.parquet/4: its row has no sound: `audio.bytes` is null; write the file again with it or delete it";
    assert_eq!(problems, [missing]);
    let strict = open_with(&file("table.parquet"), |config| config.strict = true);
    assert!(matches!(strict, Err(DataError::Strict { count: 1, .. })));
    let mut rows = Vec::new();
    let format = Format { rate_hz: 16_000, channels: 1 };
    read_parquet_clips(&file("table.parquet"), format, &mut |clip| {
        rows.push(clip);
        if rows.len() == 6 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(rows[5].as_ref().unwrap().samples, wave(PERIODS[0], 5));
    assert_eq!((rows.len(), rows[4].as_ref().unwrap_err()), (6, &ClipFault::MissingBytes));
}

#[test]
fn decoded_clips_are_cached_until_a_file_changes() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    for entry in fs::read_dir(file("words")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, data.join(path.file_name().unwrap())).unwrap();
    }
    let cache = CacheMode::Folder(dir.path().join("cache"));
    let opened = || open_with(&data, |config| config.cache = cache.clone()).unwrap();
    assert!(opened().is_cached(), "written and read back");
    let caches = || fs::read_dir(dir.path().join("cache")).unwrap().count();
    let before = caches();
    assert_eq!(opened().clips().len(), 30);
    assert_eq!(caches(), before);
    fs::rename(data.join("train-00001-of-00002.parquet"), dir.path().join("gone")).unwrap();
    assert_eq!(opened().clips().len(), 24);
}

/// A column of a file that a test writes.
enum Column<'a> {
    Bytes(Vec<Option<&'a [u8]>>),
    Whole(Vec<Option<i64>>),
    Numbers(Vec<f64>),
}

/// Writes a file with the columns of a schema, uncompressed.
fn write(path: &Path, schema: &str, columns: &[Column<'_>], properties: WriterProperties) -> PathBuf {
    let schema = Arc::new(parse_message_type(&format!("message m {{ {schema} }}")).unwrap());
    let file = fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    let descriptors = writer.schema_descr().columns().to_vec();
    let mut group = writer.next_row_group().unwrap();
    for (column, descriptor) in columns.iter().zip(descriptors) {
        let mut to = group.next_column().unwrap().unwrap();
        let max = descriptor.max_def_level();
        let levels =
            |present: Vec<bool>| -> Vec<i16> { present.iter().map(|&is| if is { max } else { max - 1 }).collect() };
        match column {
            Column::Bytes(values) => {
                let present: Vec<ByteArray> = values.iter().flatten().map(|&bytes| bytes.to_vec().into()).collect();
                let levels = levels(values.iter().map(Option::is_some).collect());
                to.typed::<ByteArrayType>().write_batch(&present, Some(&levels), None).unwrap();
            }
            Column::Whole(values) => {
                let present: Vec<i64> = values.iter().flatten().copied().collect();
                let levels = levels(values.iter().map(Option::is_some).collect());
                to.typed::<Int64Type>().write_batch(&present, Some(&levels), None).unwrap();
            }
            Column::Numbers(values) => _ = to.typed::<DoubleType>().write_batch(values, None, None).unwrap(),
        }
        to.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    path.into()
}

/// The schema of `datasets`.
const SOUND: &str = "optional group audio { optional binary bytes; optional binary path (UTF8); }";
const LABEL: &str = "optional int64 label;";

/// What `datasets` stores beside the columns: the names of the classes.
fn with_names(names: &str) -> WriterProperties {
    let text = format!(r#"{{"info": {{"features": {{"label": {{"names": {names}, "_type": "ClassLabel"}}}}}}}}"#);
    let pairs = vec![KeyValue::new("huggingface".into(), text)];
    WriterProperties::builder().set_key_value_metadata(Some(pairs)).build()
}

fn plain() -> WriterProperties {
    WriterProperties::builder().build()
}

/// One sentence that names the file.
#[track_caller]
fn refused(path: &Path, parts: &[&str]) {
    let error = open(path).map(drop).unwrap_err().to_string();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    assert!(!error.contains('\n') && error.contains(&*name), "{error}");
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn what_is_no_data_set_is_refused_with_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let sound = fs::read(clip("bed")).unwrap();
    let path = dir.path().join("a.parquet");
    let sounds = |n: usize| Column::Bytes(vec![Some(&sound[..]); n]);
    let none = |n: usize| Column::Bytes(vec![None; n]);
    let texts = |list: &[&'static str]| Column::Bytes(list.iter().map(|text| Some(text.as_bytes())).collect());
    let whole = |list: &[i64]| Column::Whole(list.iter().copied().map(Some).collect());
    let both = format!("{SOUND} {LABEL}");
    let made = |schema: &str, columns: &[Column<'_>]| write(&path, schema, columns, plain());

    refused(
        &made("optional binary sound; optional int64 label;", &[sounds(2), whole(&[0, 1])]),
        &["has no column `audio`, its own are `sound`, `label`; a data set has the columns `audio`, a struct of"],
    );
    refused(&made(SOUND, &[sounds(2), none(2)]), &["has no column `label`, its own are `audio`;"]);
    let paths = ["a.wav", "b.wav"];
    for (schema, columns) in [
        (format!("optional binary audio (UTF8); {LABEL}"), vec![texts(&paths), whole(&[0, 1])]),
        (
            format!("optional group audio {{ optional binary path (UTF8); }} {LABEL}"),
            vec![texts(&paths), whole(&[0, 1])],
        ),
        (both.clone(), vec![none(2), texts(&paths), whole(&[0, 1])]),
    ] {
        refused(&made(&schema, &columns), &["has no sound, only the paths of sound files; write it with the bytes"]);
    }
    let labels = |labels: Column<'_>, properties: WriterProperties| {
        write(&path, &both, &[sounds(2), none(2), labels], properties)
    };
    refused(
        &labels(Column::Whole(vec![Some(0), None]), plain()),
        &["has no `label` in row 1, where it is null; give every row"],
    );
    for label in [2, -1, i64::MAX] {
        let text = format!("has the `label` {label} in row 1, and names the classes 0 to 1; give every row its class");
        refused(&labels(whole(&[0, label]), with_names(r#"["a", "b"]"#)), &[&text]);
    }
    refused(&labels(whole(&[0, 1]), with_names(r#"["a", "a"]"#)), &["names the class `a` twice"]);
    refused(
        &made(&format!("{SOUND} required double label;"), &[sounds(2), none(2), Column::Numbers(vec![0.5; 2])]),
        &["its column `label` has values of the type DOUBLE; it must have whole numbers or text"],
    );
    refused(
        &made(&format!("{SOUND} optional binary label (UTF8);"), &[sounds(2), none(2), texts(&["a", ""])]),
        &["has an empty `label` in row 1"],
    );
    refused(
        &made(
            &format!("{both} optional binary split (UTF8);"),
            &[sounds(2), none(2), whole(&[0, 1]), texts(&["train", "tset"])],
        ),
        &["has the `split` `tset` in row 1; a split is train, validation or test"],
    );
    refused(&made(&both, &[sounds(0), none(0), whole(&[])]), &["has no rows"]);
    // The encoding of a column of texts, which is read before the sound.
    let column = ColumnPath::from(vec!["audio".to_string(), "path".to_string()]);
    let properties = WriterProperties::builder().set_dictionary_enabled(false);
    let properties = properties.set_column_encoding(column, Encoding::DELTA_BYTE_ARRAY).build();
    refused(
        &write(&path, &both, &[sounds(2), texts(&paths), whole(&[0, 1])], properties),
        &["cannot be read (its column `audio.path`, row group 0: its encoding DELTA_BYTE_ARRAY is not read)"],
    );
    fs::write(&path, "this is a table\n1,2,3\n").unwrap();
    refused(&path, &["is no Parquet file, whatever its name says"]);
    fs::write(&path, "").unwrap();
    refused(&path, &["is no Parquet file"]);
    let good = fs::read(file("table.parquet")).unwrap();
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    refused(&path, &["is cut short: a Parquet file ends with its footer; download it again"]);
    fs::write(&path, [&good[..good.len() - 4], b"PARE"].concat()).unwrap();
    refused(&path, &["is encrypted"]);
}

#[test]
fn files_of_a_folder_that_do_not_belong_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sound = fs::read(clip("bed")).unwrap();
    let put = |name: &str, label: &str, column: Column<'_>, properties: WriterProperties| {
        let columns = [Column::Bytes(vec![Some(&sound[..]); 2]), Column::Bytes(vec![None; 2]), column];
        write(&dir.path().join(name), &format!("{SOUND} {label}"), &columns, properties);
    };
    let whole = || Column::Whole(vec![Some(0), Some(1)]);
    put("train-0.parquet", LABEL, whole(), with_names(r#"["a", "b"]"#));
    put("test-0.parquet", LABEL, whole(), with_names(r#"["b", "a"]"#));
    let error = || open(dir.path()).unwrap_err().to_string();
    assert!(
        error().contains("train-0.parquet names other classes than test-0.parquet; give files of one data set"),
        "{}",
        error()
    );
    put("test-0.parquet", LABEL, whole(), with_names(r#"["a", "b"]"#));
    assert_eq!(open(dir.path()).unwrap().counts(), [[1, 0, 1]; 2]);
    put("other-0.parquet", LABEL, whole(), with_names(r#"["a", "b"]"#));
    assert!(error().contains("other-0.parquet does not say by its name which split it is of"), "{}", error());
    let texts = || Column::Bytes(vec![Some(b"a"), Some(b"b")]);
    put("other-0.parquet", "optional binary label (UTF8);", texts(), with_names(r#"["a", "b"]"#));
    assert!(error().contains("has another type of `label` than"), "{}", error());
    // With word folders, it is a data set of these, and what lies beside them is counted as before.
    fs::create_dir(dir.path().join("bed")).unwrap();
    fs::copy(clip("bed"), dir.path().join("bed/a.wav")).unwrap();
    assert!(matches!(Source::open(dir.path()), Ok(Source::Folder(_))));
}

#[test]
fn numbers_without_names_are_classes_in_their_order_and_a_row_that_is_no_sound_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let sound = fs::read(clip("bed")).unwrap();
    let path = dir.path().join("b.parquet");
    let sounds = vec![Some(&sound[..]), Some(b"no sound at all"), Some(&sound[..200]), Some(&sound)];
    let schema = "required group audio { required binary bytes; } required int64 label;";
    let columns = [Column::Bytes(sounds), Column::Whole([10, 9, 9, 9].map(Some).into())];
    write(&path, schema, &columns, plain());
    let data = open(&path).unwrap();
    assert_eq!(data.classes(), [Name::from("9"), Name::from("10")]);
    let problems: Vec<String> = data.problems().iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2);
    assert!(problems[0].starts_with("b.parquet/1: it is "), "{problems:?}");
    assert!(problems[1].starts_with("b.parquet/2: it is truncated"), "{problems:?}");
    let error = open_with(&path, |config| config.strict = true).unwrap_err().to_string();
    assert!(error.contains("2 clips cannot be used, the first is b.parquet/1: it is "), "{error}");
    assert!(!data.names_speakers(), "the existing hint says so");
    assert!(Hint::of(&data).contains(&Hint::UnknownSpeakers));
}

#[test]
fn a_file_that_is_cut_short_or_changed_anywhere_is_an_error_or_read_and_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let open = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        open(&path)
    };
    for name in ["table.parquet", "words/test-00000-of-00001.parquet", "words/validation-00000-of-00001.parquet"] {
        let good = fs::read(file(name)).unwrap();
        for len in (0..good.len()).step_by(97).chain(good.len() - 40..good.len()) {
            assert!(open(&good[..len]).is_err(), "{name} cut to {len} bytes");
        }
        // Half of the footer, and some of the pages, whose headers lie between the bytes of sounds.
        let footer = good.len() - 8 - u32::from_le_bytes(good[good.len() - 8..][..4].try_into().unwrap()) as usize;
        for at in (footer..good.len()).step_by(2).chain((0..footer).step_by(7)) {
            let mut bad = good.clone();
            bad[at] ^= [0x01, 0x80, 0xFF][at % 3];
            drop(open(&bad));
        }
    }
}

#[test]
fn the_program_trains_evaluates_predicts_and_lists_them() {
    let dir = tempfile::tempdir().unwrap();
    let data = file("words");
    let told = json(stapes().args(["data", "--json"]).arg(&data));
    assert_eq!((told["clips"].as_u64(), told["speakers"].as_u64()), (Some(30), Some(10)));
    let mut command = stapes();
    command.args(["train", "--recipe", "plain", "--batch", "2", "--epochs", "2", "--name", "run", "--data"]).arg(&data);
    let trained = command.arg("--model").arg(tiny()).arg("--runs").arg(dir.path()).output().unwrap();
    let text = [trained.stdout, trained.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(trained.status.success() && text.contains("30 clips of 3 words, 10 speakers"), "{text}");
    assert!(text.contains("example.wav"), "the next command has a file that exists: {text}");
    let run = dir.path().join("run");
    let evaluated = json(stapes().args(["eval", "--json"]).arg(&run));
    assert_eq!(evaluated["clips"].as_u64(), Some(6));
    // What `predict` computes for each row of the test file is what `eval` computed.
    let test = data.join("test-00000-of-00001.parquet");
    let lines = stapes().args(["predict", "--json"]).arg(&run).arg(&test).output().unwrap();
    assert!(lines.status.success());
    let text = String::from_utf8(lines.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    assert!(lines[5]["file"].as_str().unwrap().ends_with("test-00000-of-00001.parquet[5]"), "{text}");
    let csv = fs::read_to_string(run.join("predictions-test.csv")).unwrap();
    for (line, told) in csv.lines().skip(1).zip(&lines) {
        assert!(line.starts_with("test-00000-of-00001.parquet/"), "{line}");
        assert!(line.contains(told["class"].as_str().unwrap()), "{line} {told}");
    }
    let out = dir.path().join("f.csv");
    stapes().arg("features").arg(&run).arg(&test).arg("--output").arg(&out).assert().success();
    assert_eq!(fs::read_to_string(out).unwrap().lines().count(), 7);
    stapes().arg("eval").arg(&run).arg(&test).assert().success().stdout(contains("of 6"));
    stapes().args(["train", "--resume"]).arg(&run).args(["--epochs", "3"]).assert().success();
    // A row without sound, a file that is none, and one class only.
    let told = stapes().arg("predict").arg(&run).arg(file("table.parquet")).output().unwrap();
    assert_eq!((told.status.code(), String::from_utf8(told.stdout).unwrap().lines().count()), (Some(1), 8));
    let fault =
        "table.parquet[4]: its row has no sound: `audio.bytes` is null; write the file again with it or leave it out";
    let error = String::from_utf8(told.stderr).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(error.contains(fault), "{error}");
    let text = dir.path().join("text.parquet");
    fs::write(&text, "no table\n").unwrap();
    stapes().arg("predict").arg(&run).arg(&text).assert().code(1).stderr(contains("text.parquet is no Parquet file"));
    let sound = fs::read(clip("bed")).unwrap();
    let one = dir.path().join("one.parquet");
    let columns =
        [Column::Bytes(vec![Some(&sound[..]); 3]), Column::Bytes(vec![None; 3]), Column::Whole(vec![Some(7); 3])];
    write(&one, &format!("{SOUND} {LABEL}"), &columns, plain());
    let mut command = stapes();
    command.args(["train", "-q", "--runs"]).arg(dir.path()).arg("--data").arg(&one);
    command.assert().code(1).stderr(contains("one.parquet has a single class, `7`; a network needs at least two"));
    assert!(clips().is_dir());
}
