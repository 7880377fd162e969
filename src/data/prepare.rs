//! What every source has in common: blocks of files decoded on all threads, each clip measured and brought to
//! the length of a row.

use std::borrow::Cow;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::base::Name;
use crate::base::sha1::{Sha1, hex};

use super::clip::{Clip, ClipReader};
use super::error::{ClipError, ClipFault, DataError};
use super::source::Wanted;
use super::split::Split;

/// Files decoded between two reports of progress; with one-second clips a block is 8 MB.
pub(super) const BLOCK_CLIPS: usize = 256;
/// Largest file that can be a clip.
pub(super) const MAX_FILE_BYTES: u64 = 64 << 20;
/// Most values of a clip in a data set, channels counted: 17 minutes of 16 kHz mono.
const MAX_CLIP_VALUES: usize = 1 << 24;

/// What is known of a clip besides its samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ClipInfo {
    /// `word/file`.
    pub(super) name: Name,
    /// The split that the source itself gives it.
    pub(super) listed: Option<Split>,
    /// Frames after resampling, before cutting or padding.
    pub(super) len_samples: u64,
    pub(super) source_rate_hz: u32,
    pub(super) source_channels: u32,
    /// Largest magnitude, up to 32768.
    pub(super) peak: u16,
    /// Longest run of values at full scale.
    pub(super) clipped_run: u32,
    /// SHA-1 of the whole clip: equal in clips of equal samples.
    pub(super) fingerprint: String,
    /// Where its samples lie.
    pub(super) row: u32,
}

/// A clip ready to be stored: exactly one row of samples.
pub(super) struct Prepared {
    pub(super) info: ClipInfo,
    pub(super) samples: Vec<i16>,
}

/// A file before decoding.
pub(super) struct RawClip<'a> {
    pub(super) name: Name,
    pub(super) bytes: Result<Cow<'a, [u8]>, ClipFault>,
}

/// A clip, or why there is none.
pub(super) type Outcome = Result<Prepared, ClipError>;
/// Takes clip after clip.
pub(super) type Sink<'a> = &'a mut dyn FnMut(Outcome) -> Result<(), Stop>;

/// Why reading stopped: the source failed, or the place where clips are stored.
pub(super) enum Stop {
    Source(DataError),
    Store(std::io::Error),
}

impl From<DataError> for Stop {
    fn from(error: DataError) -> Stop {
        Stop::Source(error)
    }
}

/// Decodes a block on all threads; the outcomes stand in the order of `items`.
pub(super) fn decode_block<'a, T: Sync>(
    items: &'a [T],
    wanted: &Wanted<'_>,
    fetch: impl Fn(&'a T) -> RawClip<'a> + Sync,
) -> Vec<Outcome> {
    let reader = || ClipReader::new(wanted.format, MAX_CLIP_VALUES);
    let decode = |reader: &mut ClipReader, item: &'a T| {
        let raw = fetch(item);
        match raw.bytes.and_then(|bytes| reader.read(&bytes)) {
            Ok(clip) => Ok(prepare(raw.name, None, clip, wanted)),
            Err(fault) => Err(ClipError { name: raw.name, fault }),
        }
    };
    items.par_iter().map_init(reader, decode).collect()
}

/// Measures a clip, then cuts it or pads it with zeros at the end.
pub(super) fn prepare(name: Name, listed: Option<Split>, clip: Clip, wanted: &Wanted<'_>) -> Prepared {
    let Clip { mut samples, source_rate_hz, source_channels } = clip;
    let (mut peak, mut run, mut clipped_run) = (0, 0, 0);
    for &v in &samples {
        peak = peak.max(v.unsigned_abs());
        run = if v == i16::MAX || v == i16::MIN { run + 1 } else { 0 };
        clipped_run = clipped_run.max(run);
    }
    let info = ClipInfo {
        name,
        listed,
        len_samples: (samples.len() / wanted.format.channels as usize) as u64,
        source_rate_hz,
        source_channels,
        peak,
        clipped_run,
        fingerprint: fingerprint(&samples),
        row: 0,
    };
    samples.resize(wanted.row_len(), 0);
    Prepared { info, samples }
}

fn fingerprint(samples: &[i16]) -> String {
    hex(&Sha1::digest(bytemuck::cast_slice::<i16, u8>(samples)))
}
