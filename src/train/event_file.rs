//! The figures of a run's epochs as an event file of TensorBoard.
//!
//! **Format** records of `length (u64), masked CRC-32C of the length, data, masked CRC-32C of the data`, little-endian (TFRecord); the data are
//! `Event` messages in the encoding of Protocol Buffers. **Sources** TensorFlow, `core/util/event.proto`, `core/framework/summary.proto`,
//! `core/lib/io/record_writer.cc`; Castagnoli, Bräuer and Herrmann, "Optimization of cyclic redundancy-check codes", 1993.

use super::error::TrainError;
use super::metrics::EpochRecord;
use super::run_folder::write_atomically;
use std::path::Path;

/// The number of a field and its wire type, as Protocol Buffers encode them in one byte.
mod field {
    const VARINT: u8 = 0;
    const FIXED_64: u8 = 1;
    const BYTES: u8 = 2;
    const FIXED_32: u8 = 5;
    pub const EVENT_WALL_TIME: u8 = 1 << 3 | FIXED_64;
    pub const EVENT_STEP: u8 = 2 << 3 | VARINT;
    pub const EVENT_FILE_VERSION: u8 = 3 << 3 | BYTES;
    pub const EVENT_SUMMARY: u8 = 5 << 3 | BYTES;
    pub const SUMMARY_VALUE: u8 = 1 << 3 | BYTES;
    pub const VALUE_TAG: u8 = 1 << 3 | BYTES;
    pub const VALUE_SIMPLE: u8 = 2 << 3 | FIXED_32;
}

/// Writes the event file of the epochs so far. `start` is when the run began, in seconds since 1970; the time of an epoch is `start` plus the
/// seconds of the epochs up to it.
pub fn write(path: &Path, start: f64, records: &[EpochRecord]) -> Result<(), TrainError> {
    write_atomically(path, &encoded(start, records))
}

fn encoded(start: f64, records: &[EpochRecord]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut version = wall_time(start);
    bytes(&mut version, field::EVENT_FILE_VERSION, b"brain.Event:2");
    record(&mut file, &version);
    let mut time = start;
    for of in records {
        time += of.seconds;
        let figures = [
            ("loss/training", Some(of.train_loss)),
            ("loss/validation", of.validation_loss),
            ("accuracy/training", Some(of.train_accuracy)),
            ("accuracy/validation", of.validation_accuracy),
            ("learning rate", Some(of.lr.into())),
            ("clips per second", Some(of.clips_per_second)),
        ];
        let mut summary = Vec::new();
        for (tag, value) in figures.into_iter().filter_map(|(tag, value)| Some((tag, value?))) {
            let mut message = Vec::new();
            bytes(&mut message, field::VALUE_TAG, tag.as_bytes());
            message.push(field::VALUE_SIMPLE);
            message.extend((value as f32).to_le_bytes());
            bytes(&mut summary, field::SUMMARY_VALUE, &message);
        }
        let mut event = wall_time(time);
        event.push(field::EVENT_STEP);
        varint(&mut event, of.epoch);
        bytes(&mut event, field::EVENT_SUMMARY, &summary);
        record(&mut file, &event);
    }
    file
}

/// An event with its time.
fn wall_time(seconds: f64) -> Vec<u8> {
    let mut event = vec![field::EVENT_WALL_TIME];
    event.extend(seconds.to_le_bytes());
    event
}

fn bytes(message: &mut Vec<u8>, field: u8, content: &[u8]) {
    message.push(field);
    varint(message, content.len() as u64);
    message.extend(content);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

fn record(file: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    for part in [&length[..], data] {
        file.extend(part);
        file.extend(masked(crc32c(part)).to_le_bytes());
    }
}

/// The checksum as it is stored: rotated and offset, so that the checksum of data that contain checksums is not degenerate.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn crc32c(data: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78; // 0x1EDC6F41 with its bits reversed
    let bit = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
    !data.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| bit(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn a_file_has_a_version_and_an_event_for_each_epoch() {
        let record = |epoch| EpochRecord {
            epoch,
            train_loss: 0.5,
            train_accuracy: 0.75,
            validation_loss: None,
            validation_accuracy: None,
            lr: 0.25,
            seconds: 2.0,
            clips_per_second: 100.0,
            weights: String::new(),
        };
        let file = encoded(1000.0, &[record(1), record(300)]);
        let mut rest = &file[..];
        let mut events = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let data = &rest[12..12 + length];
            assert_eq!(rest[8..12], masked(crc32c(&rest[..8])).to_le_bytes());
            assert_eq!(rest[12 + length..16 + length], masked(crc32c(data)).to_le_bytes());
            events.push(data);
            rest = &rest[16 + length..];
        }
        assert_eq!(events.len(), 3);
        assert!(events[0].ends_with(b"brain.Event:2"));
        assert_eq!(events[1][1..9], 1002.0f64.to_le_bytes());
        assert_eq!(events[2][9..12], [field::EVENT_STEP, 0xac, 0x02], "300 takes two bytes");
        let text = String::from_utf8_lossy(events[1]);
        assert!(text.contains("accuracy/training") && !text.contains("validation"), "{text}");
    }
}
