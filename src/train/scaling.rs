//! Predicts the time of a training step on many threads from a measurement on one.
//!
//! A step consists of parts, one after the other; the items of a part (samples, nodes, chunks of the parameters) may be executed side by side. Only
//! the number of groups of samples, for large dense layers, depends on the number of threads: such a step is measured for each number of groups
//! ([`Cpu::measure`]). Each item is timed on one thread, and the items of each part are given to the threads in the order in which an executor gives
//! them: the next one to the first thread that is free.
//!
//! The prediction leaves out what threads cost each other: their start in each part, and the memory bandwidth that they share. For the latter it says how
//! many bytes pass through memory, and at which rate they would have to.

use super::bench::{check_step, measure, median};
use super::error::TrainError;
use super::model::Model;
use super::trainer::Trainer;
use crate::base::rng::{Key, Stream};
use crate::exec::{Cpu, Part};
use crate::graph::{Plan, Stage};
use crate::nn::Network;
use crate::ops::ConvChoice;
use crate::optim::{Adam, AdamSettings, CHUNK};
use crate::simd::Isa;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// The numbers of threads for which a step is predicted.
pub const THREADS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// A step on some number of threads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// Threads.
    pub threads: usize,
    /// Seconds that the step should take.
    pub seconds: f64,
    /// How many times as fast it is as on one thread.
    pub speedup: f64,
    /// Bytes per second that pass through memory then.
    pub bytes_per_second: f64,
    /// Seconds that a step did take: the median of several; none where this machine has fewer threads.
    pub measured_seconds: Option<f64>,
}

/// All parts of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kind {
    /// What they do.
    pub name: &'static str,
    /// How many there are in a step.
    pub parts: usize,
    /// The fewest items of one of them.
    pub least_items: usize,
    /// Seconds of all items on one thread.
    pub seconds: f64,
    /// Seconds of the longest item of each part, added: they take no less, on any number of threads.
    pub critical_seconds: f64,
}

/// How a training step scales with the number of threads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scaling {
    /// Name of the network.
    pub name: String,
    /// Clips in a batch.
    pub batch: usize,
    /// The instruction set.
    pub isa: &'static str,
    /// Bytes that pass through memory in a step, if the caches keep what is used within one sample of a stage.
    pub bytes: u64,
    /// The parts of a step, by kind, cut as on the most threads.
    pub kinds: Vec<Kind>,
    /// Steps on 1 to 64 threads.
    pub predictions: Vec<Prediction>,
}

/// Predicts the training step of `network` on batches of `batch`, and measures it on the numbers of threads up to `most` for which it is predicted.
/// `done` is called as in [`bench`](super::bench::bench).
///
/// # Errors
/// The network cannot be lowered, its batch does not fit into memory, or threads cannot be started.
pub fn scaling(
    network: &Arc<Network>,
    (batch, conv, quick): (usize, ConvChoice, bool),
    isa: Isa,
    most: usize,
    done: &mut dyn FnMut(&str, usize, usize),
) -> Result<Scaling, TrainError> {
    let model = Model::from(network);
    let plan = Arc::new(Plan::new(&network.graph, &model.training_options(batch).conv(conv))?);
    check_step(network, &plan, most)?;
    let measured: Vec<usize> = THREADS.into_iter().filter(|&threads| threads <= most).collect();
    let total = measured.len() + 1;
    done("the parts of a step", 0, total);
    let work = Work { model: &model, batch, conv, isa, quick };
    let grouped = plan.stages.iter().any(|stage| matches!(stage, Stage::Groups(_)));
    let groups_on = |threads: usize| if grouped { plan.groups_for(batch, threads) } else { 1 };
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    THREADS.into_iter().for_each(|threads| _ = counts.entry(groups_on(threads)).or_insert(threads));
    let parts = pool(1)?.install(|| work.parts(&plan, &counts.values().copied().collect::<Vec<_>>()))?;
    let parts_of: BTreeMap<usize, Vec<Part>> = counts.into_keys().zip(parts).collect();
    let bytes = plan.moved_bytes();
    let one = predicted(&parts_of[&groups_on(1)], 1);
    let mut predictions = Vec::new();
    for threads in THREADS {
        let measured_seconds = match measured.iter().position(|&t| t == threads) {
            Some(number) => {
                done("a training step", number + 1, total);
                Some(pool(threads)?.install(|| work.step())?)
            }
            None => None,
        };
        let seconds = predicted(&parts_of[&groups_on(threads)], threads);
        let (speedup, bytes_per_second) = (one / seconds, bytes as f64 / seconds);
        predictions.push(Prediction { threads, seconds, speedup, bytes_per_second, measured_seconds });
    }
    let (name, isa) = (network.spec.name.clone(), isa.name());
    let kinds = kinds(&parts_of[&groups_on(THREADS[THREADS.len() - 1])]);
    Ok(Scaling { name, batch, isa, bytes, kinds, predictions })
}

