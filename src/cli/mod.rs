//! The program: its commands, and the exit codes of their errors.

mod bench;
mod calibrate;
#[cfg(feature = "mic")]
mod capture;
mod classify;
mod clip_files;
mod compare;
mod completions;
mod context;
mod data;
mod devices;
mod ending;
mod eval;
mod evaluated;
mod example;
mod explain;
mod export;
mod features;
mod gradcheck;
mod help;
mod hints;
mod import;
mod integer;
mod interrupt;
mod listen;
mod man;
#[cfg_attr(not(feature = "mic"), path = "no_microphone.rs")]
mod microphone;
mod models;
mod output;
mod predict;
mod progress;
mod record;
mod recordings;
mod report;
mod run_name;
mod runs;
mod settings;
mod shell;
mod sound;
mod study;
mod table;
mod train;
mod width;

use crate::data::DataError;
use crate::train::TrainError;
use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use context::{Context, Global};
use ending::Ending;
use std::ffi::OsString;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  stapes train                              train on the embedded recordings
  stapes predict runs/NAME clip.wav         recognise the word in a sound file
  stapes train --data DIR --model vgg64-16  train on your own recordings
  stapes models                             list the networks

Results go to standard output, progress and remarks to standard error.
Text and tables are as wide as the terminal (or the variable COLUMNS, or 80 columns).

Exit codes: 0 success, 1 failure, 2 wrong command line, 130 interrupted.";

/// The most columns of help; longer lines are hard to read.
const HELP_WIDTH: usize = 100;

/// Trains and runs small 1-D convolutional networks that recognise words in raw audio.
#[derive(Debug, Parser)]
#[command(name = "stapes", version, after_help = EXAMPLES, subcommand_required = true,
          arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a network and test it.
    Train(Box<train::Args>),
    /// Evaluate trained networks on the clips of a split, or on other recordings.
    Eval(eval::Args),
    /// Compare trained networks on the same clips.
    Compare(compare::Args),
    /// Recognise the words in sound files.
    Predict(predict::Args),
    /// Recognise words in a long recording or a stream of sound as it arrives.
    Listen(listen::Args),
    /// Record a new word: cut out of the sound of a microphone, take by take.
    Record(record::Args),
    /// Write the activations of a layer for every clip, as features for other programs.
    Features(features::Args),
    /// Train other classifiers on the activations of a layer.
    Classify(classify::Args),
    /// Write a page on what a trained network has learned: maps of where it finds the word, its layers and its mistakes.
    Explain(explain::Args),
    /// Write a trained network as a file for other programs: ONNX, safetensors or arrays.
    Export(export::Args),
    /// Make a weight file of this program from weights that PyTorch has saved.
    Import(import::Args),
    /// List the runs in a folder with their results.
    Runs(runs::Args),
    /// Run many networks, variants and seeds as a queue, and tabulate the results.
    Study(study::Args),
    /// List the networks, or show the layers or the plan of one.
    Models(models::Args),
    /// Show the content of a data set and the faults in it.
    Data(data::Args),
    /// Compare gradients with central differences, or kernels with the reference.
    Gradcheck(gradcheck::Args),
    /// Measure the speed and the rounding error of a network, layer by layer.
    Bench(bench::Args),
    /// Show the processor, its instruction sets and their speed, and the GPUs.
    Devices(devices::Args),
    /// Print the completion script of a shell.
    Completions(completions::Args),
    /// Print the manual page of the program or of a command.
    Man(man::Args),
}

impl Command {
    fn run(&self, context: &Context) -> Result<()> {
        match self {
            Command::Train(args) => train::run(args, context),
            Command::Eval(args) => eval::run(args, context),
            Command::Compare(args) => compare::run(args, context),
            Command::Predict(args) => predict::run(args, context),
            Command::Listen(args) => listen::run(args, context),
            Command::Record(args) => record::run(args, context),
            Command::Features(args) => features::run(args, context),
            Command::Classify(args) => classify::run(args, context),
            Command::Explain(args) => explain::run(args, context),
            Command::Export(args) => export::run(args, context),
            Command::Import(args) => import::run(args, context),
            Command::Runs(args) => runs::run(args, context),
            Command::Study(args) => study::run(args, context),
            Command::Models(args) => models::run(args, context),
            Command::Data(args) => data::run(args, context),
            Command::Gradcheck(args) => gradcheck::run(args, context),
            Command::Bench(args) => bench::run(args, context),
            Command::Devices(args) => devices::run(args, context),
            Command::Completions(args) => completions::run(args, Cli::command()),
            Command::Man(args) => man::run(args, Cli::command()),
        }
    }
}

/// Runs the program with `arguments`, the first of which is its name, and returns its exit code: 0 after success, 1 after a
/// failure with one sentence on standard error, 2 for a wrong command line, 130 after an interruption.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    shell::set_program(arguments.first().map_or("stapes".as_ref(), OsString::as_os_str));
    let width = width::columns().min(HELP_WIDTH);
    let line = help::laid_out(Cli::command().term_width(width), width);
    let parsed = line.try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output; a closed pipe is not a failure.
            _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let done = cli.global.context().and_then(|context| context.on_threads(|| cli.command.run(&context)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit_code(&error),
    }
}

/// Prints the sentence of an error on standard error and returns its exit code.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    let tell = |code: u8| {
        output::note(&format!("stapes: error: {error}"));
        ExitCode::from(code)
    };
    match error.downcast_ref::<Ending>() {
        Some(Ending::ClosedPipe) => return ExitCode::SUCCESS,
        Some(Ending::Reported) => return ExitCode::from(1),
        Some(Ending::Usage(_)) => return tell(2),
        Some(Ending::Interrupted(sentence)) => {
            output::note(&format!("stapes: {sentence}"));
            return ExitCode::from(130);
        }
        None => {}
    }
    let data = error.downcast_ref::<DataError>();
    let data = data.or(match error.downcast_ref::<TrainError>() {
        Some(TrainError::Data(data)) => Some(data),
        _ => None,
    });
    match data {
        Some(DataError::Interrupted) => {
            output::note(&format!("stapes: {error}"));
            ExitCode::from(130)
        }
        _ => tell(1),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn every_option_has_its_sentence_and_every_command_its_examples() {
        for command in super::Cli::command().get_subcommands() {
            let of = command.get_name();
            assert!(command.get_after_help().is_some_and(|help| help.to_string().contains("Examples:")), "{of}");
            for option in command.get_arguments() {
                let help = option.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.len() > 10 && help.starts_with(char::is_uppercase), "{of}: {option}");
            }
        }
    }
}
