//! A network as tables of data: layer by layer, and in a line.

use super::build::{Network, Window};
use super::spec::Variant;
use super::table::Study;
use crate::graph::{Node, NodeId};
use serde::Serialize;
use std::ops::Range;

/// One layer of a network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerRow {
    /// Its name: `conv1`.
    pub name: String,
    /// Its op: `conv1d`; `input` for the input.
    pub op: &'static str,
    /// Rows of its output.
    pub length: usize,
    /// Channels of its output.
    pub channels: usize,
    /// Trained numbers.
    pub params: u64,
    /// Multiply-accumulate operations (MACs) of the forward pass of one clip; 1 MAC is 2 floating-point operations.
    pub macs: u64,
    /// Samples of the input that one row of the output sees; at most all.
    pub receptive_samples: u64,
    /// The same in milliseconds.
    pub receptive_ms: f64,
    /// Samples from one row to the next; none where a row sees everything.
    pub jump_samples: Option<u64>,
}

/// A network in a line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// Convolutions and dense layers.
    pub layers: usize,
    /// Convolutions; the depthwise and the pointwise convolution of a separable block are two.
    pub convolutions: usize,
    /// Features that the head reads.
    pub features: usize,
    /// Trained numbers.
    pub params: u64,
    /// Multiply-accumulate operations (MACs) of the forward pass of one clip; 1 MAC is 2 floating-point operations.
    pub macs: u64,
    /// Dropout before the last dense layer.
    pub dropout: f64,
    /// What the study printed; none for other networks.
    pub study: Option<Printed>,
}

/// What the study printed of a network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Printed {
    /// Its table.
    pub table: &'static str,
    /// Trained numbers.
    pub params: Option<u64>,
    /// What they count.
    pub counting: Option<super::table::Counting>,
    /// Accuracy of the variants.
    pub accuracy: Accuracies,
}

/// A number for each variant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accuracies {
    /// With dropout.
    #[serde(rename = "do")]
    pub dropout: Option<f64>,
    /// With batch norm.
    pub bn: Option<f64>,
    /// With both.
    #[serde(rename = "do+bn")]
    pub both: Option<f64>,
}

/// Where the receptive fields of a layer's rows lie: that of row `r` begins at sample `r * stride - before` and has `span` samples. What lies outside the clip is
/// zeros, of the samples or of an inner layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceptiveField {
    /// Samples of the first row's receptive field that lie before the clip.
    pub before: i128,
    /// Samples of a receptive field.
    pub span: i128,
    /// Samples from the receptive field of a row to that of the next.
    pub stride: i128,
}

impl Network {
    /// Its layers from the input to the logits.
    pub fn describe(&self) -> Vec<LayerRow> {
        let input = self.graph.shape(self.audio);
        let (all, rate_khz) = (input.l as u64, f64::from(self.spec.input.sample_rate) / 1000.0);
        let (mut receptive, mut jump) = (1u64, Some(1u64));
        let layers = self.graph.nodes().iter().zip(&self.windows).take(self.logits.index() + 1);
        let row = |(node, window): (&Node, &Window)| {
            match (*window, jump) {
                (Window::Rows { span, stride, .. }, Some(step)) => {
                    let more = (span as u64 - 1).saturating_mul(step);
                    receptive = receptive.saturating_add(more).min(all);
                    jump = Some(step.saturating_mul(stride as u64));
                }
                _ => (receptive, jump) = (all, None),
            }
            LayerRow {
                name: node.name.clone(),
                op: node.op.as_ref().map_or("input", |op| op.name()),
                length: node.spec.y.l,
                channels: node.spec.y.c,
                params: node.spec.params_len() as u64,
                macs: node.spec.macs,
                receptive_samples: receptive,
                receptive_ms: receptive as f64 / rate_khz,
                jump_samples: jump,
            }
        };
        layers.map(row).collect()
    }

    /// The samples of the input on which row `row` of the output of a layer depends, within the clip: the receptive field of that row. Layers after the logits depend on all.
    ///
    /// ```
    /// use stapes::nn::{self, Network, Variant};
    ///
    /// let network = Network::build(&nn::find("custom32-8")?.spec(Variant::Do), 16)?;
    /// // Five taps around the sample, then a pool over three samples.
    /// assert_eq!(network.receptive_field(network.blocks[0], 10), 28..35);
    /// assert_eq!(network.receptive_field(network.blocks[0], 0), 0..5);
    /// # Ok::<(), nn::SpecError>(())
    /// ```
    pub fn receptive_field(&self, layer: NodeId, row: usize) -> Range<usize> {
        let all = self.graph.shape(self.audio).l;
        let Some(ReceptiveField { before, span, stride }) = self.receptive_fields(layer) else { return 0..all };
        let first = i128::from(row as u64) * stride - before;
        let within = |at: i128| at.clamp(0, all as i128) as usize;
        within(first)..within(first + span)
    }

