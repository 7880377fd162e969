//! Data sets of arrays: files that NumPy wrote (`make.py`), files with faults, and standardisation.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stapes::base::{Name, Standardisation};
use stapes::data::*;

const CLIPS: usize = 20;
const LENGTH: usize = 4;
const CHANNELS: usize = 3;
const SIZE: usize = LENGTH * CHANNELS;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/arrays").join(name)
}

/// The whole numbers from which `make.py` makes all values.
fn bits(i: usize) -> u32 {
    (i as u32).wrapping_mul(2_654_435_761).wrapping_add(12_345)
}

fn finite(i: usize) -> f32 {
    let bits = bits(i);
    f32::from_bits(if bits >> 23 & 255 == 255 { bits ^ 1 << 30 } else { bits })
}

/// A data set at the shape of its arrays.
fn open_with(path: &Path, change: impl Fn(&mut DataConfig)) -> Result<Dataset, DataError> {
    let source = Source::open(path)?;
    let shape = source.array_shape()?.expect("arrays have a shape");
    let mut config = DataConfig { length: shape.length, format: shape.format(), ..DataConfig::default() };
    change(&mut config);
    Dataset::open(&source, &config, &|_, _, _| ControlFlow::Continue(()))
}

fn open(path: &Path) -> Result<Dataset, DataError> {
    open_with(path, |_| {})
}

