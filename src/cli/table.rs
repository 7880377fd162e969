//! Tables of text that fit the terminal, and numbers as people read them.

use super::width::{broken, columns, display_width};
use std::fmt;

/// A column: its head, and how it is laid out.
#[derive(Clone, Debug)]
pub struct Column {
    head: String,
    /// Numbers are aligned at the right and never broken into lines.
    right: bool,
    /// Where the terminal is too narrow, columns are left out, those of the highest rank first; rank 0 stays.
    optional: u8,
    /// Cells are broken only where all columns that can be left out are.
    whole: bool,
}

/// A column of words, aligned at the left; its cells take several lines where the terminal is too narrow.
pub fn left(head: impl Into<String>) -> Column {
    Column { head: head.into(), right: false, optional: 0, whole: false }
}

/// A column of numbers, aligned at the right.
pub fn right(head: impl Into<String>) -> Column {
    Column { head: head.into(), right: true, optional: 0, whole: true }
}

impl Column {
    /// The same column, left out where the terminal is too narrow, columns of a higher rank first.
    pub fn optional(self, rank: u8) -> Column {
        Column { optional: rank, ..self }
    }

    /// The same column of words, broken into lines only where all columns that can be left out are.
    pub fn whole(self) -> Column {
        Column { whole: true, ..self }
    }
}

#[derive(Clone, Debug)]
enum Row {
    Cells(Vec<String>),
    /// Text across all columns.
    Heading(String),
}

/// A table with aligned columns, as wide as [`columns`] allows.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Row>,
    gap: usize,
}

/// The columns that are shown, their widths, and the spaces between two of them.
struct Layout {
    shown: Vec<usize>,
    widths: Vec<usize>,
    gap: usize,
}

/// A word that cannot be broken keeps a column this wide, as long as there is room.
const WORD: usize = 14;
/// The least width of a column of words.
const LEAST: usize = 4;

impl Table {
    /// A table without rows.
    pub fn new(columns: impl IntoIterator<Item = Column>) -> Table {
        Table { columns: columns.into_iter().collect(), rows: Vec::new(), gap: 2 }
    }

    /// The same table with columns one space apart.
    pub fn narrow(self) -> Table {
        Table { gap: 1, ..self }
    }

    /// Adds a row; cells missing at its end stay empty.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(Row::Cells(cells.into_iter().map(Into::into).collect()));
    }

    /// Adds a line of text across all columns.
    pub fn heading(&mut self, text: impl Into<String>) {
        self.rows.push(Row::Heading(text.into()));
    }

    /// The heads and the cells of column `i`.
    fn cells(&self, i: usize) -> impl Iterator<Item = &str> {
        let of_rows = self.rows.iter().filter_map(move |row| match row {
            Row::Cells(cells) => cells.get(i).map(String::as_str),
            Row::Heading(_) => None,
        });
        std::iter::once(self.columns[i].head.as_str()).chain(of_rows)
    }

    /// The width that column `i` takes if nothing is broken, and the least that it can do with.
    fn wishes(&self, i: usize) -> (usize, usize) {
        let natural = self.cells(i).map(display_width).max().unwrap_or(0);
        let pieces = self.cells(i).flat_map(|cell| broken(cell, WORD));
        let least = pieces.map(|piece| display_width(&piece)).max().unwrap_or(0);
        (natural, if self.columns[i].whole { natural } else { least.min(natural) })
    }

    fn layout(&self, width: usize) -> Layout {
        let wishes: Vec<(usize, usize)> = (0..self.columns.len()).map(|i| self.wishes(i)).collect();
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let gaps = |shown: &[usize], gap: usize| gap * shown.len().saturating_sub(1);
        for gap in [self.gap, 1] {
            let natural = shown.iter().map(|&i| wishes[i].0).sum::<usize>() + gaps(&shown, gap);
            if natural <= width {
                return Layout { widths: shown.iter().map(|&i| wishes[i].0).collect(), shown, gap };
            }
        }
        while shown.iter().map(|&i| wishes[i].1).sum::<usize>() + gaps(&shown, 1) > width {
            let rank = |&k: &usize| self.columns[shown[k]].optional;
            let Some(k) = (0..shown.len()).filter(|k| rank(k) > 0).max_by_key(rank) else { break };
            shown.remove(k);
        }
        let mut widths: Vec<usize> = shown.iter().map(|&i| wishes[i].0).collect();
        let room = width.saturating_sub(gaps(&shown, 1));
        // The widest column of words gives way, first down to its longest word, then further.
        for least in [None, Some(LEAST)] {
            while widths.iter().sum::<usize>() > room {
                let gives =
                    |&k: &usize| !self.columns[shown[k]].right && widths[k] > least.unwrap_or(wishes[shown[k]].1);
                let Some(k) = (0..shown.len()).filter(gives).max_by_key(|&k| widths[k]) else { break };
                widths[k] -= 1;
            }
        }
        Layout { shown, widths, gap: 1 }
    }

    /// The table in lines of at most `width` columns, if its columns of numbers allow that.
    pub fn fit(&self, width: usize) -> String {
        let layout = self.layout(width);
        let mut text = String::new();
        let heads = Row::Cells(self.columns.iter().map(|column| column.head.clone()).collect());
        for row in std::iter::once(&heads).chain(&self.rows) {
            match row {
                Row::Heading(heading) => text += &format!("{}\n", super::width::fill(heading, width, "  ")),
                Row::Cells(cells) => self.lines(cells, &layout, &mut text),
            }
        }
        let hidden =
            (0..self.columns.len()).filter(|i| !layout.shown.contains(i)).map(|i| self.columns[i].head.as_str());
        let hidden = hidden.collect::<Vec<_>>().join(", ");
        if !hidden.is_empty() {
            let note = format!("(columns that do not fit are left out: {hidden}; --json has them)");
            text += &format!("{}\n", super::width::fill(&note, width, " "));
        }
        text
    }

    /// Appends the lines of a row: none ends with spaces.
    fn lines(&self, cells: &[String], layout: &Layout, text: &mut String) {
        let of = |(&i, &width): (&usize, &usize)| broken_or_whole(cells.get(i).map_or("", String::as_str), width);
        let parts: Vec<Vec<String>> = layout.shown.iter().zip(&layout.widths).map(of).collect();
        for n in 0..parts.iter().map(Vec::len).max().unwrap_or(0) {
            let mut line = String::new();
            for (k, part) in parts.iter().enumerate() {
                let cell = part.get(n).map_or("", String::as_str);
                let fill = " ".repeat(layout.widths[k].saturating_sub(display_width(cell)));
                line += &" ".repeat(if k == 0 { 0 } else { layout.gap });
                line += &if self.columns[layout.shown[k]].right { fill + cell } else { format!("{cell}{fill}") };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
}

fn broken_or_whole(cell: &str, width: usize) -> Vec<String> {
    if display_width(cell) <= width { vec![cell.to_string()] } else { broken(cell, width) }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fit(columns()))
    }
}

