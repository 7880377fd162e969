//! How often a network misses a word, and how often it detects one that was not spoken: measured on long recordings of which is known what is in them.
//!
//! A [`Recording`] is made of clips of the words, clips of other words and background noise. The network listens to it as to any stream; [`Outputs`] keeps the probabilities of every window, so that
//! other thresholds need no second pass. [`Outputs::tally`] counts, [`sweep`] does so at many thresholds, and [`choose`] finds the threshold for a wanted rate of false alarms.

mod outputs;
mod recording;
mod thresholds;

pub use outputs::{Cause, FalseAlarm, Outputs, Tally};
pub use recording::{Material, Recording, RecordingSettings, Spoken};
pub use thresholds::{Operating, choose, sweep};
