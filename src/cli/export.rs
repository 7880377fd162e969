//! `stapes export`: a trained network as a file for other programs.

use super::integer::CALIBRATION_CLIPS;
use clap::ValueEnum;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  stapes export runs/NAME --out words.onnx
  stapes export runs/NAME --out words.onnx --softmax --keep-norm
  stapes export runs/NAME --out words.safetensors
  stapes export weights.safetensors --data my-recordings --out words.npz
  stapes export runs/NAME --out words.html           a page that listens to the microphone
  stapes export runs/NAME --format c --out firmware/words
  stapes export runs/NAME --format c --int8 --name words --out firmware/words

Before a file is written, clips pass through the exported layers, and their logits are compared with those of the network; the largest difference and the number of clips with another class are printed, and stored in the file. docs/export.md in the repository says how other programs use the files.

The format c is a header and a source file in C99 without other libraries and without memory allocation; docs/export-c.md says how it is used. With --int8 the weights and activations have 8 bits, the ranges of the activations are measured on training clips, and the accuracy on the test clips of the replay is compared with the trained network's.";

/// Clips of the replay, if the command line does not say.
const CLIPS: u32 = 100;

/// Options of `stapes export`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[cfg_attr(not(feature = "export"), allow(dead_code))]
pub struct Args {
    /// Folder of a run, or a .safetensors file.
    run: PathBuf,
    /// File that is written; of the format c, the folder of the files.
    #[arg(long, short, value_name = "FILE|DIR")]
    out: PathBuf,
    /// Format of the file [default: as the name of the file ends].
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Keep batch norm as layers of their own, instead of folding them into convolutions and dense layers.
    #[arg(long)]
    keep_norm: bool,
    /// Probabilities instead of logits (onnx only).
    #[arg(long)]
    softmax: bool,
    /// Weights and activations of 8 bits (c only).
    #[arg(long)]
    int8: bool,
    /// Name of the files and prefix of the functions (c only).
    #[arg(long, value_name = "NAME", default_value = "stapes_model")]
    name: String,
    /// Training clips on which the ranges of 8-bit activations are measured.
    #[arg(long, value_name = "N", default_value_t = CALIBRATION_CLIPS, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    calibration_clips: u32,
    /// Recordings whose test clips are replayed, if those of the run have been moved.
    #[arg(long, value_name = "DIR|FILE")]
    data: Option<PathBuf>,
    /// Clips that are replayed.
    #[arg(long, value_name = "N", default_value_t = CLIPS, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clips: u32,
}

/// The formats, named as the files end.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
#[cfg_attr(not(feature = "export"), allow(dead_code))]
enum Format {
    Onnx,
    Safetensors,
    Npz,
    C,
    Web,
}

/// Runs the command.
#[cfg(not(feature = "export"))]
pub fn run(_: &Args, _: &super::context::Context) -> anyhow::Result<()> {
    anyhow::bail!("this program was built without exports; build it again with `--features export`")
}

#[cfg(feature = "export")]
pub use built::run;

#[cfg(feature = "export")]
mod code;

#[cfg(feature = "export")]
mod built {
    use super::{Args, Format, code};
    use crate::base::name::display_path;
    use crate::cli::context::Context;
    use crate::cli::ending::usage;
    use crate::cli::table::{bytes, count, thousands};
    use crate::cli::{interrupt, output, recordings};
    use crate::data::{DataConfig, Dataset};
    use crate::exec::Device;
    use crate::export::web::Detection;
    use crate::export::{Export, ReplayClips};
    use crate::listen::{Manifest, is_word};
    use crate::train::{Bundle, Which};
    use anyhow::Result;
    use clap::ValueEnum;
    use serde_json::json;
    use std::path::Path;

    /// Runs the command.
    pub fn run(args: &Args, context: &Context) -> Result<()> {
        let format = format(args)?;
        if args.softmax && format != Format::Onnx {
            return Err(usage("--softmax goes with --format onnx; the other formats hold weights, and no output"));
        }
        if format == Format::C {
            return code::run(args, context);
        }
        if args.int8 {
            return Err(usage("--int8 goes with --format c; leave it out"));
        }
        let bundle = Bundle::open(&args.run, Which::Best)?;
        let clips = clips(args, context, &bundle)?;
        let export = Export::new(&bundle, !args.keep_norm, &clips, &Device::from(context.isa))?;
        match format {
            Format::C => {}
            Format::Onnx => export.save_onnx(&args.out, args.softmax)?,
            Format::Safetensors => export.save_safetensors(&args.out)?,
            Format::Npz => export.save_npz(&args.out)?,
            Format::Web => export.save_web(&args.out, &detection(args, &bundle)?)?,
        }
        report(args, context, format, &export)
    }

