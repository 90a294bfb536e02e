//! `report_a1`: do two hundred requests that come at once get more out of a budget than a hundred could one by one?
//!
//! Gateways that read a counter, decide, and write it back later let a burst race past the limit. Here 200 connections
//! are open before the first request is sent, all requests are sent before the first answer is read, and the engine holds
//! each answer back for a while, so they really are in flight together. Each asks for a hundredth of the budget, of which
//! nothing is unknown beforehand, so there is no tolerance: exactly a hundred are served and a hundred get a 429. Each
//! round has an account of its own; every other answer streams.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use crate::harness::raw::Connection;
use crate::harness::tidegate::{AccountLines, Admin, Config, LIMITLESS, MODEL, Tidegate, chat};
use engine::profile::LLAMA_8B_A100;
use engine::server::{EngineServer, EngineServerConfig};

pub(crate) const PROOF: Proof = Proof {
    id: "report_a1",
    what: "200 requests at once on 200 connections, budget for 100: served, and tokens that the engine generated",
    goal: "100 of 200 in each round",
    quick_s: 2,
    full_s: 15,
    needs: "",
    run,
};

const CONNECTIONS: usize = 200;
const SERVED: usize = 100;
/// Output tokens of each, by its own maximum.
const TOKENS: u64 = 16;
/// How long everything may take to be given back.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a round showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Round {
    served: usize,
    refused: usize,
    /// Tokens that the engine generated for it.
    generated: u64,
    /// Tokens that the account was charged.
    booked: u64,
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let rounds = setting.size(2, 20);
    let (outcomes, at_rest) = setting.block_on(play(setting, rounds))?;
    let right = Round {
        served: SERVED,
        refused: CONNECTIONS - SERVED,
        generated: TOKENS * SERVED as u64,
        booked: TOKENS * SERVED as u64,
    };
    let wrong = outcomes.iter().filter(|outcome| **outcome != right).count();
    let most = outcomes.iter().map(|outcome| outcome.served).max().unwrap_or(0);
    let shown = |round: &Round| {
        json!({ "served": round.served, "refused": round.refused, "generated": round.generated,
            "booked": round.booked })
    };
    Ok(Finding {
        figure: format!("{wrong} of {rounds} rounds wrong, at most {most} served"),
        goal: PROOF.goal.to_owned(),
        ok: wrong == 0 && outcomes.len() == rounds && at_rest,
        details: json!({ "connections": CONNECTIONS, "tokens_each": TOKENS, "at_rest": at_rest,
            "rounds": outcomes.iter().map(shown).collect::<Vec<Value>>() }),
    })
}

async fn play(setting: &Setting, rounds: usize) -> Result<(Vec<Round>, bool), Trouble> {
    let engine =
        EngineServerConfig { profile: LLAMA_8B_A100, time_scale: 10.0, ..EngineServerConfig::default() };
    let engine = EngineServer::start(engine).await?;
    let budget = TOKENS * SERVED as u64;
    let accounts = (0..rounds).map(|number| AccountLines {
        key: format!("key-{number}"),
        more: format!(
            ", requests_per_minute: 100000, concurrency: 1000, limits: [{{ start: {0}, floor: {0}, ceiling: {0} }}]",
            LIMITLESS.replace("generated: 4294967295", &format!("generated: {budget}"))
        ),
    });
    // Room for all of them: what is refused is refused for the budget.
    let config = Config {
        accounts: accounts.collect(),
        deployment: ", limit: 400".to_owned(),
        threads: 2,
        ..Config::limitless(vec![engine.addr], 0)
    };
    let gateway = Tidegate::start(setting, "report_a1", &config).await?;
    let mut admin = Admin::open(gateway.admin).await?;
    let mut outcomes = Vec::with_capacity(rounds);
    for number in 0..rounds {
        let before = engine.totals().generated_tokens;
        let (served, refused) = burst(&gateway, number).await?;
        gateway.settle(PATIENCE).await?;
        let used = admin.used(&format!("a{number}")).await?;
        outcomes.push(Round {
            served,
            refused,
            generated: engine.totals().generated_tokens - before,
            booked: used.get("generated").copied().unwrap_or(0),
        });
    }
    let at_rest = gateway.settle(PATIENCE).await?.at_rest;
    Ok((outcomes, at_rest))
}

/// All connections, then all requests, then all answers: how many were served, and how many got a 429.
async fn burst(gateway: &Tidegate, number: usize) -> Result<(usize, usize), Trouble> {
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(gateway.address).await?);
    }
    for (nth, connection) in connections.iter_mut().enumerate() {
        let body = json!({
            "model": MODEL, "max_tokens": TOKENS, "ignore_eos": true, "user": "sim:delay=100ms",
            "stream": nth % 2 == 0, "messages": [{ "role": "user", "content": "When does the tide turn?" }],
        });
        connection.send(&chat(&format!("key-{number}"), &body.to_string())).await?;
    }
    let (mut served, mut refused) = (0, 0);
    for connection in &mut connections {
        match connection.answer(|_| ()).await?.status {
            200 => served += 1,
            429 => refused += 1,
            other => return Err(Trouble::Unexpected(format!("status {other}"))),
        }
    }
    Ok((served, refused))
}
