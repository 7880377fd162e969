//! `stapes train`: trains a network, prints the result and saves it.

use super::context::Context;
use super::ending::{Ending, usage};
use super::settings::Settings;
use super::table::{bytes, count, duration, thousands};
use super::{example, hints, interrupt, models, output, progress, recordings, report, run_name, settings, shell};
use crate::base::Name;
use crate::base::name::display_path;
use crate::data::{DataError, Dataset, Hint, Split};
use crate::nn::Network;
use crate::train::{
    Evaluation, EvaluationReport, Group, Observer, Outcome, Recipe, RunClaim, RunFolder, SETTINGS, Session,
    TrainConfig, check_settings, seconds_per_epoch,
};
use anyhow::Result;
use serde_json::json;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  stapes train
  stapes train --minutes 10
  stapes train --data speech_commands_v0.02.tar.gz --classes yes,no,up,down --epochs 30
  stapes train --data speech_commands --classes yes,no --unknown other-words --silence
  stapes train --data trials.npz --model net.toml --set standardise=true
  stapes train --recipe plain --model vgg64-16
  stapes train --init-from runs/NAME --freeze all-but-head --data my_words
  stapes train --model vgg64-16 --variant do+bn --set dropout=0.5
  stapes train --config runs/NAME/config.toml --seed 2
  stapes train --resume runs/NAME --epochs 40
  stapes train --set help                       list every setting with its values

Ctrl-C saves the run; --resume continues it bit for bit.";

/// Options of `stapes train`.
#[derive(Debug, clap::Args)]
#[command(after_help = below_help())]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    /// Name of the run [default: network, variant and date].
    #[arg(long)]
    name: Option<String>,
    /// Folder in which the folder of the run is made.
    #[arg(long, value_name = "DIR", default_value = "runs")]
    runs: PathBuf,
    /// Replace a run of the same name, once the new run has its first checkpoint.
    #[arg(long)]
    force: bool,
    /// Continue a run that was interrupted, with its own settings except --epochs and --data.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["name", "force", "runs"])]
    resume: Option<PathBuf>,
    /// Write the page of `stapes explain` into the run at its end.
    #[arg(long)]
    explain: bool,
}

/// The examples and the keys of the settings that have no option of their own.
fn below_help() -> String {
    let groups = [Group::Optimisation, Group::Augmentation, Group::Transfer];
    let keys = groups.map(|group| {
        let keys = SETTINGS.iter().filter(|setting| setting.group == group).map(|setting| setting.key);
        format!("{}: {}.", group.heading(), keys.collect::<Vec<_>>().join(", "))
    });
    format!("{EXAMPLES}\n\nSettings for --set, among others:\n\n{}", keys.join("\n\n"))
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if args.resume.is_none() && args.settings.asks_for_help() {
        return output::print(&settings::help(context)?);
    }
    if args.explain && !cfg!(feature = "explain") {
        return Err(usage("this program was built without explanations; leave out --explain"));
    }
    let folder = match &args.resume {
        Some(path) => resume(args, path, context)?,
        None => start(args, context)?,
    };
    match args.explain {
        true => super::explain::at_end_of(&folder, context),
        false => Ok(()),
    }
}

/// Trains a new run, and gives its folder.
fn start(args: &Args, context: &Context) -> Result<PathBuf> {
    let minutes = args.settings.minutes()?;
    let resolve = |epochs| recordings::follow(args.settings.resolve(context.seed, epochs)?, &args.settings.set);
    let (mut config, left_out) = resolve(None)?;
    let added = config.extra_classes().names();
    match config.classes.iter().chain(added.iter().filter(|name| !config.classes.contains(name))).count() {
        _ if config.classes.is_empty() => config.network.check()?,
        classes => drop(Network::build(&config.network, classes)?),
    }
    // The folder is claimed before the recordings are read, which can take minutes. A run that is to be replaced stays
    // until the new one has begun.
    let claim = match &args.name {
        Some(name) => RunClaim::create(&args.runs, &run_name::check(name)?, args.force)?,
        None => RunClaim::create_numbered(&args.runs, &run_name::dated(&config.network))?,
    };
    interrupt::watch()?;
    let data = Arc::new(recordings::open(context, config.data.as_deref(), &recordings::config_of(&config))?);
    check_training_clips(&data)?;
    let device = context.device()?;
    if let Some(minutes) = minutes {
        let seconds = seconds_per_epoch(&config, &data, device.clone())?;
        let epochs = ((60.0 * minutes / seconds) as u64).clamp(1, 100_000);
        context.remark(&format!(
            "time     an epoch takes about {}: {} in {minutes} minutes",
            duration(seconds),
            count(epochs, "epoch")
        ));
        config = resolve(Some(epochs))?.0;
    }
    settings::make_absolute(&mut config);
    settings::remark_on_precision(context, config.precision, &device);
    let session = Session::start(config.clone(), data.clone(), claim, device)?;
    context.remark(&introduction(context, &config, args.settings.recipe()?.as_ref(), &data, &session));
    left_out.iter().for_each(|remark| context.remark(remark));
    Hint::of(&data).iter().for_each(|hint| context.remark(&hints::note(hint, data.grouping())));
    work(context, &config, &data, session)
}

