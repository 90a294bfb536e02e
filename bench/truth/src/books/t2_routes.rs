//! T2-routes: is what was booked on each route what the engine counted there?
//!
//! One mix of all routes that an engine serves, each asked in every way that it has: whole and streamed, several choices,
//! lists of prompts, token ids, the prompt said again, reasoning, forced tools, pairs. One account for each route, whose
//! budget holds the route's sum, and accounts that use all of them, as customers do. Nobody leaves early and nobody
//! cheats: that is T2's. So here every single line of the access log has to be right too.

mod mix;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::t2::round::rest;
use engine::clock;
use engine::profile::LLAMA_8B_A100;
use engine::server::{EngineServer, EngineServerConfig};
use harness::proof::{Finding, Proof, Setting, Trouble};
use harness::raw::Connection;
use harness::tidegate::{Admin, Config, Tidegate, post};
use mix::{Asked, MIXED_ACCOUNTS, ROUTES};

pub(crate) const PROOF: Proof = Proof {
    id: "T2-routes",
    what: "tokens booked by what the engine counted, all routes mixed, per route",
    goal: "each within 0.99…1.01",
    quick_s: 13,
    full_s: 500,
    needs: "",
    run,
};

/// Requests of a round.
const ROUND: usize = 3_000;
/// Clients at once.
const CLIENTS: usize = 64;
const TIME_SCALE: f64 = 4.0;
/// Longer, and the sliding minute would have begun to forget.
const ROUND_MAX: Duration = Duration::from_secs(55);
/// How long the last requests may take to end on both sides.
const REST_PATIENCE: Duration = Duration::from_secs(10);
/// Booked by counted.
const WITHIN: RangeInclusive<f64> = 0.99..=1.01;

/// Counted by the engine, booked by the gateway.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    requests: u64,
    prompt: u64,
    generated: u64,
    booked_prompt: u64,
    booked_generated: u64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.prompt += other.prompt;
        self.generated += other.generated;
        self.booked_prompt += other.booked_prompt;
        self.booked_generated += other.booked_generated;
    }

    /// Both meters; what nothing was counted for must cost nothing.
    fn is_right(&self) -> bool {
        let meter = |booked: u64, counted: u64| match counted {
            0 => booked == 0,
            counted => WITHIN.contains(&(booked as f64 / counted as f64)),
        };
        self.requests > 0
            && meter(self.booked_prompt, self.prompt)
            && meter(self.booked_generated, self.generated)
    }

    fn ratios(&self) -> String {
        let ratio = |booked: u64, counted: u64| match (booked, counted) {
            (0, 0) => "none".to_owned(),
            (booked, 0) => format!("{booked} for nothing"),
            (booked, counted) => format!("{:.4}", booked as f64 / counted as f64),
        };
        format!(
            "prompt {}, generated {}",
            ratio(self.booked_prompt, self.prompt),
            ratio(self.booked_generated, self.generated)
        )
    }
}

/// What a round, or all of them, came to.
#[derive(Debug, Default)]
struct Books {
    /// By route and by mixed account: the budgets.
    budgets: BTreeMap<String, Sums>,
    /// By route, over all accounts: the access log.
    logged: BTreeMap<String, Sums>,
    /// Requests whose own line differs from the engine's count, by route.
    lines_off: BTreeMap<String, u64>,
    /// Requests that were not answered with 200.
    unserved: u64,
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let rounds = setting.size(1, 34);
    let mut books = Books::default();
    setting.block_on(async {
        for number in 0..rounds {
            play(setting, number, &mut books).await?;
        }
        Ok(())
    })?;
    let all = books.budgets.iter().chain(&books.logged);
    let short: Vec<String> = all
        .filter(|(_, sums)| !sums.is_right())
        .map(|(name, sums)| format!("{name} ({})", sums.ratios()))
        .collect();
    let lines_off: u64 = books.lines_off.values().sum();
    let total = books.budgets.values().fold(Sums::default(), |mut total, sums| {
        total.add(sums);
        total
    });
    let complete = books.logged.len() == ROUTES.len() && books.unserved == 0;
    Ok(Finding {
        figure: format!(
            "{} routes and {MIXED_ACCOUNTS} mixed accounts over {} requests, all together {}; lines off: {lines_off}, \
             unserved: {}{}{}",
            books.logged.len(),
            total.requests,
            total.ratios(),
            books.unserved,
            if short.is_empty() { "" } else { "; not: " },
            short.join(", ")
        ),
        goal: PROOF.goal.to_owned(),
        ok: short.is_empty() && lines_off == 0 && complete,
        details: json!({
            "budgets": shown(&books.budgets), "access_log": shown(&books.logged),
            "lines_off": books.lines_off, "unserved": books.unserved,
        }),
    })
}

