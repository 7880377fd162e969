//! Whole training steps and recognition of single clips, beside the peak of two cores.
//!
//! `cargo bench --bench steps` runs all; `cargo bench --bench steps -- custom32-8` some. Two threads, random clips, the
//! fastest instruction set (or STAPES_ISA). GFLOP/s count the direct convolutions: forward, backward-data and
//! backward-weight, three times the forward pass. `-- augment` times the augmentation of a batch of training clips on one thread.

use criterion::{Criterion, Throughput};
use rayon::{ThreadPool, ThreadPoolBuilder};
use stapes::base::rng::{Key, Stream};
use stapes::nn::{self, Network, Variant};
use stapes::simd::{Isa, fma_peak};
use stapes::train::{Predictor, Trainer, Weights};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

const THREADS: usize = 2;
const CLASSES: usize = 16;

fn network(name: &str, variant: Variant) -> Arc<Network> {
    let study = nn::find(name).expect("the benches' networks are the study's");
    let spec = study.spec(variant);
    Arc::new(Network::build(&spec, CLASSES).expect("the study's networks build"))
}

fn clips(n: usize, network: &Network) -> (Vec<f32>, Vec<f32>) {
    let key = Key::new(1, Stream::Case);
    let numbers = n * network.graph.shape(network.audio).size();
    let inputs = (0..numbers as u64).map(|i| 0.1 * key.normal(i) as f32).collect();
    (inputs, (0..n).map(|i| (i % CLASSES) as f32).collect())
}

/// Times `work` inside the pool and prints its median beside the peak measured just before.
fn run(c: &mut Criterion, id: &str, isa: Isa, flops: u64, mut work: impl FnMut()) {
    let times = RefCell::new(Vec::new());
    let mut group = c.benchmark_group("steps");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(4));
    group.throughput(Throughput::Elements(flops));
    let mut peak = 0.0;
    group.bench_function(id, |b| {
        peak = fma_peak(isa);
        b.iter_custom(|iterations| {
            let start = Instant::now();
            (0..iterations).for_each(|_| work());
            times.borrow_mut().push(start.elapsed().as_secs_f64() / iterations as f64);
            start.elapsed()
        });
    });
    let mut times = times.into_inner();
    if times.is_empty() {
        return; // filtered out
    }
    times.sort_by(f64::total_cmp);
    let (median, best) = (times[times.len() / 2], times[0]);
    let gflops = flops as f64 / median / 1e9;
    println!(
        "{id:<40} {:8.2} ms (best {:.2})  {gflops:6.1} GFLOP/s, {:5.1} % of {THREADS} x {peak:.1}",
        1e3 * median,
        1e3 * best,
        100.0 * gflops / (THREADS as f64 * peak)
    );
}

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started")
}

fn trainer(pool: &ThreadPool, network: Arc<Network>, n: usize, isa: Isa) -> Trainer {
    pool.install(|| Trainer::builder(network).batch(n).device(isa).build()).expect("the plan fits")
}

/// A step of as many networks as there are threads, at the same time, each on one: to be set beside so many steps one after the
/// other on all threads.
fn side_by_side(c: &mut Criterion, name: &str, variant: Variant, n: usize, isa: Isa) {
    let network = network(name, variant);
    let flops = THREADS as u64 * 6 * network.graph.macs() * n as u64;
    let (inputs, labels) = clips(n, &network);
    let mut runs: Vec<_> =
        (0..THREADS).map(|_| pool(1)).map(|one| (trainer(&one, network.clone(), n, isa), one)).collect();
    let id = format!("train_{THREADS}_side_by_side/{name}-{variant}/n{n}/{}", isa.name());
    run(c, &id, isa, flops, || {
        std::thread::scope(|scope| {
            for (trainer, pool) in &mut runs {
                let step = || pool.install(|| trainer.step(&inputs, &labels)).expect("the processor does not fail");
                scope.spawn(step);
            }
        });
    });
}

