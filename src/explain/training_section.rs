//! How the training went, and what the network confuses.

use super::section::{Part, Picture, Section, Sound, Table};
use super::subject::Subject;
use crate::figure::{Axis, Matrix, Plot, Point, Series, matrices};
use crate::train::{EpochRecord, Evaluation};

/// Mistakes that can be played.
const PLAYED: usize = 8;
/// Rows of a table before the reader asks for more.
const SHOWN: usize = 8;
/// Most classes whose two matrices are side by side.
const SIDE_BY_SIDE: usize = 14;

/// Curves of the training, the confusion matrix, and the worst mistakes.
pub fn training_section(subject: &Subject, evaluation: &Evaluation) -> Section {
    let mut parts = curves(&subject.epochs);
    if parts.is_empty() {
        parts.push(Part::Text("The run has no records of its epochs.".into()));
    }
    parts.extend(confusion(subject, evaluation));
    parts.extend(mistakes(subject, evaluation));
    let look_for = "Whether the curves of training and validation part, which is overfitting, and which two words are \
                    taken for each other.";
    Section { id: "training", title: "Training and mistakes", look_for: look_for.into(), parts }
}

fn line(name: &str, points: impl Iterator<Item = (u64, f64)>) -> Series {
    let points = points.map(|(epoch, y)| Point { x: epoch as f64, y, ..Point::default() }).collect();
    Series { name: name.into(), points, line: true, ..Series::default() }
}

/// Loss, accuracy and learning rate by epoch.
fn curves(epochs: &[EpochRecord]) -> Vec<Part> {
    if epochs.len() < 2 {
        return Vec::new();
    }
    let of = |value: fn(&EpochRecord) -> Option<f64>| {
        epochs.iter().filter_map(move |epoch| Some((epoch.epoch, value(epoch)?)))
    };
    let plot = |name: &str, title: &str, y: Axis, caption: &str, series: Vec<Series>| {
        let x = Axis::linear("epoch").of_whole_numbers();
        let svg = Plot { title: title.into(), x, y, series, height: 200.0 }.to_svg();
        Picture { name: name.into(), caption: caption.into(), svg }
    };
    let validated = epochs.iter().any(|epoch| epoch.validation_accuracy.is_some());
    let mut accuracy = vec![line("training", of(|epoch| Some(epoch.train_accuracy)))];
    let mut loss = vec![line("training", of(|epoch| Some(epoch.train_loss)))];
    if validated {
        accuracy.push(line("validation", of(|epoch| epoch.validation_accuracy)));
        loss.push(line("validation", of(|epoch| epoch.validation_loss)));
    }
    let rate = vec![line("", of(|epoch| Some(f64::from(epoch.lr))))];
    vec![Part::Pictures(vec![
        plot(
            "training-accuracy",
            "Accuracy by epoch",
            Axis::linear("accuracy"),
            "The accuracy on the training clips includes dropout and altered clips, so that it can be below that on the validation clips.",
            accuracy,
        ),
        plot(
            "training-loss",
            "Loss by epoch",
            Axis::linear("cross-entropy"),
            "The mean cross-entropy of a clip.",
            loss,
        ),
        plot(
            "learning-rate",
            "Learning rate by epoch",
            Axis::linear("learning rate"),
            "The learning rate at the end of each epoch.",
            rate,
        ),
    ])]
}