fn shown(sums: &BTreeMap<String, Sums>) -> Vec<Value> {
    let one = |(name, sums): (&String, &Sums)| {
        json!({
            "name": name, "requests": sums.requests, "right": sums.is_right(),
            "prompt": { "booked": sums.booked_prompt, "counted": sums.prompt },
            "generated": { "booked": sums.booked_generated, "counted": sums.generated },
        })
    };
    sums.iter().map(one).collect()
}

/// One round with a gateway that has learned nothing yet.
async fn play(setting: &Setting, number: u64, books: &mut Books) -> Result<(), Trouble> {
    let engine = EngineServer::start(EngineServerConfig {
        profile: LLAMA_8B_A100,
        time_scale: TIME_SCALE,
        ..EngineServerConfig::default()
    })
    .await?;
    let mut config = Config::limitless(vec![engine.addr], ROUTES.len() + MIXED_ACCOUNTS);
    // Load is not the question here: nothing is to be shed.
    config.deployment = ", slo: { ttft_ms: 60000, tpot_ms: 1000 }, limit: 256".to_owned();
    let gateway = Tidegate::start(setting, "t2-routes", &config).await?;
    let began = clock::now();
    books.unserved += crowd(gateway.address, number * ROUND as u64).await;
    gateway.settle(REST_PATIENCE).await?;
    rest(&engine).await?;
    let used = used(&gateway).await?;
    if clock::now() - began > ROUND_MAX {
        return Err(Trouble::Unexpected("a round took longer than the sliding minute holds".to_owned()));
    }
    let lines = lines(setting).await?;
    for (number, (prompt, generated)) in used.into_iter().enumerate() {
        let sums = books.budgets.entry(account_name(number)).or_default();
        sums.booked_prompt += prompt;
        sums.booked_generated += generated;
    }
    for record in engine.records() {
        let Some(line) = lines.get(record.request_id.as_deref().unwrap_or_default()) else {
            *books.lines_off.entry(record.path).or_default() += 1;
            continue;
        };
        let counted = Sums {
            requests: 1,
            prompt: u64::from(record.prompt_tokens),
            generated: record.generated_tokens,
            ..Sums::default()
        };
        let account = line.account.as_deref().and_then(|id| id.strip_prefix('a')?.parse().ok());
        books.budgets.entry(account_name(account.unwrap_or(usize::MAX))).or_default().add(&counted);
        let logged = Sums {
            booked_prompt: line.prompt_tokens.unwrap_or(0),
            booked_generated: line.generated_tokens.unwrap_or(0),
            ..counted
        };
        let is_exact = logged.booked_prompt == counted.prompt && logged.booked_generated == counted.generated;
        books.logged.entry(record.path.clone()).or_default().add(&logged);
        *books.lines_off.entry(record.path).or_default() += u64::from(!is_exact);
    }
    Ok(())
}

/// What an account's budget is called in the result.
fn account_name(number: usize) -> String {
    match ROUTES.get(number) {
        Some(route) => format!("budget of {}", route.path),
        None => format!("budget of mixed account {}", number - ROUTES.len().min(number)),
    }
}

/// Plays a round; how many requests were not served.
async fn crowd(target: SocketAddr, first_seed: u64) -> u64 {
    let taken = Arc::new(AtomicUsize::new(0));
    let unserved = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (taken, unserved) = (Arc::clone(&taken), Arc::clone(&unserved));
        clients.spawn(async move {
            loop {
                let number = taken.fetch_add(1, Relaxed);
                if number >= ROUND {
                    return;
                }
                let asked = Asked::number(number, first_seed + number as u64);
                let request = post(asked.path, &format!("key-{}", asked.account), &asked.body);
                let served = async {
                    let answer = Connection::open(target).await?.exchange(&request, |_| ()).await?;
                    Ok::<_, std::io::Error>(answer.status == 200)
                };
                unserved.fetch_add(usize::from(!served.await.unwrap_or(false)), Relaxed);
            }
        });
    }
    while clients.join_next().await.is_some() {}
    unserved.load(Relaxed) as u64
}

/// Prompt and generated tokens that each account's budget holds.
async fn used(gateway: &Tidegate) -> Result<Vec<(u64, u64)>, Trouble> {
    let mut admin = Admin::open(gateway.admin).await?;
    let mut all = Vec::new();
    for number in 0..ROUTES.len() + MIXED_ACCOUNTS {
        let used = admin.used(&format!("a{number}")).await?;
        let of = |meter: &str| used.get(meter).copied().unwrap_or(0);
        all.push((of("prompt"), of("generated")));
    }
    Ok(all)
}

/// A line of the access log.
#[derive(Debug, Deserialize)]
struct Line {
    request_id: String,
    account: Option<String>,
    prompt_tokens: Option<u64>,
    generated_tokens: Option<u64>,
}

/// The access log, by request.
async fn lines(setting: &Setting) -> Result<BTreeMap<String, Line>, Trouble> {
    // The log is written in the background.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let text = std::fs::read_to_string(setting.out.join("t2-routes-access.log"))?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    Ok(lines.map(|line| (line.request_id.clone(), line)).collect())
}
