//! Networks: written as TOML or as rows of the study, built by rules, described, and given first weights.
//!
//! A network file, with every key (only `name` and the convolutions must be there; the values shown are those of keys left
//! out, save where a comment says otherwise):
//!
//! ```toml
//! name = "mine"                # letters, digits, - _ + . (no default)
//! classes = 16                 # if left out: as many as the data has
//! batch_norm = false           # between each convolution and its activation
//! bias = true                  # of the convolutions
//! input = { length = 16000, channels = 1, sample_rate = 16000 }
//! head = { dropout = 0.0, dense = [], pool = "flatten", batch_norm = false, bias = true } # pool: or "average"
//!
//! # Either a rule (custom, steep, shrink, steepshrink, vgg, baseline; what is left out is the rule's) ..
//! blocks = { rule = "custom", start = 32, depth = 8, kernel = 5, pool = 3, pool_ceil = false, pool_after_first = true, pool_after_last = false }
//!
//! # .. or each convolution:
//! [[block]]
//! conv = 32                    # channels (no default)
//! kernel = 5                   # taps (no default)
//! stride = 1
//! dilation = 1
//! padding = "same"             # or "valid" or [before, after]
//! norm = "batch"               # or "none"; if left out: as batch_norm says
//! activation = "relu"          # or "none"
//! pool = 3                     # if left out: no pooling
//! pool_stride = 3              # if left out: as pool
//! pool_ceil = false
//! ```

mod build;
mod describe;
mod error;
mod init;
mod parse;
mod rule;
mod spec;
mod table;

pub use build::Network;
pub use describe::{Accuracies, LayerRow, Printed, Summary};
pub use error::{Reason, SpecError};
pub use init::{Initialisation, initialise};
pub use parse::from_toml;
pub use rule::{Family, Rule};
pub use spec::{Activation, Block, Head, HeadPool, Input, NetworkSpec, Norm, Variant};
pub use table::{Counting, STUDY_CLASSES, Study, all, count_params, find};

use std::path::Path;

/// The network that a user names: one of the study's, in its `do` variant unless another is asked for, or a TOML file (a
/// name with a slash or ending in `.toml`), as written unless a variant is asked for.
pub fn resolve(name_or_file: &str, variant: Option<Variant>) -> Result<NetworkSpec, SpecError> {
    if name_or_file.ends_with(".toml") || name_or_file.contains(std::path::is_separator) {
        let mut spec = NetworkSpec::load(Path::new(name_or_file))?;
        variant.into_iter().for_each(|v| spec.set_variant(v));
        return Ok(spec);
    }
    Ok(find(name_or_file)?.spec(variant.unwrap_or_default()))
}
