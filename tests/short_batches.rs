//! The last batch of an epoch: every clip is used, and each step follows the gradient of the mean loss over its clips.

mod program;

use program::stapes;
use stapes::base::rng::{Key, Stream};
use stapes::data::{BatchOptions, EpochSteps};
use stapes::exec::{Cpu, Reference};
use stapes::graph::{Graph, GraphError, Keep, Plan, PlanOptions, Work};
use stapes::nn::{Network, NetworkSpec};
use stapes::ops::ConvChoice;
use stapes::optim::AdamSettings;
use stapes::simd::Isa;
use stapes::train::{TrainError, Trainer, Weights};
use std::sync::Arc;

const PLAIN: &str = r#"
    name = "plain"
    input = { length = 90, channels = 1, sample_rate = 16000 }
    head = { dense = [70] }
    block = [{ conv = 9, kernel = 5, pool = 3 }, { conv = 40, kernel = 3 }]
"#;

const NORMED: &str = r#"
    name = "normed"
    batch_norm = true
    input = { length = 90, channels = 1, sample_rate = 16000 }
    head = { batch_norm = true }
    block = [{ conv = 9, kernel = 5, pool = 3 }, { conv = 16, kernel = 3, pool = 2 }]
"#;

const CLASSES: usize = 4;

fn network(text: &str) -> Arc<Network> {
    Arc::new(Network::build(&NetworkSpec::parse(text, "test").unwrap(), CLASSES).unwrap())
}

