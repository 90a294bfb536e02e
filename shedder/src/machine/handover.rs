//! Going on where another process stopped: what was learnt, and what still runs there.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Shedder;
use super::admit::seconds;
use crate::learned::{Learned, LearnedAnswers, Neighbour, Running, Told, sane};
use crate::offer::ReplicaId;
use crate::replica::Booked;
use crate::requests::{Active, Request};
use crate::tier::Tier;

/// A running request is taken to go on for this part of a usual answer at least: nobody knows which token is the last.
const REST_MIN: f64 = 0.25;
/// No request is waited for longer than this, seconds.
const REST_MAX: f64 = 600.0;
/// What waits in another process, requests that go first and prompts at their engine, is believed for so long after it was told: four
/// tellings.
const BELIEVED_FOR: Duration = Duration::from_secs(1);
/// Requests per second that any deployment starts, at most.
const STARTS_MAX: f64 = 1e6;
/// Running requests that are taken over from one process at most.
const RUNNING_MAX: usize = 100_000;

impl Shedder {
    /// What was learnt so far, and what runs. O(requests + replicas).
    #[must_use]
    pub fn export(&self, now: Duration) -> Learned {
        let (tokens, ends, held) = self.answers.sums();
        Learned {
            replicas: self.replicas.iter().map(|replica| replica.export(now)).collect(),
            tokens_per_chunk: Some(self.tokens_per_chunk),
            answers: Some(LearnedAnswers { tokens, ends, held }),
            hold_s: self.hold_s,
            starts_per_s: Some(self.start_rate(now)),
            running: self.tell(now, Neighbour::After).running,
        }
    }

    /// What a neighbour is to be told: of what is here, and of what the neighbour on the other side has told.
    /// O(requests + replicas).
    #[must_use]
    pub fn tell(&self, now: Duration, toward: Neighbour) -> Told {
        let beyond = toward.other();
        let own = self.requests.iter().filter_map(|(_, request)| self.running_here(now, request));
        let told = self.replicas.iter().flat_map(|replica| {
            replica.told(beyond).map(|booked| Running {
                replica: replica.id,
                prompt_tokens: booked.prompt,
                held_tokens: booked.kv,
                backlog_tokens: 0,
                rest_s: booked.until.saturating_sub(now).as_secs_f64().min(REST_MAX),
            })
        });
        Told {
            running: own.chain(told).take(RUNNING_MAX).collect(),
            priority_waits: self.waits_here_or(now, beyond, Tier::Priority),
            regular_waits: self.waits_here_or(now, beyond, Tier::Regular),
        }
    }

    /// Whether a request of `tier` waits here, or is taken to wait in the neighbour.
    fn waits_here_or(&self, now: Duration, neighbour: Neighbour, tier: Tier) -> bool {
        let [before, after] = &self.waits_until;
        let until = match neighbour {
            Neighbour::Before => before,
            Neighbour::After => after,
        };
        !self.queues[tier].is_empty() || now < until[tier]
    }

    /// Whether a request of a tier above `tier` waits in another process on the same replicas.
    pub(super) fn above_waits_elsewhere(&self, now: Duration, tier: Tier) -> bool {
        tier.above().any(|above| self.waits_until.iter().any(|until| now < until[above]))
    }

    fn running_here(&self, now: Duration, request: &Request) -> Option<Running> {
        let active = request.active()?;
        Some(Running {
            replica: active.replica,
            prompt_tokens: active.uncached,
            held_tokens: active.kv,
            backlog_tokens: active.backlog,
            rest_s: self.rest(now, request, active).min(REST_MAX),
        })
    }

    /// Seconds until a running request should have ended, by the usual answer and the usual gap.
    fn rest(&self, now: Duration, request: &Request, active: &Active) -> f64 {
        let gap = self.replica(active.replica).map_or(0.0, |replica| replica.usual_gap());
        let usual = if request.offer.has_output { self.answers.mean() } else { 0.0 };
        let left = (usual - active.generated).max(REST_MIN * usual) / self.tokens_per_chunk.max(1.0);
        let first = match (active.token, active.ttft) {
            (false, Some(ttft)) => (active.sent.unwrap_or(now) + ttft).saturating_sub(now).as_secs_f64(),
            _ => 0.0,
        };
        left * gap + first
    }

    /// Goes on with what another process has learnt, and counts what runs there until it should have ended. To be called
    /// before anything is offered: nothing of its own was learnt then. Replicas that are not there are left out.
    /// O(replicas + running).
    pub fn adopt(&mut self, now: Duration, learned: &Learned) {
        for told in &learned.replicas {
            if let Some(replica) = self.replica_mut(told.id) {
                replica.adopt(now, told);
            }
        }
        self.tokens_per_chunk = sane(learned.tokens_per_chunk, 1.0, 64.0).unwrap_or(self.tokens_per_chunk);
        if let Some(LearnedAnswers { tokens, ends, held }) = learned.answers {
            self.answers.adopt(tokens, ends, held);
        }
        self.hold_s = sane(learned.hold_s, 0.0, REST_MAX).or(self.hold_s);
        self.starts_before = sane(learned.starts_per_s, 0.0, STARTS_MAX).unwrap_or(0.0);
        let told = Told { running: learned.running.clone(), ..Told::default() };
        self.hear(now, Neighbour::Before, &told);
    }

    /// What a neighbour tells, in place of what it told before; nothing, once it has ended. What runs there holds a place until
    /// it should have ended, or until the neighbour tells again. Replicas that are not there are left out.
    /// O(replicas + running · log replicas).
    pub fn hear(&mut self, now: Duration, from: Neighbour, told: &Told) {
        let until = |waits| if waits { now + BELIEVED_FOR } else { Duration::ZERO };
        let [before, after] = &mut self.waits_until;
        let heard = match from {
            Neighbour::Before => before,
            Neighbour::After => after,
        };
        heard.priority = until(told.priority_waits);
        heard.regular = until(told.regular_waits);
        let mut by_replica: BTreeMap<ReplicaId, Vec<Booked>> = BTreeMap::new();
        for running in told.running.iter().take(RUNNING_MAX) {
            let rest = seconds(sane(Some(running.rest_s), 0.0, REST_MAX).unwrap_or(0.0));
            by_replica.entry(running.replica).or_default().push(Booked {
                until: now + rest,
                backlog: running.backlog_tokens,
                prompt: running.prompt_tokens,
                kv: running.held_tokens,
            });
        }
        for replica in &mut self.replicas {
            replica.hold(
                from,
                by_replica.remove(&replica.id).unwrap_or_default().into_iter(),
                now + BELIEVED_FOR,
            );
        }
        self.pump(now);
    }
}
