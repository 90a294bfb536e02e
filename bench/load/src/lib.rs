//! A load generator that offers what users offer and believes nothing that it did not check.
//!
//! - Open loop by default: requests come when they are due, whatever became of the ones before. A closed loop slows
//!   down with its target and so hides overload.
//! - Every answer is compared, byte for byte, with what the simulated engine must have said.
//! - Times count from when a request was due. How late requests were sent is reported, and when that, and not the
//!   target, limited the run, the report says so.
//!
//! [`script`] plays requests that were written down beforehand.
//!
//! [`plan`] says what to offer, [`start`] offers it on a thread of its own, [`report`] has what became of it.

pub mod plan;

mod ask;

mod client;

pub mod check;

mod run;

pub mod report;

pub mod script;

pub mod tls;

pub use plan::{Caller, LoadPlan, Mode, Prefix, Retry, Slo, Stage};
pub use report::{End, LiveStats, LiveTier, Outcome, Quantiles, Report, Second, Summary};
pub use run::{LoadRun, run, start};

#[cfg(test)]
mod tests;
