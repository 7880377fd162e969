//! TOML to plain data, with errors that name the line and the nearest known key.

use super::error::{Reason, SpecError};
use super::rule::Rule;
use super::spec::{Block, Head, Input, NetworkSpec};
use crate::base::name::display_path;
use crate::base::nearest::nearest;
use crate::base::text_file;
use serde::de::DeserializeOwned;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// The largest file that is read as a network: larger than any network file, and small enough to read when the path is a mistake.
const LARGEST_FILE: u64 = 1 << 20;

impl NetworkSpec {
    /// The network in a TOML text; `origin` names the file in errors. Everything that does not depend on the number of classes is
    /// checked here, so that errors name the line.
    pub fn parse(text: &str, origin: &str) -> Result<NetworkSpec, SpecError> {
        let spec: NetworkSpec = from_toml(text, origin).map_err(look_in_tables)?;
        match spec.check() {
            Ok(()) => Ok(spec),
            Err(error) => Err(SpecError { line: line_of_key(text, &error.key), origin: origin.into(), ..error }),
        }
    }

    /// The network in a TOML file.
    pub fn load(path: &Path) -> Result<NetworkSpec, SpecError> {
        let origin = display_path(path);
        let unreadable = |why: String| Reason::Unreadable(why).at(origin.as_str(), "");
        let text = text_file::read(path, LARGEST_FILE).map_err(|e| unreadable(e.to_string()))?;
        NetworkSpec::parse(&text, &origin)
    }

    /// The network as a TOML text that [`NetworkSpec::parse`] reads.
    ///
    /// # Panics
    /// If it has a number of 2^63 or more; no network that can be built has one.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("tables of words and of numbers below 2^63 can be written")
    }
}

/// Plain data in a TOML text; errors name `origin`, the line and the nearest known key.
pub fn from_toml<T: DeserializeOwned>(text: &str, origin: &str) -> Result<T, SpecError> {
    toml::from_str(text).map_err(|error| {
        let (key, reason) = reason(text, &error);
        // What is missing at the top is missing from the file, not from its first line.
        let at_top = matches!(reason, Reason::Missing(_)) && error.span().is_none_or(|s| s.start == 0);
        let line = error.span().filter(|_| !at_top).map(|s| line_at(text, s.start));
        SpecError { origin: origin.into(), line, key: key.into(), reason }
    })
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&b| b == b'\n').count()
}

/// The error in a message of serde, which quotes names in backticks: the one found, then those expected.
fn reason(text: &str, error: &toml::de::Error) -> (String, Reason) {
    let message = error.message();
    let mut quoted = message.split('`').skip(1).step_by(2).map(String::from);
    let first = quoted.next().unwrap_or_default();
    let known: Box<[String]> = quoted.collect();
    let close = nearest(&first, known.iter().map(String::as_str)).map(String::from);
    if message.starts_with("unknown field") {
        (first.clone(), Reason::UnknownKey { key: first, nearest: close, known })
    } else if message.starts_with("unknown variant") {
        (String::new(), Reason::UnknownValue { value: first, nearest: close, known })
    } else if message.starts_with("missing field") {
        (first.clone(), Reason::Missing(first))
    } else if ["invalid type", "invalid value", "invalid length"].iter().any(|kind| message.starts_with(kind)) {
        (String::new(), Reason::WrongKind(wrong_kind(text, error)))
    } else {
        // A value that TOML reports as an invalid number is mostly a word without quotes.
        let hint = if message.starts_with("invalid ") { " (strings need quotes)" } else { "" };
        (String::new(), Reason::Syntax(message.lines().collect::<Vec<_>>().join(", ") + hint))
    }
}

/// "`depth` is \"eight\", not a whole number of 0 or more".
fn wrong_kind(text: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    let Some((_, expected)) = message.rsplit_once("expected ") else { return message.into() };
    let whole = matches!(expected, "usize" | "u8" | "u16" | "u32" | "u64");
    let found = error.span().and_then(|s| text.get(s)).map(|s| s.lines().next().unwrap_or_default().trim());
    let found =
        found.filter(|f| !f.is_empty()).map_or("something else".into(), |f| f.chars().take(60).collect::<String>());
    let key = error.span().and_then(|s| key_before(text, s.start));
    let key = key.map_or("a value".into(), |key| format!("`{key}`"));
    if whole && found.bytes().all(|b| b.is_ascii_digit()) {
        return format!("{key} is {found}, which is too large");
    }
    let expected = match expected {
        _ if whole => "a whole number of 0 or more",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        other => other.strip_prefix("struct ").map_or(other, |_| "a table"),
    };
    format!("{key} is {found}, not {expected}")
}

