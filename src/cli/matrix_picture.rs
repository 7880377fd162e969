//! Two confusion matrices and their difference as a picture.

use crate::base::Name;
use crate::train::{Evaluation, write_atomically};
use anyhow::Result;
use std::fmt::Write;
use std::path::Path;

/// Side of a cell.
const CELL: usize = 26;
/// Space for the names of the classes.
const NAMES: usize = 74;
/// Height of a heading.
const HEAD: usize = 76;

/// Writes the picture to `path`, in SVG 1.1, for white and for black pages.
pub fn write(path: &Path, classes: &[Name], runs: [(&str, &Evaluation); 2]) -> Result<()> {
    write_atomically(path, svg(classes, runs).as_bytes())?;
    Ok(())
}

fn svg(classes: &[Name], [(name_a, a), (name_b, b)]: [(&str, &Evaluation); 2]) -> String {
    let side = NAMES + CELL * classes.len();
    let (width, height) = (3 * (side + 24), HEAD + CELL * classes.len() + 8);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <style>text{{fill:#24292f}}.c{{text-anchor:middle}}.e{{text-anchor:end}}.t{{font-weight:bold;font-size:13px}}rect{{stroke:#8c959f;stroke-width:.4}}\
         @media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}}}</style>\n"
    );
    let differences = a.confusion.iter().zip(&b.confusion);
    let difference: Vec<Vec<i64>> =
        differences.map(|(a, b)| a.iter().zip(b).map(|(&a, &b)| b as i64 - a as i64).collect()).collect();
    let counts = |e: &Evaluation| -> Vec<Vec<i64>> {
        e.confusion.iter().map(|row| row.iter().map(|&n| n as i64).collect()).collect()
    };
    let matrices = [
        (format!("A: {name_a}, {:.4}", a.accuracy), counts(a), false),
        (format!("B: {name_b}, {:.4}", b.accuracy), counts(b), false),
        ("B - A".to_string(), difference, true),
    ];
    for (number, (title, cells, signed)) in matrices.iter().enumerate() {
        _ = write!(text, "<g transform=\"translate({},0)\">", number * (side + 24));
        matrix(&mut text, title, classes, cells, *signed);
        text += "</g>\n";
    }
    text + "</svg>\n"
}

fn matrix(text: &mut String, title: &str, classes: &[Name], cells: &[Vec<i64>], signed: bool) {
    let most = cells.iter().flatten().map(|n| n.abs()).max().unwrap_or(0).max(1) as f64;
    _ = writeln!(text, "<text class=\"t\" x=\"{NAMES}\" y=\"18\">{}</text>", escaped(&shortened(title, 52)));
    for (at, class) in classes.iter().enumerate() {
        let (name, middle) = (escaped(&shortened(&class.to_string(), 9)), NAMES + CELL * at + CELL / 2);
        _ = writeln!(
            text,
            "<text class=\"e\" x=\"{}\" y=\"{}\">{name}</text><text transform=\"translate({},{}) rotate(-45)\">{name}</text>",
            NAMES - 6,
            HEAD + CELL * at + CELL / 2 + 4,
            middle,
            HEAD - 6,
        );
    }
    for (label, row) in cells.iter().enumerate() {
        for (predicted, &n) in row.iter().enumerate() {
            let (x, y) = (NAMES + CELL * predicted, HEAD + CELL * label);
            // Zero is without colour; on the diagonal more is better, beside it worse.
            let good = (n > 0) == (label == predicted);
            let strength = (n.abs() as f64 / most).sqrt();
            let colour = match (n, signed && !good || !signed && label != predicted) {
                (0, _) => "none".to_string(),
                (_, true) => format!("rgba(207,34,46,{:.2})", 0.15 + 0.75 * strength),
                (_, false) => format!("rgba(9,105,218,{:.2})", 0.15 + 0.65 * strength),
            };
            _ = write!(text, "<rect x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" fill=\"{colour}\"/>");
            if n != 0 {
                let shown = if signed { format!("{n:+}") } else { n.to_string() };
                _ = write!(text, "<text class=\"c\" x=\"{}\" y=\"{}\">{shown}</text>", x + CELL / 2, y + CELL / 2 + 4);
            }
        }
        text.push('\n');
    }
}

/// At most `most` characters, of which the last is `…` if there were more.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
