//! `stapes listen` as a program: pieces of standard input, settings, saved sound, calibration, and what is wrong with an input.

mod program;

use program::*;
use std::fs;

/// A WAV file with two clips of the tests, 1.5 s apart.
fn recording() -> Vec<u8> {
    let mut data = Vec::new();
    for word in ["six", "bed"] {
        let bytes = fs::read(clip(word)).unwrap();
        data.extend(&bytes[44..]);
        data.extend([0; 16_000]);
    }
    wav(1, 16, &data, data.len() as u32)
}

/// Words and times that are detected in `sound`, with thresholds that the barely trained network reaches.
fn detected(sound: &[u8], more: &[&str]) -> String {
    let mut command = stapes();
    command.arg("listen").arg(trained()).args(["--threshold", "0.2", "-q"]).args(more).write_stdin(sound);
    let output = command.assert().success().get_output().stdout.clone();
    String::from_utf8(output).unwrap()
}

#[test]
fn a_file_standard_input_and_samples_without_a_header_give_the_same_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.wav");
    fs::write(&path, recording()).unwrap();
    let from_pipe = detected(&recording(), &["-"]);
    assert!(!from_pipe.is_empty());
    assert_eq!(detected(&[], &[path.to_str().unwrap()]), from_pipe);
    assert_eq!(detected(&recording()[44..], &[]), from_pipe);
    for line in from_pipe.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [start, end, word, probability] = fields[..] else { panic!("{line}") };
        assert!(start.parse::<f64>().unwrap() < end.parse::<f64>().unwrap());
        assert!(["bed", "cat", "one", "six"].contains(&word));
        assert!((0.2..=1.0).contains(&probability.parse::<f64>().unwrap()));
    }
    let json = detected(&recording(), &["--json"]);
    assert_eq!(json.lines().count(), from_pipe.lines().count());
    let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert!(first["word"].is_string() && first["start"].is_number() && first["end"].is_number());
}

#[test]
fn windows_that_share_nothing_give_the_same_words() {
    assert_eq!(detected(&recording(), &["--no-sharing"]).lines().count(), detected(&recording(), &[]).lines().count());
}

#[test]
fn the_sound_of_each_word_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("detected");
    let lines = detected(&recording(), &["--save-triggers", saved.to_str().unwrap()]).lines().count();
    let files: Vec<_> = fs::read_dir(&saved).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), lines);
    for file in files {
        let reader = hound::WavReader::open(&file).unwrap();
        assert_eq!((reader.spec().sample_rate, reader.duration()), (16_000, 16_000));
    }
}

#[test]
fn the_manifest_holds_the_thresholds_and_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let run = copy_of_run(folder.path());
    let listen = |more: &[&str]| {
        let mut command = stapes();
        command.arg("listen").arg(&run).args(more).write_stdin(recording());
        command.assert()
    };
    listen(&["--write-manifest", "--threshold", "0.9", "--threshold", "six=0.2"]).success();
    let file = run.join("listen.toml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("threshold = 0.9") && text.contains("six = 0.2"), "{text}");
    listen(&["-q"]).success();
    for (from, to, wanted) in [
        ("threshold = 0.9", "threshold = 1.5", "1.5"),
        ("hop_ms", "hop", "unknown field"),
        ("six = 0.2", "seven = 0.2", "seven"),
        ("sample_rate = 16000", "sample_rate = 8000", "8000"),
        ("hop_ms = 20.0", "hop_ms = 0.0", "hop_ms"),
    ] {
        fs::write(&file, text.replace(from, to)).unwrap();
        let error = listen(&[]).code(1).get_output().stderr.clone();
        let error = String::from_utf8(error).unwrap();
        assert!(error.contains(wanted) && error.contains("listen.toml"), "{to}: {error}");
    }
}

#[test]
fn sound_that_cannot_be_used_is_named_in_a_sentence() {
    let cases: [(&[u8], &[&str], i32, &str); 7] = [
        (b"", &[], 1, "empty"),
        (b"hello, this is text and not sound", &["no-such-file.wav"], 1, "no-such-file.wav"),
        (b"", &["--rate", "10"], 2, "10"),
        (b"", &["--threshold", "1.5"], 2, "1.5"),
        (b"", &["--threshold", "nine=0.5"], 1, "nine"),
        (b"", &["--calibrate", "--snr", "9,3"], 2, "9,3"),
        (b"", &["--hours", "2"], 2, "--calibrate"),
    ];
    for (sound, options, code, wanted) in cases {
        let mut command = stapes();
        command.arg("listen").arg(trained()).args(options).write_stdin(sound);
        let error = String::from_utf8(command.assert().code(code).get_output().stderr.clone()).unwrap();
        assert!(error.contains(wanted), "{options:?}: {error}");
        assert!(!error.contains("panicked"), "{error}");
    }
}

