//! From recordings to batches.
//!
//! ```text
//! Source (folder, .tar.gz, .csv, .npz, .parquet, embedded) --> Dataset (classes, splits, rows of i16 or f32) --> Batches (rows of f32, prefetched)
//!          read_clip: WAV, FLAC, Vorbis      the cache stores the rows, Audit examines them
//! ```
//!
//! [`ExtraClasses`] adds the classes of other words and of silence, of which training draws other clips in each epoch.
//!
//! A clip that cannot be used is a [`ClipError`] in [`Dataset::problems`] and is skipped unless `strict` is set; a source that
//! cannot be used is a [`DataError`]. Nothing here prints: progress is reported to a callback, and remarks are collected in the data set.
//!
//! ```no_run
//! use std::{ops::ControlFlow, path::Path, sync::Arc};
//! use stapes::data::{BatchOptions, Batches, DataConfig, Dataset, Source};
//!
//! let source = Source::open(Path::new("speech_commands"))?;
//! let data = Dataset::open(&source, &DataConfig::default(), &|_, _, _| ControlFlow::Continue(()))?;
//! let mut batches = Batches::train(Arc::new(data), BatchOptions::new(32, 1))?;
//! while let Some(batch) = batches.next_batch() {
//!     println!("epoch {} step {}: clips {:?}", batch.epoch, batch.step, batch.clips);
//! }
//! # Ok::<(), stapes::data::DataError>(())
//! ```

mod advice;
mod archive;
mod archive_stream;
mod arrays;
mod augment;
mod batch;
mod cache;
mod classes;
mod clip;
mod crop;
mod data_config;
mod dataset;
mod decode;
mod embedded;
mod embedded_words;
mod error;
mod extra;
mod findings;
mod folder;
mod grouping;
mod hints;
mod layout;
mod ledger;
mod lists;
mod load;
mod manifest;
mod member_tree;
mod npy;
mod npz;
mod ogg;
#[cfg(feature = "parquet")]
mod parquet_files;
#[cfg(not(feature = "parquet"))]
#[path = "no_parquet.rs"]
mod parquet_files;
mod pcm;
mod prepare;
mod quiet_panic;
mod samples;
mod signature;
mod sound_stream;
mod source;
mod split;
mod statistics;
mod store;
mod table;
mod tar_stream;
mod wav;
mod zip;

pub use crate::base::FULL_SCALE;
pub use arrays::{ArrayShape, ClipArray};
pub use augment::{Augment, AugmentWorkspace, Augmenter, NoiseSource};
pub use batch::{Batch, BatchOptions, Batches, EpochSteps};
pub use clip::{Clip, Format, read_clip};
pub use crop::Crop;
pub use data_config::DataConfig;
pub use dataset::{ClipMeta, Dataset};
pub use embedded_words::embedded;
pub use error::{ClipError, ClipFault, DataError};
pub use extra::{
    ExtraClasses, ExtraError, OTHER_WORDS, SHARES, SILENCE, SilenceClass, UNKNOWN, UnknownClass, UnknownFrom,
};
pub use findings::{Audit, ClassCount, Finding, FindingKind};
pub use grouping::Grouping;
pub use hints::{FEW_CLIPS, FEW_SPEAKERS, FEW_VALIDATION_CLIPS, Hint};
pub use ledger::{Ledger, Omission, Reason};
pub use npz::NpzWriter;
pub use parquet_files::read_parquet_clips;
pub use samples::{Sample, Samples};
pub use sound_stream::SoundStream;
pub use source::{Embedded, Progress, Source, Stage, is_sound_file};
pub use split::{Split, SplitRule, names_speaker, speaker, speaker_percentage, which_set};
pub use statistics::Standardise;
pub use store::CacheMode;
