//! The settings of a run: one name for each, in options, in `--set` and in `config.toml`.

use super::config::TrainConfig;
use super::weight_file::quoted;
use crate::base::Name;
use crate::data::SplitRule;
use crate::nn::Variant;
use crate::ops::ConvChoice;
use crate::ops::device::Precision;
use std::path::{Path, PathBuf};

/// One setting: its name, what it is, and how text becomes its value.
pub struct Setting {
    /// Its name everywhere.
    pub key: &'static str,
    /// What it is.
    pub help: &'static str,
    /// The values that it can have.
    pub values: Values,
    /// Whether a resumed run may have another value than before.
    pub may_change: bool,
    set: fn(&mut TrainConfig, &str) -> Result<(), String>,
    /// Its value in `config.toml`; none for settings that are part of the network's own table.
    pub(super) get: fn(&TrainConfig) -> Option<toml::Value>,
}

/// The values of a setting.
pub enum Values {
    /// Whole numbers, both ends included.
    Whole(u64, u64),
    /// Numbers, both ends included.
    Between(f64, f64),
    /// Numbers from the first on and below the second.
    Below(f64, f64),
    /// `true` or `false`.
    Flag,
    /// One of these words.
    Words(&'static [&'static str]),
    /// Any text; what it means.
    Text(&'static str),
}

impl std::fmt::Display for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Values::Whole(low, high) => write!(f, "a whole number between {low} and {high}"),
            Values::Between(low, high) => write!(f, "between {low} and {high}"),
            Values::Below(low, high) => write!(f, "at least {low} and below {high}"),
            Values::Flag => f.write_str("true or false"),
            Values::Words(words) => match words.split_last() {
                Some((last, [])) => f.write_str(last),
                Some((last, others)) => write!(f, "{} or {last}", others.join(", ")),
                None => Ok(()),
            },
            Values::Text(what) => f.write_str(what),
        }
    }
}

impl Values {
    fn contain(&self, text: &str) -> bool {
        let number = || text.parse::<f64>();
        match self {
            Values::Whole(low, high) => text.parse::<u64>().is_ok_and(|n| (*low..=*high).contains(&n)),
            Values::Between(low, high) => number().is_ok_and(|n| (*low..=*high).contains(&n)),
            Values::Below(low, high) => number().is_ok_and(|n| (*low..*high).contains(&n)),
            Values::Flag => ["true", "false"].contains(&text),
            Values::Words(words) => words.contains(&text),
            Values::Text(_) => true,
        }
    }
}

impl Setting {
    /// Sets the value in a configuration; the error is a sentence that names the setting, its values and the text.
    pub(super) fn set(&self, config: &mut TrainConfig, text: &str) -> Result<(), String> {
        if !self.values.contain(text) {
            return Err(format!("{} must be {}, got {}", self.key, self.values, shown(text)));
        }
        (self.set)(config, text).map_err(|why| format!("{}: {why}", self.key))
    }

    /// Its value in a new run of `config`, as text.
    pub fn default_in(&self, config: &TrainConfig) -> String {
        (self.get)(config).map_or("as the network says".into(), |value| value.to_string())
    }
}

/// A value in a message.
fn shown(text: &str) -> String {
    if text.parse::<f64>().is_ok() { text.into() } else { format!("`{}`", quoted(text)) }
}

/// Text that [`Values::contain`] has checked.
fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{} cannot be read", shown(text)))
}

/// The random split has the seed of the run, so that one number repeats a run.
fn split_rule(text: &str, seed: u64) -> SplitRule {
    match text {
        "official" => SplitRule::Official,
        "random" => SplitRule::Random { seed },
        _ => SplitRule::Speaker,
    }
}

fn split_name(split: SplitRule) -> &'static str {
    match split {
        SplitRule::Speaker => "speaker",
        SplitRule::Official => "official",
        SplitRule::Random { .. } => "random",
    }
}

fn float(value: f32) -> Option<toml::Value> {
    // Through the shortest decimal that gives the same f32, not the nearest f64.
    value.to_string().parse::<f64>().ok().map(toml::Value::Float)
}

