//! Finds where a loss that is not finite comes from.

use super::trainer::Trainer;
use crate::exec::Cpu;
use crate::graph::{Keep, Order, Plan, PlanOptions, Work};
use crate::ops::ConvChoice;
use crate::simd::Isa;
use std::sync::Arc;

/// Repeats the forward pass of a step with everything kept, and describes the first value that is not finite.
pub fn first_not_finite(trainer: &Trainer, inputs: &[f32], labels: &[f32]) -> String {
    let bad = |numbers: &[f32]| numbers.iter().position(|v| !v.is_finite());
    if let Some(at) = bad(inputs) {
        return format!("the input has {} at index {at}", inputs[at]);
    }
    let graph = trainer.model().graph();
    for p in graph.parameters() {
        if let Some(at) = bad(&trainer.weights.params[p.offset..][..p.len]) {
            return format!("`{}` has {} at index {at}", p.name, trainer.weights.params[p.offset + at]);
        }
    }
    let options = PlanOptions {
        n: inputs.len() / trainer.model().input_shape().size(),
        work: Work::Train(trainer.model().loss()),
        keep: Keep::Everything,
        order: Order::LayerByLayer,
        conv: ConvChoice::Direct,
        device: None,
        frozen: trainer.frozen().to_vec(),
    };
    let Ok(plan) = Plan::new(graph, &options) else {
        return "the network is too large for a search".into();
    };
    let Ok(mut cpu) = Cpu::new(Arc::new(plan), Isa::best()) else {
        return "the memory does not suffice to look for the layer".into();
    };
    let mut state = trainer.weights.state.clone();
    cpu.prepare(&trainer.weights.params, &trainer.weights.state);
    cpu.run(&trainer.weights.params, &mut state, &[inputs, labels], trainer.draw());
    let nodes = cpu.plan().nodes.iter().map(|node| (node.id, node.name.clone())).collect::<Vec<_>>();
    let culprit = nodes.into_iter().find_map(|(id, name)| {
        let y = cpu.activation(id)?;
        bad(&y).map(|at| format!("the output of layer `{name}` is the first with {}", y[at]))
    });
    culprit.unwrap_or_else(|| "every layer's output is finite when the step is repeated".into())
}
