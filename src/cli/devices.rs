//! `stapes devices`: the CPU, its instruction sets and their speed; the GPUs, and why one cannot be used.

use super::context::Context;
use super::output;
use super::table::{Table, bytes, count, left, right};
use crate::base::Name;
use crate::base::cpu_time::{CpuTime, busy_remark};
use crate::exec::DeviceError;
use crate::ops::device::{Precision, Products};
use crate::simd::{Isa, cpu_brand, fma_peak};
use anyhow::Result;
use serde::Serialize;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  stapes devices
  stapes devices --knobs
  STAPES_ISA=avx2 stapes train";

/// Options of `stapes devices`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// List the environment variables that the program reads.
    #[arg(long)]
    knobs: bool,
}

/// An environment variable.
struct Knob {
    name: &'static str,
    default: &'static str,
    effect: &'static str,
}

const KNOBS: &[Knob] = &[
    Knob {
        name: "STAPES_ISA",
        default: "the fastest",
        effect: "instruction set of the CPU: scalar, wide, avx2 or avx512",
    },
    Knob { name: "STAPES_THREADS", default: "one per core", effect: "number of threads, as --threads" },
    Knob { name: "STAPES_CACHE", default: "~/.cache/stapes", effect: "folder of the cache of decoded clips" },
    Knob { name: "COLUMNS", default: "the terminal's", effect: "width of text and tables in columns" },
    Knob { name: "NO_COLOR", default: "unset", effect: "if set, help has no colours" },
];

/// Instruction sets that the compiler may use everywhere; the kernels choose theirs when the program starts.
fn built_for() -> Vec<&'static str> {
    let sets = [
        ("avx2", cfg!(target_feature = "avx2")),
        ("fma", cfg!(target_feature = "fma")),
        ("avx512f", cfg!(target_feature = "avx512f")),
    ];
    sets.into_iter().filter_map(|(name, assumed)| assumed.then_some(name)).collect()
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if args.knobs { knobs(context) } else { devices(context) }
}

fn knobs(context: &Context) -> Result<()> {
    let value = |knob: &Knob| std::env::var_os(knob.name).map(|value| Name::from_os(&value).to_string());
    if context.json {
        let all = KNOBS.iter().map(
            |knob| json!({ "name": knob.name, "value": value(knob), "default": knob.default, "effect": knob.effect }),
        );
        return output::json(&all.collect::<Vec<_>>());
    }
    let mut table = Table::new([left("variable"), left("value"), left("default"), left("effect")]);
    for knob in KNOBS {
        table.row([knob.name, &value(knob).unwrap_or("-".into()), knob.default, knob.effect]);
    }
    output::print(&table.to_string())
}

/// A GPU, or why there is none to use.
struct Gpu {
    /// `cuda:0`, or `cuda` where the GPUs cannot be counted.
    name: String,
    found: Result<Facts, DeviceError>,
}

/// The properties of a GPU.
#[derive(Serialize)]
struct Facts {
    chip: String,
    capability: String,
    driver_cuda: String,
    memory_bytes: usize,
    free_bytes: usize,
    f32_products: &'static str,
    kernels: usize,
}

impl Gpu {
    fn line(&self) -> String {
        match &self.found {
            Err(error) => format!("{:<6} {error}\n", self.name),
            Ok(f) => format!(
                "{} {}, compute capability {}, driver for CUDA {}, {} of {} free; {} kernels; f32 products by {}\n",
                self.name,
                f.chip,
                f.capability,
                f.driver_cuda,
                bytes(f.free_bytes as u64),
                bytes(f.memory_bytes as u64),
                f.kernels,
                f.f32_products
            ),
        }
    }

    fn json(&self) -> serde_json::Value {
        match &self.found {
            Err(error) => json!({ "name": self.name, "unusable": error.to_string() }),
            Ok(facts) => json!({ "name": self.name, "facts": facts }),
        }
    }

    fn all() -> Vec<Gpu> {
        match crate::exec::cuda::Gpu::count() {
            Err(error) => vec![Gpu { name: "cuda".into(), found: Err(error) }],
            Ok(count) => {
                (0..count).map(|index| Gpu { name: format!("cuda:{index}"), found: Gpu::facts(index) }).collect()
            }
        }
    }
    fn facts(index: usize) -> Result<Facts, DeviceError> {
        let gpu = crate::exec::cuda::Gpu::open(index)?;
        let (free_bytes, memory_bytes) = gpu.memory()?;
        let (major, minor) = gpu.capability();
        let driver = gpu.driver();
        Ok(Facts {
            chip: gpu.name().into(),
            capability: format!("{major}.{minor}"),
            driver_cuda: format!("{}.{}", driver / 1000, driver % 1000 / 10),
            memory_bytes,
            free_bytes,
            f32_products: match Products::of(Precision::F32, (major, minor)) {
                Products::Split => "three TF32 products",
                _ => "multiply-adds",
            },
            kernels: gpu.load_all()?,
        })
    }
}

fn devices(context: &Context) -> Result<()> {
    let gpus = Gpu::all();
    let brand = cpu_brand().unwrap_or("CPU of unknown name".into());
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let mut cpu_time = CpuTime::default();
    let peaks: Vec<(Isa, f64)> =
        Isa::all().into_iter().map(|isa| (isa, cpu_time.measure(|| fma_peak(isa)) / 2.0)).collect();
    let lost_share = cpu_time.lost_share();
    let used = |isa: Isa| isa.name() == context.isa.name();
    if context.json {
        let sets = peaks
            .iter()
            .map(|&(isa, rate)| json!({ "name": isa.name(), "gmacs_per_second_per_core": rate, "used": used(isa) }));
        return output::json(&json!({
            "cpu": { "name": brand, "cores": cores, "threads": context.threads, "instruction_sets": sets.collect::<Vec<_>>(), "lost_share": lost_share },
            "built_for": built_for(),
            "cuda": gpus.iter().map(Gpu::json).collect::<Vec<_>>(),
        }));
    }
    let mut table = Table::new([left("instruction set"), right("GMAC/s per core"), left("")]);
    for (isa, rate) in peaks {
        let mark = if used(isa) { "used" } else { "" };
        table.row([isa.name().to_string(), format!("{rate:.1}"), mark.into()]);
    }
    let build = match built_for()[..] {
        [] => format!("any {} CPU", std::env::consts::ARCH),
        ref sets => format!("CPUs with {}", sets.join(", ")),
    };
    let threads = count(context.threads as u64, "thread");
    let busy = busy_remark(lost_share).map_or(String::new(), |remark| format!("{remark}\n"));
    output::print_filled(&format!(
        "cpu    {brand}, {}, {threads} used\nbuild  for {build}; the kernels choose their instruction set at start\n\n{table}\n\
         GMAC/s: thousand millions of multiply-accumulate operations (MACs) per second, measured just now in a loop that reads \
         no memory, the upper limit of any kernel; 1 MAC is 2 FLOPs\n{busy}\n{}",
        count(cores as u64, "core"),
        gpus.iter().map(Gpu::line).collect::<String>()
    ))
}
