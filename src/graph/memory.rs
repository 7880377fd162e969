//! Offsets by lifetime: buffers whose lifetimes do not overlap share memory.

use crate::base::aligned::round_up;
use std::ops::RangeInclusive;

/// A buffer that needs an offset.
#[derive(Clone, Debug)]
pub struct Lifetime {
    /// Numbers.
    pub len: usize,
    /// The steps or stages during which it must keep its content.
    pub alive: RangeInclusive<usize>,
}

/// An offset for each buffer, a multiple of a cache line, and the length of the whole arena.
///
/// Greedy by size: the largest first, each at the lowest offset that is free during its lifetime (Pisarchyk
/// and Lee, "Efficient memory management for deep neural net inference", 2020, section 5.2).
pub fn assign_offsets(buffers: &[Lifetime]) -> (Vec<usize>, usize) {
    let mut by_size: Vec<usize> = (0..buffers.len()).collect();
    by_size.sort_by_key(|&i| std::cmp::Reverse(buffers[i].len));
    let mut offsets = vec![0; buffers.len()];
    let mut placed: Vec<usize> = Vec::new(); // by offset
    let mut total = 0;
    for i in by_size {
        let len = round_up(buffers[i].len);
        let mut at = 0;
        for &other in &placed {
            let meets = buffers[other].alive.start() <= buffers[i].alive.end()
                && buffers[i].alive.start() <= buffers[other].alive.end();
            if meets {
                if offsets[other] >= at + len {
                    break;
                }
                at = at.max(offsets[other] + round_up(buffers[other].len));
            }
        }
        offsets[i] = at;
        total = total.max(at + len);
        let rank = placed.partition_point(|&p| offsets[p] <= at);
        placed.insert(rank, i);
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn buffers_alive_together_never_overlap(
            raw in prop::collection::vec((1usize..200, 0usize..20, 0usize..6), 1..40)
        ) {
            let buffers: Vec<Lifetime> =
                raw.iter().map(|&(len, from, more)| Lifetime { len, alive: from..=from + more }).collect();
            let (offsets, total) = assign_offsets(&buffers);
            for i in 0..buffers.len() {
                prop_assert!(offsets[i] + buffers[i].len <= total);
                for j in 0..i {
                    let together = buffers[i].alive.start() <= buffers[j].alive.end()
                        && buffers[j].alive.start() <= buffers[i].alive.end();
                    let apart = offsets[i] + buffers[i].len <= offsets[j] || offsets[j] + buffers[j].len <= offsets[i];
                    prop_assert!(!together || apart);
                }
            }
        }
    }

    #[test]
    fn a_chain_needs_only_its_two_largest_neighbours() {
        let chain: Vec<Lifetime> = (0..10).map(|i| Lifetime { len: 160, alive: i..=i + 1 }).collect();
        assert_eq!(assign_offsets(&chain).1, 320);
    }
}
