//! Executes a plan on the CPU in single precision, on the threads of the rayon pool that it is called from.

use super::error::DeviceError;
use super::memory;
use crate::base::aligned::{Aligned, OutOfMemory};
use crate::base::{Shape, rng::Key};
use crate::graph::{BufferLoc, NodeId, Plan, Space, Stage, Step};
use crate::ops::op::{Backward, Forward, MAX_INPUTS, Merge, Op, Pass};
use crate::simd::Isa;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

/// The samples of one shard, their buffers, and their gradient accumulators.
struct Shard {
    samples: Range<usize>,
    arena: Aligned,
    sums: Aligned,
}

impl Shard {
    /// Clears the accumulators, except for gradients that are computed once for the batch.
    fn clear(&mut self, plan: &Plan) {
        let mut from = 0;
        for once in &plan.summed_per_batch {
            self.sums[from..once.start].fill(0.0);
            from = once.end;
        }
        self.sums[from..].fill(0.0);
    }
}

/// A plan with the memory to execute it. Everything is allocated when it is created; a run allocates nothing and cannot fail.
pub struct Cpu {
    plan: Arc<Plan>,
    isa: Isa,
    /// Samples of the last batch.
    n: usize,
    shards: Vec<Shard>,
    /// One for each thread; a thread takes the one with its own number, so that no thread waits.
    workspaces: Vec<Mutex<Aligned>>,
    /// One for each thread, where several threads may share a sample: temporary memory for pieces of a sample of another thread.
    piece_scratch: Vec<Mutex<Aligned>>,
    /// The packed weights and the statistics of each node.
    batch_saved: Vec<Aligned>,
    /// The operands of gradients that are computed once for the batch, collected from all shards.
    batch: Aligned,
}

