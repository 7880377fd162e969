//! Maps of where in a clip a network found a class.
//!
//! | method | computes | source |
//! |---|---|---|
//! | CAM | `sum_c w[class, c] A[r, c]`, for a head that averages the features `A` and has one dense layer `w` | Zhou et al., "Learning deep features for discriminative localization", CVPR 2016 |
//! | Grad-CAM | `max(0, sum_c a_c A[r, c])`, `a_c` the mean over rows of `dz / dA[r, c]`, for any layer | Selvaraju et al., "Grad-CAM", ICCV 2017 |
//! | input gradient | `dz / dx` | Simonyan et al., "Deep inside convolutional networks", ICLR workshop 2014 |
//! | integrated gradients | `x` times the mean of `dz / dx` on the way from silence to `x`, by the midpoint rule | Sundararajan et al., "Axiomatic attribution for deep networks", ICML 2017 |
//!
//! `z` is the logit of the class.

use super::error::ExplainError;
use super::gradient::Differentiator;
use crate::base::Shape;
use crate::graph::NodeId;
use crate::nn::{HeadPool, Network};
use crate::simd::Isa;
use crate::train::Weights;
use serde::Serialize;

/// Steps of integrated gradients on the way from silence to the clip.
pub const STEPS: usize = 32;

/// A method that makes maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Class activation map: of networks that average the features over time.
    Cam,
    /// Gradient-weighted class activation map of a layer.
    GradCam(#[serde(skip)] NodeId),
    /// Gradient with respect to the input.
    InputGradient,
    /// Integrated gradients, whose values sum to the difference between the logits of the clip and of silence.
    IntegratedGradients,
}

impl Method {
    /// The name in headings.
    pub const fn title(self) -> &'static str {
        match self {
            Method::Cam => "CAM",
            Method::GradCam(_) => "Grad-CAM",
            Method::InputGradient => "input gradient",
            Method::IntegratedGradients => "integrated gradients",
        }
    }

    /// The methods for a network: CAM if its head allows it, Grad-CAM of a layer, of the last block if it is none, and the gradients of the input.
    pub fn of(network: &Network, layer: Option<NodeId>) -> Vec<Method> {
        let cam = has_cam(network).then_some(Method::Cam);
        let layer = layer.or(network.blocks.last().copied()).map(Method::GradCam);
        cam.into_iter().chain(layer).chain([Method::InputGradient, Method::IntegratedGradients]).collect()
    }
}

/// Whether the logits are one dense layer of the features' mean over time.
fn has_cam(network: &Network) -> bool {
    let head = &network.spec.head;
    head.pool == HeadPool::Average && head.dense.is_empty() && network.graph.find("bn_features").is_none()
}

/// How much each row of a layer, or each sample, contributes to the logit of a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// One value for each row.
    pub values: Vec<f32>,
    /// Samples from one row to the next.
    pub step: usize,
}

impl Map {
    /// The values at each of `length` samples: linear between the centres of the rows, constant beyond the first and the last.
    pub fn at_samples(&self, length: usize) -> Vec<f32> {
        if self.step == 1 && self.values.len() == length {
            return self.values.clone();
        }
        let (step, last) = (self.step.max(1) as f64, self.values.len().saturating_sub(1));
        let value = |sample: usize| {
            // Row r is the middle of the samples from r * step on.
            let row = ((sample as f64 + 0.5) / step - 0.5).clamp(0.0, last as f64);
            let (below, share) = (row.floor() as usize, row.fract() as f32);
            let above = self.values[(below + 1).min(last)];
            self.values[below] + share * (above - self.values[below])
        };
        if self.values.is_empty() { vec![0.0; length] } else { (0..length).map(value).collect() }
    }

    /// The mean magnitude of each of `count` parts of equal length: what deletion and insertion compare.
    pub fn by_part(&self, length: usize, count: usize) -> Vec<f64> {
        let samples = self.at_samples(length);
        let part = |i: usize| {
            let part = &samples[i * length / count..(i + 1) * length / count];
            part.iter().map(|&v| f64::from(v.abs())).sum::<f64>() / part.len().max(1) as f64
        };
        (0..count).map(part).collect()
    }
}

/// Makes maps of one method for clips.
pub struct Mapper {
    method: Method,
    differentiator: Differentiator,
    /// The node whose gradient makes the map.
    node: NodeId,
    shape: Shape,
    /// Samples from one row of it to the next.
    step: usize,
    /// For CAM the weights of the dense layer, `[channels, classes]`.
    dense: Vec<f32>,
    classes: usize,
    clip: Shape,
}

