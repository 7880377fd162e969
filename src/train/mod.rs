//! Training: weights and their files, steps, evaluation, whole runs and the folder that keeps them.

mod agreement;
pub mod bench;
mod bundle;
#[cfg(feature = "audio")]
mod calibration;
#[cfg(feature = "audio")]
mod checkpoint;
#[cfg(feature = "classify")]
pub mod classify;
#[cfg(feature = "audio")]
mod comparison;
#[cfg(feature = "audio")]
mod config;
#[cfg(feature = "audio")]
mod diagnose;
mod error;
#[cfg(feature = "audio")]
mod estimate;
#[cfg(feature = "audio")]
mod eval;
#[cfg(feature = "audio")]
mod evaluation_report;
#[cfg(feature = "audio")]
mod event_file;
#[cfg(feature = "audio")]
mod features;
mod foreign;
mod freeze;
pub mod gpu_bench;
pub mod gradcheck;
#[cfg(feature = "audio")]
mod hints;
mod identity;
#[cfg(feature = "audio")]
mod metrics;
mod model;
mod predictor;
#[cfg(feature = "audio")]
mod prepared;
#[cfg(feature = "audio")]
mod recipe;
#[cfg(feature = "audio")]
mod run_claim;
mod run_folder;
#[cfg(feature = "audio")]
mod run_list;
#[cfg(feature = "audio")]
mod run_lock;
pub mod scaling;
#[cfg(feature = "audio")]
mod seeds;
#[cfg(feature = "audio")]
mod session;
#[cfg(feature = "audio")]
mod setting;
#[cfg(feature = "audio")]
mod setting_values;
#[cfg(feature = "audio")]
mod settings;
#[cfg(feature = "audio")]
mod shifts;
#[cfg(feature = "audio")]
mod speakers;
#[cfg(feature = "audio")]
mod split_file;
#[cfg(feature = "audio")]
mod statistics;
#[cfg(feature = "audio")]
mod teacher;
mod trainer;
mod transfer;
mod weight_file;
mod weights;

pub use bundle::{Bundle, Which};
#[cfg(feature = "audio")]
pub use calibration::{Calibration, ConfidenceBin};
#[cfg(feature = "audio")]
pub use comparison::{Agreement, ClassAgreement, Comparison, Flip, Pair, Resampled, all_pairs};
#[cfg(feature = "audio")]
pub use config::{Kept, TrainConfig};
pub use error::{Disagreement, TrainError};
#[cfg(feature = "audio")]
pub use estimate::seconds_per_epoch;
#[cfg(feature = "audio")]
pub use eval::{ClassFigures, ClipPrediction, Evaluation, csv_field};
#[cfg(feature = "audio")]
pub use evaluation_report::{EvaluationReport, Mistake, save_evaluation};
#[cfg(feature = "audio")]
pub use features::{FeatureLayer, features};
pub use freeze::{ALL_BUT_HEAD, parse_freeze};
#[cfg(feature = "audio")]
pub use hints::loss_is_at_chance;
#[cfg(feature = "audio")]
pub use metrics::{EpochRecord, read as read_metrics};
pub use model::Model;
#[cfg(feature = "listen")]
pub(crate) use predictor::softmax;
pub use predictor::{Prediction, Predictor, PredictorBuilder};
#[cfg(feature = "audio")]
pub use recipe::Recipe;
#[cfg(feature = "audio")]
pub use run_claim::RunClaim;
pub use run_folder::{RunFolder, write_atomically};
#[cfg(feature = "audio")]
pub use run_list::{RunSummary, TestResult, find_runs};
#[cfg(feature = "audio")]
pub use seeds::{SeveralRuns, check_same_clips, differing_setting};
#[cfg(feature = "audio")]
pub use session::{EVAL_BATCH, Observer, Outcome, Session, check_settings};
#[cfg(feature = "audio")]
pub use setting::{Group, Setting, Values};
#[cfg(feature = "audio")]
pub use settings::SETTINGS;
#[cfg(feature = "audio")]
pub use shifts::Shifts;
#[cfg(feature = "audio")]
pub use speakers::{SpeakerFigures, SpeakerSpread};
#[cfg(feature = "audio")]
pub use split_file::{Overlap, check_split, overlap_with_training};
#[cfg(feature = "audio")]
pub use statistics::Mean;
#[cfg(feature = "audio")]
pub(crate) use statistics::{poisson, wilson};
pub use trainer::{Step, Trainer, TrainerBuilder};
pub use transfer::{LayerOrigin, NewLayer, Transfer, transfer};
pub use weight_file::{load_weights, save_weights};
pub use weights::{Weights, file_shape, to_file_order};
