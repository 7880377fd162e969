//! Progress: a bar on a terminal, plain lines in a pipe, nothing with `-q`.

use super::context::Context;
use super::interrupt;
use super::output::note;
use super::table::{duration, thousands};
use crate::data::{Source, Stage};
use crate::train::{EpochRecord, Observer};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::OnceLock;
use std::time::Instant;

/// A bar on standard error; hidden where that is no terminal, and with `-q`.
fn bar(context: &Context, template: &str) -> ProgressBar {
    let target = if context.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(0), target);
    let style = ProgressStyle::with_template(template).expect("the templates are constants that the tests draw");
    bar.set_style(style.progress_chars("=> "));
    bar
}

const CLIPS: &str = "{msg} [{bar:24}] {pos}/{len} clips, {per_sec}, {eta} left";
const BYTES: &str = "{msg} [{bar:24}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
const MEASURING: &str = "measuring [{bar:24}] {pos}/{len} {msg}";
const STEPS: &str = "epoch {prefix} [{bar:24}] {pos}/{len} steps, {msg}, {eta} left";

/// Progress of reading recordings.
pub struct Reading {
    bar: ProgressBar,
    lines: bool,
    source: String,
    said: OnceLock<()>,
    said_waiting: OnceLock<()>,
}

impl Reading {
    /// Nothing is shown before the first report: reading from the cache has none.
    pub fn new(context: &Context, source: &Source<'_>) -> Reading {
        let bar = bar(context, if matches!(source, Source::Archive(_)) { BYTES } else { CLIPS });
        let lines = bar.is_hidden() && !context.quiet;
        Reading { bar, lines, source: source.describe(), said: OnceLock::new(), said_waiting: OnceLock::new() }
    }

    /// So much of so much is done.
    pub fn report(&self, stage: Stage, done: u64, total: u64) {
        let message = match stage {
            Stage::Waiting => "waiting for another process that reads the same clips",
            Stage::Reading => "reading the clips",
            Stage::Checking => "checking the clips",
        };
        let said = if stage == Stage::Waiting { &self.said_waiting } else { &self.said };
        if self.lines && said.set(()).is_ok() {
            note(&format!("{message} of {}", self.source));
        }
        self.bar.set_message(message);
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Progress of measuring a network.
pub struct Measuring {
    bar: ProgressBar,
}

impl Measuring {
    /// Shown on a terminal only.
    pub fn new(context: &Context) -> Measuring {
        Measuring { bar: bar(context, MEASURING) }
    }

    /// So much of so much is done, and this comes next.
    pub fn report(&self, next: &str, done: usize, total: usize) {
        self.bar.set_length(total as u64);
        self.bar.set_position(done as u64);
        self.bar.set_message(next.to_string());
        self.bar.tick();
    }

    /// Takes the bar away.
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
    /// Start and steps since then, for the rate.
    since: Option<(Instant, u64)>,
}

impl Training {
    /// Of a run of so many epochs of batches of so many clips.
    pub fn new(context: &Context, epochs: u64, batch: usize) -> Training {
        let bar = bar(context, STEPS);
        let lines = bar.is_hidden();
        Training { bar, lines, quiet: context.quiet, epochs, batch: batch as u64, since: None }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Observer for Training {
    fn step(&mut self, epoch: u64, step: u64, steps: u64, loss: f64) {
        if self.lines {
            return;
        }
        let position = (epoch - 1) * steps + step;
        let Some((start, first)) = self.since else {
            // The rate counts from the first step seen: a resumed run has not done what lies before.
            self.since = Some((Instant::now(), position));
            self.bar.set_length(self.epochs * steps);
            self.bar.set_position(position);
            self.bar.reset_eta();
            return;
        };
        let rate = (position - first) as f64 * self.batch as f64 / start.elapsed().as_secs_f64().max(1e-9);
        self.bar.set_prefix(format!("{epoch}/{}", self.epochs));
        self.bar.set_message(format!("loss {loss:.3}, {} clips/s", thousands(rate.round() as u64)));
        self.bar.set_position(position);
    }

    fn epoch(&mut self, record: &EpochRecord, best: bool) {
        let line = epoch_line(record, self.epochs, best);
        if self.quiet {
            return;
        }
        if self.lines { note(&line) } else { self.bar.println(line) }
    }

    fn stop(&self) -> bool {
        interrupt::requested()
    }
}

/// `epoch  3/20  loss 1.234  accuracy 0.512  validation 0.634 (best)  6.1 s  512 clips/s`
fn epoch_line(record: &EpochRecord, epochs: u64, best: bool) -> String {
    let width = epochs.to_string().len();
    let mut line = format!(
        "epoch {:>width$}/{epochs}  loss {:.3}  accuracy {:.3}",
        record.epoch, record.train_loss, record.train_accuracy
    );
    if let Some(accuracy) = record.validation_accuracy {
        line += &format!("  validation {accuracy:.3}{}", if best { " best" } else { "     " });
    }
    let rate = thousands(record.clips_per_second.round() as u64);
    line + &format!("  {}  {rate} clips/s", duration(record.seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_can_be_drawn() {
        for template in [CLIPS, BYTES, MEASURING, STEPS] {
            ProgressStyle::with_template(template).unwrap();
        }
    }

    #[test]
    fn an_epoch_is_one_line() {
        let record = EpochRecord {
            epoch: 3,
            train_loss: 1.2344,
            train_accuracy: 0.5,
            validation_loss: Some(1.0),
            validation_accuracy: Some(0.634),
            lr: 1e-3,
            seconds: 6.12,
            clips_per_second: 1512.3,
            weights: String::new(),
        };
        let line = "epoch  3/20  loss 1.234  accuracy 0.500  validation 0.634 best  6.1 s  1,512 clips/s";
        assert_eq!(epoch_line(&record, 20, true), line);
    }
}
