//! The header is the one that cbindgen makes, and names every function.

use std::path::Path;

#[test]
fn the_header_has_every_function() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let bindings = cbindgen::Builder::new().with_src(root.join("src/lib.rs")).with_config(config).generate().unwrap();
    let mut made = Vec::new();
    bindings.write(&mut made);
    let made = String::from_utf8(made).unwrap();
    let source = std::fs::read_to_string(root.join("src/lib.rs")).unwrap();
    let functions: Vec<&str> = source
        .split("extern \"C\" fn ")
        .skip(1)
        .filter_map(|rest| rest.split('(').next())
        .filter(|name| name.starts_with("stapes_"))
        .collect();
    assert_eq!(functions.len(), 10, "{functions:?}");
    for function in functions {
        assert!(made.contains(&format!("{function}(")), "{function} is missing:\n{made}");
    }
    let file = root.join("stapes.h");
    if std::env::var_os("STAPES_WRITE_HEADER").is_some() {
        std::fs::write(&file, &made).unwrap();
    }
    assert_eq!(std::fs::read_to_string(file).unwrap_or_default(), made, "write it anew with STAPES_WRITE_HEADER=1");
}
