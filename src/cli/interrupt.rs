//! Ctrl-C and termination signals.

use super::output::note;
use anyhow::{Result, anyhow};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A signal ends the program immediately.
const EXIT: u8 = 0;
/// A signal is noted, and the command ends when it next looks.
const NOTE: u8 = 1;
/// A signal has been noted.
const REQUESTED: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(EXIT);
/// Whether the handler is installed, which is possible once.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// A sender that signals a group of processes and each of its members signals this one twice. Signals within this time count
/// as one.
const SAME_REQUEST: Duration = Duration::from_millis(300);

/// From here on the first signal only sets [`requested`], so that the command can save its work; a later one ends the program. A command may call it again after [`unwatch`].
///
/// # Errors
/// The handler cannot be installed.
pub fn watch() -> Result<()> {
    STATE.store(NOTE, SeqCst);
    if INSTALLED.swap(true, SeqCst) {
        return Ok(());
    }
    let mut first: Option<Instant> = None;
    let handler = move || {
        if STATE.compare_exchange(NOTE, REQUESTED, SeqCst, SeqCst).is_ok() {
            first = Some(Instant::now());
            note("stapes: stopping; press Ctrl-C again to exit immediately");
        } else if first.is_none_or(|first| first.elapsed() > SAME_REQUEST) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(handler)
        .map_err(|e| anyhow!("cannot install the handler of interrupt signals: {e}; start the program again"))
}

/// From here on a signal ends the program immediately, because there is nothing to save.
pub fn unwatch() {
    _ = STATE.compare_exchange(NOTE, EXIT, SeqCst, SeqCst);
}

/// Whether a signal has asked the command to stop.
pub fn requested() -> bool {
    STATE.load(SeqCst) == REQUESTED
}

/// Whether a long read continues: it breaks once a signal has arrived.
pub fn flow() -> ControlFlow<()> {
    if requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
