//! Opens recordings for a command, with progress, remarks and interrupts.

use super::context::Context;
use super::table::{count, thousands};
use super::{interrupt, progress};
use crate::base::{Name, Standardisation};
use crate::data::{
    DataConfig, DataError, Dataset, ExtraClasses, Format, Ledger, Reason, Source, Split, SplitRule, Standardise,
    embedded,
};
use crate::nn::{Input, NetworkSpec};
use crate::train::TrainConfig;
#[cfg(any(feature = "classify", feature = "explain"))]
use crate::train::{RunFolder, check_split};
use anyhow::Result;
use std::path::Path;
#[cfg(any(feature = "classify", feature = "explain"))]
use std::sync::Arc;

/// Skipped clips that are named without `-v`.
const NAMED: usize = 3;

/// How the recordings of a run are read.
pub fn config_of(config: &TrainConfig) -> DataConfig {
    DataConfig {
        classes: (!config.classes.is_empty()).then(|| config.classes.clone()),
        extra: config.extra_classes(),
        split: config.split,
        crop: config.crop,
        strict: config.strict,
        windows: if config.augment.random_crop { RANDOM_CROP_WINDOWS } else { 1 },
        standardise: if config.standardise { Standardise::ByTrainingClips } else { Standardise::No },
        ..input_of(&config.network)
    }
}

/// How the recordings of a trained network are read, which was trained on clips that were standardised in this way.
pub fn config_of_trained(config: &TrainConfig, standardisation: Option<&Standardisation>) -> DataConfig {
    let standardise = standardisation.map_or(Standardise::No, |values| Standardise::By(values.clone()));
    DataConfig { standardise, ..config_of(config) }
}

/// How other recordings than its own are read for a trained network with these classes, whose own are read as `own` says. Nothing is added to them:
/// their other words are the class `_unknown_`, if the network has it.
pub fn of_others(own: DataConfig, classes: Vec<Name>, split: SplitRule) -> DataConfig {
    DataConfig { classes: Some(classes), split, allow_other_words: true, extra: ExtraClasses::default(), ..own }
}

/// The input of a network for the arrays at `path`; nothing if there is sound, which is converted to the input of a network.
pub fn input_for(path: Option<&Path>) -> Result<Option<Input>, DataError> {
    let Some(path) = path.filter(|path| path.is_file()) else { return Ok(None) };
    let input = |shape: crate::data::ArrayShape| {
        let Format { rate_hz, .. } = shape.format();
        Input { length: shape.length, channels: shape.channels, sample_rate: rate_hz }
    };
    Ok(Source::open(path)?.array_shape()?.map(input))
}

/// The settings of a run on the data that they name, and a remark. A network whose input is not given takes that of arrays; alterations of sound that a
/// recipe asks for are left out for arrays, unless the command line has `set` them.
pub fn follow(mut config: TrainConfig, set: &[String]) -> Result<(TrainConfig, Option<String>)> {
    let Some(input) = input_for(config.data.as_deref())? else { return Ok((config, None)) };
    if config.network.input == Input::default() {
        config.network.input = input;
    }
    let is_set = |key: &str| set.iter().any(|pair| pair.split('=').next().is_some_and(|own| own.trim() == key));
    let augment = &mut config.augment;
    let mut left_out = Vec::new();
    for (key, value) in [("noise", &mut augment.noise), ("equaliser", &mut augment.equaliser)] {
        if *value > 0.0 && !is_set(key) {
            *value = 0.0;
            left_out.push(format!("`{key}`"));
        }
    }
    let remark = format!("note: {} of the recipe alter sound, and are left out for arrays", left_out.join(" and "));
    Ok((config, (!left_out.is_empty()).then_some(remark)))
}

/// How much of a longer clip is kept for random windows of it, in lengths of the network's input.
const RANDOM_CROP_WINDOWS: usize = 4;

/// All words, at the length, rate and channels of a network's input.
pub fn input_of(network: &NetworkSpec) -> DataConfig {
    let input = network.input;
    let channels = u32::try_from(input.channels).unwrap_or(u32::MAX);
    DataConfig {
        length: input.length,
        format: Format { rate_hz: input.sample_rate, channels },
        ..DataConfig::default()
    }
}

