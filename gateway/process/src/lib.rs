//! What a process has beside its requests: time, randomness, signals, its own log, a service manager to speak to.
//!
//! The lowest crate of the gateway's own: it knows neither requests nor HTTP.

pub mod clock;
pub mod entropy;
pub mod heard;
pub mod logging;
pub mod losses;
pub mod notify;
pub mod seldom;
pub mod sink;
