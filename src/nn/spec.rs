//! The description of a network as plain data, written in TOML or in Rust.

use super::error::unknown_word;
use super::rule::Rule;
use crate::ops::Padding;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// The description of a network. Either `blocks` (a rule) or `block` (a list) describes its convolutions.
///
/// ```
/// use stapes::nn::NetworkSpec;
///
/// let spec = NetworkSpec::parse(
///     r#"
///     name = "small"
///     input = { length = 8000, channels = 1, sample_rate = 8000 }
///     blocks = { rule = "custom", start = 16, depth = 6 }
///     head = { dropout = 0.5 }
///     "#,
///     "small.toml",
/// )?;
/// assert_eq!(spec.expand()?.len(), 6);
/// # Ok::<(), stapes::nn::SpecError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Its name: letters, digits, `-`, `_`, `+` and `.`; run folders are named after it.
    pub name: String,
    /// How many classes the network has; if omitted, as many as the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
    /// Batch norm between convolution and activation, unless a block says otherwise.
    #[serde(default)]
    pub batch_norm: bool,
    /// Whether the convolutions have a bias.
    #[serde(default = "yes")]
    pub bias: bool,
    /// The input.
    #[serde(default)]
    pub input: Input,
    /// Its convolutions by a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Rule>,
    /// The layers after the convolutions.
    #[serde(default)]
    pub head: Head,
    /// Its convolutions one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub block: Vec<Block>,
}

impl Default for NetworkSpec {
    fn default() -> NetworkSpec {
        NetworkSpec {
            name: "network".into(),
            classes: None,
            batch_norm: false,
            bias: true,
            input: Input::default(),
            blocks: None,
            head: Head::default(),
            block: Vec::new(),
        }
    }
}

/// The input of a network; by default one second of mono audio at 16 kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// Samples per clip.
    pub length: usize,
    /// Channels of a sample.
    pub channels: usize,
    /// Samples per second, in hertz.
    pub sample_rate: u32,
}

impl Default for Input {
    fn default() -> Input {
        Input { length: 16000, channels: 1, sample_rate: 16000 }
    }
}

/// One block: convolution, batch norm, activation, max-pooling. A separable block has a depthwise convolution, norm and activation before its
/// convolution, which then has one tap; a residual block adds its input before its activation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Output channels of the convolution.
    pub conv: usize,
    /// Its taps.
    pub kernel: usize,
    /// Input rows between neighbouring outputs.
    #[serde(default = "one")]
    pub stride: usize,
    /// Input rows between neighbouring taps.
    #[serde(default = "one")]
    pub dilation: usize,
    /// `"same"`, `"valid"` or `[before, after]`: rows of zeros around the input.
    #[serde(default = "same", serialize_with = "write_padding", deserialize_with = "read_padding")]
    pub padding: Padding,
    /// Batch norm in this block, which overrides the network's `batch_norm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<Norm>,
    /// The activation after the convolution and its norm, and of a separable block also after the depthwise convolution and its norm.
    #[serde(default)]
    pub activation: Activation,
    /// Whether the convolution is a depthwise-separable one: a depthwise convolution with the block's taps, stride, dilation and padding, with norm
    /// and activation, then a convolution of one tap to the block's channels (Howard et al., "MobileNets", 2017, figure 3).
    #[serde(default, skip_serializing_if = "is_false")]
    pub separable: bool,
    /// Whether the block's input is added to the result of convolution and norm, before the activation and the pool (He et al., "Deep residual
    /// learning", 2016, figure 2). Input and result must have the same shape.
    #[serde(default, skip_serializing_if = "is_false")]
    pub residual: bool,
    /// Rows of a max-pooling window; no pooling if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<usize>,
    /// Rows between neighbouring windows; the window's size if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_stride: Option<usize>,
    /// Whether the last window may extend beyond the input.
    #[serde(default)]
    pub pool_ceil: bool,
}

impl Block {
    /// A convolution to `conv` channels over `kernel` taps and its activation: stride 1, `same` padding, no pooling.
    pub fn new(conv: usize, kernel: usize) -> Block {
        Block {
            conv,
            kernel,
            stride: 1,
            dilation: 1,
            padding: Padding::Same,
            norm: None,
            activation: Activation::Relu,
            separable: false,
            residual: false,
            pool: None,
            pool_stride: None,
            pool_ceil: false,
        }
    }
}

/// A block's norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Batch norm over the channels.
    Batch,
    /// No layer.
    None,
}

