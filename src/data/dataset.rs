//! A data set: classes, clips with their splits, and samples ready for a network.

use serde::{Deserialize, Serialize};

use crate::base::nearest::nearest;
use crate::base::{INPUT_RATES_HZ, Name, name};

use super::cache::Rows;
use super::clip::Format;
use super::crop::Crop;
use super::error::{ClipError, DataError};
use super::layout::{self, Found};
use super::ledger::{Ledger, Reason};
use super::load;
use super::prepare::{ClipInfo, Kept};
use super::source::{Progress, Source, Wanted, word_of};
use super::split::{self, Split, SplitRule, names_speaker, random_splits, speaker, which_set};
use super::store::{self, CacheMode};

/// How a data set is read.
#[derive(Clone, Debug, PartialEq)]
pub struct DataConfig {
    /// Frames of a network's input: longer clips are cut, shorter ones padded with zeros at the end.
    pub length: usize,
    /// Which part of a longer clip is used.
    pub crop: Crop,
    /// How many times `length` is kept in memory of a longer clip, for random windows of it in training ([`Augment`](super::Augment)): 1 keeps only the
    /// part that is used, 4 is enough to choose from.
    pub windows: usize,
    /// Rate and channels.
    pub format: Format,
    /// The classes in the order of the network's outputs; all word folders in alphabetical order if not given.
    pub classes: Option<Vec<Name>>,
    /// How clips are divided into training, validation and test clips.
    pub split: SplitRule,
    /// Whether a single clip that cannot be used is an error.
    pub strict: bool,
    /// Whether a class may be without clips. A report needs to show such a class; training refuses it.
    pub allow_empty_classes: bool,
    /// Whether the source may lack classes, and may have words that are no class, whose clips are counted in the ledger; it
    /// implies `allow_empty_classes`. This is for the evaluation of a network on recordings that it was not made for.
    pub allow_other_words: bool,
    /// Where decoded clips are kept.
    pub cache: CacheMode,
}

impl Default for DataConfig {
    /// One second of 16 kHz mono, all words, split by speaker.
    fn default() -> DataConfig {
        DataConfig {
            length: 16_000,
            crop: Crop::Start,
            windows: 1,
            format: Format { rate_hz: 16_000, channels: 1 },
            classes: None,
            split: SplitRule::Speaker,
            strict: false,
            allow_empty_classes: false,
            allow_other_words: false,
            cache: CacheMode::Auto,
        }
    }
}

/// One clip of a data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClipMeta {
    /// `word/file`.
    pub name: Name,
    /// Index into the classes.
    pub class: u32,
    /// What it is used for.
    pub split: Split,
    /// Who speaks, as far as the file name tells.
    pub speaker: Name,
    /// Frames at the network's rate, before cutting or padding.
    pub len_samples: u64,
    /// The file's own rate.
    pub source_rate_hz: u32,
    /// The file's own channels.
    pub source_channels: u32,
    /// First frame of the part that is used, at the network's rate.
    pub start_sample: u64,
    /// Largest magnitude of the part that is used, 0 to 32768.
    pub peak: u16,
    /// Longest run of values at full scale in the part that is used.
    pub clipped_run: u32,
    /// SHA-1 of all decoded samples at the network's rate, before cutting or padding: equal in clips of equal samples.
    pub fingerprint: String,
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
    rows: Rows,
    cached: bool,
    length: usize,
    format: Format,
    split_rule: SplitRule,
    problems: Vec<ClipError>,
    remarks: Vec<String>,
    noise: Vec<Name>,
    ledger: Ledger,
    conversion: Option<String>,
}

