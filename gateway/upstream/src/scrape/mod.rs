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
//! | `told` | What do they tell as JSON: window, slots, load without metrics? |
//! | `text` | What is written on a page? |
//! | `client` | How does the question get there and the page back? |

mod client;

mod watch;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use shedder::ReplicaId;
use tokio::task::{AbortHandle, JoinSet};

use crate::deployment::{CurrentDeployments, Deployment};
use crate::replica::Replica;
use crate::replicas::Numbered;
use client::Client;
use watch::Watch;

/// How soon a new config, and new replicas, are noticed.
const RELOAD_POLL: Duration = Duration::from_secs(1);
/// Connections that the connector would keep. Each watch keeps its own.
const POOL_SIZE: usize = 1;

/// Watches all replicas of the config in force, on a thread of its own, until the process ends.
///
/// # Errors
/// When the thread or its runtime is not to be had.
pub fn start(current: CurrentDeployments) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Here, because it reads the system's certificates, and starting is the time for reading files.
    let connector = Arc::new(TransportConnector::new(Some(ConnectorOptions::new(POOL_SIZE))));
    std::thread::Builder::new().name("scrape".to_owned()).spawn(move || {
        runtime.block_on(follow(&current, &connector));
    })?;
    Ok(())
}

async fn follow(current: &CurrentDeployments, connector: &Arc<TransportConnector>) {
    let mut watches = Watches::default();
    loop {
        watches.follow(&current.get(), connector);
        tokio::time::sleep(RELOAD_POLL).await;
    }
}

/// The running watches: one for each replica that is there now.
#[derive(Default)]
struct Watches {
    running: Vec<(Arc<Deployment>, Arc<Replica>, AbortHandle)>,
    /// Dropping it ends them all.
    tasks: JoinSet<()>,
}

impl Watches {
    /// Begins to watch replicas that are new, and ends with those that are gone.
    fn follow(&mut self, deployments: &[Arc<Deployment>], connector: &Arc<TransportConnector>) {
        let mut wanted: Vec<(&Arc<Deployment>, Numbered)> = Vec::new();
        for deployment in deployments {
            wanted.extend(deployment.replicas.all().iter().map(|numbered| (deployment, numbered.clone())));
        }
        let is =
            |deployment: &Arc<Deployment>, replica: &Arc<Replica>, one: &(&Arc<Deployment>, Numbered)| {
                Arc::ptr_eq(deployment, one.0) && Arc::ptr_eq(replica, &one.1.1)
            };
        self.running.retain(|(deployment, replica, task)| {
            let stays = wanted.iter().any(|one| is(deployment, replica, one));
            if !stays {
                task.abort();
            }
            stays
        });
        while self.tasks.try_join_next().is_some() {}
        wanted
            .retain(|one| !self.running.iter().any(|(deployment, replica, _)| is(deployment, replica, one)));
        for (deployment, (id, replica)) in wanted {
            let task = self.tasks.spawn(watch_of(deployment, id, &replica, connector).run());
            self.running.push((Arc::clone(deployment), replica, task));
        }
    }
}

fn watch_of(
    deployment: &Arc<Deployment>,
    id: ReplicaId,
    replica: &Arc<Replica>,
    connector: &Arc<TransportConnector>,
) -> Watch {
    let failures = counter!(
        "tidegate_scrape_failures_total",
        "deployment" => deployment.config.name.to_string(),
        "replica" => id.0.to_string(),
    );
    let client = Client::new(Arc::clone(connector), Arc::clone(replica));
    Watch::new(Arc::clone(deployment), id, client, failures)
}
