//! `stapes listen --calibrate`: misses and false alarms on long recordings, and the threshold for a wanted rate.

use super::context::Context;
use super::ending::{Ending, usage};
use super::progress::Measuring;
use super::table::{Table, left, right};
use super::{interrupt, output, recordings};
use crate::base::name::display_path;
use crate::base::{Name, Temporary};
use crate::data::{Dataset, ExtraClasses, SHARES, SILENCE, Split, UnknownClass, UnknownFrom};
use crate::figure::{Axis, Plot, Point, Series};
use crate::listen::calibration::{
    Cause, Material, Operating, Outputs, Recording, RecordingSettings, Tally, choose, sweep,
};
use crate::listen::{Manifest, Recogniser, StreamOptions, is_word};
use crate::train::{RunFolder, TrainConfig, write_atomically};
use anyhow::{Result, anyhow, bail};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Recall at which the false alarms are reported.
const RECALL: f64 = 0.95;

/// Options of the calibration.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Calibration")]
#[group(id = "calibration")]
pub struct Args {
    /// Measure misses and false alarms on long recordings made of the run's validation and test clips, and choose the threshold.
    #[arg(long, conflicts_with_all = ["sound", "mic", "write_manifest", "save_triggers"])]
    pub calibrate: bool,
    /// Length of each recording in hours.
    #[arg(long, value_name = "H", default_value_t = 3.0, requires = "calibrate")]
    hours: f64,
    /// Smallest and largest signal-to-noise ratio of words and background, in decibels.
    #[arg(long, value_name = "LOW,HIGH", default_value = "5,25", requires = "calibrate", allow_hyphen_values = true)]
    snr: String,
    /// False alarms per hour for which the threshold is chosen.
    #[arg(long, value_name = "N", default_value_t = 1.0, requires = "calibrate")]
    false_alarms: f64,
    /// Clips of other words in the recordings: words of the data, other-words for all that are no classes, or folders [default: as in the run, else other-words].
    #[arg(long, value_name = "WORDS|DIR", value_delimiter = ',', requires = "calibrate")]
    unknown: Vec<String>,
    /// The run's own recordings, if they have been moved.
    #[arg(long, value_name = "DIR|FILE", requires = "calibrate")]
    data: Option<PathBuf>,
    /// Write what was detected and not spoken in a recording of training clips to this folder, for `train --unknown`.
    #[arg(long, value_name = "DIR", requires = "calibrate")]
    hard_negatives: Option<PathBuf>,
    /// Folder of the tables and the figure [default: calibration in the run folder].
    #[arg(long, value_name = "DIR", requires = "calibrate")]
    out: Option<PathBuf>,
}

/// The result, as JSON.
#[derive(Serialize)]
struct Report {
    hours: f64,
    snr_db: [f64; 2],
    wanted_false_alarms_per_hour: f64,
    /// On the validation recording, at the threshold that was chosen on it.
    validation: Option<Operating>,
    /// On the test recording, at this threshold.
    chosen: Operating,
    false_alarms_by_cause: Causes,
    words: Vec<Word>,
    /// On the test recording, at the highest threshold with this recall.
    at_recall: Option<Operating>,
    recall: f64,
    /// The test recording at other thresholds.
    curve: Vec<Operating>,
}

#[derive(Serialize)]
struct Causes {
    words: u64,
    other_words: u64,
    noise: u64,
}

#[derive(Serialize)]
struct Word {
    word: Name,
    spoken: u64,
    detected: u64,
    false_alarms: u64,
}

/// Everything that a calibration reads.
struct Calibration<'a> {
    args: &'a Args,
    context: &'a Context,
    recogniser: Recogniser,
    options: StreamOptions,
    data: Dataset,
    config: TrainConfig,
    snr_db: [f64; 2],
}

/// Runs the calibration of the run in `folder`.
pub fn run(args: &Args, context: &Context, run: &Path, recogniser: Recogniser, options: StreamOptions) -> Result<()> {
    let snr_db = snr(&args.snr)?;
    if !(args.hours > 0.0 && args.hours <= 1000.0) {
        return Err(usage(format!(
            "--hours {} is no length of a recording; give a number above 0 and up to 1000",
            args.hours
        )));
    }
    if !(args.false_alarms >= 0.0 && args.false_alarms.is_finite()) {
        return Err(usage(format!("--false-alarms {} is no rate; give a number from 0 on", args.false_alarms)));
    }
    if !run.is_dir() {
        bail!("{} is not a run folder; a calibration needs the clips of a run", display_path(run));
    }
    let folder = RunFolder::open(run)?;
    let config = TrainConfig::load(&folder.config())?;
    interrupt::watch()?;
    let data = open(args, context, &config)?;
    let calibration = Calibration { args, context, recogniser, options, data, config, snr_db };
    calibration.run(run)
}

