//! What a running request shows to the rest of the process: a few atomics, read four times a second.
//!
//! A stream stamps its chunks here without a lock; every 250 ms one task takes what came since, charges the
//! account's budget with it and tells the shedder how far apart the tokens are. So nothing that is shared is
//! touched per token.

use crate::admission::{Gate, Outcome, StreamGaps};
use accounts::budget::Ledger;
use gateway_core::curve::Seen;
use gateway_core::pace::Gaps;
use parking_lot::Mutex;
use process::clock;
use shedder::{Permit, ReplicaId, StreamProgress, Tier};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// How often streams are harvested. The budgets' slots and the shedder's steps are multiples of it.
pub const PERIOD: Duration = Duration::from_millis(250);

/// The shared side of one request.
#[derive(Debug)]
pub struct Live {
    ledger: Arc<Ledger>,
    /// Answers that its stream carries at once: an engine makes a token of each in a step.
    choices: u32,
    chunks: AtomicU32,
    gaps: AtomicU32,
    gap_nanos: AtomicU64,
    withdrawal: Mutex<Option<oneshot::Receiver<Outcome>>>,
    withdrawn: Notify,
    /// Whether the process cannot wait for its end.
    out_of_time: AtomicBool,
    /// Where it runs: the replica's number and one; 0, nowhere.
    replica: AtomicU32,
    /// Whether it is served as priority.
    is_priority: AtomicBool,
    /// When content last came from there, milliseconds; 0, never.
    flowed: AtomicU64,
}

impl Live {
    /// A request for so many answers, whose tokens are charged to `ledger`.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, choices: u32) -> Arc<Self> {
        Arc::new(Live {
            ledger,
            choices: choices.max(1),
            chunks: AtomicU32::new(0),
            gaps: AtomicU32::new(0),
            gap_nanos: AtomicU64::new(0),
            withdrawal: Mutex::new(None),
            withdrawn: Notify::new(),
            out_of_time: AtomicBool::new(false),
            replica: AtomicU32::new(0),
            is_priority: AtomicBool::new(false),
            flowed: AtomicU64::new(0),
        })
    }

    /// Of a request that is nobody's.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Arc<Self> {
        let budget =
            limits::Budget::new(clock::now(), limits::BudgetConfig::published(limits::START, limits::START));
        let cell = accounts::budget::BudgetCell::new("a".into(), "m".into(), budget);
        let wanted = gateway_core::entry::AnswerSize { tokens_max: None, choices: 1, usual: 256 };
        let prompt = accounts::budget::Prompt { tokens: 1, uncached: 1, tokens_per_chunk: 1.0 };
        Live::new(cell.reserve(prompt, wanted).0.expect("an empty budget has room"), 1)
    }

    /// Answers that its stream carries at once.
    #[must_use]
    pub fn choices(&self) -> u32 {
        self.choices
    }

    /// The account's ledger of this request.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Content chunks came, with `gap` in all between them and those before; `None` where that time says nothing (the
    /// first chunk, or the client held us up). The chunks of all answers of a stream come together, so that their gaps
    /// are as many times the time between two reads as answers run.
    pub fn chunks(&self, count: u32, gap: Option<Duration>) {
        self.chunks.fetch_add(count, Ordering::Relaxed);
        if let Some(gap) = gap {
            self.gaps.fetch_add(count, Ordering::Relaxed);
            self.gap_nanos.fetch_add(gap.as_nanos().min(u128::from(u64::MAX)) as u64, Ordering::Relaxed);
        }
    }

    /// The request goes to the permit's replica now, in its tier.
    pub fn runs_on(&self, permit: Permit) {
        self.flowed.store(0, Ordering::Relaxed);
        self.is_priority.store(permit.tier == Tier::Priority, Ordering::Relaxed);
        self.replica.store(u32::from(permit.replica.0) + 1, Ordering::Relaxed);
    }

    /// The tier in which it is served.
    fn tier(&self) -> Tier {
        if self.is_priority.load(Ordering::Relaxed) { Tier::Priority } else { Tier::Regular }
    }

    /// Where it runs.
    fn replica(&self) -> Option<ReplicaId> {
        let number = self.replica.load(Ordering::Relaxed).checked_sub(1)?;
        u16::try_from(number).ok().map(ReplicaId)
    }

    /// Whether it runs on `replica`, and when content last came from there.
    fn on(&self, replica: ReplicaId) -> Option<Option<Duration>> {
        let here = self.replica.load(Ordering::Relaxed) == u32::from(replica.0) + 1;
        let flowed = self.flowed.load(Ordering::Relaxed);
        here.then(|| (flowed > 0).then(|| Duration::from_millis(flowed)))
    }

    /// The shedder takes the request back; it hears the next verdict from `receiver`.
    pub fn withdraw(&self, receiver: oneshot::Receiver<Outcome>) {
        *self.withdrawal.lock() = Some(receiver);
        self.withdrawn.notify_one();
    }

    /// Resolves when the request is withdrawn. Cancel-safe.
    pub async fn withdrawal(&self) -> oneshot::Receiver<Outcome> {
        loop {
            if let Some(receiver) = self.withdrawal.lock().take() {
                return receiver;
            }
            self.withdrawn.notified().await;
        }
    }

    /// The process goes down before it can have ended: with its next token the client is told.
    pub fn run_out_of_time(&self) {
        self.out_of_time.store(true, Ordering::Relaxed);
    }

    /// Whether the client is to be told that the process goes down. One relaxed load.
    #[must_use]
    pub fn is_out_of_time(&self) -> bool {
        self.out_of_time.load(Ordering::Relaxed)
    }

    /// Adds the gaps since the last harvest to `gaps`.
    pub fn add_gaps(&self, gaps: &mut Gaps) {
        let sum = Duration::from_nanos(self.gap_nanos.load(Ordering::Relaxed));
        gaps.add(self.gaps.load(Ordering::Relaxed).into(), sum);
    }

    fn take(&self) -> (u32, u32, Duration) {
        let nanos = self.gap_nanos.swap(0, Ordering::Relaxed);
        (
            self.chunks.swap(0, Ordering::Relaxed),
            self.gaps.swap(0, Ordering::Relaxed),
            Duration::from_nanos(nanos),
        )
    }
}

