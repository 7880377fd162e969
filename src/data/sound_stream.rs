//! Sound of any length, read piece by piece as it arrives: WAV, FLAC and Ogg Vorbis files and pipes, and 16-bit samples without a header.

use std::io::{ErrorKind, Read};

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSourceStream, ReadOnlySource};
use symphonia::default::codecs::{FlacDecoder, VorbisDecoder};
use symphonia::default::formats::{FlacReader, OggReader};

use super::clip::{finite, mix};
use super::decode::fault_of;
use super::error::ClipFault;
use super::pcm::Values;
use super::quiet_panic::catch_quietly;
use super::wav::WavStream;
use super::{ogg, signature};

/// Bytes that tell what a stream is.
const HEAD: usize = 64;
/// Most bytes of a stream that are taken at once.
const PIECE: usize = 1 << 15;

/// Where the bytes come from.
type Bytes = Box<dyn Read + Send + Sync>;

/// A stream of sound, mixed down to one channel.
pub struct SoundStream {
    rate_hz: u32,
    channels: u32,
    content: Content,
    /// Samples per channel so far.
    have: u64,
}

enum Content {
    Wav {
        stream: Box<WavStream>,
        bytes: Bytes,
    },
    Compressed {
        reader: Box<dyn FormatReader>,
        decoder: Box<dyn AudioDecoder>,
        track: u32,
        promised: Option<u64>,
        block: Vec<f32>,
    },
}

impl SoundStream {
    /// Begins a stream. What is no file of sound is taken for 16-bit little-endian samples of one channel and rate `raw_hz`, if there is one.
    ///
    /// # Errors
    /// The stream is empty or no sound, its header is damaged, or it cannot be read.
    pub fn open(mut bytes: Bytes, raw_hz: Option<u32>) -> Result<SoundStream, ClipFault> {
        let mut head = Vec::new();
        (&mut bytes).take(HEAD as u64).read_to_end(&mut head).map_err(unreadable)?;
        let is = |magic: &[u8]| head.starts_with(magic);
        if is(b"RIFF") || is(b"RF64") || is(b"BW64") || is(b"RIFX") {
            let mut bytes: Bytes = Box::new(std::io::Cursor::new(head).chain(bytes));
            let stream = WavStream::begin(&mut bytes)?;
            return Ok(SoundStream::wav(stream, bytes));
        }
        if is(b"fLaC") || is(b"OggS") {
            let vorbis = is(b"OggS") && ogg::first_stream(&head)? == signature::Readable::OggVorbis;
            let source = Box::new(ReadOnlySource::new(std::io::Cursor::new(head.clone()).chain(bytes)));
            let begun = catch_quietly(|| SoundStream::compressed(source, is(b"fLaC"), vorbis));
            return begun.unwrap_or_else(|| Err(ClipFault::Damaged { reason: "the decoder failed".into() }));
        }
        match raw_hz {
            _ if head.is_empty() => Err(ClipFault::EmptyFile),
            Some(rate_hz) => {
                let bytes: Bytes = Box::new(std::io::Cursor::new(head).chain(bytes));
                Ok(SoundStream::wav(WavStream::raw(rate_hz), bytes))
            }
            // The fault names what the bytes are instead.
            None => Err(signature::recognise(&head).map_or_else(
                |fault| fault,
                |_| ClipFault::BadHeader { reason: "it begins with a tag; remove the tag".into() },
            )),
        }
    }

    fn wav(stream: WavStream, bytes: Bytes) -> SoundStream {
        let (rate_hz, channels) = (stream.rate_hz(), stream.channels());
        SoundStream { rate_hz, channels, content: Content::Wav { stream: Box::new(stream), bytes }, have: 0 }
    }

