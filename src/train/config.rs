//! A run's configuration: every setting has one name, in flags, `--set`, and `config.toml`.

use super::error::TrainError;
use crate::base::Name;
use crate::base::nearest::nearest;
use crate::data::{Crop, SplitRule};
use crate::nn::{Initialisation, NetworkSpec, SpecError, Variant};
use crate::ops::ConvChoice;
use crate::ops::device::Precision;
use crate::optim::AdamSettings;
use std::path::PathBuf;

/// Everything that decides what a run computes.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// The network, resolved.
    pub network: NetworkSpec,
    /// Folder or archive of recordings; none for the embedded set.
    pub data: Option<PathBuf>,
    /// Class names in the order of the outputs; empty for all words of the data.
    pub classes: Vec<Name>,
    /// Who trains and who tests.
    pub split: SplitRule,
    /// Which part of a clip that is longer than the network's input is used.
    pub crop: Crop,
    /// Whether one broken clip is an error.
    pub strict: bool,
    /// Complete passes over the training clips.
    pub epochs: u64,
    /// Clips a step.
    pub batch: usize,
    /// Seed of weights, order and dropout.
    pub seed: u64,
    /// How weights begin.
    pub init: Initialisation,
    /// The optimiser's settings.
    pub adam: AdamSettings,
    /// How convolutions are computed, in training and when the run's network recognises.
    pub conv: ConvChoice,
    /// How exactly a GPU computes.
    pub precision: Precision,
}

/// One setting: its name, what it is, and how text becomes it.
pub struct Setting {
    /// Its name everywhere.
    pub key: &'static str,
    /// What it is, with its values.
    pub help: &'static str,
    set: fn(&mut TrainConfig, &str) -> Result<(), String>,
    /// As it stands in `config.toml`; none for settings that live on in the network's own table.
    get: fn(&TrainConfig) -> Option<toml::Value>,
}

fn number<T: std::str::FromStr + PartialOrd + std::fmt::Display>(
    text: &str,
    (least, most): (T, T),
) -> Result<T, String> {
    match text.parse::<T>() {
        Ok(value) if value >= least && value <= most => Ok(value),
        _ => Err(format!("`{text}` is no number from {least} to {most}")),
    }
}

fn flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("`{text}` is neither true nor false"))
}

/// The random split's seed: the run's own, so that one number repeats a run.
fn split_rule(text: &str, seed: u64) -> Result<SplitRule, String> {
    match text {
        "speaker" => Ok(SplitRule::Speaker),
        "official" => Ok(SplitRule::Official),
        "random" => Ok(SplitRule::Random { seed }),
        _ => Err(format!("`{text}` is no split; take speaker, official or random")),
    }
}

fn split_name(split: SplitRule) -> &'static str {
    match split {
        SplitRule::Speaker => "speaker",
        SplitRule::Official => "official",
        SplitRule::Random { .. } => "random",
    }
}

fn shown(value: f32) -> Option<toml::Value> {
    // Through the shortest decimal that gives the same f32, not the nearest f64.
    value.to_string().parse::<f64>().ok().map(toml::Value::Float)
}

