//! `stapes listen`: recognises words in a long recording, or in a stream of sound as it arrives.

use super::context::Context;
use super::ending::{Ending, usage};
use super::sound::{self, Source};
use super::table::count;
use super::{calibrate, interrupt, output};
use crate::base::Name;
use crate::base::name::{display, display_path};
use crate::listen::{Event, Manifest, Recogniser, Stream, StreamOptions, is_word};
use crate::train::write_atomically;
use anyhow::{Result, anyhow};
use std::path::{Path, PathBuf};
use std::time::Instant;

const EXAMPLES: &str = "\
Examples:
  arecord -f S16_LE -r 16000 -t raw | stapes listen runs/NAME
  stapes listen runs/NAME --mic                     the microphone, with the Cargo feature `mic`
  stapes listen runs/NAME meeting.flac
  stapes listen runs/NAME meeting.flac --threshold 0.95 --threshold no=0.99
  stapes listen runs/NAME --write-manifest          then change the thresholds in runs/NAME/listen.toml
  stapes listen runs/NAME meeting.wav --save-triggers triggers --json
  stapes listen runs/NAME --calibrate --hours 3 --false-alarms 0.5
  stapes listen runs/NAME --calibrate --hard-negatives negatives   then stapes train --unknown other-words,./negatives

Prints a line for each spoken word: start and end in seconds, the word and its probability, separated by tabs (with --json one object per line).
The sound may have any length, sample rate and number of channels. Standard input may be a WAV, FLAC or Ogg Vorbis file, or 16-bit little-endian samples of one channel without a header.

The network is computed on a window of the last second every hop_ms milliseconds; the convolutions of overlapping windows are shared. Probabilities are averaged over smoothing_ms. A word is decided \
decision_ms after its probability reaches the threshold, and no other word within refractory_ms. A network that was trained on words only takes every sound for one of them: \
train it with --unknown and --silence before it listens.

--calibrate builds two long recordings from the run's validation and test clips, clips of other words and background noise, and listens to them as to any stream. It chooses the threshold of all words \
with which there are at most --false-alarms per hour in the first, writes it to listen.toml, and reports missed words and false alarms in the second with 95 % intervals, as a table and a figure.";

/// Options of `stapes listen`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder of a run, or a .safetensors file.
    run: PathBuf,
    #[command(flatten)]
    sound: sound::Args,
    /// Sample rate of samples without a header, in hertz [default: that of the network].
    #[arg(long, value_name = "HZ", conflicts_with = "mic", value_parser = clap::value_parser!(u32).range(1_000..=768_000))]
    rate: Option<u32>,
    /// Least averaged probability of all words, or of one; may be given several times.
    #[arg(long, value_name = "P|WORD=P")]
    threshold: Vec<String>,
    /// Settings of the detection [default: listen.toml in the run folder, if it is there].
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Write the settings to the manifest and end; thresholds that are given are part of them.
    #[arg(long, conflicts_with_all = ["sound", "mic", "save_triggers"])]
    write_manifest: bool,
    /// Save the window of each event as a WAV file in this folder.
    #[arg(long, value_name = "DIR")]
    save_triggers: Option<PathBuf>,
    /// Compute every window by itself, to compare the time.
    #[arg(long)]
    no_sharing: bool,
    #[command(flatten)]
    calibration: calibrate::Args,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let path = args.manifest.clone().unwrap_or_else(|| Manifest::path_for(&args.run));
    let mut recogniser = Recogniser::load_with(&args.run, args.manifest.as_deref().filter(|_| !args.write_manifest))?;
    for threshold in &args.threshold {
        set_threshold(&mut recogniser.manifest, threshold)?;
    }
    recogniser.manifest.check()?;
    if args.write_manifest {
        write_atomically(&path, recogniser.manifest.to_toml().as_bytes())?;
        return output::print_filled(&format!("manifest {}\n", display_path(&path)));
    }
    if !args.calibration.calibrate && recogniser.manifest.words.iter().all(is_word) {
        context.remark(
            "note: this network knows only words, and takes every other sound for one of them; train with --unknown and --silence for a network that listens",
        );
    }
    let options = StreamOptions { share: !args.no_sharing, isa: Some(context.isa), ..StreamOptions::default() };
    if args.calibration.calibrate {
        return calibrate::run(&args.calibration, context, &args.run, recogniser, options);
    }
    let raw_hz = args.rate.unwrap_or(recogniser.rate_hz());
    let mut sound = Source::open(&args.sound, raw_hz, "stapes listen RUN")?;
    let stream =
        recogniser.stream_with(sound.rate_hz(), &options).map_err(|error| anyhow!("{}: {error}", sound.name()))?;
    if let Some(folder) = &args.save_triggers {
        std::fs::create_dir_all(folder)
            .map_err(|e| anyhow!("cannot create {}: {e}; check the path", display_path(folder)))?;
    }
    if context.verbose {
        context.remark(&describe(&recogniser, &stream));
    }
    let listener = Listener { args, context, rate_hz: recogniser.rate_hz(), events: 0 };
    interrupt::watch()?;
    if let Some(remark) = sound.remark_at_start() {
        context.remark(&remark);
    }
    listener.run(&mut sound, stream)
}

