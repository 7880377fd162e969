//! What must not change a single bit of what is learned: the number of threads, a second run, the order of the work, a
//! stop and resume, and the instruction set.

use stapes::base::rng::{Key, Stream};
use stapes::data::{CacheMode, DataConfig, Dataset, Source, Split};
use stapes::exec::Cpu;
use stapes::graph::{Order, Plan, PlanOptions, Work};
use stapes::nn::{Initialisation, Network, NetworkSpec, Objective, initialise};
use stapes::optim::{Adam, AdamSettings};
use stapes::simd::Isa;
use stapes::train::{EpochRecord, Observer, Outcome, RunClaim, RunFolder, Session, TrainConfig, Trainer, Weights};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Dropout, odd channel counts, a stride, a dilation, overlapping and cut pooling windows; of three dense layers
/// the first so large that its gradients are summed once a batch.
const PLAIN: &str = r#"
    name = "plain"
    input = { length = 300, channels = 1, sample_rate = 16000 }
    head = { dropout = 0.5, dense = [47, 19] }
    [[block]]
    conv = 17
    kernel = 7
    pool = 3
    [[block]]
    conv = 33
    kernel = 3
    dilation = 2
    pool = 3
    pool_stride = 2
    pool_ceil = true
    [[block]]
    conv = 64
    kernel = 5
    stride = 2
"#;

/// Batch norm over channels and over features, and averages.
const NORMED: &str = r#"
    name = "normed"
    batch_norm = true
    input = { length = 300, channels = 2, sample_rate = 16000 }
    head = { dropout = 0.5, pool = "average", batch_norm = true }
    [[block]]
    conv = 16
    kernel = 5
    pool = 4
    [[block]]
    conv = 35
    kernel = 4
    pool = 2
"#;

/// The study's blocks: one input channel, kernel 5, pool 3, batch norm in all, no pool in the last.
const BLOCKS: &str = r#"
    name = "blocks"
    batch_norm = true
    input = { length = 700, channels = 1, sample_rate = 16000 }
    head = { dropout = 0.5 }
    [[block]]
    conv = 17
    kernel = 5
    pool = 3
    [[block]]
    conv = 32
    kernel = 5
    pool = 3
    [[block]]
    conv = 24
    kernel = 3
"#;

/// Separable blocks with a stride, a dilation and odd channel counts, residual ones among them, with a pool and without an activation.
const SEPARABLE: &str = r#"
    name = "separable"
    batch_norm = true
    input = { length = 500, channels = 1, sample_rate = 16000 }
    head = { dropout = 0.5, pool = "average" }
    [[block]]
    conv = 17
    kernel = 9
    stride = 3
    [[block]]
    conv = 17
    kernel = 9
    separable = true
    residual = true
    pool = 2
    [[block]]
    conv = 34
    kernel = 5
    stride = 2
    dilation = 2
    separable = true
    norm = "none"
    [[block]]
    conv = 34
    kernel = 3
    residual = true
    activation = "none"
"#;

/// Clips a step: no power of two, so that the sums over them are no complete binary tree.
const BATCH: usize = 11;
const STEPS: usize = 4;
const CLASSES: usize = 5;
const SEED: u64 = 3;

fn network(text: &str) -> Arc<Network> {
    Arc::new(Network::build(&NetworkSpec::parse(text, "test").unwrap(), CLASSES).unwrap())
}

/// Inputs and labels of step `step`.
fn batch(network: &Network, step: usize) -> (Vec<f32>, Vec<f32>) {
    batch_of(BATCH, network, step)
}

fn batch_of(clips: usize, network: &Network, step: usize) -> (Vec<f32>, Vec<f32>) {
    let key = Key::new(SEED, Stream::Case).with(step as u64);
    let len = clips * network.graph.shape(network.audio).size();
    let inputs = (0..len as u64).map(|i| key.normal(i) as f32).collect();
    let labels = (0..clips as u64).map(|i| key.with(1).below(i, CLASSES as u64) as f32).collect();
    (inputs, labels)
}

/// Everything that some steps produce, as bits.
#[derive(PartialEq)]
struct Learned {
    losses: Vec<u64>,
    params: Vec<u32>,
    state: Vec<u32>,
    moments: [Vec<u32>; 2],
}

impl Learned {
    fn new(losses: Vec<u64>, weights: &Weights, adam: &Adam) -> Learned {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
        assert!(weights.params.iter().all(|w| w.is_finite()) && weights.params.iter().any(|&w| w != 0.0));
        let moments = [bits(&adam.m), bits(&adam.v)];
        Learned { losses, params: bits(&weights.params), state: bits(&weights.state), moments }
    }

