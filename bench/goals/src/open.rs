//! The open world: what is promised of load, on every family of [`drill::settings::families`].
//!
//! | line | of a cell | goal |
//! |---|---|---|
//! | P1 | priority in time, behind *priority alone on the fleet* | 0.002 |
//! | P2 | requests in time, against the best of what could have been held by hand and serves priority as well, but for 0.001 | 0.95 |
//! | P3 | what is computed for requests that miss | 0.01 |
//! | P7 | at 0.8×: in time, behind no control, the worse tier | 0.001 |
//! | P4 | from 2× on: seconds from arrival to a 503, the ninth of ten | 0.1 |
//! | P15 | from 2× on: regular in time, the worst quartile of prompts by size against the mean | 1/3 |
//!
//! By hand could be held: the limit of the same shedder, and fixed places with a queue, each the best of a search on the
//! first seed that is judged. A cell is a family and a load; the goal is that 95 % of all lines hold, and that none is more
//! than 3 points (P1) or 10 % (P2) short.
//!
//! The seeds are not those that anything was tuned on: 1 to 99 are for tuning.

pub mod causes;

use std::time::Duration;

use serde_json::json;
use shedder::Tier;

use super::{Case, Goal, Line, Pool, Shown, Size};
use crate::in_parallel;
use drill::policy::Policy;
use drill::run::Outcome;
use drill::settings::Setting;
use drill::settings::families::{FAMILIES, named};

/// See the module.
pub(super) const GOAL: Goal = Goal {
    id: "open",
    what: "P1, P2, P3, P4, P7, P15 on engines and networks that behave otherwise, at 0.8×, 1.2×, 2× and 3×",
    goal: "95 % of the lines; none short by more than 0.03 (P1), 0.1 (P2)",
    quick_s: 6,
    full_s: 9_000,
    show,
};

const LOADS: [f64; 4] = [0.8, 1.2, 2.0, 3.0];
/// Two sets; none of them was tuned on.
const SEEDS: [&[u64]; 2] = [&[101, 102], &[103, 104]];
/// The cells of the small size.
const QUICK: [(&str, f64); 20] = [
    ("plain", 0.8),
    ("plain", 2.0),
    ("network-100", 0.8),
    ("network-100", 2.0),
    ("jitter", 2.0),
    ("lag-300", 0.8),
    ("lag-300", 2.0),
    ("lag-spread", 1.2),
    ("pictures", 0.8),
    ("pictures", 2.0),
    ("tail", 0.8),
    ("tail", 2.0),
    ("pauses", 0.8),
    ("stalls", 2.0),
    ("graphs", 2.0),
    ("slow-card", 0.8),
    ("slow-card", 2.0),
    ("mixed", 2.0),
    ("last-come", 2.0),
    ("several-steps", 1.2),
];
/// Fixed places that are tried.
const PLACES: [u32; 9] = [8, 16, 24, 32, 48, 64, 80, 104, 136];
/// The part of them that regular may fill.
const REGULAR: [f64; 2] = [1.0, 0.75];
/// Lines that must hold.
const HOLD: f64 = 0.95;

fn show(size: Size) -> Shown {
    let own = size.seeds().first().copied().unwrap_or(1);
    let sets: Vec<Vec<u64>> =
        SEEDS.iter().map(|set| set.iter().map(|seed| seed + own - 1).collect()).collect();
    let quick: Vec<_> = QUICK.iter().filter_map(|&(name, load)| Some((named(name)?, load))).collect();
    let full: Vec<_> = FAMILIES.iter().flat_map(|&family| LOADS.map(|load| (family, load))).collect();
    let cells = size.of(quick, full);
    let sets = size.of(sets.iter().take(1).map(|set| set.iter().take(1).copied().collect()).collect(), sets);
    let cells: Vec<(Setting, f64, Vec<u64>)> =
        sets.iter().flat_map(|set| cells.iter().map(|&(family, load)| (family, load, set.clone()))).collect();
    let search = size.of(false, true);
    let lines: Vec<Line> = in_parallel(&cells, |(family, load, seeds)| cell(*family, *load, seeds, search))
        .into_iter()
        .flatten()
        .collect();
    let shown = Shown::of(lines);
    let (held, far) = held_and_far(&shown.lines);
    Shown {
        figure: format!(
            "{:.1} % of {} lines, {far} far; worst: {}",
            100.0 * held,
            shown.lines.len(),
            shown.figure
        ),
        ok: held >= HOLD && far == 0,
        ..shown
    }
}

/// The part of the lines that hold, and how many are far off.
pub(super) fn held_and_far(lines: &[Line]) -> (f64, usize) {
    let far = |line: &&Line| {
        let short = if line.at_most { line.figure - line.goal } else { line.goal - line.figure };
        short
            > match line.of {
                "P1" => 0.03,
                "P2" => 0.1,
                _ => f64::INFINITY,
            }
    };
    let held = lines.iter().filter(|line| line.ok).count() as f64 / lines.len().max(1) as f64;
    (held, lines.iter().filter(far).count())
}

