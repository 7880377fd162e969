//! An explanation in Unicode blocks, for terminals.

use super::error::ExplainError;
use super::filters::FilterBank;
use super::maps::{Map, Mapper, Method};
use super::subject::{ExplainedClip, Subject};
use std::fmt::Write;

/// From nothing to the largest value.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Decibels below the maximum that a block has for nothing.
const RANGE: f64 = 40.0;

/// Values from 0 to 1 as one block each. Values beyond the ends have the blocks of the ends, NaN that of 0.
pub fn blocks(values: impl IntoIterator<Item = f64>) -> String {
    // A conversion to an integer takes NaN for 0.
    let block = |value: f64| BLOCKS[((value * 8.0).round().clamp(0.0, 8.0) as usize).min(8)];
    values.into_iter().map(block).collect()
}

/// The largest value of each of `width` parts, or as many as there are values.
fn narrowed(values: &[f64], width: usize) -> Vec<f64> {
    let width = width.min(values.len());
    let part = |i: usize| &values[i * values.len() / width..(i + 1) * values.len() / width];
    (0..width).map(|i| part(i).iter().copied().fold(0.0, f64::max)).collect()
}

/// The frequency responses of filters, a line each, in `width` columns: channel, centre frequency, and the response from 0 Hz to half the sample rate, 40 dB high.
pub fn responses(bank: &FilterBank, width: usize) -> String {
    let columns = width.saturating_sub(20).clamp(8, 64);
    let kilohertz = bank.rate / 2000.0;
    let mut text = format!("{:>6} {:>9}  {:<columns$}\n", "filter", "centre Hz", format!("0 to {kilohertz:.1} kHz"));
    for filter in &bank.filters {
        let most = filter.response.iter().copied().fold(0.0, f64::max);
        let level = |&magnitude: &f64| match most > 0.0 {
            true => 1.0 + 20.0 * (magnitude / most).log10() / RANGE,
            false => 0.0,
        };
        let levels: Vec<f64> = filter.response.iter().map(level).map(|level| level.max(0.0)).collect();
        let shown = blocks(narrowed(&levels, columns));
        let note = if filter.dead { "  no effect" } else { "" };
        _ = writeln!(text, "{:>6} {:>9.0}  {}{note}", filter.channel, filter.centre, shown.trim_end());
    }
    text
}

/// A clip and its Grad-CAM over time in `width` columns.
///
/// # Errors
/// The memory does not suffice.
pub fn map(subject: &Subject, clip: &ExplainedClip, width: usize) -> Result<String, ExplainError> {
    let method = subject.methods().into_iter().find(|method| matches!(method, Method::GradCam(_)));
    let Some(method) = method else { return Ok(String::new()) };
    let mut mapper = Mapper::new(&subject.network, &subject.weights, method, 1, subject.isa)?;
    let channels = subject.network.spec.input.channels.max(1);
    let frames = clip.input.len() / channels;
    let columns = width.saturating_sub(10).clamp(8, 100).min(frames.max(1));
    let of_wave = Map { values: clip.input.iter().copied().step_by(channels).collect(), step: 1 };
    let line = |map: &Map| {
        let values = map.by_part(frames, columns);
        let most = values.iter().copied().fold(0.0, f64::max);
        blocks(values.into_iter().map(|v| if most > 0.0 { v / most } else { 0.0 }))
    };
    let maps = mapper.maps(&clip.input, &[clip.prediction.class])?;
    let mut text = format!("clip      {}\n", line(&of_wave));
    maps.iter().for_each(|map| _ = writeln!(text, "Grad-CAM  {}", line(map)));
    let seconds = format!("{:.2} s", frames as f64 / subject.rate());
    _ = writeln!(text, "          0{seconds:>rest$}", rest = columns.saturating_sub(1));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_grow_with_the_value() {
        assert_eq!(blocks([0.0, 0.5, 1.0, 7.0, -1.0, f64::NAN]), " ▄██  ");
        assert_eq!(narrowed(&[0.0, 0.5, 0.25, 1.0], 2), [0.5, 1.0]);
        assert_eq!(narrowed(&[], 5), [0.0; 0]);
    }
}
