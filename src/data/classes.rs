//! Which classes a data set has, and why one of them cannot be used.

use crate::base::nearest::nearest;
use crate::base::{Name, name};

use super::error::{ClipError, DataError};
use super::extra::UNKNOWN;
use super::layout::Found;
use super::ledger::{Ledger, Reason};
use super::source::Source;

/// The classes: those that were `asked` for, each of which must be a word unless other words are allowed, or all words.
pub(super) fn resolve_classes(
    (asked, allow_other_words): (Option<&[Name]>, bool),
    found: &Found,
    source: &Source<'_>,
) -> Result<Vec<Name>, DataError> {
    let words = &found.words;
    if words.is_empty() {
        return Err(no_words(found, source));
    }
    let Some(asked) = asked else {
        return Ok(words.to_vec());
    };
    let known = asked.iter().filter(|name| words.contains(name) || found.empty.contains(name)).count();
    let takes_others = allow_other_words && asked.iter().any(|class| *class == *UNKNOWN);
    if asked.len() > 1 && known == 0 && !takes_others {
        let (classes, words) = (asked.to_vec(), words.to_vec());
        return Err(DataError::NoKnownWord { data: source.describe(), classes, words });
    }
    for (i, name) in asked.iter().enumerate() {
        if asked[..i].contains(name) {
            return Err(DataError::RepeatedClass { name: name.clone() });
        }
        if allow_other_words {
            continue;
        }
        if found.empty.contains(name) {
            return Err(empty_class(source, &found.ledger, name, None));
        }
        if !words.contains(name) {
            let names = || words.iter().chain(&found.empty);
            let texts: Vec<String> = names().map(Name::to_string).collect();
            // Where few of the names are words, it is the folder that is wrong, not the spelling.
            let is_typing_error = asked.len() == 1 || 2 * known >= asked.len();
            let near = is_typing_error.then(|| nearest(&name.to_string(), texts.iter().map(String::as_str))).flatten();
            let near = names().zip(&texts).find(|(_, text)| Some(text.as_str()) == near);
            let nearest = near.map(|(word, _)| word.clone());
            return Err(DataError::UnknownClass { data: source.describe(), name: name.clone(), nearest });
        }
    }
    if asked.is_empty() {
        return Err(DataError::BadSetting { what: "number of classes", value: 0, min: 1, max: words.len() as u64 });
    }
    Ok(asked.to_vec())
}

/// Why a source has no words, and what to do.
fn no_words(found: &Found, source: &Source<'_>) -> DataError {
    let data = source.describe();
    if let Some(deeper) = &found.deeper {
        let levels = deeper.as_bytes().split(|&byte| byte == b'/').count();
        let (folder, unpack) = match source {
            Source::Folder(path) => (name::display_path(&path.join(deeper.to_path())), false),
            _ => (deeper.to_string(), true),
        };
        return DataError::Deeper { data, levels, folder, unpack };
    }
    let stray = found.ledger.count(Reason::StrayClip);
    let advice = if stray > 0 {
        format!(
            "{stray} clips lie directly in it: put the clips of each word into a folder named after the word (if they are \
             all of one word, give the folder above)"
        )
    } else if found.ledger.count(Reason::UnderscoreFolder) > 0 {
        "a folder whose name begins with `_` is not a class: rename it to use it".into()
    } else {
        "it needs one folder for each word with WAV, FLAC or Ogg Vorbis clips in it".into()
    };
    DataError::NoWords { data, advice }
}

/// Why a class cannot be used, and what to do.
pub(super) fn empty_class(source: &Source<'_>, ledger: &Ledger, class: &Name, first: Option<ClipError>) -> DataError {
    let of_class = ledger.of_class(class);
    let advice = match of_class.conversion(source) {
        Some(command) => format!("convert its files of other formats to WAV with `{command}`"),
        None if of_class.count(Reason::BrokenLink) > 0 => "replace its links with the files that they name".into(),
        None => "add recordings".into(),
    };
    DataError::EmptyClass { data: source.describe(), name: class.clone(), first: first.map(Box::new), advice }
}
