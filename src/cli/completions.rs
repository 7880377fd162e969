//! `stapes completions`: the script that makes a shell complete commands and options.

use super::output;
use anyhow::Result;
use clap_complete::Shell;

const EXAMPLES: &str = "\
Examples:
  stapes completions bash > ~/.local/share/bash-completion/completions/stapes
  stapes completions zsh > ~/.zfunc/_stapes  with ~/.zfunc in fpath
  stapes completions fish > ~/.config/fish/completions/stapes.fish";

/// Options of `stapes completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Shell that the script is for.
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the command: prints the script for the command line `of`.
pub fn run(args: &Args, mut of: clap::Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut of, "stapes", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
