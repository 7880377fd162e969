//! Clips inside the program: one Ogg Vorbis stream a word, decoded on all threads, and cut by an index.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::base::Name;

use super::clip::{ClipReader, finite};
use super::decode::{self, Stream};
use super::error::{ClipError, ClipFault, DataError};
use super::layout::Found;
use super::pcm::{Pcm, Values};
use super::prepare::{Outcome, Sink, Stop, prepare};
use super::source::{Embedded, Stage, Wanted};
use super::split::Split;

/// Most values of a stream: 4 hours of 16 kHz mono.
const MAX_STREAM_VALUES: usize = 1 << 28;

/// A line of the index.
struct Row<'a> {
    line: usize,
    word: &'a str,
    clip: &'a str,
    split: Split,
    start: usize,
    len: usize,
}

/// Decodes the wanted clips into `sink`, word by word in the order of the words, clips in that of the index.
pub(super) fn read(embedded: &Embedded<'_>, wanted: &Wanted<'_>, sink: Sink<'_>) -> Result<Found, Stop> {
    let rows = parse(embedded)?;
    let mut words: Vec<Name> = embedded.words.iter().map(|&(word, _)| word.into()).collect();
    words.sort_unstable();
    let chosen: Vec<_> = embedded.words.iter().filter(|&&(word, _)| wanted.wants(&word.into())).collect();
    let (mut done, total) = (0, rows.iter().filter(|r| wanted.wants(&r.word.into())).count() as u64);
    // As many words at a time as there are threads: a word of 400 clips is 13 MB.
    for block in chosen.chunks(rayon::current_num_threads().max(1)) {
        wanted.report(Stage::Reading, done, total)?;
        let decoded: Vec<Result<Vec<Outcome>, DataError>> =
            block.par_iter().map(|(word, ogg)| read_word(word, ogg, &rows, wanted)).collect();
        for outcomes in decoded {
            for outcome in outcomes? {
                sink(outcome)?;
                done += 1;
            }
        }
    }
    wanted.report(Stage::Reading, total, total)?;
    let counts = words.iter().map(|word| rows.iter().filter(|row| *word == row.word).count() as u64).collect();
    Ok(Found { words, counts, ..Found::default() })
}

fn parse<'a>(embedded: &Embedded<'a>) -> Result<Vec<Row<'a>>, DataError> {
    let mut rows = Vec::new();
    // Where the last clip of each word ends.
    let mut ends = BTreeMap::new();
    let mut before = [""; 4];
    for (at, text) in embedded.index.lines().enumerate() {
        let line = at + 1;
        let wrong = |reason: String| DataError::BadIndex { line, reason };
        if text.is_empty() || (line == 1 && text.starts_with("word\t")) {
            continue;
        }
        let mut columns: Vec<&str> = text.split('\t').collect();
        // An empty column has the value of the row before.
        columns.iter_mut().zip(before).filter(|(own, _)| own.is_empty()).for_each(|(own, before)| *own = before);
        let &[word, clip, split, len] = columns.as_slice() else {
            return Err(wrong(format!("it has {} columns instead of 4", columns.len())));
        };
        before = [word, clip, split, len];
        if !embedded.words.iter().any(|(w, _)| *w == word) {
            return Err(wrong(format!("there is no sound for `{word}`")));
        }
        let split = Split::from_name(split).ok_or_else(|| wrong(format!("`{split}` is no split")))?;
        let len = len.parse::<u32>().map_err(|_| wrong(format!("`{len}` is no number of samples")))? as usize;
        // The clips of a word follow one another.
        let end = ends.entry(word).or_insert(0usize);
        let start = *end;
        *end = start.saturating_add(len);
        rows.push(Row { line, word, clip, split, start, len });
    }
    Ok(rows)
}

fn read_word(word: &str, ogg: &[u8], rows: &[Row<'_>], wanted: &Wanted<'_>) -> Result<Vec<Outcome>, DataError> {
    let mut rows = rows.iter().filter(|r| r.word == word).peekable();
    let Some(first) = rows.peek().map(|r| r.line) else {
        return Ok(Vec::new());
    };
    let broken =
        |fault: ClipFault| DataError::BadIndex { line: first, reason: format!("the sound of `{word}`: {fault}") };
    let stream = decode::read(ogg, Stream::OggVorbis, MAX_STREAM_VALUES).map_err(broken)?;
    let (channels, rate_hz) = (stream.channels, stream.rate_hz);
    let values = finite(stream.values).map_err(broken)?;
    let mut reader = ClipReader::new(wanted.format, MAX_STREAM_VALUES);
    rows.map(|row| {
        let wide = channels as usize;
        let range = row.start.saturating_mul(wide)..row.start.saturating_add(row.len).saturating_mul(wide);
        let part = values.get(range).ok_or_else(|| DataError::BadIndex {
            line: row.line,
            reason: format!("the sound of `{word}` ends at sample {}", values.len() / wide),
        })?;
        let name = Name::from(format!("{word}/{}", row.clip));
        let pcm = Pcm { values: Values::F32(part.to_vec()), channels, rate_hz };
        Ok(match reader.convert(pcm) {
            Ok(clip) => Ok(prepare(name, Some(row.split), clip, wanted)),
            Err(fault) => Err(ClipError { name, fault }),
        })
    })
    .collect()
}
