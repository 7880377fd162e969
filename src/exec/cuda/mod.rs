//! Executes plans on a GPU: a list of kernel launches for each batch size, recorded as a CUDA graph and replayed in each step.
//!
//! Every buffer of a batch is in one arena, at `n` times its offset in the plan. The launches of the operations (`ops/device.rs`) are
//! resolved to addresses once (`launches.rs`) and recorded (`program.rs`); afterwards a run copies in the batch, replays the recording,
//! and copies out what is asked for. What changes from step to step arrives through the queue (`queue.rs`), and so do the clips (`clips.rs`):
//! several steps may be in the queue before the host reads the results of the first of them.

mod clips;
mod gpu;
mod launches;
mod program;
pub mod ptx;
mod queue;

pub use gpu::Gpu;

use super::error::DeviceError;
use super::measured::{Cost, Tally};
use super::update::{Rates, Update};
use crate::base::rng::Key;
use crate::graph::{BufferLoc, NodeId, Plan, Space};
use clips::Clips;
use cudarc::driver::{CudaSlice, DevicePtr, sys};
use gpu::{Region, refused};
use launches::Memory;
use program::Program;
use queue::{StepArgs, StepQueue};
use std::sync::Arc;

/// Device memory for numbers of one kind.
type Buffer = CudaSlice<f32>;

/// The memory and the recorded launches to execute a plan on a GPU. The first plan has the largest batch; plans of the same graph for
/// smaller batches can be added ([`Cuda::add_batch_size`]) and use the same weights.
pub struct Cuda {
    // The programs are dropped before the memory whose addresses they contain.
    programs: Vec<Program>,
    gpu: Arc<Gpu>,
    queue: StepQueue,
    /// Which program the last run used.
    last: usize,
    /// Which program has packed the current weights.
    packed: Option<usize>,
    /// The output of the plan's target node after a run.
    target: Vec<f32>,
    /// The optimiser, if steps train.
    adam: Option<AdamOnGpu>,
    /// The clips that the first input of a step is made of, and the value of the lowest bit of a sample; if steps take clips by number.
    clips: Option<(Clips, f32)>,
}

/// The state of Adam in GPU memory, and what the end of a step needs in addition.
struct AdamOnGpu {
    m: Buffer,
    v: Buffer,
    logits: NodeId,
    labels: usize,
    /// For each parameter whether it decays, if any does.
    decays: Option<CudaSlice<u8>>,
    clip: Option<ClipOnGpu>,
    /// The moving averages of parameters and state, if there are any.
    average: Option<[Buffer; 2]>,
}

/// What clipping of the gradient needs.
struct ClipOnGpu {
    /// The sums of the squares of the chunks of the gradient.
    sums: CudaSlice<f64>,
    /// What the gradient is multiplied by.
    scale: Buffer,
}

/// Numbers of a gradient whose squares one block sums.
const CLIP_CHUNK: usize = 16 * 1024;

impl AdamOnGpu {
    fn new(plan: &Plan, gpu: &Gpu, update: Update<'_>) -> Result<AdamOnGpu, DeviceError> {
        let Update { logits, labels, decayed, clip, average } = update;
        let params = plan.params_len;
        let decays = || {
            let mut decays = vec![0u8; params];
            decayed.iter().for_each(|range| decays[range.clone()].fill(1));
            gpu.stream().clone_htod(&decays).map_err(refused("take in data"))
        };
        let clipping = || {
            let sums =
                gpu.stream().alloc_zeros(params.div_ceil(CLIP_CHUNK).max(1)).map_err(refused("allocate memory"))?;
            Ok::<_, DeviceError>(ClipOnGpu { sums, scale: gpu.zeros(1)? })
        };
        Ok(AdamOnGpu {
            m: gpu.zeros(params)?,
            v: gpu.zeros(params)?,
            logits,
            labels,
            decays: if decayed.is_empty() { None } else { Some(decays()?) },
            clip: if clip { Some(clipping()?) } else { None },
            average: if average { Some([gpu.zeros(params)?, gpu.zeros(plan.state_len)?]) } else { None },
        })
    }
}

