//! A tar archive of a data set, plain or gzipped: one pass over the stream, nothing unpacked. A thread reads
//! blocks of members while the blocks before are decoded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use crate::base::Name;

use super::error::{ClipFault, DataError};
use super::prepare::{BLOCK_CLIPS, MAX_FILE_BYTES, RawClip, Sink, Stop, decode_block};
use super::source::{FileKind, Found, Lists, NOISE, Stage, Wanted, clip_name, file_kind, is_word};

/// Bytes of a block at which it is handed on even if it has few clips.
const BLOCK_BYTES: usize = 16 << 20;
/// Largest list of clip names that is read.
const MAX_LIST_BYTES: u64 = 64 << 20;

/// One sound file of the archive.
struct Member {
    name: Name,
    bytes: Result<Vec<u8>, ClipFault>,
}

/// Decodes the wanted clips into `sink`, in the order of the archive.
pub(super) fn read(path: &Path, wanted: &Wanted<'_>, sink: Sink<'_>) -> Result<Found, Stop> {
    let failed = |source| DataError::Io { path: path.into(), source };
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let done = Arc::new(AtomicU64::new(0));
    let (sender, receiver) = sync_channel::<Vec<Member>>(2);
    std::thread::scope(|scope| {
        let counted = Counted { file, done: Arc::clone(&done) };
        let walk = move || Walk::new(path, wanted, sender).run(counted);
        let reader = std::thread::Builder::new().name("archive".into()).spawn_scoped(scope, walk);
        let reader = reader.map_err(|source| DataError::Thread { source })?;
        for block in receiver {
            wanted.report(Stage::Reading, done.load(Ordering::Relaxed), size)?;
            let outcomes = decode_block(&block, wanted, |member| RawClip {
                name: member.name.clone(),
                bytes: member.bytes.as_deref().map(Into::into).map_err(Clone::clone),
            });
            for outcome in outcomes {
                sink(outcome)?;
            }
        }
        let found = reader.join().expect("reading an archive returns errors and does not panic")?;
        wanted.report(Stage::Reading, size, size)?;
        Ok(found)
    })
}

/// A file that counts the bytes read, for the progress.
struct Counted {
    file: File,
    done: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.file.read(buf)?;
        self.done.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Remembers whether a plain tar file ends with its mark, a block of zeros: without it the file was cut between two
/// members, and nothing else would tell.
struct Tail<R> {
    inner: R,
    zeros: Arc<AtomicU64>, // zero bytes since the last other one
}

impl<R: Read> Read for Tail<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        let zeros = buf[..n].iter().rev().take_while(|&&b| b == 0).count();
        let before = if zeros == n { self.zeros.load(Ordering::Relaxed) } else { 0 };
        self.zeros.store(before + zeros as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// The walk over the members: what has been seen so far.
struct Walk<'a> {
    path: &'a Path,
    wanted: &'a Wanted<'a>,
    sender: SyncSender<Vec<Member>>,
    block: Vec<Member>,
    block_bytes: usize,
    root: Option<Vec<Name>>, // the folder in which the word folders lie, from the first clip
    words: BTreeSet<Name>,
    noise: BTreeSet<Name>,
    others: BTreeMap<Vec<Name>, u64>, // other files, by the folder above their word folder
    lists: [Option<String>; 2],       // validation, testing
}

impl<'a> Walk<'a> {
    fn new(path: &'a Path, wanted: &'a Wanted<'a>, sender: SyncSender<Vec<Member>>) -> Walk<'a> {
        Walk {
            path,
            wanted,
            sender,
            block: Vec::new(),
            block_bytes: 0,
            root: None,
            words: BTreeSet::new(),
            noise: BTreeSet::new(),
            others: BTreeMap::new(),
            lists: [None, None],
        }
    }

    fn bad(&self, reason: impl ToString) -> DataError {
        DataError::BadArchive { path: self.path.into(), reason: reason.to_string() }
    }

    fn run(mut self, file: Counted) -> Result<Found, DataError> {
        let mut file = BufReader::with_capacity(1 << 16, file);
        let gzipped = std::io::BufRead::fill_buf(&mut file).map_err(|e| self.bad(e))?.starts_with(&[0x1F, 0x8B]);
        let zeros = Arc::new(AtomicU64::new(0));
        let stream: Box<dyn Read> = if gzipped {
            Box::new(flate2::bufread::MultiGzDecoder::new(file)) // its checksum tells of cuts
        } else {
            Box::new(Tail { inner: file, zeros: Arc::clone(&zeros) })
        };
        let mut archive = tar::Archive::new(stream);
        for entry in archive.entries().map_err(|e| self.bad(e))? {
            let mut entry = entry.map_err(|e| self.bad(e))?;
            if !self.visit(&mut entry)? {
                return Err(DataError::Interrupted); // nobody takes the blocks any more; why is known over there
            }
        }
        // The rest holds the end of the gzip stream and with it the checksum.
        std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).map_err(|e| self.bad(e))?;
        if !gzipped && zeros.load(Ordering::Relaxed) < 512 {
            return Err(self.bad("it ends without the mark of its end"));
        }
        self.hand_on();
        let [validation, testing] = self.lists;
        Ok(Found {
            words: self.words.into_iter().collect(),
            noise: self.noise.into_iter().collect(),
            other_files: self.root.and_then(|root| self.others.get(&root).copied()).unwrap_or(0),
            lists: validation.zip(testing).map(|(v, t)| Lists::parse(&v, &t)),
        })
    }

