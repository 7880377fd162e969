//! Why a plan cannot be executed on a device, each in one sentence that says what to do.

use thiserror::Error;

/// Why a plan cannot be executed on a device.
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
    /// The memory of the machine does not suffice.
    #[error("a batch of {batch} of this network needs {needed} of memory{found}; {advice}")]
    HostMemory {
        /// Samples.
        batch: usize,
        /// What the plan and the weights need, with its unit.
        needed: String,
        /// How much is available, as far as the system tells.
        found: String,
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
