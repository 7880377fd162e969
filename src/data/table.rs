//! Data sets that say of each clip which class it is of: arrays, CSV files and Parquet files. Their clips have no word folders, and may name a speaker, or a
//! group that counts as one, and a split.

use std::collections::HashMap;

use crate::base::Name;

use super::layout::Found;
use super::split::{Split, speaker_percentage};

/// Fewer speakers than splits are not divided.
const SPLITS: usize = Split::ALL.len();

/// What the source says of a clip.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) name: Name,
    pub(super) class: Name,
    /// Who speaks, or a group that has to stay in one split.
    pub(super) speaker: Name,
    pub(super) split: Option<Split>,
}

/// The clips of a source by name.
#[derive(Debug)]
pub(super) struct Table {
    classes: Vec<Name>,
    counts: Vec<u64>,
    rows: HashMap<Name, Row>,
    /// What the splits are called where the source gives them: "the array `split`".
    listed: Option<&'static str>,
    named_speakers: bool,
}

impl Table {
    /// A table of `rows`, all of which have a split if `listed` names what gives it; if some have none, whole speakers are dealt. The order of `classes`
    /// is that of the network's outputs.
    pub(super) fn new(
        classes: Vec<Name>,
        mut rows: Vec<Row>,
        listed: Option<&'static str>,
        named_speakers: bool,
    ) -> Table {
        if rows.iter().any(|row| row.split.is_none()) {
            deal(&mut rows);
        }
        let mut counts: HashMap<Name, u64> = HashMap::new();
        rows.iter().for_each(|row| *counts.entry(row.class.clone()).or_default() += 1);
        let counts = classes.iter().map(|class| counts.get(class).copied().unwrap_or(0)).collect();
        let rows = rows.into_iter().map(|row| (row.name.clone(), row)).collect();
        Table { classes, counts, rows, listed, named_speakers }
    }

    /// What the source says of a clip.
    pub(super) fn row(&self, clip: &Name) -> Option<&Row> {
        self.rows.get(clip)
    }

    /// What gives the splits, if the source does.
    pub(super) fn listed(&self) -> Option<&'static str> {
        self.listed
    }

    /// Whether the source says who speaks, or which group a clip is of.
    pub(super) fn named_speakers(&self) -> bool {
        self.named_speakers
    }

    /// The classes as those of a folder are found.
    pub(super) fn found(&self) -> Found {
        Found { words: self.classes.clone(), counts: self.counts.clone(), ..Found::default() }
    }
}

/// Deals whole speakers to the splits: in the order of their hashes ([`speaker_percentage`]), about a tenth of the clips for validation, then a tenth
/// for testing. With at least three speakers, each split has at least one.
fn deal(rows: &mut [Row]) {
    let mut sizes: HashMap<&Name, usize> = HashMap::new();
    rows.iter().for_each(|row| *sizes.entry(&row.speaker).or_default() += 1);
    let mut speakers: Vec<(f64, &Name, usize)> =
        sizes.into_iter().map(|(speaker, clips)| (speaker_percentage(speaker), speaker, clips)).collect();
    speakers.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1)));
    let mut splits: HashMap<Name, Split> = HashMap::new();
    let (tenth, mut at) = (rows.len().div_ceil(10), 0);
    for (split, others) in [(Split::Validation, 2), (Split::Testing, 1)] {
        let (first, mut clips) = (at, 0);
        while let Some(&(_, speaker, of_speaker)) = speakers.get(at) {
            // The speaker that crosses the tenth belongs to it if more of its clips lie below than above.
            let fits = at == first || clips + of_speaker / 2 <= tenth;
            if speakers.len() < SPLITS || at + others >= speakers.len() || !fits {
                break;
            }
            clips += of_speaker;
            splits.insert(speaker.clone(), split);
            at += 1;
        }
    }
    for row in rows {
        row.split = Some(splits.get(&row.speaker).copied().unwrap_or(Split::Training));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(speakers: usize, of: impl Fn(usize) -> usize) -> Vec<Row> {
        let clips = (0..speakers).flat_map(|speaker| (0..of(speaker)).map(move |clip| (speaker, clip)));
        let row = |(speaker, clip)| Row {
            name: format!("{speaker}/{clip}").into(),
            class: "a".into(),
            speaker: format!("s{speaker}").into(),
            split: None,
        };
        clips.map(row).collect()
    }

    #[test]
    fn whole_speakers_are_dealt_and_each_split_has_one_where_there_are_three() {
        for (speakers, of) in [(3, 1), (3, 50), (4, 7), (9, 100), (200, 1), (200, 3)] {
            let mut rows = rows(speakers, |_| of);
            deal(&mut rows);
            let mut of_speaker: HashMap<&Name, Split> = HashMap::new();
            let mut counts = [0; 3];
            for row in &rows {
                let split = row.split.unwrap();
                counts[split as usize] += 1;
                assert_eq!(*of_speaker.entry(&row.speaker).or_insert(split), split, "{} is in two splits", row.speaker);
            }
            let tenth = (rows.len() as f64 / 10.0).max(of as f64);
            assert!(counts.iter().all(|&count| count > 0), "{speakers} x {of}: {counts:?}");
            for count in &counts[1..] {
                assert!((*count as f64 - tenth).abs() <= of as f64, "{speakers} x {of}: {counts:?}");
            }
        }
        for speakers in [1, 2] {
            let mut rows = rows(speakers, |_| 5);
            deal(&mut rows);
            assert!(rows.iter().all(|row| row.split == Some(Split::Training)));
        }
    }

    #[test]
    fn a_speaker_with_most_of_the_clips_leaves_the_other_splits_theirs() {
        let mut rows = rows(3, |speaker| if speaker == 1 { 1_000 } else { 2 });
        deal(&mut rows);
        for split in Split::ALL {
            assert!(rows.iter().any(|row| row.split == Some(split)), "{split}");
        }
    }
}
