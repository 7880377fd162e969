//! The stages of a run: which samples a thread takes, and the call of an operation with their operands.

use super::buffers::{Shard, add, operands, own, whole};
use super::clock::Clock;
use super::helpers::Helpers;
use super::sum_tree::SumTree;
use crate::base::{aligned::Aligned, rng::Key};
use crate::graph::{BufferLoc, Plan, Space, Stage, Step};
use crate::ops::op::{Backward, Forward, Pass, PlannedOp};
use crate::simd::Isa;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Mutex;

/// What is needed where several threads compute one sample.
pub(super) struct Pieces {
    /// Temporary memory for pieces of a sample of another thread, one for each thread; none where each sample is computed by one thread.
    pub scratch: Vec<Mutex<Aligned>>,
    pub helpers: Helpers,
}

/// What does not change during a run.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub plan: &'a Plan,
    pub n: usize,
    pub isa: Isa,
    pub batch_saved: &'a [Aligned],
    pub params: &'a [f32],
    pub state: &'a [f32],
    pub inputs: &'a [&'a [f32]],
    pub draw: Key,
    pub pieces: &'a Pieces,
    pub clock: &'a Clock,
}

/// Calls `work` with every item, on all threads of the pool; items are begun in their order. Allocates nothing.
pub(super) fn on_all_threads<T: Send>(
    (clock, name): (&Clock, &'static str),
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(T) + Sync,
) {
    clock.begin(name);
    if items.size_hint().1 == Some(1) {
        items.for_each(|item| clock.item(|| work(item)));
        return;
    }
    let items = Mutex::new(items);
    let next = || items.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
    (0..rayon::current_num_threads()).into_par_iter().with_max_len(1).for_each(|_| {
        while let Some(item) = next() {
            clock.item(|| work(item));
        }
    });
}

/// The operands of a step in the order in which [`Run::call`] takes them, without the temporary memory.
fn in_order(step: &Step) -> [BufferLoc; 7] {
    [step.x[0], step.x[1], step.y, step.dy, step.dx[0], step.dx[1], step.saved]
}

impl Run<'_> {
    /// Executes the steps of a stage for each sample of each shard, and adds up the gradients of their parameters.
    pub fn samples(&self, stage: usize, shards: &mut [Shard], tree: &SumTree, workspaces: &[Mutex<Aligned>]) {
        let Stage::Samples(steps) = &self.plan.stages[stage] else { return };
        let steps = &self.plan.steps[steps.clone()];
        let len = self.plan.sums_of_stage(stage);
        let count = shards.len();
        on_all_threads((self.clock, "samples"), shards.iter_mut().enumerate(), |(number, shard)| {
            let mut each = |sums: &mut [f32]| {
                let mut workspace = own(workspaces);
                for sample in shard.samples.clone() {
                    steps.iter().for_each(|step| self.step(step, sample, shard, &mut workspace, sums));
                }
            };
            if len == 0 {
                // The scratch memory is for as many threads as there were when it was allocated.
                let threads = self.pieces.scratch.len().min(rayon::current_num_threads());
                self.pieces.helpers.run(threads.saturating_sub(1), || each(&mut []));
            } else {
                let mut sums = tree.begin(len);
                each(&mut sums);
                tree.finish(self.isa, number, count, sums, len);
            }
        });
    }

    /// Executes one step for one sample.
    fn step(&self, step: &Step, sample: usize, shard: &mut Shard, workspace: &mut [f32], sums: &mut [f32]) {
        let [x0, x1, y, dy, dx0, dx1, saved] = in_order(step);
        let locs = [x0, x1, y, dy, dx0, dx1, saved, step.scratch];
        let [operands @ .., scratch] = operands(locs, shard, sample, workspace);
        self.call(step, sample..sample + 1, operands, scratch, &mut sums[step.sums.clone()]);
        for (from, to) in step.dx.into_iter().zip(step.add_to).filter(|(_, to)| to.space != Space::None) {
            add(from, to, shard, sample, workspace);
        }
    }

    /// Executes one step with all samples of a group of shards at once, group by group.
    pub fn groups(&self, step: &Step, shards: &mut [Shard], collected: &mut [f32], workspaces: &[Mutex<Aligned>]) {
        let (mut shards, mut collected) = (shards, collected);
        let count = self.plan.groups_for(self.n, self.clock.threads());
        let (all, width) = (shards.len(), step.collected_len());
        let groups = (0..count).map(|g| {
            let (group, rest) = std::mem::take(&mut shards).split_at_mut((g + 1) * all / count - g * all / count);
            shards = rest;
            let samples = group[0].samples.start..group[group.len() - 1].samples.end;
            let (memory, rest) = std::mem::take(&mut collected).split_at_mut(samples.len() * width);
            collected = rest;
            (group, samples, memory)
        });
        on_all_threads((self.clock, "groups"), groups, |(group, samples, memory)| {
            self.group(step, group, samples, memory, &mut own(workspaces))
        });
    }

    /// Executes one step with all samples of some shards at once: collects its operands, and distributes its results.
    fn group(
        &self,
        step: &Step,
        shards: &mut [Shard],
        samples: Range<usize>,
        memory: &mut [f32],
        workspace: &mut [f32],
    ) {
        let locs = in_order(step);
        let mut free = memory;
        let mut operands = locs.map(|loc| {
            let len = if matches!(loc.space, Space::Shard | Space::Workspace) { samples.len() * loc.len } else { 0 };
            let (operand, rest) = std::mem::take(&mut free).split_at_mut(len);
            free = rest;
            operand
        });
        let of = |loc: BufferLoc, shard: &Shard| {
            (shard.samples.start - samples.start) * loc.len..(shard.samples.end - samples.start) * loc.len
        };
        for shard in &*shards {
            for (loc, operand) in locs.iter().zip(&mut operands).filter(|(loc, _)| loc.space == Space::Shard) {
                operand[of(*loc, shard)].copy_from_slice(&shard.arena[whole(*loc, shard)]);
            }
        }
        let scratch = if step.scratch.space == Space::None {
            0..0
        } else {
            step.scratch.offset..step.scratch.offset + step.scratch.len
        };
        let [x0, x1, y, dy, dx0, dx1, saved] = operands.each_mut().map(|operand| &mut **operand);
        self.call(step, samples.clone(), [x0, x1, y, dy, dx0, dx1, saved], &mut workspace[scratch], &mut []);
        for shard in shards {
            // The output, the gradients of the inputs, and what is saved.
            for (loc, operand) in [2, 4, 5, 6].map(|k| (locs[k], &operands[k])) {
                if loc.space == Space::Shard {
                    let (to, from) = (whole(loc, shard), of(loc, shard));
                    shard.arena[to].copy_from_slice(&operand[from]);
                }
            }
            for (k, to) in step.add_to.into_iter().enumerate().filter(|(_, to)| to.space == Space::Shard) {
                let (to, from) = (whole(to, shard), &operands[4 + k][of(locs[4 + k], shard)]);
                shard.arena[to].iter_mut().zip(from).for_each(|(to, from)| *to += *from);
            }
        }
    }

    /// Calls the operation of a step with the operands of some samples.
    fn call(
        &self,
        step: &Step,
        samples: Range<usize>,
        [x0, x1, y, dy, dx0, dx1, saved]: [&mut [f32]; 7],
        scratch: &mut [f32],
        dparams: &mut [f32],
    ) {
        let Some(i) = step.node else {
            dy.fill(self.plan.seed(self.n));
            return;
        };
        let (node, sample) = (&self.plan.nodes[i], samples.start);
        let x = [(x0, 0), (x1, 1)].map(|(own, k): (&mut [f32], usize)| match step.x[k].space {
            Space::Input(input) => &self.inputs[input][sample * step.x[k].len..][..samples.len() * step.x[k].len],
            _ => &*own,
        });
        let draw = self.draw.with(node.id.index() as u64);
        let params = node.params.of(self.params);
        let batch_saved = &self.batch_saved[i];
        match step.pass {
            Pass::Forward => {
                let state = node.state.of(self.state);
                let b = Forward { sample, draw, x, y, from: 0, saved, scratch, params, state, batch_saved };
                let piece = if self.pieces.scratch.is_empty() { None } else { node.planned.piece() };
                match piece {
                    Some(piece) => self.forward_in_pieces(&*node.planned, piece, b),
                    None => node.planned.forward(self.isa, step.phase, &mut { b }),
                }
            }
            Pass::Backward => {
                let (dx, dparams) = ([dx0, dx1], node.params.within(dparams));
                let mut b = Backward { sample, draw, x, y, dy, dx, dparams, saved, scratch, params, batch_saved };
                node.planned.backward(self.isa, step.phase, &mut b);
            }
        }
    }

    /// Computes the output of one sample, in pieces of a multiple of `piece` numbers on all threads that help.
    fn forward_in_pieces(&self, op: &dyn PlannedOp, piece: usize, b: Forward<'_>) {
        let Forward { sample, draw, x, params, state, batch_saved, .. } = b;
        let numbers = b.y.len().div_ceil(self.pieces.scratch.len()).next_multiple_of(piece);
        let count = b.y.len().div_ceil(numbers);
        let pieces = Mutex::new(b.y.chunks_mut(numbers).enumerate());
        let next = || pieces.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
        self.pieces.helpers.for_each(count, &|_| {
            let Some((i, y)) = next() else { return };
            let (scratch, saved) = (&mut own(&self.pieces.scratch)[..], &mut [][..]);
            let from = i * numbers;
            op.forward(
                self.isa,
                0,
                &mut Forward { sample, draw, x, y, from, saved, scratch, params, state, batch_saved },
            );
        });
    }
}
