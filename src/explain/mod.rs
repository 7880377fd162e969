//! What a trained network has learned: the gradients of its outputs, maps of where in a clip it found a class, and what its filters respond to.
//!
//! Everything is computed with the network as it is used: running statistics in batch norm, no dropout.

mod ascent;
mod eigen;
mod embedding;
mod embedding_section;
mod error;
mod excitation;
mod excitation_section;
mod faithfulness;
mod faithfulness_section;
mod gradient;
mod maps;
mod page;
mod pca;
mod section;
mod subject;
mod training_section;
mod tsne;

pub use ascent::{Ascent, ExcitingSignal, before_activation, maximise};
pub use embedding::{Embedding, MOST_CLIPS};
pub use embedding_section::embedding_section;
pub use error::ExplainError;
pub use excitation::{Excitation, LayerExcitations, strongest};
pub use excitation_section::{Excited, excitation_section};
pub use faithfulness::{Curves, Faithfulness, FaithfulnessCheck, PARTS};
pub use faithfulness_section::faithfulness_section;
pub use gradient::Differentiator;
pub use maps::{Map, Mapper, Method, STEPS};
pub use page::{File, Page};
pub use pca::Pca;
pub use section::{Part, Picture, Section, Sound, Table};
pub use subject::{ExplainedClip, Subject, choose};
pub use training_section::training_section;
pub use tsne::Tsne;
