//! Plots: series of points and lines between two axes.

use super::axis::{Axis, Placed};
use super::{COLOURS, escaped, open, text_width};
use std::fmt::Write;

/// Width of a plot with its labels.
const WIDTH: f64 = 640.0;
const LEFT: f64 = 68.0;
const RIGHT: f64 = 16.0;
const BOTTOM: f64 = 44.0;
/// Height of a line of text.
const LINE: f64 = 18.0;

/// A point of a series.
#[derive(Clone, Debug, Default)]
pub struct Point {
    /// Along the x axis.
    pub x: f64,
    /// Along the y axis.
    pub y: f64,
    /// An interval of `y`, drawn as a bar.
    pub interval: Option<[f64; 2]>,
    /// A name beside the point, left out where there is no room.
    pub name: String,
    /// What is shown when the mouse rests on the point, if it is not empty.
    pub hover: String,
    /// The number of a clip, which a page may play: the attribute `data-clip` of the mark.
    pub clip: Option<u32>,
}

/// Points of one colour.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// The name in the legend; without one if it is empty.
    pub name: String,
    /// The points, in the order in which a line connects them.
    pub points: Vec<Point>,
    /// Whether a line connects them.
    pub line: bool,
    /// Whether each point has a mark.
    pub marks: bool,
    /// Whether the line is a staircase: level up to the next point.
    pub steps: bool,
    /// The number of the colour, the shape of the marks and the pattern of the line; those of the series' place if none.
    pub colour: Option<usize>,
    /// Tells series of one colour apart: 0 is the filled mark of the colour, 1 the same mark hollow, 2 and 3 are the next shape, filled and hollow, and so on.
    pub variant: usize,
    /// Whether the marks are small, for many points.
    pub small: bool,
    /// Whether the names of the points are written over everything else, in the middle of their points.
    pub names_over: bool,
}

/// A plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// The heading.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// What is shown.
    pub series: Vec<Series>,
    /// The height of the area between the axes; the picture is 640 units wide.
    pub height: f64,
}

impl Plot {
    /// The picture in SVG.
    pub fn to_svg(&self) -> String {
        let width = WIDTH - LEFT - RIGHT;
        let legend = self.legend();
        let top = 30.0 + LINE * legend.len() as f64 + 6.0;
        let all = || self.series.iter().flat_map(|series| &series.points);
        let x = self.x.placed(all().map(|point| point.x), width);
        let ends = all().flat_map(|point| point.interval.unwrap_or([point.y; 2]).into_iter().chain([point.y]));
        let y = self.y.placed(ends, self.height);
        let full = top + self.height + BOTTOM;
        let description = format!("{}: {} against {}", self.title, self.y.label, self.x.label);
        let mut text = open(WIDTH as usize, full.ceil() as usize, &description);
        _ = writeln!(text, "<text class=\"t\" x=\"0\" y=\"16\">{}</text>", escaped(&self.title));
        for (row, entries) in legend.iter().enumerate() {
            for &(at, number) in entries {
                let (x, y) = (at, 34.0 + LINE * row as f64);
                self.entry(&mut text, number, x, y);
            }
        }
        _ = writeln!(text, "<g transform=\"translate({LEFT},{top})\">");
        self.axes(&mut text, &x, &y, width);
        let mut taken = Vec::new();
        for (number, series) in self.series.iter().enumerate() {
            series.draw(&mut text, series.colour.unwrap_or(number), &x, &y, self.height, &mut taken);
        }
        for series in &self.series {
            series.names(&mut text, &x, &y, [width, self.height], &mut taken);
        }
        let mut over = Vec::new();
        for series in self.series.iter().filter(|series| series.names_over) {
            series.write_over(&mut text, &x, &y, [width, self.height], &mut over);
        }
        text + "</g>\n</svg>\n"
    }

