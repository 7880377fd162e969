//! `stapes eval`: evaluates a trained network on the clips of a split.

use super::context::Context;
use super::settings;
use super::{interrupt, output, recordings, report};
use crate::base::name::display_path;
use crate::data::{ClipError, Ledger, Split};
use crate::ops::ConvChoice;
use crate::ops::device::Precision;
use crate::train::{Bundle, EVAL_BATCH, Evaluation, Recogniser, RunClaim, Which, check_split, save_evaluation};
use anyhow::{Result, bail};
use clap::ValueEnum;
use std::path::PathBuf;
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  stapes eval runs/NAME
  stapes eval runs/NAME --split validation --weights last --json

Writes eval-SPLIT.json, confusion-SPLIT.csv and predictions-SPLIT.csv (the probability of each class for every clip)
into the run.";

/// Options of `stapes eval`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder of a run.
    run: PathBuf,
    /// Recordings of the run, if they have been moved.
    #[arg(long, value_name = "DIR|TAR.GZ")]
    data: Option<PathBuf>,
    /// Clips to evaluate on.
    #[arg(long, value_enum, default_value = "test")]
    split: Part,
    /// Weights: those with the highest accuracy on the validation clips, or those of the last step.
    #[arg(long, value_enum, default_value = "best")]
    weights: Weights,
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
enum Weights {
    Best,
    Last,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if args.run.is_file() {
        bail!("{} is a file; give the folder of the run, which lists the clips", display_path(&args.run));
    }
    let which = match args.weights {
        Weights::Best => Which::Best,
        Weights::Last => Which::Last,
    };
    let bundle = Bundle::open(&args.run, which)?;
    let (Some(folder), Some(mut config)) = (bundle.folder, bundle.config) else {
        bail!("{} is not a run folder; give the folder that `stapes train` made", display_path(&args.run));
    };
    config.strict |= args.strict;
    if let Some(data) = &args.data {
        config.data = Some(data.clone());
    }
    interrupt::watch()?;
    let data = Arc::new(recordings::open(context, config.data.as_deref(), &recordings::config_of(&config))?);
    interrupt::unwatch();
    recordings::name_skipped(context, &data);
    check_split(&folder, &data)?;
    let split = match args.split {
        Part::Test => Split::Testing,
        Part::Validation => Split::Validation,
        Part::Training => Split::Training,
    };
    let conv = settings::conv(args.conv.as_deref(), config.conv)?;
    let precision = settings::precision(args.precision.as_deref(), config.precision)?;
    let device = context.device()?.precision(precision);
    settings::remark_on_precision(context, precision, &device);
    let recogniser = Recogniser::builder(bundle.network, bundle.weights).batch(EVAL_BATCH).conv(conv);
    let mut recogniser = recogniser.device(device).build()?;
    let evaluation = recogniser.evaluate(&data, split)?;
    match context.json {
        true => output::json(&Report { evaluation: &evaluation, skipped: data.problems(), unused: data.ledger() })?,
        false => output::print_filled(&format!(
            "{}{}",
            report::evaluation(&evaluation),
            report::mistakes(&evaluation, &data)
        ))?,
    }
    // The result counts, whether or not the folder can be written now.
    let saved = RunClaim::of(&folder).and_then(|claim| save_evaluation(&claim, &evaluation, &data));
    match saved {
        Ok(files) => files.iter().for_each(|file| context.remark(&format!("wrote {}", display_path(file)))),
        Err(error) => context.remark(&format!("note: the evaluation is not saved: {error}")),
    }
    Ok(())
}

/// The result as JSON: the evaluation, and which clips and files of the data are not part of it.
#[derive(serde::Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    evaluation: &'a Evaluation,
    skipped: &'a [ClipError],
    unused: &'a Ledger,
}
