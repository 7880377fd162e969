//! `stapes study`: many runs as a queue, and their tables.

use super::context::Context;
use super::ending::{Ending, usage};
use super::table::{count, duration};
use super::{interrupt, output, progress, recordings, settings, shell};
use crate::base::name::{display, display_path};
use crate::base::nearest::nearest;
use crate::data::{DataConfig, Dataset};
use crate::study::{PlannedRun, RunState, Seeds, StudyReport, StudySpec};
use crate::train::{Outcome, RunClaim, RunFolder, Session, TrainConfig, TrainError, write_atomically};
use anyhow::{Result, anyhow};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const EXAMPLES: &str = "\
Examples:
  stapes study run study.toml
  stapes study run --tables steep32,shrink64 --variants do,bn,do+bn --seeds 3 --data DIR
  stapes study run --networks custom32-8 --grid lr=0.001,0.003 --set epochs=10
  stapes study commands study.toml
  stapes study report study.toml --output study.md

A study that was interrupted goes on where it stopped when the same command is given again. Several processes, also on several machines, can work on one study in one folder.";

/// Options of `stapes study`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Execute the runs that are not finished.
    Run {
        #[command(flatten)]
        of: Selection,
        /// Number of runs that are executed side by side, each with its share of the threads.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
        jobs: u16,
        /// Execute only the run of this name; may be repeated.
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
    },
    /// Print one command for each run that is not finished, for a job scheduler.
    Commands {
        #[command(flatten)]
        of: Selection,
    },
    /// Gather the finished runs into tables.
    Report {
        #[command(flatten)]
        of: Selection,
        /// Further folders with runs of the study, from other machines.
        #[arg(long, value_name = "DIR")]
        also: Vec<PathBuf>,
        /// File that is written, .md or .csv; if omitted, the table in Markdown is printed.
        #[arg(long, short, value_name = "FILE")]
        output: Vec<PathBuf>,
    },
}

/// The study: a file, options, or both.
#[derive(Debug, clap::Args)]
struct Selection {
    /// Study file in TOML; options change and extend it.
    file: Option<PathBuf>,
    /// Tables of the study's networks, separated by commas.
    #[arg(long, value_name = "A,B,..", value_delimiter = ',')]
    tables: Vec<String>,
    /// Networks by name or file, separated by commas.
    #[arg(long, value_name = "A,B,..", value_delimiter = ',')]
    networks: Vec<String>,
    /// Variants, separated by commas: do, bn, do+bn.
    #[arg(long, value_name = "A,B,..", value_delimiter = ',')]
    variants: Vec<String>,
    /// Number of seeds: 1 to N.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Recordings; if omitted, those of the study file, or the embedded ones.
    #[arg(long, value_name = "DIR|TAR.GZ")]
    data: Option<PathBuf>,
    /// Classes, separated by commas.
    #[arg(long, value_name = "A,B,..", value_delimiter = ',')]
    classes: Vec<String>,
    /// Recipe of all runs [default: plain].
    #[arg(long, value_name = "NAME|FILE.toml")]
    recipe: Option<String>,
    /// A setting of all runs; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Values of a setting, of which each is a run of its own; may be repeated, for all combinations.
    #[arg(long, value_name = "KEY=A,B,..")]
    grid: Vec<String>,
    /// Folder of the runs.
    #[arg(long, value_name = "DIR", default_value = "study")]
    runs: PathBuf,
}

impl Selection {
    fn spec(&self) -> Result<StudySpec> {
        let mut spec = self.file.as_deref().map(StudySpec::load).transpose()?.unwrap_or_default();
        if !self.tables.is_empty() || !self.networks.is_empty() {
            (spec.tables, spec.networks) = (self.tables.clone(), self.networks.clone());
        }
        if !self.variants.is_empty() {
            spec.variants.clone_from(&self.variants);
        }
        if !self.classes.is_empty() {
            spec.classes.clone_from(&self.classes);
        }
        if let Some(seeds) = self.seeds {
            spec.seeds = Seeds::Count(seeds);
        }
        spec.data = self.data.clone().or(spec.data);
        spec.recipe = self.recipe.clone().or(spec.recipe);
        for pair in &self.set {
            let (key, value) = pair_of(pair, "--set takes KEY=VALUE")?;
            spec.set.insert(key.into(), toml_value(value));
        }
        for pair in &self.grid {
            let (key, values) = pair_of(pair, "--grid takes KEY=A,B,..")?;
            spec.grid.insert(key.into(), values.split(',').map(toml_value).collect());
        }
        Ok(spec)
    }

