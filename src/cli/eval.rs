//! `stapes eval`: evaluates trained networks on the clips of a split, or on other recordings.

use super::context::Context;
use super::ending::usage;
use super::evaluated::{self, Evaluated, Options, Run};
use super::{integer, output, report};
use crate::base::name::display_path;
use crate::data::{ClipError, Ledger};
use crate::exec::DeviceChoice;
use crate::train::{
    Bundle, Evaluation, EvaluationReport, Overlap, RunClaim, RunFolder, SeveralRuns, Shifts, differing_setting,
};
use anyhow::Result;
use serde::Serialize;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  stapes eval runs/NAME
  stapes eval runs/NAME --split validation --weights last --json
  stapes eval runs/NAME other-recordings
  stapes eval runs/seed-1 runs/seed-2 runs/seed-3
  stapes eval runs/NAME --int8

Writes eval-SPLIT.json, confusion-SPLIT.csv, predictions-SPLIT.csv (the
probability of each class for every clip) and reliability-SPLIT.csv (confidence
and accuracy in 15 bins) into the run; SPLIT is `other` for other recordings.

With --int8 the network is evaluated on the same clips in 8-bit integers too, as
`stapes export --format c --int8` writes it: its accuracy beside that in floating
point, the difference with a 95 % interval, the clips with another class, and the
time for a clip on one thread. The files have the evaluation in floating point.";

/// Options of `stapes eval`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder of a run.
    run: PathBuf,
    /// Further runs, trained like the first with other seeds, for mean and spread of the accuracy; or other recordings, of which all clips are evaluated.
    #[arg(value_name = "RUN|DIR|FILE")]
    more: Vec<PathBuf>,
    /// Evaluate the network with weights and activations of 8 bits too, and compare both.
    #[arg(long)]
    int8: bool,
    #[command(flatten)]
    integer: integer::Options,
    #[command(flatten)]
    options: Options,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if args.int8 {
        check_int8(args, context)?;
    }
    let mut paths = vec![args.run.clone()];
    paths.extend_from_slice(&args.more);
    // Integers are computed by the processor, and compared with floating point there.
    let processor = Context { choice: DeviceChoice::Cpu, ..context.clone() };
    let on = match context.choice {
        DeviceChoice::Auto if args.int8 => &processor,
        _ => context,
    };
    let Evaluated { runs, reports } =
        evaluated::evaluate(&args.options, &paths, on, |runs| remark_on_settings(context, runs))?;
    let int8 = match (args.int8, &runs[..], &reports[..]) {
        (true, [run], [report]) => Some(in_integers(args, context, run, &report.evaluation)?),
        _ => None,
    };
    print(context, &runs, &reports, int8.as_ref())?;
    save(context, &runs, &reports);
    Ok(())
}

/// What does not go with `--int8`, said before anything is computed.
fn check_int8(args: &Args, context: &Context) -> Result<()> {
    if matches!(context.choice, DeviceChoice::Cuda(_)) {
        return Err(usage("--int8 is computed by the processor; leave --device out"));
    }
    if args.options.shifts != Shifts::NONE {
        return Err(usage("--int8 evaluates each clip as it is; leave --shifts out"));
    }
    match args.more.iter().any(|path| RunFolder::open(path).is_ok()) {
        true => Err(usage("--int8 compares the network of one run with itself; give one run")),
        false => Ok(()),
    }
}

/// The run's network in integers on the clips of an evaluation in floating point.
fn in_integers(args: &Args, context: &Context, run: &Run, float: &Evaluation) -> Result<integer::Beside> {
    let bundle = Bundle::open(run.folder.path(), args.options.which())?;
    let own = float.split.map(|_| &*run.data);
    let network = integer::network(&args.integer, context, &bundle, own, None)?;
    let conv = args.options.conv_of(&run.config)?;
    integer::beside(&network, context, (&bundle, conv), (&run.data, float.split), float)
}

/// Says that runs differ in more than their seed.
fn remark_on_settings(context: &Context, runs: &[Run]) {
    let differing = runs.iter().skip(1).find_map(|run| {
        let (key, first, second) = differing_setting(&runs[0].config, &run.config)?;
        Some(format!(
            "note: the runs differ in more than their seed: `{key}` is {first} in {} and {second} in {}",
            display_path(runs[0].folder.path()),
            display_path(run.folder.path()),
        ))
    });
    differing.into_iter().for_each(|note| context.remark(&note));
}

fn print(context: &Context, runs: &[Run], reports: &[EvaluationReport], int8: Option<&integer::Beside>) -> Result<()> {
    let data = &runs[0].data;
    let (skipped, unused) = (data.problems(), data.ledger());
    let names: Vec<String> = runs.iter().map(|run| display_path(run.folder.path())).collect();
    let evaluations: Vec<Evaluation> = reports.iter().map(|report| report.evaluation.clone()).collect();
    match (reports, SeveralRuns::of(&evaluations)) {
        ([report], _) if context.json => {
            output::json(&Single { report, overlap: runs[0].overlap, int8, skipped, unused })
        }
        ([report], _) => {
            let int8 = int8.map(|int8| format!("\n{}", int8.text())).unwrap_or_default();
            output::print_filled(&format!("{}{}{int8}", report::evaluation(report), report::mistakes(report)))
        }
        (_, Some(several)) => {
            let ensemble = EvaluationReport::new(several.ensemble, data);
            if !context.json {
                return output::print_filled(&report::several(&names, reports, &several.accuracy, &ensemble));
            }
            let of_runs = names.iter().zip(reports).zip(runs);
            let runs =
                of_runs.map(|((name, report), run)| RunReport { run: name, report, overlap: run.overlap }).collect();
            output::json(&Several { runs, accuracy: &several.accuracy, ensemble: &ensemble, skipped, unused })
        }
        (_, None) => Ok(()),
    }
}

/// Writes each report into its run. The result counts, whether or not the folder can be written now.
fn save(context: &Context, runs: &[Run], reports: &[EvaluationReport]) {
    for (run, report) in runs.iter().zip(reports) {
        match RunClaim::of(&run.folder).and_then(|claim| report.save(&claim, &run.data)) {
            Ok(_) if runs.len() > 1 => {
                context.remark(&format!("wrote the evaluation into {}", display_path(run.folder.path())));
            }
            Ok(files) => files.iter().for_each(|file| context.remark(&format!("wrote {}", display_path(file)))),
            Err(error) => context.remark(&format!("note: the evaluation is not saved: {error}")),
        }
    }
}

/// The result of one run as JSON: the report, what other recordings share with the training clips, and which clips and files are
/// not part of the evaluation.
#[derive(Serialize)]
struct Single<'a> {
    #[serde(flatten)]
    report: &'a EvaluationReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap: Option<Overlap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    int8: Option<&'a integer::Beside>,
    skipped: &'a [ClipError],
    unused: &'a Ledger,
}

/// The result of several runs as JSON.
#[derive(Serialize)]
struct Several<'a> {
    runs: Vec<RunReport<'a>>,
    accuracy: &'a crate::train::Mean,
    ensemble: &'a EvaluationReport,
    skipped: &'a [ClipError],
    unused: &'a Ledger,
}

#[derive(Serialize)]
struct RunReport<'a> {
    run: &'a str,
    #[serde(flatten)]
    report: &'a EvaluationReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap: Option<Overlap>,
}