    /// Says what differs.
    fn assert_same(&self, other: &Learned, what: &str) {
        assert_eq!(self.losses, other.losses, "losses: {what}");
        for (name, a, b) in [
            ("parameters", &self.params, &other.params),
            ("running statistics", &self.state, &other.state),
            ("first moments", &self.moments[0], &other.moments[0]),
            ("second moments", &self.moments[1], &other.moments[1]),
        ] {
            let differing = a.iter().zip(b).filter(|(a, b)| a != b).count();
            assert!(differing == 0 && a.len() == b.len(), "{differing} of {} {name} differ: {what}", a.len());
        }
    }
}

fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// Some steps of a trainer.
fn train(text: &str, threads: usize, isa: Isa) -> Learned {
    train_batches(text, BATCH, threads, isa)
}

/// Some steps of a trainer on batches of so many clips.
fn train_batches(text: &str, clips: usize, threads: usize, isa: Isa) -> Learned {
    on_threads(threads, || {
        let network = network(text);
        let mut trainer = Trainer::builder(&network).batch(clips).seed(SEED).device(isa).build().unwrap();
        let step = |step| {
            let (inputs, labels) = batch_of(clips, &network, step);
            trainer.step(&inputs, &labels).unwrap().loss.to_bits()
        };
        let losses = (0..STEPS).map(step).collect();
        Learned::new(losses, trainer.weights(), trainer.adam())
    })
}

/// Weights, optimiser and average of a trainer.
type Stopped = (Weights, Adam, Weights);

/// The steps from `from` to `to` of a trainer with all that a recipe adds to Adam, which continues where another stopped.
fn train_recipe(text: &str, threads: usize, before: Option<&Stopped>, (from, to): (usize, usize)) -> Stopped {
    let spec = NetworkSpec::parse(text, "test").unwrap();
    let objective = Objective { smoothing: 0.1, soft_labels: true };
    let network = Network::build_with(&spec, CLASSES, objective).unwrap();
    let adam = AdamSettings { weight_decay: 0.05, clip_norm: 0.5, ..AdamSettings::default() };
    on_threads(threads, || {
        let mut trainer = Trainer::builder(&network).batch(BATCH).seed(SEED).adam(adam).average(0.99).build().unwrap();
        if let Some((weights, adam, average)) = before {
            trainer.set_weights(weights.clone(), Some(adam.clone())).unwrap();
            trainer.set_averaged(average.clone()).unwrap();
        }
        for step in from..to {
            let (inputs, classes) = batch(&network, step);
            let shares = classes.iter().flat_map(|&class| {
                let mut shares = [0.05; CLASSES];
                shares[class as usize] += 0.75;
                shares
            });
            assert!(trainer.step(&inputs, &shares.collect::<Vec<f32>>()).unwrap().loss.is_finite());
        }
        (trainer.weights().clone(), trainer.adam().clone(), trainer.averaged().unwrap().clone())
    })
}

/// What a trainer has learned and averaged.
fn recipe_learned((weights, adam, average): &Stopped) -> [Learned; 2] {
    [weights, average].map(|weights| Learned::new(Vec::new(), weights, adam))
}

#[test]
fn a_recipe_does_not_depend_on_threads_and_continues_where_it_stopped() {
    for text in [PLAIN, NORMED, BLOCKS, SEPARABLE] {
        let whole = train_recipe(text, 1, None, (0, STEPS));
        assert_ne!(whole.0.params[..], whole.2.params[..]);
        for threads in [2, 3, 8] {
            let more = train_recipe(text, threads, None, (0, STEPS));
            let first = train_recipe(text, threads, None, (0, 2));
            let second = train_recipe(text, threads, Some(&first), (2, STEPS));
            let [weights, average] = recipe_learned(&whole);
            for (other, what) in [(more, "at once"), (second, "after a stop")] {
                let [other, other_average] = recipe_learned(&other);
                weights.assert_same(&other, &format!("1 and {threads} threads, {what}, {text}"));
                average.assert_same(&other_average, &format!("average, 1 and {threads} threads, {what}, {text}"));
            }
        }
    }
}

