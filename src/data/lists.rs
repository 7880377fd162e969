//! The official lists of a data set: `validation_list.txt` and `testing_list.txt`, one clip a line.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use crate::base::Name;

use super::ledger::{Ledger, Reason};
use super::split::Split;

/// The lists of validation and of test clips.
pub(super) const FILES: [&str; 2] = ["validation_list.txt", "testing_list.txt"];
/// Longest list that is read: that of Google Speech Commands has 0.3 MB.
pub(super) const MAX_BYTES: u64 = 16 << 20;

/// The clips (`word/file`) that the official lists name; every one is a clip of the source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Lists {
    validation: Option<BTreeSet<Name>>,
    testing: Option<BTreeSet<Name>>,
}

impl Lists {
    /// Finds the clips that the lists name. An entry that names none is counted in `ledger`.
    pub(super) fn read(lists: [Option<Vec<u8>>; 2], clips: &HashSet<Name>, ledger: &mut Ledger) -> Lists {
        let [validation, testing] = lists.map(|bytes| bytes.map(|bytes| entries(&bytes, clips, ledger)));
        for clip in testing.iter().flatten().filter(|clip| validation.as_ref().is_some_and(|v| v.contains(clip))) {
            ledger.add(Reason::ListedTwice, None, clip.clone());
        }
        Lists { validation, testing }
    }

    /// The names of the lists that are missing or could not be read.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let absent = [self.validation.is_none(), self.testing.is_none()];
        FILES.into_iter().zip(absent).filter(|&(_, absent)| absent).map(|(file, _)| file).collect()
    }

    /// The split of a clip; clips in neither list are for training.
    pub(super) fn split(&self, clip: &Name) -> Split {
        let listed = |list: &Option<BTreeSet<Name>>| list.as_ref().is_some_and(|list| list.contains(clip));
        if listed(&self.validation) {
            Split::Validation
        } else if listed(&self.testing) {
            Split::Testing
        } else {
            Split::Training
        }
    }
}

/// Whether a list is text in an encoding that keeps ASCII: no list has a zero byte, and UTF-16 is full of them.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    !bytes.contains(&0) && !bytes.starts_with(b"\xff\xfe") && !bytes.starts_with(b"\xfe\xff")
}

fn entries(bytes: &[u8], clips: &HashSet<Name>, ledger: &mut Ledger) -> BTreeSet<Name> {
    const SHOWN: usize = 200; // bytes of an entry that names no clip
    let mut named = BTreeSet::new();
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for line in bytes.split(|&byte| byte == b'\n' || byte == b'\r').filter(|line| !line.trim_ascii().is_empty()) {
        match clip_of(line, clips) {
            Some(clip) => _ = named.insert(clip),
            None => {
                let shown = &line.trim_ascii()[..line.trim_ascii().len().min(SHOWN)];
                ledger.add(Reason::UnmatchedListEntry, None, Name::from_bytes(shown));
            }
        }
    }
    named
}

/// The clip that an entry names: without spaces around it or quotes, with slashes for backslashes, and by
/// its last two components only, so that `./bed/x.wav` and an absolute path match.
fn clip_of(line: &[u8], clips: &HashSet<Name>) -> Option<Name> {
    let find = |bytes: &[u8]| clips.get(&Name::from_bytes(bytes)).cloned();
    let last_two = |bytes: &[u8]| {
        let mut parts = bytes.rsplit(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
        let (file, word) = (parts.next()?, parts.next()?);
        find(&[word, b"/", file].concat())
    };
    let trimmed = line.trim_ascii();
    let unquoted = trimmed.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(trimmed);
    let slashes: Vec<u8> = unquoted.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect();
    find(line).or_else(|| last_two(line)).or_else(|| last_two(unquoted)).or_else(|| last_two(&slashes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_match_in_every_spelling_or_are_counted() {
        let clips: HashSet<Name> = ["bed/x.wav", "yes,no/ y.wav", "cat/a\\b.wav", "b d/z.wav"].map(Name::from).into();
        for (text, clip) in [
            ("bed/x.wav", "bed/x.wav"),
            ("\u{feff}bed/x.wav\r\n", "bed/x.wav"),
            ("./bed/x.wav", "bed/x.wav"),
            ("bed//x.wav  ", "bed/x.wav"),
            ("bed\\x.wav\r", "bed/x.wav"),
            ("C:\\data\\bed\\x.wav", "bed/x.wav"),
            ("/data/set/bed/x.wav", "bed/x.wav"),
            ("\"bed/x.wav\"", "bed/x.wav"),
            ("yes,no/ y.wav", "yes,no/ y.wav"),
            ("cat/a\\b.wav", "cat/a\\b.wav"),
            ("b d/z.wav", "b d/z.wav"),
        ] {
            let mut ledger = Ledger::default();
            let named = entries(text.as_bytes(), &clips, &mut ledger);
            assert_eq!(named, BTreeSet::from([clip.into()]), "{text:?}");
            assert!(ledger.is_empty());
        }
        let mut ledger = Ledger::default();
        let text = "bed/none.wav\n\n  \nx.wav\ncow/x.wav\nbed/x.wav,training\nBed/x.wav\n";
        assert!(entries(text.as_bytes(), &clips, &mut ledger).is_empty());
        assert_eq!(ledger.count(Reason::UnmatchedListEntry), 5);
    }
}