impl Cuda {
    /// Allocates what `plan`, which must be a plan for a GPU, needs on `gpu`.
    ///
    /// # Errors
    /// The memory does not suffice, or the driver refuses a kernel.
    ///
    /// # Panics
    /// If the plan is a plan for the CPU.
    pub fn new(plan: Arc<Plan>, gpu: Arc<Gpu>) -> Result<Cuda, DeviceError> {
        Cuda::with_labels(plan, gpu, None)
    }

    fn with_labels(plan: Arc<Plan>, gpu: Arc<Gpu>, labels: Option<usize>) -> Result<Cuda, DeviceError> {
        let label_size = labels.map_or(0, |k| plan.inputs[k].size());
        let queue = StepQueue::new(&gpu, plan.n, label_size)?;
        let memory = Memory::new(&plan, &gpu, queue.addresses(&gpu), labels)?;
        let programs = vec![Program::new(plan, &gpu, memory)?];
        gpu.finish()?;
        Ok(Cuda { programs, gpu, queue, last: 0, packed: None, target: Vec::new(), adam: None, clips: None })
    }

    /// An executor for training: each step ends with Adam's update, and with what `update` adds to it.
    ///
    /// # Errors
    /// Those of [`Cuda::new`].
    ///
    /// # Panics
    /// If the ranges of `update` are not ranges of parameters, or there is no such input.
    pub fn for_training(plan: Arc<Plan>, gpu: Arc<Gpu>, update: Update<'_>) -> Result<Cuda, DeviceError> {
        let mut cuda = Cuda::with_labels(plan, gpu, Some(update.labels))?;
        let adam = AdamOnGpu::new(cuda.plan(), &cuda.gpu, update)?;
        cuda.programs[0].train(&cuda.gpu, &adam)?;
        cuda.gpu.finish()?;
        cuda.adam = Some(adam);
        Ok(cuda)
    }

    /// Adds a plan of the same graph for batches of another size, which is at most that of the first plan. Runs and steps choose the plan
    /// by the size of their batch.
    ///
    /// # Errors
    /// The memory does not suffice, or the driver refuses a kernel.
    ///
    /// # Panics
    /// If the plan has a larger batch than the first, or is not of the same graph.
    pub fn add_batch_size(&mut self, plan: Arc<Plan>) -> Result<(), DeviceError> {
        let (gpu, first) = (&self.gpu, &self.programs[0]);
        assert!(plan.n <= first.plan.n, "the first plan has the largest batch");
        assert_eq!(
            (plan.params_len, plan.state_len, &plan.inputs, plan.work),
            (first.plan.params_len, first.plan.state_len, &first.plan.inputs, first.plan.work),
            "all plans are of one graph"
        );
        let memory = first.memory.for_batch(&plan, gpu)?;
        let mut program = Program::new(plan, gpu, memory)?;
        if let Some(adam) = &self.adam {
            program.train(gpu, adam)?;
        }
        if let Some((clips, scale)) = &self.clips {
            program.read_clips(gpu, clips, *scale)?;
        }
        gpu.finish()?;
        self.programs.push(program);
        Ok(())
    }

    /// Whether there is a plan for batches of `n`.
    pub fn has_batch_size(&self, n: usize) -> bool {
        self.programs.iter().any(|program| program.plan.n == n)
    }

    /// The plan of the largest batch.
    pub fn plan(&self) -> &Plan {
        &self.programs[0].plan
    }

