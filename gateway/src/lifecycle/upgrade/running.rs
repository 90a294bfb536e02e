//! What runs in each of two processes while one finishes what it has, told four times a second: so that both together keep to
//! what the replicas bear.
//!
//! By the names of deployments and replicas, as all that is handed over. What a process hears it tells further: the new one of
//! an upgrade may be the old one of the next before the first has ended.

use super::wire::{Message, Wire};
use crate::clock;
use crate::state::gateway::Gateway;
use serde::{Deserialize, Serialize};
use shedder::learned::{Neighbour, Running, Told};
use std::collections::BTreeMap;
use std::io;

/// What is told of one deployment.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct OfDeployment {
    priority_waits: bool,
    regular_waits: bool,
    /// By the names of replicas.
    running: BTreeMap<String, Vec<Running>>,
}

/// Tells the process at the other end what runs here and beyond. O(requests).
pub(super) fn tell(wire: &mut Wire, gateway: &Gateway, toward: Neighbour) -> io::Result<()> {
    let mut all: BTreeMap<String, OfDeployment> = BTreeMap::new();
    for deployment in gateway.snapshot().deployments.iter() {
        let Told { running, priority_waits, regular_waits } =
            deployment.gate.read(|shedder| shedder.tell(clock::now(), toward));
        let replicas = deployment.replicas.all();
        let mut told = OfDeployment { priority_waits, regular_waits, ..OfDeployment::default() };
        for one in running {
            if let Some((_, replica)) = replicas.iter().find(|(id, _)| *id == one.replica) {
                told.running.entry(replica.name.clone()).or_default().push(one);
            }
        }
        all.insert(deployment.config.name.to_string(), told);
    }
    let json = serde_json::to_vec(&all)?;
    wire.send_followed_by(&Message::Running { json: json.len() as u64 }, &[&json])
}

/// Reads what belongs to a [`Message::Running`]; it takes the place of what was told before.
pub(super) fn hear(wire: &mut Wire, gateway: &Gateway, from: Neighbour, json: u64) -> io::Result<()> {
    let mut all: BTreeMap<String, OfDeployment> = serde_json::from_slice(&wire.receive_bytes(json)?)?;
    for deployment in gateway.snapshot().deployments.iter() {
        let OfDeployment { priority_waits, regular_waits, running } =
            all.remove(&*deployment.config.name).unwrap_or_default();
        let running = running.into_iter().filter_map(|(name, running)| {
            let replica = deployment.replicas.named(&name)?;
            Some(running.into_iter().map(move |one| Running { replica, ..one }))
        });
        let told = Told { running: running.flatten().collect(), priority_waits, regular_waits };
        deployment.gate.with(|shedder| shedder.hear(clock::now(), from, &told));
    }
    Ok(())
}

/// The other process has ended, or is not heard any more: what it ran holds nothing.
pub(super) fn ended(gateway: &Gateway, neighbour: Neighbour) {
    for deployment in gateway.snapshot().deployments.iter() {
        deployment.gate.with(|shedder| shedder.hear(clock::now(), neighbour, &Told::default()));
    }
}
