//! Lowering: which nodes are executed (`select.rs`), in which steps and stages, and where their buffers are.

mod select;

use super::builder::{Graph, GraphError, NodeId};
use super::memory::{Lifetime, assign_offsets};
use super::plan::{Accumulated, BufferLoc, Lowered, Order, Plan, PlanOptions, Space, Stage, Step, Work};
use crate::base::{Shape, aligned::round_up};
use crate::ops::op::{ConvChoice, MAX_INPUTS, Pass, Phase};
use std::ops::Range;

impl Plan {
    /// Lowers `graph`.
    ///
    /// # Errors
    /// The batch is empty or too small for batch norm, an operation refuses its inputs or has no GPU kernels, or the activations of a batch are
    /// larger than any memory.
    pub fn new(graph: &Graph, options: &PlanOptions) -> Result<Plan, GraphError> {
        Lowering::new(graph, options)?.finish()
    }
}

/// A buffer of the plan, before its location is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Buffer {
    None,
    Input(usize),
    Own(usize),
}

/// The length and the lifetime of a buffer that the plan allocates.
struct Use {
    len: usize,
    first: usize,
    last: usize,
    kept: bool,
}

/// A step whose operands have no location yet.
struct Draft {
    node: Option<usize>,
    pass: Pass,
    phase: usize,
    kind: Phase,
    x: [Buffer; MAX_INPUTS],
    y: Buffer,
    dy: Buffer,
    dx: [Buffer; MAX_INPUTS],
    add_to: [Buffer; MAX_INPUTS],
    saved: Buffer,
    scratch: Buffer,
}

