//! `stapes runs`: lists run folders with what their files say.

use super::context::Context;
use super::table::{Table, bytes, left, right, thousands};
use super::{output, run_name};
use crate::base::name::display_path;
use crate::train::{RunSummary, find_runs};
use anyhow::{Result, bail};
use clap::ValueEnum;
use serde_json::json;
use std::cmp::Reverse;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  stapes runs
  stapes runs --sort test
  stapes runs results/study-1 results/study-2 --json

Folders of runs are looked for in the given folders and up to four levels below.";

/// Options of `stapes runs`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folders with runs.
    #[arg(value_name = "DIR", default_value = "runs")]
    folders: Vec<PathBuf>,
    /// Order of the list: newest, name, highest accuracy on the test or validation clips, fewest parameters, or most bytes first.
    #[arg(long, value_name = "KEY", value_enum, default_value = "date")]
    sort: Sort,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sort {
    Date,
    Name,
    Test,
    Validation,
    Params,
    Size,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let mut runs = Vec::new();
    for folder in &args.folders {
        if !folder.is_dir() {
            bail!("{} is not a folder; give a folder with runs", display_path(folder));
        }
        for path in find_runs(folder) {
            match RunSummary::read(&path) {
                Ok(run) => runs.push(run),
                Err(error) => context.remark(&format!("note: {} is left out: {error}", display_path(&path))),
            }
        }
    }
    sort(&mut runs, args.sort);
    if context.json {
        return output::json(&runs.iter().map(as_json).collect::<Vec<_>>());
    }
    if runs.is_empty() {
        let folders = args.folders.iter().map(|folder| display_path(folder)).collect::<Vec<_>>().join(", ");
        return output::print_filled(&format!("no runs in {folders}; `stapes train` makes one in the folder `runs`\n"));
    }
    output::print(&table(&runs).to_string())
}

fn sort(runs: &mut [RunSummary], by: Sort) {
    // The lists are in the order of their paths, which stays where the key is equal.
    let share = |share: Option<f64>| Reverse(share.map_or(0, |share| 1 + (1e12 * share) as u64));
    match by {
        Sort::Date => runs.sort_by_key(|run| Reverse(run.modified)),
        Sort::Name => runs.sort_by(|a, b| a.path.cmp(&b.path)),
        Sort::Test => runs.sort_by_key(|run| share(run.test.map(|test| test.accuracy))),
        Sort::Validation => runs.sort_by_key(|run| share(run.validation)),
        Sort::Params => runs.sort_by_key(|run| run.params),
        Sort::Size => runs.sort_by_key(|run| Reverse(run.bytes)),
    }
}

fn as_json(run: &RunSummary) -> serde_json::Value {
    json!({
        "run": display_path(&run.path),
        "network": run.network.name,
        "variant": run_name::variant(&run.network).map(|variant| variant.to_string()),
        "recipe": run.recipe,
        "seed": run.seed,
        "classes": run.classes,
        "params": run.params,
        "macs": run.macs,
        "epochs_done": run.epochs_done,
        "epochs": run.epochs,
        "seconds": run.seconds,
        "validation_accuracy": run.validation,
        "test": run.test,
        "bytes": run.bytes,
        "date": run.modified.map(run_name::day),
    })
}

fn table(runs: &[RunSummary]) -> Table {
    let mut table = Table::new([
        left("run"),
        left("network").optional(5),
        right("parameters").optional(3),
        right("epochs"),
        right("validation").optional(4),
        right("test"),
        right("size").optional(2),
        right("date").optional(1),
    ]);
    for run in runs {
        let share = |share: Option<f64>| share.map_or("-".into(), |share| format!("{share:.4}"));
        let epochs = match run.epochs_done == run.epochs {
            true => thousands(run.epochs),
            false => format!("{} of {}", thousands(run.epochs_done), thousands(run.epochs)),
        };
        table.row([
            display_path(&run.path),
            run_name::variant(&run.network)
                .map_or(run.network.name.clone(), |variant| format!("{} {variant}", run.network.name)),
            thousands(run.params),
            epochs,
            share(run.validation),
            share(run.test.map(|test| test.accuracy)),
            bytes(run.bytes),
            run.modified.map_or("-".into(), run_name::day),
        ]);
    }
    table
}
