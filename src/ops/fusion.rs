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

/// One operation in place of the first of `ops` and one or more that follow, or none if there is no such operation. Each of `ops` is the only
/// reader of the one before.
pub fn fuse(choice: ConvChoice, ops: &[&dyn Op]) -> Option<Fused> {
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
    let pool: Option<&MaxPool1d> = rest.next().and_then(|op| op.downcast_ref());
    let with_pool =
        pool.and_then(|pool| ConvBlock::of(conv, norm, Some(pool), choice)).map(|block| (block, before + 1));
    let (block, count) = with_pool.or_else(|| Some((ConvBlock::of(conv, norm, None, choice)?, before)))?;
    Some(Fused { op: Box::new(block), count })
}
