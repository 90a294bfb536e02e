//! Plays a plan: draws requests, sends each when it is due, and sums up what became of them.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::ask::{Ask, Asks, headers};
use crate::client::{Attempt, Connections, Exchange, Progress};
use crate::plan::{LoadPlan, Mode, Stage};
use crate::report::{End, LiveStats, Outcome, Recorder, Report};
use engine::clock;

/// Longest wait between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(8);

/// A run under way.
#[derive(Debug)]
pub struct LoadRun {
    /// Counters that grow while it runs.
    pub live: Arc<LiveStats>,
    control: Arc<Control>,
    report: oneshot::Receiver<io::Result<Report>>,
}

/// What can be changed while a run goes on.
#[derive(Debug)]
struct Control {
    stop: AtomicBool,
    /// Thousandths of the plan's rate.
    rate: AtomicU64,
}

impl LoadRun {
    /// Sends nothing new; what is under way is followed to its end.
    pub fn stop(&self) {
        self.control.stop.store(true, Relaxed);
    }

    /// Multiplies the plan's rates from the next request on (open loop). At least 0.001.
    pub fn scale_rate(&self, factor: f64) {
        self.control.rate.store(((factor * 1e3) as u64).max(1), Relaxed);
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// The generator's runtime could not be made, or its thread died.
    pub async fn report(self) -> io::Result<Report> {
        self.report.await.unwrap_or_else(|_| Err(io::Error::other("the load generator's thread died")))
    }
}

/// Plays a plan on a thread and a runtime of its own, to the end.
///
/// # Errors
/// No thread or runtime can be made.
pub async fn run(plan: LoadPlan) -> io::Result<Report> {
    start(plan)?.report().await
}

/// Starts to play a plan on a thread and a runtime of its own.
///
/// # Errors
/// No thread or runtime can be made.
pub fn start(plan: LoadPlan) -> io::Result<LoadRun> {
    let live = Arc::new(LiveStats::new(plan.tiers()));
    let control = Arc::new(Control { stop: AtomicBool::new(false), rate: AtomicU64::new(1000) });
    let (done, report) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (counters, controls) = (Arc::clone(&live), Arc::clone(&control));
    std::thread::Builder::new().name("load".to_owned()).spawn(move || {
        let report = runtime.block_on(play(plan, counters, controls));
        // Nobody waits for the report: then nobody wants it.
        let _ = done.send(Ok(report));
    })?;
    Ok(LoadRun { live, control, report })
}

/// What all requests of a run share.
struct Run {
    plan: LoadPlan,
    start: Duration,
    headers: Vec<http::HeaderMap>,
    /// Tier of each caller, as an index.
    tiers: Vec<usize>,
    connections: Connections,
    live: Arc<LiveStats>,
    control: Arc<Control>,
    recorder: Mutex<Recorder>,
}

async fn play(plan: LoadPlan, live: Arc<LiveStats>, control: Arc<Control>) -> Report {
    let names = plan.tiers();
    let tier_of = |tier: &String| names.iter().position(|name| name == tier).unwrap_or(0);
    let run = Arc::new(Run {
        start: clock::now(),
        headers: headers(&plan),
        tiers: plan.callers.iter().map(|caller| tier_of(&caller.tier)).collect(),
        connections: Connections::new(plan.target, None, plan.in_flight_max),
        recorder: Mutex::new(Recorder::new(names, plan.keep_outcomes)),
        live,
        control,
        plan,
    });
    match &run.plan.mode {
        Mode::Open { stages } => open_loop(&run, stages).await,
        Mode::Closed { connections, duration } => closed_loop(&run, *connections, *duration).await,
    }
    let elapsed = clock::now() - run.start;
    let recorder = std::mem::replace(&mut *run.recorder(), Recorder::new(Vec::new(), false));
    recorder.report(elapsed)
}

/// Requests, fresh or from a stock made beforehand.
struct Source<'a> {
    asks: Asks<'a>,
    rng: SmallRng,
    stock: Vec<Ask>,
    next: usize,
}

impl<'a> Source<'a> {
    fn new(plan: &'a LoadPlan, stream: u64) -> Self {
        let asks = Asks::new(plan);
        let mut rng = SmallRng::seed_from_u64(plan.seed.wrapping_add(stream << 32));
        let stock = (0..plan.bodies).map(|_| asks.draw(&mut rng)).collect();
        Self { asks, rng, stock, next: 0 }
    }

