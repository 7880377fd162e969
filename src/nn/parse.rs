//! Floor 5. TOML to plain data, with errors that name the line and the nearest known key.

use super::error::{Reason, SpecError};
use super::spec::NetworkSpec;
use crate::base::nearest::nearest;
use serde::de::DeserializeOwned;
use std::{fs::File, io::Read, ops::Range, path::Path};
use toml::de::{DeTable, DeValue};

/// Largest file that is read as a network: far beyond any, small enough for a mistaken path to do no harm.
const LARGEST_FILE: u64 = 1 << 20;

impl NetworkSpec {
    /// The network in a TOML text; `origin` names the file in errors. Everything that can be known before the classes
    /// are is checked, so that what is wrong is said with its line.
    pub fn parse(text: &str, origin: &str) -> Result<NetworkSpec, SpecError> {
        let spec: NetworkSpec = from_toml(text, origin)?;
        match spec.check() {
            Ok(()) => Ok(spec),
            Err(error) => Err(SpecError { line: line_of_key(text, &error.key), origin: origin.into(), ..error }),
        }
    }

    /// The network in a TOML file.
    pub fn load(path: &Path) -> Result<NetworkSpec, SpecError> {
        let origin = path.display().to_string();
        let unreadable = |why: String| Reason::Unreadable(why).at(origin.as_str(), "");
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|e| unreadable(e.to_string()))?;
        file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(|e| unreadable(e.to_string()))?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(unreadable(format!("it has more than {LARGEST_FILE} bytes, too many for a network")));
        }
        let text = String::from_utf8(bytes).map_err(|_| unreadable("it is not text in UTF-8".into()))?;
        NetworkSpec::parse(&text, &origin)
    }

    /// The network as a TOML text that [`NetworkSpec::parse`] reads.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("tables of numbers and words can always be written")
    }
}

/// Any plain data in a TOML text; errors name `origin`, the line and the nearest known key.
pub fn from_toml<T: DeserializeOwned>(text: &str, origin: &str) -> Result<T, SpecError> {
    toml::from_str(text).map_err(|error| {
        let (key, reason) = reason(text, &error);
        SpecError {
            origin: origin.into(),
            line: error.span().filter(|s| !covers(text, s)).map(|s| line_at(text, s.start)),
            key: key.into(),
            reason,
        }
    })
}

/// Whether a span is the whole text: then its line says nothing.
fn covers(text: &str, span: &Range<usize>) -> bool {
    span.start == 0 && span.end >= text.trim_end().len()
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&b| b == b'\n').count()
}

/// What serde says, taken apart. Its sentences quote names in backticks: the one found, then those expected.
fn reason(text: &str, error: &toml::de::Error) -> (String, Reason) {
    let message = error.message();
    let mut quoted = message.split('`').skip(1).step_by(2).map(String::from);
    let first = quoted.next().unwrap_or_default();
    let known: Vec<String> = quoted.collect();
    let close = nearest(&first, known.iter().map(String::as_str)).map(String::from);
    if message.starts_with("unknown field") {
        (first.clone(), Reason::UnknownKey { key: first, nearest: close, known })
    } else if message.starts_with("unknown variant") {
        (String::new(), Reason::UnknownValue { value: first, nearest: close, known })
    } else if message.starts_with("missing field") {
        (first.clone(), Reason::Missing(first))
    } else if message.starts_with("invalid ") {
        (String::new(), Reason::WrongKind(wrong_kind(text, error)))
    } else {
        (String::new(), Reason::Syntax(message.lines().collect::<Vec<_>>().join(", ")))
    }
}

/// "`depth` is \"eight\"; a whole number of 0 or more is expected".
fn wrong_kind(text: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    let expected = match message.rsplit_once("expected ") {
        Some((_, "usize" | "u8" | "u16" | "u32" | "u64")) => "a whole number of 0 or more",
        Some((_, "f32" | "f64")) => "a number",
        Some((_, "a boolean")) => "true or false",
        Some((_, other)) => other.strip_prefix("struct ").map_or(other, |_| "a table"),
        None => return message.into(),
    };
    let found = error.span().and_then(|s| text.get(s)).map(|s| s.lines().next().unwrap_or_default().trim());
    let key = error.span().and_then(|s| key_before(text, s.start)).unwrap_or("the value");
    match found {
        Some(found) if !found.is_empty() && found.len() <= 60 => format!("{key} is {found}; expected is {expected}"),
        _ => format!("{key} is of the wrong kind; expected is {expected}"),
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
    fn any_text_is_read_or_refused() {
        for text in ["", "name", "name = ", "[[[", "\u{feff}", "name = \"a\u{0}\"", "é = 1", "a.b.c = {", "`x` = 1"] {
            assert!(NetworkSpec::parse(text, "x.toml").is_err(), "{text:?}");
        }
        let deep = "a = ".to_string() + &"[".repeat(100_000);
        assert!(NetworkSpec::parse(&deep, "x.toml").is_err());
    }
}
