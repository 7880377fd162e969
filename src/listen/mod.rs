//! Words in streams of sound: from a microphone, or in a long recording.
//!
//! ```text
//! samples of any rate --> Windows (logits every 20 ms; overlapping windows share convolutions) --> Detector (smoothing, thresholds, refractory time) --> Event
//! ```
//!
//! [`Recogniser`] is all of it: it loads a network with its words and settings, recognises clips, and begins [`Stream`]s. The settings are in a [`Manifest`] beside the weights.
//! [`Sharing`] explains what windows share. Everything is computed on the CPU.

#[cfg(feature = "audio")]
pub mod calibration;
mod detector;
mod error;
mod extent;
mod history;
mod manifest;
mod part;
mod rate;
mod recogniser;
mod sharing;
mod takes;
mod windows;

pub use detector::{Detection, Detector, is_word};
pub use error::ListenError;
pub use extent::extent;
pub use manifest::Manifest;
pub use rate::RateConverter;
pub use recogniser::{Event, Recogniser, Recognition, Stream, StreamOptions, WindowOutput};
pub use sharing::Sharing;
pub use takes::{Take, TakeFinder};
pub use windows::Windows;
