//! Measures the speed of a network: layer by layer, for a training step, and for the recognition of one clip.

use super::error::TrainError;
use super::model::Model;
use super::predictor::Predictor;
use super::trainer::Trainer;
use crate::base::Shape;
use crate::base::cpu_time::CpuTime;
use crate::base::rng::{Key, Stream};
use crate::exec::{Errors, SingleOp, check_memory};
use crate::graph::{GraphError, Lowered, Plan};
use crate::nn::Network;
use crate::ops::case::{Fill, Input};
use crate::ops::op::Phase;
use crate::ops::{ConvChoice, ShapeError};
use crate::simd::{Isa, fma_peak};
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct BenchOptions {
    /// Clips in a batch, at least 1.
    pub batch: usize,
    /// How convolutions are computed.
    pub conv: ConvChoice,
    /// Whether a few runs of each pass suffice.
    pub quick: bool,
}

/// One pass of a layer over a batch, on one thread.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PassBench {
    /// `forward`, `backward-data` (gradients of the inputs), `backward-weight` (of the parameters), or `backward` where an op
    /// does both at once.
    pub pass: &'static str,
    /// The algorithm, if there is more than one; for both gradients, one after the other.
    pub algorithm: String,
    /// Seconds per batch: the median of several runs.
    pub seconds: f64,
    /// Multiply-accumulate operations (MACs) of the direct algorithm, whatever the algorithm in use; 1 MAC is 2 FLOPs.
    pub macs: u64,
    /// Thousand millions of them per second; none if there are none.
    pub gmacs_per_second: Option<f64>,
    /// Their share of the peak.
    pub peak_share: Option<f64>,
    /// Bytes read and written, each number once.
    pub bytes: u64,
    /// Relative rms difference from the reference in double precision, on [`LayerBench::checked_rows`].
    pub error: f64,
}

/// A layer as the plan runs it: a node, or several that are fused.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerBench {
    /// Name of the node.
    pub layer: String,
    /// Its op.
    pub op: &'static str,
    /// Rows and channels of its (first) input.
    pub input: [usize; 2],
    /// Rows and channels of its output.
    pub output: [usize; 2],
    /// Peak of one core in thousand millions of MACs per second, measured just before.
    pub peak_gmacs_per_second: f64,
    /// Rows of the input on which the errors were measured.
    pub checked_rows: usize,
    /// Its passes, those that training makes.
    pub passes: Vec<PassBench>,
}

/// A sum over layers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Total {
    /// Which passes: one of [`PassBench::pass`], or `all`.
    pub pass: &'static str,
    /// Seconds a batch.
    pub seconds: f64,
    /// MACs, as in [`PassBench::macs`].
    pub macs: u64,
    /// Thousand millions of them per second; none if there are none.
    pub gmacs_per_second: Option<f64>,
    /// Their share of the peak.
    pub peak_share: Option<f64>,
    /// Bytes read and written.
    pub bytes: u64,
}

/// The whole network at once, on all threads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Whole {
    /// Clips at a time.
    pub clips: usize,
    /// Cores that can take part: those of the threads, and of a training step no more than it has shards.
    pub cores: usize,
    /// Seconds: the median of several runs.
    pub seconds: f64,
    /// Clips a second.
    pub clips_per_second: f64,
    /// Thousand millions of MACs per second, as in [`PassBench::gmacs_per_second`].
    pub gmacs_per_second: f64,
    /// Their share of the peak of those cores.
    pub peak_share: f64,
}

/// The measurements of a network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NetworkBench {
    /// Its name.
    pub name: String,
    /// Clips in a batch.
    pub batch: usize,
    /// Threads of a training step and of a recognition; layers are measured on one.
    pub threads: usize,
    /// The instruction set.
    pub isa: &'static str,
    /// How convolutions are computed.
    pub conv: String,
    /// Share of the time that went to other processes while the layers were measured; none if the system does not tell.
    pub lost_share: Option<f64>,
    /// Peak of one core in thousand millions of MACs per second: the median of those measured before each layer.
    pub peak_gmacs_per_second: f64,
    /// The layers in order.
    pub layers: Vec<LayerBench>,
    /// Sums over the layers: pass by pass, then all.
    pub totals: Vec<Total>,
    /// The training step.
    pub step: Whole,
    /// The recognition of one clip.
    pub recognise: Whole,
}

