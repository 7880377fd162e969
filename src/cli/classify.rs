//! `stapes classify`: other classifiers on the activations of layers, beside the network itself.

use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  stapes classify runs/NAME                              five classifiers on the input of the head
  stapes classify runs/NAME --layer features,pool5 --classifiers knn,lda
  stapes classify runs/NAME --output classifiers.md

Classifiers are knn (k-nearest neighbours), logistic (logistic regression), svm (linear support vector machine), lda (linear discriminant analysis) and forest (random forest). Each is fitted on the training clips with several settings, of which the one with the highest accuracy on the validation clips is tested on the test clips. Features are standardised on the training clips.";

/// Options of `stapes classify`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[cfg_attr(not(feature = "classify"), allow(dead_code))]
pub struct Args {
    /// Folder of a run.
    run: PathBuf,
    /// Layers, by their names in `stapes models`; `features` is the input of the head.
    #[arg(long = "layer", value_name = "NAME,..", default_value = "features", value_delimiter = ',')]
    layers: Vec<String>,
    /// Classifiers [default: all].
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    classifiers: Vec<String>,
    /// Write the table into this file, .md or .csv.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The run's own recordings, if they have been moved.
    #[arg(long, value_name = "DIR|FILE")]
    data: Option<PathBuf>,
}

/// Runs the command.
#[cfg(not(feature = "classify"))]
pub fn run(_: &Args, _: &super::context::Context) -> anyhow::Result<()> {
    anyhow::bail!("this program was built without the classifiers; build it again with `--features classify`")
}

#[cfg(feature = "classify")]
pub use built::run;

#[cfg(feature = "classify")]
mod built {
    use super::Args;
    use crate::base::name::{display, display_path};
    use crate::cli::context::Context;
    use crate::cli::ending::usage;
    use crate::cli::table::{Table, count, left, right, thousands};
    use crate::cli::{models, output, recordings, report};
    use crate::data::Grouping;
    use crate::train::classify::{Activations, Classified, Classifier, Features, Score};
    use crate::train::{
        Bundle, EVAL_BATCH, FeatureLayer, Predictor, Resampled, TrainConfig, Which, csv_field, write_atomically,
    };
    use anyhow::{Result, bail};
    use serde::Serialize;
    use std::path::Path;

    /// The kinds of files.
    #[derive(Clone, Copy)]
    enum Kind {
        Markdown,
        Csv,
    }

    /// The classifiers of a layer.
    #[derive(Serialize)]
    struct OfLayer {
        layer: String,
        features: usize,
        classifiers: Vec<Classified>,
    }

    /// The network's own result.
    #[derive(Serialize)]
    struct OfNetwork {
        validation_accuracy: f64,
        test: Score,
    }

    /// The result as JSON.
    #[derive(Serialize)]
    struct Outcome {
        run: String,
        network: String,
        #[serde(skip)]
        grouping: Grouping,
        /// Training, validation and test clips.
        clips: [usize; 3],
        own: OfNetwork,
        layers: Vec<OfLayer>,
    }

    /// Runs the command.
    pub fn run(args: &Args, context: &Context) -> Result<()> {
        let kind = args.output.as_deref().map(kind_of).transpose()?;
        let classifiers = classifiers(&args.classifiers)?;
        let activations = activations(args, context)?;
        let outcome = outcome(args, context, &activations, &classifiers)?;
        if let (Some(path), Some(kind)) = (&args.output, kind) {
            let text = match kind {
                Kind::Markdown => markdown(&outcome),
                Kind::Csv => csv(&outcome),
            };
            write_atomically(path, text.as_bytes())?;
            context.remark(&format!("wrote {}", display_path(path)));
        }
        match context.json {
            true => output::json(&outcome),
            false => output::print_filled(&text(&outcome)),
        }
    }

