//! Training: weights and their files, steps, evaluation, whole runs and the folder that keeps them.

pub mod bench;
mod bundle;
mod checkpoint;
mod config;
mod diagnose;
mod error;
mod eval;
pub mod gpu_bench;
pub mod gradcheck;
mod metrics;
mod run_folder;
mod session;
mod trainer;
mod weights;

pub use bundle::{Bundle, Which};
pub use checkpoint::{Checkpoint, Progress as TrainingProgress};
pub use config::{SETTINGS, Setting, TrainConfig};
pub use error::TrainError;
pub use eval::{ClassFigures, Evaluation, Prediction, Recogniser};
pub use metrics::EpochRecord;
pub use run_folder::{RunFolder, write_atomically};
pub use session::{EVAL_BATCH, Observer, Outcome, Session, check_split, save_evaluation};
pub use trainer::{Step, Trainer};
pub use weights::Weights;
