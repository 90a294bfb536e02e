//! The open world, two families at once: whatever can be combined of [`drill::settings::families`].
//!
//! The lines are those of [`open`](super::open) but for P2, whose search takes twenty plays. Load 1 of each pair is found by
//! bisection first, with a seed that is not judged. A pair that never attains 99 % has no load 1 and is left out; so is one
//! whose knee is under [`KNEE_MIN`], with which nothing could be told from chance.

use super::open::{cell, held_and_far};
use super::{Goal, Line, Shown, Size, in_parallel};
use drill::settings::families::{FAMILIES, combined, named};
use drill::settings::{Setting, knee};

/// See the module.
pub(super) const GOAL: Goal = Goal {
    id: "pairs",
    what: "P1, P3, P4, P7, P15 where two families meet, at 0.8× and 2×",
    goal: "95 % of the lines; none short by more than 0.03 (P1)",
    quick_s: 4,
    full_s: 1_500,
    show,
};

const LOADS: [f64; 2] = [0.8, 2.0];
const SEEDS: [u64; 2] = [101, 102];
const SEED_OF_KNEE: u64 = 1;
/// Fewer requests a second leave too few to judge by.
const KNEE_MIN: f64 = 1.0;
/// The pairs of the small size.
const QUICK: [(&str, &str); 4] = [
    ("network-100", "pictures"),
    ("lag-300", "mixed"),
    ("speculative", "pictures"),
    ("small-steps", "pictures"),
];
const HOLD: f64 = 0.95;

fn show(size: Size) -> Shown {
    let own = size.seeds().first().copied().unwrap_or(1);
    let seeds: Vec<u64> = SEEDS.iter().map(|seed| seed + own - 1).collect();
    let seeds = size.of(seeds.get(..1).unwrap_or_default().to_vec(), seeds);
    let pairs = size.of(
        QUICK.iter().filter_map(|&(one, other)| Some((named(one)?, named(other)?))).collect(),
        all_pairs(),
    );
    let played = in_parallel(&pairs, |(one, other)| of_pair(one, other, &seeds));
    let with_knee = played.iter().filter(|lines| !lines.is_empty()).count();
    let shown = Shown::of(played.into_iter().flatten().collect());
    let (held, far) = held_and_far(&shown.lines);
    Shown {
        figure: format!(
            "{:.1} % of {} lines of {with_knee} pairs, {far} far; worst: {}",
            100.0 * held,
            shown.lines.len(),
            shown.figure
        ),
        ok: held >= HOLD && far == 0,
        ..shown
    }
}

fn all_pairs() -> Vec<(Setting, Setting)> {
    let others = |first: usize| FAMILIES.iter().skip(first + 1);
    FAMILIES
        .iter()
        .enumerate()
        .skip(1)
        .flat_map(|(first, one)| others(first).map(move |other| (*one, *other)))
        .filter(|(one, other)| combined(one, other).is_some())
        .collect()
}

/// All lines of a pair, named after both.
fn of_pair(one: &Setting, other: &Setting, seeds: &[u64]) -> Vec<Line> {
    let Some(both) = combined(one, other) else { return Vec::new() };
    let most = both.knee_per_s;
    let found = knee(&both, KNEE_MIN / 2.0, 1.25 * most, &[SEED_OF_KNEE]);
    if found < KNEE_MIN {
        return Vec::new();
    }
    let both = Setting { knee_per_s: found, ..both };
    let lines = LOADS.iter().flat_map(|&load| cell(both, load, seeds, false));
    lines.map(|line| Line { case: format!("{}+{}", other.name, line.case), ..line }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_families_can_be_combined_and_none_with_itself() {
        let pairs = all_pairs();
        assert!(pairs.len() > 250, "{}", pairs.len());
        assert!(pairs.iter().all(|(one, other)| one.name != other.name && one.name != "plain"));
    }
}
