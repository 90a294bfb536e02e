//! C5: what a large prompt costs, and what memory it takes.
//!
//! The same sixteen prompts come again and again, so most of each is expected in the engines' caches, as in long
//! conversations. Memory: 48 bodies of 400 KB held at once by a fresh process, against what it took before.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::contest::{ACCOUNTS, Contest, Ratio, chats, details, instant_engine};
use crate::harness::meter::{Load, Unit};
use crate::harness::proof::{Finding, Proof, RatioBound, Setting, Trouble};
use crate::harness::raw::Connection;
use crate::harness::tidegate::{Config, Tidegate, chat};
use kit::process;

pub(crate) const PROOF: Proof = Proof {
    id: "C5",
    what: "prompts of 32 KB and 400 KB: CPU against bare Pingora; memory by body",
    goal: "≤2 and ≤5; ≤3",
    quick_s: 16,
    full_s: 60,
    needs: "",
    run,
};

const BOUND_32K: RatioBound = RatioBound { full: 2.0, quick: 8.0 };
const BOUND_400K: RatioBound = RatioBound { full: 5.0, quick: 20.0 };
const MEMORY_MAX: f64 = 3.0;
const SMALL: usize = 32_000;
const LARGE: usize = 400_000;
/// Bodies held at once.
const HELD: usize = 48;

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let memory = memory_by_body(setting).await?;
        let contest = Contest::start(setting, "c5").await?;
        contest.share_a_core()?;
        let small = contest.rounds(&load(setting, SMALL, 16), setting.size(3, 5)).await?;
        let large = contest.rounds(&load(setting, LARGE, 8), setting.size(3, 5)).await?;
        let (of_small, of_large) = (Ratio::of(&small), Ratio::of(&large));
        let (goal_small, ok_small) = BOUND_32K.judge(setting.quick, of_small.ratio);
        let (goal_large, ok_large) = BOUND_400K.judge(setting.quick, of_large.ratio);
        Ok(Finding {
            figure: format!("{}; {}; memory {memory:.1}× the body", of_small.figure(), of_large.figure()),
            goal: format!("{goal_small}; {goal_large}; ≤{MEMORY_MAX}"),
            ok: ok_small && ok_large && memory <= MEMORY_MAX,
            details: json!({
                "32k": details(&of_small, &small), "400k": details(&of_large, &large),
                "memory_by_body": memory, "bodies_held": HELD,
            }),
        })
    })
}

fn load(setting: &Setting, bytes: usize, connections: usize) -> Load {
    Load {
        requests: Arc::new(chats(bytes, 16, false)),
        connections,
        status: 200,
        unit: Unit::Answers,
        warm: Duration::from_millis(700),
        window: Duration::from_millis(setting.size(1000, 2000)),
    }
}

/// How much the gateway grows for each byte of the bodies that it holds.
async fn memory_by_body(setting: &Setting) -> Result<f64, Trouble> {
    let engine = instant_engine().await?;
    let mut config = Config::limitless(vec![engine.addr], ACCOUNTS);
    config.deployment = ", slo: { ttft_ms: 60000, tpot_ms: 1000 }".to_owned();
    let ours = Tidegate::start(setting, "c5-memory", &config).await?;
    let pid = ours.program.pid();
    let before = process::memory(pid)?;
    let mut held = JoinSet::new();
    let mut bytes = 0;
    for number in 0..HELD {
        let prompt = crate::harness::contest::words(LARGE, number as u64);
        let body = format!(
            "{{\"model\":\"{}\",\"max_tokens\":4,\"user\":\"sim:delay=4s\",\"messages\":[{{\"role\":\"user\",\"content\":\"{prompt}\"}}]}}",
            crate::harness::tidegate::MODEL
        );
        bytes += body.len() as u64;
        let request = chat(&format!("key-{}", number % ACCOUNTS), &body);
        let target = ours.address;
        held.spawn(async move { Connection::open(target).await?.exchange(&request, |_| ()).await });
    }
    let mut most = before;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        most = most.max(process::memory(pid)?);
    }
    Ok((most - before) as f64 / bytes as f64)
}
