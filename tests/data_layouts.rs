//! Data sets as people have them: names, layouts, links and lists, in folders and in archives.

#[path = "data/files.rs"]
#[allow(dead_code)] // three test programs share it
mod files;

use std::path::Path;

use files::*;
use stapes::base::Name;
use stapes::data::*;

/// Writes a clip that differs with `seed` to `folder/word/file`, for names of any bytes.
fn clip(folder: &Path, word: &[u8], file: &[u8], seed: u64) {
    let folder = folder.join(Name::from_bytes(word).to_path());
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(Name::from_bytes(file).to_path()), wav16(&noise(seed, 400))).unwrap();
}

#[cfg(unix)]
#[test]
fn case_01_and_12_names_keep_their_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let words: [&[u8]; 8] =
        [b" bed", b"bed ", b"b\xfed", b"b\xffd", b"yes,no", b"tab\there", b"\x1b[31m", b"caf\xc3\xa9"];
    for (i, word) in words.iter().enumerate() {
        clip(temp.path(), word, b"a\xff_nohash_0.wav", 2 * i as u64);
        clip(temp.path(), word, b"a\xfe_nohash_0.wav", 2 * i as u64 + 1);
    }
    let data = open(temp.path(), &config(CacheMode::Off)).unwrap();
    let mut sorted: Vec<Name> = words.map(Name::from_bytes).to_vec();
    sorted.sort();
    assert_eq!(data.classes(), sorted);
    assert_eq!(data.clips().len(), 16, "no clip is lost");
    let speakers: std::collections::BTreeSet<&Name> = data.clips().iter().map(|clip| &clip.speaker).collect();
    assert_eq!(speakers.len(), 2);
    // A list of text forms selects the same classes.
    let list: Vec<String> = sorted.iter().map(|name| name.to_string().replace(',', "\\,")).collect();
    let classes = Some(Name::parse_list(&list.join(",")).unwrap());
    let chosen = open(temp.path(), &DataConfig { classes, ..config(CacheMode::Off) }).unwrap();
    assert_eq!(chosen.clips(), data.clips());
    let json = serde_json::to_string(&data.clips()[0]).unwrap();
    assert_eq!(serde_json::from_str::<ClipMeta>(&json).unwrap().name, data.clips()[0].name);
}
