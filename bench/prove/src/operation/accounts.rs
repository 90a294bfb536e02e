//! `accounts`: a million accounts known, ten thousand active, the idle ones on disk only.
//!
//! A journal of a million budgets is written by a second implementation of its form, each budget with a limit of its own,
//! most of them in two records, so that the gateway has to rewrite the file as soon as it saves anything. Then the
//! gateway is started on it and ten thousand accounts send their first request each, which has to find the account's
//! budget on the disk, while the file is being rewritten. A second request of each finds its budget in memory: the
//! difference is what the look-up costs. At last the gateway is killed and started again on the file that it rewrote.
//!
//! Judged are counts (each limit is the one that was saved), memory, and that nobody waits for the rewriting: the worst
//! first request takes a small part of it.

mod journal;

use std::fs;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::contest::instant_engine;
use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use crate::harness::raw::Connection;
use crate::harness::tidegate::{AccountLines, Admin, Config, MODEL, Tidegate, chat};
use engine::clock;
use kit::process;

pub(crate) const PROOF: Proof = Proof {
    id: "accounts",
    what: "a million budgets known, 10,000 in use: memory, found while the journal is rewritten",
    goal: "all as saved; ≤64 B each known (quick: ≤128), ≤24 KiB each in use (48); p99 to find one ≤5 ms (50); start ≤10 s",
    quick_s: 4,
    full_s: 15,
    needs: "",
    run,
};

/// Memory for a budget that is only known, bytes: an entry of the index has 24, a tree is two thirds full or more.
const KNOWN_BYTES_MAX: f64 = 64.0;
/// The same in small size, where two and a half megabytes that reading a file leaves behind weigh ten times as much.
const KNOWN_BYTES_MAX_QUICK: f64 = 128.0;
/// Memory for an account in use, bytes: its budget, and what serving it left behind elsewhere.
const ACTIVE_BYTES_MAX: f64 = 24.0 * 1024.0;
/// The same in small size, where a fifth of the accounts share what the process keeps once.
const ACTIVE_BYTES_MAX_QUICK: f64 = 48.0 * 1024.0;
/// What finding may add to a request at the 99th percentile, on a machine that rewrites a file at the same time.
const FIND_P99_MAX: Duration = Duration::from_millis(5);
/// The same in small size, which guards against waiting for the disk, on whatever machine is free.
const FIND_P99_MAX_QUICK: Duration = Duration::from_millis(50);
const START_MAX: Duration = Duration::from_secs(10);
/// Accounts that never ask in the first life, to be found in the second.
const SILENT: usize = 200;
/// The first account begins here; each has a limit of its own above it, tokens per minute.
const LIMIT: u64 = 3_700_000;
/// The journal is written once a second; rewriting begins then.
const REWRITE_PATIENCE: Duration = Duration::from_secs(10);

/// Times of requests, microseconds.
struct Times {
    while_rewritten: Histogram<u64>,
    after: Histogram<u64>,
    known: Histogram<u64>,
    rewriting: Duration,
}

/// What one life of the gateway showed.
struct Life {
    started: Duration,
    at_start: u64,
    peak: u64,
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let (known, active) = setting.size((100_000, 2_000), (1_000_000, 10_000));
    setting.block_on(async {
        let engine = instant_engine().await?;
        let mut config = Config::limitless(vec![engine.addr], 0);
        config.accounts = (0..active + SILENT).map(account).collect();
    config.policy = "published";
        config.keepalive_requests = Some(1_000_000);
        setting.binaries().tidegate()?;

        config.state = Some(folder(setting, "accounts-none")?);
        let (nothing, without) = start(setting, &config).await?;
        drop(nothing);
        let state = folder(setting, "accounts")?;
        let file = state.join("budgets.journal");
        let written = journal::write(&file, known, |number| LIMIT + number as u64)?;
        config.state = Some(state);
        let (gateway, first) = start(setting, &config).await?;
        let times = first_requests(&gateway, &file, active).await?;
        let in_use = process::memory(gateway.program.pid())?;
        let rewritten = fs::metadata(&file)?.len();
        let wrong = wrong_limits(&gateway, 0..active).await?;
        kill(Pid::from_raw(gateway.program.pid().cast_signed()), Signal::SIGKILL)
            .map_err(|e| Trouble::Unexpected(e.to_string()))?;
        drop(gateway);
        let (again, second) = start(setting, &config).await?;
        let wrong = wrong + wrong_limits(&again, 0..active + SILENT).await?;

        let each = |more: u64, less: u64, of: usize| more.saturating_sub(less) as f64 / of as f64;
        let known_bytes = each(second.at_start, without.at_start, known);
        let active_bytes = each(in_use, first.at_start, active);
        let found = p99(&times.while_rewritten).saturating_sub(p99(&times.known));
        let slowest_start = first.started.max(second.started);
        // With the file closed to look-ups the first one would wait for nearly all of the rewriting.
        let waited = Duration::from_micros(times.while_rewritten.max());
        let ok = wrong == 0
            && known_bytes <= setting.size(KNOWN_BYTES_MAX_QUICK, KNOWN_BYTES_MAX)
            && active_bytes <= setting.size(ACTIVE_BYTES_MAX_QUICK, ACTIVE_BYTES_MAX)
            && found <= setting.size(FIND_P99_MAX_QUICK, FIND_P99_MAX)
            && slowest_start <= START_MAX
            && rewritten < written;
        Ok(Finding {
            figure: format!(
                "{known} known, {active} in use: {wrong} wrong; {known_bytes:.0} B known, {:.1} KiB in use; p99 +{:.1} ms \
                 ({} found in {:.1} s of rewriting, worst {:.0} ms); start {:.1} s",
                active_bytes / 1024.0,
                found.as_secs_f64() * 1e3,
                times.while_rewritten.len(),
                times.rewriting.as_secs_f64(),
                waited.as_secs_f64() * 1e3,
                slowest_start.as_secs_f64(),
            ),
            goal: PROOF.goal.to_owned(),
            ok,
            details: json!({
                "known": known, "active": active, "wrong": wrong,
                "file_bytes": written, "file_bytes_rewritten": rewritten,
                "rewriting_s": times.rewriting.as_secs_f64(),
                "first_request_while_rewritten": shown(&times.while_rewritten),
                "first_request_after": shown(&times.after), "second_request": shown(&times.known),
                "memory_in_use": in_use,
                "lives": [life(&without), life(&first), life(&second)],
            }),
        })
    })
}

