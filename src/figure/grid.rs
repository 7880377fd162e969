//! Small multiples: a grid of small plots with common axes.

use super::axis::{Axis, Placed};
use super::{escaped, open, shortened};
use std::fmt::Write;

const WIDTH: f64 = 760.0;
const LINE: f64 = 18.0;
/// Space at both sides, for the middle of a mark at the edge of a panel.
const EDGE: f64 = 6.0;
/// Space between two columns.
const GAP: f64 = 22.0;
/// Height of the title of a cell, and of its panels; space below it.
const HEIGHTS: [f64; 3] = [18.0, 46.0, 18.0];
/// Space for the marks at the left of a panel.
const MARKS: f64 = 32.0;
/// Space for the marks of the horizontal axes under the last row.
const BOTTOM: f64 = 20.0;

/// One of the plots side by side in every cell.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What it shows, with the units of both axes: "weight over time (ms)".
    pub label: String,
    /// The horizontal axis, with a range.
    pub x: Axis,
    /// The vertical axis, with a range.
    pub y: Axis,
    /// Whether the vertical axis has marks.
    pub marks: bool,
    /// Whether each value is a bar from 0 rather than a point of a line.
    pub bars: bool,
    /// Its share of the width of a cell, relative to those of the others.
    pub share: f64,
}

/// A cell of the grid.
#[derive(Clone, Debug)]
pub struct Cell {
    /// What it shows: "17 · 1.2 kHz".
    pub title: String,
    /// What is remarkable about it, at the right of the title; may be empty.
    pub note: String,
    /// For each panel its lines, each with its points.
    pub lines: Vec<Vec<Vec<[f64; 2]>>>,
}

/// A picture of small plots.
#[derive(Clone, Debug)]
pub struct Grid {
    /// The heading.
    pub title: String,
    /// The plots side by side in every cell.
    pub panels: Vec<Panel>,
    /// The cells, row by row.
    pub cells: Vec<Cell>,
    /// How many cells a row has.
    pub columns: usize,
}

/// A panel with its place in a cell.
struct PlacedPanel<'a> {
    panel: &'a Panel,
    left: f64,
    width: f64,
    x: Placed,
    y: Placed,
}

impl Grid {
    /// The picture in SVG, 760 units wide.
    pub fn to_svg(&self) -> String {
        let columns = self.columns.clamp(1, 12);
        let rows = self.cells.len().div_ceil(columns);
        let cell = (WIDTH - 2.0 * EDGE - GAP * (columns - 1) as f64) / columns as f64;
        let top = 30.0 + LINE * self.panels.len() as f64;
        let pitch: f64 = HEIGHTS.iter().sum();
        let full = top + pitch * rows as f64 + BOTTOM;
        let labels: Vec<&str> = self.panels.iter().map(|panel| panel.label.as_str()).collect();
        let description = format!("{}: {} small plots of {}", self.title, self.cells.len(), labels.join(" and "));
        let mut text = open(WIDTH as usize, full.ceil() as usize, &description);
        _ = writeln!(text, "<text class=\"t\" x=\"0\" y=\"16\">{}</text>", escaped(&shortened(&self.title, 92)));
        for (number, panel) in self.panels.iter().enumerate() {
            let (y, label) = (36.0 + LINE * number as f64, escaped(&panel.label));
            _ = writeln!(text, "<text x=\"0\" y=\"{y:.0}\">{}{label}</text>", self.side(number));
        }
        let panels = self.placed(cell);
        for (number, it) in self.cells.iter().enumerate() {
            let (row, column) = (number / columns, number % columns);
            let (x, y) = (EDGE + column as f64 * (cell + GAP), top + row as f64 * pitch);
            _ = writeln!(text, "<g transform=\"translate({x:.1},{y:.1})\">");
            it.draw(&mut text, &panels, cell);
            if number + columns >= self.cells.len() {
                panels.iter().for_each(|panel| panel.horizontal_marks(&mut text));
            }
            text += "</g>\n";
        }
        text + "</svg>\n"
    }

    /// Where the panel is, if there are several.
    fn side(&self, number: usize) -> &'static str {
        match (self.panels.len(), number) {
            (2, 0) => "left: ",
            (2, _) => "right: ",
            _ => "",
        }
    }

    fn placed(&self, cell: f64) -> Vec<PlacedPanel<'_>> {
        let marks = |panel: &Panel| if panel.marks { MARKS } else { 0.0 };
        // Panels without marks need some space between them too.
        let fixed = self.panels.iter().map(marks).sum::<f64>() + 6.0 * self.panels.len().saturating_sub(1) as f64;
        let shares: f64 = self.panels.iter().map(|panel| panel.share.max(0.01)).sum();
        let mut left = 0.0;
        let placed = self.panels.iter().map(|panel| {
            left += marks(panel);
            let width = (cell - fixed).max(1.0) * panel.share.max(0.01) / shares;
            let x = panel.x.placed(std::iter::empty(), width);
            let y = panel.y.placed(std::iter::empty(), HEIGHTS[1]);
            let placed = PlacedPanel { panel, left, width, x, y };
            left += width + 6.0;
            placed
        });
        placed.collect()
    }
}