/// `85,548`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `3,912 clips`, `1 clip`.
pub fn count(number: u64, noun: &str) -> String {
    let plural = match noun.strip_suffix('s') {
        _ if number == 1 => "",
        Some(_) => "es",
        None => "s",
    };
    format!("{} {noun}{plural}", thousands(number))
}

/// `34.1 MB`, in powers of a thousand.
pub fn bytes(number: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match units.into_iter().find(|&(_, size)| number as f64 >= size) {
        Some((unit, size)) => format!("{:.1} {unit}", number as f64 / size),
        None => format!("{number} B"),
    }
}

/// `6.1 s`, `2 min 14 s`, `1 h 5 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_tails() {
        let mut table = Table::new([left("class"), right("clips"), left("remark")]);
        table.row(["zero", "1,024", ""]);
        table.row(["é", "7"]);
        assert_eq!(table.fit(80), "class  clips  remark\nzero   1,024\né          7\n");
    }

    #[test]
    fn a_table_never_exceeds_its_width() {
        let mut table = Table::new([
            left("layer"),
            left("op").optional(1),
            left("algorithm"),
            right("ms"),
            right("MB").optional(1),
        ]);
        table.heading("a heading that is longer than all columns of the table together, and is broken between words");
        table.row(["conv1+bn1+relu1+pool1", "softmax_cross_entropy", "F(5,8), F(8,5) or sparse", "1,234.5", "12.3"]);
        table.row(["犬犬犬犬犬犬犬犬犬犬犬犬犬犬犬犬犬犬犬犬犬犬犬犬", "linear", "", "1.0", "1.0"]);
        for width in 40..120 {
            let text = table.fit(width);
            assert!(text.lines().all(|line| display_width(line) <= width && !line.ends_with(' ')), "{width}\n{text}");
            assert!(text.contains("1,234.5"), "{text}");
        }
        let narrow = table.fit(40).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(narrow.ends_with("(columns that do not fit are left out: op, MB; --json has them)"), "{narrow}");
        let wide = table.fit(120);
        assert!(wide.contains("conv1+bn1+relu1+pool1") && wide.contains("softmax_cross_entropy"), "{wide}");
    }

    #[test]
    fn columns_are_left_out_before_a_whole_one_is_broken() {
        let mut table = Table::new([left("layer"), left("op").whole(), right("length").optional(1), right("MMACs")]);
        table.row(["loss", "softmax_cross_entropy", "16,000", "0.0"]);
        let narrow = table.fit(36);
        assert!(narrow.contains("softmax_cross_entropy ") && !narrow.contains("16,000"), "{narrow}");
        assert!(table.fit(20).lines().all(|line| display_width(line) <= 20), "{}", table.fit(20));
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1000, 85_548, 1_855_056].map(thousands), ["0", "999", "1,000", "85,548", "1,855,056"]);
        assert_eq!([bytes(17), bytes(1500), bytes(34_100_000)], ["17 B", "1.5 kB", "34.1 MB"]);
        assert_eq!(
            [duration(6.14), duration(59.99), duration(134.2), duration(3900.0)],
            ["6.1 s", "1 min 0 s", "2 min 14 s", "1 h 5 min"]
        );
        assert_eq!(
            [count(1, "clip"), count(2, "clip"), count(0, "epoch"), count(3, "class")],
            ["1 clip", "2 clips", "0 epochs", "3 classes"]
        );
    }
}
