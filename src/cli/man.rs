//! `stapes man`: the manual page, of the program or of one command.

use super::ending::usage;
use super::output;
use anyhow::Result;
use clap_mangen::Man;

const EXAMPLES: &str = "\
Examples:
  stapes man | man -l -                                    read it
  stapes man > ~/.local/share/man/man1/stapes.1            install it
  stapes man train > ~/.local/share/man/man1/stapes-train.1";

/// Options of `stapes man`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Command that the page is about; the program as a whole if omitted.
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

/// Runs the command: prints the page, in roff, for the command line `of`.
pub fn run(args: &Args, mut of: clap::Command) -> Result<()> {
    // Gives each command the options that all commands have, and its full name.
    of.build();
    let page = match &args.command {
        None => of,
        Some(name) => {
            let found = of.get_subcommands().find(|command| command.get_name() == name).cloned();
            // Its display name, `stapes-train`, becomes the title.
            found.ok_or_else(|| {
                let names = of.get_subcommands().map(clap::Command::get_name).collect::<Vec<_>>().join(", ");
                usage(format!("there is no command {}; the commands are {names}", crate::base::name::display(name)))
            })?
        }
    };
    let mut text = Vec::new();
    Man::new(page).render(&mut text)?;
    output::print(&String::from_utf8_lossy(&text))
}
