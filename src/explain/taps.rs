//! The impulse responses of the first two layers of a network, as they are in its weights.

use super::error::ExplainError;
use crate::graph::Graph;
use crate::nn::{Block, Network};
use crate::ops::BatchNorm;
use crate::ops::op::Layout;
use crate::train::{TrainError, Weights};
use std::any::Any;

/// The weights of a convolution, and the factors by which batch norm multiplies its outputs.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The name of the layer: `conv1`.
    pub layer: String,
    /// Taps.
    pub k: usize,
    /// Channels that each filter reads.
    pub c_in: usize,
    /// Filters.
    pub c_out: usize,
    /// The weights, `[k, c_in, c_out]`; those that are not finite count as zero.
    pub weights: Vec<f32>,
    /// For each filter the factor `w / sqrt(running variance + eps)` of the batch norm that follows; 1 without one.
    pub scale: Vec<f64>,
}

impl Kernel {
    /// The kernel of the layer `layer`, followed by the batch norm `norm` if the network has such a layer.
    fn of(graph: &Graph, weights: &Weights, layer: &str, norm: &str) -> Result<Kernel, ExplainError> {
        check_lengths(graph, weights)?;
        let weight = format!("{layer}.weight");
        let parameter = graph.parameters().into_iter().find(|parameter| parameter.name == weight);
        let Some((parameter, Layout::Kernel { k, c_in, c_out })) = parameter.map(|p| (p.clone(), p.layout)) else {
            return Err(ExplainError::NoConvolution);
        };
        let finite = |&value: &f32| if value.is_finite() { value } else { 0.0 };
        let values = weights.params[parameter.offset..][..parameter.len].iter().map(finite).collect();
        let scale = norm_scale(graph, weights, norm).unwrap_or_else(|| vec![1.0; c_out]);
        Ok(Kernel { layer: layer.into(), k, c_in, c_out, weights: values, scale })
    }

    /// The weights of a filter for one channel of its input.
    pub fn taps(&self, filter: usize, channel: usize) -> impl Iterator<Item = f64> {
        let (step, first) = (self.c_in * self.c_out, channel * self.c_out + filter);
        self.weights.iter().skip(first).step_by(step).map(|&weight| f64::from(weight))
    }
}

fn check_lengths(graph: &Graph, weights: &Weights) -> Result<(), ExplainError> {
    let lengths = [
        ("the parameters", graph.params_len(), weights.params.len()),
        ("the running statistics", graph.state_len(), weights.state.len()),
    ];
    match lengths.into_iter().find(|(_, expected, got)| expected != got) {
        Some((what, expected, got)) => Err(TrainError::WrongLength { what, expected, got }.into()),
        None => Ok(()),
    }
}

/// The factor of each channel of a batch norm over channels; none if there is no layer of this name.
fn norm_scale(graph: &Graph, weights: &Weights, norm: &str) -> Option<Vec<f64>> {
    let op = graph.node(graph.find(norm)?).op.as_deref()?;
    let eps = (op as &dyn Any).downcast_ref::<BatchNorm>()?.eps;
    let values = |tensors: Vec<crate::graph::Parameter>, arena: &[f32], suffix: &str| {
        let name = format!("{norm}.{suffix}");
        let tensor = tensors.into_iter().find(|tensor| tensor.name == name)?;
        Some(arena[tensor.offset..][..tensor.len].iter().map(|&v| f64::from(v)).collect::<Vec<f64>>())
    };
    let scale = values(graph.parameters(), &weights.params, "weight")?;
    let variance = values(graph.states(), &weights.state, "running_var")?;
    let factor = |(scale, variance): (&f64, &f64)| scale / (variance + eps).sqrt();
    Some(scale.iter().zip(&variance).map(factor).map(|factor| if factor.is_finite() { factor } else { 0.0 }).collect())
}

/// The impulse responses of the filters of a layer with respect to the network's input.
#[derive(Clone, Debug)]
pub(super) struct Impulses {
    pub layer: String,
    /// Channels of the network's input that a filter reads.
    pub c_in: usize,
    /// Samples from the first tap to the last.
    pub span: usize,
    /// For each filter its taps, `[c_in, span]`.
    pub taps: Vec<Vec<f64>>,
    /// For each filter the factor of its batch norm.
    pub scale: Vec<f64>,
}

