//! What a data set contains and what is wrong with it, as `stapes data` prints it.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::base::Name;

use super::dataset::{ClipMeta, Dataset};
use super::error::ClipFault;
use super::grouping::Grouping;
use super::ledger::Ledger;
use super::samples::Samples;
use super::split::Split;

/// Largest magnitude of a clip that counts as silent: 1/1024 of full scale, -60 dB.
const SILENT_PEAK: u16 = 32;
/// Consecutive values at full scale from which on a clip counts as clipped; fewer can be a peak that just fits.
const CLIPPED_RUN: u32 = 3;

/// What can be wrong with a clip, a class or a speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// The clip was skipped: its file is broken, of another format or of another channel count.
    Unreadable,
    /// The clip was skipped: there is no sound in its file.
    Empty,
    /// Another sample rate than the network's: the clip is resampled.
    WrongRate,
    /// Shorter than the network's input: the clip is padded with zeros.
    TooShort,
    /// Longer than the network's input: a part of the clip is not used.
    TooLong,
    /// Nothing above -60 dB; of arrays, the same value throughout.
    Silent,
    /// Three or more values in a row at full scale.
    Clipped,
    /// The same samples as another clip.
    Duplicate,
    /// A class without clips in a split in which other classes have some, or a split without any clips.
    MissingClips,
    /// A speaker in more than one split: the measured accuracy will be optimistic.
    SpeakerInTwoSplits,
}

impl FindingKind {
    /// All kinds, the most serious first.
    pub const ALL: [FindingKind; 10] = [
        FindingKind::Unreadable,
        FindingKind::Empty,
        FindingKind::MissingClips,
        FindingKind::TooLong,
        FindingKind::SpeakerInTwoSplits,
        FindingKind::Duplicate,
        FindingKind::Silent,
        FindingKind::Clipped,
        FindingKind::WrongRate,
        FindingKind::TooShort,
    ];

    /// The kind in words, for a table of a data set with this grouping.
    pub const fn name(self, grouping: Grouping) -> &'static str {
        match self {
            FindingKind::Unreadable => "unreadable",
            FindingKind::Empty => "empty",
            FindingKind::WrongRate => "wrong rate",
            FindingKind::TooShort => "too short",
            FindingKind::TooLong => "too long",
            FindingKind::MissingClips => "no clips in a split",
            FindingKind::Silent => "silent",
            FindingKind::Clipped => "clipped",
            FindingKind::Duplicate => "duplicate",
            FindingKind::SpeakerInTwoSplits => match grouping {
                Grouping::Speakers => "speaker in two splits",
                Grouping::Groups => "group in two splits",
            },
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// The clip (`word/file`), the class, or the speaker.
    pub subject: Name,
    /// The details in words.
    pub detail: String,
}

/// Clips of one class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCount {
    /// The class.
    pub name: Name,
    /// Training clips.
    pub training: usize,
    /// Validation clips.
    pub validation: usize,
    /// Test clips.
    pub testing: usize,
    /// Clips that were skipped.
    pub skipped: usize,
}

/// The whole report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Path of the source, or "the embedded set".
    pub source: String,
    /// In the order of the classes.
    pub classes: Vec<ClassCount>,
    /// Clips that can be used.
    pub clips: usize,
    /// Different speakers among them.
    pub speakers: usize,
    /// Files of `_background_noise_`.
    pub noise_files: usize,
    /// What was seen and is not used, beside the clips that were skipped.
    pub ledger: Ledger,
    /// A shell command that converts the files of other formats to WAV, if there are any.
    pub conversion: Option<String>,
    /// How often each kind was found; kinds that were not found are left out.
    pub totals: BTreeMap<FindingKind, usize>,
    /// Every finding, sorted by kind and then by name.
    pub findings: Vec<Finding>,
}

impl Audit {
    /// Examines a data set. Nothing is decoded: what was measured while reading is enough.
    pub fn of(data: &Dataset) -> Audit {
        let mut findings: Vec<Finding> = data.problems().iter().map(|p| finding_of_fault(&p.name, &p.fault)).collect();
        // Segments of the class of silence are made, not recorded.
        let recorded = |clip: &&ClipMeta| Some(clip.class) != data.silence_class();
        let clips: Vec<&ClipMeta> = data.clips().iter().filter(recorded).collect();
        let numbers = (0..data.clips().len()).filter(|&clip| recorded(&&data.clips()[clip]));
        numbers.for_each(|clip| examine(clip, data, &mut findings));
        find_duplicates(&clips, &mut findings);
        find_missing_clips(data, &mut findings);
        let speakers = find_leaking_speakers(&clips, &mut findings);
        findings.sort_by(|a, b| (a.kind, &a.subject).cmp(&(b.kind, &b.subject)));
        let mut totals = BTreeMap::new();
        for finding in &findings {
            *totals.entry(finding.kind).or_insert(0) += 1;
        }
        Audit {
            source: data.source().into(),
            classes: class_counts(data),
            clips: data.clips().len(),
            speakers,
            noise_files: data.noise().len(),
            ledger: data.ledger().clone(),
            conversion: data.conversion().map(String::from),
            totals,
            findings,
        }
    }
}

