//! Other classifiers on the activations of layers: fitted on the training clips, chosen on the validation clips, tested on the test clips, beside the network itself.

mod activations;
mod discriminant;
mod forest;
mod linear;
mod matrix;
mod minimise;
mod neighbours;

use super::comparison::{Agreement, Resampled, interval_of_difference};
use super::error::TrainError;
use super::eval::Evaluation;
use super::statistics::{mcnemar, wilson};
use crate::base::Name;
use crate::base::nearest::nearest;
use crate::data::{Dataset, Split};
pub use activations::{Activations, MOST_FEATURES, NetworkResults};
use linear::Loss;
use matrix::{Matrix, Standardiser};
use serde::Serialize;
use std::fmt;

/// A kind of classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Classifier {
    /// k-nearest neighbours by Euclidean distance.
    #[serde(rename = "knn")]
    Neighbours,
    /// Multinomial logistic regression with a penalty on the squares of the weights.
    #[serde(rename = "logistic")]
    Logistic,
    /// A linear support vector machine for each class against the rest, with the squared hinge loss.
    #[serde(rename = "svm")]
    SupportVectors,
    /// Linear discriminant analysis with a shrunken covariance matrix.
    #[serde(rename = "lda")]
    Discriminant,
    /// Random forest.
    #[serde(rename = "forest")]
    Forest,
}

impl Classifier {
    /// All, in the order of tables.
    pub const ALL: [Classifier; 5] = [
        Classifier::Neighbours,
        Classifier::Logistic,
        Classifier::SupportVectors,
        Classifier::Discriminant,
        Classifier::Forest,
    ];

    /// The name on the command line and in files.
    pub const fn name(self) -> &'static str {
        match self {
            Classifier::Neighbours => "knn",
            Classifier::Logistic => "logistic",
            Classifier::SupportVectors => "svm",
            Classifier::Discriminant => "lda",
            Classifier::Forest => "forest",
        }
    }

    /// The name in words.
    pub const fn title(self) -> &'static str {
        match self {
            Classifier::Neighbours => "k-nearest neighbours",
            Classifier::Logistic => "logistic regression",
            Classifier::SupportVectors => "linear SVM",
            Classifier::Discriminant => "LDA",
            Classifier::Forest => "random forest",
        }
    }
}

impl fmt::Display for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Classifier {
    type Err = String;

    /// The classifier of this name; the error names all.
    fn from_str(text: &str) -> Result<Classifier, String> {
        let names = || Classifier::ALL.into_iter().map(Classifier::name);
        Classifier::ALL.into_iter().find(|of| of.name() == text).ok_or_else(|| {
            let meant = nearest(text, names()).map_or(String::new(), |meant| format!(" (did you mean `{meant}`?)"));
            format!("there is no such classifier{meant}; there are {}", names().collect::<Vec<_>>().join(", "))
        })
    }
}

/// Features of clips with their classes.
struct Labelled {
    rows: Matrix,
    labels: Vec<u32>,
    classes: usize,
}

/// A setting of a classifier that was tried, and the classes that it predicts.
#[derive(Debug, PartialEq)]
struct Tried {
    setting: String,
    predictions: Vec<u32>,
}

/// A setting of a classifier, and its accuracy on the validation clips.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SettingResult {
    /// The setting: `k = 5`.
    pub setting: String,
    /// The share of validation clips that are recognised.
    pub validation_accuracy: f64,
}

/// The test of a classifier, or of the network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Clips.
    pub clips: u64,
    /// Clips that are recognised.
    pub correct: u64,
    /// The share of them.
    pub accuracy: f64,
    /// Its 95 % interval over clips (Wilson, "Probable inference", JASA 1927).
    pub interval: [f64; 2],
}

impl Score {
    fn of(correct: u64, clips: u64) -> Score {
        Score { clips, correct, accuracy: correct as f64 / clips.max(1) as f64, interval: wilson(correct, clips) }
    }
}

/// A classifier against the network on the same test clips.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AgainstNetwork {
    /// How many clips are recognised by the network (first) and by the classifier (second).
    #[serde(flatten)]
    pub agreement: Agreement,
    /// The accuracy of the classifier less that of the network.
    pub difference: f64,
    /// Its 95 % interval for other clips of such speakers: percentiles of 2,000 resamples.
    pub difference_interval: [f64; 2],
    /// What was resampled.
    pub resampled: Resampled,
    /// The two-sided p value of McNemar's exact test, which takes clips as independent.
    pub p: f64,
}

/// A classifier on the features of a layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Classified {
    /// Which.
    pub classifier: Classifier,
    /// The setting with the highest accuracy on the validation clips; of equal ones that of the smoothest classifier.
    pub setting: String,
    /// Its accuracy on the validation clips.
    pub validation_accuracy: f64,
    /// Its result on the test clips.
    pub test: Score,
    /// The test beside that of the network.
    pub network: AgainstNetwork,
    /// Every setting that was tried.
    pub tried: Vec<SettingResult>,
}

/// The features of one layer, ready for classifiers: standardised on the training clips.
pub struct Features<'a> {
    training: Labelled,
    /// Of the validation clips, then of the test clips.
    queries: Matrix,
    /// The classes of the validation clips.
    validation: Vec<u32>,
    /// The network on the test clips.
    network: &'a Evaluation,
    data: &'a Dataset,
}

