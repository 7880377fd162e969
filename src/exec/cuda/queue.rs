//! What the host tells a step, and the step the host: in page-locked memory and a few steps ahead, so that neither waits for the other.

#![allow(unsafe_code)] // reason: page-locked memory is raw, and copies go on after the call

use super::address;
use super::gpu::{Gpu, Region, refused};
use crate::base::rng::Key;
use crate::exec::error::DeviceError;
use crate::exec::measured::Tally;
use cudarc::driver::{CudaSlice, PinnedHostSlice, sys};

/// Steps that may be under way before their losses are read.
pub(super) const MAX_QUEUED: usize = 16;

/// What changes from step to step.
pub(super) struct StepArgs<'a> {
    pub draw: Key,
    /// Adam's, see [`Adam::rates`](crate::optim::Adam::rates).
    pub rates: [f32; 5],
    /// As many as samples, or none where they are no input or lie in memory of their own.
    pub labels: &'a [f32],
    /// The rows of recordings that the GPU holds, likewise.
    pub clips: &'a [u32],
}

/// Where in an order its parts begin, in words.
const RATES: usize = 2;
const PAIR: usize = RATES + 5;
const LABELS: usize = PAIR + 1;

/// One order on the GPU, the next ones in host memory; and what steps tell.
pub(super) struct StepQueue {
    args: CudaSlice<u32>,
    next: PinnedHostSlice<u32>,
    /// Samples of a batch.
    n: usize,
    /// Whether a loss was no number, a gap, and of each step under way the sum of losses and the samples recognised.
    tallies: CudaSlice<f32>,
    queued: usize,
}

impl StepQueue {
    pub fn new(gpu: &Gpu, n: usize) -> Result<StepQueue, DeviceError> {
        let words = LABELS + 2 * n;
        let args = gpu.stream().alloc_zeros(words).map_err(refused("give memory"))?;
        Ok(StepQueue {
            args,
            next: gpu.page_locked(MAX_QUEUED * words)?,
            n,
            tallies: gpu.zeros(2 + 2 * MAX_QUEUED)?,
            queued: 0,
        })
    }

    fn word(&self, gpu: &Gpu, at: usize) -> sys::CUdeviceptr {
        address(&self.args, gpu) + 4 * at as u64
    }

    pub fn draw(&self, gpu: &Gpu) -> sys::CUdeviceptr {
        self.word(gpu, 0)
    }

    pub fn rates(&self, gpu: &Gpu) -> sys::CUdeviceptr {
        self.word(gpu, RATES)
    }

    /// The number of the pair of tallies that a step fills.
    pub fn pair(&self, gpu: &Gpu) -> sys::CUdeviceptr {
        self.word(gpu, PAIR)
    }

    /// The labels of the batch.
    pub fn labels<'b>(&'b self, gpu: &Gpu) -> Region<'b> {
        Region::of(&self.args, gpu).part::<u32>(LABELS, self.n)
    }

    pub fn clips(&self, gpu: &Gpu) -> sys::CUdeviceptr {
        self.word(gpu, LABELS + self.n)
    }

    pub fn tallies(&self, gpu: &Gpu) -> sys::CUdeviceptr {
        address(&self.tallies, gpu)
    }

    /// Whether the next step must wait until the tallies are read.
    pub fn full(&self) -> bool {
        self.queued == MAX_QUEUED
    }

    /// Puts the order of the next step on the GPU's stream.
    ///
    /// # Panics
    /// If it is [`StepQueue::full`].
    pub fn send(&mut self, gpu: &Gpu, args: &StepArgs<'_>) -> Result<(), DeviceError> {
        assert!(!self.full(), "the tallies are read in time");
        let words = self.args.len();
        // Not written since the last reading of tallies, which has waited for every copy before it.
        let next = gpu.host(&mut self.next)?;
        let next = &mut next[self.queued * words..][..words];
        let key = args.draw.value();
        next[..RATES].copy_from_slice(&[key as u32, (key >> 32) as u32]);
        next[RATES..PAIR].copy_from_slice(&args.rates.map(f32::to_bits));
        next[PAIR] = self.queued as u32;
        let (labels, clips) = next[LABELS..].split_at_mut(self.n);
        labels[..args.labels.len()].copy_from_slice(bytemuck::cast_slice(args.labels));
        clips[..args.clips.len()].copy_from_slice(args.clips);
        self.queued += 1;
        // SAFETY: `next` lives as long as the queue, which wait for the stream when dropped, and is not written until then or the next reading.
        unsafe { gpu.upload_later(gpu.stream(), Region::of(&self.args, gpu), next) }
    }

    /// Waits for the steps under way, of which nobody asks what they did.
    pub fn discard(&mut self, gpu: &Gpu) -> Result<(), DeviceError> {
        self.queued = 0;
        gpu.finish()
    }

    /// Waits for the steps under way: what each did, in their order. Steps behind one whose loss is no number did nothing and are left out.
    pub fn wait(&mut self, gpu: &Gpu) -> Result<Vec<Tally>, DeviceError> {
        let steps = std::mem::take(&mut self.queued);
        if steps == 0 {
            return Ok(Vec::new());
        }
        let mut numbers = [0.0f32; 2 + 2 * MAX_QUEUED];
        gpu.download(&mut numbers, Region::of(&self.tallies, gpu))?;
        let [spoilt, _, pairs @ ..] = &numbers;
        let tally = |&[loss, correct]: &[f32; 2]| Tally { loss: f64::from(loss), correct: correct as u64 };
        let mut tallies: Vec<Tally> = pairs.as_chunks::<2>().0[..steps].iter().map(tally).collect();
        if *spoilt != 0.0 {
            let first = tallies.iter().position(|tally| !tally.loss.is_finite());
            tallies.truncate(first.map_or(steps, |first| first + 1));
            gpu.upload(Region::of(&self.tallies, gpu), &[0.0f32])?;
        }
        Ok(tallies)
    }
}
