//! An evaluation as people read it: accuracy, classes, confusions, single clips.

use super::table::{Table, count, left, right, thousands};
use super::width::{columns, display_width};
use crate::base::Name;
use crate::data::{Dataset, Split};
use crate::train::Evaluation;
use serde::Serialize;

/// Confusions that are listed where the matrix does not fit the terminal.
const WORST: usize = 15;
/// Clips that are shown by name.
const SHOWN: usize = 3;
/// Mistakes that are shown by name.
const MISTAKES: usize = 5;

/// Everything: accuracy, table of classes, confusions.
pub fn evaluation(e: &Evaluation) -> String {
    format!("{}\n\n{}\n{}", accuracy(e), classes(e), confusions(e, columns()))
}

fn accuracy(e: &Evaluation) -> String {
    let [low, high] = e.interval;
    format!(
        "accuracy {:.4} on the {} clips: {} of {} (95 % interval {low:.3} to {high:.3})\nloss {:.3}",
        e.accuracy,
        split_name(e.split),
        thousands(e.correct),
        thousands(e.clips),
        e.loss
    )
}

/// The name of a split in output and in file names.
pub fn split_name(split: Split) -> &'static str {
    match split {
        Split::Testing => "test",
        other => other.name(),
    }
}

fn classes(e: &Evaluation) -> Table {
    let mut table = Table::new([left("class"), right("clips"), right("precision"), right("recall"), right("F1")]);
    for c in &e.classes {
        let shares = [c.precision, c.recall, c.f1].map(|share| format!("{share:.3}"));
        table.row([c.class.to_string(), thousands(c.clips)].into_iter().chain(shares));
    }
    table
}

/// The confusion matrix, if it fits `width` columns with at least three letters of each class, else the most frequent confusions.
fn confusions(e: &Evaluation, width: usize) -> String {
    let names: Vec<String> = e.classes.iter().map(|c| c.class.to_string()).collect();
    let widest = |most: usize| names.iter().map(|name| display_width(name)).max().unwrap_or(0).min(most);
    let digits = e.confusion.iter().flatten().max().map_or(1, |most| most.to_string().len());
    let label = widest(12);
    let cut = (3..=8).rev().find(|&cut| label + names.len() * (widest(cut).max(digits) + 1) <= width);
    let Some(cut) = cut else { return worst_pairs(e) };
    let short = |name: &str, most: usize| {
        let mut text = String::new();
        name.chars()
            .take_while(|&c| {
                text.push(c);
                display_width(&text) <= most
            })
            .collect::<String>()
    };
    let heads = names.iter().map(|name| right(short(name, cut)));
    let mut table = Table::new(std::iter::once(left("")).chain(heads)).narrow();
    for (name, row) in names.iter().zip(&e.confusion) {
        let cells = row.iter().map(|&n| if n == 0 { ".".to_string() } else { n.to_string() });
        table.row(std::iter::once(short(name, label)).chain(cells));
    }
    format!("confusion matrix (rows: label, columns: predicted)\n{}", table.fit(width))
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
pub fn mistakes(e: &Evaluation, data: &Dataset) -> String {
    let wrong = e.mistakes();
    if wrong.is_empty() {
        return String::new();
    }
    let mut table = Table::new([left("clip"), left("predicted"), right("probability")]);
    for clip in wrong.iter().take(MISTAKES) {
        let prediction = &clip.prediction;
        let (name, predicted) = (&data.clips()[clip.clip as usize].name, &e.classes[prediction.class].class);
        table.row([name.to_string(), predicted.to_string(), format!("{:.3}", prediction.probability)]);
    }
    let rest = wrong.len().saturating_sub(MISTAKES);
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
    use crate::train::ClassFigures;

    fn sample(names: &[Name]) -> Evaluation {
        let figures =
            |class: &Name| ClassFigures { class: class.clone(), clips: 40, precision: 1.0, recall: 1.0, f1: 1.0 };
        let k = names.len();
        Evaluation {
            split: Split::Testing,
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