    /// Takes one member; false when the other side is gone.
    fn visit(&mut self, entry: &mut tar::Entry<'_, Box<dyn Read>>) -> Result<bool, DataError> {
        let path = entry.path().map_err(|e| self.bad(e))?.into_owned();
        let parts: Vec<Name> = path
            .components()
            .filter_map(|c| match c {
                Component::Normal(part) => Some(Name::from_os(part)),
                _ => None,
            })
            .collect();
        let Some((file, folders)) = parts.split_last() else {
            return Ok(true);
        };
        if !entry.header().entry_type().is_file() {
            return Ok(true);
        }
        match (file.as_bytes(), folders.split_last()) {
            (b"validation_list.txt", _) => self.lists[0] = Some(self.list(entry)?),
            (b"testing_list.txt", _) => self.lists[1] = Some(self.list(entry)?),
            (_, Some((word, above))) => return self.visit_file(entry, above, word, file),
            _ => {}
        }
        Ok(true)
    }

    fn visit_file(
        &mut self,
        entry: &mut tar::Entry<'_, Box<dyn Read>>,
        above: &[Name],
        word: &Name,
        file: &Name,
    ) -> Result<bool, DataError> {
        match file_kind(file) {
            FileKind::Clip if *word == NOISE => _ = self.noise.insert(file.clone()),
            FileKind::Clip if is_word(word) => {
                match &self.root {
                    None => self.root = Some(above.to_vec()),
                    Some(root) if *root == above => {}
                    Some(root) => {
                        let path = |parts: &[Name]| parts.iter().map(|part| format!("{part}/")).collect::<String>();
                        let reason = format!("word folders lie both in `{}` and in `{}`", path(root), path(above));
                        return Err(self.bad(reason));
                    }
                }
                self.words.insert(word.clone());
                if self.wanted.wants(word) {
                    return self.take(entry, clip_name(word, file));
                }
            }
            FileKind::Other if is_word(word) => *self.others.entry(above.to_vec()).or_default() += 1,
            _ => {}
        }
        Ok(true)
    }

    fn take(&mut self, entry: &mut tar::Entry<'_, Box<dyn Read>>, name: Name) -> Result<bool, DataError> {
        let size = entry.size();
        let bytes = if size > MAX_FILE_BYTES {
            Err(ClipFault::FileTooLarge { limit_mib: MAX_FILE_BYTES >> 20 })
        } else {
            let mut bytes = Vec::with_capacity(size.min(1 << 20) as usize);
            entry.read_to_end(&mut bytes).map_err(|e| self.bad(e))?;
            if bytes.len() as u64 != size {
                return Err(self.bad(format!("it ends within {name}")));
            }
            Ok(bytes)
        };
        self.block_bytes += bytes.as_ref().map_or(0, Vec::len);
        self.block.push(Member { name, bytes });
        let full = self.block.len() >= BLOCK_CLIPS || self.block_bytes >= BLOCK_BYTES;
        Ok(!full || self.hand_on())
    }

    fn hand_on(&mut self) -> bool {
        self.block_bytes = 0;
        self.sender.send(std::mem::take(&mut self.block)).is_ok()
    }

    fn list(&self, entry: &mut tar::Entry<'_, Box<dyn Read>>) -> Result<String, DataError> {
        let mut bytes = Vec::new();
        entry.take(MAX_LIST_BYTES).read_to_end(&mut bytes).map_err(|e| self.bad(e))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