/// All settings, in the order in which `config.toml` lists them.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "data",
        help: "folder or .tar.gz of recordings, one folder a word; `embedded` for the built-in set",
        set: |c, v| {
            c.data = (v != "embedded").then(|| PathBuf::from(v));
            Ok(())
        },
        get: |c| {
            let path = c.data.as_ref().map_or("embedded".into(), |path| path.display().to_string());
            Some(toml::Value::String(path))
        },
    },
    Setting {
        key: "classes",
        help: "the words, in the order of the network's outputs, separated by commas; empty for all",
        set: |c, v| {
            c.classes = Name::parse_list(v).map_err(|e| e.to_string())?;
            Ok(())
        },
        get: |c| Some(c.classes.iter().map(Name::to_string).collect::<Vec<_>>().into()),
    },
    Setting {
        key: "split",
        help: "who trains and who tests: speaker (hash of the speaker), official (the lists in the data), random (80/10/10)",
        set: |c, v| split_rule(v, c.seed).map(|split| c.split = split),
        get: |c| Some(split_name(c.split).into()),
    },
    Setting {
        key: "crop",
        help: "part used of clips that are longer than the network's input: start, center or loudest (largest energy)",
        set: |c, v| v.parse().map(|crop| c.crop = crop),
        get: |c| Some(c.crop.name().into()),
    },
    Setting {
        key: "strict",
        help: "whether one broken clip ends the run: true or false",
        set: |c, v| flag(v).map(|strict| c.strict = strict),
        get: |c| Some(c.strict.into()),
    },
    Setting {
        key: "epochs",
        help: "complete passes over the training clips",
        set: |c, v| number(v, (1, 1_000_000)).map(|epochs| c.epochs = epochs),
        get: |c| i64::try_from(c.epochs).ok().map(toml::Value::Integer),
    },
    Setting {
        key: "batch",
        help: "clips a step",
        set: |c, v| number(v, (1, 1 << 20)).map(|batch| c.batch = batch),
        get: |c| i64::try_from(c.batch).ok().map(toml::Value::Integer),
    },
    Setting {
        key: "seed",
        help: "seed of initial weights, order of clips and dropout",
        set: |c, v| {
            c.seed = number(v, (0, i64::MAX as u64))?;
            c.split = split_rule(split_name(c.split), c.seed)?;
            Ok(())
        },
        get: |c| i64::try_from(c.seed).ok().map(toml::Value::Integer),
    },
    Setting {
        key: "lr",
        help: "Adam's learning rate",
        set: |c, v| number(v, (0.0, 1e3)).map(|lr| c.adam.lr = lr),
        get: |c| shown(c.adam.lr),
    },
    Setting {
        key: "beta1",
        help: "decay of Adam's first moment",
        set: |c, v| number(v, (0.0, 0.999_999)).map(|beta| c.adam.beta1 = beta),
        get: |c| shown(c.adam.beta1),
    },
    Setting {
        key: "beta2",
        help: "decay of Adam's second moment",
        set: |c, v| number(v, (0.0, 0.999_999)).map(|beta| c.adam.beta2 = beta),
        get: |c| shown(c.adam.beta2),
    },
    Setting {
        key: "eps",
        help: "added to the root of Adam's second moment",
        set: |c, v| number(v, (1e-12, 1.0)).map(|eps| c.adam.eps = eps),
        get: |c| shown(c.adam.eps),
    },
    Setting {
        key: "init",
        help: "how weights begin: he-normal, he-uniform, glorot-uniform, pytorch",
        set: |c, v| v.parse().map(|init| c.init = init),
        get: |c| Some(c.init.to_string().into()),
    },
    Setting {
        key: "conv",
        help: "how convolutions are computed: direct, fast (fused with ReLU and pool, fewer multiplications) or auto (fast where it is faster)",
        set: |c, v| v.parse().map(|conv| c.conv = conv),
        get: |c| Some(c.conv.to_string().into()),
    },
    Setting {
        key: "precision",
        help: "how exactly a GPU computes: f32, tf32 or bf16; the processor always computes in f32",
        set: |c, v| v.parse().map(|precision| c.precision = precision),
        get: |c| Some(c.precision.to_string().into()),
    },
    Setting {
        key: "variant",
        help: "do (dropout), bn (batch norm) or do+bn: sets the network's dropout and batch_norm",
        set: |c, v| v.parse::<Variant>().map(|variant| c.network.set_variant(variant)),
        get: |_| None,
    },
    Setting {
        key: "dropout",
        help: "share of the features dropped before the last layer",
        set: |c, v| number(v, (0.0, 0.999)).map(|dropout| c.network.head.dropout = dropout),
        get: |_| None,
    },
    Setting {
        key: "batch_norm",
        help: "whether every convolution is normalised over the batch: true or false",
        set: |c, v| flag(v).map(|batch_norm| c.network.batch_norm = batch_norm),
        get: |_| None,
    },
];

