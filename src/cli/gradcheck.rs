//! `stapes gradcheck`: gradients compared with central differences in double precision, and kernels with the reference.

use super::context::Context;
use super::settings::DEFAULT_MODEL;
use super::table::{Table, left, right, thousands};
use super::{output, settings};
use crate::base::rng::{Key, Stream};
use crate::exec::conformance::{Compared, conformance, network_conformance};
use crate::exec::{Device, DeviceChoice};
use crate::nn::{self, Initialisation, Network, NetworkSpec};
use crate::ops;
use crate::ops::device::Precision;
use crate::train::Model;
use crate::train::Weights;
use crate::train::gradcheck::{GradientCheck, check_case, check_model};
use anyhow::{Result, anyhow, bail};
use rayon::prelude::*;
use serde::Serialize;

const EXAMPLES: &str = "\
Examples:
  stapes gradcheck                                 every operation by itself
  stapes gradcheck custom32-8 --length 6561        a whole network
  stapes gradcheck mine.toml --elements 10
  stapes gradcheck --device cuda --precision tf32  the kernels of a GPU
  stapes gradcheck custom32-8 --length 6561 --device cuda

The gradients of the reference, which computes every operation in double precision, are compared with the central difference
(f(x+h) - f(x-h)) / 2h. The error is relative to the largest gradient of the tensor (or to a thousandth of the largest gradient
of all tensors, if that is larger). The check fails above 1e-5 for an operation and above 1e-4 for a network, in which a ReLU or
a maximum may change its branch within h. An element whose gradient and central difference are both zero shows nothing: it is
not counted, and another element is checked in its place.

With --device cpu or cuda, the kernels of that device are compared with the reference instead: the relative rms error of outputs,
gradients and running statistics, for each case with its own tolerance; for a network, of the gradients of its parameters.";

/// Largest error of an operation.
const OP_LIMIT: f64 = 1e-5;
/// Largest error of a network.
const NETWORK_LIMIT: f64 = 1e-4;
/// Clips in the batch that a network is checked on.
const BATCH: usize = 2;
/// Clips in the batch on which kernels are checked: batch norm over two clips leaves only the sign of their difference.
const KERNELS_BATCH: usize = 5;
/// Classes of a network whose file does not give their number.
const CLASSES: usize = 4;

/// Options of `stapes gradcheck`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Network, by name or by TOML file; every operation by itself if omitted.
    #[arg(value_name = "NAME|FILE.toml")]
    model: Option<String>,
    /// Build the network with dropout (do), batch norm (bn) or both.
    #[arg(long, value_parser = ["do", "bn", "do+bn"], requires = "model")]
    variant: Option<String>,
    /// Number of elements checked per tensor, at most [default: 50 for an operation, 3 for a network].
    #[arg(long, value_name = "N", 
          value_parser = clap::value_parser!(u32).range(1..))]
    elements: Option<u32>,
    /// Input length in samples; a shorter input makes the check faster [default: that of the network].
    #[arg(long, value_name = "N", requires = "model")]
    length: Option<usize>,
    /// Precision of matrix products on a GPU [default: f32].
    #[arg(long, value_name = "HOW", value_parser = Precision::NAMES, conflicts_with = "model")]
    precision: Option<String>,
}

/// A checked tensor of an operation's case or of a network.
#[derive(Serialize)]
struct Row {
    of: String,
    case: String,
    #[serde(flatten)]
    checked: GradientCheck,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if context.choice != DeviceChoice::Auto {
        let precision = settings::precision(args.precision.as_deref(), Precision::F32)?;
        let device = context.device()?;
        let rows = match &args.model {
            None => kernel_rows(&device, precision)?,
            Some(_) => network_kernel_rows(args, &device, context)?,
        };
        return kernels(&rows, args.model.is_some() || context.verbose, context);
    }
    let (rows, limit) = match &args.model {
        None => (ops_rows(args.elements.unwrap_or(50) as usize), OP_LIMIT),
        Some(_) => {
            let spec = checked_spec(args)?;
            let seed = context.seed.unwrap_or(1);
            (network_rows(&spec, args.elements.unwrap_or(3) as usize, seed)?, NETWORK_LIMIT)
        }
    };
    let wrong = rows.iter().filter(|row| row.checked.error > limit || row.checked.error.is_nan()).count();
    let vanishing: Vec<&str> =
        rows.iter().filter(|row| row.checked.vanishes).map(|row| row.checked.tensor.as_str()).collect();
    match (context.json, &args.model) {
        (true, _) => output::json(&rows)?,
        (false, None) if !context.verbose => output::print_filled(&by_op(&rows))?,
        (false, model) => output::print_filled(&by_tensor(&rows, model.is_none()))?,
    }
    if wrong > 0 {
        bail!("the gradient of {wrong} of {} tensors differs by more than {limit:e}", rows.len());
    }
    if !vanishing.is_empty() {
        bail!(
            "no gradient reaches {} for any of the inputs that were drawn, so nothing is known about {}; give another --seed or a longer input",
            vanishing.join(", "),
            if vanishing.len() == 1 { "it" } else { "them" }
        );
    }
    context.remark(&format!("every gradient agrees within {limit:e}"));
    Ok(())
}