/// The run's clips, with all clips of other words there are.
fn open(args: &Args, context: &Context, config: &TrainConfig) -> Result<Dataset> {
    let path = args.data.as_deref().or(config.data.as_deref());
    let own = recordings::config_of(config);
    let from: Vec<UnknownFrom> = match (&args.unknown[..], &own.extra.unknown) {
        ([], Some(unknown)) => unknown.from.clone(),
        ([], None) if has_other_words(path, &config.classes)? => vec![UnknownFrom::OtherWords],
        ([], None) => Vec::new(),
        (given, _) => given.iter().map(|entry| UnknownFrom::parse(&Name::from(entry.as_str()))).collect(),
    };
    let unknown = (!from.is_empty()).then_some(UnknownClass { from, share: SHARES.1 });
    if unknown.is_none() {
        context.remark("note: there are no clips of other words, so false alarms are detected only in noise and in the words themselves; give some with --unknown");
    }
    let extra = ExtraClasses { unknown, silence: own.extra.silence.clone() };
    recordings::open(context, path, &crate::data::DataConfig { extra, ..own })
}

fn has_other_words(path: Option<&Path>, classes: &[Name]) -> Result<bool> {
    let Some(path) = path.filter(|path| path.is_dir() && !classes.is_empty()) else { return Ok(false) };
    let mut folders = std::fs::read_dir(path)
        .map_err(|e| anyhow!("cannot read {}: {e}; check the path", display_path(path)))?
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| Name::from_os(&entry.file_name()));
    Ok(folders.any(|word| !word.as_bytes().starts_with(b"_") && !classes.contains(&word)))
}

/// The two ends of `--snr`.
fn snr(text: &str) -> Result<[f64; 2]> {
    let ends: Vec<f64> = text.split(',').filter_map(|end| end.trim().parse().ok()).collect();
    match ends[..] {
        [one] if text.split(',').count() == 1 && one.abs() <= 100.0 => Ok([one, one]),
        [low, high] if text.split(',').count() == 2 && low <= high && low >= -100.0 && high <= 100.0 => Ok([low, high]),
        _ => Err(usage(format!(
            "--snr {} is no range of decibels; give two numbers between -100 and 100, the smaller first, such as 5,25",
            crate::base::name::display(text)
        ))),
    }
}

