//! One deployment's gate: its admission behind a mutex, and the tasks that wait for its verdicts.
//!
//! [`gateway_core::admission`] decides and knows nothing of tasks. Here each waiting request has a channel, each admitted one
//! a [`Place`] whose drop gives the place back, and whatever is decided after a change is delivered before the lock
//! is let go. The lock is held for microseconds and never across an await.
//!
//! A verdict may cross with a client that leaves. Then the ticket's drop cancels by id, and what it had just been given
//! is taken back: cancelling an id that is over is a no-op.

pub mod harvest;

use gateway_core::admission::{self, Told};
use gateway_core::curve::{Curve, Seen};
use gateway_core::pace::{Gaps, Pace, Unseen};
use harvest::{Live, Others, others_on};
use history::step::TierTimes;
use parking_lot::Mutex;
use process::clock;
use shedder::{
    Decision, Failure, Finished, Offer, PerTier, Permit, Rejection, ReplicaId, RequestId, Shedder,
    StreamProgress, Tier,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The gate of one deployment.
#[derive(Debug)]
pub struct Gate {
    inner: Mutex<Inner>,
    /// Taken after `inner` or alone.
    watched: Mutex<Watched>,
}

/// What is seen of the engines and decides nothing about who gets in.
#[derive(Debug, Default)]
struct Watched {
    pace: Pace,
    /// By replica; as many as there ever were at once.
    curves: BTreeMap<ReplicaId, Curve>,
    /// Prompt tokens whose first token came since the last harvest.
    prompts: BTreeMap<ReplicaId, u64>,
    /// Times since they were last taken. `None` until the first token ever came.
    times: Option<Box<PerTier<TierTimes>>>,
}

/// How far apart the chunks of one stream came since the last harvest.
#[derive(Debug, Clone, Copy)]
pub struct StreamGaps {
    /// The tier in which it is served.
    pub tier: Tier,
    /// Their mean.
    pub mean: Duration,
    /// How many.
    pub count: u32,
}

#[derive(Debug)]
struct Inner {
    admission: admission::Admission<Arc<Live>>,
    /// Of those that wait.
    senders: HashMap<RequestId, oneshot::Sender<Outcome>>,
}

/// What a waiting request hears.
#[derive(Debug)]
pub enum Outcome {
    /// It may go.
    Admitted(Permit),
    /// It is refused.
    Shed(Rejection),
}

/// The answer to an offer.
#[derive(Debug)]
pub enum Admission {
    /// Go now.
    Admitted(Place),
    /// Wait.
    Waiting(Ticket),
    /// Refused.
    Shed(Rejection),
}

impl Gate {
    /// A gate around `shedder`.
    #[must_use]
    pub fn new(shedder: Shedder) -> Arc<Self> {
        let inner = Inner { admission: admission::Admission::around(shedder), senders: HashMap::new() };
        Arc::new(Gate { inner: Mutex::new(inner), watched: Mutex::default() })
    }

    /// Offers a request. `live` is what the harvest reads of it while it runs.
    pub fn offer(self: &Arc<Self>, offer: Offer, live: Arc<Live>) -> Admission {
        let mut inner = self.inner.lock();
        let decision = inner.admission.offer(clock::now(), offer, Arc::clone(&live));
        let admission = self.admission(&mut inner, decision, live);
        inner.deliver();
        admission
    }

    /// A place now or nothing: for a request that waits elsewhere already.
    pub fn try_admit(self: &Arc<Self>, offer: Offer, live: Arc<Live>) -> Option<Place> {
        let mut inner = self.inner.lock();
        let permit = inner.admission.try_admit(clock::now(), offer, Arc::clone(&live));
        let place = permit.map(|permit| Place { gate: Arc::clone(self), permit, live, held: true });
        inner.deliver();
        place
    }

    fn admission(self: &Arc<Self>, inner: &mut Inner, decision: Decision, live: Arc<Live>) -> Admission {
        match decision {
            Decision::Admit(permit) => {
                Admission::Admitted(Place { gate: Arc::clone(self), permit, live, held: true })
            }
            Decision::Wait(id) => {
                let (sender, receiver) = oneshot::channel();
                inner.senders.insert(id, sender);
                Admission::Waiting(Ticket { gate: Arc::clone(self), id, receiver, live, open: true })
            }
            Decision::Shed(rejection) => Admission::Shed(rejection),
        }
    }

    /// Changes the shedder and delivers what follows from it.
    pub fn with<R>(&self, change: impl FnOnce(&mut Shedder) -> R) -> R {
        let mut inner = self.inner.lock();
        let result = change(inner.admission.controller_mut());
        inner.deliver();
        result
    }

    /// Reads the shedder. Nothing may change, so nothing is delivered.
    pub fn read<R>(&self, read: impl FnOnce(&Shedder) -> R) -> R {
        read(self.inner.lock().admission.controller())
    }

    /// The admitted requests, for the harvest. Allocates once per call.
    #[must_use]
    pub fn live(&self) -> Vec<(RequestId, Arc<Live>)> {
        self.inner.lock().admission.running().map(|(id, live)| (id, Arc::clone(live))).collect()
    }

    /// What streams did since the last tick; every 250 ms.
    pub fn tick(&self, now: Duration, progress: &[StreamProgress]) {
        let mut inner = self.inner.lock();
        inner.admission.tick(now, progress);
        inner.deliver();
    }

    /// What the streams of each replica did since the last call, and how far apart the chunks of each stream were.
    pub fn harvested(&self, now: Duration, seen: &BTreeMap<ReplicaId, Seen>, streams: &[StreamGaps]) {
        let mut watched = self.watched.lock();
        let mut all = Gaps::default();
        let mut prompts = std::mem::take(&mut watched.prompts);
        for (replica, seen) in seen {
            all.add(seen.gaps, seen.gap_sum);
            let prompt_tokens = prompts.remove(replica).unwrap_or(0);
            watched.curves.entry(*replica).or_default().add(Seen { prompt_tokens, ..*seen });
        }
        watched.pace.harvested(now, all);
        if !streams.is_empty() {
            let times = watched.times.get_or_insert_default();
            streams.iter().for_each(|gaps| times[gaps.tier].gap.record(gaps.mean, gaps.count));
        }
    }

    /// Takes the times that were collected since the last call, and leaves `spare` for the next ones, which must be empty.
    /// `false`: there are none.
    pub fn swap_times(&self, spare: &mut Box<PerTier<TierTimes>>) -> bool {
        let mut watched = self.watched.lock();
        let times = watched.times.as_mut().filter(|times| times.iter().any(|(_, times)| !times.is_empty()));
        times.map(|times| std::mem::swap(times, spare)).is_some()
    }

    /// A number is another replica's from now on: what was seen under it is not of that one.
    pub fn forget(&self, replica: ReplicaId) {
        let mut watched = self.watched.lock();
        watched.curves.remove(&replica);
        watched.prompts.remove(&replica);
    }

    /// How long a replica's steps take.
    #[must_use]
    pub fn curve(&self, replica: ReplicaId) -> Curve {
        self.watched.lock().curves.get(&replica).cloned().unwrap_or_default()
    }

    /// What all streams did since the last harvest. O(admitted requests).
    fn gaps(&self) -> Gaps {
        let mut gaps = Gaps::default();
        self.inner.lock().admission.running().for_each(|(_, live)| live.add_gaps(&mut gaps));
        gaps
    }

    /// Waiting and admitted requests as the gate counts them: zero at rest.
    #[must_use]
    pub fn outstanding(&self) -> (usize, usize) {
        self.inner.lock().admission.outstanding()
    }
}

impl Inner {
    fn deliver(&mut self) {
        let now = clock::now();
        while let Some(told) = self.admission.poll(now) {
            match told {
                Told::Admitted(_, permit) => {
                    let sender = self.senders.remove(&permit.id);
                    if sender.is_none_or(|sender| sender.send(Outcome::Admitted(permit)).is_err()) {
                        // The client left between the verdict and its delivery.
                        self.admission.cancel(now, permit.id);
                    }
                }
                Told::Shed(_, id, rejection) => {
                    if let Some(sender) = self.senders.remove(&id) {
                        let _ = sender.send(Outcome::Shed(rejection));
                    }
                }
                Told::Withdrawn(live, id) => {
                    let (sender, receiver) = oneshot::channel();
                    live.withdraw(receiver);
                    self.senders.insert(id, sender);
                }
            }
        }
    }

    fn cancel(&mut self, id: RequestId) {
        self.senders.remove(&id);
        self.admission.cancel(clock::now(), id);
        self.deliver();
    }
}

/// A place in the queue. Dropping it leaves the queue.
#[derive(Debug)]
pub struct Ticket {
    gate: Arc<Gate>,
    id: RequestId,
    receiver: oneshot::Receiver<Outcome>,
    live: Arc<Live>,
    open: bool,
}

impl Ticket {
    /// The verdict. Cancel-safe: may be dropped and called again.
    ///
    /// # Errors
    /// The rejection, when the request was shed while it waited.
    pub async fn verdict(&mut self) -> Result<Place, Rejection> {
        match (&mut self.receiver).await {
            Ok(Outcome::Admitted(permit)) => {
                self.open = false;
                Ok(Place { gate: Arc::clone(&self.gate), permit, live: Arc::clone(&self.live), held: true })
            }
            Ok(Outcome::Shed(rejection)) => {
                self.open = false;
                Err(rejection)
            }
            // Every ticket gets its verdict; if one were lost, its client must not hang for it.
            Err(_) => Err(lost()),
        }
    }
}

impl Ticket {
    /// What is before it in the queue; `None` once it does not wait any more.
    #[must_use]
    pub fn line_before(&self) -> Option<shedder::Line> {
        self.gate.read(|shedder| shedder.line_before(clock::now(), self.id))
    }
}

/// The rejection of a request whose verdict was lost.
fn lost() -> Rejection {
    Rejection {
        reason: shedder::Reason::NoReplica,
        tier: shedder::Tier::Regular,
        retry_after: Some(std::time::Duration::from_secs(1)),
        predicted_wait: None,
        predicted_wait_max: std::time::Duration::ZERO,
        waited: std::time::Duration::ZERO,
        saturation: 1.0,
        ceiling: 1.0,
        queued: 0,
        absent: false,
        short: None,
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.open {
            self.gate.inner.lock().cancel(self.id);
        }
    }
}

/// A place on a replica. Dropping it gives the place back as cancelled; [`Place::finish`] as answered.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    permit: Permit,
    live: Arc<Live>,
    held: bool,
}