/// The confusion matrix in counts and in shares of the label, and the pairs of words that are confused most.
fn confusion(subject: &Subject, evaluation: &Evaluation) -> Vec<Part> {
    let classes: Vec<String> = subject.classes().iter().map(ToString::to_string).collect();
    let counts = evaluation.confusion.iter().map(|row| row.iter().map(|&n| n as i64).collect()).collect();
    let rates = evaluation.confusion.iter().map(|row| {
        let all = row.iter().sum::<u64>().max(1);
        row.iter().map(|&n| ((200 * n + all) / (2 * all)) as i64).collect()
    });
    let counts = Matrix { title: "Clips".into(), cells: counts, is_difference: false };
    let rates = Matrix { title: "Percent of the label's clips".into(), cells: rates.collect(), is_difference: false };
    let picture = |name: &str, caption: String, of: &[Matrix]| {
        Part::Picture(Picture { name: name.into(), caption, svg: matrices(&classes, of) })
    };
    let [low, high] = evaluation.interval;
    let caption = format!(
        "{} of {} {} clips are recognised: accuracy {:.4}, 95 % interval {low:.3} to {high:.3}. Rows are labels, columns predicted classes; mistakes are orange.",
        evaluation.correct,
        evaluation.clips,
        evaluation.clips_name(),
        evaluation.accuracy,
    );
    let mut parts = vec![Part::Heading("Confusion matrix".into())];
    if classes.len() <= SIDE_BY_SIDE {
        parts.push(picture("confusion", caption, &[counts, rates]));
    } else {
        parts.push(picture("confusion", caption, &[counts]));
        parts.push(picture("confusion-percent", "The same in percent of the label's clips.".into(), &[rates]));
    }
    let mut pairs: Vec<(u64, usize, usize)> = Vec::new();
    for (label, row) in evaluation.confusion.iter().enumerate() {
        let wrong = row.iter().enumerate().filter(|&(predicted, &n)| predicted != label && n > 0);
        pairs.extend(wrong.map(|(predicted, &n)| (n, label, predicted)));
    }
    pairs.sort_by_key(|&(n, label, predicted)| (std::cmp::Reverse(n), label, predicted));
    let row = |&(n, label, predicted): &(u64, usize, usize)| {
        let all = evaluation.confusion[label].iter().sum::<u64>().max(1);
        let share = format!("{:.1}", 100.0 * n as f64 / all as f64);
        vec![classes[label].clone(), classes[predicted].clone(), n.to_string(), share]
    };
    if !pairs.is_empty() {
        parts.push(Part::Table(Table {
            name: "confusions".into(),
            caption: "Words that are taken for another, most clips first.".into(),
            headings: ["label", "recognised as", "clips", "percent of the label"].map(Into::into).to_vec(),
            rows: pairs.iter().map(row).collect(),
            shown: SHOWN,
        }));
    }
    parts
}

/// The mistakes of which the network was most certain.
fn mistakes(subject: &Subject, evaluation: &Evaluation) -> Vec<Part> {
    let mistakes = evaluation.mistakes();
    let classes = subject.classes();
    if mistakes.is_empty() {
        return vec![Part::Text(format!("All {} clips are recognised.", evaluation.clips))];
    }
    let name = |clip: u32| subject.data.clips()[clip as usize].name.to_string();
    let rows = mistakes.iter().map(|of| {
        let probability = format!("{:.3}", of.prediction.probability);
        vec![name(of.clip), classes[of.label].to_string(), classes[of.prediction.class].to_string(), probability]
    });
    let table = Table {
        name: "mistakes".into(),
        caption: "All mistakes, the most confident first.".into(),
        headings: ["clip", "label", "recognised as", "probability"].map(Into::into).to_vec(),
        rows: rows.collect(),
        shown: SHOWN,
    };
    let sound = |of: &&crate::train::ClipPrediction| {
        let (label, predicted) = (&classes[of.label], &classes[of.prediction.class]);
        let caption = format!("{label}, recognised as {predicted} ({:.2})", of.prediction.probability);
        Some(Sound { caption, samples: subject.sound(of.clip)?, rate: subject.network.spec.input.sample_rate })
    };
    let sounds: Vec<Sound> = mistakes.iter().take(PLAYED).filter_map(sound).collect();
    let mut parts = vec![Part::Heading("Most confident mistakes".into())];
    if !sounds.is_empty() {
        parts.push(Part::Sounds(sounds));
    }
    parts.push(Part::Table(table));
    parts
}
