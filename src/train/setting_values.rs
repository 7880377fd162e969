//! Values of settings as they are written in `config.toml`.

use super::config::TrainConfig;
use crate::base::Name;
use crate::data::SplitRule;
use crate::optim::ScheduleKind;
use std::path::{Path, PathBuf};

/// The random split has the seed of the run, so that one number repeats a run.
pub(super) fn split_rule(text: &str, seed: u64) -> SplitRule {
    match text {
        "official" => SplitRule::Official,
        "random" => SplitRule::Random { seed },
        _ => SplitRule::Speaker,
    }
}

pub(super) fn split_name(split: SplitRule) -> &'static str {
    match split {
        SplitRule::Speaker => "speaker",
        SplitRule::Official => "official",
        SplitRule::Random { .. } => "random",
    }
}

pub(super) fn float(value: f32) -> Option<toml::Value> {
    // Through the shortest decimal that gives the same f32, not the nearest f64.
    value.to_string().parse::<f64>().ok().map(toml::Value::Float)
}

pub(super) fn double(value: f64) -> Option<toml::Value> {
    Some(value.into())
}

pub(super) fn whole(value: impl TryInto<i64>) -> Option<toml::Value> {
    value.try_into().ok().map(toml::Value::Integer)
}

/// The value of `data` that denotes the built-in recordings.
pub(super) const EMBEDDED: &str = "embedded";
/// The values of `noise_from` that are not a folder.
pub(super) const NOISE_OF_DATA: &str = "data";
pub(super) const NOISE_GENERATED: &str = "generated";

/// The key of a path that is not UTF-8, in the text form of [`Name`].
pub(super) const ESCAPED: &str = "escaped";

/// A path as it is written in `config.toml`: text, or a table with the text form of its bytes. A path that is one of `words`
/// gets a `./`, since the word alone means something else.
pub(super) fn path_value(path: &Path, words: &[&str]) -> toml::Value {
    match path.to_str() {
        Some(text) if words.contains(&text) => format!("./{text}").into(),
        Some(text) => text.into(),
        None => {
            let escaped = Name::from_os(path.as_os_str()).to_string();
            toml::Table::from_iter([(ESCAPED.to_string(), escaped.into())]).into()
        }
    }
}

/// A path of another run; no path for empty text.
pub(super) fn run_path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// Interval and factor of the schedule `step`.
pub(super) fn step_schedule(config: &mut TrainConfig) -> Result<(&mut f64, &mut f64), String> {
    match &mut config.schedule.kind {
        ScheduleKind::Step { every, factor } => Ok((every, factor)),
        _ => Err("only the schedule `step` has it; set schedule=step before".into()),
    }
}