    /// How the page decides words: the manifest of the run, or the default.
    fn detection(args: &Args, bundle: &Bundle) -> Result<Detection> {
        let (words, rate) = (bundle.classes.clone(), bundle.network.spec.input.sample_rate);
        let path = Manifest::path_for(&args.run);
        let manifest = match path.is_file() {
            true => Manifest::read(&path)?,
            false => Manifest::new(words.clone(), rate),
        };
        manifest.check_for(&path, &words, rate)?;
        Ok(Detection {
            hop_ms: manifest.hop_ms,
            smoothing_ms: manifest.smoothing_ms,
            decision_ms: manifest.decision_ms,
            refractory_ms: manifest.refractory_ms,
            quiet_db: manifest.quiet_db,
            thresholds: words.iter().map(|w| if is_word(w) { manifest.threshold_of(w) } else { NEVER }).collect(),
        })
    }

    /// The threshold of a class that is no word: no probability reaches it.
    const NEVER: f64 = 2.0;

    /// The format that was given, or that of the file's name.
    fn format(args: &Args) -> Result<Format> {
        if let Some(format) = args.format {
            return Ok(format);
        }
        let end = args.out.extension().and_then(|end| end.to_str()).unwrap_or_default();
        let end = if end == "html" { "web" } else { end };
        Format::from_str(end, true).map_err(|_| {
            usage(format!(
                "{} does not end in .onnx, .safetensors, .npz or .html; name the format with --format",
                display_path(&args.out)
            ))
        })
    }

    /// The clips of the replay: test clips of the recordings, or noise if there are none.
    fn clips(args: &Args, context: &Context, bundle: &Bundle) -> Result<ReplayClips> {
        Ok(replay_clips(args, context, bundle, open(args, context, bundle)?.as_ref()))
    }

    /// The clips of the replay from these recordings.
    pub(super) fn replay_clips(args: &Args, context: &Context, bundle: &Bundle, data: Option<&Dataset>) -> ReplayClips {
        let input = bundle.network.graph.shape(bundle.network.audio);
        let noise = || ReplayClips::noise(input, args.clips as usize, context.seed.unwrap_or(1));
        data.map_or_else(noise, |data| ReplayClips::of_recordings(bundle, data, args.clips as usize))
    }

    /// The recordings, not standardised; none if there are none, which is remarked on.
    pub(super) fn open(args: &Args, context: &Context, bundle: &Bundle) -> Result<Option<Dataset>> {
        let reading = match &bundle.config {
            // Clips as they are: the exported layers standardise them.
            Some(config) => DataConfig { strict: false, ..recordings::config_of_trained(config, None) },
            None => DataConfig {
                classes: Some(bundle.classes.clone()),
                allow_other_words: true,
                ..recordings::input_of(&bundle.network.spec)
            },
        };
        let own = bundle.config.as_ref().map(|config| config.data.as_deref());
        let Some(path) = args.data.as_deref().map(Some).or(own) else {
            context
                .remark("note: the replay uses noise, since a weight file names no recordings; give some with --data");
            return Ok(None);
        };
        interrupt::watch()?;
        let opened = recordings::open(context, path, &reading);
        interrupt::unwatch();
        match opened {
            Ok(data) => Ok(Some(data)),
            Err(error) if args.data.is_some() || is_interruption(&error) => Err(error),
            Err(error) => {
                context.remark(&format!("note: the replay uses noise, since the recordings of the run cannot be used ({error}); say where they are with --data"));
                Ok(None)
            }
        }
    }

    fn is_interruption(error: &anyhow::Error) -> bool {
        use crate::cli::ending::Ending;
        use crate::data::DataError;
        matches!(error.downcast_ref(), Some(DataError::Interrupted))
            || matches!(error.downcast_ref(), Some(Ending::Interrupted(_)))
    }

    fn report(args: &Args, context: &Context, format: Format, export: &Export) -> Result<()> {
        let (file, replay) = (display_path(&args.out), &export.replay);
        let size = file_size(&args.out);
        let format = format.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default();
        if context.json {
            return output::json(&json!({
                "file": file,
                "format": format,
                "bytes": size,
                "numbers": export.numbers(),
                "norm": if export.folded { "folded" } else { "kept" },
                "classes": export.classes,
                "sample_rate": export.network.input.sample_rate,
                "input": [export.network.input.channels, export.network.input.length],
                "replay": replay,
            }));
        }
        let norm = if export.folded { "batch norm folded" } else { "batch norm kept" };
        let input = export.network.input;
        let text = format!(
            "file    {file}: {format}, {}, {}, {norm}\ninput   {} x {} at {} Hz, full scale 1\nreplay  {} {}: largest logit difference {:.1e} (largest logit {:.1}), {}\n",
            bytes(size),
            count(export.numbers() as u64, "number"),
            count(input.channels as u64, "channel"),
            count(input.length as u64, "sample"),
            thousands(input.sample_rate.into()),
            thousands(replay.clips as u64),
            replay.source,
            replay.largest_logit_difference,
            replay.largest_logit,
            match replay.label_flips {
                0 => "the same class for all".into(),
                flips => format!("another class for {}", thousands(flips as u64)),
            },
        );
        output::print_filled(&text)
    }

    fn file_size(path: &Path) -> u64 {
        std::fs::metadata(path).map_or(0, |metadata| metadata.len())
    }
}
