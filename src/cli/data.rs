//! `stapes data`: what a data set holds and what is wrong with it.

use super::context::Context;
use super::table::{Table, count, left, right, thousands};
use super::{interrupt, output, recordings, settings};
use crate::data::{Audit, Crop, DataConfig, FindingKind, SplitRule};
use anyhow::Result;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  stapes data
  stapes data speech_commands_v0.02.tar.gz --classes yes,no
  stapes data my-recordings --split random --json";

/// Findings of a kind that are named without `-v`.
const NAMED: usize = 3;

/// Options of `stapes data`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder or .tar.gz of recordings, one folder a word; the built-in recordings if not given.
    #[arg(value_name = "DIR|TAR.GZ")]
    path: Option<PathBuf>,
    /// Words to look at, separated by commas; all if not given.
    #[arg(long, value_name = "A,B,..")]
    classes: Option<String>,
    /// Who trains and who tests: a hash of the speaker, the lists in the data, or chance.
    #[arg(long, value_parser = ["speaker", "official", "random"], default_value = "speaker")]
    split: String,
    /// Part used of clips that are longer than the network's input; loudest is the part with the largest energy.
    #[arg(long, value_name = "PART", value_parser = Crop::ALL.map(Crop::name), default_value = "start")]
    crop: String,
    /// Judge the clips as this network hears them (length, rate, channels); one second of 16 kHz mono if not given.
    #[arg(long, value_name = "NAME|FILE.toml")]
    model: Option<String>,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let heard = match &args.model {
        Some(model) => recordings::heard_by(&settings::network(model, None)?),
        None => DataConfig::default(),
    };
    let config = DataConfig {
        classes: args.classes.as_deref().map(settings::words).transpose()?,
        split: match args.split.as_str() {
            "official" => SplitRule::Official,
            "random" => SplitRule::Random { seed: context.seed.unwrap_or(1) },
            _ => SplitRule::Speaker,
        },
        crop: settings::crop(Some(&args.crop), Crop::Start)?,
        ..heard
    };
    interrupt::watch()?;
    let data = recordings::open(context, args.path.as_deref(), &config)?;
    interrupt::unwatch();
    let audit = Audit::of(&data);
    if context.json { output::json(&audit) } else { output::print_filled(&show(&audit, context.verbose)) }
}

fn show(audit: &Audit, all: bool) -> String {
    let mut text = format!(
        "{}: {} of {}, {}\n\n",
        audit.source,
        count(audit.clips as u64, "clip"),
        count(audit.classes.len() as u64, "word"),
        count(audit.speakers as u64, "speaker")
    );
    text += &counts(audit).to_string();
    if audit.noise_files > 0 {
        text += &format!("\n{} of background noise, used for no class\n", count(audit.noise_files as u64, "file"));
    }
    if audit.other_files > 0 {
        text += &format!("\n{} of another kind passed over\n", count(audit.other_files, "file"));
    }
    if audit.findings.is_empty() {
        return text + "\nnothing is wrong with any clip\n";
    }
    for kind in FindingKind::ALL {
        let Some(&total) = audit.totals.get(&kind) else { continue };
        text += &format!("\n{}: {}\n", kind.name(), thousands(total as u64));
        let named = if all { total } else { NAMED };
        for finding in audit.findings.iter().filter(|f| f.kind == kind).take(named) {
            text += &format!("  {}: {}\n", finding.subject, finding.detail);
        }
        if total > named {
            text += &format!("  and {} more; -v names them all\n", thousands((total - named) as u64));
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
