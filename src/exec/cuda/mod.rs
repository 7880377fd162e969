//! Runs a plan on a GPU: one list of kernel launches, recorded as a CUDA graph and replayed each step.
//!
//! The memory is the plan's: every buffer of a batch stands in one arena, at `n` times its offset. The ops' launches
//! (`ops/device.rs`) are resolved to addresses once; afterwards a run copies in the batch, plays the graph, and copies out
//! what is asked for. What changes from step to step comes with an order (`queue.rs`), and so do the recordings (`clips.rs`): several steps may
//! be under way before the host reads what the first of them did.

#![allow(unsafe_code)] // reason: a recorded graph may change threads

mod clips;
mod gpu;
mod launches;
pub mod ptx;
mod queue;

pub use gpu::Gpu;

use super::error::DeviceError;
use super::measured::{Cost, Tally};
use crate::base::rng::Key;
use crate::graph::{BufferLoc, NodeId, Plan, Space};
use clips::Clips;
use cudarc::driver::{CudaEvent, CudaGraph, CudaSlice, DevicePtr, sys};
use gpu::{Region, refused};
use launches::{Call, Memory};
use queue::StepArgs;
use std::collections::VecDeque;
use std::sync::Arc;

/// Numbers of `f32` that belong together: a device buffer.
type Buffer = CudaSlice<f32>;

/// A plan with the memory of a GPU to run it.
pub struct Cuda {
    // First, so that it goes before the memory whose addresses it holds.
    graph: Option<Graph>,
    plan: Arc<Plan>,
    gpu: Arc<Gpu>,
    memory: Memory,
    prepare: Vec<Call>,
    run: Vec<Call>,
    /// The plan's target after a run.
    target: Vec<f32>,
    /// Whether runs learn: then Adam and what it needs.
    update: Option<Update>,
    /// If steps make their first input of recordings: those, and the launch that does it.
    clips: Option<(Clips, Call)>,
}

/// A recorded step. Played from whichever thread holds the executor, one at a time.
struct Graph(CudaGraph);

// SAFETY: a graph may be played from any thread as long as no two use it at once; it is reached only through `&mut Cuda`.
unsafe impl Send for Graph {}

/// What a step of training adds to a run.
struct Update {
    update: Vec<Call>,
    m: Buffer,
    v: Buffer,
}

/// Launches, or steps, between two looks at the clock, so that a short one's time is not that of its launch.
const REPEATS: usize = 10;

impl Cuda {
    /// Allocates what `plan`, which must be one for a GPU, needs on `gpu`.
    ///
    /// # Errors
    /// The memory does not suffice, or the driver refuses a kernel.
    ///
    /// # Panics
    /// If the plan is one for the processor.
    pub fn new(plan: Arc<Plan>, gpu: Arc<Gpu>) -> Result<Cuda, DeviceError> {
        Cuda::with_labels(plan, gpu, None)
    }

    fn with_labels(plan: Arc<Plan>, gpu: Arc<Gpu>, labels: Option<usize>) -> Result<Cuda, DeviceError> {
        let memory = Memory::new(&plan, &gpu, labels)?;
        let prepare = launches::resolved(plan.preparing_launches(), &plan, &gpu, &memory)?;
        let run = plan.launches().into_iter().chain(plan.finishing_launches()).collect();
        let run = launches::resolved(run, &plan, &gpu, &memory)?;
        gpu.finish()?;
        Ok(Cuda { graph: None, plan, gpu, memory, prepare, run, target: Vec::new(), update: None, clips: None })
    }

