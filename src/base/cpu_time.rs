//! CPU time beside wall time: whether the machine had other work during a measurement.

use std::time::{Duration, Instant};

/// The share of lost time from which on a measurement counts as disturbed.
const DISTURBED: f64 = 0.05;
/// Less measured time than this says nothing: the clocks of some systems advance in steps of ten milliseconds.
const LEAST: Duration = Duration::from_millis(20);

/// Adds up the wall time and the CPU time of work on the calling thread. Their difference is the time in which the thread was
/// ready to compute and the processor executed something else.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime {
    wall: Duration,
    cpu: Duration,
}

impl CpuTime {
    /// Executes `work`, which must compute all the time on the calling thread, and adds the time it took.
    pub fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (start, before) = (Instant::now(), of_thread());
        let result = work();
        if let (Some(before), Some(after)) = (before, of_thread()) {
            self.wall += start.elapsed();
            self.cpu += after.saturating_sub(before);
        }
        result
    }

    /// The share of the wall time that went to other processes; none if the system does not tell, or after too little time.
    pub fn lost_share(&self) -> Option<f64> {
        let (wall, cpu) = (self.wall.as_secs_f64(), self.cpu.as_secs_f64());
        (self.wall >= LEAST).then(|| (1.0 - cpu / wall).clamp(0.0, 1.0))
    }
}

/// A sentence for people if the share of lost time of a measurement is large enough to disturb it.
pub fn busy_remark(lost_share: Option<f64>) -> Option<String> {
    let percent = 100.0 * lost_share.filter(|&share| share >= DISTURBED)?;
    Some(format!("the machine is busy: {percent:.0} % of the time went to other processes; the figures are low"))
}

/// CPU time of the calling thread since its start.
#[cfg(unix)]
fn of_thread() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

#[cfg(not(unix))]
fn of_thread() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remark(time: &CpuTime) -> Option<String> {
        busy_remark(time.lost_share())
    }

    #[test]
    fn time_without_the_processor_is_lost() {
        let mut time = CpuTime::default();
        assert_eq!((time.lost_share(), remark(&time)), (None, None));
        time.measure(|| std::thread::sleep(Duration::from_millis(60)));
        if cfg!(unix) {
            assert!(time.lost_share().is_some_and(|share| share > 0.5), "{time:?}");
            assert!(remark(&time).is_some_and(|text| text.starts_with("the machine is busy: ")), "{time:?}");
        }
    }

    #[test]
    fn shares_are_of_the_whole_time() {
        let quiet = CpuTime { wall: Duration::from_millis(100), cpu: Duration::from_millis(98) };
        assert_eq!(remark(&quiet), None);
        let busy = CpuTime { cpu: Duration::from_millis(66), ..quiet };
        let sentence = "the machine is busy: 34 % of the time went to other processes; the figures are low";
        assert_eq!(remark(&busy).as_deref(), Some(sentence));
    }
}
