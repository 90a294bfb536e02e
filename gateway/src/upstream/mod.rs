//! The way to an engine: replicas and where they are, one exchange, and what engines tell of themselves.

pub mod discovery;
pub mod exchange;
pub mod learned;
pub mod replica;
pub mod replicas;