    /// The rows of the legend: where each entry begins, and the number of its series.
    fn legend(&self) -> Vec<Vec<(f64, usize)>> {
        let mut rows: Vec<Vec<(f64, usize)>> = Vec::new();
        let mut at = f64::INFINITY;
        for (number, series) in self.series.iter().enumerate().filter(|(_, series)| !series.name.is_empty()) {
            let width = 44.0 + text_width(&series.name);
            if at + width > WIDTH {
                (at, _) = (0.0, rows.push(Vec::new()));
            }
            rows.last_mut().expect("a row was added").push((at, number));
            at += width;
        }
        rows
    }

    fn entry(&self, text: &mut String, number: usize, x: f64, y: f64) {
        let series = &self.series[number];
        let colour = series.colour.unwrap_or(number);
        if series.line {
            _ = write!(
                text,
                "<path class=\"line s c{}\"{} d=\"M{x:.0} {y:.0}h24\"/>",
                colour % COLOURS,
                pattern(colour)
            );
        }
        if series.marks {
            text.push_str(&series.mark(colour, &Point::default(), [x + 12.0, y]));
        }
        _ = writeln!(text, "<text x=\"{:.0}\" y=\"{:.0}\">{}</text>", x + 30.0, y + 4.0, escaped(&series.name));
    }

    fn axes(&self, text: &mut String, x: &Placed, y: &Placed, width: f64) {
        let height = self.height;
        for (value, label) in y.ticks(6) {
            let Some(at) = y.at(value).map(|at| height - at) else { continue };
            _ = writeln!(
                text,
                "<path class=\"grid\" d=\"M0 {at:.1}h{width:.0}\"/><text class=\"e\" x=\"-8\" y=\"{:.1}\">{label}</text>",
                at + 4.0
            );
        }
        for (value, label) in x.ticks(8) {
            let Some(at) = x.at(value) else { continue };
            _ = writeln!(
                text,
                "<path class=\"axis\" d=\"M{at:.1} {height:.0}v5\"/><text class=\"c\" x=\"{at:.1}\" y=\"{:.0}\">{label}</text>",
                height + 18.0
            );
        }
        _ = writeln!(
            text,
            "<path class=\"axis\" d=\"M0 {height:.0}h{width:.0}\"/>\
             <text class=\"c\" x=\"{:.0}\" y=\"{:.0}\">{}</text>\
             <text class=\"c\" transform=\"translate(-54,{:.0}) rotate(-90)\">{}</text>",
            width / 2.0,
            height + 37.0,
            escaped(&self.x.label),
            height / 2.0,
            escaped(&self.y.label)
        );
    }
}

impl Series {
    fn draw(&self, text: &mut String, colour: usize, x: &Placed, y: &Placed, height: f64, taken: &mut Vec<[f64; 4]>) {
        if self.line {
            _ = writeln!(
                text,
                "<path class=\"line s c{}\"{} d=\"{}\"/>",
                colour % COLOURS,
                pattern(colour),
                self.path(x, y, height)
            );
        }
        if !self.marks {
            return;
        }
        for point in &self.points {
            let (Some(px), Some(py)) = (x.at(point.x), y.at(point.y).map(|at| height - at)) else { continue };
            if let Some([low, high]) = point.interval {
                let (from, to) = (height - y.clamped(low), height - y.clamped(high));
                _ = write!(text, "<path class=\"bar s c{}\" d=\"M{px:.1} {from:.1}V{to:.1}\"/>", colour % COLOURS);
            }
            taken.push([px - 4.0, py - 4.0, px + 4.0, py + 4.0]);
            text.push_str(&self.mark(colour, point, [px, py]));
            text.push('\n');
        }
    }

