//! Which clips an epoch of training uses.

use crate::base::rng::{Key, Stream};

use crate::data::dataset::Dataset;
use crate::data::split::Split;

/// The training clips of a data set, with those of other words that are drawn anew in each epoch.
#[derive(Clone, Debug)]
pub(in crate::data) struct EpochClips {
    always: Vec<u32>,
    unknown: Vec<u32>,
    per_epoch: usize,
    key: Key,
}

impl EpochClips {
    /// The training clips of `data`, drawn with `seed`.
    pub(in crate::data) fn new(data: &Dataset, seed: u64) -> EpochClips {
        let class = data.unknown_class();
        let is_unknown = |&clip: &u32| class == Some(data.clips()[clip as usize].class);
        let (unknown, always) = data.in_split(Split::Training).into_iter().partition(is_unknown);
        EpochClips { always, unknown, per_epoch: data.unknown_per_epoch(), key: Key::new(seed, Stream::Unknown) }
    }

    /// Clips of each epoch.
    pub(in crate::data) fn len(&self) -> usize {
        self.always.len() + self.per_epoch
    }

    /// Replaces the content of `clips` by the clips of an epoch: other words without repetition, in an order that depends on the epoch.
    pub(in crate::data) fn of(&self, epoch: u64, clips: &mut Vec<u32>) {
        clips.clear();
        clips.extend(&self.always);
        if self.per_epoch > 0 {
            // The coordinates of the fixed choice are those of the splits.
            let order = self.key.with(Split::ALL.len() as u64 + epoch).permutation(self.unknown.len());
            clips.extend(order.iter().take(self.per_epoch).map(|&i| self.unknown[i as usize]));
        }
    }
}
