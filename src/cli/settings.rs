//! The configuration of a run from the command line: first a file or a network, then options, then each `--set` in order.

use super::context::Context;
use super::ending::usage;
use super::width::{columns, fill};
use crate::base::Name;
use crate::data::{Crop, NoiseSource, UnknownFrom};
use crate::exec::Device;
use crate::nn::{self, NetworkSpec, Reason, Variant};
use crate::ops::ConvChoice;
use crate::ops::device::Precision;
use crate::train::{Bundle, Group, Recipe, SETTINGS, Setting, TrainConfig, Which};
use anyhow::Result;
use serde_json::json;
use std::path::{Path, PathBuf};

/// The network that is used if neither the command line nor a recipe names one.
pub const DEFAULT_MODEL: &str = "custom32-8";

/// The origin of a setting from the command line, for errors.
const PLACE: &str = "command line";

/// Settings of a run as options.
#[derive(Debug, clap::Args)]
pub struct Settings {
    /// Folder or .tar.gz of recordings, one folder per word; .csv list of sound files; .npz file of arrays; .parquet files; if omitted, the embedded recordings of twelve words.
    #[arg(long, value_name = "DIR|FILE")]
    pub data: Option<PathBuf>,
    /// Network, by name (`stapes models` lists them) or by TOML file [default: that of --init-from, else of the recipe, else custom32-8].
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub model: Option<String>,
    /// Way to train: best (augmented clips, learning-rate schedule), plain (as the study), or a TOML file of settings [default: best; none with --config].
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub recipe: Option<String>,
    /// Build the network with dropout (do), batch norm (bn) or both; if omitted, built-in networks use what the recipe says, or dropout.
    #[arg(long, value_parser = ["do", "bn", "do+bn"])]
    pub variant: Option<String>,
    /// Classes, separated by commas (`\,` is a comma in a name), in the order of the outputs; if omitted, all words of the data.
    #[arg(long, value_name = "A,B,..")]
    pub classes: Option<String>,
    /// Add the class _unknown_: clips of these words of the data, of all its words that are no classes (other-words), or of folders (with a slash, such as ./NAME) of sound files or word folders; as many as unknown_share says (--set).
    #[arg(long, value_name = "WORD|DIR,..")]
    pub unknown: Option<String>,
    /// Add the class _silence_: segments of the background noise of the data (else of generated noise) and of digital silence; as many as silence_share says (--set).
    #[arg(long)]
    pub silence: bool,
    /// Number of passes over the training clips [default: as the recipe says].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub epochs: Option<String>,
    /// As many epochs as fit in so many minutes on this machine.
    #[arg(long, value_name = "N", conflicts_with = "epochs", allow_negative_numbers = true)]
    pub minutes: Option<f64>,
    /// Clips per step [default: as the recipe says].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub batch: Option<String>,
    /// Largest learning rate of Adam [default: as the recipe says].
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub lr: Option<String>,
    /// How clips are divided into training, validation and test clips: by a hash of the speaker, by the lists in the data, or at random (voices are then in several splits) [default: speaker].
    #[arg(long, value_parser = ["speaker", "official", "random"])]
    pub split: Option<String>,
    /// Part used of clips that are longer than the network's input; loudest is the part with the largest energy [default: start].
    #[arg(long, value_name = "PART", value_parser = Crop::ALL.map(Crop::name))]
    pub crop: Option<String>,
    /// Algorithm of convolutions: every operation by itself, fused with Toom-Cook (Winograd), or the faster of both [default: auto].
    #[arg(long, value_name = "HOW", value_parser = ConvChoice::NAMES)]
    pub conv: Option<String>,
    /// Precision of matrix products on a GPU [default: f32].
    #[arg(long, value_name = "HOW", value_parser = Precision::NAMES)]
    pub precision: Option<String>,
    /// Start with the weights of this run or weight file, in all layers whose names and shapes are equal.
    #[arg(long, value_name = "RUN|FILE")]
    pub init_from: Option<PathBuf>,
    /// Layers whose weights do not change: conv1,conv2, .. or all-but-head.
    #[arg(long, value_name = "LAYERS")]
    pub freeze: Option<String>,
    /// Learn from the probabilities of this run or weight file too, beside the labels (distillation).
    #[arg(long, value_name = "RUN|FILE")]
    pub teacher: Option<PathBuf>,
    /// Take the settings of this config.toml, then apply the other options.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Stop at the first clip that cannot be used, instead of skipping it.
    #[arg(long)]
    pub strict: bool,
    /// Set any setting of config.toml, such as init=he-uniform or dropout=0.5; may be repeated; `--set help` lists them.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// The network of this name or file; a name that does not exist is a wrong command line.
pub fn network(name_or_file: &str, variant: Option<&str>) -> Result<NetworkSpec> {
    let variant: Option<Variant> = variant.map(str::parse).transpose().map_err(usage::<String>)?;
    nn::resolve(name_or_file, variant).map_err(|e| match e.reason {
        Reason::UnknownNetwork { .. } => usage(e.to_string()),
        _ => e.into(),
    })
}

/// The network of a run or weight file, for as many classes as the data has.
fn network_of(run: &Path) -> Result<NetworkSpec> {
    Ok(NetworkSpec { classes: None, ..Bundle::open(run, Which::Best)?.network.spec.clone() })
}

/// The algorithm of convolutions that an option names, else `otherwise`.
pub fn conv(given: Option<&str>, otherwise: ConvChoice) -> Result<ConvChoice> {
    given.map_or(Ok(otherwise), |name| name.parse().map_err(usage::<String>))
}

/// The crop that an option names, or else this one.
pub fn crop(given: Option<&str>, otherwise: Crop) -> Result<Crop> {
    given.map_or(Ok(otherwise), |name| name.parse().map_err(usage::<String>))
}

/// The precision that an option names, else `otherwise`.
pub fn precision(given: Option<&str>, otherwise: Precision) -> Result<Precision> {
    given.map_or(Ok(otherwise), |name| name.parse().map_err(usage::<String>))
}

/// Class names separated by commas; `\,` is a comma within a name.
pub fn words(list: &str) -> Result<Vec<Name>> {
    Name::parse_list(list).map_err(|e| usage(format!("--classes: {e}")))
}

impl Settings {
    /// The configuration that these settings make, for a run of `epochs` if they are given.
    pub fn resolve(&self, seed: Option<u64>, epochs: Option<u64>) -> Result<TrainConfig> {
        let recipe = self.recipe()?;
        let of_recipe = recipe.as_ref().and_then(|recipe| recipe.model.as_deref());
        let mut config = match (&self.config, &self.model, &self.init_from) {
            (Some(file), None, _) => TrainConfig::load(file)?,
            (Some(file), Some(model), _) => TrainConfig { network: network(model, None)?, ..TrainConfig::load(file)? },
            (None, None, Some(other)) => TrainConfig::new(network_of(other)?),
            (None, model, _) => {
                TrainConfig::new(network(model.as_deref().or(of_recipe).unwrap_or(DEFAULT_MODEL), None)?)
            }
        };
        if let Some(recipe) = recipe {
            let own = self.epochs.as_ref().and_then(|text| text.parse().ok());
            let built_in = match &self.model {
                Some(model) => nn::is_built_in(model),
                None => self.config.is_none() && self.init_from.is_none(),
            };
            recipe.apply(&mut config, epochs.or(own), built_in)?;
        }
        if let Some(epochs) = epochs {
            set(&mut config, "epochs", &epochs.to_string())?;
        }
        if let Some(seed) = seed {
            set(&mut config, "seed", &seed.to_string())?;
        }
        let flags = [
            ("variant", &self.variant),
            ("classes", &self.classes),
            ("unknown", &self.unknown),
            ("epochs", &self.epochs),
            ("batch", &self.batch),
            ("lr", &self.lr),
            ("split", &self.split),
            ("crop", &self.crop),
            ("conv", &self.conv),
            ("precision", &self.precision),
            ("freeze", &self.freeze),
        ];
        for (key, value) in flags {
            if let Some(value) = value {
                set(&mut config, key, value)?;
            }
        }
        self.apply_data(&mut config);
        if let Some(path) = &self.init_from {
            config.init_from = Some(path.clone());
        }
        if let Some(path) = &self.teacher {
            config.teacher = Some(path.clone());
        }
        config.strict |= self.strict;
        config.silence |= self.silence;
        for pair in &self.set {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(usage(format!("--set takes KEY=VALUE, and `{pair}` has no `=`")));
            };
            if key.trim() == "recipe" {
                return Err(usage("a recipe is given with --recipe, not with --set"));
            }
            set(&mut config, key.trim(), value.trim())?;
        }
        Ok(config)
    }

