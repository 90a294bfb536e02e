//! What is told of requests and of the process: records, access log, metrics, the process's own log.

pub mod access_log;
pub mod accounting;
pub mod fields;
pub mod in_force;
pub mod metric_table;
pub mod metrics;
pub mod process_metrics;
pub mod record;
pub mod reference;
pub mod shortage;

pub use process::{logging, seldom};
