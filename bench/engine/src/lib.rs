//! A model server without a GPU.
//!
//! [`model`] decides which tokens exist at which moment: a pure state machine in virtual time, with the costs of
//! [`profile`]. The drills drive it directly, hours in seconds. [`server`] is the same machine behind an
//! OpenAI-compatible HTTP server in real time, for `tidegate engine`, the end-to-end tests and the demo.
//!
//! What makes it useful as a witness:
//!
//! - [`text`]: every answer is a function of a seed, so a client can check each byte.
//! - [`prompt`]: prompts are counted by a rule of its own, which nobody can match by construction; or, where that is asked
//!   for, with a real [`vocabulary`].
//! - [`fault`]: it breaks in two dozen ways, chosen per request.
//! - [`truth`]: it keeps account of what it computed for whom and of when it saw whom leave.

pub mod profile;

mod blocks;

pub mod model;

pub mod text;

pub mod prompt;

pub mod vocabulary;

pub mod fault;

pub mod truth;

pub mod server;

pub mod cli;

mod answer;
mod generate;
mod gzip;
mod inputs;
#[cfg(test)]
mod knee;
mod metrics;
mod pooling;
mod request;
mod shell;
mod stream;
mod transport;
mod wire;
