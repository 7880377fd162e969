//! README.md and the pages under docs/ name only commands, options and files that exist.

mod program;

use program::*;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// README.md and the pages under docs/.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let others = ["README.md", "CONTRIBUTING.md"].map(|name| root.join(name));
    others.into_iter().chain(docs).map(|path| (path.clone(), fs::read_to_string(&path).unwrap())).collect()
}

/// The command lines of stapes in a page: what follows `stapes` or `cargo run --release --` in code.
fn command_lines(page: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut block = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            block = !block;
            continue;
        }
        let codes: Vec<&str> = if block { vec![line] } else { line.split('`').skip(1).step_by(2).collect() };
        for code in codes {
            let code = code.split('#').next().unwrap_or_default();
            for start in ["stapes ", "cargo run --release -- "] {
                // At the start of the code, after a pipe, or after a variable and a path.
                let found = code.match_indices(start).map(|(i, _)| i).find(|&i| {
                    let before = code[..i].trim_end();
                    i == 0
                        || before.ends_with('|')
                        || before.ends_with('/')
                        || before.contains('=') && !before.contains(' ')
                });
                if let Some(i) = found {
                    lines.push(code[i + start.len()..].split('|').next().unwrap_or_default().trim().to_string());
                }
            }
        }
    }
    lines
}

#[test]
fn commands_and_options_in_the_documentation_exist() {
    let mut helps: HashMap<String, String> = HashMap::new();
    let mut count = 0;
    for (path, page) in pages() {
        for line in command_lines(&page) {
            let mut words = line.split_whitespace();
            let command = words.next().unwrap_or("--help").to_string();
            if command.starts_with('-') || command == "COMMAND" || !command.chars().all(|c| c.is_ascii_lowercase()) {
                continue;
            }
            // The actions of a command have options of their own.
            let action = line.split_whitespace().nth(1).filter(|action| command == "study" && !action.starts_with('-'));
            let asked: Vec<&str> = std::iter::once(command.as_str()).chain(action).collect();
            let help = helps.entry(asked.join(" ")).or_insert_with(|| {
                let output = stapes().args(&asked).arg("--help").output().unwrap();
                assert!(output.status.success(), "{}: there is no command `{command}`: {line}", path.display());
                String::from_utf8(output.stdout).unwrap()
            });
            for word in words {
                let option = word.split('=').next().unwrap_or(word).trim_end_matches([',', ';', ')', '.', ']']);
                let option = option.trim_start_matches('[');
                if option.starts_with("--") && option.len() > 2 {
                    let known =
                        help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).any(|word| word == option);
                    assert!(known, "{}: `{command}` has no option {option}: {line}", path.display());
                    count += 1;
                }
            }
        }
    }
    assert!(count > 20, "only {count} options were found in the documentation");
}

#[test]
fn links_within_the_repository_lead_to_files() {
    for (path, page) in pages() {
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with('#') {
                continue;
            }
            let file = path.parent().unwrap().join(link.split('#').next().unwrap_or(link));
            assert!(file.exists(), "{}: {link}", path.display());
        }
    }
}

/// docs/networks.md and the head of `src/nn/mod.rs` list the keys of a network file.
#[test]
fn the_keys_of_a_network_file_are_the_same_in_both_places() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let head = fs::read_to_string(root.join("src/nn/mod.rs")).unwrap();
    let lines = head.lines().map_while(|line| line.strip_prefix("//!"));
    let lines: Vec<&str> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    let keys = lines.join("\n").split_once("```toml\n").unwrap().1.split_once("```").unwrap().0.to_string();
    let page = fs::read_to_string(root.join("docs/networks.md")).unwrap();
    assert!(
        keys.contains("pool_ceil") && page.contains(&format!("```toml\n{keys}```")),
        "docs/networks.md differs from:\n{keys}"
    );
}

#[test]
fn the_manual_pages_of_all_commands_are_installed() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md")).unwrap();
    let (_, list) = page.split_once("\nfor c in ").unwrap();
    let list: Vec<&str> = list.split(';').next().unwrap_or_default().split_whitespace().collect();
    let help = stapes().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let commands = help.split_once("Commands:\n").unwrap().1.lines().take_while(|line| !line.is_empty());
    let commands = commands.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let commands: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    let commands: Vec<&str> = commands.into_iter().filter(|&command| command != "help").collect();
    assert_eq!(list, commands);
}

#[test]
fn the_readme_is_short() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    assert!(page.lines().count() <= 140, "{} lines; move details to a page under docs/", page.lines().count());
}
