//! The way to an engine: replicas, one exchange, and the headers that may pass.

pub mod exchange;
pub mod replica;
