//! What the peers in Rust share: clips, how a step is timed, the report. Used by `#[path]`.

use std::time::Instant;

pub const BATCH: usize = 32;
pub const SAMPLES: usize = 16000;
pub const CLASSES: usize = 16;
pub const DROPOUT: f64 = 0.75;
pub const KERNEL: usize = 5;
pub const POOL: usize = 3;
/// Channels of custom32-8.
pub const WIDTHS: [usize; 8] = [32, 32, 32, 32, 64, 64, 64, 64];

/// Random clips, about normal with deviation 0.1.
pub fn clips() -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..BATCH * SAMPLES).map(|_| 0.1 * (0..12).map(|_| uniform()).sum::<f32>()).collect()
}

/// Class numbers of the clips.
pub fn labels() -> impl Iterator<Item = usize> {
    (0..BATCH).map(|i| i % CLASSES)
}

/// Times `step`, which returns its loss, for as many seconds as the first argument says, and prints one line of JSON.
pub fn report(framework: &str, version: &str, parameters: usize, mut step: impl FnMut() -> f32) {
    let seconds = std::env::args().nth(1).map_or(4.0, |s| s.parse().expect("the argument is a number of seconds"));
    let mut losses = Vec::new();
    let mut times_ms = |count, seconds| {
        let (start, mut times) = (Instant::now(), Vec::new());
        while times.len() < count || start.elapsed().as_secs_f64() < seconds {
            let began = Instant::now();
            losses.push(step());
            times.push(1e3 * began.elapsed().as_secs_f64());
        }
        times
    };
    times_ms(2, seconds / 4.0);
    let mut times = times_ms(3, seconds);
    times.sort_by(f64::total_cmp);
    println!(
        r#"{{"framework": "{framework}", "model": "custom32-8", "variant": "do", "batch": {BATCH}, "version": "{version}", "parameters": {parameters}, "steps": {}, "median_ms": {:.3}, "best_ms": {:.3}, "peak_mb": {}, "first_loss": {:.4}, "loss": {:.4}}}"#,
        times.len(),
        times[times.len() / 2],
        times[0],
        peak_mb(),
        losses[0],
        losses[losses.len() - 1],
    );
}

/// Peak resident memory of this process, MB (10^6 bytes); 0 where the system does not say.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    kib * 1024 / 1_000_000
}