fn unknown(key: &str) -> String {
    let known = SETTINGS.iter().map(|s| s.key);
    match nearest(key, known.clone().chain(["network"])) {
        Some(near) => format!("there is no setting `{key}`; did you mean `{near}`?"),
        None => format!("there is no setting `{key}`; there are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// The specification in the table `[network]` of a configuration, with the configuration's line numbers in errors.
fn parse_network(text: &str, network: toml::Table, place: &str) -> Result<NetworkSpec, TrainError> {
    let mut inside = false;
    let mut alone = String::with_capacity(text.len());
    for line in text.lines() {
        let start = line.trim_start();
        if let Some(header) = start.strip_prefix("[[").or(start.strip_prefix('[')) {
            inside = header.starts_with("network]") || header.starts_with("network.");
            if header.starts_with("network.") {
                alone += &start.replacen("network.", "", 1);
            }
        } else if inside {
            alone += line;
        }
        alone.push('\n');
    }
    if toml::from_str::<toml::Table>(&alone).is_ok_and(|table| table == network) {
        return Ok(NetworkSpec::parse(&alone, place)?);
    }
    // Written in another way, such as `network = { .. }`: its lines are not known.
    let spec = toml::to_string(&network).expect("a table that was read can be written");
    Ok(NetworkSpec::parse(&spec, place).map_err(|e| SpecError { line: None, ..e })?)
}

impl TrainConfig {
    /// The defaults for a network: the embedded set, split by speaker, 20 epochs of batches of 32.
    pub fn new(network: NetworkSpec) -> TrainConfig {
        TrainConfig {
            network,
            data: None,
            classes: Vec::new(),
            split: SplitRule::Speaker,
            crop: Crop::Start,
            strict: false,
            epochs: 20,
            batch: 32,
            seed: 1,
            init: Initialisation::default(),
            adam: AdamSettings::default(),
            conv: ConvChoice::default(),
            precision: Precision::default(),
        }
    }

    /// Sets the setting `key` from text; `place` is where it stands, for the error.
    pub fn set(&mut self, key: &str, value: &str, place: &str) -> Result<(), TrainError> {
        let fail = |message: String| TrainError::Config { place: place.into(), message };
        let Some(setting) = SETTINGS.iter().find(|s| s.key == key) else {
            return Err(fail(unknown(key)));
        };
        (setting.set)(self, value).map_err(|message| fail(format!("`{key}`: {message}")))
    }

    /// The configuration as `config.toml`.
    pub fn to_toml(&self) -> String {
        let mut text = format!(
            "# A run of stapes {}. `stapes train --config` with this file repeats it.\n",
            env!("CARGO_PKG_VERSION")
        );
        for setting in SETTINGS {
            if let Some(value) = (setting.get)(self) {
                text += &format!("{} = {value}\n", setting.key);
            }
        }
        let mut network = toml::Table::new();
        let table = toml::Value::try_from(&self.network).expect("a network's specification is plain data");
        network.insert("network".into(), table);
        text.push('\n');
        text += &toml::to_string(&network).expect("a table of plain data is valid TOML");
        text
    }

    /// Reads a `config.toml`; `place` names the file.
    pub fn from_toml(text: &str, place: &str) -> Result<TrainConfig, TrainError> {
        let fail = |line: Option<usize>, message: String| TrainError::Config {
            place: line.map_or(place.to_string(), |line| format!("{place}, line {line}")),
            message,
        };
        let mut table: toml::Table = toml::from_str(text).map_err(|e: toml::de::Error| {
            let line = e.span().map(|span| 1 + text.bytes().take(span.start).filter(|&byte| byte == b'\n').count());
            fail(line, format!("this is no TOML: {}", e.message()))
        })?;
        let line_of = |key: &str| {
            let starts =
                |line: &str| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='));
            text.lines().position(starts).map(|line| line + 1)
        };
        if let Some(key) = table.keys().find(|key| *key != "network" && SETTINGS.iter().all(|s| s.key != *key)) {
            return Err(fail(line_of(key), unknown(key)));
        }
        let Some(toml::Value::Table(network)) = table.remove("network") else {
            return Err(fail(None, "the table [network] is missing; give the config.toml of a run".into()));
        };
        let mut config = TrainConfig::new(parse_network(text, network, place)?);
        for (key, value) in &table {
            let line = line_of(key);
            let text = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Array(words) if words.iter().all(toml::Value::is_str) => words
                    .iter()
                    .filter_map(toml::Value::as_str)
                    .map(|word| word.replace(',', "\\,"))
                    .collect::<Vec<_>>()
                    .join(","),
                toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => value.to_string(),
                _ => return Err(fail(line, format!("`{key}` is a {}, not a plain value", value.type_str()))),
            };
            let place = line.map_or(place.to_string(), |line| format!("{place}, line {line}"));
            config.set(key, &text, &place)?;
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn;

    fn sample() -> TrainConfig {
        let mut config = TrainConfig::new(nn::find("custom32-8").unwrap().spec(Variant::DoBn));
        for (key, value) in [
            ("data", "a b/c"),
            ("classes", "yes,no"),
            ("lr", "0.003"),
            ("split", "random"),
            ("seed", "7"),
            ("crop", "loudest"),
        ] {
            config.set(key, value, "test").unwrap();
        }
        config
    }

    #[test]
    fn a_configuration_goes_to_text_and_back() {
        let config = sample();
        assert_eq!(TrainConfig::from_toml(&config.to_toml(), "config.toml").unwrap(), config);
        assert_eq!(config.split, SplitRule::Random { seed: 7 }, "one seed for all");
    }

    #[test]
    fn errors_name_the_line_of_the_file() {
        let text = sample().to_toml();
        let of = |from: &str, to: &str| {
            let wrong = text.replacen(from, to, 1);
            assert_ne!(wrong, text);
            let line = wrong.lines().position(|line| line.contains(to.trim())).unwrap() + 1;
            let error = TrainConfig::from_toml(&wrong, "c.toml").unwrap_err().to_string();
            assert!(error.starts_with(&format!("c.toml, line {line}: ")), "{error}\n{wrong}");
            error
        };
        assert!(of("epochs", "epoch").ends_with("did you mean `epochs`?"));
        assert!(of("depth", "dept").contains("did you mean `depth`?"));
        assert!(of("dropout = 0.75", "dropout = 75").contains("dropout"));
        assert!(of("batch = 32", "batch = {}").contains("not a plain value"));
    }

    #[test]
    fn any_text_is_read_or_refused() {
        for text in [
            "",
            "[network]",
            "network = 1",
            "network = { name = \"x\" }",
            "[network",
            "é = 1\n[network]",
            "[[network]]",
        ] {
            assert!(TrainConfig::from_toml(text, "c.toml").is_err(), "{text}");
        }
    }
}
