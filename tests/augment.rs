//! Augmented batches of data sets on disk: labels, threads, resuming, sources of noise, windows of longer clips.

#[path = "data/files.rs"]
#[allow(dead_code)] // several test programs share it
mod files;

use std::path::Path;
use std::sync::Arc;

use files::*;
use stapes::data::*;

const ALL: Augment = Augment {
    shift: 0.002,
    gain: 6.0,
    polarity: 0.5,
    equaliser: 0.5,
    noise: 0.5,
    snr_low: 5.0,
    snr_high: 30.0,
    speed: 0.1,
    mask: 0.3,
    mask_seconds: 0.005,
    mixup: 0.4,
    random_crop: true,
};

fn small_data(folder: &Path) -> Arc<Dataset> {
    small_set(folder);
    let split = SplitRule::Random { seed: 1 };
    Arc::new(open(folder, &DataConfig { split, ..config(CacheMode::Off) }).unwrap())
}

/// Batches of five clips with three classes.
fn options(data: &Dataset, augment: Augment, seed: u64) -> BatchOptions {
    let augmenter = Augmenter::new(augment, &NoiseSource::Data, data, seed).unwrap();
    BatchOptions { augment: Some(Arc::new(augmenter)), soft_labels: Some(3), ..BatchOptions::new(5, 7) }
}

fn take(data: &Arc<Dataset>, options: BatchOptions, count: usize) -> Vec<Batch> {
    let mut batches = Batches::train(Arc::clone(data), options).unwrap();
    (0..count).map(|_| batches.next_batch().unwrap().clone()).collect()
}

#[test]
fn batches_are_equal_for_any_number_of_threads_and_from_any_start() {
    let temp = tempfile::tempdir().unwrap();
    let data = small_data(temp.path());
    let options = options(&data, ALL, 1);
    let one = take(&data, BatchOptions { threads: Some(1), ..options.clone() }, 17);
    for threads in [2, 3, 8] {
        assert_eq!(
            take(&data, BatchOptions { threads: Some(threads), ..options.clone() }, 17),
            one,
            "{threads} threads"
        );
    }
    for (start, from) in [((0, 1), 1), ((0, 4), 4), ((1, 0), 5), ((2, 3), 13), ((0, 7), 7)] {
        for threads in [1, 3] {
            let resumed = BatchOptions { start, threads: Some(threads), ..options.clone() };
            assert_eq!(take(&data, resumed, 17 - from), one[from..], "from {start:?}");
        }
    }
    assert_ne!(one[0].inputs, one[5].inputs, "each epoch differs");
    assert_ne!(take(&data, self::options(&data, ALL, 2), 1)[0].inputs, one[0].inputs, "each seed differs");
    assert!(one.iter().all(|batch| batch.inputs.iter().chain(&batch.labels).all(|x| x.is_finite())));
}

#[test]
fn nothing_is_altered_without_settings_and_in_an_evaluation() {
    let temp = tempfile::tempdir().unwrap();
    let data = small_data(temp.path());
    let plain = take(&data, BatchOptions::new(5, 7), 12);
    let none = BatchOptions { soft_labels: None, ..options(&data, Augment::default(), 1) };
    assert_eq!(take(&data, BatchOptions { with_samples: false, ..none.clone() }, 12), plain);
    for threads in [1, 3] {
        assert_eq!(take(&data, BatchOptions { threads: Some(threads), ..none.clone() }, 12), plain);
    }
    let _training = Batches::train(Arc::clone(&data), options(&data, ALL, 1)).unwrap();
    let mut evaluation = Batches::eval(Arc::clone(&data), Split::Training, 24).unwrap();
    let batch = evaluation.next_batch().unwrap();
    for (&clip, row) in batch.clips.iter().zip(batch.inputs.chunks(500)) {
        assert!(
            data.samples(clip as usize).as_i16().unwrap().iter().zip(row).all(|(&v, &x)| x == f32::from(v) / 32768.0)
        );
    }
}

