//! Which files of a folder or an archive are clips of which word, and which files are left out.
//!
//! A folder and an archive of it go through the same code, so they have the same clips and the same ledger.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::base::Name;

use super::error::DataError;
use super::ledger::{Ledger, Reason};
use super::lists::{self, Lists};
use super::source::{FileKind, NOISE, clip_name, file_kind, is_word};

/// Levels of folders within a word folder that are looked through.
const NESTED_LEVELS: usize = 16;
/// Most folders that are remembered as places where word folders may lie.
const MAX_PARENTS: usize = 1_000;

/// What a name in a folder refers to; links have been followed.
pub(super) enum Kind<A, F> {
    Folder {
        at: A,
        /// Whether the name is a link to the folder.
        linked: bool,
    },
    File(F),
    /// A named pipe, a socket or a device.
    Special,
    /// A link that leads to nothing.
    Broken,
}

/// What a folder of the tree `T` contains: names and kinds.
pub(super) type Entries<T> = Vec<(Name, Kind<<T as Tree>::At, <T as Tree>::File>)>;

/// A folder and what is below it, on a disk or in an archive.
pub(super) trait Tree: Sized {
    /// Where a folder is.
    type At;
    /// What is needed to read a file.
    type File;

    /// What a folder contains, sorted by name.
    fn entries(&self, at: &Self::At) -> Result<Entries<Self>, DataError>;

    /// The first bytes of a file, at most `limit` of them.
    fn head(&self, file: &Self::File, limit: u64) -> std::io::Result<Vec<u8>>;
}

/// What a source contains beside the samples of its clips.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Found {
    /// All word folders, sorted.
    pub(super) words: Vec<Name>,
    /// The clips in each of these folders, whether they are wanted or not.
    pub(super) counts: Vec<u64>,
    /// Folders without clips that could be words, sorted.
    pub(super) empty: Vec<Name>,
    /// The clips of [`NOISE`], sorted.
    pub(super) noise: Vec<Name>,
    /// What is not used.
    pub(super) ledger: Ledger,
    /// The official lists; only the embedded set keeps the split beside the clip.
    pub(super) lists: Lists,
    /// Where clips lie if none lies in a folder directly below the root, as a path from there.
    pub(super) deeper: Option<Name>,
}

/// The clips of a source by word, each with what is needed to read it.
pub(super) struct Layout<F> {
    pub(super) words: BTreeMap<Name, Vec<(Name, F)>>, // sorted by file name
    pub(super) found: Found,
}

/// Examines the tree below `root`. In an archive the word folders may lie below a folder of its own; `descend` looks for
/// it.
pub(super) fn examine<T: Tree>(tree: &T, root: T::At, descend: bool) -> Result<Layout<T::File>, DataError> {
    let mut survey = Survey {
        tree,
        words: BTreeMap::new(),
        found: Found::default(),
        lists: Default::default(),
        parents: BTreeMap::new(),
    };
    let mut entries = tree.entries(&root)?;
    while let (true, Some(sole)) = (descend, sole_folder(tree, &entries)?) {
        let (_, kind) = entries.swap_remove(sole);
        for (name, kind) in entries {
            survey.visit_top(name, kind)?;
        }
        entries = match kind {
            Kind::Folder { at, .. } => tree.entries(&at)?,
            _ => Vec::new(),
        };
    }
    for (name, kind) in entries {
        survey.visit_top(name, kind)?;
    }
    Ok(survey.finish())
}

/// The index among `entries` of the folder that contains the word folders: the only folder, if it contains folders and
/// either no audio or more clips in those folders than directly (as many, if they are in several folders).
fn sole_folder<T: Tree>(tree: &T, entries: &Entries<T>) -> Result<Option<usize>, DataError> {
    let is_folder = |(name, kind): &(Name, Kind<T::At, T::File>)| match kind {
        Kind::Folder { linked: false, .. } => is_word(name),
        _ => false,
    };
    let mut folders = entries.iter().enumerate().filter(|(_, entry)| is_folder(entry));
    let (Some((at, (_, Kind::Folder { at: inner, .. }))), None) = (folders.next(), folders.next()) else {
        return Ok(None);
    };
    let (mut audio, mut clips, mut words, mut any) = (0, 0, 0, false);
    for (name, kind) in tree.entries(inner)? {
        match kind {
            Kind::File(_) => audio += u64::from(is_audio(&name)),
            Kind::Folder { at, linked: false } if is_word(&name) => {
                any = true;
                let is_clip = |(name, kind): &(Name, Kind<T::At, T::File>)| {
                    matches!(kind, Kind::File(_)) && file_kind(name) == FileKind::Clip
                };
                let count = tree.entries(&at)?.iter().filter(|entry| is_clip(entry)).count() as u64;
                clips += count;
                words += u64::from(count > 0);
            }
            _ => {}
        }
    }
    let has_words = audio == 0 || clips > audio || words > 1 && clips == audio;
    Ok((any && has_words).then_some(at))
}

