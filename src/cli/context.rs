//! The options that every command has, and what follows from them.

use super::ending::usage;
use super::output::note;
use super::table::count;
use crate::base::name;
use crate::exec::{Device, DeviceChoice, DeviceError};
use crate::simd::Isa;
use anyhow::{Result, anyhow};
use std::ops::RangeInclusive;

/// Numbers of threads that can be asked for.
const THREADS: RangeInclusive<u16> = 1..=1024;

/// Options of every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Number of threads; results do not depend on it [default: STAPES_THREADS, else one per core].
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Device to compute on; auto takes the first usable GPU, else the CPU.
    #[arg(long, global = true, value_name = "auto|cpu|cuda[:N]", default_value = "auto")]
    device: DeviceChoice,
    /// Seed of all random numbers; runs with the same seed are equal bit for bit [default: 1 for a new run].
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: Option<u64>,
    /// Print results as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Print neither progress nor remarks.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Print more remarks.
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
}

/// What every command knows.
#[derive(Clone, Debug)]
pub struct Context {
    /// The instruction set to compute with.
    pub isa: Isa,
    /// The device that the command line names.
    pub choice: DeviceChoice,
    /// Threads of the pool in which commands run.
    pub threads: usize,
    /// The seed, if one was given.
    pub seed: Option<u64>,
    /// Whether results are printed as JSON.
    pub json: bool,
    /// Whether remarks and progress are left out.
    pub quiet: bool,
    /// Whether more remarks are printed.
    pub verbose: bool,
}

impl Global {
    /// The options as the commands use them.
    ///
    /// # Errors
    /// A usage error if an environment variable has a value that is not allowed.
    pub fn context(&self) -> Result<Context> {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let threads = match self.threads {
            Some(threads) => Some(threads),
            None => threads_of_environment()?,
        };
        Ok(Context {
            isa: chosen_isa()?,
            choice: self.device,
            threads: threads.map_or(cores, usize::from),
            seed: self.seed,
            json: self.json,
            quiet: self.quiet,
            verbose: self.verbose,
        })
    }
}

/// The value of an environment variable, with surrounding spaces removed. A variable that is empty counts as unset.
fn variable(variable: &str) -> Option<String> {
    let value = std::env::var_os(variable)?.to_string_lossy().trim().to_string();
    (!value.is_empty()).then_some(value)
}

/// The number of threads in `STAPES_THREADS`.
fn threads_of_environment() -> Result<Option<u16>> {
    let Some(text) = variable("STAPES_THREADS") else { return Ok(None) };
    match text.parse() {
        Ok(threads) if THREADS.contains(&threads) => Ok(Some(threads)),
        _ => Err(usage(format!(
            "STAPES_THREADS must be a whole number from {} to {}, got `{}`; change it, or unset it to use all cores",
            THREADS.start(),
            THREADS.end(),
            name::display(&text)
        ))),
    }
}

/// The instruction set in `STAPES_ISA`, else the fastest one of this processor.
fn chosen_isa() -> Result<Isa> {
    let Some(text) = variable("STAPES_ISA") else { return Ok(Isa::best()) };
    Isa::by_name(&text).ok_or_else(|| {
        let here = Isa::all().iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ");
        usage(format!(
            "STAPES_ISA is `{}`, an instruction set that this processor does not have; it has {here}",
            name::display(&text)
        ))
    })
}

impl Context {
    /// Runs `work` in a pool of [`Context::threads`] threads.
    ///
    /// # Errors
    /// The threads cannot be started, or `work` fails.
    pub fn on_threads(&self, work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build();
        pool.map_err(|e| anyhow!("cannot start {} threads ({e}); give fewer with --threads", self.threads))?
            .install(work)
    }

    /// Opens the chosen device. With `auto`, a remark names a GPU that exists and cannot be used.
    pub fn device(&self) -> Result<Device> {
        let (device, unusable) = Device::open(self.choice, self.isa)?;
        match unusable {
            None | Some(DeviceError::NoDriver | DeviceError::NotBuilt) => {}
            Some(error) => self.remark(&format!("note: {error}; computing on the CPU")),
        }
        Ok(device)
    }

    /// The device that `--device` names; the CPU for `auto`.
    pub fn device_if_asked(&self) -> Result<Device> {
        match self.choice {
            DeviceChoice::Auto => Ok(Device::Cpu(self.isa)),
            _ => self.device(),
        }
    }

    /// The threads and the instruction set, or the GPU and its precision, in words.
    pub fn machine(&self, device: &Device) -> String {
        match device {
            Device::Cpu(isa) => format!("{}, {}", count(self.threads as u64, "thread"), isa.name()),
            Device::Cuda(gpu, precision) => format!("cuda:{} {}, {precision}", gpu.index(), gpu.name()),
        }
    }

    /// Prints a line on standard error, unless `--quiet` is given.
    pub fn remark(&self, text: &str) {
        if !self.quiet {
            note(text);
        }
    }
}
