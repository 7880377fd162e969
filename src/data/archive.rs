//! A tar archive of a data set, plain or gzipped, read as a stream: nothing is unpacked. A thread reads blocks of
//! members while the blocks before are decoded.
//!
//! Which members are clips is known when the last one has been seen, because links and the folder in which the word
//! folders lie depend on it. So every member that looks like a wanted clip is decoded at once, and the names follow. A
//! second pass reads what only a link leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use crate::base::Name;

use super::archive_stream::{self, Stream};
use super::error::{ClipError, ClipFault, DataError};
use super::layout::{self, Found};
use super::ledger::{Ledger, Reason};
use super::lists;
use super::member_tree::{self, MemberTree};
use super::prepare::{BLOCK_CLIPS, ClipInfo, MAX_FILE_BYTES, RawClip, Sink, SoundFile, Stop, decode_block};
use super::source::{FileKind, NOISE, Stage, Wanted, clip_name, file_kind, is_word};
use super::tar_stream::{Member, MemberKind, TarFault, TarStream};

/// Bytes of a block at which it is handed on even if it has few clips.
const BLOCK_BYTES: usize = 16 << 20;
/// Most bytes of lists that are kept until the archive has been read.
const MAX_LISTS_BYTES: usize = 4 * lists::MAX_BYTES as usize;
/// Most members of an archive: Google Speech Commands has 0.1 million.
const MAX_MEMBERS: u64 = 4_000_000;
/// Most bytes of the names of all members.
const MAX_NAMES_BYTES: usize = 1 << 30;

/// The clips that each member is, by the name that its decoded clip has at first.
pub(super) type Names = BTreeMap<Name, Vec<Name>>;

/// One sound file of the archive.
struct Raw {
    number: u64,
    bytes: Result<Vec<u8>, ClipFault>,
}

/// Which members a pass decodes.
enum Choice {
    /// All that look like clips of wanted words.
    Likely,
    Numbers(BTreeSet<u64>),
}

/// What a pass has seen.
#[derive(Default)]
struct Seen {
    tree: MemberTree,
    decoded: BTreeSet<u64>,
    ledger: Ledger,
    names_bytes: usize,
    lists_bytes: usize,
}

/// Decodes the wanted clips into `sink`, in the order of the archive, each under the number of its member; the names
/// that belong to the numbers are returned.
pub(super) fn read(path: &Path, wanted: &Wanted<'_>, sink: Sink<'_>) -> Result<(Found, Names), Stop> {
    let seen = pass(path, wanted, Choice::Likely, sink)?;
    let mut layout = layout::examine(&seen.tree, Vec::new(), true)?;
    let mut names = Names::new();
    let mut missing = BTreeSet::new();
    for (word, files) in layout.words.iter().filter(|(word, _)| wanted.wants(word)) {
        for (file, number) in files {
            names.entry(provisional(*number)).or_default().push(clip_name(word, file));
            if !seen.decoded.contains(number) {
                missing.insert(*number);
            }
        }
    }
    if !missing.is_empty() {
        pass(path, wanted, Choice::Numbers(missing), sink)?;
    }
    layout.found.ledger.append(&seen.ledger);
    Ok((layout.found, names))
}

/// The recordings of noise in an archive, sorted by name, at most about `limit` bytes of them. Links are not followed.
pub(super) fn read_noise(path: &Path, limit: usize) -> Result<Vec<SoundFile>, DataError> {
    let failed = |source| DataError::Io { path: path.into(), source };
    let fault = |fault| archive_stream::error(path, fault);
    let stream = Stream::new(File::open(path).map_err(failed)?, Arc::new(AtomicU64::new(0)));
    let (stream, _) = stream.decompress().map_err(failed)?;
    let mut archive = TarStream::new(stream);
    let (mut noise, mut bytes) = (Vec::new(), 0);
    while let Some(member) = archive.next().map_err(fault)? {
        let MemberKind::File = member.kind else { continue };
        let names = member_tree::components(&member.path);
        let [.., folder, file] = names.as_slice() else { continue };
        if *folder != NOISE {
            if noise.is_empty() {
                continue;
            }
            break; // the members of a folder follow one another
        }
        if file_kind(file) == FileKind::Clip && member.size <= MAX_FILE_BYTES && bytes < limit {
            let content = archive.content().map_err(fault)?;
            bytes += content.len();
            noise.push((file.clone(), Ok(content)));
        }
    }
    noise.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(noise)
}

/// Gives decoded clips their own names in place of the provisional ones; what has no name is no clip, and what has
/// several through links is as many clips.
pub(super) fn give_names(names: &Names, clips: &mut Vec<ClipInfo>, problems: &mut Vec<ClipError>) {
    let of = |name: &Name| names.get(name).into_iter().flatten();
    *clips = clips.iter().flat_map(|c| of(&c.name).map(|name| ClipInfo { name: name.clone(), ..c.clone() })).collect();
    let named = |p: &ClipError, name: &Name| ClipError { name: name.clone(), fault: p.fault.clone() };
    *problems = problems.iter().flat_map(|p| of(&p.name).map(|name| named(p, name))).collect();
}

/// The name of a clip before its own is known.
fn provisional(member: u64) -> Name {
    Name::from(member.to_string())
}

