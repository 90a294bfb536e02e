//! C7: what a refusal costs over a kept connection, against a proxy that reads the body and refuses.
//!
//! 429: each of sixteen accounts has one budget that the first request used up. 503: the only place is held by a stream
//! that never ends, and nothing may wait.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::harness::canned::Canned;
use crate::harness::contest::{ACCOUNTS, Bare, Contest, Ratio, Round, chats, details, instant_engine};
use crate::harness::meter::{Load, Unit};
use crate::harness::proof::{Finding, Proof, RatioBound, Setting, Trouble};
use crate::harness::raw::Connection;
use crate::harness::tidegate::{Config, Tidegate, hold};

pub(crate) const PROOF: Proof = Proof {
    id: "C7",
    what: "CPU per 429 and per 503 over keep-alive, against a bare Pingora that refuses",
    goal: "≤1.6 each",
    quick_s: 16,
    full_s: 50,
    needs: "",
    run,
};

const BOUND: RatioBound = RatioBound { full: 1.6, quick: 12.0 };

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let budget = over_budget(setting).await?;
        let load = over_load(setting).await?;
        let (of_budget, of_load) = (Ratio::of(&budget), Ratio::of(&load));
        let (goal, ok) = BOUND.judge(setting.quick, of_budget.ratio.max(of_load.ratio));
        Ok(Finding {
            figure: format!("429 {}; 503 {}", of_budget.figure(), of_load.figure()),
            goal,
            ok,
            details: json!({ "429": details(&of_budget, &budget), "503": details(&of_load, &load) }),
        })
    })
}

async fn over_budget(setting: &Setting) -> Result<Vec<Round>, Trouble> {
    let engine = Canned::start()?.addr;
    let mut config = Config::limitless(vec![engine], ACCOUNTS);
    for account in &mut config.accounts {
        let small = "{ prompt: 1, uncached_prompt: 1000000, generated: 1000000 }";
        let large = "{ prompt: 1000000, uncached_prompt: 1000000, generated: 1000000 }";
        account.more = format!(
            ", requests_per_minute: 100000000, concurrency: 100000, \
             limits: [{{ start: {small}, floor: {small}, ceiling: {large} }}]"
        );
    }
    let ours = Tidegate::start(setting, "c7-429", &config).await?;
    // What is larger than an empty budget is admitted once and carried as debt.
    for request in chats(super::c1::PROMPT_BYTES, 16, false) {
        Connection::open(ours.address).await?.exchange(&request, |_| ()).await?;
    }
    let bare = Bare::start(setting, "c7-429", engine, Some(429)).await?;
    let contest = Contest { ours, bare, engine };
    contest.share_a_core()?;
    contest.rounds(&load(setting, 429), setting.size(3, 5)).await
}

async fn over_load(setting: &Setting) -> Result<Vec<Round>, Trouble> {
    let simulated = instant_engine().await?;
    let mut config = Config::limitless(vec![simulated.addr], ACCOUNTS);
    config.deployment = ", slo: { ttft_ms: 2000, tpot_ms: 100 }, limit: 1, queue: { requests: 0 }".to_owned();
    let ours = Tidegate::start(setting, "c7-503", &config).await?;
    let _held = hold(ours.address).await?;
    let bare = Bare::start(setting, "c7-503", simulated.addr, Some(503)).await?;
    let contest = Contest { ours, bare, engine: simulated.addr };
    contest.share_a_core()?;
    contest.rounds(&load(setting, 503), setting.size(3, 5)).await
}

fn load(setting: &Setting, status: u16) -> Load {
    Load {
        requests: Arc::new(chats(super::c1::PROMPT_BYTES, 16, false)),
        connections: 32,
        status,
        unit: Unit::Answers,
        warm: Duration::from_millis(300),
        window: Duration::from_millis(setting.size(800, 2000)),
    }
}