/// The same steps by hand, with a plan whose stages are cut as `order` says.
fn train_in_order(text: &str, order: Order) -> Learned {
    let network = network(text);
    let options = PlanOptions { order, ..PlanOptions::new(BATCH, Work::Train(network.loss)) };
    let plan = Plan::new(&network.graph, &options).unwrap();
    on_threads(2, || {
        let mut cpu = Cpu::new(Arc::new(plan), Isa::best()).unwrap();
        let mut weights = Weights::zeros(&network.graph);
        let init = Initialisation::default();
        initialise(&network.graph, init, SEED, &mut weights.params, &mut weights.state);
        let mut adam = Adam::new(network.graph.params_len(), AdamSettings::default());
        let mut losses = Vec::new();
        for step in 0..STEPS {
            let (inputs, labels) = batch(&network, step);
            cpu.prepare(&weights.params, &weights.state);
            let draw = Key::new(SEED, Stream::Dropout).with(step as u64);
            cpu.run(&weights.params, &mut weights.state, &[&inputs, &labels], draw);
            losses.push(cpu.loss().to_bits());
            adam.step(Isa::best(), &mut weights.params, cpu.parameter_gradients(), &[]);
        }
        Learned::new(losses, &weights, &adam)
    })
}

#[test]
fn the_number_of_threads_and_a_second_run_change_nothing() {
    for text in [PLAIN, NORMED, BLOCKS, SEPARABLE] {
        let first = train(text, 1, Isa::best());
        for threads in [1, 2, 3, 5, 8, 16, 32, 64] {
            first.assert_same(&train(text, threads, Isa::best()), &format!("1 and {threads} threads, {text}"));
        }
    }
}

/// 300 clips are more than the most shards of a batch, so that some shards have two.
#[test]
fn large_batches_do_not_depend_on_threads() {
    for text in [PLAIN, NORMED] {
        for clips in [64, 300] {
            let first = train_batches(text, clips, 1, Isa::best());
            for threads in [2, 7, 64] {
                let other = train_batches(text, clips, threads, Isa::best());
                first.assert_same(&other, &format!("{clips} clips, 1 and {threads} threads, {text}"));
            }
        }
    }
}

/// More threads than a trainer was built for allocate what they need.
#[test]
fn a_step_may_run_on_other_threads_than_the_trainer_was_built_on() {
    for text in [PLAIN, NORMED] {
        let network = network(text);
        let (inputs, labels) = batch_of(37, &network, 0);
        let build = || Trainer::builder(&network).batch(37).seed(SEED).build().unwrap();
        let mut built_on = [1, 2, 16].map(|threads| on_threads(threads, build));
        let steps = built_on.each_mut().map(|trainer| {
            on_threads(9, || trainer.step(&inputs, &labels).unwrap());
            on_threads(1, || trainer.step(&inputs, &labels).unwrap().loss.to_bits())
        });
        assert!(steps.iter().all(|&loss| loss == steps[0]), "{steps:?}: {text}");
    }
}

/// On the CPU a submitted step is computed at once, and there is nothing to wait for.
#[test]
fn a_submitted_step_on_the_cpu_is_a_step() {
    let network = network(PLAIN);
    let length = network.graph.shape(network.audio).size();
    let rows: Vec<Vec<i16>> =
        (0..5).map(|r| (0..length).map(|i| ((i * 37 + r * 1001) % 4096) as i16).collect()).collect();
    let labels = [0.0, 1.0, 2.0];
    let mut trainers = [(); 2].map(|()| Trainer::builder(&network).batch(4).seed(SEED).build().unwrap());
    let [submitting, stepping] = &mut trainers;
    assert!(!submitting.upload_clips(rows.iter().map(|row| &row[..])).unwrap(), "there is no GPU");
    let done = submitting.submit(&[3, 0, 4], |clip| &rows[clip as usize], &labels).unwrap();
    let inputs: Vec<f32> =
        [3, 0, 4].into_iter().flat_map(|r: usize| &rows[r]).map(|&s| f32::from(s) / 32768.0).collect();
    assert_eq!(done, [stepping.step(&inputs, &labels).unwrap()]);
    assert!(submitting.wait().unwrap().is_empty());
    assert_eq!(submitting.weights().params[..], stepping.weights().params[..]);
    assert!(submitting.submit(&[0; 5], |clip| &rows[clip as usize], &[0.0; 5]).is_err(), "more than the batch");
    assert!(submitting.submit(&[0], |_| &[], &[0.0]).is_err(), "a clip without samples");
}

/// Each on a pool of one thread, at the same time, as the small networks of a study may be trained.
#[test]
fn networks_trained_side_by_side_learn_what_they_do_alone() {
    let texts = [PLAIN, NORMED, BLOCKS, SEPARABLE];
    let beside = std::thread::scope(|scope| {
        let runs = texts.map(|text| scope.spawn(move || train(text, 1, Isa::best())));
        runs.map(|run| run.join().unwrap())
    });
    for (text, beside) in texts.iter().zip(&beside) {
        train(text, 2, Isa::best()).assert_same(beside, &format!("alone and beside others, {text}"));
    }
}

