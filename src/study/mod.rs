//! Studies: many runs that one description lists, executed as a queue and gathered into tables.
//!
//! A [`StudySpec`] expands to [`PlannedRun`]s: every network in every variant, with every seed and every combination of the grid. The folder of
//! each run says how far it is ([`PlannedRun::state`]), so that an interrupted study goes on where it stopped, on any machine that sees the folder. [`StudyReport`]
//! reads the folders.

mod error;
mod page;
mod pictures;
mod planned;
mod report;
mod spec;

pub use error::StudyError;
pub use pictures::{Picture, pictures};
pub use planned::{PlannedRun, RunState};
pub use report::{Correlation, Obtained, Row, StudyReport};
pub use spec::{Seeds, StudySpec};