fn account(number: usize) -> AccountLines {
    AccountLines {
        key: format!("key-{number}"),
        more: ", spending_tier: 4, requests_per_minute: 1000000".to_owned(),
    }
}

fn folder(setting: &Setting, name: &str) -> Result<std::path::PathBuf, Trouble> {
    let folder = setting.out.join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Starts the gateway; how long it took until it served, and its memory then.
async fn start(setting: &Setting, config: &Config) -> Result<(Tidegate, Life), Trouble> {
    let began = clock::now();
    let gateway = Tidegate::start(setting, "accounts", config).await?;
    let started = clock::now() - began;
    let pid = gateway.program.pid();
    let life = Life { started, at_start: process::memory(pid)?, peak: process::peak(pid)? };
    Ok((gateway, life))
}

/// A first request of each account, from when the rewriting has begun, and then a second one.
async fn first_requests(gateway: &Tidegate, file: &Path, active: usize) -> Result<Times, Trouble> {
    let next = file.with_extension("next");
    let mut customer = Connection::open(gateway.address).await?;
    ask(&mut customer, 0).await?;
    let end = clock::now() + REWRITE_PATIENCE;
    while !next.exists() {
        if clock::now() > end {
            return Err(Trouble::Unexpected("the journal was not rewritten".to_owned()));
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let began = clock::now();
    let histogram = || Histogram::new(3).map_err(|e| Trouble::Unexpected(e.to_string()));
    let mut times = Times {
        while_rewritten: histogram()?,
        after: histogram()?,
        known: histogram()?,
        rewriting: Duration::ZERO,
    };
    for number in 1..active {
        let time = ask(&mut customer, number).await?;
        if times.rewriting.is_zero() {
            times.while_rewritten.saturating_record(time);
            if !next.exists() {
                times.rewriting = clock::now() - began;
            }
        } else {
            times.after.saturating_record(time);
        }
    }
    if times.rewriting.is_zero() {
        while next.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.rewriting = clock::now() - began;
    }
    for number in 1..active {
        times.known.saturating_record(ask(&mut customer, number).await?);
    }
    Ok(times)
}

/// One request of an account; how long it took, microseconds.
async fn ask(customer: &mut Connection, number: usize) -> Result<u64, Trouble> {
    let body = format!(
        "{{\"model\":\"{MODEL}\",\"max_tokens\":3,\"messages\":[{{\"role\":\"user\",\"content\":\"tide {number}\"}}]}}"
    );
    let request = chat(&format!("key-{number}"), &body);
    let began = clock::now();
    let answer = customer.exchange(&request, |_| ()).await?;
    let took = clock::now() - began;
    if answer.status != 200 || !answer.keep {
        return Err(Trouble::Unexpected(format!("status {}, keep {}", answer.status, answer.keep)));
    }
    Ok(took.as_micros() as u64)
}

/// Accounts whose limit is not the one that was saved.
async fn wrong_limits(gateway: &Tidegate, numbers: std::ops::Range<usize>) -> Result<usize, Trouble> {
    let mut admin = Admin::open(gateway.admin).await?;
    let mut wrong = 0;
    // The silent ones, which are the last, one by one; of the others some.
    let silent = numbers.end.saturating_sub(SILENT);
    for number in numbers.filter(|number| *number >= silent || number % 50 == 0) {
        let limits = admin.limits(&format!("a{number}")).await?;
        wrong += usize::from(limits.get("prompt") != Some(&(LIMIT + number as u64)));
    }
    Ok(wrong)
}

fn p99(times: &Histogram<u64>) -> Duration {
    Duration::from_micros(times.value_at_quantile(0.99))
}

fn shown(times: &Histogram<u64>) -> Value {
    json!({
        "requests": times.len(), "p50_us": times.value_at_quantile(0.5), "p99_us": times.value_at_quantile(0.99),
        "max_us": times.max(),
    })
}

fn life(life: &Life) -> Value {
    json!({ "start_s": life.started.as_secs_f64(), "memory": life.at_start, "peak": life.peak })
}
