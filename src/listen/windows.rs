//! The logits of overlapping windows of a stream of samples.

use super::error::ListenError;
use super::part::{How, Part};
use super::sharing::Sharing;
use crate::nn::Network;
use crate::ops::ConvChoice;
use crate::simd::Isa;
use crate::train::{TrainError, Weights};
use std::collections::VecDeque;

/// Computes the logits of a window of a stream at every hop. Windows share what [`Sharing`] says.
///
/// Window `i` begins at sample `i * hop` of the stream. Its logits do not depend on how the stream is cut into pieces, and equal those of the network on the window by itself up to rounding.
///
/// ```
/// use stapes::listen::{Sharing, Windows};
/// use stapes::nn::{self, Initialisation, Network, Variant};
/// use stapes::train::Weights;
///
/// let network = Network::build(&nn::find("custom32-8")?.spec(Variant::Do), 3)?;
/// let weights = Weights::initial(&network.graph, Initialisation::default(), 1);
/// let sharing = Sharing::plan(&network, 320)?; // about every 20 ms
/// let mut windows = Windows::new(&network, &weights, sharing)?;
/// let mut seen = 0;
/// windows.push(&vec![0.0; 24_000], &mut |window, logits| {
///     assert_eq!((window, logits.len()), (seen, 3));
///     seen += 1;
/// });
/// assert_eq!(seen as usize, (24_000 - 16_000) / windows.sharing().hop + 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Windows {
    sharing: Sharing,
    channels: usize,
    /// Channels of the trunk's output.
    row: usize,
    trunk: Option<Part>,
    head: Part,
    /// Samples from the start of the next segment on, `[frames, channels]`.
    samples: Vec<f32>,
    /// The next segment.
    segment: u64,
    /// Shared rows of the trunk's output.
    rows: Vec<f32>,
    /// The index in the stream of the first of `rows`.
    rows_at: u64,
    /// The first rows of the windows that have begun, from window `window` on.
    first: VecDeque<Vec<f32>>,
    /// The next window.
    window: u64,
    /// Inputs of the head that wait for a batch.
    waiting: Vec<f32>,
}

/// The most segments or windows that are computed at once where the stream is ahead.
const BATCH: usize = 32;

impl Windows {
    /// Windows over a stream, on the CPU with its best instruction set.
    ///
    /// # Errors
    /// The weights are those of another network, or the memory does not suffice.
    pub fn new(network: &Network, weights: &Weights, sharing: Sharing) -> Result<Windows, ListenError> {
        Windows::with(network, weights, sharing, Isa::best(), ConvChoice::default())
    }

    /// Windows over a stream, with this instruction set and algorithm of convolutions.
    ///
    /// # Errors
    /// As for [`Windows::new`].
    pub fn with(
        network: &Network,
        weights: &Weights,
        sharing: Sharing,
        isa: Isa,
        conv: ConvChoice,
    ) -> Result<Windows, ListenError> {
        let weights = weights.clone().check(&network.graph)?;
        let input = network.graph.shape(network.audio);
        if input.l != sharing.window {
            let (expected, got) = (input.l, sharing.window);
            return Err(TrainError::WrongLength { what: "a window", expected, got }.into());
        }
        let how = How { batch: BATCH, isa, conv };
        let trunk = (sharing.cut != network.audio)
            .then(|| Part::trunk(network, &weights, sharing.cut, sharing.segment, how))
            .transpose()?;
        let head = Part::head(network, &weights, sharing.cut, how)?;
        Ok(Windows {
            channels: input.c,
            row: network.graph.shape(sharing.cut).c,
            sharing,
            trunk,
            head,
            samples: Vec::new(),
            segment: 0,
            rows: Vec::new(),
            rows_at: 0,
            first: VecDeque::new(),
            window: 0,
            waiting: Vec::new(),
        })
    }

    /// What windows share.
    pub fn sharing(&self) -> &Sharing {
        &self.sharing
    }

