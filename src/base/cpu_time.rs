//! Time in which a thread had to wait for the processor: whether the machine had other work during a measurement.

use std::time::{Duration, Instant};

/// The share of waiting from which on a measurement counts as disturbed.
const DISTURBED: f64 = 0.05;

/// Adds up the wall time of work on the calling thread, and the part of it in which the thread was ready to compute while the
/// processor executed something else.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime {
    wall: Duration,
    waited: Duration,
}

impl CpuTime {
    /// Executes `work` and adds the time it took on the calling thread.
    pub fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (start, before) = (Instant::now(), waited());
        let result = work();
        if let (Some(before), Some(after)) = (before, waited()) {
            self.wall += start.elapsed();
            self.waited += after.saturating_sub(before);
        }
        result
    }

    /// The share of the wall time that went to other processes; none if nothing was measured or the system does not tell.
    pub fn lost_share(&self) -> Option<f64> {
        (!self.wall.is_zero()).then(|| (self.waited.as_secs_f64() / self.wall.as_secs_f64()).min(1.0))
    }
}

/// A sentence for people if the share of lost time of a measurement is large enough to disturb it.
pub fn busy_remark(lost_share: Option<f64>) -> Option<String> {
    let percent = 100.0 * lost_share.filter(|&share| share >= DISTURBED)?;
    Some(format!("the machine is busy: {percent:.0} % of the time went to other processes; the figures may be too low"))
}

/// The time that the calling thread has waited for a processor since its start. Only Linux reports it: the second number of the
/// file is in nanoseconds.
fn waited() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    #[test]
    fn threads_that_share_the_processor_lose_time() {
        let mut time = CpuTime::default();
        assert_eq!(time.lost_share(), None);
        let spin = |seconds: f64| {
            let start = Instant::now();
            while start.elapsed().as_secs_f64() < seconds {
                std::hint::spin_loop();
            }
        };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Three more threads than processors for each processor.
            for _ in 0..3 * std::thread::available_parallelism().map_or(1, |cores| cores.get()) {
                scope.spawn(|| {
                    while !done.load(Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            time.measure(|| spin(0.5));
            done.store(true, Relaxed);
        });
        if waited().is_some() {
            assert!(time.lost_share().is_some_and(|share| share > DISTURBED), "{time:?}");
        }
    }

    #[test]
    fn a_disturbed_measurement_is_remarked() {
        assert_eq!(busy_remark(None), None);
        assert_eq!(busy_remark(Some(0.02)), None);
        let sentence = "the machine is busy: 34 % of the time went to other processes; the figures may be too low";
        assert_eq!(busy_remark(Some(0.34)).as_deref(), Some(sentence));
    }
}