    /// The GPU.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    fn memory(&self) -> &Memory {
        &self.programs[0].memory
    }

    /// Copies changed parameters and state to the GPU and packs the weights. Must be called before the first run and after every change.
    ///
    /// # Errors
    /// The GPU fails.
    ///
    /// # Panics
    /// If an array does not have the length that the plan requires.
    pub fn prepare(&mut self, params: &[f32], state: &[f32]) -> Result<(), DeviceError> {
        let (plan, memory) = (self.plan(), self.memory());
        assert_eq!((params.len(), state.len()), (plan.params_len, plan.state_len), "the weights are those of the plan");
        self.gpu.upload(Region::of(&memory.params, &self.gpu), params)?;
        self.gpu.upload(Region::of(&memory.state, &self.gpu), state)?;
        self.packed = None;
        self.pack(self.last)?;
        self.gpu.finish()
    }

    /// Packs the weights for program `number` unless it has done so since they last changed.
    fn pack(&mut self, number: usize) -> Result<(), DeviceError> {
        if self.packed != Some(number) {
            self.programs[number].pack(&self.gpu)?;
            self.packed = Some(number);
        }
        Ok(())
    }

    /// Copies the optimiser's moments to the GPU.
    ///
    /// # Errors
    /// The GPU fails.
    ///
    /// # Panics
    /// If an array does not have as many elements as there are parameters.
    pub fn set_moments(&mut self, m: &[f32], v: &[f32]) -> Result<(), DeviceError> {
        let Some(adam) = &self.adam else { return Ok(()) };
        let params = self.plan().params_len;
        assert_eq!((m.len(), v.len()), (params, params), "there is one moment of each kind for each parameter");
        self.gpu.upload(Region::of(&adam.m, &self.gpu), m)?;
        self.gpu.upload(Region::of(&adam.v, &self.gpu), v)?;
        self.gpu.finish()
    }

    /// Copies the moving averages of the parameters and the state to the GPU, if there are any.
    ///
    /// # Errors
    /// The GPU fails.
    ///
    /// # Panics
    /// If an array does not have the length that the plan requires.
    pub fn set_average(&mut self, params: &[f32], state: &[f32]) -> Result<(), DeviceError> {
        let Some([to_params, to_state]) = self.averages() else { return Ok(()) };
        assert_eq!((params.len(), state.len()), (self.plan().params_len, self.plan().state_len), "they are the plan's");
        self.gpu.upload(Region::of(to_params, &self.gpu), params)?;
        self.gpu.upload(Region::of(to_state, &self.gpu), state)?;
        self.gpu.finish()
    }

    /// Copies the moving averages of the parameters and the state to the host, if there are any.
    ///
    /// # Errors
    /// The GPU fails.
    ///
    /// # Panics
    /// If an array does not have the length that the plan requires.
    pub fn download_average(&self, params: &mut [f32], state: &mut [f32]) -> Result<(), DeviceError> {
        let Some([from_params, from_state]) = self.averages() else { return Ok(()) };
        assert_eq!((params.len(), state.len()), (self.plan().params_len, self.plan().state_len), "they are the plan's");
        self.gpu.download(params, Region::of(from_params, &self.gpu))?;
        self.gpu.download(state, Region::of(from_state, &self.gpu))
    }

    fn averages(&self) -> Option<&[Buffer; 2]> {
        self.adam.as_ref()?.average.as_ref()
    }

    /// Copies the parameters, the state and the optimiser's moments to the host.
    ///
    /// # Errors
    /// The GPU fails.
    ///
    /// # Panics
    /// If an array does not have the length that the plan requires.
    pub fn download(&self, params: &mut [f32], state: &mut [f32], moments: [&mut [f32]; 2]) -> Result<(), DeviceError> {
        let len = self.plan().params_len;
        assert_eq!(params.len(), len, "the parameters are those of the plan");
        self.gpu.download(params, Region::of(&self.memory().params, &self.gpu))?;
        self.state(state)?;
        let Some(adam) = &self.adam else { return Ok(()) };
        let [m, v] = moments;
        assert_eq!((m.len(), v.len()), (len, len), "there is one moment of each kind for each parameter");
        self.gpu.download(m, Region::of(&adam.m, &self.gpu))?;
        self.gpu.download(v, Region::of(&adam.v, &self.gpu))
    }

    /// Copies the state to the host.
    ///
    /// # Errors
    /// The GPU fails.
    ///
    /// # Panics
    /// If the array does not have the length that the plan requires.
    pub fn state(&self, state: &mut [f32]) -> Result<(), DeviceError> {
        assert_eq!(state.len(), self.plan().state_len, "the state is that of the plan");
        self.gpu.download(state, Region::of(&self.memory().state, &self.gpu))
    }

    /// Runs the plan on a batch, as [`Cpu::run`](super::Cpu::run) does, with the parameters and the state of the last call of
    /// [`Cuda::prepare`]; training changes the state in GPU memory.
    ///
    /// # Errors
    /// The GPU fails.
    ///
    /// # Panics
    /// If there is no plan for a batch of this size, or an input does not have the length that the plan requires.
    pub fn run(&mut self, inputs: &[&[f32]], draw: Key) -> Result<(), DeviceError> {
        assert_eq!(inputs.len(), self.plan().inputs.len(), "one array for each of the graph's inputs");
        let n = inputs.first().map_or(0, |input| input.len() / self.plan().inputs[0].size().max(1));
        let number = self.number(n);
        inputs.iter().enumerate().try_for_each(|(k, input)| self.upload_input(n, k, input))?;
        self.replay(number, &StepArgs { draw, rates: [0.0; 8], labels: &[], clips: &[] })?;
        let plan = &self.programs[number].plan;
        self.target = self.gather(plan.activations[plan.target().index()])?.unwrap_or_default();
        self.queue.discard(&self.gpu)
    }

    /// Puts a training step in the queue: runs the plan, and updates the parameters by Adam with these rates. If the loss is not finite, this step and those after it leave the parameters as they
    /// are. [`Cuda::wait`] returns the results.
    ///
    /// # Errors
    /// The GPU fails.
    ///
    /// # Panics
    /// If there is no plan for a batch of this size, the input does not have the length that the plan requires, or [`Cuda::queue_is_full`].
    pub fn submit(&mut self, input: &[f32], labels: &[f32], draw: Key, rates: Rates) -> Result<(), DeviceError> {
        assert!(self.clips.is_none(), "the input of a step is made of clips");
        let n = labels.len() / self.label_size();
        let number = self.number(n);
        self.upload_input(n, 0, input)?;
        self.replay(number, &StepArgs { draw, rates, labels, clips: &[] })
    }

    /// Makes the clips available by number for [`Cuda::submit_clips`]: `rows`, each as long as one sample of the first input. The
    /// input is a 16-bit sample times `scale`. All clips are copied to the GPU if its memory suffices; returns whether it does.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn upload_clips<'r>(
        &mut self,
        rows: impl ExactSizeIterator<Item = &'r [i16]>,
        scale: f32,
    ) -> Result<bool, DeviceError> {
        // Earlier clips make way for these.
        self.clips = None;
        let gpu = &self.gpu;
        let clips = Clips::new(gpu, rows, (self.plan().n, self.plan().inputs[0].size()))?;
        self.programs.iter_mut().try_for_each(|program| program.read_clips(gpu, &clips, scale))?;
        let all = clips.all();
        self.clips = Some((clips, scale));
        Ok(all)
    }

    /// Puts a training step in the queue as [`Cuda::submit`] does, on clips by number; `samples` returns those that are not in GPU memory.
    ///
    /// # Errors
    /// The GPU fails.
    ///
    /// # Panics
    /// If there is no plan for a batch of this size, there are no clips ([`Cuda::upload_clips`]), a clip number is out of range, or
    /// [`Cuda::queue_is_full`].
    pub fn submit_clips<'r>(
        &mut self,
        (clips, samples): (&[u32], impl Fn(u32) -> &'r [i16]),
        labels: &[f32],
        draw: Key,
        rates: Rates,
    ) -> Result<(), DeviceError> {
        assert_eq!(clips.len() * self.label_size(), labels.len(), "there is one label for each clip");
        let number = self.number(clips.len());
        let (uploaded, _) = self.clips.as_mut().expect("the clips were uploaded");
        let clips = &uploaded.stage_batch(&self.gpu, clips, samples)?;
        self.replay(number, &StepArgs { draw, rates, labels, clips })?;
        self.clips.iter().try_for_each(|(uploaded, _)| uploaded.reading(&self.gpu))
    }

    /// Waits for the steps in the queue, and returns their results in order, up to the first whose loss is not finite.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn wait(&mut self) -> Result<Vec<Tally>, DeviceError> {
        self.queue.wait(&self.gpu)
    }

    /// Whether the queue is so full that [`Cuda::wait`] must be called before the next step.
    pub fn queue_is_full(&self) -> bool {
        self.queue.full()
    }

    /// How many numbers the label of a sample has.
    fn label_size(&self) -> usize {
        self.adam.as_ref().map_or(1, |adam| self.plan().inputs[adam.labels].size())
    }

    /// The program for batches of `n`.
    fn number(&self, n: usize) -> usize {
        let number = self.programs.iter().position(|program| program.plan.n == n);
        number.expect("there is a plan for batches of this size")
    }

    /// Copies a batch of `n` samples of input number `k` of the graph to the GPU.
    fn upload_input(&self, n: usize, k: usize, input: &[f32]) -> Result<(), DeviceError> {
        assert_eq!(input.len(), n * self.plan().inputs[k].size(), "an input holds n samples of its shape");
        self.gpu.upload(self.memory().input_region(&self.gpu, k), input)
    }

    /// Puts the arguments of a step in the queue, and the recorded launches after them.
    fn replay(&mut self, number: usize, args: &StepArgs<'_>) -> Result<(), DeviceError> {
        self.pack(number)?;
        self.queue.send(&self.gpu, args)?;
        self.last = number;
        self.programs[number].replay(&self.gpu)
    }

    /// Seconds that each launch of a step takes by itself, median of `runs`, in their order, with the batch of the last run. The
    /// launches are repeated, so the parameters cannot be used afterwards.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn measure(&mut self, runs: usize) -> Result<Vec<(Cost, f64)>, DeviceError> {
        self.programs[self.last].measure_launches(&self.gpu, runs)
    }

    /// Seconds that a step takes with the batch of the last run, median of `runs`; NaN if there was no run.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn measure_step(&mut self, runs: usize) -> Result<f64, DeviceError> {
        self.programs[self.last].measure(&self.gpu, runs)
    }

    /// The mean over the batch of the target node's output, if it is one number for each sample: the loss. After [`Cuda::run`].
    pub fn loss(&self) -> f64 {
        self.target.iter().map(|&loss| f64::from(loss)).sum::<f64>() / self.programs[self.last].plan.n as f64
    }

    /// The target node's output for one sample. After [`Cuda::run`].
    pub fn target_of(&self, sample: usize) -> &[f32] {
        let len = self.target.len() / self.programs[self.last].plan.n;
        &self.target[sample * len..][..len]
    }

    /// A node's output after a run, `[n, l, c]`; none if the plan does not keep it.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn activation(&self, node: NodeId) -> Result<Option<Vec<f32>>, DeviceError> {
        self.gather(self.programs[self.last].plan.activations[node.index()])
    }

    /// The gradient of the mean loss with respect to a node's output; none if the plan does not keep it.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn gradient(&self, node: NodeId) -> Result<Option<Vec<f32>>, DeviceError> {
        self.gather(self.programs[self.last].plan.gradients[node.index()])
    }

    fn gather(&self, loc: BufferLoc) -> Result<Option<Vec<f32>>, DeviceError> {
        if loc.space != Space::Shard {
            return Ok(None);
        }
        let Program { plan, memory, .. } = &self.programs[self.last];
        let mut all = vec![0.0; plan.n * loc.len];
        self.gpu.download(&mut all, memory.region(&self.gpu, plan, loc))?;
        Ok(Some(all))
    }

    /// The gradient of the mean loss with respect to all parameters, in the order of the parameter arena.
    ///
    /// # Errors
    /// The GPU fails.
    pub fn parameter_gradients(&self) -> Result<Vec<f32>, DeviceError> {
        let mut all = vec![0.0; self.plan().params_len];
        self.gpu.download(&mut all, Region::of(&self.memory().dparams, &self.gpu))?;
        Ok(all)
    }
}

impl Drop for Cuda {
    /// Waits for copies that may still read memory of the host.
    fn drop(&mut self) {
        // An error was already returned to the caller that submitted the work, or concerns nobody any more.
        _ = self.clips.iter().try_for_each(|(clips, _)| clips.finish());
        _ = self.gpu.finish();
    }
}

/// The address of a buffer's first number.
fn address<T>(buffer: &CudaSlice<T>, gpu: &Gpu) -> sys::CUdeviceptr {
    buffer.device_ptr(gpu.stream()).0
}
