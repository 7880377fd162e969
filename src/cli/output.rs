//! Writing to standard output and standard error, without a panic when either is closed.

use super::ending::Ending;
use super::width::{columns, columns_of_remarks, fill};
use anyhow::{Result, anyhow};
use std::io::{ErrorKind, Write};

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

/// Writes text and a newline to standard error; on a terminal, longer lines are broken between words. A failure is ignored, since there is nowhere left to report it.
pub fn note(text: &str) {
    let text = columns_of_remarks().map_or(text.to_string(), |columns| fill(text, columns, "  "));
    _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}
