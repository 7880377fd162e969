//! Which operations one fused operation replaces: a convolution with the batch norm, ReLU and max pool that follow it.

use super::conv_block::Norm;
use super::op::Op;
use super::{BatchNorm, Conv1d, ConvBlock, ConvChoice, MaxPool1d, Relu};
use crate::ops::batch_norm::BatchNormInference;
use std::any::Any;

/// The most operations that one fused operation replaces: convolution, norm, ReLU, pool.
pub const LONGEST_CHAIN: usize = 4;

/// One operation that replaces several.
#[derive(Debug)]
pub struct Fused {
    /// The operation that computes what they compute, with the parameters of all of them.
    pub op: Box<dyn Op>,
    /// How many of the operations it replaces.
    pub count: usize,
}

/// What decides, beside the operations, whether they are fused.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// How convolutions are computed.
    pub choice: ConvChoice,
    /// Channels of the input of the first operation.
    pub channels: usize,
    /// Whether the plan computes the gradient of the output of the first operation.
    pub gradient: bool,
}

/// One operation in place of the first of `ops` and one or more that follow, or none if there is no such operation. Each of `ops` is the only
/// reader of the one before.
pub fn fuse(context: Context, ops: &[&dyn Op]) -> Option<Fused> {
    let mut rest = ops.iter().map(|&op| op as &dyn Any).peekable();
    let conv: &Conv1d = rest.next()?.downcast_ref()?;
    let norm = rest.peek().and_then(|op| {
        let batch = op.downcast_ref::<BatchNorm>().map(|norm| Norm::Batch(*norm));
        batch.or_else(|| op.downcast_ref::<BatchNormInference>().map(|norm| Norm::Running(*norm)))
    });
    if norm.is_some() {
        rest.next();
    }
    rest.next().filter(|op| op.is::<Relu>())?;
    let (norm, before) = (norm.unwrap_or(Norm::None), 2 + usize::from(norm.is_some()));
    let block = |pool: Option<&MaxPool1d>| {
        let block = ConvBlock::of(conv, norm, pool, context.choice)?;
        block.has_kernels(context.channels, context.gradient).then_some(block)
    };
    let pool: Option<&MaxPool1d> = rest.next().and_then(|op| op.downcast_ref());
    let with_pool = pool.and_then(|pool| Some((block(Some(pool))?, before + 1)));
    let (block, count) = with_pool.or_else(|| Some((block(None)?, before)))?;
    Some(Fused { op: Box::new(block), count })
}
