//! C7-p99: how soon a refusal is there while ten times as much is offered as can be served.
//!
//! A simulated engine in real time has eight places, and nothing may wait: whoever finds none is to be told at once. A
//! first load, more than enough for all places, shows how many are served a second; an open loop at ten times that is
//! measured. Times run from when a request was due to the last byte of its refusal, on a machine that carries engine,
//! gateway and load together.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::harness::contest::{ACCOUNTS, chats};
use crate::harness::pace::{Answers, Pace};
use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use crate::harness::tidegate::{Config, Tidegate};
use engine::server::{EngineServer, EngineServerConfig};

pub(crate) const PROOF: Proof = Proof {
    id: "C7-p99",
    what: "a 503 at ten times the load that is served: from due to its last byte, p99",
    goal: "≤5 ms",
    quick_s: 7,
    full_s: 20,
    needs: "",
    run,
};

/// Places on the engine.
const PLACES: usize = 8;
/// Requests per second that keep all places taken.
const ENOUGH_PER_S: u32 = 300;
/// Offered by served.
const OVERLOAD: f64 = 10.0;
/// Tokens of an answer.
const TOKENS: u32 = 16;
const GOAL_MS: f64 = 5.0;
/// Enough for all that are served and some hundred refusals at once.
const CONNECTIONS: usize = 128;

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let engine = EngineServer::start(EngineServerConfig::default()).await?;
        let mut config = Config::limitless(vec![engine.addr], ACCOUNTS);
        config.deployment =
            format!(", slo: {{ ttft_ms: 2000, tpot_ms: 100 }}, limit: {PLACES}, queue: {{ requests: 0 }}");
        let ours = Tidegate::start(setting, "c7-p99", &config).await?;
        let seconds = setting.size(2, 6);
        let pace = |rate_per_s| Pace {
            requests: Arc::new(chats(super::c1::PROMPT_BYTES, TOKENS, false)),
            connections: CONNECTIONS,
            answers: Answers::Either { recorded: 503, other: 200 },
            rate_per_s,
            warm: Duration::from_millis(500),
            window: Duration::from_millis(seconds * 1000),
        };
        let enough = pace(ENOUGH_PER_S).measure(ours.address).await?;
        let served_per_s = enough.others as f64 / seconds as f64;
        let rate = (served_per_s * OVERLOAD).ceil() as u32;
        let refused = pace(rate).measure(ours.address).await?;
        let p99_ms = refused.p99_us / 1e3;
        let share = refused.count as f64 / (refused.count + refused.others).max(1) as f64;
        Ok(Finding {
            figure: format!(
                "p50 {:.2} ms, p99 {p99_ms:.2} ms, max {:.1} ms of {} refusals; {rate}/s offered, {served_per_s:.0}/s served, \
                 {:.0} % refused",
                refused.p50_us / 1e3,
                refused.max_us / 1e3,
                refused.count,
                share * 100.0
            ),
            goal: format!("≤{GOAL_MS} ms{}", if setting.quick { " (quick: not judged)" } else { "" }),
            // A time is no bound of a test that runs on whatever machine is free; that most are refused is.
            ok: share > 0.8 && (setting.quick || p99_ms <= GOAL_MS),
            details: json!({ "refused": refused, "served_per_s": served_per_s, "offered_per_s": rate }),
        })
    })
}
