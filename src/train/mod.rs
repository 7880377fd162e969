//! Training: weights and their files, steps, evaluation, whole runs and the folder that keeps them.

pub mod bench;
mod bundle;
mod checkpoint;
#[cfg(feature = "audio")]
mod config;
#[cfg(feature = "audio")]
mod diagnose;
mod error;
#[cfg(feature = "audio")]
mod eval;
pub mod gpu_bench;
pub mod gradcheck;
#[cfg(feature = "audio")]
mod metrics;
mod model;
mod recogniser;
#[cfg(feature = "audio")]
mod run_claim;
mod run_folder;
#[cfg(feature = "audio")]
mod run_lock;
#[cfg(feature = "audio")]
mod session;
mod trainer;
mod weights;

pub use bundle::{Bundle, Which};
pub use checkpoint::{Checkpoint, Progress as TrainingProgress};
#[cfg(feature = "audio")]
pub use config::{SETTINGS, Setting, TrainConfig};
pub use error::TrainError;
#[cfg(feature = "audio")]
pub use eval::{ClassFigures, ClipPrediction, Evaluation};
#[cfg(feature = "audio")]
pub use metrics::EpochRecord;
pub use model::Model;
pub use recogniser::{Prediction, Recogniser, RecogniserBuilder};
#[cfg(feature = "audio")]
pub use run_claim::RunClaim;
pub use run_folder::{RunFolder, write_atomically};
#[cfg(feature = "audio")]
pub use session::{EVAL_BATCH, Observer, Outcome, Session, check_split, save_evaluation};
pub use trainer::{Step, Trainer, TrainerBuilder};
pub use weights::Weights;
