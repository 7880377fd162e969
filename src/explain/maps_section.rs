//! Where in chosen clips the network found their words, and what its layers make of them.

use super::error::ExplainError;
use super::maps::{Map, Mapper, Method};
use super::section::{Part, Picture, Section, Sound};
use super::spectrum::{Spectrogram, SpectrogramSettings};
use super::subject::{ExplainedClip, Subject};
use crate::figure::{COLUMNS, Content, Palette, Raster, Strip, Strips};
use crate::train::Predictor;

/// The lowest level of a spectrogram in pictures, decibels.
const FLOOR: f32 = -70.0;
/// Channels of the first layer that can be played.
const PLAYED: usize = 2;

/// The maps of one clip, one for each method.
pub struct ClipMaps {
    /// The clip.
    pub clip: ExplainedClip,
    /// Its maps, in the order of [`Subject::methods`].
    pub maps: Vec<Map>,
}

/// The maps of the class that the network recognises in each clip, by every method.
///
/// # Errors
/// The memory does not suffice.
pub fn clip_maps(subject: &Subject, clips: Vec<ExplainedClip>) -> Result<Vec<ClipMaps>, ExplainError> {
    let mut all: Vec<ClipMaps> = clips.into_iter().map(|clip| ClipMaps { clip, maps: Vec::new() }).collect();
    for method in subject.methods() {
        let mut mapper = Mapper::new(&subject.network, &subject.weights, method, 8, subject.isa)?;
        for of in &mut all {
            of.maps.extend(mapper.maps(&of.clip.input, &[of.clip.prediction.class])?);
        }
    }
    Ok(all)
}

/// A picture with all maps for each clip, and sounds: the clip, and the clip weighted by its map.
pub fn maps_section(subject: &Subject, clips: &[ClipMaps]) -> Section {
    let methods = subject.methods();
    let mut parts = vec![Part::Text(about(subject, &methods))];
    for (number, of) in clips.iter().enumerate() {
        let svg = picture(subject, of, &methods).to_svg();
        let caption =
            "Orange marks the moments that the logit of the recognised word depends on, the strongest darkest; the spectrogram has the orange of Grad-CAM.".into();
        parts.push(Part::Picture(Picture { name: format!("map-{}", number + 1), caption, svg }));
        let sounds = sounds(subject, of, &methods);
        if !sounds.is_empty() {
            parts.push(Part::Sounds(sounds));
        }
    }
    let look_for = "Whether the orange moments lie on the word, and on which of its sounds; maps that mark silence or noise show that the network relies on something else.";
    Section { id: "maps", title: "Where the word is found", look_for: look_for.into(), parts }
}

fn about(subject: &Subject, methods: &[Method]) -> String {
    let what = |method: &Method| match method {
        Method::Cam => "CAM adds the features of the last layer as the classifier weighs them".into(),
        Method::GradCam(layer) => {
            let layer = &subject.network.graph.node(*layer).name;
            format!("Grad-CAM adds the channels of the layer {layer}, weighted by how much the logit depends on each")
        }
        Method::InputGradient => "the input gradient says how much the logit changes with each sample".into(),
        Method::IntegratedGradients => {
            "integrated gradients share the difference to silence among the samples: their sum is that difference"
                .into()
        }
    };
    let texts: Vec<String> = methods.iter().map(what).collect();
    format!("The maps are of the recognised class: {}.", texts.join("; "))
}

fn heading(subject: &Subject, clip: &ExplainedClip) -> String {
    let classes = subject.classes();
    let (predicted, p) = (&classes[clip.prediction.class], clip.prediction.probability);
    match clip.label {
        Some(label) if label == clip.prediction.class => format!("{} · {predicted} ({p:.2})", clip.name),
        Some(label) => format!("{} · {}, recognised as {predicted} ({p:.2})", clip.name, classes[label]),
        None => format!("{} · recognised as {predicted} ({p:.2})", clip.name),
    }
}

/// The channels of a clip as one waveform: their mean.
fn mono(subject: &Subject, input: &[f32]) -> Vec<f32> {
    let channels = subject.network.spec.input.channels.max(1);
    input.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() / channels as f32).collect()
}