/// Reads the recordings at `path`, or the embedded ones.
pub fn open(context: &Context, path: Option<&Path>, config: &DataConfig) -> Result<Dataset> {
    let source = match path {
        Some(path) => Source::open(path)?,
        None => Source::Embedded(embedded()),
    };
    let reading = progress::Reading::new(context, &source);
    let opened = Dataset::open(&source, config, &|stage, done, total| {
        reading.report(stage, done, total);
        interrupt::flow()
    });
    reading.finish();
    let data = opened?;
    for remark in data.remarks() {
        context.remark(&format!("note: {remark}"));
    }
    Ok(data)
}

/// Reads the recordings of a run, which may have been moved to `moved`, and checks that their split is that of the run.
#[cfg(any(feature = "classify", feature = "explain"))]
pub fn open_own(
    context: &Context,
    moved: Option<&Path>,
    folder: &RunFolder,
    reading: &DataConfig,
) -> Result<Arc<Dataset>> {
    interrupt::watch()?;
    let own = TrainConfig::load(&folder.config())?.data;
    let data = Arc::new(open(context, moved.or(own.as_deref()), reading)?);
    check_split(folder, &data)?;
    interrupt::unwatch();
    name_skipped(context, &data);
    Ok(data)
}

/// Says what is not used: the skipped clips, the first few or all with `-v`, and a line on everything else.
pub fn name_skipped(context: &Context, data: &Dataset) {
    let problems = data.problems();
    let named = if context.verbose { problems.len() } else { NAMED };
    if !problems.is_empty() {
        let verb = if problems.len() == 1 { "is" } else { "are" };
        context.remark(&format!("note: {} {verb} skipped", count(problems.len() as u64, "clip")));
    }
    for problem in problems.iter().take(named) {
        context.remark(&format!("  {problem}"));
    }
    if problems.len() > named {
        context.remark(&format!("  and {} more; -v names them all", problems.len() - named));
    }
    // Words that are none of the classes concern an evaluation only, which names them.
    // The recordings of noise are used for silence.
    let told = |reason: &Reason| match reason {
        Reason::OtherWord => false,
        Reason::BackgroundNoise => data.silence_class().is_none(),
        _ => true,
    };
    let lines = unused_lines(data.ledger()).into_iter().filter(|(reason, _)| told(reason));
    let lines: Vec<String> = lines.map(|(_, line)| line).collect();
    if !lines.is_empty() {
        let note = format!("note: skipped {}; `stapes data` with this data names them", lines.join("; "));
        context.remark(&note);
    }
}

/// `4 words`, or `4 classes` of arrays; added classes are not counted.
pub fn count_classes(data: &Dataset) -> String {
    let added = [data.unknown_class(), data.silence_class()].into_iter().flatten().count();
    match (data.is_sound(), data.classes().len() - added) {
        (true, n) => count(n as u64, "word"),
        (false, 1) => "1 class".into(),
        (false, n) => format!("{n} classes"),
    }
}

/// `9 speakers`, or `9 groups` of arrays.
pub fn count_speakers(data: &Dataset, n: usize) -> String {
    count(n as u64, data.grouping().noun())
}

/// What the added classes of a data set are made of, a line for each.
pub fn added_classes(data: &Dataset) -> Vec<String> {
    let counts = data.counts();
    let line = |what: &str, class: u32, per_epoch: usize, noun: &str| {
        let [training, validation, test] = counts[class as usize].map(|n| thousands(n as u64));
        let of = if per_epoch < counts[class as usize][0] { format!(" of {training}") } else { String::new() };
        let per_epoch = thousands(per_epoch as u64);
        format!("{what:8} {per_epoch}{of} {noun} in each epoch, {validation} validation, {test} test")
    };
    let unknown = data.unknown_class().map(|class| line("unknown", class, data.unknown_per_epoch(), "clips"));
    let silence = data
        .silence_class()
        .map(|class| line("silence", class, counts[class as usize][Split::Training as usize], "segments"));
    unknown.into_iter().chain(silence).collect()
}

/// The first few of some names, with commas.
pub fn name_list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    names[..names.len().min(SHOWN)].join(", ") + if names.len() > SHOWN { ", .." } else { "" }
}

/// What is not used, a phrase for each reason: "3 clips in folders within word folders".
pub fn unused_lines(ledger: &Ledger) -> Vec<(Reason, String)> {
    let counted = Reason::ALL.into_iter().map(|reason| (reason, ledger.count(reason))).filter(|&(_, n)| n > 0);
    counted.map(|(reason, n)| (reason, format!("{} {}", count(n, reason.noun()), reason.why()))).collect()
}
