//! Runs a plan on the CPU in single precision, on the threads of the pool it is called from.

use crate::base::{Shape, aligned::Aligned, rng::Key};
use crate::graph::{NodeId, Place, Plan, Space, Stage, Step};
use crate::ops::op::{Backward, Forward, MAX_INPUTS, Merge, Op, Pass};
use crate::simd::Isa;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

/// The samples of one part, their buffers, and their sums of parameter gradients.
struct Part {
    samples: Range<usize>,
    arena: Aligned,
    sums: Aligned,
}

impl Part {
    /// Clears the sums, save for those that are made once a batch.
    fn clear(&mut self, plan: &Plan) {
        let mut from = 0;
        for once in &plan.summed_once {
            self.sums[from..once.start].fill(0.0);
            from = once.end;
        }
        self.sums[from..].fill(0.0);
    }
}

/// A plan with the memory to run it. Everything is allocated when it is made; a run allocates nothing and cannot fail.
pub struct Cpu {
    plan: Arc<Plan>,
    isa: Isa,
    parts: Vec<Part>,
    /// One a worker; a worker takes the one with its own number, so that no two ever wait.
    slots: Vec<Mutex<Aligned>>,
    /// One a worker, where a sample may be shared by several: scratch for the pieces that are not its own.
    aside: Vec<Mutex<Aligned>>,
    /// By node: packed weights and merged statistics.
    shared: Vec<Aligned>,
    /// What the gradients that are summed once a batch are made of, from all parts.
    batch: Aligned,
}

/// What stays the same during a run.
#[derive(Clone, Copy)]
struct Run<'a> {
    plan: &'a Plan,
    isa: Isa,
    shared: &'a [Aligned],
    params: &'a [f32],
    state: &'a [f32],
    inputs: &'a [&'a [f32]],
    draw: Key,
    aside: &'a [Mutex<Aligned>],
}

