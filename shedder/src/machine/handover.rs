//! Going on where another process stopped: what was learnt, and what still runs there.

use std::time::Duration;

use super::Shedder;
use super::admit::seconds;
use crate::learned::{Learned, LearnedAnswers, Running, sane};
use crate::replica::{Booked, Replica};
use crate::requests::{Active, Request};

/// A running request is taken to go on for this part of a usual answer at least: nobody knows which token is the last.
const REST_MIN: f64 = 0.25;
/// No request is waited for longer than this, seconds.
const REST_MAX: f64 = 600.0;
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
            running: self.requests.iter().filter_map(|(_, request)| self.running(now, request)).collect(),
        }
    }

    fn running(&self, now: Duration, request: &Request) -> Option<Running> {
        let active = request.active()?;
        Some(Running {
            replica: active.replica,
            prompt_tokens: active.uncached,
            held_tokens: active.kv,
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
        for running in learned.running.iter().take(RUNNING_MAX) {
            let rest = seconds(sane(Some(running.rest_s), 0.0, REST_MAX).unwrap_or(0.0));
            if let Some(replica) = self.replica_mut(running.replica) {
                replica.hold_elsewhere(Booked {
                    until: now + rest,
                    backlog: 0,
                    prompt: running.prompt_tokens,
                    kv: running.held_tokens,
                });
            }
        }
        self.pump(now);
    }

    /// The other process has ended, and so has what ran there.
    pub fn release_elsewhere(&mut self, now: Duration) {
        self.replicas.iter_mut().for_each(Replica::release_elsewhere);
        self.pump(now);
    }
}
