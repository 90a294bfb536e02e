//! Every request that the shedder knows, waiting or active, found by its id in O(1).
//!
//! A slab: an id is the slot and how often the slot was used before, so an id is never given twice and a
//! late call about a request that ended finds nothing. Slots are reused, so the steady state does not
//! allocate.

pub(crate) mod due;

use std::time::Duration;

use crate::offer::{Offer, ReplicaId, RequestId};
use crate::queue::{Held, OUTPUT_PRICE, Place};

/// Slots made in advance: more than one replica holds at the start.
const SLOTS_FIRST: usize = 256;

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// As offered, but in the tier in which it is served.
    pub(crate) offer: Offer,
    /// Order of offers.
    pub(crate) seq: u64,
    /// Waiting ends here.
    pub(crate) wait_until: Duration,
    /// It is the client's deadline that ends the wait.
    pub(crate) until_client: bool,
    /// Earlier waits.
    pub(crate) waited: Duration,
    pub(crate) retried: bool,
    pub(crate) withdrawn: bool,
    /// It has been counted as admitted, as waited.
    pub(crate) admitted_before: bool,
    pub(crate) waited_before: bool,
    /// Its turn among those of its account's users, from its first wait on; 0: none.
    pub(crate) turn: u64,
    /// The replica on which it failed.
    pub(crate) avoid: Option<ReplicaId>,
    /// The replica to which it never goes back.
    pub(crate) refused: Option<Refused>,
    pub(crate) stage: Stage,
}

/// A replica that answered a request with an error, before anything was computed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused {
    pub(crate) replica: ReplicaId,
    /// The body whose error nobody can explain, until it is served elsewhere.
    pub(crate) body: Option<u64>,
    /// When it was started there.
    pub(crate) since: Duration,
}

/// Where a request is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage {
    /// In the queue since then.
    Waiting(Duration),
    /// On a replica.
    Active(Active),
}

/// What an active request holds on its replica.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Active {
    pub(crate) replica: ReplicaId,
    pub(crate) since: Duration,
    /// When its bytes went out.
    pub(crate) sent: Option<Duration>,
    /// Prompt tokens to compute there.
    pub(crate) uncached: u32,
    /// The part of them that still counts as backlog.
    pub(crate) backlog: u32,
    /// Its part of the replica's own count of KV tokens.
    pub(crate) kv: u64,
    /// Prompt tokens that had been computed there, and requests that ran there, when it was started.
    pub(crate) computed_before: u64,
    pub(crate) beside_before: u32,
    /// Nothing was being computed there when it was sent.
    pub(crate) alone: bool,
    /// How long its replica had been silent by then.
    pub(crate) silent_before: Duration,
    /// Predicted time from dispatch to first token; `None` while the prefill rate is unknown.
    pub(crate) ttft: Option<Duration>,
    /// When an unseen prefill is taken to have ended.
    pub(crate) unseen_until: Duration,
    pub(crate) token: bool,
    /// Tokens generated as far as seen.
    pub(crate) generated: f64,
    /// Output tokens charged to the account's counter.
    pub(crate) charged: u64,
}

impl Request {
    /// Its place in the queue of its tier.
    pub(crate) fn place(&self) -> Place {
        Place { account: self.offer.account, turn: self.turn, arrived: self.offer.arrived, seq: self.seq }
    }

    /// The user whose turn it has, and what that costs: prompt tokens, and output as far as it is expected.
    pub(crate) fn turn_of(&self) -> Option<(u64, u64)> {
        let output = if self.offer.has_output { self.offer.expected_output } else { 0 };
        let cost = u64::from(self.offer.uncached.least()) + OUTPUT_PRICE.unsigned_abs() * u64::from(output);
        Some((self.offer.user?, cost))
    }

    /// What it holds while it waits.
    pub(crate) fn held(&self, id: RequestId) -> Held {
        Held { id, tokens: u64::from(self.offer.uncached.least()), bytes: self.offer.bytes }
    }

    /// Its first token comes with all others, at the end of the answer.
    pub(crate) fn is_unseen(&self) -> bool {
        self.offer.has_output && !self.offer.streaming
    }

    /// It never goes to `replica` again.
    pub(crate) fn is_refused_by(&self, replica: ReplicaId) -> bool {
        self.refused.is_some_and(|refused| refused.replica == replica)
    }

    pub(crate) fn active(&self) -> Option<&Active> {
        match &self.stage {
            Stage::Active(active) => Some(active),
            Stage::Waiting(_) => None,
        }
    }

    pub(crate) fn active_mut(&mut self) -> Option<&mut Active> {
        match &mut self.stage {
            Stage::Active(active) => Some(active),
            Stage::Waiting(_) => None,
        }
    }

    /// Time spent waiting until `now`, all waits summed.
    pub(crate) fn waited_at(&self, now: Duration) -> Duration {
        match self.stage {
            Stage::Waiting(since) => self.waited + now.saturating_sub(since),
            Stage::Active(_) => self.waited,
        }
    }
}

#[derive(Debug, Clone)]
struct Slot {
    used: u32,
    request: Option<Request>,
}

/// All requests.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    slots: Vec<Slot>,
    free: Vec<u32>,
    count: u64,
}

fn slot_of(id: RequestId) -> (usize, u32) {
    ((id.0 & u64::from(u32::MAX)) as usize, (id.0 >> 32) as u32)
}

impl Requests {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::with_capacity(SLOTS_FIRST), free: Vec::with_capacity(SLOTS_FIRST), count: 0 }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn insert(&mut self, request: Request) -> RequestId {
        self.count += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { used: 0, request: None });
            (self.slots.len() - 1) as u32
        });
        let mut used = 0;
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.request = Some(request);
            used = slot.used;
        }
        RequestId(u64::from(used) << 32 | u64::from(index))
    }

    pub(crate) fn get(&self, id: RequestId) -> Option<&Request> {
        let (index, used) = slot_of(id);
        self.slots.get(index).filter(|slot| slot.used == used)?.request.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: RequestId) -> Option<&mut Request> {
        let (index, used) = slot_of(id);
        self.slots.get_mut(index).filter(|slot| slot.used == used)?.request.as_mut()
    }

    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Request> {
        let (index, used) = slot_of(id);
        let slot = self.slots.get_mut(index).filter(|slot| slot.used == used)?;
        let request = slot.request.take()?;
        self.count -= 1;
        slot.used = used.wrapping_add(1);
        self.free.push(index as u32);
        Some(request)
    }

    /// Every request, in the order of slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RequestId, &Request)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let id = RequestId(u64::from(slot.used) << 32 | index as u64);
            slot.request.as_ref().map(|request| (id, request))
        })
    }
}
