//! `stapes models`: the list of networks, the layers of one, the plan of one.

use super::context::Context;
use super::ending::usage;
use super::table::{Table, bytes, count, left, right, thousands};
use super::{output, run_name, settings};
use crate::exec::DeviceChoice;
use crate::graph::{LaunchGroup, Order, Plan, PlanOptions, PlannedLaunch};
use crate::nn::{self, Network, NetworkSpec, STUDY_CLASSES, STUDY_SOURCE, STUDY_TASK, Study, Summary, Variant};
use crate::ops::ConvChoice;
use crate::ops::device::{Launch, Precision, Products};
use crate::train::Model;
use anyhow::Result;
use clap::ValueEnum;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  stapes models
  stapes models custom32-8 --variant do+bn
  stapes models mine.toml --plan --batch 8
  stapes models custom32-8 --plan --device cuda --precision tf32

The columns do, bn and do+bn hold the test accuracy that the study reports for the network with dropout, batch norm, or both.

MMACs: millions of multiply-accumulate operations (MACs); 1 MAC is 2 floating-point operations (FLOPs).";

/// Options of `stapes models`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Network, by name or by TOML file; lists all networks if omitted.
    #[arg(value_name = "NAME|FILE.toml")]
    model: Option<String>,
    /// Build the network with dropout (do), batch norm (bn) or both.
    #[arg(long, value_parser = ["do", "bn", "do+bn"])]
    variant: Option<String>,
    /// Number of classes [default: that of the file, else 16 as in the study].
    #[arg(long, value_name = "N", value_parser = class_count)]
    classes: Option<usize>,
    /// Print the plan for training or inference: each step with its buffers, or with --device cuda each kernel launch (works without a GPU).
    #[arg(long, value_enum, value_name = "FOR", requires = "model", num_args = 0..=1, default_missing_value = "train")]
    plan: Option<Purpose>,
    /// Clips in a batch of the plan.
    #[arg(long, value_name = "N", default_value_t = 32, requires = "plan",
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch: u32,
    /// Algorithm of convolutions: every operation by itself, fused with Toom-Cook (Winograd), or the faster of both [default: auto].
    #[arg(long, value_name = "HOW", value_parser = ConvChoice::NAMES, requires = "plan")]
    conv: Option<String>,
    /// Precision of matrix products on the GPU of the plan [default: f32].
    #[arg(long, value_name = "HOW", value_parser = Precision::NAMES, requires = "plan")]
    precision: Option<String>,
    /// Compute capability of the GPU of the plan.
    #[arg(long, value_name = "MAJOR.MINOR", default_value = "9.0", requires = "plan", value_parser = capability)]
    capability: (u32, u32),
}

/// The number of classes in an option of a command that needs no names of classes.
pub fn class_count(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&classes| classes > 0);
    number.ok_or_else(|| {
        format!("`{text}` is no number of classes; this command takes their number, such as 12, not their names")
    })
}

fn capability(text: &str) -> Result<(u32, u32), String> {
    let number = |text: &str| text.parse().ok();
    let both = text.split_once('.').and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
    both.ok_or_else(|| format!("`{text}` is not a compute capability; write it as MAJOR.MINOR, such as 9.0"))
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
    let variant: Option<Variant> = args.variant.as_deref().map(str::parse).transpose().map_err(usage::<String>)?;
    let classes = args.classes.unwrap_or(STUDY_CLASSES);
    let mut summaries = Vec::new();
    for study in nn::all() {
        let network = Network::build(&study.spec(variant.unwrap_or_default()), classes)?;
        summaries.push(network.summary(Some(study)));
    }
    for mut spec in nn::recommended() {
        variant.into_iter().for_each(|variant| spec.set_variant(variant));
        summaries.push(Network::build(&spec, classes)?.summary(None));
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
    output::print_filled(&format!(
        "{table}\n{} with {}, built {}\nMMACs: millions of MACs in the forward pass of one clip; 1 MAC is 2 FLOPs\n\
         do, bn, do+bn: test accuracy that the study reports with dropout, batch norm, or both\n\
         the study: {STUDY_SOURCE}: {STUDY_TASK}\n",
        count(summaries.len() as u64, "network"),
        count(classes as u64, "class"),
        match variant {
            Some(variant) => with(variant).into(),
            None => format!("{}; recommended networks, not of the study, {}", with(Variant::Do), with(Variant::DoBn)),
        },
    ))
}

/// `with dropout`, for a variant.
fn with(variant: Variant) -> &'static str {
    match variant {
        Variant::Do => "with dropout",
        Variant::Bn => "with batch norm",
        Variant::DoBn => "with dropout and batch norm",
    }
}

