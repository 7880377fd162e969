//! What the host sends to each step, and what each step returns: in page-locked memory and for several steps at a time, so that neither the
//! host nor the GPU waits for the other.

#![allow(unsafe_code)] // reason: page-locked memory is raw, and copies continue after the call

use super::address;
use super::gpu::{Gpu, Region, refused};
use crate::base::rng::Key;
use crate::exec::error::DeviceError;
use crate::exec::measured::Tally;
use crate::exec::update::Rates;
use cudarc::driver::{CudaSlice, PinnedHostSlice, sys};

/// Steps that may be in the queue before their results are read.
pub(super) const MAX_QUEUED: usize = 16;

/// What changes from step to step.
pub(super) struct StepArgs<'a> {
    pub draw: Key,
    pub rates: Rates,
    /// The labels of all samples, or none where they are not an input or are in memory of their own.
    pub labels: &'a [f32],
    /// The rows of the clips in GPU memory: as many as samples, or none where steps do not take clips by number.
    pub clips: &'a [u32],
}

/// Where each argument begins, in words.
const RATES: usize = 2;
const PAIR: usize = RATES + size_of::<Rates>() / 4;
const LABELS: usize = PAIR + 1;

/// The arguments of one step on the GPU, those of the next steps in host memory, and the results of steps.
pub(super) struct StepQueue {
    args: CudaSlice<u32>,
    next: PinnedHostSlice<u32>,
    /// Numbers in the labels of the largest batch.
    labels: usize,
    /// Whether a loss was not finite, a gap, and for each step in the queue the sum of losses and the number of correct predictions.
    tallies: CudaSlice<f32>,
    queued: usize,
}

/// Where kernels find their arguments and put their results.
#[derive(Clone, Copy)]
pub(super) struct QueueAddresses {
    args: sys::CUdeviceptr,
    tallies: sys::CUdeviceptr,
    labels: usize,
}

impl QueueAddresses {
    fn word(self, at: usize) -> sys::CUdeviceptr {
        self.args + 4 * at as u64
    }

    pub fn draw(self) -> sys::CUdeviceptr {
        self.word(0)
    }

    pub fn rates(self) -> sys::CUdeviceptr {
        self.word(RATES)
    }

    /// The number of the pair of results that a step fills.
    pub fn pair(self) -> sys::CUdeviceptr {
        self.word(PAIR)
    }

    pub fn labels(self) -> sys::CUdeviceptr {
        self.word(LABELS)
    }

    pub fn clips(self) -> sys::CUdeviceptr {
        self.word(LABELS + self.labels)
    }

    pub fn tallies(self) -> sys::CUdeviceptr {
        self.tallies
    }
}

impl StepQueue {
    /// A queue for batches of at most `n` samples, each of whose labels has `label_size` numbers.
    pub fn new(gpu: &Gpu, n: usize, label_size: usize) -> Result<StepQueue, DeviceError> {
        let labels = n * label_size;
        let words = LABELS + labels + n;
        let args = gpu.stream().alloc_zeros(words).map_err(refused("allocate memory"))?;
        let next = gpu.page_locked(MAX_QUEUED * words)?;
        Ok(StepQueue { args, next, labels, tallies: gpu.zeros(2 + 2 * MAX_QUEUED)?, queued: 0 })
    }

    pub fn addresses(&self, gpu: &Gpu) -> QueueAddresses {
        QueueAddresses { args: address(&self.args, gpu), tallies: address(&self.tallies, gpu), labels: self.labels }
    }

    /// Whether the results must be read before the next step.
    pub fn full(&self) -> bool {
        self.queued == MAX_QUEUED
    }

    /// Puts the arguments of the next step on the GPU's stream.
    ///
    /// # Panics
    /// If the queue is [`StepQueue::full`].
    pub fn send(&mut self, gpu: &Gpu, args: &StepArgs<'_>) -> Result<(), DeviceError> {
        assert!(!self.full(), "the results are read in time");
        let words = self.args.len();
        // Not written since the results were last read, which has waited for every copy before it.
        let next = gpu.host(&mut self.next)?;
        let next = &mut next[self.queued * words..][..words];
        let key = args.draw.value();
        next[..RATES].copy_from_slice(&[key as u32, (key >> 32) as u32]);
        next[RATES..PAIR].copy_from_slice(&args.rates.map(f32::to_bits));
        next[PAIR] = self.queued as u32;
        let (labels, clips) = next[LABELS..].split_at_mut(self.labels);
        labels[..args.labels.len()].copy_from_slice(bytemuck::cast_slice(args.labels));
        clips[..args.clips.len()].copy_from_slice(args.clips);
        self.queued += 1;
        // SAFETY: `next` lives as long as the queue, whose owner waits for the stream when dropped, and is not written until the results
        // of this step are read, which waits for the copy.
        unsafe { gpu.upload_later(gpu.stream(), Region::of(&self.args, gpu), next) }
    }

    /// Waits for the steps in the queue and drops their results.
    pub fn discard(&mut self, gpu: &Gpu) -> Result<(), DeviceError> {
        self.queued = 0;
        gpu.finish()
    }

    /// Waits for the steps in the queue, and returns their results in order. Steps after one whose loss is not finite changed nothing and
    /// are left out.
    pub fn wait(&mut self, gpu: &Gpu) -> Result<Vec<Tally>, DeviceError> {
        let steps = std::mem::take(&mut self.queued);
        if steps == 0 {
            return Ok(Vec::new());
        }
        let mut numbers = [0.0f32; 2 + 2 * MAX_QUEUED];
        gpu.download(&mut numbers, Region::of(&self.tallies, gpu))?;
        let [not_finite, _, pairs @ ..] = &numbers;
        let tally = |&[loss, correct]: &[f32; 2]| Tally { loss: f64::from(loss), correct: correct as u64 };
        let mut tallies: Vec<Tally> = pairs.as_chunks::<2>().0[..steps].iter().map(tally).collect();
        if *not_finite != 0.0 {
            let first = tallies.iter().position(|tally| !tally.loss.is_finite());
            tallies.truncate(first.map_or(steps, |first| first + 1));
            gpu.upload(Region::of(&self.tallies, gpu), &[0.0f32])?;
        }
        Ok(tallies)
    }
}
