//! Opening recordings for a command: with progress, remarks, and an ear for interrupts.

use super::context::Context;
use super::table::count;
use super::{interrupt, progress};
use crate::data::{DataConfig, Dataset, Format, Source, embedded};
use crate::nn::NetworkSpec;
use crate::train::TrainConfig;
use anyhow::Result;
use std::path::Path;

/// Skipped clips that are named without `-v`.
const NAMED: usize = 3;

/// How a network's recordings are read.
pub fn config_of(config: &TrainConfig) -> DataConfig {
    DataConfig {
        classes: (!config.classes.is_empty()).then(|| config.classes.clone()),
        split: config.split,
        crop: config.crop,
        strict: config.strict,
        ..heard_by(&config.network)
    }
}

/// All words, at the length, rate and channels of a network's input.
pub fn heard_by(network: &NetworkSpec) -> DataConfig {
    let input = network.input;
    let channels = u32::try_from(input.channels).unwrap_or(u32::MAX);
    DataConfig {
        length: input.length,
        format: Format { rate_hz: input.sample_rate, channels },
        ..DataConfig::default()
    }
}

/// Reads the recordings at `path`, or the built-in ones.
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

/// Says which clips were skipped: the first few, or all with `-v`.
pub fn name_skipped(context: &Context, data: &Dataset) {
    let problems = data.problems();
    if problems.is_empty() {
        return;
    }
    let named = if context.verbose { problems.len() } else { NAMED };
    context.remark(&format!("note: {} skipped", were(problems.len() as u64)));
    for problem in problems.iter().take(named) {
        context.remark(&format!("  {problem}"));
    }
    if problems.len() > named {
        context.remark(&format!("  and {} more; -v names them all", problems.len() - named));
    }
}

fn were(clips: u64) -> String {
    format!("{} {}", count(clips, "clip"), if clips == 1 { "is" } else { "are" })
}
