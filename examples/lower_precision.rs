//! What it costs to round the factors of convolutions as a GPU does with `--precision tf32` or `bf16`: custom32-8 trained on the
//! processor with the rows, weights and gradients that go into products rounded so, sums in single precision.
//!
//! `cargo run --release --example lower_precision -- [EPOCHS] [SEEDS]`

use stapes::base::rng::{Key, Stream};
use stapes::base::{Shape, aligned::Aligned};
use stapes::data::{BatchOptions, Batches, DataConfig, Dataset, Format, Source, Split, embedded};
use stapes::exec::Cpu;
use stapes::graph::{Graph, GraphError, NodeId, Plan, PlanOptions, Work};
use stapes::nn::{Initialisation, initialise};
use stapes::ops::op::{Backward, Forward, Op, PlannedOp, ReferenceBackward, ReferenceForward, Spec, inputs};
use stapes::ops::{Conv1d, Dropout, Linear, MaxPool1d, Relu, ShapeError, SoftmaxCrossEntropy};
use stapes::optim::{Adam, AdamSettings};
use stapes::simd::Isa;
use stapes::train::Weights;
use std::error::Error;
use std::ops::ControlFlow;
use std::sync::Arc;

const BATCH: usize = 32;
const LENGTH: usize = 16_000;
const CHANNELS: [usize; 8] = [32, 32, 32, 32, 64, 64, 64, 64];

/// The nearest number with so many bits of mantissa fewer, ties to even.
fn rounded(v: f32, cut: u32) -> f32 {
    if cut == 0 {
        return v;
    }
    let bits = v.to_bits();
    f32::from_bits(bits.wrapping_add((1 << (cut - 1)) - 1 + ((bits >> cut) & 1)) >> cut << cut)
}

/// Rounds what passes: rows on their way up, gradients on their way down.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Bits of mantissa that are cut off.
    cut: u32,
    /// Whether rows are rounded; gradients always are.
    rows: bool,
}

impl Op for Round {
    fn name(&self) -> &'static str {
        "round"
    }

    fn plan(&self, x: &[Shape]) -> Result<Box<dyn PlannedOp>, ShapeError> {
        Ok(Box::new(PlannedRound { round: *self, spec: Spec::new(inputs::<1>("round", x)?[0]) }))
    }

    fn reference_forward(&self, b: &mut ReferenceForward<'_>) {
        b.y.copy_from_slice(b.x[0]);
    }

    fn reference_backward(&self, b: &mut ReferenceBackward<'_>) {
        b.dx[0].iter_mut().zip(b.dy).for_each(|(dx, dy)| *dx += dy);
    }
}

#[derive(Debug)]
struct PlannedRound {
    round: Round,
    spec: Spec,
}

impl PlannedOp for PlannedRound {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn forward(&self, _isa: Isa, _phase: usize, b: &mut Forward<'_>) {
        let cut = if self.round.rows { self.round.cut } else { 0 };
        b.y.iter_mut().zip(b.x[0]).for_each(|(y, &x)| *y = rounded(x, cut));
    }

    fn backward(&self, _isa: Isa, _phase: usize, b: &mut Backward<'_>) {
        b.dx[0].iter_mut().zip(b.dy).for_each(|(dx, &dy)| *dx = rounded(dy, self.round.cut));
    }
}

/// custom32-8; the first layer and the dense one compute in single precision on a GPU too.
fn network(classes: usize, cut: u32) -> Result<(Graph, NodeId, NodeId), GraphError> {
    let mut g = Graph::new();
    let audio = g.input("audio", Shape::new(LENGTH, 1))?;
    let label = g.input("label", Shape::new(1, 1))?;
    let mut h = audio;
    for (i, &channels) in (1..).zip(&CHANNELS) {
        let last = i == CHANNELS.len();
        h = g.add(&format!("conv{i}"), Conv1d::new(channels, 5), &[h])?;
        h = g.add(&format!("relu{i}"), Relu, &[h])?;
        if !last {
            h = g.add(&format!("pool{i}"), MaxPool1d::new(3), &[h])?;
        }
        h = g.add(&format!("round{i}"), Round { cut, rows: !last }, &[h])?;
    }
    h = g.add("dropout", Dropout { p: 0.5 }, &[h])?;
    let logits = g.add("fc1", Linear { out: classes, bias: true }, &[h])?;
    let loss = g.add("loss", SoftmaxCrossEntropy::default(), &[logits, label])?;
    Ok((g, loss, logits))
}

