//! What is held after an hour, and under the worst load: descriptors, live heap, resident memory.

pub(crate) mod memory;
pub(crate) mod t14;
