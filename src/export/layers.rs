//! A trained network as plain data: its layers in the order of computation, each with its weights.

use super::error::ExportError;
use crate::base::{Shape, Standardisation};
use crate::graph::Node;
use crate::ops::batch_norm::BatchNormInference;
use crate::ops::op::{Layout, Role};
use crate::ops::{Add, AvgPool, BatchNorm, Conv1d, DepthwiseConv1d, Dropout, Linear, MaxPool1d, Over, Relu};
use crate::train::{Bundle, Model, Weights, file_shape, to_file_order};
use std::any::Any;

/// A network for inference: its layers, each after those that it reads. The first is the input.
///
/// Dropout is left out, batch norm uses its running statistics, and the standardisation of the inputs, if the network was trained with
/// one, is a layer.
///
/// ```
/// use stapes::export::{Layers, Operation};
/// use stapes::nn::{self, Initialisation, Network, Variant};
/// use stapes::train::{Model, Weights};
///
/// let network = Network::build(&nn::find("custom32-8")?.spec(Variant::DoBn), 12)?;
/// let weights = Weights::initial(&network.graph, Initialisation::default(), 1);
/// let layers = Layers::new(&Model::from(&network), &weights, None)?.fold_norms()?;
/// assert!(matches!(layers.layers[1].operation, Operation::Convolution { .. }));
/// let logits: Vec<f64> = layers.logits(&vec![0.1; 16_000])?;
/// assert_eq!(logits.len(), 12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Layers {
    /// The layers, each after those that it reads.
    pub layers: Vec<Layer>,
    /// The layer whose output are the logits.
    pub output: usize,
}

/// One layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its name in the network: `conv1`, `relu1`, ..
    pub name: String,
    /// What it computes.
    pub operation: Operation,
    /// The layers that it reads, by their indices.
    pub inputs: Vec<usize>,
    /// The shape of its output for one clip, channels last.
    pub shape: Shape,
}

/// What a layer computes from its inputs. Lengths, strides and windows are in rows.
#[derive(Clone, Debug)]
pub enum Operation {
    /// The input: samples with full scale 1.
    Input,
    /// For each channel: minus the mean, divided by the standard deviation.
    Standardise(Standardisation),
    /// A convolution along the rows.
    Convolution {
        /// Taps, positions and groups.
        geometry: ConvolutionGeometry,
        /// `[k, c_in, c_out]`, or `[k, c]` if it is depthwise.
        weight: Tensor,
        /// `[c_out]`, if there is one.
        bias: Option<Tensor>,
    },
    /// Batch norm with running statistics: `weight * (x - mean) / sqrt(variance + epsilon) + bias`.
    BatchNorm {
        /// Whether the tensors have a number for each channel, `[c]`, or for each row and channel, `[l, c]`.
        over: Over,
        /// The scale.
        weight: Tensor,
        /// The shift.
        bias: Tensor,
        /// The running mean.
        mean: Tensor,
        /// The running variance.
        variance: Tensor,
        /// Added to the variance.
        epsilon: f64,
    },
    /// The larger of the number and 0.
    Relu,
    /// The largest number of a window of `k` rows, for each channel; windows begin `stride` rows apart. The last window ends `after` rows
    /// beyond the input, and these rows are left out; with `after` 0 it ends within the input, and there may be rows that no window reads.
    MaxPool {
        /// Rows of a window.
        k: usize,
        /// Rows between the beginnings of neighbouring windows.
        stride: usize,
        /// Rows of the last window beyond the end of the input, less than `k`.
        after: usize,
    },
    /// The mean over all rows, for each channel.
    Mean,
    /// The sum of two inputs of the same shape.
    Add,
    /// A dense layer on all numbers of the input.
    Linear {
        /// `[l, c, out]`: the input is flattened row by row.
        weight: Tensor,
        /// `[out]`, if there is one.
        bias: Option<Tensor>,
    },
}

