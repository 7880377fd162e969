//! Strips: pictures of one clip above each other, with a common axis of time.

use super::axis::Axis;
use super::raster::{Palette, Raster};
use super::{escaped, open, shortened};
use std::fmt::Write;

const WIDTH: f64 = 760.0;
/// Space for the names of the strips.
const LEFT: f64 = 118.0;
const RIGHT: f64 = 12.0;
const GAP: f64 = 8.0;
/// Space for the axis.
const BOTTOM: f64 = 40.0;
/// Columns of a waveform or raster.
pub const COLUMNS: usize = 420;

/// What a strip shows.
#[derive(Clone, Debug)]
pub enum Content {
    /// The samples of a waveform, full scale 1.
    Wave(Vec<f32>),
    /// A matrix whose columns are moments.
    Raster(Raster, Palette),
}

/// One strip.
#[derive(Clone, Debug)]
pub struct Strip {
    /// The name at the left; the second part is on a line of its own.
    pub name: [String; 2],
    /// What is shown.
    pub content: Content,
    /// Values from 0 to 1 at equal distances over the whole length, in orange over the content.
    pub overlay: Option<Vec<f32>>,
    /// Height, units.
    pub height: f64,
}

/// A picture of strips.
#[derive(Clone, Debug)]
pub struct Strips {
    /// The heading.
    pub title: String,
    /// The length of all strips, seconds.
    pub seconds: f64,
    /// The strips, from top to bottom.
    pub strips: Vec<Strip>,
}

impl Strips {
    /// The picture in SVG.
    pub fn to_svg(&self) -> String {
        let width = WIDTH - LEFT - RIGHT;
        let top = 28.0;
        let heights: f64 = self.strips.iter().map(|strip| strip.height + GAP).sum();
        let names: Vec<String> = self.strips.iter().map(|strip| strip.name.join(" ")).collect();
        let description = format!("{}: {}, over time", self.title, names.join("; "));
        let mut text = open(WIDTH as usize, (top + heights + BOTTOM).ceil() as usize, &description);
        _ = writeln!(text, "<text class=\"t\" x=\"0\" y=\"16\">{}</text>", escaped(&shortened(&self.title, 92)));
        let mut y = top;
        for strip in &self.strips {
            strip.draw(&mut text, y, width);
            y += strip.height + GAP;
        }
        let axis = Axis::linear("").between(0.0, self.seconds).placed(std::iter::empty(), width);
        for (value, label) in axis.ticks(8) {
            if let Some(at) = axis.at(value) {
                let x = LEFT + at;
                _ = writeln!(
                    text,
                    "<path class=\"axis\" d=\"M{x:.1} {:.1}v5\"/><text class=\"c\" x=\"{x:.1}\" y=\"{:.1}\">{label}</text>",
                    y - GAP,
                    y + 10.0
                );
            }
        }
        let (middle, base) = (LEFT + width / 2.0, y + 28.0);
        _ = writeln!(text, "<text class=\"c\" x=\"{middle:.1}\" y=\"{base:.1}\">time (s)</text>");
        text + "</svg>\n"
    }
}

impl Strip {
    fn draw(&self, text: &mut String, y: f64, width: f64) {
        let height = self.height;
        let lines = self.name.iter().filter(|name| !name.is_empty()).count() as f64;
        let first = y + height / 2.0 + 4.0 - 7.0 * (lines - 1.0).max(0.0);
        for (line, name) in self.name.iter().filter(|name| !name.is_empty()).enumerate() {
            let base = first + 14.0 * line as f64;
            let name = escaped(&shortened(name, 18));
            _ = writeln!(text, "<text class=\"e\" x=\"{:.1}\" y=\"{base:.1}\">{name}</text>", LEFT - 10.0);
        }
        let image = |text: &mut String, raster: &Raster, palette: Palette| {
            if raster.values.is_empty() {
                return;
            }
            _ = writeln!(
                text,
                "<image x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" preserveAspectRatio=\"none\" style=\"image-rendering:pixelated\" href=\"{}\"/>",
                raster.narrowed(COLUMNS).to_uri(palette)
            );
        };
        let overlay = self.overlay.as_ref().map(|values| Raster::new(1, values.len(), values.clone()));
        match &self.content {
            Content::Raster(raster, palette) => {
                image(text, raster, *palette);
                overlay.iter().for_each(|overlay| image(text, overlay, Palette::Overlay));
            }
            Content::Wave(samples) => {
                overlay.iter().for_each(|overlay| image(text, overlay, Palette::Overlay));
                _ = writeln!(
                    text,
                    "<path class=\"grid\" d=\"M{LEFT} {:.1}h{width:.1}\"/><path d=\"{}\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"1\"/>",
                    y + height / 2.0,
                    wave(samples, y, height, width)
                );
            }
        }
        _ = writeln!(
            text,
            "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"none\" class=\"grid\"/>"
        );
    }
}

/// The range of the samples of each column, as a path; the largest magnitude fills the height.
fn wave(samples: &[f32], y: f64, height: f64, width: f64) -> String {
    let most = samples.iter().filter(|v| v.is_finite()).fold(1e-9f32, |most, v| most.max(v.abs()));
    let columns = samples.len().clamp(1, COLUMNS);
    let mut path = String::new();
    for column in 0..columns {
        let part = &samples[column * samples.len() / columns..(column + 1) * samples.len() / columns];
        let low = part.iter().copied().filter(|v| v.is_finite()).fold(f32::INFINITY, f32::min);
        let high = part.iter().copied().filter(|v| v.is_finite()).fold(f32::NEG_INFINITY, f32::max);
        if low > high {
            continue;
        }
        let x = LEFT + (column as f64 + 0.5) * width / columns as f64;
        let at = |v: f32| y + height / 2.0 - f64::from(v / most) * (height / 2.0 - 1.0);
        _ = write!(path, "M{x:.1} {:.1}V{:.1}", at(high) - 0.3, at(low) + 0.3);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strip_is_drawn_and_named() {
        let strip = |name: &str, content: Content, overlay: Option<Vec<f32>>| Strip {
            name: [name.into(), "2 < 3".into()],
            content,
            overlay,
            height: 40.0,
        };
        let raster = Raster::new(2, 3, vec![0.0; 6]);
        let strips = vec![
            strip("wave", Content::Wave(vec![0.0, 0.5, f32::NAN, -0.5]), Some(vec![0.0, 1.0])),
            strip("raster", Content::Raster(raster, Palette::Viridis), None),
            strip("silence", Content::Wave(vec![0.0; 9]), None),
            strip("empty", Content::Wave(vec![]), None),
        ];
        let svg = Strips { title: "A & B".into(), seconds: 1.0, strips }.to_svg();
        assert_eq!((svg.matches("<image").count(), svg.matches("2 &lt; 3</text>").count()), (2, 4));
        assert!(svg.contains("A &amp; B") && svg.contains(">0.4<") && svg.contains("time (s)") && !svg.contains("NaN"));
    }
}
