//! `stapes bench`: how fast a network is here, layer by layer and as a whole.

use super::context::Context;
use super::models::title;
use super::output;
use super::progress::Measuring;
use super::settings::{self, DEFAULT_MODEL};
use super::table::thousands;
use super::table::{Table, count, left, right};
use crate::exec::Device;
use crate::nn::{Network, STUDY_CLASSES};
use crate::ops::ConvChoice;
use crate::ops::device::Precision;
use crate::train::bench::{BenchOptions, LayerBench, NetworkBench, PassBench, Total, Whole, bench};
use crate::train::gpu_bench::{self, GpuBench, KernelTime};
use anyhow::Result;
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  stapes bench
  stapes bench mine.toml --quick
  stapes bench custom64-8 --variant do+bn --conv direct
  STAPES_ISA=avx2 stapes bench vgg64-16 --batch 8 --json
  stapes bench custom32-8 --device cuda --precision tf32

Measures the processor, unless --device names a GPU.";

/// Options of `stapes bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Network by name or TOML file; custom32-8 if not given.
    #[arg(value_name = "NAME|FILE.toml")]
    model: Option<String>,
    /// With dropout, batch norm or both.
    #[arg(long, value_parser = ["do", "bn", "do+bn"])]
    variant: Option<String>,
    /// How many words it tells apart [default: as the file says, else 16 as in the study].
    #[arg(long, value_name = "N")]
    classes: Option<usize>,
    /// Clips in a batch.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch: u32,
    /// How convolutions are computed: every op by itself, fused with fewer multiplications, or whichever is faster [default: auto].
    #[arg(long, value_name = "HOW", value_parser = ConvChoice::NAMES)]
    conv: Option<String>,
    /// Measure only roughly: a few runs of each pass instead of a fifth of a second.
    #[arg(long)]
    quick: bool,
    /// How exactly a GPU computes [default: f32].
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
    if let Device::Cuda(gpu, _) = context.device_if_asked()? {
        let precision = settings::precision(args.precision.as_deref(), Precision::F32)?;
        let measured = gpu_bench::bench(&network, &options, (&gpu, precision))?;
        return if context.json { output::json(&measured) } else { output::print(&show_gpu(&network, &measured)) };
    }
    context.device_if_asked()?;
    let progress = Measuring::new(context);
    let measured = bench(&network, &options, context.isa, &mut |next, done, all| progress.report(next, done, all));
    progress.finish();
    let measured = measured?;
    if context.json { output::json(&measured) } else { output::print(&show(&network, &measured)) }
}

/// A row a kernel, and the steps as a whole.
fn show_gpu(network: &Network, b: &GpuBench) -> String {
    let heads = [left("layer"), left("pass"), left("kernel"), right("us"), right("TMAC/s"), right("GB/s"), right("MB")];
    let mut table = Table::new(heads);
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
        format!("{what} {clips}: {:.3} ms, {} clips/s\n", 1e3 * seconds, thousands((b.batch as f64 / seconds) as u64))
    };
    format!(
        "{}\n{}, {}\n\n{table}\n\
         kernels: each alone, median of several; TMAC/s and GB/s: of the MACs that the layer asks for (any other operation counts as half a MAC), and of its bytes, each once\n\n\
         a step: {}, {:.2} GMACs, {:.1} MB, {:.0} % of it without a kernel\n{}{}{}{}",
        title(network),
        b.gpu,
        b.precision,
        count(b.kernels.len() as u64, "kernel"),
        b.macs() as f64 / 1e9,
        b.bytes() as f64 / 1e6,
        100.0 * b.gaps(),
        line("a training step of", b.step_seconds),
        line("one among many in a run,", b.step_in_run_seconds),
        line("one with its clips from the host and its loss back,", b.step_from_host_seconds),
        line("recognising", b.recognise_seconds),
    )
}

fn show(network: &Network, b: &NetworkBench) -> String {
    let mut table = Table::new([
        left("layer"),
        left("pass"),
        left("algorithm"),
        right("ms"),
        right("GMAC/s"),
        right("of peak"),
        right("MB"),
        right("error"),
    ]);
    b.layers.iter().for_each(|layer| rows(&mut table, layer));
    table.row([""]);
    b.totals.iter().enumerate().for_each(|(i, total)| sum(&mut table, if i == 0 { "all layers" } else { "" }, total));
    let most = b.layers.iter().map(|layer| layer.checked_rows).max().unwrap_or(0);
    format!(
        "{}\n{}, {}, {:.1} GMAC/s a core at most; convolutions {}\n\n{table}\n{}\n{}{}",
        title(network),
        count(b.threads as u64, "thread"),
        b.isa,
        b.peak_gmacs_per_second,
        b.conv,
        footnotes(b.batch, most),
        line("a training step of", &b.step),
        line("recognising", &b.recognise),
    )
}

/// A row a pass: the layer's name beside the first, its shapes beside the second.
fn rows(table: &mut Table, layer: &LayerBench) {
    let ([l_in, c_in], [l_out, c_out]) = (layer.input, layer.output);
    let names = [layer.layer.clone(), format!("  {l_in} x {c_in} to {l_out} x {c_out}")];
    for i in 0..layer.passes.len().max(names.len()) {
        let mut cells = vec![names.get(i).cloned().unwrap_or_default()];
        if let Some(PassBench { pass, algorithm, seconds, gmacs_per_second, peak_share, bytes, error, .. }) =
            layer.passes.get(i)
        {
            cells.extend([pass.to_string(), algorithm.to_string()]);
            cells.extend(figures(*seconds, *gmacs_per_second, *peak_share, *bytes));
            cells.push(if *error == 0.0 { "0".into() } else { format!("{error:.1e}") });
        }
        table.row(cells);
    }
}

fn sum(table: &mut Table, name: &str, total: &Total) {
    let Total { pass, seconds, gmacs_per_second, peak_share, bytes, .. } = *total;
    let firsts = [name.to_string(), pass.into(), String::new()];
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
        "layers: each alone, on one thread, over a batch of {}; ms: median of several runs\n\
         backward-data: the gradients of the inputs; backward-weight: of the parameters; backward: both at once\n\
         GMAC/s: MACs of the direct convolution per second, whatever the algorithm, so that it can exceed 100 % of peak; 1 MAC is 2 FLOPs\n\
         of peak: of a loop of multiply-adds, measured just before; MB: numbers read and written, each once\n\
         error: relative rms difference from the reference in double precision, on at most {} of random numbers\n",
        count(batch as u64, "clip"),
        count(most as u64, "row"),
    )
}

/// `a training step of 32 clips: 21.4 ms, 1,495 clips/s, 202.1 GMAC/s, 180 % of the peak of 2 cores`
fn line(what: &str, whole: &Whole) -> String {
    format!(
        "{what} {}: {:.2} ms, {:.0} clips/s, {:.1} GMAC/s, {:.0} % of the peak of {}\n",
        count(whole.clips as u64, "clip"),
        1e3 * whole.seconds,
        whole.clips_per_second,
        whole.gmacs_per_second,
        100.0 * whole.peak_share,
        count(whole.cores as u64, "core"),
    )
}