    fn next(&mut self) -> Ask {
        self.next += 1;
        match self.stock.len() {
            0 => self.asks.draw(&mut self.rng),
            stock => {
                self.stock.get(self.next % stock).cloned().unwrap_or_else(|| self.asks.draw(&mut self.rng))
            }
        }
    }
}

async fn open_loop(run: &Arc<Run>, stages: &[Stage]) {
    let mut source = Source::new(&run.plan, 0);
    // A generator of its own, so that the arrivals do not depend on what the requests are.
    let mut arrivals = SmallRng::seed_from_u64(run.plan.seed ^ 0x6172_7269);
    let mut under_way = JoinSet::new();
    let mut number = 0;
    let mut stage_start = Duration::ZERO;
    'stages: for stage in stages {
        let stage_end = stage_start + stage.duration;
        let mut due = stage_start;
        loop {
            let factor = run.control.rate.load(Relaxed) as f64 / 1e3;
            due += stage.arrivals.gap(&mut arrivals).div_f64(factor);
            if due >= stage_end {
                break;
            }
            // Made before it is due, so that making it does not make it late.
            let ask = source.next();
            if number >= run.plan.requests_max || !run.wait_until(due).await {
                break 'stages;
            }
            while under_way.try_join_next().is_some() {}
            run.offered(&ask);
            if under_way.len() >= run.plan.in_flight_max {
                run.unsent(number, due, &ask);
            } else {
                under_way.spawn(Arc::clone(run).one(number, due, ask));
            }
            number += 1;
        }
        stage_start = stage_end;
        if !run.wait_until(stage_end).await {
            break;
        }
    }
    while under_way.join_next().await.is_some() {}
}

async fn closed_loop(run: &Arc<Run>, connections: usize, duration: Duration) {
    let numbers = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for worker in 0..connections {
        let (run, numbers) = (Arc::clone(run), Arc::clone(&numbers));
        workers.spawn(async move {
            let mut source = Source::new(&run.plan, worker as u64 + 1);
            loop {
                let due = clock::now() - run.start;
                let number = numbers.fetch_add(1, Relaxed);
                if due >= duration || number >= run.plan.requests_max || run.control.stop.load(Relaxed) {
                    return;
                }
                let ask = source.next();
                run.offered(&ask);
                Arc::clone(&run).one(number, due, ask).await;
            }
        });
    }
    while workers.join_next().await.is_some() {}
}

impl Run {
    fn recorder(&self) -> std::sync::MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until `due` after the start; `false` if told to stop meanwhile.
    async fn wait_until(&self, due: Duration) -> bool {
        // The longest nap, so that a stop is noticed soon.
        const NAP_MAX: Duration = Duration::from_millis(100);
        loop {
            if self.control.stop.load(Relaxed) {
                return false;
            }
            let left = (self.start + due).saturating_sub(clock::now());
            if left.is_zero() {
                return true;
            }
            tokio::time::sleep(left.min(NAP_MAX)).await;
        }
    }

    fn tier(&self, ask: &Ask) -> usize {
        self.tiers.get(ask.caller).copied().unwrap_or(0)
    }

    fn offered(&self, ask: &Ask) {
        if let Some(live) = self.live.tiers.get(self.tier(ask)) {
            live.offered.fetch_add(1, Relaxed);
            live.in_flight.fetch_add(1, Relaxed);
        }
    }

    /// One request with its retries, to its outcome.
    async fn one(self: Arc<Self>, number: u64, due: Duration, ask: Ask) {
        let mut attempts = 0;
        let sent = clock::now() - self.start;
        let attempt = loop {
            let attempt = self.attempt(&ask, due, attempts).await;
            attempts += 1;
            self.count_refusal(&ask, attempt.status);
            match self.retry_wait(&attempt, attempts) {
                Some(wait) if !self.control.stop.load(Relaxed) => tokio::time::sleep(wait).await,
                _ => break attempt,
            }
        };
        let outcome = self.outcome(number, due, sent, attempts, &ask, attempt);
        let tier = self.tier(&ask);
        self.live.ended(tier, &outcome);
        self.recorder().outcome(tier, outcome);
    }