/// Trains a run to its end, and gives its folder.
fn resume(args: &Args, path: &Path, context: &Context) -> Result<PathBuf> {
    if let Some(option) = args.settings.given_beside_resume() {
        return Err(usage(format!(
            "{option} cannot be given with --resume: the run keeps its settings; start a new run with --config instead"
        )));
    }
    let folder = RunFolder::open(path)?;
    let claim = RunClaim::of(&folder)?;
    if claim.restored() {
        context.remark(&format!(
            "note: {} holds its earlier run: the process that was replacing it was killed before its first checkpoint",
            display_path(path)
        ));
    }
    let mut config = TrainConfig::load(&folder.config())?;
    check_settings(&folder, &config)?;
    if context.seed.is_some_and(|seed| seed != config.seed) {
        return Err(usage(format!("--seed cannot change with --resume: the run's seed is {}", config.seed)));
    }
    let before = config.clone();
    args.settings.apply_data(&mut config);
    if let Some(epochs) = &args.settings.epochs {
        settings::set(&mut config, "epochs", epochs)?;
    }
    interrupt::watch()?;
    let data = Arc::new(recordings::open(context, config.data.as_deref(), &recordings::config_of(&config))?);
    settings::make_absolute(&mut config);
    let session = Session::resume(config.clone(), data.clone(), claim, context.device()?)?;
    if session.metrics_rebuilt() {
        context.remark(
            "note: metrics.jsonl was incomplete and was written again from last.safetensors, which has no times",
        );
    }
    let done = session.records().len() as u64;
    if done > config.epochs {
        return Err(usage(format!("the run has {done} complete epochs; give --epochs at least that many")));
    }
    if config != before {
        crate::train::write_atomically(&folder.config(), config.to_toml().as_bytes())?;
    }
    if done == config.epochs {
        let more = done + done.div_ceil(2);
        context.remark(&format!(
            "{} is finished: all {} are done; this is its test (--epochs {more} continues the training)",
            display_path(path),
            count(done, "epoch")
        ));
    } else {
        context.remark(&introduction(context, &config, None, &data, &session));
        context.remark(&format!("continuing after {}", count(done, "complete epoch")));
    }
    work(context, &config, &data, session)
}

/// Whether there are training clips, checked before anything is written.
fn check_training_clips(data: &Dataset) -> Result<(), DataError> {
    match data.in_split(Split::Training).len() {
        0 => Err(DataError::EmptySplit { split: Split::Training, grouping: data.grouping() }),
        _ => Ok(()),
    }
}

/// What the run is going to do, line by line.
fn introduction(
    context: &Context,
    config: &TrainConfig,
    recipe: Option<&Recipe>,
    data: &Dataset,
    session: &Session,
) -> String {
    let words = || (0..data.clips().len()).filter(|&clip| !data.is_extra(clip)).map(|clip| &data.clips()[clip]);
    let speakers: HashSet<&Name> = words().map(|clip| &clip.speaker).collect();
    let clips = Split::ALL.map(|split| words().filter(|clip| clip.split == split).count() as u64);
    let per_split =
        Split::ALL.iter().zip(clips).map(|(&split, n)| format!("{} {}", thousands(n), report::split_name(split)));
    let network = session.network();
    let mut text = format!(
        "data     {}: {} of {}, {}\n         {}\n",
        data.source(),
        count(words().count() as u64, "clip"),
        recordings::count_classes(data),
        recordings::count_speakers(data, speakers.len()),
        per_split.collect::<Vec<_>>().join(", "),
    );
    recordings::added_classes(data).iter().for_each(|line| text += &format!("{line}\n"));
    text += &format!(
        "network  {}: {}, {:.1} million MACs per clip\n",
        models::described(&config.network),
        count(network.params(), "parameter"),
        network.macs() as f64 / 1e6
    );
    if let Some(recipe) = recipe {
        text += &format!("recipe   {}\n", recipe_line(recipe));
    }
    let changed = settings::changed(config);
    if !changed.is_empty() {
        text += &format!("options  {}\n", changed.join(", "));
    }
    // The embedded recordings never have noise of their own.
    if let (Some(noise), true) = (session.noise_remark(), config.data.is_some()) {
        text += &format!("noise    {noise}\n");
    }
    if let Some(transfer) = session.transfer() {
        text += &format!("layers   {transfer}\n");
    }
    text += &format!(
        "run      {} of {} of at most {}, Adam {}, seed {}\n",
        count(config.epochs, "epoch"),
        count(session.steps_per_epoch(), "step"),
        count(config.batch as u64, "clip"),
        config.adam.lr,
        config.seed
    );
    text += &format!(
        "machine  {}, {} for activations and gradients\n",
        context.machine(session.device()),
        bytes(session.memory_bytes() as u64)
    );
    text += &format!("folder   {}", display_path(session.folder().path()));
    if clips[1] == 0 {
        text += "\nnote: there are no validation clips; the weights of the last epoch count as the best";
    }
    if context.verbose {
        text += &format!("\n{}", config.to_toml().trim_end());
    }
    text
}

