//! Decodes WAV files: hound reads regular files, and a parser of our own reads valid files that hound refuses and names
//! the fault of all others.
//!
//! hound refuses sizes of 0 or 0xFFFFFFFF (a program that writes to a pipe cannot go back to fill them in), data that end
//! within a frame, padded chunks of odd length, mu-law, A-law, 64-bit floats, and the variants RF64, BW64 and RIFX. The
//! parser reads all of these, and bounds every length of the header by the length of the file.

use std::io::{Cursor, ErrorKind, Read};

use super::error::ClipFault;
use super::pcm::{Pcm, Values};

/// Data sizes that mean "until the end", as programs leave them in the header when they write to a pipe.
/// 0xFFFFFFFF and its even neighbour: ffmpeg and others; 0x7FFFF000: SoX; 0x80000000 and 0x7FFFFF00: arecord.
const UNTIL_THE_END: [u32; 5] = [0xFFFF_FFFF, 0xFFFF_FFFE, 0x7FFF_F000, 0x8000_0000, 0x7FFF_FF00];

/// How a value is coded in its container of whole bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Integer,
    Float,
    MuLaw,
    ALaw,
}

/// The byte order of a file: little-endian in RIFF, big-endian in RIFX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    fn u16_at(self, bytes: &[u8], at: usize) -> Option<u16> {
        let value = bytes.get(at..at + 2)?.try_into().ok()?;
        Some(if self == ByteOrder::Big { u16::from_be_bytes(value) } else { u16::from_le_bytes(value) })
    }

    fn u32_at(self, bytes: &[u8], at: usize) -> Option<u32> {
        let value = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(if self == ByteOrder::Big { u32::from_be_bytes(value) } else { u32::from_le_bytes(value) })
    }
}

/// The content of the `fmt ` chunk.
#[derive(Clone, Copy, Debug)]
struct Layout {
    order: ByteOrder,
    coding: Coding,
    bytes: usize, // a value
    channels: u32,
    rate_hz: u32,
}

/// Reads a RIFF (or RF64) WAVE file of at most `limit` values.
pub(super) fn read(bytes: &[u8], limit: usize) -> Result<Pcm, ClipFault> {
    match read_with_hound(bytes, limit) {
        Some(pcm) => Ok(pcm),
        None => read_by_chunks(bytes, limit),
    }
}

/// The file as hound reads it, or nothing if hound refuses it or if its header is irregular.
fn read_with_hound(bytes: &[u8], limit: usize) -> Option<Pcm> {
    let mut cursor = Cursor::new(bytes);
    hound::WavReader::new(&mut cursor).ok()?;
    let start = cursor.position() as usize;
    cursor.set_position(0);
    let reader = hound::WavReader::new(cursor).ok()?;
    let spec = reader.spec();
    let len = reader.len() as usize;
    // The size in front of the data tells the container, which hound keeps to itself: 24 bits in four bytes are
    // left-justified by the standard and right-justified to hound.
    let size = u32::from_le_bytes(bytes.get(start.checked_sub(4)?..start)?.try_into().ok()?) as usize;
    let regular = len > 0 && len <= limit && size == len * usize::from(spec.bits_per_sample / 8);
    if !regular || size > bytes.len() - start {
        return None;
    }
    let values = match (spec.sample_format, spec.bits_per_sample) {
        (hound::SampleFormat::Int, 16) => Values::I16(reader.into_samples::<i16>().collect::<Result<_, _>>().ok()?),
        (hound::SampleFormat::Int, bits @ (8 | 24 | 32)) => {
            let scale = 1.0 / (1u64 << (bits - 1)) as f32;
            let scaled = |value: i32| value as f32 * scale;
            Values::F32(reader.into_samples::<i32>().map(|v| v.map(scaled)).collect::<Result<_, _>>().ok()?)
        }
        (hound::SampleFormat::Float, 32) => Values::F32(reader.into_samples::<f32>().collect::<Result<_, _>>().ok()?),
        _ => return None,
    };
    Some(Pcm { values, channels: spec.channels.into(), rate_hz: spec.sample_rate })
}

fn bad(reason: impl Into<String>) -> ClipFault {
    ClipFault::BadHeader { reason: reason.into() }
}

