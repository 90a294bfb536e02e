//! C1: what a small request costs with everything on, against a proxy that does nothing.
//!
//! Everything: key, three budgets, queue and capacity, weighing, metering, metrics, the access log in a file. 32
//! connections, so that none of the 54 places of an untaught replica is missing and nothing waits.

use std::sync::Arc;
use std::time::Duration;

use crate::harness::contest::{Contest, chats, judge};
use crate::harness::meter::{Load, Unit};
use crate::harness::proof::{Finding, Proof, RatioBound, Setting, Trouble};

pub(crate) const PROOF: Proof = Proof {
    id: "C1",
    what: "CPU per small request, everything on, against bare Pingora",
    goal: "≤1.25",
    quick_s: 10,
    full_s: 40,
    needs: "",
    run,
};

const BOUND: RatioBound = RatioBound { full: 1.25, quick: 6.0 };

/// Bytes of the prompt.
pub(crate) const PROMPT_BYTES: usize = 200;

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let contest = Contest::start(setting, "c1").await?;
        contest.share_a_core()?;
        let load = Load {
            requests: Arc::new(chats(PROMPT_BYTES, 16, false)),
            connections: 32,
            status: 200,
            unit: Unit::Answers,
            warm: Duration::from_millis(500),
            window: Duration::from_millis(setting.size(1000, 2000)),
        };
        let rounds = contest.rounds(&load, setting.size(3, 7)).await?;
        Ok(judge(setting, &rounds, BOUND))
    })
}
