//! `stapes bench`: the speed and the rounding error of a network on this machine, layer by layer and as a whole.

use super::context::Context;
use super::models::{class_count, title};
use super::output;
use super::progress::Measuring;
use super::settings::{self, DEFAULT_MODEL};
use super::table::{Table, count, left, right, thousands};
use crate::base::cpu_time::busy_remark;
use crate::exec::Device;
use crate::nn::{Network, STUDY_CLASSES};
use crate::ops::ConvChoice;
use crate::ops::device::Precision;
use crate::train::bench::{BenchOptions, LayerBench, NetworkBench, PassBench, Total, Whole, bench};
use crate::train::gpu_bench::{self, GpuBench, KernelTime};
use crate::train::scaling::{self, Kind, Prediction, Scaling};
use anyhow::Result;
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  stapes bench
  stapes bench mine.toml --quick
  stapes bench custom64-8 --variant do+bn --conv direct
  stapes bench custom32-8 --batch 256 --scaling
  STAPES_ISA=avx2 stapes bench vgg64-16 --batch 8 --json
  stapes bench custom32-8 --device cuda --precision tf32

Measures the CPU, unless --device names a GPU.";

/// Options of `stapes bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Network, by name or by TOML file [default: custom32-8].
    #[arg(value_name = "NAME|FILE.toml")]
    model: Option<String>,
    /// Build the network with dropout (do), batch norm (bn) or both.
    #[arg(long, value_parser = ["do", "bn", "do+bn"])]
    variant: Option<String>,
    /// Number of classes [default: that of the file, else 16 as in the study].
    #[arg(long, value_name = "N", value_parser = class_count)]
    classes: Option<usize>,
    /// Clips per batch.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch: u32,
    /// Algorithm of convolutions: every operation by itself, fused with Toom-Cook (Winograd), or the faster of both [default: auto].
    #[arg(long, value_name = "HOW", value_parser = ConvChoice::NAMES)]
    conv: Option<String>,
    /// Measure for a shorter time: a few executions of each pass instead of a fifth of a second.
    #[arg(long)]
    quick: bool,
    /// Predict the training step on 1 to 64 threads from its parts, measured on one.
    #[arg(long)]
    scaling: bool,
    /// Precision of matrix products on a GPU [default: f32].
    #[arg(long, value_name = "HOW", value_parser = Precision::NAMES)]
    precision: Option<String>,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let spec = settings::network(args.model.as_deref().unwrap_or(DEFAULT_MODEL), args.variant.as_deref())?;
    let network = Network::build(&spec, args.classes.or(spec.classes).unwrap_or(STUDY_CLASSES))?;
    let network = Arc::new(network);
    let conv = settings::conv(args.conv.as_deref(), ConvChoice::default())?;
    let options = BenchOptions { batch: args.batch as usize, conv, quick: args.quick };
    if args.scaling {
        anyhow::ensure!(
            !matches!(context.device_if_asked()?, Device::Cuda(..)),
            "--scaling measures the CPU; leave --device out"
        );
        return scaling(&network, &options, context);
    }
    if let Device::Cuda(gpu, _) = context.device_if_asked()? {
        let precision = settings::precision(args.precision.as_deref(), Precision::F32)?;
        let measured = gpu_bench::bench(&network, &options, (&gpu, precision))?;
        return if context.json {
            output::json(&measured)
        } else {
            output::print_filled(&show_gpu(&network, &measured))
        };
    }
    context.device_if_asked()?;
    let progress = Measuring::new(context);
    let measured = bench(&network, &options, context.isa, &mut |next, done, all| progress.report(next, done, all));
    progress.finish();
    let measured = measured?;
    if context.json { output::json(&measured) } else { output::print_filled(&show(&network, &measured)) }
}

/// Measures and prints how the training step scales.
fn scaling(network: &Arc<Network>, options: &BenchOptions, context: &Context) -> Result<()> {
    let &BenchOptions { batch, conv, quick } = options;
    let progress = Measuring::new(context);
    let mut report = |next: &str, done, all| progress.report(next, done, all);
    let measured = scaling::scaling(network, (batch, conv, quick), context.isa, context.threads, &mut report);
    progress.finish();
    let measured = measured?;
    if context.json { output::json(&measured) } else { output::print_filled(&show_scaling(network, &measured)) }
}

