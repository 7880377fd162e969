//! Recipes: settings of a run under one name, as data. A longer run may have other settings than a shorter one.

use super::config::TrainConfig;
use super::error::TrainError;
use super::setting::Group;
use super::settings::SETTINGS;
use super::weight_file::quoted;
use crate::base::name::display_path;
use crate::base::nearest::nearest;
use crate::base::text_file;
use crate::nn::{self, Reason};
use std::path::Path;

/// The recipes in the program.
const BUILT_IN: [(&str, &str); 2] = [
    (Recipe::BEST, include_str!("../../recipes/best.toml")),
    (Recipe::PLAIN, include_str!("../../recipes/plain.toml")),
];

/// Largest recipe that is read.
const LARGEST_FILE: u64 = 1 << 20;

/// Settings that belong to one run, not to a way of training.
const OF_A_RUN: [&str; 9] =
    ["recipe", "data", "classes", "unknown", "strict", "seed", "init_from", "freeze", "teacher"];

/// Keys of a recipe that are not settings.
const SUMMARY: &str = "summary";
const MODEL: &str = "model";
const FROM: &str = "from";

/// Settings of a run under one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Its name, or its file.
    pub name: String,
    /// What it does, in one line.
    pub summary: String,
    /// The built-in network that is trained if none is named.
    pub model: Option<String>,
    settings: Vec<(String, String)>,
    /// What changes for runs of at least so many epochs, fewest first.
    longer: Vec<(u64, Vec<(String, String)>)>,
}

impl Recipe {
    /// The name of the recommended recipe.
    pub const BEST: &str = "best";
    /// The name of the recipe of the study.
    pub const PLAIN: &str = "plain";

    /// The built-in recipes.
    pub fn built_in() -> Vec<Recipe> {
        BUILT_IN
            .iter()
            .map(|(name, text)| Recipe::parse(text, name).expect("a test reads every built-in recipe"))
            .collect()
    }

    /// The built-in recipe of this name, or the one in this file, whose name ends in `.toml`.
    ///
    /// # Errors
    /// There is no such recipe, the file cannot be read, or it is not a recipe.
    pub fn find(name_or_file: &str) -> Result<Recipe, TrainError> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == name_or_file) {
            return Recipe::parse(text, name);
        }
        let path = Path::new(name_or_file);
        if path.extension().is_none_or(|extension| extension != "toml") {
            let names = BUILT_IN.map(|(name, _)| name);
            let near = nearest(name_or_file, names).map_or(String::new(), |near| format!("did you mean `{near}`? "));
            let message = format!(
                "there is no such recipe; {near}the recipes are {}, and a file of your own ends in .toml",
                names.join(" and ")
            );
            return Err(TrainError::Config { place: format!("recipe `{}`", quoted(name_or_file)), message });
        }
        let advice = "give the file of a recipe, such as recipes/best.toml of the repository";
        let text = text_file::read(path, LARGEST_FILE);
        let text = text.map_err(|source| TrainError::Text { path: path.into(), source, advice })?;
        Recipe::parse(&text, &display_path(path))
    }

    /// Reads a recipe: settings as in `config.toml`, a `summary`, the name of a built-in network as `model`, and tables `[[from]]` with
    /// `epochs` and the settings of runs of at least so many epochs.
    ///
    /// # Errors
    /// It is not TOML, or has a key or a value that it cannot have.
    pub fn parse(text: &str, name: &str) -> Result<Recipe, TrainError> {
        let fail = |message: String| TrainError::Config { place: format!("recipe {name}"), message };
        let mut table: toml::Table = toml::from_str(text)
            .map_err(|e: toml::de::Error| fail(format!("this is not TOML: {}", quoted(e.message()))))?;
        let summary = match table.remove(SUMMARY) {
            None => String::new(),
            Some(toml::Value::String(text)) => quoted(&text),
            Some(other) => return Err(fail(format!("`{SUMMARY}` is a {}, not text", other.type_str()))),
        };
        let model = match table.remove(MODEL) {
            None => None,
            Some(toml::Value::String(name)) => {
                nn::built_in(&name, None).map_err(|e| match e.reason {
                    Reason::UnknownNetwork { nearest, .. } => {
                        let nearest = nearest.map_or(String::new(), |n| format!(", did you mean `{n}`"));
                        let advice = "`stapes models` lists them, and a network file is given with --model";
                        fail(format!("`{MODEL}` is not the name of a built-in network{nearest}; {advice}"))
                    }
                    _ => fail(format!("`{MODEL}`: {e}")),
                })?;
                Some(name)
            }
            Some(other) => return Err(fail(format!("`{MODEL}` is a {}, not the name of a network", other.type_str()))),
        };
        let mut longer = Vec::new();
        match table.remove(FROM) {
            None => {}
            Some(toml::Value::Array(tables)) => {
                for value in tables {
                    let toml::Value::Table(mut table) = value else {
                        return Err(fail(format!("`{FROM}` is not a list of tables [[{FROM}]]")));
                    };
                    let epochs = table.remove("epochs").and_then(|epochs| epochs.as_integer()).unwrap_or(0);
                    if epochs < 1 {
                        return Err(fail(format!("a table [[{FROM}]] needs `epochs`, a whole number of at least 1")));
                    }
                    longer.push((epochs as u64, pairs(&table).map_err(fail)?));
                }
            }
            Some(other) => return Err(fail(format!("`{FROM}` is a {}, not a list of tables", other.type_str()))),
        }
        longer.sort_by_key(|(epochs, _)| *epochs);
        let recipe = Recipe { name: name.into(), summary, model, settings: pairs(&table).map_err(fail)?, longer };
        // Every value is checked now, not when a run is long enough.
        let mut config =
            TrainConfig::new(nn::find("custom32-8").expect("a network of the study").spec(nn::Variant::Do));
        recipe.apply(&mut config, Some(u64::MAX), true)?;
        Ok(recipe)
    }

    /// Sets the settings of a run of `epochs`, or as many as the recipe says. Those of the network are left as they are if the network
    /// is not `adaptable`: one of a user's own has its own dropout and batch norm.
    ///
    /// # Errors
    /// The network cannot have a setting of the recipe.
    pub fn apply(&self, config: &mut TrainConfig, epochs: Option<u64>, adaptable: bool) -> Result<(), TrainError> {
        let place = format!("recipe {}", self.name);
        let mut set = |settings: &[(String, String)]| {
            for (key, value) in settings {
                let of_network = SETTINGS.iter().any(|s| s.key == key && s.group == Group::Network);
                if adaptable || !of_network {
                    config.set(key, value, &place)?;
                }
            }
            Ok::<_, TrainError>(config.epochs)
        };
        let own = set(&self.settings)?;
        let epochs = epochs.unwrap_or(own);
        for (_, settings) in self.longer.iter().filter(|(from, _)| *from <= epochs) {
            set(settings)?;
        }
        config.epochs = epochs.min(100_000);
        config.recipe = Some(self.name.clone());
        Ok(())
    }
}