#[test]
fn soft_labels_are_probabilities_and_mixup_mixes_them_like_the_clips() {
    let temp = tempfile::tempdir().unwrap();
    let data = small_data(temp.path());
    let hard = take(&data, BatchOptions::new(5, 7), 15);
    let one_hot = take(&data, BatchOptions { soft_labels: Some(4), ..BatchOptions::new(5, 7) }, 15);
    let mixed = take(&data, options(&data, Augment { mixup: 0.5, ..Augment::default() }, 1), 15);
    let mut shares = Vec::new();
    for ((hard, one_hot), mixed) in hard.iter().zip(&one_hot).zip(&mixed) {
        assert_eq!((hard.label_len, one_hot.label_len, mixed.label_len), (1, 4, 3));
        assert_eq!((one_hot.labels.len(), one_hot.valid_labels().len()), (20, 4 * hard.valid));
        assert_eq!((&one_hot.inputs, one_hot.valid_inputs()), (&hard.inputs, hard.valid_inputs()));
        for (i, (&class, label)) in hard.labels.iter().zip(one_hot.labels.chunks(4)).enumerate() {
            let probability = |c: usize| if i < hard.valid && c == class as usize { 1.0 } else { 0.0 };
            assert!(label.iter().enumerate().all(|(c, &p)| p == probability(c)));
        }
        let row = |i: usize| &hard.inputs[i * 500..(i + 1) * 500];
        for i in 0..mixed.valid {
            let own = &mixed.inputs[i * 500..(i + 1) * 500];
            // The other clip and the share that explain the row.
            let explained = (0..mixed.valid).filter(|&j| j != i).find_map(|j| {
                let (a, b) = (row(i), row(j));
                let product = |f: &dyn Fn(usize) -> f32| (0..500).map(f).sum::<f32>();
                let share = product(&|t| (own[t] - b[t]) * (a[t] - b[t])) / product(&|t| (a[t] - b[t]).powi(2));
                (0..500).all(|t| (share * a[t] + (1.0 - share) * b[t] - own[t]).abs() < 1e-5).then_some((j, share))
            });
            let (j, share) = explained.expect("a row is a mix of its clip and another of the batch");
            let of = |k: usize| hard.labels[k] as usize;
            let mut expected = [0.0; 3];
            expected[of(i)] += share;
            expected[of(j)] += 1.0 - share;
            assert!(mixed.labels[3 * i..3 * i + 3].iter().zip(expected).all(|(p, e)| (p - e).abs() < 1e-4));
            shares.push(share);
        }
        assert!(mixed.labels[3 * mixed.valid..].iter().all(|&p| p == 0.0));
    }
    assert!(shares.iter().all(|s| (-1e-4..1.0001).contains(s)) && shares.iter().any(|s| (0.2..0.8).contains(s)));
    let single = BatchOptions { batch: 1, ..options(&data, Augment { mixup: 0.5, ..Augment::default() }, 1) };
    assert_eq!(take(&data, single, 1)[0].valid_inputs(), hard[0].inputs[..500].to_vec(), "a single clip is not mixed");
}

#[test]
fn labels_that_cannot_be_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let data = small_data(temp.path());
    let refused = |options: BatchOptions| Batches::train(Arc::clone(&data), options).unwrap_err().to_string();
    let options = options(&data, ALL, 1);
    assert_eq!(
        refused(BatchOptions { soft_labels: None, ..options.clone() }),
        "mixup needs labels that are probabilities of classes; set `soft_labels` of the batches, or `mixup` to 0"
    );
    assert_eq!(
        refused(BatchOptions { soft_labels: Some(2), ..options }),
        "the labels have 2 classes and the data set has 3; set `soft_labels` of the batches to 3"
    );
}

/// What is added to each clip if nothing but noise is.
fn added_noise(data: &Arc<Dataset>, noise: &NoiseSource) -> Vec<f32> {
    let augment = Augment { noise: 1.0, snr_low: 0.0, snr_high: 0.0, ..Augment::default() };
    let augmenter = Augmenter::new(augment, noise, data, 1).unwrap();
    let options = BatchOptions { augment: Some(Arc::new(augmenter)), ..BatchOptions::new(5, 7) };
    let (noisy, plain) = (take(data, options, 1), take(data, BatchOptions::new(5, 7), 1));
    noisy[0].inputs.iter().zip(&plain[0].inputs).map(|(n, p)| n - p).collect()
}

