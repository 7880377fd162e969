//! Lists the recordings under fixtures/words, one Ogg Vorbis stream a word, so that the program embeds what is there and
//! the words stand in no second list. (The CUDA kernels under kernels/ will become PTX here.)

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=fixtures/words");
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
    let folder = Path::new(&root).join("fixtures/words");
    let entries = fs::read_dir(&folder).expect("the package has its recordings in fixtures/words");
    let mut streams: Vec<_> = entries
        .map(|entry| entry.expect("the folder of recordings can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "ogg"))
        .collect();
    streams.sort();
    let mut list = String::from("&[\n");
    for stream in &streams {
        let word = stream.file_stem().expect("a stream is named after its word").to_string_lossy();
        writeln!(list, "    ({word:?}, include_bytes!({stream:?})),").expect("text grows");
    }
    list += "]\n";
    let out = env::var("OUT_DIR").expect("cargo says where to write");
    fs::write(Path::new(&out).join("words.rs"), list).expect("cargo's own folder can be written");
}
