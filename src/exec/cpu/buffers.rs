//! The memory of a run: what is kept for the samples of a shard, what a thread uses for one sample, and the slices of both that a step gets.

use crate::base::aligned::Aligned;
use crate::graph::{BufferLoc, Space};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

/// The samples of one shard and the buffers that outlive a stage.
pub(super) struct Shard {
    pub samples: Range<usize>,
    pub arena: Aligned,
}

/// The numbers of a buffer for some samples of a shard.
pub(super) fn range_of(loc: BufferLoc, shard: &Shard, samples: &Range<usize>) -> Range<usize> {
    let start = loc.offset * shard.samples.len() + (samples.start - shard.samples.start) * loc.len;
    start..start + samples.len() * loc.len
}

/// The numbers of a buffer for one sample of a shard.
pub(super) fn range(loc: BufferLoc, shard: &Shard, sample: usize) -> Range<usize> {
    range_of(loc, shard, &(sample..sample + 1))
}

/// The numbers of a buffer for all samples of a shard.
pub(super) fn whole(loc: BufferLoc, shard: &Shard) -> Range<usize> {
    range_of(loc, shard, &shard.samples)
}

/// The arena that belongs to the calling thread.
pub(super) fn own(arenas: &[Mutex<Aligned>]) -> MutexGuard<'_, Aligned> {
    let worker = rayon::current_thread_index().unwrap_or(0) % arenas.len();
    arenas[worker].lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Adds the numbers of one buffer of a sample to those of another.
pub(super) fn add(from: BufferLoc, to: BufferLoc, shard: &mut Shard, sample: usize, workspace: &mut [f32]) {
    let [from, to] = operands([from, to], shard, sample, workspace);
    to.iter_mut().zip(from).for_each(|(to, from)| *to += *from);
}

/// The slices of a sample's operands: of the workspace, of the shard, or empty.
pub(super) fn operands<'b, const K: usize>(
    locs: [BufferLoc; K],
    shard: &'b mut Shard,
    sample: usize,
    workspace: &'b mut [f32],
) -> [&'b mut [f32]; K] {
    const APART: &str = "the planner gives no two operands the same memory";
    let in_shard = locs.map(|p| if p.space == Space::Shard { range(p, shard, sample) } else { 0..0 });
    let in_workspace = locs.map(|p| if p.space == Space::Workspace { p.offset..p.offset + p.len } else { 0..0 });
    let mut from_shard = shard.arena.get_disjoint_mut(in_shard).expect(APART);
    let mut from_workspace = workspace.get_disjoint_mut(in_workspace).expect(APART);
    std::array::from_fn(|k| {
        std::mem::take(if locs[k].space == Space::Workspace { &mut from_workspace[k] } else { &mut from_shard[k] })
    })
}
