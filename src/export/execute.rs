//! Computes a network from its exported layers, in plain loops that share nothing with the kernels.

use super::error::ExportError;
use super::layers::{ConvolutionGeometry, Layer, Layers, Operation, Tensor};
use crate::base::Shape;
use std::ops::{Add, AddAssign, Div, Mul, Sub};

/// A precision in which layers are computed: `f32` or `f64`.
pub trait Real:
    Copy
    + PartialOrd
    + From<f32>
    + AddAssign
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Send
{
    /// The nearest number of this precision.
    fn round(value: f64) -> Self;

    /// The square root.
    fn root(self) -> Self;
}

impl Real for f32 {
    fn round(value: f64) -> f32 {
        value as f32
    }

    fn root(self) -> f32 {
        self.sqrt()
    }
}

impl Real for f64 {
    fn round(value: f64) -> f64 {
        value
    }

    fn root(self) -> f64 {
        self.sqrt()
    }
}

impl Layers {
    /// The logits of a clip, `[length, channels]` with full scale 1. Every sum is one chain of additions in the order of the indices.
    ///
    /// # Errors
    /// The clip has another length than the input.
    pub fn logits<T: Real>(&self, clip: &[f32]) -> Result<Vec<T>, ExportError> {
        let expected = self.input_shape().size();
        if clip.len() != expected {
            return Err(ExportError::ClipLength { got: clip.len(), expected });
        }
        let readers = self.readers();
        let mut outputs: Vec<Vec<T>> = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            let output = match (&layer.operation, &layer.inputs[..]) {
                (Operation::Input, _) => clip.iter().map(|&x| T::from(x)).collect(),
                (Operation::Add, &[a, b]) => outputs[a].iter().zip(&outputs[b]).map(|(&a, &b)| a + b).collect(),
                (_, inputs) => compute(layer, self.layers[inputs[0]].shape, &outputs[inputs[0]]),
            };
            outputs.push(output);
            // What no later layer reads is given back.
            for &input in &layer.inputs {
                if readers[input].iter().all(|&reader| reader <= index) && input != self.output {
                    outputs[input] = Vec::new();
                }
            }
        }
        Ok(outputs.swap_remove(self.output))
    }
}

/// The output of a layer with one input, of shape `shape`.
fn compute<T: Real>(layer: &Layer, shape: Shape, x: &[T]) -> Vec<T> {
    match &layer.operation {
        Operation::Input | Operation::Add => x.to_vec(),
        Operation::Standardise(values) => {
            let channels = values.mean().iter().zip(values.deviation()).cycle();
            x.iter().zip(channels).map(|(&x, (&mean, &deviation))| (x - T::from(mean)) / T::from(deviation)).collect()
        }
        Operation::Convolution { geometry, weight, bias } => {
            convolution(geometry, (weight, bias.as_ref()), (shape, x), layer.shape)
        }
        Operation::BatchNorm { weight, bias, mean, variance, epsilon, .. } => {
            let at = |tensor: &Tensor, i: usize| T::from(tensor.values[i % tensor.values.len()]);
            let one = |(i, &x): (usize, &T)| {
                let root = (at(variance, i) + T::round(*epsilon)).root();
                at(weight, i) * ((x - at(mean, i)) / root) + at(bias, i)
            };
            x.iter().enumerate().map(one).collect()
        }
        Operation::Relu => x.iter().map(|&x| if x < T::from(0.0) { T::from(0.0) } else { x }).collect(),
        Operation::MaxPool { k, stride, .. } => max_pool((*k, *stride), (shape, x), layer.shape),
        Operation::Mean => {
            let mut sums = vec![T::from(0.0); shape.c];
            for row in x.chunks_exact(shape.c) {
                sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x);
            }
            sums.into_iter().map(|sum| sum / T::round(shape.l as f64)).collect()
        }
        Operation::Linear { weight, bias } => {
            let out = layer.shape.c;
            let mut y = begin(bias.as_ref(), out);
            for (row, &x) in weight.values.chunks_exact(out).zip(x) {
                y.iter_mut().zip(row).for_each(|(y, &w)| *y += x * T::from(w));
            }
            y
        }
    }
}

/// The bias, or zeros.
fn begin<T: Real>(bias: Option<&Tensor>, outputs: usize) -> Vec<T> {
    match bias {
        Some(bias) => bias.values.iter().map(|&b| T::from(b)).collect(),
        None => vec![T::from(0.0); outputs],
    }
}

/// A convolution of `x` with weights and bias.
fn convolution<T: Real>(
    g: &ConvolutionGeometry,
    (weight, bias): (&Tensor, Option<&Tensor>),
    (shape, x): (Shape, &[T]),
    output: Shape,
) -> Vec<T> {
    let weight: Vec<T> = weight.values.iter().map(|&w| T::from(w)).collect();
    let first = begin::<T>(bias, output.c);
    let mut y = Vec::with_capacity(output.size());
    for r in 0..output.l {
        let mut sums = first.clone();
        for t in 0..g.k {
            let row = (r * g.stride + t * g.dilation).checked_sub(g.before).filter(|&row| row < shape.l);
            let Some(row) = row else { continue };
            let inputs = &x[row * shape.c..][..shape.c];
            if g.depthwise {
                let taps = &weight[t * shape.c..][..shape.c];
                sums.iter_mut().zip(inputs).zip(taps).for_each(|((sum, &x), &w)| *sum += x * w);
                continue;
            }
            let taps = weight[t * shape.c * output.c..].chunks_exact(output.c);
            for (&x, taps) in inputs.iter().zip(taps) {
                sums.iter_mut().zip(taps).for_each(|(sum, &w)| *sum += x * w);
            }
        }
        y.extend(sums);
    }
    y
}

/// The largest numbers of the windows.
fn max_pool<T: Real>((k, stride): (usize, usize), (shape, x): (Shape, &[T]), output: Shape) -> Vec<T> {
    let mut y = Vec::with_capacity(output.size());
    for r in 0..output.l {
        let start = r * stride;
        let rows = k.min(shape.l - start);
        for j in 0..shape.c {
            let window = (start..start + rows).map(|row| x[row * shape.c + j]);
            y.extend(window.reduce(|a, b| if b > a || b.partial_cmp(&b).is_none() { b } else { a }));
        }
    }
    y
}
