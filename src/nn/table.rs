//! The study's 77 networks: a row each, built by the rules. Source: [`STUDY_SOURCE`].

use super::build::Network;
use super::error::{Reason, SpecError};
use super::rule::{Family, Rule};
use super::spec::{Head, NetworkSpec, Variant};
use crate::base::nearest::nearest;
use Counting::*;
use Family::*;
use serde::{Deserialize, Serialize};

/// What a printed number of parameters counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Counting {
    /// Convolutions and dense layers.
    #[serde(rename = "plain")]
    Plain,
    /// Those, and scale and shift of a batch norm after every convolution.
    #[serde(rename = "bn")]
    Bn,
    /// Those, and scale and shift of a batch norm over the flattened features.
    #[serde(rename = "bn+flat")]
    BnFlat,
}

/// A network of the study.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Study {
    /// Its name.
    pub name: &'static str,
    /// Its family.
    pub family: Family,
    /// Channels of the first convolution.
    pub start: usize,
    /// Convolutions.
    pub depth: usize,
    /// Dropout before the last dense layer in the variants that have it.
    pub dropout: f64,
    /// The printed number of parameters for 16 classes and what it counts, where one is printed.
    pub printed: Option<(Counting, u64)>,
    /// Printed accuracies times 10,000 in the order `do`, `bn`, `do+bn`; 0 where none is printed.
    accuracy: [u16; 3],
}

/// Classes of the study.
pub const STUDY_CLASSES: usize = 16;
/// The study.
pub const STUDY_SOURCE: &str = "Wangwon Lee, Weekly Report, 2019-03-23";
/// What the networks of the study recognise.
pub const STUDY_TASK: &str = "sixteen words of Google Speech Commands, one second at 16 kHz";

impl Study {
    /// The accuracy that the study printed for a variant.
    pub fn accuracy(&self, variant: Variant) -> Option<f64> {
        let printed = match variant {
            Variant::Do => self.accuracy[0],
            Variant::Bn => self.accuracy[1],
            Variant::DoBn => self.accuracy[2],
        };
        (printed > 0).then(|| f64::from(printed) / 10_000.0)
    }

    /// The table of the study that contains it: `sota`, or its name without the depth.
    pub fn table(&self) -> &'static str {
        match self.family {
            Custom | Vgg | Baseline => "sota",
            _ => self.name.split_once('-').map_or(self.name, |(table, _)| table),
        }
    }

    /// The network in a variant. Those whose printed count includes it have, in the variants with batch norm, one over the
    /// features too.
    pub fn spec(&self, variant: Variant) -> NetworkSpec {
        let dense = if self.family == Baseline { vec![1024, 512] } else { Vec::new() };
        let flat = matches!(self.printed, Some((BnFlat, _)));
        let mut spec = NetworkSpec {
            name: self.name.into(),
            blocks: Some(Rule::new(self.family, self.start, self.depth)),
            head: Head { dropout: self.dropout, dense, batch_norm: flat, ..Head::default() },
            ..NetworkSpec::default()
        };
        spec.set_variant(variant);
        spec
    }
}

/// Trained numbers of a network under a counting rule, whatever norms the network itself has.
pub fn count_params(spec: &NetworkSpec, classes: usize, rule: Counting) -> Result<u64, SpecError> {
    let mut spec = spec.clone();
    spec.batch_norm = rule != Plain;
    spec.head.batch_norm = rule == BnFlat;
    spec.block.iter_mut().for_each(|b| b.norm = None);
    Ok(Network::build(&spec, classes)?.params())
}

/// The networks of the study, in its order.
pub fn all() -> impl ExactSizeIterator<Item = &'static Study> {
    STUDY.iter()
}

/// The network of this name; the error names the nearest.
pub fn find(name: &str) -> Result<&'static Study, SpecError> {
    STUDY.iter().find(|s| s.name == name).ok_or_else(|| {
        let nearest = nearest(name, STUDY.iter().map(|s| s.name)).map(String::from);
        Reason::UnknownNetwork { name: name.into(), nearest }.at("", "")
    })
}

const fn row(
    name: &'static str,
    shape: (Family, usize, usize),
    dropout: f64,
    printed: Option<(Counting, u64)>,
    accuracy: [u16; 3],
) -> Study {
    let (family, start, depth) = shape;
    Study { name, family, start, depth, dropout, printed, accuracy }
}