/// Inputs and labels of `n` clips; `number` names the batch.
fn batch(network: &Network, n: usize, number: u64) -> (Vec<f32>, Vec<f32>) {
    let key = Key::new(5, Stream::Case).with(number);
    let len = n * network.graph.shape(network.audio).size();
    let labels = (0..n as u64).map(|i| key.with(1).below(i, CLASSES as u64) as f32).collect();
    ((0..len as u64).map(|i| key.normal(i) as f32).collect(), labels)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// The gradients, the state and the loss of one run of a plan for `capacity` samples on `n`, as bits.
fn run(network: &Network, capacity: usize, n: usize) -> (Vec<u32>, Vec<u32>, u64) {
    let options = PlanOptions::new(capacity, Work::Train(network.loss)).keep(Keep::Everything);
    let mut cpu = Cpu::new(Arc::new(Plan::new(&network.graph, &options).unwrap()), Isa::best()).unwrap();
    let mut weights = Weights::zeros(&network.graph);
    let key = Key::new(2, Stream::Case);
    weights.params.iter_mut().enumerate().for_each(|(i, w)| *w = 0.2 * key.normal(i as u64) as f32);
    cpu.prepare(&weights.params, &weights.state);
    // What an earlier, larger batch left in memory must not matter.
    let (inputs, labels) = batch(network, capacity, 1);
    cpu.run(&weights.params, &mut weights.state.clone(), &[&inputs, &labels], key);
    let (inputs, labels) = batch(network, n, 2);
    cpu.run(&weights.params, &mut weights.state, &[&inputs, &labels], key);
    assert_eq!(cpu.activation(network.logits).unwrap().len(), n * CLASSES);
    (bits(cpu.parameter_gradients()), bits(&weights.state), cpu.loss().to_bits())
}

#[test]
fn a_smaller_batch_gives_the_bits_of_a_plan_of_its_size() {
    for text in [PLAIN, NORMED] {
        let network = network(text);
        for (capacity, n) in [(32, 1), (32, 7), (32, 8), (32, 9), (32, 31), (10, 9), (12, 11), (33, 32), (3, 2)] {
            if text == PLAIN || n > 1 {
                assert!(run(&network, capacity, n) == run(&network, n, n), "{n} of {capacity}, {text}");
            }
        }
    }
}

/// Adam's algorithm in double precision on gradients by the references of the operations.
#[test]
fn case_17_steps_of_unequal_batches_agree_with_an_independent_computation() {
    for text in [PLAIN, NORMED] {
        let network = network(text);
        let settings = AdamSettings { lr: 1e-3, ..AdamSettings::default() };
        let mut trainer = Trainer::builder(&network).batch(6).adam(settings).conv(ConvChoice::Direct).build().unwrap();
        let widen = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let (mut params, mut state) = (widen(&trainer.weights().params), widen(&trainer.weights().state));
        let (mut m, mut v) = (vec![0.0; params.len()], vec![0.0; params.len()]);
        for (t, n) in [6, 6, 2, 6, 3].into_iter().enumerate() {
            let (inputs, labels) = batch(&network, n, t as u64);
            let given = [widen(&inputs), widen(&labels)];
            let mut reference =
                Reference::forward(&network.graph, n, &params, &mut state, &given, Key::new(0, Stream::Dropout));
            reference.backward(&params, network.loss);
            let step = trainer.step(&inputs, &labels).unwrap();
            approx::assert_relative_eq!(step.loss, reference.loss(network.loss), max_relative = 1e-4);
            let (b1, b2, t) = (f64::from(settings.beta1), f64::from(settings.beta2), t as i32 + 1);
            for (i, &g) in reference.parameter_gradients.iter().enumerate() {
                m[i] = b1 * m[i] + (1.0 - b1) * g;
                v[i] = b2 * v[i] + (1.0 - b2) * g * g;
                let (m, v) = (m[i] / (1.0 - b1.powi(t)), v[i] / (1.0 - b2.powi(t)));
                params[i] -= f64::from(settings.lr) * m / (v.sqrt() + f64::from(settings.eps));
            }
        }
        // The gradient of a bias before a norm is rounding only, so that Adam moves it by chance.
        let checked = network
            .graph
            .parameters()
            .into_iter()
            .filter(|p| text == PLAIN || !p.name.starts_with("conv") || p.name.ends_with("weight"));
        for p in checked {
            let got = &trainer.weights().params[p.offset..][..p.len];
            let far = got.iter().zip(&params[p.offset..]).filter(|(g, e)| (f64::from(**g) - **e).abs() > 1e-4).count();
            assert!(far * 100 <= p.len, "{far} of {} numbers of {} differ, {text}", p.len, p.name);
        }
    }
}

#[test]
fn batches_that_cannot_be_computed_are_refused_with_a_sentence() {
    let network = network(NORMED);
    let mut trainer = Trainer::builder(&network).batch(4).build().unwrap();
    let mut step = |n: usize| {
        let (inputs, labels) = batch(&network, n, 0);
        trainer.step(&inputs, &labels).unwrap_err().to_string()
    };
    assert_eq!(step(5), "a batch of 5 samples cannot be computed here; take 2 to 4");
    assert_eq!(step(1), "a batch of 1 samples cannot be computed here; take 2 to 4");
    assert_eq!(step(0), "a batch of 0 samples cannot be computed here; take 2 to 4");
    assert!(matches!(trainer.step(&[0.0; 91], &[0.0]), Err(TrainError::WrongLength { expected: 180, got: 91, .. })));
    assert!(matches!(trainer.step(&[0.0; 180], &[0.0]), Err(TrainError::WrongLength { expected: 2, got: 1, .. })));
}

/// Why a graph with batch norm cannot be trained with this batch.
fn refused(text: &str, batch: usize) -> Option<String> {
    let network = network(text);
    Trainer::builder(&network).batch(batch).build().err().map(|e| e.to_string())
}

#[test]
fn case_10_batch_norm_with_one_value_a_channel_is_refused() {
    let input = "input = { length = 16, channels = 1, sample_rate = 4000 }\n";
    let length_one =
        format!("name = 'a'\nbatch_norm = true\n{input}block = [{{ conv = 8, kernel = 16, padding = 'valid' }}]");
    let average = format!(
        "name = 'b'\n{input}head = {{ batch_norm = true, pool = 'average' }}\nblock = [{{ conv = 8, kernel = 5, pool = 4 }}]"
    );
    let flat =
        format!("name = 'c'\n{input}head = {{ batch_norm = true }}\nblock = [{{ conv = 8, kernel = 5, pool = 4 }}]");
    let pooled = format!(
        "name = 'd'\nbatch_norm = true\n{input}block = [{{ conv = 8, kernel = 5, pool = 16 }}, {{ conv = 4, kernel = 1 }}]"
    );
    for (text, layer) in [(&length_one, "bn1"), (&average, "bn_features"), (&flat, "bn_features"), (&pooled, "bn2")] {
        let told = refused(text, 1).expect("one value a channel");
        assert!(told.contains(&format!("layer `{layer}`")) && told.contains("more than 1 value per channel"), "{told}");
        assert_eq!(refused(text, 2), None);
    }
    // One clip with several rows has several values a channel, and recognition needs no statistics of a batch.
    let rows = format!("name = 'e'\nbatch_norm = true\n{input}block = [{{ conv = 8, kernel = 5, pool = 4 }}]");
    assert_eq!(refused(&rows, 1), None);
    let network = network(&length_one);
    Plan::new(&network.graph, &PlanOptions::new(1, Work::Infer(network.logits))).unwrap();
    let empty = Plan::new(&network.graph, &PlanOptions::new(0, Work::Infer(network.logits)));
    assert_eq!(empty.unwrap_err(), GraphError::EmptyBatch);
    assert!(!Graph::new().couples_samples() && network.graph.couples_samples());
}

#[test]
fn an_epoch_uses_every_clip() {
    let epoch = |clips: usize, batch: usize, merge_single: bool| -> (Vec<usize>, EpochSteps) {
        let steps = BatchOptions { merge_single, ..BatchOptions::new(batch, 1) }.epoch(clips).unwrap();
        let mut next = 0;
        let sizes = (0..steps.count()).map(|step| {
            let range = steps.clips_of(step);
            assert_eq!(range.start, std::mem::replace(&mut next, range.end));
            range.len()
        });
        let sizes = sizes.collect();
        assert_eq!(next, clips);
        (sizes, steps)
    };
    assert_eq!(epoch(64, 32, true).0, [32, 32]);
    assert_eq!(epoch(63, 32, true).0, [32, 31]);
    assert_eq!(epoch(33, 32, false).0, [32, 1]);
    assert_eq!(epoch(33, 32, true).0, [33]);
    assert_eq!(epoch(65, 32, true).0, [32, 33]);
    assert_eq!(epoch(31, 32, true).0, [31]);
    assert_eq!(epoch(1, 32, true).0, [1]);
    assert_eq!(epoch(3, 1, true).0, [1, 1, 1]);
    let (_, steps) = epoch(65, 32, true);
    assert_eq!((steps.largest(), steps.last()), (33, 33));
    let (_, steps) = epoch(63, 32, true);
    assert_eq!((steps.largest(), steps.last()), (32, 31));
}

/// A folder of two words with so many training clips, and the file of a small network.
fn recordings(clips: usize, batch_norm: bool) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    for i in 0..clips {
        let word = folder.path().join("data").join(["bed", "cat"][i % 2]);
        std::fs::create_dir_all(&word).unwrap();
        let mut wav = hound::WavWriter::create(word.join(format!("carl_nohash_{i}.wav")), spec).unwrap();
        let key = Key::new(i as u64, Stream::Case);
        (0..4000).for_each(|s| wav.write_sample((3000.0 * key.normal(s)) as i16).unwrap());
        wav.finalize().unwrap();
    }
    let network = folder.path().join("net.toml");
    let text = format!(
        "name = 'tiny'\nbatch_norm = {batch_norm}\ninput = {{ length = 4000, channels = 1, sample_rate = 16000 }}\n\
         block = [{{ conv = 6, kernel = 40, stride = 20, pool = 4 }}]"
    );
    std::fs::write(&network, text).unwrap();
    (folder, network)
}

