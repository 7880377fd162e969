//! Floor 1. The recordings inside the program: twelve words, 3,912 clips, by fixtures/words/make.py.

use super::source::Embedded;

macro_rules! stream {
    ($word:literal) => {
        ($word, include_bytes!(concat!("../../fixtures/words/", $word, ".ogg")))
    };
}

const WORDS: &[(&str, &[u8])] = &[
    stream!("bed"),
    stream!("cat"),
    stream!("eight"),
    stream!("five"),
    stream!("four"),
    stream!("nine"),
    stream!("one"),
    stream!("seven"),
    stream!("six"),
    stream!("three"),
    stream!("two"),
    stream!("zero"),
];

/// The built-in set: the digits, "bed" and "cat" from Google Speech Commands (Warden 2018, CC BY 4.0), coded as Ogg
/// Vorbis, split by speaker.
pub fn embedded() -> Embedded<'static> {
    Embedded { words: WORDS, index: include_str!("../../fixtures/words/index.tsv") }
}
