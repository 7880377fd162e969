//! `stapes models`: the networks, the layers of one, the plan of one.

use super::context::Context;
use super::ending::usage;
use super::table::{Table, bytes, count, left, right, thousands};
use super::{output, run_name, settings};
use crate::exec::DeviceChoice;
use crate::graph::{LaunchGroup, Order, Plan, PlanOptions, PlannedLaunch};
use crate::nn::{self, Network, NetworkSpec, STUDY_CLASSES, Study, Summary, Variant};
use crate::ops::ConvChoice;
use crate::ops::device::{Launch, Precision, Products};
use crate::train::{Recogniser, Trainer};
use anyhow::Result;
use clap::ValueEnum;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  stapes models
  stapes models custom32-8 --variant do+bn
  stapes models mine.toml --plan --batch 8
  stapes models custom32-8 --plan --device cuda --precision tf32

do, bn, do+bn: the test accuracy that the study printed for the network with dropout, batch norm, or both.";

/// Options of `stapes models`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Network by name or TOML file; all if not given.
    #[arg(value_name = "NAME|FILE.toml")]
    model: Option<String>,
    /// With dropout, batch norm or both.
    #[arg(long, value_parser = ["do", "bn", "do+bn"])]
    variant: Option<String>,
    /// How many words it tells apart [default: as the file says, else 16 as in the study].
    #[arg(long, value_name = "N")]
    classes: Option<usize>,
    /// Print the plan: each step with its buffers; with --device cuda each launch of a kernel, for which no GPU need be there.
    #[arg(long, value_enum, value_name = "FOR", requires = "model", num_args = 0..=1, default_missing_value = "train")]
    plan: Option<Purpose>,
    /// Clips in a batch of the plan.
    #[arg(long, value_name = "N", default_value_t = 32, requires = "plan",
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch: u32,
    /// How convolutions are computed: every op by itself, fused with fewer multiplications, or whichever is faster [default: auto].
    #[arg(long, value_name = "HOW", value_parser = ConvChoice::NAMES, requires = "plan")]
    conv: Option<String>,
    /// How exactly the GPU of the plan computes [default: f32].
    #[arg(long, value_name = "HOW", value_parser = Precision::NAMES, requires = "plan")]
    precision: Option<String>,
    /// Compute capability of the GPU of the plan.
    #[arg(long, value_name = "MAJOR.MINOR", default_value = "9.0", requires = "plan", value_parser = capability)]
    capability: (u32, u32),
}