/// A key that is unknown at its position may be known in one of the tables: `dropout` is `head.dropout`.
fn look_in_tables(mut error: SpecError) -> SpecError {
    if let Reason::UnknownKey { key, nearest: close, .. } = &mut error.reason {
        let tables = [
            ("input", keys_of::<Input>()),
            ("head", keys_of::<Head>()),
            ("blocks", keys_of::<Rule>()),
            ("block", keys_of::<Block>()),
        ];
        let places: Vec<(&str, String)> = tables
            .iter()
            .flat_map(|(table, keys)| keys.iter().map(move |known| (known.as_str(), format!("{table}.{known}"))))
            .collect();
        let place = |word: &str| places.iter().find(|(known, _)| *known == word).map(|(_, place)| place.clone());
        let slip = || nearest(key, places.iter().map(|(known, _)| *known)).and_then(place);
        *close = place(key).or(close.take()).or_else(slip);
    }
    error
}

/// The keys of a table, from the message of serde about a key that it does not have.
fn keys_of<T: DeserializeOwned + std::fmt::Debug>() -> Vec<String> {
    match toml::from_str::<T>("\"?\" = 0") {
        Ok(_) => Vec::new(),
        Err(error) => error.message().split('`').skip(3).step_by(2).map(String::from).collect(),
    }
}

/// The key whose value begins at `offset`.
fn key_before(text: &str, offset: usize) -> Option<&str> {
    let before = text.get(..offset)?.trim_end().strip_suffix('=')?.trim_end();
    let start = before.rfind(|c: char| !(c.is_alphanumeric() || "_-\"".contains(c))).map_or(0, |i| i + 1);
    before.get(start..).filter(|key| !key.is_empty())
}

/// The line of a key such as `block[2].pool`; of the nearest table around it that is written, if it is not.
fn line_of_key(text: &str, key: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut line = None;
    for step in key.split('.') {
        let (name, index) = match step.trim_end_matches(']').split_once('[') {
            Some((name, index)) => (name, index.parse::<usize>().ok()),
            None => (step, None),
        };
        let Some((found, value)) = table.iter().find(|(k, _)| k.get_ref() == name) else { break };
        let value = match index.and_then(|i| value.get_ref().as_array()?.get(i)) {
            Some(element) => {
                line = Some(line_at(text, element.span().start));
                element.get_ref()
            }
            None => {
                line = Some(line_at(text, found.span().start));
                value.get_ref()
            }
        };
        match value {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_by_line() {
        let text = "a = 1\n[t]\nb = { c = 2 }\n[[l]]\nx = 1\n[[l]]\nx = [\n 1,\n 2]\n";
        assert_eq!(line_of_key(text, "a"), Some(1));
        assert_eq!(line_of_key(text, "t.b.c"), Some(3));
        assert_eq!(line_of_key(text, "t.missing"), Some(2));
        assert_eq!(line_of_key(text, "l[1].missing"), Some(6));
        assert_eq!(line_of_key(text, "l[1].x"), Some(7));
        assert_eq!(line_of_key(text, "l[1].x[1]"), Some(9));
        assert_eq!(line_of_key(text, "missing"), None);
        assert_eq!(line_of_key(text, ""), None);
    }

    #[test]
    fn keys_in_the_wrong_place_are_sent_to_the_right_one() {
        let key = |line: &str| match NetworkSpec::parse(&format!("name = \"x\"\n{line}\n"), "x.toml") {
            Err(SpecError { reason: Reason::UnknownKey { nearest, .. }, .. }) => nearest.unwrap_or_default(),
            other => panic!("{other:?}"),
        };
        assert_eq!(key("dropout = 0.5"), "head.dropout");
        assert_eq!(key("dropuot = 0.5"), "head.dropout");
        assert_eq!(key("depth = 8"), "blocks.depth");
        assert_eq!(key("norm = \"batch\""), "block.norm");
        assert_eq!(key("input = { dense = [] }"), "head.dense");
        assert_eq!(key("batchnorm = true"), "batch_norm");
        assert_eq!(key("wavelets = 3"), "");
    }

    #[test]
    fn any_text_is_read_or_refused() {
        for text in ["", "name", "name = ", "[[[", "\u{feff}", "name = \"a\u{0}\"", "é = 1", "a.b.c = {", "`x` = 1"] {
            assert!(NetworkSpec::parse(text, "x.toml").is_err(), "{text:?}");
        }
        let deep = "a = ".to_string() + &"[".repeat(100_000);
        assert!(NetworkSpec::parse(&deep, "x.toml").is_err());
    }
}
