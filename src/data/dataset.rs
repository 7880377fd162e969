//! A data set: classes, clips with their splits, and samples ready for a network.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::{Name, Standardisation};

use super::arrays;
use super::cache::Index;
use super::classes::empty_class;
use super::clip::Format;
use super::data_config::DataConfig;
use super::error::{ClipError, DataError};
use super::extra::{self, Classes, Extra};
use super::grouping::Grouping;
use super::layout;
use super::ledger::{Ledger, Reason};
use super::load::{self, Survey};
use super::manifest;
use super::prepare::{ClipInfo, Kept};
use super::samples::{Bank, Held, Samples};
use super::source::{Progress, Source, Wanted, word_of};
use super::split::{self, Split, SplitRule, names_speaker, random_splits, speaker, which_set};
use super::statistics::{Standardise, of_training_clips};
use super::store::{self, Stored};
use super::table::Table;

/// One clip of a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClipMeta {
    /// `word/file`; in a list of sound files the path, in arrays the number of the row from 0, in Parquet files `file/row` with the name of the sound.
    pub name: Name,
    /// Index into the classes.
    pub class: u32,
    /// What it is used for.
    pub split: Split,
    /// Who speaks, as far as the file name or the list tells; in arrays the group.
    pub speaker: Name,
    /// Frames at the network's rate, before cutting or padding.
    pub len_samples: u64,
    /// The file's own rate.
    pub source_rate_hz: u32,
    /// The file's own channels.
    pub source_channels: u32,
    /// First frame of the part that is used, at the network's rate.
    pub start_sample: u64,
    /// Largest magnitude of the part that is used, 0 to 32768; 0 in arrays, whose numbers have no full scale.
    pub peak: u16,
    /// Longest run of values at full scale in the part that is used; 0 in arrays.
    pub clipped_run: u32,
    /// SHA-1 of all decoded samples at the network's rate, before cutting or padding: equal in clips of equal samples.
    pub fingerprint: String,
    #[serde(skip)]
    bank: u32,
    #[serde(skip)]
    row: u32,
    #[serde(skip)]
    kept: Option<Kept>,
}

/// Clips by number, sorted by name, with their samples.
#[derive(Debug)]
pub struct Dataset {
    source: String,
    /// The source itself, if it is a folder or an archive.
    origin: Option<Source<'static>>,
    classes: Vec<Name>,
    clips: Vec<ClipMeta>,
    /// The rows of the source, and those that were added.
    banks: Vec<Bank>,
    extra: Extra,
    cached: bool,
    standardisation: Option<Standardisation>,
    /// What gives the splits, if the source does.
    listed: Option<&'static str>,
    /// Whether the source itself tells the speakers; none if the file names do.
    named_speakers: Option<bool>,
    length: usize,
    format: Format,
    split_rule: SplitRule,
    problems: Vec<ClipError>,
    /// Of the clips in `problems`, where their names do not tell.
    classes_of_problems: HashMap<Name, Name>,
    remarks: Vec<String>,
    noise: Vec<Name>,
    ledger: Ledger,
    conversion: Option<String>,
}

