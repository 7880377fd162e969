//! The initial values of parameters.
//!
//! **Source**: He and others, "Delving deep into rectifiers", ICCV 2015 (variance 2 / fan-in); Glorot and Bengio, AISTATS
//! 2010 (variance 2 / (fan-in + fan-out)); PyTorch's `reset_parameters`, which is He's uniform rule for leaky ReLU with a
//! slope of sqrt 5.

use super::error::unknown_word;
use crate::base::rng::{Key, Stream};
use crate::graph::{Graph, Parameter};
use crate::ops::op::Role;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The initial values of convolutions, dense layers and biases. Batch norm always has scale 1, shift 0, running mean 0 and variance 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initialisation {
    /// Convolutions normal with variance 2 / fan-in, dense layers as `glorot-uniform`, biases zero.
    #[default]
    HeNormal,
    /// Convolutions uniform with variance 2 / fan-in, dense layers as `glorot-uniform`, biases zero.
    HeUniform,
    /// Everything normal with variance 2 / (fan-in + fan-out), biases zero.
    GlorotNormal,
    /// Everything uniform with variance 2 / (fan-in + fan-out), biases zero: Keras's default.
    GlorotUniform,
    /// Everything, biases too, uniform within 1 / sqrt(fan-in): PyTorch's default.
    Pytorch,
}

/// The distribution of the initial values of one tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Draw {
    Constant(f32),
    Normal { deviation: f64 },
    Uniform { bound: f64 },
}

impl Initialisation {
    /// All rules, in the order of the variants.
    pub const ALL: [Initialisation; 5] = [
        Initialisation::HeNormal,
        Initialisation::HeUniform,
        Initialisation::GlorotNormal,
        Initialisation::GlorotUniform,
        Initialisation::Pytorch,
    ];

    /// The name in a configuration and on the command line: `he-normal`.
    pub const fn name(self) -> &'static str {
        match self {
            Initialisation::HeNormal => "he-normal",
            Initialisation::HeUniform => "he-uniform",
            Initialisation::GlorotNormal => "glorot-normal",
            Initialisation::GlorotUniform => "glorot-uniform",
            Initialisation::Pytorch => "pytorch",
        }
    }

    fn draw(self, role: Role) -> Draw {
        let root = |numerator: f64, fans: usize| (numerator / fans as f64).sqrt();
        match (role, self) {
            (Role::Scale | Role::RunningVariance, _) => Draw::Constant(1.0),
            (Role::Shift | Role::RunningMean, _) => Draw::Constant(0.0),
            (Role::Bias { fan_in }, Initialisation::Pytorch) => Draw::Uniform { bound: root(1.0, fan_in) },
            (Role::Bias { .. }, _) => Draw::Constant(0.0),
            (Role::Kernel { fan_in, .. } | Role::Dense { fan_in, .. }, Initialisation::Pytorch) => {
                Draw::Uniform { bound: root(1.0, fan_in) }
            }
            (Role::Kernel { fan_in, .. }, Initialisation::HeNormal) => Draw::Normal { deviation: root(2.0, fan_in) },
            (Role::Kernel { fan_in, .. }, Initialisation::HeUniform) => Draw::Uniform { bound: root(6.0, fan_in) },
            (Role::Kernel { fan_in, fan_out } | Role::Dense { fan_in, fan_out }, Initialisation::GlorotNormal) => {
                Draw::Normal { deviation: root(2.0, fan_in + fan_out) }
            }
            (Role::Kernel { fan_in, fan_out } | Role::Dense { fan_in, fan_out }, _) => {
                Draw::Uniform { bound: root(6.0, fan_in + fan_out) }
            }
        }
    }
}

/// Fills the arenas of parameters and of state. A random number depends only on the seed, the name of its tensor and its index in
/// it, so that a tensor of the same name, shape and fans is initialised alike in all networks. Gaps in the arenas are set to zero.
///
/// # Panics
/// If the arenas are not as long as `graph` says.
pub fn initialise(graph: &Graph, init: Initialisation, seed: u64, params: &mut [f32], state: &mut [f32]) {
    assert_eq!((params.len(), state.len()), (graph.params_len(), graph.state_len()), "arenas of another graph");
    params.fill(0.0);
    state.fill(0.0);
    for p in graph.parameters() {
        fill(&p, init.draw(p.role), seed, params);
    }
    for s in graph.states() {
        fill(&s, init.draw(s.role), seed, state);
    }
}

fn fill(tensor: &Parameter, draw: Draw, seed: u64, arena: &mut [f32]) {
    let numbers = &mut arena[tensor.offset..][..tensor.len];
    let key = Key::new(seed, Stream::Init).with(hash(&tensor.name));
    match draw {
        Draw::Constant(value) => numbers.fill(value),
        Draw::Normal { deviation } => {
            for (i, w) in numbers.iter_mut().enumerate() {
                *w = (deviation * key.normal(i as u64)) as f32;
            }
        }
        Draw::Uniform { bound } => {
            for (i, w) in numbers.iter_mut().enumerate() {
                *w = (bound * (2.0 * key.uniform(i as u64) - 1.0)) as f32;
            }
        }
    }
}

