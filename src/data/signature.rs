//! Recognises the format of a file by its first bytes, names what is not read, and removes the tags that music programs
//! put around a stream.

use super::error::ClipFault;
use super::ogg;

/// A stream that is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readable {
    /// RIFF WAVE, also as RF64, BW64 and RIFX.
    Wav,
    /// Native FLAC.
    Flac,
    /// Vorbis in Ogg.
    OggVorbis,
    /// FLAC in Ogg.
    OggFlac,
}

/// The format of a file and its stream without the tags around it.
///
/// # Errors
/// The format is not read: the fault names it, and for audio it gives the command that converts it.
pub(super) fn recognise(file: &[u8]) -> Result<(Readable, &[u8]), ClipFault> {
    if file.is_empty() {
        return Err(ClipFault::EmptyFile);
    }
    let stream = without_leading_tags(file);
    match stream {
        [b'R', b'I', b'F', b'F', ..] if riff_form(stream).is_none() => Ok((Readable::Wav, stream)),
        [b'R', b'F', b'6', b'4', ..] | [b'B', b'W', b'6', b'4', ..] | [b'R', b'I', b'F', b'X', ..] => {
            Ok((Readable::Wav, stream))
        }
        [b'f', b'L', b'a', b'C', ..] => Ok((Readable::Flac, without_trailing_tag(stream))),
        [b'O', b'g', b'g', b'S', ..] => ogg::recognise(stream),
        _ => Err(name(stream, stream.len() < file.len())),
    }
}

/// The file after its ID3v2 tags, of which it may have several. A tag that is longer than the file stays.
fn without_leading_tags(mut file: &[u8]) -> &[u8] {
    while let [b'I', b'D', b'3', _, _, flags, a, b, c, d, ..] = *file {
        let size = [a, b, c, d].iter().fold(0, |size, &byte| size << 7 | usize::from(byte & 0x7F));
        let footer = if flags & 0x10 == 0 { 0 } else { 10 };
        match file.get(10 + size + footer..) {
            Some(rest) if !rest.is_empty() => file = rest,
            _ => break,
        }
    }
    file
}

/// The file without an ID3v1 or APE tag at its end.
fn without_trailing_tag(file: &[u8]) -> &[u8] {
    let mut stream = file;
    if let Some((rest, [b'T', b'A', b'G', ..])) = stream.split_last_chunk::<128>() {
        stream = rest;
    }
    if let Some((_, footer)) = stream.split_last_chunk::<32>()
        && footer.starts_with(b"APETAGEX")
    {
        let size = u32::from_le_bytes([footer[12], footer[13], footer[14], footer[15]]) as usize;
        let header = if footer[23] & 0x80 == 0 { 0 } else { 32 };
        stream = stream.len().checked_sub(size + header).map_or(stream, |len| &stream[..len]);
    }
    stream
}

/// What a RIFF file of another form than WAVE is.
fn riff_form(file: &[u8]) -> Option<ClipFault> {
    match file.get(8..12)? {
        b"AVI " => Some(audio("an AVI video", "avi")),
        b"WEBP" => Some(other("a WebP image")),
        b"RMID" => Some(other("a MIDI file")),
        _ => None,
    }
}

/// The fault of an audio format that ffmpeg reads and this program does not.
pub(super) fn audio(format: &str, extension: &str) -> ClipFault {
    ClipFault::OtherAudio { format: format.into(), extension: extension.into() }
}

fn other(looks_like: &str) -> ClipFault {
    ClipFault::NotAudio { looks_like: looks_like.into() }
}

