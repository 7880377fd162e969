//! What of a source is not used, and why.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::base::Name;

use super::source::{Source, shell_word};

/// Names that an entry keeps as examples.
const EXAMPLES: usize = 5;
/// Most entries; beyond them a class is counted with another one of the same reason.
const ENTRIES: usize = 10_000;

/// Why a file, folder, archive member or list entry is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Audio in a format that is not read, such as MP3.
    OtherFormat,
    /// A clip in a folder within a word folder.
    NestedClip,
    /// A clip beside the word folders, which belongs to no class.
    StrayClip,
    /// A clip in a folder whose name begins with an underscore.
    UnderscoreFolder,
    /// A clip of a word that is none of the classes, where words other than the classes are allowed.
    OtherWord,
    /// A symbolic or hard link that leads nowhere, in a circle, or out of the archive.
    BrokenLink,
    /// An archive member of which a later member has the same name.
    Replaced,
    /// An entry of an official list that names no clip.
    UnmatchedListEntry,
    /// An entry of the list of test clips that is in the list of validation clips, too.
    ListedTwice,
    /// An official list that is too long, or not text.
    UnreadableList,
    /// A folder beside the word folders that contains no clips.
    EmptyFolder,
    /// A folder within a word folder that contains no clips, or a link to a folder.
    NestedFolder,
    /// A named pipe, socket or device, which is never opened.
    SpecialFile,
    /// Bytes after the end of an archive.
    TrailingBytes,
    /// A file in a word folder whose name is not that of audio.
    OtherFile,
    /// A file beside the word folders.
    StrayFile,
    /// A file or folder whose name begins with a dot.
    Hidden,
    /// A recording in `_background_noise_`, which belongs to no class.
    BackgroundNoise,
}

impl Reason {
    /// All reasons, those that lose most first.
    pub const ALL: [Reason; 18] = [
        Reason::OtherFormat,
        Reason::NestedClip,
        Reason::StrayClip,
        Reason::UnderscoreFolder,
        Reason::OtherWord,
        Reason::BrokenLink,
        Reason::Replaced,
        Reason::UnmatchedListEntry,
        Reason::ListedTwice,
        Reason::UnreadableList,
        Reason::EmptyFolder,
        Reason::NestedFolder,
        Reason::SpecialFile,
        Reason::TrailingBytes,
        Reason::OtherFile,
        Reason::StrayFile,
        Reason::Hidden,
        Reason::BackgroundNoise,
    ];

    /// What is counted, in the singular, and why it is not used, in words that fit one and many.
    const fn text(self) -> (&'static str, &'static str) {
        match self {
            Reason::OtherFormat => ("audio file", "in other formats than WAV, FLAC and Ogg Vorbis"),
            Reason::NestedClip => ("clip", "in folders within word folders"),
            Reason::StrayClip => ("clip", "beside the word folders, of no class"),
            Reason::UnderscoreFolder => ("clip", "in folders whose names begin with `_`"),
            Reason::OtherWord => ("clip", "of words that are none of the classes"),
            Reason::BrokenLink => ("link", "to files that are not there"),
            Reason::Replaced => ("archive member", "replaced by later members of the same name"),
            Reason::UnmatchedListEntry => ("line", "of the official lists without such a clip"),
            Reason::ListedTwice => ("line", "of testing_list.txt that validation_list.txt has too"),
            Reason::UnreadableList => ("official list", "that cannot be read as text"),
            Reason::EmptyFolder => ("folder", "without clips, not a class"),
            Reason::NestedFolder => ("folder", "within word folders, without clips or linked"),
            Reason::SpecialFile => ("special file", "(pipes, sockets or devices)"),
            Reason::TrailingBytes => ("byte", "after the end of the archive"),
            Reason::OtherFile => ("file", "in word folders that are not audio"),
            Reason::StrayFile => ("file", "beside the word folders"),
            Reason::Hidden => ("hidden file", "(names that begin with a dot)"),
            Reason::BackgroundNoise => ("recording", "of background noise, of no class"),
        }
    }