    /// The minutes that the run may take.
    pub fn minutes(&self) -> Result<Option<f64>> {
        match self.minutes {
            Some(minutes) if !(minutes > 0.0 && minutes <= 1e6) => {
                Err(usage(format!("--minutes must be above 0 and at most 1000000, got {minutes}")))
            }
            minutes => Ok(minutes),
        }
    }

    /// The recipe, if one is used: a configuration has all settings already.
    pub fn recipe(&self) -> Result<Option<Recipe>> {
        match (&self.recipe, &self.config) {
            (Some(name), _) => Ok(Some(Recipe::find(name)?)),
            (None, None) => Ok(Some(Recipe::find(Recipe::BEST)?)),
            (None, Some(_)) => Ok(None),
        }
    }

    /// Sets the recordings, if `--data` was given.
    pub fn apply_data(&self, config: &mut TrainConfig) {
        if let Some(path) = &self.data {
            config.data = (path != Path::new("embedded")).then(|| path.clone());
        }
    }

    /// Whether a list of the settings is asked for, with `--set help`.
    pub fn asks_for_help(&self) -> bool {
        self.set.iter().any(|pair| pair == "help")
    }

    /// The options that were given although a run that goes on must keep its settings.
    pub fn given_beside_resume(&self) -> Option<&'static str> {
        [
            ("--model", self.model.is_some()),
            ("--variant", self.variant.is_some()),
            ("--classes", self.classes.is_some()),
            ("--unknown", self.unknown.is_some()),
            ("--silence", self.silence),
            ("--batch", self.batch.is_some()),
            ("--lr", self.lr.is_some()),
            ("--split", self.split.is_some()),
            ("--crop", self.crop.is_some()),
            ("--conv", self.conv.is_some()),
            ("--precision", self.precision.is_some()),
            ("--recipe", self.recipe.is_some()),
            ("--minutes", self.minutes.is_some()),
            ("--init-from", self.init_from.is_some()),
            ("--freeze", self.freeze.is_some()),
            ("--teacher", self.teacher.is_some()),
            ("--config", self.config.is_some()),
            ("--strict", self.strict),
            ("--set", !self.set.is_empty()),
        ]
        .into_iter()
        .find_map(|(name, given)| given.then_some(name))
    }
}

