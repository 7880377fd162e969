//! Batches, prepared by threads before the training step needs them, in a fixed number of buffers that are reused.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::base::rng::{Key, Stream};

use super::augment::{AugmentWorkspace, Augmenter};
use super::dataset::Dataset;
use super::error::DataError;
use super::extra::{ClipBuffers, EpochClips};
use super::samples::Samples;
use super::split::Split;

/// Batches on their way, for each thread: one in use, one ready, one in the making.
const BUFFERS: usize = 3;
/// Threads of a step for each thread that augments clips: what one thread augments keeps about so many busy.
const STEP_THREADS: usize = 4;
/// Most threads that augment clips unless more are asked for.
const MAX_THREADS: usize = 8;

/// Clips as a network takes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[n, length, channels]`, full scale 1; rows beyond [`Batch::valid`] are zeros. Empty without [`BatchOptions::with_samples`].
    pub inputs: Vec<f32>,
    /// `[n]`: the class of each clip; or `[n, classes]`: the probability of each class, with [`BatchOptions::soft_labels`]. 0 beyond
    /// [`Batch::valid`].
    pub labels: Vec<f32>,
    /// Values of the label of a clip: 1, or the number of classes.
    pub label_len: usize,
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
        let rows = self.labels.len() / self.label_len.max(1);
        &self.inputs[..self.valid * (self.inputs.len() / rows.max(1))]
    }

    /// The labels of the rows that hold a clip, `[valid]` or `[valid, classes]`.
    pub fn valid_labels(&self) -> &[f32] {
        &self.labels[..self.valid * self.label_len]
    }
}

/// How training clips are put in batches.
#[derive(Clone, Debug)]
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
    /// Whether [`Batch::inputs`] is filled; a device that has all clips needs their numbers only. With [`BatchOptions::augment`] it always is.
    pub with_samples: bool,
    /// How each clip is altered; not at all if not given.
    pub augment: Option<Arc<Augmenter>>,
    /// Whether labels are probabilities of so many classes, at least those of the data set. They are 0 and 1 but for mixup, which needs them.
    pub soft_labels: Option<usize>,
    /// Threads that augment clips; if not given, one for every four threads of the pool from which [`Batches::train`] is called, at least one. Batches do not
    /// depend on it. Clips that are not augmented are copied by one thread.
    pub threads: Option<usize>,
}

