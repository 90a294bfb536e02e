//! C3: what a streamed chunk costs when nothing holds it back, metering on.
//!
//! 16 streams of 1,000 chunks, each chunk a write of the engine's own, as fast as all go.

use std::sync::Arc;
use std::time::Duration;

use crate::harness::contest::{Contest, Ratio, chats, details};
use crate::harness::meter::{Load, Unit};
use crate::harness::proof::{Finding, Proof, RatioBound, Setting, Trouble};

pub(crate) const PROOF: Proof = Proof {
    id: "C3",
    what: "CPU per million streamed chunks, metering on, against bare Pingora",
    goal: "≤1",
    quick_s: 10,
    full_s: 40,
    needs: "",
    run,
};

const BOUND: RatioBound = RatioBound { full: 1.0, quick: 1.5 };

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let contest = Contest::start(setting, "c3").await?;
        contest.share_a_core()?;
        let load = Load {
            requests: Arc::new(chats(super::c1::PROMPT_BYTES, 1000, true)),
            connections: 16,
            status: 200,
            unit: Unit::Events,
            warm: Duration::from_millis(500),
            window: Duration::from_millis(setting.size(1000, 2000)),
        };
        let rounds = contest.rounds(&load, setting.size(3, 7)).await?;
        let ratio = Ratio::of(&rounds);
        let (goal, ok) = BOUND.judge(setting.quick, ratio.ratio);
        // Microseconds per chunk are seconds per million of them.
        let figure = format!("{:.2}× ({:.2} s, bare {:.2} s)", ratio.ratio, ratio.ours_us, ratio.bare_us);
        Ok(Finding { figure, goal, ok, details: details(&ratio, &rounds) })
    })
}
