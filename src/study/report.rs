//! The tables and pictures of a study: what was obtained beside what was reported.

use super::error::StudyError;
use super::planned::{PlannedRun, RunState};
use super::spec::StudySpec;
use crate::nn::Study;
use crate::train::{Mean, RunSummary};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// What the runs of a network in one variant gave.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Obtained {
    /// The test accuracy of each finished run, in the order of the seeds.
    pub accuracies: Vec<f64>,
    /// Their mean; its interval is over seeds.
    pub mean: Mean,
    /// Test clips of each run.
    pub clips: u64,
    /// The 95 % interval over clips, of the first run.
    pub over_clips: [f64; 2],
    /// The most epochs of a run.
    pub epochs: u64,
    /// Runs that ended before their last epoch, by the setting `patience`.
    pub ended_early: u64,
    /// The mean of the seconds of a run.
    pub seconds: f64,
}

/// A network in one variant, with one combination of the grid.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The network, with the settings of the grid.
    pub network: String,
    /// The table of the 2019 study that has it.
    pub table: Option<&'static str>,
    /// Its convolutions, if it is one of that study.
    pub depth: Option<usize>,
    /// The variant.
    pub variant: String,
    /// Parameters; none if no run is finished, since they follow from the classes of the recordings.
    pub params: Option<u64>,
    /// MACs of one clip.
    pub macs: Option<u64>,
    /// The accuracy that was reported.
    pub reported: Option<f64>,
    /// What the runs gave; none if none is finished.
    pub obtained: Option<Obtained>,
    /// The runs that are not finished.
    pub missing: Vec<String>,
}

/// The rank correlation of the reported and the obtained accuracies of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Correlation {
    /// The table.
    pub table: String,
    /// The variant.
    pub variant: String,
    /// Networks.
    pub networks: usize,
    /// Spearman's coefficient.
    pub spearman: f64,
}

/// A study as far as it is done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StudyReport {
    /// What all runs have in common, in sentences.
    pub conditions: String,
    /// One row for each network, variant and combination of the grid, in the order of the study.
    pub rows: Vec<Row>,
    /// Rank correlations of tables with at least three networks of both columns.
    pub correlations: Vec<Correlation>,
}

impl StudyReport {
    /// The headings of [`Row::cells`].
    pub(super) const HEADINGS: [&str; 11] = [
        "network",
        "variant",
        "parameters",
        "MMACs",
        "reported",
        "obtained",
        "95 % interval",
        "seeds",
        "clips",
        "epochs",
        "seconds",
    ];
    /// What the intervals are.
    pub(super) const INTERVALS: &str =
        "The interval is over seeds (t distribution) where there are at least two, else over clips (Wilson).";

    /// Gathers the runs of a study from folders of runs, which may be from several machines; the first folder that has a finished run counts.
    ///
    /// # Errors
    /// A folder has a run with other settings under the name of a planned run.
    pub fn gather(spec: &StudySpec, planned: &[PlannedRun], folders: &[&Path]) -> Result<StudyReport, StudyError> {
        let mut rows: Vec<Row> = Vec::new();
        let mut at: BTreeMap<(String, String), usize> = BTreeMap::new();
        let mut finished: Vec<Vec<RunSummary>> = Vec::new();
        for run in planned {
            let row = *at.entry((run.label.clone(), run.variant.to_string())).or_insert_with(|| {
                rows.push(empty_row(run));
                finished.push(Vec::new());
                rows.len() - 1
            });
            let mut summary = None;
            for folder in folders {
                if let RunState::Finished(done) = run.state(folder)? {
                    summary = Some(*done);
                    break;
                }
            }
            match summary {
                Some(done) => finished[row].push(done),
                None => rows[row].missing.push(run.name.clone()),
            }
        }
        for (row, done) in rows.iter_mut().zip(&finished) {
            row.obtained = obtained(done);
            if let Some(first) = done.first() {
                (row.params, row.macs) = (Some(first.params), Some(first.macs));
            }
        }
        let correlations = correlations(&rows);
        let conditions = conditions(spec, planned, &rows);
        Ok(StudyReport { conditions, rows, correlations })
    }

    /// The variants that occur, in their order.
    pub fn variants(&self) -> Vec<String> {
        let mut variants: Vec<String> = Vec::new();
        for row in &self.rows {
            if !variants.contains(&row.variant) {
                variants.push(row.variant.clone());
            }
        }
        variants
    }

