//! The launches of the operations with device addresses: the location of each operand of each node in device memory.

#![allow(unsafe_code)] // reason: kernels take addresses

use super::gpu::{Gpu, Region, refused};
use super::queue::QueueAddresses;
use super::{AdamOnGpu, Buffer, CLIP_CHUNK, ClipOnGpu, address, ptx};
use crate::base::Shape;
use crate::exec::error::DeviceError;
use crate::exec::measured::Cost;
use crate::graph::{BufferLoc, LaunchGroup, Lowered, Plan, PlannedLaunch, Space};
use crate::ops::device::{Argument, Launch, Operand};
use cudarc::driver::{CudaFunction, CudaSlice, CudaStream, DriverError, result, sys};
use std::ffi::c_void;
use std::ops::Range;
use std::sync::Arc;

/// The device memory of one plan. Plans of one graph for different batch sizes have the weights, the inputs and, where it is large enough,
/// the arena in common.
pub(super) struct Memory {
    arena: Arc<Buffer>,
    scratch: Arc<Buffer>,
    /// Packed weights and statistics; where each node's are.
    batch_saved: Buffer,
    batch_saved_of: Vec<Range<usize>>,
    pub params: Arc<Buffer>,
    pub dparams: Arc<Buffer>,
    pub state: Arc<Buffer>,
    inputs: Arc<Vec<Buffer>>,
    pub queue: QueueAddresses,
    /// The input that arrives through the queue, if there is one.
    labels: Option<usize>,
}

/// A multiple of 64 bytes, so that vector loads of neighbouring buffers stay aligned.
const LINE: usize = 16;

/// So many numbers of anything.
fn unset(gpu: &Gpu, len: usize) -> Result<Arc<Buffer>, DriverError> {
    // SAFETY: every number of an arena is written by the step that makes it before another step reads it; the plan's order is that of the stream.
    unsafe { gpu.stream().alloc::<f32>(len.max(1)) }.map(Arc::new)
}

/// Where the packed weights of each node are, and how many numbers all take.
fn batch_saved_ranges(plan: &Plan) -> (Vec<Range<usize>>, usize) {
    let mut len = 0;
    let ranges = plan.nodes.iter().map(|node| {
        let from = len;
        len += node.needs.batch_saved.next_multiple_of(LINE);
        from..from + node.needs.batch_saved
    });
    (ranges.collect(), len)
}

impl Memory {
    /// For `plan`, whose input number `labels`, if given, arrives through the queue.
    pub fn new(plan: &Plan, gpu: &Gpu, queue: QueueAddresses, labels: Option<usize>) -> Result<Memory, DeviceError> {
        let allocate = || {
            let stream = gpu.stream();
            // What is kept from step to step begins as zeros, so that the gaps between parameters stay zero.
            let zeros = |len: usize| stream.alloc_zeros::<f32>(len.max(1)).map(Arc::new);
            let (batch_saved_of, batch_saved_len) = batch_saved_ranges(plan);
            let input = |shape: &Shape| stream.alloc_zeros::<f32>((plan.n * shape.size()).max(1));
            Ok(Memory {
                arena: unset(gpu, plan.n * plan.shard_len)?,
                scratch: unset(gpu, plan.device_scratch())?,
                batch_saved: stream.alloc_zeros(batch_saved_len.max(1))?,
                batch_saved_of,
                params: zeros(plan.params_len)?,
                dparams: zeros(if plan.trains() { plan.params_len } else { 0 })?,
                state: zeros(plan.state_len)?,
                inputs: Arc::new(plan.inputs.iter().map(input).collect::<Result<_, _>>()?),
                queue,
                labels,
            })
        };
        allocate().map_err(|error| allocation_failed(error, plan, gpu))
    }

    /// For a plan of the same graph with a smaller batch.
    pub fn for_batch(&self, plan: &Plan, gpu: &Gpu) -> Result<Memory, DeviceError> {
        let enough = |buffer: &Arc<Buffer>, len: usize| {
            if buffer.len() >= len { Ok(buffer.clone()) } else { unset(gpu, len) }
        };
        let allocate = || {
            let (batch_saved_of, batch_saved_len) = batch_saved_ranges(plan);
            Ok(Memory {
                arena: enough(&self.arena, plan.n * plan.shard_len)?,
                scratch: enough(&self.scratch, plan.device_scratch())?,
                batch_saved: gpu.stream().alloc_zeros(batch_saved_len.max(1))?,
                batch_saved_of,
                params: self.params.clone(),
                dparams: self.dparams.clone(),
                state: self.state.clone(),
                inputs: self.inputs.clone(),
                queue: self.queue,
                labels: self.labels,
            })
        };
        allocate().map_err(|error| allocation_failed(error, plan, gpu))
    }