fn values(data: &Dataset, clip: usize) -> Vec<f32> {
    match data.samples(clip) {
        Samples::F32(values) => values.to_vec(),
        Samples::I16(_) => panic!("arrays are not stored in 16 bits"),
    }
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

#[test]
fn what_numpy_wrote_is_read_to_the_bit() {
    type Value = fn(usize) -> f32;
    let kinds: [(&str, Value); 7] = [
        ("f4.npz", finite),
        ("f4_compressed.npz", finite),
        ("f4_big_endian.npz", finite),
        ("f8_fortran.npz", finite),
        ("i2.npz", |i| f32::from((bits(i) >> 16) as u16 as i16)),
        ("u1.npz", |i| f32::from(bits(i) as u8)),
        ("f2.npz", |i| (bits(i) % 2_000) as f32 / 8.0),
    ];
    for (name, value) in kinds {
        let data = open(&file(name)).unwrap();
        assert_eq!(data.clips().len(), CLIPS, "{name}");
        assert_eq!(data.classes(), [Name::from("0"), Name::from("1")], "{name}");
        assert!(!data.is_sound() && data.problems().is_empty());
        for clip in 0..CLIPS {
            let expected: Vec<f32> = (clip * SIZE..(clip + 1) * SIZE).map(value).collect();
            assert!(same_bits(&values(&data, clip), &expected), "{name}: clip {clip}");
            let mut input = vec![f32::NAN; SIZE];
            data.write_input(clip, &mut input);
            assert!(same_bits(&input, &expected), "{name}: the network gets other values of clip {clip}");
            assert_eq!(
                (data.clips()[clip].class, data.clips()[clip].name.to_string()),
                (clip as u32 % 2, format!("{clip:02}"))
            );
        }
    }
    let data = open(&file("one_channel.npz")).unwrap();
    let expected: Vec<f32> = (0..LENGTH).map(|t| finite(SIZE + t * CHANNELS)).collect();
    assert!(same_bits(&values(&data, 1), &expected));
    assert_eq!(data.format(), Format { rate_hz: LENGTH as u32, channels: 1 }, "without a rate a clip is one second");
    let array = ClipArray::read(&file("x.npy"), Format { rate_hz: 7, channels: 3 }).unwrap();
    assert!(same_bits(&array.values, &(0..CLIPS * SIZE).map(finite).collect::<Vec<_>>()));
    assert_eq!(array.shape, ArrayShape { clips: CLIPS, length: LENGTH, channels: CHANNELS, rate_hz: None });
}

#[test]
fn labels_groups_and_splits_are_those_of_the_arrays() {
    let data = open(&file("labels.npz")).unwrap();
    assert_eq!(data.classes(), [Name::from("rest"), Name::from("links ä")], "in the order of `classes`");
    assert_eq!(data.format(), Format { rate_hz: 250, channels: 3 });
    for (clip, meta) in data.clips().iter().enumerate() {
        let split = [Split::Training, Split::Training, Split::Validation, Split::Testing][clip / 5];
        assert_eq!((meta.split, meta.class), (split, clip as u32 % 2));
        assert_eq!(meta.speaker, ["ann", "ben", "cyd", "dan"][clip / 5]);
    }
    assert!(data.names_speakers() && data.has_own_splits());
    let chosen = open_with(&file("labels.npz"), |config| config.classes = Some(vec!["links ä".into(), "rest".into()]));
    assert_eq!(chosen.unwrap().clips()[0].class, 1, "the caller's order of classes");
    let numbers = open(&file("numbers.npz")).unwrap();
    assert_eq!(numbers.clips()[3].speaker, "1");
    assert_eq!(numbers.counts(), [[10, 0, 0], [0, 0, 10]]);
    let leaks = "the array `split` puts 10 of 10 groups into more than one split";
    assert!(numbers.remarks().iter().any(|remark| remark.starts_with(leaks)), "{:?}", numbers.remarks());
    assert!(numbers.remarks().iter().any(|remark| remark.starts_with("the array `split` leaves no validation clips")));
    let random = open_with(&file("numbers.npz"), |config| config.split = SplitRule::Random { seed: 3 }).unwrap();
    assert_eq!(random.counts(), [[8, 1, 1], [8, 1, 1]], "--split random goes before the arrays");
    let official = open_with(&file("f4.npz"), |config| config.split = SplitRule::Official).unwrap_err().to_string();
    assert!(official.contains("gives no splits"), "{official}");
}

/// An `.npz` file of `n` clips of one channel, with the extra arrays that `add` writes.
fn made(folder: &Path, (n, length): (usize, usize), add: impl Fn(&mut NpzWriter)) -> PathBuf {
    let path = folder.join("made.npz");
    let mut npz = NpzWriter::create(&path).unwrap();
    npz.begin_f32("x", &[n, length, 2]).unwrap();
    npz.f32s(&(0..n * length * 2).map(|i| (i % 97) as f32 + 1_000.0 * (i % 2) as f32).collect::<Vec<_>>()).unwrap();
    npz.i64s("y", &(0..n as i64).map(|i| i % 2).collect::<Vec<_>>()).unwrap();
    add(&mut npz);
    npz.finish(&path).unwrap();
    path
}

#[test]
fn a_group_is_never_divided_and_each_split_has_one() {
    let folder = tempfile::tempdir().unwrap();
    for groups in [3, 9, 40] {
        let path = made(folder.path(), (400, 3), |npz| {
            npz.i64s("group", &(0..400).map(|i| i * 7 % groups).collect::<Vec<_>>()).unwrap();
        });
        let data = open(&path).unwrap();
        let splits_of = |group: &Name| {
            let clips = data.clips().iter().filter(|clip| clip.speaker == *group);
            clips.map(|clip| clip.split).collect::<std::collections::HashSet<_>>().len()
        };
        assert!(data.clips().iter().all(|clip| splits_of(&clip.speaker) == 1), "{groups} groups");
        assert!(Split::ALL.iter().all(|&split| !data.in_split(split).is_empty()), "{groups} groups");
    }
}

#[test]
fn sentences_on_arrays_say_groups_and_those_on_recordings_speakers() {
    let folder = tempfile::tempdir().unwrap();
    let data = open(&made(folder.path(), (40, 3), |npz| npz.i64s("group", &[7; 40]).unwrap())).unwrap();
    assert_eq!(data.grouping(), Grouping::Groups);
    let remark = "the split by group leaves no validation and no test clips, because there are clips of one group only; use \
                  `--split random`, or add clips of other groups";
    assert!(data.remarks().iter().any(|text| text == remark), "{:?}", data.remarks());
    let error = Batches::eval(Arc::new(data), Split::Testing, 4).map(drop).unwrap_err().to_string();
    assert_eq!(error, "there are no testing clips; use --split random or add clips of other groups");
    let mixed = open(&file("numbers.npz")).unwrap();
    assert_eq!(Audit::of(&mixed).totals[&FindingKind::SpeakerInTwoSplits], 10);
    assert_eq!(FindingKind::SpeakerInTwoSplits.name(mixed.grouping()), "group in two splits");
    let clips = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/clips");
    let words = DataConfig { classes: Some(vec!["bed".into(), "six".into()]), ..DataConfig::default() };
    let words = DataConfig { cache: CacheMode::Off, ..words };
    let source = Source::open(&clips).unwrap();
    let recordings = Dataset::open(&source, &words, &|_, _, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(recordings.grouping(), Grouping::Speakers);
    for (grouping, words) in [
        (Grouping::Speakers, ["speaker", "speakers", "new voices", "recordings of other people"]),
        (Grouping::Groups, ["group", "groups", "new groups", "clips of other groups"]),
    ] {
        assert_eq!([grouping.noun(), grouping.plural(), grouping.others(), grouping.more()], words);
    }
}

#[test]
fn clips_of_another_length_are_cut_or_padded_and_those_of_other_channels_or_rates_refused() {
    let (path, all) = (file("labels.npz"), open(&file("labels.npz")).unwrap());
    let of = |length: usize, crop: Crop, windows: usize| {
        let data = open_with(&path, |config| (config.length, config.crop, config.windows) = (length, crop, windows));
        let data = data.unwrap();
        (values(&data, 5), data.kept_samples(5).len())
    };
    let whole = values(&all, 5);
    assert_eq!(of(2, Crop::Start, 1).0, whole[..6]);
    assert_eq!(of(2, Crop::Center, 1).0, whole[3..9]);
    assert_eq!(of(2, Crop::Center, 2), (whole[3..9].to_vec(), 12), "the whole clip is kept for random windows");
    assert_eq!(of(5, Crop::Start, 1).0, [&whole[..], &[0.0; 3]].concat());
    let refused = |format: Format| open_with(&path, |config| config.format = format).unwrap_err().to_string();
    let text = refused(Format { rate_hz: 250, channels: 1 });
    assert!(
        text.ends_with("has clips of 3 channels, and the network takes 1; take a network whose input has 3 channels"),
        "{text}"
    );
    let text = refused(Format { rate_hz: 16_000, channels: 3 });
    assert!(text.contains("clips of 250 Hz, and the network takes 16000 Hz"), "{text}");
}

#[test]
fn a_file_that_is_cut_short_or_changed_anywhere_is_an_error_or_read_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    for name in ["labels.npz", "f4_compressed.npz"] {
        let good = fs::read(file(name)).unwrap();
        for len in 0..good.len() {
            fs::write(&path, &good[..len]).unwrap();
            assert!(open(&path).is_err(), "{name} cut to {len} bytes");
        }
        for at in (0..good.len()).step_by(3) {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            fs::write(&path, &bad).unwrap();
            drop(open(&path));
        }
    }
    let good = fs::read(file("x.npy")).unwrap();
    let path = folder.path().join("x.npy");
    for len in 0..good.len() {
        fs::write(&path, &good[..len]).unwrap();
        assert!(ClipArray::read(&path, Format { rate_hz: 1, channels: 3 }).is_err(), "x.npy cut to {len} bytes");
    }
}

/// An `.npy` file with this header, and eight bytes.
fn npy(descr: &str, shape: &str) -> Vec<u8> {
    let text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\0", &(text.len() as u16).to_le_bytes()[..], text.as_bytes(), &[0; 8]].concat()
}

#[test]
fn a_header_that_states_more_than_the_file_has_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    for shape in
        ["(1, 1099511627776, 3)", "(1, 18446744073709551615, 3)", "(4294967295, 1, 3)", "(1, 2, 3)", "(0, 4, 3)"]
    {
        fs::write(&path, npy("<f4", shape)).unwrap();
        let error = ClipArray::read(&path, Format { rate_hz: 1, channels: 3 }).unwrap_err().to_string();
        assert!(error.contains("array is cut short") || error.contains("holds no clip"), "{shape}: {error}");
    }
    fs::write(&path, npy("<U4000000000", "(1, 1, 3)")).unwrap();
    assert!(ClipArray::read(&path, Format { rate_hz: 1, channels: 3 }).is_err());
}