/// A map at the columns of a picture: the magnitudes, the largest 1.
fn overlay(map: &Map, length: usize) -> Vec<f32> {
    let columns = length.min(COLUMNS);
    let values = map.by_part(length, columns);
    let most = values.iter().copied().fold(0.0, f64::max);
    values.iter().map(|v| if most > 0.0 { (v / most) as f32 } else { 0.0 }).collect()
}

/// A spectrogram from white for the lowest level to black for the highest, the lowest frequency at the bottom.
pub(super) fn spectrogram_raster(samples: &[f32], rate: f64) -> (Raster, f64) {
    let of = Spectrogram::of(samples, rate, &SpectrogramSettings::default());
    let rows = of.decibels.chunks_exact(of.frames).rev();
    // Two bins in a row: a row of a picture is not higher.
    let rows: Vec<&[f32]> = rows.collect();
    let level = |pair: &[&[f32]], frame: usize| {
        let most = pair.iter().map(|row| row[frame]).fold(FLOOR, f32::max);
        ((most - FLOOR) / -FLOOR).clamp(0.0, 1.0)
    };
    let values = rows.chunks(2).flat_map(|pair| (0..of.frames).map(move |frame| level(pair, frame)));
    (Raster::new(rows.len().div_ceil(2), of.frames, values.collect()), of.top)
}

fn picture(subject: &Subject, of: &ClipMaps, methods: &[Method]) -> Strips {
    let wave = mono(subject, &of.clip.input);
    let (raster, top) = spectrogram_raster(&wave, subject.rate());
    let mut strips: Vec<Strip> = methods
        .iter()
        .zip(&of.maps)
        .map(|(method, map)| {
            let title = method.title();
            let (first, second) = match title.split_once(' ') {
                Some((first, second)) => (first.to_string(), second.to_string()),
                None => (title.to_string(), String::new()),
            };
            let overlay = Some(overlay(map, wave.len()));
            Strip { name: [first, second], content: Content::Wave(wave.clone()), overlay, height: 52.0 }
        })
        .collect();
    let chosen = methods.iter().position(|method| matches!(method, Method::GradCam(_))).unwrap_or(0);
    strips.push(Strip {
        name: ["spectrogram".into(), format!("0 to {:.0} kHz", top / 1000.0)],
        content: Content::Raster(raster, Palette::Grey),
        overlay: of.maps.get(chosen).map(|map| overlay(map, wave.len())),
        height: 96.0,
    });
    let seconds = wave.len() as f64 / subject.rate();
    Strips { title: heading(subject, &of.clip), seconds, strips }
}

/// The clip, and the clip times its map.
fn sounds(subject: &Subject, of: &ClipMaps, methods: &[Method]) -> Vec<Sound> {
    if !subject.data.is_sound() || subject.network.spec.input.channels != 1 {
        return Vec::new();
    }
    let rate = subject.network.spec.input.sample_rate;
    let sound = |caption: String, samples: &[f32]| Sound::of(caption, samples, rate);
    let mut sounds = vec![sound("the clip".into(), &of.clip.input)];
    let map = methods.iter().zip(&of.maps).find(|(method, _)| matches!(method, Method::GradCam(_)));
    if let Some((method, map)) = map {
        let values = map.at_samples(of.clip.input.len());
        let most = values.iter().copied().fold(0.0, f32::max);
        if most > 0.0 {
            let weighted: Vec<f32> = of.clip.input.iter().zip(&values).map(|(x, v)| x * v / most).collect();
            sounds.push(sound(format!("the clip weighted by {}", method.title()), &weighted));
        }
    }
    sounds
}