    async fn attempt(&self, ask: &Ask, due: Duration, retry: u32) -> Attempt {
        let tier = self.tier(ask);
        let live = self.live.tiers.get(tier);
        let progress = |progress: Progress| match (progress, live) {
            (Progress::Gap(gap), _) => self.recorder().gap(tier, gap),
            (Progress::Tokens(tokens), Some(live)) => {
                live.tokens.fetch_add(u64::from(tokens), Relaxed);
            }
            (Progress::First, Some(live)) => {
                let ttft = (clock::now() - self.start).saturating_sub(due);
                live.ttft_us.fetch_add(ttft.as_micros() as u64, Relaxed);
                live.ttft_count.fetch_add(1, Relaxed);
            }
            (_, None) => {}
        };
        let no_headers = http::HeaderMap::new();
        let exchange = Exchange {
            connections: &self.connections,
            path: &self.plan.path,
            headers: self.headers.get(ask.caller).unwrap_or(&no_headers),
            ask,
            progress: &progress,
        };
        let sent = clock::now();
        match tokio::time::timeout(self.plan.timeout, exchange.run(retry)).await {
            Ok(attempt) => attempt,
            Err(_) => Attempt {
                status: 0,
                reason: None,
                retry_after: None,
                may_retry: false,
                end: End::Timeout,
                sent,
                first: None,
                last: None,
                ended: clock::now(),
                tokens: 0,
            },
        }
    }

    fn count_refusal(&self, ask: &Ask, status: u16) {
        let Some(live) = self.live.tiers.get(self.tier(ask)) else { return };
        match status {
            429 => live.refused_429.fetch_add(1, Relaxed),
            503 => live.refused_503.fetch_add(1, Relaxed),
            _ => 0,
        };
    }

    /// How long to wait before the next attempt; `None`: this was the last one.
    fn retry_wait(&self, attempt: &Attempt, attempts: u32) -> Option<Duration> {
        let retry = self.plan.retry;
        let again = matches!((&attempt.end, attempt.status), (End::Connect, _) | (End::Refused, 429 | 503));
        if !again || attempts > retry.attempts_max || (retry.obedient && !attempt.may_retry) {
            return None;
        }
        let told = attempt.retry_after.filter(|_| retry.obedient);
        let own = Duration::from_millis(500).saturating_mul(1 << attempts.min(10).saturating_sub(1));
        Some(told.unwrap_or(own.min(BACKOFF_MAX)))
    }

    fn outcome(
        &self,
        number: u64,
        due: Duration,
        sent: Duration,
        attempts: u32,
        ask: &Ask,
        attempt: Attempt,
    ) -> Outcome {
        let since_due = |at: Duration| at.saturating_sub(self.start).saturating_sub(due);
        let ttft = attempt.first.map(since_due);
        let further = attempt.tokens.saturating_sub(1);
        let tpot = match (attempt.first, attempt.last) {
            (Some(first), Some(last)) if further > 0 => Some((last - first) / further),
            _ => None,
        };
        let total = since_due(attempt.ended);
        let attained = attempt.end == End::Complete && self.plan.slo.attained(ask.size, ttft, tpot, total);
        Outcome {
            number,
            caller: ask.caller,
            due,
            lag: sent.saturating_sub(due),
            size: ask.size,
            streaming: ask.stream,
            attempts,
            status: attempt.status,
            reason: attempt.reason,
            retry_after: attempt.retry_after,
            end: attempt.end,
            ttft,
            tpot,
            latency: attempt.ended - attempt.sent,
            total,
            tokens: attempt.tokens,
            attained,
        }
    }

    fn unsent(&self, number: u64, due: Duration, ask: &Ask) {
        let now = clock::now();
        let attempt = Attempt {
            status: 0,
            reason: None,
            retry_after: None,
            may_retry: false,
            end: End::Unsent,
            sent: now,
            first: None,
            last: None,
            ended: now,
            tokens: 0,
        };
        let outcome = self.outcome(number, due, due, 0, ask, attempt);
        let tier = self.tier(ask);
        self.live.ended(tier, &outcome);
        self.recorder().outcome(tier, outcome);
    }
}
