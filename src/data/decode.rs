//! FLAC and Ogg Vorbis bytes to values, through symphonia.
//!
//! The decoder is not ours and its input is hostile: a panic inside it becomes a fault of the clip, the number of values
//! is bounded while decoding, and what it passes over in silence (a stream that stops early, a checksum that differs) is
//! asked for.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::default::codecs::{FlacDecoder, VorbisDecoder};
use symphonia::default::formats::{FlacReader, OggReader};

use super::error::ClipFault;
use super::pcm::{Pcm, Values};

/// The two compressed formats, by their first four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Flac,
    Ogg,
}

/// Decodes a whole file of at most `limit` values, channels interleaved.
pub(super) fn read(bytes: &[u8], container: Container, limit: usize) -> Result<Pcm, ClipFault> {
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(bytes, container, limit)));
    decoded.unwrap_or_else(|_| Err(damaged("the decoder gave up")))
}

fn damaged(reason: impl ToString) -> ClipFault {
    ClipFault::Damaged { reason: reason.to_string() }
}

fn decode(bytes: &[u8], container: Container, limit: usize) -> Result<Pcm, ClipFault> {
    if container == Container::Ogg && !ogg_is_complete(bytes) {
        return Err(ClipFault::CutStream);
    }
    let stream = MediaSourceStream::new(Box::new(Cursor::new(bytes)), Default::default());
    let options = FormatOptions::default();
    let mut reader: Box<dyn FormatReader> = match container {
        Container::Flac => Box::new(FlacReader::try_new(stream, options).map_err(fault_of)?),
        Container::Ogg => Box::new(OggReader::try_new(stream, options).map_err(fault_of)?),
    };
    let track = reader.default_track(TrackType::Audio).ok_or_else(|| damaged("it has no sound track"))?;
    let (track_id, promised) = (track.id, track.num_frames);
    let params = track.codec_params.as_ref().and_then(|p| p.audio());
    let params = params.ok_or_else(|| damaged("it does not name its coding"))?;
    let checked = AudioDecoderOptions::default().verify(true);
    let mut decoder: Box<dyn AudioDecoder> = match container {
        Container::Flac => Box::new(FlacDecoder::try_new(params, &checked).map_err(fault_of)?),
        Container::Ogg => Box::new(VorbisDecoder::try_new(params, &checked).map_err(fault_of)?),
    };
    let pcm = decode_packets(reader.as_mut(), decoder.as_mut(), track_id, limit)?;
    let have = (pcm.values.len() / pcm.channels.max(1) as usize) as u64;
    match promised {
        Some(promised) if have < promised => return Err(ClipFault::Incomplete { have, promised }),
        _ if have == 0 => return Err(ClipFault::NoSamples),
        _ => {}
    }
    if decoder.finalize().verify_ok == Some(false) {
        return Err(damaged("the checksum of its samples differs"));
    }
    Ok(pcm)
}

fn decode_packets(
    reader: &mut dyn FormatReader,
    decoder: &mut dyn AudioDecoder,
    track_id: u32,
    limit: usize,
) -> Result<Pcm, ClipFault> {
    let mut pcm = Pcm { values: Values::F32(Vec::new()), channels: 0, rate_hz: 0 };
    let mut block: Vec<f32> = Vec::new();
    let mut all: Vec<f32> = Vec::new();
    loop {
        let packet = match reader.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            // An end in the middle of a packet: how much is missing is judged by the length that was promised.
            Err(Error::IoError(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(e) => return Err(fault_of(e)),
        };
        if packet.track_id != track_id {
            continue;
        }
        let buffer = decoder.decode(&packet).map_err(fault_of)?;
        let (channels, rate_hz) = (buffer.spec().channels().count() as u32, buffer.spec().rate());
        if pcm.channels != 0 && (pcm.channels, pcm.rate_hz) != (channels, rate_hz) {
            return Err(damaged("its rate or channel count changes on the way"));
        }
        (pcm.channels, pcm.rate_hz) = (channels, rate_hz);
        if all.len() + buffer.samples_interleaved() > limit {
            return Err(ClipFault::TooLong { limit: limit as u64 });
        }
        buffer.copy_to_vec_interleaved(&mut block);
        all.extend_from_slice(&block);
    }
    pcm.values = Values::F32(all);
    Ok(pcm)
}

fn fault_of(error: Error) -> ClipFault {
    match error {
        Error::Unsupported(what) => ClipFault::UnsupportedCoding { coding: what.into() },
        Error::ResetRequired => damaged("several streams follow one another in it"),
        Error::IoError(_) => damaged("it ends within a header"),
        other => damaged(other),
    }
}

/// Whether the pages of an Ogg file lie one behind the other up to the last byte and the last one ends the stream.
fn ogg_is_complete(bytes: &[u8]) -> bool {
    const ENDS_STREAM: u8 = 4;
    let (mut at, mut ended) = (0, false);
    while at < bytes.len() {
        let Some(&[.., segments]) = bytes.get(at..at + 27) else {
            return false;
        };
        if &bytes[at..at + 4] != b"OggS" {
            return false;
        }
        ended = bytes[at + 5] & ENDS_STREAM != 0;
        let Some(table) = bytes.get(at + 27..at + 27 + usize::from(segments)) else {
            return false;
        };
        at += 27 + table.len() + table.iter().map(|&n| usize::from(n)).sum::<usize>();
    }
    ended && at == bytes.len()
}
