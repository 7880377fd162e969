//! The launches of one plan, recorded as a CUDA graph that each step replays.

#![allow(unsafe_code)] // reason: a recorded graph may move to another thread

use super::AdamOnGpu;
use super::clips::Clips;
use super::gpu::{Gpu, refused};
use super::launches::{self, Call, Memory};
use crate::exec::error::DeviceError;
use crate::exec::measured::Cost;
use crate::graph::Plan;
use cudarc::driver::{CudaEvent, CudaGraph, sys};
use std::collections::VecDeque;
use std::sync::Arc;

/// A recorded step. Replayed from whichever thread owns the executor, one replay at a time.
struct Recording(CudaGraph);

// SAFETY: a graph may be launched from any thread as long as no two threads use it at once; it is reached only through `&mut Program`.
unsafe impl Send for Recording {}

/// Launches, or steps, between two time stamps, so that a short one's time is not that of its launch.
const REPEATS: usize = 10;

/// A plan with its launches.
pub(super) struct Program {
    // Dropped before the memory whose addresses it contains.
    recording: Option<Recording>,
    pub plan: Arc<Plan>,
    /// Makes the first input of clips.
    gather: Option<Call>,
    run: Vec<Call>,
    /// Counts correct predictions and updates the parameters.
    update: Vec<Call>,
    /// Packs the weights.
    prepare: Vec<Call>,
    pub memory: Memory,
}

impl Program {
    /// Resolves the launches of `plan` to addresses in `memory`.
    pub fn new(plan: Arc<Plan>, gpu: &Gpu, memory: Memory) -> Result<Program, DeviceError> {
        let prepare = launches::resolved(plan.preparing_launches(), &plan, gpu, &memory)?;
        let run = plan.launches().into_iter().chain(plan.finishing_launches()).collect();
        let run = launches::resolved(run, &plan, gpu, &memory)?;
        Ok(Program { recording: None, plan, gather: None, run, update: Vec::new(), prepare, memory })
    }

    /// Makes each step end with Adam's update.
    pub fn train(&mut self, gpu: &Gpu, adam: &AdamOnGpu) -> Result<(), DeviceError> {
        self.update = launches::update(&self.plan, gpu, &self.memory, adam)?;
        self.recording = None;
        Ok(())
    }

    /// Makes each step begin with the copy of its clips to the first input.
    pub fn read_clips(&mut self, gpu: &Gpu, clips: &Clips, scale: f32) -> Result<(), DeviceError> {
        let addresses = [clips.rows(gpu), self.memory.queue.clips(), self.memory.input(gpu, 0)];
        let shape = (self.plan.n, self.plan.inputs[0].size());
        self.gather = Some(launches::gather(gpu, addresses, shape, scale)?);
        self.recording = None;
        Ok(())
    }

    /// Packs the weights.
    pub fn pack(&self, gpu: &Gpu) -> Result<(), DeviceError> {
        self.prepare.iter().try_for_each(|call| call.launch(gpu))
    }

    /// The launches of a step in their order. A training step packs the weights for the next step at its end.
    fn calls(&self) -> impl Iterator<Item = &Call> {
        let pack = if self.update.is_empty() { &[] } else { &self.prepare[..] };
        self.gather.iter().chain(&self.run).chain(&self.update).chain(pack)
    }

    /// Puts a step on the stream; the first time, records it.
    pub fn replay(&mut self, gpu: &Gpu) -> Result<(), DeviceError> {
        if self.recording.is_none() {
            self.recording = Some(self.record(gpu)?);
        }
        match &self.recording {
            Some(Recording(graph)) => graph.launch().map_err(refused("launch its recorded step")),
            None => Ok(()),
        }
    }

    fn record(&self, gpu: &Gpu) -> Result<Recording, DeviceError> {
        let doing = "record the launches of a step";
        let stream = gpu.stream();
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).map_err(refused(doing))?;
        let launched = launch_all(gpu, self.calls());
        let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0)).map_err(refused(doing));
        launched?;
        let nothing = || DeviceError::Driver { doing: doing.into(), reason: "there are none".into() };
        Ok(Recording(graph?.ok_or_else(nothing)?))
    }

    /// See [`Cuda::measure`](super::Cuda::measure).
    pub fn measure_launches(&self, gpu: &Gpu, runs: usize) -> Result<Vec<(Cost, f64)>, DeviceError> {
        self.calls()
            .map(|call| {
                let many = || (0..REPEATS).try_for_each(|_| call.launch(gpu));
                Ok((call.cost.clone(), timed(gpu, runs, many)? / REPEATS as f64))
            })
            .collect()
    }

    /// See [`Cuda::measure_step`](super::Cuda::measure_step).
    pub fn measure(&self, gpu: &Gpu, runs: usize) -> Result<f64, DeviceError> {
        let Some(Recording(graph)) = &self.recording else { return Ok(f64::NAN) };
        let many = || (0..REPEATS).try_for_each(|_| graph.launch()).map_err(refused("launch its recorded step"));
        Ok(timed(gpu, runs, many)? / REPEATS as f64)
    }
}

/// Launches in their order on the stream; concurrent ones on the second stream, after everything before them, until the end of the
/// next step, for which the plan keeps their buffers.
fn launch_all<'c>(gpu: &Gpu, calls: impl Iterator<Item = &'c Call>) -> Result<(), DeviceError> {
    let (stream, side) = (gpu.stream(), gpu.side());
    let refused = refused("order its launches");
    // By step, until the step after the next waits for it.
    let mut running: VecDeque<(usize, CudaEvent)> = VecDeque::new();
    for call in calls {
        while let Some((at, done)) = running.front()
            && call.at.saturating_sub(*at) > 1
        {
            stream.wait(done).map_err(&refused)?;
            running.pop_front();
        }
        if call.concurrent {
            let ready = stream.record_event(None).map_err(&refused)?;
            side.wait(&ready).map_err(&refused)?;
            call.launch_on(side)?;
            running.push_back((call.at, side.record_event(None).map_err(&refused)?));
        } else {
            call.launch(gpu)?;
        }
    }
    running.iter().try_for_each(|(_, done)| stream.wait(done)).map_err(refused)
}

/// The median time between two events around `work`.
fn timed(gpu: &Gpu, runs: usize, work: impl Fn() -> Result<(), DeviceError>) -> Result<f64, DeviceError> {
    let stream = gpu.stream();
    let refused = refused("measure the time");
    let event = || stream.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).map_err(&refused);
    work()?;
    let mut seconds = Vec::with_capacity(runs);
    for _ in 0..runs.max(1) {
        let start = event()?;
        work()?;
        let end = event()?;
        let ms = start.elapsed_ms(&end).map_err(&refused)?;
        seconds.push(f64::from(ms) / 1e3);
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}
