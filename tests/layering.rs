//! The rules of this code that the compiler does not check: imports point down only, files stay readable, nothing is listed twice.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest file, tests included; a hot kernel may not be longer either.
const LONGEST: usize = 600;

/// The modules and their levels: the table under "Levels" in ARCHITECTURE.md, its only statement.
fn levels() -> BTreeMap<String, u32> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let section = page.split("## Levels").nth(1).expect("ARCHITECTURE.md has a section `Levels`");
    let section = section.split("\n## ").next().unwrap();
    let mut levels = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let Ok(level) = cells[1].parse::<u32>() else { continue };
        for module in cells[2].split(',') {
            levels.insert(module.trim().trim_matches('`').to_string(), level);
        }
    }
    levels
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

fn sources() -> BTreeMap<String, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = rust_files(&src).into_iter().map(|path| {
        let name = path.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/");
        (name, fs::read_to_string(path).unwrap())
    });
    files.collect()
}

/// The modules that a file names with `crate::module`, doc comments and test modules excepted.
fn imports(text: &str, levels: &BTreeMap<String, u32>) -> Vec<String> {
    let mut modules = Vec::new();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for rest in line.split("crate::").skip(1) {
            let module: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if levels.contains_key(&module) {
                modules.push(module);
            }
        }
    }
    // `use crate::{base::.., graph::..}`
    for block in code.split("use crate::{").skip(1) {
        let block = block.split(';').next().unwrap_or_default();
        modules.extend(levels.keys().filter(|name| block.contains(&format!("{name}::"))).cloned());
    }
    modules
}

#[test]
fn imports_point_down_only() {
    let levels = levels();
    assert!(levels.len() >= 10, "the table in ARCHITECTURE.md lists {levels:?}");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (file, text) in sources() {
        let Some((module, _)) = file.split_once('/') else { continue };
        let Some(own) = levels.get(module) else {
            panic!("src/{file} is in a module without a level; add `{module}` to the table in ARCHITECTURE.md")
        };
        for import in imports(&text, &levels) {
            seen += 1;
            if import != module && &levels[&import] >= own {
                wrong.push(format!("src/{file} (level {own}) imports {import}"));
            }
        }
    }
    assert!(seen > 50, "the test must see the existing imports");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_and_is_short_enough_to_read() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let lines = text.lines().count();
        if lines > LONGEST {
            wrong.push(format!("src/{file} has {lines} lines, more than {LONGEST}"));
        }
        if !text.starts_with("//! ") {
            wrong.push(format!("src/{file} does not begin with a `//!` line that says what it is"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first line, the name and the number of lines of each function in formatted code.
fn functions(text: &str) -> Vec<(usize, &str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let named = |line: &'_ str| -> Option<usize> {
        let code = line.trim_start();
        let words = ["pub ", "pub(super) ", "pub(crate) ", "const ", "unsafe "];
        let rest = words.iter().fold(code, |code, word| code.strip_prefix(word).unwrap_or(code));
        rest.starts_with("fn ").then_some(line.len() - code.len())
    };
    let of = |(first, line): (usize, &&'_ str)| {
        let indent = named(line)?;
        let end = format!("{}}}", " ".repeat(indent));
        let length = lines[first..].iter().position(|line| **line == end)? + 1;
        Some((first + 1, lines[first].trim_start(), length))
    };
    lines.iter().enumerate().filter_map(of).collect()
}

/// What a reader should be able to take in within an evening.
#[test]
fn the_fused_convolution_has_short_files_and_functions() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (file, text) in sources().into_iter().filter(|(file, _)| file.starts_with("ops/conv_block/")) {
        let lines = text.lines().count();
        if lines > 400 {
            wrong.push(format!("src/{file} has {lines} lines, more than 400"));
        }
        for (line, head, length) in functions(&text) {
            seen += 1;
            if length > 60 {
                wrong.push(format!("src/{file}:{line} `{head}` has {length} lines, more than 60"));
            }
        }
    }
    assert!(seen > 80, "the test must see the functions: {seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_op_is_in_the_list_of_all() {
    let listed: Vec<&str> = stapes::ops::ALL.iter().map(|family| family.name).collect();
    // Not the example in the documentation of `Op`.
    let implements = |text: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix("impl Op for "));
        lines.filter(|name| !name.starts_with("BatchNormInference")).count()
    };
    let defined: usize = sources().values().map(|text| implements(text)).sum();
    assert_eq!(listed.len(), defined, "ALL lists {listed:?}");
    for family in stapes::ops::ALL {
        let cases = (family.cases)();
        assert!(!cases.is_empty(), "{} has no cases", family.name);
        assert!(cases.iter().all(|case| case.op.name() == family.name));
        let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases.len(), "{} has two cases of one name", family.name);
    }
}

#[test]
fn unsafe_code_stays_in_its_files() {
    let allowed = [
        "simd/check.rs",
        "simd/depthwise.rs",
        "simd/integer.rs",
        "simd/isa.rs",
        "simd/sparse.rs",
        "simd/planes.rs",
        "simd/transform.rs",
        "simd/portable.rs",
        "simd/x86.rs",
        "simd/tile.rs",
        "simd/vnni.rs",
        "simd/winograd.rs",
        "simd/primitives.rs",
        "ops/conv_block/forward.rs",
        "ops/conv_block/gradient.rs",
        "ops/conv_block/norm_forward.rs",
        "ops/conv_block/norm_gradient.rs",
        "ops/conv_block/pooled_weight.rs",
        "ops/conv_block/weight.rs",
        "exec/cpu/helpers.rs",
        "exec/cuda/clips.rs",
        "exec/cuda/gpu.rs",
        "exec/cuda/launches.rs",
        "exec/cuda/program.rs",
        "exec/cuda/queue.rs",
    ];
    for (file, text) in sources() {
        let has = text.contains("allow(unsafe_code)");
        assert_eq!(
            has,
            allowed.contains(&file.as_str()),
            "src/{file}: unsafe code {}",
            if has { "not expected" } else { "expected" }
        );
    }
}

/// Figurative words, with the terms that are used instead. A word counts as part of an identifier too (`settle_all`).
const FIGURATIVE: [(&[&str], &str); 5] = [
    (&["judge", "judges", "judged", "judging"], "`reference`, `check` or `compare`"),
    (&["hear", "hears", "heard"], "`receptive field`, `input` or `predicted`"),
    (&["settle", "settles", "settled"], "`wait` or `reorder`"),
    (&["house", "rooms"], "`module`"),
    (&["likewise"], "the full sentence"),
];

/// The words of a line in lower case: identifiers are split at underscores and before capital letters.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in line.chars() {
        if !c.is_alphanumeric() || c.is_uppercase() && before.is_lowercase() {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().expect("the list is never empty").extend(c.to_lowercase());
        }
        before = c;
    }
    words
}

#[test]
fn identifiers_and_documentation_use_technical_terms() {
    assert!(words("fn settleAll_now()").contains(&"settle".to_string()));
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            for word in words(line) {
                if let Some((_, terms)) = FIGURATIVE.iter().find(|(list, _)| list.contains(&word.as_str())) {
                    wrong.push(format!("src/{file}:{}: `{word}`; use {terms}", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
