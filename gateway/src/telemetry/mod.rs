//! What is told of requests and of the process: records, access log, metrics, the process's own log.

pub mod access_log;
pub mod accounting;
pub mod metrics;
pub mod record;
pub mod recorder;
pub mod shortage;

pub use process::{logging, seldom};