    /// The receptive field of the rows of a layer's output, within a clip of any length; none if a row depends on the whole clip, and for layers after the logits.
    pub fn receptive_fields(&self, layer: NodeId) -> Option<ReceptiveField> {
        let (mut before, mut span, mut stride) = (0i128, 1i128, 1i128);
        for window in self.windows.iter().take(layer.index() + 1) {
            let Window::Rows { span: rows, stride: step, before: zeros } = *window else { return None };
            before += zeros as i128 * stride;
            span += (rows as i128 - 1) * stride;
            // Beyond the clip nothing more is added.
            stride = stride.saturating_mul(step as i128).min(1 << 60);
            span = span.min(1 << 60);
        }
        (layer <= self.logits).then_some(ReceptiveField { before, span, stride })
    }

    /// It in a line; `study` is its row there, if it is one of those.
    pub fn summary(&self, study: Option<&Study>) -> Summary {
        let counted = |prefix: &str| {
            let numbered = |n: &str| n.strip_prefix(prefix).is_some_and(|rest| rest.parse::<usize>().is_ok());
            self.graph.nodes().iter().filter(|n| numbered(&n.name)).count()
        };
        let convolutions = counted("conv") + counted("depthwise");
        Summary {
            name: self.spec.name.clone(),
            layers: convolutions + counted("fc"),
            convolutions,
            features: self.graph.shape(self.features).size(),
            params: self.params(),
            macs: self.macs(),
            dropout: self.spec.head.dropout,
            study: study.map(Printed::of),
        }
    }
}

impl Printed {
    fn of(study: &Study) -> Printed {
        Printed {
            table: study.table(),
            params: study.printed.map(|(_, params)| params),
            counting: study.printed.map(|(counting, _)| counting),
            accuracy: Accuracies {
                dropout: study.accuracy(Variant::Do),
                bn: study.accuracy(Variant::Bn),
                both: study.accuracy(Variant::DoBn),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::nn::{self, Network, Variant};

    #[test]
    fn receptive_fields_grow_as_computed_by_hand() {
        let network = Network::build(&nn::find("custom32-8").unwrap().spec(Variant::DoBn), 16).unwrap();
        let rows = network.describe();
        let of = |name: &str| {
            let row = rows.iter().find(|r| r.name == name).unwrap();
            (row.receptive_samples, row.jump_samples)
        };
        assert_eq!(of("audio"), (1, Some(1)));
        assert_eq!(of("conv1"), (5, Some(1)));
        assert_eq!(of("bn1"), (5, Some(1)));
        assert_eq!(of("pool1"), (7, Some(3)));
        assert_eq!(of("conv2"), (19, Some(3)));
        assert_eq!(of("pool2"), (25, Some(9)));
        assert_eq!(of("conv8"), (15_307, Some(2187)));
        assert_eq!(of("fc1"), (16_000, None));
        assert_eq!(rows.last().unwrap().name, "fc1");
        assert_eq!(rows[1].receptive_ms, 5.0 / 16.0);
        assert_eq!(rows.iter().map(|r| r.params).sum::<u64>(), network.params());
    }

    /// An impulse at each sample shows which rows of a layer depend on it.
    #[test]
    fn the_receptive_field_of_a_row_grows_by_padding_stride_and_dilation() {
        let text = "name = \"small\"\ninput.length = 40\n[[block]]\nconv = 1\nkernel = 4\nstride = 2\n\
                    [[block]]\nconv = 1\nkernel = 3\ndilation = 2\npadding = [3, 1]\npool = 2\n";
        let network = Network::build(&nn::NetworkSpec::parse(text, "the test").unwrap(), 2).unwrap();
        let [first, second] = network.blocks[..] else { panic!("two blocks") };
        // Four taps at a distance of 2 need two zeros, one of them before the clip.
        assert_eq!(network.receptive_field(first, 0), 0..3);
        assert_eq!(network.receptive_field(first, 5), 9..13);
        // The taps are the rows 2 r - 3, 2 r - 1 and 2 r + 1, and the next ones for the pool.
        assert_eq!(network.receptive_field(second, 3), 5..19);
        assert_eq!(network.receptive_field(second, 0), 0..7);
        assert_eq!(network.receptive_field(network.logits, 0), 0..40);
        assert_eq!(network.receptive_field(network.loss, 0), 0..40);
    }

    #[test]
    fn a_summary_counts_layers() {
        let study = nn::find("baseline").unwrap();
        let summary = Network::build(&study.spec(Variant::Do), 16).unwrap().summary(Some(study));
        assert_eq!((summary.layers, summary.convolutions, summary.features), (8, 5, 1024));
        assert_eq!(summary.study.unwrap().accuracy.both, Some(0.924));
    }
}
