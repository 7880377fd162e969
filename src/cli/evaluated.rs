//! Runs that a command evaluates on the same clips, their own or other ones.

use super::context::Context;
use super::ending::usage;
use super::table::{count, thousands};
use super::{interrupt, recordings, settings};
use crate::base::name::display_path;
use crate::data::{DataConfig, Dataset, Reason, Split, SplitRule};
use crate::exec::Device;
use crate::nn::Network;
use crate::ops::ConvChoice;
use crate::ops::device::Precision;
use crate::train::{
    Bundle, EVAL_BATCH, Evaluation, EvaluationReport, Overlap, Predictor, RunFolder, Shifts, TrainConfig, Weights,
    Which, check_same_clips, check_split, overlap_with_training,
};
use anyhow::{Result, bail};
use clap::ValueEnum;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The options of the commands that evaluate runs.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The run's own recordings, if they have been moved.
    #[arg(long, value_name = "DIR|FILE")]
    data: Option<PathBuf>,
    /// Clips of the run's own recordings to evaluate on [default: test].
    #[arg(long, value_enum)]
    split: Option<Part>,
    /// Average the probabilities over N shifts of each clip, 20 ms apart (5: 0, +-20 and +-40 ms); N is odd and takes N times as long.
    #[arg(long, value_name = "N", default_value_t)]
    pub shifts: Shifts,
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

impl Options {
    /// The weights of each run.
    pub fn which(&self) -> Which {
        match self.weights {
            Weighing::Best => Which::Best,
            Weighing::Last => Which::Last,
        }
    }

    /// The algorithm of convolutions for a run with this configuration.
    pub fn conv_of(&self, config: &TrainConfig) -> Result<ConvChoice> {
        settings::conv(self.conv.as_deref(), config.conv)
    }
}

/// The runs and the recordings that the command line names.
struct Paths<'a> {
    runs: Vec<&'a Path>,
    /// Recordings other than those of the runs.
    other: Option<&'a Path>,
}

/// A run that is opened, with the recordings it is evaluated on.
pub struct Run {
    /// Its folder.
    pub folder: RunFolder,
    /// Its settings.
    pub config: TrainConfig,
    /// Its network.
    pub network: Arc<Network>,
    weights: Weights,
    /// Whether the recordings are those of an earlier run of the command line.
    shared: bool,
    source: Option<PathBuf>,
    reading: DataConfig,
    /// The recordings that it is evaluated on.
    pub data: Arc<Dataset>,
    /// What other recordings share with the training clips.
    pub overlap: Option<Overlap>,
}

/// Runs that are opened, and what they predict for the same clips.
pub struct Evaluated {
    /// The runs, in the order of the command line.
    pub runs: Vec<Run>,
    /// Their evaluations.
    pub reports: Vec<EvaluationReport>,
}

/// Opens the runs among `paths` and evaluates them on the same clips: on those of other recordings if `paths` name any, else on a split of
/// their own. `note` is called with the open runs, before anything is computed.
pub fn evaluate(options: &Options, paths: &[PathBuf], context: &Context, note: impl Fn(&[Run])) -> Result<Evaluated> {
    let paths = sorted(options, paths)?;
    let split = match (paths.other, options.split) {
        (Some(_), _) => None,
        (None, Some(Part::Validation)) => Some(Split::Validation),
        (None, Some(Part::Training)) => Some(Split::Training),
        (None, Some(Part::Test) | None) => Some(Split::Testing),
    };
    interrupt::watch()?;
    let mut runs: Vec<Run> = Vec::new();
    for path in &paths.runs {
        let run = open(options, context, path, paths.other, &runs)?;
        if let Some(first) = runs.first() {
            check_same_clips((first.folder.path(), &first.data), (path, &run.data), split)?;
        }
        runs.push(run);
    }
    interrupt::unwatch();
    remark_on_recordings(context, &runs, paths.other.is_some());
    note(&runs);
    let device = context.device()?;
    let report = |run: &Run| -> Result<EvaluationReport> {
        Ok(EvaluationReport::new(predictions(options, context, run, split, &device)?, &run.data))
    };
    let reports = runs.iter().map(report).collect::<Result<_>>()?;
    Ok(Evaluated { runs, reports })
}

/// Sorts the paths of the command line: what has the files of a run is a run, anything else recordings.
fn sorted<'a>(options: &Options, paths: &'a [PathBuf]) -> Result<Paths<'a>> {
    let Some((first, more)) = paths.split_first() else { return Err(usage("give the folder of a run")) };
    if first.is_file() {
        bail!("{} is a file; give the folder of the run, which lists the clips", display_path(first));
    }
    let mut paths = Paths { runs: vec![first], other: None };
    for path in more {
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
        Some(_) if options.split.is_some() => Err(usage(
            "--split chooses among the run's own recordings; of other recordings all clips are evaluated, so leave it out",
        )),
        Some(_) if options.data.is_some() => Err(usage(
            "--data says where the run's own recordings are now; it has no use beside other recordings, so leave it out",
        )),
        _ => Ok(paths),
    }
}

/// Opens a run and its recordings, or the other ones; those of an earlier run are not read again.
fn open(options: &Options, context: &Context, path: &Path, other: Option<&Path>, earlier: &[Run]) -> Result<Run> {
    let Bundle { network, weights, folder, config, classes, standardisation, .. } =
        Bundle::open(path, options.which())?;
    let (Some(folder), Some(mut config)) = (folder, config) else {
        bail!("{} is not a run folder; give the folder that `stapes train` made", display_path(path));
    };
    config.strict |= options.strict;
    let of_run = recordings::config_of_trained(&config, standardisation.as_ref());
    let (source, reading) = match other {
        Some(other) => {
            let split = SplitRule::Speaker; // of no effect: all clips are evaluated
            (Some(other), recordings::of_others(of_run, classes, split))
        }
        None => (options.data.as_deref().or(config.data.as_deref()), of_run),
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
            let grouping = run.data.grouping();
            context.remark(&format!(
                "note: of the {} of {}, {} were used to train {} and {} more are of the same {}, so the accuracy is too high \
                 for {}",
                count(run.data.clips().len() as u64, "clip"),
                run.data.source(),
                thousands(clips),
                display_path(run.folder.path()),
                thousands(clips_of_speakers),
                grouping.plural(),
                grouping.others(),
            ));
        }
    }
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

fn predictions(
    options: &Options,
    context: &Context,
    run: &Run,
    split: Option<Split>,
    device: &Device,
) -> Result<Evaluation> {
    let conv = options.conv_of(&run.config)?;
    let precision = settings::precision(options.precision.as_deref(), run.config.precision)?;
    let device = device.clone().precision(precision);
    settings::remark_on_precision(context, precision, &device);
    let predictor = Predictor::builder(&run.network, run.weights.clone()).batch(EVAL_BATCH).conv(conv);
    let mut predictor = predictor.device(device).build()?;
    Ok(predictor.evaluate_shifted(&run.data, split, options.shifts)?)
}
