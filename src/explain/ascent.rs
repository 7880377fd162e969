//! Signals that excite a channel of a layer: gradient ascent on the input.

use super::error::ExplainError;
use super::gradient::Differentiator;
use crate::base::Shape;
use crate::base::rng::{Key, Stream};
use crate::graph::NodeId;
use crate::nn::Network;
use crate::simd::Isa;
use crate::train::Weights;
use std::ops::Range;

/// Clips whose gradients are computed at once.
const BATCH: usize = 16;

/// How signals are made that raise an activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ascent {
    /// Steps of the gradient ascent.
    pub steps: usize,
    /// The root mean square of each signal, in units of the input; the energy stays the same in all steps.
    pub level: f32,
    /// The largest magnitude, in units of the input: full scale.
    pub limit: f32,
    /// How often the gradient is smoothed over three samples, which damps frequencies far above the others.
    pub smoothing: usize,
    /// The seed of the noise from which the ascent starts.
    pub seed: u64,
}

impl Default for Ascent {
    fn default() -> Ascent {
        Ascent { steps: 32, level: 0.1, limit: 1.0, smoothing: 1, seed: 0 }
    }
}

/// A signal that raises the activation of a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct ExcitingSignal {
    /// The channel.
    pub channel: usize,
    /// The signal over the receptive field of one row, `[samples, channels of the input]`; around it the input is zero.
    pub signal: Vec<f32>,
    /// The activation for the noise from which the ascent started.
    pub before: f32,
    /// The activation for the signal.
    pub after: f32,
}

/// The layer whose activations an ascent raises for the output `layer`: the last one before ReLU and pooling, where every channel has a gradient.
pub fn before_activation(network: &Network, layer: NodeId) -> NodeId {
    let mut at = layer;
    loop {
        let node = network.graph.node(at);
        match (&node.op, &node.inputs[..]) {
            (Some(op), &[input]) if ["relu", "max_pool1d"].contains(&op.name()) => at = input,
            _ => return at,
        }
    }
}

/// Signals that raise the activation of each of `channels` in a row of `layer`: gradient ascent from noise, with the energy and the amplitude bounded.
///
/// In each step the signal moves along its gradient, is brought back to its energy and then cut at the limit; the best of all steps is returned. Signals of different rows whose receptive
/// fields do not overlap are computed in one clip.
///
/// **Source**: Erhan, Bengio, Courville, Vincent, "Visualizing higher-layer features of a deep network", University of Montreal, 2009: the norm is fixed as there.
///
/// # Errors
/// The layer has no such channel, the weights are those of another network, or the memory does not suffice.
pub fn maximise(
    network: &Network,
    weights: &Weights,
    layer: NodeId,
    channels: &[usize],
    ascent: &Ascent,
    isa: Isa,
) -> Result<Vec<ExcitingSignal>, ExplainError> {
    let shape = network.graph.shape(layer);
    if let Some(&channel) = channels.iter().find(|&&channel| channel >= shape.c) {
        return Err(ExplainError::NoSuchChannel { channel, channels: shape.c });
    }
    if channels.is_empty() {
        return Ok(Vec::new());
    }
    let rows = separate_rows(network, layer);
    let clips = channels.len().div_ceil(rows.len());
    let batch = clips.min(BATCH);
    let mut differentiator = Differentiator::new(network, weights, layer, &[network.audio], batch, isa)?;
    let mut all = Vec::with_capacity(channels.len());
    for chunk in channels.chunks(batch * rows.len()) {
        let input = network.graph.shape(network.audio);
        let target = |(at, &channel): (usize, &usize)| {
            let row = rows[at % rows.len()];
            let field = network.receptive_field(layer, row);
            Target { channel, clip: at / rows.len(), row, values: field.start * input.c..field.end * input.c }
        };
        let targets: Vec<Target> = chunk.iter().enumerate().map(target).collect();
        all.extend(climb(&mut differentiator, &targets, [input, shape], ascent)?);
    }
    Ok(all)
}

