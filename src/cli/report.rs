//! An evaluation as people read it: accuracy, classes, confusions, single clips.

use super::table::{Table, count, left, right, thousands};
use super::width::{columns, display_width};
use crate::base::Name;
use crate::data::{Dataset, Split};
use crate::train::{Calibration, Evaluation, EvaluationReport, Mean};
use serde::Serialize;

/// Confusions that are listed where the matrix does not fit the terminal.
const WORST: usize = 15;
/// Clips that are shown by name.
const SHOWN: usize = 3;
/// Mistakes that are shown by name.
const MISTAKES: usize = 5;

/// Everything but the mistakes: accuracy with its intervals, calibration, table of classes, confusions.
pub fn evaluation(report: &EvaluationReport) -> String {
    let e = &report.evaluation;
    format!("{}\n{}\n{}", figures(report), classes(e), confusions(e, columns()))
}

/// The figures of all clips, line by line.
fn figures(report: &EvaluationReport) -> String {
    let Calibration { mean_confidence, expected_error, .. } = report.calibration;
    let mut text = format!("{}\n{}\n", accuracy(report), speakers(report));
    text += &format!(
        "loss {:.3}, mean confidence {mean_confidence:.3}, expected calibration error {expected_error:.3}\n",
        report.evaluation.loss
    );
    let copies = report.evaluation.shifts.copies();
    if copies > 1 {
        text += &format!("the probabilities are the mean over {copies} shifts of each clip\n");
    }
    text
}

fn accuracy(report: &EvaluationReport) -> String {
    let e = &report.evaluation;
    let clips = match &report.recordings {
        Some(recordings) => format!("all clips of {recordings} with words of the network"),
        None => format!("the {} clips", e.clips_name()),
    };
    let (correct, all) = (thousands(e.correct), thousands(e.clips));
    format!("accuracy {:.4} on {clips}: {correct} of {all} (95 % interval {})", e.accuracy, interval(e.interval))
}

/// `0.882 to 0.933`.
pub fn interval([low, high]: [f64; 2]) -> String {
    format!("{low:.3} to {high:.3}")
}

/// What the clips' speakers, or the groups of arrays, mean for the accuracy.
fn speakers(report: &EvaluationReport) -> String {
    let (noun, plural, others) = (report.grouping.noun(), report.grouping.plural(), report.grouping.others());
    let narrow = format!("the interval takes clips as independent, which is too narrow for {others}");
    let Some(of) = &report.speakers else {
        return format!("{narrow}; there is none over {plural}, because {}", report.grouping.why_unknown());
    };
    let number = count(of.speakers, noun);
    let mut text = match of.interval {
        Some(over) => format!(
            "for {others} the 95 % interval is {}, from {number}: the clips of one {noun} are not independent",
            interval(over)
        ),
        None => format!("{narrow}; {number} are too few for one over {plural}"),
    };
    text += &format!(
        "\naccuracy by {noun}: median {:.3}, 10 % quantile {:.3}, 90 % quantile {:.3}",
        of.median, of.quantile_10, of.quantile_90
    );
    let worst =
        of.worst.iter().map(|one| format!("{} {:.3} ({} of {})", one.speaker, one.accuracy, one.correct, one.clips));
    let worst = worst.collect::<Vec<_>>().join(", ");
    if !worst.is_empty() {
        text += &format!("\nworst {plural} with at least five clips: {worst}");
    }
    text
}

/// Several runs on the same clips: a line for each, their mean, and the mean of their probabilities.
pub fn several(names: &[String], reports: &[EvaluationReport], mean: &Mean, ensemble: &EvaluationReport) -> String {
    let heads = [left("run"), right("accuracy"), right("95 % interval"), right(ensemble.grouping.others()).optional(2)];
    let mut table = Table::new(heads.into_iter().chain([right("loss").optional(3), right("calib. error").optional(4)]));
    for (name, report) in names.iter().zip(reports) {
        let e = &report.evaluation;
        let over_speakers = report.speakers.as_ref().and_then(|of| of.interval).map_or("-".into(), interval);
        let (accuracy, loss) = (format!("{:.4}", e.accuracy), format!("{:.3}", e.loss));
        let error = format!("{:.3}", report.calibration.expected_error);
        table.row([name.clone(), accuracy, interval(e.interval), over_speakers, loss, error]);
    }
    let mut text = format!("{table}\nmean accuracy {:.4} over {} runs", mean.mean, reports.len());
    if let (Some(deviation), Some(over)) = (mean.standard_deviation, mean.interval) {
        text += &format!(
            ", standard deviation {deviation:.4}\nfor new seeds on the same clips the 95 % interval of the mean is {} (t distribution)",
            interval(over)
        );
    }
    text + &format!("\n\nmean of the probabilities of all runs (ensemble)\n{}", figures(ensemble))
}

