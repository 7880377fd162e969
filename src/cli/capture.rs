//! What a driver delivers, on its way to the program: as samples of one channel, in a queue that never blocks the driver.

use cpal::SampleFormat;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Reads the frames of a driver.
#[derive(Clone, Copy)]
pub struct Frames {
    /// The value of the bytes of a sample, with full scale 1.
    value: fn(&[u8]) -> f64,
    /// Bytes of a sample.
    size: usize,
    channels: usize,
}

impl Frames {
    /// Frames of so many channels in this format; nothing if it is not PCM, or there is no channel.
    pub fn new(format: SampleFormat, channels: u16) -> Option<Frames> {
        let value: fn(&[u8]) -> f64 = match format {
            SampleFormat::I8 => |b| signed(b, 8),
            SampleFormat::I16 => |b| signed(b, 16),
            // Drivers do not agree on the highest byte of the 32 bits.
            SampleFormat::I24 => |b| signed(b, 24),
            SampleFormat::I32 => |b| signed(b, 32),
            SampleFormat::I64 => |b| signed(b, 64),
            SampleFormat::U8 => |b| unsigned(b, 8),
            SampleFormat::U16 => |b| unsigned(b, 16),
            SampleFormat::U24 => |b| unsigned(b, 24),
            SampleFormat::U32 => |b| unsigned(b, 32),
            SampleFormat::U64 => |b| unsigned(b, 64),
            SampleFormat::F32 => |b| b.try_into().map_or(0.0, |b| f64::from(f32::from_ne_bytes(b))),
            SampleFormat::F64 => |b| b.try_into().map_or(0.0, f64::from_ne_bytes),
            _ => return None,
        };
        (channels > 0).then_some(Frames { value, size: format.sample_size(), channels: channels.into() })
    }

    /// The mean of the channels of each frame. Numbers that are not finite, which a resampler would spread, are 0.
    pub fn mono(self, bytes: &[u8]) -> impl Iterator<Item = f32> {
        bytes.chunks_exact(self.size * self.channels).map(move |frame| {
            let sum: f64 = frame.chunks_exact(self.size).map(self.value).sum();
            let mean = (sum / self.channels as f64) as f32;
            if mean.is_finite() { mean } else { 0.0 }
        })
    }
}

/// The bytes of a sample in the highest bits of a number, of which `bits` are significant.
fn highest(bytes: &[u8], bits: u32) -> u64 {
    let mut wide = [0; 8];
    let at = if cfg!(target_endian = "big") { 8 - bytes.len().min(8) } else { 0 };
    wide.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    u64::from_ne_bytes(wide) << (64 - bits)
}

fn signed(bytes: &[u8], bits: u32) -> f64 {
    highest(bytes, bits) as i64 as f64 / (1u64 << 63) as f64
}

fn unsigned(bytes: &[u8], bits: u32) -> f64 {
    (highest(bytes, bits) ^ (1 << 63)) as i64 as f64 / (1u64 << 63) as f64
}

/// A queue of samples from one thread to another. Neither waits for the other, and nothing is allocated after it was made; samples that find no room are counted.
pub struct Queue {
    /// The bits of the samples.
    slots: Box<[AtomicU32]>,
    /// Samples that were ever put in, and taken out; both wrap around.
    written: AtomicUsize,
    read: AtomicUsize,
    lost: AtomicU64,
}

impl Queue {
    /// A queue of at least so many samples.
    pub fn new(samples: usize) -> Queue {
        let slots = (0..samples.next_power_of_two()).map(|_| AtomicU32::new(0)).collect();
        Queue { slots, written: AtomicUsize::new(0), read: AtomicUsize::new(0), lost: AtomicU64::new(0) }
    }

    /// Puts samples in. Only one thread may do so.
    pub fn push(&self, samples: impl Iterator<Item = f32>) {
        let written = self.written.load(Ordering::Relaxed);
        let room = self.slots.len() - written.wrapping_sub(self.read.load(Ordering::Acquire));
        let mut count = 0;
        for sample in samples {
            if count < room {
                self.slot(written.wrapping_add(count)).store(sample.to_bits(), Ordering::Relaxed);
            }
            count += 1;
        }
        self.written.store(written.wrapping_add(count.min(room)), Ordering::Release);
        self.lost.fetch_add(count.saturating_sub(room) as u64, Ordering::Relaxed);
    }

    /// Appends at most `most` samples to `out`, and returns how many. Only one thread may do so.
    pub fn take(&self, most: usize, out: &mut Vec<f32>) -> usize {
        let read = self.read.load(Ordering::Relaxed);
        let count = self.written.load(Ordering::Acquire).wrapping_sub(read).min(most);
        let bits = (0..count).map(|i| self.slot(read.wrapping_add(i)).load(Ordering::Relaxed));
        out.extend(bits.map(f32::from_bits));
        self.read.store(read.wrapping_add(count), Ordering::Release);
        count
    }

    /// Samples that found no room.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn slot(&self, index: usize) -> &AtomicU32 {
        &self.slots[index & (self.slots.len() - 1)]
    }
}