/// `custom32-8 with dropout`.
pub fn described(network: &NetworkSpec) -> String {
    run_name::variant(network).map_or(network.name.clone(), |variant| format!("{} {}", network.name, with(variant)))
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
    let heads = ["length", "channels", "parameters", "MMACs"].map(right);
    let reach = [right("receptive field").optional(3), right("ms").optional(4)];
    let [length, channels, parameters, macs] = heads;
    let heads = [length.optional(2), channels.optional(1), parameters, macs];
    let mut table = Table::new([left("layer").whole(), left("op").whole()].into_iter().chain(heads).chain(reach));
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
        "{}, {} million MACs in the forward pass of one clip (1 MAC is 2 FLOPs)\n",
        count(summary.params, "parameter"),
        mega(summary.macs)
    );
    text +=
        "MMACs: millions of MACs\nreceptive field: samples of the input that influence one output; ms: its duration\n";
    if let Some(reported) = &summary.study {
        let [dropout, bn, both] = accuracies(&summary);
        text += &format!("test accuracy that the study reports: do {dropout}, bn {bn}, do+bn {both}\n");
        if let Some(params) = reported.params {
            text += &format!("parameters that the study reports: {}\n", thousands(params));
        }
    }
    output::print_filled(&text)
}

/// The network and its input in a line.
pub fn title(network: &Network) -> String {
    let NetworkSpec { input, .. } = &network.spec;
    let channels = if input.channels == 1 { "mono".into() } else { count(input.channels as u64, "channel") };
    format!(
        "{}: input of {} at {} Hz, {channels}; {}",
        described(&network.spec),
        count(input.length as u64, "sample"),
        thousands(u64::from(input.sample_rate)),
        count(network.classes as u64, "class")
    )
}

/// The options with which the program lowers a network for this purpose.
fn options(network: &Network, purpose: Purpose, batch: usize) -> PlanOptions {
    let model = Model::from(network);
    match purpose {
        Purpose::Train => model.training_options(batch),
        Purpose::Infer => model.inference_options(batch),
    }
}

fn order_name(order: Order) -> &'static str {
    match order {
        Order::DepthFirst => "depth first",
        Order::LayerByLayer => "layer by layer",
    }
}

/// The order of a plan's steps, in sentences.
fn order(plan: &Plan, order: Order) -> String {
    let list = |steps: Vec<usize>, what: &str| match steps[..] {
        [] => String::new(),
        [step] => format!("\nstep {step} {what}"),
        ref steps => format!("\nsteps {} {what}", steps.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    };
    let explanation = match (order, plan.stages.len()) {
        (Order::LayerByLayer, _) => "each step is executed for all clips before the next step",
        (Order::DepthFirst, 0 | 1) => "each clip passes through all steps before the next clip",
        (Order::DepthFirst, _) => "each clip passes through all steps of a stage before the next clip",
    };
    let merges = list(plan.merges(), "combine sums over the whole batch");
    let together = list(plan.per_group(), "take all clips of a group of shards at once");
    format!("order: {}, {explanation}{merges}{together}", order_name(order))
}

/// Prints the launches of a plan for a GPU with the cost of each.
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
        left("blocks").optional(1),
        right("threads").optional(2),
        right("shared").optional(3),
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
            if y * z == 1 { x.to_string() } else { format!("{x} x {y} x {z}") },
            block.to_string(),
            shared_bytes.to_string(),
            format!("{:.2}", group.bytes() as f64 / 1e6),
            format!("{:.1}", macs_of(group) as f64 / 1e6),
        ]);
    }
    output::print_filled(&format!(
        "{}\nbatches of {} on a GPU\n\n{table}\n\
         {}: {:.2} thousand million MACs, {:.1} MB read and written; memory {}\n\
         MMACs: millions of MACs of the batch (1 MAC is 2 FLOPs); any other operation counts as half a MAC\n\
         MB: numbers read and written, each once; shared: bytes of shared memory per block\n",
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
            "order": order_name(options.order), "merges": plan.merges(), "per_group": plan.per_group(),
            "steps": rows,
        }));
    }
    let mut table = Table::new([
        right("step"),
        left("node"),
        left("op").optional(3),
        left("pass"),
        left("algorithm"),
        right("stage"),
        left("runs").optional(1),
        left("space").optional(2),
        right("offset").optional(4),
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
    output::print_filled(&format!(
        "{}\nbatches of {batch} in {}\n{}\n\n{table}\n\
         {} in {}; {:.1} million MACs per clip (1 MAC is 2 FLOPs)\n\
         memory with {}: {} (a workspace of {} per thread, {} per clip, packed weights and gradient accumulators)\n\
         MMACs: millions of MACs of one clip; bytes, offset: of the result of the step in its space\n",
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