impl BatchOptions {
    /// Batches of `batch` clips from the first epoch on, with samples.
    pub fn new(batch: usize, seed: u64) -> BatchOptions {
        BatchOptions {
            batch,
            seed,
            start: (0, 0),
            merge_single: false,
            with_samples: true,
            augment: None,
            soft_labels: None,
            threads: None,
        }
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

    /// Values of a label of the clips of `data`.
    fn label_len(&self, data: &Dataset) -> Result<usize, DataError> {
        let mixes = self.augment.as_ref().is_some_and(|augmenter| augmenter.augment().mixup > 0.0);
        match self.soft_labels {
            Some(have) if have < data.classes().len() => {
                Err(DataError::FewClasses { have, want: data.classes().len() })
            }
            Some(classes) => Ok(classes),
            None if mixes => Err(DataError::MixupLabels),
            None => Ok(1),
        }
    }

    fn loader_threads(&self) -> usize {
        let as_many_as_pay = || (rayon::current_num_threads() / STEP_THREADS).clamp(1, MAX_THREADS);
        match self.augment {
            None => 1,
            Some(_) => self.threads.map_or_else(as_many_as_pay, |threads| threads.max(1)),
        }
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
/// In training, the clips of an epoch and their order depend only on the seed and the epoch; the last batch of an epoch has the clips
/// that are left ([`EpochSteps`]), and epochs follow one another without end. In an evaluation the clips come once, in name order.
#[derive(Debug)]
pub struct Batches {
    /// The thread at index k makes the batches k, k + threads, k + 2 threads, ...
    loaders: Vec<Loader>,
    /// The loader of the next batch.
    next: usize,
    /// The batch in use, and its loader.
    current: Option<(usize, Batch)>,
    steps_per_epoch: u64,
}

/// A thread that makes batches.
#[derive(Debug)]
struct Loader {
    ready: Receiver<Batch>,
    free: SyncSender<Batch>,
}

/// Sizes of a batch.
#[derive(Clone, Copy)]
struct Sizes {
    rows: usize,
    row_len: usize, // 0 without samples
    label_len: usize,
}

impl Batches {
    /// Training batches. A stopped run continues with the same clips when it starts from the epoch and step it had reached.
    ///
    /// # Errors
    /// There are no training clips, the batch size is 0, the labels have fewer classes than the data set or are class numbers that mixup
    /// cannot mix, or no thread can be started.
    pub fn train(data: Arc<Dataset>, options: BatchOptions) -> Result<Batches, DataError> {
        clips_of(&data, Some(Split::Training), options.batch)?;
        let clips = EpochClips::new(&data, options.seed);
        let epoch = options.epoch(clips.len())?;
        let label_len = options.label_len(&data)?;
        let row_len = if options.with_samples || options.augment.is_some() { data.row_len() } else { 0 };
        let sizes = Sizes { rows: epoch.largest(), row_len, label_len };
        let (start_epoch, start_step) = options.start;
        let maker = || TrainingMaker {
            data: data.clone(),
            clips: clips.clone(),
            epoch,
            first: start_epoch.saturating_mul(epoch.count()).saturating_add(start_step),
            key: Key::new(options.seed, Stream::Shuffle),
            seed: options.seed,
            order: Order::default(),
            augmenter: options.augment.clone(),
            workspace: AugmentWorkspace::default(),
            buffers: ClipBuffers::default(),
            soft_labels: options.soft_labels.is_some(),
        };
        let makers = (0..options.loader_threads()).map(|_| {
            let mut maker = maker();
            move |number, buffer: &mut Batch| maker.make(number, buffer)
        });
        Batches::start(sizes, epoch.count(), makers.collect())
    }

    /// All clips of `split`, or of the whole data set without a split, once, in name order, in batches of `batch`; the last one
    /// is padded. Nothing is augmented.
    ///
    /// # Errors
    /// There are no such clips, `batch` is 0, or no thread can be started.
    pub fn eval(data: Arc<Dataset>, split: impl Into<Option<Split>>, batch: usize) -> Result<Batches, DataError> {
        let clips = clips_of(&data, split.into(), batch)?;
        let steps = clips.len().div_ceil(batch) as u64;
        let sizes = Sizes { rows: batch, row_len: data.row_len(), label_len: 1 };
        let make = move |number, buffer: &mut Batch| {
            let from = number as usize * batch;
            if from >= clips.len() {
                return false;
            }
            (buffer.epoch, buffer.step) = (0, number);
            let clips = clips[from..clips.len().min(from + batch)].iter().copied();
            fill((&data, clips), false, buffer, copy);
            true
        };
        Batches::start(sizes, steps, vec![make])
    }

    /// Starts a thread for each of `makers`, which fills a buffer with each batch that is its own until it has no more.
    fn start<M: FnMut(u64, &mut Batch) -> bool + Send + 'static>(
        sizes: Sizes,
        steps_per_epoch: u64,
        makers: Vec<M>,
    ) -> Result<Batches, DataError> {
        let count = makers.len() as u64;
        let loaders = makers
            .into_iter()
            .zip(0..)
            .map(|(mut make, first)| Loader::start(sizes, move |number, buffer| make(first + number * count, buffer)));
        Ok(Batches { loaders: loaders.collect::<Result<_, _>>()?, next: 0, current: None, steps_per_epoch })
    }

    /// The next batch, lent until the next call; nothing after the last one of an evaluation.
    pub fn next_batch(&mut self) -> Option<&Batch> {
        if let Some((loader, used)) = self.current.take() {
            // The thread ends before its buffers come back once an evaluation is through: then they are not needed.
            _ = self.loaders[loader].free.send(used);
        }
        let batch = self.loaders[self.next].ready.recv().ok()?;
        let (_, current) = self.current.insert((self.next, batch));
        self.next = (self.next + 1) % self.loaders.len();
        Some(current)
    }

    /// Batches an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.steps_per_epoch
    }
}

impl Loader {
    /// Starts the thread: `make` fills a buffer with the batches 0, 1, .. of this thread until it has no more.
    fn start(
        Sizes { rows, row_len, label_len }: Sizes,
        mut make: impl FnMut(u64, &mut Batch) -> bool + Send + 'static,
    ) -> Result<Loader, DataError> {
        let (free, empty) = sync_channel::<Batch>(BUFFERS);
        let (full, ready) = sync_channel::<Batch>(BUFFERS);
        for _ in 0..BUFFERS {
            let inputs = vec![0.0; rows * row_len];
            let (labels, clips) = (vec![0.0; rows * label_len], Vec::with_capacity(rows));
            let buffer = Batch { inputs, labels, label_len, clips, valid: 0, epoch: 0, step: 0 };
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
        Ok(Loader { ready, free })
    }
}

/// Makes training batches by number, in any order.
struct TrainingMaker {
    data: Arc<Dataset>,
    clips: EpochClips,
    epoch: EpochSteps,
    /// The number, counted over all epochs, of the step that batch 0 is for.
    first: u64,
    key: Key,
    seed: u64,
    order: Order,
    augmenter: Option<Arc<Augmenter>>,
    workspace: AugmentWorkspace,
    buffers: ClipBuffers,
    soft_labels: bool,
}

/// The clips of an epoch in their order.
#[derive(Default)]
struct Order {
    epoch: Option<u64>,
    clips: Vec<u32>,
    places: Vec<u32>, // in `clips`
}

impl TrainingMaker {
    fn make(&mut self, number: u64, buffer: &mut Batch) -> bool {
        let (at, steps) = (self.first.saturating_add(number), self.epoch.count());
        let (epoch, step) = (at / steps, at % steps);
        (buffer.epoch, buffer.step) = (epoch, step);
        if self.order.epoch != Some(epoch) {
            self.clips.of(epoch, &mut self.order.clips);
            self.key.with(epoch).permute(self.clips.len(), &mut self.order.places);
            self.order.epoch = Some(epoch);
        }
        let Order { clips, places, .. } = &self.order;
        let chosen = places[self.epoch.clips_of(step)].iter().map(|&i| clips[i as usize]);
        let (data, workspace, buffers) = (&self.data, &mut self.workspace, &mut self.buffers);
        let draw = (self.seed, epoch);
        let Some(augmenter) = &self.augmenter else {
            fill((data, chosen), self.soft_labels, buffer, |data, clip, row| match data.silence() {
                Some(_) => data.in_epoch(draw, clip, false, buffers).write(row),
                None => copy(data, clip, row),
            });
            return true;
        };
        fill((data, chosen), self.soft_labels, buffer, |data, clip, row| {
            let samples = data.in_epoch(draw, clip, augmenter.augment().random_crop, buffers);
            match (samples, data.is_silence(clip as usize)) {
                (Samples::I16(samples), false) => augmenter.apply(epoch, clip, samples, row, workspace),
                (Samples::F32(samples), false) => augmenter.apply(epoch, clip, samples, row, workspace),
                (Samples::I16(samples), true) => augmenter.apply_to_silence(epoch, clip, samples, row, workspace),
                (Samples::F32(samples), true) => augmenter.apply_to_silence(epoch, clip, samples, row, workspace),
            }
        });
        let rows = &mut buffer.inputs[..buffer.valid * data.row_len()];
        let labels = &mut buffer.labels[..buffer.valid * buffer.label_len];
        augmenter.mix((epoch, step), &buffer.clips, (rows, labels), workspace);
        true
    }
}

fn clips_of(data: &Dataset, split: Option<Split>, batch: usize) -> Result<Vec<u32>, DataError> {
    if batch == 0 {
        return Err(DataError::BadSetting { what: "batch size", value: 0, min: 1, max: u64::from(u32::MAX) });
    }
    let clips = split.map_or_else(|| (0..data.clips().len() as u32).collect(), |split| data.in_split(split));
    match split {
        _ if !clips.is_empty() => Ok(clips),
        Some(split) => Err(DataError::EmptySplit { split, grouping: data.grouping() }),
        None => Err(DataError::NoClips { data: data.source().into(), first: None }),
    }
}

/// Writes `clips`, at most as many as the buffer has rows, and zeros after them; `write` writes the row of a
/// clip.
fn fill(
    (data, clips): (&Dataset, impl Iterator<Item = u32>),
    soft_labels: bool,
    buffer: &mut Batch,
    mut write: impl FnMut(&Dataset, u32, &mut [f32]),
) {
    buffer.clips.clear();
    buffer.clips.extend(clips);
    buffer.valid = buffer.clips.len();
    if !buffer.inputs.is_empty() {
        let row_len = data.row_len();
        for (&clip, row) in buffer.clips.iter().zip(buffer.inputs.chunks_exact_mut(row_len)) {
            write(data, clip, row);
        }
        buffer.inputs[buffer.valid * row_len..].fill(0.0);
    }
    let classes = buffer.clips.iter().map(|&clip| data.clips()[clip as usize].class);
    if soft_labels {
        buffer.labels.fill(0.0);
        for (class, label) in classes.zip(buffer.labels.chunks_exact_mut(buffer.label_len)) {
            label[class as usize] = 1.0;
        }
    } else {
        classes.zip(&mut buffer.labels).for_each(|(class, label)| *label = class as f32);
        buffer.labels[buffer.valid..].fill(0.0);
    }
}

/// Writes a clip without altering it.
fn copy(data: &Dataset, clip: u32, row: &mut [f32]) {
    data.write_input(clip as usize, row);
}
