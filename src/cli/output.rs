//! Writing to standard output and standard error, without a panic when either is closed.

use super::ending::Ending;
use super::width::{columns, fill};
use anyhow::{Result, anyhow};
use std::io::{ErrorKind, IsTerminal, Write};

/// Writes results, whole lines, to standard output. If its reader has closed the pipe, the command ends with success.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => Ending::ClosedPipe.into(),
        _ => anyhow!("cannot write to standard output: {e}; free some space or send the output elsewhere"),
    })
}

/// Writes results for people: lines longer than the terminal is wide are broken between words.
pub fn print_filled(text: &str) -> Result<()> {
    print(&fill(text, columns(), "  "))
}

/// Writes one line to standard output.
pub fn line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Writes a value as JSON on one line.
pub fn json_line(value: &impl serde::Serialize) -> Result<()> {
    line(&serde_json::to_string(value)?)
}

/// Writes a value as indented JSON.
pub fn json(value: &impl serde::Serialize) -> Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Writes text and a newline to standard error; on a terminal, lines longer than it is wide are broken between words. A failure
/// is ignored, since there is nowhere left to report it.
pub fn note(text: &str) {
    let mut error = std::io::stderr().lock();
    let text = if error.is_terminal() { fill(text, columns(), "  ") } else { text.to_string() };
    _ = error.write_all(format!("{text}\n").as_bytes());
}
