//! Executes a graph in double precision with the reference passes of its operations. Every executor is compared with it.

use crate::base::rng::Key;
use crate::graph::{Graph, NodeId};
use crate::ops::op::{ReferenceBackward, ReferenceForward};

/// The values and gradients of a graph for one batch, computed as in training.
pub struct Reference<'g> {
    graph: &'g Graph,
    n: usize,
    draw: Key,
    /// The state after the forward pass.
    state: Vec<f64>,
    /// Outputs by node, `[n, l, c]`.
    pub activations: Vec<Vec<f64>>,
    /// Gradients of the mean loss by node, `[n, l, c]`.
    pub gradients: Vec<Vec<f64>>,
    /// Gradients of the mean loss by parameter, in the order of the parameter arena.
    pub parameter_gradients: Vec<f64>,
}

impl<'g> Reference<'g> {
    /// Computes every node's output; `inputs` are the graph's in order, `[n, l, c]` each.
    ///
    /// # Panics
    /// If there are fewer inputs than the graph has.
    pub fn forward(
        graph: &'g Graph,
        n: usize,
        params: &[f64],
        state: &mut [f64],
        inputs: &[Vec<f64>],
        draw: Key,
    ) -> Reference<'g> {
        let mut given = inputs.iter();
        let mut activations: Vec<Vec<f64>> = Vec::new();
        for (i, node) in graph.nodes().iter().enumerate() {
            let Some(op) = &node.op else {
                activations.push(given.next().expect("one array for each of the graph's inputs").clone());
                continue;
            };
            let x: Vec<&[f64]> = node.inputs.iter().map(|&x| &activations[x.index()][..]).collect();
            let shapes: Vec<_> = node.inputs.iter().map(|&x| graph.shape(x)).collect();
            let mut y = vec![0.0; n * node.spec.y.size()];
            op.reference_forward(&mut ReferenceForward {
                n,
                shapes: &shapes,
                x: &x,
                params: node.params.of(params),
                state: node.state.of_mut(state),
                draw: draw.with(i as u64),
                y: &mut y,
            });
            activations.push(y);
        }
        let state = state.to_vec();
        Reference { graph, n, draw, state, activations, gradients: Vec::new(), parameter_gradients: Vec::new() }
    }

    /// The mean over the batch of `loss`'s output.
    pub fn loss(&self, loss: NodeId) -> f64 {
        self.activations[loss.index()].iter().sum::<f64>() / self.n as f64
    }

    /// Computes every gradient of the mean of `loss`.
    pub fn backward(&mut self, params: &[f64], loss: NodeId) {
        let graph = self.graph;
        self.parameter_gradients = vec![0.0; graph.params_len()];
        self.gradients = self.activations.iter().map(|y| vec![0.0; y.len()]).collect();
        self.gradients[loss.index()].fill(1.0 / self.n as f64);
        for (i, node) in graph.nodes().iter().enumerate().take(loss.index() + 1).rev() {
            let Some(op) = &node.op else { continue };
            let x: Vec<&[f64]> = node.inputs.iter().map(|&x| &self.activations[x.index()][..]).collect();
            let shapes: Vec<_> = node.inputs.iter().map(|&x| graph.shape(x)).collect();
            let mut dx: Vec<Vec<f64>> =
                node.inputs.iter().map(|&x| std::mem::take(&mut self.gradients[x.index()])).collect();
            op.reference_backward(&mut ReferenceBackward {
                n: self.n,
                shapes: &shapes,
                x: &x,
                params: node.params.of(params),
                state: node.state.of(&self.state),
                draw: self.draw.with(i as u64),
                dy: &self.gradients[i],
                dx: &mut dx,
                dparams: node.params.of_mut(&mut self.parameter_gradients),
            });
            for (&x, dx) in node.inputs.iter().zip(dx) {
                self.gradients[x.index()] = dx;
            }
        }
    }
}
