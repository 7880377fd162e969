//! `--mic` with ALSA itself: an ALSA plugin stands for the microphone, so that no sound card is needed.
//!
//! The plugin is compiled by the test. Where there is no C compiler, or ALSA does not load the plugin, the tests say so and check nothing.

#![cfg(target_os = "linux")]

mod program;

use assert_cmd::Command;
use program::*;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(120);

/// Two words in 44.1 kHz and two channels, the second more quietly, and silence after each.
fn spoken() -> Vec<i16> {
    let mut samples: Vec<f64> = Vec::new();
    for word in ["six", "bed"] {
        let bytes = fs::read(clip(word)).unwrap();
        samples.extend(bytes[44..].chunks_exact(2).map(|b| f64::from(i16::from_le_bytes(b.try_into().unwrap()))));
        samples.extend([0.0; 16_000]);
    }
    let at = |i: usize| samples.get(i).copied().unwrap_or(0.0);
    let resampled = (0..samples.len() * 441 / 160).flat_map(|i| {
        let (index, part) = (i * 160 / 441, (i * 160 % 441) as f64 / 441.0);
        let value = at(index) * (1.0 - part) + at(index + 1) * part;
        [value as i16, (value / 2.0) as i16]
    });
    resampled.collect()
}

/// The folder of the plugin, of its sound in a raw and a WAV file, and of the configuration of ALSA. Nothing if there cannot be one here.
fn home() -> Option<&'static Path> {
    static HOME: OnceLock<Option<tempfile::TempDir>> = OnceLock::new();
    let make = || {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/microphone/plugin.c");
        let mut compiler = std::process::Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-o"]).arg(at("plugin.so")).arg(source).arg("-lasound");
        match compiler.output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                println!("skipped: the plugin was not compiled: {}", String::from_utf8_lossy(&output.stderr));
                return None;
            }
            Err(error) => {
                println!("skipped: there is no C compiler: {error}");
                return None;
            }
        }
        let samples = spoken();
        fs::write(at("sound.raw"), samples.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>())
            .unwrap();
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 44_100,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut wav = hound::WavWriter::create(at("sound.wav"), spec).unwrap();
        samples.iter().for_each(|sample| wav.write_sample(*sample).unwrap());
        wav.finalize().unwrap();
        let mut text = format!("pcm_type.clip {{ lib \"{}\" }}\n", at("plugin.so").display());
        let devices = [("!default", ""), ("gone", "end gone"), ("hangs", "end hangs"), ("overruns", "overrun 60000")];
        for (name, more) in devices {
            let file = at("sound.raw");
            text += &format!("pcm.{name} {{ type clip; file \"{}\"; {more} }}\n", file.display());
        }
        text += "pcm.nothing { type hw; card 31 }\n";
        fs::write(at(".asoundrc"), text).unwrap();
        // Some builds of ALSA load no plugins from here.
        let probe = ["record", "probe", "--mic=gone", "--out"];
        let probe = with_alsa(folder.path()).args(probe).arg(folder.path()).output().unwrap();
        let error = String::from_utf8_lossy(&probe.stderr);
        if error.contains("cannot open the microphone gone") {
            println!("skipped: ALSA does not load the plugin: {error}");
            return None;
        }
        Some(folder)
    };
    HOME.get_or_init(make).as_ref().map(tempfile::TempDir::path)
}

fn with_alsa(home: &Path) -> Command {
    let mut command = stapes();
    command.env("HOME", home).env_remove("XDG_CONFIG_HOME").env_remove("ALSA_CONFIG_PATH");
    command
}

fn listen(home: &Path, more: &[&str]) -> Command {
    let mut command = with_alsa(home);
    command.arg("listen").arg(trained()).args(["--threshold", "0.2"]).args(more);
    command
}