    /// The rows by table of the 2019 study, each with a heading, in the order of the rows.
    pub(super) fn grouped(&self) -> Vec<(String, Vec<&Row>)> {
        let mut groups: Vec<(String, Vec<&Row>)> = Vec::new();
        for row in &self.rows {
            let heading = row.table.unwrap_or("other networks");
            match groups.iter_mut().find(|(of, _)| of == heading) {
                Some((_, rows)) => rows.push(row),
                None => groups.push((heading.into(), vec![row])),
            }
        }
        groups
    }

    /// The names of all runs that are not finished.
    pub fn missing(&self) -> Vec<&str> {
        self.rows.iter().flat_map(|row| row.missing.iter().map(String::as_str)).collect()
    }

    /// The rows as a table in Markdown, with the missing runs below.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("{}\n", self.conditions);
        for (heading, rows) in self.grouped() {
            _ = writeln!(text, "\n## {heading}");
            markdown_table(&mut text, &StudyReport::HEADINGS, rows.into_iter().map(Row::cells));
        }
        _ = writeln!(text, "\n{}", StudyReport::INTERVALS);
        if !self.correlations.is_empty() {
            text += "\n## Rank correlation of reported and obtained\n";
            markdown_table(&mut text, &Correlation::HEADINGS, self.correlations.iter().map(Correlation::cells));
        }
        let missing = self.missing();
        if !missing.is_empty() {
            _ = writeln!(text, "\nNot finished: {}.", missing.join(", "));
        }
        text
    }

    /// The rows as CSV, accuracies with all digits.
    pub fn to_csv(&self) -> String {
        let mut text = String::from(
            "network,table,depth,variant,params,macs,reported,mean,low,high,seeds,clips,epochs,seconds,missing\n",
        );
        for row in &self.rows {
            let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
            let whole = |value: Option<u64>| value.map_or(String::new(), |value| value.to_string());
            let of = row.obtained.as_ref();
            let interval = of.map(Obtained::interval);
            let cells = [
                crate::train::csv_field(&row.network),
                row.table.unwrap_or("").into(),
                row.depth.map_or(String::new(), |depth| depth.to_string()),
                row.variant.clone(),
                whole(row.params),
                whole(row.macs),
                number(row.reported),
                number(of.map(|of| of.mean.mean)),
                number(interval.map(|[low, _]| low)),
                number(interval.map(|[_, high]| high)),
                of.map_or(0, |of| of.accuracies.len()).to_string(),
                of.map_or(String::new(), |of| of.clips.to_string()),
                of.map_or(String::new(), |of| of.epochs.to_string()),
                number(of.map(|of| of.seconds)),
                row.missing.len().to_string(),
            ];
            _ = writeln!(text, "{}", cells.join(","));
        }
        text
    }
}

impl Obtained {
    /// The interval over seeds where there are at least two, else that over clips.
    pub fn interval(&self) -> [f64; 2] {
        // That of two seeds may exceed what an accuracy can be.
        self.mean.interval.map_or(self.over_clips, |ends| ends.map(|end| end.clamp(0.0, 1.0)))
    }
}

impl Row {
    /// What the tables show.
    pub(super) fn cells(&self) -> Vec<String> {
        let share = |share: Option<f64>| share.map_or("-".into(), |share| format!("{share:.4}"));
        let of = self.obtained.as_ref();
        let shown = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        vec![
            self.network.clone(),
            self.variant.clone(),
            shown(self.params.map(|params| params.to_string())),
            shown(self.macs.map(|macs| format!("{:.1}", macs as f64 / 1e6))),
            share(self.reported),
            share(of.map(|of| of.mean.mean)),
            shown(of.map(|of| {
                let [low, high] = of.interval();
                format!("{low:.3} to {high:.3}")
            })),
            of.map_or(0, |of| of.accuracies.len()).to_string(),
            shown(of.map(|of| of.clips.to_string())),
            shown(of.map(|of| match of.ended_early {
                0 => of.epochs.to_string(),
                early => format!("{} ({early} early)", of.epochs),
            })),
            shown(of.map(|of| format!("{:.0}", of.seconds))),
        ]
    }
}

impl Correlation {
    /// The headings of [`Correlation::cells`].
    pub(super) const HEADINGS: [&str; 4] = ["table", "variant", "networks", "Spearman's coefficient"];

    /// What the tables show.
    pub(super) fn cells(&self) -> Vec<String> {
        vec![self.table.clone(), self.variant.clone(), self.networks.to_string(), format!("{:.2}", self.spearman)]
    }
}

