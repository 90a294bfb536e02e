//! A closed loop against one proxy, and what the proxy spent in exactly the time in which the answers were counted.
//!
//! Each connection sends its next request when the last answer is whole. Connections run and answers are counted before
//! and after the window too: only the difference between its two ends is used, so no start or end is in it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;

use crate::proof::Trouble;
use crate::raw::{Connection, Events};
use engine::clock;
use kit::process;

/// What to send.
#[derive(Debug, Clone)]
pub struct Load {
    /// Whole requests, sent in turn.
    pub requests: Arc<Vec<Vec<u8>>>,
    /// Connections.
    pub connections: usize,
    /// The status that every answer must have.
    pub status: u16,
    /// What is counted.
    pub unit: Unit,
    /// Before the window.
    pub warm: Duration,
    /// The window.
    pub window: Duration,
}

/// What an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A whole answer.
    Answers,
    /// An event of a stream.
    Events,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Window {
    /// Operations in the window.
    pub operations: u64,
    /// Operations per second.
    pub per_s: f64,
    /// The proxy's processor time for one operation, microseconds.
    pub cpu_us: f64,
    /// The proxy's share of one core, 0 … 1 for one thread.
    pub core: f64,
    /// Connections that had to be opened again.
    pub reconnects: u64,
}

#[derive(Debug, Default)]
struct Tally {
    operations: AtomicU64,
    reconnects: AtomicU64,
    stop: AtomicBool,
    /// What should not have come, with how often.
    wrong: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    fn wrong(&self, what: String) {
        *self.wrong.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
    }
}

impl Load {
    /// Plays it against `target`, whose process is `pid`.
    ///
    /// # Errors
    /// An answer had another status, broke off, or there was none: then the figures would be of something else.
    pub async fn measure(&self, target: SocketAddr, pid: u32) -> Result<Window, Trouble> {
        let tally = Arc::new(Tally::default());
        let mut workers = JoinSet::new();
        for number in 0..self.connections {
            workers.spawn(self.clone().work(target, number, Arc::clone(&tally)));
        }
        tokio::time::sleep(self.warm).await;
        let before = (clock::now(), process::cpu(pid)?, tally.operations.load(Relaxed));
        tokio::time::sleep(self.window).await;
        let after = (clock::now(), process::cpu(pid)?, tally.operations.load(Relaxed));
        tally.stop.store(true, Relaxed);
        // A stream without end, or an answer that hangs, must not keep the proof.
        let _ = tokio::time::timeout(Duration::from_secs(5), async {
            while workers.join_next().await.is_some() {}
        })
        .await;
        let wrong = tally.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if !wrong.is_empty() {
            return Err(Trouble::Unexpected(format!("answers that were not wanted: {wrong:?}")));
        }
        let operations = after.2 - before.2;
        if operations == 0 {
            return Err(Trouble::Unexpected("no answer came".to_owned()));
        }
        let elapsed = (after.0 - before.0).as_secs_f64();
        let cpu = after.1.saturating_sub(before.1).as_secs_f64();
        Ok(Window {
            operations,
            per_s: operations as f64 / elapsed,
            cpu_us: cpu * 1e6 / operations as f64,
            core: cpu / elapsed,
            reconnects: tally.reconnects.load(Relaxed),
        })
    }

    async fn work(self, target: SocketAddr, number: usize, tally: Arc<Tally>) {
        let mut connection: Option<Connection> = None;
        let mut sent = number;
        while !tally.stop.load(Relaxed) {
            let mut open = match connection.take() {
                Some(open) => open,
                None => match Connection::open(target).await {
                    Ok(fresh) => fresh,
                    Err(e) => return tally.wrong(format!("connect: {e}")),
                },
            };
            let Some(request) = self.requests.get(sent % self.requests.len().max(1)) else { return };
            sent += 1;
            let mut events = Events::default();
            let counts_events = self.unit == Unit::Events;
            let answer = open
                .exchange(request, |piece| {
                    if counts_events {
                        let before = events.count;
                        events.feed(piece);
                        tally.operations.fetch_add(events.count - before, Relaxed);
                    }
                })
                .await;
            match answer {
                Ok(answer) if answer.status == self.status => {
                    tally.operations.fetch_add(u64::from(!counts_events), Relaxed);
                    if answer.keep {
                        connection = Some(open);
                    } else {
                        tally.reconnects.fetch_add(1, Relaxed);
                    }
                }
                Ok(answer) => return tally.wrong(format!("status {}", answer.status)),
                Err(e) => return tally.wrong(format!("broken off: {e}")),
            }
        }
    }
}
