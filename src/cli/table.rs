//! Tables of text, and numbers as people read them.

use std::fmt;

/// A column: its head, and whether it holds numbers, which stand at the right.
#[derive(Clone, Debug)]
pub struct Column {
    head: String,
    right: bool,
}

/// A column of words.
pub fn left(head: impl Into<String>) -> Column {
    Column { head: head.into(), right: false }
}

/// A column of numbers.
pub fn right(head: impl Into<String>) -> Column {
    Column { head: head.into(), right: true }
}

/// A table with aligned columns.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    gap: &'static str,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: impl IntoIterator<Item = Column>) -> Table {
        Table { columns: columns.into_iter().collect(), rows: Vec::new(), gap: "  " }
    }

    /// The same with columns one space apart.
    pub fn narrow(self) -> Table {
        Table { gap: " ", ..self }
    }

    /// Adds a row; what is missing at its end stays empty.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    fn cell<'t>(&self, row: &'t [String], column: usize) -> &'t str {
        row.get(column).map_or("", String::as_str)
    }
}

impl fmt::Display for Table {
    /// Every line ends with a newline and none with spaces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head: Vec<String> = self.columns.iter().map(|column| column.head.clone()).collect();
        let widest = |i: usize| {
            let cells = std::iter::once(&head).chain(&self.rows).map(|row| self.cell(row, i).chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(widest).collect();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut line = String::new();
            for (i, (column, &width)) in self.columns.iter().zip(&widths).enumerate() {
                let cell = self.cell(row, i);
                let gap = if i == 0 { "" } else { self.gap };
                line += &match column.right {
                    true => format!("{gap}{cell:>width$}"),
                    false => format!("{gap}{cell:<width$}"),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
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
        assert_eq!(table.to_string(), "class  clips  remark\nzero   1,024\né          7\n");
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
