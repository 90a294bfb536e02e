//! Units of values: sizes in bytes, durations.

pub(crate) mod durations;
pub(crate) mod size;
