//! A model server without a GPU.
//!
//! [`model`] decides which tokens exist at which moment: a pure state machine in virtual time, with the costs of
//! [`profile`] and the oddities of [`behaviour`]. The drills drive it directly, hours in seconds. [`server`] is the same machine behind an
//! OpenAI-compatible HTTP server in real time, for `tidegate engine`, the end-to-end tests and the demo.
//!
//! What makes it useful as a witness:
//!
//! - [`text`]: every answer is a function of a seed, so a client can check each byte.
//! - [`prompt`]: prompts are counted by a rule of its own, which nobody can match by construction; or, where that is asked
//!   for, with a real [`vocabulary`].
//! - [`fault`]: it breaks in two dozen ways, chosen per request.
//! - [`truth`]: it keeps account of what it computed for whom and of when it saw whom leave.
//!
//! Load generator and drills share two modules with it: [`workload`] has the lengths of prompts and answers and the times
//! of requests, [`clock`] is the only reader of the clock in the crates of this folder.

pub mod clock;
pub mod workload;

pub mod behaviour;

pub mod profile;

pub mod model;

pub mod text;

pub mod prompt;

pub mod vocabulary;

pub mod fault;

pub mod truth;

mod wire;

mod answer;

pub mod server;

pub mod cli;