#[test]
fn what_is_no_data_set_is_refused_with_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let of = |add: &dyn Fn(&mut NpzWriter)| open(&made(folder.path(), (6, 2), add)).unwrap_err().to_string();
    let names = |npz: &mut NpzWriter, name: &str, list: &[&str]| {
        npz.names(name, list.iter().map(|&name| Name::from(name)).collect::<Vec<_>>().iter()).unwrap();
    };
    for (error, sentence) in [
        (
            of(&|npz| npz.i64s("group", &[1, 2]).unwrap()),
            "`group` has the shape (2,); it must have one value for each of the 6 clips",
        ),
        (of(&|npz| names(npz, "classes", &["a"])), "`y` has 1 in row 1, and `classes` has the names of 0 to 0"),
        (
            of(&|npz| names(npz, "classes", &["a", "a"])),
            "`classes` has a value in place 1 that is empty or a name that comes before",
        ),
        (of(&|npz| npz.i64s("classes", &[1, 2]).unwrap()), "`classes` has numbers"),
        (
            of(&|npz| npz.i64s("split", &[0, 1, 2, 3, 0, 0]).unwrap()),
            "`split` has `3` in row 3; a split is train, validation or test",
        ),
        (of(&|npz| npz.i64s("rate", &[0]).unwrap()), "`rate` is 0; it must be a whole number of Hz"),
        (of(&|npz| npz.i64s("rate", &[1, 2]).unwrap()), "`rate` has the shape (2,); it must be one number"),
    ] {
        assert!(error.contains(sentence), "{error}");
        assert!(!error.contains('\n'));
    }
    let error = open(&file("objects.npz")).unwrap_err().to_string();
    assert!(error.contains("`y` has Python objects"), "{error}");
    let error = open(&file("x.npy")).unwrap_err().to_string();
    assert!(error.contains("is a single array, without classes; save a data set with numpy.savez"), "{error}");
    let path = folder.path().join("z.npz");
    fs::write(&path, b"no zip archive").unwrap();
    assert!(open(&path).unwrap_err().to_string().contains("is damaged"));
}