/// Reads the chunks one after another, as the standard describes them.
fn read_by_chunks(bytes: &[u8], limit: usize) -> Result<Pcm, ClipFault> {
    if bytes.get(8..12) != Some(b"WAVE") {
        return Err(bad("the WAVE identifier is missing"));
    }
    let order = if bytes.starts_with(b"RIFX") { ByteOrder::Big } else { ByteOrder::Little };
    let riff_size = order.u32_at(bytes, 4).ok_or_else(|| bad("it ends within its first 12 bytes"))?;
    let (mut layout, mut size64, mut at) = (None, None, 12usize);
    loop {
        let (Some(id), Some(size)) = (bytes.get(at..at + 4), order.u32_at(bytes, at + 4)) else {
            return Err(bad(if layout.is_some() { "there is no data chunk" } else { "there is no fmt chunk" }));
        };
        let body = &bytes[at + 8..];
        match id {
            b"fmt " => layout = Some(layout_of(&body[..body.len().min(size as usize)], order)?),
            b"ds64" => size64 = body.get(8..16).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes),
            b"data" => {
                let layout = layout.ok_or_else(|| bad("the data chunk comes before the fmt chunk"))?;
                let promised = promised_size(size, size64, riff_size, bytes.len(), body.len());
                return read_data(body, promised, layout, limit);
            }
            _ => {}
        }
        // Chunks start at even positions: one of odd length is followed by a byte of padding, which some programs forget.
        let end = at.saturating_add(8).saturating_add(size as usize);
        let padded = size & 1 == 1 && !matches!(bytes.get(end..end.saturating_add(4)), Some(b"data" | b"fmt "));
        at = end.saturating_add(usize::from(padded)).min(bytes.len());
    }
}

/// The bytes of audio that the headers state; a placeholder means all bytes up to the end, `there`.
fn promised_size(size: u32, size64: Option<u64>, riff_size: u32, file: usize, there: usize) -> u64 {
    if let (0xFFFF_FFFF, Some(size)) = (size, size64) {
        return size;
    }
    // A size of 0 is true in a finished file, whose outer size fits, and unknown in one that came out of a pipe.
    let finished = (riff_size as usize).abs_diff(file.saturating_sub(8)) <= 1;
    if UNTIL_THE_END.contains(&size) || (size == 0 && !finished) { there as u64 } else { u64::from(size) }
}

fn layout_of(fmt: &[u8], order: ByteOrder) -> Result<Layout, ClipFault> {
    let field = |at| order.u16_at(fmt, at).ok_or_else(|| bad("its fmt chunk is too short"));
    let mut tag = field(0)?;
    let channels = field(2)?;
    let rate_hz = order.u32_at(fmt, 4).ok_or_else(|| bad("its fmt chunk is too short"))?;
    let (block, bits) = (field(12)?, field(14)?);
    if tag == 0xFFFE {
        tag = field(24)?; // WAVE_FORMAT_EXTENSIBLE: the first two bytes of the sub-format's GUID are the tag
    }
    if channels == 0 {
        return Err(bad("it has no channels"));
    }
    let bytes = usize::from(block / channels);
    if block % channels != 0 || bytes == 0 || usize::from(bits) > 8 * bytes {
        return Err(bad(format!("frames of {block} bytes do not hold {channels} channels of {bits} bits")));
    }
    let coding = match (tag, bytes) {
        (1, 1..=4) => Coding::Integer,
        (3, 4 | 8) => Coding::Float,
        (6, 1) => Coding::ALaw,
        (7, 1) => Coding::MuLaw,
        (1 | 3 | 6 | 7, _) => {
            return Err(ClipFault::UnsupportedCodec { codec: format!("WAV code {tag} with {bytes} bytes a value") });
        }
        (2 | 0x11, _) => {
            return Err(ClipFault::UnsupportedCodec { codec: "ADPCM".into() });
        }
        (0x50 | 0x55, _) => {
            return Err(ClipFault::UnsupportedCodec { codec: "MPEG audio in WAV".into() });
        }
        _ => {
            return Err(ClipFault::UnsupportedCodec { codec: format!("WAV code {tag}") });
        }
    };
    Ok(Layout { order, coding, bytes, channels: channels.into(), rate_hz })
}

/// Decodes the whole frames of `body`; an incomplete frame at the end is left out.
fn read_data(body: &[u8], promised: u64, layout: Layout, limit: usize) -> Result<Pcm, ClipFault> {
    let frame = layout.bytes * layout.channels as usize;
    let (promised, have) = (promised / frame as u64, (body.len() / frame) as u64);
    if promised > have {
        return Err(ClipFault::Truncated { have, promised });
    }
    let frames = promised as usize; // at most `have`, so it fits
    if frames == 0 {
        return Err(ClipFault::NoSamples);
    }
    if frames * layout.channels as usize > limit {
        return Err(ClipFault::TooLong { limit: limit as u64 });
    }
    let data = &body[..frames * frame];
    let values = match layout.order {
        ByteOrder::Little => decode(data, layout),
        ByteOrder::Big => {
            let mut swapped = data.to_vec();
            swapped.chunks_exact_mut(layout.bytes).for_each(<[u8]>::reverse);
            decode(&swapped, layout)
        }
    };
    Ok(Pcm { values, channels: layout.channels, rate_hz: layout.rate_hz })
}