impl Cpu {
    /// Allocates what `plan` needs on the threads of the current pool.
    pub fn new(plan: Arc<Plan>, isa: Isa) -> Cpu {
        let sums = if plan.trains() { plan.params_len } else { 0 };
        let parts = (0..plan.parts).map(|p| {
            let samples = plan.samples(p);
            Part { arena: Aligned::zeros(samples.len() * plan.part_len), sums: Aligned::zeros(sums), samples }
        });
        let threads = rayon::current_num_threads();
        let arenas = |count: usize, len: usize| (0..count).map(|_| Mutex::new(Aligned::zeros(len))).collect();
        let scratch = plan.nodes.iter().map(|node| node.spec.scratch).max().unwrap_or(0);
        Cpu {
            isa,
            parts: parts.collect(),
            slots: arenas(threads, plan.slot_len),
            // Of a single sample alone: a worker that waits for the pieces of its own might take another's sample meanwhile,
            // and has but one slot.
            aside: arenas(if plan.trains() || plan.n > 1 || threads == 1 { 0 } else { threads }, scratch),
            shared: plan.nodes.iter().map(|node| Aligned::zeros(node.spec.shared)).collect(),
            batch: Aligned::zeros(plan.batch_len()),
            plan,
        }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Takes over changed parameters and, in inference, state: packs weights. Must be called before the first run and after every change.
    pub fn prepare(&mut self, params: &[f32], state: &[f32]) {
        let isa = self.isa;
        self.shared.par_iter_mut().zip(&self.plan.nodes).for_each(|(shared, node)| {
            node.op.prepare(
                isa,
                &node.shapes[..node.inputs],
                &params[node.params.clone()],
                &state[node.state.clone()],
                shared,
            );
        });
    }

    /// Runs the plan on a batch: `inputs` are those of the graph, `[n, l, c]` each, in the order in which they were
    /// added. `draw` is the key of this step's random numbers. Training updates `state`.
    ///
    /// # Panics
    /// If an argument has not the length that the plan says.
    pub fn run(&mut self, params: &[f32], state: &mut [f32], inputs: &[&[f32]], draw: Key) {
        let plan = self.plan.clone();
        assert_eq!(params.len(), plan.params_len, "the parameters are those of the plan's graph");
        assert_eq!(inputs.len(), plan.inputs.len(), "one array for each of the graph's inputs");
        for (input, shape) in inputs.iter().zip(&plan.inputs) {
            assert_eq!(input.len(), plan.n * shape.size(), "an input holds n samples of its shape");
        }
        self.parts.par_iter_mut().for_each(|part| part.clear(&plan));
        for stage in &plan.stages {
            match stage {
                Stage::Merge(step) => {
                    self.merge(&plan, &plan.steps[*step], params, state);
                    continue;
                }
                Stage::Batch(step) => {
                    self.sum_once(&plan.steps[*step], inputs, draw);
                    continue;
                }
                _ => {}
            }
            let (isa, shared, aside) = (self.isa, &self.shared[..], &self.aside[..]);
            let run = Run { plan: &plan, isa, shared, params, state, inputs, draw, aside };
            let slots = &self.slots;
            self.parts.par_iter_mut().for_each(|part| run.stage(stage, part, &mut slot_of(slots)));
        }
        if plan.trains() {
            self.settle(&plan);
        }
    }

    /// Brings every part's sums into the order of the parameters.
    fn settle(&mut self, plan: &Plan) {
        let slots = &self.slots;
        self.parts.par_iter_mut().for_each(|part| {
            let mut slot = slot_of(slots);
            for node in &plan.nodes {
                let sums = &mut part.sums[node.params.clone()];
                node.op.settle(&node.shapes[..node.inputs], sums, &mut slot[..node.spec.scratch]);
            }
        });
    }

    /// The gradients of a node's parameters from all samples, in their order: piece by piece, shared by the threads. Which thread
    /// makes a piece changes nothing.
    fn sum_once(&mut self, step: &Step, inputs: &[&[f32]], draw: Key) {
        let Some(i) = step.node else { return };
        let (node, isa) = (&self.plan.nodes[i], self.isa);
        let mut free = &mut self.batch[..];
        let [x0, x1, y, dy] = step.operands_of_batch().map(|place| match place.space {
            Space::Input(input) => inputs[input],
            Space::Part => {
                let (all, rest) = std::mem::take(&mut free).split_at_mut(self.plan.n * place.len);
                free = rest;
                for part in &self.parts {
                    let samples = part.samples.start * place.len..part.samples.end * place.len;
                    all[samples].copy_from_slice(&part.arena[whole(place, part)]);
                }
                &*all
            }
            _ => &[],
        });
        let piece = node.op.gradient_piece(&node.shapes[..node.inputs]);
        let dparams = &mut self.parts[0].sums[node.params.clone()];
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
                shared: &[],
            };
            node.op.backward(isa, step.phase, &mut b);
        });
    }

    fn merge(&mut self, plan: &Plan, step: &Step, params: &[f32], state: &mut [f32]) {
        let Some(i) = step.node else { return };
        let node = &plan.nodes[i];
        let mut sums = std::mem::replace(&mut self.parts[0].sums, Aligned::zeros(0));
        let parts = &self.parts;
        let saved = |sample: usize| {
            // Part p holds the samples from p * n / parts on, so that sample s is in this part or the one after.
            let guess = sample * plan.parts / plan.n;
            let part = parts[guess..].iter().find(|part| part.samples.contains(&sample));
            let part = part.expect("every sample of the batch is in a part");
            &part.arena[range(step.saved, part, sample)]
        };
        node.op.merge(&mut Merge {
            pass: step.pass,
            shapes: node.shapes,
            n: plan.n,
            saved: &saved,
            params: &params[node.params.clone()],
            dparams: if step.pass == Pass::Backward { &mut sums[node.params.clone()] } else { &mut [] },
            state: &mut state[node.state.clone()],
            shared: &mut self.shared[i],
        });
        self.parts[0].sums = sums;
    }

    /// The mean over the batch of the target node's output, if it is one number a sample: the loss.
    pub fn loss(&self) -> f64 {
        let place = self.plan.activations[self.plan.target().index()];
        let sum = |part: &Part| -> f64 { part.arena[whole(place, part)].iter().map(|&v| f64::from(v)).sum() };
        self.parts.iter().map(sum).sum::<f64>() / self.plan.n as f64
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
        let place = self.plan.activations[node.index()];
        let part = self.parts.iter().find(|part| part.samples.contains(&sample))?;
        (place.space == Space::Part).then(|| &part.arena[range(place, part, sample)])
    }

    fn gather(&self, place: Place) -> Option<Vec<f32>> {
        (place.space == Space::Part)
            .then(|| self.parts.iter().flat_map(|part| part.arena[whole(place, part)].iter().copied()).collect())
    }

    /// Each part's sum of parameter gradients; their sum, added in this order, is the gradient of the mean loss. Those that
    /// the plan sums once stand in the first, and zeros in the others.
    pub fn gradient_sums(&self) -> impl ExactSizeIterator<Item = &[f32]> + Clone {
        self.parts.iter().map(|part| &part.sums[..])
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

/// The slot of the worker that asks.
fn slot_of(slots: &[Mutex<Aligned>]) -> MutexGuard<'_, Aligned> {
    let worker = rayon::current_thread_index().unwrap_or(0) % slots.len();
    slots[worker].lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Where a part holds a buffer of some of its samples.
fn ranges(place: Place, part: &Part, samples: &Range<usize>) -> Range<usize> {
    let first = range(place, part, samples.start);
    first.start..first.start + samples.len() * place.len
}

/// Where a part holds a buffer of one sample.
fn range(place: Place, part: &Part, sample: usize) -> Range<usize> {
    let start = place.offset * part.samples.len() + (sample - part.samples.start) * place.len;
    start..start + place.len
}

/// Where a part holds a buffer of all its samples.
fn whole(place: Place, part: &Part) -> Range<usize> {
    let start = place.offset * part.samples.len();
    start..start + place.len * part.samples.len()
}

impl Run<'_> {
    /// A part's share of a stage that couples no samples.
    fn stage(&self, stage: &Stage, part: &mut Part, slot: &mut [f32]) {
        match stage {
            Stage::Merge(_) | Stage::Batch(_) => {}
            Stage::Parts(step) => self.step(&self.plan.steps[*step], part.samples.clone(), part, slot),
            Stage::Samples(steps) => {
                for sample in part.samples.clone() {
                    for step in &self.plan.steps[steps.clone()] {
                        self.step(step, sample..sample + 1, part, slot);
                    }
                }
            }
        }
    }

    /// One step for some samples: one, or all of the part.
    fn step(&self, step: &Step, samples: Range<usize>, part: &mut Part, slot: &mut [f32]) {
        let places = [step.x[0], step.x[1], step.y, step.dy, step.dx[0], step.dx[1], step.saved, step.scratch];
        let sample = samples.start;
        let in_part = places.map(|p| if p.space == Space::Part { ranges(p, part, &samples) } else { 0..0 });
        let Part { arena, sums, .. } = part;
        let [x0, x1, y, dy, dx0, dx1, saved, scratch] = operands(places, in_part, arena, slot);
        let Some(i) = step.node else {
            dy.fill(1.0 / self.plan.n as f32);
            return;
        };
        let node = &self.plan.nodes[i];
        let x = [(x0, 0), (x1, 1)].map(|(own, k): (&mut [f32], usize)| match step.x[k].space {
            Space::Input(input) => &self.inputs[input][sample * step.x[k].len..][..samples.len() * step.x[k].len],
            _ => &*own,
        });
        let draw = self.draw.with(node.id.index() as u64);
        let params = &self.params[node.params.clone()];
        let shared = &self.shared[i];
        let shapes: [Shape; MAX_INPUTS] = node.shapes;
        match step.pass {
            Pass::Forward => {
                let state = &self.state[node.state.clone()];
                let b = Forward { shapes, sample, draw, x, y, from: 0, saved, scratch, params, state, shared };
                let piece = if self.aside.is_empty() { None } else { node.op.piece(&shapes[..node.inputs]) };
                match piece {
                    Some(piece) => self.forward_in_pieces(&*node.op, piece, b),
                    None => node.op.forward(self.isa, step.phase, &mut { b }),
                }
            }
            Pass::Backward => {
                let dparams = &mut sums[node.params.clone()];
                let (dx, from) = ([dx0, dx1], 0);
                let mut b =
                    Backward { shapes, sample, draw, x, y, dy, dx, dparams, from, saved, scratch, params, shared };
                node.op.backward(self.isa, step.phase, &mut b);
                for (from, to) in step.dx.into_iter().zip(step.add_to) {
                    if to.space != Space::Nowhere {
                        add(from, to, part, &samples, slot);
                    }
                }
            }
        }
    }
}