impl Mapper {
    /// A mapper for at most `batch` clips at a time.
    ///
    /// # Errors
    /// The method is not one for this network, the weights are those of another, or the memory does not suffice.
    pub fn new(
        network: &Network,
        weights: &Weights,
        method: Method,
        batch: usize,
        isa: Isa,
    ) -> Result<Mapper, ExplainError> {
        let graph = &network.graph;
        let node = match method {
            Method::Cam => {
                let last = network.blocks.last().filter(|_| has_cam(network));
                *last.ok_or_else(|| ExplainError::NoCam { network: network.spec.name.clone() })?
            }
            Method::GradCam(layer) => layer,
            Method::InputGradient | Method::IntegratedGradients => network.audio,
        };
        let batch = if method == Method::IntegratedGradients { STEPS } else { batch };
        let differentiator = Differentiator::new(network, weights, network.logits, &[node], batch, isa)?;
        let dense = match method {
            Method::Cam => {
                let name = format!("{}.weight", graph.node(network.logits).name);
                let tensor = graph.parameters().into_iter().find(|parameter| parameter.name == name);
                tensor.map_or(Vec::new(), |tensor| weights.params[tensor.offset..][..tensor.len].to_vec())
            }
            _ => Vec::new(),
        };
        let row = network.describe().into_iter().find(|row| row.name == graph.node(node).name);
        let step = row.and_then(|row| row.jump_samples).unwrap_or(1) as usize;
        let (shape, clip) = (graph.shape(node), graph.shape(network.audio));
        Ok(Mapper { method, differentiator, node, shape, step, dense, classes: network.classes, clip })
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The map of each clip of `inputs`, `[n, length, channels]`, for its class in `classes`; any number of clips.
    ///
    /// # Errors
    /// An array has another length, or a class is not one of the network's.
    pub fn maps(&mut self, inputs: &[f32], classes: &[usize]) -> Result<Vec<Map>, ExplainError> {
        if self.method == Method::IntegratedGradients {
            let clips = inputs.chunks_exact(self.clip.size());
            return clips.zip(classes).map(|(clip, &class)| self.integrated(clip, class)).collect();
        }
        let mut maps = Vec::with_capacity(classes.len());
        let batch = self.differentiator.batch();
        for (classes, inputs) in classes.chunks(batch).zip(inputs.chunks(batch * self.clip.size())) {
            self.differentiator.run_channels(inputs, classes)?;
            let [activations, gradients] = match self.method {
                Method::InputGradient => [Some(Vec::new()), self.differentiator.gradient(self.node)],
                Method::Cam => [self.differentiator.activation(self.node), Some(Vec::new())],
                _ => [self.differentiator.activation(self.node), self.differentiator.gradient(self.node)],
            };
            let (Some(activations), Some(gradients)) = (activations, gradients) else { continue };
            let size = self.shape.size();
            for (clip, &class) in classes.iter().enumerate() {
                let of = |all: &[f32]| all.get(clip * size..(clip + 1) * size).unwrap_or_default().to_vec();
                maps.push(self.map(&of(&activations), &of(&gradients), class));
            }
        }
        Ok(maps)
    }

    fn map(&self, activation: &[f32], gradient: &[f32], class: usize) -> Map {
        let Shape { l, c } = self.shape;
        let weighted = |alpha: &[f32]| -> Vec<f32> {
            let row = |row: &[f32]| row.iter().zip(alpha).map(|(a, w)| a * w).sum::<f32>();
            activation.chunks_exact(c).map(row).collect()
        };
        let values = match self.method {
            Method::Cam => {
                let alpha: Vec<f32> = (0..c).map(|c| self.dense[c * self.classes + class]).collect();
                weighted(&alpha)
            }
            Method::GradCam(_) => {
                let mut alpha = vec![0.0; c];
                for row in gradient.chunks_exact(c) {
                    alpha.iter_mut().zip(row).for_each(|(alpha, g)| *alpha += g / l as f32);
                }
                weighted(&alpha).into_iter().map(|v| v.max(0.0)).collect()
            }
            Method::InputGradient | Method::IntegratedGradients => {
                gradient.chunks_exact(c).map(|row| row.iter().sum()).collect()
            }
        };
        Map { values, step: self.step }
    }

    fn integrated(&mut self, clip: &[f32], class: usize) -> Result<Map, ExplainError> {
        let share = |step: usize| (step as f32 + 0.5) / STEPS as f32;
        let inputs: Vec<f32> =
            (0..STEPS).flat_map(|step| clip.iter().map(move |sample| sample * share(step))).collect();
        self.differentiator.run_channels(&inputs, &[class; STEPS])?;
        let gradients = self.differentiator.gradient(self.node).unwrap_or_default();
        let mut sum = vec![0.0f32; clip.len()];
        for gradient in gradients.chunks_exact(clip.len()) {
            sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g / STEPS as f32);
        }
        sum.iter_mut().zip(clip).for_each(|(sum, sample)| *sum *= sample);
        Ok(self.map(&[], &sum, class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::{Key, Stream};
    use crate::nn::{Initialisation, NetworkSpec};
    use crate::train::Predictor;

    #[test]
    fn rows_lie_in_the_middle_of_their_samples() {
        let map = Map { values: vec![0.0, 1.0, 3.0], step: 4 };
        // The centres are 1.5, 5.5 and 9.5.
        let at = map.at_samples(12);
        assert_eq!([at[0], at[1], at[5], at[6], at[11]], [0.0, 0.0, 0.875, 1.25, 3.0]);
        assert_eq!(map.by_part(12, 3).len(), 3);
        assert_eq!(Map { values: vec![], step: 3 }.at_samples(2), [0.0, 0.0]);
        assert_eq!(Map { values: vec![2.0, -3.0], step: 1 }.by_part(2, 1), [2.5]);
    }

    /// A separable, residual network with batch norm that averages over time, with weights that are not its first ones, and two clips.
    fn averaging() -> (Network, Weights, Vec<f32>) {
        let text = "name = 'averaging'\nbatch_norm = true\ninput = { length = 120, channels = 2, sample_rate = 8000 }\n\
                    head = { pool = 'average' }\nblock = [{ conv = 6, kernel = 5, pool = 2 }, \
                    { conv = 6, kernel = 3, separable = true, residual = true, pool = 2 }]";
        let network = Network::build(&NetworkSpec::parse(text, "test").unwrap(), 3).unwrap();
        let mut weights = Weights::initial(&network.graph, Initialisation::default(), 1);
        let key = Key::new(1, Stream::Case);
        weights.params.iter_mut().enumerate().for_each(|(i, w)| *w += 0.1 * key.normal(i as u64) as f32);
        weights.state.iter_mut().enumerate().for_each(|(i, s)| *s += 0.3 * key.with(1).normal(i as u64).abs() as f32);
        let inputs = (0..2 * 240).map(|i| key.with(2).normal(i) as f32).collect();
        (network, weights, inputs)
    }

    #[test]
    fn the_mean_of_a_class_activation_map_is_the_logit_without_its_bias() {
        let (network, weights, inputs) = averaging();
        let mut mapper = Mapper::new(&network, &weights, Method::Cam, 1, Isa::best()).unwrap();
        let maps = mapper.maps(&inputs, &[2, 0]).unwrap();
        let mut predictor = Predictor::builder(&network, weights.clone()).batch(2).build().unwrap();
        predictor.run(&inputs).unwrap();
        let bias = network.graph.parameters().into_iter().find(|parameter| parameter.name == "fc1.bias").unwrap();
        for (clip, class) in [(0, 2), (1, 0)] {
            let values = &maps[clip].values;
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            let logit = predictor.logits(clip)[class] - weights.params[bias.offset + class];
            approx::assert_abs_diff_eq!(mean, logit, epsilon = 1e-4 * logit.abs().max(1.0));
        }
        assert_eq!(Method::of(&network, None).len(), 4);
    }

    #[test]
    fn integrated_gradients_sum_to_the_difference_to_silence() {
        let (network, weights, inputs) = averaging();
        let mut mapper = Mapper::new(&network, &weights, Method::IntegratedGradients, 1, Isa::best()).unwrap();
        let sum: f32 = mapper.maps(&inputs[..240], &[1]).unwrap()[0].values.iter().sum();
        let mut predictor = Predictor::builder(&network, weights).build().unwrap();
        let mut logit = |input: &[f32]| {
            predictor.run(input).unwrap();
            predictor.logits(0)[1]
        };
        let difference = logit(&inputs[..240]) - logit(&[0.0; 240]);
        // The midpoint rule has an error of its own.
        approx::assert_abs_diff_eq!(sum, difference, epsilon = 0.02 * difference.abs().max(0.5));
    }

    #[test]
    fn input_gradients_are_those_of_central_differences() {
        let (network, weights, inputs) = averaging();
        let node = network.audio;
        let mut of = Differentiator::new(&network, &weights, network.logits, &[node], 1, Isa::best()).unwrap();
        let key = Key::new(2, Stream::Case);
        let mut errors: Vec<f64> = (0..9)
            .map(|direction| {
                let along: Vec<f32> = (0..240).map(|i| key.with(direction).normal(i) as f32).collect();
                let mut logit = |step: f32| {
                    let moved: Vec<f32> = inputs[..240].iter().zip(&along).map(|(x, d)| x + step * d).collect();
                    of.run_channels(&moved, &[1]).unwrap();
                    f64::from(of.output(0)[1])
                };
                let difference = (logit(3e-4) - logit(-3e-4)) / 6e-4;
                logit(0.0);
                let gradient = of.gradient(node).unwrap();
                let expected: f64 = gradient.iter().zip(&along).map(|(g, d)| f64::from(g * d)).sum();
                (difference - expected).abs() / expected.abs().max(0.1)
            })
            .collect();
        // A step may pass corners of ReLU and max pooling; half of the steps pass few or none.
        errors.sort_by(f64::total_cmp);
        assert!(errors[4] < 1e-2, "{errors:?}");
    }
}
