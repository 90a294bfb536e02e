//! What comes from outside of requests: time, engine metrics, probes, and the operator.

use std::time::Duration;

use super::{Shedder, finite_or, sane, sane_ceilings};
use crate::config::{Config, ReplicaConfig};
use crate::decision::Reason;
use crate::offer::{ReplicaId, Scrape, StreamProgress};
use crate::queue::OUTPUT_PRICE;
use crate::replica::{Block, Replica};
use crate::requests::Request;
use crate::tier::{PerTier, Tier};

const FORGET_EVERY: Duration = Duration::from_secs(10);
/// Late begins after its moment, not at it.
const LATE_AGAIN: Duration = Duration::from_millis(1);

impl Shedder {
    /// To be called every 250 ms with what the streams did since the last call; afterwards nothing is due.
    /// O(requests + harvest).
    pub fn tick(&mut self, now: Duration, harvest: &[StreamProgress]) {
        self.headroom.step(now, self.hold_s.unwrap_or(0.0));
        self.wait_correction.step(now);
        self.size_share.step(now, self.config.size_share_min);
        self.prefill_room.step(now, self.pressed(now));
        let waits = |tier: Tier| !self.queues[tier].is_empty() && self.blocked[tier] == Some(Block::Backlog);
        self.drain.step(now, Tier::ALL.into_iter().any(waits));
        self.release_booked(now);
        self.replicas.iter_mut().for_each(|replica| replica.ghosts.release(now));
        self.shed_absent(now);
        self.note_late(now);
        self.replicas.iter_mut().for_each(Replica::begin_harvest);
        harvest.iter().for_each(|progress| self.harvest(now, progress));
        let answer = self.answers.held();
        let per_step = self.tokens_per_chunk;
        self.replicas.iter_mut().for_each(|replica| replica.step(now, answer, per_step));
        self.share_what_fits(now);
        self.replicas.retain(|replica| !replica.retired || replica.active > 0);
        if now.saturating_sub(self.forgot) >= FORGET_EVERY {
            self.forgot = now;
            Tier::ALL.into_iter().for_each(|tier| self.queues[tier].forget_idle());
        }
        self.pump(now);
    }

    /// Replicas of a deployment are alike until one shows otherwise: what was found to fit on one is where the others begin.
    fn share_what_fits(&mut self, now: Duration) {
        let known = self.replicas.iter().filter_map(|replica| replica.memory.ceiling.known());
        if let Some(tokens) = known.min_by(f64::total_cmp) {
            self.replicas
                .iter_mut()
                .for_each(|replica| replica.memory.ceiling.on_known_elsewhere(now, tokens));
        }
    }

    /// Prompts whose first token nobody sees stop counting as backlog when they should be computed. O(due · log n).
    pub(super) fn release_unseen(&mut self, now: Duration) {
        while let Some(id) = self.unseen.pop(now) {
            let Some(active) = self.requests.get_mut(id).and_then(Request::active_mut) else { continue };
            if active.unseen_until > now {
                let later = active.unseen_until;
                self.unseen.push(later, id, &self.requests);
                continue;
            }
            let (on, backlog) = (active.replica, std::mem::take(&mut active.backlog));
            if let Some(replica) = self.replica_mut(on).filter(|_| backlog > 0) {
                replica.release_backlog(backlog);
                replica.prefill.on_unseen(backlog);
            }
        }
    }

    /// A first token that has not come in twice its time shows as much as one that came late. O(due · log n).
    fn note_late(&mut self, now: Duration) {
        while let Some(id) = self.late.pop(now) {
            let Some(request) = self.requests.get(id).copied() else { continue };
            let Some(active) = request.active() else { continue };
            let fresh =
                self.replica(active.replica).is_some_and(|replica| active.since >= replica.queue_seen);
            if active.token || !fresh {
                continue;
            }
            match self.late_at(now, active) {
                // The replica turned out slower meanwhile, or the request was sent a second time.
                Some(at) if at >= now => self.late.push(at + LATE_AGAIN, id, &self.requests),
                Some(_) if self.is_overtaken(active) => {
                    if let Some(replica) = self.replica_mut(active.replica) {
                        replica.on_late_by_itself(now);
                    }
                }
                Some(_) => {
                    let alone = self.lone_account.is_one(now);
                    if let Some(replica) = self.replica_mut(active.replica) {
                        replica.on_late(now, request.offer.account, alone);
                    }
                }
                None => {}
            }
        }
    }

