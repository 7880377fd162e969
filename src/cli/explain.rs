//! `stapes explain`: what a trained network has learned, as a page, its pictures and its tables.

use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  stapes explain runs/NAME --out explained
  stapes explain runs/NAME clip.wav other.flac --out two-clips
  stapes explain runs/NAME --clips 10
  stapes explain runs/NAME --text

Writes index.html, which opens from the disk and needs no network, and each picture as SVG and each table as CSV and JSON.";

/// Clips whose maps are shown, if the command line does not say.
const SHOWN: u16 = 6;
/// Clips by which maps are checked.
const CHECKED: u32 = 100;

/// Options of `stapes explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[cfg_attr(not(feature = "explain"), allow(dead_code))]
pub struct Args {
    /// Folder of a run.
    run: PathBuf,
    /// Sound files whose maps are shown; if omitted, test clips: typical ones and mistakes by turns.
    #[arg(value_name = "CLIP")]
    clips: Vec<PathBuf>,
    /// Print the confusion matrix, the filters and the map of one clip into the terminal, and write nothing.
    #[arg(long, conflicts_with_all = ["out", "shown", "checked"])]
    text: bool,
    /// Folder for the page [default: explain in the run].
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Test clips whose maps are shown.
    #[arg(long = "clips", value_name = "N", default_value_t = SHOWN, value_parser = clap::value_parser!(u16).range(0..=100))]
    shown: u16,
    /// Test clips by which the maps are checked.
    #[arg(long, value_name = "N", default_value_t = CHECKED, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    checked: u32,
    /// Layer of Grad-CAM, by its name in `stapes models` [default: the last block].
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,
    /// The run's own recordings, if they have been moved.
    #[arg(long, value_name = "DIR|FILE")]
    data: Option<PathBuf>,
}

/// Runs the command.
#[cfg(not(feature = "explain"))]
pub fn run(_: &Args, _: &super::context::Context) -> anyhow::Result<()> {
    anyhow::bail!("this program was built without explanations; build it again with `--features explain`")
}

/// Writes the page of a run that has just ended into it.
#[cfg(not(feature = "explain"))]
pub fn at_end_of(_: &std::path::Path, _: &super::context::Context) -> anyhow::Result<()> {
    Ok(())
}

#[cfg(feature = "explain")]
pub use built::{at_end_of, run};

#[cfg(feature = "explain")]
mod built {
    use super::{Args, CHECKED, SHOWN};
    use crate::base::Name;
    use crate::base::name::display_path;
    use crate::cli::clip_files::{ToInput, is_stdin, samples};
    use crate::cli::context::Context;
    use crate::cli::table::count;
    use crate::cli::width::columns;
    use crate::cli::{models, output, recordings, report};
    use crate::data::Split;
    use crate::exec::Device;
    use crate::explain::text::{map, responses};
    use crate::explain::{
        ExplainOptions, ExplainedClip, FilterBank, Page, Subject, choose, explain, largest_activations,
    };
    use crate::simd::Isa;
    use crate::train::{Bundle, EvaluationReport, FeatureLayer, Predictor, Which, read_metrics, write_atomically};
    use anyhow::{Context as _, Result, bail};
    use serde_json::json;
    use std::path::Path;

    /// Writes the page of a run that has just ended into it.
    pub fn at_end_of(run: &Path, context: &Context) -> Result<()> {
        let (run, clips) = (run.to_path_buf(), Vec::new());
        let args = Args { run, clips, text: false, out: None, shown: SHOWN, checked: CHECKED, layer: None, data: None };
        let (_, index, _) = made(&args, context)?;
        context.remark(&format!("wrote {index}; open it in a browser"));
        Ok(())
    }

    /// Runs the command.
    pub fn run(args: &Args, context: &Context) -> Result<()> {
        if args.text {
            return output::print_filled(&text(args, context)?);
        }
        let (page, index, files) = made(args, context)?;
        match context.json {
            true => output::json(&json!({ "page": index, "files": files })),
            false => output::print_filled(&format!(
                "{index}: {}; open it in a browser\n",
                count(page.sections.len() as u64, "section")
            )),
        }
    }

