//! Executes a plan on the CPU in single precision, on the threads of the rayon pool that it is called from.

mod buffers;
mod clock;
mod helpers;
mod run;
mod sum_tree;

use super::error::DeviceError;
use super::memory;
use crate::base::aligned::{Aligned, OutOfMemory};
use crate::base::rng::Key;
use crate::graph::{BufferLoc, NodeId, Plan, Space, Stage, Step};
use crate::ops::op::{BatchGradient, Merge, Pass, TensorsMut};
use crate::simd::Isa;
use buffers::{Shard, own, range, whole};
use clock::Clock;
pub use clock::Part;
use helpers::Helpers;
use run::{Pieces, Run, on_all_threads};
use std::sync::{Arc, Mutex};
use sum_tree::SumTree;

/// Numbers of the gradient that a thread clears or adds at a time.
const CHUNK: usize = 16 * 1024;

/// A plan with the memory to execute it. Everything is allocated when it is created; a run allocates nothing and cannot fail.
pub struct Cpu {
    plan: Arc<Plan>,
    isa: Isa,
    /// Samples of the last batch.
    n: usize,
    shards: Vec<Shard>,
    /// The gradient of the parameters, in the order of the parameter arena.
    gradient: Aligned,
    /// The sum over the shards of the gradients of a stage.
    tree: SumTree,
    /// Of the nodes that learn, those with parameters, in the order of the parameter arena.
    learning: Vec<usize>,
    /// One for each thread; a thread takes the one with its own number, so that no thread waits.
    workspaces: Vec<Mutex<Aligned>>,
    /// For the pieces of a sample that several threads share.
    pieces: Pieces,
    /// The packed weights and the statistics of each node.
    batch_saved: Vec<Aligned>,
    /// The operands of a step that takes many samples at once, collected from the shards.
    collected: Aligned,
    clock: Clock,
}

impl Cpu {
    /// Allocates what `plan` needs on the threads of the current pool.
    ///
    /// # Errors
    /// The memory does not suffice.
    pub fn new(plan: Arc<Plan>, isa: Isa) -> Result<Cpu, DeviceError> {
        Cpu::beside(plan, isa, 0)
    }

    /// As [`Cpu::new`]; the check of the memory includes `more` bytes that the caller is going to allocate.
    ///
    /// # Errors
    /// The memory does not suffice.
    pub fn beside(plan: Arc<Plan>, isa: Isa, more: usize) -> Result<Cpu, DeviceError> {
        let threads = rayon::current_num_threads();
        memory::check(&plan, threads, more)?;
        let failed = plan.clone();
        Cpu::allocate(plan, isa, threads).map_err(|_| memory::too_large(&failed, threads, more, None))
    }

