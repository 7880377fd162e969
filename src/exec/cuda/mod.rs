//! Floor 4. Runs a plan on a GPU: one list of kernel launches, recorded as a CUDA graph and played again each step.
//!
//! The memory is the plan's: every buffer of a batch stands in one arena, at `n` times its offset. The ops' launches
//! (`ops/device.rs`) are resolved to addresses once; afterwards a run copies in the batch, plays the graph, and copies out
//! what is asked for. What changes from step to step (key of random numbers, learning rates) lies in device memory.

#![allow(unsafe_code)] // reason: a recorded graph may change threads

mod gpu;
mod launches;
pub mod ptx;

pub use gpu::Gpu;

use super::error::DeviceError;
use super::measured::{Cost, Tally};
use crate::base::rng::Key;
use crate::graph::{NodeId, Place, Plan, Space};
use cudarc::driver::{CudaEvent, CudaGraph, CudaSlice, DevicePtr, sys};
use gpu::refused;
use launches::{Call, Memory};
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
    learns: Option<Learns>,
    /// The recordings, if the GPU holds them.
    held: Option<Held>,
}

/// All recordings as 16-bit samples, and those of the next batch by number. Steps make their first input of them.
struct Held {
    rows: CudaSlice<i16>,
    batch: CudaSlice<i32>,
    gather: Call,
}

/// A recorded step. Played from whichever thread holds the executor, one at a time.
struct Graph(CudaGraph);

// SAFETY: a graph may be played from any thread as long as no two use it at once; it is reached only through `&mut Cuda`.
unsafe impl Send for Graph {}

/// What a step of training adds to a run.
struct Learns {
    update: Vec<Call>,
    m: Buffer,
    v: Buffer,
    /// Sum of the losses, and clips that were recognised.
    tally: Buffer,
    /// The five rates of Adam's step.
    rates: Buffer,
}