fn capability(text: &str) -> Result<(u32, u32), String> {
    let number = |text: &str| text.parse().ok();
    let both = text.split_once('.').and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
    both.ok_or_else(|| format!("`{text}` is no compute capability such as 9.0"))
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Purpose {
    Train,
    Infer,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let Some(model) = &args.model else { return list(args, context) };
    let spec = settings::network(model, args.variant.as_deref())?;
    let network = Network::build(&spec, args.classes.or(spec.classes).unwrap_or(STUDY_CLASSES))?;
    match args.plan {
        Some(purpose) => {
            let conv = settings::conv(args.conv.as_deref(), ConvChoice::default())?;
            let options = options(&network, purpose, args.batch as usize).conv(conv);
            let precision = settings::precision(args.precision.as_deref(), Precision::F32)?;
            match context.choice {
                DeviceChoice::Cuda(_) => {
                    launches(&network, &options.device(Products::of(precision, args.capability)), context)
                }
                _ => plan(&network, &options, context),
            }
        }
        None => layers(&network, nn::find(model).ok(), context),
    }
}

fn list(args: &Args, context: &Context) -> Result<()> {
    let variant: Variant = args.variant.as_deref().unwrap_or("do").parse().map_err(usage)?;
    let mut summaries = Vec::new();
    for study in nn::all() {
        let network = Network::build(&study.spec(variant), args.classes.unwrap_or(STUDY_CLASSES))?;
        summaries.push(network.summary(Some(study)));
    }
    if context.json {
        return output::json(&summaries);
    }
    let heads = ["layers", "parameters", "MMACs", "do", "bn", "do+bn"].map(right);
    let mut table = Table::new([left("name")].into_iter().chain(heads));
    for s in &summaries {
        let figures = [s.layers.to_string(), thousands(s.params), mega(s.macs)];
        table.row([s.name.clone()].into_iter().chain(figures).chain(accuracies(s)));
    }
    output::print(&format!(
        "{table}\n{} with {}, {} as built; MMACs: millions of MACs of one clip, forward (1 MAC is 2 FLOPs); accuracies: as the study printed them\n",
        count(summaries.len() as u64, "network"),
        count(args.classes.unwrap_or(STUDY_CLASSES) as u64, "word"),
        variant
    ))
}

fn mega(macs: u64) -> String {
    format!("{:.1}", macs as f64 / 1e6)
}

fn accuracies(summary: &Summary) -> [String; 3] {
    let study = summary.study.as_ref().map(|study| study.accuracy);
    let all = study.map_or([None; 3], |a| [a.dropout, a.bn, a.both]);
    all.map(|accuracy| accuracy.map_or("-".into(), |accuracy| format!("{accuracy:.4}")))
}

fn layers(network: &Network, study: Option<&Study>, context: &Context) -> Result<()> {
    let (rows, summary) = (network.describe(), network.summary(study));
    if context.json {
        return output::json(&json!({ "summary": summary, "layers": rows }));
    }
    let heads = ["length", "channels", "parameters", "MMACs", "hears", "ms"].map(right);
    let mut table = Table::new([left("layer"), left("op")].into_iter().chain(heads));
    for row in &rows {
        table.row([
            row.name.clone(),
            row.op.into(),
            thousands(row.length as u64),
            thousands(row.channels as u64),
            thousands(row.params),
            mega(row.macs),
            thousands(row.receptive_samples),
            format!("{:.1}", row.receptive_ms),
        ]);
    }
    let mut text = format!("{}\n\n{table}\n", title(network));
    text += &format!(
        "{}, {} a clip forward; hears: samples of the recording that one output sees\n",
        count(summary.params, "parameter"),
        format_args!("{} million MACs (1 MAC is 2 FLOPs)", mega(summary.macs))
    );
    if let Some(printed) = &summary.study {
        let [dropout, bn, both] = accuracies(&summary);
        text += &format!("test accuracy that the study printed: do {dropout}, bn {bn}, do+bn {both}\n");
        if let Some(params) = printed.params {
            text += &format!("parameters that the study printed: {}\n", thousands(params));
        }
    }
    output::print(&text)
}

/// What the network is, in a line.
pub fn title(network: &Network) -> String {
    let NetworkSpec { name, input, .. } = &network.spec;
    let variant = run_name::variant(&network.spec).map_or(String::new(), |variant| format!(" {variant}"));
    let channels = if input.channels == 1 { "mono".into() } else { count(input.channels as u64, "channel") };
    format!(
        "{name}{variant}: {} of {} Hz {channels} to {}",
        count(input.length as u64, "sample"),
        input.sample_rate,
        count(network.classes as u64, "word")
    )
}

/// As the program itself lowers a network for this purpose.
fn options(network: &Network, purpose: Purpose, batch: usize) -> PlanOptions {
    match purpose {
        Purpose::Train => Trainer::options(network, batch),
        Purpose::Infer => Recogniser::options(network, batch),
    }
}

fn order_name(order: Order) -> &'static str {
    match order {
        Order::DepthFirst => "depth first",
        Order::LayerByLayer => "layer by layer",
    }
}

