//! Steps that all sources share: reading a file, decoding a block of files on all threads, measuring each clip, and
//! bringing it to the length of a row.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

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
pub(super) const MAX_CLIP_VALUES: usize = 1 << 24;

/// What is known of a clip besides its samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ClipInfo {
    /// `word/file`.
    pub(super) name: Name,
    /// The split that the source itself gives it.
    pub(super) listed: Option<Split>,
    /// Frames of the whole clip after resampling, before it is cut or padded.
    pub(super) len_samples: u64,
    pub(super) source_rate_hz: u32,
    pub(super) source_channels: u32,
    /// First frame of the part that is used.
    pub(super) start_sample: u64,
    /// Largest magnitude of the part that is used, up to 32768.
    pub(super) peak: u16,
    /// Longest run of values at full scale in the part that is used.
    pub(super) clipped_run: u32,
    /// SHA-1 of the whole decoded clip before it is cut: equal in clips of equal samples.
    pub(super) fingerprint: String,
    /// Number of its first row.
    pub(super) row: u32,
    /// Where the part that is used lies, if more is stored: in several rows, the last one padded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kept: Option<Kept>,
}

/// What is stored of a clip that is longer than a row, all numbers with channels counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Values before the part that is used.
    pub(super) offset: u64,
    /// Values in all; a row at least.
    pub(super) len: u64,
}

impl Kept {
    /// Whether what is stored contains the part that is used and, from row number `row` on, lies in `values` values.
    pub(super) fn fits(&self, row: u32, row_len: usize, values: usize) -> bool {
        let end = (u64::from(row)).checked_mul(row_len as u64).and_then(|start| start.checked_add(self.len));
        let used = self.offset.checked_add(row_len as u64);
        end.is_some_and(|end| end <= values as u64) && used.is_some_and(|used| used <= self.len)
    }
}

/// A clip ready to be stored: exactly one row of samples, or several if more than the part that is used is kept.
pub(super) struct Prepared {
    pub(super) info: ClipInfo,
    pub(super) samples: Vec<i16>,
}

/// A file before decoding.
pub(super) struct RawClip<'a> {
    pub(super) name: Name,
    pub(super) bytes: Result<Cow<'a, [u8]>, ClipFault>,
}

/// A sound file in memory: its name and bytes, or why it cannot be read.
pub(super) type SoundFile = (Name, Result<Vec<u8>, ClipFault>);
/// A clip, or why there is none.
pub(super) type Outcome = Result<Prepared, ClipError>;
/// Takes clip after clip.
pub(super) type Sink<'a> = &'a mut dyn FnMut(Outcome) -> Result<(), Stop>;

/// Why reading stopped: the source failed, or the cache or memory that receives the clips.
pub(super) enum Stop {
    Source(DataError),
    Store(std::io::Error),
}

impl From<DataError> for Stop {
    fn from(error: DataError) -> Stop {
        Stop::Source(error)
    }
}

/// Decodes a block on all threads; the outcomes are in the order of `items`.
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

/// Cuts a clip or pads it with zeros at the end, and measures the part that is used.
pub(super) fn prepare(name: Name, listed: Option<Split>, clip: Clip, wanted: &Wanted<'_>) -> Prepared {
    let Clip { samples: whole, source_rate_hz, source_channels } = clip;
    let channels = wanted.format.channels as usize;
    let frames = wanted.crop.frames(&whole, wanted.format.channels, wanted.length);
    let fingerprint = fingerprint(&whole);
    let len_samples = (whole.len() / channels) as u64;
    let (peak, clipped_run) = peak_and_clipped_run(&whole[frames.start * channels..frames.end * channels]);
    let stored = stored_frames(&frames, whole.len() / channels, wanted);
    let kept = (stored != frames).then(|| Kept {
        offset: ((frames.start - stored.start) * channels) as u64,
        len: (stored.len() * channels) as u64,
    });
    let mut samples = whole;
    samples.truncate(stored.end * channels);
    samples.drain(..stored.start * channels);
    samples.resize(stored.len().div_ceil(wanted.length).max(1) * wanted.row_len(), 0);
    let start_sample = frames.start as u64;
    let info = ClipInfo {
        name,
        listed,
        len_samples,
        source_rate_hz,
        source_channels,
        start_sample,
        peak,
        clipped_run,
        fingerprint,
        row: 0,
        kept,
    };
    Prepared { info, samples }
}

