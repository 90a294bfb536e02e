//! What is told of requests and of the process: records, access log, metrics, the process's own log.

pub mod access_log;
pub mod accounting;
pub mod logging;
pub mod metrics;
pub mod record;
pub mod seldom;
pub mod shortage;
