//! A plan as a table, for the command line and the tests.

use super::plan::{BufferLoc, Lowered, Plan, Space, Stage, Step};
use crate::ops::op::Pass;
use serde::Serialize;

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlanRow {
    /// Its number, from 0.
    pub step: usize,
    /// Which stage it is in, from 0.
    pub stage: usize,
    /// How the stage runs: `samples` (its steps sample by sample), `groups` (once for each group of shards), `batch` (once for each piece of the parameter gradients) or
    /// `merge` (once for the batch).
    pub runs: &'static str,
    /// The node's name.
    pub node: String,
    /// The op that runs; `seed` for the step that starts the backward pass.
    pub op: &'static str,
    /// `forward` or `backward`.
    pub pass: &'static str,
    /// The phase of the pass, from 0.
    pub phase: usize,
    /// How the op computes it, where it has more than one way; of a backward step how the gradients of the inputs, then how
    /// those of the parameters, where it computes both.
    pub algorithm: String,
    /// The location of its result: `workspace` (one sample, a thread's own), `shard` (kept for all samples), `none` if it has
    /// no result of its own.
    pub space: &'static str,
    /// First number of the result in that space.
    pub offset: usize,
    /// Bytes of the result for one sample.
    pub bytes: usize,
    /// Multiply-adds, a sample.
    pub macs: u64,
}

impl Plan {
    /// Its steps in order. The result of a forward step is the output, that of a backward step the first input's
    /// gradient.
    pub fn rows(&self) -> Vec<PlanRow> {
        let mut rows = Vec::with_capacity(self.steps.len());
        for (number, stage) in self.stages.iter().enumerate() {
            let (range, runs) = match stage {
                Stage::Samples(range) => (range.clone(), "samples"),
                Stage::Groups(step) => (*step..step + 1, "groups"),
                Stage::Batch(step) => (*step..step + 1, "batch"),
                Stage::Merge(step) => (*step..step + 1, "merge"),
            };
            for step in range {
                rows.push(PlanRow { stage: number, runs, ..self.row(step) });
            }
        }
        rows
    }

    fn row(&self, number: usize) -> PlanRow {
        let step = &self.steps[number];
        let node = step.node.map(|node| &self.nodes[node]);
        let result = result(step);
        PlanRow {
            step: number,
            stage: 0,
            runs: "",
            node: node.map_or("loss".into(), |node| node.name.clone()),
            op: node.map_or("seed", |node| node.op.name()),
            pass: match step.pass {
                Pass::Forward => "forward",
                Pass::Backward => "backward",
            },
            phase: step.phase,
            algorithm: self.algorithm(step),
            space: match result.space {
                Space::None => "none",
                Space::Input(_) => "input",
                Space::Workspace => "workspace",
                Space::Shard => "shard",
            },
            offset: result.offset,
            bytes: 4 * result.len,
            macs: self.step_macs(step),
        }
    }

    /// The steps that run once for the whole batch.
    pub fn merges(&self) -> Vec<usize> {
        let merge = |stage: &Stage| if let Stage::Merge(step) = stage { Some(*step) } else { None };
        self.stages.iter().filter_map(merge).collect()
    }

    /// The steps that run once for each group of shards.
    pub fn per_group(&self) -> Vec<usize> {
        let per_group = |stage: &Stage| if let Stage::Groups(step) = stage { Some(*step) } else { None };
        self.stages.iter().filter_map(per_group).collect()
    }

    /// Bytes of a batch that pass through memory if the caches hold what one sample needs within a stage: the inputs, what outlives a stage, and for
    /// each parameter its value, gradient and moments, before and after the step.
    pub fn moved_bytes(&self) -> u64 {
        let outlives = |loc: &&BufferLoc| matches!(loc.space, Space::Input(_) | Space::Shard);
        let of_step = |step: &Step| -> usize {
            let all = step.x.iter().chain(&step.dx).chain([&step.y, &step.dy, &step.saved]);
            all.filter(outlives).map(|loc| loc.len).sum()
        };
        let of_sample: usize = self.steps.iter().map(of_step).sum();
        let of_parameters = if self.trains() { 8 * self.params_len } else { 0 };
        4 * (of_sample as u64 * self.n as u64 + of_parameters as u64)
    }

