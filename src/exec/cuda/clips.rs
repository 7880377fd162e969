//! The clips of training steps, as 16-bit samples: all of them in GPU memory if they fit, otherwise those of two batches, which are copied
//! through page-locked memory while the previous step is executed.

#![allow(unsafe_code)] // reason: copies from page-locked memory continue after the call

use super::address;
use super::gpu::{Gpu, Region, refused};
use crate::exec::error::DeviceError;
use cudarc::driver::{CudaEvent, CudaSlice, CudaStream, PinnedHostSlice, sys};
use std::sync::Arc;

/// Bytes of GPU memory that clips leave free, for evaluations and for other programs.
const LEFT_FREE: usize = 2 << 30;

/// The clips, or two batches of them, in GPU memory.
pub(super) struct Clips {
    rows: CudaSlice<i16>,
    length: usize,
    /// None if all clips are in GPU memory.
    streaming: Option<Streaming>,
}

/// Buffers for two batches: a step reads one while the other is copied.
struct Streaming {
    stream: Arc<CudaStream>,
    buffers: [StagingBuffer; 2],
    /// The index of the buffer for the next batch.
    next: usize,
    /// The largest number of clips in a batch.
    n: usize,
}

struct StagingBuffer {
    host: PinnedHostSlice<i16>,
    /// Recorded after the copy of `host` to GPU memory.
    copied: CudaEvent,
    /// Recorded after the step that reads this copy.
    read: CudaEvent,
}

impl Clips {
    /// Copies `rows` of `length` samples to the GPU if enough memory remains free, otherwise allocates memory for two batches of `n`.
    pub fn new<'r>(
        gpu: &Gpu,
        rows: impl ExactSizeIterator<Item = &'r [i16]>,
        (n, length): (usize, usize),
    ) -> Result<Clips, DeviceError> {
        let (free, _) = gpu.memory()?;
        let fit = 2 * rows.len() * length + LEFT_FREE <= free;
        let count = if fit { rows.len() } else { 2 * n };
        let held = gpu.stream().alloc_zeros((count * length).max(1)).map_err(refused("hold the clips"))?;
        let mut clips = Clips { rows: held, length, streaming: None };
        if fit {
            for (i, row) in rows.enumerate() {
                assert_eq!(row.len(), length, "a recording is as long as the input of the network");
                gpu.upload(clips.rows_from(gpu, i, 1), row)?;
            }
        } else {
            let buffer = || {
                let [copied, read] = [gpu.event()?, gpu.event()?];
                Ok(StagingBuffer { host: gpu.page_locked(n * length)?, copied, read })
            };
            clips.streaming =
                Some(Streaming { stream: gpu.another_stream()?, buffers: [buffer()?, buffer()?], next: 0, n });
        }
        // Copies on another stream must not start before the memory is initialised.
        gpu.finish()?;
        Ok(clips)
    }

    /// Whether all clips are in GPU memory.
    pub fn all(&self) -> bool {
        self.streaming.is_none()
    }

    /// The address of the first row.
    pub fn rows(&self, gpu: &Gpu) -> sys::CUdeviceptr {
        address(&self.rows, gpu)
    }

    /// `count` rows from row `first` on.
    fn rows_from<'b>(&'b self, gpu: &Gpu, first: usize, count: usize) -> Region<'b> {
        Region::of(&self.rows, gpu).part::<i16>(first * self.length, count * self.length)
    }

    /// Makes the clips with these numbers available to the next step, and returns the row of each. `samples` returns the samples of a clip.
    ///
    /// # Panics
    /// If a clip number is out of range.
    pub fn stage_batch<'r>(
        &mut self,
        gpu: &Gpu,
        clips: &[u32],
        samples: impl Fn(u32) -> &'r [i16],
    ) -> Result<Vec<u32>, DeviceError> {
        let wait = refused("pass clips on");
        let Some(Streaming { stream, buffers, next, n }) = &mut self.streaming else {
            let held = self.rows.len() / self.length.max(1);
            assert!(clips.iter().all(|&clip| (clip as usize) < held), "the clip numbers are those of uploaded clips");
            return Ok(clips.to_vec());
        };
        let StagingBuffer { host, copied, read } = &mut buffers[*next];
        copied.synchronize().map_err(&wait)?;
        let host = &mut gpu.host(host)?[..clips.len() * self.length];
        for (&clip, row) in clips.iter().zip(host.chunks_exact_mut(self.length.max(1))) {
            row.copy_from_slice(samples(clip));
        }
        stream.wait(read).map_err(&wait)?;
        let first = *next * *n;
        let rows = Region::of(&self.rows, gpu).part::<i16>(first * self.length, clips.len() * self.length);
        // SAFETY: `host` lives until the executor has waited for this stream, and is not written before `copied` has happened.
        unsafe { gpu.upload_later(stream, rows, host) }?;
        copied.record(stream).map_err(&wait)?;
        gpu.stream().wait(copied).map_err(&wait)?;
        *next = 1 - *next;
        Ok((first as u32..).take(clips.len()).collect())
    }

    /// Records an event after the step that reads the last staged batch; called when this step is on the stream.
    pub fn reading(&self, gpu: &Gpu) -> Result<(), DeviceError> {
        let Some(Streaming { buffers, next, .. }) = &self.streaming else { return Ok(()) };
        buffers[1 - next].read.record(gpu.stream()).map_err(refused("pass clips on"))
    }

    /// Waits for all copies.
    pub fn finish(&self) -> Result<(), DeviceError> {
        let Some(Streaming { stream, .. }) = &self.streaming else { return Ok(()) };
        stream.synchronize().map_err(refused("pass clips on"))
    }
}
