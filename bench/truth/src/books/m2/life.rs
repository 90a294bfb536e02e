//! One life of the gateway: its load, its end, and what the next life tells of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::books::t2::round::rest;
use engine::clock;
use engine::server::EngineServer;
use harness::contest::instant_engine;
use harness::proof::{Setting, Trouble};
use harness::raw::Connection;
use harness::tidegate::{AccountLines, Admin, Config, MODEL, Tidegate, access_log, chat};

/// Clients at once.
const CLIENTS: u64 = 32;
/// How long the last requests, a process or its files may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A second model of the deployment.
const OTHER: &str = "second";
/// Accounts without a limit that could be felt; one more has few requests per minute.
const FREE: usize = 4;

/// Requests and tokens by hour, account, key, model and tier.
pub(super) type Sums = BTreeMap<[String; 5], [u64; 8]>;

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By `SIGTERM`, after its last answer.
    Ended,
    /// By `SIGKILL`, under load.
    Killed,
}

/// What became of one.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) end: End,
    /// Lines of its access log with an account.
    pub(super) logged: u64,
    /// All usage after it.
    pub(super) usage: Sums,
    /// Rows, hours left out, that are not what the log says.
    pub(super) differing: usize,
    /// How much of the end of its log usage lacks, seconds.
    pub(super) lost_s: f64,
    /// Requests that usage has and the log has not, and lines of the log's last second.
    pub(super) more: u64,
    pub(super) last_second: u64,
    /// Prompt and generated tokens by what the engine computed.
    pub(super) of_engine: [f64; 2],
    /// Hours of earlier lives that have changed though nothing ended in them any more.
    pub(super) twice: usize,
}

impl Life {
    pub(super) fn shown(&self) -> Value {
        json!({
            "killed": self.end == End::Killed, "logged": self.logged, "rows": self.usage.len(), "differing": self.differing,
            "lost_s": self.lost_s, "more": self.more, "last_second": self.last_second, "of_engine": self.of_engine,
            "twice": self.twice,
        })
    }
}

