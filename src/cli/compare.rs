//! `stapes compare`: two or more trained networks on the same clips.

use super::context::Context;
use super::ending::usage;
use super::evaluated::{self, Evaluated, Options};
use super::table::{Table, count, left, right, thousands};
use super::width::{columns, display_width};
use super::{output, report};
use crate::base::Name;
use crate::base::name::display_path;
use crate::data::Dataset;
use crate::figure::{self, Matrix};
use crate::train::{
    Agreement, Comparison, Evaluation, EvaluationReport, Flip, Pair, Resampled, all_pairs, write_atomically,
};
use anyhow::Result;
use serde::Serialize;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  stapes compare runs/small runs/large
  stapes compare runs/small runs/large --picture matrices.svg
  stapes compare runs/a runs/b runs/c other-recordings

Of two networks: the difference of the accuracies with its 95 % interval, McNemar's exact test, the clips that only one of them recognises, and both confusion matrices. Of more: a table of all pairs, with p values adjusted by Holm's method.";

/// Flips of one kind that are listed without `-v`.
const LISTED: usize = 10;

/// Options of `stapes compare`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folders of at least two runs that were tested on the same clips; and other recordings, if all clips of those are to be compared.
    #[arg(value_name = "RUN|DIR|FILE", required = true, num_args = 2..)]
    runs: Vec<PathBuf>,
    /// Draw the confusion matrices and their difference into this file, as SVG.
    #[arg(long, value_name = "FILE.svg")]
    picture: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// A network and its result.
#[derive(Serialize)]
struct Compared<'a> {
    run: &'a str,
    network: String,
    params: u64,
    #[serde(flatten)]
    report: &'a EvaluationReport,
}

/// The result as JSON.
#[derive(Serialize)]
struct Outcome<'a> {
    runs: Vec<Compared<'a>>,
    pairs: &'a [Pair],
}

/// Both confusion matrices and their difference.
fn picture(classes: &[Name], [(name_a, a), (name_b, b)]: [(&str, &Evaluation); 2]) -> String {
    let counts = |e: &Evaluation| -> Vec<Vec<i64>> {
        e.confusion.iter().map(|row| row.iter().map(|&n| n as i64).collect()).collect()
    };
    let (of_a, of_b) = (counts(a), counts(b));
    let difference = of_a.iter().zip(&of_b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| b - a).collect()).collect();
    let matrix = |title: String, cells, is_difference| Matrix { title, cells, is_difference };
    let three = [
        matrix(format!("A: {name_a}, {:.4}", a.accuracy), of_a, false),
        matrix(format!("B: {name_b}, {:.4}", b.accuracy), of_b, false),
        matrix("B - A".into(), difference, true),
    ];
    let names: Vec<String> = classes.iter().map(Name::to_string).collect();
    figure::matrices(&names, &three)
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let Evaluated { runs, reports } = evaluated::evaluate(&args.options, &args.runs, context, |_| {})?;
    if runs.len() < 2 {
        return Err(usage("only one of the paths is a run; give two runs or more"));
    }
    let data = &runs[0].data;
    let evaluations: Vec<&Evaluation> = reports.iter().map(|report| &report.evaluation).collect();
    let pairs = all_pairs(&evaluations, data);
    let names: Vec<String> = runs.iter().map(|run| display_path(run.folder.path())).collect();
    if let Some(path) = &args.picture {
        let [a, b] = evaluations[..] else {
            return Err(usage("--picture draws two matrices and their difference; give two runs"));
        };
        write_atomically(path, picture(data.classes(), [(&names[0], a), (&names[1], b)]).as_bytes())?;
        context.remark(&format!("wrote {}", display_path(path)));
    }
    let list = runs.iter().zip(&names).zip(&reports).map(|((run, name), report)| Compared {
        run: name,
        network: super::models::described(&run.config.network),
        params: run.network.params(),
        report,
    });
    let list: Vec<Compared<'_>> = list.collect();
    if context.json {
        return output::json(&Outcome { runs: list, pairs: &pairs });
    }
    let mut text = format!("{}\n", runs_table(&list));
    match &pairs[..] {
        [pair] => text += &two(context, &pair.comparison, [evaluations[0], evaluations[1]], data),
        _ => text += &pairs_table(&pairs),
    }
    output::print_filled(&text)
}

/// The letter by which a run is named: A, B, .., Z, then numbers.
fn letter(number: usize) -> String {
    let letter = u8::try_from(number).ok().filter(|&number| number < 26).map(|number| char::from(b'A' + number));
    letter.map_or_else(|| (number + 1).to_string(), String::from)
}