/// Makes the paths of a run absolute, since it may be used from another folder.
pub fn make_absolute(config: &mut TrainConfig) {
    let noise = match &mut config.noise_from {
        NoiseSource::Folder(path) => Some(path),
        NoiseSource::Data | NoiseSource::Generated => None,
    };
    for path in [config.data.as_mut(), config.init_from.as_mut(), config.teacher.as_mut(), noise].into_iter().flatten()
    {
        *path = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    }
    for from in &mut config.unknown {
        if let UnknownFrom::Folder(path) = from {
            *path = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        }
    }
}

/// The settings of added classes, optimisation and augmentation that differ from the plain ones, as `key value`.
pub fn changed(config: &TrainConfig) -> Vec<String> {
    let plain = TrainConfig::new(config.network.clone());
    let groups = [Group::Run, Group::Optimisation, Group::Augmentation, Group::Transfer];
    let added = ["unknown", "unknown_share", "silence", "silence_share"];
    let listed = |s: &&Setting| {
        added.contains(&s.key)
            || groups.contains(&s.group) && !["recipe", "epochs", "batch", "seed", "lr"].contains(&s.key)
    };
    let of = SETTINGS.iter().filter(listed).map(|s| (s.key, s.default_in(config), s.default_in(&plain)));
    of.filter(|(_, own, plain)| own != plain).map(|(key, own, _)| format!("{key} {}", own.trim_matches('"'))).collect()
}

/// Says that a precision has no effect on a processor.
pub fn remark_on_precision(context: &Context, precision: Precision, device: &Device) {
    if let (Device::Cpu(_), true) = (device, precision != Precision::F32) {
        context.remark(&format!("note: a processor always computes in f32; {precision} has an effect on a GPU only"));
    }
}

/// Every setting with its values, its default and what it is.
pub fn help(context: &Context) -> Result<String> {
    let plain = TrainConfig::new(network(DEFAULT_MODEL, None)?);
    let mut best = plain.clone();
    Recipe::find(Recipe::BEST)?.apply(&mut best, None, true)?;
    if context.json {
        let setting = |s: &Setting| {
            json!({
                "key": s.key,
                "group": s.group.heading(),
                "values": s.values.to_string(),
                "default": s.default_in(&plain),
                "best": s.default_in(&best),
                "help": s.help,
            })
        };
        let list: Vec<serde_json::Value> = SETTINGS.iter().map(setting).collect();
        return Ok(serde_json::to_string_pretty(&list)? + "\n");
    }
    let mut text = String::from("Settings for --set KEY=VALUE and config.toml:\n");
    for group in Group::ALL {
        text += &format!("\n{}\n", group.heading());
        for s in SETTINGS.iter().filter(|s| s.group == group) {
            let Setting { key, help, values, .. } = s;
            let (default, best) = (s.default_in(&plain), s.default_in(&best));
            let best = if default == best { String::new() } else { format!(", with --recipe best {best}") };
            text += &format!("  {key}\n      {help}\n      values: {values}\n      default: {default}{best}\n");
        }
    }
    text +=
        "\nThe network has a table of its own, [network]: see `stapes models NAME` and the files that --model takes.\n";
    Ok(fill(&text, columns(), ""))
}

/// Sets one setting from the command line.
pub fn set(config: &mut TrainConfig, key: &str, value: &str) -> Result<()> {
    config.set(key, value, PLACE).map_err(|e| usage(e.to_string()))
}