    fn kind_of(path: &Path) -> Result<Kind> {
        match path.extension().and_then(|end| end.to_str()) {
            Some("md") => Ok(Kind::Markdown),
            Some("csv") => Ok(Kind::Csv),
            _ => Err(usage(format!("{} must end in .md or .csv", display_path(path)))),
        }
    }

    /// The classifiers of these names, each once; all if none is named.
    fn classifiers(names: &[String]) -> Result<Vec<Classifier>> {
        let mut chosen = Vec::new();
        for name in names {
            let of = name.trim().parse::<Classifier>();
            let of = of.map_err(|error| usage(format!("--classifiers {}: {error}", display(name))))?;
            if chosen.contains(&of) {
                return Err(usage(format!("--classifiers names {of} twice; name each classifier once")));
            }
            chosen.push(of);
        }
        Ok(if chosen.is_empty() { Classifier::ALL.to_vec() } else { chosen })
    }

    fn activations(args: &Args, context: &Context) -> Result<Activations> {
        let Bundle { network, weights, folder, config, standardisation, .. } = Bundle::open(&args.run, Which::Best)?;
        let (Some(folder), Some(config)) = (folder, config) else {
            bail!("{} is not a run folder; give the folder that `stapes train` made", display_path(&args.run));
        };
        let mut layers: Vec<FeatureLayer> = Vec::new();
        for name in &args.layers {
            let layer = FeatureLayer::find(&network, name.trim())?;
            if layers.contains(&layer) {
                let name = &layer.name;
                return Err(usage(format!("--layer names the layer `{name}` twice; name each layer once")));
            }
            layers.push(layer);
        }
        let data = recordings::open_own(
            context,
            args.data.as_deref(),
            &folder,
            &recordings::config_of_trained(&config, standardisation.as_ref()),
        )?;
        let kept = layers.iter().map(|layer| layer.node);
        let predictor = Predictor::builder(&network, weights).batch(EVAL_BATCH).conv(config.conv).keep(kept);
        let mut predictor = predictor.device(context.device()?).build()?;
        Ok(Activations::compute(&mut predictor, layers, data)?)
    }

    fn outcome(
        args: &Args,
        context: &Context,
        activations: &Activations,
        classifiers: &[Classifier],
    ) -> Result<Outcome> {
        let mut layers = Vec::new();
        for number in 0..activations.layers() {
            let (layer, _) = activations.layer(number);
            let features = Features::new(activations, number)?;
            let size = layer.shape.size();
            let mut of_layer = OfLayer { layer: layer.name.clone(), features: size, classifiers: Vec::new() };
            for &classifier in classifiers {
                let what = format!("{} on {}", classifier.title(), count(size as u64, "feature"));
                context.remark(&format!("fitting {what} of {}", layer.name));
                let start = std::time::Instant::now();
                of_layer.classifiers.push(features.classify(classifier, context.seed.unwrap_or(1))?);
                if context.verbose {
                    context.remark(&format!("  {:.1} s", start.elapsed().as_secs_f64()));
                }
            }
            layers.push(of_layer);
        }
        let own = activations.network();
        let clips = activations.data().counts().iter().fold([0; 3], |all, of| [0, 1, 2].map(|i| all[i] + of[i]));
        let config = TrainConfig::load(&crate::train::RunFolder::open(&args.run)?.config())?;
        Ok(Outcome {
            run: display_path(&args.run),
            network: models::described(&config.network),
            grouping: activations.data().grouping(),
            clips,
            own: OfNetwork { validation_accuracy: own.validation.accuracy, test: own.test_score() },
            layers,
        })
    }

    /// Points of accuracy, with their sign.
    fn points(share: f64) -> String {
        format!("{:+.1}", 100.0 * share)
    }

    fn points_interval([low, high]: [f64; 2]) -> String {
        format!("{} to {}", points(low), points(high))
    }