/// A channel of a row of a clip, and the values of the clip on which it depends.
struct Target {
    channel: usize,
    clip: usize,
    row: usize,
    values: Range<usize>,
}

/// Rows whose receptive fields lie within the clip and do not overlap; the middle row if no field is as short as the clip.
fn separate_rows(network: &Network, layer: NodeId) -> Vec<usize> {
    let rows = network.graph.shape(layer).l;
    let field = |row: usize| network.receptive_field(layer, row);
    let middle = rows / 2;
    // A field that the edge of the clip cuts is shorter than the one in the middle.
    let whole = field(middle).len();
    let mut end = 0;
    let mut separate = Vec::new();
    for row in 0..rows {
        let Range { start, end: last } = field(row);
        if last - start == whole && start >= end {
            separate.push(row);
            end = last;
        }
    }
    if separate.len() < 2 { vec![middle] } else { separate }
}

/// Raises the activations of all targets at once.
fn climb(
    differentiator: &mut Differentiator,
    targets: &[Target],
    [input, output]: [Shape; 2],
    ascent: &Ascent,
) -> Result<Vec<ExcitingSignal>, ExplainError> {
    let clips = targets.iter().map(|target| target.clip + 1).max().unwrap_or(0);
    let (mut inputs, mut chosen) = (vec![0.0; clips * input.size()], vec![0.0; clips * output.size()]);
    let key = Key::new(ascent.seed, Stream::Case);
    let mut signals = Vec::new();
    for target in targets {
        chosen[target.clip * output.size() + target.row * output.c + target.channel] = 1.0;
        let noise = key.with(target.channel as u64);
        let mut signal: Vec<f32> = (0..target.values.len()).map(|at| noise.normal(at as u64) as f32).collect();
        bound(&mut signal, ascent);
        signals.push(signal);
    }
    let mut best: Vec<ExcitingSignal> = Vec::new();
    for step in 0..=ascent.steps {
        for (target, signal) in targets.iter().zip(&signals) {
            inputs[target.clip * input.size()..][target.values.clone()].copy_from_slice(signal);
        }
        differentiator.run(&inputs, &chosen)?;
        let gradients = differentiator.input_gradient().unwrap_or_default();
        // Long steps at first, short ones at the end.
        let rate = 0.5 * (1.0 - step as f32 / (ascent.steps + 1) as f32);
        for (number, (target, signal)) in targets.iter().zip(&mut signals).enumerate() {
            let value = differentiator.output(target.clip)[target.row * output.c + target.channel];
            match best.get_mut(number) {
                None => {
                    let signal = signal.clone();
                    best.push(ExcitingSignal { channel: target.channel, signal, before: value, after: value });
                }
                Some(best) if value > best.after => {
                    best.after = value;
                    best.signal.copy_from_slice(signal);
                }
                Some(_) => {}
            }
            let gradient = &gradients[target.clip * input.size()..][target.values.clone()];
            advance(signal, gradient, rate, input.c, ascent);
        }
    }
    Ok(best)
}

/// One step along the gradient, of `rate` times the norm of the signal.
fn advance(signal: &mut [f32], gradient: &[f32], rate: f32, channels: usize, ascent: &Ascent) {
    let mut gradient = gradient.to_vec();
    for _ in 0..ascent.smoothing {
        gradient = smoothed(&gradient, channels);
    }
    let (length, norm) = (norm(&gradient), norm(signal));
    if length > 0.0 && length.is_finite() {
        let scale = (f64::from(rate) * norm / length) as f32;
        signal.iter_mut().zip(&gradient).for_each(|(x, g)| *x += scale * g);
        bound(signal, ascent);
    }
}

/// Each value with half its neighbours in time: the weights 1/4, 1/2, 1/4.
fn smoothed(values: &[f32], channels: usize) -> Vec<f32> {
    let at = |i: Option<usize>| i.and_then(|i| values.get(i)).copied().unwrap_or(0.0);
    let around = |i: usize| (at(i.checked_sub(channels)) + at(Some(i + channels))) / 4.0;
    (0..values.len()).map(|i| values[i] / 2.0 + around(i)).collect()
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}

