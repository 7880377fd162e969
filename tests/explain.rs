//! `stapes explain`: the page, its files, and everything that cannot be explained.

mod program;

use predicates::prelude::*;
use predicates::str::contains;
use program::*;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn explain(run: &Path, out: &Path, options: &[&str]) -> assert_cmd::Command {
    let mut command = stapes();
    command.arg("explain").arg(run).arg("--out").arg(out).args(["--checked", "3"]).args(options);
    command
}

/// A page or picture without the sounds and pictures inside it, whose code may have any letters.
fn without_data(text: &str) -> String {
    let mut parts = text.split("base64,");
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |before, part| {
        before + part.trim_start_matches(|c: char| c.is_alphanumeric() || "+/=".contains(c))
    })
}

#[test]
fn the_page_has_every_section_needs_no_network_and_its_pictures_are_files() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("page");
    let told = json(&mut explain(&trained(), &out, &["--clips", "2", "--json"]));
    let html = fs::read_to_string(out.join("index.html")).unwrap();
    for id in ["training", "filters", "maps", "faithfulness", "layers", "excitation", "features"] {
        assert!(html.contains(&format!("<section id=\"{id}\"")) && html.contains(&format!("href=\"#{id}\"")), "{id}");
    }
    // The names of SVG and XML are no requests.
    let addresses = html.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    assert!(!addresses.contains("http://") && !addresses.contains("https://") && !addresses.contains("src=\"/"));
    assert!(html.contains("Content-Security-Policy") && html.contains("default-src 'none'"));
    // Every picture has a description, every sound a name.
    assert_eq!(html.matches("<svg").count(), html.matches("role=\"img\" aria-label=\"").count());
    assert_eq!(html.matches("<audio").count(), html.matches("<audio controls preload=\"none\" aria-label=\"").count());
    assert!(html.matches("<audio").count() > 2 && !without_data(&html).contains("NaN"));
    let files: Vec<&str> = told["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    for file in &files {
        assert!(out.join(file).is_file(), "{file}");
    }
    let mut unique = files.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), files.len(), "no file is written twice: {files:?}");
    assert!(files.contains(&"map-2.svg") && files.contains(&"faithfulness.csv") && !files.contains(&"map-3.svg"));
    let table: Value = serde_json::from_slice(&fs::read(out.join("faithfulness.json")).unwrap()).unwrap();
    let maps: Vec<&str> = table.as_array().unwrap().iter().map(|row| row["map"].as_str().unwrap()).collect();
    assert_eq!(maps, ["CAM", "Grad-CAM", "input gradient", "integrated gradients", "random"]);
}

#[test]
fn the_page_is_the_same_at_any_number_of_threads_and_replaces_an_older_one() {
    let dir = tempfile::tempdir().unwrap();
    let page = |threads: &str| {
        explain(&trained(), dir.path(), &["--clips", "1", "--threads", threads]).assert().success();
        fs::read(dir.path().join("index.html")).unwrap()
    };
    assert!(page("1") == page("3"));
}

#[test]
fn sound_files_take_the_place_of_test_clips() {
    let dir = tempfile::tempdir().unwrap();
    // A clip of another rate and length, and a silent one.
    let spec = |rate: u32| hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let (long, silent) = (dir.path().join("long.wav"), dir.path().join("silent.wav"));
    let mut wav = hound::WavWriter::create(&long, spec(44_100)).unwrap();
    (0..3 * 44_100).for_each(|i| wav.write_sample(((i as f64 * 0.1).sin() * 9000.0) as i16).unwrap());
    wav.finalize().unwrap();
    let mut wav = hound::WavWriter::create(&silent, spec(16_000)).unwrap();
    (0..16_000).for_each(|_| wav.write_sample(0i16).unwrap());
    wav.finalize().unwrap();
    let mut command = stapes();
    command.arg("explain").arg(trained()).args([&long, &silent]).arg("--out").arg(dir.path().join("page"));
    command.args(["--checked", "2", "--layer", "conv1"]).assert().success().stdout(contains("index.html: "));
    let map = fs::read_to_string(dir.path().join("page/map-2.svg")).unwrap();
    assert!(map.contains("silent.wav · recognised as") && !without_data(&map).contains("NaN"));
    assert!(!dir.path().join("page/map-3.svg").exists());
    let html = fs::read_to_string(dir.path().join("page/index.html")).unwrap();
    assert!(html.contains("Grad-CAM adds the channels of the layer conv1"));
}

#[test]
fn what_cannot_be_explained_is_refused_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("page");
    explain(dir.path(), &out, &[]).assert().code(1).stderr(contains("stapes: error: "));
    explain(&trained(), &out, &["missing.wav"]).assert().code(1).stderr(contains("cannot read missing.wav"));
    let refused = explain(&trained(), &out, &["--layer", "pool9"]).assert().code(1);
    refused.stderr(contains("pool9").and(contains("stapes: error: ")));
    explain(&trained(), &out, &["--clips", "101"]).assert().code(2).stderr(contains("101"));
    let blocked = dir.path().join("file");
    fs::write(&blocked, "").unwrap();
    let refused = explain(&trained(), &blocked, &["--clips", "1"]).assert().code(1);
    refused.stderr(contains("cannot create the folder").and(contains("panicked").not()));
    assert!(!out.exists(), "nothing is written where something is wrong");
}

#[test]
fn a_terminal_gets_the_matrix_the_filters_and_a_map_and_no_file_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let run = copy_of_run(dir.path());
    for width in ["40", "100"] {
        let output =
            stapes().arg("explain").arg(&run).args(["--text", "--quiet"]).env("COLUMNS", width).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let width: usize = width.parse().unwrap();
        let long = |line: &&str| line.chars().count() > width && !line.contains(".wav");
        assert_eq!(text.lines().find(long), None, "{text}");
        assert!(text.contains("centre Hz") && text.contains("Grad-CAM  ") && text.contains('█'), "{text}");
    }
    assert!(!run.join("explain").exists());
}

#[test]
fn a_training_names_the_command_and_can_write_the_page_at_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let told = train(dir.path(), "explained").args(["--epochs", "1", "--explain"]).assert().success();
    told.stdout(contains("\nlook: ").and(contains(" explain "))).stderr(contains("index.html; open it in a browser"));
    assert!(dir.path().join("explained/explain/index.html").is_file());
}
