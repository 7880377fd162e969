//! Heat maps: a matrix as a picture between two axes, with a colour bar.

use super::axis::{Axis, Placed};
use super::raster::{Palette, Raster};
use super::{escaped, open, shortened};
use std::fmt::Write;

/// Space for the vertical axis and its marks.
const LEFT: f64 = 58.0;
/// Space for the colour bar, its marks and its unit.
const RIGHT: f64 = 88.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 44.0;
/// From the matrix to the colour bar, and the width of the bar.
const BAR: [f64; 2] = [16.0, 14.0];
/// Shades of the colour bar.
const SHADES: usize = 64;
/// Most columns of a picture: about one for each unit of its width.
const MOST_COLUMNS: usize = 600;

/// Where the first row of a matrix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstRow {
    /// At the top, as in a list: the vertical axis points down.
    Top,
    /// At the bottom: the vertical axis points up, as that of frequencies.
    Bottom,
}

/// A heat map.
#[derive(Clone, Debug)]
pub struct Heat {
    /// The heading.
    pub title: String,
    /// What the columns are; without a range, they are numbered from 0.
    pub x: Axis,
    /// What the rows are; without a range, they are numbered from 0.
    pub y: Axis,
    /// The values, the first row first.
    pub raster: Raster,
    /// Where the first row is.
    pub first_row: FirstRow,
    /// The colours: [`Palette::Signed`] for values around 0, another one for a range.
    pub palette: Palette,
    /// The values with the first and the last colour. With [`Palette::Signed`] the second one counts, and the first colour is that of its opposite.
    pub range: [f32; 2],
    /// What the values are, with the unit: "gain (dB)".
    pub values: String,
    /// Width of the picture with its labels, at least 300 units; 760 by default.
    pub width: f64,
    /// Height of the matrix.
    pub height: f64,
}

impl Heat {
    /// The picture in SVG. With more columns than the picture has units, one stands for several, with the value that is furthest from that of the first colour (from 0 with [`Palette::Signed`]).
    pub fn to_svg(&self) -> String {
        let (full, [low, high]) = (self.width.max(300.0), self.ends());
        let width = full - LEFT - RIGHT;
        let description = format!("{}: {} by {} and {}", self.title, self.values, self.y.label, self.x.label);
        let mut text = open(full.ceil() as usize, (TOP + self.height + BOTTOM).ceil() as usize, &description);
        let title = escaped(&shortened(&self.title, (full / 8.0) as usize));
        _ = writeln!(
            text,
            "<text class=\"t\" x=\"0\" y=\"16\">{title}</text>\n<g transform=\"translate({LEFT},{TOP})\">"
        );
        image(&mut text, [0.0, width, self.height], &self.shown().to_uri(self.palette));
        frame(&mut text, 0.0, width, self.height);
        let numbered = |axis: &Axis, count: usize| match axis.range {
            None => axis.clone().between(0.0, count as f64),
            Some(_) => axis.clone(),
        };
        let x = numbered(&self.x, self.raster.cols).placed(std::iter::empty(), width);
        let y = numbered(&self.y, self.raster.rows).placed(std::iter::empty(), self.height);
        self.axes(&mut text, &x, &y, width);
        self.bar(&mut text, width + BAR[0], [low, high]);
        text + "</g>\n</svg>\n"
    }

    /// The values of the first and the last colour.
    fn ends(&self) -> [f32; 2] {
        let [low, high] = self.range;
        match self.palette {
            Palette::Signed => [-high.abs(), high.abs()],
            _ => [low, high],
        }
    }

    /// The matrix in the range of the palette, from top to bottom.
    fn shown(&self) -> Raster {
        let [low, high] = self.ends();
        let span = if high > low { high - low } else { 1.0 };
        let share = |&value: &f32| match self.palette {
            Palette::Signed => value / (span / 2.0),
            _ => (value - low) / span,
        };
        let cols = self.raster.cols.max(1);
        let rows = self.raster.values.chunks(cols).map(|row| row.iter().map(share).collect::<Vec<f32>>());
        let values = match self.first_row {
            FirstRow::Top => rows.flatten().collect(),
            FirstRow::Bottom => rows.rev().flatten().collect(),
        };
        Raster::new(self.raster.rows, self.raster.cols, values).narrowed(MOST_COLUMNS)
    }

    fn axes(&self, text: &mut String, x: &Placed, y: &Placed, width: f64) {
        for (value, label) in y.ticks((self.height / 36.0) as usize) {
            let Some(at) = y.at(value) else { continue };
            let at = if self.first_row == FirstRow::Top { at } else { self.height - at };
            _ = writeln!(
                text,
                "<path class=\"axis\" d=\"M-5 {at:.1}h5\"/><text class=\"e\" x=\"-8\" y=\"{:.1}\">{label}</text>",
                at + 4.0
            );
        }
        for (value, label) in x.ticks(8) {
            let Some(at) = x.at(value) else { continue };
            _ = writeln!(
                text,
                "<path class=\"axis\" d=\"M{at:.1} {0:.1}v5\"/><text class=\"c\" x=\"{at:.1}\" y=\"{1:.1}\">{label}</text>",
                self.height,
                self.height + 18.0
            );
        }
        _ = writeln!(
            text,
            "<text class=\"c\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            width / 2.0,
            self.height + 37.0,
            escaped(&self.x.label)
        );
        turned(text, -44.0, self.height / 2.0, &self.y.label);
    }

