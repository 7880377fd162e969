//! The section on what excites the deeper layers most.

use super::ascent::{Ascent, ExcitingSignal, before_activation, maximise};
use super::error::ExplainError;
use super::excitation::{Excitation, LayerExcitations, strongest};
use super::section::{Part, Picture, Section, Sound, Table};
use super::subject::Subject;
use crate::figure::{Wave, Waves};
use crate::train::{EVAL_BATCH, FeatureLayer, Predictor};

/// Layers of the filters, which are shown as they are.
const FILTER_LAYERS: usize = 2;
/// Most channels of a layer in a picture, and with a signal of gradient ascent.
const CHANNELS: usize = 12;
/// Channels of the last layer whose segments and signals can be played.
const PLAYED: usize = 4;
/// Rows of a table before the reader asks for the others.
const SHOWN: usize = 6;
/// The level of the signals relative to full scale: -20 dB.
const LEVEL: f32 = 0.1;

/// What excites the channels of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Excited {
    /// The clip that excites each channel most.
    pub clips: LayerExcitations,
    /// Signals for the channels with the highest activations, from the highest on.
    pub signals: Vec<ExcitingSignal>,
}

impl Excited {
    /// What excites the blocks after the second, or the last block of a network with fewer than three.
    ///
    /// # Errors
    /// The split has no clips, or the memory does not suffice.
    pub fn all(subject: &Subject) -> Result<Vec<Excited>, ExplainError> {
        let network = &subject.network;
        let blocks = &network.blocks;
        let first = FILTER_LAYERS.min(blocks.len().saturating_sub(1));
        let layer = |&node| FeatureLayer {
            name: network.graph.node(node).name.clone(),
            node,
            shape: network.graph.shape(node),
        };
        let layers: Vec<FeatureLayer> = blocks[first..].iter().map(layer).collect();
        let builder = Predictor::builder(&**network, subject.weights.clone()).batch(EVAL_BATCH);
        let builder = builder.conv(subject.config.conv).device(subject.isa);
        let mut predictor = builder.keep(layers.iter().map(|layer| layer.node)).build()?;
        let clips = strongest(network, &mut predictor, &layers, &subject.data, Some(subject.split), 1)?;
        // Standardised inputs have another unit.
        let unit = subject.data.standardisation().map_or(1.0, |of| 1.0 / of.deviation()[0]);
        let ascent = Ascent { level: LEVEL * unit, limit: unit, ..Ascent::default() };
        let excited = clips.into_iter().map(|clips| {
            let node = before_activation(network, clips.layer.node);
            let channels = shown_channels(&clips);
            let signals = maximise(network, &subject.weights, node, &channels, &ascent, subject.isa)?;
            Ok(Excited { clips, signals })
        });
        excited.collect()
    }
}

/// The channels with the highest activations, from the highest on; those that are never active are left out.
fn shown_channels(of: &LayerExcitations) -> Vec<usize> {
    let active = of.channels.iter().enumerate().filter_map(|(channel, best)| {
        let value = best.first()?.value;
        (value != 0.0).then_some((channel, value))
    });
    let mut channels: Vec<(usize, f32)> = active.collect();
    channels.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    channels.into_iter().take(CHANNELS).map(|(channel, _)| channel).collect()
}

/// For each layer the segments that excite its channels most, signals that do, and a table of all channels.
pub fn excitation_section(subject: &Subject, layers: &[Excited]) -> Section {
    let mut parts = vec![Part::Text(method())];
    for of_layer in layers {
        parts.extend(layer_parts(subject, of_layer));
    }
    if let Some(last) = layers.last() {
        parts.extend(sounds(subject, last));
    }
    if layers.is_empty() {
        parts.push(Part::Text("The network has no layers to show.".into()));
    }
    let look_for = "How the segments grow from a few periods of a vowel to whole words, and whether the channels of a layer \
                    have different ones.";
    Section { id: "excitation", title: "What excites the deeper layers", look_for: look_for.into(), parts }
}

/// How the segments and the signals were found.
fn method() -> String {
    format!(
        "A segment is what the row with the highest activation depends on, its receptive field, in the clip of the split where the channel is most active. A signal starts from noise and follows \
         the gradient of one activation before ReLU and pooling for {} steps, smoothed over three samples; its energy stays at {:.0} dB of full scale, so that its activation can be below that of a \
         loud clip.",
        Ascent::default().steps,
        20.0 * LEVEL.log10()
    )
}

fn layer_parts(subject: &Subject, Excited { clips, signals }: &Excited) -> Vec<Part> {
    let LayerExcitations { layer, channels } = clips;
    let node = before_activation(&subject.network, layer.node);
    let rows = subject.network.graph.shape(layer.node).l;
    let samples = subject.network.receptive_field(layer.node, rows / 2).len();
    let ms = |samples: usize| 1000.0 * samples as f64 / subject.rate();
    let waves: Vec<Wave> = signals.iter().filter_map(|signal| wave(subject, clips, signal)).collect();
    let (name, made_for) = (&layer.name, &subject.network.graph.node(node).name);
    let mut parts = vec![Part::Heading(format!("{name}: {samples} samples ({:.1} ms)", ms(samples)))];
    if waves.is_empty() {
        parts.push(Part::Text(format!("No clip excites a channel of {name}.")));
    } else {
        let shown = waves.len();
        let legend =
            vec!["segment of the clip that excites the channel most".into(), "signal of gradient ascent".into()];
        let waves = Waves { title: format!("What excites {name} most"), legend, waves, samples };
        parts.push(Part::Picture(Picture {
            name: format!("excitation-{name}"),
            caption: format!(
                "The {shown} of {} channels with the highest activations: number of the channel, label of the clip, and time at which the segment begins. The whole width is {:.1} ms; each \
                 waveform is drawn relative to its peak. The signal is made for one row of {made_for}.",
                channels.len(),
                ms(samples)
            ),
            svg: waves.to_svg(),
        }));
    }
    parts.push(Part::Table(table(subject, clips, signals)));
    parts
}