fn pool(threads: usize) -> Result<rayon::ThreadPool, TrainError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|source| TrainError::Threads { threads, source })
}

/// The time of the parts on so many threads.
fn predicted(parts: &[Part], threads: usize) -> f64 {
    parts.iter().map(|part| makespan(&part.seconds, threads)).sum()
}

/// When the last item ends, if each in turn is given to the thread that is free first.
fn makespan(items: &[f64], threads: usize) -> f64 {
    let mut free = vec![0.0f64; threads.min(items.len())];
    for seconds in items {
        let first = (0..free.len()).min_by(|&a, &b| free[a].total_cmp(&free[b])).unwrap_or(0);
        free[first] += seconds;
    }
    free.into_iter().fold(0.0, f64::max)
}

fn kinds(parts: &[Part]) -> Vec<Kind> {
    let mut kinds: BTreeMap<&str, Kind> = BTreeMap::new();
    for Part { name, seconds } in parts.iter().filter(|part| !part.seconds.is_empty()) {
        let none = Kind { name, parts: 0, least_items: usize::MAX, seconds: 0.0, critical_seconds: 0.0 };
        let kind = kinds.entry(name).or_insert(none);
        kind.parts += 1;
        kind.least_items = kind.least_items.min(seconds.len());
        kind.seconds += seconds.iter().sum::<f64>();
        kind.critical_seconds += seconds.iter().copied().fold(0.0, f64::max);
    }
    let mut kinds: Vec<Kind> = kinds.into_values().collect();
    kinds.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    kinds
}

/// What is measured.
struct Work<'a> {
    model: &'a Model,
    batch: usize,
    conv: ConvChoice,
    isa: Isa,
    quick: bool,
}