impl Run<'_> {
    /// One sample's output by all workers, in pieces of a multiple of `piece` numbers.
    fn forward_in_pieces(&self, op: &dyn Op, piece: usize, b: Forward<'_>) {
        let Forward { shapes, sample, draw, x, params, state, shared, .. } = b;
        let numbers = b.y.len().div_ceil(self.aside.len()).next_multiple_of(piece);
        b.y.par_chunks_mut(numbers).enumerate().for_each(|(i, y)| {
            let (scratch, saved) = (&mut slot_of(self.aside)[..], &mut [][..]);
            let from = i * numbers;
            op.forward(
                self.isa,
                0,
                &mut Forward { shapes, sample, draw, x, y, from, saved, scratch, params, state, shared },
            );
        });
    }
}

fn add(from: Place, to: Place, part: &mut Part, samples: &Range<usize>, slot: &mut [f32]) {
    let places = [from, to];
    let in_part = places.map(|p| if p.space == Space::Part { ranges(p, part, samples) } else { 0..0 });
    let [from, to] = operands(places, in_part, &mut part.arena, slot);
    to.iter_mut().zip(from).for_each(|(to, from)| *to += *from);
}

/// The operands' slices: of the slot, of the part, or empty.
fn operands<'b, const K: usize>(
    places: [Place; K],
    in_part: [Range<usize>; K],
    arena: &'b mut [f32],
    slot: &'b mut [f32],
) -> [&'b mut [f32]; K] {
    let in_slot = places.map(|p| if p.space == Space::Slot { p.offset..p.offset + p.len } else { 0..0 });
    let mut from_part = arena.get_disjoint_mut(in_part).expect("the planner gives no two operands the same memory");
    let mut from_slot = slot.get_disjoint_mut(in_slot).expect("the planner gives no two operands the same memory");
    std::array::from_fn(|k| {
        std::mem::take(if places[k].space == Space::Slot { &mut from_slot[k] } else { &mut from_part[k] })
    })
}
