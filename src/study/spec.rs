//! The description of a study, and the runs that follow from it.

use super::error::StudyError;
use super::planned::PlannedRun;
use crate::base::name::{display, display_path};
use crate::base::nearest::nearest;
use crate::base::text_file;
use crate::nn::{self, Variant};
use crate::train::{Recipe, TrainConfig};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Largest study file that is read.
const LARGEST_FILE: u64 = 1 << 20;
/// Most runs of a study.
const MOST_RUNS: usize = 100_000;

/// The seeds of each network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number of seeds, or a list of seeds from 0 on")]
pub enum Seeds {
    /// 1 to this number.
    Count(u64),
    /// These.
    List(Vec<u64>),
}

impl Default for Seeds {
    fn default() -> Seeds {
        Seeds::Count(1)
    }
}

/// A study: every network in every variant, with every seed and every combination of the grid.
///
/// ```toml
/// data = "speech_commands"             # if omitted, the embedded recordings
/// classes = ["yes", "no"]              # if omitted, all words
/// tables = ["steep32", "shrink64"]     # of the study's networks: `stapes models` lists them
/// networks = ["custom32-8", "my.toml"] # further networks, by name or file
/// variants = ["do", "bn", "do+bn"]
/// seeds = 3                            # 1 to 3, or a list
/// recipe = "plain"
///
/// [set]                                # settings of all runs
/// epochs = 10
///
/// [grid]                               # settings of which each combination is a run
/// lr = [0.001, 0.01]
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StudySpec {
    /// Recordings; the embedded ones if omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Classes; all words if empty.
    pub classes: Vec<String>,
    /// Tables of the study's networks.
    pub tables: Vec<String>,
    /// Networks by name or file.
    pub networks: Vec<String>,
    /// Variants of each network; `do` if empty.
    pub variants: Vec<String>,
    /// Seeds.
    pub seeds: Seeds,
    /// The recipe; `plain` if omitted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// Settings of all runs.
    pub set: BTreeMap<String, toml::Value>,
    /// Settings of which each combination is a run.
    pub grid: BTreeMap<String, Vec<toml::Value>>,
}

impl StudySpec {
    /// Reads a study file. Relative paths in it start at the current folder.
    ///
    /// # Errors
    /// The file cannot be read, or is not a study.
    pub fn load(path: &Path) -> Result<StudySpec, StudyError> {
        let text = text_file::read(path, LARGEST_FILE);
        let text = text.map_err(|source| StudyError::Text { path: path.into(), source })?;
        StudySpec::parse(&text, &display_path(path))
    }

    /// Reads the text of a study file; `place` names it in errors.
    ///
    /// # Errors
    /// It is not a study.
    pub fn parse(text: &str, place: &str) -> Result<StudySpec, StudyError> {
        toml::from_str(text).map_err(|e: toml::de::Error| {
            let line = e.span().map(|span| 1 + text.bytes().take(span.start).filter(|&byte| byte == b'\n').count());
            let place = line.map_or(place.to_string(), |line| format!("{place}, line {line}"));
            StudyError::Spec { place, message: display(e.message()) }
        })
    }

    /// The name of the recipe.
    pub fn recipe_name(&self) -> &str {
        self.recipe.as_deref().unwrap_or(Recipe::PLAIN)
    }

    /// The runs in the order of execution: seed by seed, so that an unfinished study has each network as often as any other.
    ///
    /// # Errors
    /// A network, a variant, a recipe or a setting does not exist, two runs would have one name, or there are no runs or too many.
    pub fn expand(&self) -> Result<Vec<PlannedRun>, StudyError> {
        let fail = |message: String| StudyError::Spec { place: "study".into(), message };
        let networks = self.network_names()?;
        let recipe = Recipe::find(self.recipe_name())?;
        let variants = match &self.variants[..] {
            [] => vec![Variant::default()],
            names => names.iter().map(|name| name.parse().map_err(fail)).collect::<Result<Vec<Variant>, _>>()?,
        };
        if let Some((key, _)) = self.grid.iter().find(|(_, values)| values.is_empty()) {
            return Err(fail(format!("`{key}` in [grid] has no values; give at least one, or leave the key out")));
        }
        let seeds: Vec<u64> = match &self.seeds {
            Seeds::Count(count) if *count > MOST_RUNS as u64 => {
                return Err(fail(format!("it has {count} seeds, and {MOST_RUNS} are the most; give fewer")));
            }
            Seeds::Count(count) => (1..=*count).collect(),
            Seeds::List(list) => list.clone(),
        };
        let grid = self.combinations();
        let count =
            [networks.len(), variants.len(), seeds.len(), grid.len()].into_iter().fold(1usize, usize::saturating_mul);
        if count == 0 {
            return Err(fail("it has no runs; give `tables` or `networks`, and at least one seed".into()));
        }
        if count > MOST_RUNS {
            return Err(fail(format!(
                "it has {count} runs, and {MOST_RUNS} are the most; give fewer networks, seeds or values"
            )));
        }
        let mut runs = Vec::with_capacity(count);
        let mut names = BTreeSet::new();
        for &seed in &seeds {
            for name in &networks {
                for &variant in &variants {
                    for settings in &grid {
                        let run = self.planned(name, variant, seed, &recipe, settings)?;
                        if !names.insert(run.name.clone()) {
                            return Err(fail(format!(
                                "two runs would be called `{}`; give each network, variant and value once",
                                run.name
                            )));
                        }
                        runs.push(run);
                    }
                }
            }
        }
        Ok(runs)
    }

