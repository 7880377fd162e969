//! Floor 1. From recordings to batches.

mod archive;
mod audit;
mod batch;
mod cache;
mod clip;
mod dataset;
mod decode;
mod embedded;
mod embedded_words;
mod error;
mod folder;
mod load;
mod resample;
mod source;
mod split;
mod store;
mod wav;

pub use audit::{Audit, ClassCount, Finding, FindingKind};
pub use batch::{Batch, Batches};
pub use clip::{Clip, Format, read_clip};
pub use dataset::{ClipMeta, DataConfig, Dataset};
pub use embedded_words::embedded;
pub use error::{ClipError, ClipFault, DataError};
pub use source::{Embedded, Progress, Source, Stage};
pub use split::{Split, SplitRule, speaker, speaker_percentage, which_set};
pub use store::CacheMode;
