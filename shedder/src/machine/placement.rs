//! The choice of a replica, made when a request starts and not when it arrives.
//!
//! ```text
//! score = predicted TTFT on the tokens not cached there + ½ · TTFT target · saturation
//!         − 1/20 · TTFT target where its session was before
//! ```
//!
//! The smallest score among the replicas that are open and whose backlog the request fits. The second term
//! is what keeps a system prompt that everybody shares from gathering everybody on the one replica that
//! computed it first: once that replica is fuller by what the prompt is worth, another one learns it too.
//!
//! Prompts are paced: while one is being computed, another starts there only if both together take the replica no
//! longer than one token may take, beside those that are only under way (`replica::lag`). An engine computes prompts in the
//! very steps that give running answers their next token, and a short answer has no later steps to make up for two long
//! ones. What waits here instead loses little: the engine would compute it in the same order, and here it can still be
//! moved, overtaken or refused. Long prompts, which no pace fits, go one at a time. Where no answer runs nothing is paced.
//! See `TRIED.md`: this is worth a tenth more goodput at twice the load, and five of six priority answers that were slow.
//!
//! While priority waits for prompts, some replicas are kept free of large regular ones; see `prefill_room`. Whoever is next
//! and has waited for long may do more; see `aging`.
//!
//! A long regular prompt does not start beside a priority answer that has only begun (`replica::young`).
//!
//! What failed quickly is counted as if it were still there (`replica::ghosts`), or the replica that fails fastest would
//! get everything. A replica that lacks what a request needs gets one such request when it is due to be tried, and none
//! otherwise.
//!
//! A prompt larger than its tier's backlog cap fits nowhere. For priority it goes to a replica whose own
//! backlog is under the cap. For regular, moreover, another replica must stay under half of priority's cap,
//! or, when there is no other, no priority may have come for 10 s. A deployment with nothing running takes
//! one request of any size.

use std::time::Duration;

use super::Shedder;
use super::aging::Rights;
use super::predict::LARGE;
use crate::offer::{Offer, ReplicaId};
use crate::replica::absent::Supply;
use crate::replica::health::Service;
use crate::replica::{Block, Replica, Terms};
use crate::requests::Request;
use crate::tier::Tier;

/// Paces that two prompts may take together which are to show how much of their time is computing.
const PAIR_PACES: f64 = 3.0;
/// A replica that nothing is known of computes about this many prompt tokens per second; only used to
/// compare replicas, never to predict a wait.
const RATE_GUESS: f64 = 5_000.0;
const SATURATION_WEIGHT: f64 = 0.5;
const AFFINITY_WEIGHT: f64 = 0.05;
/// The part of the TTFT target for which a long regular prompt is held at most because a priority answer has only begun.
const YOUNG_HELD_OF_TARGET: f64 = 0.5;
const PRIORITY_ABSENT: Duration = Duration::from_secs(10);

/// Where a request is to start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Placed {
    pub(super) replica: ReplicaId,
    /// Prompt tokens to compute there.
    pub(super) uncached: u32,
}

impl Shedder {
    /// Whether `replica` takes requests. When all that are enlisted are ejected, ejecting has failed as a
    /// diagnosis and all of them serve.
    pub(super) fn serves(&self, replica: &Replica, now: Duration) -> bool {
        match replica.service(now) {
            Service::In | Service::HalfOpen => true,
            Service::Out => replica.is_enlisted() && self.all_ejected(now),
        }
    }

    fn all_ejected(&self, now: Duration) -> bool {
        self.replicas.iter().all(|replica| replica.service(now) == Service::Out)
    }

    /// The best replica for `request` by the rights of `tier`, or why there is none.
    pub(super) fn place(&self, now: Duration, request: &Request, tier: Tier) -> Result<Placed, Block> {
        let terms = self.terms(now);
        let guess = self.mean_rate(now).unwrap_or(RATE_GUESS);
        let kept = self.kept_from(now, request);
        let rights = self.rights(now, request);
        let mut best: Option<(f64, Placed)> = None;
        let (mut blocked, mut restricted) = (Block::NoReplica, false);
        for replica in &self.replicas {
            if !self.serves(replica, now) {
                continue;
            }
            let supply = replica.absent.supply(now, request.offer.needs);
            if supply == Supply::Lacks || request.is_refused_by(replica.id) {
                restricted = true;
                continue;
            }
            if !self.may_use(now, replica, request) {
                continue;
            }
            if kept == Some(replica.id) {
                blocked = blocked.min(Block::Backlog);
                continue;
            }
            let uncached = request.offer.uncached.on(replica.id);
            if let Err(block) = self.fits(now, terms, replica, (tier, rights), uncached) {
                blocked = blocked.min(block);
                continue;
            }
            let score = match supply {
                // A trial is worth a request that comes back at once: else an emptier replica would put it off for ever.
                Supply::Due => f64::NEG_INFINITY,
                _ => self.score(now, terms, replica, &request.offer, uncached, guess),
            };
            if best.is_none_or(|(least, _)| score < least) {
                best = Some((score, Placed { replica: replica.id, uncached }));
            }
        }
        best.map(|(_, placed)| placed).ok_or(if restricted { Block::Restricted } else { blocked })
    }