impl Work<'_> {
    fn trainer(&self) -> Result<(Trainer, Vec<f32>, Vec<f32>), TrainError> {
        let trainer =
            Trainer::builder(self.model.clone()).batch(self.batch).conv(self.conv).device(self.isa).build()?;
        let numbers = self.batch * self.model.graph().shape(self.model.input()).size();
        let noise = Key::new(1, Stream::Case);
        let clips = (0..numbers as u64).map(|i| 0.1 * noise.normal(i) as f32).collect();
        Ok((trainer, clips, self.model.example_labels(self.batch)))
    }

    /// The median time of a training step on the threads of the current pool.
    fn step(&self) -> Result<f64, TrainError> {
        let (mut trainer, clips, labels) = self.trainer()?;
        let mut result = Ok(());
        let seconds = measure(self.quick, || {
            if let Err(error) = trainer.step(&clips, &labels) {
                result = Err(error);
            }
        });
        result.map(|()| seconds)
    }

    /// The parts of a training step as on each of these numbers of threads, each item with the median of its times. All numbers are measured in turn,
    /// and the times of what does not depend on them are taken together, because a machine is not equally fast at all times.
    fn parts(&self, plan: &Arc<Plan>, threads: &[usize]) -> Result<Vec<Vec<Part>>, TrainError> {
        let (trainer, clips, labels) = self.trainer()?;
        let mut weights = trainer.weights().clone();
        let mut cpu = Cpu::new(plan.clone(), self.isa)?;
        let mut adam = Adam::new(plan.params_len, AdamSettings::default());
        let given: [&[f32]; 2] = if self.model.labels_first() { [&labels, &clips] } else { [&clips, &labels] };
        let draw = Key::new(1, Stream::Dropout);
        cpu.prepare(&weights.params, &weights.state);
        cpu.run(&weights.params, &mut weights.state, &given, draw);
        let mut runs: Vec<Vec<Vec<Part>>> = vec![Vec::new(); threads.len()];
        for _ in 0..if self.quick { 3 } else { 15 } {
            for (runs, &threads) in runs.iter_mut().zip(threads) {
                cpu.measure(Some(threads));
                cpu.run(&weights.params, &mut weights.state, &given, draw);
                let start = Instant::now();
                adam.step(self.isa, &mut weights.params, cpu.parameter_gradients(), &plan.frozen);
                let chunks = plan.params_len.div_ceil(CHUNK).max(1);
                let of_chunk = start.elapsed().as_secs_f64() / chunks as f64;
                cpu.prepare(&weights.params, &weights.state);
                let mut parts = cpu.take_parts();
                parts.push(Part { name: "optimiser", seconds: vec![of_chunk; chunks] });
                runs.push(parts);
            }
        }
        Ok(runs.iter().map(|own| medians(own, &runs)).collect())
    }
}

/// The parts of `own`, whose runs are some of `all`: each item with the median of its times, in all runs in which the part has as many items.
fn medians(own: &[Vec<Part>], all: &[Vec<Vec<Part>>]) -> Vec<Part> {
    let mut parts = own[0].clone();
    for (p, part) in parts.iter_mut().enumerate() {
        let items = part.seconds.len();
        let alike: Vec<&Part> =
            all.iter().flatten().map(|run| &run[p]).filter(|part| part.seconds.len() == items).collect();
        for (i, seconds) in part.seconds.iter_mut().enumerate() {
            *seconds = median(&mut alike.iter().map(|part| part.seconds[i]).collect::<Vec<_>>());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_go_to_the_thread_that_is_free_first() {
        assert_eq!(makespan(&[], 4), 0.0);
        assert_eq!(makespan(&[1.0, 1.0, 1.0], 1), 3.0);
        assert_eq!(makespan(&[1.0, 1.0, 1.0], 2), 2.0);
        assert_eq!(makespan(&[3.0, 1.0, 1.0, 1.0], 2), 3.0);
        assert_eq!(makespan(&[1.0, 1.0, 1.0, 3.0], 2), 4.0, "the longest comes last");
        assert_eq!(makespan(&[1.0; 32], 32), 1.0);
    }

    #[test]
    fn what_does_not_depend_on_the_threads_has_one_median() {
        let run = |samples: f64, groups: &[f64]| {
            let part = |name, seconds: &[f64]| Part { name, seconds: seconds.to_vec() };
            vec![part("samples", &[samples]), part("groups", groups)]
        };
        let few = vec![run(1.0, &[4.0]), run(3.0, &[6.0]), run(2.0, &[5.0])];
        let many = vec![run(9.0, &[1.0, 1.0]), run(8.0, &[2.0, 1.0]), run(7.0, &[3.0, 1.0])];
        let all = [few, many];
        let [few, many] = [0, 1].map(|k| medians(&all[k], &all));
        assert_eq!(few[0].seconds, many[0].seconds);
        assert_eq!((&few[1].seconds[..], &many[1].seconds[..]), (&[5.0][..], &[2.0, 1.0][..]));
    }
}
