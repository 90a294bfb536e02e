//! One round: a new gateway, all kinds mixed, and both sides' books at its end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::engine::Engine;
use super::kinds::{KINDS, Kind, Leave};
use crate::harness::proof::{Setting, Trouble};
use crate::harness::raw::{Connection, Events};
use crate::harness::tidegate::{Admin, Config, Tidegate, post};
use ::engine::clock;
use kit::hostile::Hostile;

/// Clients at once.
const CLIENTS: usize = 64;
/// Longer, and the sliding minute would have begun to forget.
const ROUND_MAX: Duration = Duration::from_secs(55);
const REST_PATIENCE: Duration = Duration::from_secs(10);
/// How long the engine may take to see that it was left.
const SEEN_WITHIN: Duration = Duration::from_millis(200);

/// Of one kind: what the engine computed, what was booked.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) requests: u64,
    /// Requests that reached the engine.
    pub(super) taken: u64,
    pub(super) prompt: u64,
    pub(super) generated: u64,
    pub(super) booked_prompt: u64,
    pub(super) booked_generated: u64,
}

impl Sums {
    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.taken += other.taken;
        self.prompt += other.prompt;
        self.generated += other.generated;
        self.booked_prompt += other.booked_prompt;
        self.booked_generated += other.booked_generated;
    }
}

/// Plays `requests` and compares the books, by kind.
pub(super) async fn play(
    setting: &Setting,
    requests: usize,
    number: u64,
) -> Result<BTreeMap<&'static str, Sums>, Trouble> {
    let engine = Arc::new(Engine::new(number)?);
    let hostile = {
        let engine = Arc::clone(&engine);
        Hostile::start(move |asked| engine.answer(asked)).await
    };
    let mut config = Config::limitless(vec![hostile.address()], KINDS.len());
    // Load is not the question here: nothing is to be shed.
    config.deployment = ", slo: { ttft_ms: 60000, tpot_ms: 1000 }, limit: 256".to_owned();
    let gateway = Tidegate::start(setting, "b3", &config).await?;
    let began = clock::now();
    crowd(gateway.address, &engine, requests, number).await;
    gateway.settle(REST_PATIENCE).await?;
    tokio::time::sleep(SEEN_WITHIN).await;
    let mut admin = Admin::open(gateway.admin).await?;
    let mut sums = BTreeMap::new();
    for (at, (kind, books)) in KINDS.iter().zip(&engine.books).enumerate() {
        let used = admin.used(&format!("a{at}")).await?;
        let of = |meter: &str| used.get(meter).copied().unwrap_or(0);
        let sum = Sums {
            requests: (requests / KINDS.len()) as u64,
            taken: books.taken.load(Relaxed),
            prompt: books.prompt.load(Relaxed),
            generated: books.generated.load(Relaxed),
            booked_prompt: of("prompt"),
            booked_generated: of("generated"),
        };
        sums.insert(kind.name, sum);
    }
    if clock::now() - began > ROUND_MAX {
        return Err(Trouble::Unexpected("a round took longer than the sliding minute holds".to_owned()));
    }
    Ok(sums)
}

async fn crowd(target: SocketAddr, engine: &Arc<Engine>, requests: usize, round: u64) {
    let taken = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (taken, engine) = (Arc::clone(&taken), Arc::clone(engine));
        clients.spawn(async move {
            loop {
                let number = taken.fetch_add(1, Relaxed);
                if number >= requests {
                    return;
                }
                // The order of the kinds changes with every block.
                let block = number / KINDS.len();
                let at = (number + block * 5 + round as usize * 3) % KINDS.len();
                visit(target, &engine, at, round * requests as u64 + number as u64).await;
            }
        });
    }
    while clients.join_next().await.is_some() {}
}

/// One request on a connection of its own. How it ends is the engine's and the gateway's to say.
async fn visit(target: SocketAddr, engine: &Engine, at: usize, seed: u64) {
    let Some(kind) = KINDS.get(at) else { return };
    let Ok(mut connection) = Connection::open(target).await else { return };
    let body = kind.body(at, seed, &engine.prompt(seed));
    let enough = Notify::new();
    let mut counter = Events::default();
    let request = post(kind.path, &format!("key-{at}"), &body);
    let exchange = connection.exchange(&request, |piece| {
        counter.feed(piece);
        if matches!(kind.leave, Leave::Events(most) if counter.count >= most) {
            enough.notify_one();
        }
    });
    tokio::select! {
        _ = exchange => (),
        () = leaves(kind, seed, &enough) => (),
    }
}

async fn leaves(kind: &Kind, seed: u64, enough: &Notify) {
    match kind.leaves_after_ms(seed) {
        Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
        None => enough.notified().await,
    }
}
