//! The first stage of lowering: which nodes are executed, by which operations.

use super::Lowering;
use super::{Buffer, GraphError, Lowered, NodeId, Work};
use crate::base::{Shape, aligned::round_up};
use crate::graph::Node;
use crate::ops::device::{Batch, fits_int};
use crate::ops::fusion::{Context, Fused, LONGEST_CHAIN, fuse};
use crate::ops::op::{ConvChoice, Inference, MAX_INPUTS, Needs, Op, PlannedOp, Spec, TensorRanges};
use std::iter::successors;
use std::ops::Range;
use std::sync::Arc;

/// The operation of a node for its inputs, and what it needs.
fn planned(op: &dyn Op, node: &str, x: &[Shape]) -> Result<(Arc<dyn PlannedOp>, Spec), GraphError> {
    let planned = op.plan(x).map_err(|source| GraphError::Shape { node: node.into(), source })?;
    let spec = planned.spec().clone();
    Ok((Arc::from(planned), spec))
}

impl Lowering<'_> {
    /// Selects the nodes that the target depends on, each with the operation that is executed.
    pub(super) fn select(&mut self) -> Result<(), GraphError> {
        let graph = self.graph;
        let mut needed = vec![false; graph.nodes().len()];
        needed[self.target()] = true;
        for (i, node) in graph.nodes().iter().enumerate().rev() {
            if needed[i] || self.options.keep.has(NodeId(i)) {
                needed[i] = true;
                node.inputs.iter().for_each(|input| needed[input.0] = true);
            }
        }
        for (i, node) in graph.nodes().iter().enumerate() {
            let Some(op) = &node.op else {
                // A run is given the inputs that the target depends on.
                if needed[i] {
                    self.activation[i] = Buffer::Input(self.inputs.len());
                    self.inputs.push(node.spec.y);
                }
                continue;
            };
            if !needed[i] {
                continue;
            }
            let reads: Vec<usize> = node.inputs.iter().map(|input| self.stands_for[input.0]).collect();
            let mut shapes = [Shape::new(0, 0); MAX_INPUTS];
            reads.iter().zip(&mut shapes).for_each(|(&input, shape)| *shape = graph.nodes()[input].spec.y);
            let frozen = self.freezes(i);
            let op: Arc<dyn Op> = match self.replacement(&**op, i, frozen) {
                Inference::Same => op.clone(),
                Inference::Identity => {
                    self.stands_for[i] = reads[0];
                    continue;
                }
                Inference::Other(other) => Arc::from(other),
            };
            let (planned, spec) = planned(&*op, &node.name, &shapes[..reads.len()])?;
            self.check_gradient(&node.name, (i, frozen), &*op, &spec)?;
            if self.trains() {
                self.check_batch(node, &*op, &shapes[..reads.len()])?;
            }
            self.nodes.push(Lowered {
                id: NodeId(i),
                name: node.name.clone(),
                params: node.params.clone(),
                state: node.state.clone(),
                op,
                planned,
                needs: Needs::from(&spec),
                spec,
                shapes,
                inputs: reads.len(),
                frozen,
                passes: None,
            });
            self.reads.push(reads);
        }
        Ok(())
    }

    /// Whether the parameters of graph node `i` do not learn in this plan.
    fn freezes(&self, i: usize) -> bool {
        let listed = match self.options.work {
            Work::Train(_) => self.options.frozen.contains(&NodeId(i)),
            Work::Infer(_) => false,
            Work::Differentiate(_) => true,
        };
        listed && !self.graph.nodes()[i].spec.params.is_empty()
    }

    /// The parameters that do not learn, with the gaps after them: ranges that do not adjoin, in ascending order.
    pub(super) fn frozen_ranges(&self) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for (_, node) in self.graph.nodes().iter().enumerate().filter(|(i, _)| self.freezes(*i)) {
            let Range { start, end } = node.params.range();
            let range = start..round_up(end);
            match ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        ranges
    }

    /// What replaces `op`, whose output is that of graph node `i`.
    fn replacement(&self, op: &dyn Op, i: usize, frozen: bool) -> Inference {
        match self.options.work {
            Work::Train(_) if !frozen => Inference::Same,
            Work::Train(_) | Work::Differentiate(_) if self.needs[i] => op.for_frozen(),
            _ => op.for_inference(),
        }
    }

    /// Refuses a frozen operation that must compute the gradients of its inputs and cannot.
    fn check_gradient(
        &self,
        name: &str,
        (i, frozen): (usize, bool),
        op: &dyn Op,
        spec: &Spec,
    ) -> Result<(), GraphError> {
        if !frozen || !self.needs[i] {
            return Ok(());
        }
        match self.options.device {
            Some(_) => Err(GraphError::FrozenOnGpu { node: name.into() }),
            None if spec.backward.is_empty() => {
                Err(GraphError::FrozenWithoutGradient { node: name.into(), op: op.name() })
            }
            None => Ok(()),
        }
    }

    /// For each graph node whether it needs a gradient: it depends on a parameter that learns, or on an input whose gradient is kept; where nothing learns, on any node that is kept.
    pub(super) fn needs_gradient(&self) -> Result<Vec<bool>, GraphError> {
        let nodes = self.graph.nodes();
        let mut needs = vec![false; nodes.len()];
        if !self.has_backward() {
            return Ok(needs);
        }
        let target = self.graph.ancestors(NodeId(self.target()));
        let (mut learns, mut frozen) = (false, false);
        for (i, node) in nodes.iter().enumerate() {
            let learned = !node.spec.params.is_empty() && !self.freezes(i);
            needs[i] = learned || node.inputs.iter().any(|input| needs[input.index()]);
            needs[i] |= (node.op.is_none() || !self.trains()) && self.options.keep.has(NodeId(i));
            learns |= target[i] && learned;
            frozen |= target[i] && self.freezes(i);
        }
        if self.trains() && frozen && !learns { Err(GraphError::NothingLearns) } else { Ok(needs) }
    }

    fn check_batch(&mut self, node: &Node, op: &dyn Op, shapes: &[Shape]) -> Result<(), GraphError> {
        let (n, min) = (self.options.n, op.min_batch(shapes));
        if n < min {
            return Err(GraphError::BatchTooSmall { node: node.name.clone(), op: op.name(), n, min });
        }
        self.min_batch = self.min_batch.max(min);
        Ok(())
    }

    /// Replaces consecutive operations by one fused operation, where there is one and no other node reads what is between them.
    pub(super) fn fuse(&mut self, choice: ConvChoice) -> Result<(), GraphError> {
        let mut first = 0;
        while first < self.nodes.len() {
            let chain: Vec<usize> =
                successors(Some(first), |&node| self.only_reader(node).filter(|&next| self.adjoin(node, next)))
                    .take(LONGEST_CHAIN)
                    .collect();
            let chain = &chain[..self.alike(&chain)];
            let ops: Vec<&dyn Op> = chain.iter().map(|&node| &*self.nodes[node].op).collect();
            let node = &self.nodes[first];
            let (channels, gradient) = (node.shapes[0].c, self.needs[node.id.index()]);
            let Some(Fused { op, count }) = fuse(Context { choice, channels, gradient }, &ops) else {
                first += 1;
                continue;
            };
            let chain = &chain[..count];
            let name = chain.iter().map(|&node| self.nodes[node].name.as_str()).collect::<Vec<_>>().join("+");
            let last = chain[count - 1];
            let all = || chain.iter().map(|&node| &self.nodes[node]);
            let frozen = all().any(|node| node.frozen);
            let id = self.nodes[last].id;
            let op: Arc<dyn Op> = Arc::from(match self.replacement(&*op, id.index(), frozen) {
                Inference::Other(other) => other,
                _ => op,
            });
            let (planned, spec) = planned(&*op, &name, &node.shapes[..node.inputs])?;
            self.check_gradient(&name, (id.index(), frozen), &*op, &spec)?;
            let params = TensorRanges::joined(all().map(|node| &node.params));
            let state = TensorRanges::joined(all().map(|node| &node.state));
            let needs = Needs::from(&spec);
            let fused = Lowered { id, name, op, planned, spec, needs, params, state, frozen, ..node.clone() };
            self.nodes[last] = fused;
            self.reads[last] = self.reads[first].clone();
            for &gone in chain[..count - 1].iter().rev() {
                self.nodes.remove(gone);
                self.reads.remove(gone);
            }
        }
        Ok(())
    }

    /// For a GPU: gets the passes of each operation, and the memory that they need.
    pub(super) fn passes(&mut self) -> Result<(), GraphError> {
        let Some(products) = self.options.device else { return Ok(()) };
        for node in &mut self.nodes {
            let shapes = &node.shapes[..node.inputs];
            if !shapes.iter().chain([&node.spec.y]).all(|shape| fits_int(self.options.n, *shape)) {
                let (node, limit) = (node.name.clone(), i32::MAX as u64);
                return Err(GraphError::TooLarge { node, what: "a batch of its input or output on a GPU", limit });
            }
            let mut passes = node.planned.on_device(&Batch { n: self.options.n, products });
            if passes.forward.is_empty() {
                return Err(GraphError::NoGpuKernels { node: node.name.clone(), op: node.op.name() });
            }
            if node.frozen {
                // `check_gradient` has made sure that it has no backward pass.
                (passes.backward, passes.finish) = (Vec::new(), Vec::new());
            }
            node.needs = Needs::from(&passes);
            node.passes = Some(passes);
        }
        Ok(())
    }

    /// Whether the parameters of `next` follow those of `node` in the arena, if both have some: then one slice contains both.
    fn adjoin(&self, node: usize, next: usize) -> bool {
        let [node, next] = [node, next].map(|node| &self.nodes[node].params);
        node.is_empty() || next.is_empty() || next.range().start == round_up(node.range().end)
    }

    /// How many nodes of `chain`, from its first on, are alike: of those with parameters, all learn or all are frozen.
    fn alike(&self, chain: &[usize]) -> usize {
        let with_params = |&&node: &&usize| !self.nodes[node].params.is_empty();
        let first = chain.iter().find(with_params).map(|&node| self.nodes[node].frozen);
        let other = |&node: &usize| with_params(&&node) && Some(self.nodes[node].frozen) != first;
        chain.iter().position(other).unwrap_or(chain.len())
    }

    /// The only node that reads node `i`, if it reads nothing else and the output of node `i` is not kept.
    fn only_reader(&self, i: usize) -> Option<usize> {
        let id = self.nodes[i].id.0;
        let seen = (0..self.stands_for.len()).any(|g| self.stands_for[g] == id && self.kept(g));
        let reader = self.reads.iter().position(|reads| reads[..] == [id])?;
        (!seen && self.readers(id) == 1).then_some(reader)
    }
}