/// FNV-1a, 64 bits.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl fmt::Display for Initialisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Initialisation {
    type Err = String;

    fn from_str(text: &str) -> Result<Initialisation, String> {
        let known = Initialisation::ALL.map(Initialisation::name);
        let found = Initialisation::ALL.into_iter().find(|i| i.name() == text);
        found.ok_or_else(|| unknown_word("initialisation", text, &known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{self, Network, Variant};

    fn network() -> Network {
        Network::build(&nn::find("custom32-8").unwrap().spec(Variant::DoBn), 16).unwrap()
    }

    fn filled(network: &Network, init: Initialisation, seed: u64) -> (Vec<f32>, Vec<f32>) {
        let mut params = vec![f32::NAN; network.graph.params_len()];
        let mut state = vec![f32::NAN; network.graph.state_len()];
        initialise(&network.graph, init, seed, &mut params, &mut state);
        (params, state)
    }

    fn tensor<'a>(network: &Network, params: &'a [f32], name: &str) -> &'a [f32] {
        let p = network.graph.parameters().into_iter().find(|p| p.name == name).unwrap();
        &params[p.offset..p.offset + p.len]
    }

    fn variance(numbers: &[f32]) -> f64 {
        let mean = numbers.iter().map(|&x| f64::from(x)).sum::<f64>() / numbers.len() as f64;
        numbers.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / numbers.len() as f64
    }

    #[test]
    fn variances_are_those_of_the_papers() {
        let network = network();
        let (fan_in, fan_out) = (5.0 * 64.0, 5.0 * 64.0);
        for (init, expected) in [
            (Initialisation::HeNormal, 2.0 / fan_in),
            (Initialisation::HeUniform, 2.0 / fan_in),
            (Initialisation::GlorotNormal, 2.0 / (fan_in + fan_out)),
            (Initialisation::GlorotUniform, 2.0 / (fan_in + fan_out)),
            (Initialisation::Pytorch, 1.0 / (3.0 * fan_in)),
        ] {
            let (params, _) = filled(&network, init, 1);
            let measured = variance(tensor(&network, &params, "conv8.weight"));
            assert!((measured / expected - 1.0).abs() < 0.05, "{init}: {measured} for {expected}");
        }
        let (params, _) = filled(&network, Initialisation::HeNormal, 1);
        let bound = (6.0f64 / (448.0 + 16.0)).sqrt() as f32;
        let head = tensor(&network, &params, "fc1.weight");
        assert!(head.iter().all(|w| w.abs() <= bound) && head.iter().any(|w| w.abs() > 0.95 * bound));
    }

    #[test]
    fn the_fan_in_of_a_depthwise_convolution_is_its_number_of_taps() {
        let text = "name = 'n'\ninput = { length = 100, channels = 500, sample_rate = 8000 }\n\
                    block = [{ conv = 40, kernel = 9, separable = true }]";
        let network = Network::build(&nn::NetworkSpec::parse(text, "test").unwrap(), 3).unwrap();
        let (params, _) = filled(&network, Initialisation::HeNormal, 1);
        for (name, fan_in) in [("depthwise1.weight", 9.0), ("conv1.weight", 500.0)] {
            let measured = variance(tensor(&network, &params, name));
            assert!((measured / (2.0 / fan_in) - 1.0).abs() < 0.1, "{name}: {measured}");
        }
    }

    #[test]
    fn biases_norms_and_gaps_begin_as_said() {
        let network = network();
        let (params, state) = filled(&network, Initialisation::HeNormal, 1);
        assert!(tensor(&network, &params, "conv1.bias").iter().all(|&b| b == 0.0));
        assert!(tensor(&network, &params, "bn1.weight").iter().all(|&w| w == 1.0));
        assert!(tensor(&network, &params, "bn1.bias").iter().all(|&b| b == 0.0));
        assert!(params.iter().all(|w| w.is_finite()));
        for s in network.graph.states() {
            let expected = if s.name.ends_with("running_var") { 1.0 } else { 0.0 };
            assert!(state[s.offset..s.offset + s.len].iter().all(|&v| v == expected), "{}", s.name);
        }
        let (params, _) = filled(&network, Initialisation::Pytorch, 1);
        let bias = tensor(&network, &params, "conv1.bias");
        assert!(bias.iter().all(|b| b.abs() <= (1.0f32 / 5.0).sqrt()) && bias.iter().any(|&b| b != 0.0));
    }

    #[test]
    fn numbers_depend_on_seed_and_name_alone() {
        let (both, plain) =
            (network(), Network::build(&nn::find("custom32-8").unwrap().spec(Variant::Do), 12).unwrap());
        let (a, _) = filled(&both, Initialisation::HeNormal, 1);
        let (b, _) = filled(&plain, Initialisation::HeNormal, 1);
        let (c, _) = filled(&both, Initialisation::HeNormal, 2);
        assert_eq!(tensor(&both, &a, "conv5.weight"), tensor(&plain, &b, "conv5.weight"));
        assert_ne!(tensor(&both, &a, "conv5.weight"), tensor(&both, &c, "conv5.weight"));
        assert_ne!(tensor(&both, &a, "conv2.weight"), tensor(&both, &a, "conv3.weight"));
    }

    #[test]
    fn names_are_read_and_slips_are_seen() {
        for init in Initialisation::ALL {
            assert_eq!(init.name().parse::<Initialisation>().unwrap(), init);
            assert_eq!(serde_json::to_string(&init).unwrap(), format!("\"{init}\""));
        }
        let error = "he-norml".parse::<Initialisation>().unwrap_err();
        assert_eq!(error, "`he-norml` is not a known initialisation; did you mean `he-normal`?");
    }
}
