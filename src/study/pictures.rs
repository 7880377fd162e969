//! The pictures of a study: accuracy against parameters, against depth, and obtained against reported.

use super::report::{Row, StudyReport};
use crate::figure::{Axis, Plot, Point, Series};
use std::collections::BTreeMap;

/// A picture with the name of its file, without the ending.
pub struct Picture {
    /// The name: `accuracy-by-parameters`.
    pub name: String,
    /// The picture in SVG.
    pub svg: String,
}

/// All pictures for which a study has finished runs.
pub fn pictures(report: &StudyReport) -> Vec<Picture> {
    let mut all = Vec::new();
    if report.rows.iter().any(|row| row.obtained.is_some()) {
        all.push(Picture { name: "accuracy-by-parameters".into(), svg: by_parameters(report).to_svg() });
    }
    for (table, rows) in tables(report) {
        // Networks of several families have no line from depth to depth.
        let is_family = |network: &str| network.starts_with(&format!("{table}-"));
        let mut depths: Vec<usize> =
            rows.iter().filter(|row| is_family(&row.network)).filter_map(|row| row.depth).collect();
        depths.sort_unstable();
        depths.dedup();
        if let [first, .., last] = depths[..] {
            let svg = by_depth(report, table, &rows, [first, last]).to_svg();
            all.push(Picture { name: format!("accuracy-by-depth-{table}"), svg });
        }
    }
    if report.rows.iter().any(|row| row.obtained.is_some() && row.reported.is_some()) {
        all.push(Picture { name: "obtained-and-reported".into(), svg: beside_reported(report).to_svg() });
    }
    all
}

/// The rows of each table of the 2019 study that have finished runs.
fn tables(report: &StudyReport) -> BTreeMap<&'static str, Vec<&Row>> {
    let mut tables: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in report.rows.iter().filter(|row| row.obtained.is_some()) {
        if let Some(table) = row.table {
            tables.entry(table).or_default().push(row);
        }
    }
    tables
}

/// The obtained accuracy of a row at `x`.
fn point(row: &Row, x: f64) -> Option<Point> {
    let of = row.obtained.as_ref()?;
    let [low, high] = of.interval();
    let hover = format!("{} {}: {:.4} ({low:.3} to {high:.3})", row.network, row.variant, of.mean.mean);
    Some(Point { x, y: of.mean.mean, interval: Some([low, high]), hover, ..Point::default() })
}

fn by_parameters(report: &StudyReport) -> Plot {
    let mut series: Vec<Series> = report.variants().into_iter().map(|variant| marks(&variant)).collect();
    for row in &report.rows {
        let of_variant = series.iter_mut().find(|series| series.name == row.variant);
        let of_row = row.params.and_then(|params| point(row, params as f64));
        if let (Some(series), Some(point)) = (of_variant, of_row) {
            series.points.push(Point { interval: None, ..point });
        }
    }
    let front = pareto_front(report);
    let name = |row: &Row| if front.len() <= 12 { row.network.clone() } else { String::new() };
    let points = front.iter().filter_map(|row| Some(Point { name: name(row), ..point(row, row.params? as f64)? }));
    let points: Vec<Point> = points.collect();
    let line =
        Series { name: "Pareto front".into(), points, line: true, steps: true, colour: Some(5), ..Series::default() };
    series.push(line);
    Plot {
        title: "Test accuracy and parameters".into(),
        x: Axis::logarithmic("parameters"),
        y: Axis::linear("test accuracy"),
        series,
        height: 300.0,
    }
}

/// The rows that no other row with at most as many parameters surpasses, by parameters.
fn pareto_front(report: &StudyReport) -> Vec<&Row> {
    let mut rows: Vec<(&Row, f64)> =
        report.rows.iter().filter_map(|row| Some((row, row.obtained.as_ref()?.mean.mean))).collect();
    rows.sort_by(|(a, of_a), (b, of_b)| a.params.cmp(&b.params).then(of_b.total_cmp(of_a)));
    let mut best = f64::NEG_INFINITY;
    rows.retain(|&(_, accuracy)| {
        let is_better = accuracy > best;
        best = best.max(accuracy);
        is_better
    });
    rows.into_iter().map(|(row, _)| row).collect()
}

fn by_depth(report: &StudyReport, table: &str, rows: &[&Row], [first, last]: [usize; 2]) -> Plot {
    let lines = report.variants().into_iter().enumerate().map(|(number, variant)| {
        let of_variant = rows.iter().filter(|row| row.variant == variant);
        // Side by side, so that intervals of the same depth do not cover each other.
        let aside = 0.05 * (number as f64 - 1.0);
        let mut points: Vec<Point> = of_variant.filter_map(|row| point(row, row.depth? as f64 + aside)).collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        Series { line: true, points, ..marks(&variant) }
    });
    Plot {
        title: format!("{table}: test accuracy and depth"),
        x: Axis::linear("convolutions").between(first as f64 - 0.3, last as f64 + 0.3).of_whole_numbers(),
        y: Axis::linear("test accuracy"),
        series: lines.collect(),
        height: 240.0,
    }
}

fn beside_reported(report: &StudyReport) -> Plot {
    let mut series: Vec<Series> = Vec::new();
    for row in &report.rows {
        let (Some(reported), Some(table)) = (row.reported, row.table) else { continue };
        let Some(point) = point(row, reported) else { continue };
        let at = series.iter().position(|series| series.name == table).unwrap_or_else(|| {
            series.push(marks(table));
            series.len() - 1
        });
        series[at].points.push(point);
    }
    let all = || series.iter().flat_map(|series| series.points.iter().flat_map(|point| [point.x, point.y]));
    let (low, high) = (all().fold(1.0, f64::min) - 0.02, (all().fold(0.0, f64::max) + 0.02).min(1.0));
    let equal = [low, high].map(|at| Point { x: at, y: at, ..Point::default() }).to_vec();
    series.push(Series { name: "equal".into(), points: equal, line: true, colour: Some(5), ..Series::default() });
    Plot {
        title: "Obtained and reported test accuracy".into(),
        x: Axis::linear("reported in 2019").between(low, high),
        y: Axis::linear("obtained").between(low, high),
        series,
        height: 300.0,
    }
}

fn marks(name: &str) -> Series {
    Series { name: name.into(), marks: true, ..Series::default() }
}
