//! FLAC (native and in Ogg) and Ogg Vorbis bytes to values, through symphonia.
//!
//! The input is not trusted: a panic inside the decoder becomes a fault of the clip, the number of values is bounded while
//! decoding, and the number of samples and the checksum that the file states are compared with what was decoded.

use std::io::Cursor;

use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::default::codecs::{FlacDecoder, VorbisDecoder};
use symphonia::default::formats::{FlacReader, OggReader};

use super::error::ClipFault;
use super::pcm::{Pcm, Values};
use super::quiet_panic::catch_quietly;

/// The compressed streams that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Flac,
    OggFlac,
    OggVorbis,
}

/// Decodes a whole stream of at most `limit` values, channels interleaved.
pub(super) fn read(bytes: &[u8], stream: Stream, limit: usize) -> Result<Pcm, ClipFault> {
    let decoded = catch_quietly(|| decode(bytes, stream, limit));
    decoded.unwrap_or_else(|| Err(damaged("the decoder failed")))
}

fn damaged(reason: impl ToString) -> ClipFault {
    ClipFault::Damaged { reason: reason.to_string() }
}

fn decode(bytes: &[u8], stream: Stream, limit: usize) -> Result<Pcm, ClipFault> {
    let source = MediaSourceStream::new(Box::new(Cursor::new(bytes)), Default::default());
    let options = FormatOptions::default();
    let mut reader: Box<dyn FormatReader> = match stream {
        Stream::Flac => Box::new(FlacReader::try_new(source, options).map_err(fault_of)?),
        Stream::OggFlac | Stream::OggVorbis => Box::new(OggReader::try_new(source, options).map_err(fault_of)?),
    };
    let track = reader.default_track(TrackType::Audio).ok_or_else(|| damaged("it has no audio track"))?;
    let (track_id, promised) = (track.id, track.num_frames);
    let params = track.codec_params.as_ref().and_then(|p| p.audio());
    let params = params.ok_or_else(|| damaged("it does not name its codec"))?;
    let checked = AudioDecoderOptions::default().verify(true);
    let mut decoder: Box<dyn AudioDecoder> = match stream {
        Stream::Flac | Stream::OggFlac => Box::new(FlacDecoder::try_new(params, &checked).map_err(fault_of)?),
        Stream::OggVorbis => Box::new(VorbisDecoder::try_new(params, &checked).map_err(fault_of)?),
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
            // An end in the middle of a packet: how much is missing follows from the length that the header states.
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

pub(super) fn fault_of(error: Error) -> ClipFault {
    match error {
        Error::Unsupported(what) => ClipFault::UnsupportedCodec { codec: what.into() },
        Error::ResetRequired => damaged("several streams follow one another in it"),
        Error::IoError(_) => damaged("it ends within a header"),
        other => damaged(other),
    }
}
