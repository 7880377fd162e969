//! What a trained network has learned: the gradients of its outputs, maps of where in a clip it found a class, and what its filters respond to.
//!
//! Everything is computed with the network as it is used: running statistics in batch norm, no dropout.

mod alike;
mod ascent;
mod eigen;
mod embedding;
mod embedding_section;
mod error;
mod excitation;
mod excitation_section;
mod explanation;
mod faithfulness;
mod faithfulness_section;
mod filters;
mod filters_changes;
mod filters_section;
mod gradient;
mod maps;
mod maps_section;
mod page;
mod pca;
mod section;
mod spectrum;
mod subject;
mod taps;
pub mod text;
mod training_section;
mod tsne;

pub use alike::{ALIKE, Alike};
pub use ascent::{Ascent, ExcitingSignal, before_activation, maximise};
pub use embedding::{Embedding, MOST_CLIPS};
pub use embedding_section::embedding_section;
pub use error::ExplainError;
pub use excitation::{Excitation, LayerExcitations, strongest};
pub use excitation_section::{Excited, excitation_section};
pub use explanation::{ExplainOptions, explain};
pub use faithfulness::{Curves, Faithfulness, FaithfulnessCheck, PARTS};
pub use faithfulness_section::faithfulness_section;
pub use filters::{Band, Change, Filter, FilterBank};
pub use filters_changes::{initial_weights, largest_activations};
pub use filters_section::filters_section;
pub use gradient::Differentiator;
pub use maps::{Map, Mapper, Method, STEPS};
pub use maps_section::{ClipMaps, clip_maps, layers_section, maps_section};
pub use page::{File, Page};
pub use pca::Pca;
pub use section::{Part, Picture, Section, Sound, Table};
pub use spectrum::{
    Spectrogram, SpectrogramSettings, decibels, frequencies, hz_to_mel, magnitude_response, mel_edges, mel_to_hz,
};
pub use subject::{ExplainedClip, Subject, choose};
pub use taps::{Kernel, second_kernel};
pub use training_section::training_section;
pub use tsne::Tsne;