impl Dataset {
    /// Reads the clips of `source`, from the cache where it is up to date.
    ///
    /// # Errors
    /// The source cannot be read, a class is unknown or has no usable clip, an added class cannot be made, the official lists are asked for and missing,
    /// `config.strict` is set and a clip cannot be used, arrays are not those of a network with this input, or `progress` asked to stop. A cache that
    /// cannot be written is no error but a remark.
    pub fn open(source: &Source<'_>, config: &DataConfig, progress: Progress<'_>) -> Result<Dataset, DataError> {
        config.check()?;
        let allow_empty = config.allow_empty_classes || config.allow_other_words;
        let survey = load::survey(source)?;
        if let Some(listing) = &survey.folder {
            // A folder tells before any decoding what is missing.
            let classes = Classes::resolve(config, &listing.found, source)?;
            let empty = |word: &&Name| listing.words.get(*word).is_none_or(Vec::is_empty);
            match classes.words.iter().find(empty) {
                Some(class) if !allow_empty => {
                    return Err(empty_class(source, &listing.found.ledger, class, None));
                }
                _ => {}
            }
        } else if let Some(table) = survey.table() {
            Classes::resolve(config, &table.found(), source)?;
        }
        let (rows, Loaded { index, cached, remarks }) = read(source, &survey, config, progress)?;
        let classes = Classes::resolve(config, &index.found, source)?;
        if let (true, Some(first)) = (config.strict, index.problems.first()) {
            return Err(DataError::Strict { count: index.problems.len(), first: first.clone() });
        }
        let clips = clips_of(&index, &survey, config, (source, &classes))?;
        let used: Vec<Name> = classes.all.iter().chain(&classes.unknown).cloned().collect();
        let mut ledger = index.found.ledger.of_classes(&used);
        if config.allow_other_words {
            let other = index.found.words.iter().zip(&index.found.counts);
            for (word, &count) in other.filter(|&(word, &count)| count > 0 && !used.contains(word)) {
                ledger.add_many(Reason::OtherWord, Some(word), count, layout::folder_name(word));
            }
        }
        let table = survey.table();
        let mut dataset = Dataset {
            source: source.describe(),
            origin: source.on_disk(),
            classes: classes.all.clone(),
            banks: vec![Bank { rows, folder: None }],
            extra: Extra::default(),
            cached,
            standardisation: None,
            listed: table.and_then(Table::listed),
            named_speakers: table.map(Table::named_speakers),
            clips,
            length: config.length,
            format: config.format,
            split_rule: config.split,
            classes_of_problems: classes_of(&index.problems, table),
            problems: index.problems,
            remarks,
            noise: index.found.noise,
            conversion: ledger.conversion(source),
            ledger,
        };
        if !allow_empty {
            dataset.require_clips_of_every_word(&classes, source, table)?;
        }
        if config.allow_other_words {
            // All clips are of use, in whichever split: there is nothing to say about splits.
            return dataset.require_a_clip()?.standardised(&config.standardise);
        }
        extra::divide(&mut dataset, config.split, table);
        extra::add(&mut dataset, config, &classes, progress)?;
        dataset.remark_on_splits();
        dataset.standardised(&config.standardise)
    }

    /// The data set with this standardisation.
    fn standardised(mut self, how: &Standardise) -> Result<Dataset, DataError> {
        self.standardisation = match how {
            Standardise::No => None,
            Standardise::ByTrainingClips => of_training_clips(&self),
            Standardise::By(values) => Some(values.clone()),
        };
        match &self.standardisation {
            Some(values) if values.channels() != self.format.channels as usize => {
                let (value, channels) = (values.channels() as u64, self.format.channels.into());
                Err(DataError::BadSetting {
                    what: "channel count of the standardisation",
                    value,
                    min: channels,
                    max: channels,
                })
            }
            _ => Ok(self),
        }
    }

    fn require_clips_of_every_word(
        &self,
        classes: &Classes,
        source: &Source<'_>,
        table: Option<&Table>,
    ) -> Result<(), DataError> {
        for (name, counts) in self.classes.iter().zip(self.counts()) {
            if counts == [0; 3] && classes.words.contains(name) {
                let first = self.problems.iter().find(|p| class_name(&p.name, table) == *name);
                return Err(empty_class(source, &self.ledger, name, first.cloned()));
            }
        }
        Ok(())
    }

    fn require_a_clip(self) -> Result<Dataset, DataError> {
        match self.clips.is_empty() {
            false => Ok(self),
            true => {
                let first = self.problems.into_iter().next().map(Box::new);
                Err(DataError::NoClips { data: self.source, first })
            }
        }
    }

    /// Deals the clips at random, word by word.
    pub(super) fn deal(&mut self, seed: u64, word: impl Fn(&Name) -> Name) {
        let mut of_words: BTreeMap<Name, Vec<usize>> = BTreeMap::new();
        for (number, clip) in self.clips.iter().enumerate() {
            of_words.entry(word(&clip.name)).or_default().push(number);
        }
        for (word, clips) in of_words {
            for (&clip, split) in clips.iter().zip(random_splits(seed, &word, clips.len())) {
                self.clips[clip].split = split;
            }
        }
    }

    /// Adds clips with their rows.
    pub(super) fn add_bank(&mut self, bank: Bank, clips: Vec<ClipMeta>) {
        let number = self.banks.len() as u32;
        self.banks.push(bank);
        self.clips.extend(clips.into_iter().map(|clip| ClipMeta { bank: number, ..clip }));
    }