impl Calibration<'_> {
    fn run(mut self, run: &Path) -> Result<()> {
        let detected = self.listen(Split::Validation, &self.material(Split::Validation)?)?;
        let points = sweep(&detected, &self.recogniser.manifest);
        let (manifest, validation) = choose(&points, &self.recogniser.manifest, self.args.false_alarms);
        drop(detected);
        self.recogniser.manifest = manifest.clone();
        let detected = self.listen(Split::Testing, &self.material(Split::Testing)?)?;
        let chosen = detected.tally(&manifest);
        let curve: Vec<Operating> = sweep(&detected, &manifest).into_iter().map(|(operating, _)| operating).collect();
        drop(detected);
        let mined = match &self.args.hard_negatives {
            Some(folder) => Some(self.hard_negatives(folder, &manifest)?),
            None => None,
        };
        let report = self.report(&manifest, validation, &chosen, curve);
        let path = Manifest::path_for(run);
        write_atomically(&path, manifest.to_toml().as_bytes())?;
        let out = self.args.out.clone().unwrap_or_else(|| run.join("calibration"));
        self.write(&out, &report)?;
        match self.context.json {
            true => output::json(&report)?,
            false => self.print(&report)?,
        }
        if let (Some(count), Some(folder)) = (mined, &self.args.hard_negatives) {
            self.context.remark(&format!("negatives {count} files in {}", display_path(folder)));
        }
        if report.validation.as_ref().is_some_and(|o| o.per_hour > self.args.false_alarms) {
            self.context.remark(
                "note: every threshold has more false alarms than that on validation clips; the highest is taken",
            );
        }
        self.context.remark(&format!("manifest {}", display_path(&path)));
        self.context.remark(&format!("tables   {}", display_path(&out)));
        Ok(())
    }

    /// What the recording of a split is made of.
    fn material(&self, split: Split) -> Result<Material<'_>> {
        let (data, known) = (&self.data, &self.recogniser.manifest.words);
        let class = |clip: u32| &data.classes()[data.clips()[clip as usize].class as usize];
        // The background has its noise from recordings, so that no segments of `_silence_` are needed.
        let clips: Vec<u32> =
            data.in_split(split).into_iter().filter(|&clip| class(clip).as_str() != Some(SILENCE)).collect();
        let word = |&clip: &u32| known.iter().position(|word| word == class(clip) && is_word(word));
        let words: Vec<Option<usize>> = clips.iter().map(word).collect();
        if !words.iter().any(Option::is_some) {
            bail!(
                "there are no {split} clips of the words, so nothing can be measured; give the run's recordings with --data"
            );
        }
        let samples = move |clip: usize| {
            let mut samples = vec![0.0; data.length()];
            data.samples(clips[clip] as usize).write(&mut samples);
            samples
        };
        let noise = data.background(&self.config.noise_from, split)?;
        Ok(Material { words, samples: Box::new(samples), noise })
    }

    fn settings(&self, split: Split) -> RecordingSettings {
        let rate_hz = self.recogniser.rate_hz();
        RecordingSettings {
            rate_hz,
            samples: (self.args.hours * 3600.0 * f64::from(rate_hz)) as u64,
            seed: self.context.seed.unwrap_or(1).wrapping_mul(3).wrapping_add(split as u64),
            snr_db: self.snr_db,
        }
    }

    /// Listens to the recording of a split.
    fn listen(&self, split: Split, material: &Material<'_>) -> Result<Outputs> {
        let settings = self.settings(split);
        let progress = Measuring::new(self.context);
        let minutes = |samples: u64| (samples / u64::from(settings.rate_hz) / 60) as usize;
        let mut recording = Recording::new(material, settings);
        let detected = Outputs::listen(&self.recogniser, &mut recording, &self.options, &mut |samples| {
            progress.report(&format!("minutes of {split} clips"), minutes(samples), minutes(settings.samples));
            !interrupt::requested()
        })?;
        progress.finish();
        if interrupt::requested() {
            return Err(Ending::Interrupted("the calibration was stopped; nothing was written".into()).into());
        }
        Ok(detected)
    }

    /// Writes the windows of false alarms in a recording of training clips, those in which no word of the network is spoken.
    fn hard_negatives(&self, folder: &Path, manifest: &Manifest) -> Result<usize> {
        std::fs::create_dir_all(folder)
            .map_err(|e| anyhow!("cannot create {}: {e}; check the path", display_path(folder)))?;
        let (material, settings) = (self.material(Split::Training)?, self.settings(Split::Training));
        let detected = self.listen(Split::Training, &material)?;
        let mut alarms = detected.tally(manifest).false_alarms;
        alarms.retain(|alarm| alarm.cause != Cause::Word);
        alarms.sort_by_key(|alarm| alarm.start);
        let starts: Vec<i64> = alarms.iter().map(|alarm| alarm.start).collect();
        let (mut count, mut written) = (0, Ok(()));
        detected.sounds(&mut Recording::new(&material, settings), &starts, &mut |number, sound| {
            if written.is_ok() {
                let word = &manifest.words[alarms[number].detection.word];
                let name = format!("alarm-{}-{number:05}.wav", super::listen::in_a_file_name(word));
                written = write_wav(&folder.join(name), sound, settings.rate_hz);
                count += 1;
            }
        });
        written.map(|()| count)
    }

    fn report(
        &self,
        manifest: &Manifest,
        validation: Option<Operating>,
        tally: &Tally,
        curve: Vec<Operating>,
    ) -> Report {
        let words = (0..manifest.words.len()).filter(|&class| is_word(&manifest.words[class]));
        let word = |class: usize| Word {
            word: manifest.words[class].clone(),
            spoken: tally.spoken[class],
            detected: tally.detected[class],
            false_alarms: tally.false_alarms_of(class),
        };
        let at_recall = curve.iter().rev().find(|operating| operating.missed <= 1.0 - RECALL).cloned();
        Report {
            hours: tally.hours,
            snr_db: self.snr_db,
            wanted_false_alarms_per_hour: self.args.false_alarms,
            validation,
            chosen: Operating::of(tally, Some(manifest.threshold)),
            false_alarms_by_cause: Causes {
                words: tally.caused_by(Cause::Word),
                other_words: tally.caused_by(Cause::OtherWord),
                noise: tally.caused_by(Cause::Noise),
            },
            words: words.map(word).collect(),
            at_recall,
            recall: RECALL,
            curve,
        }
    }

    fn write(&self, out: &Path, report: &Report) -> Result<()> {
        std::fs::create_dir_all(out)
            .map_err(|e| anyhow!("cannot create {}: {e}; check the path", display_path(out)))?;
        write_atomically(&out.join("calibration.json"), serde_json::to_string_pretty(report)?.as_bytes())?;
        let mut csv = String::from(
            "threshold,spoken,detected,missed,missed_low,missed_high,false_alarms,per_hour,per_hour_low,per_hour_high\n",
        );
        for o in &report.curve {
            let ([low, high], [least, most]) = (o.missed_interval, o.per_hour_interval);
            csv += &format!(
                "{:.5},{},{},{:.5},{low:.5},{high:.5},{},{:.4},{least:.4},{most:.4}\n",
                o.threshold.unwrap_or(f64::NAN),
                o.spoken,
                o.detected,
                o.missed,
                o.false_alarms,
                o.per_hour
            );
        }
        write_atomically(&out.join("det.csv"), csv.as_bytes())?;
        Ok(write_atomically(&out.join("det.svg"), figure(report).as_bytes())?)
    }

    fn print(&self, report: &Report) -> Result<()> {
        let chosen = &report.chosen;
        let columns = [left("word"), right("spoken"), right("detected"), right("missed"), right("false alarms")];
        let mut table = Table::new(columns);
        for word in &report.words {
            let missed = (word.spoken - word.detected) as f64 / word.spoken.max(1) as f64;
            table.row([
                word.word.to_string(),
                word.spoken.to_string(),
                word.detected.to_string(),
                percent(missed),
                word.false_alarms.to_string(),
            ]);
        }
        output::print(&table.to_string())?;
        let [low, high] = chosen.missed_interval;
        let [least, most] = chosen.per_hour_interval;
        let causes = &report.false_alarms_by_cause;
        let at_validation = report
            .validation
            .as_ref()
            .map_or(String::new(), |o| format!(" ({:.2} there, {} missed)", o.per_hour, percent(o.missed)));
        let mut text = format!(
            "\nOn {:.1} hours of test clips at {} to {} dB, at the threshold {:.4}, chosen on validation clips for at most {} false alarms per hour{at_validation}:\n\
             missed   {} of {} words, {} (95 % interval {} to {})\n\
             alarms   {:.2} per hour ({least:.2} to {most:.2}): {} in other words, {} in noise, {} in words of the network\n",
            report.hours,
            report.snr_db[0],
            report.snr_db[1],
            chosen.threshold.unwrap_or(f64::NAN),
            report.wanted_false_alarms_per_hour,
            chosen.spoken - chosen.detected,
            chosen.spoken,
            percent(chosen.missed),
            percent(low),
            percent(high),
            chosen.per_hour,
            causes.other_words,
            causes.noise,
            causes.words,
        );
        text += &match &report.at_recall {
            Some(o) => format!(
                "at 95 %  recall {} at the threshold {:.4}: {:.2} false alarms per hour ({:.2} to {:.2})\n",
                percent(1.0 - o.missed),
                o.threshold.unwrap_or(f64::NAN),
                o.per_hour,
                o.per_hour_interval[0],
                o.per_hour_interval[1]
            ),
            None => "at 95 %  no threshold has this recall\n".into(),
        };
        output::print_filled(&text)
    }
}