#[test]
fn the_order_of_the_work_changes_nothing() {
    for text in [PLAIN, NORMED, BLOCKS, SEPARABLE] {
        let trainer = train(text, 2, Isa::best());
        for order in [Order::DepthFirst, Order::LayerByLayer] {
            trainer.assert_same(&train_in_order(text, order), &format!("{order:?}, {text}"));
        }
        let stages = |order| {
            let network = network(text);
            let options = PlanOptions { order, ..PlanOptions::new(BATCH, Work::Train(network.loss)) };
            Plan::new(&network.graph, &options).unwrap().stages.len()
        };
        assert!(stages(Order::DepthFirst) < stages(Order::LayerByLayer), "the two orders are one");
    }
}

/// Promised of whole steps, not of tiles alone: tiles add in the order of the sum's index with one rounding a
/// multiply-add, and no other kernel's result depends on the width of a vector. `wide` rounds once only where the build's
/// target has fused multiply-add; elsewhere it is close.
#[test]
fn the_instruction_set_changes_nothing_where_multiply_add_is_fused() {
    let fused = cfg!(any(target_feature = "fma", target_arch = "aarch64"));
    for text in [PLAIN, NORMED, BLOCKS, SEPARABLE] {
        let scalar = train(text, 2, Isa::Scalar);
        for isa in Isa::all() {
            let other = train(text, 2, isa);
            if fused || isa.name() != "wide" {
                scalar.assert_same(&other, &format!("scalar and {}, {text}", isa.name()));
            }
            for (a, b) in scalar.losses.iter().zip(&other.losses) {
                approx::assert_relative_eq!(f64::from_bits(*a), f64::from_bits(*b), max_relative = 1e-4);
            }
        }
    }
}

#[test]
fn the_seed_changes_everything() {
    let network = network(PLAIN);
    let step = |seed| {
        let mut trainer = Trainer::builder(&network).batch(BATCH).seed(seed).build().unwrap();
        let (inputs, labels) = batch(&network, 0);
        trainer.step(&inputs, &labels).unwrap().loss
    };
    assert_ne!(step(1), step(2));
}

/// A network for whole clips that trains in milliseconds.
const TINY: &str = r#"
    name = "tiny"
    batch_norm = true
    head = { dropout = 0.25 }
    [[block]]
    conv = 8
    kernel = 80
    stride = 40
    pool = 4
    [[block]]
    conv = 12
    kernel = 3
    pool = 4
"#;

fn config() -> TrainConfig {
    let network = NetworkSpec::parse(TINY, "test").unwrap();
    TrainConfig { epochs: 3, batch: 7, seed: SEED, ..TrainConfig::new(network) }
}

fn clips() -> Arc<Dataset> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/clips");
    let config = DataConfig { cache: CacheMode::Off, ..DataConfig::default() };
    let data = Dataset::open(&Source::open(&folder).unwrap(), &config, &|_, _, _| ControlFlow::Continue(()));
    let data = Arc::new(data.unwrap());
    assert!(Split::ALL.iter().all(|&split| !data.in_split(split).is_empty()));
    data
}

/// Asks to stop after so many steps.
struct StopAfter(u64);

impl Observer for StopAfter {
    fn step(&mut self, _epoch: u64, _step: u64, _steps: u64, _loss: f64) {
        self.0 -= 1;
    }
    fn stop(&self) -> bool {
        self.0 == 0
    }
}

/// What a finished run has learned and found.
struct Finished {
    /// Parameters and statistics, now and of the best epoch, as bits.
    weights: [Vec<u32>; 4],
    /// The file of the best epoch.
    best_file: Vec<u8>,
    best_epoch: u64,
    /// In debug form, numbers as exact as they are.
    test: String,
    records: Vec<EpochRecord>,
}

fn finished(session: &Session, outcome: &Outcome) -> Finished {
    let Outcome::Finished { best_epoch, test } = outcome else { panic!("it was stopped") };
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
    let (now, best) = (session.weights(), session.best_weights());
    Finished {
        weights: [&now.params, &now.state, &best.params, &best.state].map(|values| bits(values)),
        best_file: std::fs::read(session.folder().best()).unwrap(),
        best_epoch: *best_epoch,
        test: format!("{test:?}"),
        records: session.records().to_vec(),
    }
}

