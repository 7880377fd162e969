//! What a setting of a run is: one name for it in options, in `--set`, in `config.toml` and in recipes. The table is in
//! `settings.rs`.

use super::config::TrainConfig;
use super::weight_file::quoted;
use std::path::PathBuf;

/// One setting: its name, what it is, and how text becomes its value.
pub struct Setting {
    /// Its name everywhere.
    pub key: &'static str,
    /// The group in which the help lists it.
    pub group: Group,
    /// What it is.
    pub help: &'static str,
    /// The values that it can have.
    pub values: Values,
    /// Whether a resumed run may have another value than before.
    pub may_change: bool,
    set: SetValue,
    /// For a path: sets it without going through text, since it may not be UTF-8.
    pub(super) set_path: Option<fn(&mut TrainConfig, PathBuf)>,
    /// Its value in `config.toml`; none for settings that are part of the network's own table, and for those without effect.
    pub(super) get: GetValue,
}

type SetValue = fn(&mut TrainConfig, &str) -> Result<(), String>;
type GetValue = fn(&TrainConfig) -> Option<toml::Value>;

/// What a setting is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The recordings and their division.
    Data,
    /// Length, batches and seed.
    Run,
    /// The optimiser and the loss.
    Optimisation,
    /// How training clips are altered.
    Augmentation,
    /// Other runs that this one starts or learns from.
    Transfer,
    /// How the arithmetic is done.
    Computation,
    /// The network.
    Network,
}

impl Group {
    /// All groups, in the order of the help.
    pub const ALL: [Group; 7] = [
        Group::Data,
        Group::Run,
        Group::Optimisation,
        Group::Augmentation,
        Group::Transfer,
        Group::Computation,
        Group::Network,
    ];

    /// Its heading.
    pub const fn heading(self) -> &'static str {
        match self {
            Group::Data => "Recordings",
            Group::Run => "Run",
            Group::Optimisation => "Optimisation",
            Group::Augmentation => "Augmentation of training clips",
            Group::Transfer => "Other runs",
            Group::Computation => "Computation",
            Group::Network => "Network",
        }
    }
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
    /// A setting that a resumed run keeps.
    pub(super) const fn new(
        group: Group,
        key: &'static str,
        values: Values,
        help: &'static str,
        set: SetValue,
        get: GetValue,
    ) -> Setting {
        Setting { key, group, help, values, may_change: false, set, set_path: None, get }
    }

    /// The same setting, which a resumed run may change.
    pub(super) const fn changeable(self) -> Setting {
        Setting { may_change: true, ..self }
    }

    /// The same setting, as a path.
    pub(super) const fn path(self, set: fn(&mut TrainConfig, PathBuf)) -> Setting {
        Setting { set_path: Some(set), ..self }
    }

    /// Sets the value in a configuration; the error is a sentence that names the setting, its values and the text.
    pub(super) fn set(&self, config: &mut TrainConfig, text: &str) -> Result<(), String> {
        if !self.values.contain(text) {
            return Err(format!("{} must be {}, got {}", self.key, self.values, shown(text)));
        }
        (self.set)(config, text).map_err(|why| format!("{}: {why}", self.key))
    }

    /// Its value in a new run of `config`, as text.
    pub fn default_in(&self, config: &TrainConfig) -> String {
        let otherwise = if self.group == Group::Network { "as the network says" } else { "none" };
        (self.get)(config).map_or(otherwise.into(), |value| value.to_string())
    }
}

/// A value in a message.
pub(super) fn shown(text: &str) -> String {
    if text.parse::<f64>().is_ok() { text.into() } else { format!("`{}`", quoted(text)) }
}

/// Text that [`Values::contain`] has checked.
pub(super) fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{} cannot be read", shown(text)))
}
