//! The page of `stapes explain` in a browser: no error, no request, sounds that decode, everything reachable by keyboard. Skipped where there is no Chromium or no Node.

mod program;

use program::*;
use std::path::Path;
use std::process::Command;

/// The first of these programs that can be started.
fn found(names: &[&'static str]) -> Option<&'static str> {
    names
        .iter()
        .copied()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|out| out.status.success()))
}

#[test]
fn the_page_works_in_a_browser() {
    let chromium = found(&["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]);
    let (Some(chromium), Some(node)) = (chromium, found(&["node"])) else {
        eprintln!("skipped: there is no Chromium or no Node");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut explain = stapes();
    explain.arg("explain").arg(trained()).args(["--clips", "2", "--checked", "2", "--out"]).arg(dir.path());
    explain.assert().success();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/page.mjs");
    let mut check = Command::new(node);
    check.arg(script).arg(chromium).arg(dir.path().join("index.html"));
    check.args(["training", "filters", "maps", "faithfulness", "layers", "excitation", "features"]);
    let output = check.output().unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(77) {
        eprintln!("skipped: {told}");
        return;
    }
    assert!(output.status.success(), "{told}");
}