/// The words that are detected in the same sound as a file.
fn words_of_the_file(home: &Path, more: &[&str]) -> Vec<String> {
    let output = listen(home, more).arg(home.join("sound.wav")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let words: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(Into::into).collect();
    assert!(words.len() >= 2, "{words:?}");
    words
}

/// A command that listens to a microphone.
struct Listening {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Listening {
    fn begin(command: &Command) -> Listening {
        let mut child = spawn(command);
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Listening { child, lines }
    }

    /// Waits for so many lines.
    fn lines(&mut self, count: usize) -> Vec<String> {
        let lines: Result<Vec<String>, _> = (0..count).map(|_| self.lines.recv_timeout(LONG)).collect();
        lines.unwrap_or_else(|_| {
            _ = self.child.kill();
            panic!("fewer than {count} lines; standard error: {}", self.errors())
        })
    }

    fn errors(&mut self) -> String {
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Waits until it ends by itself: the lines that are left, standard error, and how it ended.
    fn end(mut self) -> (Vec<String>, String, ExitStatus) {
        let errors = self.errors();
        (self.lines.iter().collect(), errors, self.child.wait().unwrap())
    }
}

/// The files of a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_microphone_gives_the_words_of_the_same_sound_in_a_file_until_it_is_interrupted() {
    let Some(home) = home() else { return };
    let saved = tempfile::tempdir().unwrap();
    let wanted = words_of_the_file(home, &["--json"]);
    let mut listening =
        Listening::begin(&listen(home, &["--json", "--mic", "--save-triggers", saved.path().to_str().unwrap()]));
    assert_eq!(listening.lines(wanted.len()), wanted);
    interrupt(&listening.child);
    let (more, errors, status) = listening.end();
    assert!(more.is_empty() && status.code() == Some(130), "{more:?} {errors}");
    assert!(errors.contains("the microphone default, 44100 Hz, 2 channels"), "{errors}");
    assert!(!errors.contains("ALSA lib") && !errors.contains("sound is missing"), "{errors}");
    assert_eq!(files(saved.path()).len(), wanted.len());
}

#[test]
fn a_microphone_that_vanishes_ends_with_a_sentence_and_complete_files() {
    let Some(home) = home() else { return };
    let saved = tempfile::tempdir().unwrap();
    let wanted = words_of_the_file(home, &[]);
    let listening =
        Listening::begin(&listen(home, &["--mic=gone", "-q", "--save-triggers", saved.path().to_str().unwrap()]));
    let (words, errors, status) = listening.end();
    assert_eq!((words, status.code()), (wanted.clone(), Some(1)), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(errors.contains("the microphone gone stopped: it is not connected"), "{errors}");
    let saved = files(saved.path());
    assert_eq!(saved.len(), wanted.len());
    for file in saved {
        assert_eq!(hound::WavReader::open(&file).unwrap().duration(), 16_000, "{}", file.display());
    }
}

#[test]
fn a_microphone_that_hangs_without_an_error_ends_too() {
    let Some(home) = home() else { return };
    let wanted = words_of_the_file(home, &[]);
    let (words, errors, status) = Listening::begin(&listen(home, &["--mic=hangs", "-q"])).end();
    assert_eq!((words, status.code()), (wanted, Some(1)), "{errors}");
    assert!(errors.lines().count() == 1 && errors.contains("has sent no sound for"), "{errors}");
}

#[test]
fn listening_goes_on_after_an_overrun() {
    let Some(home) = home() else { return };
    let wanted = words_of_the_file(home, &[]);
    let mut listening = Listening::begin(&listen(home, &["--mic=overruns"]));
    assert_eq!(listening.lines(wanted.len()), wanted);
    interrupt(&listening.child);
    let (_, errors, status) = listening.end();
    assert_eq!(status.code(), Some(130), "{errors}");
    assert!(errors.contains("overran once"), "{errors}");
}

/// ALSA's device without sound delivers zeros as fast as they are read.
#[test]
fn sound_that_arrives_too_fast_is_counted() {
    let Some(home) = home() else { return };
    let mut listening = Listening::begin(&listen(home, &["--mic=null"]));
    read_until(&mut listening.child, "Ctrl-C ends");
    std::thread::sleep(Duration::from_secs(1));
    interrupt(&listening.child);
    let (words, errors, status) = listening.end();
    assert!(words.is_empty() && status.code() == Some(130), "{words:?} {errors}");
    assert!(errors.contains("of sound arrived faster than they could be processed"), "{errors}");
}

#[test]
fn takes_of_a_word_are_recorded_from_a_microphone() {
    let Some(home) = home() else { return };
    let out = tempfile::tempdir().unwrap();
    let mut record = with_alsa(home);
    record.args(["record", "lights", "--mic", "--takes", "1", "--out"]).arg(out.path());
    let output = record.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let reader = hound::WavReader::open(out.path().join("lights/me_nohash_1.wav")).unwrap();
    assert_eq!((reader.spec().sample_rate, reader.spec().channels, reader.duration()), (16_000, 1, 16_000));
}

#[test]
fn a_microphone_that_is_not_there_is_one_sentence() {
    let Some(home) = home() else { return };
    let error = |home: &Path, device: &str, code: i32| {
        let output = listen(home, &["-q", device]).assert().code(code).get_output().stderr.clone();
        let text = String::from_utf8(output).unwrap();
        assert!(code == 2 || text.lines().count() == 1, "{text}");
        text
    };
    let unknown = error(home, "--mic=no-such-device", 1);
    assert!(unknown.contains("no microphone no-such-device") && unknown.contains("default, "), "{unknown}");
    assert!(unknown.contains("overruns") && !unknown.contains("null"), "{unknown}");
    let unusable = error(home, "--mic=nothing", 1);
    assert!(unusable.contains("cannot open the microphone nothing"), "{unusable}");
    // A machine without any device, and one whose ALSA has no configuration.
    let empty = tempfile::tempdir().unwrap();
    fs::write(empty.path().join(".asoundrc"), "pcm.!default { type hw; card 31 }\n").unwrap();
    let none = error(empty.path(), "--mic", 1);
    assert!(none.contains("there is no microphone;") && none.contains("arecord -f S16_LE"), "{none}");
    let mut command = listen(empty.path(), &["-q", "--mic"]);
    let output =
        command.env("ALSA_CONFIG_PATH", empty.path().join("no-such-file")).assert().code(1).get_output().clone();
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no microphone"), "{output:?}");
    let mut both = listen(home, &["--mic", "sound.wav"]);
    both.assert().code(2);
}
