//! Commands for the reader to type: the program as it was invoked, every word quoted for a shell.

use super::width::{columns, display_width};
use std::ffi::OsStr;
use std::sync::OnceLock;

static PROGRAM: OnceLock<String> = OnceLock::new();

/// Remembers how the program was invoked: a path such as `target/release/stapes`, or a name that the shell finds.
pub fn set_program(name: &OsStr) {
    _ = PROGRAM.set(if name.is_empty() { "stapes".into() } else { quoted(name) });
}

/// The words before a command.
pub const LABELS: [&str; 2] = ["look:", "next:"];

/// `next: PROGRAM WORDS ..`: a command that works as typed in the folder where the program runs. A command longer than the
/// terminal is wide is continued on further lines in the way of a shell.
pub fn next<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> String {
    lines("next:", &command(words), columns())
}

/// The same for a command that shows something: `look: PROGRAM WORDS ..`.
#[cfg(feature = "explain")]
pub fn look<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> String {
    lines("look:", &command(words), columns())
}

/// The words of a command, quoted, the program first.
fn command<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Vec<String> {
    let program = PROGRAM.get().cloned().unwrap_or("stapes".into());
    std::iter::once(program).chain(words.into_iter().map(|word| quoted(word.as_ref()))).collect()
}

fn lines(label: &str, words: &[String], width: usize) -> String {
    let mut text = String::from(label);
    let mut column = display_width(&text);
    for (i, word) in words.iter().enumerate() {
        let wide = display_width(word);
        // Two columns stay free for the sign of continuation.
        if i > 1 && column + 1 + wide + 2 > width {
            text += " \\\n     ";
            column = 5;
        }
        text += &format!(" {word}");
        column += 1 + wide;
    }
    text
}

/// `word` as a shell reads it back, in printable characters only.
pub fn quoted(word: &OsStr) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./+:@,".contains(c);
    match word.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(plain) => text.into(),
        Some(text) if is_printable(text) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            let mut escaped = String::from("$'");
            for &byte in word.as_encoded_bytes() {
                match byte {
                    b'\'' | b'\\' => escaped.extend(['\\', byte as char]),
                    0x20..0x7f => escaped.push(byte as char),
                    _ => escaped += &format!("\\x{byte:02x}"),
                }
            }
            escaped + "'"
        }
    }
}

/// Whether a terminal shows every character of `text` as it is.
fn is_printable(text: &str) -> bool {
    let text = text.replace('\\', "");
    crate::base::name::display(&text) == text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        let words = ["runs/a-1", "my run", "it's", "a\tb", "", "$HOME", "\u{e9}"];
        let expected = ["runs/a-1", "'my run'", r"'it'\''s'", r"$'a\x09b'", "''", "'$HOME'", "\u{e9}"];
        assert_eq!(words.map(|word| quoted(OsStr::new(word))), expected);
    }

    #[test]
    #[cfg(unix)]
    fn bytes_that_are_no_text_are_escaped() {
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(quoted(OsStr::from_bytes(b"b\xffd'")), r"$'b\xffd\''");
    }

    #[test]
    fn a_long_command_is_continued() {
        let words = ["stapes", "predict", "runs/name", "runs/name/example.wav"].map(String::from);
        assert_eq!(lines("next:", &words, 80), "next: stapes predict runs/name runs/name/example.wav");
        assert_eq!(lines("next:", &words, 40), "next: stapes predict runs/name \\\n      runs/name/example.wav");
    }
}