#[test]
#[cfg(not(feature = "mic"))]
fn a_program_without_microphones_says_how_to_get_one() {
    for arguments in [&["listen", trained().to_str().unwrap(), "--mic"][..], &["record", "lights", "--mic=hw:0"]] {
        let error = stapes().args(arguments).assert().code(1).get_output().stderr.clone();
        let error = String::from_utf8(error).unwrap();
        assert!(error.contains("--features mic") && error.contains("arecord -f S16_LE"), "{error}");
        assert!(error.contains(&format!("| stapes {} ", arguments[0])), "{error}");
    }
}

#[test]
fn a_stream_that_breaks_off_is_detected_until_there() {
    let whole = recording();
    let cut = &whole[..whole.len() - 20_001];
    let mut command = stapes();
    command.arg("listen").arg(trained()).args(["--threshold", "0.2", "-q"]).write_stdin(cut);
    let output = command.assert().code(1).get_output().clone();
    assert!(String::from_utf8_lossy(&output.stderr).contains("truncated"));
    assert!(!output.stdout.is_empty());
    // Samples without a header end where they end; an odd byte is left out.
    let mut command = stapes();
    command.arg("listen").arg(trained()).args(["--threshold", "0.2"]).write_stdin(&cut[44..]);
    let output = command.assert().success().get_output().clone();
    assert!(String::from_utf8_lossy(&output.stderr).contains("within a frame"));
}

#[test]
fn a_clip_shorter_than_a_window_is_detected() {
    let whole = fs::read(clip("six")).unwrap();
    assert!(!detected(&whole[8_044..20_044], &[]).is_empty());
}

#[test]
fn a_calibration_writes_a_threshold_a_curve_and_hard_negatives() {
    let folder = tempfile::tempdir().unwrap();
    let run = copy_of_run(folder.path());
    let negatives = folder.path().join("negatives");
    let mut command = stapes();
    command.arg("listen").arg(&run).args(["--calibrate", "--hours", "0.03", "--false-alarms", "100000", "--json"]);
    let report = json(command.arg("--hard-negatives").arg(&negatives));
    let curve = report["curve"].as_array().unwrap();
    let alarms: Vec<u64> = curve.iter().map(|point| point["false_alarms"].as_u64().unwrap()).collect();
    assert!(alarms.first() > alarms.last() && alarms.last() == Some(&0), "{alarms:?}");
    assert!(report["hours"].as_f64().unwrap() >= 0.03);
    assert_eq!(report["words"].as_array().unwrap().len(), 4);
    let manifest = fs::read_to_string(run.join("listen.toml")).unwrap();
    // So many false alarms are allowed that the lowest threshold is taken, and all words share it.
    assert!(manifest.contains("\nthreshold = 0.3\n") && !manifest.contains("six ="), "{manifest}");
    assert_eq!(report["chosen"]["threshold"], 0.3);
    assert!(fs::read_to_string(run.join("calibration/det.svg")).unwrap().starts_with("<svg"));
    assert!(fs::read_to_string(run.join("calibration/det.csv")).unwrap().lines().count() > 20);
    assert!(fs::read_dir(&negatives).unwrap().count() > 0);
}

#[test]
fn takes_of_a_new_word_are_cut_out_of_the_sound() {
    let folder = tempfile::tempdir().unwrap();
    let mut data: Vec<u8> = vec![0; 32_000];
    for word in ["six", "bed", "cat"] {
        data.extend(&fs::read(clip(word)).unwrap()[44..]);
        data.extend([0; 32_000]);
    }
    let record = |takes: &str| {
        let mut command = stapes();
        command.args(["record", "lights", "--speaker", "anna", "--takes", takes, "--out"]).arg(folder.path());
        command.write_stdin(data.clone()).assert()
    };
    record("2").success();
    // Numbers go on where they stopped, and too few words are an error.
    record("5").code(1);
    let mut files: Vec<String> = fs::read_dir(folder.path().join("lights"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, (1..=5).map(|n| format!("anna_nohash_{n}.wav")).collect::<Vec<_>>());
    let reader = hound::WavReader::open(folder.path().join("lights/anna_nohash_1.wav")).unwrap();
    assert_eq!((reader.spec().sample_rate, reader.duration()), (16_000, 16_000));
    for (arguments, code) in [(["record", "../up"], 2), (["record", "_silence_"], 2), (["record", "quiet"], 1)] {
        let mut command = stapes();
        let quiet = vec![0; 64_000];
        command.args(arguments).current_dir(folder.path()).write_stdin(quiet).assert().code(code);
    }
    assert!(!folder.path().join("recordings").exists(), "a folder without recordings would be a word without clips");
    let mut header = recording()[..44].to_vec();
    header[24..28].fill(0);
    let file = folder.path().join("no_rate.wav");
    fs::write(&file, header).unwrap();
    let run = trained();
    let lines = [vec!["record", "lights"], vec!["listen", run.to_str().unwrap(), "--save-triggers", "saved"]];
    for arguments in lines {
        let told = stapes().args(arguments).arg(&file).current_dir(folder.path()).assert().failure();
        let error = String::from_utf8_lossy(&told.get_output().stderr).to_string();
        assert!(error.contains("no_rate.wav: sound of 0 Hz cannot be converted"), "{error}");
    }
    assert!(!folder.path().join("saved").exists());
}
