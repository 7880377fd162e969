//! `stapes features`: the activations of a layer for every clip, as features for other programs.

use super::clip_files::{ToInput, is_stdin, samples};
use super::context::Context;
use super::ending::usage;
use super::table::{self, count};
use super::{interrupt, output, recordings};
use crate::base::Name;
use crate::base::name::display_path;
use crate::data::{ClipMeta, DataConfig, Dataset, NpzWriter, SplitRule, is_sound_file};
use crate::train::{
    Bundle, EVAL_BATCH, FeatureLayer, Predictor, RunFolder, TrainError, Which, check_split, csv_field, features,
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
  stapes features runs/NAME clip.wav another.flac --output two.csv

An .npz file, which numpy.load reads, has the arrays x [n, features] or [n, rows, channels], y [n] (numbers of the classes), classes, clips, speakers and splits. A .csv file has a line per clip: clip, label, split, and one column per feature. Single sound files have no labels: their y is -1, and their speaker and split are empty.";

/// Options of `stapes features`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder of a run.
    run: PathBuf,
    /// Other recordings, of which all clips are taken, or sound files (WAV, FLAC, Ogg Vorbis; - reads one from standard input), or a folder of such files; if omitted, all clips of the run's
    /// own recordings.
    #[arg(value_name = "DIR|FILE|CLIP")]
    other: Vec<PathBuf>,
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
    let own = recordings::config_of_trained(&config, standardisation.as_ref());
    let files = sound_files(&args.other)?;
    let device = if files.is_some() { context.device_if_asked()? } else { context.device()? };
    let clips = match files {
        Some(files) => {
            let to_input = ToInput { crop: config.crop, format: own.format, standardisation };
            Clips::Files { files, to_input, length: network.spec.input.length }
        }
        None => {
            interrupt::watch()?;
            let data = Arc::new(open(args, context, &folder, classes.clone(), &own)?);
            interrupt::unwatch();
            recordings::name_skipped(context, &data);
            Clips::Data(data)
        }
    };
    let entries = clips.entries();
    let batch = match &clips {
        Clips::Data(_) => EVAL_BATCH,
        Clips::Files { files, .. } => EVAL_BATCH.min(files.len()),
    };
    let predictor = Predictor::builder(&network, weights).batch(batch).conv(config.conv);
    let mut predictor = predictor.keep([layer.node]).device(device).build()?;
    let mut rows = Rows { clips, predictor: &mut predictor, layer: &layer };
    match kind {
        Kind::Npz => npz(&args.output, &mut rows, &entries, &classes)?,
        Kind::Csv => csv(&args.output, &mut rows, &entries, &classes)?,
    }
    if context.json {
        return output::json(&json!({
            "output": display_path(&args.output),
            "layer": layer.name,
            "clips": entries.len(),
            "rows": layer.shape.l,
            "channels": layer.shape.c,
        }));
    }
    output::print_filled(&format!(
        "layer {} of {}: {} of {} rows of {} in {}\n",
        layer.name,
        network.spec.name,
        count(entries.len() as u64, "clip"),
        layer.shape.l,
        count(layer.shape.c as u64, "channel"),
        display_path(&args.output)
    ))
}

