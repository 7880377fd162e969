//! The options that every command has, and what becomes of them.

use super::ending::usage;
use super::output::note;
use super::table::count;
use crate::exec::{Device, DeviceChoice, DeviceError};
use crate::simd::Isa;
use anyhow::{Result, anyhow};

/// Options of every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Threads to compute on; all cores if not given. Results do not depend on it.
    #[arg(long, global = true, value_name = "N", env = "STAPES_THREADS", hide_env_values = true,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Where to compute; auto takes the first GPU that can be used, else the processor.
    #[arg(long, global = true, value_name = "auto|cpu|cuda[:N]", default_value = "auto")]
    device: DeviceChoice,
    /// Seed of everything random; runs of one seed are equal bit for bit.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: Option<u64>,
    /// Print results as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// No progress and no remarks.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// More remarks.
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
}

/// What every command knows.
#[derive(Clone, Debug)]
pub struct Context {
    /// The instruction set to compute with.
    pub isa: Isa,
    /// Where to compute.
    pub choice: DeviceChoice,
    /// Threads of the pool in which commands run.
    pub threads: usize,
    /// The seed, if one was given.
    pub seed: Option<u64>,
    /// Whether results are JSON.
    pub json: bool,
    /// Whether remarks and progress are left out.
    pub quiet: bool,
    /// Whether remarks are plentiful.
    pub verbose: bool,
}

impl Global {
    /// Checks the instruction set.
    pub fn context(&self) -> Result<Context> {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        Ok(Context {
            isa: chosen_isa()?,
            choice: self.device,
            threads: self.threads.map_or(cores, usize::from),
            seed: self.seed,
            json: self.json,
            quiet: self.quiet,
            verbose: self.verbose,
        })
    }
}

/// The instruction set that `STAPES_ISA` names, else the best one here.
fn chosen_isa() -> Result<Isa> {
    let Some(name) = std::env::var_os("STAPES_ISA").filter(|name| !name.is_empty()) else {
        return Ok(Isa::best());
    };
    let name = name.to_string_lossy();
    Isa::by_name(&name).ok_or_else(|| {
        let here = Isa::all().iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ");
        usage(format!("STAPES_ISA is `{name}`, which this processor has not; it has {here}"))
    })
}

impl Context {
    /// Runs `work` on the pool of this many threads.
    pub fn on_threads(&self, work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build();
        pool.map_err(|e| anyhow!("cannot start {} threads ({e}); give fewer with --threads", self.threads))?
            .install(work)
    }

    /// Opens the device that was chosen. With `auto`, a GPU that is there and cannot be used is told of.
    pub fn device(&self) -> Result<Device> {
        let (device, passed_over) = Device::open(self.choice, self.isa)?;
        match passed_over {
            None | Some(DeviceError::NoDriver | DeviceError::NotBuilt) => {}
            Some(error) => self.remark(&format!("note: {error}; computing on the processor")),
        }
        Ok(device)
    }

    /// The GPU if it was asked for by name, else the processor.
    pub fn device_if_asked(&self) -> Result<Device> {
        match self.choice {
            DeviceChoice::Auto => Ok(Device::Cpu(self.isa)),
            _ => self.device(),
        }
    }

    /// What computes, in words.
    pub fn machine(&self, device: &Device) -> String {
        match device {
            Device::Cpu(isa) => format!("{}, {}", count(self.threads as u64, "thread"), isa.name()),
            Device::Cuda(gpu, precision) => format!("cuda:{} {}, {precision}", gpu.index(), gpu.name()),
        }
    }

    /// A line on standard error, unless remarks are not wanted.
    pub fn remark(&self, text: &str) {
        if !self.quiet {
            note(text);
        }
    }
}
