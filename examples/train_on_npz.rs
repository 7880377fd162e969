//! Signals of several channels from an `.npz` file: written here, read as a data set, and learned with standardised inputs.
//!
//! `cargo run --release --example train_on_npz` writes `signals.npz` into the temporary folder and trains on it;
//! `cargo run --release --example train_on_npz -- FILE.npz` writes it there, for `stapes train --data FILE.npz --set standardise=true` and
//! for `numpy.load`.

use stapes::base::Name;
use stapes::base::rng::{Key, Stream};
use stapes::data::{BatchOptions, Batches, DataConfig, Dataset, NpzWriter, Source, Split, Standardise};
use stapes::nn::{Network, NetworkSpec};
use stapes::optim::AdamSettings;
use stapes::train::{Predictor, Trainer};
use std::error::Error;
use std::f64::consts::TAU;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Two seconds of six channels at 128 Hz, in microvolts, as an electroencephalograph records them.
const LENGTH: usize = 256;
const CHANNELS: usize = 6;
const RATE_HZ: i64 = 128;
/// Persons, each of whom has a noise level and an offset of its own: they are the groups of the data set.
const PERSONS: usize = 20;
const CLIPS_OF_PERSON: usize = 30;
/// Each class has a rhythm of this frequency on two neighbouring channels.
const CLASSES: [(&str, f64); 3] = [("rest", 10.0), ("left", 14.0), ("right", 21.0)];

const NETWORK: &str = r#"
name = "signals"
input = { length = 256, channels = 6, sample_rate = 128 }
head = { pool = "average" }
block = [
    { conv = 16, kernel = 9, pool = 2 },
    { conv = 16, kernel = 5, pool = 2 },
]
"#;
const BATCH: usize = 32;
const EPOCHS: u64 = 15;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).map_or_else(|| std::env::temp_dir().join("signals.npz"), PathBuf::from);
    write(&path)?;
    println!("wrote {}", path.display());
    let accuracy = train(&path)?;
    if accuracy < 0.8 {
        return Err("fewer than four in five test clips are recognised".into());
    }
    Ok(())
}

/// Writes the arrays `x`, `y`, `classes`, `group` and `rate`.
fn write(path: &Path) -> Result<(), Box<dyn Error>> {
    let key = Key::new(1, Stream::Case);
    let clips = PERSONS * CLIPS_OF_PERSON;
    let mut npz = NpzWriter::create(path)?;
    npz.begin_f32("x", &[clips, LENGTH, CHANNELS])?;
    for clip in 0..clips {
        let (person, of_clip) = (key.with((clip / CLIPS_OF_PERSON) as u64), key.with(1_000 + clip as u64));
        let (class, phase) = (clip % CLASSES.len(), of_clip.uniform(0));
        let mut frames = Vec::with_capacity(LENGTH * CHANNELS);
        for t in 0..LENGTH {
            let rhythm = (TAU * (CLASSES[class].1 * t as f64 / RATE_HZ as f64 + phase)).sin();
            for channel in 0..CHANNELS {
                let offset = 200.0 * channel as f64 + 5.0 * person.normal(channel as u64);
                let noise = 8.0 * (1.0 + person.uniform(100)) * of_clip.normal(1 + (t * CHANNELS + channel) as u64);
                let own = if channel / 2 == class { 15.0 * rhythm } else { 0.0 };
                frames.push((offset + noise + own) as f32);
            }
        }
        npz.f32s(&frames)?;
    }
    let of_clips = |value: fn(usize) -> usize| (0..clips).map(|clip| value(clip) as i64).collect::<Vec<_>>();
    npz.i64s("y", &of_clips(|clip| clip % CLASSES.len()))?;
    npz.names("classes", CLASSES.map(|(name, _)| Name::from(name)).iter())?;
    npz.i64s("group", &of_clips(|clip| clip / CLIPS_OF_PERSON))?;
    npz.i64s("rate", &[RATE_HZ])?;
    Ok(npz.finish(path)?)
}

/// Trains on the file, and returns the accuracy for persons of whom the network has seen no clip.
fn train(path: &Path) -> Result<f64, Box<dyn Error>> {
    let spec = NetworkSpec::parse(NETWORK, "example")?;
    let source = Source::open(path)?;
    let shape = source.array_shape()?.ok_or("the file has no arrays")?;
    let config = DataConfig {
        length: shape.length,
        format: shape.format(),
        standardise: Standardise::ByTrainingClips,
        ..DataConfig::default()
    };
    let data = Arc::new(Dataset::open(&source, &config, &|_stage, _done, _total| ControlFlow::Continue(()))?);
    for (class, [training, validation, test]) in data.classes().iter().zip(data.counts()) {
        println!("{class}: {training} training, {validation} validation and {test} test clips");
    }
    let network = Arc::new(Network::build(&spec, data.classes().len())?);
    let mut trainer = Trainer::builder(&network)
        .batch(BATCH)
        .adam(AdamSettings { lr: 5e-3, ..AdamSettings::default() })
        .seed(1)
        .build()?;
    let mut batches = Batches::train(data.clone(), BatchOptions::new(BATCH, 1))?;
    let steps = batches.steps_per_epoch();
    for epoch in 1..=EPOCHS {
        let mut loss = 0.0;
        for _ in 0..steps {
            let batch = batches.next_batch().ok_or("training batches have no end")?;
            loss += trainer.step(batch.valid_inputs(), batch.valid_labels())?.loss;
        }
        println!("epoch {epoch}: loss {:.3}", loss / steps as f64);
    }
    let mut predictor = Predictor::builder(&network, trainer.weights().clone()).batch(BATCH).build()?;
    let test = predictor.evaluate(&data, Split::Testing)?;
    println!("{} of {} clips of other persons are recognised", test.correct, test.clips);
    Ok(test.accuracy)
}