/// The work of lowering, in the order of its methods.
struct Lowering<'a> {
    graph: &'a Graph,
    options: &'a PlanOptions,
    /// The node that computes the output of each graph node: itself, or its input if it is the identity in inference.
    stands_for: Vec<usize>,
    nodes: Vec<Lowered>,
    /// Inputs of each lowered node, as graph nodes.
    reads: Vec<Vec<usize>>,
    inputs: Vec<Shape>,
    buffers: Vec<Use>,
    /// By graph node.
    activation: Vec<Buffer>,
    gradient: Vec<Buffer>,
    /// By lowered node.
    saved: Vec<Buffer>,
    drafts: Vec<Draft>,
    /// The smallest batch that the operations accept.
    min_batch: usize,
    /// By graph node: whether the plan computes its gradient.
    needs: Vec<bool>,
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph, options: &'a PlanOptions) -> Result<Lowering<'a>, GraphError> {
        if options.n == 0 {
            return Err(GraphError::EmptyBatch);
        }
        let count = graph.nodes().len();
        let mut lowering = Lowering {
            graph,
            options,
            stands_for: (0..count).collect(),
            nodes: Vec::new(),
            reads: Vec::new(),
            inputs: Vec::new(),
            buffers: Vec::new(),
            activation: vec![Buffer::None; count],
            gradient: vec![Buffer::None; count],
            saved: Vec::new(),
            drafts: Vec::new(),
            min_batch: 1,
            needs: Vec::new(),
        };
        lowering.needs = lowering.needs_gradient()?;
        lowering.select()?;
        match options.conv {
            ConvChoice::Direct => {}
            // The measured table that `auto` uses is that of the CPU; on a GPU a fused op saves bytes whatever the shape.
            ConvChoice::Auto if options.device.is_some() => lowering.fuse(ConvChoice::Fast)?,
            choice => lowering.fuse(choice)?,
        }
        lowering.passes()?;
        lowering.forward();
        if let Work::Train(target) | Work::Differentiate(target) = options.work {
            lowering.backward(target);
        }
        Ok(lowering)
    }

    fn trains(&self) -> bool {
        matches!(self.options.work, Work::Train(_))
    }

    fn has_backward(&self) -> bool {
        !matches!(self.options.work, Work::Infer(_))
    }

    fn target(&self) -> usize {
        match self.options.work {
            Work::Train(id) | Work::Infer(id) | Work::Differentiate(id) => id.0,
        }
    }

    fn kept(&self, node: usize) -> bool {
        node == self.target() || self.options.keep.has(NodeId(node))
    }

    /// Whether the output of a node is kept, also under the name of a node that passes it on unchanged.
    fn kept_as_any(&self, node: usize) -> bool {
        self.kept(node) || (0..self.stands_for.len()).any(|g| self.stands_for[g] == node && self.kept(g))
    }

    fn buffer(&mut self, len: usize, kept: bool) -> Buffer {
        if len == 0 {
            return Buffer::None;
        }
        self.buffers.push(Use { len, first: usize::MAX, last: 0, kept });
        Buffer::Own(self.buffers.len() - 1)
    }

    fn readers(&self, node: usize) -> usize {
        self.reads.iter().flatten().filter(|&&input| input == node).count()
    }

    /// Whether lowered node `i` may overwrite its first input with its output.
    fn may_overwrite(&self, i: usize) -> bool {
        let input = self.reads[i][0];
        let maker = self.nodes.iter().position(|n| n.id.0 == input);
        let needs = &self.nodes[i].needs;
        needs.in_place
            && !needs.reads_x
            && !self.kept_as_any(input)
            && self.readers(input) == 1
            && maker.is_some_and(|maker| !self.has_backward() || !self.nodes[maker].needs.reads_y)
    }

    fn forward(&mut self) {
        for i in 0..self.nodes.len() {
            let id = self.nodes[i].id.0;
            let (size, needs) = (self.nodes[i].spec.y.size(), self.nodes[i].needs);
            let mut x = [Buffer::None; MAX_INPUTS];
            self.reads[i].iter().zip(&mut x).for_each(|(&input, x)| *x = self.activation[input]);
            let y = if self.may_overwrite(i) {
                let y = x[0];
                x[0] = Buffer::None;
                if let Buffer::Own(number) = y {
                    self.buffers[number].kept |= self.kept_as_any(id);
                }
                y
            } else {
                self.buffer(size, self.kept_as_any(id))
            };
            self.activation[id] = y;
            let saved = self.buffer(needs.saved, false);
            self.saved.push(saved);
            let phases = needs.forward;
            for (phase, kind) in phases.iter().enumerate() {
                let writes = phase + 1 == phases.len();
                let scratch = self.buffer(needs.scratch, false);
                self.draft(Draft {
                    node: Some(i),
                    pass: Pass::Forward,
                    phase,
                    kind: *kind,
                    x,
                    y: if writes || x[0] == Buffer::None { y } else { Buffer::None },
                    dy: Buffer::None,
                    dx: [Buffer::None; MAX_INPUTS],
                    add_to: [Buffer::None; MAX_INPUTS],
                    saved,
                    scratch,
                });
            }
        }
    }

    fn backward(&mut self, target: NodeId) {
        if !self.needs[target.0] {
            return;
        }
        let size = self.graph.shape(target).size();
        let seed = self.buffer(size, true);
        self.gradient[target.0] = seed;
        self.draft(Draft {
            node: None,
            pass: Pass::Backward,
            phase: 0,
            kind: Phase::Samples,
            x: [Buffer::None; MAX_INPUTS],
            y: Buffer::None,
            dy: seed,
            dx: [Buffer::None; MAX_INPUTS],
            add_to: [Buffer::None; MAX_INPUTS],
            saved: Buffer::None,
            scratch: Buffer::None,
        });
        for i in (0..self.nodes.len()).rev() {
            if self.needs[self.nodes[i].id.0] && self.gradient[self.nodes[i].id.0] != Buffer::None {
                self.backward_of(i);
            }
        }
    }

    fn backward_of(&mut self, i: usize) {
        let id = self.nodes[i].id.0;
        let needs = self.nodes[i].needs;
        let reads = self.reads[i].clone();
        if !self.trains() && !reads.iter().any(|&input| self.needs[input]) {
            // The gradient of its output is kept, and no other depends on it.
            return;
        }
        let mut x = [Buffer::None; MAX_INPUTS];
        let mut dx = [Buffer::None; MAX_INPUTS];
        let mut add_to = [Buffer::None; MAX_INPUTS];
        let mut dy = self.gradient[id];
        for (k, &input) in reads.iter().enumerate() {
            if needs.reads_x {
                x[k] = self.activation[input];
            }
            if !self.needs[input] {
                continue;
            }
            let size = self.graph.nodes()[input].spec.y.size();
            if self.gradient[input] != Buffer::None {
                // Another reader has assigned it already: this one's share goes through memory of its own.
                add_to[k] = self.gradient[input];
                dx[k] = self.buffer(size, false);
                continue;
            }
            let kept = self.kept_as_any(input);
            let in_place = k == 0 && needs.in_place && !self.kept_as_any(id) && self.readers(input) == 1 && !kept;
            dx[k] = if in_place { std::mem::replace(&mut dy, Buffer::None) } else { self.buffer(size, kept) };
            self.gradient[input] = dx[k];
        }
        for (phase, kind) in needs.backward.iter().enumerate() {
            if *kind == Phase::Batch && self.nodes[i].frozen {
                // It computes the gradients of the parameters only.
                continue;
            }
            let writes = phase + 1 == needs.backward.len();
            let scratch = self.buffer(needs.scratch, false);
            self.draft(Draft {
                node: Some(i),
                pass: Pass::Backward,
                phase,
                kind: *kind,
                x,
                y: if needs.reads_y { self.activation[id] } else { Buffer::None },
                dy,
                dx: if writes || dy == Buffer::None { dx } else { [Buffer::None; MAX_INPUTS] },
                add_to: if writes { add_to } else { [Buffer::None; MAX_INPUTS] },
                saved: self.saved[i],
                scratch,
            });
        }
    }

    /// Appends a step and extends the lifetimes of its operands.
    fn draft(&mut self, draft: Draft) {
        let tick = self.drafts.len();
        let operands = [draft.y, draft.dy, draft.saved, draft.scratch];
        for buffer in operands.iter().chain(&draft.x).chain(&draft.dx).chain(&draft.add_to) {
            if let Buffer::Own(b) = *buffer {
                let used = &mut self.buffers[b];
                used.first = used.first.min(tick);
                used.last = used.last.max(tick);
            }
        }
        self.drafts.push(draft);
    }

    fn stages(&self) -> (Vec<Stage>, Vec<usize>) {
        let mut stages: Vec<Stage> = Vec::new();
        let mut stage_of = Vec::new();
        for (tick, draft) in self.drafts.iter().enumerate() {
            match stages.last_mut() {
                _ if draft.kind == Phase::Merge => stages.push(Stage::Merge(tick)),
                _ if draft.kind == Phase::Groups => stages.push(Stage::Groups(tick)),
                _ if draft.kind == Phase::Batch => stages.push(Stage::Batch(tick)),
                Some(Stage::Samples(range)) if self.options.order == Order::DepthFirst => range.end = tick + 1,
                _ => stages.push(Stage::Samples(tick..tick + 1)),
            }
            stage_of.push(stages.len() - 1);
        }
        (stages, stage_of)
    }

    /// Determines the stages and the location of every buffer.
    ///
    /// [`Launch::concurrent`]: crate::ops::device::Launch::concurrent
    fn finish(self) -> Result<Plan, GraphError> {
        let (stages, stage_of) = self.stages();
        let last_stage = stages.len().saturating_sub(1);
        let mut locs = vec![BufferLoc::NONE; self.buffers.len()];
        let mut lens = [0; 2];
        // On a GPU the whole batch is in the middle of a step at once.
        let whole = self.options.device.is_some();
        for (space, len) in [Space::Workspace, Space::Shard].into_iter().zip(&mut lens) {
            let mut members = Vec::new();
            let mut lifetimes = Vec::new();
            for (b, used) in self.buffers.iter().enumerate().filter(|(_, used)| used.first <= used.last) {
                let crosses = whole || used.kept || stage_of[used.first] != stage_of[used.last];
                if crosses != (space == Space::Shard) {
                    continue;
                }
                // In a shard, the samples pass through a whole stage one after the other: a lifetime counts stages, not steps.
                let alive = match space {
                    Space::Workspace => used.first..=used.last,
                    _ if used.kept => stage_of[used.first]..=last_stage,
                    // On a GPU a launch of a backward step may still run beside the next step ([`Launch::concurrent`]).
                    _ if whole && self.drafts[used.last].pass == Pass::Backward => {
                        stage_of[used.first]..=last_stage.min(stage_of[used.last] + 1)
                    }
                    _ => stage_of[used.first]..=stage_of[used.last],
                };
                members.push(b);
                lifetimes.push(Lifetime { len: used.len, alive });
            }
            let (offsets, total) = assign_offsets(&lifetimes);
            *len = total;
            for (&b, offset) in members.iter().zip(offsets) {
                locs[b] = BufferLoc { space, offset, len: self.buffers[b].len };
            }
        }
        self.plan(stages, &locs, lens)
    }

    /// For each stage the parts of its gradient accumulators, and for each step its own part.
    fn accumulated(&self, stages: &[Stage]) -> (Vec<Vec<Accumulated>>, Vec<Range<usize>>) {
        let mut sums = vec![0..0; self.drafts.len()];
        let of_stage = |stage: &Stage| {
            let Stage::Samples(steps) = stage else { return Vec::new() };
            let mut parts: Vec<Accumulated> = Vec::new();
            for tick in steps.clone() {
                let draft = &self.drafts[tick];
                let Some(node) = draft.node.map(|i| &self.nodes[i]) else { continue };
                let computes = self.trains() && self.options.device.is_none() && draft.pass == Pass::Backward;
                if !computes || node.frozen || node.params.is_empty() {
                    continue;
                }
                let end = parts.last().map_or(0, |part| round_up(part.at + part.params.len()));
                let params = node.params.range();
                let at = parts.iter().find(|part| part.params == params).map_or(end, |part| part.at);
                if at == end {
                    parts.push(Accumulated { params: params.clone(), at });
                }
                sums[tick] = at..at + params.len();
            }
            parts
        };
        (stages.iter().map(of_stage).collect(), sums)
    }

    fn plan(
        self,
        stages: Vec<Stage>,
        locs: &[BufferLoc],
        [workspace_len, shard_len]: [usize; 2],
    ) -> Result<Plan, GraphError> {
        let loc_of = |buffer: Buffer| match buffer {
            Buffer::None => BufferLoc::NONE,
            Buffer::Input(i) => BufferLoc { space: Space::Input(i), offset: 0, len: self.inputs[i].size() },
            Buffer::Own(b) => locs[b],
        };
        let (accumulated, sums) = self.accumulated(&stages);
        let sums_len =
            accumulated.iter().filter_map(|parts| parts.last()).map(|part| part.at + part.params.len()).max();
        let steps = self.drafts.iter().zip(sums).map(|(d, sums)| Step {
            node: d.node,
            pass: d.pass,
            phase: d.phase,
            x: d.x.map(loc_of),
            y: loc_of(d.y),
            dy: loc_of(d.dy),
            dx: d.dx.map(loc_of),
            add_to: d.add_to.map(loc_of),
            saved: loc_of(d.saved),
            scratch: loc_of(d.scratch),
            sums,
        });
        let trains = self.trains();
        let once =
            self.nodes.iter().filter(|node| trains && !node.frozen && node.needs.backward.contains(&Phase::Batch));
        let mut summed_per_batch: Vec<_> = once.map(|node| node.params.range()).collect();
        summed_per_batch.sort_by_key(|params| params.start);
        let readable = |of: &[Buffer], g: usize| loc_of(of[self.stands_for[g]]);
        let graph_nodes = 0..self.graph.nodes().len();
        let plan = Plan {
            n: self.options.n,
            min_batch: self.min_batch,
            work: self.options.work,
            steps: steps.collect(),
            stages,
            shards: match self.options.device {
                Some(_) => 1,
                None => Plan::shards_of(self.options.n, self.trains(), sums_len.unwrap_or(0)),
            },
            workspace_len,
            shard_len,
            params_len: self.graph.params_len(),
            state_len: self.graph.state_len(),
            summed_per_batch,
            accumulated,
            frozen: self.frozen_ranges(),
            activations: graph_nodes.clone().map(|g| readable(&self.activation, g)).collect(),
            gradients: graph_nodes.map(|g| readable(&self.gradient, g)).collect(),
            inputs: self.inputs.clone(),
            nodes: self.nodes,
        };
        let numbers = plan.n as u128 * plan.shard_len as u128 + plan.workspace_len as u128;
        if numbers >= 1 << 36 {
            let node = self.graph.node(plan.target()).name.clone();
            return Err(GraphError::TooLarge { node, what: "the activations of a batch", limit: 1 << 36 });
        }
        Ok(plan)
    }
}
