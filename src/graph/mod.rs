//! The network as a graph, and the plan made of it.

mod builder;
mod describe;
mod launches;
mod lower;
mod memory;
mod plan;

pub use builder::{Graph, GraphError, Node, NodeId, Parameter};
pub use describe::PlanRow;
pub use launches::{LaunchGroup, PlannedLaunch};
pub(crate) use plan::accumulators;
pub use plan::{Accumulated, BufferLoc, Keep, Lowered, Order, Plan, PlanOptions, Space, Stage, Step, Work};