/// The recipe of a run, and what to do for another one.
fn recipe_line(recipe: &Recipe) -> String {
    let summary = if recipe.summary.is_empty() { String::new() } else { format!(": {}", recipe.summary) };
    let other = if recipe.name == Recipe::BEST { "\n         (`--recipe plain` trains as the study did)" } else { "" };
    format!("{}{summary}{other}", recipe.name)
}

/// Trains to the end, or until interrupted, and gives the folder of the run.
fn work(context: &Context, config: &TrainConfig, data: &Arc<Dataset>, mut session: Session) -> Result<PathBuf> {
    recordings::name_skipped(context, data);
    let mut observer = progress::Training::new(context, config, data.classes().len());
    let outcome = session.run(&mut observer as &mut dyn Observer);
    observer.finish();
    interrupt::unwatch();
    match outcome? {
        Outcome::Finished { best_epoch, test } => {
            let seconds = session.records().iter().map(|record| record.seconds).sum();
            let end = End { context, config, data, session: &session, seconds };
            end.show(best_epoch, test.as_ref())?;
            Ok(session.folder().path().to_path_buf())
        }
        Outcome::Interrupted { epoch, step } => {
            let run = session.folder().path();
            if context.json {
                output::json(&json!({ "run": display_path(run), "interrupted": true, "epoch": epoch, "step": step }))?;
            }
            let done = format!("{} and {}", count(epoch, "epoch"), count(step, "step"));
            let next = shell::next(["train".as_ref(), "--resume".as_ref(), run.as_os_str()]);
            let sentence = format!("interrupted after {done}; everything is saved\n{next}");
            Err(Ending::Interrupted(sentence).into())
        }
    }
}

/// What is told at the end of a run.
struct End<'a> {
    context: &'a Context,
    config: &'a TrainConfig,
    data: &'a Dataset,
    session: &'a Session,
    /// Of all epochs, before an interruption too.
    seconds: f64,
}

impl End<'_> {
    fn show(&self, best_epoch: u64, test: Option<&Evaluation>) -> Result<()> {
        let examples = test.map(|test| report::examples(test, self.data)).unwrap_or_default();
        let test = test.map(|test| EvaluationReport::new(test.clone(), self.data));
        let run = self.session.folder().path();
        if self.context.json {
            let last = self.session.records().last();
            return output::json(&json!({
                "run": display_path(run),
                "model": self.config.network.name,
                "params": self.session.network().params(),
                "classes": self.data.classes(),
                "skipped": self.data.problems(),
                "unused": self.data.ledger(),
                "epochs": self.session.records().len(),
                "best_epoch": best_epoch,
                "validation_accuracy": self.session.records().iter().find(|r| r.epoch == best_epoch).map(|r| r.validation_accuracy),
                "weights": last.map(|r| &r.weights),
                "seconds": self.seconds,
                "test": test,
                "examples": examples,
            }));
        }
        let mut text = String::new();
        if let Some(test) = &test {
            text += &report::evaluation(test);
            text += &format!("\n{}\n", report::example_lines(&examples));
        }
        let number = examples.first().map_or(0, |example| example.number);
        let next = match example::clip_file(self.data, number, self.session.folder()) {
            Some(clip) => shell::next(["predict".as_ref(), run.as_os_str(), clip.as_os_str()]),
            None => shell::next(["eval".as_ref(), run.as_os_str()]),
        };
        #[cfg(feature = "explain")]
        let next = format!("{}\n{next}", shell::look(["explain".as_ref(), run.as_os_str()]));
        text += &format!(
            "trained for {}; the weights are those of epoch {best_epoch}\nsaved in {}\n{}",
            duration(self.seconds),
            display_path(run),
            if self.context.quiet { String::new() } else { next + "\n" },
        );
        output::print_filled(&text)
    }
}