/// Brings a signal to its energy, and cuts what is beyond the limit, after which the energy is at most that.
fn bound(signal: &mut [f32], ascent: &Ascent) {
    let wanted = f64::from(ascent.level) * (signal.len() as f64).sqrt();
    let scale = (wanted / norm(signal).max(f64::MIN_POSITIVE)) as f32;
    let limit = ascent.limit.abs();
    signal.iter_mut().for_each(|x| *x = (*x * scale).clamp(-limit, limit));
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::nn::NetworkSpec;

    /// One channel that adds the difference of two samples, three apart, in rows of a pool over four, and one that is its opposite.
    pub(in crate::explain) fn network() -> (Network, Weights) {
        let text = "name = \"small\"\ninput.length = 32\n[[block]]\nconv = 2\nkernel = 4\npadding = \"valid\"\npool = 4\n\
                    [[block]]\nconv = 2\nkernel = 1\nactivation = \"none\"\n";
        let network = Network::build(&NetworkSpec::parse(text, "the test").unwrap(), 2).unwrap();
        let mut weights = Weights::zeros(&network.graph);
        let parameters = network.graph.parameters();
        let mut set = |name: &str, values: &[f32]| {
            let at = parameters.iter().find(|p| p.name == name).unwrap();
            weights.params[at.offset..][..at.len].copy_from_slice(values);
        };
        // `[taps, inputs, outputs]`.
        set("conv1.weight", &[-1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, -1.0]);
        set("conv1.bias", &[0.0, 0.0]);
        set("conv2.weight", &[1.0, 0.0, 0.0, 1.0]);
        set("conv2.bias", &[0.0, 0.0]);
        (network, weights)
    }

    #[test]
    fn signals_have_the_energy_and_a_higher_activation_at_any_number_of_threads() {
        let (network, weights) = network();
        let layer = before_activation(&network, network.blocks[1]);
        assert_eq!(network.graph.node(layer).name, "conv2");
        assert_eq!(network.graph.node(before_activation(&network, network.blocks[0])).name, "conv1");
        let ascent = Ascent { steps: 40, smoothing: 0, ..Ascent::default() };
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| maximise(&network, &weights, layer, &[0, 1, 0], &ascent, Isa::best()).unwrap())
        };
        let signals = with(1);
        assert_eq!(signals, with(3));
        for of in &signals {
            assert_eq!(of.signal.len(), 7);
            approx::assert_relative_eq!(norm(&of.signal), 0.1 * 7f64.sqrt(), max_relative = 1e-5);
            // All energy in two samples of opposite sign is the highest activation.
            let highest = 0.1 * 7f32.sqrt() * 2f32.sqrt();
            assert!(of.after > of.before && of.after > 0.97 * highest, "{} of {highest}", of.after);
        }
        assert!(signals[0].signal.iter().zip(&signals[1].signal).any(|(a, b)| a != b));
    }

    #[test]
    fn the_limit_holds_and_bad_channels_are_refused() {
        let (network, weights) = network();
        let ascent = Ascent { level: 0.1, limit: 0.12, ..Ascent::default() };
        let of = |channels: &[usize]| maximise(&network, &weights, network.blocks[0], channels, &ascent, Isa::best());
        let signals = of(&[1]).unwrap();
        assert!(signals[0].signal.iter().all(|x| x.abs() <= 0.12));
        assert!(of(&[]).unwrap().is_empty());
        assert!(matches!(of(&[2]), Err(ExplainError::NoSuchChannel { channel: 2, channels: 2 })));
    }

    #[test]
    fn receptive_fields_of_signals_in_one_clip_do_not_overlap() {
        let (network, _) = network();
        let rows = separate_rows(&network, network.blocks[0]);
        let fields: Vec<Range<usize>> =
            rows.iter().map(|&row| network.receptive_field(network.blocks[0], row)).collect();
        assert!(fields.len() > 2 && fields.windows(2).all(|two| two[0].end <= two[1].start), "{fields:?}");
        assert_eq!(separate_rows(&network, network.logits), [0]);
    }
}