/// A block's activation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Rectified linear unit: negative values become zero.
    #[default]
    Relu,
    /// No layer.
    None,
}

/// What follows the convolutions: pooling or flattening, batch norm, dense layers with ReLU, dropout, the last dense
/// layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Head {
    /// Probability with which dropout zeroes a feature before the last dense layer in training; 0 for no dropout.
    pub dropout: f64,
    /// Outputs of each dense layer before the last.
    pub dense: Vec<usize>,
    /// How the rows of the last block become features.
    pub pool: HeadPool,
    /// Batch norm over the features, each of which has its own mean and variance.
    pub batch_norm: bool,
    /// Whether the dense layers have a bias.
    pub bias: bool,
}

impl Default for Head {
    fn default() -> Head {
        Head { dropout: 0.0, dense: Vec::new(), pool: HeadPool::Flatten, batch_norm: false, bias: true }
    }
}

/// How the rows of the last block become features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadPool {
    /// Every element of every row is a feature.
    #[default]
    Flatten,
    /// The mean over the rows: one feature for each channel.
    Average,
}

/// The study's three ways to train a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Variant {
    /// With dropout.
    #[default]
    #[serde(rename = "do")]
    Do,
    /// With batch norm.
    #[serde(rename = "bn")]
    Bn,
    /// With both.
    #[serde(rename = "do+bn")]
    DoBn,
}

impl Variant {
    /// All three.
    pub const ALL: [Variant; 3] = [Variant::Do, Variant::Bn, Variant::DoBn];

    /// As written on the command line: `do`, `bn`, `do+bn`.
    pub const fn name(self) -> &'static str {
        match self {
            Variant::Do => "do",
            Variant::Bn => "bn",
            Variant::DoBn => "do+bn",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Variant, String> {
        let known = Variant::ALL.map(Variant::name);
        Variant::ALL.into_iter().find(|v| v.name() == text).ok_or_else(|| unknown_word("variant", text, &known))
    }
}

/// Dropout of a variant with dropout, where the network does not give a probability: the most frequent value in the study.
const USUAL_DROPOUT: f64 = 0.5;

impl NetworkSpec {
    /// Turns this network into one of the study's variants. `do` removes all batch norm; `bn` and `do+bn` add batch norm between
    /// each convolution, depthwise ones included, and its activation, except in blocks with `norm = "none"`, and leave the batch norm
    /// over the features unchanged; `bn` removes dropout; `do` and `do+bn` keep it, and set it to 0.5 if there is none.
    pub fn set_variant(&mut self, variant: Variant) {
        self.batch_norm = variant != Variant::Do;
        if variant == Variant::Do {
            self.head.batch_norm = false;
            self.block.iter_mut().for_each(|b| b.norm = None);
        }
        if variant == Variant::Bn {
            self.head.dropout = 0.0;
        } else if self.head.dropout == 0.0 {
            self.head.dropout = USUAL_DROPOUT;
        }
    }
}

fn yes() -> bool {
    true
}

fn is_false(value: &bool) -> bool {
    !value
}

fn one() -> usize {
    1
}

fn same() -> Padding {
    Padding::Same
}

fn write_padding<S: Serializer>(padding: &Padding, s: S) -> Result<S::Ok, S::Error> {
    match *padding {
        Padding::Same => "same".serialize(s),
        Padding::Valid => "valid".serialize(s),
        Padding::Explicit(before, after) => [before, after].serialize(s),
    }
}

fn read_padding<'de, D: Deserializer<'de>>(d: D) -> Result<Padding, D::Error> {
    struct Visitor;

    impl<'de> de::Visitor<'de> for Visitor {
        type Value = Padding;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("\"same\", \"valid\" or [before, after]")
        }

        fn visit_str<E: de::Error>(self, word: &str) -> Result<Padding, E> {
            match word {
                "same" => Ok(Padding::Same),
                "valid" => Ok(Padding::Valid),
                _ => Err(E::unknown_variant(word, &["same", "valid"])),
            }
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Padding, A::Error> {
            let mut next = |i| seq.next_element()?.ok_or_else(|| de::Error::invalid_length(i, &self));
            let padding = Padding::Explicit(next(0)?, next(1)?);
            match seq.next_element::<de::IgnoredAny>()? {
                None => Ok(padding),
                Some(_) => Err(de::Error::invalid_length(3, &self)),
            }
        }
    }

    d.deserialize_any(Visitor)
}
