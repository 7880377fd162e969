//! The comparison of an exported network with the library, on clips, before anything is written.

use super::error::ExportError;
use super::layers::Layers;
use crate::base::Shape;
use crate::base::rng::{Key, Stream};
use crate::data::{Dataset, Split};
use crate::exec::Device;
use crate::train::{Bundle, Predictor};
use rayon::prelude::*;
use serde::Serialize;

/// Clips that are computed at once.
const BATCH: usize = 16;
/// The largest difference of a logit, in units of the largest logit (at least 1), with which an export is written.
const LARGEST_DIFFERENCE: f64 = 1e-3;

/// Clips for a replay.
#[derive(Clone, Debug)]
pub struct ReplayClips {
    /// What they are: `test clips`, `clips of seeded noise`.
    pub source: &'static str,
    /// `[n, length, channels]`, with full scale 1, not standardised. The network standardises all of it; a short clip has the padding of a training if it
    /// is filled with the means ([`Standardisation::fill_padding`](crate::base::Standardisation::fill_padding)).
    pub inputs: Vec<f32>,
}

impl ReplayClips {
    /// `n` clips of noise for inputs of shape `shape`: normal numbers, each clip with a level of its own from 0.001 to 0.3.
    pub fn noise(shape: Shape, n: usize, seed: u64) -> ReplayClips {
        let [level, noise] = [1, 2].map(|part| Key::new(seed, Stream::Case).with(part));
        let size = shape.size();
        let mut inputs = Vec::with_capacity(n * size);
        for clip in 0..n as u64 {
            let scale = 0.3 * 10f64.powf(-2.5 * level.uniform(clip));
            inputs.extend((0..size as u64).map(|i| (scale * noise.normal(clip * size as u64 + i)) as f32));
        }
        ReplayClips { source: "clips of seeded noise", inputs }
    }

    /// At most `most` test clips of `data`, evenly spread over all; other clips if there are no test clips. A short clip is padded with what the
    /// standardisation of the network turns into 0, as its training did.
    pub fn of_recordings(bundle: &Bundle, data: &Dataset, most: usize) -> ReplayClips {
        let test = data.in_split(Split::Testing);
        let (source, numbers) = match test.is_empty() {
            true => ("clips", (0..data.clips().len() as u32).collect()),
            false => ("test clips", test),
        };
        let n = most.min(numbers.len());
        let mut inputs = vec![0.0; n * data.row_len()];
        for (i, input) in inputs.chunks_exact_mut(data.row_len().max(1)).enumerate() {
            data.write_for(bundle.standardisation.as_ref(), numbers[i * numbers.len() / n] as usize, input);
        }
        ReplayClips { source, inputs }
    }
}

/// How the logits of an exported network differ from those of the library.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replay {
    /// What was replayed.
    pub source: &'static str,
    /// How many clips were.
    pub clips: usize,
    /// The largest difference of a logit.
    pub largest_logit_difference: f64,
    /// The largest logit, without its sign.
    pub largest_logit: f64,
    /// Clips whose most probable class differs.
    pub label_flips: usize,
}

/// Compares the layers in single precision with the network that they were made from.
///
/// # Errors
/// There are no whole clips, or a logit differs by more than rounding explains, or is not finite.
pub fn replay(bundle: &Bundle, layers: &Layers, clips: &ReplayClips, device: &Device) -> Result<Replay, ExportError> {
    let size = layers.input_shape().size();
    let n = clips.inputs.len() / size;
    if n == 0 || n * size != clips.inputs.len() {
        return Err(ExportError::ClipLength { got: clips.inputs.len(), expected: n.max(1) * size });
    }
    let predictor = Predictor::builder(&bundle.network, bundle.weights.clone()).batch(BATCH.min(n));
    let mut predictor = predictor.device(device.clone()).build()?;
    let mut result =
        Replay { source: clips.source, clips: n, largest_logit_difference: 0.0, largest_logit: 0.0, label_flips: 0 };
    let mut standardised = Vec::new();
    for batch in clips.inputs.chunks(BATCH.min(n) * size) {
        standardised.clear();
        standardised.extend_from_slice(batch);
        if let Some(values) = &bundle.standardisation {
            values.apply(&mut standardised);
        }
        predictor.run(&standardised)?;
        let exported = batch.par_chunks(size).map(|clip| layers.logits::<f32>(clip)).collect::<Result<Vec<_>, _>>()?;
        for (sample, exported) in exported.iter().enumerate() {
            result.add(predictor.logits(sample), exported);
        }
    }
    let allowed = LARGEST_DIFFERENCE * result.largest_logit.max(1.0);
    // A difference that is not a number is refused too.
    match result.largest_logit_difference <= allowed {
        true => Ok(result),
        false => Err(ExportError::Differs { difference: result.largest_logit_difference, clips: n, allowed }),
    }
}

impl Replay {
    /// Adds a clip with these logits of the library and of the exported network.
    fn add(&mut self, ours: &[f32], exported: &[f32]) {
        for (&a, &b) in ours.iter().zip(exported) {
            let difference = (f64::from(a) - f64::from(b)).abs();
            // One that is not a number remains.
            if difference.is_nan() || difference > self.largest_logit_difference {
                self.largest_logit_difference = difference;
            }
            self.largest_logit = self.largest_logit.max(f64::from(a).abs());
        }
        let largest =
            |logits: &[f32]| (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a)));
        self.label_flips += usize::from(largest(ours) != largest(exported));
    }
}
