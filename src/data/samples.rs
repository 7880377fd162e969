//! The samples of a data set: 16-bit sound, or the numbers of arrays as they are.

use std::ops::Range;
use std::path::PathBuf;

use crate::base::FULL_SCALE;

use super::cache::Rows;

/// A number that clips consist of: `i16` for sound, whose full scale is 32768, or `f32` for arrays, whose values are those of the network's input.
pub trait Sample: Copy + Send + Sync + private::Sealed + 'static {
    /// The factor that turns it into a number of the network's input.
    const SCALE: f32;

    /// The number before that factor.
    fn value(self) -> f32;

    /// The first of the `length` consecutive frames of `samples` (`[frames, channels]`, more than `length` of them) with the largest energy.
    fn loudest(samples: &[Self], channels: usize, length: usize) -> usize;
}

mod private {
    pub trait Sealed {}
    impl Sealed for i16 {}
    impl Sealed for f32 {}
}

impl Sample for i16 {
    const SCALE: f32 = FULL_SCALE;

    fn value(self) -> f32 {
        self.into()
    }

    /// The energies are exact integers, so the result depends on no order of summation.
    fn loudest(samples: &[i16], channels: usize, length: usize) -> usize {
        let energy = |frame: &[i16]| frame.iter().map(|&v| (i64::from(v) * i64::from(v)) as u64).sum::<u64>();
        let frames = samples.chunks_exact(channels);
        let mut sum: u64 = frames.clone().take(length).map(energy).sum();
        let (mut best, mut start) = (sum, 0);
        for (first, (old, new)) in frames.clone().zip(frames.skip(length)).enumerate() {
            sum = sum + energy(new) - energy(old);
            if sum > best {
                (best, start) = (sum, first + 1);
            }
        }
        start
    }
}

impl Sample for f32 {
    const SCALE: f32 = 1.0;

    fn value(self) -> f32 {
        self
    }

    fn loudest(samples: &[f32], channels: usize, length: usize) -> usize {
        let energy = |frame: &[f32]| frame.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
        let frames = samples.chunks_exact(channels);
        let mut sum: f64 = frames.clone().take(length).map(energy).sum();
        let (mut best, mut start) = (sum, 0);
        for (first, (old, new)) in frames.clone().zip(frames.skip(length)).enumerate() {
            sum += energy(new) - energy(old);
            if sum > best {
                (best, start) = (sum, first + 1);
            }
        }
        start
    }
}

/// Samples of a clip, `[frames, channels]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Samples<'a> {
    /// Of sound, full scale 32768.
    I16(&'a [i16]),
    /// Of arrays, as they are.
    F32(&'a [f32]),
}

impl<'a> Samples<'a> {
    /// How many numbers there are.
    pub fn len(&self) -> usize {
        match self {
            Samples::I16(samples) => samples.len(),
            Samples::F32(samples) => samples.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The samples of sound; none for those of arrays.
    pub fn as_i16(&self) -> Option<&'a [i16]> {
        match *self {
            Samples::I16(samples) => Some(samples),
            Samples::F32(_) => None,
        }
    }

    /// Writes the samples as a network takes them to `input`, as far as it goes.
    pub fn write(&self, input: &mut [f32]) {
        match self {
            Samples::I16(samples) => write(samples, input),
            Samples::F32(samples) => write(samples, input),
        }
    }
}

fn write<T: Sample>(samples: &[T], input: &mut [f32]) {
    input.iter_mut().zip(samples).for_each(|(x, &sample)| *x = sample.value() * T::SCALE);
}

/// The rows of all clips, one after another.
#[derive(Debug)]
pub(super) enum Held {
    I16(Rows),
    F32(Vec<f32>),
}

impl Held {
    /// The samples in a range of values.
    pub(super) fn get(&self, range: Range<usize>) -> Samples<'_> {
        match self {
            Held::I16(rows) => Samples::I16(&rows[range]),
            Held::F32(values) => Samples::F32(&values[range]),
        }
    }
}

/// Rows of clips.
#[derive(Debug)]
pub(super) struct Bank {
    pub(super) rows: Held,
    /// The folder that they come from, and the length of what the names of its clips begin with; none for those of the source of the data set.
    pub(super) folder: Option<(PathBuf, usize)>,
}

impl Bank {
    /// The rows of the clips of a folder whose names have `prefix` bytes before the path in the folder.
    pub(super) fn of_folder(rows: Rows, folder: PathBuf, prefix: usize) -> Bank {
        Bank { rows: Held::I16(rows), folder: Some((folder, prefix)) }
    }

    /// The rows of segments that are in no file of their own.
    pub(super) fn of_segments(rows: Vec<i16>) -> Bank {
        Bank { rows: Held::I16(Rows::Decoded(rows)), folder: None }
    }
}