/// Megabytes that recordings leave free: for evaluations, and for others on the GPU.
const LEFT_FREE_MB: u64 = 2048;

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
        let memory = Memory::new(&plan, &gpu)?;
        let prepare = launches::resolved(plan.preparing_launches(), &plan, &gpu, &memory)?;
        let run = launches::resolved(
            plan.launches().into_iter().chain(plan.finishing_launches()).collect(),
            &plan,
            &gpu,
            &memory,
        )?;
        gpu.finish()?;
        Ok(Cuda { graph: None, plan, gpu, memory, prepare, run, target: Vec::new(), learns: None, held: None })
    }

    /// The same for training: each step ends with Adam's update. `logits` and the labels, the graph's input number
    /// `labels`, say which samples were recognised.
    pub fn for_training(plan: Arc<Plan>, gpu: Arc<Gpu>, logits: NodeId, labels: usize) -> Result<Cuda, DeviceError> {
        let mut cuda = Cuda::new(plan, gpu)?;
        let gpu = cuda.gpu.clone();
        let zeros = |len: usize| launches::zeros(&gpu, len);
        let len = cuda.plan.params_len;
        let mut learns =
            Learns { update: Vec::new(), m: zeros(len)?, v: zeros(len)?, tally: zeros(2)?, rates: zeros(5)? };
        let [m, v, tally, rates] =
            [&learns.m, &learns.v, &learns.tally, &learns.rates].map(|buffer| address(buffer, &gpu));
        learns.update = launches::update(&cuda.plan, &gpu, &cuda.memory, (logits, labels), [m, v, tally, rates])?;
        gpu.finish()?;
        cuda.learns = Some(learns);
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

    /// Takes over changed parameters and state: packs weights. Must be called before the first run and after every change.
    pub fn prepare(&mut self, params: &[f32], state: &[f32]) -> Result<(), DeviceError> {
        self.gpu.upload(address(&self.memory.params, &self.gpu), params)?;
        self.gpu.upload(address(&self.memory.state, &self.gpu), state)?;
        self.prepare.iter().try_for_each(|call| call.launch(&self.gpu))?;
        self.gpu.finish()
    }

    /// Takes over the optimiser's moments.
    pub fn set_moments(&mut self, m: &[f32], v: &[f32]) -> Result<(), DeviceError> {
        let Some(learns) = &self.learns else { return Ok(()) };
        self.gpu.upload(address(&learns.m, &self.gpu), m)?;
        self.gpu.upload(address(&learns.v, &self.gpu), v)?;
        self.gpu.finish()
    }

    /// Gives the parameters, the state and the optimiser's moments as they are now.
    pub fn fetch(&self, params: &mut [f32], state: &mut [f32], moments: [&mut [f32]; 2]) -> Result<(), DeviceError> {
        self.gpu.download(params, address(&self.memory.params, &self.gpu))?;
        self.state(state)?;
        let Some(learns) = &self.learns else { return Ok(()) };
        let [m, v] = moments;
        self.gpu.download(m, address(&learns.m, &self.gpu))?;
        self.gpu.download(v, address(&learns.v, &self.gpu))
    }

    /// Gives the state as it is now.
    pub fn state(&self, state: &mut [f32]) -> Result<(), DeviceError> {
        self.gpu.download(state, address(&self.memory.state, &self.gpu))
    }

    /// Runs the plan on a batch, as [`Cpu::run`](super::Cpu::run) does, with the parameters and the state last prepared;
    /// training changes the state there.
    pub fn run(&mut self, inputs: &[&[f32]], draw: Key) -> Result<(), DeviceError> {
        self.play(&inputs.iter().map(|&input| Some(input)).collect::<Vec<_>>(), draw)?;
        self.target = self.gather(self.plan.activations[self.plan.target().index()])?.unwrap_or_default();
        Ok(())
    }

    /// A step of training: runs the plan, and updates the parameters by Adam with these rates, see
    /// [`Adam::rates`](crate::optim::Adam). If the loss is not finite, the parameters stay as they are.
    pub fn step(&mut self, inputs: &[&[f32]], draw: Key, rates: [f32; 5]) -> Result<Tally, DeviceError> {
        assert!(self.held.is_none(), "the clips of a step are those that the GPU holds");
        self.learn(&inputs.iter().map(|&input| Some(input)).collect::<Vec<_>>(), draw, rates)
    }

    fn learn(&mut self, inputs: &[Option<&[f32]>], draw: Key, rates: [f32; 5]) -> Result<Tally, DeviceError> {
        let learns = self.learns.as_ref().expect("made for training");
        let tally = address(&learns.tally, &self.gpu);
        self.gpu.upload(address(&learns.rates, &self.gpu), &rates)?;
        self.play(inputs, draw)?;
        let mut sums = [0.0f32; 2];
        self.gpu.download(&mut sums, tally)?;
        Ok(Tally { loss: f64::from(sums[0]), correct: sums[1] as u64 })
    }

    /// Takes `rows`, each as long as a sample of the first input, into the GPU's memory, if that leaves enough: then [`Cuda::step_held`] needs only
    /// their numbers. A sample times `scale` is the input's number. Whether it was done.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn hold<'r>(
        &mut self,
        rows: impl ExactSizeIterator<Item = &'r [i16]>,
        scale: f32,
    ) -> Result<bool, DeviceError> {
        let length = self.plan.inputs[0].size();
        let (free, _) = self.gpu.memory()?;
        if (2 * rows.len() * length) as u64 + (LEFT_FREE_MB << 20) > free as u64 {
            return Ok(false);
        }
        let stream = self.gpu.stream();
        let held: CudaSlice<i16> =
            stream.alloc_zeros((rows.len() * length).max(1)).map_err(refused("hold the clips"))?;
        let batch: CudaSlice<i32> = stream.alloc_zeros(self.plan.n).map_err(refused("hold the clips"))?;
        for (i, row) in rows.enumerate() {
            assert_eq!(row.len(), length, "a recording is as long as the network hears");
            self.gpu.upload(address(&held, &self.gpu) + (2 * i * length) as u64, row)?;
        }
        let addresses =
            [address(&held, &self.gpu), address(&batch, &self.gpu), address(&self.memory.inputs[0], &self.gpu)];
        let gather = launches::gather(&self.gpu, addresses, (self.plan.n, length), scale)?;
        self.gpu.finish()?;
        self.held = Some(Held { rows: held, batch, gather });
        // The recorded steps do not begin with it.
        self.graph = None;
        Ok(true)
    }

    /// A step of training as [`Cuda::step`], on recordings that the GPU holds, by number; `labels` is the second input.
    ///
    /// # Panics
    /// If none are held, a number is none of theirs, or there are fewer than a batch.
    pub fn step_held(
        &mut self,
        clips: &[u32],
        labels: &[f32],
        draw: Key,
        rates: [f32; 5],
    ) -> Result<Tally, DeviceError> {
        let held = self.held.as_ref().expect("recordings are held");
        let length = self.plan.inputs[0].size();
        assert!(
            clips.len() == self.plan.n && clips.iter().all(|&clip| (clip as usize + 1) * length <= held.rows.len())
        );
        self.gpu.upload(address(&held.batch, &self.gpu), clips)?;
        self.learn(&[None, Some(labels)], draw, rates)
    }

    /// Copies the batch in, and plays the recorded launches; the first time, records them.
    /// An input that is none is there already, or made by the launches.
    fn play(&mut self, inputs: &[Option<&[f32]>], draw: Key) -> Result<(), DeviceError> {
        assert_eq!(inputs.len(), self.plan.inputs.len(), "one array for each of the graph's inputs");
        for (k, (input, shape)) in inputs.iter().zip(&self.plan.inputs).enumerate() {
            let Some(input) = input else { continue };
            assert_eq!(input.len(), self.plan.n * shape.size(), "an input holds n samples of its shape");
            self.gpu.upload(address(&self.memory.inputs[k], &self.gpu), input)?;
        }
        self.gpu.upload(address(&self.memory.draw, &self.gpu), &[draw.value()])?;
        if self.graph.is_none() {
            self.graph = Some(self.record()?);
        }
        match &self.graph {
            Some(Graph(graph)) => graph.launch().map_err(refused("play its launches")),
            None => Ok(()),
        }
    }

    fn record(&self) -> Result<Graph, DeviceError> {
        let stream = self.gpu.stream();
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).map_err(refused("record its launches"))?;
        let update = self.learns.iter().flat_map(|learns| &learns.update);
        // The packed weights of the next step are made at the end of this one.
        let again = if self.learns.is_some() { &self.prepare[..] } else { &[] };
        let gather = self.held.iter().map(|held| &held.gather);
        let calls = gather.chain(&self.run).chain(update).chain(again);
        let launched = self.launch_side_by_side(calls);
        let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0)).map_err(refused("record its launches"));
        launched?;
        let nothing = || DeviceError::Driver { doing: "record its launches".into(), reason: "there are none".into() };
        Ok(Graph(graph?.ok_or_else(nothing)?))
    }

    /// Seconds that each launch of a step takes by itself, median of `runs`, in their order. The batch and the parameters are those of the last
    /// run, and are no use afterwards: the launches are repeated.
    pub fn measure(&mut self, runs: usize) -> Result<Vec<(Cost, f64)>, DeviceError> {
        let update = self.learns.iter().flat_map(|learns| &learns.update);
        let again = if self.learns.is_some() { &self.prepare[..] } else { &[] };
        let gather = self.held.iter().map(|held| &held.gather);
        let calls = gather.chain(&self.run).chain(update).chain(again);
        calls
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
            if call.aside {
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

    fn gather(&self, place: Place) -> Result<Option<Vec<f32>>, DeviceError> {
        if place.space != Space::Part {
            return Ok(None);
        }
        let mut all = vec![0.0; self.plan.n * place.len];
        self.gpu.download(&mut all, self.memory.address(&self.gpu, &self.plan, place))?;
        Ok(Some(all))
    }

    /// The gradient of the mean loss with respect to all parameters, in the order of the parameter arena.
    pub fn parameter_gradients(&self) -> Result<Vec<f32>, DeviceError> {
        let mut all = vec![0.0; self.plan.params_len];
        self.gpu.download(&mut all, address(&self.memory.dparams, &self.gpu))?;
        Ok(all)
    }
}

/// The address of a buffer's first number.
fn address<T>(buffer: &CudaSlice<T>, gpu: &Gpu) -> sys::CUdeviceptr {
    buffer.device_ptr(gpu.stream()).0
}
