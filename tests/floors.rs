//! The house rules that a compiler does not check: imports point down only, files stay readable, nothing is listed twice.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms and their floors, lowest first; a room may import from lower floors and from itself.
const FLOORS: &[(&str, u32)] = &[
    ("base", 0),
    ("simd", 1),
    ("data", 1),
    ("ops", 2),
    ("graph", 3),
    ("exec", 4),
    ("nn", 5),
    ("optim", 5),
    ("train", 6),
    ("cli", 7),
];

/// Longest file, tests included; a hot kernel may not be longer either.
const LONGEST: usize = 600;

fn floor(room: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
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

/// The rooms that a file names with `crate::room`, doc comments and test modules aside.
fn imports(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for rest in line.split("crate::").skip(1) {
            let room: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if floor(&room).is_some() {
                rooms.push(room);
            }
        }
    }
    // `use crate::{base::.., graph::..}`
    for block in code.split("use crate::{").skip(1) {
        let block = block.split(';').next().unwrap_or_default();
        rooms.extend(
            FLOORS.iter().map(|(name, _)| *name).filter(|name| block.contains(&format!("{name}::"))).map(String::from),
        );
    }
    rooms
}

#[test]
fn imports_point_down_only() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (file, text) in sources() {
        let Some((room, _)) = file.split_once('/') else { continue };
        let own = floor(room).unwrap_or_else(|| panic!("src/{file} is in a room without a floor"));
        for import in imports(&text) {
            seen += 1;
            if import != room && floor(&import) >= Some(own) {
                wrong.push(format!("src/{file} (floor {own}) imports {import}"));
            }
        }
    }
    assert!(seen > 50, "the test must see the imports that there are");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_and_reads_in_one_sitting() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let lines = text.lines().count();
        if lines > LONGEST {
            wrong.push(format!("src/{file} has {lines} lines, more than {LONGEST}"));
        }
        let Some((room, _)) = file.split_once('/') else { continue };
        let expected = format!("//! Floor {}. ", floor(room).unwrap());
        if !text.starts_with(&expected) {
            wrong.push(format!("src/{file} does not begin with `{expected}`"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_op_is_in_the_list_of_all() {
    let listed: Vec<&str> = stapes::ops::ALL.iter().map(|family| family.name).collect();
    let implements =
        |text: &str| text.split("impl Op for ").skip(1).filter(|rest| !rest.starts_with("BatchNormInference")).count();
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
fn unsafe_code_stays_in_its_rooms() {
    let allowed = [
        "simd/check.rs",
        "simd/isa.rs",
        "simd/sparse.rs",
        "simd/planes.rs",
        "simd/transform.rs",
        "simd/portable.rs",
        "simd/x86.rs",
        "simd/tile.rs",
        "ops/conv_block/forward.rs",
        "ops/conv_block/gradient.rs",
        "ops/conv_block/norm.rs",
        "ops/conv_block/norm_gradient.rs",
        "ops/conv_block/weight.rs",
        "data/cache.rs",
        "exec/cuda/clips.rs",
        "exec/cuda/gpu.rs",
        "exec/cuda/launches.rs",
        "exec/cuda/mod.rs",
        "exec/cuda/orders.rs",
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
