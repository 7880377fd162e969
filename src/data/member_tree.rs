//! The members of an archive as a tree of folders, with links resolved as unpacking would.

use std::collections::{BTreeMap, HashMap};

use crate::base::Name;

use super::error::DataError;
use super::layout::{Kind, Tree};

/// Links that are followed from one name.
const MAX_LINKS: usize = 40;

/// The path of a folder or file in the archive, component by component.
pub(super) type Path = Vec<Name>;

/// A member that is not a folder.
enum Node {
    /// The number of the member.
    File(u64),
    Folder,
    /// A path from the folder of the link (symbolic) or from the top (hard).
    Link {
        target: Box<[u8]>,
        hard: bool,
    },
    Special,
}

/// Folders and files of an archive by path.
#[derive(Default)]
pub(super) struct MemberTree {
    folders: HashMap<Path, BTreeMap<Name, Node>>,
    /// The contents of files that may be lists, by member.
    pub(super) lists: HashMap<u64, Vec<u8>>,
}

/// The components of a path in an archive. Those that lead nowhere (`.`, an empty one) or out of it (`..`, a leading
/// slash) are left out, as in unpacking.
pub(super) fn components(path: &[u8]) -> Path {
    let parts = path.split(|&byte| byte == b'/');
    parts.filter(|part| !matches!(*part, b"" | b"." | b"..")).map(Name::from_bytes).collect()
}

impl MemberTree {
    /// Adds a file; returns the number of the member that it replaces.
    pub(super) fn add_file(&mut self, path: Path, member: u64) -> Option<u64> {
        match self.insert(path, Node::File(member)) {
            Some(Node::File(replaced)) => Some(replaced),
            _ => None,
        }
    }

    pub(super) fn add_folder(&mut self, path: Path) {
        self.insert(path, Node::Folder);
    }

    pub(super) fn add_link(&mut self, path: Path, target: &[u8], hard: bool) {
        self.insert(path, Node::Link { target: target.into(), hard });
    }

    pub(super) fn add_special(&mut self, path: Path) {
        self.insert(path, Node::Special);
    }

    fn insert(&mut self, mut path: Path, node: Node) -> Option<Node> {
        let name = path.pop()?;
        self.make_folder(&path);
        self.folders.entry(path).or_default().insert(name, node)
    }

    /// Makes the folders of a path that members have not named.
    fn make_folder(&mut self, path: &[Name]) {
        for depth in (1..=path.len()).rev() {
            let (parent, name) = (&path[..depth - 1], &path[depth - 1]);
            let siblings = match self.folders.get_mut(parent) {
                Some(siblings) => siblings,
                None => self.folders.entry(parent.to_vec()).or_default(),
            };
            if siblings.contains_key(name) {
                return;
            }
            siblings.insert(name.clone(), Node::Folder);
        }
    }

    /// What `path` is once every link on it has been followed; nothing if it leads nowhere, out, or in a circle.
    fn resolve(&self, path: &[Name], links: &mut usize) -> Option<Kind<Path, u64>> {
        let mut at: Path = Vec::new();
        let mut linked = false;
        for (i, name) in path.iter().enumerate() {
            if *name == ".." {
                at.pop()?;
                continue;
            }
            let is_last = i + 1 == path.len();
            match self.folders.get(&at)?.get(name)? {
                Node::Folder => at.push(name.clone()),
                Node::File(member) => return is_last.then_some(Kind::File(*member)),
                Node::Special => return is_last.then_some(Kind::Special),
                Node::Link { target, hard } => {
                    *links = links.checked_sub(1)?;
                    let target = self.target_path(&at, target, *hard)?;
                    match self.resolve(&target, links)? {
                        Kind::Folder { at: folder, .. } => (at, linked) = (folder, true),
                        other => return is_last.then_some(other),
                    }
                }
            }
        }
        Some(Kind::Folder { at, linked })
    }

    /// The path from the top of what a link names; nothing for an absolute path.
    fn target_path(&self, folder: &[Name], target: &[u8], hard: bool) -> Option<Path> {
        if hard {
            return Some(components(target));
        }
        if target.first().is_none_or(|&byte| byte == b'/') {
            return None;
        }
        let parts = target.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
        Some(folder.iter().cloned().chain(parts.map(Name::from_bytes)).collect())
    }
}

impl Tree for MemberTree {
    type At = Path;
    type File = u64;

    fn entries(&self, at: &Path) -> Result<Vec<(Name, Kind<Path, u64>)>, DataError> {
        let Some(nodes) = self.folders.get(at) else {
            return Ok(Vec::new());
        };
        let kind = |(name, node): (&Name, &Node)| {
            let path = || [at.as_slice(), std::slice::from_ref(name)].concat();
            let kind = match node {
                Node::Folder => Kind::Folder { at: path(), linked: false },
                Node::File(member) => Kind::File(*member),
                Node::Special => Kind::Special,
                Node::Link { .. } => self.resolve(&path(), &mut MAX_LINKS.clone()).unwrap_or(Kind::Broken),
            };
            (name.clone(), kind)
        };
        Ok(nodes.iter().map(kind).collect())
    }

    fn head(&self, member: &u64, _limit: u64) -> std::io::Result<Vec<u8>> {
        let list = self.lists.get(member).cloned();
        list.ok_or_else(|| std::io::Error::other("the list is too long to be kept"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_within_the_archive_and_never_out_of_it() {
        let mut tree = MemberTree::default();
        tree.add_file(components(b"./d/bed/a.wav"), 7);
        for (link, target, hard) in [
            ("d/bed/hard.wav", "./d/bed/a.wav", true),
            ("d/bed/near.wav", "a.wav", false),
            ("d/bed/again.wav", "./near.wav", false),
            ("d/cat", "bed", false),
            ("d/cow/up.wav", "../cat/a.wav", false),
            ("d/cow/out.wav", "../../../bed/a.wav", false),
            ("d/cow/absolute.wav", "/d/bed/a.wav", false),
            ("d/cow/none.wav", "b.wav", false),
            ("d/cow/loop.wav", "loop.wav", false),
            ("d/cow/empty.wav", "", false),
            ("d/cow/through.wav", "../bed/a.wav/a.wav", false),
            ("d/cow/self", ".", false),
        ] {
            tree.add_link(components(link.as_bytes()), target.as_bytes(), hard);
        }
        let of = |folder: &str| tree.entries(&components(folder.as_bytes())).unwrap();
        assert!(of("d/bed").iter().all(|(_, kind)| matches!(kind, Kind::File(7))));
        for (name, kind) in of("d/cow") {
            match name.as_str().unwrap() {
                "up.wav" => assert!(matches!(kind, Kind::File(7))),
                "self" => assert!(matches!(kind, Kind::Folder { linked: true, .. })),
                _ => assert!(matches!(kind, Kind::Broken), "{name}"),
            }
        }
        assert!(matches!(&of("d")[1].1, Kind::Folder { at, linked: true } if *at == components(b"d/bed")));
    }
}