fn is_audio(name: &Name) -> bool {
    matches!(file_kind(name), FileKind::Clip | FileKind::OtherAudio)
}

struct Survey<'t, T: Tree> {
    tree: &'t T,
    words: BTreeMap<Name, Vec<(Name, T::File)>>,
    found: Found,
    lists: [Option<Vec<u8>>; 2], // validation, testing
    /// Folders whose folders contain clips, and how many.
    parents: BTreeMap<Name, u64>,
}

impl<T: Tree> Survey<'_, T> {
    /// Counts what lies in no class.
    fn add(&mut self, reason: Reason, name: Name) {
        self.found.ledger.add(reason, None, name);
    }

    /// Something directly below the root.
    fn visit_top(&mut self, name: Name, kind: Kind<T::At, T::File>) -> Result<(), DataError> {
        let list = lists::FILES.iter().position(|&list| name == *list);
        match (kind, list) {
            (Kind::File(file), Some(list)) => self.visit_list(list, name, &file),
            (Kind::Special, _) => self.add(Reason::SpecialFile, name),
            (Kind::Broken, _) => self.add(Reason::BrokenLink, name),
            (Kind::Folder { .. }, _) if is_hidden(&name) => self.add(Reason::Hidden, folder_name(&name)),
            (Kind::Folder { at, .. }, _) if name == NOISE => self.visit_noise(&name, &at)?,
            (Kind::Folder { at, .. }, _) if is_word(&name) => self.visit_word(name, &at)?,
            (Kind::Folder { at, .. }, _) => {
                let clips = self.count_clips(&name, &at, 0)?.0;
                let reason = if clips == 0 { Reason::EmptyFolder } else { Reason::UnderscoreFolder };
                self.found.ledger.add_many(reason, None, clips.max(1), folder_name(&name));
            }
            (Kind::File(_), None) => {
                let reason = match file_kind(&name) {
                    FileKind::Hidden => Reason::Hidden,
                    FileKind::Clip => Reason::StrayClip,
                    FileKind::OtherAudio => Reason::OtherFormat,
                    FileKind::Other => Reason::StrayFile,
                };
                self.add(reason, name);
            }
        }
        Ok(())
    }

    fn visit_list(&mut self, list: usize, name: Name, file: &T::File) {
        match self.tree.head(file, lists::MAX_BYTES + 1) {
            Ok(bytes) if bytes.len() as u64 <= lists::MAX_BYTES && lists::is_text(&bytes) => {
                self.lists[list] = Some(bytes);
            }
            _ => self.add(Reason::UnreadableList, name),
        }
    }

    fn visit_noise(&mut self, folder: &Name, at: &T::At) -> Result<(), DataError> {
        for (file, kind) in self.tree.entries(at)? {
            let name = clip_name(folder, &file);
            match (kind, file_kind(&file)) {
                (_, FileKind::Hidden) => self.add(Reason::Hidden, name),
                (Kind::File(_), FileKind::Clip) => {
                    self.add(Reason::BackgroundNoise, name);
                    self.found.noise.push(file);
                }
                (Kind::File(_), FileKind::OtherAudio) => self.add(Reason::OtherFormat, name),
                (Kind::File(_), FileKind::Other) => self.add(Reason::StrayFile, name),
                (Kind::Folder { .. }, _) => self.add(Reason::NestedFolder, folder_name(&name)),
                (Kind::Special, _) => self.add(Reason::SpecialFile, name),
                (Kind::Broken, _) => self.add(Reason::BrokenLink, name),
            }
        }
        Ok(())
    }

    fn visit_word(&mut self, word: Name, at: &T::At) -> Result<(), DataError> {
        let mut clips = Vec::new();
        let mut nested = 0;
        let mut ledger = Ledger::default();
        for (file, kind) in self.tree.entries(at)? {
            let name = clip_name(&word, &file);
            let reason = match (kind, file_kind(&file)) {
                (_, FileKind::Hidden) => Reason::Hidden,
                (Kind::File(from), FileKind::Clip) => {
                    clips.push((file, from));
                    continue;
                }
                (Kind::File(_), FileKind::OtherAudio) => Reason::OtherFormat,
                (Kind::File(_), FileKind::Other) => Reason::OtherFile,
                (Kind::Special, _) => Reason::SpecialFile,
                (Kind::Broken, _) => Reason::BrokenLink,
                (Kind::Folder { at, linked }, _) => {
                    let (count, example) = if linked { (0, name) } else { self.count_clips(&name, &at, 1)? };
                    nested += count;
                    match count {
                        0 => ledger.add(Reason::NestedFolder, Some(&word), folder_name(&example)),
                        _ => ledger.add_many(Reason::NestedClip, Some(&word), count, example),
                    }
                    continue;
                }
            };
            ledger.add(reason, Some(&word), name);
        }
        let is_word =
            !clips.is_empty() || [Reason::OtherFormat, Reason::BrokenLink].iter().any(|&r| ledger.count(r) > 0);
        if is_word {
            self.found.ledger.append(&ledger);
            self.words.insert(word, clips);
        } else {
            self.found.ledger.append(&ledger.without_classes());
            if nested == 0 {
                self.add(Reason::EmptyFolder, folder_name(&word));
                self.found.empty.push(word);
            }
        }
        Ok(())
    }

    /// The clips in a folder and in the folders below it, and the first of them. Links to folders are not followed.
    fn count_clips(&mut self, path: &Name, at: &T::At, level: usize) -> Result<(u64, Name), DataError> {
        let (mut count, mut example) = (0, path.clone());
        let mut own = 0;
        for (file, kind) in self.tree.entries(at)? {
            let name = clip_name(path, &file);
            let (clips, first) = match kind {
                Kind::File(_) if file_kind(&file) == FileKind::Clip => {
                    own += 1;
                    (1, name)
                }
                Kind::Folder { at, linked: false } if level < NESTED_LEVELS && !is_hidden(&file) => {
                    self.count_clips(&name, &at, level + 1)?
                }
                _ => continue,
            };
            if count == 0 && clips > 0 {
                example = first;
            }
            count += clips;
        }
        let slash = path.as_bytes().iter().rposition(|&byte| byte == b'/');
        if let (Some(slash), true) = (slash, own > 0) {
            let parent = Name::from_bytes(&path.as_bytes()[..slash]);
            if self.parents.len() < MAX_PARENTS || self.parents.contains_key(&parent) {
                *self.parents.entry(parent).or_default() += own;
            }
        }
        Ok((count, example))
    }

    fn finish(self) -> Layout<T::File> {
        let Survey { words, mut found, lists, parents, .. } = self;
        found.words = words.keys().cloned().collect();
        found.counts = words.values().map(|clips| clips.len() as u64).collect();
        let clips: HashSet<Name> =
            words.iter().flat_map(|(word, files)| files.iter().map(|(file, _)| clip_name(word, file))).collect();
        found.lists = Lists::read(lists, &clips, &mut found.ledger);
        if clips.is_empty() {
            // `train` is what a user means if there is one, else the folder with most clips.
            let train =
                |path: &Name| path.as_bytes().rsplit(|&b| b == b'/').next().is_some_and(|p| p.starts_with(b"train"));
            let best = parents.into_iter().max_by_key(|(path, clips)| (train(path), *clips));
            found.deeper = best.map(|(path, _)| path);
        }
        Layout { words, found }
    }
}

fn is_hidden(name: &Name) -> bool {
    name.as_bytes().starts_with(b".")
}

/// A folder in a list of names: with a slash at its end.
pub(super) fn folder_name(path: &Name) -> Name {
    Name::from_bytes(&[path.as_bytes(), b"/"].concat())
}