    fn compressed<R: Read + Send + Sync + 'static>(
        source: Box<ReadOnlySource<R>>,
        flac: bool,
        vorbis: bool,
    ) -> Result<SoundStream, ClipFault> {
        let source = MediaSourceStream::new(source, Default::default());
        let options = FormatOptions::default();
        let reader: Box<dyn FormatReader> = match flac {
            true => Box::new(FlacReader::try_new(source, options).map_err(fault_of)?),
            false => Box::new(OggReader::try_new(source, options).map_err(fault_of)?),
        };
        let damaged = |reason: &str| ClipFault::Damaged { reason: reason.into() };
        let track = reader.default_track(TrackType::Audio).ok_or_else(|| damaged("it has no audio track"))?;
        let params = track.codec_params.as_ref().and_then(|p| p.audio());
        let params = params.ok_or_else(|| damaged("it does not name its codec"))?;
        let rate_hz = params.sample_rate.ok_or_else(|| damaged("it does not state its sample rate"))?;
        let channels = params.channels.as_ref().map_or(1, |channels| channels.count() as u32);
        let (id, promised, options) = (track.id, track.num_frames, AudioDecoderOptions::default());
        let decoder: Box<dyn AudioDecoder> = match vorbis {
            true => Box::new(VorbisDecoder::try_new(params, &options).map_err(fault_of)?),
            false => Box::new(FlacDecoder::try_new(params, &options).map_err(fault_of)?),
        };
        let content = Content::Compressed { reader, decoder, track: id, promised, block: Vec::new() };
        Ok(SoundStream { rate_hz, channels, content, have: 0 })
    }

    /// Samples per second.
    pub fn rate_hz(&self) -> u32 {
        self.rate_hz
    }

    /// Channels, before they are mixed down.
    pub fn channels(&self) -> u32 {
        self.channels
    }

    /// Samples per channel that have been read.
    pub fn samples(&self) -> u64 {
        self.have
    }

    /// Bytes at the end of the stream that are no whole frame, and were left out.
    pub fn left_over(&self) -> usize {
        match &self.content {
            Content::Wav { stream, .. } => stream.left_over(),
            Content::Compressed { .. } => 0,
        }
    }

    /// Appends what has arrived to `out`, the mean of the channels with full scale 1; waits if nothing has. Returns false at the end of the stream.
    ///
    /// # Errors
    /// The stream breaks off, is damaged, contains a number that is not finite, or cannot be read. Everything before has been returned.
    pub fn read(&mut self, out: &mut Vec<f32>) -> Result<bool, ClipFault> {
        let before = out.len();
        let more = match &mut self.content {
            Content::Wav { stream, bytes } => {
                let values = stream.read(bytes, PIECE)?;
                let more = values.is_some();
                if let Some(values) = values {
                    append(finite(values), self.have, self.channels, out)?;
                }
                more
            }
            Content::Compressed { reader, decoder, track, promised, block } => {
                let next = catch_quietly(|| packet(reader.as_mut(), decoder.as_mut(), *track, block));
                let more = next.unwrap_or_else(|| Err(ClipFault::Damaged { reason: "the decoder failed".into() }))?;
                if more {
                    append(finite(Values::F32(std::mem::take(block))), self.have, self.channels, out)?;
                } else if let Some(promised) = promised.filter(|&promised| promised > self.have) {
                    return Err(ClipFault::Incomplete { have: self.have, promised });
                }
                more
            }
        };
        self.have += (out.len() - before) as u64;
        Ok(more)
    }
}

/// Mixes values down; the index of a value that is not finite is that in the stream.
fn append(values: Result<Vec<f32>, ClipFault>, have: u64, channels: u32, out: &mut Vec<f32>) -> Result<(), ClipFault> {
    let values = values.map_err(|fault| match fault {
        ClipFault::NonFinite { at } => ClipFault::NonFinite { at: have * u64::from(channels) + at },
        other => other,
    })?;
    match channels {
        1 => out.extend_from_slice(&values),
        _ => out.extend(mix(&values, channels as usize)),
    }
    Ok(())
}

