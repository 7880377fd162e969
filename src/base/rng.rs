//! Counter-based random numbers: a value is a function of its key and its index, and depends neither on the order in which
//! values are drawn nor on the number of threads. A run therefore resumes without generator state, and CPU and GPU draw the
//! same values.
//!
//! **Source**: the finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA
//! 2014), applied once for each coordinate.

/// The purpose of a stream of random numbers. Streams with the same seed are independent of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// Initial weights.
    Init = 1,
    /// Dropout masks.
    Dropout = 2,
    /// The order of clips in an epoch.
    Shuffle = 3,
    /// A random split of the clips.
    Split = 4,
    /// Inputs of conformance cases, gradient checks and benches.
    Case = 5,
    /// The augmentation of training clips.
    Augment = 6,
    /// Which clips of other words are of the class `_unknown_`.
    Unknown = 7,
    /// The segments of the class `_silence_`.
    Silence = 8,
    /// Long recordings made of clips and noise, to calibrate a recogniser that listens.
    Recording = 9,
    /// Resamples of the bootstrap in an evaluation.
    Resample = 16,
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The key of a sequence of random numbers: add coordinates (step, layer) with [`Key::with`], then draw values by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// The key of `stream` under `seed`.
    pub const fn new(seed: u64, stream: Stream) -> Key {
        Key(mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15))).with(stream as u64)
    }

    /// The key of a subsequence, which one more coordinate (a step, a layer) selects.
    pub const fn with(self, coordinate: u64) -> Key {
        Key(mix(self.0 ^ coordinate.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// The key as a number, for a device that adds coordinates and draws values by the same formulas.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// 64 random bits at `index`.
    #[inline(always)]
    pub const fn bits(self, index: u64) -> u64 {
        mix(self.0.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// An integer in `0..bound` at `index` (multiply-shift; the bias is below `bound` / 2^64).
    pub const fn below(self, index: u64, bound: u64) -> u64 {
        ((self.bits(index) as u128 * bound as u128) >> 64) as u64
    }

    /// A uniformly distributed number in `[0, 1)` at `index`, with 53 random bits.
    pub const fn uniform(self, index: u64) -> f64 {
        (self.bits(index) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A number from the standard normal distribution at `index` (Box-Muller).
    pub fn normal(self, index: u64) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform(2 * index)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform(2 * index + 1)).cos()
    }

    /// The integers `0..len` in random order (Fisher-Yates).
    pub fn permutation(self, len: usize) -> Vec<u32> {
        let mut order = Vec::new();
        self.permute(len, &mut order);
        order
    }

    /// Replaces the content of `order` by [`Key::permutation`]; allocates only if its capacity is too small.
    pub fn permute(self, len: usize, order: &mut Vec<u32>) {
        order.clear();
        order.extend(0..len as u32);
        for i in (1..len).rev() {
            order.swap(i, self.below(i as u64, i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_has_mean_zero_and_variance_one() {
        let key = Key::new(7, Stream::Init);
        let n = 20_000;
        let (mut sum, mut squares) = (0.0, 0.0);
        for i in 0..n {
            let v = key.normal(i);
            sum += v;
            squares += v * v;
        }
        assert!((sum / n as f64).abs() < 0.03);
        assert!((squares / n as f64 - 1.0).abs() < 0.05);
    }

    #[test]
    fn permutation_holds_every_index_once_and_depends_on_the_key() {
        let key = Key::new(1, Stream::Shuffle);
        let order = key.with(0).permutation(1000);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(i, &v)| i as u32 == v));
        assert_ne!(order, key.with(1).permutation(1000));
    }
}
