//! `stapes export --format c`: a trained network as C code.

use super::Args;
use super::built::{open, replay_clips};
use crate::base::name::display_path;
use crate::cli::context::Context;
use crate::cli::ending::usage;
use crate::cli::output;
use crate::cli::table::{count, thousands};
use crate::exec::Device;
use crate::export::{
    CCode, CDescription, CNetwork, Export, ExportError, IntegerComparison, IntegerNetwork, Stages, calibrate,
    check_name, compare_integer, integer_remark, replay_remark,
};
use crate::train::{Bundle, Which};
use anyhow::Result;
use serde_json::json;
use std::path::PathBuf;

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if args.keep_norm {
        return Err(usage("--keep-norm does not go with --format c, whose code has no batch norm; leave it out"));
    }
    check_name(&args.name).map_err(|error| usage(error.to_string()))?;
    let bundle = Bundle::open(&args.run, Which::Best)?;
    let data = open(args, context, &bundle)?;
    let clips = replay_clips(args, context, &bundle, data.as_ref());
    let export = Export::new(&bundle, true, &clips, &Device::from(context.isa))?;
    let stages = Stages::new(&export.layers, "C code")?;
    let mut remarks = vec![replay_remark(&export.replay)];
    let mut integer: Option<(IntegerNetwork, IntegerComparison)> = None;
    if args.int8 {
        let data = data.as_ref().ok_or_else(|| ExportError::NoClips {
            data: display_path(&args.run),
            split: "training",
            purpose: "from which the ranges of the activations would be measured",
        })?;
        let calibration = calibrate(&bundle, &stages, data, args.calibration_clips as usize)?;
        let network = IntegerNetwork::new(&stages, &calibration)?;
        let comparison = compare_integer(&bundle, &network, data, args.clips as usize, context.isa)?;
        remarks.push(integer_remark(&comparison, calibration.clips));
        integer = Some((network, comparison));
    }
    let network = match &integer {
        Some((network, _)) => CNetwork::Integer(&stages, network),
        None => CNetwork::Float(&stages),
    };
    let description = CDescription {
        name: &args.name,
        network: &bundle.network.spec.name,
        classes: &bundle.classes,
        rate_hz: bundle.network.spec.input.sample_rate,
        remarks: &remarks,
    };
    let code = CCode::new(network, &description)?;
    let files = code.save(&args.out, &args.name)?;
    report(context, &export, &code, integer.as_ref().map(|(_, comparison)| comparison), &files)
}

fn report(
    context: &Context,
    export: &Export,
    code: &CCode,
    comparison: Option<&IntegerComparison>,
    files: &[PathBuf; 2],
) -> Result<()> {
    let replay = &export.replay;
    let [header, source] = files.each_ref().map(|path| display_path(path));
    if context.json {
        let int8 = comparison.map(|int8| {
            json!({
                "clips": int8.clips,
                "largest_logit_difference": int8.largest_logit_difference,
                "label_flips": int8.label_flips,
                "accuracy": int8.accuracies[1],
                "accuracy_f32": int8.accuracies[0],
                "difference": int8.comparison.difference,
                "interval": int8.comparison.interval,
                "p": int8.comparison.p,
            })
        });
        return output::json(&json!({
            "files": [header, source],
            "format": "c",
            "ram_bytes": code.ram_bytes,
            "weight_bytes": code.weight_bytes,
            "classes": export.classes,
            "sample_rate": export.network.input.sample_rate,
            "replay": replay,
            "int8": int8,
        }));
    }
    let numbers = if comparison.is_some() { "8-bit integers" } else { "32-bit floating-point numbers" };
    let flips = |flips: usize| match flips {
        0 => "the same class for all".to_string(),
        flips => format!("another class for {}", thousands(flips as u64)),
    };
    let mut text = format!(
        "files   {header}, {source}: C99, {numbers}\nmemory  {} bytes of static RAM, {} bytes of constant data\nreplay  {} {} in floating point: largest logit difference {:.1e} (largest logit {:.1}), {}\n",
        thousands(code.ram_bytes as u64),
        thousands(code.weight_bytes as u64),
        thousands(replay.clips as u64),
        replay.source,
        replay.largest_logit_difference,
        replay.largest_logit,
        flips(replay.label_flips),
    );
    if let Some(int8) = comparison {
        let points = |share: f64| 100.0 * share;
        text += &format!(
            "int8    {}: accuracy {:.2} % instead of {:.2} %, difference {:+.2} points (95 % interval {:+.2} to {:+.2}, p = {:.2}); largest logit difference {:.2}, {}\n",
            count(int8.clips as u64, "test clip"),
            points(int8.accuracies[1]),
            points(int8.accuracies[0]),
            points(int8.comparison.difference),
            points(int8.comparison.interval[0]),
            points(int8.comparison.interval[1]),
            int8.comparison.p,
            int8.largest_logit_difference,
            flips(int8.label_flips),
        );
    }
    output::print_filled(&text)
}
