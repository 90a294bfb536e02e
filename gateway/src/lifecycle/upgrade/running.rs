//! What runs in each of two processes while one finishes what it has, told four times a second: so that both together keep to
//! what the replicas bear.
//!
//! By the names of deployments and replicas, as all that is handed over. What a process hears it tells further: the new one of
//! an upgrade may be the old one of the next before the first has ended.

use super::wire::{Message, Wire};
use crate::clock;
use crate::state::gateway::Gateway;
use serde::{Deserialize, Serialize};
use shedder::learned::{Neighbour, Running};
use std::collections::BTreeMap;
use std::io;

/// By deployment and replica.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Told(BTreeMap<String, BTreeMap<String, Vec<Running>>>);

/// Tells the process at the other end what runs here and beyond. O(requests).
pub(super) fn tell(wire: &mut Wire, gateway: &Gateway, toward: Neighbour) -> io::Result<()> {
    let mut told = Told::default();
    for deployment in gateway.snapshot().deployments.iter() {
        let running = deployment.gate.read(|shedder| shedder.running(clock::now(), toward));
        let replicas = deployment.replicas.all();
        let of_deployment = told.0.entry(deployment.config.name.to_string()).or_default();
        for one in running {
            if let Some((_, replica)) = replicas.iter().find(|(id, _)| *id == one.replica) {
                of_deployment.entry(replica.name.clone()).or_default().push(one);
            }
        }
    }
    let json = serde_json::to_vec(&told)?;
    wire.send_followed_by(&Message::Running { json: json.len() as u64 }, &[&json])
}

/// Reads what belongs to a [`Message::Running`]; it takes the place of what was told before.
pub(super) fn hear(wire: &mut Wire, gateway: &Gateway, from: Neighbour, json: u64) -> io::Result<()> {
    let mut told: Told = serde_json::from_slice(&wire.receive_bytes(json)?)?;
    for deployment in gateway.snapshot().deployments.iter() {
        let of_deployment = told.0.remove(&*deployment.config.name).unwrap_or_default();
        let running = of_deployment.into_iter().filter_map(|(name, running)| {
            let replica = deployment.replicas.named(&name)?;
            Some(running.into_iter().map(move |one| Running { replica, ..one }))
        });
        let running: Vec<Running> = running.flatten().collect();
        deployment.gate.with(|shedder| shedder.hold(clock::now(), from, &running));
    }
    Ok(())
}

/// The other process has ended, or is not heard any more: what it ran holds nothing.
pub(super) fn ended(gateway: &Gateway, neighbour: Neighbour) {
    for deployment in gateway.snapshot().deployments.iter() {
        deployment.gate.with(|shedder| shedder.hold(clock::now(), neighbour, &[]));
    }
}