/// The name of a split in output and in file names.
pub fn split_name(split: Split) -> &'static str {
    split.short_name()
}

fn classes(e: &Evaluation) -> Table {
    let mut table = Table::new([left("class"), right("clips"), right("precision"), right("recall"), right("F1")]);
    for c in &e.classes {
        // Without clips of a class, how many of them are recognised is not known.
        let share = |share: f64| if c.clips == 0 { "-".into() } else { format!("{share:.3}") };
        let shares = [format!("{:.3}", c.precision), share(c.recall), share(c.f1)];
        table.row([c.class.to_string(), thousands(c.clips)].into_iter().chain(shares));
    }
    table
}

/// The confusion matrix, if it fits `width` columns with at least three letters of each class, else the most frequent confusions.
pub fn confusions(e: &Evaluation, width: usize) -> String {
    let names: Vec<Name> = e.classes.iter().map(|c| c.class.clone()).collect();
    let cells = e.confusion.iter().map(|row| row.iter().map(|n| n.to_string()).collect()).collect::<Vec<Vec<_>>>();
    match matrix(&names, &cells, width) {
        Some(table) => format!("confusion matrix (rows: label, columns: predicted)\n{table}"),
        None => worst_pairs(e),
    }
}

/// Numbers by label (rows) and predicted class (columns), with a dot for `0`, if `width` columns are enough.
pub fn matrix(classes: &[Name], cells: &[Vec<String>], width: usize) -> Option<String> {
    let names: Vec<String> = classes.iter().map(Name::to_string).collect();
    let widest = |most: usize| names.iter().map(|name| display_width(name)).max().unwrap_or(0).min(most);
    let digits = cells.iter().flatten().map(String::len).max().unwrap_or(1);
    let label = widest(12);
    let cut = (3..=8).rev().find(|&cut| label + names.len() * (widest(cut).max(digits) + 1) <= width)?;
    // A name that is cut ends with `…`.
    let short = |name: &str, most: usize| {
        if display_width(name) <= most {
            return name.to_string();
        }
        let mut text = String::new();
        for c in name.chars() {
            text.push(c);
            if display_width(&text) >= most {
                text.pop();
                break;
            }
        }
        text + "…"
    };
    let heads = names.iter().map(|name| right(short(name, cut)));
    let mut table = Table::new(std::iter::once(left("")).chain(heads)).narrow();
    for (name, row) in names.iter().zip(cells) {
        let cells = row.iter().map(|n| if n == "0" { ".".to_string() } else { n.clone() });
        table.row(std::iter::once(short(name, label)).chain(cells));
    }
    Some(table.fit(width))
}

fn worst_pairs(e: &Evaluation) -> String {
    let mut pairs: Vec<(u64, usize, usize)> = Vec::new();
    for (label, row) in e.confusion.iter().enumerate() {
        let wrong = row.iter().enumerate().filter(|&(predicted, &n)| predicted != label && n > 0);
        pairs.extend(wrong.map(|(predicted, &n)| (n, label, predicted)));
    }
    if pairs.is_empty() {
        return "no confusions\n".into();
    }
    pairs.sort_by_key(|&(n, label, predicted)| (std::cmp::Reverse(n), label, predicted));
    let mut table = Table::new([left("label"), left("predicted"), right("clips"), right("of")]);
    for &(n, label, predicted) in pairs.iter().take(WORST) {
        let (label, predicted) = (&e.classes[label], &e.classes[predicted]);
        table.row([label.class.to_string(), predicted.class.to_string(), thousands(n), thousands(label.clips)]);
    }
    let rest = pairs.len().saturating_sub(WORST);
    let rest = if rest > 0 { format!("and {}\n", count(rest as u64, "less frequent pair")) } else { String::new() };
    format!("most frequent confusions\n{table}{rest}")
}

