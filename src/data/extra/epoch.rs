//! Which clips an epoch of training uses.

use crate::base::rng::{Key, Stream};

use crate::data::dataset::Dataset;
use crate::data::samples::Samples;
use crate::data::split::Split;

/// The training clips of a data set, with those of other words that are drawn anew in each epoch.
#[derive(Clone, Debug)]
pub(in crate::data) struct EpochClips {
    always: Vec<u32>,
    unknown: Vec<u32>,
    per_epoch: usize,
    key: Key,
}

impl EpochClips {
    /// The training clips of `data`, drawn with `seed`.
    pub(in crate::data) fn new(data: &Dataset, seed: u64) -> EpochClips {
        let class = data.unknown_class();
        let is_unknown = |&clip: &u32| class == Some(data.clips()[clip as usize].class);
        let (unknown, always) = data.in_split(Split::Training).into_iter().partition(is_unknown);
        EpochClips { always, unknown, per_epoch: data.unknown_per_epoch(), key: Key::new(seed, Stream::Unknown) }
    }

    /// Clips of each epoch.
    pub(in crate::data) fn len(&self) -> usize {
        self.always.len() + self.per_epoch
    }

    /// Replaces the content of `clips` by the clips of an epoch: other words without repetition, in an order that depends on the epoch.
    pub(in crate::data) fn of(&self, epoch: u64, clips: &mut Vec<u32>) {
        clips.clear();
        clips.extend(&self.always);
        if self.per_epoch > 0 {
            // The coordinates of the fixed choice are those of the splits.
            let order = self.key.with(Split::ALL.len() as u64 + epoch).permutation(self.unknown.len());
            clips.extend(order.iter().take(self.per_epoch).map(|&i| self.unknown[i as usize]));
        }
    }
}

/// Memory for a clip, reused from clip to clip.
#[derive(Debug, Default)]
pub(in crate::data) struct ClipBuffers {
    segment: Vec<i16>,
    standardised: Vec<f32>,
}

impl Dataset {
    /// What is kept of clip number `clip` (or, without `kept`, its part that is used) in an epoch of a training with a seed, standardised if the data
    /// set is.
    pub(in crate::data) fn in_epoch<'a>(
        &'a self,
        (seed, epoch): (u64, u64),
        clip: u32,
        kept: bool,
        buffers: &'a mut ClipBuffers,
    ) -> Samples<'a> {
        let (clip, number) = (clip as usize, clip);
        let ClipBuffers { segment, standardised } = buffers;
        let samples = match self.silence() {
            Some(silence) if self.is_silence(clip) => {
                segment.resize(self.row_len(), 0);
                silence.of_epoch((seed, epoch), number, segment);
                Samples::I16(segment)
            }
            _ if kept => self.kept_samples(clip),
            _ => self.samples(clip),
        };
        let Some(standardisation) = self.standardisation() else { return samples };
        standardised.resize(samples.len(), 0.0);
        samples.write(standardised);
        // More than the part that is used is kept of a clip that is longer, without padding.
        let used = if samples.len() > self.row_len() { samples.len() } else { self.used_len(clip) };
        standardisation.apply(&mut standardised[..used]);
        Samples::F32(standardised)
    }

    /// Whether clip number `clip` is a segment of the class of silence, whose training segments differ from epoch to epoch.
    pub(in crate::data) fn is_silence(&self, clip: usize) -> bool {
        self.silence_class() == Some(self.clips()[clip].class)
    }
}
