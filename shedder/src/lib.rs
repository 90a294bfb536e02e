//! Who may use this deployment now, who waits, who is turned away, and on which replica?
//!
//! An inference engine that is offered more than it can serve does not get a little slower: its queue
//! grows until every answer is late, and then it computes only what nobody waits for any more. So the load
//! is kept in front of the engine, where it can still be ordered, moved and refused for nothing.
//!
//! One [`Shedder`] per deployment, a state machine without I/O, clock, lock or randomness. The caller says
//! what happens and when ([`offer`](Shedder::offer), [`dispatched`](Shedder::dispatched),
//! [`first_token`](Shedder::first_token), [`finish`](Shedder::finish), [`cancel`](Shedder::cancel),
//! [`failed`](Shedder::failed), [`observe`](Shedder::observe), [`probe`](Shedder::probe), and
//! [`tick`](Shedder::tick) every 250 ms) and drains [`poll_verdict`](Shedder::poll_verdict) afterwards.
//!
//! # The decision
//!
//! 1. **How much fits** on a replica is a concurrency limit N, moved by the gaps between tokens (`gap`);
//!    how full it is, the larger of places and KV memory (`replica`, `memory`, `ceiling`). A tier may fill a part of that: its
//!    ceiling. Prompts are paced besides, so that computing them does not hold up running answers.
//! 2. **Closed means wait**, not shed. What waits is ordered strictly by tier, fairly between accounts, by
//!    arrival within one (`queue`).
//! 3. **Shed at arrival**, before anything is spent: when the predicted wait is too long (`predict`), the
//!    client's own deadline cannot be met, the queue is full of what matters as much, or nothing serves.
//!    A wait that ends without a place is refused too. Nothing is cut once it has a token.
//! 4. **Where** is decided when a request starts, not when it arrives (`placement`).
//! 5. **Who failed**, the replica or the request, shows only on another replica (`failures`): an error of unknown cause is
//!    evidence when the same body is served elsewhere, and what a replica lacks is held against it for that need alone.
//!
//! The request's own prefill is never counted as waiting: a long prompt is served, late but served.
//!
//! # Guarantees
//!
//! - The places in use are the permits given and not yet returned; no tier starts above its ceiling, but for a part of a
//!   slot that is rounded up where an engine tells few slots and they come back soon.
//! - No request of a lower tier starts while one of a higher tier waits (unless a floor is configured).
//! - A ticket gets exactly one verdict (a [`Verdict::Withdraw`] before it is not its end), and after
//!   `tick(now)` no wait is left that ended at or before `now`.
//! - When every request has ended, all sums of [`AtRest`] are zero, the ghosts of quick failures within ten seconds.
//! - The same calls give the same answers.
//! - `offer` is O(log n + replicas) and does not allocate on the way to [`Decision::Admit`] of a known
//!   account.
//!
//! All but the last are checked against a reference model under random operations.

mod config;
mod decision;
pub mod learned;
mod machine;
mod offer;
mod queue;
mod recent;
mod replica;
mod requests;
mod retry;
mod snapshot;
mod tier;
mod turns;

pub use config::{Config, QueueBounds, ReplicaConfig, Slo};
pub use decision::{Binding, Decision, Permit, Reason, Rejection, Short, Verdict};
pub use machine::{LINE_MAX, Line, Shedder, TTFT_DEFAULT};
pub use offer::{Failure, Finished, Offer, ReplicaId, RequestId, Scrape, StreamProgress, Uncached};
pub use snapshot::{
    AtRest, Counters, LengthCounts, Lengths, QueueSnapshot, ReplicaSnapshot, ShedCounts, Snapshot,
};
#[cfg(test)]
mod tests;

pub use tier::{PerTier, Tier};