/// The order of a plan's steps in a line.
fn order(plan: &Plan, order: Order) -> String {
    let list = |what: &str, steps: Vec<usize>| match steps[..] {
        [] => String::new(),
        ref steps => format!("; {what} at steps {}", steps.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    };
    let way = match (order, plan.stages.len()) {
        (Order::LayerByLayer, _) => "all clips take one step before the next",
        (Order::DepthFirst, 0 | 1) => "a clip takes all steps before the next clip takes any",
        (Order::DepthFirst, _) => "a clip takes all steps of a stage before the next clip takes any",
    };
    let merges = list("merges over the whole batch", plan.merges());
    let together = list("all clips of a shard of the batch at once", plan.per_shard());
    format!("order: {}, {way}{merges}{together}", order_name(order))
}

/// The launches of a plan for a GPU, with what each costs.
fn launches(network: &Network, options: &PlanOptions, context: &Context) -> Result<()> {
    let plan = Plan::new(&network.graph, options)?;
    let preparing = if plan.trains() { plan.preparing_launches() } else { Vec::new() };
    let launches = plan.launches().into_iter().chain(plan.finishing_launches()).chain(preparing);
    let all = LaunchGroup::all(launches.collect());
    let macs_of = |group: &LaunchGroup| group.flops().div_ceil(2);
    let (macs, moved) = (all.iter().map(macs_of).sum::<u64>(), all.iter().map(LaunchGroup::bytes).sum::<u64>());
    let memory = plan.memory_bytes(0);
    if context.json {
        let rows = all.iter().map(|group| {
            let PlannedLaunch { pass, at, step, launch: Launch { block, shared_bytes, concurrent, .. }, .. } = &group.0[0];
            let at = step.as_ref().map(|_| at);
            json!({ "layer": group.layer(&plan), "pass": pass, "kernel": group.kernel(), "grid": group.grid(), "block": block,
                "shared_bytes": shared_bytes, "bytes": group.bytes(), "macs": macs_of(group), "step": at, "concurrent": concurrent })
        });
        return output::json(&json!({
            "name": network.spec.name, "batch": plan.n, "memory_bytes": memory, "bytes": moved, "macs": macs,
            "launches": rows.collect::<Vec<_>>(),
        }));
    }
    let mut table = Table::new([
        left("layer"),
        left("pass"),
        left("kernel"),
        left("blocks"),
        right("threads"),
        right("shared"),
        right("MB"),
        right("MMACs"),
    ]);
    for group in &all {
        let PlannedLaunch { pass, launch: Launch { block, shared_bytes, .. }, .. } = &group.0[0];
        let [x, y, z] = group.grid();
        table.row([
            group.layer(&plan),
            (*pass).into(),
            group.kernel(),
            format!("{x} x {y} x {z}"),
            block.to_string(),
            shared_bytes.to_string(),
            format!("{:.2}", group.bytes() as f64 / 1e6),
            format!("{:.1}", macs_of(group) as f64 / 1e6),
        ]);
    }
    output::print(&format!(
        "{}, batches of {} on a GPU\n\n{table}\n{}, {:.2} GMACs, {:.1} MB read and written, each number once; memory {}\n",
        title(network),
        plan.n,
        count(all.len() as u64, "kernel"),
        macs as f64 / 1e9,
        moved as f64 / 1e6,
        bytes(memory as u64),
    ))
}

fn plan(network: &Network, options: &PlanOptions, context: &Context) -> Result<()> {
    let batch = options.n;
    let plan = Plan::new(&network.graph, options)?;
    let rows = plan.rows();
    let memory = plan.memory_bytes(context.threads);
    let macs: u64 = rows.iter().map(|row| row.macs).sum();
    if context.json {
        return output::json(&json!({
            "name": network.spec.name, "batch": batch, "shards": plan.shards, "memory_bytes": memory, "macs": macs,
            "workspace_bytes": 4 * plan.workspace_len, "shard_bytes": 4 * plan.shard_len,
            "order": order_name(options.order), "merges": plan.merges(), "per_shard": plan.per_shard(),
            "steps": rows,
        }));
    }
    let mut table = Table::new([
        right("step"),
        left("node"),
        left("op"),
        left("pass"),
        left("algorithm"),
        right("stage"),
        left("runs"),
        left("space"),
        right("offset"),
        right("bytes"),
        right("MMACs"),
    ]);
    for row in &rows {
        let phase = if row.phase > 0 { format!(" {}", row.phase) } else { String::new() };
        table.row([
            row.step.to_string(),
            row.node.clone(),
            row.op.into(),
            format!("{}{phase}", row.pass),
            row.algorithm.clone(),
            row.stage.to_string(),
            row.runs.into(),
            row.space.into(),
            thousands(row.offset as u64),
            thousands(row.bytes as u64),
            format!("{:.3}", row.macs as f64 / 1e6),
        ]);
    }
    output::print(&format!(
        "{}, batches of {batch} in {}\n{}\n\n{table}\n{} in {}; {:.1} million MACs per clip\nmemory with {}: {} (a workspace of {} a thread, {} a clip, packed weights and sums of gradients)\n",
        title(network),
        count(plan.shards as u64, "shard"),
        order(&plan, options.order),
        count(rows.len() as u64, "step"),
        count(plan.stages.len() as u64, "stage"),
        macs as f64 / 1e6,
        count(context.threads as u64, "thread"),
        bytes(memory as u64),
        bytes(4 * plan.workspace_len as u64),
        bytes(4 * plan.shard_len as u64),
    ))
}
