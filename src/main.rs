//! The entry point of the program `stapes`.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(missing) = stapes::simd::missing_cpu_features() {
        let text = format!(
            "stapes: error: this build needs a processor with {missing}, which this processor does not have; build the program on this machine with `RUSTFLAGS= cargo build --release`\n"
        );
        _ = std::io::stderr().write_all(text.as_bytes());
        return ExitCode::from(1);
    }
    stapes::cli::run(std::env::args_os())
}