    fn harvest(&mut self, now: Duration, progress: &StreamProgress) {
        let tokens_per_chunk = self.tokens_per_chunk;
        let Some(request) = self.requests.get_mut(progress.id) else { return };
        let offer = request.offer;
        let Some(active) = request.active_mut() else { return };
        let came = f64::from(progress.chunks) * tokens_per_chunk;
        active.generated += came;
        self.answers.on_tokens(came);
        let owed = (OUTPUT_PRICE as f64 * active.generated) as u64;
        let charge = owed.saturating_sub(active.charged);
        active.charged = owed;
        let grown =
            u64::from(active.uncached) + (active.generated as u64).max(u64::from(offer.expected_output / 2));
        let grown = grown.max(active.kv);
        let more = grown - active.kv;
        active.kv = grown;
        let on = active.replica;
        if let Some(replica) = self.replica_mut(on) {
            replica.memory.grow(more);
            if progress.chunks > 0 {
                replica.on_flow(now);
            }
            replica.health.on_progress(now);
            if progress.gaps > 0 {
                let (seconds, tokens) =
                    (progress.gap_sum.as_secs_f64(), f64::from(progress.gaps) * tokens_per_chunk);
                let stretched = replica.stretched;
                replica.limit.on_gaps(now, seconds, tokens, progress.gaps, stretched);
                replica.memory.ceiling.on_gaps(now, seconds, progress.gaps, replica.usual_gap());
            }
        }
        self.queues[offer.tier].charge(offer.account, charge as i64);
    }

    /// An engine's own metrics. O(log n + replicas).
    pub fn observe(&mut self, now: Duration, replica: ReplicaId, scrape: &Scrape) {
        if let Some(replica) = self.replica_mut(replica) {
            replica.observe(now, scrape);
        }
        self.pump(now);
    }

    /// The result of an active health probe. A replica whose streams flow stays in service.
    pub fn probe(&mut self, now: Duration, replica: ReplicaId, healthy: bool) {
        if let Some(replica) = self.replica_mut(replica) {
            replica.health.on_probe(now, healthy);
        }
        self.pump(now);
    }

    /// Takes a replica out of service, or back, without touching what runs on it.
    pub fn set_drained(&mut self, now: Duration, replica: ReplicaId, drained: bool) {
        if let Some(replica) = self.replica_mut(replica) {
            replica.drained = drained;
        }
        self.pump(now);
    }

    /// Changes the ceilings. What runs above a lowered one runs on.
    pub fn set_ceilings(&mut self, now: Duration, ceilings: PerTier<f64>) {
        self.config.ceilings = sane_ceilings(ceilings);
        self.pump(now);
    }

    /// Pretends until `until` that `share` (0 … 1) of the places, the memory and the prefill rate is gone: a drill on
    /// live traffic. A share of 0 ends it. One place per replica is always left.
    pub fn set_pressure(&mut self, now: Duration, share: f64, until: Duration) {
        self.pressure = Some((finite_or(share, 0.0).clamp(0.0, 1.0), until));
        self.pump(now);
    }

    /// Takes over a new configuration and list of replicas, as a reload or a change of addresses brings them.
    ///
    /// Requests go on: what runs on a removed replica runs on, what waits keeps its deadline, and a queue that is
    /// longer than its new bounds only takes nobody new. Replicas that stay keep what they learnt, whether they are
    /// drained, and how they are; so does a pretended loss of capacity. Ceilings set meanwhile are replaced.
    pub fn reconfigure(&mut self, now: Duration, config: Config, replicas: &[ReplicaConfig]) {
        self.config = sane(config);
        for known in &mut self.replicas {
            known.reconfigure(&self.config, replicas.iter().find(|wanted| wanted.id == known.id));
        }
        for wanted in replicas {
            if self.replica(wanted.id).is_none() {
                self.replicas.push(Replica::new(now, &self.config, wanted));
            }
        }
        self.replicas.retain(|replica| !replica.retired || replica.active > 0);
        self.pump(now);
    }

    /// Replaces the list of replicas; see [`reconfigure`](Self::reconfigure).
    pub fn set_replicas(&mut self, now: Duration, replicas: &[ReplicaConfig]) {
        self.reconfigure(now, self.config.clone(), replicas);
    }

    /// Ends admission: everything waiting, and everything offered from now on, is shed as draining.
    pub fn close(&mut self, now: Duration) {
        self.closed = true;
        self.shed_all(now, Reason::Draining);
    }
}