fn ops_rows(elements: usize) -> Vec<Row> {
    let cases: Vec<_> = ops::ALL.iter().flat_map(|family| (family.cases)()).filter(|case| !case.real).collect();
    let rows = cases.par_iter().flat_map_iter(|case| {
        let row = |checked| Row { of: case.op.name().into(), case: case.name.clone(), checked };
        check_case(case, elements).into_iter().map(row)
    });
    rows.collect()
}

/// The network of the command line, with the input length of the command line.
fn checked_spec(args: &Args) -> Result<NetworkSpec> {
    let mut spec = settings::network(args.model.as_deref().unwrap_or(DEFAULT_MODEL), args.variant.as_deref())?;
    spec.input.length = args.length.unwrap_or(spec.input.length);
    Ok(spec)
}

/// A network with random parameters, and a batch for it.
struct Drawn {
    network: Network,
    params: Vec<f64>,
    state: Vec<f64>,
    inputs: [Vec<f64>; 2],
}

fn drawn(spec: &NetworkSpec, batch: usize, seed: u64) -> Result<Drawn> {
    let classes = spec.classes.unwrap_or(CLASSES);
    let network = Network::build(spec, classes)?;
    let mut weights = Weights::zeros(&network.graph);
    nn::initialise(&network.graph, Initialisation::default(), seed, &mut weights.params, &mut weights.state);
    let wide = |numbers: &[f32]| numbers.iter().map(|&w| f64::from(w)).collect::<Vec<_>>();
    let noise = Key::new(seed, Stream::Case);
    let audio = 0..(batch * network.graph.shape(network.audio).size()) as u64;
    let audio = audio.map(|i| f64::from(noise.normal(i) as f32)).collect();
    let labels = (0..batch).map(|i| (i % classes) as f64).collect();
    let (params, state) = (wide(&weights.params), wide(&weights.state));
    Ok(Drawn { network, params, state, inputs: [audio, labels] })
}

fn network_rows(spec: &NetworkSpec, elements: usize, seed: u64) -> Result<Vec<Row>> {
    let network = Network::build(spec, spec.classes.unwrap_or(CLASSES))?;
    let checked = check_model(&Model::from(network), BATCH, elements, seed);
    Ok(checked.into_iter().map(|checked| Row { of: spec.name.clone(), case: String::new(), checked }).collect())
}

/// The error of a device's kernels on one tensor of a case.
#[derive(Serialize)]
struct KernelRow {
    op: String,
    case: String,
    #[serde(flatten)]
    compared: Compared,
}

/// The kernels of every operation on `device`, on all small cases.
fn kernel_rows(device: &Device, precision: Precision) -> Result<Vec<KernelRow>> {
    let mut rows = Vec::new();
    for family in ops::ALL {
        for case in (family.cases)().iter().filter(|case| !case.real) {
            let compared = conformance(case, device, precision)
                .map_err(|error| anyhow!("{} {}: {error}", family.name, case.name))?;
            let row = |compared| KernelRow { op: family.name.into(), case: case.name.clone(), compared };
            rows.extend(compared.into_iter().map(row));
        }
    }
    Ok(rows)
}

