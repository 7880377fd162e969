//! The graph: operations and shapes, recorded once through a builder that reads like the network.

use crate::base::{Shape, aligned::round_up};
use crate::ops::op::{Layout, MAX_INPUTS, Op, Phase, Role, ShapeError, Spec, TensorRanges, TensorSpec};
use std::sync::Arc;
use thiserror::Error;

/// Why a node cannot be added.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GraphError {
    /// The op refuses the shapes of its inputs.
    #[error("layer `{node}`: {source}")]
    Shape {
        /// The node's name.
        node: String,
        /// The op's reason.
        source: ShapeError,
    },
    /// A name is taken.
    #[error("there are two layers named `{0}`; give each a name of its own")]
    DuplicateName(String),
    /// An op got the wrong number of inputs, or one input twice.
    #[error("layer `{node}`: {op} takes one or two different inputs, not {got}")]
    Inputs {
        /// The node's name.
        node: String,
        /// The op's name.
        op: &'static str,
        /// Inputs given.
        got: usize,
    },
    /// An operation has no kernels for a GPU.
    #[error("layer `{node}`: {op} has no GPU kernels; compute this network on the CPU")]
    NoGpuKernels {
        /// The node's name.
        node: String,
        /// The operation's name.
        op: &'static str,
    },
    /// All parameters that the loss depends on are frozen.
    #[error("every layer with weights is frozen, so that training would change nothing; leave at least one layer out")]
    NothingLearns,
    /// On a GPU a frozen layer has no backward pass.
    #[error(
        "layer `{node}` is frozen, and a layer before it needs a gradient, which no frozen layer computes on a GPU; \
         freeze the layers before it too, or train on the CPU"
    )]
    FrozenOnGpu {
        /// The node's name.
        node: String,
    },
    /// A frozen operation cannot compute the gradient of its input.
    #[error(
        "layer `{node}` is frozen, and a layer before it needs a gradient, which a frozen {op} does not compute; \
         freeze the layers before it too"
    )]
    FrozenWithoutGradient {
        /// The node's name.
        node: String,
        /// The operation's name.
        op: &'static str,
    },
    /// A batch has no samples.
    #[error("a batch of 0 samples cannot be computed; take a batch of at least 1")]
    EmptyBatch,
    /// A training batch is too small for an operation that computes statistics over the batch.
    #[error(
        "layer `{node}`: {op} in training needs more than 1 value per channel, and a batch of {n} has only one; \
         take a batch of at least {min}"
    )]
    BatchTooSmall {
        /// The node's name.
        node: String,
        /// The operation's name.
        op: &'static str,
        /// Samples in the batch.
        n: usize,
        /// The smallest batch that the operation accepts.
        min: usize,
    },
    /// An array of the network would be larger than any memory.
    #[error("layer `{node}`: {what} would need more than {limit} numbers; make the layer smaller")]
    TooLarge {
        /// The node's name.
        node: String,
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

/// A node of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) usize);

impl NodeId {
    /// Its index in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// One node: an input, or an operation on other nodes.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name; parameters are named after it.
    pub name: String,
    /// Its op; none for an input.
    pub op: Option<Arc<dyn Op>>,
    /// The nodes that it reads.
    pub inputs: Vec<NodeId>,
    /// The requirements of the operation for the shapes of its inputs; for an input only the shape is used.
    pub spec: Spec,
    /// Its tensors in the parameter arena.
    pub params: TensorRanges,
    /// Its tensors in the state arena.
    pub state: TensorRanges,
}

/// A named tensor in the parameter or state arena.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Full name: `conv1.weight`.
    pub name: String,
    /// Where it begins in its arena.
    pub offset: usize,
    /// How many numbers it holds.
    pub len: usize,
    /// Its layout in memory and in a file.
    pub layout: Layout,
    /// Its role, which determines its initial values.
    pub role: Role,
}

/// Most numbers in a tensor of a batch, in the parameters, or in any other array: 64 GiB of `f32`.
const LIMIT: u64 = 1 << 34;

/// A network: nodes in the order in which they were added, each after its inputs. The backward pass is derived from it.
///
/// ```
/// use stapes::{base::Shape, graph::Graph, ops::Relu};
///
/// let mut g = Graph::new();
/// let x = g.input("audio", Shape::new(16000, 1))?;
/// let y = g.add("rectified", Relu, &[x])?;
/// assert_eq!(g.shape(y), Shape::new(16000, 1));
/// # Ok::<(), stapes::graph::GraphError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    params_len: usize,
    state_len: usize,
}

impl Graph {
    /// A graph without nodes.
    pub fn new() -> Graph {
        Graph::default()
    }