/// Whether `row` is a multiple of a piece of `track`.
fn is_piece_of(row: &[f32], track: &[i16]) -> bool {
    let ratio = |piece: &[i16]| {
        let products = |f: &dyn Fn(usize) -> f64| (0..row.len()).map(f).sum::<f64>();
        let track = |t: usize| f64::from(piece[t]);
        let scale = products(&|t| f64::from(row[t]) * track(t)) / products(&|t| track(t) * track(t));
        products(&|t| (f64::from(row[t]) - scale * track(t)).powi(2)) / products(&|t| f64::from(row[t]).powi(2))
    };
    track.windows(row.len()).any(|piece| ratio(piece) < 1e-6)
}

#[test]
fn noise_comes_from_the_data_set_its_archive_or_a_folder() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("set");
    let data = small_data(&folder);
    let from_folder = added_noise(&data, &NoiseSource::Data);
    assert!(from_folder.chunks(500).all(|row| is_piece_of(row, &noise(99, 2_000))));

    for prefix in [".", "speech_commands"] {
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_dir_all(prefix, &folder).unwrap();
        let path = temp.path().join("set.tar");
        std::fs::write(&path, tar.into_inner().unwrap()).unwrap();
        let split = SplitRule::Random { seed: 1 };
        let archived = Arc::new(open(&path, &DataConfig { split, ..config(CacheMode::Off) }).unwrap());
        assert_eq!(added_noise(&archived, &NoiseSource::Data), from_folder);
    }

    let own = temp.path().join("own");
    put(&own, "", "b.wav", &wav16(&noise(1, 3_000)));
    put(&own, "", "a.flac", NOISE_FLAC);
    put(&own, "", "broken.wav", b"RIFF");
    let from_own = added_noise(&data, &NoiseSource::Folder(own));
    let flac = read_clip(NOISE_FLAC, "a.flac", data.format()).unwrap().samples;
    assert!(from_own.chunks(500).all(|row| is_piece_of(row, &noise(1, 3_000)) || is_piece_of(row, &flac)));
    assert!(from_own.chunks(500).any(|row| is_piece_of(row, &flac)));
}

#[test]
fn without_recordings_noise_is_generated_and_a_remark_says_so() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("set");
    let with_noise = small_data(&folder);
    let augment = Augment { noise: 1.0, ..Augment::default() };
    let remark = |data: &Arc<Dataset>, source: &NoiseSource| {
        Augmenter::new(augment, source, data, 1).unwrap().remark().map(str::to_string)
    };
    assert_eq!(remark(&with_noise, &NoiseSource::Data), None);
    assert_eq!(remark(&with_noise, &NoiseSource::Generated), None);
    let generated = added_noise(&with_noise, &NoiseSource::Generated);
    std::fs::write(folder.join("_background_noise_/rain.wav"), b"RIFF").unwrap();
    let text = remark(&with_noise, &NoiseSource::Data).unwrap();
    assert!(
        text.starts_with("_background_noise_ has no recording that can be used (rain.wav: its WAV header"),
        "{text}"
    );
    assert!(text.ends_with("), so white, pink and brown noise is generated"), "{text}");
    std::fs::remove_dir_all(folder.join("_background_noise_")).unwrap();
    let without = small_data_without_noise(&folder);
    assert_eq!(
        remark(&without, &NoiseSource::Data).unwrap(),
        "the data set has no folder _background_noise_ with recordings, so white, pink and brown noise is generated"
    );
    assert_eq!(added_noise(&without, &NoiseSource::Data), generated);
    let embedded = Dataset::open(&Source::Embedded(embedded()), &DataConfig::default(), QUIET).unwrap();
    assert!(remark(&Arc::new(embedded), &NoiseSource::Data).is_some());
}

fn small_data_without_noise(folder: &Path) -> Arc<Dataset> {
    let split = SplitRule::Random { seed: 1 };
    Arc::new(open(folder, &DataConfig { split, ..config(CacheMode::Off) }).unwrap())
}

