//! The demo's simulated replicas, which can be lost and come back.

use engine::server::{EngineServer, EngineServerConfig};
use std::net::SocketAddr;

/// The model's name.
pub(super) const MODEL: &str = "demo-8b";

/// All replicas, the lost ones too.
pub(super) struct Fleet {
    replicas: Vec<(SocketAddr, Option<EngineServer>)>,
}

impl Fleet {
    /// Starts so many.
    pub(super) async fn start(count: usize) -> std::io::Result<Fleet> {
        let mut fleet = Fleet { replicas: Vec::with_capacity(count) };
        for seed in 0..count {
            let server = replica(seed, EngineServerConfig::default().address).await?;
            fleet.replicas.push((server.addr, Some(server)));
        }
        Ok(fleet)
    }

    /// Their URLs.
    pub(super) fn urls(&self) -> Vec<String> {
        self.replicas.iter().map(|(address, _)| format!("http://{address}")).collect()
    }

    /// How many live.
    pub(super) fn alive(&self) -> usize {
        self.replicas.iter().filter(|(_, server)| server.is_some()).count()
    }

    /// The last living replica dies, with all that runs on it; the very last one stays.
    pub(super) async fn lose(&mut self) {
        if self.alive() < 2 {
            return;
        }
        if let Some(server) = self.replicas.iter_mut().rev().find_map(|(_, server)| server.take()) {
            // It waits for the engine's thread, a matter of milliseconds.
            let _ = tokio::task::spawn_blocking(move || server.kill()).await;
        }
    }

    /// Every lost replica is back, empty.
    pub(super) async fn recover(&mut self) {
        for (seed, (address, server)) in self.replicas.iter_mut().enumerate() {
            if server.is_none() {
                // Where its port was taken meanwhile, it stays lost.
                *server = replica(seed, *address).await.ok();
            }
        }
    }
}

async fn replica(seed: usize, address: SocketAddr) -> std::io::Result<EngineServer> {
    let config = EngineServerConfig {
        address,
        model: MODEL.to_owned(),
        seed: seed as u64,
        ..EngineServerConfig::default()
    };
    EngineServer::start(config).await
}
