//! `stapes import`: a weight file of this program from weights that another program has saved.

use super::context::Context;
use super::ending::usage;
use super::table::count;
use super::{output, settings};
use crate::base::name::display_path;
use crate::train::{Bundle, RunFolder, Which};
use anyhow::{Result, bail};
use serde_json::json;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  stapes import state_dict.safetensors --model custom32-8 --classes yes,no --out words.safetensors
  stapes import state_dict.safetensors --model mine.toml --variant do+bn --classes yes,no

The tensors have PyTorch's names, shapes and order (conv1.weight, bn1.running_mean, fc1.bias, ..), in F32, F16 or BF16; a prefix of all names is left out. In Python, `from safetensors.torch import save_file; save_file(model.state_dict(), \"state_dict.safetensors\")` writes such a file. The file that is written names its network and classes, so that it is used without these options: `stapes predict words.safetensors clip.wav`.";

/// Options of `stapes import`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A .safetensors file.
    file: PathBuf,
    /// Network of the weights, by name (`stapes models` lists them) or by TOML file.
    #[arg(long, value_name = "NAME|FILE.toml")]
    model: Option<String>,
    /// Build that network with dropout (do), batch norm (bn) or both.
    #[arg(long, value_parser = ["do", "bn", "do+bn"])]
    variant: Option<String>,
    /// Classes in the order of the outputs, separated by commas.
    #[arg(long, value_name = "A,B,..")]
    classes: Option<String>,
    /// File that is written.
    #[arg(long, short, value_name = "FILE", default_value = "imported.safetensors")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if args.out.extension().is_none_or(|end| end != "safetensors") {
        return Err(usage(format!("{} must end in .safetensors", display_path(&args.out))));
    }
    if same_file(&args.file, &args.out) {
        return Err(usage("--out is the file that is read; give another one"));
    }
    if args.file.is_dir() && RunFolder::open(&args.file).is_err() {
        bail!(
            "{} is a folder without a run; give the .safetensors file in it, which Python writes with `save_file` of safetensors.torch",
            display_path(&args.file)
        );
    }
    let bundle = bundle_of(&args.file, args.model.as_deref(), args.variant.as_deref(), args.classes.as_deref())?;
    bundle.save(&args.out, [])?;
    let (file, network) = (display_path(&args.out), &bundle.network);
    if context.json {
        return output::json(&json!({
            "file": file,
            "network": network.spec.name,
            "parameters": network.params(),
            "classes": bundle.classes,
            "sample_rate": network.spec.input.sample_rate,
        }));
    }
    output::print_filled(&format!(
        "{file}: {}, {}, {} classes\n",
        network.spec.name,
        count(network.params(), "parameter"),
        bundle.classes.len()
    ))
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A run folder or weight file; a weight file that does not name its network is opened as the network and with the classes that options name.
pub fn bundle_of(run: &Path, model: Option<&str>, variant: Option<&str>, classes: Option<&str>) -> Result<Bundle> {
    if model.is_none() && classes.is_none() && variant.is_none() {
        return Ok(Bundle::open(run, Which::Best)?);
    }
    if RunFolder::open(run).is_ok() {
        return Err(usage(format!(
            "{} is a run folder, which knows its network; --model, --variant and --classes go with a weight file",
            display_path(run)
        )));
    }
    let (Some(model), Some(classes)) = (model, classes) else {
        let missing = if model.is_none() { "--model" } else { "--classes" };
        return Err(usage(format!(
            "{missing} is missing; a weight file that names no network needs --model and --classes"
        )));
    };
    let spec = settings::network(model, variant)?;
    Ok(Bundle::open_as(run, &spec, settings::words(classes)?)?)
}
