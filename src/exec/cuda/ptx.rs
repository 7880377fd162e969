//! The kernels in the program: PTX text by file, and the signatures in it.

use std::collections::HashMap;
use std::sync::OnceLock;

/// A file of `kernels/ptx/`: its name without ending, and its decompressed text.
pub struct Image {
    /// The name: `basic`, `conv_fma`, ..
    pub name: &'static str,
    /// The PTX.
    pub text: String,
}

/// Name and compressed text of each file.
const PACKED: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// All files.
pub fn images() -> &'static [Image] {
    static IMAGES: OnceLock<Vec<Image>> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let unpacked = |&(name, packed): &(&'static str, &[u8])| {
            let (mut packed, mut text) = (packed, Vec::new());
            lzma_rs::xz_decompress(&mut packed, &mut text).expect("the file is whole: a test decompresses it");
            Image { name, text: String::from_utf8(text).expect("PTX is ASCII") }
        };
        PACKED.iter().map(unpacked).collect()
    })
}

/// The type of a kernel's parameter, as PTX tells it: its size, and whether it is a float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// 8 bytes: an address.
    Address,
    /// 4 bytes: an `int`.
    Int,
    /// 4 bytes: a `float`.
    Float,
}

/// A kernel that a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
}

impl Image {
    /// The kernels of the file.
    pub fn entries(&'static self) -> impl Iterator<Item = Entry> {
        self.text.split(".entry ").skip(1).filter_map(|rest| {
            let (name, rest) = rest.split_once('(')?;
            let (list, _) = rest.split_once(')')?;
            let parameter = |line: &str| match line.split_whitespace().nth(1)? {
                ".u64" | ".b64" | ".s64" => Some(Parameter::Address),
                ".f32" => Some(Parameter::Float),
                _ => Some(Parameter::Int),
            };
            let parameters = list.split(',').filter_map(|line| parameter(line.trim())).collect();
            Some(Entry { name: name.trim(), parameters })
        })
    }

    /// The file that contains `kernel`.
    pub fn of(kernel: &str) -> Option<&'static Image> {
        images().iter().find(|image| image.entries().any(|entry| entry.name == kernel))
    }
}

/// The parameters of a kernel, if a file contains it.
pub fn parameters(kernel: &str) -> Option<&'static [Parameter]> {
    static ALL: OnceLock<HashMap<&'static str, Vec<Parameter>>> = OnceLock::new();
    let all = ALL
        .get_or_init(|| images().iter().flat_map(Image::entries).map(|entry| (entry.name, entry.parameters)).collect());
    all.get(kernel).map(Vec::as_slice)
}
