//! The page about a trained network, section by section.

use super::embedding::Embedding;
use super::embedding_section::embedding_section;
use super::error::ExplainError;
use super::excitation_section::{Excited, excitation_section};
use super::faithfulness::{Faithfulness, FaithfulnessCheck};
use super::faithfulness_section::faithfulness_section;
use super::filters_changes::largest_activations;
use super::filters_section::filters_section;
use super::maps::Mapper;
use super::maps_section::{clip_maps, layers_section, maps_section};
use super::page::Page;
use super::section::Sound;
use super::subject::{ExplainedClip, Subject, choose};
use super::training_section::training_section;
use crate::train::{EVAL_BATCH, Evaluation, FeatureLayer, Predictor};

/// How much is explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExplainOptions {
    /// Clips whose maps and feature maps are shown.
    pub clips: usize,
    /// Clips by which the maps are checked.
    pub checked: usize,
    /// The seed of random orders.
    pub seed: u64,
}

impl Default for ExplainOptions {
    fn default() -> ExplainOptions {
        ExplainOptions { clips: 6, checked: 100, seed: 1 }
    }
}

/// Explains a network by the clips of its split, or by the `chosen` clips if there are any; `progress` is told what is computed.
///
/// # Errors
/// The split has no clips, or the memory does not suffice.
pub fn explain(
    subject: &Subject,
    chosen: Vec<ExplainedClip>,
    options: ExplainOptions,
    progress: &dyn Fn(&str),
) -> Result<Page, ExplainError> {
    progress("evaluating");
    let evaluation = subject.evaluate()?;
    let mut sections = vec![training_section(subject, &evaluation)];
    progress("analysing filters");
    let largest = largest_activations(subject, options.checked)?;
    sections.push(filters_section(&subject.network, &subject.weights, &subject.config, largest.as_deref()));
    let clips = match chosen.is_empty() {
        true => {
            let numbers = choose(&evaluation, options.clips);
            subject.clips(numbers.iter().map(|&number| &evaluation.predictions[number])).collect()
        }
        false => chosen,
    };
    if !subject.methods().is_empty() && !clips.is_empty() {
        progress("computing maps");
        let clips = clip_maps(subject, clips)?;
        sections.push(maps_section(subject, &clips));
        progress("checking maps");
        sections.push(faithfulness_section(&check(subject, &evaluation, options)?));
        sections.push(layers_section(subject, &clips)?);
    }
    progress("looking for what excites the layers");
    sections.push(excitation_section(subject, &Excited::all(subject)?));
    progress("laying out the features");
    let layer = FeatureLayer::find(&subject.network, "features")?;
    let builder = Predictor::builder(&*subject.network, subject.weights.clone()).batch(EVAL_BATCH).keep([layer.node]);
    let mut predictor = builder.conv(subject.config.conv).device(subject.isa).build()?;
    let embedding = Embedding::new(&mut predictor, &layer, &subject.data, Some(subject.split))?;
    sections.push(embedding_section(subject, &embedding));
    let sounds = sounds(subject, &evaluation, &embedding.clips);
    Ok(Page { title: subject.name.clone(), summary: summary(subject, &evaluation), sections, sounds })
}

/// Most clips that points of pictures play.
const PLAYED: usize = 96;

/// The sounds of clips at half their rate: of all mistakes, and of others that are spread evenly.
fn sounds(subject: &Subject, evaluation: &Evaluation, shown: &[u32]) -> Vec<(u32, Sound)> {
    let mistakes = evaluation.mistakes().into_iter().map(|of| of.clip).filter(|clip| shown.contains(clip));
    let step = shown.len().div_ceil(PLAYED).max(1);
    let mut clips: Vec<u32> = mistakes.chain(shown.iter().copied().step_by(step)).collect();
    clips.truncate(PLAYED);
    clips.sort_unstable();
    clips.dedup();
    let sound = |clip: u32| {
        let caption = subject.data.clips()[clip as usize].name.to_string();
        let rate = subject.network.spec.input.sample_rate;
        Some((clip, Sound { caption, samples: subject.sound(clip)?, rate }.at_half_rate()))
    };
    clips.into_iter().filter_map(sound).collect()
}

/// Deletion and insertion over clips that are spread evenly over the split.
///
/// # Errors
/// The memory does not suffice.
pub fn check(
    subject: &Subject,
    evaluation: &Evaluation,
    options: ExplainOptions,
) -> Result<Vec<Faithfulness>, ExplainError> {
    let methods = subject.methods();
    let mut mappers = methods
        .iter()
        .map(|&method| Mapper::new(&subject.network, &subject.weights, method, 1, subject.isa))
        .collect::<Result<Vec<_>, _>>()?;
    let names = methods.iter().map(|method| method.title().to_string()).collect();
    let channels = subject.network.spec.input.channels;
    let mut check = FaithfulnessCheck::new(names, subject.data.row_len(), channels, options.seed);
    let mut predictor = subject.predictor()?;
    let all = &evaluation.predictions;
    let count = options.checked.min(all.len());
    let spread = (0..count).map(|i| &all[i * all.len() / count]);
    for clip in subject.clips(spread) {
        let class = clip.prediction.class;
        let mut maps = Vec::with_capacity(mappers.len());
        for mapper in &mut mappers {
            maps.extend(mapper.maps(&clip.input, &[class])?);
        }
        check.add(&mut predictor, &clip.input, class, &maps)?;
    }
    Ok(check.finish())
}

/// What the network is, and how many clips it recognises.
fn summary(subject: &Subject, evaluation: &Evaluation) -> String {
    let of = subject.network.summary(None);
    let [low, high] = evaluation.interval;
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    format!(
        "{} has {} parameters in {} and recognises {} of {} {} clips of {}: accuracy {:.4}, 95 % interval {low:.3} to {high:.3}.",
        subject.description,
        of.params,
        count(of.layers, "layer"),
        evaluation.correct,
        evaluation.clips,
        evaluation.clips_name(),
        count(subject.classes().len(), "word"),
        evaluation.accuracy,
    )
}