    fn planned(&self) -> Result<Vec<PlannedRun>> {
        let mut planned = self.spec()?.expand()?;
        planned.iter_mut().for_each(|run| settings::make_absolute(&mut run.config));
        Ok(planned)
    }
}

fn pair_of<'a>(pair: &'a str, takes: &str) -> Result<(&'a str, &'a str)> {
    let split = pair.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
    split.ok_or_else(|| usage(format!("{takes}, and `{pair}` has no `=`")))
}

/// A value of the command line as TOML has it: a number or a truth value if it is one, else text.
fn toml_value(text: &str) -> toml::Value {
    let integer = text.parse().map(toml::Value::Integer).ok();
    let number = || text.parse().map(toml::Value::Float).ok();
    let truth = || text.parse().map(toml::Value::Boolean).ok();
    integer.or_else(number).or_else(truth).unwrap_or_else(|| toml::Value::String(text.into()))
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    match &args.action {
        Action::Run { of, jobs, only } => execute(of, only, usize::from(*jobs), context),
        Action::Commands { of } => commands(of),
        Action::Report { of, also, output } => report(of, also, output, context),
    }
}

fn commands(of: &Selection) -> Result<()> {
    // The options are those that were given: a run is found by its name among the same runs.
    let mut shared: Vec<OsString> = std::env::args_os().collect();
    if let Some(word) = shared.iter_mut().find(|word| *word == "commands") {
        *word = "run".into();
    }
    let mut text = String::new();
    for run in of.planned()? {
        if let RunState::Finished(_) = run.state(&of.runs)? {
            continue;
        }
        let words = [&shared[..], &["--only".into(), run.name.into()]].concat();
        text += &words.iter().map(|word| shell::quoted(word)).collect::<Vec<_>>().join(" ");
        text.push('\n');
    }
    output::print(&text)
}

fn report(of: &Selection, also: &[PathBuf], outputs: &[PathBuf], context: &Context) -> Result<()> {
    let planned = of.planned()?;
    let folders: Vec<&Path> = std::iter::once(&of.runs).chain(also).map(PathBuf::as_path).collect();
    let report = StudyReport::gather(&planned, &folders)?;
    if context.json {
        return output::json(&report);
    }
    if outputs.is_empty() {
        return output::print(&report.to_markdown());
    }
    for path in outputs {
        let text = match path.extension().and_then(|end| end.to_str()) {
            Some("md") => report.to_markdown(),
            Some("csv") => report.to_csv(),
            _ => return Err(usage(format!("{} must end in .md or .csv", display_path(path)))),
        };
        write_atomically(path, text.as_bytes())?;
        context.remark(&format!("wrote {}", display_path(path)));
    }
    Ok(())
}

/// Recordings as a run reads them.
struct Opened {
    source: Option<PathBuf>,
    reading: DataConfig,
    data: Arc<Dataset>,
}

/// What the workers share.
struct Queue<'a> {
    context: &'a Context,
    runs: &'a Path,
    planned: Vec<&'a PlannedRun>,
    total: usize,
    opened: Vec<Opened>,
    next: AtomicUsize,
    finished: AtomicUsize,
    elsewhere: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

fn execute(of: &Selection, only: &[String], jobs: usize, context: &Context) -> Result<()> {
    let mut planned = of.planned()?;
    if let Some(name) = only.iter().find(|name| planned.iter().all(|run| run.name != **name)) {
        let near = nearest(name, planned.iter().map(|run| run.name.as_str()));
        let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        return Err(usage(format!("the study has no run `{}`{near}", display(name))));
    }
    planned.retain(|run| only.is_empty() || only.contains(&run.name));
    let mut open_runs = Vec::new();
    for run in &planned {
        match run.state(&of.runs)? {
            RunState::Finished(_) => {}
            RunState::New | RunState::Begun => open_runs.push(run),
        }
    }
    let total = planned.len();
    context.remark(&format!(
        "study    {} in {}: {} finished",
        count(total as u64, "run"),
        display_path(&of.runs),
        total - open_runs.len()
    ));
    interrupt::watch()?;
    let mut opened: Vec<Opened> = Vec::new();
    for run in &open_runs {
        let (source, reading) = (run.config.data.clone(), recordings::config_of(&run.config));
        if opened.iter().all(|one| one.source != source || one.reading != reading) {
            let data = Arc::new(recordings::open(context, source.as_deref(), &reading)?);
            opened.push(Opened { source, reading, data });
        }
    }
    let jobs = jobs.min(open_runs.len().max(1));
    let queue = Queue {
        context,
        runs: &of.runs,
        total,
        finished: AtomicUsize::new(total - open_runs.len()),
        planned: open_runs,
        opened,
        next: AtomicUsize::new(0),
        elsewhere: AtomicUsize::new(0),
        failed: Mutex::new(Vec::new()),
    };
    let threads = (context.threads / jobs).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(|| queue.work(threads, jobs == 1))).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(anyhow!("a worker has panicked"))))
    })?;
    interrupt::unwatch();
    queue.end()
}

