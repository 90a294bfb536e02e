//! What replicas have cached, as the gateway's index of prefixes has it: of each family the tokens that a replica computed.

use std::cmp::Reverse;

use shedder::{ReplicaId, Uncached};

use super::{Play, Stage, Try};
use crate::scenario::traffic::Ask;

impl Play<'_> {
    /// What has to be computed on each deployment, by replica, as the gateway's index of prefixes has it.
    pub(super) fn uncached(&self, ask: &Ask) -> Vec<Uncached> {
        let prompt = ask.size.prompt_tokens;
        let mut all = vec![Uncached::everywhere(prompt); self.scenario.deployments.len()];
        let Some((family, shared)) = ask.prefix else { return all };
        let mut best = self.seen.get(&family).cloned().unwrap_or_default();
        best.sort_by_key(|(replica, tokens)| (Reverse(*tokens), *replica));
        let mut first = 0;
        for (uncached, deployment) in all.iter_mut().zip(&self.scenario.deployments) {
            let block = deployment.profile.block_tokens.max(1);
            let own = first..first + deployment.replicas;
            let best = best.iter().filter(|(replica, _)| own.contains(replica));
            for (slot, (replica, tokens)) in uncached.best.iter_mut().zip(best) {
                let known = (*tokens).min(shared).min(prompt.saturating_sub(1)) / block * block;
                *slot = Some((ReplicaId(replica - first), prompt - known));
            }
            first += deployment.replicas;
        }
        all
    }

    /// What of an attempt is to be computed on a replica.
    pub(super) fn uncached_on(&self, attempt: &Try, replica: u16) -> u32 {
        let (_, index) = self.deployment(replica);
        let first: u16 = self.scenario.deployments.iter().take(index).map(|one| one.replicas).sum();
        let uncached = attempt.uncached.get(index);
        uncached.map_or(attempt.ask.size.prompt_tokens, |uncached| uncached.on(ReplicaId(replica - first)))
    }

    /// The replica of an attempt has what its prompt shares.
    pub(super) fn remember_prefix(&mut self, ticket: u32) {
        let Some(attempt) = self.tries.get(ticket as usize) else { return };
        let (Some((family, tokens)), Stage::Active(on)) = (attempt.ask.prefix, attempt.stage) else { return };
        let replicas = self.seen.entry(family).or_default();
        match replicas.iter_mut().find(|(replica, _)| *replica == on) {
            Some((_, known)) => *known = tokens.max(*known),
            None => replicas.push((on, tokens)),
        }
    }
}