fn class_counts(data: &Dataset) -> Vec<ClassCount> {
    let skipped = |name: &Name| data.problems().iter().filter(|p| data.class_of_problem(&p.name) == *name).count();
    let row = |(name, [training, validation, testing]): (&Name, [usize; 3])| ClassCount {
        name: name.clone(),
        training,
        validation,
        testing,
        skipped: skipped(name),
    };
    data.classes().iter().zip(data.counts()).map(row).collect()
}

fn finding_of_fault(name: &Name, fault: &ClipFault) -> Finding {
    let kind = match fault {
        ClipFault::EmptyFile | ClipFault::NoSamples => FindingKind::Empty,
        _ => FindingKind::Unreadable,
    };
    Finding { kind, subject: name.clone(), detail: fault.to_string() }
}

fn examine(number: usize, data: &Dataset, findings: &mut Vec<Finding>) {
    let clip = &data.clips()[number];
    let mut add = |kind, detail| findings.push(Finding { kind, subject: clip.name.clone(), detail });
    let rate_hz = data.format().rate_hz;
    if clip.source_rate_hz != rate_hz {
        add(FindingKind::WrongRate, format!("{} Hz, resampled to {rate_hz} Hz", clip.source_rate_hz));
    }
    if clip.len_samples < data.length() as u64 {
        add(FindingKind::TooShort, format!("{} of {} samples, padded with zeros", clip.len_samples, data.length()));
    }
    if clip.len_samples > data.length() as u64 {
        add(FindingKind::TooLong, format!("{} samples, of which {} are used", clip.len_samples, data.length()));
    }
    if let Samples::F32(values) = data.samples(number) {
        // Numbers without a full scale.
        if values.iter().all(|value| *value == values[0]) {
            add(FindingKind::Silent, format!("all its values are {}", values[0]));
        }
        return;
    }
    if clip.peak <= SILENT_PEAK {
        add(FindingKind::Silent, format!("its largest value is {} of 32768", clip.peak));
    }
    if clip.clipped_run >= CLIPPED_RUN {
        add(FindingKind::Clipped, format!("{} values in a row at full scale", clip.clipped_run));
    }
}

/// Every clip but the first of those with equal samples.
fn find_duplicates(clips: &[&ClipMeta], findings: &mut Vec<Finding>) {
    let mut first: HashMap<&str, &ClipMeta> = HashMap::with_capacity(clips.len());
    for clip in clips {
        let original = first.entry(&clip.fingerprint).or_insert(clip);
        if original.name != clip.name {
            let across = if original.split == clip.split { "" } else { ", which is in another split" };
            let detail = format!("the same samples as {}{across}", original.name);
            findings.push(Finding { kind: FindingKind::Duplicate, subject: clip.name.clone(), detail });
        }
    }
}

/// Adds every split without clips, and every class without clips in a split in which others have some.
fn find_missing_clips(data: &Dataset, findings: &mut Vec<Finding>) {
    let kind = FindingKind::MissingClips;
    let counts = data.counts();
    for split in Split::ALL {
        let name = split.short_name();
        if counts.iter().all(|of| of[split as usize] == 0) {
            findings.push(Finding { kind, subject: "all classes".into(), detail: format!("no {name} clips") });
            continue;
        }
        for (class, of) in data.classes().iter().zip(&counts) {
            let all: usize = of.iter().sum();
            if of[split as usize] == 0 && all > 0 {
                let detail = format!("no {name} clips, {all} in other splits");
                findings.push(Finding { kind, subject: class.clone(), detail });
            }
        }
    }
    for (class, _) in data.classes().iter().zip(&counts).filter(|(_, of)| **of == [0; 3]) {
        findings.push(Finding { kind, subject: class.clone(), detail: "no clip that can be used".into() });
    }
}

/// Adds every speaker with clips in more than one split; returns the number of all speakers.
fn find_leaking_speakers(clips: &[&ClipMeta], findings: &mut Vec<Finding>) -> usize {
    let mut counts: BTreeMap<&Name, [usize; 3]> = BTreeMap::new();
    for clip in clips {
        counts.entry(&clip.speaker).or_default()[clip.split as usize] += 1;
    }
    for (speaker, of) in &counts {
        if of.iter().filter(|&&n| n > 0).count() > 1 {
            let parts: Vec<String> = Split::ALL.iter().zip(of).map(|(split, n)| format!("{n} {split}")).collect();
            let kind = FindingKind::SpeakerInTwoSplits;
            findings.push(Finding { kind, subject: (*speaker).clone(), detail: format!("{} clips", parts.join(", ")) });
        }
    }
    counts.len()
}