impl Cell {
    fn draw(&self, text: &mut String, panels: &[PlacedPanel<'_>], width: f64) {
        let title = escaped(&self.title);
        _ = write!(text, "<text x=\"0\" y=\"12\">{title}</text>");
        if !self.note.is_empty() {
            _ = write!(text, "<text class=\"e b\" x=\"{width:.1}\" y=\"12\">{}</text>", escaped(&self.note));
        }
        text.push('\n');
        for (panel, lines) in panels.iter().zip(&self.lines) {
            panel.frame(text);
            for (number, points) in lines.iter().enumerate() {
                panel.line(text, number, points);
            }
        }
    }
}

impl PlacedPanel<'_> {
    /// The border, the line of zero, and the marks of the vertical axis.
    fn frame(&self, text: &mut String) {
        let (left, top, width, height) = (self.left, HEIGHTS[0], self.width, HEIGHTS[1]);
        _ = write!(
            text,
            "<rect class=\"grid\" fill=\"none\" x=\"{left:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\"/>"
        );
        if !self.panel.marks {
            if let Some(zero) = self.y.at(0.0) {
                _ = write!(text, "<path class=\"grid\" d=\"M{left:.1} {:.1}h{width:.1}\"/>", top + height - zero);
            }
            return;
        }
        for (value, label) in self.y.ticks(2) {
            let Some(y) = self.y.at(value).map(|at| top + height - at) else { continue };
            _ = write!(
                text,
                "<path class=\"grid\" d=\"M{left:.1} {y:.1}h{width:.1}\"/><text class=\"e\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                left - 4.0,
                y + 4.0
            );
        }
    }

    fn line(&self, text: &mut String, number: usize, points: &[[f64; 2]]) {
        let bottom = HEIGHTS[0] + HEIGHTS[1];
        let zero = bottom - self.y.clamped(0.0);
        let mut path = String::new();
        let mut drawing = false;
        for &[x, y] in points {
            let (Some(x), true) = (self.x.at(x), y.is_finite()) else {
                drawing = false;
                continue;
            };
            let (x, y) = (self.left + x, bottom - self.y.clamped(y));
            _ = match (self.panel.bars, drawing) {
                (true, _) => write!(path, "M{x:.1} {zero:.1}V{y:.1}"),
                (false, true) => write!(path, "L{x:.1} {y:.1}"),
                (false, false) => write!(path, "M{x:.1} {y:.1}"),
            };
            drawing = true;
        }
        let colour = number % super::COLOURS;
        let wide = if self.panel.bars { (self.width / points.len().max(1) as f64 * 0.6).clamp(0.5, 7.0) } else { 1.4 };
        _ = writeln!(text, "<path class=\"line s c{colour}\" style=\"stroke-width:{wide:.1}\" d=\"{path}\"/>");
    }

    fn horizontal_marks(&self, text: &mut String) {
        let bottom = HEIGHTS[0] + HEIGHTS[1];
        for (value, label) in self.x.ticks((self.width / 24.0) as usize) {
            let Some(x) = self.x.at(value).map(|at| self.left + at) else { continue };
            _ = writeln!(
                text,
                "<path class=\"axis\" d=\"M{x:.1} {bottom:.1}v4\"/><text class=\"c\" x=\"{x:.1}\" y=\"{:.1}\">{label}</text>",
                bottom + 16.0
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_has_its_title_its_note_and_its_lines() {
        let panel = |bars: bool| Panel {
            label: "weight < 1 over time (ms)".into(),
            x: Axis::linear("").between(0.0, 1.0),
            y: Axis::linear("").between(-1.0, 1.0),
            marks: !bars,
            bars,
            share: 1.0,
        };
        let line = vec![[0.0, 0.5], [0.5, f64::NAN], [1.0, -3.0], [9.0, 0.0]];
        let cell = |number: usize| Cell {
            title: format!("{number} & more"),
            note: if number == 2 { "dead".into() } else { String::new() },
            lines: vec![vec![line.clone()], vec![line.clone(), line.clone()]],
        };
        let cells = (0..5).map(cell).collect();
        let grid = Grid { title: "G".into(), panels: vec![panel(true), panel(false)], cells, columns: 4 };
        let svg = grid.to_svg();
        assert_eq!((svg.matches("&amp; more").count(), svg.matches(">dead<").count()), (5, 1));
        assert_eq!(svg.matches("class=\"line").count(), 5 * 3);
        assert!(svg.contains("left: weight &lt; 1") && !svg.contains("NaN"));
        // Under the last cell of each of the four columns, for both panels; at the left of the second panel of each cell.
        assert_eq!((svg.matches(">1.0<").count(), svg.matches(">1<").count()), (4 * 2, 5));
        let empty = Grid { title: "G".into(), panels: vec![], cells: vec![], columns: 0 };
        assert!(empty.to_svg().ends_with("</svg>\n"));
    }
}