impl Dataset {
    /// Reads the clips of `source`, from the cache where it is up to date.
    ///
    /// # Errors
    /// The source cannot be read, a class is unknown or has no usable clip, the official lists are asked for and missing,
    /// `config.strict` is set and a clip cannot be used, or `progress` asked to stop. A cache that cannot be written is
    /// no error but a remark.
    pub fn open(source: &Source<'_>, config: &DataConfig, progress: Progress<'_>) -> Result<Dataset, DataError> {
        check_settings(config)?;
        let name = source.describe();
        let allow_empty = config.allow_empty_classes || config.allow_other_words;
        let survey = load::survey(source)?;
        if let Some(listing) = &survey.folder {
            // A folder tells before any decoding what is missing.
            let classes = resolve_classes(config, &listing.found, source)?;
            let empty = |word: &&Name| listing.words.get(*word).is_none_or(Vec::is_empty);
            match classes.iter().find(empty) {
                Some(class) if !allow_empty => {
                    return Err(empty_class(source, &listing.found.ledger, class, None));
                }
                _ => {}
            }
        }
        let words = config.classes.as_deref();
        let DataConfig { format, length, crop, windows, .. } = *config;
        let wanted = Wanted { words, format, length, crop, windows, progress };
        let stored = store::load(source, &survey, &wanted, &config.cache)?;
        let index = stored.index;
        let classes = resolve_classes(config, &index.found, source)?;
        if let (true, Some(first)) = (config.strict, index.problems.first()) {
            return Err(DataError::Strict { count: index.problems.len(), first: first.clone() });
        }
        let missing = index.found.lists.missing().join(" and ");
        let official = |info: &ClipInfo| match info.listed {
            Some(split) => Ok(split),
            None if missing.is_empty() => Ok(index.found.lists.split(&info.name)),
            None => Err(DataError::NoLists { data: name.clone(), missing: missing.clone() }),
        };
        let mut clips = Vec::with_capacity(index.clips.len());
        for info in &index.clips {
            let split = match config.split {
                SplitRule::Official => official(info)?,
                SplitRule::Speaker | SplitRule::Random { .. } => which_set(&info.name),
            };
            clips.extend(clip_meta(info, split, &classes));
        }
        let mut ledger = index.found.ledger.of_classes(&classes);
        if config.allow_other_words {
            let other = index.found.words.iter().zip(&index.found.counts);
            for (word, &count) in other.filter(|&(word, &count)| count > 0 && !classes.contains(word)) {
                ledger.add_many(Reason::OtherWord, Some(word), count, layout::folder_name(word));
            }
        }
        let mut dataset = Dataset {
            source: name,
            origin: source.on_disk(),
            classes,
            clips,
            rows: stored.rows,
            cached: stored.cached,
            length: config.length,
            format: config.format,
            split_rule: config.split,
            problems: index.problems,
            remarks: stored.remarks,
            noise: index.found.noise,
            conversion: ledger.conversion(source),
            ledger,
        };
        if !allow_empty {
            dataset.require_clips_in_every_class(source)?;
        }
        if config.allow_other_words {
            // All clips are of use, in whichever split: there is nothing to say about splits.
            return dataset.require_a_clip();
        }
        if let SplitRule::Random { seed } = config.split {
            dataset.deal(seed);
        }
        dataset.remark_on_splits();
        Ok(dataset)
    }