    /// The network and the classifiers as cells: classifier, setting, validation, test, interval, difference, its interval.
    fn rows(outcome: &Outcome) -> Vec<(String, Vec<[String; 7]>)> {
        let own = &outcome.own;
        let network = [
            "the network itself".into(),
            String::new(),
            format!("{:.4}", own.validation_accuracy),
            format!("{:.4}", own.test.accuracy),
            report::interval(own.test.interval),
            String::new(),
            String::new(),
        ];
        let of = |of: &Classified| {
            [
                of.classifier.title().into(),
                of.setting.clone(),
                format!("{:.4}", of.validation_accuracy),
                format!("{:.4}", of.test.accuracy),
                report::interval(of.test.interval),
                points(of.network.difference),
                points_interval(of.network.difference_interval),
            ]
        };
        let layer = |of_layer: &OfLayer| {
            let name = format!("{}, {}", of_layer.layer, count(of_layer.features as u64, "feature"));
            (name, std::iter::once(network.clone()).chain(of_layer.classifiers.iter().map(of)).collect())
        };
        outcome.layers.iter().map(layer).collect()
    }

    /// The sentence above the table.
    fn head(outcome: &Outcome) -> String {
        let [training, validation, test] = outcome.clips.map(|clips| thousands(clips as u64));
        format!(
            "{} of {}: classifiers fitted on {training} training clips, chosen on {validation} validation clips, tested on {test} test clips",
            outcome.network, outcome.run
        )
    }

    fn text(outcome: &Outcome) -> String {
        let heads = [left("classifier"), left("setting").optional(2), right("validation").optional(3), right("test")];
        let intervals = [right("95 % interval").optional(4), right("points"), right("95 % interval").optional(1)];
        let mut table = Table::new(heads.into_iter().chain(intervals));
        for (layer, rows) in rows(outcome) {
            table.heading(layer);
            rows.into_iter().for_each(|row| table.row(row));
        }
        let first = outcome.layers.iter().flat_map(|of| &of.classifiers).next();
        let resampled = match first.map(|of| of.network.resampled) {
            Some(Resampled::Speakers) => format!("whole {}", outcome.grouping.plural()),
            _ => "single clips".into(),
        };
        format!(
            "{}\n\n{table}\npoints: the accuracy of the classifier less that of the network; the interval is from 2,000 resamples of {resampled}\n",
            head(outcome)
        )
    }

    const HEADS: [&str; 7] =
        ["classifier", "setting", "validation", "test", "95 % interval", "points to the network", "95 % interval"];

    fn markdown(outcome: &Outcome) -> String {
        let mut text = format!("{}.\n\n| layer | {} |\n", head(outcome), HEADS.join(" | "));
        text += "|---|---|---|---:|---:|---:|---:|---:|\n";
        for (layer, rows) in rows(outcome) {
            for row in rows {
                text += &format!("| {layer} | {} |\n", row.join(" | "));
            }
        }
        text
    }

    fn csv(outcome: &Outcome) -> String {
        let mut text = String::from(
            "layer,features,classifier,setting,validation,clips,correct,test,low,high,difference,difference_low,difference_high,p\n",
        );
        let score = |score: &Score| {
            let [low, high] = score.interval;
            format!("{},{},{:.6},{low:.6},{high:.6}", score.clips, score.correct, score.accuracy)
        };
        for OfLayer { layer, features, classifiers } in &outcome.layers {
            let (layer, own) = (csv_field(layer), &outcome.own);
            text += &format!("{layer},{features},network,,{:.6},{},,,,\n", own.validation_accuracy, score(&own.test));
            for of in classifiers {
                let ([low, high], setting) = (of.network.difference_interval, csv_field(&of.setting));
                text += &format!(
                    "{layer},{features},{},{setting},{:.6},{},{:.6},{low:.6},{high:.6},{:.6}\n",
                    of.classifier,
                    of.validation_accuracy,
                    score(&of.test),
                    of.network.difference,
                    of.network.p
                );
            }
        }
        text
    }
}
