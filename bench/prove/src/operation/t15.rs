//! T15: operators' probes are answered, whatever is asked on their listener.
//!
//! A kubelet that gets no answer to `/livez` restarts a gateway that serves. So while hundreds of connections to the admin
//! listener send half a head, half a body, nothing at all, or read nothing of what they have asked for, each replaced as
//! soon as it is closed, and others ask for all metrics without a pause, ten probes a second are sent from a thread of
//! their own, each on a new connection. Every one must be answered, and 99 of 100 within a second. A machine that stands
//! still for a second is not the gateway's fault: two of three rounds count.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::contest::instant_engine;
use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use crate::harness::tidegate::{Config, Tidegate};
use engine::clock;

pub(crate) const PROOF: Proof = Proof {
    id: "T15",
    what: "admin listener under half requests, readers that do not read, floods: probes unanswered; p99; rounds that hold",
    goal: "0; ≤1 s; 2 of 3",
    quick_s: 11,
    full_s: 300,
    needs: "",
    run,
};

/// Between two probes.
const EVERY: Duration = Duration::from_millis(100);
/// A probe that takes longer was not answered.
const PATIENCE: Duration = Duration::from_secs(5);
const P99_MAX: Duration = Duration::from_secs(1);
/// Before a connection that was closed is replaced.
const REPLACED_AFTER: Duration = Duration::from_millis(50);
const ROUNDS: usize = 3;
const ROUNDS_TO_HOLD: usize = 2;

/// What attackers send before they wait to be closed.
const HALF_HEAD: &str = "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nx-half: ";
const HALF_BODY: &str = "POST /api/v1/reload HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1000\r\n\r\n{";
const METRICS: &str = "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let engine = instant_engine().await?;
        let gateway = Tidegate::start(setting, "t15", &Config::limitless(vec![engine.addr], 1)).await?;
        let crowd = setting.size(
            Crowd { halves: 150, readers: 30, floods: 4 },
            Crowd { halves: 500, readers: 100, floods: 8 },
        );
        let time = Duration::from_secs(setting.size(5, 120));
        let mut rounds = Vec::new();
        while rounds.len() < ROUNDS && held(&rounds) < ROUNDS_TO_HOLD {
            rounds.push(round(gateway.admin, crowd, time).await?);
        }
        let worst = rounds.iter().map(|round| round.p99).max().unwrap_or_default();
        let lost: usize = rounds.iter().map(|round| round.unanswered).sum();
        let probes: usize = rounds.iter().map(|round| round.probes).sum();
        Ok(Finding {
            figure: format!(
                "{lost} of {probes}; {:.0} ms; {} of {}",
                worst.as_secs_f64() * 1e3,
                held(&rounds),
                rounds.len()
            ),
            goal: PROOF.goal.to_owned(),
            ok: held(&rounds) >= ROUNDS_TO_HOLD,
            details: json!({
                "half_heads": crowd.halves, "half_bodies": crowd.halves, "silent": crowd.halves / 5,
                "readers": crowd.readers, "floods": crowd.floods, "seconds": time.as_secs(),
                "rounds": rounds.iter().map(Round::shown).collect::<Vec<_>>(),
            }),
        })
    })
}

/// How many of each kind attack at once.
#[derive(Clone, Copy)]
struct Crowd {
    halves: usize,
    readers: usize,
    floods: usize,
}

/// What one round showed.
struct Round {
    probes: usize,
    unanswered: usize,
    p99: Duration,
    longest: Duration,
    /// Connections that attackers opened, and pages of metrics that they read.
    opened: u64,
    pages: u64,
}

impl Round {
    fn holds(&self) -> bool {
        self.probes > 0 && self.unanswered == 0 && self.p99 <= P99_MAX && self.opened > 0 && self.pages > 0
    }

    fn shown(&self) -> Value {
        json!({
            "probes": self.probes, "unanswered": self.unanswered, "p99_ms": self.p99.as_secs_f64() * 1e3,
            "longest_ms": self.longest.as_secs_f64() * 1e3, "connections": self.opened, "pages": self.pages,
        })
    }
}