/// The settings in a table as text; `variant` first, since it sets others.
fn pairs(table: &toml::Table) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    for (key, value) in table {
        if SETTINGS.iter().all(|s| s.key != key) {
            let known = SETTINGS.iter().map(|s| s.key).filter(|key| !OF_A_RUN.contains(key));
            let near = nearest(key, known).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            return Err(format!("there is no setting `{}`{near}", quoted(key)));
        }
        if OF_A_RUN.contains(&key.as_str()) {
            return Err(format!("`{key}` belongs to a run, and cannot be in a recipe"));
        }
        let text = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => value.to_string(),
            _ => return Err(format!("`{key}` is a {}, not a plain value", value.type_str())),
        };
        pairs.push((key.clone(), text));
    }
    pairs.sort_by_key(|(key, _)| key != "variant");
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Variant;

    fn config() -> TrainConfig {
        TrainConfig::new(nn::find("custom32-8").unwrap().spec(Variant::Do))
    }

    #[test]
    fn the_plain_recipe_changes_nothing_but_its_name() {
        let mut changed = config();
        Recipe::find("plain").unwrap().apply(&mut changed, None, true).unwrap();
        assert_eq!(changed, TrainConfig { recipe: Some("plain".into()), ..config() });
    }

    #[test]
    fn a_longer_run_gets_the_settings_of_its_length() {
        let recipe = Recipe::parse(
            "lr = 0.5\nepochs = 4\n[[from]]\nepochs = 9\nlr = 0.25\n[[from]]\nepochs = 6\nlr = 0.125",
            "r",
        )
        .unwrap();
        for (epochs, lr) in
            [(None, 0.5), (Some(5), 0.5), (Some(6), 0.125), (Some(8), 0.125), (Some(9), 0.25), (Some(99), 0.25)]
        {
            let mut config = config();
            recipe.apply(&mut config, epochs, true).unwrap();
            assert_eq!((config.adam.lr, config.epochs), (lr, epochs.unwrap_or(4)), "{epochs:?}");
        }
    }

    #[test]
    fn a_network_of_a_users_own_keeps_its_dropout_and_batch_norm() {
        let recipe = Recipe::find("best").unwrap();
        let (mut own, mut of_study) = (config(), config());
        recipe.apply(&mut own, None, false).unwrap();
        recipe.apply(&mut of_study, None, true).unwrap();
        assert_eq!(own.network, config().network);
        assert!(of_study.network.batch_norm && of_study.network.head.dropout < 0.75);
        assert_eq!(own.adam, of_study.adam);
    }

    #[test]
    fn what_is_no_recipe_is_refused_with_its_key() {
        for (text, part) in [
            ("lr = ", "not TOML"),
            ("lrr = 1", "did you mean `lr`?"),
            ("seed = 1", "belongs to a run"),
            ("lr = -1", "lr must be between 0.000000001 and 1000, got -1"),
            ("lr = [1]", "`lr` is a array"),
            ("summary = 1", "not text"),
            ("model = 1", "not the name of a network"),
            ("model = 'custm32-8'", "did you mean `custom32-8`"),
            ("model = 'mine.toml'", "is not the name of a built-in network; `stapes models` lists them"),
            ("from = 1", "not a list of tables"),
            ("[[from]]\nlr = 1", "needs `epochs`"),
            ("[[from]]\nepochs = 5\nlr = -1", "lr must be"),
            ("[[from]]\nepochs = 5\nnetwork = 'x'", "no setting `network`"),
        ] {
            let error = Recipe::parse(text, "r").unwrap_err().to_string();
            assert!(error.starts_with("recipe r: ") && error.contains(part), "{text}: {error}");
        }
        let error = Recipe::find("bset").unwrap_err().to_string();
        assert!(error.contains("did you mean `best`?"), "{error}");
    }
}