    /// Where input number `k` of the graph is.
    pub fn input(&self, gpu: &Gpu, k: usize) -> sys::CUdeviceptr {
        if self.labels == Some(k) { self.queue.labels() } else { address(&self.inputs[k], gpu) }
    }

    /// The memory of input number `k` of the graph, which does not arrive through the queue.
    pub fn input_region<'b>(&'b self, gpu: &Gpu, k: usize) -> Region<'b> {
        Region::of(&self.inputs[k], gpu)
    }

    /// A buffer of the whole batch in the arena.
    pub fn region<'b>(&'b self, gpu: &Gpu, plan: &Plan, loc: BufferLoc) -> Region<'b> {
        Region::of(&self.arena, gpu).part::<f32>(plan.n * loc.offset, plan.n * loc.len)
    }

    /// Where a buffer of the whole batch is.
    pub fn address(&self, gpu: &Gpu, plan: &Plan, loc: BufferLoc) -> sys::CUdeviceptr {
        match loc.space {
            Space::Input(k) => self.input(gpu, k),
            _ => self.region(gpu, plan, loc).address(),
        }
    }
}

fn allocation_failed(error: DriverError, plan: &Plan, gpu: &Gpu) -> DeviceError {
    match error.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => too_large(plan, gpu),
        _ => refused("allocate memory")(error),
    }
}

/// The error for a plan that does not fit in the memory, with a batch size that would.
fn too_large(plan: &Plan, gpu: &Gpu) -> DeviceError {
    const MB: u64 = 1_000_000;
    let free = gpu.memory().map_or(0, |(free, _)| free as u64);
    let inputs: usize = plan.inputs.iter().map(|shape| shape.size()).sum();
    // Leaves memory for kernels and for what an allocator rounds up.
    let usable = free - free / 8;
    // Moments and gradients; and two batches of clips in transfer, of half the size.
    let learned = if plan.trains() { 4 * 3 * plan.params_len } else { 0 };
    let inputs = if plan.trains() { 2 * inputs } else { inputs };
    let needed = (plan.memory_bytes(0) + 4 * plan.n * inputs + learned) as u64;
    let a_sample = (4 * (plan.shard_len + inputs)) as u64;
    let fixed = needed.saturating_sub(plan.n as u64 * a_sample);
    let fits = usable.saturating_sub(fixed) / a_sample.max(1);
    let advice = match fits {
        0 => "no batch would fit; close what else uses the GPU, or give --device cpu".into(),
        fits => format!("give --batch {}", fits.min(plan.n as u64 - 1).max(1)),
    };
    DeviceError::OutOfMemory { batch: plan.n, needed: needed.div_ceil(MB), free: free / MB, advice }
}

impl Cost {
    fn of(launch: &Launch, layer: &str, pass: &'static str) -> Cost {
        let Launch { kernel, bytes, flops, .. } = launch;
        Cost { layer: layer.into(), pass, kernel: kernel.clone(), bytes: *bytes, macs: flops.div_ceil(2) }
    }
}

/// A launch with everything resolved.
pub(super) struct Call {
    pub cost: Cost,
    function: CudaFunction,
    grid: (u32, u32, u32),
    block: u32,
    shared_bytes: u32,
    /// One word of eight bytes an argument, the value at its front.
    arguments: Box<[u64]>,
    /// The number of its step, and whether it may run beside what follows in this step and the next.
    pub at: usize,
    pub concurrent: bool,
    /// The arguments of a launch that does the work of several.
    _table: Option<CudaSlice<u64>>,
}

impl Call {
    fn new(gpu: &Gpu, launch: &Launch, cost: Cost, arguments: Vec<u64>) -> Result<Call, DeviceError> {
        // The driver reads as many arguments as the kernel has parameters; an operation of somebody else may list fewer.
        let expected = ptx::parameters(&launch.kernel);
        if expected.is_some_and(|parameters| parameters.len() != arguments.len()) {
            let doing = format!("launch the kernel {}", launch.kernel);
            let reason =
                format!("it takes {} arguments and is given {}", expected.map_or(0, <[_]>::len), arguments.len());
            return Err(DeviceError::Driver { doing, reason });
        }
        Ok(Call {
            cost,
            function: gpu.kernel(&launch.kernel, launch.shared_bytes)?,
            grid: (launch.grid[0], launch.grid[1], launch.grid[2]),
            block: launch.block,
            shared_bytes: launch.shared_bytes,
            arguments: arguments.into(),
            at: usize::MAX,
            concurrent: launch.concurrent,
            _table: None,
        })
    }

