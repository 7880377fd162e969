//! Optimisers: kernels over the one flat parameter arena, the average of weights, and schedules of the learning rate.

mod adam;
mod average;
mod schedule;

pub use adam::{Adam, AdamSettings, CHUNK, decayed};
pub use average::Average;
pub use schedule::{Schedule, ScheduleKind};