/// Most bytes that the samples of a layer take: far more than any cache holds. Of larger batches as many samples as fit
/// are measured, and their time is taken times the rest.
const MOST_BYTES: usize = 256 << 20;
/// Most bytes that a training step may take.
const MOST_STEP_BYTES: usize = 16 << 30;
/// Rows on which errors are measured, if the layer has that many: several blocks of every kernel.
const CHECKED_ROWS: usize = 200;
/// Multiply-adds of a sample's forward pass on those rows, at most: the reference takes as many a few tens of milliseconds.
const CHECKED_MACS: u64 = 4_000_000;
/// Samples on which errors are measured, and draws of random numbers, of whose errors the median counts: in one of them a
/// maximum may by chance be so near another number that single precision takes that.
const CHECKED: (usize, u64) = (2, 3);
/// The same for layers where even the fewest rows take long.
const CHECKED_LARGE: (usize, u64) = (1, 1);

/// Measures `network`, and calls `done` with the name of what comes next, how much is done, and of how much. Must run on the
/// threads that training would use.
///
/// # Errors
/// The network cannot be lowered, or a batch of this size would take more memory than any machine should give.
pub fn bench(
    network: &Arc<Network>,
    options: &BenchOptions,
    isa: Isa,
    done: &mut dyn FnMut(&str, usize, usize),
) -> Result<NetworkBench, TrainError> {
    let (batch, conv, quick) = (options.batch.max(1), options.conv, options.quick);
    let model = Model::from(network);
    let plan = Plan::new(&network.graph, &model.training_options(batch).conv(conv))?;
    let threads = rayon::current_num_threads();
    let numbers = batch.saturating_mul(network.graph.shape(network.audio).size());
    check_step(network, &plan, threads)?;
    let mut layers = Vec::with_capacity(plan.nodes.len());
    let mut cpu_time = CpuTime::default();
    for (i, node) in plan.nodes.iter().enumerate() {
        done(&node.name, i, plan.nodes.len() + 2);
        let refused = |source| GraphError::Shape { node: node.name.clone(), source };
        let (makes, inputs, group_len) =
            (plan.backward_of(i), inputs_of(network, node), batch.div_ceil(plan.groups_for(batch, threads)));
        let layer = Layer { node, makes, inputs, group_len, isa };
        layers.push(layer.bench(batch, quick, &mut cpu_time).map_err(refused)?);
    }
    let mut peaks: Vec<f64> = layers.iter().map(|layer| layer.peak_gmacs_per_second).collect();
    let peak_gmacs_per_second = median(&mut peaks);

    done("a training step", layers.len(), layers.len() + 2);
    let noise = Key::new(1, Stream::Case);
    let clips: Vec<f32> = (0..numbers as u64).map(|i| 0.1 * noise.normal(i) as f32).collect();
    let labels = model.example_labels(batch);
    let mut trainer = Trainer::builder(model.clone()).batch(batch).conv(conv).device(isa).build()?;
    let macs: u64 = plan.rows().iter().map(|row| row.macs).sum();
    let step = whole(isa, (batch, threads.min(plan.shards)), macs, quick, || {
        trainer.step(&clips, &labels).expect("the processor does not fail");
    });
    done("recognising a clip", layers.len() + 1, layers.len() + 2);
    let mut predictor = Predictor::builder(model, trainer.weights.clone()).conv(conv).device(isa).build()?;
    let clip = &clips[..numbers / batch];
    let recognise = whole(isa, (1, threads), network.macs(), quick, || {
        predictor.run(clip).expect("the processor does not fail");
    });
    Ok(NetworkBench {
        name: network.spec.name.clone(),
        batch,
        threads,
        isa: isa.name(),
        conv: conv.to_string(),
        lost_share: cpu_time.lost_share(),
        peak_gmacs_per_second,
        totals: totals(&layers, peak_gmacs_per_second),
        layers,
        step,
        recognise,
    })
}

/// Refuses a plan for training steps that take more memory than there is, or than a measurement should take.
pub(super) fn check_step(network: &Network, plan: &Plan, threads: usize) -> Result<(), TrainError> {
    let numbers = plan.n.saturating_mul(network.graph.shape(network.audio).size());
    let bytes = numbers.saturating_mul(4).saturating_add(plan.memory_bytes(threads));
    if bytes > MOST_STEP_BYTES {
        return Err(TrainError::TooLargeToMeasure { batch: plan.n, bytes });
    }
    // Parameters, running statistics, both moments and the batch.
    let more = network.graph.params_len().saturating_mul(3).saturating_add(numbers).saturating_mul(4);
    Ok(check_memory(plan, threads, more)?)
}