    /// The same for training: each step ends with Adam's update. `logits` and the labels, the graph's input number
    /// `labels`, say which samples were recognised.
    pub fn for_training(plan: Arc<Plan>, gpu: Arc<Gpu>, logits: NodeId, labels: usize) -> Result<Cuda, DeviceError> {
        let mut cuda = Cuda::with_labels(plan, gpu, Some(labels))?;
        let Cuda { plan, gpu, memory, .. } = &cuda;
        let [m, v] = [gpu.zeros(plan.params_len)?, gpu.zeros(plan.params_len)?];
        let update = launches::update(plan, gpu, memory, (logits, labels), [address(&m, gpu), address(&v, gpu)])?;
        gpu.finish()?;
        cuda.update = Some(Update { update, m, v });
        Ok(cuda)
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The GPU.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Copies changed parameters and state to the GPU and packs the weights. It must be called before the first run and after every
    /// change.
    ///
    /// # Panics
    /// If the arrays do not have the plan's lengths.
    pub fn prepare(&mut self, params: &[f32], state: &[f32]) -> Result<(), DeviceError> {
        self.check_lens(params, state);
        self.gpu.upload(Region::of(&self.memory.params, &self.gpu), params)?;
        self.gpu.upload(Region::of(&self.memory.state, &self.gpu), state)?;
        self.prepare.iter().try_for_each(|call| call.launch(&self.gpu))?;
        self.gpu.finish()
    }

    /// Copies the optimiser's moments to the GPU; a plan that does not train has none.
    ///
    /// # Panics
    /// If the arrays do not have the parameters' length.
    pub fn set_moments(&mut self, m: &[f32], v: &[f32]) -> Result<(), DeviceError> {
        let Some(update) = &self.update else { return Ok(()) };
        assert!([m.len(), v.len()] == [self.plan.params_len; 2], "every parameter has two moments");
        self.gpu.upload(Region::of(&update.m, &self.gpu), m)?;
        self.gpu.upload(Region::of(&update.v, &self.gpu), v)?;
        self.gpu.finish()
    }

    /// Copies the parameters, the state and the optimiser's moments from the GPU, as they are now. A plan that does not train leaves
    /// the moments as they are.
    ///
    /// # Panics
    /// If the arrays do not have the plan's lengths.
    pub fn download(&self, params: &mut [f32], state: &mut [f32], moments: [&mut [f32]; 2]) -> Result<(), DeviceError> {
        self.check_lens(params, state);
        self.gpu.download(params, Region::of(&self.memory.params, &self.gpu))?;
        self.state(state)?;
        let Some(update) = &self.update else { return Ok(()) };
        let [m, v] = moments;
        assert!([m.len(), v.len()] == [self.plan.params_len; 2], "every parameter has two moments");
        self.gpu.download(m, Region::of(&update.m, &self.gpu))?;
        self.gpu.download(v, Region::of(&update.v, &self.gpu))
    }

    /// Copies the state from the GPU, as it is now.
    ///
    /// # Panics
    /// If `state` does not have the plan's length.
    pub fn state(&self, state: &mut [f32]) -> Result<(), DeviceError> {
        assert_eq!(state.len(), self.plan.state_len, "the length of the state is the plan's");
        self.gpu.download(state, Region::of(&self.memory.state, &self.gpu))
    }

    fn check_lens(&self, params: &[f32], state: &[f32]) {
        let expected = [self.plan.params_len, self.plan.state_len];
        assert_eq!([params.len(), state.len()], expected, "the lengths of parameters and state are the plan's");
    }

    /// Runs the plan on a batch, as [`Cpu::run`](super::Cpu::run) does, with the parameters and the state last prepared;
    /// training changes the state there.
    pub fn run(&mut self, inputs: &[&[f32]], draw: Key) -> Result<(), DeviceError> {
        assert_eq!(inputs.len(), self.plan.inputs.len(), "one array for each of the graph's inputs");
        inputs.iter().enumerate().try_for_each(|(k, input)| self.upload_input(k, input))?;
        self.replay(&StepArgs { draw, rates: [0.0; 5], labels: &[], clips: &[] })?;
        self.target = self.gather(self.plan.activations[self.plan.target().index()])?.unwrap_or_default();
        self.memory.queue.discard(&self.gpu)
    }

    /// Puts a step of training on its way: runs the plan, and updates the parameters by Adam with these rates, see
    /// [`Adam::rates`](crate::optim::Adam::rates). If the loss is not finite, this and the steps behind it leave the parameters as they are.
    /// [`Cuda::wait`] tells what it did.
    ///
    /// # Panics
    /// If the arrays have not the batch's length, or too many steps are under way, [`Cuda::queue_is_full`].
    pub fn submit(&mut self, input: &[f32], labels: &[f32], draw: Key, rates: [f32; 5]) -> Result<(), DeviceError> {
        assert!(self.clips.is_none(), "the input of a step is made of recordings");
        assert_eq!(labels.len(), self.plan.n, "a step takes a batch");
        self.upload_input(0, input)?;
        self.replay(&StepArgs { draw, rates, labels, clips: &[] })
    }

    /// Has steps make their first input of recordings, [`Cuda::submit_clips`]: `rows`, each as long as a sample of it. A 16-bit sample times
    /// `scale` is the input's number. The GPU takes them all in if its memory suffices. Whether it does.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn upload_clips<'r>(
        &mut self,
        rows: impl ExactSizeIterator<Item = &'r [i16]>,
        scale: f32,
    ) -> Result<bool, DeviceError> {
        // What was held before makes room.
        self.clips = None;
        let (gpu, shape) = (&self.gpu, (self.plan.n, self.plan.inputs[0].size()));
        let clips = Clips::new(gpu, rows, shape)?;
        let addresses = [clips.rows(gpu), self.memory.queue.clips(gpu), self.memory.input(gpu, 0).address()];
        let gather = launches::gather(gpu, addresses, shape, scale)?;
        let all = clips.all();
        self.clips = Some((clips, gather));
        // The recorded steps do not begin with it.
        self.graph = None;
        Ok(all)
    }

