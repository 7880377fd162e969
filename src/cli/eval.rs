//! `stapes eval`: evaluates trained networks on the clips of a split, or on other recordings.

use super::context::Context;
use super::ending::usage;
use super::table::{count, thousands};
use super::{interrupt, output, recordings, report, settings};
use crate::base::name::display_path;
use crate::data::{ClipError, DataConfig, Dataset, Ledger, Reason, Split, SplitRule};
use crate::exec::Device;
use crate::nn::Network;
use crate::ops::ConvChoice;
use crate::ops::device::Precision;
use crate::train::{
    Bundle, EVAL_BATCH, Evaluation, EvaluationReport, Overlap, Recogniser, RunClaim, RunFolder, SeveralRuns, Shifts,
    TrainConfig, Weights, Which, check_same_clips, check_split, differing_setting, overlap_with_training,
};
use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  stapes eval runs/NAME
  stapes eval runs/NAME --split validation --weights last --json
  stapes eval runs/NAME other-recordings
  stapes eval runs/seed-1 runs/seed-2 runs/seed-3

Writes eval-SPLIT.json, confusion-SPLIT.csv, predictions-SPLIT.csv (the
probability of each class for every clip) and reliability-SPLIT.csv (confidence
and accuracy in 15 bins) into the run; SPLIT is `other` for other recordings.";

/// Options of `stapes eval`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder of a run.
    run: PathBuf,
    /// Further runs, trained like the first with other seeds, for mean and spread of the accuracy; or other recordings, of which all clips are evaluated.
    #[arg(value_name = "RUN|DIR|TAR.GZ")]
    more: Vec<PathBuf>,
    /// The run's own recordings, if they have been moved.
    #[arg(long, value_name = "DIR|TAR.GZ")]
    data: Option<PathBuf>,
    /// Clips of the run's own recordings to evaluate on [default: test].
    #[arg(long, value_enum)]
    split: Option<Part>,
    /// Average the probabilities over N shifts of each clip, 20 ms apart (5: 0, +-20 and +-40 ms); N is odd and takes N times as long.
    #[arg(long, value_name = "N", default_value_t)]
    shifts: Shifts,
    /// Weights: those with the highest accuracy on the validation clips, or those of the last step.
    #[arg(long, value_enum, default_value = "best")]
    weights: Weighing,
    /// Stop at the first clip that cannot be used, instead of skipping it.
    #[arg(long)]
    strict: bool,
    /// Algorithm of convolutions: every operation by itself, fused with Toom-Cook (Winograd), or the faster of both [default: as in the run].
    #[arg(long, value_name = "HOW", value_parser = ConvChoice::NAMES)]
    conv: Option<String>,
    /// Precision of matrix products on a GPU [default: as in the run].
    #[arg(long, value_name = "HOW", value_parser = Precision::NAMES)]
    precision: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    Test,
    Validation,
    Training,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "lowercase")]
enum Weighing {
    Best,
    Last,
}

/// The runs and the recordings that the command line names.
struct Paths<'a> {
    runs: Vec<&'a Path>,
    /// Recordings other than those of the runs.
    other: Option<&'a Path>,
}

/// A run that is opened, with the recordings it is evaluated on.
struct Run {
    folder: RunFolder,
    config: TrainConfig,
    network: Arc<Network>,
    weights: Weights,
    /// Whether the recordings are those of an earlier run of the command line.
    shared: bool,
    source: Option<PathBuf>,
    reading: DataConfig,
    data: Arc<Dataset>,
    /// What other recordings share with the training clips.
    overlap: Option<Overlap>,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let paths = paths(args)?;
    let split = match (paths.other, args.split) {
        (Some(_), _) => None,
        (None, Some(Part::Validation)) => Some(Split::Validation),
        (None, Some(Part::Training)) => Some(Split::Training),
        (None, Some(Part::Test) | None) => Some(Split::Testing),
    };
    interrupt::watch()?;
    let mut runs: Vec<Run> = Vec::new();
    for path in &paths.runs {
        let run = open(args, context, path, paths.other, &runs)?;
        if let Some(first) = runs.first() {
            check_same_clips((first.folder.path(), &first.data), (path, &run.data), split)?;
        }
        runs.push(run);
    }
    interrupt::unwatch();
    remark_on_recordings(context, &runs, paths.other.is_some());
    let device = context.device()?;
    let mut reports = Vec::new();
    for run in &runs {
        let evaluation = evaluate(args, context, run, split, &device)?;
        reports.push(EvaluationReport::new(evaluation, &run.data));
    }
    print(context, &runs, &reports)?;
    save(context, &runs, &reports);
    Ok(())
}

/// Sorts the paths of the command line: what has the files of a run is a run, anything else recordings.
fn paths(args: &Args) -> Result<Paths<'_>> {
    if args.run.is_file() {
        bail!("{} is a file; give the folder of the run, which lists the clips", display_path(&args.run));
    }
    let mut paths = Paths { runs: vec![&args.run], other: None };
    for path in &args.more {
        if RunFolder::open(path).is_ok() {
            let same = |run: &&Path| std::fs::canonicalize(run).ok() == std::fs::canonicalize(path).ok();
            if paths.runs.iter().any(same) {
                return Err(usage(format!("the run {} is given twice; give each run once", display_path(path))));
            }
            paths.runs.push(path);
        } else if let Some(other) = paths.other {
            let (first, second) = (display_path(other), display_path(path));
            return Err(usage(format!(
                "neither {first} nor {second} is a run; give recordings once, and runs otherwise"
            )));
        } else {
            paths.other = Some(path);
        }
    }
    match paths.other {
        Some(other) if !other.exists() => {
            bail!(
                "{} does not exist; give the folder of a run, or recordings with one folder per word",
                display_path(other)
            )
        }
        Some(_) if args.split.is_some() => Err(usage(
            "--split chooses among the run's own recordings; of other recordings all clips are evaluated, so leave it out",
        )),
        Some(_) if args.data.is_some() => Err(usage(
            "--data says where the run's own recordings are now; it has no use beside other recordings, so leave it out",
        )),
        _ => Ok(paths),
    }
}