fn whole(value: impl TryInto<i64>) -> Option<toml::Value> {
    value.try_into().ok().map(toml::Value::Integer)
}

/// The value of `data` that denotes the built-in recordings.
const EMBEDDED: &str = "embedded";

/// The key of a path that is not UTF-8, in the text form of [`Name`].
pub(super) const ESCAPED: &str = "escaped";

/// A path as it is written in `config.toml`: text, or a table with the text form of its bytes.
fn path_value(path: &Path) -> toml::Value {
    match path.to_str() {
        // A folder of that name is not the built-in set.
        Some(EMBEDDED) => format!("./{EMBEDDED}").into(),
        Some(text) => text.into(),
        None => {
            let escaped = Name::from_os(path.as_os_str()).to_string();
            toml::Table::from_iter([(ESCAPED.to_string(), escaped.into())]).into()
        }
    }
}

/// All settings, in the order in which `config.toml` lists them.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "data",
        help: "the recordings, one folder for each word; a relative path starts at the current folder",
        values: Values::Text("a folder or a .tar.gz file, or `embedded` for the built-in recordings"),
        may_change: true,
        set: |c, v| {
            c.data = (v != EMBEDDED).then(|| PathBuf::from(v));
            Ok(())
        },
        get: |c| Some(c.data.as_deref().map_or(EMBEDDED.into(), path_value)),
    },
    Setting {
        key: "classes",
        help: "the classes in the order of the network's outputs; empty for all words of the data",
        values: Values::Text("names separated by commas (`\\,` is a comma in a name), in config.toml an array"),
        may_change: false,
        set: |c, v| {
            c.classes = Name::parse_list(v).map_err(|e| e.to_string())?;
            Ok(())
        },
        get: |c| Some(c.classes.iter().map(Name::to_string).collect::<Vec<_>>().into()),
    },
    Setting {
        key: "split",
        help: "which clips train, validate and test: by a hash of the speaker, by the lists in the data, or at random (80/10/10)",
        values: Values::Words(&["speaker", "official", "random"]),
        may_change: false,
        set: |c, v| {
            c.split = split_rule(v, c.seed);
            Ok(())
        },
        get: |c| Some(split_name(c.split).into()),
    },
    Setting {
        key: "crop",
        help: "the part that is used of clips that are longer than the network's input; `loudest` is the one with the largest energy",
        values: Values::Words(&["start", "center", "loudest"]),
        may_change: false,
        set: |c, v| v.parse().map(|crop| c.crop = crop),
        get: |c| Some(c.crop.name().into()),
    },
    Setting {
        key: "strict",
        help: "whether the first clip that cannot be used ends the run",
        values: Values::Flag,
        may_change: true,
        set: |c, v| parsed(v).map(|strict| c.strict = strict),
        get: |c| Some(c.strict.into()),
    },
    Setting {
        key: "epochs",
        help: "complete passes over the training clips",
        // The records of all epochs are stored in the header of a checkpoint, which has a limit of 100 MB.
        values: Values::Whole(1, 100_000),
        may_change: true,
        set: |c, v| parsed(v).map(|epochs| c.epochs = epochs),
        get: |c| whole(c.epochs),
    },
    Setting {
        key: "batch",
        help: "clips in each training step",
        values: Values::Whole(1, 1 << 20),
        may_change: false,
        set: |c, v| parsed(v).map(|batch| c.batch = batch),
        get: |c| whole(c.batch as u64),
    },
    Setting {
        key: "seed",
        help: "seed of the initial weights, the order of the clips, dropout and the random split",
        values: Values::Whole(0, i64::MAX as u64),
        may_change: false,
        set: |c, v| {
            c.seed = parsed(v)?;
            c.split = split_rule(split_name(c.split), c.seed);
            Ok(())
        },
        get: |c| whole(c.seed),
    },
    Setting {
        key: "lr",
        help: "Adam's learning rate",
        values: Values::Between(0.0, 1e3),
        may_change: false,
        set: |c, v| parsed(v).map(|lr| c.adam.lr = lr),
        get: |c| float(c.adam.lr),
    },
    Setting {
        key: "beta1",
        help: "decay of Adam's first moment",
        values: Values::Between(0.0, 0.999_999),
        may_change: false,
        set: |c, v| parsed(v).map(|beta| c.adam.beta1 = beta),
        get: |c| float(c.adam.beta1),
    },
    Setting {
        key: "beta2",
        help: "decay of Adam's second moment",
        values: Values::Between(0.0, 0.999_999),
        may_change: false,
        set: |c, v| parsed(v).map(|beta| c.adam.beta2 = beta),
        get: |c| float(c.adam.beta2),
    },
    Setting {
        key: "eps",
        help: "added to the square root of Adam's second moment",
        values: Values::Between(1e-12, 1.0),
        may_change: false,
        set: |c, v| parsed(v).map(|eps| c.adam.eps = eps),
        get: |c| float(c.adam.eps),
    },
    Setting {
        key: "init",
        help: "how the weights are initialised",
        values: Values::Words(&["he-normal", "he-uniform", "glorot-normal", "glorot-uniform", "pytorch"]),
        may_change: false,
        set: |c, v| v.parse().map(|init| c.init = init),
        get: |c| Some(c.init.to_string().into()),
    },
    Setting {
        key: "conv",
        help: "how convolutions are computed: as separate operations, fused, or fused where that is faster",
        values: Values::Words(&ConvChoice::NAMES),
        may_change: false,
        set: |c, v| v.parse().map(|conv| c.conv = conv),
        get: |c| Some(c.conv.to_string().into()),
    },
    Setting {
        key: "precision",
        help: "the number format of convolutions and dense layers on a GPU; the processor always computes in f32",
        values: Values::Words(&Precision::NAMES),
        may_change: false,
        set: |c, v| v.parse().map(|precision| c.precision = precision),
        get: |c| Some(c.precision.to_string().into()),
    },
    Setting {
        key: "variant",
        help: "dropout, batch norm or both: sets `dropout` and `batch_norm` of the network",
        values: Values::Words(&["do", "bn", "do+bn"]),
        may_change: false,
        set: |c, v| v.parse::<Variant>().map(|variant| c.network.set_variant(variant)),
        get: |_| None,
    },
    Setting {
        key: "dropout",
        help: "share of the features that training sets to zero before the last layer",
        values: Values::Below(0.0, 1.0),
        may_change: false,
        set: |c, v| parsed(v).map(|dropout| c.network.head.dropout = dropout),
        get: |_| None,
    },
    Setting {
        key: "batch_norm",
        help: "whether every convolution is followed by batch norm",
        values: Values::Flag,
        may_change: false,
        set: |c, v| parsed(v).map(|batch_norm| c.network.batch_norm = batch_norm),
        get: |_| None,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{self, Initialisation};

    #[test]
    fn every_setting_refuses_a_wrong_value_with_its_name_its_values_and_the_text() {
        let mut config = TrainConfig::new(nn::find("custom32-8").unwrap().spec(Variant::Do));
        for setting in SETTINGS.iter().filter(|setting| !matches!(setting.values, Values::Text(_))) {
            for text in ["", "-1", "nan", "2e99", "x\ty"] {
                let error = setting.set(&mut config, text).unwrap_err();
                let (key, values) = (setting.key, &setting.values);
                assert_eq!(error, format!("{key} must be {values}, got {}", shown(text)));
                assert!(!error.contains('\t'), "{error}");
            }
        }
        let error = SETTINGS.iter().find(|s| s.key == "dropout").unwrap().set(&mut config, "2").unwrap_err();
        assert_eq!(error, "dropout must be at least 0 and below 1, got 2");
    }

    #[test]
    fn words_are_those_of_their_types() {
        let words = |key: &str| match SETTINGS.iter().find(|s| s.key == key).unwrap().values {
            Values::Words(words) => words.to_vec(),
            _ => panic!("{key} has no words"),
        };
        assert_eq!(words("init"), Initialisation::ALL.map(Initialisation::name));
        assert_eq!(words("variant"), Variant::ALL.map(Variant::name));
    }
}
