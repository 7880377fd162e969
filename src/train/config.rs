//! The configuration of a run, and `config.toml`.

use super::error::TrainError;
use super::setting_values::ESCAPED;
use super::settings::SETTINGS;
use super::weight_file::quoted;
use crate::base::Name;
use crate::base::name::display_path;
use crate::base::nearest::nearest;
use crate::base::text_file;
use crate::data::{Augment, Crop, ExtraClasses, NoiseSource, SilenceClass, SplitRule, UnknownClass, UnknownFrom};
use crate::nn::{Initialisation, NetworkSpec, SpecError};
use crate::ops::ConvChoice;
use crate::ops::device::Precision;
use crate::optim::{AdamSettings, Schedule};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Everything that decides what a run computes.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainConfig {
    /// The network, resolved.
    pub network: NetworkSpec,
    /// Folder or archive of recordings; none for the embedded set.
    pub data: Option<PathBuf>,
    /// Class names in the order of the outputs; empty for all words of the data. Added classes that are not named are the last ones.
    pub classes: Vec<Name>,
    /// Where the clips of the class `_unknown_` come from; empty for no such class.
    pub unknown: Vec<UnknownFrom>,
    /// Its clips, as a share of the clips of all words.
    pub unknown_share: f64,
    /// Whether there is the class `_silence_`.
    pub silence: bool,
    /// Its segments, as a share of the clips of all words.
    pub silence_share: f64,
    /// Which clips train, validate and test.
    pub split: SplitRule,
    /// Which part of a clip that is longer than the network's input is used.
    pub crop: Crop,
    /// Whether inputs are standardised by the mean and the deviation of each channel over the training clips.
    pub standardise: bool,
    /// Whether a clip that cannot be used is an error.
    pub strict: bool,
    /// The name of the recipe from which the other settings were taken.
    pub recipe: Option<String>,
    /// Complete passes over the training clips.
    pub epochs: u64,
    /// Clips in each training step.
    pub batch: usize,
    /// Seed of weights, order and dropout.
    pub seed: u64,
    /// The weights that are the result of the run.
    pub keep: Kept,
    /// After so many epochs without a higher validation accuracy the run ends; 0 for never.
    pub patience: u64,
    /// How the weights are initialised.
    pub init: Initialisation,
    /// The optimiser's settings.
    pub adam: AdamSettings,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// Label smoothing: the share of each label's probability that is distributed evenly over all classes.
    pub smoothing: f64,
    /// Decay of the exponential moving average of the weights; 0 for none.
    pub average: f32,
    /// How training clips are altered.
    pub augment: Augment,
    /// The background noise that is added to them, and that the class `_silence_` is cut from.
    pub noise_from: NoiseSource,
    /// The run or weight file whose weights the layers start with.
    pub init_from: Option<PathBuf>,
    /// The layers whose weights do not change, as text.
    pub freeze: String,
    /// The run or weight file of a trained network from whose probabilities this one learns.
    pub teacher: Option<PathBuf>,
    /// The share of those probabilities in the labels.
    pub teacher_share: f64,
    /// The temperature of those probabilities.
    pub temperature: f64,
    /// How convolutions are computed, in training and in inference with the run's network.
    pub conv: ConvChoice,
    /// The number format of convolutions and dense layers on a GPU.
    pub precision: Precision,
}

/// The weights that are the result of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kept {
    /// Those of the epoch with the highest validation accuracy.
    #[default]
    Best,
    /// Those of the last epoch: with a schedule that ends at a small learning rate they are as good, and validation clips are not used twice.
    Last,
}

impl Kept {
    /// All names, in the order of the help.
    pub const NAMES: [&str; 2] = ["best", "last"];

    /// `best` or `last`, as in files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Kept::Best => Kept::NAMES[0],
            Kept::Last => Kept::NAMES[1],
        }
    }
}

impl FromStr for Kept {
    type Err = String;

    fn from_str(text: &str) -> Result<Kept, String> {
        let kept = [Kept::Best, Kept::Last].into_iter().find(|kept| kept.name() == text);
        kept.ok_or_else(|| format!("keep must be best or last, got `{}`", quoted(text)))
    }
}

/// Largest `config.toml` that is read.
const LARGEST_FILE: u64 = 16 << 20;