/// The most numbers in the responses of a layer.
pub(super) const MOST_VALUES: usize = 1 << 26;

impl Impulses {
    fn empty(layer: &str, c_in: usize, span: usize, scale: Vec<f64>) -> Result<Impulses, ExplainError> {
        let values = scale.len().saturating_mul(c_in).saturating_mul(span);
        if values > MOST_VALUES {
            return Err(ExplainError::TooManyFilters { layer: layer.into(), filters: scale.len(), span });
        }
        let taps = vec![vec![0.0; c_in * span]; scale.len()];
        Ok(Impulses { layer: layer.into(), c_in, span, taps, scale })
    }

    /// The taps of the first convolution, with zeros between them if it is dilated.
    pub fn first(network: &Network, weights: &Weights) -> Result<Impulses, ExplainError> {
        let (kernel, block) = first_kernel(network, weights)?;
        let mut all =
            Impulses::empty(&kernel.layer, kernel.c_in, block.dilation * (kernel.k - 1) + 1, kernel.scale.clone())?;
        for (filter, taps) in all.taps.iter_mut().enumerate() {
            for (channel, of_channel) in taps.chunks_mut(all.span).enumerate() {
                let places = of_channel.iter_mut().step_by(block.dilation);
                places.zip(kernel.taps(filter, channel)).for_each(|(place, tap)| *place = tap);
            }
        }
        Ok(all)
    }

    /// The taps of the second convolution composed with the first one and its batch norm, as if nothing but the stride of the pool were between them:
    /// `g_j[u + t * d] = sum over i, t of w[t, i, j] * scale[i] * h_i[u]`, where `d` is the number of samples between rows of the second layer's input times its dilation.
    pub fn second(network: &Network, weights: &Weights) -> Result<Impulses, ExplainError> {
        let first = Impulses::first(network, weights)?;
        let kernel = second_kernel(network, weights)?;
        let blocks = blocks(network);
        let (before, block) = (&blocks[0], &blocks[1]);
        let pool = before.pool.map_or(1, |pool| before.pool_stride.unwrap_or(pool));
        let distance = before.stride * pool * block.dilation;
        let span = first.span + (kernel.k - 1) * distance;
        let mut all = Impulses::empty(&kernel.layer, first.c_in, span, kernel.scale.clone())?;
        for (filter, taps) in all.taps.iter_mut().enumerate() {
            for (input, (response, scale)) in first.taps.iter().zip(&first.scale).enumerate() {
                for (t, weight) in kernel.taps(filter, input).enumerate() {
                    let pairs = taps.chunks_mut(span).zip(response.chunks(first.span));
                    for (into, of_channel) in pairs {
                        let into = &mut into[t * distance..];
                        into.iter_mut().zip(of_channel).for_each(|(into, tap)| *into += weight * scale * tap);
                    }
                }
            }
        }
        Ok(all)
    }
}

fn blocks(network: &Network) -> Vec<Block> {
    // A network that was built can be expanded.
    network.spec.expand().unwrap_or_default()
}

fn first_kernel(network: &Network, weights: &Weights) -> Result<(Kernel, Block), ExplainError> {
    let Some(block) = blocks(network).into_iter().next() else { return Err(ExplainError::NoConvolution) };
    let (layer, norm) = if block.separable { ("depthwise1", "depthwise_bn1") } else { ("conv1", "bn1") };
    Ok((Kernel::of(&network.graph, weights, layer, norm)?, block))
}

/// The weights of the second convolution of a network whose first two blocks are plain convolutions, one after the other.
///
/// # Errors
/// There is only one convolution, one of the first two blocks is depthwise-separable, the first is residual, or the weights are those of another network.
pub fn second_kernel(network: &Network, weights: &Weights) -> Result<Kernel, ExplainError> {
    let reason = match &blocks(network)[..] {
        [] => return Err(ExplainError::NoConvolution),
        [_] => "the network has only one convolution",
        [first, second, ..] if first.separable || second.separable => {
            "one of the first two blocks is depthwise-separable, which has a ReLU between its two convolutions"
        }
        [first, ..] if first.residual => "the first block adds its input to its output",
        _ => return Kernel::of(&network.graph, weights, "conv2", "bn2"),
    };
    Err(ExplainError::NoSecondLayer { reason })
}
