//! Matrices of counts, side by side: confusion matrices and their differences.

use super::{escaped, open, shortened};
use std::fmt::Write;

/// Side of a cell.
const CELL: usize = 26;
/// Space for the names of the classes.
const NAMES: usize = 74;
/// Height of a heading.
const HEAD: usize = 76;
/// Space between two matrices.
const GAP: usize = 24;

/// A square matrix of counts with a row for each true and a column for each predicted class.
pub struct Matrix {
    /// The heading.
    pub title: String,
    /// The counts, or differences of counts.
    pub cells: Vec<Vec<i64>>,
    /// Whether they are differences: more is better on the diagonal and worse beside it.
    pub is_difference: bool,
}

/// A picture of several matrices of the same classes side by side.
pub fn matrices(classes: &[String], matrices: &[Matrix]) -> String {
    let side = NAMES + CELL * classes.len();
    let (width, height) = (matrices.len() * (side + GAP), HEAD + CELL * classes.len() + 8);
    let titles: Vec<&str> = matrices.iter().map(|matrix| matrix.title.as_str()).collect();
    let mut text = open(width, height, &format!("matrices of true and predicted classes: {}", titles.join("; ")));
    for (number, matrix) in matrices.iter().enumerate() {
        _ = write!(text, "<g transform=\"translate({},0)\">", number * (side + GAP));
        matrix.draw(&mut text, classes);
        text += "</g>\n";
    }
    text + "</svg>\n"
}

impl Matrix {
    fn draw(&self, text: &mut String, classes: &[String]) {
        let most = self.cells.iter().flatten().map(|n| n.abs()).max().unwrap_or(0).max(1) as f64;
        let room = (NAMES + CELL * classes.len()) / 8;
        let title = escaped(&shortened(&self.title, room.max(12)));
        _ = writeln!(text, "<text class=\"t\" x=\"0\" y=\"18\">{title}</text>");
        for (at, class) in classes.iter().enumerate() {
            let (name, middle) = (escaped(&shortened(class, 9)), NAMES + CELL * at + CELL / 2);
            _ = writeln!(
                text,
                "<text class=\"e\" x=\"{}\" y=\"{}\">{name}</text><text transform=\"translate({},{}) rotate(-45)\">{name}</text>",
                NAMES - 6,
                HEAD + CELL * at + CELL / 2 + 4,
                middle,
                HEAD - 6,
            );
        }
        for (label, row) in self.cells.iter().enumerate() {
            for (predicted, &n) in row.iter().enumerate() {
                let (x, y) = (NAMES + CELL * predicted, HEAD + CELL * label);
                let colour = self.colour(n, label == predicted, most);
                _ = write!(
                    text,
                    "<rect class=\"cell\" x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" fill=\"{colour}\"/>"
                );
                if n != 0 {
                    let shown = if self.is_difference { format!("{n:+}") } else { n.to_string() };
                    let (x, y) = (x + CELL / 2, y + CELL / 2 + 4);
                    _ = write!(text, "<text class=\"c\" x=\"{x}\" y=\"{y}\">{shown}</text>");
                }
            }
            text.push('\n');
        }
    }

    /// Zero is without colour; what is good is blue, what is bad red.
    fn colour(&self, n: i64, on_diagonal: bool, most: f64) -> String {
        let is_bad = if self.is_difference { (n > 0) != on_diagonal } else { !on_diagonal };
        let strength = (n.abs() as f64 / most).sqrt();
        match (n, is_bad) {
            (0, _) => "none".into(),
            (_, true) => format!("rgba(213,94,0,{:.2})", 0.15 + 0.75 * strength),
            (_, false) => format!("rgba(0,114,178,{:.2})", 0.15 + 0.65 * strength),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worse_has_another_colour() {
        let classes = ["a".to_string(), "b".to_string()];
        let of = |cells: Vec<Vec<i64>>, is_difference| Matrix { title: "A & B".into(), cells, is_difference };
        let counts = matrices(&classes, &[of(vec![vec![4, 0], vec![1, 3]], false)]);
        assert_eq!((counts.matches("rgba(0,").count(), counts.matches("rgba(213,").count()), (2, 1));
        let difference = matrices(&classes, &[of(vec![vec![2, -2], vec![1, -1]], true)]);
        assert_eq!((difference.matches("rgba(0,").count(), difference.matches("rgba(213,").count()), (2, 2));
        assert!(difference.contains(">+2<") && difference.contains(">-2<") && difference.contains("A &amp; B"));
    }
}