/// The outputs of all blocks for each clip, below its waveform and spectrogram.
///
/// # Errors
/// The memory does not suffice.
pub fn layers_section(subject: &Subject, clips: &[ClipMaps]) -> Result<Section, ExplainError> {
    let network = &subject.network;
    let predictor = Predictor::builder(&**network, subject.weights.clone()).batch(1);
    let first = first_layer(subject);
    let kept = network.blocks.iter().copied().chain(first);
    let mut predictor = predictor.conv(subject.config.conv).device(subject.isa).keep(kept).build()?;
    let mut parts = Vec::new();
    for (number, of) in clips.iter().enumerate() {
        predictor.run(&of.clip.input)?;
        let wave = mono(subject, &of.clip.input);
        let (raster, top) = spectrogram_raster(&wave, subject.rate());
        let strip = |name: [String; 2], content: Content, height: f64| Strip { name, content, overlay: None, height };
        let mut strips = vec![
            strip(["waveform".into(), String::new()], Content::Wave(wave.clone()), 40.0),
            strip(
                ["spectrogram".into(), format!("0 to {:.0} kHz", top / 1000.0)],
                Content::Raster(raster, Palette::Grey),
                60.0,
            ),
        ];
        for &block in &network.blocks {
            let shape = network.graph.shape(block);
            let values = predictor.activation(block)?.unwrap_or_default();
            // Channels are rows of the picture, moments its columns.
            let values: Vec<f32> = (0..shape.c)
                .flat_map(|c| values.iter().skip(c).step_by(shape.c).copied().collect::<Vec<_>>())
                .collect();
            let raster = Raster::new(shape.c, shape.l, values).narrowed(COLUMNS).normalised();
            let name = [network.graph.node(block).name.clone(), format!("{} x {}", shape.l, shape.c)];
            let height = (shape.c as f64).clamp(28.0, 64.0);
            strips.push(strip(name, Content::Raster(raster, Palette::Viridis), height));
        }
        let seconds = wave.len() as f64 / subject.rate();
        let svg = Strips { title: heading(subject, &of.clip), seconds, strips }.to_svg();
        let caption =
            "Each row of a layer is a channel; dark blue is 0, yellow the largest output of the layer.".into();
        parts.push(Part::Picture(Picture { name: format!("layers-{}", number + 1), caption, svg }));
        let sounds = first.map(|first| first_outputs(subject, &predictor, first)).transpose()?.unwrap_or_default();
        if !sounds.is_empty() {
            parts.push(Part::Sounds(sounds));
        }
    }
    let look_for = "How the layers, from top to bottom, trade time for meaning: the first follow the sound, the last have a few moments with the channels that the word excites.";
    Ok(Section { id: "layers", title: "From layer to layer", look_for: look_for.into(), parts })
}

/// The first convolution, if it keeps enough of the rate to be played.
fn first_layer(subject: &Subject) -> Option<crate::graph::NodeId> {
    let audible = subject.data.is_sound() && subject.network.spec.input.channels == 1;
    let id = subject.network.graph.find("conv1").filter(|_| audible)?;
    (2 * subject.network.graph.shape(id).l >= subject.network.spec.input.length).then_some(id)
}

/// The loudest outputs of the first convolution as sound.
fn first_outputs(
    subject: &Subject,
    predictor: &Predictor,
    first: crate::graph::NodeId,
) -> Result<Vec<Sound>, ExplainError> {
    let shape = subject.network.graph.shape(first);
    let values = predictor.activation(first)?.unwrap_or_default();
    let channel = |c: usize| values.iter().skip(c).step_by(shape.c).copied().collect::<Vec<f32>>();
    let power = |c: &usize| channel(*c).iter().map(|v| f64::from(v * v)).sum::<f64>();
    let mut channels: Vec<usize> = (0..shape.c).collect();
    channels.sort_by(|a, b| power(b).total_cmp(&power(a)).then(a.cmp(b)));
    let rate = (subject.rate() * shape.l as f64 / subject.network.spec.input.length as f64).round() as u32;
    let sound = |c: usize| {
        let mut samples = channel(c);
        // The level of speech, whatever the gain of the filter.
        let most = samples.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        samples.iter_mut().for_each(|v| *v *= 0.5 / most.max(f32::MIN_POSITIVE));
        Sound::of(format!("output of filter {c} of the first layer"), &samples, rate)
    };
    Ok(channels.into_iter().take(PLAYED).map(sound).collect())
}
