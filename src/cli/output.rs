//! Writing to standard output and standard error without ever panicking.

use super::ending::Ending;
use anyhow::{Result, anyhow};
use std::io::{ErrorKind, Write};

/// Writes results, whole lines, to standard output. A reader who has closed the pipe ends the command well.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| match e.kind() {
        ErrorKind::BrokenPipe => Ending::ClosedPipe.into(),
        _ => anyhow!("cannot write to standard output: {e}; free some space or send the output elsewhere"),
    })
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

/// Writes a line to standard error. If nobody can read it, there is nobody to tell.
pub fn note(text: &str) {
    _ = std::io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}
