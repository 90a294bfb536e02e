//! The APIs that clients speak and what differs from engine to engine: requests, answers, errors. No I/O.
//!
//! Read in this order:
//!
//! - [`api`]: the metered APIs, their paths, and what their requests are made of.
//! - [`framing`], [`credential`], [`cors`]: where a request ends, whose it is, and which web page may send it.
//! - [`json`]: the scan of a body that no client can make expensive.
//! - [`request`]: a request that is understood, and what of it an engine gets to see.
//! - [`answer`]: how an engine's answer is read: content, usage, errors, end.
//! - [`engine`]: the engines: what they take, what they tell about their load and limits.
//! - [`attribution`]: whose fault it is when an answer does not come, and what follows.
//! - [`refusal`], [`explain`], [`error`]: why there was no answer, in words, and in the shape of each API.

pub mod api;

pub mod framing;

pub mod credential;

pub mod cors;

pub mod json;

pub mod request;

pub mod answer;

pub mod engine;

pub mod attribution;

pub mod refusal;

pub mod error;

pub mod headers;

mod hash;

pub use hash::stable_hash;
pub use refusal::explain;
