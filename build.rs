//! Lists the recordings under fixtures/words, one Ogg Vorbis stream a word, so that the program embeds what is there and
//! the words stand in no second list; and the PTX of the CUDA kernels under kernels/ptx likewise, compressed to a tenth.

use flate2::{Compression, write::GzEncoder};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    list("fixtures/words", "ogg", "words.rs", |word, path| format!("({word:?}, include_bytes!({path:?}))"));
    list("kernels/ptx", "ptx", "images.rs", |name, path| {
        let packed = compressed(path);
        format!("({name:?}, include_bytes!({packed:?}))")
    });
}

/// A copy of a file, compressed, in cargo's folder.
fn compressed(path: &Path) -> PathBuf {
    let out = env::var("OUT_DIR").expect("cargo says where to write");
    let to = Path::new(&out).join(path.file_name().expect("the files have names")).with_extension("ptx.gz");
    let text = fs::read(path).expect("the package's files can be read");
    let mut file =
        GzEncoder::new(fs::File::create(&to).expect("cargo's own folder can be written"), Compression::best());
    file.write_all(&text).and_then(|()| file.finish().map(drop)).expect("cargo's own folder can be written");
    to
}

/// Writes the list of the files in `folder` that end so, each as `entry` puts it.
fn list(folder: &str, ending: &str, to: &str, entry: impl Fn(&str, &Path) -> String) {
    println!("cargo::rerun-if-changed={folder}");
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    let entries = fs::read_dir(Path::new(&root).join(folder)).expect("the package has this folder");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == ending))
        .collect();
    files.sort();
    let mut list = String::from("&[\n");
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.file_stem().expect("the files have names").to_string_lossy();
        writeln!(list, "    {},", entry(&name, file)).expect("text grows");
    }
    list += "]\n";
    let out = env::var("OUT_DIR").expect("cargo says where to write");
    fs::write(Path::new(&out).join(to), list).expect("cargo's own folder can be written");
}
