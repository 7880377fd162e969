//! Embeds a predictor: loads weights from a file once, then recognises arrays of samples as they arrive.
//!
//! `cargo run --release --example embed_recogniser` writes a file with untrained weights first, so that it needs nothing else;
//! `cargo run --release --example embed_recogniser -- runs/NAME` takes the best weights of a run of `stapes train`.

use stapes::nn::Input;
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

/// Samples per second of the audio that the program receives.
const SAMPLE_RATE: u32 = 16_000;

/// A predictor, the names of its classes, and the input of its network.
struct Embedded {
    predictor: Predictor,
    classes: Vec<String>,
    input: Input,
}

/// A network that the program itself describes, with weights from a safetensors file.
fn from_weights() -> Result<Embedded, Box<dyn Error>> {
    let classes = ["yes", "no", "other"].map(String::from).to_vec();
    let network = Network::build(&NetworkSpec::parse(NETWORK, "embedded")?, classes.len())?;
    let input = network.spec.input;
    let folder = std::env::temp_dir().join(format!("stapes-example-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("weights.safetensors");
    let untrained = Trainer::builder(&network).batch(1).build()?.weights().clone();
    save_weights(&file, &network.graph, &untrained, HashMap::new())?;
    let weights = load_weights(&file, &network.graph)?;
    std::fs::remove_dir_all(&folder)?;
    Ok(Embedded { predictor: Predictor::builder(network, weights).build()?, classes, input })
}

/// A run folder or a weight file of `stapes train`, which contains the description of its network and the names of its classes.
fn from_run(path: &Path) -> Result<Embedded, Box<dyn Error>> {
    let bundle = Bundle::open(path, Which::Best)?;
    let classes = bundle.classes.iter().map(ToString::to_string).collect();
    let input = bundle.network.spec.input;
    Ok(Embedded { predictor: Predictor::builder(bundle.network, bundle.weights).build()?, classes, input })
}

fn main() -> Result<(), Box<dyn Error>> {
    let Embedded { mut predictor, classes, input } = match std::env::args_os().nth(1) {
        Some(path) => from_run(Path::new(&path))?,
        None => from_weights()?,
    };
    // A network does not notice audio of another rate: it recognises it wrongly.
    if input.sample_rate != SAMPLE_RATE {
        return Err(format!("the network takes {} Hz and the audio has {SAMPLE_RATE} Hz", input.sample_rate).into());
    }
    // Samples as a microphone delivers them, 16-bit; the network takes `[length, channels]` at full scale 1.
    let sample = |i: usize| (8000.0 * (i as f32 * 0.05).sin()) as i16;
    let recorded: Vec<i16> = (0..input.length * input.channels).map(sample).collect();
    let samples: Vec<f32> = recorded.iter().map(|&sample| f32::from(sample) * FULL_SCALE).collect();
    for _ in 0..3 {
        let start = Instant::now();
        let prediction = &predictor.predict(&samples)?[0];
        let milliseconds = 1e3 * start.elapsed().as_secs_f64();
        let class = &classes[prediction.class];
        println!("{class} with probability {:.3}, in {milliseconds:.2} ms", prediction.probability);
    }
    Ok(())
}
