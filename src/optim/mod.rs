//! Optimisers: kernels over the one flat parameter arena, and schedules of the learning rate.

mod adam;
mod schedule;

pub use adam::{Adam, AdamSettings, decayed};
pub use schedule::{Schedule, ScheduleKind};