/// The mistakes by name, the most confident prediction first; nothing if there are none.
pub fn mistakes(report: &EvaluationReport) -> String {
    let wrong = (report.evaluation.clips - report.evaluation.correct) as usize;
    if wrong == 0 {
        return String::new();
    }
    let mut table = Table::new([left("clip"), left("predicted"), right("probability")]);
    for mistake in report.worst_mistakes.iter().take(MISTAKES) {
        let probability = format!("{:.3}", mistake.probability);
        table.row([mistake.clip.to_string(), mistake.predicted.to_string(), probability]);
    }
    let rest = wrong.saturating_sub(MISTAKES);
    let rest = if rest > 0 { format!("and {}\n", count(rest as u64, "other mistake")) } else { String::new() };
    format!("\nworst mistakes (the most confident wrong predictions)\n{table}{rest}")
}

/// A clip and its prediction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    /// The clip, `word/file`.
    pub clip: Name,
    /// Its class.
    pub label: Name,
    /// The predicted class.
    pub predicted: Name,
    /// The probability of the predicted class.
    pub probability: f64,
    /// The clip's number in the data set.
    #[serde(skip)]
    pub number: usize,
}

/// Clips of the evaluation that are chosen before their predictions are known: the first clip of classes spread evenly
/// over the list, each by another speaker.
pub fn examples(e: &Evaluation, data: &Dataset) -> Vec<Example> {
    let classes = e.classes.len();
    let mut speakers = Vec::new();
    let mut shown = Vec::new();
    for k in 0..SHOWN.min(classes) {
        let class = k * classes / SHOWN.min(classes);
        let speaker = |clip: u32| &data.clips()[clip as usize].speaker;
        let first = e.predictions.iter().find(|clip| clip.label == class && !speakers.contains(&speaker(clip.clip)));
        let Some(clip) = first else { continue };
        speakers.push(speaker(clip.clip));
        shown.push(Example {
            clip: data.clips()[clip.clip as usize].name.clone(),
            label: data.classes()[class].clone(),
            predicted: data.classes()[clip.prediction.class].clone(),
            probability: clip.prediction.probability,
            number: clip.clip as usize,
        });
    }
    shown
}

/// The examples as lines.
pub fn example_lines(examples: &[Example]) -> String {
    let mut table = Table::new([left("clip"), left("predicted"), right("probability"), left("")]);
    for e in examples {
        let verdict = if e.label == e.predicted { "" } else { "wrong" };
        table.row([e.clip.to_string(), e.predicted.to_string(), format!("{:.3}", e.probability), verdict.into()]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{ClassFigures, Shifts};

    fn sample(names: &[Name]) -> Evaluation {
        let figures =
            |class: &Name| ClassFigures { class: class.clone(), clips: 40, precision: 1.0, recall: 1.0, f1: 1.0 };
        let k = names.len();
        Evaluation {
            split: Some(Split::Testing),
            shifts: Shifts::NONE,
            clips: 40 * k as u64,
            correct: 38 * k as u64,
            accuracy: 0.95,
            interval: [0.9, 0.98],
            loss: 0.1,
            classes: names.iter().map(figures).collect(),
            confusion: (0..k)
                .map(|r| (0..k).map(|c| if r == c { 38 } else { u64::from((r + 1) % k == c) * 2 }).collect())
                .collect(),
            predictions: Vec::new(),
        }
    }

    #[test]
    fn the_matrix_of_twelve_words_fits_a_terminal() {
        let words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "bed", "cat"];
        let text = confusions(&sample(&words.map(Name::from)), 80);
        assert!(text.lines().skip(1).all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!(text.lines().count(), 14);
        assert!(text.contains("three"), "{text}");
    }

    #[test]
    fn many_classes_give_the_worst_pairs() {
        let words: Vec<Name> = (0..35).map(|i| format!("word{i}").into()).collect();
        let text = confusions(&sample(&words), 80);
        assert!(
            text.starts_with("most frequent confusions\nlabel   predicted  clips  of\nword0   word1          2  40\n"),
            "{text}"
        );
        assert!(text.ends_with("and 20 less frequent pairs\n"), "{text}");
    }
}
