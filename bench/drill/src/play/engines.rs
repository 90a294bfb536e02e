//! The gateway's calls to engines in a drill: what is sent, taken back and read.

use std::time::Duration;

use shedder::Finished;

use super::fleet::Unsent;
use super::{Play, Stage, What, Why, id_of};
use crate::run::Outcome;
use crate::scenario::traffic::Ask;
use engine::model::{EngineRequest, Usage};
use engine::text::mix;

impl Play<'_> {
    pub(super) fn submit(&mut self, now: Duration, ticket: u32, times: u32) {
        let Some(attempt) = self.tries.get(ticket as usize) else { return };
        let Stage::Active(replica) = attempt.stage else { return };
        if attempt.sent_times != times {
            return;
        }
        let size = attempt.ask.size;
        let request = EngineRequest {
            id: id_of(ticket, times),
            prompt_tokens: size.prompt_tokens,
            output_tokens: size.output_tokens,
            block_hashes: hashes(&attempt.ask, self.deployment(replica).0.profile.block_tokens),
        };
        match self.fleet.submit(now, replica, request) {
            Ok(()) => {}
            Err(Unsent::Dead) => {
                self.over_network(now, What::Failed(ticket, times, Why::Connect));
            }
            Err(Unsent::Refused) => {
                self.gate.finish(now, ticket, &Finished::default());
                self.end(now, ticket, Outcome::Broken, None);
            }
        }
    }

    pub(super) fn add_work(&mut self, ticket: u32, usage: Option<Usage>) {
        let Some(usage) = usage else { return };
        let work = usage.prefill_tokens + u64::from(usage.completion_tokens);
        if let Some(attempt) = self.tries.get_mut(ticket as usize) {
            attempt.work += work;
            if attempt.stage == Stage::Over {
                // Known only after its end: the engine heard later that nobody waits.
                self.run.add_work(ticket, work);
            }
        }
    }

    pub(super) fn abort_upstream(&mut self, now: Duration, ticket: u32) {
        let Some(attempt) = self.tries.get(ticket as usize) else { return };
        if let Stage::Active(replica) = attempt.stage {
            let usage = self.fleet.abort(now, replica, id_of(ticket, attempt.sent_times));
            self.add_work(ticket, usage);
        }
    }

    pub(super) fn scrape(&mut self, now: Duration, deployment: u16) {
        let own = self.scenario.deployments.get(usize::from(deployment)).and_then(|one| one.scrape);
        let Some(every) = self.scrape_rhythm.or(own) else { return };
        for replica in 0..self.scenario.replicas() {
            let is_its_own = self.deployment_of.get(usize::from(replica)) == Some(&deployment);
            if let Some(scrape) = self.fleet.scrape(replica).filter(|_| is_its_own && !self.frozen) {
                self.gate.observe(now, replica, &scrape);
                self.verdicts(now);
            }
        }
        self.later(now + every, What::Scrape(deployment));
    }
}

/// Hashes of the blocks that a prompt shares with its family.
fn hashes(ask: &Ask, block_tokens: u32) -> Vec<u64> {
    let Some((family, tokens)) = ask.prefix else { return Vec::new() };
    let blocks = tokens.min(ask.size.prompt_tokens) / block_tokens.max(1);
    (0..u64::from(blocks)).map(|block| mix(family.wrapping_mul(0x1_0000_01B3) ^ mix(block))).collect()
}