/// Sets the threshold that an option names.
fn set_threshold(manifest: &mut Manifest, option: &str) -> Result<()> {
    let number = |text: &str| {
        let value = text.parse::<f64>().ok().filter(|p| *p > 0.0 && *p <= 1.0);
        value.ok_or_else(|| {
            usage(format!(
                "--threshold {} is no probability above 0 and up to 1; give for instance 0.9",
                display(option)
            ))
        })
    };
    match option.rsplit_once('=') {
        None => {
            manifest.threshold = number(option)?;
            manifest.thresholds.clear();
        }
        Some((word, value)) => {
            let word = Name::parse(word).map_err(|e| usage(e.to_string()))?;
            manifest.thresholds.insert(word, number(value)?);
        }
    }
    Ok(())
}

/// What is computed, in a line.
fn describe(recogniser: &Recogniser, stream: &Stream) -> String {
    let (sharing, rate) = (stream.sharing(), f64::from(recogniser.rate_hz()));
    let macs = sharing.macs_per_second(recogniser.rate_hz()) / 1e6;
    let alone = stream.macs_per_second_alone() / 1e6;
    format!(
        "listen   a window every {:.2} ms, {macs:.0} million MACs per second of sound, {alone:.0} million without sharing",
        sharing.hop as f64 / rate * 1000.0
    )
}

/// A stream that is being listened to.
struct Listener<'a> {
    args: &'a Args,
    context: &'a Context,
    /// The network's rate.
    rate_hz: u32,
    events: u64,
}

impl Listener<'_> {
    fn run(mut self, sound: &mut Source, mut stream: Stream) -> Result<()> {
        let (mut samples, mut busy) = (Vec::new(), 0.0);
        // A stream that breaks off has been detected until there.
        let mut broken = None;
        loop {
            samples.clear();
            let more = match sound.read(&mut samples) {
                Ok(more) => more,
                Err(error) => {
                    broken = Some(error);
                    false
                }
            };
            let begun = Instant::now();
            let events = stream.push(&samples)?;
            busy += begun.elapsed().as_secs_f64();
            self.report(&events)?;
            if !more || interrupt::requested() {
                break;
            }
        }
        let begun = Instant::now();
        let events = stream.finish()?;
        busy += begun.elapsed().as_secs_f64();
        self.report(&events)?;
        if let Some(remark) = sound.left_out() {
            self.context.remark(&remark);
        }
        let seconds = sound.seconds();
        self.context.remark(&format!(
            "{} in {seconds:.1} s of sound, computed in {busy:.2} s ({:.0} times as fast as it lasts)",
            count(self.events, "word"),
            seconds / busy.max(1e-9)
        ));
        match broken {
            Some(error) => Err(error),
            None if interrupt::requested() => Err(Ending::Interrupted("stopped listening".into()).into()),
            None => Ok(()),
        }
    }

    /// Prints events and saves their sound.
    fn report(&mut self, events: &[Event]) -> Result<()> {
        for event in events {
            self.events += 1;
            if let Some(folder) = &self.args.save_triggers {
                self.save(folder, event)?;
            }
            match self.context.json {
                true => output::json_line(event)?,
                false => output::line(&format!(
                    "{:.2}\t{:.2}\t{}\t{:.3}",
                    event.start, event.end, event.word, event.probability
                ))?,
            }
        }
        Ok(())
    }

    /// Writes the window of an event as a WAV file.
    fn save(&self, folder: &Path, event: &Event) -> Result<()> {
        let name = format!("{:06}-{}-{:.2}s.wav", self.events, in_a_file_name(&event.word), event.start);
        calibrate::write_wav(&folder.join(name), &event.sound, self.rate_hz)
    }
}

/// A word as a part of a file's name.
pub fn in_a_file_name(word: &Name) -> String {
    word.to_string().chars().map(|c| if c.is_alphanumeric() || "-_".contains(c) { c } else { '_' }).collect()
}
