//! The text below the options of a command's help: paragraphs as wide as the terminal, and examples that can be copied.

use super::width::{display_width, fill};

/// The command line with the text after the help of every command laid out for `width` columns.
///
/// In such a text a line that begins with two spaces is a command, with a remark after two or more spaces. Other lines are
/// joined up to the next empty line, and broken where the width requires it.
pub fn laid_out(line: clap::Command, width: usize) -> clap::Command {
    let names: Vec<String> = line.get_subcommands().map(|command| command.get_name().to_string()).collect();
    names
        .into_iter()
        .fold(with_text(line, width), |line, name| line.mut_subcommand(name, |command| with_text(command, width)))
}

fn with_text(command: clap::Command, width: usize) -> clap::Command {
    match command.get_after_help().map(ToString::to_string) {
        Some(text) => command.after_help(lines(&text, width)),
        None => command,
    }
}

fn lines(text: &str, width: usize) -> String {
    let mut done: Vec<String> = Vec::new();
    let mut paragraph: Vec<&str> = Vec::new();
    for line in text.lines().chain([""]) {
        let example = line.strip_prefix("  ");
        if example.is_none() && !line.is_empty() {
            paragraph.push(line);
            continue;
        }
        if !paragraph.is_empty() {
            done.push(fill(&paragraph.join(" "), width, ""));
            paragraph.clear();
        }
        done.push(example.map_or(String::new(), |text| self::example(text, width)));
    }
    done.join("\n").trim_end().to_string()
}

/// A command in lines that a shell reads as one, with its remark as a comment of the shell: in the same line, or above.
fn example(text: &str, width: usize) -> String {
    let (command, remark) = text.split_once("  ").map_or((text, ""), |(command, rest)| (command, rest.trim_start()));
    let spaces = text.len() - command.len() - remark.len();
    let line = if remark.is_empty() { command.into() } else { format!("{command}{}# {remark}", " ".repeat(spaces)) };
    if display_width(&line) + 2 <= width {
        return format!("  {line}");
    }
    let remark = if remark.is_empty() { String::new() } else { fill(&format!("  # {remark}"), width, "# ") + "\n" };
    let mut lines = remark + " ";
    let mut column = 1;
    for (i, word) in command.split_whitespace().enumerate() {
        // Two columns stay free for the sign of continuation.
        if i > 1 && column + 1 + display_width(word) + 2 > width {
            lines += " \\\n     ";
            column = 5;
        }
        lines += &format!(" {word}");
        column += 1 + display_width(word);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_continued_in_the_way_of_a_shell() {
        let text =
            "Examples:\n  stapes train --data words --epochs 30   on your own words\n  stapes models\n\nOne\ntwo.";
        let train = "stapes train --data words --epochs 30";
        assert_eq!(lines(text, 80), format!("Examples:\n  {train}   # on your own words\n  stapes models\n\nOne two."));
        assert_eq!(
            lines(text, 44),
            format!("Examples:\n  # on your own words\n  {train}\n  stapes models\n\nOne two.")
        );
        let broken = "stapes train --data words \\\n      --epochs 30";
        assert_eq!(
            lines(text, 30),
            format!("Examples:\n  # on your own words\n  {broken}\n  stapes models\n\nOne two.")
        );
        assert_eq!(lines("one\ntwo three", 8), "one two\nthree");
    }
}