/// A WAV file that is read piece by piece, or values without a header.
pub(super) struct WavStream {
    layout: Layout,
    /// Bytes of audio that the header still promises; none if they go on until the end.
    promised: Option<u64>,
    /// Frames so far.
    have: u64,
    /// The beginning of a frame whose rest has not arrived.
    part: Vec<u8>,
}

impl WavStream {
    /// Reads the header.
    pub(super) fn begin(bytes: &mut impl Read) -> Result<WavStream, ClipFault> {
        let mut head = [0; 12];
        fill(bytes, &mut head)?;
        if &head[8..] != b"WAVE" {
            return Err(bad("the WAVE identifier is missing"));
        }
        let order = if head.starts_with(b"RIFX") { ByteOrder::Big } else { ByteOrder::Little };
        let (mut layout, mut size64) = (None, None);
        loop {
            let mut chunk = [0; 8];
            fill(bytes, &mut chunk)?;
            let size = order.u32_at(&chunk, 4).unwrap_or(0);
            match &chunk[..4] {
                b"data" => {
                    let layout = layout.ok_or_else(|| bad("the data chunk comes before the fmt chunk"))?;
                    let promised = match (size, size64) {
                        (0xFFFF_FFFF, Some(size)) => Some(size),
                        // A program that writes to a pipe cannot know the size, and leaves 0 or the largest one.
                        (size, _) if size == 0 || UNTIL_THE_END.contains(&size) => None,
                        (size, _) => Some(u64::from(size)),
                    };
                    return Ok(WavStream { layout, promised, have: 0, part: Vec::new() });
                }
                id => {
                    // Only the two chunks that are used are kept; others may be long.
                    let kept = if matches!(id, b"fmt " | b"ds64") { size.min(64) } else { 0 };
                    let mut body = vec![0; kept as usize];
                    fill(bytes, &mut body)?;
                    let rest = u64::from(size - kept) + u64::from(size & 1);
                    std::io::copy(&mut bytes.take(rest), &mut std::io::sink()).map_err(unreadable)?;
                    match id {
                        b"fmt " => layout = Some(layout_of(&body, order)?),
                        b"ds64" => size64 = body.get(8..16).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes),
                        _ => {}
                    }
                }
            }
        }
    }

    /// 16-bit little-endian values of one channel without a header.
    pub(super) fn raw(rate_hz: u32) -> WavStream {
        let layout = Layout { order: ByteOrder::Little, coding: Coding::Integer, bytes: 2, channels: 1, rate_hz };
        WavStream { layout, promised: None, have: 0, part: Vec::new() }
    }

    pub(super) fn rate_hz(&self) -> u32 {
        self.layout.rate_hz
    }

    pub(super) fn channels(&self) -> u32 {
        self.layout.channels
    }

    /// Bytes of a frame whose rest never arrived.
    pub(super) fn left_over(&self) -> usize {
        self.part.len()
    }

    /// The values of the whole frames that have arrived, from at most `most` bytes; waits if none have. None at the end.
    pub(super) fn read(&mut self, bytes: &mut impl Read, most: usize) -> Result<Option<Values>, ClipFault> {
        let frame = self.layout.bytes * self.layout.channels as usize;
        let mut data = std::mem::take(&mut self.part);
        while data.len() < frame {
            let at = data.len();
            let now = self.promised.map_or(most, |promised| promised.min(most as u64) as usize);
            data.resize(at + now, 0);
            let got = loop {
                match bytes.read(&mut data[at..]) {
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    read => break read.map_err(unreadable)?,
                }
            };
            data.truncate(at + got);
            self.promised = self.promised.map(|promised| promised - got as u64);
            if got == 0 {
                self.part = data;
                let missing = self.promised.unwrap_or(0) + self.part.len() as u64;
                let (have, missing) = (self.have, missing / frame as u64);
                let breaks_off = self.promised.is_some_and(|promised| promised > 0) && missing > 0;
                return if breaks_off {
                    Err(ClipFault::Truncated { have, promised: have + missing })
                } else {
                    Ok(None)
                };
            }
        }
        self.part = data.split_off(data.len() / frame * frame);
        self.have += (data.len() / frame) as u64;
        if self.layout.order == ByteOrder::Big {
            data.chunks_exact_mut(self.layout.bytes).for_each(<[u8]>::reverse);
        }
        Ok(Some(decode(&data, self.layout)))
    }
}

/// Fills `buffer`, as far as the header of a file goes.
fn fill(bytes: &mut impl Read, buffer: &mut [u8]) -> Result<(), ClipFault> {
    bytes.read_exact(buffer).map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => bad("it ends within its header"),
        _ => unreadable(e),
    })
}

fn unreadable(error: std::io::Error) -> ClipFault {
    ClipFault::Unreadable { reason: error.to_string() }
}

