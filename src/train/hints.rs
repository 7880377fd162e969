//! Hints about a run in progress.

use super::metrics::EpochRecord;

/// Complete epochs before a loss at chance level means something.
const EPOCHS: u64 = 3;
/// Training steps before it does.
const STEPS: u64 = 100;
/// The share of the loss of guessing from which on a network counts as guessing.
const SHARE: f64 = 0.98;

/// Whether `record` is that of the first epoch after which a network should have learned something, the third or that of the
/// hundredth step if that is later, and its training loss is still that of guessing: at least 0.98 ln(`classes`), which is the
/// cross-entropy of equal probabilities. It is true for at most one epoch of a run.
pub fn loss_is_at_chance(record: &EpochRecord, steps_per_epoch: u64, classes: usize) -> bool {
    let first = EPOCHS.max(STEPS.div_ceil(steps_per_epoch.max(1)));
    record.epoch == first && record.train_loss >= SHARE * (classes.max(1) as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_at_chance_is_noticed_once() {
        let chance = 12f64.ln();
        let epochs = |steps, loss| {
            let record = |epoch| EpochRecord {
                epoch,
                train_loss: loss,
                train_accuracy: 0.1,
                validation_loss: None,
                validation_accuracy: None,
                lr: 1e-3,
                seconds: 1.0,
                clips_per_second: 1.0,
                weights: String::new(),
            };
            (1..=200).filter(|&epoch| loss_is_at_chance(&record(epoch), steps, 12)).collect::<Vec<u64>>()
        };
        assert_eq!(epochs(98, chance), [3]);
        assert_eq!(epochs(98, 0.99 * chance), [3]);
        assert_eq!(epochs(98, 0.97 * chance), [0; 0]);
        assert_eq!(epochs(1, chance), [100], "a few steps teach nothing");
        assert_eq!(epochs(40, chance), [3]);
    }
}
