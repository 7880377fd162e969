//! `stapes data`: what a data set contains, what is not used, and what is wrong with it.

use super::context::Context;
use super::table::{Table, count, left, right, thousands};
use super::width::{columns, fill};
use super::{interrupt, output, recordings, settings};
use crate::data::{Audit, Crop, DataConfig, Dataset, FindingKind, Reason, SplitRule};
use crate::nn::{Input, NetworkSpec};
use crate::train::TrainConfig;
use anyhow::Result;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  stapes data
  stapes data speech_commands_v0.02.tar.gz --classes yes,no
  stapes data speech_commands --classes yes,no --unknown other-words --silence
  stapes data my-recordings --split random --json";

/// Findings of a kind that are named without `-v`.
const NAMED: usize = 3;

/// Options of `stapes data`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder, .tar or .tar.gz of recordings with one folder for each word, .csv list of sound files, .npz file of arrays, or .parquet files; if omitted, the embedded recordings.
    #[arg(value_name = "DIR|FILE")]
    path: Option<PathBuf>,
    /// Words to examine, separated by commas (`\,` is a comma within a word); if omitted, all.
    #[arg(long, value_name = "A,B,..")]
    classes: Option<String>,
    /// Add the class _unknown_, as `stapes train --unknown` with its default share does.
    #[arg(long, value_name = "WORD|DIR,..")]
    unknown: Option<String>,
    /// Add the class _silence_, as `stapes train --silence` with its default share does.
    #[arg(long)]
    silence: bool,
    /// How clips are divided into training, validation and test clips: by a hash of the speaker, by the lists in the
    /// data, or at random.
    #[arg(long, value_parser = ["speaker", "official", "random"], default_value = "speaker")]
    split: String,
    /// Part used of clips that are longer than the network's input; loudest is the part with the largest energy.
    #[arg(long, value_name = "PART", value_parser = Crop::ALL.map(Crop::name), default_value = "start")]
    crop: String,
    /// Compare the clips with the input of this network (length, rate, channels); if omitted, one second of 16 kHz mono, or the shape of the arrays.
    #[arg(long, value_name = "NAME|FILE.toml")]
    model: Option<String>,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let mut network = match &args.model {
        Some(model) => settings::network(model, None)?,
        None => NetworkSpec::default(),
    };
    if let (true, Some(input)) = (network.input == Input::default(), recordings::input_for(args.path.as_deref())?) {
        network.input = input;
    }
    let input = recordings::input_of(&network);
    let mut added = TrainConfig::new(network);
    if let Some(unknown) = &args.unknown {
        settings::set(&mut added, "unknown", unknown)?;
    }
    added.silence = args.silence;
    let config = DataConfig {
        classes: args.classes.as_deref().map(settings::words).transpose()?,
        split: match args.split.as_str() {
            "official" => SplitRule::Official,
            "random" => SplitRule::Random { seed: context.seed.unwrap_or(1) },
            _ => SplitRule::Speaker,
        },
        crop: settings::crop(Some(&args.crop), Crop::Start)?,
        allow_empty_classes: true,
        extra: added.extra_classes(),
        ..input
    };
    interrupt::watch()?;
    let data = recordings::open(context, args.path.as_deref(), &config)?;
    interrupt::unwatch();
    let audit = Audit::of(&data);
    if context.json { output::json(&audit) } else { output::print_filled(&show(&audit, &data, context.verbose)) }
}

fn show(audit: &Audit, data: &Dataset, all: bool) -> String {
    let head = format!(
        "{}: {} of {}, {}",
        audit.source,
        count(audit.clips as u64, "clip"),
        count_all_classes(data),
        recordings::count_speakers(data, audit.speakers)
    );
    let mut text = format!("{head}\n\n{}", counts(audit));
    recordings::added_classes(data).iter().for_each(|class| text += &line(class, "         "));
    if audit.findings.is_empty() && audit.ledger.is_empty() {
        return text + "\nno problems were found, and every file is used\n";
    }
    text += &unused(audit);
    for kind in FindingKind::ALL {
        let Some(&total) = audit.totals.get(&kind) else { continue };
        text += &format!("\n{}: {}\n", kind.name(data.grouping()), thousands(total as u64));
        let named = if all { total } else { NAMED };
        for finding in audit.findings.iter().filter(|f| f.kind == kind).take(named) {
            text += &line(&format!("  {}: {}", finding.subject, finding.detail), "    ");
        }
        if total > named {
            text += &format!("  and {} more; -v names them all\n", thousands((total - named) as u64));
        }
    }
    text
}

/// `4 words`, `4 words and 2 added classes`, or `4 classes` of arrays.
fn count_all_classes(data: &Dataset) -> String {
    let words = recordings::count_classes(data);
    match [data.unknown_class(), data.silence_class()].into_iter().flatten().count() {
        0 => words,
        1 => format!("{words} and 1 added class"),
        added => format!("{words} and {added} added classes"),
    }
}

/// `text` as lines that fit the terminal.
fn line(text: &str, indent: &str) -> String {
    fill(text, columns(), indent) + "\n"
}

/// What was seen and is not used, a paragraph for each reason.
fn unused(audit: &Audit) -> String {
    let mut text = String::new();
    for (reason, phrase) in recordings::unused_lines(&audit.ledger) {
        let examples: Vec<String> = audit.ledger.examples(reason).iter().map(|name| name.to_string()).collect();
        let more = if audit.ledger.count(reason) > examples.len() as u64 { ", .." } else { "" };
        text.push('\n');
        text += &line(&format!("skipped {phrase}: {}{more}", examples.join(", ")), "  ");
        if let Some(advice) = reason.advice() {
            text += &line(&format!("  {advice}"), "  ");
        }
        if let (Reason::OtherFormat, Some(command)) = (reason, &audit.conversion) {
            text += &format!("  convert them to WAV with FFmpeg:\n  {command}\n");
        }
    }
    text
}

fn counts(audit: &Audit) -> Table {
    let skips = audit.classes.iter().any(|c| c.skipped > 0);
    let heads = ["training", "validation", "test"].map(right);
    let mut table = Table::new([left("class")].into_iter().chain(heads).chain(skips.then(|| right("skipped"))));
    let mut total = [0; 4];
    for c in &audit.classes {
        let cells = [c.training, c.validation, c.testing, c.skipped];
        total.iter_mut().zip(cells).for_each(|(sum, n)| *sum += n);
        table.row(
            std::iter::once(c.name.to_string())
                .chain(cells[..3 + usize::from(skips)].iter().map(|&n| thousands(n as u64))),
        );
    }
    table.row(
        std::iter::once("all".to_string()).chain(total[..3 + usize::from(skips)].iter().map(|&n| thousands(n as u64))),
    );
    table
}
