//! Compares the memory that a plan needs on the CPU with the available memory, before anything is allocated.

use super::error::DeviceError;
use crate::graph::Plan;

/// One part in `RESERVE` of the available memory is left free for other programs.
const RESERVE: u64 = 16;

/// Checks that the memory of `plan` on `threads` threads, and `more` bytes that the caller allocates, are available.
///
/// # Errors
/// Less memory is available; the error names the largest batch that would fit.
pub(crate) fn check(plan: &Plan, threads: usize, more: usize) -> Result<(), DeviceError> {
    match available() {
        Some(available) if needed(plan, plan.n, threads, more) > available - available / RESERVE => {
            Err(too_large(plan, threads, more, Some(available)))
        }
        _ => Ok(()),
    }
}

/// The error for a plan whose memory cannot be allocated. If `available` is unknown, the advice assumes half of what the plan needs.
pub(super) fn too_large(plan: &Plan, threads: usize, more: usize, available: Option<u64>) -> DeviceError {
    let bytes = needed(plan, plan.n, threads, more);
    let usable = available.map_or(bytes / 2, |available| available - available / RESERVE);
    // A binary search: the memory grows with the batch.
    let (mut fits, mut beyond) = (0, plan.n);
    while fits + 1 < beyond {
        let n = fits.midpoint(beyond);
        if needed(plan, n, threads, more) <= usable { fits = n } else { beyond = n }
    }
    let advice = match fits {
        0 => "no batch would fit; make the network or its input smaller".to_string(),
        fits if fits < plan.min_batch => {
            "no batch that batch norm accepts would fit; make the network smaller".to_string()
        }
        fits => format!("take a batch of at most {fits} (--batch {fits})"),
    };
    let found = available.map_or(String::new(), |available| format!(", and {} are available", gigabytes(available)));
    DeviceError::HostMemory { batch: plan.n, needed: gigabytes(bytes), found, advice }
}

fn needed(plan: &Plan, n: usize, threads: usize, more: usize) -> u64 {
    (plan.memory_bytes_of(n, threads) as u64).saturating_add(more as u64)
}

fn gigabytes(bytes: u64) -> String {
    if bytes < 100_000_000 { format!("{:.1} MB", bytes as f64 / 1e6) } else { format!("{:.1} GB", bytes as f64 / 1e9) }
}

/// Bytes that this process can still allocate: the least of the free memory, what its control group has left, and what its
/// address space has left. None if the system states none of them.
fn available() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let free = read("/proc/meminfo").and_then(|text| kilobytes(&text, "MemAvailable:"));
    let group = || {
        let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
        Some(number("/sys/fs/cgroup/memory.max")?.saturating_sub(number("/sys/fs/cgroup/memory.current")?))
    };
    let space = || {
        let limit = address_space_limit(&read("/proc/self/limits")?)?;
        Some(limit.saturating_sub(kilobytes(&read("/proc/self/status")?, "VmSize:")?))
    };
    [free, group(), space()].into_iter().flatten().min()
}

/// The number of a line `key 1234 kB`, in bytes.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The soft limit of the address space in `/proc/self/limits`; none if it is unlimited.
fn address_space_limit(text: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Shape;
    use crate::graph::{Graph, PlanOptions, Work};
    use crate::ops::{Conv1d, Linear};

    #[test]
    fn system_files_are_read() {
        assert_eq!(kilobytes("MemTotal:  9 kB\nMemAvailable:    7 kB\n", "MemAvailable:"), Some(7 * 1024));
        assert_eq!(kilobytes("MemTotal:  9 kB\n", "MemAvailable:"), None);
        let limits = "Limit   Soft Limit  Hard Limit  Units\nMax address space         4096   unlimited   bytes\n";
        assert_eq!(address_space_limit(limits), Some(4096));
        assert_eq!(address_space_limit("Max address space   unlimited   unlimited   bytes\n"), None);
    }

    #[test]
    fn the_batch_that_is_named_fits_and_the_next_does_not() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::new(1000, 1)).unwrap();
        let h = graph.add("conv", Conv1d::new(8, 5), &[x]).unwrap();
        let y = graph.add("fc", Linear { out: 2, bias: true }, &[h]).unwrap();
        let plan = Plan::new(&graph, &PlanOptions::new(1000, Work::Infer(y))).unwrap();
        let bytes = |n: usize| needed(&plan, n, 2, 100);
        for fits in [1, 8, 9, 500, 999] {
            let available = bytes(fits) * RESERVE / (RESERVE - 1) + 2;
            let told = too_large(&plan, 2, 100, Some(available)).to_string();
            assert!(told.contains(&format!("--batch {fits})")), "{fits}: {told}");
        }
        assert!(too_large(&plan, 2, 100, Some(10)).to_string().contains("no batch would fit"));
    }
}
