//! Embeds a recogniser: loads weights from a file once, then classifies arrays of samples as they arrive.
//!
//! `cargo run --release --example embed_recogniser` writes a file with untrained weights first, so that it needs nothing else;
//! `cargo run --release --example embed_recogniser -- runs/NAME` takes the best weights of a run of `stapes train`.

use stapes::prelude::*;
use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

/// A network in the format of network files, for clips of a quarter of a second.
const NETWORK: &str = r#"
name = "embedded"
input = { length = 4000, channels = 1, sample_rate = 16000 }
blocks = { rule = "custom", start = 8, depth = 5 }
"#;

/// A network that the program itself describes, with weights from a safetensors file.
fn from_weights() -> Result<Recogniser, Box<dyn Error>> {
    let network = Network::build(&NetworkSpec::parse(NETWORK, "embedded")?, 3)?;
    let folder = std::env::temp_dir().join(format!("stapes-example-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("weights.safetensors");
    let untrained = Trainer::builder(&network).batch(1).build()?.weights().clone();
    save_weights(&file, &network.graph, &untrained, HashMap::new())?;
    let weights = load_weights(&file, &network.graph)?;
    std::fs::remove_dir_all(&folder)?;
    Ok(Recogniser::builder(network, weights).build()?)
}

/// A run folder or a weight file of `stapes train`, which contains the description of its network.
fn from_run(path: &Path) -> Result<(Recogniser, usize), Box<dyn Error>> {
    let bundle = Bundle::open(path, Which::Best)?;
    let length = bundle.network.spec.input.length * bundle.network.spec.input.channels;
    Ok((Recogniser::builder(bundle.network, bundle.weights).build()?, length))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut recogniser, length) = match std::env::args_os().nth(1) {
        Some(path) => from_run(Path::new(&path))?,
        None => (from_weights()?, 4000),
    };
    // Samples as a microphone delivers them, 16-bit; the network takes them at full scale 1.
    let recorded: Vec<i16> = (0..length).map(|i| (8000.0 * (i as f32 * 0.05).sin()) as i16).collect();
    let samples: Vec<f32> = recorded.iter().map(|&sample| f32::from(sample) * FULL_SCALE).collect();
    for _ in 0..3 {
        let start = Instant::now();
        let prediction = &recogniser.predict(&samples)?[0];
        let milliseconds = 1e3 * start.elapsed().as_secs_f64();
        println!("class {}, probability {:.3}, {milliseconds:.2} ms", prediction.class, prediction.probability);
    }
    Ok(())
}