/// Misses against false alarms, the detection error trade-off.
fn figure(report: &Report) -> String {
    let point = |o: &Operating, name: String| Point {
        x: o.per_hour,
        y: o.missed * 100.0,
        interval: Some(o.missed_interval.map(|share| share * 100.0)),
        hover: format!(
            "threshold {:.4}: {:.2} false alarms per hour, {:.1} % missed",
            o.threshold.unwrap_or(f64::NAN),
            o.per_hour,
            o.missed * 100.0
        ),
        name,
        ..Point::default()
    };
    let curve = Series {
        name: "all thresholds".into(),
        points: report
            .curve
            .iter()
            .filter(|o| o.false_alarms > 0)
            .map(|o| Point { interval: None, ..point(o, String::new()) })
            .collect(),
        line: true,
        ..Series::default()
    };
    let chosen = Series {
        name: "as chosen".into(),
        points: [&report.chosen].into_iter().filter(|o| o.false_alarms > 0).map(|o| point(o, String::new())).collect(),
        marks: true,
        ..Series::default()
    };
    let plot = Plot {
        title: format!("Missed words and false alarms, {:.1} hours of test clips", report.hours),
        x: Axis::logarithmic("false alarms per hour"),
        y: Axis::linear("missed words (%)")
            .between(0.0, report.curve.iter().map(|o| o.missed * 100.0).fold(20.0, f64::max).min(100.0)),
        series: vec![curve, chosen],
        height: 300.0,
    };
    plot.to_svg()
}

/// `4.2 %`.
fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Writes sound with full scale 1 as a WAV file of 16 bits.
pub fn write_wav(path: &Path, sound: &[f32], rate_hz: u32) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || -> Result<()> {
        let mut file = Temporary::create(folder, ".sound-")?;
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: rate_hz,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::new(&mut file, spec)?;
        for x in sound {
            writer.write_sample((x * 32768.0).round_ties_even().clamp(-32768.0, 32767.0) as i16)?;
        }
        writer.finalize()?;
        file.as_file().sync_all()?;
        Ok(file.persist(path)?)
    };
    write().map_err(|e| anyhow!("cannot write {}: {e}; free some space or give another folder", display_path(path)))
}
