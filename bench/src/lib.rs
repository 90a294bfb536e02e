//! What does it do under load?
//!
//! Read in this order:
//!
//! - [`engine`]: a model server without a GPU. Inside is a pure state machine of a continuously batching
//!   engine in virtual time; around it an OpenAI-compatible HTTP server that plays it in real time, breaks
//!   on request and keeps an exact account of what it computed.
//! - [`workload`]: how long prompts and answers are, and when requests come.
//! - [`load`]: a load generator that checks every answer byte for byte.
//! - [`drill`]: whole overloads in virtual time: a policy, a fleet, and what became of every request.
//! - [`report`]: what a drill has shown, as a page and as JSON.
//! - [`svg`]: pictures of what was measured.
//! - [`clock`]: the only place of this package that asks for the time.

pub mod engine;

pub mod workload;

pub mod load;

pub mod drill;

pub mod report;

pub mod svg;

pub mod clock;