    fn score(
        &self,
        now: Duration,
        terms: Terms,
        replica: &Replica,
        offer: &Offer,
        uncached: u32,
        guess: f64,
    ) -> f64 {
        let target = self.ttft_target().as_secs_f64();
        let rate = replica.prefill.rate(now).unwrap_or(guess);
        let queued = (replica.backlog_compared() as f64 - replica.under_way()).max(0.0);
        let ttft = replica.lag() + (queued + f64::from(uncached)) / rate;
        let here = offer.affinity == Some(replica.id);
        ttft + SATURATION_WEIGHT * target * replica.saturation_compared(now, terms)
            - if here { AFFINITY_WEIGHT * target } else { 0.0 }
    }

    /// Half-open replicas get one request, and none that must not fail; a request that failed somewhere
    /// goes elsewhere while there is an elsewhere.
    pub(super) fn may_use(&self, now: Duration, replica: &Replica, request: &Request) -> bool {
        let needs = request.offer.needs;
        let elsewhere = || {
            self.replicas.iter().any(|other| {
                other.id != replica.id
                    && other.service(now) == Service::In
                    && !request.is_refused_by(other.id)
                    && other.absent.supply(now, needs) == Supply::Has
            })
        };
        let sent_before = request.retried || request.refused.is_some();
        if replica.absent.supply(now, needs) == Supply::Due && sent_before && elsewhere() {
            return false;
        }
        if replica.service(now) == Service::HalfOpen {
            // An outlier fails quickly, and what it fails goes elsewhere at once: priority may try it, too.
            let precious =
                sent_before || (request.offer.tier == Tier::Priority && !replica.health.is_outlier());
            let paused = replica.ghosts.count() > 0;
            if replica.active > 0 || ((precious || paused) && elsewhere()) {
                return false;
            }
        }
        request.avoid != Some(replica.id) || !elsewhere()
    }

    fn fits(
        &self,
        now: Duration,
        terms: Terms,
        replica: &Replica,
        (tier, rights): (Tier, Rights),
        uncached: u32,
    ) -> Result<(), Block> {
        let idle = self.active.iter().all(|(_, &active)| active == 0);
        if idle && !replica.health.is_busy(now) {
            return Ok(());
        }
        match replica.room(now, terms, tier) {
            Err(Block::Places)
                if rights.places > 1.0 && replica.has_place_beyond(now, terms, rights.places) => {}
            other => other?,
        }
        let own = u64::from(uncached);
        let pace = replica.pace(self.tokens_per_chunk);
        let pace_s = replica.pace_s(self.tokens_per_chunk);
        let in_pace = !replica.has_answers()
            || ((replica.is_free(now)
                || pace.is_none_or(|pace| replica.queued() + own as f64 <= rights.paces * pace))
                && pace_s.is_none_or(|pace_s| !replica.bursts(now, rights.paces * pace_s)));
        if !in_pace
            && !pace.is_some_and(|pace| replica.prefill.tries_pair(now, own as f64, PAIR_PACES * pace))
        {
            return Err(Block::Backlog);
        }
        // Long waits of flex are nobody's loss.
        let due = rights.due && tier != Tier::Flex;
        if tier != Tier::Priority
            && !due
            && pace.is_some_and(|pace| own as f64 > LARGE * pace)
            && !self.keeps_prefill_room(now, replica, tier)
        {
            return Err(Block::Backlog);
        }
        let held_s = YOUNG_HELD_OF_TARGET * self.ttft_target().as_secs_f64();
        if replica.has_answers()
            && tier != Tier::Priority
            && !due
            && !replica.spares_young(now, own as f64, self.tokens_per_chunk, held_s)
        {
            return Err(Block::Backlog);
        }
        let cap = replica.backlog_cap(tier) + replica.under_way() as u64;
        let fits = if own <= cap {
            replica.backlog + own <= cap
        } else {
            replica.backlog < cap && (tier == Tier::Priority || self.leaves_room_for_priority(now, replica))
        };
        if fits { Ok(()) } else { Err(Block::Backlog) }
    }

    /// Whether enough other replicas are free of prompts for priority, when this one takes one.
    fn keeps_prefill_room(&self, now: Duration, replica: &Replica, tier: Tier) -> bool {
        let serving = || self.replicas.iter().filter(|other| other.service(now) == Service::In);
        // Where there are several, flex keeps one free in any case.
        let least = usize::from(tier == Tier::Flex && serving().count() > 1);
        let kept = self.prefill_room.kept(serving().count()).max(least);
        kept == 0 || serving().filter(|other| other.id != replica.id && other.is_free(now)).count() >= kept
    }

    fn leaves_room_for_priority(&self, now: Duration, replica: &Replica) -> bool {
        let mut others = self
            .replicas
            .iter()
            .filter(|other| other.id != replica.id && other.service(now) == Service::In)
            .peekable();
        if others.peek().is_none() {
            return self.priority_seen.is_none_or(|at| now.saturating_sub(at) >= PRIORITY_ABSENT);
        }
        others.any(|other| other.backlog < other.backlog_cap(Tier::Priority) / 2)
    }
}
