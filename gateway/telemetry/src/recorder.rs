//! What is kept for the console: the figures of each deployment over time, events, refused requests in groups.
//!
//! Requests touch nothing of it: finished ones are counted on the accounting thread, first tokens and token gaps are
//! collected under a lock of the gate that is taken anyway, and once a second all deployments are sampled.

use crate::record::Record;
use history::events::{Event, Events, Kind, Subject};
use history::groups::Groups;
use history::history::{History, Steps};
use history::series::{Ended, Resolution, Sample, Totals};
use history::standing::{Change, Standing};
use history::step::{Sampled, TierTimes, Tokens};
use parking_lot::Mutex;
use process::clock;
use shedder::{PerTier, ReplicaId, Tier};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// What is kept.
#[derive(Debug, Default)]
pub struct Recorder {
    history: Mutex<History>,
    events: Mutex<Events>,
    groups: Mutex<Groups>,
    /// The deployments as they were sampled last. Bounded by the config's.
    seen: Mutex<HashMap<Arc<str>, Seen>>,
    /// Taken while sampling: what collected times are swapped with.
    spare: Mutex<Box<PerTier<TierTimes>>>,
}

/// The service level of a deployment, and where each target is from: `config`, `default` or `learned`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Promise {
    /// Time to the first token, the request's own prefill not counted.
    pub ttft: Duration,
    /// Where that is from.
    pub ttft_from: &'static str,
    /// Time per further token; `None`: none is promised, and none was learnt yet.
    pub tpot: Option<Duration>,
    /// Where that is from.
    pub tpot_from: &'static str,
}

/// A deployment, as it is looked at once a second.
pub trait Watched {
    /// What the config says of it.
    fn config(&self) -> &config::Deployment;
    /// The address of a replica; `None`: it is gone.
    fn url(&self, replica: ReplicaId) -> Option<String>;
    /// Whether a pretended loss of capacity ended since this was last asked.
    fn is_pressure_over(&self) -> bool;
    /// Swaps the times that were collected with empty ones. `false`: there are none.
    fn swap_times(&self, spare: &mut Box<PerTier<TierTimes>>) -> bool;
}

#[derive(Debug)]
struct Seen {
    promise: Promise,
    /// How long a flex request may wait.
    flex_wait: Duration,
    replicas: BTreeMap<u16, SeenReplica>,
}

#[derive(Debug)]
struct SeenReplica {
    url: String,
    standing: Standing,
    prefill_per_s: Option<f64>,
}

impl Recorder {
    /// Notes an event of now. `by`: the first digits of the digest of the token of whoever did it.
    pub fn note(&self, kind: Kind, subject: Subject, words: &str, by: Option<&str>) {
        let by = by.filter(|by| !by.is_empty());
        // Whole milliseconds, so that who asks for what came after an event does not get it again.
        let at = Duration::from_millis(u64::try_from(clock::wall().as_millis()).unwrap_or(u64::MAX));
        self.events.lock().note(at, kind, subject, words, by);
    }

    /// Events after a moment, of one deployment and of the process, or all, the oldest first, the newest `most` of them; and
    /// how many are no longer kept. Allocates.
    #[must_use]
    pub fn events(&self, since: Duration, deployment: Option<&str>, most: usize) -> (Vec<Event>, u64) {
        let events = self.events.lock();
        let concerns = |event: &&Event| match (&event.subject.deployment, deployment) {
            (Some(of), Some(wanted)) => **of == *wanted,
            _ => true,
        };
        let mut found: Vec<Event> = events.since(since).rev().filter(concerns).take(most).cloned().collect();
        found.reverse();
        (found, events.dropped())
    }

    /// The closed steps of a deployment that began after `since`, seconds since the epoch. Allocates; O(steps).
    #[must_use]
    pub fn steps(&self, deployment: &str, resolution: Resolution, since: u64) -> Steps {
        self.history.lock().steps(deployment, resolution, since)
    }

    /// Reads the groups of refused requests.
    pub fn groups<R>(&self, read: impl FnOnce(&Groups) -> R) -> R {
        read(&self.groups.lock())
    }

