//! Floor 7. `stapes models`: the networks, the layers of one, the plan of one.

use super::context::Context;
use super::ending::usage;
use super::table::{Table, bytes, count, left, right, thousands};
use super::{output, run_name, settings};
use crate::graph::{Order, Plan, PlanOptions};
use crate::nn::{self, Network, NetworkSpec, STUDY_CLASSES, Study, Summary, Variant};
use crate::ops::ConvChoice;
use crate::train::{Recogniser, Trainer};
use anyhow::Result;
use clap::ValueEnum;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  stapes models
  stapes models custom32-8 --variant do+bn
  stapes models mine.toml --plan --batch 8

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
    /// Print the plan: each step with its buffers.
    #[arg(long, value_enum, value_name = "FOR", requires = "model", num_args = 0..=1, default_missing_value = "train")]
    plan: Option<Purpose>,
    /// Clips in a batch of the plan.
    #[arg(long, value_name = "N", default_value_t = 32, requires = "plan",
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch: u32,
    /// How convolutions are computed: every op by itself, fused with fewer multiplications, or whichever is faster [default: auto].
    #[arg(long, value_name = "HOW", value_parser = ConvChoice::NAMES, requires = "plan")]
    conv: Option<String>,
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
            plan(&network, &options, context)
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
    let heads = ["layers", "parameters", "MFLOPs", "do", "bn", "do+bn"].map(right);
    let mut table = Table::new([left("name")].into_iter().chain(heads));
    for s in &summaries {
        let figures = [s.layers.to_string(), thousands(s.params), mega(s.flops)];
        table.row([s.name.clone()].into_iter().chain(figures).chain(accuracies(s)));
    }
    output::print(&format!(
        "{table}\n{} with {}, {} as built; MFLOPs: one clip forward; accuracies: as the study printed them\n",
        count(summaries.len() as u64, "network"),
        count(args.classes.unwrap_or(STUDY_CLASSES) as u64, "word"),
        variant
    ))
}

fn mega(flops: u64) -> String {
    format!("{:.1}", flops as f64 / 1e6)
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
    let heads = ["length", "channels", "parameters", "MFLOPs", "hears", "ms"].map(right);
    let mut table = Table::new([left("layer"), left("op")].into_iter().chain(heads));
    for row in &rows {
        table.row([
            row.name.clone(),
            row.op.into(),
            thousands(row.length as u64),
            thousands(row.channels as u64),
            thousands(row.params),
            mega(row.flops),
            thousands(row.receptive_samples),
            format!("{:.1}", row.receptive_ms),
        ]);
    }
    let mut text = format!("{}\n\n{table}\n", title(network));
    text += &format!(
        "{}, {} a clip forward; hears: samples of the recording that one output sees\n",
        count(summary.params, "parameter"),
        format_args!("{} million floating-point operations", mega(summary.flops))
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
    let together = list("all clips of a part of the batch at once", plan.together());
    format!("order: {}, {way}{merges}{together}", order_name(order))
}

fn plan(network: &Network, options: &PlanOptions, context: &Context) -> Result<()> {
    let batch = options.n;
    let plan = Plan::new(&network.graph, options)?;
    let rows = plan.rows();
    let memory = plan.memory_bytes(context.threads);
    let macs: u64 = rows.iter().map(|row| row.macs).sum();
    if context.json {
        return output::json(&json!({
            "name": network.spec.name, "batch": batch, "parts": plan.parts, "memory_bytes": memory, "macs": macs,
            "slot_bytes": 4 * plan.slot_len, "part_bytes": 4 * plan.part_len,
            "order": order_name(options.order), "merges": plan.merges(), "together": plan.together(),
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
        right("million macs"),
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
        "{}, batches of {batch} in {}\n{}\n\n{table}\n{} in {}; {:.1} million multiply-adds a clip\nmemory with {}: {} (a slot of {} a thread, {} a clip, packed weights and sums of gradients)\n",
        title(network),
        count(plan.parts as u64, "part"),
        order(&plan, options.order),
        count(rows.len() as u64, "step"),
        count(plan.stages.len() as u64, "stage"),
        macs as f64 / 1e6,
        count(context.threads as u64, "thread"),
        bytes(memory as u64),
        bytes(4 * plan.slot_len as u64),
        bytes(4 * plan.part_len as u64),
    ))
}
