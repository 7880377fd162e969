//! Batches, prepared by a thread ahead of the training step, in buffers that go round.

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
    /// `[n, length, channels]`, full scale 1; rows beyond [`Batch::valid`] are zeros. Empty where [`Batches::numbers`] were asked for.
    pub inputs: Vec<f32>,
    /// `[n]`: the class of each clip; 0 beyond [`Batch::valid`].
    pub labels: Vec<f32>,
    /// The numbers of the clips in the data set, one a valid row.
    pub clips: Vec<u32>,
    /// Rows that hold a clip: all in training, fewer in the last batch of an evaluation.
    pub valid: usize,
    /// The epoch, from 0.
    pub epoch: u64,
    /// The step within the epoch, from 0.
    pub step: u64,
}

/// Batch after batch of one split.
///
/// In training the clips of an epoch come in an order that depends on the seed and the epoch alone, the short last batch
/// is dropped, and epochs follow one another without end. In an evaluation they come once, in name order.
#[derive(Debug)]
pub struct Batches {
    ready: Receiver<Batch>,
    free: SyncSender<Batch>,
    current: Option<Batch>,
    steps_per_epoch: u64,
}

impl Batches {
    /// Training batches of `batch` clips from `(epoch, step)` on, so that a stopped run goes on with the same clips.
    /// A step beyond the epoch's last counts on into the next epoch.
    ///
    /// # Errors
    /// There are no training clips or fewer than a batch, `batch` is 0, or no thread can be started.
    pub fn train(data: Arc<Dataset>, batch: usize, seed: u64, start: (u64, u64)) -> Result<Batches, DataError> {
        let row_len = data.row_len();
        Batches::training(data, (batch, row_len), seed, start)
    }

    /// The same without the samples: for a device that holds all clips and needs their numbers only.
    ///
    /// # Errors
    /// Those of [`Batches::train`].
    pub fn numbers(data: Arc<Dataset>, batch: usize, seed: u64, start: (u64, u64)) -> Result<Batches, DataError> {
        Batches::training(data, (batch, 0), seed, start)
    }

    fn training(
        data: Arc<Dataset>,
        (batch, row_len): (usize, usize),
        seed: u64,
        start: (u64, u64),
    ) -> Result<Batches, DataError> {
        let clips = clips_of(&data, Split::Training, batch)?;
        let steps = (clips.len() / batch) as u64;
        if steps == 0 {
            return Err(DataError::BatchTooLarge { batch, clips: clips.len() });
        }
        let first = start.0.saturating_mul(steps).saturating_add(start.1);
        let key = Key::new(seed, Stream::Shuffle);
        let mut order: (Option<u64>, Vec<u32>) = (None, Vec::new());
        Batches::start((batch, row_len), steps, move |number, buffer| {
            let at = first.saturating_add(number);
            (buffer.epoch, buffer.step) = (at / steps, at % steps);
            if order.0 != Some(buffer.epoch) {
                order = (Some(buffer.epoch), key.with(buffer.epoch).permutation(clips.len()));
            }
            let from = buffer.step as usize * batch;
            let chosen = order.1[from..from + batch].iter().map(|&i| clips[i as usize]);
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

/// Writes `clips`, at most as many as the buffer has rows, and zeros behind them.
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
