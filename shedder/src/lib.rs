//! Who may use this deployment now, who waits, who is turned away, and on which replica?
//!
//! One state machine per deployment, without I/O, clock, lock or randomness: the caller tells what happens
//! and when, and drains [`Shedder::poll_verdict`] after every call that changes something.

mod config;
mod decision;
mod gap;
mod health;
mod machine;
mod offer;
mod prefill;
mod queue;
mod recent;
mod replica;
mod requests;
mod retry;
mod snapshot;
mod tier;

pub use config::{Config, QueueBounds, ReplicaConfig, Slo};
pub use decision::{Decision, Permit, Reason, Rejection, Verdict};
pub use machine::Shedder;
pub use offer::{Failure, Finished, Offer, ReplicaId, RequestId, Scrape, StreamProgress, Uncached};
pub use snapshot::{AtRest, Counters, QueueSnapshot, ReplicaSnapshot, ShedCounts, Snapshot};
#[cfg(test)]
mod tests;

pub use tier::{PerTier, Tier};
