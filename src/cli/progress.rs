//! Progress: a bar on a terminal, plain lines in a pipe, nothing with `--quiet`.

use super::context::Context;
use super::output::note;
use super::table::{bytes, duration, thousands};
use super::width::{columns, display_width, fill};
use super::{hints, interrupt};
use crate::base::name;
use crate::data::{Source, Stage};
use crate::train::{EpochRecord, Observer, TrainConfig, loss_is_at_chance};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::OnceLock;
use std::time::Instant;

/// The message is cut where the line would exceed the terminal, so that a bar never takes two lines.
const TEMPLATE: &str = "[{bar:16}] {wide_msg}";

/// A bar on standard error; hidden where that is not a terminal, and with `--quiet`.
fn bar(context: &Context) -> ProgressBar {
    let target = if context.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(0), target);
    let style = ProgressStyle::with_template(TEMPLATE).expect("the template is a constant that a test parses");
    bar.set_style(style.progress_chars("=> "));
    bar
}

/// `, 2 min 14 s left`, as soon as it can be estimated.
fn left(bar: &ProgressBar) -> String {
    match bar.eta().as_secs_f64() {
        seconds if seconds >= 0.5 => format!(", {} left", duration(seconds)),
        _ => String::new(),
    }
}

/// Progress of reading recordings.
pub struct Reading {
    bar: ProgressBar,
    lines: bool,
    in_bytes: bool,
    source: String,
    reported: OnceLock<()>,
    reported_waiting: OnceLock<()>,
}

impl Reading {
    /// Shows nothing before the first report, so that reading from the cache is silent.
    pub fn new(context: &Context, source: &Source<'_>) -> Reading {
        let bar = bar(context);
        let lines = bar.is_hidden() && !context.quiet;
        let in_bytes = matches!(source, Source::Archive(_));
        let source = source.describe();
        Reading { bar, lines, in_bytes, source, reported: OnceLock::new(), reported_waiting: OnceLock::new() }
    }