/// Plays a life and asks the next one. `before`: all usage before it.
pub(super) async fn play(
    setting: &Setting,
    folder: &Path,
    end: End,
    (requests, seed): (u64, u64),
    before: &Sums,
) -> Result<Life, Trouble> {
    let engine = instant_engine().await?;
    let config = config(folder, engine.addr);
    let mut gateway = Tidegate::start(setting, "m2", &config).await?;
    let pid = Pid::from_raw(gateway.program.pid().cast_signed());
    let signal = |signal| kill(pid, signal).map_err(|e| Trouble::Unexpected(e.to_string()));
    // A killed life has requests in flight when it ends.
    let most = if end == End::Killed { u64::MAX } else { requests };
    let taken = Arc::new(AtomicU64::new(0));
    let crowd = tokio::spawn(crowd(gateway.address, Arc::clone(&taken), most, seed));
    if end == End::Killed {
        while taken.load(Relaxed) < requests && !crowd.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        signal(Signal::SIGKILL)?;
    }
    crowd.await.map_err(|e| Trouble::Unexpected(e.to_string()))?;
    if end == End::Ended {
        gateway.settle(PATIENCE).await?;
        rest(&engine).await?;
        signal(Signal::SIGTERM)?;
    }
    let late = clock::now() + PATIENCE;
    while gateway.program.is_running()? {
        if clock::now() > late {
            return Err(Trouble::Unexpected("the gateway does not end".to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(gateway);
    let log = std::fs::read_to_string(access_log(setting, "m2"))?;
    let next = Tidegate::start(setting, "m2", &config).await?;
    let usage = usage(&next).await?;
    Ok(judged(end, &log, before, usage, &engine))
}

fn config(folder: &Path, engine: SocketAddr) -> Config {
    let mut config = Config::limitless(vec![engine], FREE);
    for account in &mut config.accounts {
        account.more.push_str(", tiers: [priority, regular]");
    }
    let more = ", requests_per_minute: 300".to_owned();
    config.accounts.push(AccountLines { key: "poor".to_owned(), more });
    config.deployment = ", slo: { ttft_ms: 60000, tpot_ms: 1000 }, limit: 256".to_owned();
    config.listen = ", shutdown: { lame_duck_ms: 0 }".to_owned();
    config.more_models = vec![OTHER];
    config.state = Some(folder.to_owned());
    config.usage = true;
    config
}

/// Sends requests until so many were taken, or nobody answers any more.
async fn crowd(target: SocketAddr, taken: Arc<AtomicU64>, most: u64, seed: u64) {
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let taken = Arc::clone(&taken);
        clients.spawn(async move {
            let mut random = SmallRng::seed_from_u64(seed * CLIENTS + number);
            let mut kept = None;
            while taken.fetch_add(1, Relaxed) < most {
                let request = request(&mut random);
                let open = match kept.take() {
                    Some(open) => Ok(open),
                    None => Connection::open(target).await,
                };
                let Ok(mut connection) = open else { return };
                match connection.exchange(&request, |_| ()).await {
                    Ok(answer) => kept = answer.keep.then_some(connection),
                    Err(_) => return,
                }
            }
        });
    }
    while clients.join_next().await.is_some() {}
}

/// Good ones of every kind, and some that are refused.
fn request(random: &mut SmallRng) -> Vec<u8> {
    let key = match random.random_range(0..100) {
        0..=3 => "poor".to_owned(),
        4 => "nobody".to_owned(),
        _ => format!("key-{}", random.random_range(0..FREE)),
    };
    if random.random_range(0..100) == 0 {
        return chat(&key, "{\"model\":");
    }
    let model = match random.random_range(0..50) {
        0 => "none",
        1..=15 => OTHER,
        _ => MODEL,
    };
    let words = "tide ".repeat(random.random_range(1..40));
    let most = random.random_range(1..16);
    let stream = random.random_range(0..3) == 0;
    let tier = if random.random_range(0..4) == 0 { "priority" } else { "auto" };
    let body = json!({
        "model": model, "max_tokens": most, "messages": [{ "role": "user", "content": words }],
        "stream": stream, "service_tier": tier,
    });
    chat(&key, &body.to_string())
}

/// All usage by hour, once everything that is on the disk was read.
async fn usage(gateway: &Tidegate) -> Result<Sums, Trouble> {
    let mut admin = Admin::open(gateway.admin).await?;
    let end = clock::now() + PATIENCE;
    loop {
        let page = admin.page("/api/v1/usage?from=1970-01&by=hour&limit=10000").await?;
        let page: Value = serde_json::from_slice(&page).map_err(|e| Trouble::Unexpected(e.to_string()))?;
        if page.get("complete") == Some(&json!(true)) {
            return rows(&page);
        }
        if clock::now() > end {
            return Err(Trouble::Unexpected("usage is not complete".to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const TEXTS: [&str; 5] = ["time", "account", "key", "model", "tier"];
const NUMBERS: [&str; 8] = [
    "requests",
    "answered",
    "refused_429",
    "refused_503",
    "prompt_tokens",
    "cached_tokens",
    "uncached_tokens",
    "generated_tokens",
];

fn rows(page: &Value) -> Result<Sums, Trouble> {
    let mut sums = Sums::new();
    for row in page.get("rows").and_then(Value::as_array).into_iter().flatten() {
        let numbers = NUMBERS.map(|name| number(row, name));
        if sums.insert(TEXTS.map(|name| text(row, name)), numbers).is_some() {
            return Err(Trouble::Unexpected(format!("a row twice: {row}")));
        }
    }
    Ok(sums)
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// What a life's log says: its rows without the hour, and when each line's request ended, in seconds of the day.
fn logged(log: &str) -> (Sums, Vec<f64>) {
    let (mut sums, mut ends) = (Sums::new(), Vec::new());
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    for line in lines.filter(|line| line.get("account").is_some_and(Value::is_string)) {
        let status = number(&line, "status");
        let is = |yes: bool| u64::from(yes);
        let mut numbers = NUMBERS.map(|name| number(&line, name));
        let counts = [1, is((200..300).contains(&status)), is(status == 429), is(status == 503)];
        numbers.iter_mut().zip(counts).for_each(|(number, count)| *number = count);
        let mut key = TEXTS.map(|name| text(&line, name));
        ends.push(seconds(&key) + line.get("total_ms").and_then(Value::as_f64).unwrap_or(0.0) / 1e3);
        without_hour(&mut key);
        add(&mut sums, key, numbers);
    }
    ends.sort_by(f64::total_cmp);
    (sums, ends)
}

/// Seconds of the day of the first text, which is a time.
fn seconds([time, ..]: &[String; 5]) -> f64 {
    let part = |from, to| time.get(from..to).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (part(11, 13) * 60.0 + part(14, 16)) * 60.0 + part(17, 23)
}

fn without_hour([time, ..]: &mut [String; 5]) {
    time.clear();
}

fn add(sums: &mut Sums, key: [String; 5], numbers: [u64; 8]) {
    let sum = sums.entry(key).or_default();
    sum.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
}

fn requests(sums: &Sums) -> u64 {
    sums.values().map(|[requests, ..]| requests).sum()
}

fn judged(end: End, log: &str, before: &Sums, usage: Sums, engine: &EngineServer) -> Life {
    let (of_log, ends) = logged(log);
    let mut new = Sums::new();
    let mut twice = 0;
    // Hours before the last one that was known can have nothing new.
    let last_hour = before.keys().map(|[time, ..]| time.clone()).max().unwrap_or_default();
    for (key, numbers) in &usage {
        let known = before.get(key).copied().unwrap_or_default();
        let mut gained = *numbers;
        gained.iter_mut().zip(known).for_each(|(number, known)| *number = number.saturating_sub(known));
        let [time, ..] = key;
        twice += usize::from(*time < last_hour && known != *numbers);
        let mut key = key.clone();
        without_hour(&mut key);
        if gained != [0; 8] {
            add(&mut new, key, gained);
        }
    }
    twice += before.keys().filter(|key| !usage.contains_key(*key)).count();
    let rows: std::collections::BTreeSet<_> = of_log.keys().chain(new.keys()).collect();
    let differing = rows.into_iter().filter(|key| of_log.get(*key) != new.get(*key)).count();
    let (has, logged) = (requests(&new), ends.len() as u64);
    let last = ends.last().copied().unwrap_or(0.0);
    let lacks = logged.saturating_sub(has) as usize;
    // The first of those that it lacks, if it lacks the last ones.
    let lost_s = match lacks {
        0 => 0.0,
        lacks => ends.get(ends.len() - lacks).map_or(0.0, |first| last - first),
    };
    let sum = |at: usize| new.values().filter_map(|numbers| numbers.get(at)).sum::<u64>() as f64;
    let computed = engine.totals();
    Life {
        end,
        logged,
        differing,
        lost_s,
        more: has.saturating_sub(logged),
        last_second: ends.iter().filter(|at| **at >= last - 1.0).count() as u64,
        of_engine: [sum(4) / computed.prompt_tokens as f64, sum(7) / computed.generated_tokens as f64],
        twice,
        usage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(time: &str, ms: f64, status: u16) -> String {
        json!({ "time": time, "account": "a", "key": "k", "model": "m", "tier": "regular", "status": status,
            "total_ms": ms, "prompt_tokens": 3, "generated_tokens": 2 })
        .to_string()
    }

    #[test]
    fn a_log_is_summed_without_lines_of_nobody() {
        let lines = [
            line("2026-11-30T10:00:00.500Z", 500.0, 200),
            line("2026-11-30T10:00:02.000Z", 0.0, 429),
            json!({ "time": "2026-11-30T10:00:02.000Z", "account": null, "status": 401 }).to_string(),
            "{\"time\":\"torn".to_owned(),
        ];
        let (sums, ends) = logged(&lines.join("\n"));
        assert_eq!(sums.values().collect::<Vec<_>>(), [&[2, 1, 1, 0, 6, 0, 0, 4]]);
        assert_eq!(ends, [36_001.0, 36_002.0]);
    }
}