    /// The explanation for a terminal: the evaluation with its confusion matrix, the filters of the first layer, and where in a clip the network found its word.
    fn text(args: &Args, context: &Context) -> Result<String> {
        let (subject, _) = open(args, context)?;
        let chosen = chosen(args, &subject)?;
        let evaluation = subject.evaluate()?;
        let of_split = choose(&evaluation, 1).into_iter().map(|number| &evaluation.predictions[number]);
        let clip = chosen.into_iter().next().or_else(|| subject.clips(of_split).next());
        let report = EvaluationReport::new(evaluation.clone(), &subject.data);
        let mut told = report::evaluation(&report);
        let largest = largest_activations(&subject, CHECKED as usize)?;
        told += "\nfilters of the first layer, by centre frequency; the response is 40 dB high\n";
        match FilterBank::first_layer(&subject.network, &subject.weights, largest.as_deref()) {
            Ok(bank) => told += &responses(&bank, columns()),
            Err(error) => told += &format!("{error}\n"),
        }
        if let Some(clip) = clip {
            let word = &subject.classes()[clip.prediction.class];
            told += &format!("\nwhere the network finds {word} in {}\n", clip.name);
            told += &map(&subject, &clip, columns())?;
        }
        Ok(told)
    }

    /// The page, where it is, and the names of all files.
    fn made(args: &Args, context: &Context) -> Result<(Page, String, Vec<String>)> {
        let (subject, folder) = open(args, context)?;
        let chosen = chosen(args, &subject)?;
        let options = ExplainOptions {
            clips: args.shown.into(),
            checked: args.checked as usize,
            seed: context.seed.unwrap_or(1),
        };
        let page = explain(&subject, chosen, options, &|what| context.remark(what))?;
        let out = args.out.clone().unwrap_or_else(|| folder.join("explain"));
        let files = write(&page, &out)?;
        Ok((page, display_path(&out.join("index.html")), files))
    }

    /// The run with its recordings, and its folder.
    fn open(args: &Args, context: &Context) -> Result<(Subject, std::path::PathBuf)> {
        let Bundle { network, weights, folder, config, standardisation, .. } = Bundle::open(&args.run, Which::Best)?;
        let (Some(folder), Some(config)) = (folder, config) else {
            bail!("{} is not a run folder; give the folder that `stapes train` made", display_path(&args.run));
        };
        let layer = args.layer.as_deref().map(|name| FeatureLayer::find(&network, name)).transpose()?.map(|of| of.node);
        let data = recordings::open_own(
            context,
            args.data.as_deref(),
            &folder,
            &recordings::config_of_trained(&config, standardisation.as_ref()),
        )?;
        let isa = match context.device_if_asked()? {
            Device::Cpu(isa) => isa,
            Device::Cuda(..) => {
                context.remark("note: explanations are computed on the CPU");
                Isa::best()
            }
        };
        let path = folder.path().to_path_buf();
        let name = path.canonicalize().unwrap_or_else(|_| path.clone());
        let name = name.file_name().map_or(display_path(&path), |name| Name::from_os(name).to_string());
        let subject = Subject {
            name,
            description: models::described(&config.network),
            network,
            weights,
            epochs: read_metrics(&folder.metrics()),
            config,
            data,
            split: Split::Testing,
            layer,
            isa,
        };
        Ok((subject, path))
    }

    /// The clips of the command line, with what the network recognises in them.
    fn chosen(args: &Args, subject: &Subject) -> Result<Vec<ExplainedClip>> {
        let builder = Predictor::builder(&*subject.network, subject.weights.clone());
        let mut predictor = builder.conv(subject.config.conv).device(subject.isa).build()?;
        let to_input = ToInput {
            crop: subject.config.crop,
            format: subject.data.format(),
            standardisation: subject.data.standardisation().cloned(),
        };
        let clip = |path: &std::path::PathBuf| -> Result<ExplainedClip> {
            let mut input = vec![0.0; subject.data.row_len()];
            to_input.write(&samples(path, to_input.format)?, &mut input);
            let prediction = predictor.predict(&input)?.remove(0);
            let name = if is_stdin(path) { "standard input".into() } else { Name::from_os(path.as_os_str()) };
            Ok(ExplainedClip { name, label: None, input, prediction })
        };
        args.clips.iter().map(clip).collect()
    }

    /// Writes the page, its pictures and its tables, and gives the names of the files.
    fn write(page: &Page, out: &Path) -> Result<Vec<String>> {
        std::fs::create_dir_all(out).with_context(|| format!("cannot create the folder {}", display_path(out)))?;
        let mut names = Vec::new();
        for file in page.files() {
            write_atomically(&out.join(&file.name), file.text.as_bytes())?;
            names.push(file.name);
        }
        write_atomically(&out.join("index.html"), page.to_html().as_bytes())?;
        names.push("index.html".into());
        Ok(names)
    }
}