/// The augmentation of a batch of clips of one second, by one thread: all alterations with the probabilities of a recipe, and each by itself on every clip.
#[cfg(feature = "audio")]
fn augmentation(c: &mut Criterion) {
    use stapes::data::{Augment, AugmentWorkspace, Augmenter, Format};
    const CLIPS: usize = 32;
    const LENGTH: usize = 16_000;
    let none = Augment::default();
    let all =
        Augment { shift: 0.1, gain: 6.0, polarity: 0.5, equaliser: 0.5, noise: 0.5, speed: 0.1, mask: 0.3, ..none };
    let key = Key::new(1, Stream::Case);
    let track: Vec<i16> = (0..60 * LENGTH as u64).map(|i| (3_000.0 * key.normal(i)) as i16).collect();
    let clips: Vec<i16> = (0..(CLIPS * LENGTH) as u64).map(|i| (3_000.0 * key.normal(i)) as i16).collect();
    let mut rows = vec![0.0; CLIPS * LENGTH];
    for (name, augment) in [
        ("none", none),
        ("all", all),
        ("shift", Augment { shift: 0.1, ..none }),
        ("gain", Augment { gain: 6.0, ..none }),
        ("polarity", Augment { polarity: 1.0, ..none }),
        ("equaliser", Augment { equaliser: 1.0, ..none }),
        ("noise", Augment { noise: 1.0, ..none }),
        ("speed", Augment { speed: 0.1, ..none }),
        ("mask", Augment { mask: 1.0, ..none }),
        ("random_crop", Augment { random_crop: true, ..none }),
    ] {
        let format = Format { rate_hz: LENGTH as u32, channels: 1 };
        let augmenter =
            Augmenter::with_tracks(augment, vec![track.clone()], format, 1).expect("the settings are valid");
        let (mut workspace, mut epoch) = (AugmentWorkspace::default(), 0);
        let mut times = Vec::new();
        let mut group = c.benchmark_group("augment");
        group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        group.bench_function(format!("{CLIPS}x{LENGTH}/{name}"), |b| {
            b.iter_custom(|iterations| {
                let start = Instant::now();
                for _ in 0..iterations {
                    for (clip, (samples, row)) in clips.chunks(LENGTH).zip(rows.chunks_mut(LENGTH)).enumerate() {
                        augmenter.apply(epoch, clip as u32, samples, row, &mut workspace);
                    }
                    epoch += 1;
                }
                times.push(start.elapsed().as_secs_f64() / iterations as f64);
                start.elapsed()
            });
        });
        group.finish();
        times.sort_by(f64::total_cmp);
        if let (Some(median), Some(best)) = (times.get(times.len() / 2), times.first()) {
            let (median, best) = (1e3 * median, 1e3 * best);
            println!("augment/{CLIPS}x{LENGTH}/{name:<14} {median:7.3} ms per batch (best {best:.3})");
        }
    }
}

fn main() {
    let mut c = Criterion::default().without_plots().configure_from_args();
    let pool = pool(THREADS);
    let forced = std::env::var("STAPES_ISA").ok().and_then(|name| Isa::by_name(&name));
    let isa = forced.unwrap_or_else(Isa::best);
    let steps = [
        ("custom32-8", Variant::Do, 32),
        ("custom32-8", Variant::DoBn, 32),
        ("custom64-8", Variant::Do, 32),
        ("custom128-9", Variant::DoBn, 32),
        ("shrink256-9", Variant::DoBn, 8),
        ("vgg64-16", Variant::Do, 32),
        ("baseline", Variant::Do, 32),
    ];
    for (name, variant, n) in steps {
        let network = network(name, variant);
        let flops = 6 * network.graph.macs() * n as u64;
        let (inputs, labels) = clips(n, &network);
        let mut trainer = trainer(&pool, network, n, isa);
        run(&mut c, &format!("train/{name}-{variant}/n{n}/{}", isa.name()), isa, flops, || {
            pool.install(|| trainer.step(&inputs, &labels)).expect("the processor does not fail");
        });
    }
    for (name, variant, n) in [("custom32-8", Variant::Do, 32), ("custom32-8", Variant::DoBn, 32)] {
        side_by_side(&mut c, name, variant, n, isa);
    }
    let network = network("custom32-8", Variant::Do);
    let (inputs, _) = clips(1, &network);
    let flops = 2 * network.graph.macs();
    let weights = Weights::zeros(&network.graph);
    let mut predictor =
        pool.install(|| Predictor::builder(network, weights).device(isa).build()).expect("the plan fits");
    run(&mut c, &format!("recognise/custom32-8/n1/{}", isa.name()), isa, flops, || {
        pool.install(|| predictor.run(&inputs)).expect("the processor does not fail");
    });
    #[cfg(feature = "audio")]
    augmentation(&mut c);
    c.final_summary();
}
