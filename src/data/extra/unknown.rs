//! The clips of other words: which there are, and which of them are used.

use std::path::{Path, PathBuf};

use crate::base::Name;
use crate::base::nearest::nearest;
use crate::base::rng::{Key, Stream};

use crate::data::data_config::DataConfig;
use crate::data::dataset::{ClipMeta, Dataset, clip_meta};
use crate::data::error::{ClipError, DataError};
use crate::data::layout::Found;
use crate::data::load::{self, Survey};
use crate::data::manifest;
use crate::data::samples::Bank;
use crate::data::source::{Progress, Source, Wanted, clip_name, word_of};
use crate::data::split::{Split, SplitRule, random_splits, speaker, which_set};
use crate::data::store::{self, CacheMode, Stored};

use super::{Classes, ExtraClasses, ExtraError, FIXED, SHARES, UNKNOWN, UnknownFrom, share_of};

/// The words of the data set whose clips are of the class; `words` are classes of their own.
pub(super) fn words(
    extra: &ExtraClasses,
    words: &[Name],
    found: &Found,
    source: &Source<'_>,
) -> Result<Vec<Name>, DataError> {
    let mut unknown: Vec<Name> = Vec::new();
    for from in extra.unknown_from() {
        match from {
            UnknownFrom::Folder(_) => {}
            UnknownFrom::Word(word) if words.contains(word) => {
                return Err(ExtraError::IsClass { word: word.clone() }.into());
            }
            UnknownFrom::Word(word) if !found.words.contains(word) => {
                let names: Vec<String> = found.words.iter().map(Name::to_string).collect();
                let near = nearest(&word.to_string(), names.iter().map(String::as_str));
                let near = found.words.iter().zip(&names).find(|(_, text)| Some(text.as_str()) == near);
                let nearest = near.map(|(word, _)| word.clone());
                return Err(ExtraError::NoWord { data: source.describe(), word: word.clone(), nearest }.into());
            }
            UnknownFrom::Word(word) => unknown.push(word.clone()),
            UnknownFrom::OtherWords => {
                let others: Vec<&Name> = found.words.iter().filter(|word| !words.contains(word)).collect();
                if others.is_empty() {
                    return Err(ExtraError::NoOtherWords { data: source.describe() }.into());
                }
                unknown.extend(others.into_iter().cloned());
            }
        }
    }
    unknown.sort_unstable();
    unknown.dedup();
    Ok(unknown)
}

/// A folder of clips of other words.
pub(super) struct Folder {
    path: PathBuf,
    /// What the names of its clips begin with: `_unknown_/FOLDER`.
    prefix: Name,
}

/// The folders, each with a prefix of its own.
pub(super) fn folders(from: &[UnknownFrom]) -> Vec<Folder> {
    let mut folders: Vec<Folder> = Vec::new();
    for from in from {
        let UnknownFrom::Folder(path) = from else { continue };
        let whole = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let name = whole.file_name().map_or_else(|| "folder".into(), Name::from_os);
        let numbered = |n: usize| match n {
            1 => clip_name(&UNKNOWN.into(), &name),
            _ => Name::from_bytes(&[UNKNOWN.as_bytes(), b"/", name.as_bytes(), format!("-{n}").as_bytes()].concat()),
        };
        let is_free = |prefix: &Name| folders.iter().all(|folder| folder.prefix != *prefix);
        let prefix = (1..).map(numbered).find(is_free).unwrap_or_default();
        folders.push(Folder { path: path.clone(), prefix });
    }
    folders
}

/// Adds the clips of a folder: of the word folders in it that are no classes, and of the sound files directly in it.
pub(super) fn add_folder(
    data: &mut Dataset,
    folder: &Folder,
    (config, classes): (&DataConfig, &Classes),
    class: u32,
    progress: Progress<'_>,
) -> Result<(), DataError> {
    if !data.is_sound() {
        return Err(ExtraError::FolderForArrays { data: data.source().into() }.into());
    }
    if !folder.path.is_dir() {
        return Err(ExtraError::NotAFolder { path: folder.path.clone() }.into());
    }
    let DataConfig { format, length, crop, windows, .. } = *config;
    let wanted = |words| Wanted { words, format, length, crop, windows, progress };
    let source = Source::Folder(folder.path.clone());
    let survey = load::survey(&source)?;
    let all = survey.folder.as_ref().map(|listing| listing.found.words.clone()).unwrap_or_default();
    let words: Vec<Name> = all.iter().filter(|word| !classes.words.contains(word)).cloned().collect();
    let files = manifest::of_folder(&folder.path, &UNKNOWN.into())?;
    let mut parts = Vec::new();
    if !words.is_empty() {
        let some = (words.len() < all.len()).then_some(&words[..]);
        parts.push(store::load(&source, &survey, &wanted(some), &config.cache)?);
    }
    if let Some(files) = files {
        parts.push(store::load(&source, &Survey::of_files(files), &wanted(None), &CacheMode::Off)?);
    }
    if parts.is_empty() && !all.is_empty() {
        return Err(ExtraError::OnlyClasses { path: folder.path.clone() }.into());
    }
    if words.len() < all.len() {
        let left_out: Vec<String> = all.iter().filter(|word| !words.contains(word)).map(|w| format!("`{w}`")).collect();
        let path = crate::base::name::display_path(&folder.path);
        data.add_remark(format!(
            "of the folder {path} of --unknown, the words {} are classes and are left out",
            left_out.join(", ")
        ));
    }
    add_parts(data, folder, config, (class, parts))
}

