//! Every op, pass, shape and instruction set beside the measured peak of one core.
//!
//! `cargo bench --bench ops` runs all; `cargo bench --bench ops -- conv1d` those whose name has `conv1d` in it. Names follow
//! the kernels' grammar: `conv1d_fwd/avx512/n32_l592_c64_64_k5`. After each, its rate (the median of the samples) beside
//! the peak of a loop of multiply-adds, measured immediately before.

use criterion::{Criterion, Throughput};
use stapes::exec::SingleOp;
use stapes::ops::{ALL, case::Case};
use stapes::simd::{Isa, fma_peak};
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// Samples in a batch: the data of a pass stream from the L3 cache or memory, as in a training step.
const BATCH: usize = 32;

fn run(c: &mut Criterion, id: &str, isa: Isa, flops: u64, bytes: u64, mut pass: impl FnMut()) {
    let rates = RefCell::new(Vec::new());
    let peak = RefCell::new(0.0);
    let mut group = c.benchmark_group("ops");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(700));
    group.throughput(if flops > 0 { Throughput::Elements(flops) } else { Throughput::Bytes(bytes) });
    group.bench_function(id, |b| {
        *peak.borrow_mut() = fma_peak(isa);
        b.iter_custom(|iterations| {
            let start = Instant::now();
            (0..iterations).for_each(|_| pass());
            let time = start.elapsed();
            rates.borrow_mut().push(iterations as f64 / time.as_secs_f64() / 1e9);
            time
        });
    });
    let mut rates = rates.into_inner();
    if rates.is_empty() {
        return; // filtered out, or a test run
    }
    rates.sort_by(f64::total_cmp);
    let (rate, peak) = (rates[rates.len() / 2], peak.into_inner());
    let gbs = rate * bytes as f64;
    if flops > 0 {
        let gflops = rate * flops as f64;
        println!(
            "{id:<44} {gflops:7.1} GFLOP/s  {:5.1} % of {peak:.1} (FMA peak)  {gbs:6.1} GB/s",
            100.0 * gflops / peak
        );
    } else {
        println!("{id:<44} {gbs:7.1} GB/s");
    }
}

fn bench(c: &mut Criterion, name: &str, case: &Case, isa: Isa) {
    let single_op = SingleOp::new(&*case.op, &case.inputs, BATCH, isa, 1);
    // In groups as a training step has.
    let mut single_op = single_op.expect("a case's shapes are valid").group_size(BATCH / 8);
    let shape = case.name.trim_start_matches(|ch: char| ch != '_');
    let id = |pass: &str| format!("{name}_{pass}/{}/n{BATCH}{shape}", isa.name());
    let x: usize = case.inputs.iter().map(|input| input.shape.size()).sum();
    let (y, w) = (single_op.spec().y.size(), single_op.spec().params_len());
    let flops = 2 * single_op.spec().macs * BATCH as u64;
    let bytes = |numbers: usize, weights: usize| 4 * (numbers * BATCH + weights) as u64;
    run(c, &id("fwd"), isa, flops, bytes(x + y, w), || single_op.forward());
    if flops > 0 && w > 0 {
        run(c, &id("bwd_x"), isa, flops, bytes(x + y, w), || single_op.backward(true, false));
        run(c, &id("bwd_w"), isa, flops, bytes(x + y, 2 * w), || single_op.backward(false, true));
    } else {
        run(c, &id("bwd"), isa, 0, bytes(x + y, 2 * w), || single_op.backward(true, true));
    }
}

fn main() {
    let mut c = Criterion::default().without_plots().configure_from_args();
    for family in ALL {
        for case in (family.cases)().iter().filter(|case| case.real) {
            for isa in Isa::all() {
                bench(&mut c, family.name, case, isa);
            }
        }
    }
    c.final_summary();
}
