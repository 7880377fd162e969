//! Small pictures of waveforms side by side.

use super::{COLOURS, escaped, open, shortened};
use std::fmt::Write;

const WIDTH: f64 = 760.0;
/// Pictures in a row.
const ACROSS: usize = 4;
/// Space between two pictures.
const GAP: f64 = 12.0;
/// Height of a waveform.
const HEIGHT: f64 = 34.0;
/// Space for the lines above the waveforms of a picture, and below the heading with the legend.
const NAME: f64 = 18.0;
const HEAD: f64 = 50.0;
/// Most columns of a waveform: each shows the smallest and the largest of its samples.
const COLUMNS: usize = 120;

/// One small picture.
#[derive(Clone, Debug)]
pub struct Wave {
    /// The line above it.
    pub name: String,
    /// Waveforms below each other, each drawn relative to its largest magnitude; an empty one is left out, with its space.
    pub lines: Vec<Vec<f32>>,
}

/// A picture of waveforms side by side.
#[derive(Clone, Debug)]
pub struct Waves {
    /// The heading.
    pub title: String,
    /// What the first, the second, .. waveform of each small picture shows; the order of their colours.
    pub legend: Vec<String>,
    /// The small pictures, row by row.
    pub waves: Vec<Wave>,
    /// Samples over the width of a small picture; shorter waveforms are in its middle.
    pub samples: usize,
}

impl Waves {
    /// The picture in SVG.
    pub fn to_svg(&self) -> String {
        let lines = self.legend.len().max(1);
        let (across, down) = (WIDTH + GAP, NAME + HEIGHT * lines as f64 + GAP);
        let rows = self.waves.len().div_ceil(ACROSS);
        let description = format!("{}: {}", self.title, self.legend.join("; "));
        let mut text = open(WIDTH as usize, (HEAD + rows as f64 * down) as usize, &description);
        _ = writeln!(text, "<text class=\"t\" x=\"0\" y=\"16\">{}</text>", escaped(&shortened(&self.title, 92)));
        let mut x = 0.0;
        for (number, entry) in self.legend.iter().enumerate() {
            let k = number % COLOURS;
            _ = writeln!(
                text,
                "<path class=\"line s c{k}\" d=\"M{x:.0} 34h20\"/><text x=\"{:.0}\" y=\"38\">{}</text>",
                x + 26.0,
                escaped(entry)
            );
            x += 50.0 + super::text_width(entry);
        }
        for (at, wave) in self.waves.iter().enumerate() {
            let (x, y) = ((at % ACROSS) as f64 * across / ACROSS as f64, HEAD + (at / ACROSS) as f64 * down);
            _ = writeln!(text, "<g transform=\"translate({x:.1},{y:.1})\">");
            self.draw(&mut text, wave, across / ACROSS as f64 - GAP);
            text += "</g>\n";
        }
        text + "</svg>\n"
    }

    fn draw(&self, text: &mut String, wave: &Wave, width: f64) {
        let name = escaped(&shortened(&wave.name, (width / 6.4) as usize));
        _ = writeln!(text, "<text x=\"0\" y=\"12\">{name}<title>{}</title></text>", escaped(&wave.name));
        for (number, samples) in wave.lines.iter().enumerate() {
            let middle = NAME + HEIGHT * (number as f64 + 0.5);
            let step = width / self.samples.max(1) as f64;
            let free = self.samples.saturating_sub(samples.len());
            let path = path(samples, [step * free as f64 / 2.0, middle], step);
            _ = writeln!(
                text,
                "<path class=\"grid\" d=\"M0 {middle:.1}h{width:.1}\"/><path class=\"s c{}\" fill=\"none\" stroke-linejoin=\"round\" d=\"{path}\"/>",
                number % COLOURS
            );
        }
    }
}

/// The waveform from `left` on around the height `middle`, with `step` units for each sample.
fn path(samples: &[f32], [left, middle]: [f64; 2], step: f64) -> String {
    let most = samples.iter().filter(|v| v.is_finite()).fold(0.0, |most: f32, v| most.max(v.abs()));
    let scale = (HEIGHT - 6.0) / 2.0 / f64::from(if most > 0.0 { most } else { 1.0 });
    let y = |v: f32| middle - scale * f64::from(if v.is_finite() { v } else { 0.0 });
    let mut path = String::new();
    let mut to = |x: f64, y: f64| {
        let command = if path.is_empty() { 'M' } else { 'L' };
        _ = write!(path, "{command}{x:.1} {y:.1}");
    };
    let per_column = samples.len().div_ceil(COLUMNS).max(1);
    for (column, values) in samples.chunks(per_column).enumerate() {
        let x = left + step * (column * per_column) as f64;
        let low = values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if per_column > 1 {
            to(x, y(low));
        }
        to(x, y(high));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waveforms_are_relative_to_their_peak_and_long_ones_keep_their_extremes() {
        let short = path(&[0.0, 0.5, -0.5], [5.0, 17.0], 10.0);
        assert_eq!(short, "M5.0 17.0L15.0 3.0L25.0 31.0");
        let mut long = vec![0.0; 1000];
        long[777] = -1e-3;
        let drawn = path(&long, [0.0, 17.0], 0.2);
        assert!(drawn.matches('L').count() < 2 * COLUMNS && drawn.contains(" 31.0"), "{drawn}");
        assert!(!path(&[f32::NAN, f32::INFINITY, 0.0], [0.0, 17.0], 1.0).contains("NaN"));
        let wave = Wave { name: "a <b>".into(), lines: vec![vec![1.0], Vec::new()] };
        let waves = Waves { title: "T".into(), legend: vec!["x".into(), "y".into()], waves: vec![wave; 5], samples: 1 };
        let svg = waves.to_svg();
        assert_eq!((svg.matches("a &lt;b&gt;<title>").count(), svg.matches("NaN").count()), (5, 0));
    }
}
