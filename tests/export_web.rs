//! The page that listens: its network computes the library's logits, its detector decides as the library's, and in a browser it detects words in a WAV file in place of the microphone.
//! Skipped where there is no Node or no Chromium.

mod program;

use program::*;
use serde_json::Value;
use stapes::base::Name;
use stapes::exec::Device;
use stapes::export::web::Detection;
use stapes::export::{Export, Layers, ReplayClips};
use stapes::listen::{Detector, Manifest};
use stapes::nn::{self, Initialisation, Network, NetworkSpec, Variant};
use stapes::train::{Bundle, Weights};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(name)
}

/// The first of these programs that can be started.
fn found(names: &[&'static str]) -> Option<&'static str> {
    let starts = |name: &str| Command::new(name).arg("--version").output().is_ok_and(|out| out.status.success());
    names.iter().copied().find(|name| starts(name))
}

fn untrained(spec: &NetworkSpec) -> Bundle {
    let network = Network::build(spec, 4).unwrap();
    let mut weights = Weights::initial(&network.graph, Initialisation::default(), 5);
    weights.state.iter_mut().enumerate().for_each(|(i, s)| *s = *s * 0.8 + 0.1 + (i % 5) as f32 * 0.02);
    let classes = ["a", "b</script>", "c", "_unknown_"].map(Name::from).to_vec();
    let network = Arc::new(network);
    Bundle { network, weights, classes, standardisation: None, file: "untrained".into(), folder: None, config: None }
}

fn detection() -> Detection {
    Detection {
        hop_ms: 20.0,
        smoothing_ms: 160.0,
        decision_ms: 500.0,
        refractory_ms: 900.0,
        quiet_db: -60.0,
        thresholds: vec![0.8, 0.8, 0.8, 2.0],
    }
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_engine_of_the_page_computes_the_logits_and_decides_the_words_of_the_library() {
    let Some(node) = found(&["node"]) else {
        eprintln!("skipped: there is no Node");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let separable =
        NetworkSpec::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/specs/separable.toml")).unwrap();
    let study = |name: &str, variant| nn::find(name).unwrap().spec(variant);
    let specs = [study("custom32-8", Variant::DoBn), study("steep32-4", Variant::Do), separable];
    for (spec, fold) in specs.iter().flat_map(|spec| [(spec, true), (spec, false)]) {
        let bundle = untrained(spec);
        let shape = Layers::of(&bundle).unwrap().input_shape();
        if shape.c != 1 {
            continue;
        }
        let clips = ReplayClips::noise(shape, 3, 2);
        let export = Export::new(&bundle, fold, &clips, &Device::default()).unwrap();
        let (page, inputs) = (folder.path().join("page.html"), folder.path().join("inputs.json"));
        export.save_web(&page, &detection()).unwrap();
        let all: Vec<&[f32]> = clips.inputs.chunks(shape.size()).collect();
        fs::write(&inputs, serde_json::to_string(&all).unwrap()).unwrap();
        let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/export/web/engine.js");
        let output = Command::new(node).arg(script("engine.js")).arg(engine).arg(&page).arg(&inputs).output().unwrap();
        assert!(output.status.success(), "{}", told(&output));
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        for (clip, logits) in all.iter().zip(result["logits"].as_array().unwrap()) {
            let ours: Vec<f64> = export.layers.logits(clip).unwrap();
            for (a, b) in ours.iter().zip(logits.as_array().unwrap()) {
                assert!((a - b.as_f64().unwrap()).abs() < 1e-4, "{} {fold}: {ours:?} {logits}", spec.name);
            }
        }
        // The same course of probabilities as in engine.js.
        let manifest = Manifest::new(["a", "b"].map(Name::from).to_vec(), 16_000);
        let mut detector = Detector::new(&manifest, 0.02);
        let mut detected = Vec::new();
        for w in 0..300u64 {
            let p = if w % 120 < 40 {
                [0.95, 0.05]
            } else if w % 120 < 50 {
                [0.05, 0.9]
            } else {
                [0.5, 0.5]
            };
            detected.extend(detector.push(w, (!(200..220).contains(&w)).then_some(&p[..])).map(|d| (w, d)));
        }
        let theirs = result["detected"].as_array().unwrap();
        assert_eq!(theirs.len(), detected.len());
        assert!(detected.len() >= 2);
        for ((window, ours), theirs) in detected.iter().zip(theirs) {
            assert_eq!(theirs[0], *window);
            assert_eq!(theirs[1], manifest.words[ours.word].to_string());
            assert!((theirs[2].as_f64().unwrap() - ours.probability).abs() < 1e-9);
        }
    }
}

#[test]
fn the_page_detects_words_in_a_browser() {
    let chromium = found(&["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]);
    let (Some(chromium), Some(node)) = (chromium, found(&["node"])) else {
        eprintln!("skipped: there is no Chromium or no Node");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let run = copy_of_run(folder.path());
    stapes().arg("listen").arg(&run).args(["--write-manifest", "--threshold", "0.2"]).assert().success();
    let page = folder.path().join("words.html");
    stapes().arg("export").arg(&run).arg("--out").arg(&page).assert().success();
    // A word, again and again: the browser begins the file before the page listens.
    let sound = fs::read(clip("six")).unwrap();
    let data: Vec<u8> = sound[44..].iter().copied().cycle().take(12 * sound[44..].len()).collect();
    let microphone = folder.path().join("microphone.wav");
    fs::write(&microphone, wav(1, 16, &data, data.len() as u32)).unwrap();
    let inputs = folder.path().join("inputs.json");
    fs::write(&inputs, serde_json::to_string(&[vec![0.1f32; 16_000]]).unwrap()).unwrap();
    let mut check = Command::new(node);
    let output =
        check.arg(script("listener.mjs")).arg(chromium).arg(&page).arg(&microphone).arg(&inputs).output().unwrap();
    if output.status.code() == Some(77) {
        eprintln!("skipped: {}", told(&output));
        return;
    }
    assert!(output.status.success(), "{}", told(&output));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(&output)));
    assert!(result["faults"].as_array().unwrap().is_empty(), "{result}");
    assert!(!result["detected"].as_array().unwrap().is_empty(), "{result}");
    assert_eq!(result["labelled"], true);
    assert_eq!(result["logits"][0].as_array().unwrap().len(), 4);
}
