//! The peak rate of one core: multiply-accumulate operations per second when nothing else limits it.

use super::isa::{Isa, Kernel, Simd};
use std::hint::black_box;
use std::time::Instant;

/// Chains of dependent multiply-adds: more than latency times throughput of any processor of today, few enough for
/// 16 registers.
const CHAINS: usize = 12;

struct FmaLoop<'a> {
    rounds: usize,
    result: &'a mut f32,
    flops: &'a mut u64,
}

impl Kernel for FmaLoop<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (a, b) = (s.splat(black_box(0.999_999)), s.splat(black_box(1e-6)));
        let mut sums = [s.splat(1.0); CHAINS];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = s.fma(*sum, a, b);
            }
        }
        let total = sums.into_iter().reduce(|x, y| s.add(x, y)).expect("there are chains");
        let mut lanes = [0.0; 16];
        s.store_to(&mut lanes, total);
        *self.result = lanes.iter().sum();
        *self.flops += 2 * (self.rounds * CHAINS * S::LANES) as u64;
    }
}

/// The floating-point rate of one core, in GFLOP/s, in a loop of nothing but fused multiply-adds of `isa`: the median of seven runs of
/// about a millisecond.
pub fn fma_peak(isa: Isa) -> f64 {
    let mut rates: Vec<f64> = (0..7)
        .map(|_| {
            let (mut result, mut flops) = (0.0, 0);
            let start = Instant::now();
            isa.run(FmaLoop { rounds: 200_000, result: &mut result, flops: &mut flops });
            black_box(result);
            flops as f64 / start.elapsed().as_secs_f64() / 1e9
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
