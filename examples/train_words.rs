//! A predictor trained, measured and used from Rust.
//!
//! `cargo run --release --example train_words` learns three words of the embedded recordings;
//! `cargo run --release --example train_words -- DIR` those in a folder, or a .tar.gz, with one folder a word.

use stapes::base::Name;
use stapes::data::{BatchOptions, Batches, DataConfig, Dataset, Format, Source, Split, embedded};
use stapes::nn::{Network, NetworkSpec};
use stapes::optim::AdamSettings;
use stapes::train::{Evaluation, Predictor, Trainer};
use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// One second at 8 kHz through seven convolutions: small, so that the example is quick.
const NETWORK: &str = r#"
name = "example"
input = { length = 8000, channels = 1, sample_rate = 8000 }
blocks = { rule = "custom", start = 16, depth = 7 }
head = { dropout = 0.5 }
"#;
const BATCH: usize = 16;
const EPOCHS: u64 = 10;
const SEED: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    // Batches, steps and evaluations run on the threads of the pool that they are called from: enter it once.
    let result = rayon::ThreadPoolBuilder::new().build()?.install(|| train().map_err(|e| e.to_string()));
    Ok(result?)
}

fn train() -> Result<(), Box<dyn Error>> {
    let spec = NetworkSpec::parse(NETWORK, "example")?;
    let data = Arc::new(recordings(&spec)?);
    let network = Arc::new(Network::build(&spec, data.classes().len())?);
    let classes: Vec<String> = data.classes().iter().map(Name::to_string).collect();
    println!("{} clips of {}; {} parameters", data.clips().len(), classes.join(", "), network.params());

    let adam = AdamSettings { lr: 2e-3, ..AdamSettings::default() };
    let mut trainer = Trainer::builder(&network).batch(BATCH).adam(adam).seed(SEED).build()?;
    let mut predictor = Predictor::builder(&network, trainer.weights().clone()).batch(BATCH).build()?;
    let mut batches = Batches::train(data.clone(), BatchOptions::new(BATCH, SEED))?;
    for epoch in 1..=EPOCHS {
        let steps = batches.steps_per_epoch();
        let mut loss = 0.0;
        for _ in 0..steps {
            let batch = batches.next_batch().ok_or("training batches have no end")?;
            loss += trainer.step(batch.valid_inputs(), batch.valid_labels())?.loss;
        }
        predictor.set_weights(trainer.weights())?;
        let validation = predictor.evaluate(&data, Split::Validation)?;
        println!("epoch {epoch:2}: loss {:.3}, validation accuracy {:.3}", loss / steps as f64, validation.accuracy);
    }

    let test = predictor.evaluate(&data, Split::Testing)?;
    report(&test);
    predict(&mut predictor, &data)
}

/// The recordings that the command line names, or three words of the embedded ones, in the format of the network's input.
fn recordings(spec: &NetworkSpec) -> Result<Dataset, Box<dyn Error>> {
    let path = std::env::args_os().nth(1);
    let source = match &path {
        Some(path) => Source::open(Path::new(path))?,
        None => Source::Embedded(embedded()),
    };
    let config = DataConfig {
        length: spec.input.length,
        format: Format { rate_hz: spec.input.sample_rate, channels: 1 },
        classes: path.is_none().then(|| ["one", "six", "seven"].map(Name::from).to_vec()),
        ..DataConfig::default()
    };
    Ok(Dataset::open(&source, &config, &|_stage, _done, _total| ControlFlow::Continue(()))?)
}

fn report(test: &Evaluation) {
    let [low, high] = test.interval;
    println!("test accuracy {:.3} ({low:.3} to {high:.3}), {} of {} clips", test.accuracy, test.correct, test.clips);
    for figures in &test.classes {
        println!("  {:<8} recall {:.3}, precision {:.3}", figures.class, figures.recall, figures.precision);
    }
}

/// Predicts the class of one test clip.
fn predict(predictor: &mut Predictor, data: &Dataset) -> Result<(), Box<dyn Error>> {
    let clip = *data.in_split(Split::Testing).first().ok_or("there are no test clips")? as usize;
    let mut samples = vec![0.0; data.row_len()];
    data.write_input(clip, &mut samples);
    let prediction = &predictor.predict(&samples)?[0];
    let (name, class) = (&data.clips()[clip].name, &data.classes()[prediction.class]);
    println!("{name}: predicted {class} with probability {:.3}", prediction.probability);
    Ok(())
}
