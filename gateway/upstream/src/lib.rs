//! The way to an engine: deployments and their replicas, who is admitted, one exchange, what engines tell of themselves.

pub mod deployment;

pub mod admission;
pub mod operated;

pub mod deaths;
pub mod exchange;
pub mod health;
pub mod learned;
pub mod replica;
pub mod replicas;
pub mod scrape;

pub use admission::harvest;
pub use deployment::discovery;