/// The accuracy on a split, with the weights as they are used: rounded.
fn accuracy(
    graph: &Graph,
    logits: NodeId,
    weights: &Weights,
    data: &Arc<Dataset>,
    split: Split,
) -> Result<f64, Box<dyn Error>> {
    let mut cpu = Cpu::new(Arc::new(Plan::new(graph, &PlanOptions::new(BATCH, Work::Infer(logits)))?), Isa::best())?;
    cpu.prepare(&weights.params, &weights.state);
    let mut batches = Batches::eval(data.clone(), split, BATCH)?;
    let (mut right, mut all, mut state) = (0, 0, weights.state.clone());
    while let Some(batch) = batches.next_batch() {
        cpu.run(&weights.params, &mut state, &[&batch.inputs], Key::new(0, Stream::Dropout));
        for (sample, label) in batch.labels[..batch.valid].iter().enumerate() {
            let logits = cpu.activation_of(logits, sample).ok_or("the plan computes the logits")?;
            let largest = (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
            right += u32::from(largest == *label as usize);
            all += 1;
        }
    }
    Ok(f64::from(right) / f64::from(all))
}

/// Trains, and gives the accuracy on the test clips with the weights that were best on the validation clips.
fn train(data: &Arc<Dataset>, cut: u32, epochs: u64, seed: u64) -> Result<f64, Box<dyn Error>> {
    let (graph, loss, logits) = network(data.classes().len(), cut)?;
    let mut weights = Weights::zeros(&graph);
    initialise(&graph, Initialisation::default(), seed, &mut weights.params, &mut weights.state);
    let mut adam = Adam::new(graph.params_len(), AdamSettings::default());
    let mut cpu = Cpu::new(Arc::new(Plan::new(&graph, &PlanOptions::new(BATCH, Work::Train(loss)))?), Isa::best())?;
    let factors: Vec<_> = graph
        .parameters()
        .iter()
        .filter(|p| p.name.ends_with("weight") && !p.name.starts_with("fc") && !p.name.starts_with("conv1."))
        .map(|p| p.offset..p.offset + p.len)
        .collect();
    let used = |weights: &Weights| {
        let mut params: Aligned = weights.params.clone();
        for range in &factors {
            params[range.clone()].iter_mut().for_each(|w| *w = rounded(*w, cut));
        }
        Weights { params, state: weights.state.clone() }
    };
    let mut batches = Batches::train(data.clone(), BatchOptions::new(BATCH, seed))?;
    let (mut best, mut test) = (0.0, 0.0);
    for epoch in 0..epochs {
        for step in 0..batches.steps_per_epoch() {
            let batch = batches.next_batch().ok_or("training batches have no end")?;
            let now = used(&weights);
            let draw = Key::new(seed, Stream::Dropout).with(epoch * batches_per(data) + step);
            cpu.prepare(&now.params, &now.state);
            cpu.run(&now.params, &mut weights.state, &[batch.valid_inputs(), batch.valid_labels()], draw);
            adam.step(cpu.isa(), &mut weights.params, cpu.parameter_gradients(), &[]);
        }
        let now = used(&weights);
        let validation = accuracy(&graph, logits, &now, data, Split::Validation)?;
        if validation > best {
            best = validation;
            test = accuracy(&graph, logits, &now, data, Split::Testing)?;
        }
    }
    Ok(test)
}

fn batches_per(data: &Dataset) -> u64 {
    data.in_split(Split::Training).len().div_ceil(BATCH) as u64
}

fn compare() -> Result<(), Box<dyn Error>> {
    let mut given = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let epochs = given.next().transpose()?.unwrap_or(20);
    let seeds = given.next().transpose()?.unwrap_or(3);
    let config =
        DataConfig { length: LENGTH, format: Format { rate_hz: 16_000, channels: 1 }, ..DataConfig::default() };
    let source = Source::Embedded(embedded());
    let data = Arc::new(Dataset::open(&source, &config, &|_stage, _done, _total| ControlFlow::Continue(()))?);
    println!("custom32-8, {epochs} epochs on the embedded recordings; accuracy on the test clips by seed");
    for (name, cut) in [("f32", 0), ("tf32", 13), ("bf16", 16)] {
        let mut all = Vec::new();
        for seed in 1..=seeds {
            all.push(train(&data, cut, epochs, seed)?);
        }
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let each = all.iter().map(|accuracy| format!("{accuracy:.4}")).collect::<Vec<_>>().join(" ");
        println!("{name:<4}  mean {mean:.4}  ({each})");
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let result = rayon::ThreadPoolBuilder::new().build()?.install(|| compare().map_err(|e| e.to_string()));
    Ok(result?)
}