    /// As [`Cuda::submit`], on recordings by number; `samples` gives those that the GPU does not hold.
    ///
    /// # Panics
    /// As there; without [`Cuda::upload_clips`], or if a number is none of theirs.
    pub fn submit_clips<'r>(
        &mut self,
        (clips, samples): (&[u32], impl Fn(u32) -> &'r [i16]),
        labels: &[f32],
        draw: Key,
        rates: [f32; 5],
    ) -> Result<(), DeviceError> {
        assert!(clips.len() == self.plan.n && labels.len() == self.plan.n, "a step takes a batch");
        let (held, _) = self.clips.as_mut().expect("recordings are held");
        let clips = &held.stage_batch(&self.gpu, clips, samples)?;
        self.replay(&StepArgs { draw, rates, labels, clips })?;
        self.clips.iter().try_for_each(|(held, _)| held.reading(&self.gpu))
    }

    /// Waits for the steps under way: what each of them did, in their order, up to the first whose loss is not finite.
    pub fn wait(&mut self) -> Result<Vec<Tally>, DeviceError> {
        self.memory.queue.wait(&self.gpu)
    }

    /// Whether so many steps are under way that they must be settled before the next.
    pub fn queue_is_full(&self) -> bool {
        self.memory.queue.full()
    }

    /// Copies a batch of the graph's input number `k` in.
    fn upload_input(&self, k: usize, input: &[f32]) -> Result<(), DeviceError> {
        assert_eq!(input.len(), self.plan.n * self.plan.inputs[k].size(), "an input holds n samples of its shape");
        self.gpu.upload(self.memory.input(&self.gpu, k), input)
    }

    /// Sends the order, and plays the recorded launches; the first time, records them.
    fn replay(&mut self, args: &StepArgs<'_>) -> Result<(), DeviceError> {
        self.memory.queue.send(&self.gpu, args)?;
        if self.graph.is_none() {
            self.graph = Some(self.record()?);
        }
        match &self.graph {
            Some(Graph(graph)) => graph.launch().map_err(refused("play its launches")),
            None => Ok(()),
        }
    }

    /// The launches of a step in their order; the packed weights of the next step of training are made at its end.
    fn calls(&self) -> impl Iterator<Item = &Call> {
        let gather = self.clips.iter().map(|(_, gather)| gather);
        let update = self.update.iter().flat_map(|update| &update.update);
        let repack = if self.update.is_some() { &self.prepare[..] } else { &[] };
        gather.chain(&self.run).chain(update).chain(repack)
    }

