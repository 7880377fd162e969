//! `stapes man`: the manual page, of the program or of one command.

use super::ending::usage;
use super::output;
use anyhow::Result;
use clap_mangen::Man;

const EXAMPLES: &str = "\
Examples:
  stapes man | man -l -                          read it
  stapes man > ~/.local/share/man/man1/stapes.1  install it
  stapes man train > ~/.local/share/man/man1/stapes-train.1";

/// Columns of the text of a page on a terminal of 80 columns.
const WIDTH: usize = 72;

/// Options of `stapes man`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Command that the page is about; the program as a whole if omitted.
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

/// Runs the command: prints the page, in roff, for the command line `of`.
pub fn run(args: &Args, of: clap::Command) -> Result<()> {
    let mut of = super::help::laid_out(of, WIDTH);
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
    let usage = synopsis(&page);
    let page = Man::new(page.override_usage(usage)).source(concat!("stapes ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render(&mut text)?;
    output::print(&String::from_utf8_lossy(&text))
}

/// The command with all of its options and their values: `stapes man [-h] [COMMAND]`.
fn synopsis(command: &clap::Command) -> String {
    let mut text = command.get_bin_name().unwrap_or(command.get_name()).to_string();
    let (arguments, options): (Vec<_>, Vec<_>) =
        command.get_arguments().filter(|arg| !arg.is_hide_set()).partition(|arg| arg.is_positional());
    for arg in options.into_iter().chain(arguments) {
        let flag = match (arg.get_long(), arg.get_short()) {
            (Some(long), _) => format!("--{long}"),
            (None, Some(short)) => format!("-{short}"),
            (None, None) => String::new(),
        };
        let range = arg.get_num_args().filter(|range| range.takes_values());
        let equals = if arg.is_require_equals_set() { "=" } else { "" };
        let value = range.map_or(String::new(), |_| format!("{equals}{}", values(arg)));
        let optional = !flag.is_empty() && range.is_some_and(|range| range.min_values() == 0);
        let value = if optional { format!("[{value}]") } else { value };
        let repeated = matches!(arg.get_action(), clap::ArgAction::Append);
        let item = [flag, value].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
        let item = item.join(if equals.is_empty() { " " } else { "" });
        let item = if arg.is_required_set() { item } else { format!("[{item}]") };
        text += &format!(" {item}{}", if repeated { " .." } else { "" });
    }
    if command.has_subcommands() {
        text += " COMMAND";
    }
    text
}

/// The words that an argument takes, or the name of its value.
fn values(arg: &clap::Arg) -> String {
    let possible: Vec<String> = arg.get_possible_values().iter().map(|value| value.get_name().to_string()).collect();
    let named = || arg.get_value_names().map_or(arg.get_id().to_string(), |names| names.join(" "));
    if possible.is_empty() { named() } else { possible.join("|") }
}