fn show_scaling(network: &Network, s: &Scaling) -> String {
    let mut table = Table::new([
        right("threads"),
        right("ms"),
        right("speed-up"),
        right("GB/s").optional(2),
        right("measured ms"),
        right("measured speed-up").optional(1),
    ]);
    let alone = s.predictions[0].measured_seconds;
    for Prediction { threads, seconds, speedup, bytes_per_second, measured_seconds } in &s.predictions {
        let ratio = alone.zip(*measured_seconds).map(|(one, many)| one / many);
        let or_none = |number: Option<f64>| number.map_or("-".to_string(), |number| format!("{number:.2}"));
        table.row([
            threads.to_string(),
            format!("{:.2}", 1e3 * seconds),
            format!("{speedup:.2}"),
            format!("{:.1}", bytes_per_second / 1e9),
            or_none(measured_seconds.map(|seconds| 1e3 * seconds)),
            or_none(ratio),
        ]);
    }
    let mut parts = Table::new([
        left("part of a step"),
        right("times").optional(2),
        right("items"),
        right("ms"),
        right("longest item").optional(1),
    ]);
    for Kind { name, parts: times, least_items, seconds, critical_seconds } in &s.kinds {
        let what = match *name {
            "samples" => "samples through their stages",
            "groups" => "dense layers, groups of samples",
            "batch" => "dense layers, gradients of the batch",
            "collect" => "dense layers, samples collected",
            "merge" => "sums over the batch",
            "gradient" => "gradient cleared and added",
            "reorder" => "gradients into the order of the parameters",
            "prepare" => "weights packed",
            "optimiser" => "Adam",
            other => other,
        };
        let [all, longest] = [seconds, critical_seconds].map(|seconds| format!("{:.3}", 1e3 * seconds));
        parts.row([what.to_string(), times.to_string(), least_items.to_string(), all, longest]);
    }
    format!(
        "{}\ntraining step of {}, {}\n\n{table}\n{parts}\n\
         ms, speed-up: predicted from the items of each part, timed on one thread; what threads cost each other is left out\n\
         GB/s: {:.1} MB that pass through memory in a step, divided by its time; compare it with what the machine's memory gives\n\
         items: the fewest of any part; no more threads can take part in it; longest item: its ms, the sum over the parts\n",
        title(network),
        count(s.batch as u64, "clip"),
        s.isa,
        s.bytes as f64 / 1e6,
    )
}

/// A row per kernel, and the steps as a whole.
fn show_gpu(network: &Network, b: &GpuBench) -> String {
    let rates = [right("TMAC/s"), right("GB/s").optional(1), right("MB").optional(2)];
    let mut table = Table::new([left("layer"), left("pass"), left("kernel"), right("us")].into_iter().chain(rates));
    for KernelTime { cost, seconds } in &b.kernels {
        let rate = |amount: u64, unit: f64| match amount {
            0 => "-".to_string(),
            amount => format!("{:.1}", amount as f64 / seconds / unit),
        };
        table.row([
            cost.layer.clone(),
            cost.pass.into(),
            cost.kernel.clone(),
            format!("{:.1}", 1e6 * seconds),
            rate(cost.macs, 1e12),
            rate(cost.bytes, 1e9),
            format!("{:.1}", cost.bytes as f64 / 1e6),
        ]);
    }
    let clips = count(b.batch as u64, "clip");
    let line = |what: &str, seconds: f64| {
        let rate = thousands((b.batch as f64 / seconds) as u64);
        format!("{what}: {:.3} ms for {clips}, {rate} clips/s\n", 1e3 * seconds)
    };
    format!(
        "{}\n{}, {}\n\n{table}\n\
         each kernel is executed by itself; us: median of several executions, in microseconds\n\
         TMAC/s: MACs of the direct algorithm per second, in units of 10^12; 1 MAC is 2 FLOPs; any other operation counts \
         as half a MAC\n\
         MB, GB/s: numbers read and written, each once\n\n\
         one training step: {}, {:.2} thousand million MACs, {:.1} MB; no kernel is active in {:.0} % of it\n{}{}{}{}",
        title(network),
        b.gpu,
        b.precision,
        count(b.kernels.len() as u64, "kernel"),
        b.macs() as f64 / 1e9,
        b.bytes() as f64 / 1e6,
        100.0 * b.gaps(),
        line("training step", b.step_seconds),
        line("training step within a run", b.step_in_run_seconds),
        line("training step with upload of the clips and download of the loss", b.step_from_host_seconds),
        line("inference", b.recognise_seconds),
    )
}