    /// What is counted, in the singular: "clip", "file", "folder".
    pub const fn noun(self) -> &'static str {
        self.text().0
    }

    /// Why it is not used; continues the sentence "skipped 3 clips ..".
    pub const fn why(self) -> &'static str {
        self.text().1
    }

    /// What a user can do about it, if something can be lost by doing nothing.
    pub const fn advice(self) -> Option<&'static str> {
        match self {
            Reason::NestedClip => Some("clips are used only if they lie directly in a word folder"),
            Reason::StrayClip => Some("clips are used only if they lie directly in a word folder"),
            Reason::UnderscoreFolder => Some("rename the folder to use it as a class"),
            Reason::BrokenLink => Some("a link has to lead to a file, within the archive if it is in one"),
            Reason::UnmatchedListEntry => Some("a line has to be WORD/FILE, the folder and the name of a clip"),
            Reason::ListedTwice => Some("a clip can be in one of the lists only"),
            Reason::UnreadableList => Some("a list has to be a text file (UTF-8) of at most 16 MiB"),
            _ => None,
        }
    }
}

/// What is not used for one reason, in one class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Omission {
    /// Why.
    pub reason: Reason,
    /// The word folder, if it lies in one.
    pub class: Option<Name>,
    /// How many files, folders, members or entries.
    pub count: u64,
    /// The first few by name.
    pub examples: Vec<Name>,
}

/// Everything that was seen in a source and is not used, sorted by reason and class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ledger {
    omissions: Vec<Omission>,
}

impl Ledger {
    /// Counts one more under `reason`.
    pub(super) fn add(&mut self, reason: Reason, class: Option<&Name>, name: Name) {
        self.add_many(reason, class, 1, name);
    }

    /// Counts `count` more under `reason`, with one example.
    pub(super) fn add_many(&mut self, reason: Reason, class: Option<&Name>, count: u64, example: Name) {
        let key = (reason, class);
        let place = self.omissions.binary_search_by(|o| (o.reason, o.class.as_ref()).cmp(&key));
        let at = match place {
            Ok(at) => at,
            Err(at) if self.omissions.len() < ENTRIES || at == 0 || self.omissions[at - 1].reason != reason => {
                let omission = Omission { reason, class: class.cloned(), count: 0, examples: Vec::new() };
                self.omissions.insert(at, omission);
                at
            }
            Err(at) => at - 1,
        };
        let omission = &mut self.omissions[at];
        omission.count += count;
        if let Err(at) = omission.examples.binary_search(&example) {
            omission.examples.insert(at, example);
            omission.examples.truncate(EXAMPLES);
        }
    }

    /// Adds everything in `other`.
    pub(super) fn append(&mut self, other: &Ledger) {
        for omission in &other.omissions {
            let mut count = omission.count;
            for example in &omission.examples {
                self.add_many(omission.reason, omission.class.as_ref(), count, example.clone());
                count = 0;
            }
        }
    }

    /// The part that concerns these classes, and what lies in no class.
    pub(super) fn of_classes(&self, classes: &[Name]) -> Ledger {
        let concerns = |o: &&Omission| o.class.as_ref().is_none_or(|class| classes.contains(class));
        Ledger { omissions: self.omissions.iter().filter(concerns).cloned().collect() }
    }

    /// The same, of no class.
    pub(super) fn without_classes(&self) -> Ledger {
        let without = |o: &Omission| Omission { class: None, ..o.clone() };
        Ledger { omissions: self.omissions.iter().map(without).collect() }
    }

    /// The part that concerns this class.
    pub(super) fn of_class(&self, class: &Name) -> Ledger {
        let concerns = |o: &&Omission| o.class.as_ref() == Some(class);
        Ledger { omissions: self.omissions.iter().filter(concerns).cloned().collect() }
    }

