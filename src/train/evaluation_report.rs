//! An evaluation with everything that follows from it, and its files in the run folder.

use super::calibration::Calibration;
use super::error::TrainError;
use super::eval::Evaluation;
use super::run_claim::RunClaim;
use super::run_folder::write_together;
use super::speakers::SpeakerSpread;
use crate::base::Name;
use crate::data::{Dataset, Grouping};
use serde::Serialize;
use std::path::PathBuf;

/// Most mistakes that a report lists.
const WORST_MISTAKES: usize = 20;

/// A clip whose prediction is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mistake {
    /// The clip, `word/file`.
    pub clip: Name,
    /// Its class.
    pub label: Name,
    /// The predicted class.
    pub predicted: Name,
    /// The probability of the predicted class.
    pub probability: f64,
}

/// An evaluation with its calibration, the spread over speakers and the worst mistakes: the content of `eval-SPLIT.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvaluationReport {
    /// The recordings, if all of them were evaluated and not a split.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recordings: Option<String>,
    /// What [`EvaluationReport::speakers`] is about: speakers, or the groups of arrays.
    #[serde(skip)]
    pub grouping: Grouping,
    /// The figures.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// Whether the probabilities can be trusted.
    pub calibration: Calibration,
    /// How much speakers differ; none if nothing tells the speakers.
    pub speakers: Option<SpeakerSpread>,
    /// The twenty mistakes with the largest probabilities, in descending order.
    pub worst_mistakes: Vec<Mistake>,
}

impl EvaluationReport {
    /// The report on an evaluation of `data`.
    pub fn new(evaluation: Evaluation, data: &Dataset) -> EvaluationReport {
        let mistakes = evaluation.mistakes();
        let worst_mistakes = mistakes.into_iter().take(WORST_MISTAKES).map(|clip| Mistake {
            clip: data.clips()[clip.clip as usize].name.clone(),
            label: data.classes()[clip.label].clone(),
            predicted: data.classes()[clip.prediction.class].clone(),
            probability: clip.prediction.probability,
        });
        EvaluationReport {
            recordings: evaluation.split.is_none().then(|| data.source().to_string()),
            grouping: data.grouping(),
            calibration: Calibration::of(&evaluation),
            speakers: SpeakerSpread::of(&evaluation, data),
            worst_mistakes: worst_mistakes.collect(),
            evaluation,
        }
    }

    /// Writes `confusion-SPLIT.csv`, `predictions-SPLIT.csv`, `reliability-SPLIT.csv` and `eval-SPLIT.json` into the run folder,
    /// and gives their paths; `SPLIT` is `other` for recordings that are not those of the run.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn save(&self, claim: &RunClaim, data: &Dataset) -> Result<[PathBuf; 4], TrainError> {
        let folder = claim.folder();
        let name = self.evaluation.clips_name();
        let json = serde_json::to_string_pretty(self).expect("numbers and names are valid JSON") + "\n";
        let files = [
            (folder.confusion(name), self.evaluation.confusion_csv()),
            (folder.predictions(name), self.evaluation.predictions_csv(data)),
            (folder.reliability(name), self.calibration.csv()),
            (folder.evaluation(name), json),
        ];
        write_together(&files)?;
        Ok(files.map(|(path, _)| path))
    }
}

/// Writes the files of the report on an evaluation of `data` ([`EvaluationReport::save`]).
///
/// # Errors
/// A file cannot be written.
pub fn save_evaluation(claim: &RunClaim, evaluation: &Evaluation, data: &Dataset) -> Result<[PathBuf; 4], TrainError> {
    EvaluationReport::new(evaluation.clone(), data).save(claim, data)
}
