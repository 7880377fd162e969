//! The width of the terminal, and text broken into lines that fit it.

use super::shell::LABELS;
use std::io::IsTerminal;
use textwrap::{Options, WordSplitter, WrapAlgorithm};

/// Columns that are assumed where there is no terminal.
const DEFAULT: usize = 80;
/// The least and the most columns that output is laid out for.
const LIMITS: (usize, usize) = (40, 200);

/// The columns that output may take: those of the variable `COLUMNS` if it is set, else those of the terminal, else 80.
pub fn columns() -> usize {
    let is_terminal = std::io::stdout().is_terminal() || std::io::stderr().is_terminal();
    given().or_else(|| is_terminal.then(textwrap::termwidth)).unwrap_or(DEFAULT).clamp(LIMITS.0, LIMITS.1)
}

/// The columns that a remark on standard error may take; no limit where that is neither a terminal nor given by `COLUMNS`, so
/// that a log has whole sentences in its lines.
pub fn columns_of_remarks() -> Option<usize> {
    (given().is_some() || std::io::stderr().is_terminal()).then(columns)
}

/// The variable `COLUMNS`, if it is a number.
fn given() -> Option<usize> {
    std::env::var("COLUMNS").ok()?.trim().parse().ok()
}

/// The columns that `text` takes on a terminal; a wide character of Chinese, Japanese or Korean takes two.
pub fn display_width(text: &str) -> usize {
    textwrap::core::display_width(text)
}

/// `text` in lines of at most `width` columns, each line of `text` broken by itself between words; a line that continues one
/// begins with `indent`, or below the text where a line has the form `label  text`. A longer word stays whole, since it may be a
/// path that somebody copies. Lines that begin with one of [`LABELS`] hold a command and are not changed.
pub fn fill(text: &str, width: usize, indent: &str) -> String {
    let filled = text.split('\n').map(|line| {
        match LABELS.iter().any(|label| line.starts_with(label)) || display_width(line) <= width {
            true => line.to_string(),
            false => {
                let indent = hanging(line, indent);
                let options = Options::new(width)
                    .subsequent_indent(&indent)
                    .break_words(false)
                    .word_splitter(WordSplitter::NoHyphenation)
                    .wrap_algorithm(WrapAlgorithm::FirstFit);
                textwrap::fill(line, &options)
            }
        }
    });
    filled.collect::<Vec<_>>().join("\n")
}

/// The most columns of a label.
const LABEL: usize = 10;

/// The indentation of the lines that continue `line`.
fn hanging(line: &str, indent: &str) -> String {
    let text = line.trim_start();
    let margin = line.len() - text.len();
    let label = text.find(' ').filter(|&end| end <= LABEL && text[end..].starts_with("  "));
    match label {
        Some(end) => " ".repeat(margin + end + (text.len() - end - text[end..].trim_start().len())),
        None => " ".repeat(margin) + indent,
    }
}

/// `cell` in pieces of at most `width` columns, broken after a space or one of `+ _ / - ,` where that is possible.
pub fn broken(cell: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in cell.split_inclusive([' ', '+', '_', '/', '-', ',']) {
        let last = lines.last().map_or(0, |line| display_width(line));
        if last > 0 && last + display_width(word.trim_end()) > width {
            lines.push(String::new());
        }
        for c in word.chars() {
            let mut bytes = [0; 4];
            let one = display_width(c.encode_utf8(&mut bytes));
            if c != ' ' && lines.last().is_some_and(|line| !line.is_empty() && display_width(line) + one > width) {
                lines.push(String::new());
            }
            if let Some(line) = lines.last_mut() {
                line.push(c);
            }
        }
    }
    lines.iter().map(|line| line.trim_end().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(fill("one two three\nfour", 8, "  "), "one two\n  three\nfour");
        assert_eq!(fill("a /long/path/name b", 8, ""), "a\n/long/path/name\nb");
        assert_eq!(fill("data   one two three", 15, "  "), "data   one two\n       three");
        assert_eq!(fill("  one two three", 8, "  "), "  one\n    two\n    three");
        assert_eq!(fill("next: stapes eval runs/name", 8, ""), "next: stapes eval runs/name");
    }

    #[test]
    fn cells_are_broken_behind_signs() {
        assert_eq!(broken("conv1+bn1+relu1+pool1", 12), ["conv1+bn1+", "relu1+pool1"]);
        assert_eq!(broken("F(5,8) or sparse", 9), ["F(5,8) or", "sparse"]);
        assert_eq!(broken("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(broken("", 3), [""]);
        assert_eq!(broken("犬犬犬", 4), ["犬犬", "犬"]);
    }
}