/// All values of `data`, which holds whole values of `layout`.
fn decode(data: &[u8], layout: Layout) -> Values {
    let values = data.chunks_exact(layout.bytes);
    match (layout.coding, layout.bytes) {
        (Coding::Integer, 1) => Values::F32(data.iter().map(|&b| (f32::from(b) - 128.0) / 128.0).collect()),
        (Coding::Integer, 2) => Values::I16(values.map(|b| i16::from_le_bytes([b[0], b[1]])).collect()),
        (Coding::Integer, 3) => {
            Values::F32(values.map(|b| scaled(i32::from_le_bytes([0, b[0], b[1], b[2]]))).collect())
        }
        (Coding::Integer, _) => {
            Values::F32(values.map(|b| scaled(i32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect())
        }
        (Coding::Float, 4) => Values::F32(values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()),
        (Coding::Float, _) => Values::F32(
            values.map(|b| narrowed(f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))).collect(),
        ),
        (Coding::MuLaw, _) => Values::I16(data.iter().map(|&b| mu_law(b)).collect()),
        (Coding::ALaw, _) => Values::I16(data.iter().map(|&b| a_law(b)).collect()),
    }
}

/// A 64-bit value in 32 bits; a finite value stays finite.
fn narrowed(value: f64) -> f32 {
    if value.is_finite() { value.clamp(f32::MIN.into(), f32::MAX.into()) as f32 } else { value as f32 }
}

/// A value whose full scale is that of `i32`, to `[-1, 1)`.
fn scaled(value: i32) -> f32 {
    (f64::from(value) / 2_147_483_648.0) as f32
}

/// One mu-law byte (**Source**: ITU-T G.711): inverted, then sign, three bits of exponent, four of mantissa, bias 132.
fn mu_law(byte: u8) -> i16 {
    let byte = !byte;
    let magnitude = ((i16::from(byte & 0x0F) << 3) + 132) << ((byte >> 4) & 7);
    if byte & 0x80 != 0 { 132 - magnitude } else { magnitude - 132 }
}

/// One A-law byte (**Source**: ITU-T G.711): every second bit inverted, then sign, exponent and mantissa.
fn a_law(byte: u8) -> i16 {
    let byte = byte ^ 0x55;
    let mantissa = (i16::from(byte & 0x0F) << 4) + 8;
    let magnitude = match (byte >> 4) & 7 {
        0 => mantissa,
        exponent => (mantissa + 256) << (exponent - 1),
    };
    if byte & 0x80 != 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A canonical WAV header for `size` bytes of data.
    fn header(tag: u16, channels: u16, bits: u16, size: u32) -> Vec<u8> {
        let block = channels * bits / 8;
        let mut h = b"RIFF".to_vec();
        h.extend((36 + size).to_le_bytes());
        h.extend(b"WAVEfmt ");
        h.extend(16u32.to_le_bytes());
        for v in [tag, channels] {
            h.extend(v.to_le_bytes());
        }
        h.extend(16_000u32.to_le_bytes());
        h.extend((16_000 * u32::from(block)).to_le_bytes());
        for v in [block, bits] {
            h.extend(v.to_le_bytes());
        }
        h.extend(b"data");
        h.extend(size.to_le_bytes());
        h
    }

    #[test]
    fn hound_and_the_walker_agree_wherever_both_read() {
        for (tag, bits) in [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32)] {
            for channels in [1u16, 2, 5] {
                let mut bytes = header(tag, channels, bits, 40 * u32::from(channels * bits / 8));
                let values = 40 * channels as usize;
                for i in 0..values {
                    let value = ((i as i64 * 7_368_787) % 2_000_003 - 1_000_000) as f32 / 1_000_001.0;
                    match tag {
                        3 => bytes.extend(value.to_le_bytes()),
                        _ => bytes.extend(&((value * 2e9) as i32).to_le_bytes()[4 - bits as usize / 8..]),
                    }
                }
                let hound = read_with_hound(&bytes, 1 << 20).expect("hound reads a regular file");
                assert_eq!(hound, read_by_chunks(&bytes, 1 << 20).unwrap(), "{bits} bits, {channels} channels");
                assert_eq!(hound.values.len(), values);
            }
        }
    }

    #[test]
    fn companded_bytes_are_g711s() {
        // The ends and the smallest steps of both tables, and SoX's values for all 256 bytes.
        assert_eq!([0x00, 0x7F, 0x80, 0xFF, 0x6F].map(mu_law), [-32124, 0, 32124, 0, -132]);
        assert_eq!([0x55, 0xD5, 0x2A, 0xAA, 0x54].map(a_law), [-8, 8, -32256, 32256, -24]);
        let weighted = |f: fn(u8) -> i16| (0..=255u8).map(|b| (i64::from(b) + 1) * i64::from(f(b))).sum::<i64>();
        assert_eq!([weighted(mu_law), weighted(a_law)], [98_107_392, 100_139_008]);
    }
}