#[test]
fn arrays_that_are_not_used_and_flat_clips_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path(), (6, 2), |npz| npz.i64s("groups", &[0; 6]).unwrap());
    let data = open(&path).unwrap();
    assert!(data.remarks().iter().any(|remark| remark.ends_with("has `groups` too")), "{:?}", data.remarks());
    let path = folder.path().join("flat.npz");
    let mut npz = NpzWriter::create(&path).unwrap();
    npz.begin_f32("x", &[3, 2, 1]).unwrap();
    npz.f32s(&[1.0, 2.0, 5.0, 5.0, f32::NAN, 0.0]).unwrap();
    npz.i64s("y", &[0, 1, 1]).unwrap();
    npz.finish(&path).unwrap();
    let data = open(&path).unwrap();
    assert_eq!(data.clips().len(), 2);
    assert_eq!(data.problems()[0].to_string().split(';').next(), Some("2: its value number 0 is NaN or infinite"));
    let audit = Audit::of(&data);
    assert_eq!((audit.totals[&FindingKind::Silent], audit.classes[1].skipped), (1, 1));
    assert!(matches!(open_with(&path, |config| config.strict = true), Err(DataError::Strict { count: 1, .. })));
}

/// Mean and deviation of each channel of the inputs of some clips.
fn moments(data: &Dataset, clips: &[u32]) -> Vec<(f64, f64)> {
    let channels = data.format().channels as usize;
    let mut input = vec![0.0; data.row_len()];
    let mut columns = vec![Vec::new(); channels];
    for &clip in clips {
        data.write_input(clip as usize, &mut input);
        input
            .chunks(channels)
            .for_each(|frame| frame.iter().zip(&mut columns).for_each(|(&x, of)| of.push(f64::from(x))));
    }
    let moments = |values: &Vec<f64>| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt())
    };
    columns.iter().map(moments).collect()
}