    /// A shell command that converts the audio files of other formats with FFmpeg, if there are any. An archive has to be
    /// unpacked for it, as `FOLDER`. The new names keep the extension, so that `a.mp3` and `a.m4a` become two files.
    pub(super) fn conversion(&self, source: &Source<'_>) -> Option<String> {
        let examples: Vec<&Name> = self.examples(Reason::OtherFormat);
        let extension = |name: &&Name| {
            let bytes = name.as_bytes();
            let dot = bytes.iter().rposition(|&byte| byte == b'.')?;
            Some(String::from_utf8_lossy(&bytes[dot + 1..]).into_owned())
        };
        let extensions: BTreeSet<String> = examples.iter().filter_map(extension).collect();
        let folders: BTreeSet<&[u8]> = examples.iter().filter_map(|name| folder_of(name)).collect();
        let root = if let Source::Folder(root) = source { root } else { Path::new("FOLDER") };
        let folder = match (folders.first(), folders.len()) {
            (None, _) => shell_word(root),
            (Some(folder), 1) => shell_word(&root.join(Name::from_bytes(folder).to_path())),
            _ => format!("{}/*", shell_word(root)),
        };
        let files: Vec<String> = extensions.iter().map(|extension| format!("{folder}/*.{extension}")).collect();
        if files.is_empty() {
            return None;
        }
        Some(format!("for f in {}; do ffmpeg -i \"$f\" \"$f.wav\"; done", files.join(" ")))
    }

    /// Whether everything that was seen is used.
    pub fn is_empty(&self) -> bool {
        self.omissions.is_empty()
    }

    /// Each reason in each class.
    pub fn omissions(&self) -> &[Omission] {
        &self.omissions
    }

    /// How many were not used for `reason`, in all classes.
    pub fn count(&self, reason: Reason) -> u64 {
        self.omissions.iter().filter(|o| o.reason == reason).map(|o| o.count).sum()
    }

    /// The first few names under `reason`, of all classes.
    pub fn examples(&self, reason: Reason) -> Vec<&Name> {
        let of_reason = self.omissions.iter().filter(|o| o.reason == reason);
        of_reason.flat_map(|o| &o.examples).take(EXAMPLES).collect()
    }
}

fn folder_of(name: &Name) -> Option<&[u8]> {
    let bytes = name.as_bytes();
    bytes.iter().rposition(|&byte| byte == b'/').map(|slash| &bytes[..slash])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_and_examples_are_the_first_by_name() {
        let (bed, cat) = (Name::from("bed"), Name::from("cat"));
        let mut ledger = Ledger::default();
        for i in (0..20).rev() {
            ledger.add(Reason::Hidden, Some(&cat), format!("cat/.{i:02}").into());
        }
        ledger.add(Reason::OtherFormat, Some(&cat), "cat/a.mp3".into());
        ledger.add(Reason::OtherFormat, Some(&bed), "bed/b.mp3".into());
        ledger.add(Reason::OtherFormat, None, "c.mp3".into());
        assert_eq!((ledger.count(Reason::Hidden), ledger.count(Reason::OtherFormat)), (20, 3));
        assert_eq!(ledger.examples(Reason::Hidden)[..2], [&Name::from("cat/.00"), &Name::from("cat/.01")]);
        assert_eq!(ledger.examples(Reason::Hidden).len(), EXAMPLES);
        let of_bed = ledger.of_classes(&[bed]);
        assert_eq!((of_bed.count(Reason::Hidden), of_bed.count(Reason::OtherFormat)), (0, 2));
        let json = serde_json::to_string(&ledger).unwrap();
        assert_eq!(serde_json::from_str::<Ledger>(&json).unwrap(), ledger);
    }

    #[test]
    fn the_list_of_entries_is_bounded_and_the_counts_are_not() {
        let mut ledger = Ledger::default();
        for i in 0..2 * ENTRIES as u64 {
            ledger.add(Reason::Hidden, Some(&format!("{i}").into()), ".x".into());
        }
        assert_eq!(ledger.count(Reason::Hidden), 2 * ENTRIES as u64);
        assert!(ledger.omissions().len() <= ENTRIES + 1);
    }
}