    /// Shows that `done` of `total` clips are done; of an archive, bytes.
    pub fn report(&self, stage: Stage, done: u64, total: u64) {
        let message = match &stage {
            Stage::Waiting { lock } => format!(
                "waiting for another process that reads the same clips and has locked {}",
                name::display_path(lock)
            ),
            Stage::Reading => "reading the clips".into(),
            Stage::Checking => "checking the clips".into(),
        };
        let waiting = matches!(stage, Stage::Waiting { .. });
        let reported = if waiting { &self.reported_waiting } else { &self.reported };
        if self.lines && reported.set(()).is_ok() {
            note(&if waiting { message.clone() } else { format!("{message} of {}", self.source) });
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
        let amount = match (stage, self.in_bytes) {
            (Stage::Waiting { .. }, _) => String::new(),
            (_, true) => format!(": {} of {}", bytes(done), bytes(total)),
            (_, false) => format!(": {} of {}", thousands(done), thousands(total)),
        };
        self.bar.set_message(format!("{message}{amount}{}", left(&self.bar)));
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Progress of measuring a network.
pub struct Measuring {
    bar: ProgressBar,
}

impl Measuring {
    /// Shows something on a terminal only.
    pub fn new(context: &Context) -> Measuring {
        Measuring { bar: bar(context) }
    }

    /// Shows that `done` of `total` measurements are done, and that `next` is being measured.
    pub fn report(&self, next: &str, done: usize, total: usize) {
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
        self.bar.set_message(format!("measuring {next}, {} of {total}", done + 1));
        self.bar.tick();
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Progress of a training run.
pub struct Training {
    bar: ProgressBar,
    lines: bool,
    quiet: bool,
    epochs: u64,
    batch: u64,
    classes: usize,
    /// The steps of an epoch, once the first one is done.
    steps: u64,
    /// The time of the first step seen, and its position in the run: the origin of the rate.
    since: Option<(Instant, u64)>,
}

impl Training {
    /// For a run with this configuration on data of `classes` classes.
    pub fn new(context: &Context, config: &TrainConfig, classes: usize) -> Training {
        let bar = bar(context);
        let lines = bar.is_hidden();
        let (epochs, batch) = (config.epochs, config.batch as u64);
        Training { bar, lines, quiet: context.quiet, epochs, batch, classes, steps: 0, since: None }
    }

    /// Prints a line above the bar.
    fn line(&self, line: &str) {
        match self.lines {
            true => note(line),
            false => self.bar.println(fill(line, columns(), "  ")),
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for Training {
    fn step(&mut self, epoch: u64, step: u64, steps: u64, loss: f64) {
        self.steps = steps;
        if self.lines {
            return;
        }
        let position = (epoch - 1) * steps + step;
        let Some((start, first)) = self.since else {
            // The rate counts from the first step seen: a resumed run has not executed the steps before it.
            self.since = Some((Instant::now(), position));
            self.bar.set_length(self.epochs * steps);
            self.bar.set_position(position);
            self.bar.reset_eta();
            return;
        };
        let rate = (position - first) as f64 * self.batch as f64 / start.elapsed().as_secs_f64().max(1e-9);
        self.bar.set_position(position);
        self.bar.set_message(format!(
            "epoch {epoch}/{}, loss {loss:.3}, {} clips/s{}",
            self.epochs,
            thousands(rate.round() as u64),
            left(&self.bar)
        ));
    }

    fn epoch(&mut self, record: &EpochRecord, best: bool) {
        let line = epoch_line(record, self.epochs, best, columns());
        if self.quiet {
            return;
        }
        self.line(&line);
        if loss_is_at_chance(record, self.steps, self.classes) {
            self.line(&hints::at_chance(record.epoch));
        }
    }

    fn stop(&self) -> bool {
        interrupt::requested()
    }
}

/// Progress of a study: one bar for all runs, one line for each finished one.
pub struct Studying {
    bar: ProgressBar,
    context: Context,
    /// Set by the first step.
    start: OnceLock<()>,
}

impl Studying {
    /// For runs that have `work` left in all, in any unit.
    pub fn new(context: &Context, work: u64) -> Studying {
        let bar = bar(context);
        bar.set_length(work);
        Studying { bar, context: context.clone(), start: OnceLock::new() }
    }

    /// Prints a line above the bar.
    pub fn line(&self, line: &str) {
        match self.bar.is_hidden() {
            true => self.context.remark(line),
            false => self.bar.println(fill(line, columns(), "  ")),
        }
    }

    /// The observer of one run that has `work` left, of which `epochs` are to be done after the first `done`.
    pub fn run(&self, name: &str, work: u64, done: u64, epochs: u64) -> StudiedRun<'_> {
        StudiedRun { study: self, name: name.into(), work, done, epochs, counted: 0 }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Progress of a run of a study.
pub struct StudiedRun<'a> {
    study: &'a Studying,
    name: String,
    work: u64,
    /// Epochs that were complete at the start.
    done: u64,
    epochs: u64,
    /// What the bar has of this run.
    counted: u64,
}

impl StudiedRun<'_> {
    /// Counts the work of a run that is over, or that has ended before its last epoch.
    pub fn finish(&mut self) {
        self.study.bar.inc(self.work - self.counted);
        self.counted = self.work;
    }
}

impl Observer for StudiedRun<'_> {
    fn step(&mut self, epoch: u64, step: u64, steps: u64, _: f64) {
        if self.study.start.set(()).is_ok() {
            // Reading the recordings is not part of the rate.
            self.study.bar.reset_eta();
        }
        let all = (self.epochs - self.done).max(1) * steps.max(1);
        let position = (epoch - 1).saturating_sub(self.done) * steps + step;
        let reached = (u128::from(self.work) * u128::from(position.min(all)) / u128::from(all)) as u64;
        if reached > self.counted {
            self.study.bar.inc(reached - self.counted);
            self.counted = reached;
        }
        let bar = &self.study.bar;
        bar.set_message(format!("{}, epoch {epoch}/{}{}", self.name, self.epochs, left(bar)));
    }

    fn epoch(&mut self, _: &EpochRecord, _: bool) {}

    fn stop(&self) -> bool {
        interrupt::requested()
    }
}

/// `epoch  3/20  loss 1.234  accuracy 0.512  validation 0.634 best  6.1 s  1,512 clips/s`, without the figures that matter least
/// where `width` columns do not hold them all.
fn epoch_line(record: &EpochRecord, epochs: u64, best: bool, width: usize) -> String {
    let digits = epochs.to_string().len();
    let validation = |accuracy: f64| format!("  validation {accuracy:.3}{}", if best { " best" } else { "     " });
    // In the order of display, each with its rank of importance.
    let parts = [
        (0, format!("epoch {:>digits$}/{epochs}  loss {:.3}", record.epoch, record.train_loss)),
        (2, format!("  accuracy {:.3}", record.train_accuracy)),
        (1, record.validation_accuracy.map_or(String::new(), validation)),
        (3, format!("  {}", duration(record.seconds))),
        (4, format!("  {} clips/s", thousands(record.clips_per_second.round() as u64))),
    ];
    let used =
        |rank: usize| parts.iter().filter(|part| part.0 <= rank).map(|part| display_width(&part.1)).sum::<usize>();
    let most = (0..parts.len()).rev().find(|&rank| used(rank) <= width).unwrap_or(0);
    let line: String = parts.iter().filter(|part| part.0 <= most).map(|part| part.1.as_str()).collect();
    line.trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_can_be_parsed() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
    }

    #[test]
    fn an_epoch_is_one_line_of_the_terminal() {
        let record = |epoch, loss, seconds, rate| EpochRecord {
            epoch,
            train_loss: loss,
            train_accuracy: 0.5,
            validation_loss: Some(1.0),
            validation_accuracy: Some(0.634),
            lr: 1e-3,
            seconds,
            clips_per_second: rate,
            weights: String::new(),
        };
        let usual = record(3, 1.2344, 6.12, 1512.3);
        let line = "epoch  3/20  loss 1.234  accuracy 0.500  validation 0.634 best  6.1 s";
        assert_eq!(epoch_line(&usual, 20, true, 80), line);
        assert_eq!(epoch_line(&usual, 20, true, 100), format!("{line}  1,512 clips/s"));
        for (record, epochs) in
            [(usual, 20), (record(999, 123.4, 3000.0, 12345.0), 1000), (record(9, 9.0, 1e5, 1.0), 9)]
        {
            for (width, best) in [(80, true), (80, false), (60, false), (100, true)] {
                let line = epoch_line(&record, epochs, best, width);
                assert!(display_width(&line) <= width && line.contains("validation"), "{width}: {line}");
            }
        }
    }
}