    /// Sorts the clips by name, after some were added.
    pub(super) fn sort_clips(&mut self) {
        self.clips.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// Keeps the clips for which `keep` is true.
    pub(super) fn keep_clips(&mut self, keep: impl FnMut(&ClipMeta) -> bool) {
        self.clips.retain(keep);
    }

    /// Adds clips of a class that cannot be used.
    pub(super) fn add_problems(&mut self, problems: Vec<ClipError>, class: Name) {
        for problem in problems {
            self.classes_of_problems.insert(problem.name.clone(), class.clone());
            self.problems.push(problem);
        }
        self.problems.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// Adds something that a user may want to know.
    pub(super) fn add_remark(&mut self, remark: String) {
        self.remarks.push(remark);
    }

    /// The added classes.
    pub(super) fn extra(&self) -> &Extra {
        &self.extra
    }

    /// Says what the added classes are, whose clips are in the data set.
    pub(super) fn set_extra(&mut self, extra: Extra) {
        self.extra = extra;
    }

    /// Says which splits and classes have no clips, and which entries of the official lists were of no use.
    fn remark_on_splits(&mut self) {
        let (leaking, speakers) = self.leaking_speakers();
        let grouping = self.grouping();
        let what = match (self.split_rule, self.listed) {
            (SplitRule::Random { .. }, _) => Some("the random split".to_string()),
            (_, Some(listed)) => Some(listed.to_string()),
            _ => None,
        };
        if let (Some(what), true) = (what, leaking > 0) {
            self.remarks.push(format!(
                "{what} puts {leaking} of {speakers} {} into more than one split, so the measured accuracy will be \
                 optimistic",
                grouping.plural()
            ));
        }
        let listed = self.listed.filter(|_| !matches!(self.split_rule, SplitRule::Random { .. }));
        let speakers = (speakers, grouping);
        self.remarks.extend(split::remarks((self.split_rule, listed), &self.classes, &self.counts(), speakers));
        let unmatched = self.ledger.count(Reason::UnmatchedListEntry);
        if unmatched > 0 && self.split_rule == SplitRule::Official {
            self.remarks.push(format!(
                "{unmatched} entries of the official lists name no clip; the clips they mean may be in the training split"
            ));
        }
    }

    /// Speakers in more than one split, and all speakers.
    fn leaking_speakers(&self) -> (usize, usize) {
        let mut of: HashMap<&Name, [bool; 3]> = HashMap::new();
        for clip in self.clips.iter().filter(|clip| Some(clip.class) != self.silence_class()) {
            of.entry(&clip.speaker).or_default()[clip.split as usize] = true;
        }
        (of.values().filter(|s| s.iter().filter(|&&x| x).count() > 1).count(), of.len())
    }

    /// Path of the source, or "the embedded set".
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The folder or archive that it was read from.
    pub(super) fn origin(&self) -> Option<&Source<'static>> {
        self.origin.as_ref()
    }

    /// The file that clip number `clip` comes from: a sound file of a folder or a list, or the file of arrays.
    pub fn file_of(&self, clip: usize) -> Option<PathBuf> {
        let ClipMeta { name, bank, .. } = self.clips.get(clip)?;
        if *bank > 0 {
            let (folder, prefix) = self.banks[*bank as usize].folder.as_ref()?;
            return Some(extra::file_in(folder, name, *prefix));
        }
        match self.origin.as_ref()? {
            Source::Folder(root) => Some(root.join(name.to_path())),
            Source::Manifest(path) => Some(manifest::file_of(path, name)),
            Source::Arrays(path) => Some(path.clone()),
            Source::Archive(_) | Source::Parquet(_) | Source::Embedded(_) => None,
        }
    }

    /// Class names in the order of the network's outputs.
    pub fn classes(&self) -> &[Name] {
        &self.classes
    }

    /// All clips, sorted by name.
    pub fn clips(&self) -> &[ClipMeta] {
        &self.clips
    }

    /// Frames of an input.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Rate and channels.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How clips were dealt.
    pub fn split_rule(&self) -> SplitRule {
        self.split_rule
    }

    /// Whether the clips are sound, in 16 bits, and not arrays.
    pub fn is_sound(&self) -> bool {
        matches!(self.banks[0].rows, Held::I16(_))
    }

    /// What is never divided between splits: speakers, or in arrays groups.
    pub fn grouping(&self) -> Grouping {
        if self.is_sound() { Grouping::Speakers } else { Grouping::Groups }
    }

    /// How each channel is standardised, if it is.
    pub fn standardisation(&self) -> Option<&Standardisation> {
        self.standardisation.as_ref()
    }

    /// The samples of clip number `clip` before any standardisation: `[length, channels]`.
    ///
    /// # Panics
    /// There is no such clip.
    pub fn samples(&self, clip: usize) -> Samples<'_> {
        let row_len = self.row_len();
        let ClipMeta { bank, row, kept, .. } = self.clips[clip];
        let start = row as usize * row_len + kept.map_or(0, |kept| kept.offset as usize);
        self.banks[bank as usize].rows.get(start..start + row_len)
    }