fn show(network: &Network, b: &NetworkBench) -> String {
    let figures = [right("ms"), right("GMAC/s"), right("of peak"), right("MB").optional(2), right("error").optional(1)];
    let mut table = Table::new([left("pass"), left("algorithm")].into_iter().chain(figures));
    b.layers.iter().for_each(|layer| rows(&mut table, layer));
    table.heading("all layers");
    b.totals.iter().for_each(|total| sum(&mut table, total));
    let most = b.layers.iter().map(|layer| layer.checked_rows).max().unwrap_or(0);
    let busy = busy_remark(b.lost_share).map_or(String::new(), |remark| format!("\n{remark}\n"));
    format!(
        "{}\n{}, {}, peak of {:.1} GMAC/s per core; convolutions: {}\n\n{table}\n{}\n{}{}{busy}",
        title(network),
        count(b.threads as u64, "thread"),
        b.isa,
        b.peak_gmacs_per_second,
        b.conv,
        footnotes(b.batch, most),
        line("training step", &b.step, b.threads),
        line("inference", &b.recognise, b.threads),
    )
}

/// A heading with the layer's name and shapes, then a row per pass.
fn rows(table: &mut Table, layer: &LayerBench) {
    let ([l_in, c_in], [l_out, c_out]) = (layer.input, layer.output);
    table.heading(format!("{}: {l_in} x {c_in} to {l_out} x {c_out}", layer.layer));
    for PassBench { pass, algorithm, seconds, gmacs_per_second, peak_share, bytes, error, .. } in &layer.passes {
        let error = if *error == 0.0 { "0".into() } else { format!("{error:.1e}") };
        let firsts = [format!("  {pass}"), algorithm.to_string()];
        let figures = figures(*seconds, *gmacs_per_second, *peak_share, *bytes);
        table.row(firsts.into_iter().chain(figures).chain([error]));
    }
}

fn sum(table: &mut Table, total: &Total) {
    let Total { pass, seconds, gmacs_per_second, peak_share, bytes, .. } = *total;
    let firsts = [format!("  {pass}"), String::new()];
    table.row(firsts.into_iter().chain(figures(seconds, gmacs_per_second, peak_share, bytes)));
}

/// Milliseconds, rate, share of the peak, megabytes.
fn figures(seconds: f64, rate: Option<f64>, share: Option<f64>, bytes: u64) -> [String; 4] {
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    [
        format!("{:.3}", 1e3 * seconds),
        rate.map_or("-".into(), |rate| format!("{rate:.1}")),
        share.map_or("-".into(), percent),
        format!("{:.1}", bytes as f64 / 1e6),
    ]
}

fn footnotes(batch: usize, most: usize) -> String {
    format!(
        "each layer is executed by itself, on one thread, for a batch of {}; ms: median of several executions\n\
         length x channels of input and output; backward-data: gradients of the inputs; backward-weight: gradients of the \
         parameters; backward: both in one pass\n\
         GMAC/s: MACs of the direct algorithm per second, in units of 10^9, so that a faster algorithm can exceed the peak; \
         1 MAC is 2 FLOPs\n\
         of peak: share of the rate of a loop of multiply-adds, measured just before (of the whole network: on all threads)\n\
         MB: numbers read and written, each once\n\
         error: relative rms difference from the reference in double precision, on at most {} of random numbers\n",
        count(batch as u64, "clip"),
        count(most as u64, "row"),
    )
}

/// `training step of 32 clips: 21.40 ms, 1,495 clips/s, 202.1 GMAC/s, 180 % of peak`, with the cores that take part if they are
/// fewer than `threads`.
fn line(what: &str, whole: &Whole, threads: usize) -> String {
    let cores = match whole.cores == threads {
        true => String::new(),
        false => format!(" of {}", count(whole.cores as u64, "core")),
    };
    format!(
        "{what} of {}: {:.2} ms, {} clips/s, {:.1} GMAC/s, {:.0} % of peak{cores}\n",
        count(whole.clips as u64, "clip"),
        1e3 * whole.seconds,
        thousands(whole.clips_per_second.round() as u64),
        whole.gmacs_per_second,
        100.0 * whole.peak_share,
    )
}