impl Finished {
    fn assert_same(&self, other: &Finished, what: &str) {
        assert_eq!((self.best_epoch, &self.test), (other.best_epoch, &other.test), "{what}");
        assert!(self.weights == other.weights, "weights: {what}");
        assert!(self.best_file == other.best_file, "best.safetensors: {what}");
        assert_eq!(self.records.len(), other.records.len(), "{what}");
        for (a, b) in self.records.iter().zip(&other.records) {
            assert_eq!((a.epoch, a.lr, &a.weights), (b.epoch, b.lr, &b.weights), "{what}");
            // Those of epochs before a stop come back from metrics.jsonl, whose reader may miss a number's last bit.
            let figures = |r: &EpochRecord| {
                [r.train_loss, r.train_accuracy, r.validation_loss.unwrap(), r.validation_accuracy.unwrap()]
            };
            for (a, b) in figures(a).into_iter().zip(figures(b)) {
                approx::assert_relative_eq!(a, b, max_relative = 1e-15);
            }
        }
    }
}

/// A run on `threads` threads that is stopped after each of these numbers of steps and resumed from its folder.
fn run(config: &TrainConfig, data: &Arc<Dataset>, threads: usize, stops: &[u64]) -> Finished {
    let runs = tempfile::tempdir().unwrap();
    let claim = RunClaim::create(runs.path(), "run", false).unwrap();
    on_threads(threads, || {
        let mut session = Session::start(config.clone(), data.clone(), claim, Isa::best()).unwrap();
        for &steps in stops {
            let outcome = session.run(&mut StopAfter(steps)).unwrap();
            assert!(matches!(outcome, Outcome::Interrupted { .. }), "{outcome:?}");
            let folder = RunFolder::open(&runs.path().join("run")).unwrap();
            let text = std::fs::read_to_string(folder.config()).unwrap();
            let config = TrainConfig::from_toml(&text, "config.toml").unwrap();
            // A run has one owner: the session that was stopped gives it back first.
            drop(session);
            let claim = RunClaim::of(&folder).unwrap();
            session = Session::resume(config, data.clone(), claim, Isa::best()).unwrap();
        }
        let outcome = session.run(&mut StopAfter(u64::MAX)).unwrap();
        finished(&session, &outcome)
    })
}

#[test]
fn stop_and_resume_change_nothing() {
    let data = clips();
    let clips = data.in_split(Split::Training).len();
    assert_ne!(clips % config().batch, 0, "the last batch of an epoch is short");
    let steps = clips.div_ceil(config().batch) as u64;
    assert!(steps > 3);
    let whole = run(&config(), &data, 2, &[]);
    assert_eq!(whole.records.len(), 3);
    // Before the first step, within an epoch, at its last step, after it, and several times.
    let ways: [&[u64]; 7] = [&[0], &[1], &[3], &[steps - 1], &[steps], &[2 * steps + 2], &[2, 1, 0, steps, 3]];
    for stops in ways {
        whole.assert_same(&run(&config(), &data, 2, stops), &format!("stopped at {stops:?}"));
    }
    for threads in [1, 3] {
        whole.assert_same(
            &run(&config(), &data, threads, &[steps + 1]),
            &format!("{threads} threads, stopped in the second epoch"),
        );
    }
}

/// Every setting of optimisation and augmentation in use.
fn config_with_everything() -> TrainConfig {
    let mut config = config();
    for (key, value) in [
        ("schedule", "cosine"),
        ("warmup", "0.2"),
        ("lr_end", "0.05"),
        ("weight_decay", "0.05"),
        ("clip_norm", "1"),
        ("smoothing", "0.1"),
        ("average", "0.9"),
        ("shift", "0.1"),
        ("gain", "6"),
        ("polarity", "0.5"),
        ("equaliser", "0.7"),
        ("noise", "0.7"),
        ("snr_high", "20"),
        ("noise_from", "generated"),
        ("speed", "0.1"),
        ("mask", "0.5"),
        ("mask_seconds", "0.2"),
        ("mixup", "0.4"),
    ] {
        config.set(key, value, "test").unwrap();
    }
    config
}

#[test]
fn with_everything_switched_on_threads_and_resuming_change_nothing() {
    let (config, data) = (config_with_everything(), clips());
    let steps = data.in_split(Split::Training).len().div_ceil(config.batch) as u64;
    let whole = run(&config, &data, 1, &[]);
    for threads in [2, 3, 8] {
        whole.assert_same(&run(&config, &data, threads, &[]), &format!("{threads} threads"));
    }
    let plain = run(&self::config(), &data, 2, &[]);
    assert!(whole.weights != plain.weights, "the settings have an effect");
    let key = Key::new(5, Stream::Case);
    for resume in 0..10 {
        let stop = key.below(resume, 3 * steps);
        whole.assert_same(&run(&config, &data, 2, &[stop]), &format!("stopped after step {stop}"));
    }
}