/// All lines of a family at a load. Without `search`, P2 is left out: it takes twenty plays.
pub(super) fn cell(family: Setting, load: f64, seeds: &[u64], search: bool) -> Vec<Line> {
    let case = Case::new(family, load, 1.0);
    let name = case.name();
    let pool = case.play(&Policy::Shipped, seeds);
    let priority = pool.attained(Tier::Priority);
    let alone = case.priority_alone().play(&Policy::NoControl, seeds).attained(Tier::Priority);
    let mut lines = vec![
        Line::at_most(
            name.clone(),
            "P1",
            alone - priority,
            0.002,
            json!({ "alone": alone, "runs": pool.summary() }),
        ),
        Line::at_most(name.clone(), "P3", pool.waste(), 0.01, json!(null)),
    ];
    if search {
        let best = by_hand(&case, &pool, seeds);
        let details = json!({ "goodput_per_s": pool.goodput(), "best": best.1, "with": best.0 });
        lines.push(Line::at_least(
            name.clone(),
            "P2",
            pool.goodput() / best.1.max(f64::MIN_POSITIVE),
            0.95,
            details,
        ));
    }
    if load < 1.0 {
        let free = case.play(&Policy::NoControl, seeds);
        let behind = Tier::ALL.map(|tier| free.attained(tier) - pool.attained(tier));
        let details = json!({ "behind_priority_and_regular": behind, "shed": pool.shed() });
        lines.push(Line::at_most(name.clone(), "P7", behind.into_iter().fold(0.0, f64::max), 0.001, details));
    }
    if load >= 2.0 {
        lines.push(Line::at_most(name.clone(), "P4", told_after(&pool, 0.9), 0.1, json!(null)));
        let (worst, quartiles) = by_size(&pool);
        lines.push(Line::at_least(name, "P15", worst, 1.0 / 3.0, json!({ "quartiles": quartiles })));
    }
    lines
}

/// The best that could have been held by hand, and its requests in time per second.
fn by_hand(case: &Case, ours: &Pool, seeds: &[u64]) -> (String, f64) {
    let least = ours.attained(Tier::Priority) - 0.001;
    let serves = |pool: &Pool| if pool.attained(Tier::Priority) >= least { pool.goodput() } else { 0.0 };
    let first = seeds.get(..1).unwrap_or_default();
    let held = case.best_held(&Policy::held_at, ours.limit_mean(), least, seeds);
    let held_policy = Policy::held_at(held.limit.max(1.0));
    let mut best = (held_policy.name(), serves(&case.play(&held_policy, seeds)));
    let wait = Duration::from_millis(1_800);
    let places = PLACES
        .iter()
        .flat_map(|&places| REGULAR.map(|regular| Policy::FixedConcurrency { places, wait, regular }));
    let tried = places.map(|policy| {
        let goodput = serves(&case.play(&policy, first));
        (policy, goodput)
    });
    if let Some((policy, _)) = tried.max_by(|a, b| a.1.total_cmp(&b.1)) {
        let goodput = serves(&case.play(&policy, seeds));
        if goodput > best.1 {
            best = (policy.name(), goodput);
        }
    }
    best
}

/// Seconds from arrival until a refusal was told, the given quantile.
fn told_after(pool: &Pool, quantile: f64) -> f64 {
    let shed = pool
        .runs
        .iter()
        .flat_map(|run| run.judged())
        .filter(|ended| matches!(ended.outcome, Outcome::Shed(_)));
    let mut after: Vec<f64> = shed.map(|ended| (ended.ended - ended.tried).as_secs_f64()).collect();
    after.sort_by(f64::total_cmp);
    after.get((quantile * after.len() as f64) as usize).copied().unwrap_or(0.0)
}

/// Regular in time of the worst quartile of prompts by size, as a part of the mean; and of each.
fn by_size(pool: &Pool) -> (f64, [f64; 4]) {
    let regular = pool.runs.iter().flat_map(|run| run.judged()).filter(|ended| ended.tier == Tier::Regular);
    let mut sizes: Vec<u32> = regular.map(|ended| ended.size.prompt_tokens).collect();
    sizes.sort_unstable();
    let bound = |quarter: usize| sizes.get(sizes.len() * quarter / 4).copied().unwrap_or(u32::MAX);
    let bounds = [0, bound(1), bound(2), bound(3), u32::MAX];
    let mut quartiles = [0.0; 4];
    for (quartile, edge) in quartiles.iter_mut().zip(bounds.windows(2)) {
        let [from, to] = [edge.first(), edge.last()].map(|bound| bound.copied().unwrap_or_default());
        *quartile = pool.attained_of(|ended| {
            ended.tier == Tier::Regular && (from..to).contains(&ended.size.prompt_tokens)
        });
    }
    let mean = pool.attained(Tier::Regular);
    let worst = quartiles.iter().copied().fold(f64::INFINITY, f64::min);
    (if mean > 0.0 { worst / mean } else { 1.0 }, quartiles)
}