    /// The mark of a point.
    fn mark(&self, colour: usize, point: &Point, [x, y]: [f64; 2]) -> String {
        let k = colour % COLOURS;
        let class = if self.variant.is_multiple_of(2) { "f" } else { "h" };
        let clip = point.clip.map_or(String::new(), |clip| format!(" data-clip=\"{clip}\""));
        let title = match point.hover.as_str() {
            "" => String::new(),
            hover => format!("<title>{}</title>", escaped(hover)),
        };
        match (SHAPES[(k + self.variant / 2) % COLOURS], self.small) {
            ("", small) => {
                let radius = if small { 4.0 * SMALL } else { 4.0 };
                format!(
                    "<circle class=\"{class} c{k}\"{clip} cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\">{title}</circle>"
                )
            }
            (shape, false) => format!("<path class=\"{class} c{k}\"{clip} d=\"M{x:.1} {y:.1}{shape}\">{title}</path>"),
            (shape, true) => format!(
                "<path class=\"{class} c{k}\"{clip} transform=\"translate({x:.1},{y:.1}) scale({SMALL})\" d=\"M0 0{shape}\">{title}</path>"
            ),
        }
    }

    /// The line, with a gap where a point has no place.
    fn path(&self, x: &Placed, y: &Placed, height: f64) -> String {
        let mut path = String::new();
        let mut drawing = false;
        for point in &self.points {
            let (Some(px), true) = (x.at(point.x), point.y.is_finite()) else {
                drawing = false;
                continue;
            };
            let py = height - y.clamped(point.y);
            _ = match (drawing, self.steps) {
                (false, _) => write!(path, "M{px:.1} {py:.1}"),
                (true, false) => write!(path, "L{px:.1} {py:.1}"),
                (true, true) => write!(path, "H{px:.1}V{py:.1}"),
            };
            drawing = true;
        }
        path
    }

    /// Writes the names of points where they do not cover a point or another name.
    fn names(&self, text: &mut String, x: &Placed, y: &Placed, [width, height]: [f64; 2], taken: &mut Vec<[f64; 4]>) {
        for point in self.points.iter().filter(|point| !point.name.is_empty() && !self.names_over) {
            let (Some(px), Some(py)) = (x.at(point.x), y.at(point.y).map(|at| height - at)) else { continue };
            let long = text_width(&point.name);
            // Right, above, left and below.
            let places = [
                (px + 8.0, py + 4.0),
                (px - long / 2.0, py - 10.0),
                (px - long - 8.0, py + 4.0),
                (px - long / 2.0, py + 20.0),
            ];
            let free = places.into_iter().find(|&(left, base)| {
                let [l, t, r, b] = [left, base - 11.0, left + long, base + 3.0];
                let inside = l >= 0.0 && r <= width && t >= -8.0 && b <= height;
                inside && taken.iter().all(|o| r <= o[0] || l >= o[2] || b <= o[1] || t >= o[3])
            });
            if let Some((left, base)) = free {
                taken.push([left, base - 11.0, left + long, base + 3.0]);
                _ = writeln!(text, "<text x=\"{left:.1}\" y=\"{base:.1}\">{}</text>", escaped(&point.name));
            }
        }
    }
}

impl Series {
    /// Writes the names of points over the points, each as close to its point as the names before it allow. A name that would be more
    /// than two lines away is left out: it would seem to name another point.
    fn write_over(
        &self,
        text: &mut String,
        x: &Placed,
        y: &Placed,
        [width, height]: [f64; 2],
        over: &mut Vec<[f64; 4]>,
    ) {
        for point in self.points.iter().filter(|point| !point.name.is_empty()) {
            let (Some(px), Some(py)) = (x.at(point.x), y.at(point.y).map(|at| height - at)) else { continue };
            let half = text_width(&point.name) / 2.0;
            let px = px.clamp(half.min(width / 2.0), (width - half).max(width / 2.0));
            let bounds = |base: f64| [px - half, base - 11.0, px + half, base + 3.0];
            let free = |base: &f64| {
                let [l, t, r, b] = bounds(*base);
                t >= -8.0 && b <= height && over.iter().all(|o| r <= o[0] || l >= o[2] || b <= o[1] || t >= o[3])
            };
            let nearby = (0..9).map(|i| py + 4.0 + 7.0 * f64::from((i + 1) / 2) * if i % 2 == 0 { 1.0 } else { -1.0 });
            let Some(base) = { nearby }.find(free) else { continue };
            over.push(bounds(base));
            _ = writeln!(text, "<text class=\"o\" x=\"{px:.1}\" y=\"{base:.1}\">{}</text>", escaped(&point.name));
        }
    }
}

