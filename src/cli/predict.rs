//! `stapes predict`: recognises the words in sound files, or the classes of the clips in arrays and Parquet files.

use super::clip_files::{ToInput, is_stdin, name, samples};
use super::context::Context;
use super::ending::{Ending, usage};
use super::{import, integer, output, settings};
use crate::base::Name;
use crate::data::{ClipArray, Crop, Format, Sample, read_parquet_clips};
use crate::ops::ConvChoice;
use crate::ops::device::Precision;
use crate::simd::Isa;
use crate::train::{Bundle, Prediction, Predictor};
use anyhow::{Result, anyhow};
use serde::Serialize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  stapes predict runs/NAME clip.wav another.flac
  stapes predict runs/NAME --top 3 recordings/*.wav
  arecord -d 1 -f S16_LE -r 16000 -t wav - | stapes predict runs/NAME -
  stapes predict runs/NAME trials.npz
  stapes predict runs/NAME --int8 clip.wav
  stapes predict weights.safetensors --model custom32-8 --classes yes,no a.wav

Prints one line per file: name, class and probability, separated by tabs (with --json one object per line).
Of an .npz file, every clip of its array x is recognised; `trials.npz[7]` is the one in row 7, counted from 0. The same goes for the rows of .parquet files, which the Cargo feature `parquet` reads.
Sound of any sample rate is resampled, longer clips are cut to the length of the network's input, shorter ones padded with zeros.
With --int8 the network has weights and activations of 8 bits, whose ranges are measured on the training clips of the run.
A tab, a line feed, a backslash or a byte that cannot be shown in a name is printed as \\t, \\n, \\\\ or \\xNN.";

/// Files in a batch.
const BATCH: usize = 32;

/// Options of `stapes predict`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder of a run, or a .safetensors file.
    run: PathBuf,
    /// Sound files (WAV, FLAC, Ogg Vorbis), or .npz, .npy and .parquet files of clips; - reads a sound file from standard input.
    #[arg(required = true, value_name = "CLIP")]
    clips: Vec<PathBuf>,
    /// Number of classes to print for each file, the most probable first.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    top: u16,
    /// Network of a weight file that does not name it, such as one from PyTorch.
    #[arg(long, value_name = "NAME|FILE.toml")]
    model: Option<String>,
    /// Build that network with dropout (do), batch norm (bn) or both.
    #[arg(long, value_parser = ["do", "bn", "do+bn"])]
    variant: Option<String>,
    /// Classes of the weight file in the order of the outputs, separated by commas.
    #[arg(long, value_name = "A,B,..")]
    classes: Option<String>,
    /// Part used of clips that are longer than the network's input [default: as in the run, start for a weight file].
    #[arg(long, value_name = "PART", value_parser = Crop::ALL.map(Crop::name))]
    crop: Option<String>,
    /// Algorithm of convolutions: every operation by itself, fused with Toom-Cook (Winograd), or the faster of both
    /// [default: as in the run, auto for a weight file].
    #[arg(long, value_name = "HOW", value_parser = ConvChoice::NAMES)]
    conv: Option<String>,
    /// Precision of matrix products on a GPU [default: f32].
    #[arg(long, value_name = "HOW", value_parser = Precision::NAMES)]
    precision: Option<String>,
    /// Compute with weights and activations of 8 bits.
    #[arg(long, conflicts_with_all = ["model", "conv", "precision"])]
    int8: bool,
    #[command(flatten)]
    integer: integer::Options,
    /// The run's own recordings, whose training clips are used for 8 bits, if they have been moved.
    #[arg(long, value_name = "DIR|FILE", requires = "int8")]
    data: Option<PathBuf>,
}

/// A class and its probability.
#[derive(Clone, Debug, Serialize)]
struct Guess {
    class: Name,
    probability: f64,
}

/// The result for a file.
#[derive(Clone, Debug, Serialize)]
struct Line {
    /// In the text form of names: no name breaks a line or a column.
    file: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top: Vec<Guess>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if args.clips.iter().filter(|clip| is_stdin(clip)).count() > 1 {
        return Err(usage("standard input can be read only once; give - once"));
    }
    let bundle = import::bundle_of(&args.run, args.model.as_deref(), args.variant.as_deref(), args.classes.as_deref())?;
    let input = bundle.network.spec.input;
    let format = Format { rate_hz: input.sample_rate, channels: u32::try_from(input.channels).unwrap_or(u32::MAX) };
    let row = input.length * input.channels;
    let crop = crop(args, &bundle)?;
    let many = args.clips.iter().any(|path| ClipArray::is_named_so(path) || is_parquet(path));
    let batch = if many { BATCH } else { BATCH.min(args.clips.len()) };
    let network = match args.int8 {
        true => {
            let (network, _) = integer::network(&args.integer, context, &bundle, None, args.data.as_deref())?;
            Computed::Integer(network, context.isa)
        }
        false => Computed::Float(Box::new(predictor(args, context, &bundle, batch)?)),
    };
    let mut queue = Queue {
        context,
        network,
        batch,
        classes: bundle.classes,
        to_input: ToInput { crop, format, standardisation: bundle.standardisation },
        top: args.top.into(),
        row,
        inputs: vec![0.0; batch * row],
        waiting: Vec::with_capacity(batch),
        failed: 0,
    };
    for path in &args.clips {
        let file = Name::from_os(path.as_os_str());
        if ClipArray::is_named_so(path) {
            match ClipArray::read(path, format) {
                Ok(array) => queue.add_all(path, &array)?,
                Err(error) => queue.add::<f32>(file, Err(error.into()))?,
            }
            continue;
        }
        if is_parquet(path) {
            queue.add_rows(path)?;
            continue;
        }
        let samples = samples(path, format);
        if let (Ok(samples), true) = (&samples, context.verbose)
            && samples.len() > row
        {
            let seconds = row as f64 / f64::from(format.rate_hz) / f64::from(format.channels);
            context.remark(&format!(
                "note: {} is longer than {seconds} s; --crop {crop} decides which part is used",
                name(path)
            ));
        }
        queue.add(file, samples.as_deref().map_err(|error| anyhow!("{error}")))?;
    }
    queue.finish()?;
    if queue.failed > 0 { Err(Ending::Reported.into()) } else { Ok(()) }
}

/// The network in floating point.
fn predictor(args: &Args, context: &Context, bundle: &Bundle, batch: usize) -> Result<Predictor> {
    // A GPU takes longer to start than the processor needs for a few clips.
    let precision = settings::precision(args.precision.as_deref(), Precision::F32)?;
    let device = context.device_if_asked()?.precision(precision);
    settings::remark_on_precision(context, precision, &device);
    let predictor = Predictor::builder(&bundle.network, bundle.weights.clone()).batch(batch).conv(conv(args, bundle)?);
    Ok(predictor.device(device).build()?)
}

/// A network in one of both forms.
enum Computed {
    Float(Box<Predictor>),
    Integer(integer::IntegerNetwork, Isa),
}

impl Computed {
    /// The predictions for the first `n` clips of `inputs`, a whole batch.
    fn predict(&mut self, inputs: &[f32], n: usize) -> Result<Vec<Prediction>> {
        match self {
            Computed::Float(predictor) => {
                predictor.run(inputs)?;
                Ok((0..n).map(|sample| predictor.prediction(sample)).collect())
            }
            Computed::Integer(network, isa) => {
                let logits = network.logits_of_clips(inputs, *isa)?;
                Ok(logits[..n].iter().map(|logits| Prediction::of_logits(logits)).collect())
            }
        }
    }
}

/// Clips that wait until there are enough of them for a batch.
struct Queue<'a> {
    context: &'a Context,
    network: Computed,
    /// Clips of a batch.
    batch: usize,
    classes: Vec<Name>,
    to_input: ToInput,
    top: usize,
    /// Values of an input.
    row: usize,
    inputs: Vec<f32>,
    /// The name of each clip, and what is wrong with it.
    waiting: Vec<(Name, Result<()>)>,
    failed: usize,
}

impl Queue<'_> {
    /// Adds a clip, or why there is none.
    fn add<T: Sample>(&mut self, file: Name, samples: Result<&[T]>) -> Result<()> {
        let at = self.waiting.len() * self.row;
        let input = &mut self.inputs[at..at + self.row];
        if let Ok(samples) = samples {
            self.to_input.write(samples, input);
        }
        self.waiting.push((file, samples.map(drop)));
        if self.waiting.len() == self.batch { self.finish() } else { Ok(()) }
    }

    /// Adds every clip of an array.
    fn add_all(&mut self, path: &Path, array: &ClipArray) -> Result<()> {
        for number in 0..array.shape.clips {
            let file = row_name(path, number);
            let clip = array.clip(number).map_err(|fault| anyhow!("{file}: {}", fault.in_command(None)));
            self.add(file, clip)?;
        }
        Ok(())
    }

    /// Adds the clip in every row of a Parquet file.
    fn add_rows(&mut self, path: &Path) -> Result<()> {
        let (mut number, mut failed) = (0, None);
        let read = read_parquet_clips(path, self.to_input.format, &mut |clip| {
            let file = row_name(path, number);
            number += 1;
            let clip = clip.map_err(|fault| anyhow!("{file}: {}", fault.in_command(None)));
            match self.add(file, clip.as_ref().map(|clip| &clip.samples[..]).map_err(|error| anyhow!("{error}"))) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        match (failed, read) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => self.add::<f32>(Name::from_os(path.as_os_str()), Err(error.into())),
            (None, Ok(())) => Ok(()),
        }
    }

    /// Computes and prints what waits.
    fn finish(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let predictions = self.network.predict(&self.inputs, self.waiting.len())?;
        for ((file, read), prediction) in self.waiting.drain(..).zip(predictions) {
            let line = match read {
                Ok(()) => recognised(file, &self.classes, &prediction.probabilities, self.top),
                Err(error) => {
                    self.failed += 1;
                    output::note(&format!("stapes: error: {error}"));
                    Line { error: Some(error.to_string()), ..broken(file) }
                }
            };
            print(self.context, &line)?;
        }
        Ok(())
    }
}

/// Whether the name of a file is that of a Parquet file.
fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("parquet"))
}

/// A row of a file of clips.
fn row_name(path: &Path, number: usize) -> Name {
    Name::from_bytes(&[path.as_os_str().as_encoded_bytes(), format!("[{number}]").as_bytes()].concat())
}

/// The crop that was given, or that of the run.
fn crop(args: &Args, bundle: &Bundle) -> Result<Crop> {
    let of_run = bundle.config.as_ref().map_or(Crop::default(), |config| config.crop);
    settings::crop(args.crop.as_deref(), of_run)
}

/// The algorithm that the option names, else that of the run.
fn conv(args: &Args, bundle: &Bundle) -> Result<ConvChoice> {
    let of_run = bundle.config.as_ref().map_or(ConvChoice::default(), |config| config.conv);
    settings::conv(args.conv.as_deref(), of_run)
}

fn broken(file: Name) -> Line {
    Line { file, class: None, probability: None, top: Vec::new(), error: None }
}

fn recognised(file: Name, classes: &[Name], probabilities: &[f64], top: usize) -> Line {
    let mut order: Vec<usize> = (0..classes.len()).collect();
    order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    let guesses = order.iter().map(|&c| Guess { class: classes[c].clone(), probability: probabilities[c] });
    let guesses: Vec<Guess> = guesses.take(top).collect();
    Line {
        class: guesses.first().map(|guess| guess.class.clone()),
        probability: guesses.first().map(|guess| guess.probability),
        top: if top > 1 { guesses } else { Vec::new() },
        ..broken(file)
    }
}

fn print(context: &Context, line: &Line) -> Result<()> {
    if context.json {
        return output::json_line(line);
    }
    let (Some(class), Some(probability)) = (&line.class, line.probability) else { return Ok(()) };
    let mut text = format!("{}\t{class}\t{probability:.3}", line.file);
    for guess in line.top.iter().skip(1) {
        text += &format!("\t{}\t{:.3}", guess.class, guess.probability);
    }
    output::line(&text)
}
