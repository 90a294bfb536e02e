//! What has to be reached under load, as functions: each plays its drills and judges them by its goal.
//!
//! | id | what | goal |
//! |---|---|---|
//! | P1 | priority attainment at 2×; at 3×, CV 1; at 3×, CV 3; at 10× with 8 % priority | 99.9 %; 99.5 %; 97 % and within a point of priority alone; 99 % |
//! | P2 | goodput at 1.2×, 1.5×, 2×, 3× against the best fixed limit for that load | 0.95 each, in requests and in tokens |
//! | P3 | share of what is computed for requests that miss | 1 % |
//! | P4 | step 0.7× → 3×: first refusal; priority in the first 30 s; after | 1 s; 98 %; 99.9 % |
//! | P5 | half of the replicas lost at 0.8×: priority that arrives 2 s later | 99 % |
//! | P6 | back under 0.8× with clients that retry: both tiers at 99 % again within | 10 s |
//! | P7 | refused at 0.8× | nothing at CV 1, 0.5 % at CV 3 |
//! | P8 | P1, P2, P3 and P7 on every other profile and start | all hold |
//! | P9 | priority refused for load while a larger regular request was started | never |
//! | P10 | Jain index of backlogged accounts; a light account beside one that asks for ten times as much | 0.98; 10 % |
//! | P13 | priority alone over capacity: in time, against the best fixed limit | 90 % |
//! | P14 | preemptions where memory binds, per request | 1 % |
//! | M1 | half of the load flex: priority and regular against the same without it; goodput | −0.2 and −0.5 points; no less |
//! | open | P1, P2, P3, P4, P7 and fairness by size on the families of [`drill::settings::families`] | 95 % of all lines |
//! | pairs | the same but P2 where two families meet | 95 % of all lines |
//!
//! Attainment is pooled over the seeds of a case. A case that is judged by several goals has a line for each in the
//! details. The quick size plays one seed and the cases that say most; its goals are the same.

mod grid;

pub mod open;
mod pairs;

mod load;

pub mod matrix;
pub mod table;

pub use grid::{Case, Pool};

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// How much is played, and with which seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    full: bool,
    seeds: [u64; 3],
}

impl Size {
    /// One seed, the cases that say most.
    pub const QUICK: Self = Self { full: false, seeds: [1, 2, 3] };
    /// Three seeds, all cases.
    pub const FULL: Self = Self { full: true, ..Self::QUICK };

    /// The same with other seeds: `first` and those after it.
    #[must_use]
    pub fn from_seed(self, first: u64) -> Self {
        Self { seeds: [0, 1, 2].map(|n| first.wrapping_add(n)), ..self }
    }

    /// The seeds of this size.
    #[must_use]
    pub fn seeds(&self) -> &[u64] {
        if self.full { &self.seeds } else { self.seeds.get(..1).unwrap_or_default() }
    }

    /// `quick` or `full`.
    pub fn of<T>(self, quick: T, full: T) -> T {
        if self.full { full } else { quick }
    }
}

/// What came out of a goal's drills.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// The figure or figures, the worst of each kind.
    pub figure: String,
    /// Whether every line is met.
    pub ok: bool,
    /// All lines.
    pub lines: Vec<Line>,
}

/// One figure against one goal.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Line {
    /// What was played.
    pub case: String,
    /// What is judged of it.
    pub of: &'static str,
    /// The figure.
    pub figure: f64,
    /// The goal: not below it, or not above it.
    pub goal: f64,
    /// Whether smaller is better.
    pub at_most: bool,
    /// Whether it is met.
    pub ok: bool,
    /// Where it is not met: what can be had at all in this case, by the simplest rule that wants nothing else.
    pub beside: Option<Beside>,
    /// What explains it.
    pub details: Value,
}

/// A figure to hold a line that is short against.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Beside {
    /// What it is.
    pub what: &'static str,
    /// How much.
    pub figure: f64,
}

impl Line {
    /// A figure that must reach `goal`.
    #[must_use]
    pub fn at_least(case: String, of: &'static str, figure: f64, goal: f64, details: Value) -> Self {
        Self { case, of, figure, goal, at_most: false, ok: figure >= goal, beside: None, details }
    }