/// Adds what was read of a folder.
fn add_parts(
    data: &mut Dataset,
    folder: &Folder,
    config: &DataConfig,
    (class, parts): (u32, Vec<Stored>),
) -> Result<(), DataError> {
    let named = |problem: &ClipError| ClipError {
        name: clip_name(&folder.prefix, &problem.name),
        fault: problem.fault.clone(),
    };
    let problems: Vec<ClipError> = parts.iter().flat_map(|part| part.index.problems.iter().map(named)).collect();
    if let (true, Some(first)) = (config.strict, problems.first()) {
        return Err(DataError::Strict { count: problems.len(), first: first.clone() });
    }
    if parts.iter().all(|part| part.index.clips.is_empty()) {
        let first = problems.first().map(ToString::to_string);
        return Err(ExtraError::NoSound { path: folder.path.clone(), first }.into());
    }
    for part in parts {
        let meta = |info| {
            let mut clip = clip_meta(info, (class, which_set(&info.name), speaker(&info.name)));
            clip.name = clip_name(&folder.prefix, &info.name);
            clip
        };
        let mut clips: Vec<ClipMeta> = part.index.clips.iter().map(meta).collect();
        if let SplitRule::Random { seed } = config.split {
            deal(&mut clips, seed, &folder.prefix);
        }
        part.remarks.into_iter().for_each(|remark| data.add_remark(remark));
        let bank = Bank::of_folder(part.rows, folder.path.clone(), folder.prefix.as_bytes().len() + 1);
        data.add_bank(bank, clips);
    }
    data.add_problems(problems, UNKNOWN.into());
    Ok(())
}

/// Divides the clips of each word folder at random, and those that are in none.
fn deal(clips: &mut [ClipMeta], seed: u64, prefix: &Name) {
    let group = |clip: &ClipMeta| {
        let rest = Name::from_bytes(&clip.name.as_bytes()[prefix.as_bytes().len() + 1..]);
        let word = if rest.as_bytes().contains(&b'/') { word_of(&rest) } else { Name::default() };
        clip_name(prefix, &word)
    };
    let groups: Vec<Name> = clips.iter().map(group).collect();
    let mut names = groups.clone();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let of_group: Vec<usize> = (0..clips.len()).filter(|&i| groups[i] == name).collect();
        for (&i, split) in of_group.iter().zip(random_splits(seed, &name, of_group.len())) {
            clips[i].split = split;
        }
    }
}

/// Keeps as many validation and test clips of the class as its share allows, the same ones in each run, and returns how many of its training clips each
/// epoch uses. `words` are the clips of the words in each split.
pub(super) fn choose(data: &mut Dataset, class: u32, share: f64, words: [usize; 3]) -> Result<usize, DataError> {
    let of = |data: &Dataset, split: Split| -> Vec<usize> {
        let is_one = |&i: &usize| data.clips()[i].class == class && data.clips()[i].split == split;
        (0..data.clips().len()).filter(is_one).collect()
    };
    let mut used = vec![true; data.clips().len()];
    for split in FIXED {
        let all = of(data, split);
        let order = Key::new(0, Stream::Unknown).with(split as u64).permutation(all.len());
        for &i in order.iter().skip(share_of(share, words[split as usize])) {
            used[all[i as usize]] = false;
        }
    }
    let training = of(data, Split::Training).len();
    if training == 0 {
        return Err(ExtraError::NoTrainingClips { grouping: data.grouping() }.into());
    }
    let mut used = used.into_iter();
    data.keep_clips(|_| used.next().unwrap_or(true));
    let wanted = share_of(share, words[Split::Training as usize]);
    // The largest share asks for all there are.
    if training < wanted && share < SHARES.1 {
        data.add_remark(format!(
            "`unknown_share` of {share} is {wanted} clips of `{UNKNOWN}` in each epoch, and there are {training} to train with, all of which are used"
        ));
    }
    Ok(training.min(wanted))
}

/// The path of the file of a clip in a folder, without its prefix.
pub(in crate::data) fn file_in(folder: &Path, clip: &Name, prefix: usize) -> PathBuf {
    folder.join(Name::from_bytes(&clip.as_bytes()[prefix.min(clip.as_bytes().len())..]).to_path())
}