    /// Takes the next samples of the stream, `[frames, channels]` in pieces of any size, and calls `window` with the number and the logits of every window that they complete.
    pub fn push(&mut self, mut samples: &[f32], window: &mut dyn FnMut(u64, &[f32])) {
        // In pieces, so that memory does not depend on how much is pushed at once.
        let piece = (BATCH * self.sharing.hop + self.sharing.segment) * self.channels;
        while !samples.is_empty() {
            let now = piece.saturating_sub(self.samples.len()).clamp(1, samples.len());
            self.samples.extend_from_slice(&samples[..now]);
            samples = &samples[now..];
            self.segments(window);
        }
    }

    /// Computes all segments that are complete, and the windows that end with them.
    fn segments(&mut self, window: &mut dyn FnMut(u64, &[f32])) {
        let Sharing { segment, hop, .. } = self.sharing;
        let (segment, hop) = (segment * self.channels, hop * self.channels);
        if self.samples.len() < segment {
            return;
        }
        let complete = (self.samples.len() - segment) / hop + 1;
        let samples = std::mem::take(&mut self.samples);
        let mut inputs = Vec::new();
        for first in (0..complete).step_by(BATCH) {
            let batch = BATCH.min(complete - first);
            if let Some(mut trunk) = self.trunk.take() {
                inputs.clear();
                (first..first + batch).for_each(|i| inputs.extend_from_slice(&samples[i * hop..][..segment]));
                trunk.run(&inputs);
                (0..batch).for_each(|i| self.add(trunk.output(i), window));
                self.trunk = Some(trunk);
            } else {
                (first..first + batch).for_each(|i| self.add(&samples[i * hop..][..segment], window));
            }
        }
        self.run_head(window);
        self.samples = samples;
        self.samples.drain(..complete * hop);
    }

    /// Takes the rows of the next segment.
    fn add(&mut self, rows: &[f32], window: &mut dyn FnMut(u64, &[f32])) {
        let (first, last) = (self.sharing.first_rows * self.row, self.sharing.last_rows * self.row);
        self.first.push_back(rows[..first].to_vec());
        let shared = &rows[first..rows.len() - last];
        let at = self.segment * self.sharing.hop_rows() as u64 + self.sharing.first_rows as u64;
        let end = self.rows_at + (self.rows.len() / self.row) as u64;
        if self.rows.is_empty() {
            self.rows_at = at;
            self.rows.extend_from_slice(shared);
        } else {
            // A segment begins before the last one ends, with the rows that are not shared left out too.
            self.rows.extend_from_slice(&shared[(end - at) as usize * self.row..]);
        }
        if self.segment >= self.sharing.hops_to_last() as u64 {
            self.complete_window(&rows[rows.len() - last..], window);
        }
        self.segment += 1;
    }

    /// Takes the window whose last rows are `last`.
    fn complete_window(&mut self, last: &[f32], window: &mut dyn FnMut(u64, &[f32])) {
        let number = self.segment - self.sharing.hops_to_last() as u64;
        let begins = number * self.sharing.hop_rows() as u64 + self.sharing.first_rows as u64;
        let begins = (begins - self.rows_at) as usize * self.row;
        let first = self.first.pop_front().unwrap_or_default();
        self.waiting.extend_from_slice(&first);
        self.waiting.extend_from_slice(&self.rows[begins..]);
        self.waiting.extend_from_slice(last);
        // The next window begins a hop later. Removed in large pieces, because what follows moves.
        let unused = begins + self.sharing.hop_rows() * self.row;
        if unused * 2 > self.rows.len() {
            self.rows.drain(..unused);
            self.rows_at += (unused / self.row) as u64;
        }
        if self.waiting.len() == self.head.batch() * self.head.input_len() {
            self.run_head(window);
        }
    }

    fn run_head(&mut self, window: &mut dyn FnMut(u64, &[f32])) {
        let count = self.waiting.len() / self.head.input_len();
        if count > 0 {
            self.head.run(&self.waiting);
            self.waiting.clear();
            for i in 0..count {
                window(self.window, self.head.output(i));
                self.window += 1;
            }
        }
    }
}
