//! C2: what a request waits longer because something stands between it and the engine.
//!
//! Open loop at a fixed rate, proxy on one core, engine and load generator on another; a spinner of the idle scheduling
//! class on each core keeps small virtual machines from halting it, which would cost more than any proxy. The time that
//! the engine alone takes is measured in the same round and taken off.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::c1::PROMPT_BYTES;
use crate::harness::contest::{Contest, chats};
use crate::harness::pace::{Answers, Latencies, Pace};
use crate::harness::proof::{Finding, Proof, RatioBound, Setting, Trouble, median};
use kit::process;
use kit::program::Program;

pub(crate) const PROOF: Proof = Proof {
    id: "C2",
    what: "added latency p50 at 200/s and 1,000/s, against bare Pingora",
    goal: "≤1.25 at both rates",
    quick_s: 14,
    full_s: 75,
    needs: "two cores, chrt and taskset (util-linux)",
    run,
};

const BOUND: RatioBound = RatioBound { full: 1.25, quick: 10.0 };
const RATES: [u32; 2] = [200, 1000];
/// The cores of the proxy, and of engine and load.
const CORES: [usize; 2] = [0, 1];

#[derive(Debug, Serialize)]
struct Round {
    rate: u32,
    direct: Latencies,
    ours: Latencies,
    bare: Latencies,
}

impl Round {
    fn added(&self, of: fn(&Latencies) -> f64) -> [f64; 2] {
        [of(&self.ours) - of(&self.direct), of(&self.bare) - of(&self.direct)]
    }
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    if process::cores() < 2 {
        return Err(Trouble::Unexpected("two cores are needed".to_owned()));
    }
    setting.block_on(async {
        let contest = Contest::start(setting, "c2").await?;
        let [proxy, load] = CORES;
        process::pin(std::process::id(), load)?;
        process::pin(contest.ours.program.pid(), proxy)?;
        process::pin(contest.bare.program.pid(), proxy)?;
        let _spinners = [spinner(setting, proxy)?, spinner(setting, load)?];
        let mut rounds = Vec::new();
        for number in 0..setting.size(2, 7) {
            for rate in RATES {
                rounds.push(round(&contest, rate, setting.size(1000, 1500), number % 2 == 0).await?);
            }
        }
        Ok(judge(setting, &rounds))
    })
}

async fn round(contest: &Contest, rate: u32, window_ms: u64, ours_first: bool) -> Result<Round, Trouble> {
    let pace = Pace {
        requests: Arc::new(chats(PROMPT_BYTES, 16, false)),
        connections: 16,
        answers: Answers::All(200),
        rate_per_s: rate,
        warm: Duration::from_millis(300),
        window: Duration::from_millis(window_ms),
    };
    let direct = pace.measure(contest.engine).await?;
    let (ours, bare) = if ours_first {
        let ours = pace.measure(contest.ours.address).await?;
        (ours, pace.measure(contest.bare.address).await?)
    } else {
        let bare = pace.measure(contest.bare.address).await?;
        (pace.measure(contest.ours.address).await?, bare)
    };
    Ok(Round { rate, direct, ours, bare })
}

/// Keeps a core from halting and gives way to everything.
fn spinner(setting: &Setting, core: usize) -> Result<Program, Trouble> {
    let core = core.to_string();
    let arguments = ["--idle", "0", "taskset", "-c", &core, "sh", "-c", "while :; do :; done"];
    Ok(Program::start(std::path::Path::new("chrt"), arguments, &setting.out.join("c2-spinner.log"))?)
}

fn judge(setting: &Setting, rounds: &[Round]) -> Finding {
    let (mut figures, mut summary, mut worst) = (Vec::new(), Vec::new(), f64::NEG_INFINITY);
    for rate in RATES {
        let added = |which: usize, of: fn(&Latencies) -> f64| {
            let of_rate = rounds.iter().filter(|round| round.rate == rate);
            median(&of_rate.filter_map(|round| round.added(of).get(which).copied()).collect::<Vec<_>>())
        };
        let (ours, bare) = (added(0, |l| l.p50_us), added(1, |l| l.p50_us));
        // Where even the bare proxy adds less than the clock's noise, a ratio says nothing.
        let ratio = ours / bare.max(1.0);
        worst = worst.max(ratio);
        figures.push(format!("{rate}/s {ratio:.2}× (+{ours:.0} µs, bare +{bare:.0} µs)"));
        summary.push(json!({
            "rate_per_s": rate, "ratio_p50": ratio, "ours_added_p50_us": ours, "bare_added_p50_us": bare,
            "ours_added_p99_us": added(0, |l| l.p99_us), "bare_added_p99_us": added(1, |l| l.p99_us),
        }));
    }
    let (goal, ok) = BOUND.judge(setting.quick, worst);
    Finding { figure: figures.join("; "), goal, ok, details: json!({ "medians": summary, "rounds": rounds }) }
}
