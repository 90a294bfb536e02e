//! T8: a thousand reloads under load, a third of them invalid.
//!
//! The config alternates between two versions that differ in the model's name at the engine and in the key for it, so the
//! engine's books show whether a request ever carried the one of one version with the other of the other. Every third
//! version has a fault and must be refused. Meanwhile every request must be served, and in the end memory and
//! descriptors must be what they were.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use tokio::task::LocalSet;

use crate::books::t1::descriptors_at_rest;
use engine::profile::INSTANT;
use engine::server::{EngineServer, EngineServerConfig};
use harness::proof::{Finding, Proof, Setting, Trouble};
use harness::raw::Connection;
use harness::tidegate::{Admin, Config, MODEL, Tidegate, chat};
use kit::process;

pub(crate) const PROOF: Proof = Proof {
    id: "T8",
    what: "reloads under load, a third invalid: failed requests, mixed configs; growth of memory, descriptors",
    goal: "0 of 1,000 reloads; ≤8 MiB, +0",
    quick_s: 3,
    full_s: 60,
    needs: "",
    run,
};

/// Clients at once.
const CLIENTS: usize = 4;
/// Reloads until memory has its size.
const WARM: u32 = 20;
/// Two snapshots and what the allocator keeps; a thousand leaked configs of some ten KiB would be more.
const GROWTH_MAX: u64 = 8 << 20;
/// How often the books are looked at: they keep the last thousand requests.
const LOOK_EVERY: u32 = 5;

/// What the clients saw.
#[derive(Debug, Default)]
struct Served {
    over: Cell<bool>,
    good: Cell<u64>,
    failed: Cell<u64>,
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async { LocalSet::new().run_until(reloads(setting)).await })
}

async fn reloads(setting: &Setting) -> Result<Finding, Trouble> {
    let engine = EngineServer::start(EngineServerConfig {
        profile: INSTANT,
        any_model: true,
        record_requests: true,
        ..EngineServerConfig::default()
    })
    .await?;
    let version = |nth: u32| {
        let mut config = Config::limitless(vec![engine.addr], 1);
        let key = setting.out.join(format!("t8-key-{}", nth % 2));
        config.deployment =
            format!(", slo: {{ ttft_ms: 2000, tpot_ms: 100 }}, api_key_file: \"{}\"", key.display());
        config.served_model = format!("v-{}", nth % 2);
        config
    };
    for nth in 0..2 {
        std::fs::write(setting.out.join(format!("t8-key-{nth}")), format!("key-v-{nth}"))?;
    }
    let gateway = Tidegate::start(setting, "t8", &version(0)).await?;
    let pid = gateway.program.pid();
    let mut admin = Admin::open(gateway.admin).await?;
    let served = Rc::new(Served::default());
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| tokio::task::spawn_local(ask(gateway.address, Rc::clone(&served)))).collect();
    let count = setting.size(60, 1_000) + WARM;
    let (mut wrong, mut mixed, mut before) = (0_u32, BTreeSet::new(), (0, 0));
    for nth in 1..=count {
        let mut next = version(nth);
        let invalid = nth % 3 == 0;
        if invalid {
            next.deployment.push_str(", engine_of: nothing");
        }
        gateway.rewrite(setting, "t8", &next)?;
        let status = admin.post("/api/v1/reload").await?;
        wrong += u32::from(status != if invalid { 422 } else { 200 });
        if nth % LOOK_EVERY == 0 {
            mixed.extend(mixed_in(&engine));
        }
        if nth == WARM {
            before = (process::memory(pid)?, process::descriptors(pid)?);
        }
    }
    let grown = process::memory(pid)?.saturating_sub(before.0);
    served.over.set(true);
    for client in clients {
        let _ = client.await;
    }
    let settled = gateway.settle(Duration::from_secs(5)).await?;
    // A reading of an engine's metrics may be under way.
    let descriptors = descriptors_at_rest(pid, before.1).await?;
    let more = descriptors.saturating_sub(before.1);
    let (good, failed) = (served.good.get(), served.failed.get());
    Ok(Finding {
        figure: format!(
            "{count} reloads, {wrong} wrongly taken or refused; {failed} of {} requests failed, {} mixed; +{:.1} MiB, +{more}",
            good + failed,
            mixed.len(),
            grown as f64 / f64::from(1 << 20)
        ),
        goal: format!("0 of {count}; ≤8 MiB, +0"),
        ok: wrong == 0
            && failed == 0
            && mixed.is_empty()
            && good > u64::from(count)
            && grown <= GROWTH_MAX
            && more == 0
            && settled.at_rest,
        details: json!({ "served": good, "failed": failed, "mixed": mixed, "memory_grown": grown, "descriptors": descriptors }),
    })
}

async fn ask(address: std::net::SocketAddr, served: Rc<Served>) {
    let body = format!(
        "{{\"model\":\"{MODEL}\",\"max_tokens\":3,\"messages\":[{{\"role\":\"user\",\"content\":\"tide\"}}]}}"
    );
    let request = chat("key-0", &body);
    let mut kept = None;
    while !served.over.get() {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => match Connection::open(address).await {
                Ok(connection) => connection,
                Err(_) => return served.failed.set(served.failed.get() + 1),
            },
        };
        match connection.exchange(&request, |_| ()).await {
            Ok(answer) if answer.status == 200 => {
                served.good.set(served.good.get() + 1);
                kept = answer.keep.then_some(connection);
            }
            _ => served.failed.set(served.failed.get() + 1),
        }
    }
}

/// Requests in the engine's books that carry the name of one version and the key of the other: both of them.
fn mixed_in(engine: &EngineServer) -> Vec<String> {
    let of = |record: engine::truth::Record| {
        let key =
            record.headers.iter().find(|(name, _)| name == "authorization").map(|(_, value)| value.clone());
        let body: Option<serde_json::Value> = serde_json::from_str(&record.body).ok();
        let model = body.and_then(|body| Some(body.get("model")?.as_str()?.to_owned()));
        let (key, model) = (key.unwrap_or_default(), model.unwrap_or_default());
        (key != format!("Bearer key-{model}")).then(|| format!("{key} with {model} in {}", record.body))
    };
    // One whose body has not been read yet is looked at the next time.
    engine.records().into_iter().filter(|record| !record.body.is_empty()).filter_map(of).collect()
}
