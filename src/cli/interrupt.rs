//! Ctrl-C, and the requests to end that a system sends.

use super::output::note;
use anyhow::{Result, anyhow};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::time::{Duration, Instant};

const AT_ONCE: u8 = 0;
const WHEN_ASKED: u8 = 1;
const REQUESTED: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(AT_ONCE);

/// Whoever sends a signal to a group of processes and to each of its members sends it twice; that is one request.
const SAME_REQUEST: Duration = Duration::from_millis(300);

/// From now on an interrupt is a request that the command answers when it can; a later one ends the program at once.
pub fn watch() -> Result<()> {
    STATE.store(WHEN_ASKED, SeqCst);
    let mut first: Option<Instant> = None;
    let heard = move || {
        if STATE.compare_exchange(WHEN_ASKED, REQUESTED, SeqCst, SeqCst).is_ok() {
            first = Some(Instant::now());
            note("stapes: stopping; press Ctrl-C again to end at once");
        } else if first.is_none_or(|first| first.elapsed() > SAME_REQUEST) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(heard).map_err(|e| anyhow!("cannot listen for interrupts: {e}; try again"))
}

/// From now on an interrupt ends the program at once: there is nothing to save.
pub fn unwatch() {
    _ = STATE.compare_exchange(WHEN_ASKED, AT_ONCE, SeqCst, SeqCst);
}

/// Whether somebody has asked us to stop.
pub fn requested() -> bool {
    STATE.load(SeqCst) == REQUESTED
}

/// What a long read is to do.
pub fn flow() -> ControlFlow<()> {
    if requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
