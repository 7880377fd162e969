//! Batches, prepared by a thread before the training step needs them, in a fixed number of buffers that are reused.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::base::FULL_SCALE;
use crate::base::rng::{Key, Stream};

use super::dataset::Dataset;
use super::error::DataError;
use super::split::Split;

/// Batches on their way: one in use, one ready, one in the making.
const BUFFERS: usize = 3;

/// Clips as a network takes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[n, length, channels]`, full scale 1; rows beyond [`Batch::valid`] are zeros. Empty without [`BatchOptions::with_samples`].
    pub inputs: Vec<f32>,
    /// `[n]`: the class of each clip; 0 beyond [`Batch::valid`].
    pub labels: Vec<f32>,
    /// The numbers of the clips in the data set, one a valid row.
    pub clips: Vec<u32>,
    /// Rows that hold a clip: fewer than `n` in the last batch of an epoch or of an evaluation.
    pub valid: usize,
    /// The epoch, from 0.
    pub epoch: u64,
    /// The step within the epoch, from 0.
    pub step: u64,
}

impl Batch {
    /// The inputs of the rows that hold a clip, `[valid, length, channels]`.
    pub fn valid_inputs(&self) -> &[f32] {
        let row = self.inputs.len() / self.labels.len().max(1);
        &self.inputs[..self.valid * row]
    }

    /// The labels of the rows that hold a clip, `[valid]`.
    pub fn valid_labels(&self) -> &[f32] {
        &self.labels[..self.valid]
    }
}

/// How training clips are put in batches.
#[derive(Clone, Copy, Debug)]
pub struct BatchOptions {
    /// Clips in a batch.
    pub batch: usize,
    /// The seed of the order of the clips.
    pub seed: u64,
    /// The epoch and the step in it to start with, both from 0; a step beyond the last of the epoch counts on into the next epoch.
    pub start: (u64, u64),
    /// Whether a single clip that is left over at the end of an epoch joins the batch before it: for networks with batch norm, which computes
    /// statistics over the batch.
    pub merge_single: bool,
    /// Whether [`Batch::inputs`] is filled; a device that has all clips needs their numbers only.
    pub with_samples: bool,
}

impl BatchOptions {
    /// Batches of `batch` clips from the first epoch on, with samples.
    pub fn new(batch: usize, seed: u64) -> BatchOptions {
        BatchOptions { batch, seed, start: (0, 0), merge_single: false, with_samples: true }
    }

    /// How an epoch of `clips` clips is divided into steps.
    ///
    /// # Errors
    /// `batch` is 0.
    pub fn epoch(&self, clips: usize) -> Result<EpochSteps, DataError> {
        if self.batch == 0 {
            return Err(DataError::BadSetting { what: "batch size", value: 0, min: 1, max: u64::from(u32::MAX) });
        }
        let single = self.merge_single && self.batch < clips && clips % self.batch == 1;
        let count = if single { clips / self.batch } else { clips.div_ceil(self.batch) };
        Ok(EpochSteps { clips, batch: self.batch, count })
    }
}

/// The steps of an epoch: all have [`BatchOptions::batch`] clips except for the last, which has the clips that are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochSteps {
    clips: usize,
    batch: usize,
    count: usize,
}

impl EpochSteps {
    /// How many steps there are.
    pub fn count(&self) -> u64 {
        self.count as u64
    }

    /// Which clips a step takes, as positions in the order of the epoch.
    pub fn clips_of(&self, step: u64) -> Range<usize> {
        let step = step as usize;
        let from = (step * self.batch).min(self.clips);
        from..if step + 1 >= self.count { self.clips } else { from + self.batch }
    }

    /// Clips of the largest step.
    pub fn largest(&self) -> usize {
        self.clips_of(0).len().max(self.last())
    }

    /// Clips of the last step.
    pub fn last(&self) -> usize {
        self.clips_of(self.count().saturating_sub(1)).len()
    }
}

/// Batch after batch of one split.
///
/// In training, the order of the clips in an epoch depends only on the seed and the epoch; the last batch of an epoch has the clips
/// that are left ([`EpochSteps`]), and epochs follow one another without end. In an evaluation the clips come once, in name order.
#[derive(Debug)]
pub struct Batches {
    ready: Receiver<Batch>,
    free: SyncSender<Batch>,
    current: Option<Batch>,
    steps_per_epoch: u64,
}

