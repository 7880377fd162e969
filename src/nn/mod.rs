//! Networks: described in TOML or by a row of the study, or recommended; built into graphs, listed layer by layer, and initialised.
//!
//! A network file with every key. Only `name` and the convolutions are required; the values shown are the defaults, except where a comment
//! says otherwise:
//!
//! ```toml
//! name = "mine"                # letters, digits, - _ + . (no default)
//! classes = 16                 # if omitted: as many as the data has
//! batch_norm = false           # between each convolution and its activation
//! bias = true                  # of the convolutions
//! input = { length = 16000, channels = 1, sample_rate = 16000 }
//! head = { dropout = 0.0, dense = [], pool = "flatten", batch_norm = false, bias = true } # pool: or "average"
//!
//! # Either a rule (custom, steep, shrink, steepshrink, vgg, baseline; an omitted value is that of the rule) ..
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
//! separable = false            # true: a depthwise convolution, then one of a single tap
//! residual = false             # true: the block's input is added before its activation
//! pool = 3                     # if omitted: no pooling
//! pool_stride = 3              # if omitted: as pool
//! pool_ceil = false
//! ```
//!
//! A separable block is a depthwise convolution over `kernel` taps with the block's stride, dilation and padding, norm and activation, then a
//! convolution of one tap to `conv` channels. A residual block adds its input to the result of convolution and norm, before the activation and
//! the pool; both must have the same shape.

mod build;
mod describe;
mod error;
mod init;
mod parse;
mod recommended;
mod rule;
mod spec;
mod table;

pub use build::{Network, Objective};
pub use describe::{Accuracies, LayerRow, Printed, ReceptiveField, Summary};
pub use error::{Reason, SpecError};
pub use init::{Initialisation, initialise};
pub use parse::from_toml;
pub use recommended::{built_in, is_built_in, recommended};
pub use rule::{Family, Rule};
pub use spec::{Activation, Block, Head, HeadPool, Input, NetworkSpec, Norm, Variant};
pub use table::{Counting, STUDY_CLASSES, STUDY_SOURCE, STUDY_TASK, Study, all, count_params, find};

use std::path::Path;

/// The network that a user names: a network of the study, in its `do` variant by default, a recommended network, or a TOML file (a name that
/// contains a slash or ends in `.toml`), both as written unless a variant is given.
///
/// # Errors
/// There is no such network (the error names a file `NAME.toml`, if there is one, or else the nearest network), or the file cannot be read or describes no network.
pub fn resolve(name_or_file: &str, variant: Option<Variant>) -> Result<NetworkSpec, SpecError> {
    if name_or_file.ends_with(".toml") || name_or_file.contains(std::path::is_separator) {
        let mut spec = NetworkSpec::load(Path::new(name_or_file))?;
        variant.into_iter().for_each(|v| spec.set_variant(v));
        return Ok(spec);
    }
    built_in(name_or_file, variant).map_err(|error| {
        let file = format!("{name_or_file}.toml");
        match Path::new(&file).is_file() {
            true => Reason::UnknownNetwork { name: name_or_file.into(), nearest: Some(file) }.at("", ""),
            false => error,
        }
    })
}
