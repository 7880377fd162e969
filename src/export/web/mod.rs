//! A page that listens to the microphone and shows the words: one HTML file with the network and plain JavaScript, which loads nothing.
//!
//! `engine.js` computes the layers in single precision, and decides words as `stapes listen` does. `worker.js` runs it in the background; `page.js` has the microphone and the controls.

use super::error::ExportError;
use super::exported::Export;
use super::layers::{Layer, Operation, Tensor};
use crate::base::Name;
use crate::train::write_atomically;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;

const ENGINE: &str = include_str!("engine.js");
const WORKER: &str = include_str!("worker.js");
const PAGE: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

/// How the page decides words; the times and levels are those of `stapes listen`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Detection {
    /// Milliseconds from one window to the next; longer on a device that takes longer for a window.
    pub hop_ms: f64,
    /// Milliseconds over which probabilities are averaged.
    pub smoothing_ms: f64,
    /// Milliseconds from a probability above its threshold to the decision.
    pub decision_ms: f64,
    /// Milliseconds from the beginning of a word in which no other begins.
    pub refractory_ms: f64,
    /// The level in decibels relative to full scale below which a window is quiet.
    pub quiet_db: f64,
    /// The threshold of each class; above 1 for a class that is no word.
    pub thresholds: Vec<f64>,
}

impl Export {
    /// Writes the page.
    ///
    /// # Errors
    /// The network takes more than one channel, or the file cannot be written.
    pub fn save_web(&self, path: &Path, detection: &Detection) -> Result<(), ExportError> {
        Ok(write_atomically(path, self.web_page(detection)?.as_bytes())?)
    }

    /// The page.
    ///
    /// # Errors
    /// The network takes more than one channel.
    pub fn web_page(&self, detection: &Detection) -> Result<String, ExportError> {
        let mut weights = Vec::new();
        let channels = self.layers.input_shape().c;
        if channels != 1 {
            return Err(ExportError::NoForm {
                layer: self.layers.layers[0].name.clone(),
                operation: format!("an input of {channels} channels"),
                format: "a page that listens",
                advice: "export to ONNX",
            });
        }
        let layers: Vec<Value> = self.layers.layers.iter().map(|layer| described(layer, &mut weights)).collect();
        let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
        let words: Vec<String> = self.classes.iter().map(Name::to_string).collect();
        let mut settings = serde_json::to_value(detection).expect("numbers are valid JSON");
        settings["words"] = json!(words);
        settings["sample_rate"] = json!(self.network.input.sample_rate);
        let description = json!({
            "layers": layers,
            "output": self.layers.output,
            "weights": STANDARD.encode(bytes),
            "settings": settings,
            "metadata": self.metadata(),
        });
        Ok(html(&self.network.name, &words, &description))
    }
}

/// Appends numbers to `weights`, and returns where they are.
fn place(weights: &mut Vec<f32>, values: &[f32]) -> Value {
    let at = [weights.len(), values.len()];
    weights.extend_from_slice(values);
    json!(at)
}

/// A layer as JSON; its numbers are appended to `weights`, and it has their place.
fn described(layer: &Layer, weights: &mut Vec<f32>) -> Value {
    let mut tensors = |weight: &Tensor, bias: &Option<Tensor>| {
        let weight = place(weights, &weight.values);
        (weight, bias.as_ref().map(|bias| place(weights, &bias.values)))
    };
    let mut value = match &layer.operation {
        Operation::Input => json!({"operation": "input"}),
        Operation::Standardise(by) => {
            json!({"operation": "standardise", "weight": place(weights, by.mean()), "bias": place(weights, by.deviation())})
        }
        Operation::Convolution { geometry: g, weight, bias } => {
            let (weight, bias) = tensors(weight, bias);
            json!({
                "operation": if g.depthwise { "depthwise" } else { "convolution" },
                "k": g.k, "stride": g.stride, "dilation": g.dilation, "before": g.before,
                "weight": weight, "bias": bias,
            })
        }
        Operation::BatchNorm { weight, bias, mean, variance, epsilon, .. } => {
            let numbers = weight.values.iter().zip(&bias.values).zip(mean.values.iter().zip(&variance.values));
            let (scale, shift): (Vec<f32>, Vec<f32>) = numbers
                .map(|((&weight, &bias), (&mean, &variance))| {
                    let scale = f64::from(weight) / (f64::from(variance) + epsilon).sqrt();
                    (scale as f32, (f64::from(bias) - f64::from(mean) * scale) as f32)
                })
                .unzip();
            json!({"operation": "scale", "weight": place(weights, &scale), "bias": place(weights, &shift)})
        }
        Operation::Relu => json!({"operation": "relu"}),
        Operation::MaxPool { k, stride, .. } => json!({"operation": "maxPool", "k": k, "stride": stride}),
        Operation::Mean => json!({"operation": "mean"}),
        Operation::Add => json!({"operation": "add"}),
        Operation::Linear { weight, bias } => {
            let (weight, bias) = tensors(weight, bias);
            json!({"operation": "linear", "weight": weight, "bias": bias})
        }
    };
    value["name"] = json!(layer.name);
    value["inputs"] = json!(layer.inputs);
    value["rows"] = json!(layer.shape.l);
    value["channels"] = json!(layer.shape.c);
    value
}

/// JSON within a script: nothing in it ends the script.
fn in_script(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

fn html(network: &str, words: &[String], description: &Value) -> String {
    let data = format!("const DESCRIPTION = {};\n", in_script(description));
    let worker = in_script(&json!(format!("const DESCRIPTION = DATA;\n{ENGINE}\n{WORKER}")));
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let spoken: Vec<String> = words.iter().filter(|word| !word.starts_with('_')).map(|word| escaped(word)).collect();
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline' blob: data:; style-src 'unsafe-inline'; worker-src blob:; connect-src blob:; img-src data:">
<link rel="icon" href="data:,">
<title>{title}: words from the microphone</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{title} listens for {list}</h1>
<p>Sound stays on this device: the network is part of this page, which loads nothing and sends nothing.</p>
<div class="controls">
<button id="listen" disabled>Listen</button>
<label>or a sound file <input type="file" id="file" accept="audio/*" disabled></label>
<label>threshold <input type="range" id="threshold" min="0.3" max="0.999" step="0.001" value="{threshold}"> <output id="threshold-value">{threshold:.2}</output></label>
</div>
<p id="status" role="status">Preparing the network.</p>
<div id="last" aria-live="polite"></div>
<div id="bars"></div>
<ol id="words" aria-label="words that were detected, the latest first"></ol>
</main>
<script>
{data}const WORKER = {worker}.replace("DATA", () => JSON.stringify(DESCRIPTION));
{PAGE}
</script>
</body>
</html>
"#,
        title = escaped(network),
        list = spoken.join(", "),
        threshold = first_threshold(description),
    )
}

/// The first threshold of a word.
fn first_threshold(description: &Value) -> f64 {
    let thresholds = description["settings"]["thresholds"].as_array();
    thresholds.into_iter().flatten().filter_map(Value::as_f64).find(|&p| p <= 1.0).unwrap_or(0.8)
}
