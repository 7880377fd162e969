//! The section on the features in two dimensions.

use super::embedding::Embedding;
use super::section::{Part, Picture, Section, Table};
use super::subject::Subject;
use crate::figure::{Axis, COLOURS, Plot, Point, Series};

/// Height of a plot.
const HEIGHT: f64 = 430.0;
/// More points than this are small.
const LARGE: usize = 250;
/// Rows of the table before the reader asks for the others.
const SHOWN: usize = 5;

/// Plots of the clips by principal components and by t-SNE, coloured by class. Their points have the numbers of the clips.
pub fn embedding_section(subject: &Subject, embedding: &Embedding) -> Section {
    let pca: Vec<[f64; 2]> = embedding.pca.coordinates.iter().map(|of_clip| [of_clip[0], of_clip[1]]).collect();
    let [first, second] = [0, 1].map(|number| {
        let share = 100.0 * embedding.pca.shares.get(number).copied().unwrap_or(0.0);
        Axis::linear(&format!("component {} ({share:.0} % of the variance)", number + 1))
    });
    let which = which_clips(embedding);
    let mut parts = vec![Part::Picture(Picture {
        name: "features-pca".into(),
        caption: format!(
            "The first two principal components of {} ({} numbers a clip) for {which}: distances are true as far as the two components go.",
            of_layer(embedding),
            embedding.layer.shape.size()
        ),
        svg: plot(subject, embedding, "Principal components of the features", [first, second], &pca).to_svg(),
    })];
    match &embedding.tsne {
        Some(tsne) => {
            let axes = [Axis::linear("t-SNE 1"), Axis::linear("t-SNE 2")];
            parts.push(Part::Picture(Picture {
                name: "features-tsne".into(),
                caption: format!(
                    "t-SNE of the same features (perplexity {:.0}, started from the principal components): clips with similar features are neighbours; the distance between two groups and \
                     their size mean nothing.",
                    tsne.perplexity
                ),
                svg: plot(subject, embedding, "t-SNE of the features", axes, &tsne.coordinates).to_svg(),
            }));
        }
        None => parts.push(Part::Text("There are too few clips for t-SNE.".into())),
    }
    parts.push(Part::Table(table(subject, embedding, &pca)));
    let look_for = "Whether the clips of a class lie together and apart from the others, and which clips lie among those of \
                    another class: rest on a point for its name, click it to play it.";
    Section { id: "features", title: "Features in two dimensions", look_for: look_for.into(), parts }
}

fn of_layer(embedding: &Embedding) -> String {
    format!("the outputs of {}", embedding.layer.name)
}

fn which_clips(embedding: &Embedding) -> String {
    let Embedding { clips, total, every, .. } = embedding;
    match every {
        1 => format!("the {total} clips of the split"),
        _ => format!("{} of the {total} clips of the split, one of {every}", clips.len()),
    }
}

/// A plot with a series for each class that has clips, and the names of the classes over them.
fn plot(subject: &Subject, embedding: &Embedding, title: &str, [x, y]: [Axis; 2], at: &[[f64; 2]]) -> Plot {
    let classes = subject.classes();
    let point = |(number, at): (usize, &[f64; 2])| {
        let clip = embedding.clips[number];
        let of = &subject.data.clips()[clip as usize];
        let (label, predicted) = (&classes[of.class as usize], &classes[embedding.predicted[number]]);
        let hover = match of.class as usize == embedding.predicted[number] {
            true => format!("{}: {label}, recognised", of.name),
            false => format!("{}: {label}, taken for {predicted}", of.name),
        };
        (of.class as usize, Point { x: at[0], y: at[1], hover, clip: Some(clip), ..Point::default() })
    };
    let mut by_class = vec![Vec::new(); classes.len()];
    for (class, point) in at.iter().enumerate().map(point) {
        by_class[class].push(point);
    }
    let present = by_class.iter().filter(|points| !points.is_empty()).count();
    let mut names = Series { names_over: true, ..Series::default() };
    let mut series = Vec::new();
    for (class, points) in by_class.into_iter().enumerate().filter(|(_, points)| !points.is_empty()) {
        let name = classes[class].to_string();
        if present > COLOURS {
            names.points.push(Point { name: name.clone(), ..middle(&points) });
        }
        let number = series.len();
        let (colour, variant) = (Some(number % COLOURS), number / COLOURS);
        series.push(Series {
            name,
            points,
            marks: true,
            colour,
            variant,
            small: at.len() > LARGE,
            ..Series::default()
        });
    }
    series.push(names);
    Plot { title: title.into(), x, y, series, height: HEIGHT }
}

/// The median of points along each axis, which clips far away do not move.
fn middle(points: &[Point]) -> Point {
    let median = |of: fn(&Point) -> f64| {
        let mut values: Vec<f64> = points.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Point { x: median(|point| point.x), y: median(|point| point.y), ..Point::default() }
}

fn table(subject: &Subject, embedding: &Embedding, pca: &[[f64; 2]]) -> Table {
    let classes = subject.classes();
    let row = |number: usize| {
        let of = &subject.data.clips()[embedding.clips[number] as usize];
        let mut row = vec![
            of.name.to_string(),
            classes[of.class as usize].to_string(),
            classes[embedding.predicted[number]].to_string(),
        ];
        row.extend(pca[number].map(|v| format!("{v:.4}")));
        if let Some(tsne) = &embedding.tsne {
            row.extend(tsne.coordinates[number].map(|v| format!("{v:.3}")));
        }
        row
    };
    let tsne: &[&str] = if embedding.tsne.is_some() { &["t-SNE 1", "t-SNE 2"] } else { &[] };
    let headings = ["clip", "label", "predicted", "component 1", "component 2"].iter().chain(tsne);
    Table {
        name: "features".into(),
        caption: "The coordinates of the clips.".into(),
        headings: headings.map(|heading| heading.to_string()).collect(),
        rows: (0..embedding.clips.len()).map(row).collect(),
        shown: SHOWN,
    }
}