impl Queue<'_> {
    /// Takes runs from the queue until it is empty or the user interrupts.
    fn work(&self, threads: usize, alone: bool) -> Result<()> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        while let Some(run) = self.planned.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if interrupt::requested() {
                break;
            }
            let done = pool.install(|| self.execute(run, alone));
            match done {
                Ok(()) => {}
                Err(error) if is_in_use(&error) => _ = self.elsewhere.fetch_add(1, Ordering::Relaxed),
                Err(error) => {
                    output::note(&format!("{}: {error}", run.name));
                    self.failed.lock().expect("no worker panics with the lock").push(run.name.clone());
                }
            }
        }
        Ok(())
    }

    fn execute(&self, run: &PlannedRun, alone: bool) -> Result<()> {
        let reading = recordings::config_of(&run.config);
        let opened = self.opened.iter().find(|one| one.source == run.config.data && one.reading == reading);
        let data = &opened.expect("the recordings of every run were opened").data;
        let device = self.context.device()?;
        let folder = run.folder(self.runs);
        let mut session = match RunFolder::open(&folder) {
            Ok(folder) if folder.last().exists() => {
                let stored = TrainConfig::load(&folder.config())?;
                let config = TrainConfig { data: run.config.data.clone(), ..stored };
                Session::resume(config, data.clone(), RunClaim::of(&folder)?, device)?
            }
            Ok(_) => {
                let claim = RunClaim::create(self.runs, &run.name, true)?;
                Session::start(run.config.clone(), data.clone(), claim, device)?
            }
            Err(_) => {
                let claim = RunClaim::create(self.runs, &run.name, false)?;
                Session::start(run.config.clone(), data.clone(), claim, device)?
            }
        };
        let quiet = Context { quiet: self.context.quiet || !alone, ..self.context.clone() };
        let mut observer = progress::Training::new(&quiet, &run.config, data.classes().len());
        let outcome = session.run(&mut observer);
        observer.finish();
        match outcome? {
            Outcome::Interrupted { .. } => {}
            Outcome::Finished { test, .. } => {
                let seconds = session.records().iter().map(|record| record.seconds).sum();
                let number = self.finished.fetch_add(1, Ordering::Relaxed) + 1;
                let accuracy = test.map_or("no test clips".into(), |test| format!("accuracy {:.4}", test.accuracy));
                self.context.remark(&format!(
                    "{number} of {}: {}, {accuracy}, {}",
                    self.total,
                    run.name,
                    duration(seconds)
                ));
            }
        }
        Ok(())
    }

    /// What is told at the end.
    fn end(self) -> Result<()> {
        let (finished, elsewhere) = (self.finished.into_inner(), self.elsewhere.into_inner());
        let failed = self.failed.into_inner().expect("no worker panics with the lock");
        let state = format!("{finished} of {} are finished", count(self.total as u64, "run"));
        if interrupt::requested() {
            return Err(Ending::Interrupted(format!("interrupted; {state}; the same command goes on")).into());
        }
        if !failed.is_empty() {
            return Err(anyhow!("{state}; {} failed: {}", failed.len(), failed.join(", ")));
        }
        let elsewhere =
            if elsewhere > 0 { format!("; {elsewhere} are under way in other processes") } else { String::new() };
        output::print_filled(&format!("{state}{elsewhere}\n"))
    }
}

/// Whether another process executes the run.
fn is_in_use(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<TrainError>(), Some(TrainError::RunInUse { .. } | TrainError::RunExists(_)))
}