impl Operation {
    /// Its name in an error.
    pub fn name(&self) -> &'static str {
        match self {
            Operation::Input => "input",
            Operation::Standardise(_) => "standardisation",
            Operation::Convolution { geometry, .. } if geometry.depthwise => "depthwise convolution",
            Operation::Convolution { .. } => "convolution",
            Operation::BatchNorm { .. } => "batch norm",
            Operation::Relu => "ReLU",
            Operation::MaxPool { .. } => "max-pooling",
            Operation::Mean => "mean",
            Operation::Add => "addition",
            Operation::Linear { .. } => "dense layer",
        }
    }

    /// Its tensors with their names in PyTorch, and whether training changes them.
    pub fn tensors(&self) -> Vec<(&'static str, &Tensor)> {
        match self {
            Operation::Convolution { weight, bias, .. } | Operation::Linear { weight, bias } => {
                let bias = bias.as_ref().map(|bias| ("bias", bias));
                [("weight", weight)].into_iter().chain(bias).collect()
            }
            Operation::BatchNorm { weight, bias, mean, variance, .. } => {
                vec![("weight", weight), ("bias", bias), ("running_mean", mean), ("running_var", variance)]
            }
            _ => Vec::new(),
        }
    }
}

/// The taps and positions of a convolution: output row `r` reads input rows `r * stride + t * dilation - before` for each tap `t`,
/// with zeros outside the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvolutionGeometry {
    /// Taps.
    pub k: usize,
    /// Input rows between neighbouring output rows.
    pub stride: usize,
    /// Input rows between neighbouring taps.
    pub dilation: usize,
    /// Rows of zeros before the input.
    pub before: usize,
    /// Rows of zeros after the input.
    pub after: usize,
    /// Whether it has one filter for each channel (PyTorch: as many groups as channels), instead of one for each pair of channels.
    pub depthwise: bool,
}

/// Numbers with their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The dimensions, and the order of `values`, which is the one in memory: channels last.
    pub layout: Layout,
    /// The numbers.
    pub values: Vec<f32>,
}

impl Tensor {
    /// The shape of the tensor in PyTorch: `[c_out, c_in, k]` for a convolution, `[out, c * l]` for a dense layer.
    pub fn torch_shape(&self) -> Vec<usize> {
        file_shape(self.layout)
    }

    /// The numbers in PyTorch's order.
    pub fn torch_values(&self) -> Vec<f32> {
        let len = self.values.len();
        // Order and name do not depend on the role.
        let tensor =
            crate::graph::Parameter { name: String::new(), offset: 0, len, layout: self.layout, role: Role::Shift };
        to_file_order(&tensor, &self.values)
    }
}

impl Layers {
    /// The layers of a network or run that was loaded.
    ///
    /// # Errors
    /// Those of [`Layers::new`].
    pub fn of(bundle: &Bundle) -> Result<Layers, ExportError> {
        Layers::new(&Model::from(&bundle.network), &bundle.weights, bundle.standardisation.as_ref())
    }

    /// The layers of a model that the logits depend on.
    ///
    /// # Errors
    /// The weights or the standardisation are those of another model, or an operation has no form here.
    pub fn new(
        model: &Model,
        weights: &Weights,
        standardisation: Option<&Standardisation>,
    ) -> Result<Layers, ExportError> {
        weights.check_len(model.graph())?;
        let graph = model.graph();
        let needed = graph.ancestors(model.logits());
        // The layer that has the output of each node.
        let mut of_node: Vec<usize> = Vec::with_capacity(graph.nodes().len());
        let mut layers: Vec<Layer> = Vec::new();
        for (node, needed) in graph.nodes().iter().zip(needed) {
            let inputs: Vec<usize> = node.inputs.iter().map(|input| of_node[input.index()]).collect();
            if !needed {
                of_node.push(usize::MAX);
                continue;
            }
            if is::<Dropout>(node).is_some() {
                of_node.push(inputs[0]);
                continue;
            }
            let shapes: Vec<Shape> = inputs.iter().map(|&input| layers[input].shape).collect();
            let operation = operation(node, &shapes, weights)?;
            layers.push(Layer { name: node.name.clone(), operation, inputs, shape: node.spec.y });
            if let (None, Some(values)) = (&node.op, standardisation) {
                layers.push(standardise(values, layers.len() - 1, node)?);
            }
            of_node.push(layers.len() - 1);
        }
        Ok(Layers { layers, output: of_node[model.logits().index()] })
    }

    /// The shape of a clip, channels last.
    pub fn input_shape(&self) -> Shape {
        self.layers[0].shape
    }

