//! `stapes record`: recordings of a new word, cut out of the sound of a microphone.

use super::context::Context;
use super::ending::{Ending, usage};
use super::sound::{self, Source};
use super::table::count;
use super::{calibrate, interrupt, output};
use crate::base::Name;
use crate::base::name::display_path;
use crate::listen::{Take, TakeFinder};
use anyhow::{Result, anyhow};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  arecord -f S16_LE -r 16000 -t raw | stapes record lights --takes 20
  arecord -f S16_LE -r 16000 -t raw | stapes record lights --takes 20 --speaker anna --out my-words
  stapes record lights --mic --takes 20      the microphone, with the Cargo feature `mic`
  stapes record lights all-takes.wav

Speak the word again and again, with a pause of half a second after each. Every word is written as a WAV file of one second with the word in its middle, OUT/WORD/SPEAKER_nohash_N.wav, as `stapes train --data OUT` \
reads it. Clips of one speaker stay together when the clips are divided into training, validation and test clips, so several people should speak.";

/// Options of `stapes record`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The word that is spoken; the folder of its recordings has this name.
    word: String,
    #[command(flatten)]
    sound: sound::Args,
    /// Number of recordings after which the command ends [default: until the sound ends].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    takes: Option<u32>,
    /// Folder with a folder for each word.
    #[arg(long, short, value_name = "DIR", default_value = "recordings")]
    out: PathBuf,
    /// Name of the person who speaks.
    #[arg(long, value_name = "NAME", default_value = "me")]
    speaker: String,
    /// Sample rate of the recordings, and of samples without a header, in hertz.
    #[arg(long, value_name = "HZ", default_value_t = 16_000, value_parser = clap::value_parser!(u32).range(1_000..=768_000))]
    rate: u32,
    /// Length of the recordings in seconds.
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    seconds: f64,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let simple = |text: &str| {
        !text.is_empty() && !text.starts_with(['.', '_']) && !text.contains(['/', '\\', '\0']) && text.len() <= 100
    };
    if !simple(&args.word) {
        return Err(usage(
            "the word is the name of a folder; give one without slashes that does not begin with a dot or an underscore",
        ));
    }
    if !simple(&args.speaker) || args.speaker.contains("_nohash_") {
        return Err(usage(
            "--speaker is part of the files' names; give a name without slashes and without `_nohash_` that does not begin with a dot or an underscore",
        ));
    }
    if !(0.1..=60.0).contains(&args.seconds) {
        return Err(usage(format!("--seconds {} is no length of a word; give a number from 0.1 to 60", args.seconds)));
    }
    let mut sound = Source::open(&args.sound, args.rate, "stapes record WORD")?;
    let mut rate = crate::listen::RateConverter::new(sound.rate_hz(), args.rate)
        .map_err(|error| anyhow!("{}: {error}", sound.name()))?;
    let folder = args.out.join(&args.word);
    let made = [&folder, &args.out].into_iter().filter(|folder| !folder.exists()).cloned().collect();
    std::fs::create_dir_all(&folder)
        .map_err(|e| anyhow!("cannot create {}: {e}; check the path", display_path(&folder)))?;
    let window = (args.seconds * f64::from(args.rate)).round() as usize;
    let mut finder = TakeFinder::new(args.rate, window);
    let mut recorder = Recorder { args, context, folder, made, count: 0, next: 1 };
    let meter = !context.quiet && !context.json && std::io::stderr().is_terminal();
    interrupt::watch()?;
    if let Some(remark) = sound.remark_at_start() {
        context.remark(&remark);
    }
    let (mut samples, mut converted) = (Vec::new(), Vec::new());
    let mut broken = None;
    while !recorder.done() && !interrupt::requested() {
        samples.clear();
        converted.clear();
        let more = match sound.read(&mut samples) {
            Ok(more) => more,
            Err(error) => {
                broken = Some(error);
                false
            }
        };
        rate.push(&samples, &mut converted)?;
        for take in finder.push(&converted) {
            recorder.write(&take)?;
        }
        if meter {
            show_level(finder.level_db());
        }
        if !more {
            break;
        }
    }
    converted.clear();
    rate.finish(&mut converted)?;
    for take in finder.push(&converted) {
        recorder.write(&take)?;
    }
    for take in finder.finish() {
        recorder.write(&take)?;
    }
    recorder.end(&sound, broken)
}

/// Writes takes.
struct Recorder<'a> {
    args: &'a Args,
    context: &'a Context,
    folder: PathBuf,
    /// The folders that were not there before, the innermost first.
    made: Vec<PathBuf>,
    count: u32,
    /// The number that the next file may have.
    next: u32,
}

impl Recorder<'_> {
    fn done(&self) -> bool {
        self.args.takes.is_some_and(|takes| self.count >= takes)
    }

    fn write(&mut self, take: &Take) -> Result<()> {
        if self.done() {
            return Ok(());
        }
        let path = loop {
            let path = self.folder.join(format!("{}_nohash_{}.wav", self.args.speaker, self.next));
            self.next += 1;
            if !path.exists() {
                break path;
            }
        };
        calibrate::write_wav(&path, &take.samples, self.args.rate)?;
        self.count += 1;
        let (seconds, peak_db) =
            (take.length as f64 / f64::from(self.args.rate), 20.0 * f64::from(take.peak.max(1e-6)).log10());
        let remark = match take {
            Take { too_long: true, .. } => "longer than the recording, and cut off; give --seconds",
            Take { peak, .. } if *peak >= 0.99 => "too loud: the sound is clipped",
            Take { peak, .. } if *peak < 0.02 => "very quiet",
            _ => "",
        };
        if self.context.json {
            return output::json_line(&serde_json::json!({
                "file": Name::from_os(path.as_os_str()), "seconds": seconds, "peak_db": peak_db, "remark": remark,
            }));
        }
        let remark = if remark.is_empty() { String::new() } else { format!("\t{remark}") };
        output::line(&format!("{}\t{seconds:.2} s\t{peak_db:.1} dB{remark}", Name::from_os(path.as_os_str())))
    }

    fn end(&self, sound: &Source, broken: Option<anyhow::Error>) -> Result<()> {
        if let Some(remark) = sound.left_out() {
            self.context.remark(&remark);
        }
        self.context.remark(&format!("{} in {}", count(self.count.into(), "recording"), display_path(&self.folder)));
        if self.count == 0 {
            // An empty folder would be a word without clips.
            self.made.iter().for_each(|folder| _ = std::fs::remove_dir(folder));
        }
        if let Some(error) = broken {
            return Err(error);
        }
        if interrupt::requested() {
            return Err(Ending::Interrupted("stopped recording".into()).into());
        }
        match (self.args.takes, self.count) {
            (_, 0) => {
                Err(anyhow!("{} has no word that stands out from its background; speak louder or nearer", sound.name()))
            }
            (Some(takes), have) if have < takes => Err(anyhow!(
                "{} ended after {have} of {takes} recordings; run the command again for the rest",
                sound.name()
            )),
            _ => Ok(()),
        }
    }
}

/// Writes the level over the last one on standard error: from -60 dB to full scale.
fn show_level(level_db: f64) {
    let filled = ((level_db + 60.0) / 60.0 * 30.0).clamp(0.0, 30.0) as usize;
    let text = format!("\r{}{} {level_db:>6.1} dB ", "#".repeat(filled), "-".repeat(30 - filled));
    _ = std::io::stderr().lock().write_all(text.as_bytes());
}