    /// Puts it on the GPU's stream.
    pub fn launch(&self, gpu: &Gpu) -> Result<(), DeviceError> {
        self.launch_on(gpu.stream())
    }

    /// Puts it on a stream.
    pub fn launch_on(&self, stream: &CudaStream) -> Result<(), DeviceError> {
        let word = |word: &u64| std::ptr::from_ref(word).cast_mut().cast::<c_void>();
        let mut arguments: Vec<*mut c_void> = self.arguments.iter().map(word).collect();
        let (function, stream) = (self.function.cu_function(), stream.cu_stream());
        // SAFETY: the arguments are as many as the kernel has parameters (`Call::new`), each in a word of the largest parameter's size;
        // their addresses are of the plan's buffers, which live as long as the executor, and the driver copies them before it returns.
        let launched = unsafe {
            result::launch_kernel(function, self.grid, (self.block, 1, 1), self.shared_bytes, stream, &mut arguments)
        };
        launched.map_err(refused("launch a kernel"))
    }
}

/// An `int` or `float` argument in its word.
fn value(argument: Argument, node: usize) -> u64 {
    match argument {
        Argument::Int(value) => u64::from(value as u32),
        Argument::Float(value) => u64::from(value.to_bits()),
        Argument::Node => node as u64,
        Argument::Null | Argument::At(..) => 0,
    }
}

/// The launches of a plan, with addresses; several of a kernel that has a form for many as one.
pub(super) fn resolved(
    launches: Vec<PlannedLaunch>,
    plan: &Plan,
    gpu: &Gpu,
    memory: &Memory,
) -> Result<Vec<Call>, DeviceError> {
    let call = |group: &LaunchGroup| {
        let cost = Cost {
            layer: group.layer(plan),
            pass: group.0[0].pass,
            kernel: group.kernel(),
            bytes: group.bytes(),
            macs: group.flops().div_ceil(2),
        };
        let words = |planned| OperandAddresses { plan, gpu, memory, planned }.words();
        match &group.0[..] {
            [planned] => Ok(Call { at: planned.at, ..Call::new(gpu, &planned.launch, cost, words(planned))? }),
            all => {
                let mut table: Vec<u64> = Vec::new();
                let mut first_block = 0;
                for planned in all {
                    table.push(first_block);
                    table.extend(words(planned));
                    first_block += u64::from(planned.launch.grid[0]);
                }
                let table = gpu.stream().clone_htod(&table).map_err(refused("take in the jobs of a kernel"))?;
                let launch = Launch { kernel: group.kernel(), grid: group.grid(), ..all[0].launch.clone() };
                let words = vec![address(&table, gpu), all.len() as u64];
                Ok(Call { _table: Some(table), ..Call::new(gpu, &launch, cost, words)? })
            }
        }
    };
    LaunchGroup::all(launches).iter().map(call).collect()
}