/// Opens a run and its recordings, or the other ones; those of an earlier run are not read again.
fn open(args: &Args, context: &Context, path: &Path, other: Option<&Path>, earlier: &[Run]) -> Result<Run> {
    let which = match args.weights {
        Weighing::Best => Which::Best,
        Weighing::Last => Which::Last,
    };
    let Bundle { network, weights, folder, config, classes, .. } = Bundle::open(path, which)?;
    let (Some(folder), Some(mut config)) = (folder, config) else {
        bail!("{} is not a run folder; give the folder that `stapes train` made", display_path(path));
    };
    config.strict |= args.strict;
    let (source, reading) = match other {
        Some(other) => {
            let of_run = recordings::config_of(&config);
            let split = SplitRule::Speaker; // of no effect: all clips are evaluated
            (Some(other), DataConfig { classes: Some(classes), split, allow_other_words: true, ..of_run })
        }
        None => (args.data.as_deref().or(config.data.as_deref()), recordings::config_of(&config)),
    };
    let source = source.map(Path::to_path_buf);
    let known = earlier.iter().find(|run| run.source == source && run.reading == reading);
    let data = match known {
        Some(run) => run.data.clone(),
        None => Arc::new(recordings::open(context, source.as_deref(), &reading)?),
    };
    if other.is_none() {
        check_split(&folder, &data)?;
    }
    let overlap = other.and_then(|_| overlap_with_training(&folder, &data));
    Ok(Run { folder, config, network, weights, shared: known.is_some(), source, reading, data, overlap })
}

/// Says which recordings are not used, and what makes an accuracy mean less than it seems to.
fn remark_on_recordings(context: &Context, runs: &[Run], other: bool) {
    for run in runs {
        if !run.shared {
            recordings::name_skipped(context, &run.data);
        }
        if !other {
            continue;
        }
        if !run.shared {
            remark_on_words(context, &run.data);
        }
        let Overlap { clips, clips_of_speakers } = run.overlap.unwrap_or_default();
        if clips + clips_of_speakers > 0 {
            context.remark(&format!(
                "note: of the {} of {}, {} were used to train {} and {} more are of the same speakers, so the accuracy is too \
                 high for new voices",
                count(run.data.clips().len() as u64, "clip"),
                run.data.source(),
                thousands(clips),
                display_path(run.folder.path()),
                thousands(clips_of_speakers),
            ));
        }
    }
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

/// Names the words that the recordings lack, and those that are no class of the network.
fn remark_on_words(context: &Context, data: &Dataset) {
    let missing = missing_words(data);
    if !missing.is_empty() {
        context.remark(&format!(
            "note: {} has no clips of {} of the {}: {}",
            data.source(),
            missing.len(),
            count(data.classes().len() as u64, "word"),
            recordings::name_list(&missing),
        ));
    }
    let omissions = data.ledger().omissions().iter().filter(|omission| omission.reason == Reason::OtherWord);
    let words: Vec<String> = omissions.filter_map(|omission| Some(omission.class.as_ref()?.to_string())).collect();
    if !words.is_empty() {
        context.remark(&format!(
            "note: {} of {} are left out, which the network does not know: {}",
            count(data.ledger().count(Reason::OtherWord), "clip"),
            count(words.len() as u64, "word"),
            recordings::name_list(&words),
        ));
    }
}

/// The classes without clips.
fn missing_words(data: &Dataset) -> Vec<String> {
    let counts = data.counts();
    let missing = data.classes().iter().zip(&counts).filter(|(_, of)| of.iter().sum::<usize>() == 0);
    missing.map(|(class, _)| class.to_string()).collect()
}

fn evaluate(args: &Args, context: &Context, run: &Run, split: Option<Split>, device: &Device) -> Result<Evaluation> {
    let conv = settings::conv(args.conv.as_deref(), run.config.conv)?;
    let precision = settings::precision(args.precision.as_deref(), run.config.precision)?;
    let device = device.clone().precision(precision);
    settings::remark_on_precision(context, precision, &device);
    let recogniser = Recogniser::builder(&run.network, run.weights.clone()).batch(EVAL_BATCH).conv(conv);
    let mut recogniser = recogniser.device(device).build()?;
    Ok(recogniser.evaluate_shifted(&run.data, split, args.shifts)?)
}

fn print(context: &Context, runs: &[Run], reports: &[EvaluationReport]) -> Result<()> {
    let data = &runs[0].data;
    let (skipped, unused) = (data.problems(), data.ledger());
    let names: Vec<String> = runs.iter().map(|run| display_path(run.folder.path())).collect();
    let evaluations: Vec<Evaluation> = reports.iter().map(|report| report.evaluation.clone()).collect();
    match (reports, SeveralRuns::of(&evaluations)) {
        ([report], _) if context.json => output::json(&Single { report, overlap: runs[0].overlap, skipped, unused }),
        ([report], _) => output::print_filled(&format!("{}{}", report::evaluation(report), report::mistakes(report))),
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
