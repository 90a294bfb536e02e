//! What is handed over of a deployment besides budgets: what was learnt of its engines, what runs there, and which prompts they
//! have in their caches.
//!
//! By the names of deployments and replicas: a new config may list them in another order, and numbers are each process's own.
//! What is not in the new config is left out, and what is new there begins as any start does.

use super::wire::{Message, Wire};
use crate::clock;
use crate::state::gateway::Gateway;
use crate::upstream::deployment::Deployment;
use gateway_core::averages::Average as _;
use serde::{Deserialize, Serialize};
use shedder::ReplicaId;
use shedder::learned::Learned;
use std::collections::BTreeMap;
use std::io;

/// What one process tells of a deployment.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    /// The names of its replicas, by the number that the rest has for them.
    replicas: BTreeMap<u16, String>,
    learned: Learned,
    /// Tokens of a content chunk, and bytes of text of a token.
    tokens_per_chunk: f64,
    bytes_per_token: f64,
    /// Tokens of a usual answer, by model.
    usual: BTreeMap<String, f64>,
    /// By how much estimates of a model's prompts are off, and from how many requests; an earlier version tells none.
    #[serde(default)]
    corrections: BTreeMap<String, (u32, Vec<f64>)>,
    /// The key of the hashes of its prefix index.
    prefix_key: [u8; 16],
}

/// Tells all that was learnt.
pub(super) fn tell(wire: &mut Wire, gateway: &Gateway) -> io::Result<()> {
    let snapshot = gateway.snapshot();
    for deployment in snapshot.deployments.iter() {
        let serves = |model: &&std::sync::Arc<crate::state::Model>| {
            model.routes.iter().any(|(_, one)| std::sync::Arc::ptr_eq(&one.gate, &deployment.gate))
        };
        let models: Vec<_> = snapshot.models.values().filter(serves).collect();
        let name = |model: &crate::state::Model| model.config.name.to_string();
        let usual = models.iter().map(|model| (name(model), model.usual.get().value())).collect();
        let corrections = models.iter().filter_map(|model| Some((name(model), model.weigher.export()?)));
        let replicas = deployment.replicas.all();
        let (prefix_key, prefixes) = deployment.prefixes.export();
        let told = Told {
            replicas: replicas.iter().map(|(id, replica)| (id.0, replica.name.clone())).collect(),
            learned: deployment.gate.read(|shedder| shedder.export(clock::now())),
            tokens_per_chunk: deployment.tokens_per_chunk.get().value(),
            bytes_per_token: deployment.bytes_per_token.get().value(),
            usual,
            corrections: corrections.collect(),
            prefix_key,
        };
        let json = serde_json::to_vec(&told)?;
        let message = Message::Learned {
            deployment: deployment.config.name.to_string(),
            json: json.len() as u64,
            prefixes: prefixes.len() as u64,
        };
        wire.send_followed_by(&message, &[&json, &prefixes])?;
    }
    Ok(())
}

/// Reads what belongs to a [`Message::Learned`], and goes on with it. What cannot be read is said, and left out.
pub(super) fn hear(
    wire: &mut Wire,
    gateway: &Gateway,
    (name, json, prefixes): (&str, u64, u64),
) -> io::Result<()> {
    let (json, prefixes) = (wire.receive_bytes(json)?, wire.receive_bytes(prefixes)?);
    let snapshot = gateway.snapshot();
    let Some(deployment) = snapshot.deployments.iter().find(|one| *one.config.name == *name) else {
        return Ok(());
    };
    match serde_json::from_slice::<Told>(&json) {
        Ok(told) => {
            for (model, usual) in &told.usual {
                if let Some(model) = snapshot.models.get(model.as_str()).filter(|_| is_sane(*usual)) {
                    model.usual.learn(|_| gateway_core::averages::UsualAnswer::at(*usual));
                }
            }
            for (name, correction) in &told.corrections {
                if snapshot.models.get(name.as_str()).is_some_and(|model| !model.weigher.adopt(correction)) {
                    tracing::warn!(
                        model = name,
                        "how far estimates of prompts were off cannot be read; it is learnt anew"
                    );
                }
            }
            adopt(deployment, &told, &prefixes);
        }
        Err(e) => tracing::warn!(deployment = name, "what was learnt before the upgrade cannot be read: {e}"),
    }
    Ok(())
}

fn is_sane(average: f64) -> bool {
    average.is_finite() && average > 0.0
}

fn adopt(deployment: &Deployment, told: &Told, prefixes: &[u8]) {
    let here = |number: u16| {
        let name = told.replicas.get(&number)?;
        deployment.replicas.named(name)
    };
    let mut learned = told.learned.clone();
    learned.replicas.retain_mut(|replica| renumber(&mut replica.id, here));
    learned.running.retain_mut(|running| renumber(&mut running.replica, here));
    let running = learned.running.len();
    deployment.gate.with(|shedder| shedder.adopt(clock::now(), &learned));
    if is_sane(told.tokens_per_chunk) {
        deployment
            .tokens_per_chunk
            .learn(|_| gateway_core::averages::TokensPerChunk::at(told.tokens_per_chunk));
    }
    if is_sane(told.bytes_per_token) {
        deployment.bytes_per_token.learn(|_| gateway_core::averages::BytesPerToken::at(told.bytes_per_token));
    }
    let name = &*deployment.config.name;
    if let Err(e) = deployment.prefixes.adopt(told.prefix_key, prefixes, |number| here(number).map(|id| id.0))
    {
        tracing::warn!(deployment = name, "the prefix index of before the upgrade cannot be read: {e}");
    }
    tracing::info!(
        deployment = name,
        replicas = learned.replicas.len(),
        running,
        "goes on with what was learnt"
    );
}

/// Gives a replica its number here. `false`: it is not there any more.
fn renumber(id: &mut ReplicaId, here: impl Fn(u16) -> Option<ReplicaId>) -> bool {
    match here(id.0) {
        Some(own) => {
            *id = own;
            true
        }
        None => false,
    }
}