/// The gradients of a network's parameters on `device`.
fn network_kernel_rows(args: &Args, device: &Device, context: &Context) -> Result<Vec<KernelRow>> {
    let Drawn { network, params, state, inputs } =
        drawn(&checked_spec(args)?, KERNELS_BATCH, context.seed.unwrap_or(1))?;
    let compared =
        network_conformance(&network.graph, network.loss, KERNELS_BATCH, (&params, &state, &inputs), device)?;
    let row = |compared| KernelRow { op: network.spec.name.clone(), case: String::new(), compared };
    Ok(compared.into_iter().map(row).collect())
}

fn kernels(rows: &[KernelRow], verbose: bool, context: &Context) -> Result<()> {
    let wrong = rows.iter().filter(|row| !row.compared.agrees()).count();
    match context.json {
        true => output::json(&rows)?,
        false => output::print(&kernel_table(rows, verbose))?,
    }
    if wrong > 0 {
        bail!("{wrong} of {} tensors differ from the reference by more than their tolerance", rows.len());
    }
    let all = thousands(rows.len() as u64);
    context.remark(&format!("all {all} tensors agree with the reference in double precision"));
    Ok(())
}

/// A row per operation, for the case whose error is closest to its tolerance; with `verbose`, every row. Failures are always shown.
fn kernel_table(rows: &[KernelRow], verbose: bool) -> String {
    let heads = [left("op"), right("cases"), right("error"), right("tolerance"), left("case"), left("tensor")];
    let mut table = Table::new(heads);
    for of in rows.chunk_by(|a, b| a.op == b.op) {
        let mut cases: Vec<&str> = of.iter().map(|row| row.case.as_str()).collect();
        cases.dedup();
        let share = |row: &KernelRow| row.compared.error / row.compared.tolerance;
        let worst = of.iter().max_by(|a, b| share(a).total_cmp(&share(b)));
        let shown =
            |row: &&KernelRow| verbose || !row.compared.agrees() || worst.is_some_and(|w| std::ptr::eq(w, *row));
        for row in of.iter().filter(shown) {
            let Compared { tensor, error, tolerance } = &row.compared;
            let [error, tolerance] = [error, tolerance].map(|number| format!("{number:.1e}"));
            table.row([row.op.clone(), cases.len().to_string(), error, tolerance, row.case.clone(), tensor.clone()]);
        }
    }
    table.to_string()
}

/// What the column of errors holds.
const LEGEND: &str = "error: the largest difference between gradient and central difference, relative to the largest gradient of the tensor";

fn by_op(rows: &[Row]) -> String {
    let mut table =
        Table::new([left("op"), right("cases"), right("elements"), right("error"), left("case"), left("tensor")]);
    for family in ops::ALL {
        let of: Vec<&Row> = rows.iter().filter(|row| row.of == family.name).collect();
        let Some(worst) = of.iter().max_by(|a, b| a.checked.error.total_cmp(&b.checked.error)) else { continue };
        let mut cases: Vec<&str> = of.iter().map(|row| row.case.as_str()).collect();
        cases.dedup();
        table.row([
            family.name.to_string(),
            cases.len().to_string(),
            thousands(of.iter().map(|row| row.checked.elements as u64).sum()),
            format!("{:.1e}", worst.checked.error),
            worst.case.clone(),
            worst.checked.tensor.clone(),
        ]);
    }
    format!("{table}{LEGEND}; case and tensor are those of the largest error\n")
}

fn by_tensor(rows: &[Row], cases: bool) -> String {
    let firsts = if cases { vec![left("op"), left("case"), left("tensor")] } else { vec![left("tensor")] };
    let heads = ["elements", "error", "gradient", "central difference"].map(right);
    let mut table = Table::new(firsts.into_iter().chain(heads));
    for Row { of, case, checked } in rows {
        let firsts = if cases { vec![of.clone(), case.clone()] } else { Vec::new() };
        let GradientCheck { elements, error, gradient, difference, .. } = checked;
        let cells = match elements {
            // No element has any influence on the loss.
            0 => ["0".into(), "not checked".into(), String::new(), String::new()],
            _ => {
                let error = format!("{error:.1e}");
                [thousands(*elements as u64), error, format!("{gradient:.6e}"), format!("{difference:.6e}")]
            }
        };
        table.row(firsts.into_iter().chain([checked.tensor.clone()]).chain(cells));
    }
    format!("{table}{LEGEND}; gradient and central difference are those of the element with the largest error\n")
}