    fn planned(
        &self,
        network: &str,
        variant: Variant,
        seed: u64,
        recipe: &Recipe,
        grid: &[(&str, &toml::Value)],
    ) -> Result<PlannedRun, StudyError> {
        let place = "study";
        let study = nn::find(network).ok();
        let mut config = TrainConfig::new(nn::resolve(network, Some(variant))?);
        let epochs =
            self.set.get("epochs").and_then(|epochs| epochs.as_integer()).and_then(|epochs| u64::try_from(epochs).ok());
        recipe.apply(&mut config, epochs, nn::is_built_in(network))?;
        // The recipe has a variant of its own, which the study replaces.
        config.network.set_variant(variant);
        config.set("seed", &seed.to_string(), place)?;
        if !self.classes.is_empty() {
            let escaped: Vec<String> = self.classes.iter().map(|class| class.replace(',', "\\,")).collect();
            config.set("classes", &escaped.join(","), place)?;
        }
        config.data.clone_from(&self.data);
        for (key, value) in self.set.iter().map(|(key, value)| (key.as_str(), value)).chain(grid.iter().copied()) {
            if ["seed", "data", "classes", "recipe", "variant"].contains(&key) {
                let message =
                    format!("`{key}` is a key of the study itself, not of [set] or [grid]; move it to the top");
                return Err(StudyError::Spec { place: place.into(), message });
            }
            config.set(key, &text(value), place)?;
        }
        let plain =
            |value: &toml::Value| text(value).replace(|c: char| !c.is_alphanumeric() && !"-_+.,".contains(c), "_");
        let settings: String = grid.iter().map(|(key, value)| format!("-{key}={}", plain(value))).collect();
        let name = format!("{}-{variant}{settings}-s{seed}", config.network.name);
        let label = format!("{}{}", config.network.name, settings.replace('-', " "));
        Ok(PlannedRun { name, label, variant, seed, study, config })
    }

    /// The names and files of the networks, those of the tables first.
    fn network_names(&self) -> Result<Vec<String>, StudyError> {
        let mut names: Vec<String> = Vec::new();
        for table in &self.tables {
            let of_table = nn::all().filter(|network| network.table() == table);
            let before = names.len();
            names.extend(of_table.map(|network| network.name.to_string()));
            if names.len() == before {
                let tables: BTreeSet<&str> = nn::all().map(nn::Study::table).collect();
                let near = nearest(table, tables.iter().copied())
                    .map_or(String::new(), |near| format!("did you mean `{near}`? "));
                let list = tables.into_iter().collect::<Vec<_>>().join(", ");
                let message = format!("there is no table `{}`; {near}the tables are {list}", display(table));
                return Err(StudyError::Spec { place: "study".into(), message });
            }
        }
        names.extend(self.networks.iter().cloned());
        Ok(names)
    }

    /// Every combination of the grid, the last key varying fastest; one without settings if there is no grid.
    fn combinations(&self) -> Vec<Vec<(&str, &toml::Value)>> {
        let mut all = vec![Vec::new()];
        for (key, values) in &self.grid {
            let mut longer = Vec::with_capacity(all.len() * values.len());
            for combination in &all {
                for value in values {
                    let mut with = combination.clone();
                    with.push((key.as_str(), value));
                    longer.push(with);
                }
            }
            all = longer;
        }
        all
    }
}

/// A value as it is written after `--set KEY=`.
fn text(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
