//! One run of a study, and how far it is.

use super::error::StudyError;
use crate::nn::{Study, Variant};
use crate::train::{RunFolder, RunSummary, TrainConfig, differing_setting};
use std::path::{Path, PathBuf};

/// A run that a study lists.
#[derive(Clone, Debug)]
pub struct PlannedRun {
    /// The name of its folder.
    pub name: String,
    /// Its network, with the settings of the grid: what it has in common with the runs of other seeds and variants.
    pub label: String,
    /// Its variant.
    pub variant: Variant,
    /// Its seed.
    pub seed: u64,
    /// The network among those of the 2019 study, with the accuracy that was reported.
    pub study: Option<&'static Study>,
    /// Its settings.
    pub config: TrainConfig,
}

/// How far a run is.
#[derive(Clone, Debug)]
pub enum RunState {
    /// It has not begun.
    New,
    /// It has begun, and so many epochs are complete.
    Begun(u64),
    /// All epochs are done, and it is tested.
    Finished(Box<RunSummary>),
}

impl PlannedRun {
    /// Its folder below `runs`.
    pub fn folder(&self, runs: &Path) -> PathBuf {
        runs.join(&self.name)
    }

    /// How far it is in the folder `runs`.
    ///
    /// # Errors
    /// Its folder has a run with other settings.
    pub fn state(&self, runs: &Path) -> Result<RunState, StudyError> {
        let path = self.folder(runs);
        let Ok(folder) = RunFolder::open(&path) else { return Ok(RunState::New) };
        let there = TrainConfig::load(&folder.config())?;
        // The recordings may be elsewhere on another machine, and the classes follow from them.
        let mut ours = self.config.clone();
        ours.data.clone_from(&there.data);
        if ours.classes.is_empty() {
            ours.classes.clone_from(&there.classes);
        }
        let seeds =
            (ours.seed != there.seed).then(|| ("seed".to_string(), there.seed.to_string(), ours.seed.to_string()));
        if let Some((key, theirs, ours)) = differing_setting(&there, &ours).or(seeds) {
            return Err(StudyError::OtherRun { run: path, key, theirs, ours });
        }
        let summary = RunSummary::read(&path)?;
        Ok(match summary.is_finished() {
            true => RunState::Finished(Box::new(summary)),
            false => RunState::Begun(summary.epochs_done),
        })
    }
}