    /// How many logits there are.
    pub fn classes(&self) -> usize {
        self.layers[self.output].shape.size()
    }

    /// For each layer the layers that read it.
    pub fn readers(&self) -> Vec<Vec<usize>> {
        let mut readers = vec![Vec::new(); self.layers.len()];
        for (index, layer) in self.layers.iter().enumerate() {
            layer.inputs.iter().for_each(|&input| readers[input].push(index));
        }
        readers
    }
}

/// The layer that standardises the input.
fn standardise(values: &Standardisation, input: usize, node: &Node) -> Result<Layer, ExportError> {
    let (channels, expected) = (values.channels(), node.spec.y.c);
    if channels != expected {
        return Err(ExportError::Standardisation { channels, expected });
    }
    let operation = Operation::Standardise(values.clone());
    Ok(Layer { name: format!("{}_standardised", node.name), operation, inputs: vec![input], shape: node.spec.y })
}

/// The operation of a node as a type, if it has this type.
fn is<T: 'static>(node: &Node) -> Option<&T> {
    let op: &dyn Any = &**node.op.as_ref()?;
    op.downcast_ref()
}

/// The operation of a node whose inputs have these shapes, with its weights.
fn operation(node: &Node, shapes: &[Shape], weights: &Weights) -> Result<Operation, ExportError> {
    let Some(op) = &node.op else { return Ok(Operation::Input) };
    if is::<Relu>(node).is_some() {
        return Ok(Operation::Relu);
    }
    if is::<Add>(node).is_some() {
        return Ok(Operation::Add);
    }
    if is::<AvgPool>(node).is_some() {
        return Ok(Operation::Mean);
    }
    if let Some(&MaxPool1d { k, stride, .. }) = is(node) {
        let end = (node.spec.y.l - 1).saturating_mul(stride).saturating_add(k);
        return Ok(Operation::MaxPool { k, stride, after: end.saturating_sub(shapes[0].l) });
    }
    let [tensors, state] = tensors(node, weights);
    let mut tensors = tensors.into_iter();
    let mut next = || tensors.next().ok_or_else(|| ExportError::without_form(&node.name, op.name()));
    if let Some(&Conv1d { k, stride, dilation, padding, .. }) = is(node) {
        let (before, after) = padding.rows(shapes[0].l, dilation * (k - 1) + 1, stride);
        let geometry = ConvolutionGeometry { k, stride, dilation, before, after, depthwise: false };
        return Ok(Operation::Convolution { geometry, weight: next()?, bias: next().ok() });
    }
    if let Some(&DepthwiseConv1d { k, stride, dilation, padding, .. }) = is(node) {
        let (before, after) = padding.rows(shapes[0].l, dilation * (k - 1) + 1, stride);
        let geometry = ConvolutionGeometry { k, stride, dilation, before, after, depthwise: true };
        return Ok(Operation::Convolution { geometry, weight: next()?, bias: next().ok() });
    }
    if is::<Linear>(node).is_some() {
        return Ok(Operation::Linear { weight: next()?, bias: next().ok() });
    }
    let trained = is::<BatchNorm>(node).map(|norm| (norm.over, norm.eps));
    let norm = trained.or(is::<BatchNormInference>(node).map(|norm| (norm.over, norm.eps)));
    if let (Some((over, epsilon)), [mean, variance]) = (norm, &state[..]) {
        let (weight, bias) = (next()?, next()?);
        return Ok(Operation::BatchNorm {
            over,
            weight,
            bias,
            mean: mean.clone(),
            variance: variance.clone(),
            epsilon,
        });
    }
    Err(ExportError::without_form(&node.name, op.name()))
}

/// The parameters and the state of a node.
fn tensors(node: &Node, weights: &Weights) -> [Vec<Tensor>; 2] {
    let places = [(&node.spec.params, &node.params, &weights.params), (&node.spec.state, &node.state, &weights.state)];
    places.map(|(specs, ranges, arena)| {
        let tensors = ranges.of(arena);
        let tensor = |(i, spec): (usize, &crate::ops::op::TensorSpec)| Tensor {
            layout: spec.layout,
            values: tensors[i].to_vec(),
        };
        specs.iter().enumerate().map(tensor).collect()
    })
}
