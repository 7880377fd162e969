//! `split.tsv`: the clips of a run, each with its class, its split and the hash of its samples.

use super::error::TrainError;
use super::run_folder::RunFolder;
use super::weight_file::quoted;
use crate::base::{Name, text_file};
use crate::data::{Dataset, Split, names_speaker, speaker};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// The columns. Earlier versions had no hash.
const COLUMNS: [&str; 4] = ["clip", "class", "split", "sha1"];

/// Largest `split.tsv` that is read.
const LARGEST_FILE: u64 = 1 << 30;

/// The content of `split.tsv`.
pub fn split_tsv(data: &Dataset) -> String {
    let mut text = COLUMNS.join("\t") + "\n";
    for clip in data.clips() {
        let class = &data.classes()[clip.class as usize];
        text += &format!("{}\t{class}\t{}\t{}\n", clip.name, clip.split.name(), clip.fingerprint);
    }
    text
}

/// Checks that `data` has the clips that the run in `folder` began with, with the same classes, splits and samples.
///
/// # Errors
/// A clip is missing, new, or another one, or `split.tsv` cannot be read.
pub fn check_split(folder: &RunFolder, data: &Dataset) -> Result<(), TrainError> {
    let path = folder.split();
    let advice = "the file says which clips the run was trained on; put it back, or train again";
    let listed = text_file::read(&path, LARGEST_FILE);
    let listed = listed.map_err(|source| TrainError::Text { path: path.clone(), source, advice })?;
    let now = split_tsv(data);
    match if listed == now { None } else { difference(&listed, &now) } {
        None => Ok(()),
        Some(difference) => Err(TrainError::OtherData { path, difference }),
    }
}

/// What recordings share with the training clips of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Overlap {
    /// Clips with the samples of a training clip, or with its name if that tells the speaker: the same recording may be coded in
    /// another way.
    pub clips: u64,
    /// Clips of the speakers of training clips, those counted in `clips` not included.
    pub clips_of_speakers: u64,
}

/// What `data` shares with the training clips of the run in `folder`; none if `split.tsv` cannot be read or has no hashes, as those
/// of earlier versions. The clips of `data` must be read in the format of the run.
pub fn overlap_with_training(folder: &RunFolder, data: &Dataset) -> Option<Overlap> {
    let listed = text_file::read(&folder.split(), LARGEST_FILE).ok()?;
    let listed = rows(&listed);
    if *listed.first()? != COLUMNS {
        return None;
    }
    let of_training = listed.iter().filter(|row| row.len() == COLUMNS.len() && row[2] == Split::Training.name());
    let (mut samples, mut names, mut speakers) = (HashSet::new(), HashSet::new(), HashSet::new());
    for row in of_training {
        samples.insert(row[3]);
        if let Some(name) = Name::parse(row[0]).ok().filter(names_speaker) {
            speakers.insert(speaker(&name));
            names.insert(name);
        }
    }
    let mut overlap = Overlap::default();
    for clip in data.clips() {
        if samples.contains(clip.fingerprint.as_str()) || names.contains(&clip.name) {
            overlap.clips += 1;
        } else if speakers.contains(&clip.speaker) {
            overlap.clips_of_speakers += 1;
        }
    }
    Some(overlap)
}

/// The first difference between two lists of clips, if there is one.
fn difference(listed: &str, now: &str) -> Option<String> {
    let (listed, now) = (rows(listed), rows(now));
    let by_name: HashMap<&str, &Vec<&str>> = now.iter().map(|row| (row[0], row)).collect();
    let listed_names: HashSet<&str> = listed.iter().map(|row| row[0]).collect();
    // The first row has the names of the columns.
    let columns = listed.first().map_or(0, Vec::len);
    let [clip, class, split, sha1] = COLUMNS;
    if listed.first().is_none_or(|head| *head != COLUMNS[..columns.min(COLUMNS.len())] || columns < 3) {
        return Some(format!("the file does not begin with the columns {clip}, {class}, {split}, {sha1}"));
    }
    // A clip that is missing or new can move others to another split, so it is named first.
    if let Some(row) = listed.iter().find(|row| !by_name.contains_key(row[0])) {
        return Some(format!("the clip `{}` is missing now", quoted(row[0])));
    }
    if let Some(row) = now.iter().find(|row| !listed_names.contains(row[0])) {
        return Some(format!("the clip `{}` is new", quoted(row[0])));
    }
    for (number, row) in listed.iter().enumerate() {
        let name = quoted(row[0]);
        if row.len() != columns {
            return Some(format!("line {} of the file does not have {columns} columns", number + 1));
        }
        let Some(row_now) = by_name.get(row[0]) else { continue };
        let Some(at) = (1..columns).find(|&at| row[at] != row_now[at]) else { continue };
        return Some(match at {
            1 | 2 => {
                let (column, then, now) = (COLUMNS[at], quoted(row[at]), quoted(row_now[at]));
                format!("the {column} of the clip `{name}` was {then} and is {now} now")
            }
            _ => format!("the clip `{name}` has other samples now"),
        });
    }
    None
}

/// The fields of each line; there is at least one.
fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split('\t').collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let head = "clip\tclass\tsplit\tsha1\n";
        let a = format!("{head}bed/a.wav\tbed\ttraining\t11\nbed/b.wav\tbed\ttesting\t22\n");
        let of = |from: &str, to: &str| difference(&a, &a.replace(from, to)).unwrap_or_default();
        assert_eq!(of("x", "x"), "");
        assert_eq!(of("bed/b.wav\tbed\ttesting\t22\n", ""), "the clip `bed/b.wav` is missing now");
        assert_eq!(of("testing", "training"), "the split of the clip `bed/b.wav` was testing and is training now");
        assert_eq!(of("\t22", "\t23"), "the clip `bed/b.wav` has other samples now");
        assert_eq!(of("22\n", "22\nbed/c.wav\tbed\ttraining\t33\n"), "the clip `bed/c.wav` is new");
        // A list of an earlier version, and lists that are damaged.
        let old = "clip\tclass\tsplit\nbed/a.wav\tbed\ttraining\nbed/b.wav\tbed\ttesting\n";
        assert_eq!(difference(old, &a), None);
        assert!(difference("", &a).is_some_and(|text| text.contains("columns")));
        assert!(difference(&a.replace("\t22", ""), &a).is_some_and(|text| text.contains("line 3")));
    }
}
