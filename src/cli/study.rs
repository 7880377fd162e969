//! `stapes study`: many runs as a queue, and their tables.

use super::context::Context;
use super::ending::{Ending, usage};
use super::table::{count, duration};
use super::{interrupt, output, progress, recordings, settings, shell};
use crate::base::name::{display, display_path};
use crate::base::nearest::nearest;
use crate::data::{DataConfig, Dataset, Split};
use crate::nn::Network;
use crate::study::{PlannedRun, RunState, Seeds, StudyReport, StudySpec, pictures};
use crate::train::{Outcome, RunClaim, RunFolder, Session, TrainConfig, TrainError, write_atomically};
use anyhow::{Context as _, Result, anyhow};
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
  stapes study report study.toml --output study.html

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
        /// File that is written: .md, .csv or .html (with pictures, needs no network); may be repeated. If omitted, the tables are printed in Markdown.
        #[arg(long, short, value_name = "FILE")]
        output: Vec<PathBuf>,
        /// Folder to which the pictures are written, in SVG.
        #[arg(long, value_name = "DIR")]
        pictures: Option<PathBuf>,
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
        let spec = self.spec()?;
        let set: Vec<String> = spec.set.keys().chain(spec.grid.keys()).cloned().collect();
        let follow = |run: PlannedRun| {
            let (mut config, _) = recordings::follow(run.config, &set)?;
            settings::make_absolute(&mut config);
            Ok(PlannedRun { config, ..run })
        };
        spec.expand()?.into_iter().map(follow).collect()
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
        Action::Report { of, also, output, pictures } => report(of, also, output, pictures.as_deref(), context),
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

fn report(
    of: &Selection,
    also: &[PathBuf],
    outputs: &[PathBuf],
    folder: Option<&Path>,
    context: &Context,
) -> Result<()> {
    let (spec, planned) = (of.spec()?, of.planned()?);
    let folders: Vec<&Path> = std::iter::once(&of.runs).chain(also).map(PathBuf::as_path).collect();
    let report = StudyReport::gather(&spec, &planned, &folders)?;
    if context.json {
        return output::json(&report);
    }
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}; give another folder with --pictures", display_path(folder)))?;
        for picture in pictures(&report) {
            write_atomically(&folder.join(format!("{}.svg", picture.name)), picture.svg.as_bytes())?;
        }
        context.remark(&format!("wrote the pictures to {}", display_path(folder)));
    } else if outputs.is_empty() {
        return output::print(&report.to_markdown());
    }
    for path in outputs {
        let text = match path.extension().and_then(|end| end.to_str()) {
            Some("md") => report.to_markdown(),
            Some("csv") => report.to_csv(),
            Some("html") => report.to_html(),
            _ => return Err(usage(format!("{} must end in .md, .csv or .html", display_path(path)))),
        };
        write_atomically(path, text.as_bytes())?;
        context.remark(&format!("wrote {}", display_path(path)));
    }
    Ok(())
}

/// A run that is not finished.
struct Open<'a> {
    run: &'a PlannedRun,
    /// Complete epochs.
    done: u64,
    /// The MACs of a clip, times the epochs that are left: in proportion to the time that it takes.
    work: u64,
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
    planned: Vec<Open<'a>>,
    progress: progress::Studying,
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
        let done = match run.state(&of.runs)? {
            RunState::Finished(_) => continue,
            RunState::Begun(epochs) => epochs,
            RunState::New => 0,
        };
        let macs = Network::build(&run.config.network, run.config.classes.len().max(2))?.macs();
        let left = run.config.epochs.saturating_sub(done).max(1);
        open_runs.push(Open { run, done, work: macs.saturating_mul(left) });
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
    for Open { run, .. } in &open_runs {
        let (source, reading) = (run.config.data.clone(), recordings::config_of(&run.config));
        if opened.iter().all(|one| one.source != source || one.reading != reading) {
            let data = Arc::new(recordings::open(context, source.as_deref(), &reading)?);
            if data.in_split(Split::Testing).is_empty() {
                let data = source.as_deref().map_or("the embedded recordings".into(), display_path);
                return Err(anyhow!("{data} have no test clips, by which a study compares; set test_percent"));
            }
            opened.push(Opened { source, reading, data });
        }
    }
    let jobs = jobs.min(open_runs.len().max(1));
    let queue = Queue {
        context,
        runs: &of.runs,
        total,
        finished: AtomicUsize::new(total - open_runs.len()),
        progress: progress::Studying::new(context, open_runs.iter().map(|open| open.work).sum()),
        planned: open_runs,
        opened,
        next: AtomicUsize::new(0),
        elsewhere: AtomicUsize::new(0),
        failed: Mutex::new(Vec::new()),
    };
    let threads = (context.threads / jobs).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(|| queue.work(threads))).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(anyhow!("a worker has panicked"))))
    })?;
    interrupt::unwatch();
    queue.progress.finish();
    queue.end()
}

impl Queue<'_> {
    /// Takes runs from the queue until it is empty or the user interrupts.
    fn work(&self, threads: usize) -> Result<()> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        while let Some(open) = self.planned.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if interrupt::requested() {
                break;
            }
            let done = pool.install(|| self.execute(open));
            match done {
                Ok(()) => {}
                Err(error) if is_in_use(&error) => _ = self.elsewhere.fetch_add(1, Ordering::Relaxed),
                Err(error) => {
                    self.progress.line(&format!("{}: {error}", open.run.name));
                    self.failed.lock().expect("no worker panics with the lock").push(open.run.name.clone());
                }
            }
        }
        Ok(())
    }

    fn execute(&self, open: &Open) -> Result<()> {
        let run = open.run;
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
        let mut observer = self.progress.run(&run.name, open.work, open.done, run.config.epochs);
        let outcome = session.run(&mut observer);
        observer.finish();
        match outcome? {
            Outcome::Interrupted { .. } => {}
            Outcome::Finished { test, .. } => {
                let seconds = session.records().iter().map(|record| record.seconds).sum();
                let number = self.finished.fetch_add(1, Ordering::Relaxed) + 1;
                let accuracy = test.map_or("no test clips".into(), |test| format!("accuracy {:.4}", test.accuracy));
                self.progress.line(&format!(
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
        let state = format!("runs finished: {finished} of {}", self.total);
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