/// What does not change during a run.
#[derive(Clone, Copy)]
struct Run<'a> {
    plan: &'a Plan,
    n: usize,
    isa: Isa,
    batch_saved: &'a [Aligned],
    params: &'a [f32],
    state: &'a [f32],
    inputs: &'a [&'a [f32]],
    draw: Key,
    piece_scratch: &'a [Mutex<Aligned>],
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
        let sums = if plan.trains() { plan.params_len } else { 0 };
        let shard = |p: usize| {
            let arena = Aligned::try_zeros(plan.shard_capacity().saturating_mul(plan.shard_len))?;
            Ok(Shard { arena, sums: Aligned::try_zeros(sums)?, samples: plan.samples(p, plan.n) })
        };
        let arenas = |count: usize, len: usize| -> Result<Vec<Mutex<Aligned>>, OutOfMemory> {
            (0..count).map(|_| Ok(Mutex::new(Aligned::try_zeros(len)?))).collect()
        };
        let scratch = plan.nodes.iter().map(|node| node.spec.scratch).max().unwrap_or(0);
        Ok(Cpu {
            isa,
            n: plan.n,
            shards: (0..plan.shards).map(shard).collect::<Result<_, OutOfMemory>>()?,
            workspaces: arenas(threads, plan.workspace_len)?,
            // For batches of a single sample only: a thread that waits for the pieces of its sample might take another sample
            // meanwhile, and has only one workspace.
            piece_scratch: arenas(
                if plan.has_backward() || plan.n > 1 || threads == 1 { 0 } else { threads },
                scratch,
            )?,
            batch_saved: plan
                .nodes
                .iter()
                .map(|node| Aligned::try_zeros(node.spec.batch_saved))
                .collect::<Result<_, _>>()?,
            batch: Aligned::try_zeros(plan.batch_len())?,
            plan,
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Packs changed parameters and, in inference, state. It must be called before the first run and after every change.
    pub fn prepare(&mut self, params: &[f32], state: &[f32]) {
        let isa = self.isa;
        self.batch_saved.par_iter_mut().zip(&self.plan.nodes).for_each(|(batch_saved, node)| {
            node.op.prepare(
                isa,
                &node.shapes[..node.inputs],
                &params[node.params.clone()],
                &state[node.state.clone()],
                batch_saved,
            );
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
        self.shards.par_iter_mut().for_each(|shard| shard.clear(&plan));
        for stage in &plan.stages {
            match stage {
                Stage::Merge(step) => {
                    self.merge(&plan, &plan.steps[*step], params, state);
                    continue;
                }
                Stage::Batch(step) => {
                    self.sum_per_batch(&plan.steps[*step], inputs, draw);
                    continue;
                }
                _ => {}
            }
            let (isa, batch_saved, piece_scratch) = (self.isa, &self.batch_saved[..], &self.piece_scratch[..]);
            let run = Run { plan: &plan, n, isa, batch_saved, params, state, inputs, draw, piece_scratch };
            let workspaces = &self.workspaces;
            self.shards.par_iter_mut().for_each(|shard| run.stage(stage, shard, &mut workspace_of(workspaces)));
        }
        if plan.trains() {
            self.reorder_gradients(&plan);
        }
    }

    /// Brings the accumulators of every shard into the order of the parameters.
    fn reorder_gradients(&mut self, plan: &Plan) {
        let workspaces = &self.workspaces;
        self.shards.par_iter_mut().for_each(|shard| {
            let mut workspace = workspace_of(workspaces);
            for node in plan.nodes.iter().filter(|node| !node.frozen) {
                let sums = &mut shard.sums[node.params.clone()];
                node.op.reorder_gradients(&node.shapes[..node.inputs], sums, &mut workspace[..node.spec.scratch]);
            }
        });
    }

    /// Computes the parameter gradients of a node from all samples in order, piece by piece on all threads. The result does not depend on
    /// which thread computes a piece.
    fn sum_per_batch(&mut self, step: &Step, inputs: &[&[f32]], draw: Key) {
        let Some(i) = step.node else { return };
        let (node, isa) = (&self.plan.nodes[i], self.isa);
        let mut free = &mut self.batch[..];
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
        let piece = node.op.gradient_piece(&node.shapes[..node.inputs]);
        let dparams = &mut self.shards[0].sums[node.params.clone()];
        let piece = piece.clamp(1, dparams.len().max(1));
        dparams.par_chunks_mut(piece).enumerate().for_each(|(number, dparams)| {
            dparams.fill(0.0);
            let mut b = Backward {
                shapes: node.shapes,
                sample: 0,
                draw: draw.with(node.id.index() as u64),
                x: [x0, x1],
                y,
                dy,
                dx: [&mut [], &mut []],
                dparams,
                from: number * piece,
                saved: &mut [],
                scratch: &mut [],
                params: &[],
                batch_saved: &[],
            };
            node.op.backward(isa, step.phase, &mut b);
        });
    }

    fn merge(&mut self, plan: &Plan, step: &Step, params: &[f32], state: &mut [f32]) {
        let Some(i) = step.node else { return };
        let node = &plan.nodes[i];
        let mut sums = std::mem::replace(&mut self.shards[0].sums, Aligned::zeros(0));
        let shards = &self.shards;
        let saved = |sample: usize| {
            // Shard p has the samples from p * n / shards on, so that a sample is in this shard or the next.
            let guess = sample * plan.shards_for(self.n) / self.n;
            let shard = shards[guess..].iter().find(|shard| shard.samples.contains(&sample));
            let shard = shard.expect("every sample of the batch is in a shard");
            &shard.arena[range(step.saved, shard, sample)]
        };
        node.op.merge(&mut Merge {
            pass: step.pass,
            shapes: node.shapes,
            n: self.n,
            saved: &saved,
            params: &params[node.params.clone()],
            dparams: if step.pass == Pass::Backward { &mut sums[node.params.clone()] } else { &mut [] },
            state: &mut state[node.state.clone()],
            batch_saved: &mut self.batch_saved[i],
        });
        self.shards[0].sums = sums;
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

    /// The gradient accumulators of the shards; their sum, added in this order, is the gradient of the mean loss. Gradients that are
    /// computed once for the batch are in the first, and the others are zero there.
    pub fn gradient_sums(&self) -> impl ExactSizeIterator<Item = &[f32]> + Clone {
        self.shards[..self.plan.shards_for(self.n)].iter().map(|shard| &shard.sums[..])
    }

    /// The gradient of the mean loss with respect to all parameters, in the order of the parameter arena.
    pub fn parameter_gradients(&self) -> Vec<f32> {
        let mut total = vec![0.0; self.plan.params_len];
        for sums in self.gradient_sums() {
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
        total
    }
}

/// How many samples the inputs of a batch have; 0 if the plan has no inputs.
fn samples_of(plan: &Plan, inputs: &[&[f32]]) -> usize {
    let sized = inputs.iter().zip(&plan.inputs).find(|(_, shape)| shape.size() > 0);
    sized.map_or(0, |(input, shape)| input.len() / shape.size())
}

/// The workspace of the calling thread.
fn workspace_of(workspaces: &[Mutex<Aligned>]) -> MutexGuard<'_, Aligned> {
    let worker = rayon::current_thread_index().unwrap_or(0) % workspaces.len();
    workspaces[worker].lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The range of a buffer of some samples in the arena of a shard.
fn ranges(loc: BufferLoc, shard: &Shard, samples: &Range<usize>) -> Range<usize> {
    let first = range(loc, shard, samples.start);
    first.start..first.start + samples.len() * loc.len
}

/// The range of a buffer of one sample in the arena of a shard.
fn range(loc: BufferLoc, shard: &Shard, sample: usize) -> Range<usize> {
    let start = loc.offset * shard.samples.len() + (sample - shard.samples.start) * loc.len;
    start..start + loc.len
}

/// The range of a buffer of all samples in the arena of a shard.
fn whole(loc: BufferLoc, shard: &Shard) -> Range<usize> {
    let start = loc.offset * shard.samples.len();
    start..start + loc.len * shard.samples.len()
}

impl Run<'_> {
    /// Executes a stage that couples no samples for one shard.
    fn stage(&self, stage: &Stage, shard: &mut Shard, workspace: &mut [f32]) {
        match stage {
            Stage::Merge(_) | Stage::Batch(_) => {}
            Stage::Shards(step) => self.step(&self.plan.steps[*step], shard.samples.clone(), shard, workspace),
            Stage::Samples(steps) => {
                for sample in shard.samples.clone() {
                    for step in &self.plan.steps[steps.clone()] {
                        self.step(step, sample..sample + 1, shard, workspace);
                    }
                }
            }
        }
    }

    /// Executes one step for one sample, or for all samples of the shard.
    fn step(&self, step: &Step, samples: Range<usize>, shard: &mut Shard, workspace: &mut [f32]) {
        let locs = [step.x[0], step.x[1], step.y, step.dy, step.dx[0], step.dx[1], step.saved, step.scratch];
        let sample = samples.start;
        let in_shard = locs.map(|p| if p.space == Space::Shard { ranges(p, shard, &samples) } else { 0..0 });
        let Shard { arena, sums, .. } = shard;
        let [x0, x1, y, dy, dx0, dx1, saved, scratch] = operands(locs, in_shard, arena, workspace);
        let Some(i) = step.node else {
            dy.fill(self.plan.seed(self.n));
            return;
        };
        let node = &self.plan.nodes[i];
        let x = [(x0, 0), (x1, 1)].map(|(own, k): (&mut [f32], usize)| match step.x[k].space {
            Space::Input(input) => &self.inputs[input][sample * step.x[k].len..][..samples.len() * step.x[k].len],
            _ => &*own,
        });
        let draw = self.draw.with(node.id.index() as u64);
        let params = &self.params[node.params.clone()];
        let batch_saved = &self.batch_saved[i];
        let shapes: [Shape; MAX_INPUTS] = node.shapes;
        match step.pass {
            Pass::Forward => {
                let state = &self.state[node.state.clone()];
                let b = Forward { shapes, sample, draw, x, y, from: 0, saved, scratch, params, state, batch_saved };
                let piece = if self.piece_scratch.is_empty() { None } else { node.op.piece(&shapes[..node.inputs]) };
                match piece {
                    Some(piece) => self.forward_in_pieces(&*node.op, piece, b),
                    None => node.op.forward(self.isa, step.phase, &mut { b }),
                }
            }
            Pass::Backward => {
                let dparams =
                    if node.frozen || node.params.is_empty() { &mut [] } else { &mut sums[node.params.clone()] };
                let (dx, from) = ([dx0, dx1], 0);
                let mut b =
                    Backward { shapes, sample, draw, x, y, dy, dx, dparams, from, saved, scratch, params, batch_saved };
                node.op.backward(self.isa, step.phase, &mut b);
                for (from, to) in step.dx.into_iter().zip(step.add_to) {
                    if to.space != Space::None {
                        add(from, to, shard, &samples, workspace);
                    }
                }
            }
        }
    }
}

impl Run<'_> {
    /// Computes the output of one sample on all threads, in pieces of a multiple of `piece` numbers.
    fn forward_in_pieces(&self, op: &dyn Op, piece: usize, b: Forward<'_>) {
        let Forward { shapes, sample, draw, x, params, state, batch_saved, .. } = b;
        let numbers = b.y.len().div_ceil(self.piece_scratch.len()).next_multiple_of(piece);
        b.y.par_chunks_mut(numbers).enumerate().for_each(|(i, y)| {
            let (scratch, saved) = (&mut workspace_of(self.piece_scratch)[..], &mut [][..]);
            let from = i * numbers;
            op.forward(
                self.isa,
                0,
                &mut Forward { shapes, sample, draw, x, y, from, saved, scratch, params, state, batch_saved },
            );
        });
    }
}

fn add(from: BufferLoc, to: BufferLoc, shard: &mut Shard, samples: &Range<usize>, workspace: &mut [f32]) {
    let locs = [from, to];
    let in_shard = locs.map(|p| if p.space == Space::Shard { ranges(p, shard, samples) } else { 0..0 });
    let [from, to] = operands(locs, in_shard, &mut shard.arena, workspace);
    to.iter_mut().zip(from).for_each(|(to, from)| *to += *from);
}

/// The operands' slices: of the workspace, of the shard, or empty.
fn operands<'b, const K: usize>(
    locs: [BufferLoc; K],
    in_shard: [Range<usize>; K],
    arena: &'b mut [f32],
    workspace: &'b mut [f32],
) -> [&'b mut [f32]; K] {
    let in_workspace = locs.map(|p| if p.space == Space::Workspace { p.offset..p.offset + p.len } else { 0..0 });
    let mut from_shard = arena.get_disjoint_mut(in_shard).expect("the planner gives no two operands the same memory");
    let mut from_workspace =
        workspace.get_disjoint_mut(in_workspace).expect("the planner gives no two operands the same memory");
    std::array::from_fn(|k| {
        std::mem::take(if locs[k].space == Space::Workspace { &mut from_workspace[k] } else { &mut from_shard[k] })
    })
}