    /// What is kept of clip number `clip`, at most [`DataConfig::windows`] times the length: `[frames, channels]`. It contains
    /// [`Dataset::samples`], and nothing else if the clip is not longer.
    ///
    /// # Panics
    /// There is no such clip.
    pub fn kept_samples(&self, clip: usize) -> Samples<'_> {
        let ClipMeta { bank, row, kept, .. } = self.clips[clip];
        let start = row as usize * self.row_len();
        self.banks[bank as usize].rows.get(start..start + kept.map_or(self.row_len(), |kept| kept.len as usize))
    }

    /// How many of the values of [`Dataset::samples`] are of the clip, and not padding.
    pub(super) fn used_len(&self, clip: usize) -> usize {
        let ClipMeta { len_samples, start_sample, .. } = self.clips[clip];
        let frames = len_samples.saturating_sub(start_sample).min(self.length as u64);
        frames as usize * self.format.channels as usize
    }

    /// Writes clip number `clip` as a network takes it, `[length, channels]`, to `input`: with full scale 1 for sound, and standardised if the data set
    /// is. Padding is zero.
    ///
    /// # Panics
    /// There is no such clip.
    pub fn write_input(&self, clip: usize, input: &mut [f32]) {
        self.samples(clip).write(input);
        if let Some(standardisation) = &self.standardisation {
            let used = self.used_len(clip).min(input.len());
            standardisation.apply(&mut input[..used]);
        }
    }

    /// Writes clip number `clip` as a program gives it to a network that standardises its input itself, `[length, channels]`, to `input`: with full
    /// scale 1 for sound, not standardised, and with padding that `standardisation`, if there is one, turns into 0.
    ///
    /// # Panics
    /// There is no such clip.
    pub fn write_for(&self, standardisation: Option<&Standardisation>, clip: usize, input: &mut [f32]) {
        self.samples(clip).write(input);
        if let Some(standardisation) = standardisation {
            let used = self.used_len(clip).min(input.len());
            standardisation.fill_padding(&mut input[used..]);
        }
    }

    /// Values of an input: length times channels.
    pub fn row_len(&self) -> usize {
        self.length * self.format.channels as usize
    }

    /// Whether the name of any clip, or the list, tells who speaks (in arrays: whether there are groups); if not, speakers cannot be told apart.
    pub fn names_speakers(&self) -> bool {
        self.clips.iter().any(|clip| self.tells_speaker(clip))
    }

    /// Whether the name of a clip, or the list, tells who speaks (in arrays: whether there are groups).
    pub fn tells_speaker(&self, clip: &ClipMeta) -> bool {
        self.named_speakers.unwrap_or_else(|| names_speaker(&clip.name))
    }

    /// Whether the source itself says which clips are for training, validation and testing, and is followed.
    pub fn has_own_splits(&self) -> bool {
        let listed = self.listed.is_some() && !matches!(self.split_rule, SplitRule::Random { .. });
        listed || self.split_rule == SplitRule::Official
    }

    /// The numbers of the clips of a split, in name order.
    pub fn in_split(&self, split: Split) -> Vec<u32> {
        (0..self.clips.len() as u32).filter(|&i| self.clips[i as usize].split == split).collect()
    }

    /// Clips of each class in training, validation and testing.
    pub fn counts(&self) -> Vec<[usize; 3]> {
        let mut counts = vec![[0; 3]; self.classes.len()];
        for clip in &self.clips {
            counts[clip.class as usize][clip.split as usize] += 1;
        }
        counts
    }

    /// Clips that were skipped and why, sorted by name.
    pub fn problems(&self) -> &[ClipError] {
        &self.problems
    }

    /// The class of a clip that cannot be used.
    pub(super) fn class_of_problem(&self, clip: &Name) -> Name {
        self.classes_of_problems.get(clip).cloned().unwrap_or_else(|| word_of(clip))
    }

    /// What a user may want to know: a cache that was rebuilt or could not be written, speakers that leak.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The files of `_background_noise_`.
    pub fn noise(&self) -> &[Name] {
        &self.noise
    }

    /// What was seen in the source and is not used, beside [`Dataset::problems`].
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// A shell command that converts the audio files of other formats to WAV with FFmpeg, if there are any; `FOLDER` in it
    /// is to be replaced by the folder of the unpacked archive.
    pub fn conversion(&self) -> Option<&str> {
        self.conversion.as_deref()
    }

    /// Whether the samples come from a cache file and not from memory.
    pub fn is_cached(&self) -> bool {
        self.cached
    }
}