    fn bar(&self, text: &mut String, left: f64, [low, high]: [f32; 2]) {
        let first = if self.palette == Palette::Signed { -1.0 } else { 0.0 };
        let shade = |row: usize| 1.0 - (1.0 - first) * row as f32 / (SHADES - 1) as f32;
        let shades = Raster::new(SHADES, 1, (0..SHADES).map(shade).collect());
        image(text, [left, BAR[1], self.height], &shades.to_uri(self.palette));
        frame(text, left, BAR[1], self.height);
        let axis = Axis::linear("").between(low.into(), high.into()).placed(std::iter::empty(), self.height);
        let right = left + BAR[1];
        for (value, label) in axis.ticks((self.height / 36.0) as usize) {
            let Some(at) = axis.at(value).map(|at| self.height - at) else { continue };
            _ = writeln!(
                text,
                "<path class=\"axis\" d=\"M{right:.1} {at:.1}h4\"/><text x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                right + 7.0,
                at + 4.0
            );
        }
        turned(text, right + 50.0, self.height / 2.0, &self.values);
    }
}

/// A picture whose pixels keep their edges; nothing without an address.
fn image(text: &mut String, [left, width, height]: [f64; 3], uri: &str) {
    _ = writeln!(
        text,
        "<image x=\"{left:.1}\" y=\"0\" width=\"{width:.1}\" height=\"{height:.1}\" preserveAspectRatio=\"none\" \
         style=\"image-rendering:pixelated\" href=\"{uri}\"/>"
    );
}

fn frame(text: &mut String, left: f64, width: f64, height: f64) {
    _ = writeln!(
        text,
        "<rect class=\"grid\" fill=\"none\" x=\"{left:.1}\" y=\"0\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
    );
}

/// Text that reads upwards.
fn turned(text: &mut String, x: f64, y: f64, label: &str) {
    let label = escaped(label);
    _ = writeln!(text, "<text class=\"c\" transform=\"translate({x:.1},{y:.1}) rotate(-90)\">{label}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    fn heat(rows: usize, cols: usize, values: Vec<f32>, first_row: FirstRow, palette: Palette) -> Heat {
        Heat {
            title: "A & B".into(),
            x: Axis::linear("time (s)").between(0.0, 1.0),
            y: Axis::linear("channel"),
            raster: Raster::new(rows, cols, values),
            first_row,
            palette,
            range: [-40.0, 0.0],
            values: "gain (dB)".into(),
            width: 760.0,
            height: 120.0,
        }
    }

    /// The width and height of the first picture, and the red of its pixels.
    fn pixels(svg: &str) -> (u32, u32, Vec<u8>) {
        let data = svg.split("base64,").nth(1).unwrap().split('"').next().unwrap();
        let png = STANDARD.decode(data).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels.iter().copied().step_by(4).collect())
    }

    #[test]
    fn rows_are_in_the_order_that_was_asked_for() {
        let values = vec![-40.0, -20.0, 0.0, 0.0, 0.0, 10.0];
        let top = heat(2, 3, values.clone(), FirstRow::Top, Palette::Grey).to_svg();
        assert_eq!(pixels(&top), (3, 2, vec![255, 128, 0, 0, 0, 0]));
        let bottom = heat(2, 3, values, FirstRow::Bottom, Palette::Grey).to_svg();
        assert_eq!(pixels(&bottom), (3, 2, vec![0, 0, 0, 255, 128, 0]));
        assert!(bottom.contains("A &amp; B") && bottom.contains(">gain (dB)<") && bottom.contains(">-40<"));
        assert_eq!((top.matches("<image").count(), top.contains("NaN")), (2, false));
    }

    #[test]
    fn signed_values_are_white_at_zero_whatever_the_range() {
        let mut signed = heat(1, 3, vec![-5.0, 0.0, 10.0], FirstRow::Top, Palette::Signed);
        signed.range = [0.0, 10.0];
        // Half way from white to blue, white, orange.
        assert_eq!(pixels(&signed.to_svg()), (3, 1, vec![128, 255, 213]));
    }

    #[test]
    fn wide_and_empty_matrices_have_pictures() {
        let mut wide = vec![-40.0; 2 * 5000];
        wide[4999] = 0.0;
        let (width, height, red) = pixels(&heat(2, 5000, wide, FirstRow::Top, Palette::Grey).to_svg());
        assert_eq!((width, height, red[599], red[598]), (600, 2, 0, 255));
        let mut empty = heat(0, 0, vec![], FirstRow::Bottom, Palette::Viridis);
        empty.range = [f32::NAN, f32::NAN];
        assert!(empty.to_svg().ends_with("</svg>\n"));
    }
}
