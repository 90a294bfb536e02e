//! P10: equal accounts get equal service, and a heavy neighbour costs a light account nothing.
//!
//! Eight equal accounts at 3×, regular, so that each asks for more than its share all the time: Jain's index of their
//! weighted tokens in the worst minute. And a light account beside one that asks for ten times as much, at 2× in all,
//! against the same load from eleven equal accounts: the light one's p99 of time to first token.

use std::time::Duration;

use serde_json::json;

use crate::{Case, Goal, Line, Pool, Shown, Size};
use drill::play::play;
use drill::policy::Policy;
use drill::run::Ended;
use drill::scenario::{Accounts, Scenario};
use drill::settings::Setting;

const EQUALS: u32 = 8;
const WINDOW_S: usize = 60;
/// A light account's load beside a neighbour ten times heavier.
const LIGHT: f64 = 1.0 / 11.0;

/// See the module.
pub(crate) const GOAL: Goal = Goal {
    id: "P10",
    what: "Jain index of equal backlogged accounts; a light account's TTFT p99 beside a 10× neighbour, ratio",
    goal: "≥0.98; ≤1.10",
    quick_s: 1,
    full_s: 5,
    show,
};

fn show(size: Size) -> Shown {
    let seeds = size.seeds();
    let equal = |seed| of_accounts(seed, 3.0, &[(0, EQUALS, 1.0)]);
    let runs = pool(seeds, &equal);
    let jain = runs.runs.iter().map(|run| run.jain(EQUALS, WINDOW_S)).fold(1.0, f64::min);
    let many = pool(seeds, &|seed| of_accounts(seed, 2.0, &[(0, 11, 1.0)]));
    let beside = pool(seeds, &|seed| of_accounts(seed, 2.0, &[(0, 1, LIGHT), (1, 1, 1.0 - LIGHT)]));
    let p99 = |pool: &Pool, of: &dyn Fn(&Ended) -> bool| {
        pool.runs.iter().map(|run| run.ttft(0.99, of).as_secs_f64()).sum::<f64>() / pool.runs.len() as f64
    };
    let light = p99(&beside, &|ended| ended.account == 0);
    let among_equals = p99(&many, &|_| true);
    let details = json!({
        "light_p99_s": light, "among_equals_p99_s": among_equals,
        "light_attained": beside.attained_of(|ended| ended.account == 0),
        "among_equals_attained": many.attained_of(|_| true),
    });
    Shown::of(vec![
        Line::at_least("eight equal accounts at 3×".to_owned(), "Jain", jain, 0.98, runs.summary()),
        Line::at_most(
            "light beside heavy at 2×".to_owned(),
            "p99 ratio",
            light / among_equals,
            1.10,
            details,
        ),
    ])
}

/// A drill of regular traffic: sources as first account, accounts, share of the load.
fn of_accounts(seed: u64, load: f64, sources: &[(u32, u32, f64)]) -> Scenario {
    let mut scenario = Case { priority: 0.0, ..Case::new(Setting::CHAT, load, 1.0) }.scenario(seed);
    let whole = scenario.sources.clone();
    scenario.sources = whole
        .into_iter()
        .flat_map(|source| {
            sources.iter().map(move |&(first, count, share)| {
                let mut source = source.clone();
                source.rate_per_s *= share;
                source.accounts = Accounts { first, count, zipf: 0.0 };
                source
            })
        })
        .collect();
    scenario.end = scenario.warm_up + Duration::from_secs(3 * WINDOW_S as u64);
    scenario
}

fn pool(seeds: &[u64], scenario: &dyn Fn(u64) -> Scenario) -> Pool {
    Pool { runs: seeds.iter().map(|&seed| play(&scenario(seed), &Policy::Shipped)).collect() }
}