fn held(rounds: &[Round]) -> usize {
    rounds.iter().filter(|round| round.holds()).count()
}

async fn round(admin: SocketAddr, crowd: Crowd, time: Duration) -> Result<Round, Trouble> {
    let (opened, pages) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut attackers = JoinSet::new();
    let unread = "GET /api/v1/openapi.json HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".repeat(200);
    let kinds = [
        (HALF_HEAD, crowd.halves),
        (HALF_BODY, crowd.halves),
        ("", crowd.halves / 5),
        (&unread, crowd.readers),
    ];
    for (text, count) in kinds {
        for _ in 0..count {
            attackers.spawn(hold(admin, text.to_owned(), Arc::clone(&opened)));
        }
    }
    for _ in 0..crowd.floods {
        attackers.spawn(flood(admin, Arc::clone(&pages)));
    }
    let over = Arc::new(AtomicBool::new(false));
    let prober = {
        let over = Arc::clone(&over);
        std::thread::Builder::new().spawn(move || probe(admin, &over))?
    };
    tokio::time::sleep(time).await;
    over.store(true, Relaxed);
    // The thread ends with its last probe; until then the attack goes on.
    while !prober.is_finished() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    attackers.abort_all();
    let taken = prober.join().map_err(|_| Trouble::Unexpected("the prober panicked".to_owned()))??;
    let mut times: Vec<Duration> = taken.iter().copied().flatten().collect();
    times.sort_unstable();
    let p99 = times.get((times.len() * 99 / 100).min(times.len().saturating_sub(1)));
    Ok(Round {
        probes: taken.len(),
        unanswered: taken.len() - times.len(),
        p99: p99.copied().unwrap_or(Duration::MAX),
        longest: times.last().copied().unwrap_or_default(),
        opened: opened.load(Relaxed),
        pages: pages.load(Relaxed),
    })
}

/// Keeps a connection that has sent `text` and reads nothing but its end; a new one when it was closed.
async fn hold(admin: SocketAddr, text: String, opened: Arc<AtomicU64>) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(admin).await {
            opened.fetch_add(1, Relaxed);
            let _ = stream.write_all(text.as_bytes()).await;
            if text.len() < 4 << 10 {
                let mut buffer = [0; 512];
                while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
            } else {
                // Who does not read sees the end when it cannot write any more.
                while stream.write_all(text.as_bytes()).await.is_ok() {}
            }
        }
        tokio::time::sleep(REPLACED_AFTER).await;
    }
}

/// Reads all metrics again and again.
async fn flood(admin: SocketAddr, pages: Arc<AtomicU64>) {
    loop {
        let Ok(mut stream) = TcpStream::connect(admin).await else { continue };
        let mut buffer = vec![0; 64 << 10];
        // Nobody counts the bytes of a page: an answer has begun when something of it came.
        while stream.write_all(METRICS.as_bytes()).await.is_ok()
            && stream.read(&mut buffer).await.is_ok_and(|read| read > 0)
        {
            pages.fetch_add(1, Relaxed);
        }
    }
}

/// Probes until it is `over`, on a runtime of its own; how long each took, `None` where it was not answered with 200.
fn probe(admin: SocketAddr, over: &AtomicBool) -> Result<Vec<Option<Duration>>, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(async {
        let mut probes = JoinSet::new();
        let mut ticks = tokio::time::interval(EVERY);
        for nth in 0_usize.. {
            ticks.tick().await;
            if over.load(Relaxed) {
                break;
            }
            probes.spawn(async move {
                let began = clock::now();
                let answered = timeout(PATIENCE, ask(admin, nth)).await.unwrap_or(false);
                answered.then(|| clock::now() - began)
            });
        }
        let mut taken = Vec::new();
        while let Some(probe) = probes.join_next().await {
            taken.push(probe.ok().flatten());
        }
        taken
    }))
}

async fn ask(admin: SocketAddr, nth: usize) -> bool {
    let path = if nth.is_multiple_of(2) { "/livez" } else { "/readyz" };
    let Ok(mut stream) = TcpStream::connect(admin).await else { return false };
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer.starts_with(b"HTTP/1.1 200 ")
}