impl Place {
    /// Where, for whom and in which tier.
    #[must_use]
    pub fn permit(&self) -> Permit {
        self.permit
    }

    /// What the harvest reads.
    #[must_use]
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// What other requests on its replica show since `since`. O(admitted requests).
    #[must_use]
    pub fn others(&self, since: Duration) -> Others {
        others_on(&self.gate, self.permit.replica, &self.live, since)
    }

    /// The request's bytes went to the replica.
    pub fn dispatched(&self) {
        self.live.runs_on(self.permit);
        let mut inner = self.gate.inner.lock();
        inner.admission.dispatched(clock::now(), self.permit.id);
        inner.deliver();
    }

    /// The first generated content came: so long after the request arrived, and after it was sent with so many uncached tokens.
    pub fn first_token(&self, uncached: u64, arrived: Duration, sent: Duration) {
        let mut inner = self.gate.inner.lock();
        inner.admission.first_token(clock::now(), self.permit.id);
        inner.deliver();
        drop(inner);
        let mut watched = self.gate.watched.lock();
        watched.pace.first_token(uncached, sent);
        let times = watched.times.get_or_insert_default();
        times[self.permit.tier].first_token.record(arrived, 1);
        *watched.prompts.entry(self.permit.replica).or_default() += uncached;
    }

