//! Starts gateways and engines for tests and proofs, and speaks to them: nothing of the product depends on it.
//!
//! A test has a gateway of its own, with a config of its own on ports of its own, before engines that run in the
//! test's process and keep books of what they did. Ordinary clients speak through hyper; whatever no library would
//! send goes over a plain socket. Nothing is judged by absolute times but with generous bounds.
//!
//! | module | content |
//! |---|---|
//! | [`program`] | a child process: started, waited for, ended; and the starter of `tidegate serve` |
//! | [`process`] | processor time, memory and descriptors of a process |
//! | [`gateway`] | the gateway of a test, from its config to its end |
//! | [`base_config`] | the config that a test changes where it differs |
//! | [`client`] | requests and answers by hyper |
//! | [`raw`] | bytes on a socket |
//! | [`recorder`] | an engine that keeps whole requests |
//! | [`hostile`] | an engine that does what its script says, on the wire |
//! | [`front`] | clients at addresses of their own, attackers, and the proxies of the handbook |
//! | [`shape`] | one request of each API, and how its answer is read |
//! | [`tls`] | TLS and HTTP/2 on both sides |
//! | [`folder`] | temporary folders |
//! | [`wait`] | waiting with a bound |
//!
//! [`program`], [`process`] and [`front`] return errors, since a proof reports them. Everything else is for tests alone and
//! panics: there, a panic is a failed assertion.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test code: a panic is a failed assertion, and cargo shows what a failed test printed"
)]

pub mod program;

pub mod process;

pub mod gateway;

pub mod base_config;

pub mod client;

pub mod raw;

pub mod recorder;

pub mod hostile;

pub mod front;

pub mod shape;

pub mod tls;

pub mod folder;

pub mod wait;

pub use base_config::{KEY, config};
pub use client::ask;
pub use gateway::Gateway;
pub use wait::eventually;

use std::path::Path;

use engine::profile::{INSTANT, Profile};
use engine::server::{EngineServer, EngineServerConfig};

/// Starts an engine that answers at once, for any model name.
pub async fn engine() -> EngineServer {
    engine_of(INSTANT).await
}

/// Starts an engine with the costs of `profile`.
pub async fn engine_of(profile: Profile) -> EngineServer {
    let config = EngineServerConfig {
        profile,
        any_model: true,
        record_requests: true,
        ..EngineServerConfig::default()
    };
    EngineServer::start(config).await.unwrap()
}

/// Starts the gateway `program` with the default config before one instant engine.
pub async fn gateway_and_engine(program: impl AsRef<Path>) -> (Gateway, EngineServer) {
    let engine = engine().await;
    let gateway = Gateway::start(program, &config([engine.url()])).await;
    (gateway, engine)
}
