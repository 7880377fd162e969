//! Floor 4. Where plans run: the processor, or a GPU.

use super::cuda::Gpu;
use crate::graph::PlanOptions;
use crate::ops::device::Precision;
use crate::simd::Isa;
use std::sync::Arc;
use thiserror::Error;

/// Why a GPU cannot be used, each with a way out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// The feature `cuda` is off.
    #[error("this program is built without CUDA; leave --device out or give --device cpu")]
    NotBuilt,
    /// The driver's library is not on this machine.
    #[error("there is no NVIDIA driver here (libcuda is not found); install one, or give --device cpu")]
    NoDriver,
    /// The driver does not start, or sees no GPU.
    #[error("the NVIDIA driver sees no GPU ({reason}); look at `nvidia-smi`, or give --device cpu")]
    NoGpu {
        /// The driver's reason.
        reason: String,
    },
    /// There are fewer GPUs than that.
    #[error("there is no cuda:{index}: this machine has {count}, counted from cuda:0")]
    NoSuchGpu {
        /// The number asked for.
        index: usize,
        /// GPUs here, in words.
        count: String,
    },
    /// The chip is older than the kernels.
    #[error(
        "cuda:{index} ({name}) has compute capability {major}.{minor}, and the kernels need 7.5; give --device cpu"
    )]
    OldGpu {
        /// Its number.
        index: usize,
        /// Its name.
        name: String,
        /// Compute capability.
        major: u32,
        /// Compute capability.
        minor: u32,
    },
    /// The driver is older than the kernels.
    #[error(
        "the NVIDIA driver knows CUDA {found}, and the kernels need 12.0; update the driver (525 or later), or give --device cpu"
    )]
    OldDriver {
        /// The version that it knows.
        found: String,
    },
    /// The memory of the GPU does not suffice.
    #[error("a batch of {batch} takes {needed} MB of the GPU's memory, and {free} MB are free; {advice}")]
    OutOfMemory {
        /// Samples.
        batch: usize,
        /// Megabytes.
        needed: u64,
        /// Megabytes.
        free: u64,
        /// What would fit.
        advice: String,
    },
    /// The driver refuses something that should work.
    #[error("the GPU cannot {doing} ({reason}); try again, and give --device cpu if it stays so")]
    Driver {
        /// What was asked of it.
        doing: String,
        /// Its reason.
        reason: String,
    },
}

/// Where to run: asked for by `--device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU that can be used, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<DeviceChoice, String> {
        let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        match name {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            _ => name
                .strip_prefix("cuda:")
                .and_then(number)
                .map(DeviceChoice::Cuda)
                .ok_or_else(|| format!("`{name}` is no device; take auto, cpu, cuda, or cuda:1 for the second GPU")),
        }
    }
}

/// Where to run.
#[derive(Clone, Debug)]
pub enum Device {
    /// On the processor, with this instruction set.
    Cpu(Isa),
    /// On a GPU, this exactly.
    Cuda(Arc<Gpu>, Precision),
}

impl From<Isa> for Device {
    fn from(isa: Isa) -> Device {
        Device::Cpu(isa)
    }
}

impl Device {
    /// Opens what was chosen; with [`DeviceChoice::Auto`] a GPU that cannot be used is told of and passed over.
    ///
    /// # Errors
    /// The GPU that was asked for cannot be used.
    pub fn open(choice: DeviceChoice, isa: Isa) -> Result<(Device, Option<DeviceError>), DeviceError> {
        match choice {
            DeviceChoice::Cpu => Ok((Device::Cpu(isa), None)),
            DeviceChoice::Cuda(index) => Ok((Device::gpu(index)?, None)),
            DeviceChoice::Auto => match Device::gpu(0) {
                Ok(device) => Ok((device, None)),
                Err(error) => Ok((Device::Cpu(isa), Some(error))),
            },
        }
    }
    fn gpu(index: usize) -> Result<Device, DeviceError> {
        Ok(Device::Cuda(Gpu::open(index)?, Precision::default()))
    }

    /// The same with another precision, which the processor does not know.
    pub fn precision(self, precision: Precision) -> Device {
        match self {
            Device::Cpu(isa) => Device::Cpu(isa),
            Device::Cuda(gpu, _) => Device::Cuda(gpu, precision),
        }
    }

    /// Whether it is a GPU.
    pub fn is_gpu(&self) -> bool {
        !matches!(self, Device::Cpu(_))
    }

    /// `options` for this device.
    pub fn options(&self, options: &PlanOptions) -> PlanOptions {
        match self {
            Device::Cpu(_) => options.clone(),
            Device::Cuda(gpu, precision) => {
                options.clone().device(crate::ops::device::Products::of(*precision, gpu.capability()))
            }
        }
    }
}