    /// The request goes to the replica now, and its answer will be seen only when it is whole.
    #[must_use]
    pub fn unseen(&self) -> Unseen {
        self.gate.watched.lock().pace.sent(clock::now())
    }

    /// Tokens that one answer of it would have by now, if a chunk had one; `None` where that cannot be known. O(admitted
    /// requests).
    #[must_use]
    pub fn tokens_unseen(&self, unseen: &Unseen, uncached: u64) -> Option<f64> {
        let gaps = self.gate.gaps();
        self.gate.watched.lock().pace.tokens(clock::now(), gaps, unseen, uncached)
    }

    /// An answer of so many chunks, had it been a stream, came as a whole.
    pub fn came_whole(&self, chunks: u64, unseen: &Unseen, uncached: u64) {
        self.gate.watched.lock().pace.whole(clock::now(), chunks, unseen, uncached);
    }

    /// The request was answered.
    pub fn finish(mut self, how: &Finished) {
        self.held = false;
        let mut inner = self.gate.inner.lock();
        inner.senders.remove(&self.permit.id);
        inner.admission.finish(clock::now(), self.permit.id, how);
        inner.deliver();
    }

    /// The replica failed before the first token. `None`: not to be tried again, and the place is given back.
    #[must_use]
    pub fn failed(mut self, why: Failure) -> Option<Admission> {
        self.held = false;
        let mut inner = self.gate.inner.lock();
        inner.senders.remove(&self.permit.id);
        let decision = inner.admission.failed(clock::now(), self.permit.id, why);
        let admission =
            decision.map(|decision| self.gate.admission(&mut inner, decision, Arc::clone(&self.live)));
        inner.deliver();
        admission
    }

    /// The shedder took the place back; the request waits again.
    #[must_use]
    pub fn withdrawn(mut self, receiver: oneshot::Receiver<Outcome>) -> Ticket {
        self.held = false;
        Ticket {
            gate: Arc::clone(&self.gate),
            id: self.permit.id,
            receiver,
            live: Arc::clone(&self.live),
            open: true,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.held {
            self.gate.inner.lock().cancel(self.permit.id);
        }
    }
}
