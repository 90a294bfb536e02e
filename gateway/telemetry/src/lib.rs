//! What is told of requests and of the process: records, access log, metrics, the process's own log.
//!
//! The request fills a [`record`]; everything else happens on a thread of its own, behind a bounded channel. What is written
//! stands in tables ([`fields`], [`metric_table`]), from which the [reference](mod@reference) is made.

pub mod access_log;

pub mod accounting;

pub mod fields;

pub mod in_force;

pub mod metric_table;

pub mod metrics;

pub mod process_metrics;

pub mod record;

pub mod recorder;

pub mod reference;

pub mod shortage;

pub mod usage_meter;

pub use process::{logging, seldom};
