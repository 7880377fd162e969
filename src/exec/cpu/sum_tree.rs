//! The sum of the gradients of all shards, added in pairs along a fixed binary tree.
//!
//! Shards are numbered from left to right. On each level two neighbours are added, and a last one without a neighbour goes on to the next level.
//! Which additions there are depends on the number of shards only; the thread that finishes the second of two neighbours adds them. So the sum
//! has the same bits for any number of threads, and no thread waits for another.
//! Shards are begun in order, so that the accumulators of [`accumulators`] suffice.

use crate::base::aligned::{Aligned, OutOfMemory};
use crate::graph::accumulators;
use crate::simd::{Isa, Kernel, Simd};
use std::sync::{Mutex, MutexGuard};

/// The accumulators, and for each pair of neighbours the sum that waits for the other.
pub(super) struct SumTree {
    /// Numbers in an accumulator.
    len: usize,
    free: Mutex<Vec<Aligned>>,
    waiting: Vec<Mutex<Option<Aligned>>>,
    total: Mutex<Option<Aligned>>,
}

impl SumTree {
    /// Allocates what `threads` threads need for sums of `len` numbers over at most `shards` shards.
    pub fn new(shards: usize, threads: usize, len: usize) -> Result<SumTree, OutOfMemory> {
        let count = if len == 0 { 0 } else { accumulators(shards, threads) };
        let free = (0..count).map(|_| Aligned::try_zeros(len)).collect::<Result<_, _>>()?;
        // A level of n sums has n / 2 pairs: fewer than n on all levels together.
        let waiting = (0..shards).map(|_| Mutex::default()).collect();
        Ok(SumTree { len, free: Mutex::new(free), waiting, total: Mutex::default() })
    }

    /// An accumulator whose first `len` numbers are 0. One is allocated only if a run has more threads than the tree was made for.
    pub fn begin(&self, len: usize) -> Aligned {
        let accumulator = locked(&self.free).pop();
        let mut accumulator = accumulator.unwrap_or_else(|| Aligned::zeros(self.len));
        accumulator[..len].fill(0.0);
        accumulator
    }

    /// Takes the finished accumulator of `shard`, one of `shards`, and makes all additions that it was the last to be needed for.
    pub fn finish(&self, isa: Isa, shard: usize, shards: usize, mut sums: Aligned, len: usize) {
        let (mut number, mut count, mut first) = (shard, shards, 0);
        while count > 1 {
            let pair = number / 2;
            if number != count - 1 || count.is_multiple_of(2) {
                let mut waiting = locked(&self.waiting[first + pair]);
                let Some(other) = waiting.take() else {
                    *waiting = Some(sums);
                    return;
                };
                drop(waiting);
                isa.run(Add { to: &mut sums[..len], from: &other[..len] });
                self.give_back(other);
            }
            first += count / 2;
            (number, count) = (pair, count.div_ceil(2));
        }
        *locked(&self.total) = Some(sums);
    }

    /// The sum over all shards, if all are finished. It is to be given back.
    pub fn take_total(&self) -> Option<Aligned> {
        locked(&self.total).take()
    }

    /// Makes an accumulator free.
    pub fn give_back(&self, sums: Aligned) {
        locked(&self.free).push(sums);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// `to += from`.
struct Add<'a> {
    to: &'a mut [f32],
    from: &'a [f32],
}

impl Kernel for Add<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _s: S) {
        self.to.iter_mut().zip(self.from).for_each(|(to, from)| *to += from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sums `2^-i`-like numbers whose sum depends on the order, shard by shard in the given order of completion.
    fn sum(numbers: &[f32], order: &[usize]) -> f32 {
        let tree = SumTree::new(numbers.len(), numbers.len(), 1).expect("it is small");
        for &shard in order {
            let mut sums = tree.begin(1);
            sums[0] += numbers[shard];
            tree.finish(Isa::best(), shard, numbers.len(), sums, 1);
        }
        let total = tree.take_total().expect("all shards are finished");
        total[0]
    }

    proptest! {
        #[test]
        fn the_sum_has_the_same_bits_in_any_order_of_completion(
            numbers in prop::collection::vec(-1e3f32..1e3, 1..70), seed in any::<u64>(),
        ) {
            let mut order: Vec<usize> = (0..numbers.len()).collect();
            let forward = sum(&numbers, &order);
            order.sort_by_key(|&i| (i as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            prop_assert_eq!(forward.to_bits(), sum(&numbers, &order).to_bits());
            let exact: f64 = numbers.iter().map(|&v| f64::from(v)).sum();
            prop_assert!((f64::from(forward) - exact).abs() < 1e-2);
        }

        #[test]
        fn accumulators_suffice_where_shards_are_begun_in_order(
            shards in 1usize..150, threads in 1usize..9, seed in any::<u64>(),
        ) {
            let tree = SumTree::new(shards, threads, 1).expect("it is small");
            let allocated = locked(&tree.free).len();
            let mut working: Vec<(usize, Aligned)> = Vec::new();
            let (mut next, mut random) = (0, seed);
            while next < shards || !working.is_empty() {
                while working.len() < threads && next < shards {
                    working.push((next, tree.begin(1)));
                    next += 1;
                }
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (shard, sums) = working.swap_remove((random >> 33) as usize % working.len());
                tree.finish(Isa::best(), shard, shards, sums, 1);
            }
            tree.give_back(tree.take_total().expect("all shards are finished"));
            prop_assert_eq!(locked(&tree.free).len(), allocated, "no other was needed");
        }
    }
}