/// Formats of audio and video with the extension that their files usually have.
const AUDIO: &[(&[u8], &str, &str)] = &[
    (b"\x30\x26\xB2\x75\x8E\x66\xCF\x11", "WMA (ASF)", "wma"),
    (b"caff", "CAF", "caf"),
    (b"#!AMR", "AMR", "amr"),
    (b".snd", "AU", "au"),
    (b"dns.", "AU", "au"),
    (b"riff\x2E\x91\xCF\x11", "Sony Wave64", "w64"),
    (b"wvpk", "WavPack", "wv"),
    (b"TTA1", "True Audio (TTA)", "tta"),
    (b"MAC ", "Monkey's Audio", "ape"),
    (b"MPCK", "Musepack", "mpc"),
    (b"MP+", "Musepack", "mpc"),
    (b"ADIF", "AAC (ADIF)", "aac"),
    (b"\x0B\x77", "AC-3", "ac3"),
    (b"\x7F\xFE\x80\x01", "DTS", "dts"),
    (b"NIST_1A", "NIST SPHERE", "sph"),
    (b"DSD ", "DSF", "dsf"),
    (b"Creative Voice File", "Creative Voice", "voc"),
    (b".RMF", "RealMedia", "rm"),
    (b".ra\xFD", "RealAudio", "ra"),
    (b"FLV\x01", "Flash video", "flv"),
    (b"\0\0\x01\xBA", "an MPEG video", "mpg"),
];

/// Formats of other content.
const OTHER: &[(&[u8], &str)] = &[
    (b"\xFF\xD8\xFF", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"\x1F\x8B", "a gzip archive"),
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "a zip archive"),
    (b"7z\xBC\xAF\x27\x1C", "a 7z archive"),
    (b"\xFD7zXZ\0", "an xz archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\x28\xB5\x2F\xFD", "a Zstandard archive"),
    (b"Rar!", "a RAR archive"),
    (b"%PDF", "a PDF document"),
    (b"MThd", "a MIDI file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\x00\x05\x16\x07", "an AppleDouble file with the attributes of another file"),
    (b"\x7FELF", "a program"),
    (b"MZ", "a program"),
    (b"version https://git-lfs", "a Git LFS pointer to a file that has not been downloaded (run `git lfs pull`)"),
    (b"\xEF\xBB\xBFRIFF", "a WAV file after a byte order mark, as a text editor writes it"),
];

/// The fault of a file that is not read; `tagged` if an ID3v2 tag precedes `bytes`.
fn name(bytes: &[u8], tagged: bool) -> ClipFault {
    if let Some(fault) = riff_form(bytes).filter(|_| bytes.starts_with(b"RIFF")) {
        return fault;
    }
    if let Some(&(_, format, extension)) = AUDIO.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        return audio(format, extension);
    }
    if let Some(&(_, what)) = OTHER.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return other(what);
    }
    let head = &bytes[..bytes.len().min(512)];
    match head {
        [b'F', b'O', b'R', b'M', ..] => audio("AIFF", "aiff"),
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => mp4(brand),
        [0x1A, 0x45, 0xDF, 0xA3, ..] if head.windows(4).any(|w| w == b"webm") => audio("WebM", "webm"),
        [0x1A, 0x45, 0xDF, 0xA3, ..] => audio("Matroska", "mka"),
        [0x47, ..] if bytes.len() > 188 && bytes[188] == 0x47 => audio("an MPEG transport stream", "ts"),
        _ if bytes.get(257..262) == Some(b"ustar") => other("a tar archive"),
        _ if head.iter().all(|&b| b == 0) => other("a file of zeros"),
        _ => text(head).or_else(|| mpeg_audio(head)).unwrap_or_else(|| match tagged || head.starts_with(b"ID3") {
            true => audio("MP3", "mp3"),
            false => other("a file of an unknown format"),
        }),
    }
}

/// A file of the ISO base media format by its major brand.
fn mp4(brand: &[u8]) -> ClipFault {
    match brand {
        [b'M', b'4', b'A' | b'B', ..] => audio("M4A (AAC or ALAC in MP4)", "m4a"),
        [b'q', b't', ..] => audio("a QuickTime file", "mov"),
        [b'3', b'g', ..] => audio("a 3GP file", "3gp"),
        [b'h', b'e', b'i', ..] | [b'm', b'i', b'f', b'1', ..] | [b'a', b'v', b'i', b'f', ..] => other("an HEIF image"),
        _ => audio("an MP4 file", "mp4"),
    }
}

