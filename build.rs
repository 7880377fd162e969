//! Writes two lists into cargo's output folder, which the crate includes: the recordings under `fixtures/words`, one Ogg
//! Vorbis file for each word (feature `audio`), and the compressed PTX files under `kernels/ptx` (feature `cuda`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if cfg!(feature = "audio") {
        list("fixtures/words", ".ogg", "words.rs");
    }
    if cfg!(feature = "cuda") {
        list("kernels/ptx", ".ptx.xz", "images.rs");
    }
}

/// Writes a slice expression to the file `to`: name and content of each file of `folder` with this ending, in the order of
/// their names.
fn list(folder: &str, ending: &str, to: &str) {
    println!("cargo::rerun-if-changed={folder}");
    let root = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let entries = fs::read_dir(Path::new(&root).join(folder)).expect("the package contains this folder");
    let files = entries.map(|entry| entry.expect("the folder can be read").path());
    let mut files: Vec<(String, PathBuf)> =
        files.filter_map(|path| Some((path.file_name()?.to_str()?.strip_suffix(ending)?.to_owned(), path))).collect();
    files.sort();
    let mut list = String::from("&[\n");
    for (name, path) in &files {
        println!("cargo::rerun-if-changed={}", path.display());
        writeln!(list, "    ({name:?}, include_bytes!({path:?})),").expect("writing to a string does not fail");
    }
    list += "]\n";
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out_dir.join(to), list).expect("cargo's output folder can be written");
}