/// The inputs of a node, with labels where it reads them.
fn inputs_of(network: &Network, node: &Lowered) -> Vec<Input> {
    let reads = &network.graph.node(node.id).inputs;
    let is_label = |k: usize| reads.len() == node.inputs && reads.get(k) == Some(&network.labels);
    let of = |(k, &shape): (usize, &Shape)| {
        let fill = match shape.size() {
            _ if !is_label(k) => Fill::Normal,
            1 => Fill::Class(network.classes),
            classes => Fill::Shares(classes),
        };
        Input { shape, fill }
    };
    node.shapes[..node.inputs].iter().enumerate().map(of).collect()
}

/// A layer to be measured.
struct Layer<'a> {
    node: &'a Lowered,
    /// Whether training needs the gradients of the inputs, and of the parameters.
    makes: (bool, bool),
    inputs: Vec<Input>,
    /// Samples of a group of the batch.
    group_len: usize,
    isa: Isa,
}

/// A pass to be measured.
struct Timed {
    pass: &'static str,
    algorithm: String,
    data: bool,
    weight: bool,
    /// The MACs, as a multiple of those of the forward pass.
    macs: u64,
    /// Times the parameters.
    params: usize,
}

impl Layer<'_> {
    fn bench(&self, batch: usize, quick: bool, cpu_time: &mut CpuTime) -> Result<LayerBench, ShapeError> {
        let Lowered { op, spec, .. } = self.node;
        let x: usize = self.inputs.iter().map(|input| input.shape.size()).sum();
        let sample = 4 * (2 * (x + spec.y.size()) + spec.saved);
        let samples = batch.min((MOST_BYTES / sample).max(1));
        let (checked_rows, errors) = self.errors()?;
        let peak_gmacs_per_second = cpu_time.measure(|| fma_peak(self.isa)) / 2.0;
        let mut single_op = SingleOp::new(&**op, &self.inputs, samples, self.isa, 1)?.group_size(self.group_len);
        let passes = self.passes().into_iter().map(|timed| {
            let times = if timed.pass == "forward" {
                cpu_time.measure(|| measure(quick, || single_op.forward()))
            } else {
                cpu_time.measure(|| measure(quick, || single_op.backward(timed.data, timed.weight)))
            };
            let seconds = times * batch as f64 / samples as f64;
            let macs = timed.macs * spec.macs * batch as u64;
            let numbers = batch * (x + spec.y.size()) + timed.params * spec.params_len();
            let (gmacs_per_second, peak_share) = rate(macs, seconds, peak_gmacs_per_second);
            let error = error_of(&errors, &timed);
            let Timed { pass, algorithm, .. } = timed;
            let bytes = 4 * numbers as u64;
            PassBench { pass, algorithm, seconds, macs, gmacs_per_second, peak_share, bytes, error }
        });
        Ok(LayerBench {
            layer: self.node.name.clone(),
            op: op.name(),
            input: [self.inputs[0].shape.l, self.inputs[0].shape.c],
            output: [spec.y.l, spec.y.c],
            peak_gmacs_per_second,
            checked_rows,
            passes: passes.collect(),
        })
    }

    /// What training makes of the layer. The two gradients are apart where they are products and share no merge.
    fn passes(&self) -> Vec<Timed> {
        let all = self.node.planned.algorithms();
        let (data, weight) = self.makes;
        let spec = &self.node.spec;
        let timed = |pass, algorithm: &str, data: bool, weight: bool| Timed {
            pass,
            algorithm: algorithm.into(),
            data,
            weight,
            macs: if pass == "forward" { 1 } else { u64::from(data) + u64::from(weight) },
            params: 1 + usize::from(weight),
        };
        let mut passes = vec![timed("forward", all.forward, false, false)];
        if spec.macs > 0 && weight && !spec.backward.contains(&Phase::Merge) {
            passes.extend(data.then(|| timed("backward-data", all.backward_data, true, false)));
            passes.push(timed("backward-weight", all.backward_weight, false, true));
        } else if data || weight {
            let names = [(data, all.backward_data), (weight, all.backward_weight)];
            let names = names.into_iter().filter(|(made, name)| *made && !name.is_empty()).map(|(_, name)| name);
            passes.push(timed("backward", &names.collect::<Vec<_>>().join(", "), data, weight));
        }
        passes
    }

    /// The errors on a few rows, and how many.
    fn errors(&self) -> Result<(usize, Errors), ShapeError> {
        let inputs = self.checked_inputs();
        let macs = self.node.spec.macs / self.inputs[0].shape.l as u64 * inputs[0].shape.l as u64;
        let (samples, seeds) = if macs > 4 * CHECKED_MACS { CHECKED_LARGE } else { CHECKED };
        let mut draws = Vec::new();
        for seed in 1..=seeds {
            let single_op = SingleOp::new(&*self.node.op, &inputs, samples, self.isa, seed)?;
            draws.push(single_op.group_size(samples).errors());
        }
        let of = |f: &dyn Fn(&Errors) -> f64| median(&mut draws.iter().map(f).collect::<Vec<_>>());
        let weight = draws[0].backward_weight.map(|_| of(&|e| e.backward_weight.unwrap_or(0.0)));
        let (forward, backward_data) = (of(&|e| e.forward), of(&|e| e.backward_data));
        Ok((inputs[0].shape.l, Errors { forward, backward_data, backward_weight: weight }))
    }

    /// The inputs cut to as few rows as the reference can do soon, and as many as the op needs to compute as it does on all.
    fn checked_inputs(&self) -> Vec<Input> {
        let (op, l) = (&self.node.op, self.inputs[0].shape.l);
        let cut = |rows: usize| -> Vec<Input> {
            let rows_of = |shape: Shape| Shape::new(if shape.l == l { rows } else { shape.l }, shape.c);
            self.inputs.iter().map(|input| Input { shape: rows_of(input.shape), ..*input }).collect()
        };
        let shapes = |inputs: &[Input]| inputs.iter().map(|input| input.shape).collect::<Vec<_>>();
        let whole = self.node.planned.algorithms();
        let macs_of_row = (self.node.spec.macs / l as u64).max(1);
        let mut rows =
            usize::try_from(CHECKED_MACS / macs_of_row).map_or(CHECKED_ROWS, |rows| rows.clamp(1, CHECKED_ROWS));
        while rows < l {
            let inputs = cut(rows);
            let x = shapes(&inputs);
            if op.plan(&x).is_ok_and(|planned| planned.algorithms() == whole) {
                return inputs;
            }
            rows = rows.saturating_mul(2);
        }
        self.inputs.clone()
    }
}

