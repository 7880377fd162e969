//! The nodes of a graph that training and recognition use.

use super::error::TrainError;
use crate::base::Shape;
use crate::graph::{Graph, Keep, Node, NodeId, PlanOptions, Work};
use crate::nn::Network;
use std::sync::Arc;

/// A graph with an input, logits, labels and a loss: what a [`Trainer`](super::Trainer) trains and a [`Predictor`](super::Predictor) runs.
///
/// A [`Network`](crate::nn::Network) converts into it. Any other graph does with [`Model::new`], operations of your own included.
///
/// ```
/// use stapes::prelude::*;
///
/// let mut graph = Graph::new();
/// let audio = graph.input("audio", Shape::new(60, 1))?;
/// let labels = graph.input("labels", Shape::new(1, 1))?;
/// let hidden = graph.add("conv1", Conv1d::new(8, 5), &[audio])?;
/// let hidden = graph.add("relu1", Relu, &[hidden])?;
/// let logits = graph.add("fc1", Linear { out: 3, bias: true }, &[hidden])?;
/// let loss = graph.add("loss", SoftmaxCrossEntropy::default(), &[logits, labels])?;
/// let model = Model::new(graph, logits, loss)?;
/// assert_eq!(model.classes(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Model {
    graph: Arc<Graph>,
    input: NodeId,
    labels: NodeId,
    logits: NodeId,
    loss: NodeId,
}

impl Model {
    /// The model of `graph` with these `logits`, one for each class, and this `loss`, one number for each sample.
    ///
    /// The logits depend on one input of the graph, and the loss on one more: the labels. If the labels have shape `[1, 1]` they are class
    /// numbers; if there are as many as logits, they are the shares of the classes. In both cases a training step counts the correct
    /// predictions.
    ///
    /// # Errors
    /// The nodes are not of this graph, depend on other inputs than these, or the loss has more than one number for each sample.
    pub fn new(graph: impl Into<Arc<Graph>>, logits: NodeId, loss: NodeId) -> Result<Model, TrainError> {
        let graph = graph.into();
        let refused = |reason: String| Err(TrainError::Model { reason });
        if logits.index().max(loss.index()) >= graph.nodes().len() {
            return refused(
                "the logits or the loss are not nodes of this graph; pass the ids that `Graph::add` returned".into(),
            );
        }
        let name = |id: NodeId| graph.node(id).name.as_str();
        let names = |ids: &[NodeId]| ids.iter().map(|&id| format!("`{}`", name(id))).collect::<Vec<_>>().join(", ");
        let inputs = inputs_of(&graph, logits);
        let [input] = inputs[..] else {
            let found = if inputs.is_empty() { "no input".into() } else { format!("the inputs {}", names(&inputs)) };
            return refused(format!("the logits `{}` depend on {found}; a model has exactly one input", name(logits)));
        };
        let others: Vec<NodeId> = inputs_of(&graph, loss).into_iter().filter(|&id| id != input).collect();
        let [labels] = others[..] else {
            let found =
                if others.is_empty() { "no further input".into() } else { format!("the inputs {}", names(&others)) };
            return refused(format!(
                "beside `{}`, the loss `{}` depends on {found}; it must depend on exactly one, the labels",
                name(input),
                name(loss)
            ));
        };
        let shape = graph.shape(loss);
        if shape.size() != 1 {
            return refused(format!(
                "the loss `{}` has {} numbers for each sample; it must have one",
                name(loss),
                shape.size()
            ));
        }
        Ok(Model { graph, input, labels, logits, loss })
    }

    /// The graph.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The input node, `[length, channels]`.
    pub fn input(&self) -> NodeId {
        self.input
    }

    /// The labels, the other input.
    pub fn labels(&self) -> NodeId {
        self.labels
    }

    /// The logits.
    pub fn logits(&self) -> NodeId {
        self.logits
    }

    /// The loss, one number for each sample.
    pub fn loss(&self) -> NodeId {
        self.loss
    }

    /// How many logits there are.
    pub fn classes(&self) -> usize {
        self.graph.shape(self.logits).size()
    }

    /// The shape of one sample of the input.
    pub fn input_shape(&self) -> Shape {
        self.graph.shape(self.input)
    }