impl Drop for Live {
    /// What came after the last harvest is charged too.
    fn drop(&mut self) {
        let (chunks, ..) = self.take();
        if chunks > 0 {
            self.ledger.charge_chunks(clock::now(), chunks);
        }
    }
}

/// What other requests on a replica show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// None runs there.
    None,
    /// Content of at least one came lately.
    Flow,
    /// Some run there, and nothing came of any.
    Silent,
}

/// What the requests of `gate` on `replica` other than `own` show since `since`. O(admitted requests); asked when a request
/// was silent for long.
#[must_use]
pub fn others_on(gate: &Gate, replica: ReplicaId, own: &Live, since: Duration) -> Others {
    let mut others = Others::None;
    for (_, live) in gate.live().iter().filter(|(_, live)| !std::ptr::eq(&**live, own)) {
        match live.on(replica) {
            Some(Some(flowed)) if flowed >= since => return Others::Flow,
            Some(_) => others = Others::Silent,
            None => {}
        }
    }
    others
}

/// Takes what all streams of a gate did since the last call, charges it and drives the shedder.
pub fn harvest(gate: &Gate) {
    let live = gate.live();
    let now = clock::now();
    let mut progress = Vec::with_capacity(live.len());
    let mut seen: BTreeMap<ReplicaId, Seen> = BTreeMap::new();
    let mut streams = Vec::with_capacity(live.len());
    for (id, live) in &live {
        let (chunks, gaps, gap_sum) = live.take();
        if chunks > 0 {
            live.flowed.store(now.as_millis().max(1) as u64, Ordering::Relaxed);
            live.ledger.charge_chunks(now, chunks);
            if let Some(replica) = live.replica() {
                let seen = seen.entry(replica).or_default();
                seen.streams += 1;
                seen.gaps += u64::from(gaps);
                seen.gap_sum += gap_sum;
            }
            if let Some(mean) = gap_sum.checked_div(gaps) {
                streams.push(StreamGaps { tier: live.tier(), mean, count: gaps });
            }
            progress.push(StreamProgress { id: *id, chunks, gap_sum, gaps });
        }
    }
    gate.harvested(now, &seen, &streams);
    gate.tick(now, &progress);
}