/// What all runs of a study have in common.
fn conditions(spec: &StudySpec, planned: &[PlannedRun], rows: &[Row]) -> String {
    let finished = planned.len() - rows.iter().map(|row| row.missing.len()).sum::<usize>();
    let mut text = format!("Runs finished: {finished} of {}. Recipe {}", planned.len(), spec.recipe_name());
    let settings: Vec<String> = spec.set.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    if !settings.is_empty() {
        text += &format!(" with {}", settings.join(", "));
    }
    text += ".";
    if let Some(config) = planned.first().map(|run| &run.config) {
        if !config.classes.is_empty() {
            text += &format!(" {} classes.", config.classes.len());
        }
        if config.patience > 0 {
            text += &format!(
                " A run ends early where {} epochs bring no better validation accuracy (patience).",
                config.patience
            );
        }
    }
    text
}

fn markdown_table(text: &mut String, headings: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let rules: Vec<&str> = (0..headings.len()).map(|column| if column < 2 { "---" } else { "---:" }).collect();
    _ = writeln!(text, "| {} |\n|{}|", headings.join(" | "), rules.join("|"));
    for cells in rows {
        _ = writeln!(text, "| {} |", cells.join(" | "));
    }
}

fn empty_row(run: &PlannedRun) -> Row {
    let reported = run.study.and_then(|study| study.accuracy(run.variant));
    Row {
        network: run.label.clone(),
        table: run.study.map(Study::table),
        depth: run.study.map(|study| study.depth),
        variant: run.variant.to_string(),
        params: None,
        macs: None,
        reported,
        obtained: None,
        missing: Vec::new(),
    }
}

fn obtained(runs: &[RunSummary]) -> Option<Obtained> {
    let tests: Vec<_> = runs.iter().filter_map(|run| run.test).collect();
    let first = tests.first()?;
    let accuracies: Vec<f64> = tests.iter().map(|test| test.accuracy).collect();
    Some(Obtained {
        mean: Mean::of(&accuracies),
        accuracies,
        clips: first.clips,
        over_clips: first.interval,
        epochs: runs.iter().map(|run| run.epochs_done).max().unwrap_or(0),
        ended_early: runs.iter().filter(|run| run.ended_early()).count() as u64,
        seconds: runs.iter().map(|run| run.seconds).sum::<f64>() / runs.len() as f64,
    })
}

fn correlations(rows: &[Row]) -> Vec<Correlation> {
    let mut pairs: BTreeMap<(&str, &str), Vec<(f64, f64)>> = BTreeMap::new();
    for row in rows {
        if let (Some(table), Some(reported), Some(of)) = (row.table, row.reported, &row.obtained) {
            pairs.entry((table, &row.variant)).or_default().push((reported, of.mean.mean));
        }
    }
    let of = |((table, variant), pairs): ((&str, &str), Vec<(f64, f64)>)| {
        let (reported, obtained): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        let spearman = spearman(&reported, &obtained)?;
        Some(Correlation { table: table.into(), variant: variant.into(), networks: pairs.len(), spearman })
    };
    pairs.into_iter().filter_map(of).collect()
}

/// Spearman's rank correlation, with mean ranks of equal values; none of fewer than three pairs, or where all values of a side are equal.
fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() < 3 {
        return None;
    }
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let norm = (product(&a, &a) * product(&b, &b)).sqrt();
    (norm > 0.0).then(|| product(&a, &b) / norm)
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: f64| {
        let below = values.iter().filter(|&&other| other < value).count();
        let equal = values.iter().filter(|&&other| other == value).count();
        below as f64 + (equal as f64 + 1.0) / 2.0
    };
    values.iter().map(|&value| rank(value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_correlated() {
        assert_eq!(spearman(&[1.0, 2.0], &[1.0, 2.0]), None);
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[5.0, 5.0, 5.0]), None);
        approx::assert_relative_eq!(spearman(&[1.0, 2.0, 3.0], &[10.0, 20.0, 90.0]).unwrap(), 1.0);
        approx::assert_relative_eq!(
            spearman(&[1.0, 2.0, 3.0, 4.0], &[4.0, 3.0, 1.0, 2.0]).unwrap(),
            -0.8,
            epsilon = 1e-12
        );
        assert_eq!(ranks(&[3.0, 1.0, 3.0]), [2.5, 1.0, 2.5]);
    }
}
