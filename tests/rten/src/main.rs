//! Compares an ONNX model with logits of stapes in rten: `stapes-rten MODEL CLIPS LOGITS`.
//!
//! CLIPS and LOGITS are files of f32, `[n, channels, length]` and `[n, classes]`; n follows from the shapes of the model. Prints a line of
//! JSON: clips, the largest difference of a logit, clips with another class.

use rten::{Dimension, Model, ValueView};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;
use std::error::Error;

fn numbers(path: &str) -> Result<Vec<f32>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

fn largest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, clips, logits] = &arguments[..] else { return Err("give MODEL CLIPS LOGITS".into()) };
    let model = Model::load_file(model)?;
    let input = model.node_info(model.input_ids()[0]).ok_or("the model has no input")?;
    let shape = input.shape().ok_or("the input has no shape")?;
    let [_, Dimension::Fixed(channels), Dimension::Fixed(length)] = shape[..] else {
        return Err("the input is not [n, channels, length]".into());
    };
    let (x, expected) = (numbers(clips)?, numbers(logits)?);
    let n = x.len() / (channels * length);
    let x = NdTensor::from_data([n, channels, length], x);
    let output = model.run_one(ValueView::from(x.view()).into(), None)?;
    let output: NdTensor<f32, 2> = output.try_into()?;
    let output = output.to_vec();
    let classes = output.len() / n;
    let difference = output.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let rows = output.chunks(classes).zip(expected.chunks(classes));
    let flips = rows.filter(|(a, b)| largest(a) != largest(b)).count();
    println!("{{\"clips\": {n}, \"difference\": {difference:e}, \"flips\": {flips}}}");
    Ok(())
}