/// The pattern of a line, so that lines differ without colour.
fn pattern(colour: usize) -> &'static str {
    match colour % COLOURS {
        0 => "",
        1 => " stroke-dasharray=\"7 3\"",
        2 => " stroke-dasharray=\"2 3\"",
        3 => " stroke-dasharray=\"9 3 2 3\"",
        4 => " stroke-dasharray=\"4 2\"",
        _ => " stroke-dasharray=\"1 4\"",
    }
}

/// The shapes of marks, from the centre on: circle, square, triangle, diamond, inverted triangle and cross.
const SHAPES: [&str; COLOURS] = [
    "",
    "m-3.6 -3.6h7.2v7.2h-7.2z",
    "m0 -5l4.6 8h-9.2z",
    "m0 -5l5 5l-5 5l-5 -5z",
    "m0 5l4.6 -8h-9.2z",
    "m-1.3 -5h2.6v3.7h3.7v2.6h-3.7v3.7h-2.6v-3.7h-3.7v-2.6h3.7z",
];
/// The size of small marks.
const SMALL: f64 = 0.7;

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: Vec<Point>) -> Plot {
        let series = Series { name: "a < b".into(), points, line: true, marks: true, ..Series::default() };
        Plot {
            title: "T".into(),
            x: Axis::logarithmic("parameters"),
            y: Axis::linear("accuracy"),
            series: vec![series],
            height: 200.0,
        }
    }

    #[test]
    fn a_name_over_the_points_that_would_be_far_from_its_point_is_left_out() {
        let point = |name: &str, y: f64| Point { x: 1.0, y, name: name.into(), ..Point::default() };
        let mut points = vec![point("above", 100.0), point("below", 0.0)];
        points.extend((0..20).map(|i| point(&format!("same {i}"), 50.0)));
        let series = vec![Series { points, names_over: true, ..Series::default() }];
        let plot = Plot { title: "t".into(), x: Axis::linear("x"), y: Axis::linear("y"), series, height: 300.0 };
        let svg = plot.to_svg();
        assert!(["above", "below", "same 0", "same 1"].iter().all(|name| svg.contains(&format!(">{name}</text>"))));
        assert!(!svg.contains(">same 9</text>"));
    }

    #[test]
    fn points_have_marks_intervals_and_names_where_there_is_room() {
        let at = |x: f64, y: f64, name: &str| Point { x, y, name: name.into(), ..Point::default() };
        let mut points = vec![at(1e3, 0.5, "first"), at(1e4, 0.7, "second"), at(-1.0, 0.9, "nowhere")];
        points[0].interval = Some([0.4, 0.6]);
        points[1].hover = "0.7 <".into();
        let svg = plot(points).to_svg();
        assert_eq!(svg.matches("<circle").count(), 3, "two points and the legend: {svg}");
        assert!(svg.contains(">first<") && svg.contains(">second<") && !svg.contains("nowhere"));
        assert!(svg.contains("<title>0.7 &lt;</title>") && svg.contains(">a &lt; b<") && !svg.contains("NaN"));
        let mut of_clips = plot(vec![Point { clip: Some(7), ..at(1e3, 0.5, "") }]);
        of_clips.series[0].variant = 3;
        let svg = of_clips.to_svg();
        assert!(svg.contains("<path class=\"h c0\" data-clip=\"7\"") && !svg.contains("<circle"), "{svg}");
        let crowded = plot(vec![at(1e3, 0.5, "name"); 9]).to_svg();
        assert_eq!(crowded.matches(">name<").count(), 4, "right, above, left and below of one place");
        assert!(plot(Vec::new()).to_svg().ends_with("</svg>\n"));
    }
}
