//! Trains a small network on arrays in memory, without any files, and recognises new arrays with it.
//!
//! `cargo run --release --example train_on_arrays`
//!
//! The samples are tones of three frequencies in noise; the classes are the frequencies. Any other one-dimensional signal works the same
//! way: put the samples into one array `[n, length, channels]`, and the class numbers into another.

use stapes::prelude::*;

/// Samples of a clip.
const LENGTH: usize = 256;
/// Clips in a batch. The last batch of an epoch may have fewer.
const BATCH: usize = 16;
/// Cycles of the tone of each class in a clip.
const CYCLES: [f32; 3] = [5.0, 9.0, 14.0];

/// `n` clips and their labels. `seed` makes the noise differ.
fn tones(n: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    // A linear congruential generator is random enough for noise.
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut noise = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut clips = Vec::with_capacity(n * LENGTH);
    let labels: Vec<f32> = (0..n).map(|i| (i % CYCLES.len()) as f32).collect();
    for &label in &labels {
        let phase = noise();
        for i in 0..LENGTH {
            let turns = CYCLES[label as usize] * i as f32 / LENGTH as f32 + phase;
            clips.push(0.5 * (std::f32::consts::TAU * turns).sin() + 0.3 * noise());
        }
    }
    (clips, labels)
}

/// Two convolutions, an average over the clip, and one logit for each class.
fn model() -> Result<Model, Box<dyn std::error::Error>> {
    let mut graph = Graph::new();
    let audio = graph.input("audio", Shape::new(LENGTH, 1))?; // [length, channels] of one clip
    let labels = graph.input("labels", Shape::new(1, 1))?; // class numbers
    let h = graph.add("conv1", Conv1d::new(8, 9), &[audio])?; // 8 channels, 9 taps
    let h = graph.add("relu1", Relu, &[h])?;
    let h = graph.add("pool1", MaxPool1d::new(4), &[h])?;
    let h = graph.add("conv2", Conv1d::new(16, 5), &[h])?;
    let h = graph.add("relu2", Relu, &[h])?;
    let h = graph.add("average", AvgPool, &[h])?;
    let logits = graph.add("fc1", Linear { out: CYCLES.len(), bias: true }, &[h])?;
    let loss = graph.add("loss", SoftmaxCrossEntropy::default(), &[logits, labels])?;
    Ok(Model::new(graph, logits, loss)?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = model()?;
    let adam = AdamSettings { lr: 1e-2, ..AdamSettings::default() };
    let mut trainer = Trainer::builder(model.clone()).batch(BATCH).adam(adam).seed(1).build()?;

    // 200 clips are 12 full batches and one of 8 clips: the step takes whatever it is given.
    let (clips, labels) = tones(200, 1);
    for epoch in 1..=10 {
        let (mut loss, mut correct) = (0.0, 0);
        for (inputs, labels) in clips.chunks(BATCH * LENGTH).zip(labels.chunks(BATCH)) {
            let step = trainer.step(inputs, labels)?;
            loss += step.loss * labels.len() as f64;
            correct += step.correct;
        }
        println!("epoch {epoch:2}: loss {:.3}, {correct} of {} correct", loss / labels.len() as f64, labels.len());
    }

    // The predictor has its own copy of the weights, needs no labels, and takes any number of clips at once.
    let mut predictor = Predictor::builder(model, trainer.weights().clone()).batch(BATCH).build()?;
    let (clips, labels) = tones(60, 2);
    let predictions = predictor.predict(&clips)?;
    let correct = predictions.iter().zip(&labels).filter(|(p, label)| p.class == **label as usize).count();
    println!("new clips: {correct} of {} correct", labels.len());
    println!("the first is class {} with probability {:.3}", predictions[0].class, predictions[0].probability);
    if correct * 10 < labels.len() * 9 {
        return Err("fewer than nine in ten new clips are recognised".into());
    }
    Ok(())
}