/// MPEG audio and AAC by the header of their first frame, whose reserved values are excluded.
fn mpeg_audio(head: &[u8]) -> Option<ClipFault> {
    let &[0xFF, second, third, ..] = head else {
        return None;
    };
    let (version, layer) = (second >> 3 & 3, second >> 1 & 3);
    if second & 0xF6 == 0xF0 {
        return Some(audio("AAC (ADTS)", "aac"));
    }
    if second & 0xE0 != 0xE0 || version == 1 || layer == 0 || third >> 4 == 15 || third >> 2 & 3 == 3 {
        return None;
    }
    Some(match layer {
        1 => audio("MP3", "mp3"),
        2 => audio("MPEG audio (MP2)", "mp2"),
        _ => audio("MPEG audio (MP1)", "mp1"),
    })
}

/// Text in UTF-8, or in UTF-16 with its byte order mark. A character may be cut at the end of `head`.
fn text(head: &[u8]) -> Option<ClipFault> {
    let readable = |c: char| !c.is_control() || c.is_whitespace();
    let wide = |from: fn([u8; 2]) -> u16| {
        let units = head[2..].chunks_exact(2).map(|pair| from([pair[0], pair[1]]));
        let mut chars = char::decode_utf16(units).peekable();
        chars.peek().is_some() && chars.all(|c| c.is_ok_and(readable))
    };
    match head {
        [0xFF, 0xFE, ..] if wide(u16::from_le_bytes) => return Some(other("a text file in UTF-16")),
        [0xFE, 0xFF, ..] if wide(u16::from_be_bytes) => return Some(other("a text file in UTF-16")),
        _ => {}
    }
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() && e.valid_up_to() > 0 => {
            std::str::from_utf8(&head[..e.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    if !valid.chars().all(readable) {
        return None;
    }
    let start = valid.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    Some(other(match start.as_str() {
        s if s.starts_with("<!doctype html") || s.starts_with("<html") => "an HTML page",
        s if s.starts_with("<?xml") || s.starts_with("<svg") => "an XML file",
        s if s.starts_with("http://") || s.starts_with("https://") => "a text file with a web address",
        _ => "a text file",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_25_formats_are_named_with_the_command_that_converts_them() {
        for (bytes, text) in [
            (&b"ID3\x04\0\0\0\0\0\x02xx\xFF\xFB\x90\x64"[..], "it is MP3; convert it: ffmpeg -i x.mp3 x.wav"),
            (b"ID3\x04\0", "it is MP3; convert it: ffmpeg -i x.mp3 x.wav"),
            (b"\xFF\xFB\x90\x64\0\0", "it is MP3; convert it: ffmpeg -i x.mp3 x.wav"),
            (b"\xFF\xF3\x48\xC4", "it is MP3; convert it: ffmpeg -i x.mp3 x.wav"),
            (b"\xFF\xFD\x90\x64", "it is MPEG audio (MP2); convert it: ffmpeg -i x.mp2 x.wav"),
            (b"\xFF\xF1\x60\x40\x41\x3F", "it is AAC (ADTS); convert it: ffmpeg -i x.aac x.wav"),
            (b"ID3\x04\0\0\0\0\0\x02xx\xFF\xF9\x60\x40", "it is AAC (ADTS); convert it: ffmpeg -i x.aac x.wav"),
            (b"\0\0\0\x1CftypM4A \0", "it is M4A (AAC or ALAC in MP4); convert it: ffmpeg -i x.m4a x.wav"),
            (b"\0\0\0\x1Cftypisom", "it is an MP4 file; convert it: ffmpeg -i x.mp4 x.wav"),
            (b"\x30\x26\xB2\x75\x8E\x66\xCF\x11\xA6", "it is WMA (ASF); convert it: ffmpeg -i x.wma x.wav"),
            (b"FORM\0\0\x3E\xAEAIFFCOMM", "it is AIFF; convert it: ffmpeg -i x.aiff x.wav"),
            (b"caff\0\x01\0\0desc", "it is CAF; convert it: ffmpeg -i x.caf x.wav"),
            (b"#!AMR\n<", "it is AMR; convert it: ffmpeg -i x.amr x.wav"),
            (b".snd\0\0\0\x20", "it is AU; convert it: ffmpeg -i x.au x.wav"),
            (b"\x1A\x45\xDF\xA3\x9F\x42\x82\x84webmB", "it is WebM; convert it: ffmpeg -i x.webm x.wav"),
            (b"\x1A\x45\xDF\xA3\xA3\x42\x82\x88matroska", "it is Matroska; convert it: ffmpeg -i x.mka x.wav"),
            (b"RIFF\0\0\0\0AVI LIST", "it is an AVI video; convert it: ffmpeg -i x.avi x.wav"),
            (b"riff\x2E\x91\xCF\x11\xA5\xD6", "it is Sony Wave64; convert it: ffmpeg -i x.w64 x.wav"),
            (b"NIST_1A\n   1024", "it is NIST SPHERE; convert it: ffmpeg -i x.sph x.wav"),
        ] {
            assert_eq!(recognise(bytes).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn files_without_audio_are_named() {
        for (bytes, what) in [
            (&b"hello, this is no sound"[..], "a text file"),
            ("caf\u{e9}, \u{65e5}\u{672c}\u{8a9e}".as_bytes(), "a text file"),
            (b"\xFF\xFEh\0e\0l\0l\0o\0", "a text file in UTF-16"),
            (b"\xFE\xFF\0h\0e\0l\0l\0o", "a text file in UTF-16"),
            (b"\r\n<!DOCTYPE html><html><body>404", "an HTML page"),
            (b"<HTML><head>", "an HTML page"),
            (b"<?xml version=\"1.0\"?>", "an XML file"),
            (b"\xFF\xD8\xFF\xE0\0\x10JFIF", "a JPEG image"),
            (b"\x89PNG\r\n\x1A\n", "a PNG image"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "a WebP image"),
            (b"PK\x03\x04\x14\0", "a zip archive"),
            (b"\x1F\x8B\x08\0", "a gzip archive"),
            (b"\0\0\0\0", "a file of zeros"),
            (b"\x7fELF\x02\x01\x01\0", "a program"),
            (b"\x01\x02\x03\x04\x05", "a file of an unknown format"),
            (b"\xFF\xFF\xFF\xFF\xFF", "a file of an unknown format"),
        ] {
            assert_eq!(recognise(bytes).unwrap_err(), other(what));
        }
    }

    #[test]
    fn case_27_tags_around_a_stream_are_removed() {
        let tag = b"ID3\x03\0\0\0\0\0\x03abc";
        let with_footer = b"ID3\x04\0\x10\0\0\0\x01a3DI\x04\0\x10\0\0\0\x01";
        let flac = b"fLaC and the rest".as_slice();
        assert_eq!(recognise(&[tag, flac].concat()).unwrap(), (Readable::Flac, flac));
        assert_eq!(recognise(&[&tag[..], with_footer, flac].concat()).unwrap(), (Readable::Flac, flac));
        assert_eq!(recognise(&[tag, &b"RIFF\0\0\0\0WAVE"[..]].concat()).unwrap().0, Readable::Wav);
        let id3v1 = [&b"TAG"[..], &[b'x'; 125]].concat();
        let ape = [&b"APETAGEX\xD0\x07\0\0\x24\0\0\0\0\0\0\0\0\0\0\xA0\0\0\0\0\0\0\0\0"[..], b"item"].concat();
        let ape = [&ape[..], &ape[..32]].concat();
        assert_eq!(recognise(&[flac, &id3v1].concat()).unwrap(), (Readable::Flac, flac));
        assert_eq!(recognise(&[flac, &ape, &id3v1].concat()).unwrap(), (Readable::Flac, flac));
    }
}