#[test]
fn channels_are_standardised_by_the_training_clips_and_padding_stays_zero() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path(), (100, 50), |_| {});
    let data = open_with(&path, |config| config.standardise = Standardise::ByTrainingClips).unwrap();
    for (mean, deviation) in moments(&data, &data.in_split(Split::Training)) {
        assert!(mean.abs() < 1e-5 && (deviation - 1.0).abs() < 1e-5, "{mean} {deviation}");
    }
    let of_test = moments(&data, &data.in_split(Split::Testing));
    assert!(
        of_test.iter().any(|(mean, _)| mean.abs() > 1e-4),
        "test clips are not standardised by themselves: {of_test:?}"
    );
    // Longer inputs: padding has no part in the mean, and is zero afterwards.
    let padded = open_with(&path, |config| (config.length, config.standardise) = (60, Standardise::ByTrainingClips));
    let padded = padded.unwrap();
    assert_eq!(padded.standardisation(), data.standardisation());
    let (mut short, mut long) = (vec![0.0; 100], vec![f32::NAN; 120]);
    data.write_input(7, &mut short);
    padded.write_input(7, &mut long);
    assert_eq!(long, [&short[..], &[0.0; 20]].concat());
    // Batches, altered or not, have the same values.
    let data = Arc::new(data);
    let augment = Augment { gain: 1e-9, ..Augment::NONE };
    let augmenter = Arc::new(Augmenter::new(augment, &NoiseSource::Generated, &data, 1).unwrap());
    for augment in [None, Some(augmenter)] {
        let mut batches = Batches::train(data.clone(), BatchOptions { augment, ..BatchOptions::new(4, 1) }).unwrap();
        let batch = batches.next_batch().unwrap();
        for (row, &clip) in batch.valid_inputs().chunks(100).zip(&batch.clips) {
            data.write_input(clip as usize, &mut short);
            assert!(row.iter().zip(&short).all(|(a, b)| (a - b).abs() < 1e-6), "clip {clip}");
        }
    }
    let other = Standardisation::new(vec![0.0], vec![1.0]).unwrap();
    assert!(open_with(&path, |config| config.standardise = Standardise::By(other.clone())).is_err());
}

#[test]
fn noise_and_equaliser_are_refused_for_arrays_and_the_rest_alters_all_channels_alike() {
    let data = open(&file("labels.npz")).unwrap();
    for (augment, name) in
        [(Augment { noise: 0.5, ..Augment::NONE }, "noise"), (Augment { equaliser: 0.1, ..Augment::NONE }, "equaliser")]
    {
        let error = Augmenter::new(augment, &NoiseSource::Generated, &data, 1).map(drop).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("`{name}` alters sound")) && error.ends_with(&format!("set {name}=0")),
            "{error}"
        );
    }
    let augment =
        Augment { shift: 0.01, gain: 6.0, polarity: 0.5, speed: 0.2, mask: 0.5, mask_seconds: 0.1, ..Augment::NONE };
    let augmenter = Augmenter::new(augment, &NoiseSource::Data, &data, 1).unwrap();
    let signal: Vec<f32> = (0..60).flat_map(|t| [(t as f32 * 0.3).sin() * 1e3; 3]).collect();
    let mut row = vec![0.0; signal.len()];
    for epoch in 0..20 {
        augmenter.apply(epoch, 0, &signal, &mut row, &mut AugmentWorkspace::default());
        assert!(row.chunks(3).all(|frame| frame[0] == frame[1] && frame[1] == frame[2]), "epoch {epoch}");
        assert!(row.iter().any(|x| x.abs() > 100.0), "values are not limited to full scale");
    }
}