    /// Adds an input; `shape` is that of one sample.
    pub fn input(&mut self, name: &str, shape: Shape) -> Result<NodeId, GraphError> {
        self.push(name, None, &[], Spec::new(shape))
    }

    /// Adds `op` on `inputs`.
    pub fn add(&mut self, name: &str, op: impl Op + 'static, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        self.add_shared(name, Arc::new(op), inputs)
    }

    /// Adds an operation that other graphs use too, as [`Graph::add`] does.
    pub fn add_shared(&mut self, name: &str, op: Arc<dyn Op>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let twice = inputs.iter().enumerate().any(|(i, input)| inputs[..i].contains(input));
        if inputs.is_empty() || inputs.len() > MAX_INPUTS || twice {
            return Err(GraphError::Inputs { node: name.into(), op: op.name(), got: inputs.len() });
        }
        let shapes: Vec<Shape> = inputs.iter().map(|&i| self.shape(i)).collect();
        let spec = op.spec(&shapes).map_err(|source| GraphError::Shape { node: name.into(), source })?;
        self.push(name, Some(op), inputs, spec)
    }

    fn push(
        &mut self,
        name: &str,
        op: Option<Arc<dyn Op>>,
        inputs: &[NodeId],
        spec: Spec,
    ) -> Result<NodeId, GraphError> {
        if self.nodes.iter().any(|n| n.name == name) {
            return Err(GraphError::DuplicateName(name.into()));
        }
        let too_large = |what| GraphError::TooLarge { node: name.into(), what, limit: LIMIT };
        let fits = |product: Option<usize>| product.is_some_and(|p| (p as u64) < LIMIT);
        if !fits(spec.y.l.checked_mul(spec.y.c)) {
            return Err(too_large("its output"));
        }
        let params = round_up(spec.params_len());
        if !fits(self.params_len.checked_add(params)) {
            return Err(too_large("the network's parameters"));
        }
        let node = Node {
            name: name.into(),
            op,
            inputs: inputs.to_vec(),
            params: TensorRanges::new(self.params_len, &spec.params),
            state: TensorRanges::new(self.state_len, &spec.state),
            spec,
        };
        self.params_len += params;
        self.state_len += round_up(node.spec.state_len());
        self.nodes.push(node);
        Ok(NodeId(self.nodes.len() - 1))
    }

    /// The nodes, each after its inputs.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The node with this name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|n| n.name == name).map(NodeId)
    }

    /// The ids of all nodes, in the order in which they were added.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
    }

    /// For each node whether `id` depends on it; `id` depends on itself.
    pub fn ancestors(&self, id: NodeId) -> Vec<bool> {
        let mut needed = vec![false; self.nodes.len()];
        needed[id.0] = true;
        for (i, node) in self.nodes.iter().enumerate().rev() {
            if needed[i] {
                node.inputs.iter().for_each(|input| needed[input.0] = true);
            }
        }
        needed
    }

    /// Whether an operation couples the samples of a training batch, as batch norm does.
    pub fn couples_samples(&self) -> bool {
        let phases =
            |node: &Node| node.spec.forward.iter().chain(node.spec.backward).any(|&phase| phase == Phase::Merge);
        self.nodes.iter().any(phases)
    }

    /// The shape of one sample of a node's output.
    pub fn shape(&self, id: NodeId) -> Shape {
        self.nodes[id.0].spec.y
    }

    /// Numbers in the parameter arena, gaps between nodes included.
    pub fn params_len(&self) -> usize {
        self.params_len
    }

    /// Numbers in the state arena, gaps between nodes included.
    pub fn state_len(&self) -> usize {
        self.state_len
    }

    /// The parameters, in the order of the arena.
    pub fn parameters(&self) -> Vec<Parameter> {
        self.tensors(|n| (&n.params, &n.spec.params))
    }

    /// The state, which is kept but not trained (running statistics), in the order of the arena.
    pub fn states(&self) -> Vec<Parameter> {
        self.tensors(|n| (&n.state, &n.spec.state))
    }

    fn tensors<'a>(&'a self, of: impl Fn(&'a Node) -> (&'a TensorRanges, &'a Vec<TensorSpec>)) -> Vec<Parameter> {
        let mut all = Vec::new();
        for node in &self.nodes {
            let (ranges, tensors) = of(node);
            for (offset, t) in ranges.starts().zip(tensors) {
                let name = format!("{}.{}", node.name, t.suffix);
                all.push(Parameter { name, offset, len: t.len(), layout: t.layout, role: t.role });
            }
        }
        all
    }

    /// Multiply-adds of a forward pass, a sample.
    pub fn macs(&self) -> u64 {
        self.nodes.iter().map(|n| n.spec.macs).sum()
    }
}
