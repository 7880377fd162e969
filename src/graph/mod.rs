//! Floor 3. The network as a graph, and the plan made of it.

mod builder;

pub use builder::{Graph, GraphError, Node, NodeId, Parameter};