    /// Bytes that the figures over time hold.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.history.lock().bytes()
    }

    /// Counts a finished request. On the accounting thread.
    pub fn ended(&self, record: &Record) {
        if record.is_refused() {
            let (key, message) = (record.refusal_key(), record.message.as_deref());
            self.groups.lock().count(clock::wall(), key, &record.id, message);
        }
        let Some(tier) = record.tier.map(shedder::Tier::from) else { return };
        let is_limited = record.status == 429 && record.offered_to.is_none();
        let (name, ended) = match (&record.deployment, &record.routed_to) {
            (Some(served), _) => (served, self.outcome(record, served)),
            (None, Some(routed)) if is_limited => (routed, Ended::Limited),
            _ => return,
        };
        let short = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
        let tokens = record.used.map_or(Tokens::default(), |used| Tokens {
            prompt: short(used.prompt),
            cached: short(record.cached.unwrap_or(0)),
            generated: short(used.generated),
        });
        if ended == Ended::Otherwise && tokens == Tokens::default() {
            return;
        }
        self.history.lock().ended(name, clock::wall(), tier, ended, tokens);
    }

    /// What became of a request that had a place. Answers whose first token nobody saw are not judged.
    fn outcome(&self, record: &Record, deployment: &str) -> Ended {
        let (Some(first), Some(used), 200, false) =
            (record.first_token, record.used, record.status, record.client_gone)
        else {
            return Ended::Otherwise;
        };
        let seen = self.seen.lock();
        let Some(seen) = seen.get(deployment) else { return Ended::Otherwise };
        let replica = record.replica.and_then(|replica| seen.replicas.get(&replica));
        let own = replica.and_then(|replica| replica.prefill_per_s).filter(|rate| *rate > 0.0);
        let own = own.map_or(0.0, |rate| used.uncached_prompt as f64 / rate);
        let waited = first.saturating_sub(record.arrived).as_secs_f64() - own;
        let gaps = used.generated.saturating_sub(1).max(1) as f64;
        let gap = record.ended.saturating_sub(first).as_secs_f64() / gaps;
        let is_even = seen.promise.tpot.is_none_or(|tpot| gap <= tpot.as_secs_f64());
        let wait = if record.tier == Some(config::Tier::Flex) { seen.flex_wait } else { Duration::ZERO };
        Ended::Answered { met: waited <= (seen.promise.ttft + wait).as_secs_f64() && is_even }
    }

    /// Samples a deployment, whose shedder shows `state`. About once a second.
    pub fn sample(&self, deployment: &impl Watched, state: &shedder::Snapshot) {
        let (name, now) = (&deployment.config().name, clock::wall());
        self.look(deployment, state);
        let sample = Sample {
            sampled: Sampled {
                saturation: state.saturation as f32,
                limit: state.limit() as f32,
                active: state.replicas.iter().map(|replica| replica.active).sum(),
                replicas_up: u16::try_from(state.in_service().count()).unwrap_or(u16::MAX),
                replicas: u16::try_from(state.replicas.len()).unwrap_or(u16::MAX),
                ceilings: PerTier::from_fn(|tier| state.ceilings[tier] as f32),
            },
            queued: PerTier::from_fn(|tier| state.queue[tier].requests),
            totals: Totals {
                admitted: state.counters.admitted,
                shed: PerTier::from_fn(|tier| state.counters.shed[tier].total()),
            },
        };
        let mut spare = self.spare.lock();
        let has_times = deployment.swap_times(&mut spare);
        let mut history = self.history.lock();
        if has_times {
            history.add_times(name, now, &spare);
        }
        history.sample(name, now, &sample);
        drop(history);
        Tier::ALL.into_iter().for_each(|tier| spare[tier].clear());
    }

    /// Forgets deployments that are gone, and figures of those that had no traffic for a day. About once a second.
    pub fn tidy(&self, is_there: impl Fn(&str) -> bool) {
        self.seen.lock().retain(|name, _| is_there(name));
        self.history.lock().tidy(clock::wall());
    }

    /// What a deployment promises; as it was sampled last.
    #[must_use]
    pub fn promise(&self, deployment: &str) -> Option<Promise> {
        self.seen.lock().get(deployment).map(|seen| seen.promise)
    }

    /// Notes what changed by itself since the last look: replicas that went or came, a pressure that is over.
    fn look(&self, deployment: &impl Watched, state: &shedder::Snapshot) {
        let name = &deployment.config().name;
        if deployment.is_pressure_over() {
            let words = format!("The pressure on {name} is over; its whole capacity counts again.");
            self.note(Kind::PressureOver, Subject::deployment(name), &words, None);
        }
        let mut all = self.seen.lock();
        let mut before = all.remove(name).map(|seen| seen.replicas).unwrap_or_default();
        let mut replicas = BTreeMap::new();
        for replica in &state.replicas {
            let Some(url) = deployment.url(replica.id) else { continue };
            let same = before.remove(&replica.id.0).filter(|before| before.url == url);
            let mut standing = same.map(|before| before.standing).unwrap_or_default();
            if let Some(change) = standing.look(replica.healthy, replica.drained) {
                self.note_replica(name, &url, change);
            }
            let seen = SeenReplica { url, standing, prefill_per_s: replica.prefill_rate };
            replicas.insert(replica.id.0, seen);
        }
        let config = deployment.config();
        let flex_wait = config.flex.unwrap_or_default().wait;
        all.insert(Arc::clone(name), Seen { promise: promise(config, state), flex_wait, replicas });
    }

    fn note_replica(&self, deployment: &Arc<str>, url: &str, change: Change) {
        let (kind, words) = match change {
            Change::Down => (
                Kind::ReplicaDown,
                format!("Replica {url} of {deployment} is down; it gets no requests until it answers again."),
            ),
            Change::Up => (Kind::ReplicaUp, format!("Replica {url} of {deployment} is up again.")),
        };
        self.note(kind, Subject::replica(deployment, url), &words, None);
    }
}

fn promise(deployment: &config::Deployment, state: &shedder::Snapshot) -> Promise {
    let set = &deployment.slo;
    let from = |is_set: bool, other| if is_set { "config" } else { other };
    match deployment.for_shedder().slo {
        Some(slo) => Promise {
            ttft: slo.ttft,
            ttft_from: from(set.ttft.is_some(), "default"),
            tpot: Some(slo.tpot),
            tpot_from: from(set.tpot.is_some(), "default"),
        },
        None => Promise {
            ttft: shedder::TTFT_DEFAULT,
            ttft_from: "default",
            tpot: state.replicas.iter().filter_map(|replica| replica.gap_target).max(),
            tpot_from: "learned",
        },
    }
}
