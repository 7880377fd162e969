//! `stapes features`: the activations of a layer for every clip, as features for other programs.

use super::context::Context;
use super::ending::usage;
use super::table::{self, count};
use super::{interrupt, output, recordings};
use crate::base::Name;
use crate::base::name::display_path;
use crate::data::{ClipMeta, DataConfig, Dataset, NpzWriter, SplitRule};
use crate::train::{
    Bundle, EVAL_BATCH, FeatureLayer, Recogniser, RunFolder, TrainError, Which, check_split, csv_field, features,
    write_atomically,
};
use anyhow::{Result, anyhow, bail};
use serde_json::json;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const EXAMPLES: &str = "\
Examples:
  stapes features runs/NAME                              the input of the head, in features.npz
  stapes features runs/NAME --layer pool5 --output pool5.npz
  stapes features runs/NAME other-recordings --output other.csv

An .npz file, which numpy.load reads, has the arrays x [n, features] or [n, rows, channels], y [n] (numbers of the classes), classes, clips, speakers and splits. A .csv file has a line per clip: clip, label, split, and one column per feature.";

/// Options of `stapes features`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder of a run.
    run: PathBuf,
    /// Other recordings, of which all clips are taken; if omitted, all clips of the run's own recordings.
    #[arg(value_name = "DIR|FILE")]
    other: Option<PathBuf>,
    /// Layer, by its name in `stapes models`; `features` is the input of the head.
    #[arg(long, value_name = "NAME", default_value = "features")]
    layer: String,
    /// File that is written, .npz or .csv.
    #[arg(long, short, value_name = "FILE", default_value = "features.npz")]
    output: PathBuf,
    /// The run's own recordings, if they have been moved.
    #[arg(long, value_name = "DIR|FILE", conflicts_with = "other")]
    data: Option<PathBuf>,
}

/// Bytes of the largest array, with room for the others of an archive of 4 GiB.
const LARGEST: u64 = (4 << 30) - (64 << 20);

/// The kinds of files.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Npz,
    Csv,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let kind = match args.output.extension().and_then(|end| end.to_str()) {
        Some("npz") => Kind::Npz,
        Some("csv") => Kind::Csv,
        _ => return Err(usage(format!("{} must end in .npz or .csv", display_path(&args.output)))),
    };
    let Bundle { network, weights, folder, config, classes, standardisation, .. } =
        Bundle::open(&args.run, Which::Best)?;
    let (Some(folder), Some(config)) = (folder, config) else {
        bail!("{} is not a run folder; give the folder that `stapes train` made", display_path(&args.run));
    };
    let layer = FeatureLayer::find(&network, &args.layer)?;
    interrupt::watch()?;
    let own = recordings::config_of_trained(&config, standardisation.as_ref());
    let data = Arc::new(open(args, context, &folder, classes, &own)?);
    interrupt::unwatch();
    recordings::name_skipped(context, &data);
    let recogniser = Recogniser::builder(&network, weights).batch(EVAL_BATCH).conv(config.conv).keep([layer.node]);
    let mut recogniser = recogniser.device(context.device()?).build()?;
    match kind {
        Kind::Npz => npz(&args.output, &mut recogniser, &layer, &data)
            .map_err(|error| anyhow!("cannot write {}: {error}", display_path(&args.output)))?,
        Kind::Csv => csv(&args.output, &mut recogniser, &layer, &data)?,
    }
    if context.json {
        return output::json(&json!({
            "output": display_path(&args.output),
            "layer": layer.name,
            "clips": data.clips().len(),
            "rows": layer.shape.l,
            "channels": layer.shape.c,
        }));
    }
    output::print_filled(&format!(
        "layer {} of {}: {} of {} rows of {} in {}\n",
        layer.name,
        network.spec.name,
        count(data.clips().len() as u64, "clip"),
        layer.shape.l,
        count(layer.shape.c as u64, "channel"),
        display_path(&args.output)
    ))
}

fn open(args: &Args, context: &Context, folder: &RunFolder, classes: Vec<Name>, own: &DataConfig) -> Result<Dataset> {
    match &args.other {
        Some(other) => {
            let split = SplitRule::Speaker;
            let reading = DataConfig { classes: Some(classes), split, allow_other_words: true, ..own.clone() };
            recordings::open(context, Some(other), &reading)
        }
        None => {
            let config = crate::train::TrainConfig::load(&folder.config())?;
            let data = recordings::open(context, args.data.as_deref().or(config.data.as_deref()), own)?;
            check_split(folder, &data)?;
            Ok(data)
        }
    }
}

fn npz(path: &Path, recogniser: &mut Recogniser, layer: &FeatureLayer, data: &Arc<Dataset>) -> Result<()> {
    let clips = data.clips();
    let bytes = 4 * (clips.len() * layer.shape.size()) as u64;
    if bytes > LARGEST {
        bail!(
            "the layer `{}` has {} for each clip, {} in all, and an .npz file has at most 4 GiB; take a later layer",
            layer.name,
            count(layer.shape.size() as u64, "number"),
            table::bytes(bytes)
        );
    }
    let mut file = NpzWriter::create(path)?;
    let shape = match layer.shape.l {
        1 => vec![clips.len(), layer.shape.c],
        rows => vec![clips.len(), rows, layer.shape.c],
    };
    file.begin_f32("x", &shape)?;
    let mut order = Vec::with_capacity(clips.len());
    features::<anyhow::Error>(recogniser, layer, data, None, |numbers, values| {
        order.extend(numbers.iter().map(|&number| number as usize));
        Ok(file.f32s(values)?)
    })?;
    let listed = || order.iter().map(|&number| &clips[number]);
    file.i64s("y", &listed().map(|clip| i64::from(clip.class)).collect::<Vec<_>>())?;
    file.names("classes", data.classes().iter())?;
    file.names("clips", listed().map(|clip| &clip.name))?;
    file.names("speakers", listed().map(|clip| &clip.speaker))?;
    let splits: Vec<Name> = listed().map(|clip| clip.split.short_name().into()).collect();
    file.names("splits", splits.iter())?;
    Ok(file.finish(path)?)
}

fn csv(path: &Path, recogniser: &mut Recogniser, layer: &FeatureLayer, data: &Arc<Dataset>) -> Result<()> {
    let mut text = String::from("clip,label,split");
    (0..layer.shape.size()).for_each(|feature| _ = write!(text, ",f{feature}"));
    text.push('\n');
    features::<TrainError>(recogniser, layer, data, None, |numbers, values| {
        for (&number, values) in numbers.iter().zip(values.chunks_exact(layer.shape.size())) {
            let ClipMeta { name, class, split, .. } = &data.clips()[number as usize];
            _ = write!(
                text,
                "{},{},{}",
                csv_field(name),
                csv_field(&data.classes()[*class as usize]),
                split.short_name()
            );
            values.iter().for_each(|value| _ = write!(text, ",{value}"));
            text.push('\n');
        }
        Ok(())
    })?;
    Ok(write_atomically(path, text.as_bytes())?)
}