fn runs_table(runs: &[Compared<'_>]) -> Table {
    let heads = [left(""), left("run"), left("network").optional(2), right("parameters").optional(1)];
    let mut table = Table::new(heads.into_iter().chain([
        right("accuracy"),
        right("recognised"),
        right("95 % interval").optional(3),
    ]));
    for (number, run) in runs.iter().enumerate() {
        let e = &run.report.evaluation;
        table.row([
            letter(number),
            run.run.to_string(),
            run.network.clone(),
            thousands(run.params),
            format!("{:.4}", e.accuracy),
            format!("{} of {}", thousands(e.correct), thousands(e.clips)),
            report::interval(e.interval),
        ]);
    }
    table
}

/// Points of accuracy, with their sign.
fn points(share: f64) -> String {
    format!("{:+.1}", 100.0 * share)
}

/// `p = 0.013`, or `p < 0.0001`.
fn p_value(p: f64) -> String {
    if p < 1e-4 { "< 0.0001".into() } else { format!("{p:.4}") }
}

fn pairs_table(pairs: &[Pair]) -> String {
    let heads = [left("pair"), right("points"), right("95 % interval"), right("only 1st").optional(2)];
    let tests = [right("only 2nd").optional(2), right("p").optional(1), right("p (Holm)")];
    let mut table = Table::new(heads.into_iter().chain(tests));
    for Pair { first, second, comparison, adjusted_p } in pairs {
        let Agreement { only_first, only_second, .. } = comparison.agreement;
        let [low, high] = comparison.interval.map(points);
        table.row([
            format!("{} - {}", letter(*second), letter(*first)),
            points(comparison.difference),
            format!("{low} to {high}"),
            thousands(only_first),
            thousands(only_second),
            p_value(comparison.p),
            p_value(*adjusted_p),
        ]);
    }
    format!(
        "differences of accuracy in points; `B - A` is above 0 where B is better\n{table}\np values of McNemar's exact test; those of Holm \
         are adjusted for the number of pairs\n"
    )
}

fn two(context: &Context, of: &Comparison, evaluations: [&Evaluation; 2], data: &Dataset) -> String {
    let Agreement { both, only_first, only_second, neither } = of.agreement;
    let [low, high] = of.interval.map(points);
    let resampled = match of.resampled {
        Resampled::Speakers => format!("2,000 resamples of {}", count(of.speakers, data.grouping().noun())),
        Resampled::Clips => "2,000 resamples of the clips".into(),
    };
    let mut text = format!(
        "difference B - A: {} points (95 % interval {low} to {high}, {resampled})\n\
         both right {}, only A {}, only B {}, neither {}\n\
         McNemar's exact test, clips independent: p {}\n\n",
        points(of.difference),
        thousands(both),
        thousands(only_first),
        thousands(only_second),
        thousands(neither),
        match p_value(of.p) {
            small if small.starts_with('<') => small,
            value => format!("= {value}"),
        },
    );
    let heads = [left("class"), right("clips"), right("A right"), right("B right"), right("only A"), right("only B")];
    let mut table = Table::new(heads);
    for class in &of.classes {
        let Agreement { both, only_first, only_second, .. } = class.agreement;
        let cells = [class.agreement.clips(), both + only_first, both + only_second, only_first, only_second];
        table.row(std::iter::once(class.class.to_string()).chain(cells.map(thousands)));
    }
    text += &format!("{table}\n");
    let [a, b] = evaluations.map(|evaluation| report::confusions(evaluation, columns()));
    text += &side_by_side(&format!("A: {a}"), &format!("B: {b}"), columns());
    let signed = |row: &Vec<i64>| row.iter().map(|&n| if n > 0 { format!("+{n}") } else { n.to_string() }).collect();
    let difference: Vec<Vec<String>> = of.confusion.iter().map(signed).collect();
    if let Some(matrix) = report::matrix(data.classes(), &difference, columns()) {
        text += &format!("B - A: change of each cell\n{matrix}\n");
    }
    for (name, first) in [("A", true), ("B", false)] {
        let kind: Vec<&Flip> = of.flips.iter().filter(|flip| (flip.first == flip.label) == first).collect();
        text += &flips(context, name, &kind);
    }
    text
}

/// Two texts beside each other if `width` columns are enough, else below each other.
fn side_by_side(a: &str, b: &str, width: usize) -> String {
    const GAP: usize = 4;
    let widest = |text: &str| text.lines().map(display_width).max().unwrap_or(0);
    let at = widest(a) + GAP;
    if at + widest(b) > width {
        return format!("{a}\n{b}\n");
    }
    let (mut of_a, mut of_b) = (a.lines(), b.lines());
    let mut text = String::new();
    loop {
        match (of_a.next(), of_b.next()) {
            (None, None) => return text + "\n",
            (a, b) => {
                let a = a.unwrap_or("");
                let line = format!("{a}{}{}", " ".repeat(at - display_width(a)), b.unwrap_or(""));
                text += &format!("{}\n", line.trim_end());
            }
        }
    }
}

/// The clips that only one network recognises.
fn flips(context: &Context, name: &str, flips: &[&Flip]) -> String {
    if flips.is_empty() {
        return format!("no clip is recognised by {name} only\n");
    }
    let other = if name == "A" { "B" } else { "A" };
    let mut table = Table::new([left("clip"), left(format!("{other} predicts")), right("probability")]);
    let listed = if context.verbose { flips.len() } else { LISTED };
    for flip in flips.iter().take(listed) {
        let (predicted, probability) = match name {
            "A" => (&flip.second, flip.second_probability),
            _ => (&flip.first, flip.first_probability),
        };
        table.row([flip.clip.to_string(), predicted.to_string(), format!("{probability:.3}")]);
    }
    let rest = flips.len().saturating_sub(listed);
    let rest =
        if rest > 0 { format!("and {} (-v lists all)\n", count(rest as u64, "other clip")) } else { String::new() };
    format!("clips that only {name} recognises\n{table}{rest}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_texts_are_beside_each_other_where_there_is_room() {
        assert_eq!(side_by_side("one\ntwo 2", "three\n4\n5", 14), "one      three\ntwo 2    4\n         5\n\n");
        assert_eq!(side_by_side("one\n", "two\n", 9), "one\n\ntwo\n\n");
    }

    #[test]
    fn runs_have_letters() {
        assert_eq!([0, 25, 26].map(letter), ["A", "Z", "27"]);
        assert_eq!((p_value(0.01234), p_value(0.0)), ("0.0123".into(), "< 0.0001".into()));
    }
}
