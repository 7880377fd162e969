//! The device that executes plans: the CPU or a GPU.

use super::cuda::Gpu;
use super::error::DeviceError;
use crate::graph::PlanOptions;
use crate::ops::device::Precision;
use crate::simd::Isa;
use std::sync::Arc;

/// The device that a user chooses with `--device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU that can be used, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with this number.
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

/// The device that executes plans.
#[derive(Clone, Debug)]
pub enum Device {
    /// The CPU, with this instruction set.
    Cpu(Isa),
    /// A GPU, with this precision of matrix products.
    Cuda(Arc<Gpu>, Precision),
}

impl Default for Device {
    /// The CPU with its best instruction set.
    fn default() -> Device {
        Device::Cpu(Isa::best())
    }
}

impl From<Isa> for Device {
    fn from(isa: Isa) -> Device {
        Device::Cpu(isa)
    }
}

impl Device {
    /// Opens the chosen device. With [`DeviceChoice::Auto`], a GPU that cannot be used is skipped, and the reason is returned.
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

    /// The same device with another precision of matrix products; the CPU has only one.
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

    /// The options for lowering a graph for this device.
    pub fn options(&self, options: &PlanOptions) -> PlanOptions {
        match self {
            Device::Cpu(_) => options.clone(),
            Device::Cuda(gpu, precision) => {
                options.clone().device(crate::ops::device::Products::of(*precision, gpu.capability()))
            }
        }
    }
}
