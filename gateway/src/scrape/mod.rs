//! Engines' own metrics and health, read beside the request path and told to the shedder.
//!
//! The gateway's own traffic comes first: it is known at once, of any engine. What an engine tells about itself
//! corrects it: memory that others use too, slots, preemptions. So nothing waits for a page here, nothing halts
//! when none comes, and a burst between two pages is bounded by what was sent.
//!
//! All of it runs on one thread with a runtime of its own: parsing sixty kilobytes per replica and second cannot
//! delay a request. A gate is locked for the microseconds of telling it.
//!
//! | part | answers |
//! |---|---|
//! | `watch` | When is which replica asked, and what follows? |
//! | `engines` | What does each engine call its load? |
//! | `text` | What is written on a page? |
//! | `client` | How does the question get there and the page back? |

mod client;
mod engines;
mod text;
mod watch;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use shedder::ReplicaId;
use tokio::task::JoinSet;

use crate::gateway::Gateway;
use crate::state::{Deployment, Snapshot};
use client::Client;
use watch::Watch;

/// How soon a new config is noticed.
const RELOAD_POLL: Duration = Duration::from_secs(1);
/// Connections that the connector would keep. Each watch keeps its own.
const POOL_SIZE: usize = 1;

/// Watches all replicas of the config in force, on a thread of its own, until the process ends.
///
/// # Errors
/// When the thread or its runtime is not to be had.
pub fn start(gateway: Arc<Gateway>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Here, because it reads the system's certificates, and starting is the time for reading files.
    let connector = Arc::new(TransportConnector::new(Some(ConnectorOptions::new(POOL_SIZE))));
    std::thread::Builder::new().name("scrape".to_owned()).spawn(move || {
        runtime.block_on(follow(&gateway, &connector));
    })?;
    Ok(())
}

async fn follow(gateway: &Gateway, connector: &Arc<TransportConnector>) {
    loop {
        let snapshot = gateway.snapshot();
        // Dropping the set ends its tasks.
        let _watches = watch_all(&snapshot, connector);
        while Arc::ptr_eq(&snapshot, &gateway.snapshot()) {
            tokio::time::sleep(RELOAD_POLL).await;
        }
    }
}

fn watch_all(snapshot: &Snapshot, connector: &Arc<TransportConnector>) -> JoinSet<()> {
    let mut watches = JoinSet::new();
    for deployment in &snapshot.deployments {
        for watch in watches_of(deployment, connector) {
            watches.spawn(watch.run());
        }
    }
    watches
}

fn watches_of(
    deployment: &Arc<Deployment>,
    connector: &Arc<TransportConnector>,
) -> impl Iterator<Item = Watch> {
    (0u16..).zip(&deployment.replicas).map(|(id, replica)| {
        let failures = counter!(
            "tidegate_scrape_failures_total",
            "deployment" => deployment.config.name.to_string(),
            "replica" => id.to_string(),
        );
        let client = Client::new(Arc::clone(connector), Arc::clone(replica));
        Watch::new(Arc::clone(deployment), ReplicaId(id), client, failures)
    })
}
