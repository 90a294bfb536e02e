//! What operators feel: how soon it is ready, what it takes when idle, what a scrape costs with many accounts, and whether
//! those who look on slow those who are served.
//!
//! The last is paired: the same pace of requests is measured in turn with nobody looking and while a hundred heavy queries
//! are asked at once, and the medians of the 99th percentiles are compared.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::harness::contest::instant_engine;
use crate::harness::pace::{Answers, Pace};
use crate::harness::proof::{Finding, Proof, Setting, Trouble, median};
use crate::harness::raw::Connection;
use crate::harness::tidegate::{Admin, Config, MODEL, Tidegate, chat};
use engine::clock;
use kit::process;

pub(crate) const PROOF: Proof = Proof {
    id: "operate",
    what: "ready after; memory when idle; /metrics with 10,000 accounts, series; p99 moved by 100 heavy queries",
    goal: "≤1 s; ≤60 MB; ≤50 ms, ≤2,000; ≤2 ms",
    quick_s: 8,
    full_s: 45,
    needs: "",
    run,
};

const READY_WITHIN: Duration = Duration::from_secs(1);
const IDLE_MAX: u64 = 60_000_000;
const SCRAPE_MAX_MS: f64 = 50.0;
/// Series of one model on one replica, with any number of accounts.
const SERIES_MAX: usize = 2_000;
const MOVED_MAX_MS: f64 = 2.0;
/// The same in quick size, on a machine that does other work as well.
const QUICK_FACTOR: f64 = 5.0;
const ACCOUNTS: usize = 10_000;
/// Queries at once.
const QUERIES: usize = 100;
/// Those that walk over everything.
const HEAVY: [&str; 4] = ["/metrics", "/api/v1/limits?limit=1000", "/api/v1/invariants", "/api/v1/config"];
const RATE_PER_S: u32 = 200;

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let engine = instant_engine().await?;
        // Built before the clock runs.
        setting.binaries().tidegate()?;
        let began = clock::now();
        let small =
            Tidegate::start(setting, "operate-idle", &Config::limitless(vec![engine.addr], 1)).await?;
        Admin::open(small.admin).await?.page("/readyz").await?;
        let ready = clock::now() - began;
        let idle = process::memory(small.program.pid())?;
        drop(small);

        let began = clock::now();
        let mut config = Config::limitless(vec![engine.addr], ACCOUNTS);
        // The rest of each entry would make the file larger than a config may be.
        let shorter = ", spending_tier: enterprise, requests_per_minute: 1000000";
        config.accounts.iter_mut().for_each(|account| account.more = shorter.to_owned());
        let gateway = Tidegate::start(setting, "operate", &config).await?;
        let ready_many = clock::now() - began;
        touch(&gateway, setting.size(2_000, ACCOUNTS)).await?;
        let (scrape_ms, series) = scrape(&gateway).await?;
        let rounds = setting.size(1, 5);
        let (mut alone, mut watched) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            alone.push(pace(setting).measure(gateway.address).await?.p99_us / 1e3);
            let pace = pace(setting);
            let (paced, asked) = tokio::join!(pace.measure(gateway.address), ask_all(&gateway, pace.warm));
            asked?;
            watched.push(paced?.p99_us / 1e3);
        }
        let moved = median(&watched) - median(&alone);
        let factor = setting.size(QUICK_FACTOR, 1.0);
        let ok = ready.as_secs_f64() <= READY_WITHIN.as_secs_f64() * factor
            && idle <= IDLE_MAX
            && scrape_ms <= SCRAPE_MAX_MS * factor
            && series <= SERIES_MAX
            && moved <= MOVED_MAX_MS * factor;
        Ok(Finding {
            figure: format!(
                "{:.2} s; {:.1} MB; {scrape_ms:.1} ms, {series}; {moved:+.2} ms (p99 {:.2} → {:.2} ms)",
                ready.as_secs_f64(),
                idle as f64 / 1e6,
                median(&alone),
                median(&watched)
            ),
            goal: format!("{}{}", PROOF.goal, setting.size(" (quick: times ×5)", "")),
            ok,
            details: json!({
                "ready_s": ready.as_secs_f64(),
                "ready_with_10000_accounts_s": ready_many.as_secs_f64(),
                "memory_with_10000_accounts": process::memory(gateway.program.pid())?,
                "p99_alone_ms": alone,
                "p99_watched_ms": watched,
            }),
        })
    })
}

fn body() -> String {
    format!(
        "{{\"model\":\"{MODEL}\",\"max_tokens\":3,\"messages\":[{{\"role\":\"user\",\"content\":\"tide\"}}]}}"
    )
}

/// One request of each of so many accounts, so that each has a budget in memory.
async fn touch(gateway: &Tidegate, accounts: usize) -> Result<(), Trouble> {
    let mut connection = Connection::open(gateway.address).await?;
    for nth in 0..accounts {
        let answer = connection.exchange(&chat(&format!("key-{nth}"), &body()), |_| ()).await?;
        if answer.status != 200 {
            return Err(Trouble::Unexpected(format!("status {}", answer.status)));
        }
        if !answer.keep {
            connection = Connection::open(gateway.address).await?;
        }
    }
    Ok(())
}

/// Median milliseconds of a scrape, and its series.
async fn scrape(gateway: &Tidegate) -> Result<(f64, usize), Trouble> {
    let mut admin = Admin::open(gateway.admin).await?;
    let (mut times, mut series) = (Vec::new(), 0);
    for _ in 0..10 {
        let began = clock::now();
        let page = admin.page("/metrics").await?;
        times.push((clock::now() - began).as_secs_f64() * 1e3);
        series =
            page.split(|byte| *byte == b'\n').filter(|line| line.first().is_some_and(|c| *c != b'#')).count();
    }
    Ok((median(&times), series))
}

fn pace(setting: &Setting) -> Pace {
    Pace {
        requests: Arc::new((0..100).map(|nth| chat(&format!("key-{nth}"), &body())).collect()),
        connections: 8,
        answers: Answers::All(200),
        rate_per_s: RATE_PER_S,
        warm: Duration::from_millis(300),
        window: setting.size(Duration::from_secs(2), Duration::from_secs(3)),
    }
}

/// A hundred queries at once, each on a connection of its own, once the pace is warm.
async fn ask_all(gateway: &Tidegate, warm: Duration) -> Result<(), Trouble> {
    tokio::time::sleep(warm).await;
    let mut asked = tokio::task::JoinSet::new();
    for nth in 0..QUERIES {
        let (admin, path) = (gateway.admin, HEAVY.get(nth % HEAVY.len()).copied().unwrap_or("/metrics"));
        asked.spawn(async move { Admin::open(admin).await?.page(path).await.map(|_| ()) });
    }
    while let Some(done) = asked.join_next().await {
        done.map_err(|e| Trouble::Unexpected(e.to_string()))??;
    }
    Ok(())
}