    fn require_clips_in_every_class(&self, source: &Source<'_>) -> Result<(), DataError> {
        for (name, counts) in self.classes.iter().zip(self.counts()) {
            if counts == [0; 3] {
                let first = self.problems.iter().find(|p| word_of(&p.name) == *name);
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

    /// Deals the clips at random, class by class, and says how many speakers leak.
    fn deal(&mut self, seed: u64) {
        for (class, word) in self.classes.iter().enumerate() {
            let of_class = |c: &&mut ClipMeta| c.class == class as u32;
            let len = self.clips.iter_mut().filter(of_class).count();
            let splits = random_splits(seed, word, len);
            for (clip, split) in self.clips.iter_mut().filter(of_class).zip(splits) {
                clip.split = split;
            }
        }
        let (leaking, speakers) = self.leaking_speakers();
        if leaking > 0 {
            self.remarks.push(format!(
                "the random split puts {leaking} of {speakers} speakers into more than one split, so the measured accuracy \
                 will be optimistic"
            ));
        }
    }

    /// Says which splits and classes have no clips, and which entries of the official lists were of no use.
    fn remark_on_splits(&mut self) {
        let speakers = self.leaking_speakers().1;
        self.remarks.extend(split::remarks(self.split_rule, &self.classes, &self.counts(), speakers));
        let unmatched = self.ledger.count(Reason::UnmatchedListEntry);
        if unmatched > 0 && self.split_rule == SplitRule::Official {
            self.remarks.push(format!(
                "{unmatched} entries of the official lists name no clip; the clips they mean may be in the training split"
            ));
        }
    }

    /// Speakers in more than one split, and all speakers.
    fn leaking_speakers(&self) -> (usize, usize) {
        let mut of: std::collections::HashMap<&Name, [bool; 3]> = std::collections::HashMap::new();
        for clip in &self.clips {
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

    /// The samples of clip number `clip`: `[length, channels]`, full scale 32768.
    ///
    /// # Panics
    /// There is no such clip.
    pub fn samples(&self, clip: usize) -> &[i16] {
        let row_len = self.row_len();
        let ClipMeta { row, kept, .. } = self.clips[clip];
        let start = row as usize * row_len + kept.map_or(0, |kept| kept.offset as usize);
        &self.rows[start..start + row_len]
    }

    /// What is kept of clip number `clip`, at most [`DataConfig::windows`] times the length: `[frames, channels]`, full scale 32768. It contains
    /// [`Dataset::samples`], and nothing else if the clip is not longer.
    ///
    /// # Panics
    /// There is no such clip.
    pub fn kept_samples(&self, clip: usize) -> &[i16] {
        let ClipMeta { row, kept, .. } = self.clips[clip];
        let start = row as usize * self.row_len();
        &self.rows[start..start + kept.map_or(self.row_len(), |kept| kept.len as usize)]
    }

    /// Values of an input: length times channels.
    pub fn row_len(&self) -> usize {
        self.length * self.format.channels as usize
    }

    /// Whether the name of any clip tells who speaks; if not, speakers cannot be told apart.
    pub fn names_speakers(&self) -> bool {
        self.clips.iter().any(|clip| names_speaker(&clip.name))
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

fn clip_meta(info: &ClipInfo, split: Split, classes: &[Name]) -> Option<ClipMeta> {
    let word = word_of(&info.name);
    Some(ClipMeta {
        name: info.name.clone(),
        class: classes.iter().position(|c| *c == word)? as u32,
        split,
        speaker: speaker(&info.name),
        len_samples: info.len_samples,
        source_rate_hz: info.source_rate_hz,
        source_channels: info.source_channels,
        start_sample: info.start_sample,
        peak: info.peak,
        clipped_run: info.clipped_run,
        fingerprint: info.fingerprint.clone(),
        row: info.row,
        kept: info.kept,
    })
}

fn check_settings(config: &DataConfig) -> Result<(), DataError> {
    let Format { rate_hz, channels } = config.format;
    let (min_hz, max_hz) = (u64::from(*INPUT_RATES_HZ.start()), u64::from(*INPUT_RATES_HZ.end()));
    for (what, value, min, max) in [
        ("input length", config.length as u64, 1, 1 << 24),
        ("number of windows", config.windows as u64, 1, 1 << 10),
        ("sample rate", rate_hz.into(), min_hz, max_hz),
        ("channel count", channels.into(), 1, 64),
    ] {
        if !(min..=max).contains(&value) {
            return Err(DataError::BadSetting { what, value, min, max });
        }
    }
    Ok(())
}

/// The classes: the caller's, each of which must be a word unless other words are allowed, or all words.
fn resolve_classes(config: &DataConfig, found: &Found, source: &Source<'_>) -> Result<Vec<Name>, DataError> {
    let words = &found.words;
    if words.is_empty() {
        return Err(no_words(found, source));
    }
    let Some(asked) = config.classes.as_deref() else {
        return Ok(words.to_vec());
    };
    let known = asked.iter().filter(|name| words.contains(name) || found.empty.contains(name)).count();
    if asked.len() > 1 && known == 0 {
        let (classes, words) = (asked.to_vec(), words.to_vec());
        return Err(DataError::NoKnownWord { data: source.describe(), classes, words });
    }
    for (i, name) in asked.iter().enumerate() {
        if asked[..i].contains(name) {
            return Err(DataError::RepeatedClass { name: name.clone() });
        }
        if config.allow_other_words {
            continue;
        }
        if found.empty.contains(name) {
            return Err(empty_class(source, &found.ledger, name, None));
        }
        if !words.contains(name) {
            let names = || words.iter().chain(&found.empty);
            let texts: Vec<String> = names().map(Name::to_string).collect();
            // Where few of the names are words, it is the folder that is wrong, not the spelling.
            let is_typing_error = asked.len() == 1 || 2 * known >= asked.len();
            let near = is_typing_error.then(|| nearest(&name.to_string(), texts.iter().map(String::as_str))).flatten();
            let near = names().zip(&texts).find(|(_, text)| Some(text.as_str()) == near);
            let nearest = near.map(|(word, _)| word.clone());
            return Err(DataError::UnknownClass { data: source.describe(), name: name.clone(), nearest });
        }
    }
    if asked.is_empty() {
        return Err(DataError::BadSetting { what: "number of classes", value: 0, min: 1, max: words.len() as u64 });
    }
    Ok(asked.to_vec())
}

/// Why a source has no words, and what to do.
fn no_words(found: &Found, source: &Source<'_>) -> DataError {
    let data = source.describe();
    if let Some(deeper) = &found.deeper {
        let levels = deeper.as_bytes().split(|&byte| byte == b'/').count();
        let (folder, unpack) = match source {
            Source::Folder(path) => (name::display_path(&path.join(deeper.to_path())), false),
            _ => (deeper.to_string(), true),
        };
        return DataError::Deeper { data, levels, folder, unpack };
    }
    let stray = found.ledger.count(Reason::StrayClip);
    let advice = if stray > 0 {
        format!(
            "{stray} clips lie directly in it: put the clips of each word into a folder named after the word (if they are \
             all of one word, give the folder above)"
        )
    } else if found.ledger.count(Reason::UnderscoreFolder) > 0 {
        "a folder whose name begins with `_` is not a class: rename it to use it".into()
    } else {
        "it needs one folder for each word with WAV, FLAC or Ogg Vorbis clips in it".into()
    };
    DataError::NoWords { data, advice }
}

/// Why a class cannot be used, and what to do.
fn empty_class(source: &Source<'_>, ledger: &Ledger, class: &Name, first: Option<ClipError>) -> DataError {
    let of_class = ledger.of_class(class);
    let advice = match of_class.conversion(source) {
        Some(command) => format!("convert its files of other formats to WAV with `{command}`"),
        None if of_class.count(Reason::BrokenLink) > 0 => "replace its links with the files that they name".into(),
        None => "add recordings".into(),
    };
    DataError::EmptyClass { data: source.describe(), name: class.clone(), first: first.map(Box::new), advice }
}