    /// A figure that must not exceed `goal`.
    #[must_use]
    pub fn at_most(case: String, of: &'static str, figure: f64, goal: f64, details: Value) -> Self {
        Self { case, of, figure, goal, at_most: true, ok: figure <= goal, beside: None, details }
    }

    /// Where it is short: with what can be had, computed only then.
    #[must_use]
    pub fn beside(self, what: &'static str, figure: impl FnOnce() -> f64) -> Self {
        let beside = (!self.ok).then(|| Beside { what, figure: figure() });
        Self { beside, ..self }
    }

    /// How far the figure is on the good side of its goal.
    fn margin(&self) -> f64 {
        if self.at_most { self.goal - self.figure } else { self.figure - self.goal }
    }
}

impl Shown {
    /// Judges all lines; the figure names the worst line of each kind and goal.
    #[must_use]
    pub fn of(lines: Vec<Line>) -> Self {
        let mut worst: Vec<&Line> = Vec::new();
        for line in &lines {
            let like = |other: &&mut &Line| other.of == line.of && other.goal.total_cmp(&line.goal).is_eq();
            match worst.iter_mut().find(like) {
                Some(other) if other.margin() <= line.margin() => {}
                Some(other) => *other = line,
                None => worst.push(line),
            }
        }
        let figures: Vec<String> =
            worst.iter().map(|line| format!("{} {}", line.of, number(line.figure))).collect();
        Self { figure: figures.join("; "), ok: lines.iter().all(|line| line.ok), lines }
    }
}

/// Four digits that matter.
fn number(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Does `work` on each of `items` with as many threads as there are cores, two at most: the results in the order of the
/// items. The same as one after the other, because a drill depends on nothing but its scenario.
pub fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores.min(2) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(number) else { return };
                    let result = work(item);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// A goal and the function that shows it.
#[derive(Debug)]
pub struct Goal {
    /// As given on the command line.
    pub id: &'static str,
    /// What is claimed.
    pub what: &'static str,
    /// The goal in words.
    pub goal: &'static str,
    /// About how long the quick size takes, seconds.
    pub quick_s: u32,
    /// About how long the full size takes, seconds.
    pub full_s: u32,
    /// Plays and judges.
    pub show: fn(Size) -> Shown,
}

/// All of them.
pub const GOALS: [Goal; 15] = [
    load::p1::GOAL,
    load::p2::GOAL,
    load::p3::GOAL,
    load::p4::GOAL,
    load::p5::GOAL,
    load::p6::GOAL,
    load::p7::GOAL,
    load::p8::GOAL,
    load::p9::GOAL,
    load::p10::GOAL,
    load::p13::GOAL,
    load::p14::GOAL,
    open::GOAL,
    pairs::GOAL,
    load::m1::GOAL,
];

/// The goal of that id, whatever its case.
#[must_use]
pub fn named(id: &str) -> Option<&'static Goal> {
    GOALS.iter().find(|goal| goal.id.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(of: &'static str, figure: f64, goal: f64) -> Line {
        Line::at_least(String::new(), of, figure, goal, Value::Null)
    }

    #[test]
    fn the_figure_is_the_worst_of_each_kind_and_one_miss_is_a_miss() {
        let shown = Shown::of(vec![line("a", 0.9991, 0.999), line("a", 0.9, 0.999), line("b", 1.0, 0.5)]);
        assert_eq!((shown.figure.as_str(), shown.ok), ("a 0.9; b 1", false));
        assert!(Shown::of(vec![line("b", 1.0, 0.5)]).ok);
        assert!(
            !Line::at_most(String::new(), "c", f64::NAN, 1.0, Value::Null).ok,
            "no figure proves nothing"
        );
    }

    #[test]
    fn other_seeds_are_three_in_a_row() {
        assert_eq!(Size::FULL.from_seed(70).seeds(), [70, 71, 72]);
        assert_eq!(Size::QUICK.from_seed(70).seeds(), [70]);
    }

    #[test]
    fn ids_are_unique() {
        for goal in &GOALS {
            assert_eq!(GOALS.iter().filter(|other| other.id == goal.id).count(), 1, "{}", goal.id);
        }
    }
}