/// The largest magnitude, and the longest run of values at full scale.
pub(super) fn peak_and_clipped_run(samples: &[i16]) -> (u16, u32) {
    let (mut peak, mut run, mut clipped_run) = (0, 0, 0);
    for &v in samples {
        peak = peak.max(v.unsigned_abs());
        run = if v == i16::MAX || v == i16::MIN { run + 1 } else { 0 };
        clipped_run = clipped_run.max(run);
    }
    (peak, clipped_run)
}

/// The frames of a clip of `have` frames that are stored: `used`, and around it as much as is wanted.
pub(super) fn stored_frames(used: &Range<usize>, have: usize, wanted: &Wanted<'_>) -> Range<usize> {
    let len = wanted.windows.saturating_mul(wanted.length).min(have);
    if len <= used.len() {
        return used.clone();
    }
    let start = used.start.saturating_sub((len - used.len()) / 2).min(have - len);
    start..start + len
}

/// Files that threads of this process are reading at the moment.
static OPEN_FILES: Mutex<usize> = Mutex::new(0);
/// Notified when one of them is closed.
static FILE_CLOSED: Condvar = Condvar::new();

/// How long a thread waits before it tries again to open a file.
const SHORT_WAIT: Duration = Duration::from_millis(10);
/// How long it waits in all if no file of this process can be closed.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// A file that counts among [`OPEN_FILES`].
struct CountedFile {
    file: File, // closed before it is no longer counted
    _count: Count,
}

struct Count;

impl CountedFile {
    /// Opens a file. If the system has no file descriptor left, waits until another thread has closed its file, and for
    /// [`LONGEST_WAIT`] if this process reads no other file.
    fn open(path: &Path) -> io::Result<CountedFile> {
        let mut waited = Duration::ZERO;
        loop {
            let result = File::open(path);
            let mut open = OPEN_FILES.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(file) => {
                    *open += 1;
                    return Ok(CountedFile { file, _count: Count });
                }
                Err(e) if lacks_descriptors(&e) && waited < LONGEST_WAIT => {
                    // A file can be opened but not counted yet, or be closed before the lock was taken: the wait is short.
                    waited = if *open > 0 { Duration::ZERO } else { waited + SHORT_WAIT };
                    _ = FILE_CLOSED.wait_timeout(open, SHORT_WAIT);
                }
                Err(e) => return Err(e),
            }
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        *OPEN_FILES.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FILE_CLOSED.notify_one();
    }
}

/// Whether a file could not be opened because too many are open, in the process (EMFILE) or in the system (ENFILE).
fn lacks_descriptors(error: &io::Error) -> bool {
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}

/// The bytes of a file of at most [`MAX_FILE_BYTES`]; `size` is a hint for the first allocation.
pub(super) fn read_file(path: &Path, size: u64) -> Result<Vec<u8>, ClipFault> {
    let mut bytes = Vec::with_capacity(size.min(1 << 20) as usize + 1);
    let read = CountedFile::open(path).and_then(|file| (&file.file).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Err(e) => Err(ClipFault::Unreadable { reason: e.to_string() }),
        Ok(n) if n as u64 > MAX_FILE_BYTES => Err(ClipFault::FileTooLarge { limit_mib: MAX_FILE_BYTES >> 20 }),
        Ok(_) => Ok(bytes),
    }
}

/// SHA-1 of samples.
pub(super) fn fingerprint(samples: &[i16]) -> String {
    hex(&Sha1::digest(bytemuck::cast_slice::<i16, u8>(samples)))
}
