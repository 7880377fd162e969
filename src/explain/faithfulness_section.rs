//! Whether the maps mean something.

use super::faithfulness::Faithfulness;
use super::section::{Part, Picture, Section, Table};
use crate::figure::{Axis, Plot, Point, Series};
use crate::train::Mean;

/// The deletion and insertion curves of all methods beside random orders, and a table.
pub fn faithfulness_section(results: &[Faithfulness]) -> Section {
    let clips = results.first().map_or(0, |of| of.clips);
    let mut parts = vec![Part::Text(format!(
        "Each of {clips} clips is cut into {} parts. Deletion silences parts, those with the largest values of a map first; insertion puts them into silence in the same order. The \
         probability of the recognised class is measured at every tenth of the parts. Three random orders for each clip say what a map without meaning would give.",
        super::PARTS
    ))];
    let mut curves = Vec::new();
    for (name, title, caption, curve) in [
        (
            "deletion",
            "Deletion: probability as parts are silenced",
            "A map is better if its curve falls earlier than that of random orders.",
            (|of: &Faithfulness| &of.curves.deletion) as fn(&Faithfulness) -> &Vec<f64>,
        ),
        (
            "insertion",
            "Insertion: probability as parts are put back",
            "A map is better if its curve rises earlier than that of random orders.",
            |of: &Faithfulness| &of.curves.insertion,
        ),
    ] {
        let series = results.iter().map(|of| {
            let values = curve(of);
            let steps = values.len().saturating_sub(1).max(1) as f64;
            let points = values.iter().enumerate();
            let points = points.map(|(i, &y)| Point { x: 100.0 * i as f64 / steps, y, ..Point::default() }).collect();
            let colour = (of.method == "random").then_some(5);
            Series { name: of.method.clone(), points, line: true, marks: true, colour, ..Series::default() }
        });
        let plot = Plot {
            title: title.into(),
            x: Axis::linear("parts (%)").between(0.0, 100.0),
            y: Axis::linear("mean probability of the class").between(0.0, 1.0),
            series: series.collect(),
            height: 230.0,
        };
        curves.push(Picture { name: name.into(), caption: caption.into(), svg: plot.to_svg() });
    }
    parts.push(Part::Pictures(curves));
    parts.push(Part::Table(table(results)));
    parts.push(Part::Text(verdict(results)));
    let look_for = "Whether the curve of a map lies on the better side of the curve of random orders: only then does the map tell what the network relies on.";
    Section { id: "faithfulness", title: "Do the maps mean something?", look_for: look_for.into(), parts }
}

fn table(results: &[Faithfulness]) -> Table {
    let with_interval = |of: &Mean, signed: bool| {
        let number = |v: f64| if signed { format!("{v:+.3}") } else { format!("{v:.3}") };
        match of.interval {
            Some([low, high]) => format!("{} ({} to {})", number(of.mean), number(low), number(high)),
            None => number(of.mean),
        }
    };
    let difference = |of: &Option<Mean>| of.as_ref().map_or(String::new(), |of| with_interval(of, true));
    let row = |of: &Faithfulness| {
        vec![
            of.method.clone(),
            with_interval(&of.deletion, false),
            difference(&of.deletion_against_random),
            with_interval(&of.insertion, false),
            difference(&of.insertion_against_random),
        ]
    };
    let headings = ["map", "deletion area", "less random", "insertion area", "less random"];
    Table {
        name: "faithfulness".into(),
        caption: "Areas under the curves with 95 % intervals over clips: a small area is good for deletion, a large one for insertion.".into(),
        headings: headings.map(Into::into).to_vec(),
        rows: results.iter().map(row).collect(),
        shown: results.len(),
    }
}

/// Which maps are better than chance in both tests.
fn verdict(results: &[Faithfulness]) -> String {
    let is_better = |of: &&Faithfulness| {
        let deletion = of.deletion_against_random.as_ref().and_then(|of| of.interval);
        let insertion = of.insertion_against_random.as_ref().and_then(|of| of.interval);
        matches!((deletion, insertion), (Some([_, high]), Some([low, _])) if high < 0.0 && low > 0.0)
    };
    let of_methods = || results.iter().filter(|of| of.deletion_against_random.is_some());
    let (better, other): (Vec<_>, Vec<_>) = of_methods().partition(is_better);
    let names = |of: Vec<&Faithfulness>| of.iter().map(|of| of.method.as_str()).collect::<Vec<_>>().join(", ");
    let mut text = match better.is_empty() {
        true => {
            "No map is better than random orders in both tests: do not read the maps of this network as reasons.".into()
        }
        false => format!("Better than random orders in both tests, by intervals that exclude 0: {}.", names(better)),
    };
    if !other.is_empty() && text.starts_with('B') {
        text += &format!(" Not: {}; read these maps with care.", names(other));
    }
    text
}
