//! What training changed in the filters of the first layer, and the measurement of what its channels put out.

use super::error::ExplainError;
use super::filters::{Change, FilterBank};
use super::filters_section::{picture, response_map};
use super::section::{Part, Table};
use super::subject::Subject;
use crate::figure::{Axis, Plot, Point, Series};
use crate::nn::Network;
use crate::train::{EVAL_BATCH, TrainConfig, Weights};

/// Rows of the table before the reader asks for more.
const SHOWN: usize = 8;
/// A filter whose weights have a smaller cosine similarity to the initial ones has turned to another direction.
const SIMILAR: f64 = 0.9;

/// The weights with which a run began: they follow from its seed.
///
/// # Errors
/// The run began with the weights of another one.
pub fn initial_weights(network: &Network, config: &TrainConfig) -> Result<Weights, ExplainError> {
    match &config.init_from {
        Some(path) => Err(ExplainError::NoInitialWeights { path: path.clone() }),
        None => Ok(Weights::initial(&network.graph, config.init, config.seed)),
    }
}

/// The largest value of each channel of the first layer after batch norm, activation and pooling, over about `clips` clips of the explained split at equal distances; none if the first layer
/// has no ReLU, so that a channel without positive values has an effect too. With max pooling, a channel has a positive value in the pool's output if it has one in a window of its input.
///
/// # Errors
/// The memory does not suffice.
pub fn largest_activations(subject: &Subject, clips: usize) -> Result<Option<Vec<f32>>, ExplainError> {
    let graph = &subject.network.graph;
    let separable = graph.find("depthwise1").is_some();
    let (relu, last) = if separable { ("depthwise_relu1", "depthwise_relu1") } else { ("relu1", "pool1") };
    let Some(relu) = graph.find(relu) else { return Ok(None) };
    let node = graph.find(last).unwrap_or(relu);
    let builder = crate::train::Predictor::builder(&*subject.network, subject.weights.clone());
    let mut predictor = builder
        .batch(EVAL_BATCH.min(clips.max(1)))
        .conv(subject.config.conv)
        .device(subject.isa)
        .keep([node])
        .build()?;
    let all = subject.data.in_split(subject.split);
    let step = all.len().div_ceil(clips.max(1)).max(1);
    let chosen: Vec<u32> = all.into_iter().step_by(step).collect();
    let channels = graph.shape(node).c;
    let mut largest = vec![f32::NEG_INFINITY; channels];
    let mut inputs = Vec::new();
    for batch in chosen.chunks(predictor.batch()) {
        inputs.resize(batch.len() * subject.data.row_len(), 0.0);
        for (clip, input) in batch.iter().zip(inputs.chunks_mut(subject.data.row_len().max(1))) {
            subject.data.write_input(*clip as usize, input);
        }
        predictor.run(&inputs)?;
        for row in predictor.activation(node)?.unwrap_or_default().chunks_exact(channels) {
            largest.iter_mut().zip(row).for_each(|(most, &value)| *most = most.max(value));
        }
    }
    Ok(if chosen.is_empty() { None } else { Some(largest) })
}

/// The filter bank before training, and how far each filter moved.
pub(super) fn change_pictures(before: &FilterBank, after: &FilterBank) -> Vec<Part> {
    let changes = after.changes_since(before);
    let kept = changes.iter().filter(|change| change.similarity >= SIMILAR).count();
    let (layer, all) = (&after.layer, changes.len());
    let moved = moved(&changes, after);
    let text = format!(
        "The initial weights follow from the seed of the run. The weights of {kept} of {all} filters still have a cosine \
         similarity of at least {SIMILAR} to them."
    );
    let banks_caption = |when: &str| {
        format!(
            "The responses of the filters {when} training, each relative to its largest gain and sorted by centre \
             frequency: a filter bank has one bright diagonal."
        )
    };
    let moved_caption = "A filter on the dotted line has the centre frequency with which it began; the number is that of \
                         its channel.";
    vec![
        Part::Text(text),
        picture("filters-before", &banks_caption("before"), response_map(before, format!("{layer} before training"))),
        picture("filters-after", &banks_caption("after"), response_map(after, format!("{layer} after training"))),
        picture("filters-moved", moved_caption, moved),
        changes_table(&changes),
    ]
}

fn moved(changes: &[Change], after: &FilterBank) -> String {
    let top = after.rate / 2.0;
    let point = |change: &Change| Point {
        x: change.centre_before,
        y: change.centre_after,
        // Names of hundreds of filters would cover each other.
        name: if changes.len() <= 64 { change.channel.to_string() } else { String::new() },
        hover: format!("filter {}: cosine similarity {:.2}", change.channel, change.similarity),
        ..Point::default()
    };
    let ends = [0.0, top].map(|at| Point { x: at, y: at, ..Point::default() });
    let plot = Plot {
        title: format!("Centre frequencies of {}", after.layer),
        x: Axis::linear("before training (Hz)").between(0.0, top),
        y: Axis::linear("after training (Hz)").between(0.0, top),
        series: vec![
            Series { points: changes.iter().map(point).collect(), marks: true, colour: Some(0), ..Series::default() },
            Series { points: ends.to_vec(), line: true, colour: Some(5), ..Series::default() },
        ],
        height: 300.0,
    };
    plot.to_svg()
}

fn changes_table(changes: &[Change]) -> Part {
    let mut sorted = changes.to_vec();
    sorted.sort_by(|a, b| a.similarity.total_cmp(&b.similarity));
    let row = |change: &Change| {
        vec![
            change.channel.to_string(),
            format!("{:.3}", change.similarity),
            format!("{:.1}", change.centre_before),
            format!("{:.1}", change.centre_after),
        ]
    };
    Part::Table(Table {
        name: "filters-changes".into(),
        caption: "What training changed, the filter with the largest change of direction first.".into(),
        headings: ["filter", "cosine similarity", "centre before (Hz)", "centre after (Hz)"].map(String::from).to_vec(),
        rows: sorted.iter().map(row).collect(),
        shown: SHOWN,
    })
}
