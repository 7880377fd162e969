//! The program: its commands, and how their errors become exit codes.

mod bench;
mod context;
mod data;
mod devices;
mod ending;
mod eval;
mod gradcheck;
mod interrupt;
mod models;
mod output;
mod predict;
mod progress;
mod recordings;
mod report;
mod run_name;
mod settings;
mod table;
mod train;

use crate::data::DataError;
use crate::train::TrainError;
use anyhow::Result;
use clap::{Parser, Subcommand};
use context::{Context, Global};
use ending::Ending;
use std::ffi::OsString;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  stapes train                                  learn twelve words from the built-in recordings
  stapes predict runs/NAME clip.wav             say which word a recording is
  stapes train --data DIR --model vgg64-16      learn the words in your own recordings
  stapes models                                 list the networks

Results go to standard output, progress and remarks to standard error.
Exit codes: 0 done, 1 failed, 2 wrong command line, 130 interrupted.";

/// Trains and runs networks that hear words in raw audio.
#[derive(Debug, Parser)]
#[command(name = "stapes", version, about, after_help = EXAMPLES, max_term_width = 100, subcommand_required = true,
          arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a network on recordings.
    Train(train::Args),
    /// Measure a trained network on the clips it has not learned from.
    Eval(eval::Args),
    /// Say which word a sound file holds.
    Predict(predict::Args),
    /// List the networks, or the layers or the plan of one.
    Models(models::Args),
    /// Tell what a data set holds and what is wrong with it.
    Data(data::Args),
    /// Check gradients against central differences in double precision.
    Gradcheck(gradcheck::Args),
    /// Measure how fast a network is here, layer by layer, and how exact.
    Bench(bench::Args),
    /// Show the processor, its instruction sets and how fast they are.
    Devices(devices::Args),
}

impl Command {
    fn run(&self, context: &Context) -> Result<()> {
        match self {
            Command::Train(args) => train::run(args, context),
            Command::Eval(args) => eval::run(args, context),
            Command::Predict(args) => predict::run(args, context),
            Command::Models(args) => models::run(args, context),
            Command::Data(args) => data::run(args, context),
            Command::Gradcheck(args) => gradcheck::run(args, context),
            Command::Bench(args) => bench::run(args, context),
            Command::Devices(args) => devices::run(args, context),
        }
    }
}

/// Runs the program with these arguments, the first being its name, and gives its exit code: 0 done, 1 failed with one
/// sentence on standard error, 2 wrong command line, 130 interrupted.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output; a closed pipe is no failure.
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

/// Says what is to be said of an error on standard error, and gives the exit code.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    let tell = |code: u8| {
        output::note(&format!("stapes: error: {error}"));
        ExitCode::from(code)
    };
    match error.downcast_ref::<Ending>() {
        Some(Ending::ClosedPipe) => return ExitCode::SUCCESS,
        Some(Ending::Told) => return ExitCode::from(1),
        Some(Ending::Usage(_)) => {
            let code = tell(2);
            output::note("For the options, type the command with --help.");
            return code;
        }
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