fn unknown(key: &str) -> String {
    let known = SETTINGS.iter().map(|s| s.key);
    if key == "network" {
        return "the network is a table, not a setting; give its name or file with --model".into();
    }
    let key = quoted(key);
    match nearest(&key, known.clone().chain(["network"])) {
        Some(near) => format!("there is no setting `{key}`; did you mean `{near}`?"),
        None => format!("there is no setting `{key}`; there are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// The specification in the table `[network]` of a configuration, with the configuration's line numbers in errors.
fn parse_network(text: &str, network: toml::Table, place: &str) -> Result<NetworkSpec, TrainError> {
    let mut inside = false;
    let mut section = String::with_capacity(text.len());
    for line in text.lines() {
        let start = line.trim_start();
        if let Some(header) = start.strip_prefix("[[").or(start.strip_prefix('[')) {
            inside = header.starts_with("network]") || header.starts_with("network.");
            if header.starts_with("network.") {
                section += &start.replacen("network.", "", 1);
            }
        } else if inside {
            section += line;
        }
        section.push('\n');
    }
    if toml::from_str::<toml::Table>(&section).is_ok_and(|table| table == network) {
        return Ok(NetworkSpec::parse(&section, place)?);
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
            unknown: Vec::new(),
            unknown_share: 0.1,
            silence: false,
            silence_share: 0.1,
            split: SplitRule::Speaker,
            crop: Crop::Start,
            standardise: false,
            strict: false,
            epochs: 20,
            batch: 32,
            recipe: None,
            seed: 1,
            keep: Kept::default(),
            patience: 0,
            init: Initialisation::default(),
            adam: AdamSettings::default(),
            schedule: Schedule::default(),
            smoothing: 0.0,
            average: 0.0,
            augment: Augment::default(),
            noise_from: NoiseSource::Data,
            init_from: None,
            freeze: String::new(),
            teacher: None,
            teacher_share: 0.5,
            temperature: 2.0,
            conv: ConvChoice::default(),
            precision: Precision::default(),
        }
    }

    /// The classes that are added to the words.
    pub fn extra_classes(&self) -> ExtraClasses {
        let unknown = UnknownClass { from: self.unknown.clone(), share: self.unknown_share };
        let silence = SilenceClass { share: self.silence_share, noise: self.noise_from.clone() };
        ExtraClasses {
            unknown: (!self.unknown.is_empty()).then_some(unknown),
            silence: self.silence.then_some(silence),
        }
    }

    /// Sets the setting `key` from text; `place` says in errors where the text is.
    ///
    /// # Errors
    /// There is no such setting, or it cannot have this value.
    pub fn set(&mut self, key: &str, value: &str, place: &str) -> Result<(), TrainError> {
        let fail = |message: String| TrainError::Config { place: place.into(), message };
        let Some(setting) = SETTINGS.iter().find(|s| s.key == key) else {
            return Err(fail(unknown(key)));
        };
        setting.set(self, value).map_err(fail)
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
        let network = toml::Table::from_iter([("network".to_string(), self.network_value())]);
        text.push('\n');
        text += &toml::to_string(&network).expect("a table of plain data is valid TOML");
        text
    }

    /// The settings that a resumed run must have, with the network.
    pub(super) fn fixed(&self) -> toml::Table {
        let fixed = SETTINGS.iter().filter(|setting| !setting.may_change);
        let values = fixed.filter_map(|setting| Some((setting.key.to_string(), (setting.get)(self)?)));
        values.chain([("network".to_string(), self.network_value())]).collect()
    }

    fn network_value(&self) -> toml::Value {
        toml::Value::try_from(&self.network).expect("a network's specification is plain data")
    }

    /// Reads a `config.toml`.
    ///
    /// # Errors
    /// The file cannot be read, is too large, or is not a configuration.
    pub fn load(path: &Path) -> Result<TrainConfig, TrainError> {
        let advice = "give the config.toml of a run";
        let text = text_file::read(path, LARGEST_FILE);
        let text = text.map_err(|source| TrainError::Text { path: path.into(), source, advice })?;
        TrainConfig::from_toml(&text, &display_path(path))
    }

    /// Reads the text of a `config.toml`; `place` names the file in errors.
    ///
    /// # Errors
    /// It is not TOML, has an unknown key or a value that the key cannot have, or the network cannot be built.
    pub fn from_toml(text: &str, place: &str) -> Result<TrainConfig, TrainError> {
        let fail = |line: Option<usize>, message: String| TrainError::Config {
            place: line.map_or(place.to_string(), |line| format!("{place}, line {line}")),
            message,
        };
        let mut table: toml::Table = toml::from_str(text).map_err(|e: toml::de::Error| {
            let line = e.span().map(|span| 1 + text.bytes().take(span.start).filter(|&byte| byte == b'\n').count());
            fail(line, format!("this is not TOML: {}", quoted(e.message())))
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
                toml::Value::Table(path) if path_setter(key).is_some() => {
                    let path = escaped_path(key, path).map_err(|message| fail(line, message))?;
                    path_setter(key).expect("it was just found")(&mut config, path);
                    continue;
                }
                toml::Value::String(text) => text.clone(),
                toml::Value::Array(names) if names.iter().all(toml::Value::is_str) => {
                    let names = names.iter().filter_map(toml::Value::as_str).map(|name| name.replace(',', "\\,"));
                    names.collect::<Vec<_>>().join(",")
                }
                toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => value.to_string(),
                _ => return Err(fail(line, format!("`{key}` is a {}, not a plain value", value.type_str()))),
            };
            let place = line.map_or(place.to_string(), |line| format!("{place}, line {line}"));
            config.set(key, &text, &place)?;
        }
        Ok(config)
    }
}

/// The function that sets a path, if `key` is one.
fn path_setter(key: &str) -> Option<fn(&mut TrainConfig, PathBuf)> {
    SETTINGS.iter().find(|s| s.key == key).and_then(|s| s.set_path)
}

/// The path in `key = { escaped = ".." }`.
fn escaped_path(key: &str, table: &toml::Table) -> Result<PathBuf, String> {
    match (table.len(), table.get(ESCAPED).and_then(toml::Value::as_str)) {
        (1, Some(text)) => Name::parse(text).map(|path| path.to_path()).map_err(|e| format!("`{key}`: {e}")),
        _ => Err(format!("`{key}` must be a path as text, or {{ {ESCAPED} = \"..\" }} with escapes such as `\\xff`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{self, Variant};

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
    fn every_class_name_and_path_survives_the_file() {
        let mut config = sample();
        for classes in [vec!["yes,no", "bed ", " bed"], vec!["a\\", "b\\,", "c\td"], vec!["\"", "'", "#"]] {
            config.classes = classes.into_iter().map(Name::from).collect();
            config.classes.push(Name::from_bytes(b"b\xffd"));
            assert_eq!(TrainConfig::from_toml(&config.to_toml(), "config.toml").unwrap(), config);
        }
        for path in [&b"da\xffta"[..], b"a b\tc\nd\"e", b"embedded", b"sp ", b"a\\xff", b"'\"\"\"'"] {
            let path = Name::from_bytes(path).to_path();
            config.data = Some(path.clone());
            let back = TrainConfig::from_toml(&config.to_toml(), "config.toml").unwrap().data.unwrap();
            assert_eq!(back.strip_prefix(".").unwrap_or(&back), path);
        }
    }

    #[test]
    fn other_words_and_folders_survive_the_file() {
        let mut config = sample();
        let words = ["yes,no", " bed", "a\\", "other-words"].map(|word| UnknownFrom::parse(&word.into()));
        let folders = [&b"da\xffta"[..], b"a b/c,d", b".", b"other-words", b"./x"];
        let folders = folders.map(|path| UnknownFrom::Folder(Name::from_bytes(path).to_path()));
        config.unknown = words.into_iter().chain(folders).collect();
        assert_eq!(config.unknown[3], UnknownFrom::OtherWords);
        config.set("unknown_share", "0.25", "test").unwrap();
        config.set("silence", "true", "test").unwrap();
        let back = TrainConfig::from_toml(&config.to_toml(), "config.toml").unwrap();
        let plain = |from: &UnknownFrom| match from {
            UnknownFrom::Folder(path) => UnknownFrom::Folder(path.strip_prefix(".").unwrap_or(path).into()),
            other => other.clone(),
        };
        let lists = [&config, &back].map(|config| config.unknown.iter().map(plain).collect::<Vec<_>>());
        assert_eq!(lists[0], lists[1]);
        assert_eq!(back.extra_classes().names().len(), 2);
        assert_eq!(TrainConfig { unknown: config.unknown.clone(), ..back }, config);
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
