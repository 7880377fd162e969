//! Writes two lists into cargo's output folder, which the crate includes: the recordings under `fixtures/words`, one Ogg
//! Vorbis file for each word (feature `audio`), and the PTX files under `kernels/ptx`, compressed to a tenth of their size
//! (feature `cuda`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if cfg!(feature = "audio") {
        list("fixtures/words", "ogg", "words.rs", |word, path| format!("({word:?}, include_bytes!({path:?}))"));
    }
    #[cfg(feature = "cuda")]
    list("kernels/ptx", "ptx", "images.rs", |name, path| {
        let compressed = compress(path);
        format!("({name:?}, include_bytes!({compressed:?}))")
    });
}

/// Compresses the file at `path` into the output folder and returns the path of the result.
#[cfg(feature = "cuda")]
fn compress(path: &Path) -> PathBuf {
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write as _;

    let name = path.file_name().expect("a listed file has a name");
    let to = out_dir().join(name).with_extension("ptx.gz");
    let text = fs::read(path).expect("a file of the package can be read");
    let file = fs::File::create(&to).expect("cargo's output folder can be written");
    let mut file = GzEncoder::new(file, Compression::best());
    file.write_all(&text).and_then(|()| file.finish().map(drop)).expect("cargo's output folder can be written");
    to
}

/// Writes a slice expression to the file `to`: one `entry` for each file of `folder` with this extension, in the order of
/// their names.
fn list(folder: &str, extension: &str, to: &str, entry: impl Fn(&str, &Path) -> String) {
    println!("cargo::rerun-if-changed={folder}");
    let root = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let entries = fs::read_dir(Path::new(&root).join(folder)).expect("the package contains this folder");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    let mut list = String::from("&[\n");
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.file_stem().expect("a listed file has a name").to_string_lossy();
        writeln!(list, "    {},", entry(&name, file)).expect("writing to a string does not fail");
    }
    list += "]\n";
    fs::write(out_dir().join(to), list).expect("cargo's output folder can be written");
}

fn out_dir() -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"))
}