    /// Whether an operation couples the samples of a training batch, as batch norm does.
    pub fn couples_samples(&self) -> bool {
        self.graph.couples_samples()
    }

    /// How a [`Trainer`](super::Trainer) lowers the graph by default: fused where that is faster, keeping the logits.
    pub fn training_options(&self, batch: usize) -> PlanOptions {
        PlanOptions::new(batch, Work::Train(self.loss)).keep(Keep::Nodes(vec![self.logits]))
    }

    /// How a [`Predictor`](super::Predictor) lowers the graph by default: fused where that is faster.
    pub fn inference_options(&self, batch: usize) -> PlanOptions {
        PlanOptions::new(batch, Work::Infer(self.logits))
    }

    /// Whether the labels are the first input of the graph.
    pub(super) fn labels_first(&self) -> bool {
        self.labels < self.input
    }

    /// How many numbers the label of a sample has: 1 for a class number.
    pub(super) fn label_size(&self) -> usize {
        self.graph.shape(self.labels).size()
    }

    /// Whether the labels are class numbers, or shares of the classes, so that predictions are correct or not.
    pub(super) fn labels_name_classes(&self) -> bool {
        self.label_size() == 1 || self.label_size() == self.classes()
    }

    /// Labels of `n` samples whose classes follow one another: class numbers, or shares of which a quarter is of the next class.
    pub(super) fn example_labels(&self, n: usize) -> Vec<f32> {
        let classes = self.classes();
        if self.label_size() == 1 {
            return (0..n).map(|sample| (sample % classes) as f32).collect();
        }
        let mut labels = vec![0.0; n * self.label_size()];
        for (sample, shares) in labels.chunks_mut(classes).enumerate() {
            shares[sample % classes] += 0.75;
            shares[(sample + 1) % classes] += 0.25;
        }
        labels
    }
}

impl From<&Network> for Model {
    fn from(network: &Network) -> Model {
        Model {
            graph: Arc::new(network.graph.clone()),
            input: network.audio,
            labels: network.labels,
            logits: network.logits,
            loss: network.loss,
        }
    }
}

impl From<&Arc<Network>> for Model {
    fn from(network: &Arc<Network>) -> Model {
        Model::from(&**network)
    }
}

impl From<Arc<Network>> for Model {
    fn from(network: Arc<Network>) -> Model {
        Model::from(&*network)
    }
}

impl From<Network> for Model {
    fn from(network: Network) -> Model {
        Model::from(&network)
    }
}

/// The inputs that a node depends on, in the order of the graph.
fn inputs_of(graph: &Graph, id: NodeId) -> Vec<NodeId> {
    let needed = graph.ancestors(id);
    let is_input = |(node, needed): &(&Node, bool)| *needed && node.op.is_none();
    let ids = graph.ids().zip(graph.nodes().iter().zip(needed));
    ids.filter(|(_, pair)| is_input(pair)).map(|(id, _)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Add, Linear, SoftmaxCrossEntropy};

    fn refused(graph: Graph, logits: NodeId, loss: NodeId) -> String {
        Model::new(graph, logits, loss).unwrap_err().to_string()
    }

    #[test]
    fn a_model_has_one_input_and_labels() {
        let mut graph = Graph::new();
        let shape = Shape::new(1, 4);
        let [a, b] = ["a", "b"].map(|name| graph.input(name, shape).unwrap());
        let labels = graph.input("labels", Shape::new(1, 1)).unwrap();
        let both = graph.add("both", Add, &[a, b]).unwrap();
        let logits = graph.add("fc", Linear { out: 3, bias: true }, &[a]).unwrap();
        let loss = graph.add("loss", SoftmaxCrossEntropy::default(), &[logits, labels]).unwrap();
        let model = Model::new(graph.clone(), logits, loss).unwrap();
        assert_eq!((model.input(), model.labels(), model.classes()), (a, labels, 3));
        assert!(refused(graph.clone(), both, loss).contains("the logits `both` depend on the inputs `a`, `b`"));
        assert!(refused(graph.clone(), logits, logits).contains("depends on no further input"));
        assert!(refused(graph.clone(), logits, both).contains("the loss `both` has 4 numbers"));
        let foreign = NodeId(99);
        assert!(refused(graph, logits, foreign).contains("not nodes of this graph"));
    }
}
