//! An executor for any device.

use super::Cpu;
use super::cuda::Cuda;
use super::device::Device;
use super::error::DeviceError;
use crate::base::rng::Key;
use crate::graph::{NodeId, Plan};
use std::sync::Arc;

/// Executes a plan.
pub enum Executor {
    /// On the CPU.
    Cpu(Box<Cpu>),
    /// On a GPU.
    Cuda(Box<Cuda>),
}

impl Executor {
    /// An executor of `plan`, which was lowered with the options of `device`.
    ///
    /// # Errors
    /// The memory does not suffice, or the driver of the GPU refuses a kernel.
    pub fn new(plan: Arc<Plan>, device: &Device) -> Result<Executor, DeviceError> {
        match device {
            Device::Cpu(isa) => Ok(Executor::Cpu(Box::new(Cpu::new(plan, *isa)?))),
            Device::Cuda(gpu, _) => Ok(Executor::Cuda(Box::new(Cuda::new(plan, gpu.clone())?))),
        }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        match self {
            Executor::Cpu(cpu) => cpu.plan(),
            Executor::Cuda(cuda) => cuda.plan(),
        }
    }

    /// Bytes that the executor has allocated for activations, gradients, packed weights and gradient accumulators.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Executor::Cpu(cpu) => cpu.plan().memory_bytes(rayon::current_num_threads()),
            Executor::Cuda(cuda) => cuda.plan().memory_bytes(0),
        }
    }

    /// Packs changed parameters and state, on a GPU after copying them there. It must be called before the first run and after every change.
    pub fn prepare(&mut self, params: &[f32], state: &[f32]) -> Result<(), DeviceError> {
        match self {
            Executor::Cpu(cpu) => cpu.prepare(params, state),
            Executor::Cuda(cuda) => cuda.prepare(params, state)?,
        }
        Ok(())
    }

    /// Runs the plan on a batch, as [`Cpu::run`] does. Training updates `state`.
    pub fn run(&mut self, params: &[f32], state: &mut [f32], inputs: &[&[f32]], draw: Key) -> Result<(), DeviceError> {
        match self {
            Executor::Cpu(cpu) => cpu.run(params, state, inputs, draw),
            Executor::Cuda(cuda) => {
                cuda.run(inputs, draw)?;
                if cuda.plan().trains() {
                    cuda.state(state)?;
                }
            }
        }
        Ok(())
    }

    /// The seconds that a run takes on a GPU with the batch of the last run: the median of `runs` runs. NaN on the CPU.
    pub fn measure(&mut self, runs: usize) -> Result<f64, DeviceError> {
        match self {
            Executor::Cpu(_) => Ok(f64::NAN),
            Executor::Cuda(cuda) => cuda.measure_step(runs),
        }
    }

    /// One sample of the target node's output after a run.
    pub fn target_of(&self, sample: usize) -> &[f32] {
        match self {
            Executor::Cpu(cpu) => {
                cpu.activation_of(cpu.plan().target(), sample).expect("the target is kept by every plan")
            }
            Executor::Cuda(cuda) => cuda.target_of(sample),
        }
    }

    /// The mean over the batch of the target node's output, if it is one number for each sample: the loss.
    pub fn loss(&self) -> f64 {
        match self {
            Executor::Cpu(cpu) => cpu.loss(),
            Executor::Cuda(cuda) => cuda.loss(),
        }
    }

    /// A node's output after a run, `[n, l, c]`; none if the plan does not keep it.
    pub fn activation(&self, node: NodeId) -> Result<Option<Vec<f32>>, DeviceError> {
        match self {
            Executor::Cpu(cpu) => Ok(cpu.activation(node)),
            Executor::Cuda(cuda) => cuda.activation(node),
        }
    }

    /// The gradient of the mean loss with respect to a node's output; none if the plan does not keep it.
    pub fn gradient(&self, node: NodeId) -> Result<Option<Vec<f32>>, DeviceError> {
        match self {
            Executor::Cpu(cpu) => Ok(cpu.gradient(node)),
            Executor::Cuda(cuda) => cuda.gradient(node),
        }
    }

    /// The gradient of the mean loss with respect to all parameters, in the order of the parameter arena.
    pub fn parameter_gradients(&self) -> Result<Vec<f32>, DeviceError> {
        match self {
            Executor::Cpu(cpu) => Ok(cpu.parameter_gradients().to_vec()),
            Executor::Cuda(cuda) => cuda.parameter_gradients(),
        }
    }
}