fn open(args: &Args, context: &Context, folder: &RunFolder, classes: Vec<Name>, own: &DataConfig) -> Result<Dataset> {
    match args.other.first() {
        Some(other) => {
            let split = SplitRule::Speaker;
            let reading = recordings::of_others(own.clone(), classes, split);
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

/// The sound files that the command line names, if it names no data set: several paths, a sound file, or a folder with sound files and no folders.
fn sound_files(paths: &[PathBuf]) -> Result<Option<Vec<PathBuf>>> {
    if paths.iter().filter(|path| is_stdin(path)).count() > 1 {
        return Err(usage("standard input can be read only once; give - once"));
    }
    let [path] = paths else { return Ok((!paths.is_empty()).then(|| paths.to_vec())) };
    if is_stdin(path) || path.is_file() && is_sound_file(path) {
        return Ok(Some(vec![path.clone()]));
    }
    let Ok(entries) = std::fs::read_dir(path) else { return Ok(None) };
    let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    let is_word = entries.iter().any(|path| path.is_dir());
    entries.retain(|path| is_sound_file(path));
    Ok((!is_word && !entries.is_empty()).then_some(entries))
}

/// What is known of a clip beside its features.
struct Entry {
    name: Name,
    /// Number of its class; none if nothing tells it.
    class: Option<u32>,
    speaker: Name,
    /// The name of its split, or nothing.
    split: &'static str,
}

/// The clips of the command line.
enum Clips {
    Data(Arc<Dataset>),
    Files {
        files: Vec<PathBuf>,
        to_input: ToInput,
        /// Frames of an input.
        length: usize,
    },
}

impl Clips {
    /// What is known of each clip, in the order of their numbers.
    fn entries(&self) -> Vec<Entry> {
        let of_data = |clip: &ClipMeta| Entry {
            name: clip.name.clone(),
            class: Some(clip.class),
            speaker: clip.speaker.clone(),
            split: clip.split.short_name(),
        };
        let of_file = |path: &PathBuf| {
            let name = if is_stdin(path) { "standard input".into() } else { Name::from_os(path.as_os_str()) };
            Entry { name, class: None, speaker: "".into(), split: "" }
        };
        match self {
            Clips::Data(data) => data.clips().iter().map(of_data).collect(),
            Clips::Files { files, .. } => files.iter().map(of_file).collect(),
        }
    }
}

/// The features of clips, computed when they are asked for.
struct Rows<'a> {
    clips: Clips,
    predictor: &'a mut Predictor,
    layer: &'a FeatureLayer,
}

impl Rows<'_> {
    /// Hands the features of all clips to `take`, batch by batch: the numbers of the clips, and `[n, l, c]`.
    fn each(&mut self, mut take: impl FnMut(&[u32], &[f32]) -> Result<()>) -> Result<()> {
        let Clips::Files { files, to_input, length } = &self.clips else {
            let Clips::Data(data) = &self.clips else { return Ok(()) };
            return features(self.predictor, self.layer, data, None, take);
        };
        let batch = self.predictor.batch();
        let row = length * to_input.format.channels as usize;
        let mut inputs = vec![0.0; batch * row];
        for (part, files) in files.chunks(batch).enumerate() {
            for (path, input) in files.iter().zip(inputs.chunks_exact_mut(row)) {
                to_input.write(&samples(path, to_input.format)?, input);
            }
            self.predictor.run(&inputs[..files.len() * row])?;
            let values = self.predictor.activation(self.layer.node)?;
            let values = values.ok_or_else(|| TrainError::NotKept { layer: self.layer.name.clone() })?;
            let numbers: Vec<u32> = (0..files.len()).map(|i| (part * batch + i) as u32).collect();
            take(&numbers, &values[..files.len() * self.layer.shape.size()])?;
        }
        Ok(())
    }
}

fn npz(path: &Path, rows: &mut Rows<'_>, entries: &[Entry], classes: &[Name]) -> Result<()> {
    let failed = |error: std::io::Error| anyhow!("cannot write {}: {error}", display_path(path));
    let layer = rows.layer;
    let bytes = 4 * (entries.len() * layer.shape.size()) as u64;
    if bytes > LARGEST {
        bail!(
            "cannot write {}: the layer `{}` has {} for each clip, {} in all, and an .npz file has at most 4 GiB; take a later layer",
            display_path(path),
            layer.name,
            count(layer.shape.size() as u64, "number"),
            table::bytes(bytes)
        );
    }
    let mut file = NpzWriter::create(path).map_err(failed)?;
    let shape = match layer.shape.l {
        1 => vec![entries.len(), layer.shape.c],
        rows => vec![entries.len(), rows, layer.shape.c],
    };
    file.begin_f32("x", &shape).map_err(failed)?;
    let mut order = Vec::with_capacity(entries.len());
    rows.each(|numbers, values| {
        order.extend(numbers.iter().map(|&number| number as usize));
        file.f32s(values).map_err(failed)
    })?;
    let listed = || order.iter().map(|&number| &entries[number]);
    let splits: Vec<Name> = listed().map(|clip| clip.split.into()).collect();
    let classes_of: Vec<i64> = listed().map(|clip| clip.class.map_or(-1, i64::from)).collect();
    let mut described = || -> std::io::Result<()> {
        file.i64s("y", &classes_of)?;
        file.names("classes", classes.iter())?;
        file.names("clips", listed().map(|clip| &clip.name))?;
        file.names("speakers", listed().map(|clip| &clip.speaker))?;
        file.names("splits", splits.iter())
    };
    described().map_err(failed)?;
    file.finish(path).map_err(failed)
}

fn csv(path: &Path, rows: &mut Rows<'_>, entries: &[Entry], classes: &[Name]) -> Result<()> {
    let size = rows.layer.shape.size();
    let mut text = String::from("clip,label,split");
    (0..size).for_each(|feature| _ = write!(text, ",f{feature}"));
    text.push('\n');
    rows.each(|numbers, values| {
        for (&number, values) in numbers.iter().zip(values.chunks_exact(size)) {
            let Entry { name, class, split, .. } = &entries[number as usize];
            let label = class.map_or(String::new(), |class| csv_field(&classes[class as usize]));
            _ = write!(text, "{},{label},{split}", csv_field(name));
            values.iter().for_each(|value| _ = write!(text, ",{value}"));
            text.push('\n');
        }
        Ok(())
    })?;
    Ok(write_atomically(path, text.as_bytes())?)
}