/// The launches that end a step of training: the tally, clipping of the gradient, Adam on each range of parameters that learns, and the moving
/// averages.
pub(super) fn update(plan: &Plan, gpu: &Gpu, memory: &Memory, adam: &AdamOnGpu) -> Result<Vec<Call>, DeviceError> {
    let [pair, tallies, rates] = [memory.queue.pair(), memory.queue.tallies(), memory.queue.rates()];
    let (n, count) = (plan.n, plan.params_len);
    let [loss, logits] = [plan.target(), adam.logits].map(|node| plan.activations[node.index()]);
    let at = |loc: BufferLoc| memory.address(gpu, plan, loc);
    let [params, dparams, state] = [&memory.params, &memory.dparams, &memory.state].map(|buffer| address(buffer, gpu));
    let [m, v] = [&adam.m, &adam.v].map(|buffer| address(buffer, gpu));
    let (labels, label_size) = (memory.input(gpu, adam.labels), plan.inputs[adam.labels].size() as u64);
    let mut calls = Vec::new();
    let mut add = |launch: Launch, arguments: &[u64]| -> Result<(), DeviceError> {
        let cost = Cost::of(&launch, "step", "update");
        calls.push(Call::new(gpu, &launch, cost, arguments.to_vec())?);
        Ok(())
    };
    add(
        Launch::new("tally", 1, 256),
        &[at(loss), at(logits), labels, pair, tallies, n as u64, logits.len as u64, label_size],
    )?;
    if let Some(ClipOnGpu { sums, scale }) = &adam.clip {
        let [sums, scale] = [address(sums, gpu), address(scale, gpu)];
        let chunks = count.div_ceil(CLIP_CHUNK);
        let squares = Launch::new("sum_of_squares", chunks.max(1), 256).costs(count, 2 * count as u64);
        add(squares, &[dparams, sums, count as u64])?;
        add(Launch::new("clip_scale", 1, 256).costs(2 * chunks, chunks as u64), &[sums, rates, scale, chunks as u64])?;
    }
    for range in plan.learning() {
        let (len, offset) = (range.len(), 4 * range.start as u64);
        let [w, m, v, gradient] = [params, m, v, dparams].map(|address| address + offset);
        let step = |kernel: &str| Launch::over(kernel, len, 4).costs(7 * len, 12 * len as u64);
        match (&adam.decays, &adam.clip) {
            (None, None) => add(step("adam"), &[w, m, v, gradient, rates, tallies, len as u64])?,
            (decays, clip) => {
                let decays = decays.as_ref().map_or(0, |decays| address(decays, gpu) + offset);
                let scale = clip.as_ref().map_or(0, |clip| address(&clip.scale, gpu));
                add(step("adamw"), &[w, m, v, gradient, decays, scale, rates, tallies, len as u64])?;
            }
        }
    }
    if let Some([params_average, state_average]) = &adam.average {
        for (average, of, len) in [(params_average, params, count), (state_average, state, plan.state_len)] {
            let launch = Launch::over("average", len, 4).costs(3 * len, 3 * len as u64);
            add(launch, &[address(average, gpu), of, rates, tallies, len as u64])?;
        }
    }
    Ok(calls)
}

/// The launch that makes the first input of recordings: `[rows, batch, input]` are the addresses, a batch has so many of so many samples.
pub(super) fn gather(
    gpu: &Gpu,
    addresses: [u64; 3],
    (n, length): (usize, usize),
    scale: f32,
) -> Result<Call, DeviceError> {
    let launch =
        Launch::new("clips_to_f32", n * length.div_ceil(1024), 256).costs(n * length * 3 / 2, (n * length) as u64);
    let cost = Cost::of(&launch, "step", "input");
    let numbers = [n as u64, length as u64, u64::from(scale.to_bits())];
    let arguments = addresses.into_iter().chain(numbers).collect();
    Call::new(gpu, &launch, cost, arguments)
}

/// What determines the addresses of the operands of one launch.
#[derive(Clone, Copy)]
struct OperandAddresses<'a> {
    plan: &'a Plan,
    gpu: &'a Gpu,
    memory: &'a Memory,
    planned: &'a PlannedLaunch,
}

impl OperandAddresses<'_> {
    fn node(&self) -> Option<&Lowered> {
        self.planned.node.map(|node| &self.plan.nodes[node])
    }

    /// The launch's arguments.
    fn words(&self) -> Vec<u64> {
        let id = self.node().map_or(0, |node| node.id.index());
        let word = |argument: &Argument| match *argument {
            Argument::At(operand, offset) => self.find(operand).map_or(0, |address| address + 4 * offset as u64),
            other => value(other, id),
        };
        self.planned.launch.arguments.iter().map(word).collect()
    }

    /// The address of an operand's first number, if the launch has it.
    fn find(&self, operand: Operand) -> Option<u64> {
        let Memory { scratch, batch_saved, batch_saved_of, params, dparams, state, queue, .. } = self.memory;
        let number = |base: &Buffer, at: usize| Some(address(base, self.gpu) + 4 * at as u64);
        match operand {
            Operand::Scratch => number(scratch, 0),
            Operand::Draw => Some(queue.draw()),
            Operand::BatchSaved => number(batch_saved, batch_saved_of[self.planned.node?].start),
            Operand::Params(i) => number(params, self.node()?.params.starts().nth(i)?),
            Operand::DParams(i) => number(dparams, self.node()?.params.starts().nth(i)?),
            Operand::State(i) => number(state, self.node()?.state.starts().nth(i)?),
            _ => {
                let in_place = self.node().is_some_and(|node| node.needs.in_place);
                let loc = self.planned.step.as_ref()?.loc(operand, in_place)?;
                Some(self.memory.address(self.gpu, self.plan, loc))
            }
        }
    }
}