/// What a user is told of sound that is missing at the end, if any is.
pub fn missing(lost: u64, rate_hz: u32, overruns: u64) -> Option<String> {
    let seconds = (lost as f64 / f64::from(rate_hz)).max(0.01);
    let late = (lost > 0)
        .then(|| format!("{seconds:.2} s of sound arrived faster than they could be processed, and were left out"));
    let overruns = (overruns > 0).then(|| {
        let times = if overruns == 1 { "once".to_string() } else { format!("{overruns} times") };
        format!("the driver's buffer overran {times}, and sound is missing there")
    });
    let parts: Vec<String> = late.into_iter().chain(overruns).collect();
    (!parts.is_empty()).then(|| format!("note: {}", parts.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn mono(format: SampleFormat, channels: u16, bytes: &[u8]) -> Vec<f32> {
        Frames::new(format, channels).unwrap().mono(bytes).collect()
    }

    #[test]
    fn every_format_has_its_full_scale_and_its_zero() {
        use SampleFormat::*;
        let cases: [(SampleFormat, Vec<u8>, f32); 22] = [
            (I8, (-128i8).to_ne_bytes().to_vec(), -1.0),
            (I8, 64i8.to_ne_bytes().to_vec(), 0.5),
            (I16, i16::MIN.to_ne_bytes().to_vec(), -1.0),
            (I16, 8192i16.to_ne_bytes().to_vec(), 0.25),
            (I24, (-(1i32 << 23)).to_ne_bytes().to_vec(), -1.0),
            (I24, (1i32 << 22).to_ne_bytes().to_vec(), 0.5),
            (I32, i32::MIN.to_ne_bytes().to_vec(), -1.0),
            (I32, (1i32 << 29).to_ne_bytes().to_vec(), 0.25),
            (I64, i64::MIN.to_ne_bytes().to_vec(), -1.0),
            (U8, vec![0], -1.0),
            (U8, vec![192], 0.5),
            (U16, 0u16.to_ne_bytes().to_vec(), -1.0),
            (U16, 32768u16.to_ne_bytes().to_vec(), 0.0),
            (U24, (1u32 << 23).to_ne_bytes().to_vec(), 0.0),
            (U24, (3u32 << 22).to_ne_bytes().to_vec(), 0.5),
            (U32, (1u32 << 31).to_ne_bytes().to_vec(), 0.0),
            (U32, (3u32 << 30).to_ne_bytes().to_vec(), 0.5),
            (U64, (1u64 << 63).to_ne_bytes().to_vec(), 0.0),
            (F32, 0.3f32.to_ne_bytes().to_vec(), 0.3),
            (F32, f32::NAN.to_ne_bytes().to_vec(), 0.0),
            (F64, (-0.75f64).to_ne_bytes().to_vec(), -0.75),
            (F64, f64::MAX.to_ne_bytes().to_vec(), 0.0),
        ];
        for (format, bytes, wanted) in cases {
            assert_eq!(mono(format, 1, &bytes), [wanted], "{format} {bytes:?}");
        }
        assert!(Frames::new(DsdU8, 1).is_none() && Frames::new(I16, 0).is_none());
    }

    #[test]
    fn the_highest_byte_of_24_bits_is_ignored() {
        for highest in [0u32, 0x7F, 0xFF] {
            let minus_a_half = (highest << 24) | 0xC0_0000;
            assert_eq!(mono(SampleFormat::I24, 1, &minus_a_half.to_ne_bytes()), [-0.5]);
            assert_eq!(mono(SampleFormat::U24, 1, &minus_a_half.to_ne_bytes()), [0.5]);
        }
    }

    #[test]
    fn channels_are_averaged_and_a_part_of_a_frame_is_left_out() {
        let bytes: Vec<u8> = [16384i16, 0, -8192, -16384, 77].iter().flat_map(|v| v.to_ne_bytes()).collect();
        assert_eq!(mono(SampleFormat::I16, 2, &bytes), [0.25, -0.375]);
    }

    #[test]
    fn a_full_queue_counts_what_is_lost_and_keeps_what_it_has() {
        let queue = Queue::new(5);
        let mut out = Vec::new();
        queue.push((0..6).map(|i| i as f32));
        queue.push((6..10).map(|i| i as f32));
        assert_eq!((queue.take(3, &mut out), queue.lost()), (3, 2));
        queue.push((10..12).map(|i| i as f32));
        assert_eq!((queue.take(100, &mut out), queue.take(100, &mut out), queue.lost()), (7, 0, 2));
        assert_eq!(out, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 10.0, 11.0]);
    }

    #[test]
    fn nothing_is_lost_between_threads_while_there_is_room() {
        let queue = Arc::new(Queue::new(1 << 17));
        let writer = Arc::clone(&queue);
        let thread = std::thread::spawn(move || {
            for piece in 0..1000 {
                writer.push((0..100).map(|i| (piece * 100 + i) as f32));
            }
        });
        let mut out = Vec::new();
        while out.len() < 100_000 {
            queue.take(777, &mut out);
        }
        thread.join().unwrap();
        assert_eq!(queue.lost(), 0);
        assert!(out.iter().enumerate().all(|(i, &sample)| sample == i as f32));
    }

    #[test]
    fn missing_sound_is_one_sentence() {
        assert_eq!(missing(0, 16_000, 0), None);
        let both = missing(24_000, 16_000, 2).unwrap();
        assert!(both.contains("1.50 s of sound") && both.contains("overran 2 times"), "{both}");
        assert!(missing(1, 48_000, 0).unwrap().contains("0.01 s"));
        assert!(missing(0, 48_000, 1).unwrap().contains("once"));
    }
}