    fn record(&self) -> Result<Graph, DeviceError> {
        let stream = self.gpu.stream();
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).map_err(refused("record its launches"))?;
        let launched = self.launch_side_by_side(self.calls());
        let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0)).map_err(refused("record its launches"));
        launched?;
        let nothing = || DeviceError::Driver { doing: "record its launches".into(), reason: "there are none".into() };
        Ok(Graph(graph?.ok_or_else(nothing)?))
    }

    /// Seconds that each launch of a step takes by itself, median of `runs`, in their order. The batch and the parameters are those of the last
    /// run, and are no use afterwards: the launches are repeated.
    pub fn measure(&mut self, runs: usize) -> Result<Vec<(Cost, f64)>, DeviceError> {
        self.calls()
            .map(|call| {
                let many = || (0..REPEATS).try_for_each(|_| call.launch(&self.gpu));
                Ok((call.cost.clone(), self.timed(runs, many)? / REPEATS as f64))
            })
            .collect()
    }

    /// Seconds that a step takes, median of `runs`, with the batch of the last run, which must have been one.
    pub fn measure_step(&mut self, runs: usize) -> Result<f64, DeviceError> {
        let Some(Graph(graph)) = &self.graph else { return Ok(f64::NAN) };
        let many = || (0..REPEATS).try_for_each(|_| graph.launch()).map_err(refused("play its launches"));
        Ok(self.timed(runs, many)? / REPEATS as f64)
    }

    /// The median time between two events around `work`.
    fn timed(&self, runs: usize, work: impl Fn() -> Result<(), DeviceError>) -> Result<f64, DeviceError> {
        let stream = self.gpu.stream();
        let event =
            || stream.record_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT)).map_err(refused("tell the time"));
        work()?;
        let mut seconds = Vec::with_capacity(runs);
        for _ in 0..runs.max(1) {
            let start = event()?;
            work()?;
            let end = event()?;
            let ms = start.elapsed_ms(&end).map_err(refused("tell the time"))?;
            seconds.push(f64::from(ms) / 1e3);
        }
        seconds.sort_by(f64::total_cmp);
        Ok(seconds[seconds.len() / 2])
    }

    /// Launches in their order on the stream; those that may run aside on the other one, from where everything before them is done until the
    /// next step is, whose buffers the plan keeps apart.
    fn launch_side_by_side<'c>(&self, calls: impl Iterator<Item = &'c Call>) -> Result<(), DeviceError> {
        let (stream, side) = (self.gpu.stream(), self.gpu.side());
        let fork = refused("order its launches");
        // By step, until the one after the next waits for it.
        let mut beside: VecDeque<(usize, CudaEvent)> = VecDeque::new();
        for call in calls {
            while let Some((at, done)) = beside.front()
                && call.at.saturating_sub(*at) > 1
            {
                stream.wait(done).map_err(&fork)?;
                beside.pop_front();
            }
            if call.concurrent {
                let ready = stream.record_event(None).map_err(&fork)?;
                side.wait(&ready).map_err(&fork)?;
                call.launch_on(side)?;
                beside.push_back((call.at, side.record_event(None).map_err(&fork)?));
            } else {
                call.launch(&self.gpu)?;
            }
        }
        beside.iter().try_for_each(|(_, done)| stream.wait(done)).map_err(fork)
    }

    /// The mean over the batch of the target node's output, if it is one number a sample: the loss. After [`Cuda::run`].
    pub fn loss(&self) -> f64 {
        self.target.iter().map(|&loss| f64::from(loss)).sum::<f64>() / self.plan.n as f64
    }

    /// One sample of the target node's output. After [`Cuda::run`].
    pub fn target_of(&self, sample: usize) -> &[f32] {
        let len = self.target.len() / self.plan.n;
        &self.target[sample * len..][..len]
    }

    /// A node's output after a run, `[n, l, c]`; none if the plan does not keep it.
    pub fn activation(&self, node: NodeId) -> Result<Option<Vec<f32>>, DeviceError> {
        self.gather(self.plan.activations[node.index()])
    }

    /// The gradient of the mean loss with respect to a node's output; none if the plan does not keep it.
    pub fn gradient(&self, node: NodeId) -> Result<Option<Vec<f32>>, DeviceError> {
        self.gather(self.plan.gradients[node.index()])
    }

    fn gather(&self, loc: BufferLoc) -> Result<Option<Vec<f32>>, DeviceError> {
        if loc.space != Space::Shard {
            return Ok(None);
        }
        let mut all = vec![0.0; self.plan.n * loc.len];
        self.gpu.download(&mut all, self.memory.region(&self.gpu, &self.plan, loc))?;
        Ok(Some(all))
    }

    /// The gradient of the mean loss with respect to all parameters, in the order of the parameter arena.
    pub fn parameter_gradients(&self) -> Result<Vec<f32>, DeviceError> {
        let mut all = vec![0.0; self.plan.params_len];
        self.gpu.download(&mut all, Region::of(&self.memory.dparams, &self.gpu))?;
        Ok(all)
    }
}

impl Drop for Cuda {
    /// Copies may still read memory of the host.
    fn drop(&mut self) {
        // An error has been told by whoever asked for work, or concerns nobody any more.
        _ = self.clips.iter().try_for_each(|(clips, _)| clips.finish());
        _ = self.gpu.finish();
    }
}

/// The address of a buffer's first number.
fn address<T>(buffer: &CudaSlice<T>, gpu: &Gpu) -> sys::CUdeviceptr {
    buffer.device_ptr(gpu.stream()).0
}
