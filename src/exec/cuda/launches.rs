//! The ops' launches with addresses: which operand of which node stands where in device memory.

#![allow(unsafe_code)] // reason: kernels take addresses

use super::gpu::{Gpu, Region, refused};
use super::queue::StepQueue;
use super::{Buffer, address, ptx};
use crate::exec::error::DeviceError;
use crate::exec::measured::Cost;
use crate::graph::{BufferLoc, LaunchGroup, Lowered, NodeId, Plan, PlannedLaunch, Space};
use crate::ops::device::{Argument, Launch, Operand};
use cudarc::driver::{CudaFunction, CudaSlice, CudaStream, DriverError, result, sys};
use std::ffi::c_void;
use std::ops::Range;

/// All device memory of a plan.
pub(super) struct Memory {
    pub arena: Buffer,
    pub scratch: Buffer,
    pub batch_saved: Buffer,
    /// Where each node's part of `batch_saved` is.
    pub batch_saved_of: Vec<Range<usize>>,
    pub params: Buffer,
    pub dparams: Buffer,
    pub state: Buffer,
    pub inputs: Vec<Buffer>,
    pub queue: StepQueue,
    /// The input that orders bring, if one.
    pub labels: Option<usize>,
}

/// A multiple of 64 bytes, so that vector loads of neighbouring buffers stay aligned.
const LINE: usize = 16;

impl Memory {
    /// For `plan`, of whose inputs number `labels` comes with a step's order.
    pub fn new(plan: &Plan, gpu: &Gpu, labels: Option<usize>) -> Result<Memory, DeviceError> {
        let mut batch_saved_len = 0;
        let batch_saved_of = plan.nodes.iter().map(|node| {
            let from = batch_saved_len;
            batch_saved_len += node.spec.batch_saved.next_multiple_of(LINE);
            from..from + node.spec.batch_saved
        });
        let batch_saved_of = batch_saved_of.collect();
        let queue = StepQueue::new(gpu, plan.n)?;
        Memory::allocate(plan, gpu, (batch_saved_of, batch_saved_len), (queue, labels)).map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => too_large(plan, gpu),
            _ => refused("give memory")(error),
        })
    }

    fn allocate(
        plan: &Plan,
        gpu: &Gpu,
        (batch_saved_of, batch_saved_len): (Vec<Range<usize>>, usize),
        (queue, labels): (StepQueue, Option<usize>),
    ) -> Result<Memory, DriverError> {
        let stream = gpu.stream();
        let zeros = |len: usize| stream.alloc_zeros::<f32>(len.max(1));
        // What is kept from step to step begins as zeros: the gaps between parameters stay so. The rest is written before it is read.
        // SAFETY: every number of an arena is written by the step that makes it before another reads it; the plan's order is that of the stream.
        let unset = |len: usize| unsafe { stream.alloc::<f32>(len.max(1)) };
        Ok(Memory {
            arena: unset(plan.n * plan.shard_len)?,
            scratch: unset(plan.device_scratch())?,
            batch_saved: unset(batch_saved_len)?,
            batch_saved_of,
            params: zeros(plan.params_len)?,
            dparams: zeros(if plan.trains() { plan.params_len } else { 0 })?,
            state: zeros(plan.state_len)?,
            inputs: plan.inputs.iter().map(|shape| unset(plan.n * shape.size())).collect::<Result<_, _>>()?,
            queue,
            labels,
        })
    }

    /// Where the graph's input number `k` stands.
    pub fn input<'b>(&'b self, gpu: &Gpu, k: usize) -> Region<'b> {
        if self.labels == Some(k) { self.queue.labels(gpu) } else { Region::of(&self.inputs[k], gpu) }
    }

    /// Where a buffer of the whole batch stands.
    pub fn region<'b>(&'b self, gpu: &Gpu, plan: &Plan, loc: BufferLoc) -> Region<'b> {
        match loc.space {
            Space::Input(k) => self.input(gpu, k),
            _ => Region::of(&self.arena, gpu).part::<f32>(plan.n * loc.offset, plan.n * loc.len),
        }
    }
}

/// What is said when the memory does not suffice: what would.
fn too_large(plan: &Plan, gpu: &Gpu) -> DeviceError {
    const MB: u64 = 1_000_000;
    let free = gpu.memory().map_or(0, |(free, _)| free as u64);
    let inputs: usize = plan.inputs.iter().map(|shape| shape.size()).sum();
    // Kernels, and what an allocator rounds up.
    let usable = free - free / 8;
    // Moments and gradients; and clips on their way, two batches of half the size.
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

/// The launches that end a step of training: the tally, and Adam on the moments at these addresses.
pub(super) fn update(
    plan: &Plan,
    gpu: &Gpu,
    memory: &Memory,
    (logits, labels): (NodeId, usize),
    [m, v]: [u64; 2],
) -> Result<Vec<Call>, DeviceError> {
    let [pair, tallies, rates] =
        [StepQueue::pair, StepQueue::tallies, StepQueue::rates].map(|of| of(&memory.queue, gpu));
    let (n, count) = (plan.n, plan.params_len);
    let [loss, logits] = [plan.target(), logits].map(|node| plan.activations[node.index()]);
    let at = |loc: BufferLoc| memory.region(gpu, plan, loc).address();
    let params = [&memory.params, &memory.dparams].map(|buffer| address(buffer, gpu));
    let labels = memory.input(gpu, labels).address();
    let call = |launch: Launch, arguments: &[u64]| -> Result<Call, DeviceError> {
        let cost = Cost::of(&launch, "step", "update");
        Call::new(gpu, &launch, cost, arguments.to_vec())
    };
    let classes = logits.len as u64;
    Ok(vec![
        call(Launch::new("tally", 1, 256), &[at(loss), at(logits), labels, pair, tallies, n as u64, classes])?,
        call(
            Launch::over("adam", count, 4).costs(7 * count, 12 * count as u64),
            &[params[0], m, v, params[1], rates, tallies, count as u64],
        )?,
    ])
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

/// Where the operands of one launch stand.
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
            Operand::Draw => Some(queue.draw(self.gpu)),
            Operand::BatchSaved => number(batch_saved, batch_saved_of[self.planned.node?].start),
            Operand::Params => number(params, self.node()?.params.start),
            Operand::DParams => number(dparams, self.node()?.params.start),
            Operand::State => number(state, self.node()?.state.start),
            _ => {
                let in_place = self.node().is_some_and(|node| node.spec.in_place);
                let loc = self.planned.step.as_ref()?.loc(operand, in_place)?;
                Some(self.memory.region(self.gpu, self.plan, loc).address())
            }
        }
    }
}