#[test]
fn a_folder_without_usable_noise_is_refused_by_its_name() {
    let temp = tempfile::tempdir().unwrap();
    let data = small_data(&temp.path().join("set"));
    let augment = Augment { noise: 0.5, ..Augment::default() };
    let refused = |augment, folder: &str| {
        let folder = NoiseSource::Folder(temp.path().join(folder));
        Augmenter::new(augment, &folder, &data, 1).map(drop).map_err(|error| error.to_string())
    };
    let path = |folder: &str| temp.path().join(folder).display().to_string();
    put(temp.path(), "texts", "a.txt", b"text");
    put(temp.path(), "broken", "a.wav", b"");
    let advice = "; give a folder with WAV, FLAC or Ogg Vorbis files directly in it";
    assert_eq!(
        refused(augment, "texts").unwrap_err(),
        format!("the folder {} contains no recording of noise{advice}", path("texts"))
    );
    assert_eq!(
        refused(augment, "broken").unwrap_err(),
        format!(
            "no recording in the folder {} can be used as noise (a.wav: it is an empty file; record it again or delete it){advice}",
            path("broken")
        )
    );
    assert!(refused(augment, "absent").unwrap_err().starts_with(&format!("cannot read {}", path("absent"))));
    assert_eq!(refused(Augment::default(), "absent"), Ok(()), "nothing is read if no noise is added");
}

#[test]
fn random_windows_are_parts_of_a_longer_clip_and_an_evaluation_keeps_its_own() {
    let temp = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let mut long = noise(1, 3_200);
    long[1_700..2_000].iter_mut().for_each(|v| *v *= 3); // the loudest part
    put(temp.path(), "bed", "a_nohash_0.wav", &wav16(&long));
    put(temp.path(), "bed", "b_nohash_0.wav", &wav16(&noise(2, 400)));
    put(temp.path(), "cat", "c_nohash_0.wav", &wav16(&noise(3, 1_100)));
    let mode = || CacheMode::Folder(cache.path().into());
    for crop in Crop::ALL {
        let plain = open(temp.path(), &DataConfig { crop, ..config(mode()) }).unwrap();
        for (windows, kept) in [(1, 500), (2, 1_000), (4, 2_000), (100, 3_200)] {
            for mode in [CacheMode::Off, mode(), mode()] {
                let data = open(temp.path(), &DataConfig { crop, windows, ..config(mode) }).unwrap();
                assert_eq!(data.clips().len(), 3);
                for clip in 0..3 {
                    assert_eq!(data.samples(clip), plain.samples(clip), "{crop} {windows}");
                    assert_eq!(data.clips()[clip].peak, plain.clips()[clip].peak);
                }
                assert_eq!(data.kept_samples(0).len(), kept);
                assert!(long.windows(kept).any(|part| part == data.kept_samples(0).as_i16().unwrap()));
                let used = |part: &[i16]| part == data.samples(0).as_i16().unwrap();
                assert!(data.kept_samples(0).as_i16().unwrap().windows(500).any(used), "{crop} {windows}");
                assert_eq!(data.kept_samples(1), data.samples(1));
                assert_eq!(data.kept_samples(2).len(), kept.min(1_100));
            }
        }
    }
    let data = Arc::new(open(temp.path(), &DataConfig { windows: 4, ..config(mode()) }).unwrap());
    let random = BatchOptions { batch: 3, ..options(&data, Augment { random_crop: true, ..Augment::default() }, 1) };
    let mut starts = std::collections::BTreeSet::new();
    for batch in take(&data, random, 100) {
        let row = batch.clips.iter().position(|&clip| clip == 0).expect("all clips are in the batch");
        let row = &batch.inputs[row * 500..(row + 1) * 500];
        let is_row = |part: &[i16]| part.iter().zip(row).all(|(&v, &x)| x == f32::from(v) / 32768.0);
        starts.insert(long.windows(500).position(is_row).expect("the row is a part of the clip"));
    }
    assert!(starts.len() > 80 && *starts.last().unwrap() <= 1_500 && *starts.last().unwrap() > 1_200);
}
