//! The pages of an Ogg file: which stream it carries, and whether that stream is complete.

use super::error::ClipFault;
use super::signature::{Readable, audio};

/// Bits of a page's flags.
const BEGINS_STREAM: u8 = 2;
const ENDS_STREAM: u8 = 4;
/// Bytes of a page before its table of segments.
const PAGE_HEADER: usize = 27;

/// One page.
struct Page<'a> {
    flags: u8,
    serial: [u8; 4],
    body: &'a [u8],
    bytes: usize,
}

impl<'a> Page<'a> {
    /// The page at the beginning of `bytes`, if it is there as a whole.
    fn read(bytes: &'a [u8]) -> Option<Page<'a>> {
        let header = bytes.get(..PAGE_HEADER)?;
        if !header.starts_with(b"OggS") {
            return None;
        }
        let body_at = PAGE_HEADER + usize::from(header[26]);
        let len: usize = bytes.get(PAGE_HEADER..body_at)?.iter().map(|&n| usize::from(n)).sum();
        let body = bytes.get(body_at..body_at + len)?;
        let serial = [header[14], header[15], header[16], header[17]];
        Some(Page { flags: header[5], serial, body, bytes: body_at + len })
    }
}

/// What the first packet of a logical stream introduces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Read(Readable),
    Audio(&'static str, &'static str),
    Video(&'static str),
    /// Indices, subtitles and other streams beside the audio.
    Other,
}

fn content(packet: &[u8]) -> Content {
    let begins = |magic: &[u8]| packet.starts_with(magic);
    match packet {
        _ if begins(b"\x01vorbis") => Content::Read(Readable::OggVorbis),
        _ if begins(b"\x7fFLAC") => Content::Read(Readable::OggFlac),
        _ if begins(b"OpusHead") => Content::Audio("Ogg Opus", "opus"),
        _ if begins(b"Speex   ") => Content::Audio("Ogg Speex", "spx"),
        _ if begins(b"fLaC") => Content::Audio("an old form of Ogg FLAC", "ogg"),
        _ if begins(b"CELT    ") => Content::Audio("Ogg CELT", "ogg"),
        _ if begins(b"PCM     ") => Content::Audio("Ogg PCM", "ogg"),
        _ if begins(b"\x80theora") => Content::Video("an Ogg Theora video"),
        _ if begins(b"BBCD\0") || begins(b"OVP80") || begins(b"\x01video") || begins(b"\x80daala") => {
            Content::Video("an Ogg video")
        }
        _ => Content::Other,
    }
}

/// What the first stream of an Ogg file is, from the beginning of its first page.
///
/// # Errors
/// It is of a codec that is not read, or a video.
pub(super) fn first_stream(head: &[u8]) -> Result<Readable, ClipFault> {
    let packet = head.get(26).and_then(|&segments| head.get(PAGE_HEADER + usize::from(segments)..)).unwrap_or_default();
    match content(packet) {
        Content::Read(readable) => Ok(readable),
        Content::Audio(format, extension) => Err(audio(format, extension)),
        Content::Video(format) => Err(audio(format, "ogg")),
        Content::Other => Err(audio("an Ogg file whose first stream is no sound", "ogg")),
    }
}

/// The audio stream of an Ogg file, without what may follow its last page.
///
/// # Errors
/// The stream is of a codec that is not read, accompanies a video, is one of a chain, or does not reach its end.
pub(super) fn recognise(file: &[u8]) -> Result<(Readable, &[u8]), ClipFault> {
    let mut streams: Vec<(Content, [u8; 4])> = Vec::new();
    let (mut at, mut in_headers, mut ended) = (0, true, Vec::new());
    while let Some(page) = Page::read(&file[at..]) {
        at += page.bytes;
        if page.flags & BEGINS_STREAM == 0 {
            in_headers = false;
        } else if in_headers {
            streams.push((content(page.body), page.serial));
        } else {
            return Err(audio("a chain of several Ogg streams", "ogg"));
        }
        if page.flags & ENDS_STREAM != 0 {
            ended.push(page.serial);
        }
    }
    let video = streams.iter().find_map(|(content, _)| match content {
        Content::Video(format) => Some(audio(format, "ogv")),
        _ => None,
    });
    if let Some(video) = video {
        return Err(video);
    }
    match streams.iter().find(|(content, _)| *content != Content::Other) {
        Some((Content::Read(readable), serial)) if ended.contains(serial) => Ok((*readable, &file[..at])),
        Some((Content::Audio(format, extension), _)) => Err(audio(format, extension)),
        None if !streams.is_empty() => Err(audio("Ogg with an unknown codec", "ogg")),
        _ => Err(ClipFault::CutStream),
    }
}
