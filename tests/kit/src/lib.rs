//! What the end-to-end tests stand on: a real gateway process, simulated engines, and clients of two kinds.
//!
//! Each test has a gateway of its own, with a config of its own on ports of its own, before engines that run in
//! the test's process and keep books of what they did. Ordinary clients speak through hyper; whatever no library
//! would send goes over a plain socket. Nothing is judged by absolute times but with generous bounds.
//!
//! | file | what it is |
//! |---|---|
//! | `gateway` | the process under test, from its config to its end |
//! | `config` | the config that a test changes where it differs |
//! | `client` | requests and answers by hyper |
//! | `raw` | bytes on a socket |
//! | `recorder` | an engine that keeps whole requests |
//! | `shape` | one request of each API, and how its answer is read |
//! | `tls` | TLS and HTTP/2 on both sides |
//! | `wait` | waiting with a bound |

pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod gateway;
pub(crate) mod raw;
pub(crate) mod recorder;
pub(crate) mod shape;
pub(crate) mod tls;
pub(crate) mod wait;

pub(crate) use client::ask;
pub(crate) use config::{KEY, config};
pub(crate) use gateway::Gateway;
pub(crate) use wait::eventually;

use engine::profile::{INSTANT, Profile};
use engine::server::{EngineServer, EngineServerConfig};

/// An engine that answers at once, for any model name.
pub(crate) async fn engine() -> EngineServer {
    engine_of(INSTANT).await
}

/// An engine with the costs of `profile`.
pub(crate) async fn engine_of(profile: Profile) -> EngineServer {
    let config = EngineServerConfig {
        profile,
        any_model: true,
        record_requests: true,
        ..EngineServerConfig::default()
    };
    EngineServer::start(config).await.unwrap()
}

/// A gateway with the default config before one instant engine.
pub(crate) async fn gateway_and_engine() -> (Gateway, EngineServer) {
    let engine = engine().await;
    let gateway = Gateway::start(&config([engine.url()])).await;
    (gateway, engine)
}
