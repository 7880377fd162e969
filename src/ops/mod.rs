//! The operations: each is a file or folder with its documentation, reference, kernels and test cases.

pub mod add;
pub mod avg_pool;
pub mod batch_norm;
pub mod case;
pub mod conv1d;
pub mod conv_block;
pub mod depthwise_conv1d;
pub mod device;
pub mod dropout;
pub mod fusion;
pub mod leaky_relu;
pub mod linear;
pub mod max_pool1d;
pub mod op;
pub mod relu;
pub mod softmax_cross_entropy;
pub mod weighted_sum;

pub use add::Add;
pub use avg_pool::AvgPool;
pub use batch_norm::{BatchNorm, Over};
pub use conv_block::ConvBlock;
pub use conv1d::{Conv1d, Padding};
pub use depthwise_conv1d::DepthwiseConv1d;
pub use dropout::Dropout;
pub use leaky_relu::LeakyRelu;
pub use linear::Linear;
pub use max_pool1d::MaxPool1d;
pub use op::{Algorithms, ConvChoice, Op, PlannedOp, ShapeError};
pub use relu::Relu;
pub use softmax_cross_entropy::SoftmaxCrossEntropy;
pub use weighted_sum::WeightedSum;

use case::Case;

/// The name of an operation and its test cases.
pub struct Family {
    /// The name, as [`Op::name`] returns it.
    pub name: &'static str,
    /// Returns its test cases.
    pub cases: fn() -> Vec<Case>,
}

/// All operations. Tests, benchmarks and `stapes gradcheck` iterate over this list.
pub const ALL: &[Family] = &[
    Family { name: "add", cases: add::cases },
    Family { name: "avg_pool", cases: avg_pool::cases },
    Family { name: "batch_norm", cases: batch_norm::cases },
    Family { name: "conv1d", cases: conv1d::cases },
    Family { name: "conv_block", cases: conv_block::cases },
    Family { name: "depthwise_conv1d", cases: depthwise_conv1d::cases },
    Family { name: "dropout", cases: dropout::cases },
    Family { name: "leaky_relu", cases: leaky_relu::cases },
    Family { name: "linear", cases: linear::cases },
    Family { name: "max_pool1d", cases: max_pool1d::cases },
    Family { name: "relu", cases: relu::cases },
    Family { name: "softmax_cross_entropy", cases: softmax_cross_entropy::cases },
    Family { name: "weighted_sum", cases: weighted_sum::cases },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Shape;

    #[test]
    fn every_operation_refuses_a_wrong_number_of_inputs_and_empty_ones() {
        for case in ALL.iter().flat_map(|family| (family.cases)()) {
            let shapes: Vec<Shape> = case.inputs.iter().map(|input| input.shape).collect();
            assert!(case.op.spec(&shapes).is_ok(), "{} {}", case.op.name(), case.name);
            for wrong in [vec![], [&shapes[..], &shapes[..1]].concat(), vec![Shape::new(0, 1); shapes.len()]] {
                let error = case.op.spec(&wrong).expect_err(case.op.name()).to_string();
                assert!(error.starts_with(case.op.name()), "{error}");
            }
        }
    }
}
