//! `cached`: do we know how much of a prompt an engine has in its cache before it says so?
//!
//! Conversations of several turns, each turn with all turns before it, over two replicas with prefix caches. The engines
//! are told to say nothing of their cache, so what the gateway books as uncached is its own expectation at admission.
//! The engines' own account says what was really found.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use crate::harness::raw::Connection;
use crate::harness::tidegate::{Config, MODEL, Tidegate, chat};
use engine::profile::LLAMA_8B_A100;
use engine::prompt::text_of;
use engine::server::{EngineServer, EngineServerConfig};
use engine::truth::Record;

pub(crate) const PROOF: Proof = Proof {
    id: "cached",
    what: "cached tokens expected at admission against those found by the engines, of all prompt tokens",
    goal: "≤5 %",
    quick_s: 2,
    full_s: 60,
    needs: "",
    run,
};

/// Sum of the differences of single requests, of all prompt tokens.
const OFF_MAX: f64 = 0.05;
/// The small size has some hundred requests, so one conversation weighs in it.
const OFF_MAX_QUICK: f64 = 0.08;
const TURNS: u64 = 6;
/// Conversations at once.
const PARALLEL: u64 = 16;
/// System prompts that conversations share.
const SYSTEMS: u64 = 4;
/// The log is written in the background.
const LOGGED: Duration = Duration::from_millis(1_200);

#[derive(Debug, Deserialize)]
struct Line {
    request_id: String,
    prompt_tokens: Option<u64>,
    uncached_tokens: Option<u64>,
    cached_tokens: Option<u64>,
}

/// Over all requests that both sides know, tokens.
#[derive(Debug, Default)]
struct Sums {
    requests: u64,
    prompt: u64,
    expected: u64,
    found: u64,
    /// Expected and not found.
    over: u64,
    /// Found and not expected.
    under: u64,
    /// Requests of which the engine did say something.
    told: u64,
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let engines = [engine().await?, engine().await?];
        let config = Config::limitless(engines.iter().map(|engine| engine.addr).collect(), 1);
        let gateway = Tidegate::start(setting, "cached", &config).await?;
        let conversations = setting.size(48, 1_500);
        talk(gateway.address, conversations).await?;
        tokio::time::sleep(LOGGED).await;
        let log = std::fs::read_to_string(setting.out.join("cached-access.log"))?;
        let records: Vec<Record> = engines.iter().flat_map(EngineServer::records).collect();
        let sums = compare(&log, &records);
        let of_all = |tokens: u64| tokens as f64 / sums.prompt.max(1) as f64;
        let off = of_all(sums.over + sums.under);
        let asked = conversations * TURNS;
        Ok(Finding {
            figure: format!(
                "{:.2} % ({:.1} % expected, {:.1} % found), {} requests",
                off * 100.0,
                of_all(sums.expected) * 100.0,
                of_all(sums.found) * 100.0,
                sums.requests
            ),
            goal: "≤5 % (quick: ≤8 %)".to_owned(),
            // With nothing in the caches, or nothing compared, nothing would be shown.
            ok: off <= if setting.quick { OFF_MAX_QUICK } else { OFF_MAX }
                && of_all(sums.found) > 0.3
                && sums.requests * 10 >= asked * 9
                && sums.told == 0,
            details: shown(&sums, asked),
        })
    })
}

fn shown(sums: &Sums, asked: u64) -> Value {
    json!({
        "asked": asked, "compared": sums.requests, "prompt_tokens": sums.prompt,
        "expected_cached": sums.expected, "found_cached": sums.found,
        "expected_and_not_found": sums.over, "found_and_not_expected": sums.under,
    })
}

async fn engine() -> Result<EngineServer, Trouble> {
    let config = EngineServerConfig {
        profile: LLAMA_8B_A100,
        time_scale: 10.0,
        prompt_tokens_details: false,
        ..EngineServerConfig::default()
    };
    Ok(EngineServer::start(config).await?)
}

/// All conversations, so many at once.
async fn talk(target: SocketAddr, conversations: u64) -> Result<(), Trouble> {
    let mut running = JoinSet::new();
    for lane in 0..PARALLEL {
        running.spawn(async move {
            let mut connection = Connection::open(target).await?;
            for conversation in (lane..conversations).step_by(PARALLEL as usize) {
                converse(&mut connection, conversation).await?;
            }
            Ok::<(), Trouble>(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.map_err(|e| Trouble::Unexpected(e.to_string()))??;
    }
    Ok(())
}

/// The turns of one conversation, each with all before it.
async fn converse(connection: &mut Connection, conversation: u64) -> Result<(), Trouble> {
    let mut messages = vec![json!({ "role": "system", "content": text_of(conversation % SYSTEMS, 400) })];
    for turn in 0..TURNS {
        let words = 40 + (conversation * 31 + turn * 17) % 120;
        let seed = 1_000 + conversation * TURNS + turn;
        messages.push(json!({ "role": "user", "content": text_of(seed, words as u32) }));
        let body = json!({
            "model": MODEL, "max_tokens": 24, "ignore_eos": true, "seed": seed, "messages": messages,
        });
        let mut answer = Vec::new();
        let request = chat("key-0", &body.to_string());
        let ended = connection.exchange(&request, |piece| answer.extend_from_slice(piece)).await?;
        if ended.status == 503 {
            // Shed: the conversation is over, which says nothing of caches.
            return Ok(());
        }
        let answer: Value =
            serde_json::from_slice(&answer).map_err(|e| Trouble::Unexpected(format!("an answer: {e}")))?;
        let said = answer.pointer("/choices/0/message/content").and_then(Value::as_str);
        let said = said.ok_or_else(|| Trouble::Unexpected(format!("status {}", ended.status)))?;
        messages.push(json!({ "role": "assistant", "content": said }));
    }
    Ok(())
}

fn compare(log: &str, records: &[Record]) -> Sums {
    let found: BTreeMap<&str, u64> = records
        .iter()
        .filter_map(|record| Some((record.request_id.as_deref()?, u64::from(record.cached_tokens))))
        .collect();
    let mut sums = Sums::default();
    for line in log.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
        let (Some(prompt), Some(uncached), Some(found)) =
            (line.prompt_tokens, line.uncached_tokens, found.get(line.request_id.as_str()))
        else {
            continue;
        };
        let expected = prompt.saturating_sub(uncached);
        sums.requests += 1;
        sums.prompt += prompt;
        sums.expected += expected;
        sums.found += found;
        sums.over += expected.saturating_sub(*found);
        sums.under += found.saturating_sub(expected);
        sums.told += u64::from(line.cached_tokens.is_some());
    }
    sums
}