    /// Whether the backward pass of node `i` of [`Plan::nodes`] computes the gradients of inputs, and of parameters.
    pub fn backward_of(&self, i: usize) -> (bool, bool) {
        let steps = self.steps.iter().filter(|step| step.node == Some(i) && step.pass == Pass::Backward);
        let each = steps.map(|step| backward_computes(step, &self.nodes[i]));
        each.fold((false, false), |(data, weight), (d, w)| (data || d, weight || w))
    }

    fn algorithm(&self, step: &Step) -> String {
        let Some(node) = step.node.map(|node| &self.nodes[node]) else { return String::new() };
        let all = node.planned.algorithms();
        match step.pass {
            Pass::Forward => all.forward.into(),
            Pass::Backward => {
                let (data, weight) = backward_computes(step, node);
                let parts = [(data, all.backward_data), (weight, all.backward_weight)].into_iter();
                parts
                    .filter(|(made, name)| *made && !name.is_empty())
                    .map(|(_, name)| name)
                    .collect::<Vec<_>>()
                    .join(", ")
            }
        }
    }

    /// The backward pass needs as many MACs as the forward pass for the gradients of the inputs, and as many for those of the
    /// parameters. A pass of several phases counts in its last one.
    fn step_macs(&self, step: &Step) -> u64 {
        let Some(node) = step.node.map(|node| &self.nodes[node]) else { return 0 };
        let (phases, times) = match step.pass {
            Pass::Forward => (node.needs.forward, 1),
            Pass::Backward => {
                let (data, weight) = backward_computes(step, node);
                (node.needs.backward, u64::from(data) + u64::from(weight))
            }
        };
        if step.phase + 1 == phases.len() { times * node.spec.macs } else { 0 }
    }
}

/// Whether a backward step computes the gradients of inputs, and of parameters.
fn backward_computes(step: &Step, node: &Lowered) -> (bool, bool) {
    (step.dx.iter().any(|dx| dx.space != Space::None), !node.params.is_empty() && !node.frozen)
}

fn result(step: &Step) -> BufferLoc {
    match (step.node, step.pass) {
        (None, _) => step.dy,
        (_, Pass::Forward) => step.y,
        (_, Pass::Backward) => step.dx[0],
    }
}

#[cfg(test)]
mod tests {
    use crate::base::Shape;
    use crate::graph::{Graph, Plan, PlanOptions, Work};
    use crate::ops::{Conv1d, Padding, Relu};

    #[test]
    fn a_training_step_is_three_times_the_forward_pass_save_for_the_first_inputs_gradient() {
        let conv = |c_out| Conv1d { c_out, k: 3, stride: 1, dilation: 1, padding: Padding::Same, bias: true };
        let mut g = Graph::new();
        let x = g.input("x", Shape::new(8, 2)).unwrap();
        let h = g.add("conv1", conv(4), &[x]).unwrap();
        let h = g.add("relu", Relu, &[h]).unwrap();
        let y = g.add("conv2", conv(1), &[h]).unwrap();
        let (first, second) = (8 * 3 * 2 * 4, 8 * 3 * 4);
        let macs = |work| {
            let plan = Plan::new(&g, &PlanOptions::new(2, work)).unwrap();
            let rows = plan.rows();
            assert!(rows.iter().enumerate().all(|(i, row)| row.step == i), "steps are in the order of the stages");
            rows.iter().map(|row| row.macs).sum::<u64>()
        };
        assert_eq!(macs(Work::Infer(y)), first + second);
        assert_eq!(macs(Work::Train(y)), 2 * first + 3 * second);
    }
}