/// What reading gives beside the rows.
struct Loaded {
    index: Index,
    cached: bool,
    remarks: Vec<String>,
}

/// Reads the wanted clips.
fn read(
    source: &Source<'_>,
    survey: &Survey,
    config: &DataConfig,
    progress: Progress<'_>,
) -> Result<(Held, Loaded), DataError> {
    let DataConfig { format, length, crop, windows, .. } = *config;
    let words = extra::wanted_words(config);
    let wanted = Wanted { words: words.as_deref(), format, length, crop, windows, progress };
    if let (Source::Arrays(path), Some(arrays)) = (source, &survey.arrays) {
        let (values, index) = arrays::read(path, arrays, &wanted)?;
        return Ok((Held::F32(values), Loaded { index, cached: false, remarks: arrays.remarks.clone() }));
    }
    let Stored { rows, cached, index, remarks } = store::load(source, survey, &wanted, &config.cache)?;
    Ok((Held::I16(rows), Loaded { index, cached, remarks }))
}

/// The clips of `classes` with their splits; those of a random division are dealt later.
fn clips_of(
    index: &Index,
    survey: &Survey,
    config: &DataConfig,
    (source, classes): (&Source<'_>, &Classes),
) -> Result<Vec<ClipMeta>, DataError> {
    let table = survey.table();
    if let (SplitRule::Official, Some(None)) = (config.split, table.map(Table::listed)) {
        return Err(DataError::NoSplits { data: source.describe() });
    }
    let missing = index.found.lists.missing().join(" and ");
    let official = |info: &ClipInfo| match info.listed {
        Some(split) => Ok(split),
        None if missing.is_empty() => Ok(index.found.lists.split(&info.name)),
        None => Err(DataError::NoLists { data: source.describe(), missing: missing.clone() }),
    };
    let mut clips = Vec::with_capacity(index.clips.len());
    for info in &index.clips {
        let row = table.and_then(|table| table.row(&info.name));
        let split = match (row.and_then(|row| row.split), config.split) {
            (Some(split), _) => split,
            (None, SplitRule::Official) => official(info)?,
            (None, SplitRule::Speaker | SplitRule::Random { .. }) => which_set(&info.name),
        };
        let class = class_name(&info.name, table);
        let Some(class) = classes.index(&class) else { continue };
        let speaker = row.map_or_else(|| speaker(&info.name), |row| row.speaker.clone());
        clips.push(clip_meta(info, (class, split, speaker)));
    }
    Ok(clips)
}

/// The class of a clip: what the table says, else the word folder in its name.
pub(super) fn class_name(clip: &Name, table: Option<&Table>) -> Name {
    table.and_then(|table| table.row(clip)).map_or_else(|| word_of(clip), |row| row.class.clone())
}

/// The classes that the table gives to clips that cannot be used.
fn classes_of(problems: &[ClipError], table: Option<&Table>) -> HashMap<Name, Name> {
    let known = |problem: &ClipError| Some((problem.name.clone(), table?.row(&problem.name)?.class.clone()));
    problems.iter().filter_map(known).collect()
}

/// The entry of a clip of the first rows of a data set.
pub(super) fn clip_meta(info: &ClipInfo, (class, split, speaker): (u32, Split, Name)) -> ClipMeta {
    ClipMeta {
        name: info.name.clone(),
        class,
        split,
        speaker,
        len_samples: info.len_samples,
        source_rate_hz: info.source_rate_hz,
        source_channels: info.source_channels,
        start_sample: info.start_sample,
        peak: info.peak,
        clipped_run: info.clipped_run,
        fingerprint: info.fingerprint.clone(),
        bank: 0,
        row: info.row,
        kept: info.kept,
    }
}