/// Name; family, channels at the start, convolutions; dropout; printed parameters; printed accuracies.
#[rustfmt::skip]
const STUDY: &[Study] = &[
    row("baseline", (Baseline, 8, 5), 0.5, Some((Plain, 1_855_056)), [9090, 9072, 9240]),
    row("custom32-8", (Custom, 32, 8), 0.75, Some((Plain, 94_768)), [9533, 9285, 9391]),
    row("custom64-8", (Custom, 64, 8), 0.75, Some((Plain, 363_600)), [9589, 0, 9497]),
    row("vgg64-16", (Vgg, 64, 16), 0.75, Some((Plain, 470_736)), [9620, 9423, 9136]),
    row("custom128-9", (Custom, 128, 9), 0.25, Some((Bn, 2_071_184)), [9535, 0, 9701]),
    row("steep32-1", (Steep, 32, 1), 0.5, None, [0, 0, 0]),
    row("steep32-2", (Steep, 32, 2), 0.5, None, [0, 0, 0]),
    row("steep32-3", (Steep, 32, 3), 0.5, None, [0, 0, 0]),
    row("steep32-4", (Steep, 32, 4), 0.5, Some((Plain, 627_024)), [6339, 6021, 6982]),
    row("steep32-5", (Steep, 32, 5), 0.5, Some((Plain, 243_088)), [7701, 7020, 8027]),
    row("steep32-6", (Steep, 32, 6), 0.5, Some((Plain, 128_464)), [8856, 8224, 8739]),
    row("steep32-7", (Steep, 32, 7), 0.5, Some((Plain, 146_000)), [9319, 9034, 9242]),
    row("steep32-8", (Steep, 32, 8), 0.5, Some((Plain, 199_376)), [9479, 9267, 9452]),
    row("steep32-9", (Steep, 32, 9), 0.5, Some((Plain, 271_184)), [9406, 9294, 9458]),
    row("steep64-1", (Steep, 64, 1), 0.5, None, [0, 0, 0]),
    row("steep64-2", (Steep, 64, 2), 0.5, None, [0, 0, 0]),
    row("steep64-3", (Steep, 64, 3), 0.5, None, [0, 0, 0]),
    row("steep64-4", (Steep, 64, 4), 0.5, Some((Plain, 1_294_992)), [6540, 6108, 4974]),
    row("steep64-5", (Steep, 64, 5), 0.5, Some((Plain, 568_080)), [7724, 7007, 8108]),
    row("steep64-6", (Steep, 64, 6), 0.5, Some((Plain, 379_792)), [8862, 8336, 8719]),
    row("steep64-7", (Steep, 64, 7), 0.5, Some((Plain, 496_784)), [9327, 9259, 9250]),
    row("steep64-8", (Steep, 64, 8), 0.5, Some((Plain, 767_376)), [9470, 9504, 9516]),
    row("steep64-9", (Steep, 64, 9), 0.5, Some((Plain, 1_074_832)), [9402, 9551, 9626]),
    row("shrink64-1", (Shrink, 64, 1), 0.5, Some((BnFlat, 18_432_528)), [0, 0, 0]),
    row("shrink64-2", (Shrink, 64, 2), 0.5, Some((BnFlat, 6_164_816)), [0, 0, 0]),
    row("shrink64-3", (Shrink, 64, 3), 0.5, Some((BnFlat, 2_088_976)), [0, 0, 0]),
    row("shrink64-4", (Shrink, 64, 4), 0.5, Some((BnFlat, 744_528)), [0, 0, 0]),
    row("shrink64-5", (Shrink, 64, 5), 0.5, Some((BnFlat, 186_352)), [0, 0, 0]),
    row("shrink64-6", (Shrink, 64, 6), 0.5, Some((BnFlat, 115_536)), [8897, 8085, 8667]),
    row("shrink64-7", (Shrink, 64, 7), 0.5, Some((BnFlat, 95_408)), [9259, 8854, 9121]),
    row("shrink64-8", (Shrink, 64, 8), 0.5, Some((BnFlat, 92_560)), [9464, 9205, 9321]),
    row("shrink64-9", (Shrink, 64, 9), 0.5, Some((BnFlat, 91_712)), [9238, 9074, 9327]),
    row("shrink128-1", (Shrink, 128, 1), 0.5, Some((Plain, 32_768_784)), [0, 0, 0]),
    row("shrink128-2", (Shrink, 128, 2), 0.5, Some((Plain, 11_004_816)), [0, 0, 0]),
    row("shrink128-3", (Shrink, 128, 3), 0.5, Some((Plain, 3_804_176)), [0, 0, 0]),
    row("shrink128-4", (Shrink, 128, 4), 0.5, Some((Plain, 1_459_344)), [0, 0, 0]),
    row("shrink128-5", (Shrink, 128, 5), 0.5, Some((Plain, 489_680)), [0, 0, 0]),
    row("shrink128-6", (Shrink, 128, 6), 0.5, Some((BnFlat, 384_656)), [8995, 8474, 8829]),
    row("shrink128-7", (Shrink, 128, 7), 0.5, Some((BnFlat, 354_640)), [9421, 9043, 9202]),
    row("shrink128-8", (Shrink, 128, 8), 0.5, Some((BnFlat, 359_184)), [9516, 9360, 9450]),
    row("shrink128-9", (Shrink, 128, 9), 0.5, Some((BnFlat, 362_608)), [9425, 9379, 9458]),
    row("shrink256-1", (Shrink, 256, 1), 0.5, Some((Plain, 65_537_552)), [0, 0, 0]),
    row("shrink256-2", (Shrink, 256, 2), 0.5, Some((Plain, 22_173_456)), [0, 0, 0]),
    row("shrink256-3", (Shrink, 256, 3), 0.5, Some((Plain, 7_936_016)), [0, 0, 0]),
    row("shrink256-4", (Shrink, 256, 4), 0.5, Some((Plain, 3_410_192)), [0, 0, 0]),
    row("shrink256-5", (Shrink, 256, 5), 0.5, Some((Plain, 1_552_784)), [0, 0, 0]),
    row("shrink256-6", (Shrink, 256, 6), 0.5, Some((Plain, 1_364_496)), [8866, 8517, 8964]),
    row("shrink256-7", (Shrink, 256, 7), 0.5, Some((Plain, 1_356_432)), [9423, 9315, 9346]),
    row("shrink256-8", (Shrink, 256, 8), 0.5, Some((Plain, 1_409_808)), [9583, 9502, 9605]),
    row("shrink256-9", (Shrink, 256, 9), 0.5, Some((Plain, 1_438_544)), [9603, 9572, 9628]),
    row("steepshrink64-1", (SteepShrink, 64, 1), 0.5, Some((Plain, 16_384_400)), [0, 0, 0]),
    row("steepshrink64-2", (SteepShrink, 64, 2), 0.5, Some((Plain, 5_481_936)), [0, 0, 0]),
    row("steepshrink64-3", (SteepShrink, 64, 3), 0.5, Some((Plain, 1_861_136)), [0, 0, 0]),
    row("steepshrink64-4", (SteepShrink, 64, 4), 0.5, Some((Plain, 354_864)), [6816, 6426, 7277]),
    row("steepshrink64-5", (SteepShrink, 64, 5), 0.5, Some((Plain, 157_776)), [8019, 7373, 8075]),
    row("steepshrink64-6", (SteepShrink, 64, 6), 0.5, Some((Plain, 95_344)), [8933, 8363, 8766]),
    row("steepshrink64-7", (SteepShrink, 64, 7), 0.5, Some((Plain, 70_016)), [9190, 8654, 9128]),
    row("steepshrink64-8", (SteepShrink, 64, 8), 0.5, Some((Plain, 67_728)), [9211, 9022, 9223]),
    row("steepshrink64-9", (SteepShrink, 64, 9), 0.5, Some((Plain, 67_744)), [9053, 9067, 9094]),
    row("steepshrink128-1", (SteepShrink, 128, 1), 0.5, Some((Plain, 32_768_784)), [0, 0, 0]),
    row("steepshrink128-2", (SteepShrink, 128, 2), 0.5, Some((Plain, 11_004_816)), [0, 0, 0]),
    row("steepshrink128-3", (SteepShrink, 128, 3), 0.5, Some((Plain, 3_804_176)), [0, 0, 0]),
    row("steepshrink128-4", (SteepShrink, 128, 4), 0.5, Some((Plain, 812_112)), [6814, 6557, 7242]),
    row("steepshrink128-5", (SteepShrink, 128, 5), 0.5, Some((Plain, 428_176)), [8012, 7497, 8010]),
    row("steepshrink128-6", (SteepShrink, 128, 6), 0.5, Some((Plain, 313_552)), [8887, 8355, 8725]),
    row("steepshrink128-7", (SteepShrink, 128, 7), 0.5, Some((Plain, 268_016)), [9385, 9007, 9161]),
    row("steepshrink128-8", (SteepShrink, 128, 8), 0.5, Some((Plain, 266_000)), [9402, 9240, 9373]),
    row("steepshrink128-9", (SteepShrink, 128, 9), 0.5, Some((Plain, 268_592)), [9381, 9259, 9408]),
    row("steepshrink256-1", (SteepShrink, 256, 1), 0.5, Some((Plain, 65_537_552)), [0, 0, 0]),
    row("steepshrink256-2", (SteepShrink, 256, 2), 0.5, Some((Plain, 22_173_456)), [0, 0, 0]),
    row("steepshrink256-3", (SteepShrink, 256, 3), 0.5, Some((Plain, 7_936_016)), [0, 0, 0]),
    row("steepshrink256-4", (SteepShrink, 256, 4), 0.5, Some((Plain, 2_033_808)), [6982, 6505, 7425]),
    row("steepshrink256-5", (SteepShrink, 256, 5), 0.5, Some((Plain, 1_306_896)), [7859, 7065, 8201]),
    row("steepshrink256-6", (SteepShrink, 256, 6), 0.5, Some((Plain, 1_118_608)), [8947, 8467, 8721]),
    row("steepshrink256-7", (SteepShrink, 256, 7), 0.5, Some((Plain, 1_048_016)), [9381, 9047, 9196]),
    row("steepshrink256-8", (SteepShrink, 256, 8), 0.5, Some((Plain, 1_054_224)), [9572, 9522, 9458]),
    row("steepshrink256-9", (SteepShrink, 256, 9), 0.5, Some((Plain, 1_069_648)), [9472, 9431, 9589]),
];
