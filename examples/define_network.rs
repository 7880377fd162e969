//! A network defined op by op: planned, run for one training step, read node by node, and its gradients checked.
//!
//! `cargo run --release --example define_network`

use stapes::base::Shape;
use stapes::base::rng::{Key, Stream};
use stapes::exec::Cpu;
use stapes::graph::{Graph, GraphError, Keep, NodeId, Plan, PlanOptions, Work};
use stapes::nn::{Initialisation, initialise};
use stapes::ops::{Conv1d, Linear, MaxPool1d, Relu, SoftmaxCrossEntropy};
use stapes::optim::{Adam, AdamSettings};
use stapes::simd::Isa;
use stapes::train::{Weights, gradcheck::check_graph};
use std::sync::Arc;

/// Clips in a batch.
const BATCH: usize = 8;
/// Classes that the network tells apart.
const CLASSES: usize = 3;

/// The network, and its loss. The gradients follow from the graph.
fn network() -> Result<(Graph, NodeId), GraphError> {
    let mut g = Graph::new();
    let audio = g.input("audio", Shape::new(160, 1))?; // 160 samples, 1 channel
    let label = g.input("label", Shape::new(1, 1))?; // a class number
    let h = g.add("conv1", Conv1d::new(8, 9), &[audio])?; // 8 channels, 9 taps
    let h = g.add("relu1", Relu, &[h])?;
    let h = g.add("pool1", MaxPool1d::new(4), &[h])?;
    let h = g.add("conv2", Conv1d { stride: 2, ..Conv1d::new(16, 5) }, &[h])?;
    let h = g.add("relu2", Relu, &[h])?;
    let logits = g.add("fc", Linear { out: CLASSES, bias: true }, &[h])?;
    let loss = g.add("loss", SoftmaxCrossEntropy, &[logits, label])?;
    Ok((g, loss))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (graph, loss) = network()?;
    let mut weights = Weights::zeros(&graph);
    initialise(&graph, Initialisation::HeNormal, 1, &mut weights.params, &mut weights.state);

    // Random sound and labels; the same numbers in every run.
    let noise = Key::new(1, Stream::Case);
    let audio: Vec<f32> = (0..BATCH as u64 * 160).map(|i| noise.normal(i) as f32).collect();
    let labels: Vec<f32> = (0..BATCH).map(|i| (i % CLASSES) as f32).collect();
    let step_key = Key::new(1, Stream::Dropout); // for dropout, which this network has not

    // The plan fixes order and memory. It keeps everything here, so that everything can be read.
    let options = PlanOptions::new(BATCH, Work::Train(loss)).keep(Keep::Everything);
    let mut cpu = Cpu::new(Arc::new(Plan::new(&graph, &options)?), Isa::best());
    let mut adam = Adam::new(graph.params_len(), AdamSettings::default());

    // One training step: forward, backward, Adam. `prepare` packs the weights anew after each change.
    cpu.prepare(&weights.params, &weights.state);
    cpu.run(&weights.params, &mut weights.state, &[&audio, &labels], step_key);
    let before = cpu.loss();
    println!("node    shape    largest activation  largest gradient");
    for node in graph.nodes().iter().filter(|node| node.op.is_some()) {
        let id = graph.find(&node.name).ok_or("every node has its name")?;
        let y = cpu.activation(id).ok_or("the plan keeps everything")?;
        let dy = cpu.gradient(id).ok_or("the plan keeps everything")?;
        println!("{:<6}  {:<7}  {:18.4}  {:16.4}", node.name, node.spec.y.to_string(), largest(&y), largest(&dy));
    }
    println!("\nparameter    numbers  largest gradient");
    let gradients = cpu.parameter_gradients();
    for p in graph.parameters() {
        println!("{:<12} {:7}  {:16.4}", p.name, p.len, largest(&gradients[p.offset..][..p.len]));
    }
    adam.step(cpu.isa(), &mut weights.params, cpu.gradient_sums(), &cpu.plan().summed_per_batch);
    cpu.prepare(&weights.params, &weights.state);
    cpu.run(&weights.params, &mut weights.state, &[&audio, &labels], step_key);
    println!("\nloss {before:.4}, after one step {:.4} on the same batch", cpu.loss());

    // The gradients against central differences, in double precision: 20 elements of every tensor but the labels.
    let params: Vec<f64> = weights.params.iter().map(|&w| f64::from(w)).collect();
    let inputs = [audio, labels].map(|input| input.iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
    let labels_are_fixed: &[usize] = &[1];
    println!("\ntensor     elements  error of the gradient");
    let checks = check_graph(&graph, loss, BATCH, (&params, &inputs, labels_are_fixed), 20);
    for check in &checks {
        println!("{:<10} {:8}  {:.1e}", check.tensor, check.elements, check.error);
    }
    match checks.iter().find(|check| check.error.is_nan() || check.error > 1e-4) {
        None => Ok(()),
        Some(wrong) => Err(format!("the gradient of {} is wrong", wrong.tensor).into()),
    }
}

fn largest(numbers: &[f32]) -> f32 {
    numbers.iter().fold(0.0, |most, v| most.max(v.abs()))
}
