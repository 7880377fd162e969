//! The exponential moving average of weights.
//!
//! **Computes**, after step `t` (the first is 0), `average += (1 - d) (w - average)` with `d = min(decay, (1 + t) / (10 + t))`. The decay rises
//! to its value because the first weights are poor, and would otherwise remain in the average for `1 / (1 - decay)` steps.
//! **Cost** reads `average w`, writes `average`. **NaN** stays one. **Error** elementwise, 1 ulp of the larger.
//! **Source** Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992; the rise is that of TensorFlow's
//! `ExponentialMovingAverage(num_updates)`.

use rayon::prelude::*;

/// A moving average of the weights of training steps. Evaluated instead of the weights, it is less noisy while the learning rate is large.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Average {
    /// The share that the average keeps in each step, less than 1, such as 0.999: it is over the last `1 / (1 - decay)` steps.
    pub decay: f32,
}

/// Numbers that one task updates.
const CHUNK: usize = 16 * 1024;

impl Average {
    /// The share of the new weights in the average after the step that follows `steps` others: `1 - d`.
    pub fn rate(self, steps: u64) -> f32 {
        let rise = (1.0 + steps as f64) / (10.0 + steps as f64);
        (1.0 - rise.min(f64::from(self.decay))) as f32
    }

    /// Moves `average` toward `weights`, those after the step that follows `steps` others.
    ///
    /// # Panics
    /// If the arrays are not equally long.
    pub fn step(self, steps: u64, average: &mut [f32], weights: &[f32]) {
        assert_eq!(average.len(), weights.len(), "the average is of these weights");
        let rate = self.rate(steps);
        average.par_chunks_mut(CHUNK).zip(weights.par_chunks(CHUNK)).for_each(|(average, weights)| {
            for (average, w) in average.iter_mut().zip(weights) {
                *average += rate * (w - *average);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decay_rises_to_its_value() {
        let average = Average { decay: 0.875 };
        assert_eq!([0, 2, 80, 1_000_000].map(|steps| average.rate(steps)), [0.9, 0.75, 0.125, 0.125]);
        assert_eq!(Average { decay: 0.05 }.rate(0), 0.95);
        assert!(Average { decay: 0.999 }.rate(u64::MAX) > 0.0);
    }

    #[test]
    fn the_average_is_that_of_the_definition() {
        let len = CHUNK + 3;
        let (average, mut averaged) = (Average { decay: 0.5 }, vec![1.0; len]);
        let mut expected = 1.0;
        for step in 0..20 {
            let w = (step as f32 * 0.3).sin();
            average.step(step, &mut averaged, &vec![w; len]);
            let decay = f64::min(0.5, (1 + step) as f64 / (10 + step) as f64);
            expected = decay * expected + (1.0 - decay) * f64::from(w);
        }
        for value in averaged {
            approx::assert_relative_eq!(f64::from(value), expected, max_relative = 1e-5);
        }
    }
}
