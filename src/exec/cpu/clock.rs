//! Measures how long each part of a run takes, and each item of it that another thread could take.

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

/// A part of a run: items that threads may execute side by side. The next part begins when all are finished.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What is done.
    pub name: &'static str,
    /// The time of each item, in seconds, in the order in which they were finished.
    pub seconds: Vec<f64>,
}

/// Nothing is measured unless it is switched on.
#[derive(Default)]
pub(super) struct Clock {
    /// While it is on, the number of threads for which items are cut.
    threads: Option<usize>,
    parts: Mutex<Vec<Part>>,
}

impl Clock {
    /// Switches the measurement on, with items as on this many threads, or off.
    pub fn switch(&mut self, threads: Option<usize>) {
        self.threads = threads;
    }

    /// The number of threads for which items are cut: those of the current pool, unless others are measured.
    pub fn threads(&self) -> usize {
        self.threads.unwrap_or_else(rayon::current_num_threads)
    }

    /// The parts since the last call, in their order.
    pub fn take(&mut self) -> Vec<Part> {
        std::mem::take(&mut self.parts())
    }

    /// Begins a part.
    pub fn begin(&self, name: &'static str) {
        if self.threads.is_some() {
            self.parts().push(Part { name, seconds: Vec::new() });
        }
    }

    /// Executes an item of the part that was begun last.
    pub fn item<T>(&self, work: impl FnOnce() -> T) -> T {
        let start = self.start();
        let result = work();
        self.finish(start);
        result
    }

    /// The beginning of an item; none if nothing is measured.
    pub fn start(&self) -> Option<Instant> {
        self.threads.map(|_| Instant::now())
    }

    /// The end of an item of the part that was begun last.
    pub fn finish(&self, start: Option<Instant>) {
        let Some(seconds) = start.map(|start| start.elapsed().as_secs_f64()) else { return };
        if let Some(part) = self.parts().last_mut() {
            part.seconds.push(seconds);
        }
    }

    fn parts(&self) -> MutexGuard<'_, Vec<Part>> {
        self.parts.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