/// Decodes the next packet into `block`; false at the end.
fn packet(
    reader: &mut dyn FormatReader,
    decoder: &mut dyn AudioDecoder,
    track: u32,
    block: &mut Vec<f32>,
) -> Result<bool, ClipFault> {
    loop {
        let packet = match reader.next_packet() {
            Ok(Some(packet)) if packet.track_id == track => packet,
            Ok(Some(_)) => continue,
            Ok(None) => return Ok(false),
            Err(Error::IoError(e)) if e.kind() == ErrorKind::UnexpectedEof => return Err(ClipFault::CutStream),
            Err(e) => return Err(fault_of(e)),
        };
        let buffer = decoder.decode(&packet).map_err(fault_of)?;
        buffer.copy_to_vec_interleaved(block);
        if !block.is_empty() {
            return Ok(true);
        }
    }
}

fn unreadable(error: std::io::Error) -> ClipFault {
    ClipFault::Unreadable { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Format, read_clip};
    use std::io::Cursor;
    use std::path::Path;

    /// A stream that gives at most `most` bytes at once, as a pipe does.
    struct Slow(Cursor<Vec<u8>>, usize);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let most = self.1.min(buffer.len());
            self.0.read(&mut buffer[..most])
        }
    }

    fn all(bytes: &[u8], most: usize, raw: Option<u32>) -> Result<(Vec<f32>, SoundStream), ClipFault> {
        let mut stream = SoundStream::open(Box::new(Slow(Cursor::new(bytes.to_vec()), most)), raw)?;
        let mut out = Vec::new();
        while stream.read(&mut out)? {}
        Ok((out, stream))
    }

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)).unwrap()
    }

    #[test]
    fn a_stream_in_pieces_is_the_clip() {
        let wav = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/clips/bed")).unwrap();
        let wav = std::fs::read(wav.flatten().next().expect("there is a clip").path()).unwrap();
        for bytes in [wav, fixture("words/bed.ogg")] {
            let stream = SoundStream::open(Box::new(Cursor::new(bytes.clone())), None).unwrap();
            let format = Format { rate_hz: stream.rate_hz(), channels: 1 };
            let clip = read_clip(&bytes, "clip", format).unwrap();
            for most in [7, 1279, usize::MAX] {
                let (samples, _) = all(&bytes, most, None).unwrap();
                assert_eq!(samples.len(), clip.samples.len());
                for (a, b) in samples.iter().zip(&clip.samples) {
                    assert!((a.clamp(-1.0, 1.0) * 32768.0 - f32::from(*b)).abs() <= 1.0);
                }
            }
        }
    }

    #[test]
    fn samples_without_a_header_need_a_rate_and_an_odd_byte_is_counted() {
        let bytes: Vec<u8> = (0..101u8).collect();
        let (samples, stream) = all(&bytes, 3, Some(8_000)).unwrap();
        assert_eq!((samples.len(), stream.left_over(), stream.rate_hz(), stream.samples()), (50, 1, 8_000, 50));
        assert_eq!(samples[1], f32::from(i16::from_le_bytes([2, 3])) / 32768.0);
        assert!(all(&bytes, 3, None).is_err());
        assert_eq!(all(&[], 3, Some(8_000)).err(), Some(ClipFault::EmptyFile));
    }

    #[test]
    fn a_file_that_breaks_off_is_named_after_its_samples() {
        let mut wav = b"RIFF\x24\x01\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00".to_vec();
        wav.extend(16_000u32.to_le_bytes());
        wav.extend(32_000u32.to_le_bytes());
        wav.extend(b"\x02\x00\x10\x00data\x00\x01\x00\x00");
        wav.extend([1u8; 100]);
        let mut stream = SoundStream::open(Box::new(Cursor::new(wav)), None).unwrap();
        let mut out = Vec::new();
        let fault = loop {
            match stream.read(&mut out) {
                Ok(more) => assert!(more),
                Err(fault) => break fault,
            }
        };
        assert_eq!((out.len(), fault), (50, ClipFault::Truncated { have: 50, promised: 128 }));
    }
}