impl<'a> Features<'a> {
    /// The features of the layer with number `layer` among `activations`.
    ///
    /// # Errors
    /// A split has no clips, the training clips are of one class, or an activation is not a finite number.
    pub fn new(activations: &'a Activations, layer: usize) -> Result<Features<'a>, TrainError> {
        let data = activations.data();
        let (layer, values) = activations.layer(layer);
        let cols = layer.shape.size();
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(TrainError::FeatureNotFinite {
                layer: layer.name.clone(),
                clip: data.clips()[at / cols].name.clone(),
                value: values[at],
            });
        }
        let of_split = |split: Split| -> Result<(Matrix, Vec<u32>), TrainError> {
            let numbers = data.in_split(split);
            if numbers.is_empty() {
                return Err(TrainError::SplitWithoutClips { data: data.source().into(), split: split.short_name() });
            }
            let row = |&clip: &u32| values[clip as usize * cols..][..cols].iter().map(|&value| f64::from(value));
            let rows = Matrix { cols, values: numbers.iter().flat_map(row).collect() };
            Ok((rows, numbers.iter().map(|&clip| data.clips()[clip as usize].class).collect()))
        };
        let (mut rows, labels) = of_split(Split::Training)?;
        let (mut queries, validation) = of_split(Split::Validation)?;
        queries.values.extend(of_split(Split::Testing)?.0.values);
        if let Some(&first) = labels.first().filter(|&first| labels.iter().all(|label| label == first)) {
            let class: Name = data.classes()[first as usize].clone();
            return Err(TrainError::TrainingOfOneClass { data: data.source().into(), class });
        }
        let standardiser = Standardiser::of(&rows);
        standardiser.apply(&mut rows);
        standardiser.apply(&mut queries);
        let training = Labelled { rows, labels, classes: data.classes().len() };
        Ok(Features { training, queries, validation, network: &activations.network().test, data })
    }

    /// Fits a classifier with each of its settings, takes the one that recognises most validation clips, and tests it. `seed` is that of a random forest; equal seeds give equal results.
    ///
    /// # Errors
    /// smartcore cannot fit the classifier.
    pub fn classify(&self, classifier: Classifier, seed: u64) -> Result<Classified, TrainError> {
        let (training, queries) = (&self.training, &self.queries);
        let tried = match classifier {
            Classifier::Neighbours => Ok(neighbours::predictions(training, queries)),
            Classifier::Logistic => Ok(linear::predictions(training, queries, Loss::Logistic)),
            Classifier::SupportVectors => Ok(linear::predictions(training, queries, Loss::SquaredHinge)),
            Classifier::Discriminant => discriminant::predictions(training, queries),
            Classifier::Forest => forest::predictions(training, queries, seed),
        };
        let tried =
            tried.map_err(|error| TrainError::Classifier { name: classifier.title(), reason: error.to_string() })?;
        let right = |of: &Tried| of.predictions.iter().zip(&self.validation).filter(|(a, b)| a == b).count();
        let right: Vec<usize> = tried.iter().map(right).collect();
        let best = matrix::largest(&right);
        let accuracy = |right: usize| right as f64 / self.validation.len() as f64;
        let (test, network) = self.test(&tried[best].predictions[self.validation.len()..]);
        let result = |(of, &right): (&Tried, &usize)| SettingResult {
            setting: of.setting.clone(),
            validation_accuracy: accuracy(right),
        };
        Ok(Classified {
            classifier,
            setting: tried[best].setting.clone(),
            validation_accuracy: accuracy(right[best]),
            test,
            network,
            tried: tried.iter().zip(&right).map(result).collect(),
        })
    }

    /// The predictions for the test clips beside those of the network.
    fn test(&self, predictions: &[u32]) -> (Score, AgainstNetwork) {
        let mut agreement = Agreement::default();
        let mut differences = Vec::with_capacity(predictions.len());
        for (of_network, &predicted) in self.network.predictions.iter().zip(predictions) {
            let (first, second) = (of_network.is_correct(), predicted as usize == of_network.label);
            agreement.add(first, second);
            differences.push((of_network.clip, f64::from(second) - f64::from(first)));
        }
        let (resampled, difference_interval, _) = interval_of_difference(&differences, self.data);
        let against = AgainstNetwork {
            agreement,
            difference: agreement.difference(),
            difference_interval,
            resampled,
            p: mcnemar(agreement.only_first, agreement.only_second),
        };
        (Score::of(agreement.both + agreement.only_second, agreement.clips()), against)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::{Key, Stream};

    /// `n` clips of normal distributions around the corners of a cube, in the order of the classes.
    pub(super) fn blobs(n: usize, features: usize, classes: usize, deviation: f64) -> Labelled {
        let key = Key::new(1, Stream::Case);
        let value = |clip: usize, feature: usize| {
            let corner = if (clip % classes) >> feature & 1 == 1 { 1.0 } else { -1.0 };
            corner + deviation * key.with(clip as u64).normal(feature as u64)
        };
        let values = (0..n).flat_map(|clip| (0..features).map(move |feature| (clip, feature)));
        Labelled {
            rows: Matrix { cols: features, values: values.map(|(clip, feature)| value(clip, feature)).collect() },
            labels: (0..n).map(|clip| (clip % classes) as u32).collect(),
            classes,
        }
    }

    #[test]
    fn names_are_read() {
        for of in Classifier::ALL {
            assert_eq!(of.name().parse(), Ok(of));
        }
        let error = "ldaa".parse::<Classifier>().unwrap_err();
        assert!(error.contains("did you mean `lda`?") && error.contains("knn, logistic, svm"), "{error}");
    }
}