impl Batches {
    /// Training batches. A stopped run continues with the same clips when it starts from the epoch and step it had reached.
    ///
    /// # Errors
    /// There are no training clips, the batch size is 0, or no thread can be started.
    pub fn train(data: Arc<Dataset>, options: BatchOptions) -> Result<Batches, DataError> {
        let BatchOptions { batch, seed, start, with_samples, .. } = options;
        let clips = clips_of(&data, Split::Training, batch)?;
        let epoch = options.epoch(clips.len())?;
        let steps = epoch.count();
        let first = start.0.saturating_mul(steps).saturating_add(start.1);
        let key = Key::new(seed, Stream::Shuffle);
        let mut order: (Option<u64>, Vec<u32>) = (None, Vec::new());
        let row_len = if with_samples { data.row_len() } else { 0 };
        Batches::start((epoch.largest(), row_len), steps, move |number, buffer| {
            let at = first.saturating_add(number);
            (buffer.epoch, buffer.step) = (at / steps, at % steps);
            if order.0 != Some(buffer.epoch) {
                order = (Some(buffer.epoch), key.with(buffer.epoch).permutation(clips.len()));
            }
            let chosen = order.1[epoch.clips_of(buffer.step)].iter().map(|&i| clips[i as usize]);
            fill(&data, chosen, buffer);
            true
        })
    }

    /// All clips of `split` once, in name order, in batches of `batch`; the last one is padded.
    ///
    /// # Errors
    /// The split has no clips, `batch` is 0, or no thread can be started.
    pub fn eval(data: Arc<Dataset>, split: Split, batch: usize) -> Result<Batches, DataError> {
        let clips = clips_of(&data, split, batch)?;
        let (steps, row_len) = (clips.len().div_ceil(batch) as u64, data.row_len());
        Batches::start((batch, row_len), steps, move |number, buffer| {
            let from = number as usize * batch;
            if from >= clips.len() {
                return false;
            }
            (buffer.epoch, buffer.step) = (0, number);
            fill(&data, clips[from..clips.len().min(from + batch)].iter().copied(), buffer);
            true
        })
    }

    /// Starts the thread: `make` fills a buffer with batch number 0, 1, .. until it has no more.
    fn start(
        (batch, row_len): (usize, usize),
        steps_per_epoch: u64,
        mut make: impl FnMut(u64, &mut Batch) -> bool + Send + 'static,
    ) -> Result<Batches, DataError> {
        let (free, empty) = sync_channel::<Batch>(BUFFERS);
        let (full, ready) = sync_channel::<Batch>(BUFFERS);
        for _ in 0..BUFFERS {
            let inputs = vec![0.0; batch * row_len];
            let (labels, clips) = (vec![0.0; batch], Vec::with_capacity(batch));
            let buffer = Batch { inputs, labels, clips, valid: 0, epoch: 0, step: 0 };
            free.send(buffer).expect("the channel holds all buffers and its other end is in this function");
        }
        let work = move || {
            for (number, mut buffer) in empty.into_iter().enumerate() {
                if !make(number as u64, &mut buffer) || full.send(buffer).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("batches".into()).spawn(work);
        thread.map_err(|source| DataError::Thread { source })?;
        Ok(Batches { ready, free, current: None, steps_per_epoch })
    }

    /// The next batch, lent until the next call; nothing after the last one of an evaluation.
    pub fn next_batch(&mut self) -> Option<&Batch> {
        if let Some(used) = self.current.take() {
            // The thread ends before its buffers come back once an evaluation is through: then they are not needed.
            _ = self.free.send(used);
        }
        self.current = self.ready.recv().ok();
        self.current.as_ref()
    }

    /// Batches an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.steps_per_epoch
    }
}

fn clips_of(data: &Dataset, split: Split, batch: usize) -> Result<Vec<u32>, DataError> {
    if batch == 0 {
        return Err(DataError::BadSetting { what: "batch size", value: 0, min: 1, max: u64::from(u32::MAX) });
    }
    let clips = data.in_split(split);
    if clips.is_empty() { Err(DataError::EmptySplit { split }) } else { Ok(clips) }
}

/// Writes `clips`, at most as many as the buffer has rows, and zeros after them.
fn fill(data: &Dataset, clips: impl Iterator<Item = u32>, buffer: &mut Batch) {
    buffer.clips.clear();
    buffer.clips.extend(clips);
    buffer.valid = buffer.clips.len();
    if !buffer.inputs.is_empty() {
        let row_len = data.row_len();
        for (&clip, row) in buffer.clips.iter().zip(buffer.inputs.chunks_exact_mut(row_len)) {
            for (x, &sample) in row.iter_mut().zip(data.samples(clip as usize)) {
                *x = f32::from(sample) * FULL_SCALE;
            }
        }
        buffer.inputs[buffer.valid * row_len..].fill(0.0);
    }
    for (&clip, label) in buffer.clips.iter().zip(&mut buffer.labels) {
        *label = data.clips()[clip as usize].class as f32;
    }
    buffer.labels[buffer.valid..].fill(0.0);
}
