//! The program `stapes`.

fn main() {}
