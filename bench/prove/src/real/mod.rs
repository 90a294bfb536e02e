//! P1, P2, P4, P5 and P6 in real time: the shipped program and HAProxy, each in front of simulated engines, over sockets.
//!
//! The drills show the same in virtual time, with the state machine alone. Here everything takes part that they leave
//! out: the program with its parsing, budgets, locks, timers and metering, the kernel, and what engines and clients see
//! of each other through it. [`haproxy`] is the strongest opponent that is in a distribution: a bound on the requests
//! that each engine has at once, a queue with two classes, and a longest wait in it, each set after what the drills say of the engines.
//!
//! Every side has a fleet of its own, alike in all, and gets the same requests at the same moments from a generator of
//! its own, with the same seed. All sides run *at once*: what else happens on the machine then happens to all of them.
//! Four replicas of the usual profile stream five to six thousand tokens a second at any load beyond their capacity, which
//! leaves room for three fleets on two cores; where they do not, the generators are late, and the proof says so instead of a figure.
//!
//! At full size all is played twice: with the engines on the same machine, and with 100 ms of network each way before them,
//! as the engines themselves play it ([`Behaviour::way_ms`](engine::behaviour::Behaviour::way_ms)).
//!
//! The small size has shorter answers and stages, and bounds that its few hundred requests can tell from chance.

mod climb;
mod haproxy;
mod judge;
mod llama;
mod loss;
mod picture;
mod play;
mod search;
mod side;
mod slow;
mod table;
mod wave;

use std::cell::OnceCell;

use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use table::Table;

/// What is played once and judged under several ids.
#[derive(Debug, Default)]
struct Played {
    climb: OnceCell<Table>,
    wave: OnceCell<Table>,
    knobs: OnceCell<side::Knobs>,
    llama: OnceCell<llama::Pace>,
}

impl Played {
    /// What was played in this run of `prove`.
    fn of(setting: &Setting) -> Result<&Self, Trouble> {
        setting.played()
    }

    /// What is set by hand: as found in this run, or before.
    fn knobs(&self) -> side::Knobs {
        self.knobs.get().copied().unwrap_or_default()
    }
}

pub(crate) use llama::{CLIMB as LLAMA, LOSS as LLAMA_LOSS, WAVE as LLAMA_WAVE};
pub(super) use search::PROOF as SEARCH;
pub(super) use slow::PROOF as SLOW;

pub(super) const P1: Proof = Proof {
    id: "P1-real",
    what: "real time, beside HAProxy: priority attainment at 2×, 3×, 3× CV 3, 10× with 8 % priority",
    goal: "≥99.9 %, ≥99.5 %, ≥97 %, ≥99 %",
    quick_s: 14,
    full_s: 580,
    needs: haproxy::NEEDED,
    run: |setting| shown(climb::played(setting)?, "P1"),
};

pub(super) const P2: Proof = Proof {
    id: "P2-real",
    what: "real time, beside HAProxy: goodput at 1.2×, 1.5×, 2×, 3× against the limit held (run of P1-real)",
    goal: "≥0.95 each",
    quick_s: 0,
    full_s: 0,
    needs: haproxy::NEEDED,
    run: |setting| shown(climb::played(setting)?, "P2"),
};

pub(super) const P4: Proof = Proof {
    id: "P4-real",
    what: "real time, beside HAProxy, clients retry: 0.7× → 3×: first shed, priority in 30 s and after",
    goal: "≤1 s, ≥98 %, ≥99.9 %",
    quick_s: 20,
    full_s: 300,
    needs: haproxy::NEEDED,
    run: |setting| shown(wave::played(setting)?, "P4"),
};

pub(super) const P6: Proof = Proof {
    id: "P6-real",
    what: "real time, beside HAProxy, clients retry: both tiers at 99 % again after it (run of P4-real)",
    goal: "≤10 s",
    quick_s: 0,
    full_s: 0,
    needs: haproxy::NEEDED,
    run: |setting| shown(wave::played(setting)?, "P6"),
};

pub(super) const P5: Proof = Proof {
    id: "P5-real",
    what: "real time, beside HAProxy: half of the replicas killed at 0.8×: priority from +2 s",
    goal: "≥99 %",
    quick_s: 11,
    full_s: 180,
    needs: haproxy::NEEDED,
    run: |setting| shown(&loss::played(setting)?, "P5"),
};

/// The rows of `id` as a finding.
fn shown(table: &Table, id: &str) -> Result<Finding, Trouble> {
    table.finding(id)
}