fn pass(path: &Path, wanted: &Wanted<'_>, choice: Choice, sink: Sink<'_>) -> Result<Seen, Stop> {
    let failed = |source| DataError::Io { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let done = Arc::new(AtomicU64::new(0));
    let (sender, receiver) = sync_channel::<Vec<Raw>>(2);
    std::thread::scope(|scope| {
        let stream = Stream::new(file, Arc::clone(&done));
        let walk = move || Walk { path, wanted, choice, sender, block: Vec::new(), block_bytes: 0 }.run(stream);
        let reader = std::thread::Builder::new().name("archive".into()).spawn_scoped(scope, walk);
        let reader = reader.map_err(|source| DataError::Thread { source })?;
        for block in receiver {
            wanted.report(Stage::Reading, done.load(Ordering::Relaxed), size)?;
            let outcomes = decode_block(&block, wanted, |raw| RawClip {
                name: provisional(raw.number),
                bytes: raw.bytes.as_deref().map(Into::into).map_err(Clone::clone),
            });
            for outcome in outcomes {
                sink(outcome)?;
            }
        }
        let seen = reader.join().expect("reading an archive returns errors and does not panic")?;
        wanted.report(Stage::Reading, size, size)?;
        Ok(seen)
    })
}

/// The walk over the members.
struct Walk<'a> {
    path: &'a Path,
    wanted: &'a Wanted<'a>,
    choice: Choice,
    sender: SyncSender<Vec<Raw>>,
    block: Vec<Raw>,
    block_bytes: usize,
}

impl Walk<'_> {
    fn run(mut self, stream: Stream) -> Result<Seen, DataError> {
        let mut seen = Seen::default();
        let (stream, ending) = stream.decompress().map_err(|source| self.fault(TarFault::Io(source)))?;
        let mut archive = TarStream::new(stream);
        let mut number = 0;
        while let Some(member) = archive.next().map_err(|fault| self.fault(fault))? {
            if !self.visit(number, member, &mut archive, &mut seen)? {
                return Err(DataError::Interrupted); // nobody takes the blocks any more; why is known over there
            }
            number += 1;
            if number > MAX_MEMBERS || seen.names_bytes > MAX_NAMES_BYTES {
                return Err(self.fault(TarFault::Limit(format!("it has more than {number} members"))));
            }
        }
        // The rest contains the end of the gzip stream and with it the checksum.
        let trailing = archive.finish().map_err(|fault| self.fault(fault))? + ending.trailing_bytes();
        if !ending.is_marked() {
            return Err(self.fault(TarFault::Damaged("it ends without the mark of its end".into())));
        }
        if trailing > 0 {
            let name = self.path.file_name().map(Name::from_os).unwrap_or_default();
            seen.ledger.add_many(Reason::TrailingBytes, None, trailing, name);
        }
        self.hand_on();
        Ok(seen)
    }

    fn fault(&self, fault: TarFault) -> DataError {
        archive_stream::error(self.path, fault)
    }

    /// Takes one member; false when the other side is gone.
    fn visit(
        &mut self,
        number: u64,
        member: Member,
        archive: &mut TarStream<impl Read>,
        seen: &mut Seen,
    ) -> Result<bool, DataError> {
        let path = member_tree::components(&member.path);
        seen.names_bytes += member.path.len();
        match &member.kind {
            MemberKind::Folder => seen.tree.add_folder(path),
            MemberKind::Special => seen.tree.add_special(path),
            MemberKind::HardLink(target) | MemberKind::SymbolicLink(target) => {
                seen.names_bytes += target.len();
                seen.tree.add_link(path, target, matches!(member.kind, MemberKind::HardLink(_)));
            }
            MemberKind::File => {
                let Some(file) = path.last().cloned() else { return Ok(true) };
                let decode = match &self.choice {
                    Choice::Numbers(numbers) => numbers.contains(&number),
                    Choice::Likely => self.is_likely(&path),
                };
                if seen.tree.add_file(path, number).is_some() {
                    seen.ledger.add(Reason::Replaced, None, Name::from_bytes(&member.path));
                }
                if decode {
                    seen.decoded.insert(number);
                    return self.take(number, member.size, archive);
                }
                let is_list = lists::FILES.iter().any(|&list| file == *list);
                if is_list && member.size <= lists::MAX_BYTES && seen.lists_bytes < MAX_LISTS_BYTES {
                    let bytes = archive.content().map_err(|fault| self.fault(fault))?;
                    seen.lists_bytes += bytes.len();
                    seen.tree.lists.insert(number, bytes);
                }
            }
        }
        Ok(true)
    }

    /// Whether the path is that of a clip of a wanted word, wherever the word folders lie.
    fn is_likely(&self, path: &[Name]) -> bool {
        let [.., word, file] = path else { return false };
        file_kind(file) == FileKind::Clip && is_word(word) && self.wanted.wants(word)
    }

    fn take(&mut self, number: u64, size: u64, archive: &mut TarStream<impl Read>) -> Result<bool, DataError> {
        let bytes = match size {
            0..=MAX_FILE_BYTES => Ok(archive.content().map_err(|fault| self.fault(fault))?),
            _ => Err(ClipFault::FileTooLarge { limit_mib: MAX_FILE_BYTES >> 20 }),
        };
        self.block_bytes += bytes.as_ref().map_or(0, Vec::len);
        self.block.push(Raw { number, bytes });
        let full = self.block.len() >= BLOCK_CLIPS || self.block_bytes >= BLOCK_BYTES;
        Ok(!full || self.hand_on())
    }

    fn hand_on(&mut self) -> bool {
        self.block_bytes = 0;
        self.sender.send(std::mem::take(&mut self.block)).is_ok()
    }
}