fn error_of(errors: &Errors, timed: &Timed) -> f64 {
    let data = if timed.data { errors.backward_data } else { 0.0 };
    let weight = if timed.weight { errors.backward_weight.unwrap_or(0.0) } else { 0.0 };
    if timed.pass == "forward" { errors.forward } else { data.max(weight) }
}

/// Thousand millions of MACs per second and their share of `peak`, where there are any.
fn rate(macs: u64, seconds: f64, peak: f64) -> (Option<f64>, Option<f64>) {
    let gmacs = (macs > 0).then(|| macs as f64 / seconds.max(1e-12) / 1e9);
    (gmacs, gmacs.map(|gmacs| gmacs / peak))
}

fn totals(layers: &[LayerBench], peak: f64) -> Vec<Total> {
    let sum = |pass: &'static str| {
        let of = layers.iter().flat_map(|layer| &layer.passes).filter(|p| pass == "all" || p.pass == pass);
        let (mut seconds, mut macs, mut bytes, mut count) = (0.0, 0, 0, 0);
        for p in of {
            (seconds, macs, bytes, count) = (seconds + p.seconds, macs + p.macs, bytes + p.bytes, count + 1);
        }
        let (gmacs_per_second, peak_share) = rate(macs, seconds, peak);
        (count > 0).then_some(Total { pass, seconds, macs, gmacs_per_second, peak_share, bytes })
    };
    ["forward", "backward-data", "backward-weight", "backward", "all"].into_iter().filter_map(sum).collect()
}

/// Measures the whole network: `macs` per clip.
fn whole(isa: Isa, (clips, cores): (usize, usize), macs: u64, quick: bool, work: impl FnMut()) -> Whole {
    let peak = cores as f64 * fma_peak(isa) / 2.0;
    let seconds = measure(quick, work);
    let clips_per_second = clips as f64 / seconds;
    let gmacs_per_second = macs as f64 * clips_per_second / 1e9;
    Whole { clips, cores, seconds, clips_per_second, gmacs_per_second, peak_share: gmacs_per_second / peak }
}

/// The median time of `work`, after a run that does not count.
pub(super) fn measure(quick: bool, mut work: impl FnMut()) -> f64 {
    let (runs, seconds, most) = if quick { (3, 0.02, 20) } else { (5, 0.2, 200) };
    work();
    let mut times = Vec::with_capacity(most);
    let mut total = 0.0;
    while times.len() < runs || (total < seconds && times.len() < most) {
        let start = Instant::now();
        work();
        let time = start.elapsed().as_secs_f64().max(1e-9);
        total += time;
        times.push(time);
    }
    median(&mut times)
}

pub(super) fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
