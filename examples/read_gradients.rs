//! Runs one training step and reads what it computed: the output of every node, its gradient, and the gradient of every parameter.
//!
//! `cargo run --release --example read_gradients`

use stapes::prelude::*;

/// Clips in the batch.
const BATCH: usize = 8;
/// Classes that the network distinguishes.
const CLASSES: usize = 3;

/// A small network; the gradients follow from the graph.
fn model() -> Result<Model, Box<dyn std::error::Error>> {
    let mut g = Graph::new();
    let audio = g.input("audio", Shape::new(160, 1))?; // 160 samples, 1 channel
    let labels = g.input("labels", Shape::new(1, 1))?; // class numbers
    let h = g.add("conv1", Conv1d::new(8, 9), &[audio])?; // 8 channels, 9 taps
    let h = g.add("relu1", Relu, &[h])?;
    let h = g.add("pool1", MaxPool1d::new(4), &[h])?;
    let h = g.add("conv2", Conv1d { stride: 2, ..Conv1d::new(16, 5) }, &[h])?;
    let h = g.add("relu2", Relu, &[h])?;
    let logits = g.add("fc1", Linear { out: CLASSES, bias: true }, &[h])?;
    let loss = g.add("loss", SoftmaxCrossEntropy::default(), &[logits, labels])?;
    Ok(Model::new(g, logits, loss)?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // `Keep::Everything` gives each activation and each gradient memory of its own; training does without.
    let mut trainer = Trainer::builder(model()?).batch(BATCH).keep(Keep::Everything).build()?;
    let audio: Vec<f32> = (0..BATCH * 160).map(|i| (i as f32 * 0.37).sin()).collect();
    let labels: Vec<f32> = (0..BATCH).map(|i| (i % CLASSES) as f32).collect();
    let step = trainer.step(&audio, &labels)?;
    println!("loss {:.4}, {} of {BATCH} correct\n", step.loss, step.correct);

    println!("node    shape    largest activation  largest gradient");
    let graph = trainer.model().graph().clone();
    for (id, node) in graph.ids().zip(graph.nodes()).filter(|(_, node)| node.op.is_some()) {
        let y = trainer.activation(id)?.ok_or("everything is kept")?; // [n, l, c]
        let dy = trainer.activation_gradient(id)?.ok_or("everything is kept")?; // of the mean loss
        println!("{:<6}  {:<7}  {:18.4}  {:16.4}", node.name, node.spec.y.to_string(), largest(&y), largest(&dy));
    }

    // The gradients of the parameters are in one array, in the order of `Graph::parameters`.
    let gradients = trainer.gradients()?;
    println!("\nparameter     numbers  largest gradient");
    for p in graph.parameters() {
        println!("{:<12}  {:7}  {:16.4}", p.name, p.len, largest(&gradients[p.offset..][..p.len]));
    }
    Ok(())
}

fn largest(numbers: &[f32]) -> f32 {
    numbers.iter().fold(0.0, |most, v| most.max(v.abs()))
}