fn best(of: &LayerExcitations, channel: usize) -> Option<&Excitation> {
    of.channels.get(channel)?.first()
}

/// The first channel of a segment of a clip, as the network takes it.
fn segment(subject: &Subject, of: &Excitation) -> Vec<f32> {
    let mut input = vec![0.0; subject.data.row_len()];
    subject.data.write_input(of.clip as usize, &mut input);
    let channels = subject.data.format().channels.max(1) as usize;
    input.into_iter().step_by(channels).skip(of.first).take(of.end - of.first).collect()
}

fn label(subject: &Subject, of: &Excitation) -> String {
    subject.classes()[subject.data.clips()[of.clip as usize].class as usize].to_string()
}

fn wave(subject: &Subject, clips: &LayerExcitations, signal: &ExcitingSignal) -> Option<Wave> {
    let of = best(clips, signal.channel)?;
    let name = format!("{} · {} · {:.3} s", signal.channel, label(subject, of), of.first as f64 / subject.rate());
    let channels = subject.data.format().channels.max(1) as usize;
    let signal = signal.signal.iter().step_by(channels).copied().collect();
    Some(Wave { name, lines: vec![segment(subject, of), signal] })
}

fn table(subject: &Subject, clips: &LayerExcitations, signals: &[ExcitingSignal]) -> Table {
    let name = &clips.layer.name;
    let row = |channel: usize| {
        let mut row = vec![channel.to_string()];
        match best(clips, channel).filter(|of| of.value != 0.0) {
            Some(of) => row.extend([
                subject.data.clips()[of.clip as usize].name.to_string(),
                label(subject, of),
                format!("{:.4}", of.first as f64 / subject.rate()),
                format!("{:.4}", of.end as f64 / subject.rate()),
                format!("{:.3}", of.value),
            ]),
            None => row.extend(["never active", "", "", "", "0"].map(String::from)),
        }
        let signal = signals.iter().find(|signal| signal.channel == channel);
        row.extend(
            signal
                .map_or([String::new(), String::new()], |of| [of.before, of.after].map(|value| format!("{value:.3}"))),
        );
        row
    };
    let value = |channel: usize| best(clips, channel).map_or(f32::NEG_INFINITY, |of| of.value);
    let mut channels: Vec<usize> = (0..clips.channels.len()).collect();
    channels.sort_by(|&a, &b| value(b).total_cmp(&value(a)).then(a.cmp(&b)));
    let headings = ["channel", "clip", "label", "from (s)", "to (s)", "activation", "noise", "after ascent"];
    Table {
        name: format!("excitation-{name}-channels"),
        caption: format!(
            "The highest activation of each channel of {name} over all clips of the split, and for the channels of the picture the activation for the noise and for the signal of the ascent."
        ),
        headings: headings.map(String::from).to_vec(),
        rows: channels.into_iter().map(row).collect(),
        shown: SHOWN,
    }
}

/// Segments and signals of the last layer, which are long enough to be recognised as sound.
fn sounds(subject: &Subject, Excited { clips, signals }: &Excited) -> Vec<Part> {
    let rate = subject.network.spec.input.sample_rate;
    let mut sounds = Vec::new();
    for signal in signals.iter().take(PLAYED) {
        let Some(of) = best(clips, signal.channel) else { continue };
        let Some(clip) = subject.sound(of.clip) else { continue };
        let caption = format!("{} channel {}: segment of {}", clips.layer.name, signal.channel, label(subject, of));
        sounds.push(Sound { caption, samples: clip[of.samples()].to_vec(), rate });
        let caption = format!("{} channel {}: signal of the ascent", clips.layer.name, signal.channel);
        sounds.push(Sound { caption, samples: at_full_scale(&signal.signal), rate });
    }
    if sounds.is_empty() { Vec::new() } else { vec![Part::Sounds(sounds)] }
}

/// Samples of 16 bits whose peak is 6 dB below full scale.
fn at_full_scale(signal: &[f32]) -> Vec<i16> {
    let peak = signal.iter().fold(f32::MIN_POSITIVE, |peak, v| peak.max(v.abs()));
    signal.iter().map(|v| (v / peak * 16384.0) as i16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channels_with_the_highest_activations_come_first_and_silent_ones_not_at_all() {
        use crate::base::Shape;
        let network =
            crate::nn::Network::build(&crate::nn::find("custom32-8").unwrap().spec(crate::nn::Variant::Do), 2);
        let layer = FeatureLayer { name: "l".into(), node: network.unwrap().blocks[0], shape: Shape::new(1, 4) };
        let of = |value: f32| vec![Excitation { clip: 0, row: 0, value, first: 0, end: 1 }];
        let clips = LayerExcitations { layer, channels: vec![of(0.5), of(0.0), of(2.0), Vec::new()] };
        assert_eq!(shown_channels(&clips), [2, 0]);
        assert_eq!(at_full_scale(&[0.1, -0.2]), [8192, -16384]);
        assert_eq!(at_full_scale(&[0.0]), [0]);
    }
}
