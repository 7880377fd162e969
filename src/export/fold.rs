//! Folds batch norm into the convolution or dense layer beside it, so that inference does not compute it.
//!
//! With running statistics a batch norm is the map `s[j] * x + t[j]`, `s[j] = weight[j] / sqrt(variance[j] + epsilon)`, `t[j] = bias[j] -
//! mean[j] * s[j]`. After a layer with the outputs `y[j] = w[.., j] x + b[j]` the weights `s[j] * w[.., j]` and the bias `s[j] * b[j] + t[j]`
//! compute the same; before a dense layer, the weights `s[i] * w[i, j]` and the bias `b[j] + sum over i of t[i] * w[i, j]` do.
//! **Source** Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", 2018, section 3.2.

use super::error::ExportError;
use super::layers::{Layer, Layers, Operation, Tensor};
use crate::ops::Over;
use crate::ops::op::Layout;

/// A batch norm as a map of each number: by channel, or by row and channel.
struct Affine {
    name: String,
    over: Over,
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl Layers {
    /// The layers with each batch norm folded into the convolution or dense layer before it, or into the dense layer after it, where
    /// no other layer reads what is in between. Computed in double precision, then rounded. A batch norm that stands beside neither
    /// remains.
    ///
    /// # Errors
    /// A folded weight is not finite.
    pub fn fold_norms(mut self) -> Result<Layers, ExportError> {
        let readers = self.readers();
        // What replaces a folded layer: the layer that now has its output.
        let mut replaced: Vec<usize> = (0..self.layers.len()).collect();
        for index in 0..self.layers.len() {
            let Some(norm) = affine(&self.layers[index]) else { continue };
            let before = replaced[self.layers[index].inputs[0]];
            let alone = readers[self.layers[index].inputs[0]].len() == 1;
            if alone && after_layer(&mut self.layers[before].operation, &norm) {
                check(&self.layers[before], &norm)?;
                replaced[index] = before;
                continue;
            }
            if let [after] = readers[index][..]
                && before_layer(&mut self.layers[after].operation, &norm)
            {
                check(&self.layers[after], &norm)?;
                replaced[index] = before;
            }
        }
        Ok(self.without(&replaced))
    }

    /// The layers without those that others replace.
    fn without(self, replaced: &[usize]) -> Layers {
        let mut new_index = vec![0; self.layers.len()];
        let mut layers = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.into_iter().enumerate() {
            new_index[index] = match replaced[index] {
                same if same == index => layers.len(),
                other => new_index[other],
            };
            if replaced[index] == index {
                let inputs = layer.inputs.iter().map(|&input| new_index[input]).collect();
                layers.push(Layer { inputs, ..layer });
            }
        }
        Layers { layers, output: new_index[self.output] }
    }
}

/// The map that a batch norm is.
fn affine(layer: &Layer) -> Option<Affine> {
    let Operation::BatchNorm { over, weight, bias, mean, variance, epsilon } = &layer.operation else { return None };
    let wide = |tensor: &Tensor| tensor.values.iter().map(|&value| f64::from(value)).collect::<Vec<f64>>();
    let scale: Vec<f64> = wide(weight).iter().zip(wide(variance)).map(|(w, v)| w / (v + epsilon).sqrt()).collect();
    let shift = wide(bias).iter().zip(wide(mean)).zip(&scale).map(|((b, m), s)| b - m * s).collect();
    Some(Affine { name: layer.name.clone(), over: *over, scale, shift })
}

/// Folds a map into the layer before it, if that has one number for each of its channels.
fn after_layer(operation: &mut Operation, norm: &Affine) -> bool {
    let (weight, bias) = match operation {
        Operation::Convolution { weight, bias, .. } if norm.over == Over::Channels => (weight, bias),
        // One row: both kinds of batch norm are the same.
        Operation::Linear { weight, bias } => (weight, bias),
        _ => return false,
    };
    let outputs = norm.scale.len();
    for row in weight.values.chunks_exact_mut(outputs) {
        row.iter_mut().zip(&norm.scale).for_each(|(w, s)| *w = (f64::from(*w) * s) as f32);
    }
    let old = bias.take().map_or_else(|| vec![0.0; outputs], |bias| bias.values);
    let terms = old.iter().zip(&norm.scale).zip(&norm.shift);
    let values = terms.map(|((&b, s), t)| (f64::from(b) * s + t) as f32).collect();
    *bias = Some(Tensor { layout: Layout::Vector { c: outputs }, values });
    true
}

/// Folds a map into the dense layer after it.
fn before_layer(operation: &mut Operation, norm: &Affine) -> bool {
    let Operation::Linear { weight, bias } = operation else { return false };
    let Layout::Dense { out, .. } = weight.layout else { return false };
    let old = bias.take().map_or_else(|| vec![0.0; out], |bias| bias.values);
    let mut sums: Vec<f64> = old.into_iter().map(f64::from).collect();
    for (i, row) in weight.values.chunks_exact_mut(out).enumerate() {
        // The numbers of a row of the input are those of its channels.
        let j = i % norm.scale.len();
        for (w, sum) in row.iter_mut().zip(&mut sums) {
            *sum += norm.shift[j] * f64::from(*w);
            *w = (f64::from(*w) * norm.scale[j]) as f32;
        }
    }
    let values = sums.into_iter().map(|sum| sum as f32).collect();
    *bias = Some(Tensor { layout: Layout::Vector { c: out }, values });
    true
}

/// Refuses a folded layer with a number that is not finite.
fn check(layer: &Layer, norm: &Affine) -> Result<(), ExportError> {
    let tensors = layer.operation.tensors();
    let found = tensors.iter().flat_map(|(_, tensor)| &tensor.values).find(|value| !value.is_finite());
    match found {
        None => Ok(()),
        Some(&value) => {
            let (norm, layer) = (norm.name.clone(), layer.name.clone());
            Err(ExportError::FoldNotFinite { norm, layer, value: value.into() })
        }
    }
}
