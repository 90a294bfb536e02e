//! An open loop at an even rate, and how long each answer took.
//!
//! Requests are sent when they are due, by a timer of the kernel: the runtime's own wheel turns once a millisecond, which
//! is longer than anything that is measured here. Times run from when a request was due.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::proof::Trouble;
use crate::raw::Connection;
use engine::clock;

/// Requests that may be due and not sent; more, and the target is far too slow for the rate.
const DUE_MAX: usize = 10_000;

/// What to send, and how often.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Whole requests, sent in turn.
    pub requests: Arc<Vec<Vec<u8>>>,
    /// Connections; one request at a time on each.
    pub connections: usize,
    /// Which answers there may be.
    pub answers: Answers,
    /// Requests per second.
    pub rate_per_s: u32,
    /// Not recorded.
    pub warm: Duration,
    /// Recorded.
    pub window: Duration,
}

/// Which answers there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// All have this status.
    All(u16),
    /// Some are recorded, others only counted.
    Either {
        /// The status of those that are recorded.
        recorded: u16,
        /// That of the others.
        other: u16,
    },
}

impl Answers {
    /// Whether an answer is recorded; `None`: it must not be.
    fn records(self, status: u16) -> Option<bool> {
        match self {
            Answers::All(all) => (status == all).then_some(true),
            Answers::Either { recorded, .. } if status == recorded => Some(true),
            Answers::Either { other, .. } => (status == other).then_some(false),
        }
    }
}

/// From due to the last byte, microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latencies {
    /// Answers recorded.
    pub count: u64,
    /// Answers of the other kind.
    pub others: u64,
    /// Median.
    pub p50_us: f64,
    /// 99 % are below.
    pub p99_us: f64,
    /// The longest.
    pub max_us: f64,
}

#[derive(Debug)]
struct Shared {
    due: Mutex<VecDeque<Duration>>,
    came: Notify,
    stop: AtomicBool,
    times: Mutex<Histogram<u64>>,
    others: AtomicU64,
    wrong: Mutex<Option<String>>,
    record_from: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a request due each `period` for `span`. Blocks its thread: the runtime's own timer turns too slowly.
fn ticks(shared: &Shared, period: Duration, span: Duration) -> io::Result<()> {
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::empty())?;
    let start = clock::now();
    timer.set(Expiration::Interval(TimeSpec::from_duration(period)), TimerSetTimeFlags::empty())?;
    let mut number = 0_u32;
    while clock::now() < start + span {
        timer.wait()?;
        // A late wake-up finds several due.
        let passed = (clock::now() - start).as_nanos() / period.as_nanos().max(1);
        let mut due = lock(&shared.due);
        while u128::from(number) < passed {
            number += 1;
            due.push_back(start + period * number);
            shared.came.notify_one();
        }
        if due.len() > DUE_MAX {
            return Err(io::Error::other("the target is too slow for the rate"));
        }
    }
    Ok(())
}

impl Pace {
    /// Plays it against `target`.
    ///
    /// # Errors
    /// An answer had another status, broke off, or the kernel has no timer.
    pub async fn measure(&self, target: SocketAddr) -> Result<Latencies, Trouble> {
        let times = Histogram::new_with_max(60_000_000_000, 3);
        let shared = Arc::new(Shared {
            due: Mutex::default(),
            came: Notify::new(),
            stop: AtomicBool::new(false),
            times: Mutex::new(times.map_err(|e| Trouble::Unexpected(e.to_string()))?),
            others: AtomicU64::new(0),
            wrong: Mutex::default(),
            record_from: clock::now() + self.warm,
        });
        let mut workers = JoinSet::new();
        for number in 0..self.connections {
            workers.spawn(self.clone().work(target, number, Arc::clone(&shared)));
        }
        let ticking = self.tick(&shared)?;
        while !ticking.is_finished() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ticking.join().unwrap_or_else(|_| Err(io::Error::other("the timer's thread died")))?;
        shared.stop.store(true, Relaxed);
        shared.came.notify_waiters();
        let _ = tokio::time::timeout(Duration::from_secs(2), async {
            while workers.join_next().await.is_some() {}
        })
        .await;
        if let Some(wrong) = lock(&shared.wrong).take() {
            return Err(Trouble::Unexpected(wrong));
        }
        let times = lock(&shared.times);
        let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Latencies {
            count: times.len(),
            others: shared.others.load(Relaxed),
            p50_us: at(0.5),
            p99_us: at(0.99),
            max_us: times.max() as f64 / 1e3,
        })
    }

    /// Starts the thread that says when requests are due, to the end.
    fn tick(&self, shared: &Arc<Shared>) -> Result<JoinHandle<io::Result<()>>, Trouble> {
        let (shared, period) = (Arc::clone(shared), Duration::from_secs(1) / self.rate_per_s.max(1));
        let span = self.warm + self.window;
        Ok(std::thread::Builder::new().name("pace".to_owned()).spawn(move || ticks(&shared, period, span))?)
    }

    async fn work(self, target: SocketAddr, number: usize, shared: Arc<Shared>) {
        let mut connection = None;
        let mut sent = number;
        while !shared.stop.load(Relaxed) {
            let due = lock(&shared.due).pop_front();
            let Some(due) = due else {
                shared.came.notified().await;
                continue;
            };
            sent += 1;
            if let Err(wrong) = self.one(target, &mut connection, sent, due, &shared).await {
                *lock(&shared.wrong) = Some(wrong);
                return;
            }
        }
    }

    async fn one(
        &self,
        target: SocketAddr,
        connection: &mut Option<Connection>,
        number: usize,
        due: Duration,
        shared: &Shared,
    ) -> Result<(), String> {
        let mut open = match connection.take() {
            Some(open) => open,
            None => Connection::open(target).await.map_err(|e| format!("connect: {e}"))?,
        };
        let request = self.requests.get(number % self.requests.len().max(1)).map_or(&[][..], Vec::as_slice);
        let answer = open.exchange(request, |_| ()).await.map_err(|e| format!("broken off: {e}"))?;
        let recorded =
            self.answers.records(answer.status).ok_or_else(|| format!("status {}", answer.status))?;
        let counts = due >= shared.record_from;
        if counts && !recorded {
            shared.others.fetch_add(1, Relaxed);
        } else if counts {
            lock(&shared.times).saturating_record((clock::now().saturating_sub(due)).as_nanos() as u64);
        }
        if answer.keep {
            *connection = Some(open);
        }
        Ok(())
    }
}
