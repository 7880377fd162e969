//! The recordings inside the program: twelve words, 3,912 clips, by fixtures/words/make.py.

use super::source::Embedded;

/// Each word and its stream; `build.rs` lists them.
const WORDS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/words.rs"));

/// The embedded recordings: the digits, "bed" and "cat" from Google Speech Commands (Warden 2018, CC BY 4.0), coded as Ogg
/// Vorbis, split by speaker.
pub fn embedded() -> Embedded<'static> {
    Embedded { words: WORDS, index: include_str!("../../fixtures/words/index.tsv") }
}
