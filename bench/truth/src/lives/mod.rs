//! Streams and processes that end: by the client, by the engine, by a signal, by a new config.

pub(crate) mod t4;
pub(crate) mod t5;
pub(crate) mod t6;
pub(crate) mod t7;
pub(crate) mod t8;
