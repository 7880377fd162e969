//! Whether a weight file, the settings of its run and what it is used for agree.

#[cfg(feature = "audio")]
use super::config::TrainConfig;
use super::error::{Disagreement, TrainError};
use super::identity::Identity;
use super::weight_file::quoted;
use crate::base::Name;
#[cfg(feature = "audio")]
use crate::base::name::display_path;
use crate::nn::NetworkSpec;
use std::path::Path;
use toml::{Table, Value};

/// The origin of what is compared with a weight file, and what to do if both differ.
pub struct Side<'a> {
    /// The file or the options.
    pub place: String,
    /// The advice of the error.
    pub advice: &'a str,
}

impl Side<'_> {
    /// Refuses the first difference.
    fn compare(&self, ours: &Table, file: &Path, theirs: &Table) -> Result<(), TrainError> {
        match first_difference(ours, theirs) {
            None => Ok(()),
            Some((key, ours, theirs)) => {
                let (place, advice) = (self.place.clone(), self.advice.into());
                Err(TrainError::Disagree(Box::new(Disagreement {
                    key,
                    ours,
                    place,
                    theirs,
                    file: file.into(),
                    advice,
                })))
            }
        }
    }

    /// Compares the configuration of a run with what a weight file says about its network.
    #[cfg(feature = "audio")]
    pub fn config(&self, config: &TrainConfig, file: &Path, identity: &Identity) -> Result<(), TrainError> {
        let ours = Table::from_iter([classes(&config.classes), network(&config.network)]);
        let theirs = Table::from_iter([classes(&identity.classes), network(&identity.spec)]);
        self.compare(&ours, file, &theirs)
    }

    /// Compares a network and classes that were given with what a weight file says. What has no effect on a prediction,
    /// such as the name or dropout, may differ.
    pub fn given(&self, given: &Identity, file: &Path, identity: &Identity) -> Result<(), TrainError> {
        let table = |of: &Identity| Table::from_iter([classes(&of.classes), network(&for_inference(&of.spec))]);
        self.compare(&table(given), file, &table(identity))
    }

    /// Compares the settings of a run that is resumed with those that its checkpoint was trained with.
    #[cfg(feature = "audio")]
    pub fn settings(&self, config: &TrainConfig, file: &Path, stored: &str) -> Result<(), TrainError> {
        let mut theirs: Table = toml::from_str(stored)
            .map_err(|e| super::weight_file::damaged(file, format!("its settings: {}", quoted(e.message()))))?;
        let ours = config.fixed();
        // A setting that an earlier version did not have yet.
        for (key, value) in &ours {
            theirs.entry(key).or_insert_with(|| value.clone());
        }
        self.compare(&ours, file, &theirs)
    }
}

fn classes(names: &[Name]) -> (String, Value) {
    ("classes".into(), names.iter().map(Name::to_string).collect::<Vec<_>>().into())
}

fn network(spec: &NetworkSpec) -> (String, Value) {
    ("network".into(), Value::try_from(spec).expect("a network's specification is plain data"))
}

/// A specification in which only that differs which changes predictions.
fn for_inference(spec: &NetworkSpec) -> NetworkSpec {
    let mut spec = spec.clone();
    if let Ok(blocks) = spec.expand() {
        (spec.blocks, spec.block) = (None, blocks);
    }
    spec.name = NetworkSpec::default().name;
    spec.classes = None;
    spec.head.dropout = 0.0;
    spec
}

/// The first key with different values, and both values.
pub fn first_difference(ours: &Table, theirs: &Table) -> Option<(String, String, String)> {
    let keys = ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key)));
    keys.into_iter().find_map(|key| difference(key.clone(), ours.get(key), theirs.get(key)))
}

fn difference(key: String, ours: Option<&Value>, theirs: Option<&Value>) -> Option<(String, String, String)> {
    match (ours, theirs) {
        (Some(a), Some(b)) if a == b => None,
        (Some(Value::Table(a)), Some(Value::Table(b))) => {
            first_difference(a, b).map(|(inner, a, b)| (format!("{key}.{inner}"), a, b))
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            let at = (0..a.len().max(b.len())).find(|&i| a.get(i) != b.get(i))?;
            difference(format!("{key}[{at}]"), a.get(at), b.get(at))
        }
        (a, b) => Some((key, shown(a), shown(b))),
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None => "not there".into(),
        Some(Value::Table(_)) => "a table".into(),
        Some(value) => quoted(&value.to_string()),
    }
}

/// A file as it is named in these errors: by its name within its run.
#[cfg(feature = "audio")]
pub fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| display_path(path), |name| display_path(Path::new(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named_by_its_key() {
        let table = |text: &str| toml::from_str::<Table>(text).unwrap();
        let of = |a: &str, b: &str| first_difference(&table(a), &table(b));
        let found = |key: &str, a: &str, b: &str| Some((key.to_string(), a.to_string(), b.to_string()));
        assert_eq!(of("a = 1\nb = 2", "b = 2\na = 1"), None);
        assert_eq!(of("lr = 0.5", "lr = 0.1"), found("lr", "0.5", "0.1"));
        assert_eq!(of("n = { i = { l = 8 } }", "n = { i = { l = 9 } }"), found("n.i.l", "8", "9"));
        assert_eq!(of("c = ['a', 'b']", "c = ['a', 'c']"), found("c[1]", "\"b\"", "\"c\""));
        assert_eq!(of("c = ['a']", "c = ['a', 'c']"), found("c[1]", "not there", "\"c\""));
        assert_eq!(of("", "n = { x = 1 }"), found("n", "not there", "a table"));
    }
}