    fn allocate(plan: Arc<Plan>, isa: Isa, threads: usize) -> Result<Cpu, OutOfMemory> {
        let shard = |p: usize| {
            let arena = Aligned::try_zeros(plan.shard_capacity().saturating_mul(plan.shard_len))?;
            Ok(Shard { arena, samples: plan.samples(p, plan.n) })
        };
        let arenas = |count: usize, len: usize| -> Result<Vec<Mutex<Aligned>>, OutOfMemory> {
            (0..count).map(|_| Ok(Mutex::new(Aligned::try_zeros(len)?))).collect()
        };
        let scratch = plan.nodes.iter().map(|node| node.needs.scratch).max().unwrap_or(0);
        let mut learning: Vec<usize> = (0..plan.nodes.len()).collect();
        learning.retain(|&i| plan.trains() && !plan.nodes[i].frozen && !plan.nodes[i].params.is_empty());
        learning.sort_by_key(|&i| plan.nodes[i].params.range().start);
        Ok(Cpu {
            isa,
            n: plan.n,
            shards: (0..plan.shards).map(shard).collect::<Result<_, OutOfMemory>>()?,
            gradient: Aligned::try_zeros(if plan.trains() { plan.params_len } else { 0 })?,
            tree: SumTree::new(plan.shards, threads, plan.sums_len())?,
            learning,
            workspaces: arenas(threads, plan.workspace_len)?,
            // For batches of a single sample only: a thread that waits for the pieces of its sample might take another sample
            // meanwhile, and has only one workspace.
            pieces: Pieces {
                scratch: arenas(if plan.has_backward() || plan.n > 1 || threads == 1 { 0 } else { threads }, scratch)?,
                helpers: Helpers::default(),
            },
            batch_saved: plan
                .nodes
                .iter()
                .map(|node| Aligned::try_zeros(node.needs.batch_saved))
                .collect::<Result<_, _>>()?,
            collected: Aligned::try_zeros(plan.collected_len())?,
            clock: Clock::default(),
            plan,
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Begins the measurement of the parts of each run and each preparation, cut into items as on this many threads, or ends it. A run that is
    /// measured allocates memory.
    pub fn measure(&mut self, threads: Option<usize>) {
        self.clock.switch(threads);
    }

    /// The parts that were measured since the last call, in their order.
    pub fn take_parts(&mut self) -> Vec<Part> {
        self.clock.take()
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Packs changed parameters and, in inference, state. It must be called before the first run and after every change.
    pub fn prepare(&mut self, params: &[f32], state: &[f32]) {
        let isa = self.isa;
        let nodes =
            self.batch_saved.iter_mut().zip(&self.plan.nodes).filter(|(batch_saved, _)| !batch_saved.is_empty());
        on_all_threads((&self.clock, "prepare"), nodes, |(batch_saved, node)| {
            node.planned.prepare(isa, node.params.of(params), node.state.of(state), batch_saved);
        });
    }

    /// Runs the plan on a batch: `inputs` are those of the graph, `[n, l, c]` each, in the order in which they were
    /// added. `n` may be any number from [`Plan::min_batch`] to [`Plan::n`]: the result has the same bits as that of a plan for a batch of `n`.
    /// `draw` is the key of the random numbers of this step. Training updates `state`.
    ///
    /// # Panics
    /// If an argument does not have the length that the plan requires.
    pub fn run(&mut self, params: &[f32], state: &mut [f32], inputs: &[&[f32]], draw: Key) {
        let plan = self.plan.clone();
        assert_eq!(params.len(), plan.params_len, "the parameters are those of the plan's graph");
        assert_eq!(inputs.len(), plan.inputs.len(), "one array for each of the graph's inputs");
        let n = samples_of(&plan, inputs);
        assert!((plan.min_batch..=plan.n).contains(&n), "a batch has as many samples as the plan accepts");
        for (input, shape) in inputs.iter().zip(&plan.inputs) {
            assert_eq!(input.len(), n * shape.size(), "every input holds n samples of its shape");
        }
        self.n = n;
        self.shards.iter_mut().enumerate().for_each(|(p, shard)| shard.samples = plan.samples(p, n));
        self.clear_gradient(&plan);
        for (number, stage) in plan.stages.iter().enumerate() {
            match stage {
                Stage::Merge(step) => {
                    self.clock.begin("merge");
                    let start = self.clock.start();
                    self.merge(&plan.steps[*step], params, state);
                    self.clock.finish(start);
                }
                Stage::Batch(step) => self.sum_per_batch(&plan.steps[*step], inputs),
                Stage::Samples(_) | Stage::Groups(_) => {
                    let (isa, batch_saved, pieces, clock) =
                        (self.isa, &self.batch_saved[..], &self.pieces, &self.clock);
                    let run = Run { plan: &plan, n, isa, batch_saved, params, state, inputs, draw, pieces, clock };
                    let shards = &mut self.shards[..plan.shards_for(n)];
                    match stage {
                        Stage::Groups(step) => {
                            run.groups(&plan.steps[*step], shards, &mut self.collected, &self.workspaces);
                        }
                        _ => run.samples(number, shards, &self.tree, &self.workspaces),
                    }
                }
            }
            if let Some(sums) = self.tree.take_total() {
                for part in &plan.accumulated[number] {
                    let (to, from) = (&mut self.gradient[part.params.clone()], &sums[part.at..][..part.params.len()]);
                    let chunks = to.chunks_mut(CHUNK).zip(from.chunks(CHUNK));
                    on_all_threads((&self.clock, "gradient"), chunks, |(to, from)| {
                        to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                    });
                }
                self.tree.give_back(sums);
            }
        }
        self.reorder_gradients(&plan);
    }

    /// Clears the gradient, except where it is computed once for the batch.
    fn clear_gradient(&mut self, plan: &Plan) {
        let begins = std::iter::once(0).chain(plan.summed_per_batch.iter().map(|once| once.end));
        let ends = plan.summed_per_batch.iter().map(|once| once.start).chain([self.gradient.len()]);
        for (begin, end) in begins.zip(ends) {
            let chunks = self.gradient[begin..end].chunks_mut(CHUNK);
            on_all_threads((&self.clock, "gradient"), chunks, |chunk| chunk.fill(0.0));
        }
    }

    /// Brings the gradient into the order of the parameters.
    fn reorder_gradients(&mut self, plan: &Plan) {
        let (mut rest, mut at) = (&mut self.gradient[..], 0);
        let nodes = self.learning.iter().map(|&i| {
            let node = &plan.nodes[i];
            let range = node.params.range();
            let (own, after) = std::mem::take(&mut rest)[range.start - at..].split_at_mut(range.len());
            (rest, at) = (after, range.end);
            (node, own)
        });
        on_all_threads((&self.clock, "reorder"), nodes, |(node, gradient)| {
            let scratch = &mut own(&self.workspaces)[..node.needs.scratch];
            node.planned.reorder_gradients(node.params.within(gradient), scratch);
        });
    }

    /// Computes the parameter gradients of a node from all samples in order, piece by piece on all threads. The result does not depend on
    /// which thread computes a piece.
    fn sum_per_batch(&mut self, step: &Step, inputs: &[&[f32]]) {
        let Some(i) = step.node else { return };
        let (node, isa) = (&self.plan.nodes[i], self.isa);
        self.clock.begin("collect");
        let start = self.clock.start();
        let mut free = &mut self.collected[..];
        let [x0, x1, y, dy] = step.operands_of_batch().map(|loc| match loc.space {
            Space::Input(input) => inputs[input],
            Space::Shard => {
                let (all, rest) = std::mem::take(&mut free).split_at_mut(self.n * loc.len);
                free = rest;
                for shard in &self.shards {
                    let samples = shard.samples.start * loc.len..shard.samples.end * loc.len;
                    all[samples].copy_from_slice(&shard.arena[whole(loc, shard)]);
                }
                &*all
            }
            _ => &[],
        });
        self.clock.finish(start);
        let pieces = node.params.of_mut(&mut self.gradient).pieces(node.planned.gradient_piece());
        on_all_threads((&self.clock, "batch"), pieces, |(tensor, from, gradient)| {
            gradient.fill(0.0);
            node.planned.batch_gradient(isa, &mut BatchGradient { x: [x0, x1], y, dy, tensor, from, gradient });
        });
    }

    fn merge(&mut self, step: &Step, params: &[f32], state: &mut [f32]) {
        let Some(i) = step.node else { return };
        let (plan, shards) = (&self.plan, &self.shards);
        let node = &plan.nodes[i];
        let saved = |sample: usize| {
            // Shard p has the samples from p * n / shards on, so that a sample is in this shard or the next.
            let guess = sample * plan.shards_for(self.n) / self.n;
            let shard = shards[guess..].iter().find(|shard| shard.samples.contains(&sample));
            let shard = shard.expect("every sample of the batch is in a shard");
            &shard.arena[range(step.saved, shard, sample)]
        };
        node.planned.merge(&mut Merge {
            pass: step.pass,
            n: self.n,
            saved: &saved,
            params: node.params.of(params),
            dparams: match step.pass {
                Pass::Backward => node.params.of_mut(&mut self.gradient),
                Pass::Forward => TensorsMut::none(),
            },
            state: node.state.of_mut(state),
            batch_saved: &mut self.batch_saved[i],
        });
    }

    /// The mean over the batch of the target node's output, if it is one number for each sample: the loss.
    pub fn loss(&self) -> f64 {
        let loc = self.plan.activations[self.plan.target().index()];
        let sum = |shard: &Shard| -> f64 { shard.arena[whole(loc, shard)].iter().map(|&v| f64::from(v)).sum() };
        self.shards.iter().map(sum).sum::<f64>() / self.n as f64
    }

    /// A node's output after a run, `[n, l, c]`; none if the plan does not keep it.
    pub fn activation(&self, node: NodeId) -> Option<Vec<f32>> {
        self.gather(self.plan.activations[node.index()])
    }

    /// The gradient of the mean loss with respect to a node's output; none if the plan does not keep it.
    pub fn gradient(&self, node: NodeId) -> Option<Vec<f32>> {
        self.gather(self.plan.gradients[node.index()])
    }

    /// One sample of a kept node's output.
    pub fn activation_of(&self, node: NodeId, sample: usize) -> Option<&[f32]> {
        let loc = self.plan.activations[node.index()];
        let shard = self.shards.iter().find(|shard| shard.samples.contains(&sample))?;
        (loc.space == Space::Shard).then(|| &shard.arena[range(loc, shard, sample)])
    }

    fn gather(&self, loc: BufferLoc) -> Option<Vec<f32>> {
        (loc.space == Space::Shard)
            .then(|| self.shards.iter().flat_map(|shard| shard.arena[whole(loc, shard)].iter().copied()).collect())
    }

    /// The gradient of the mean loss with respect to all parameters, in the order of the parameter arena; 0 where they are frozen.
    pub fn parameter_gradients(&self) -> &[f32] {
        &self.gradient
    }
}

/// How many samples the inputs of a batch have; 0 if the plan has no inputs.
fn samples_of(plan: &Plan, inputs: &[&[f32]]) -> usize {
    let sized = inputs.iter().zip(&plan.inputs).find(|(_, shape)| shape.size() > 0);
    sized.map_or(0, |(input, shape)| input.len() / shape.size())
}
