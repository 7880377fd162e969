//! An evaluation as people read it: accuracy, classes, confusions, single clips.

use super::table::{Table, count, left, right, thousands};
use crate::data::{Dataset, Split};
use crate::train::Evaluation;
use serde::Serialize;

/// Columns of a terminal.
const WIDTH: usize = 80;
/// Confusions that are listed where the matrix does not fit.
const WORST: usize = 15;
/// Clips that are shown by name.
const SHOWN: usize = 3;

/// Everything: accuracy, table of classes, confusions.
pub fn evaluation(e: &Evaluation) -> String {
    format!("{}\n\n{}\n{}", accuracy(e), classes(e), confusions(e))
}

fn accuracy(e: &Evaluation) -> String {
    let [low, high] = e.interval;
    format!(
        "accuracy {:.4} on the {} clips: {} of {} (95 % interval {low:.3} to {high:.3}), loss {:.3}",
        e.accuracy,
        split_name(e.split),
        thousands(e.correct),
        thousands(e.clips),
        e.loss
    )
}

/// The split in words and in file names.
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
        table.row([c.class.clone(), thousands(c.clips)].into_iter().chain(shares));
    }
    table
}

/// The matrix, if it fits the terminal with at least three letters a column, else the worst pairs.
fn confusions(e: &Evaluation) -> String {
    let names: Vec<&str> = e.classes.iter().map(|c| c.class.as_str()).collect();
    let widest = |most: usize| names.iter().map(|name| name.chars().count()).max().unwrap_or(0).min(most);
    let digits = e.confusion.iter().flatten().max().map_or(1, |most| most.to_string().len());
    let label = widest(12);
    let cut = (3..=8).rev().find(|&cut| label + names.len() * (widest(cut).max(digits) + 1) <= WIDTH);
    let Some(cut) = cut else { return worst_pairs(e) };
    let short = |name: &str, most: usize| name.chars().take(most).collect::<String>();
    let heads = names.iter().map(|name| right(short(name, cut)));
    let mut table = Table::new(std::iter::once(left("")).chain(heads)).narrow();
    for (name, row) in names.iter().zip(&e.confusion) {
        let cells = row.iter().map(|&n| if n == 0 { ".".to_string() } else { n.to_string() });
        table.row(std::iter::once(short(name, label)).chain(cells));
    }
    format!("confusions (a row: what was said; a column: what was heard)\n{table}")
}

fn worst_pairs(e: &Evaluation) -> String {
    let mut pairs: Vec<(u64, usize, usize)> = Vec::new();
    for (said, row) in e.confusion.iter().enumerate() {
        pairs.extend(
            row.iter().enumerate().filter(|&(heard, &n)| heard != said && n > 0).map(|(heard, &n)| (n, said, heard)),
        );
    }
    if pairs.is_empty() {
        return "no confusions\n".into();
    }
    pairs.sort_by_key(|&(n, said, heard)| (std::cmp::Reverse(n), said, heard));
    let mut table = Table::new([left("said"), left("heard"), right("clips"), right("of")]);
    for &(n, said, heard) in pairs.iter().take(WORST) {
        let (said, heard) = (&e.classes[said], &e.classes[heard]);
        table.row([said.class.clone(), heard.class.clone(), thousands(n), thousands(said.clips)]);
    }
    let rest = pairs.len().saturating_sub(WORST);
    let rest = if rest > 0 { format!("and {}\n", count(rest as u64, "rarer pair")) } else { String::new() };
    format!("worst confusions\n{table}{rest}")
}

/// A clip and what the network heard.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Heard {
    /// The clip, `word/file`.
    pub clip: String,
    /// What was said.
    pub class: String,
    /// What the network heard.
    pub answer: String,
    /// How sure it was.
    pub probability: f64,
}

/// Clips of the evaluation chosen before looking at the answers: the first clip of classes spread evenly over the list,
/// each by a speaker of its own.
pub fn heard(e: &Evaluation, data: &Dataset) -> Vec<Heard> {
    let classes = e.classes.len();
    let mut speakers: Vec<&str> = Vec::new();
    let mut shown = Vec::new();
    for k in 0..SHOWN.min(classes) {
        let class = k * classes / SHOWN.min(classes);
        let first = e.answers.iter().find(|(clip, _, _)| {
            let clip = &data.clips()[*clip as usize];
            clip.class as usize == class && !speakers.contains(&clip.speaker.as_str())
        });
        let Some(&(clip, answer, probability)) = first else { continue };
        let clip = &data.clips()[clip as usize];
        speakers.push(&clip.speaker);
        shown.push(Heard {
            clip: clip.name.clone(),
            class: data.classes()[class].clone(),
            answer: data.classes()[answer].clone(),
            probability,
        });
    }
    shown
}

/// The clips as lines.
pub fn heard_lines(heard: &[Heard]) -> String {
    let mut table = Table::new([left("clip"), left("heard as"), right("probability"), left("")]);
    for h in heard {
        let verdict = if h.class == h.answer { "" } else { "wrong" };
        table.row([h.clip.clone(), h.answer.clone(), format!("{:.3}", h.probability), verdict.into()]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::ClassFigures;

    fn sample(names: &[String]) -> Evaluation {
        let figures =
            |class: &String| ClassFigures { class: class.clone(), clips: 40, precision: 1.0, recall: 1.0, f1: 1.0 };
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
            answers: Vec::new(),
        }
    }

    #[test]
    fn the_matrix_of_twelve_words_fits_a_terminal() {
        let words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "bed", "cat"];
        let text = confusions(&sample(&words.map(String::from)));
        assert!(text.lines().skip(1).all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.lines().count(), 14);
        assert!(text.contains("three"), "{text}");
    }

    #[test]
    fn many_classes_give_the_worst_pairs() {
        let words: Vec<String> = (0..35).map(|i| format!("word{i}")).collect();
        let text = confusions(&sample(&words));
        assert!(text.starts_with("worst confusions\nsaid    heard   clips  of\nword0   word1       2  40\n"), "{text}");
        assert!(text.ends_with("and 20 rarer pairs\n"), "{text}");
    }
}