#[test]
fn case_17_the_program_trains_on_every_clip_of_an_epoch() {
    for (clips, batch, batch_norm, steps) in
        [(33, "32", false, 2), (33, "32", true, 1), (31, "32", true, 1), (7, "3", false, 3), (7, "3", true, 2)]
    {
        let (folder, network) = recordings(clips, batch_norm);
        let mut train = stapes();
        train.args(["train", "--quiet", "--epochs", "2", "--name", "run", "--batch", batch, "--data"]);
        train
            .arg(folder.path().join("data"))
            .arg("--model")
            .arg(&network)
            .arg("--runs")
            .arg(folder.path().join("runs"));
        train.assert().success();
        let run = folder.path().join("runs/run");
        let last = std::fs::read(run.join("last.safetensors")).unwrap();
        let header =
            String::from_utf8_lossy(&last[8..8 + usize::from(last[0]) + 256 * usize::from(last[1])]).into_owned();
        let taken = format!("\"stapes.optimizer_step\":\"{}\"", 2 * steps);
        assert!(header.contains(&taken), "{clips} clips in batches of {batch}, batch norm {batch_norm}: {header}");
        let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        let record: serde_json::Value = serde_json::from_str(metrics.lines().next().unwrap()).unwrap();
        let right = record["train_accuracy"].as_f64().unwrap() * clips as f64;
        assert!((right - right.round()).abs() < 1e-9, "a share of all {clips} clips: {record}");
    }
}
