//! How many replicas for which attainment: a search in virtual time.
//!
//! Attainment grows with replicas, so the smallest fleet that reaches a share is found by doubling and bisection; each
//! size is played once per seed and remembered for the other goals. O(goals · log replicas) plays.

pub mod enough;

use std::collections::BTreeMap;

use serde::Serialize;
use shedder::Tier;

use crate::play::play;
use crate::policy::Policy;
use crate::run::Run;
use crate::scenario::Scenario;

/// What a fleet of one size reaches, the mean over seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Row {
    /// Replicas.
    pub replicas: u16,
    /// Attainment of priority.
    pub priority: f64,
    /// Attainment of regular.
    pub regular: f64,
    /// Attainment of all.
    pub all: f64,
    /// Requests within the service level per second.
    pub goodput_per_s: f64,
    /// p99 time to first token of all that had one, ms.
    pub ttft_p99_ms: f64,
}

/// Whose attainment has to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// Everybody's.
    All,
    /// Priority's.
    Priority,
}

/// A share, and the smallest fleet that reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Answer {
    /// The share.
    pub attainment: f64,
    /// Whose.
    pub whose: Whose,
    /// Replicas; `None`: more than were tried.
    pub replicas: Option<u16>,
}

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sizing {
    /// One per goal, in their order.
    pub answers: Vec<Answer>,
    /// Every size that was played, smallest first.
    pub rows: Vec<Row>,
}

/// Finds the smallest fleets. `watch` is told of each size before it is played and says `false` to stop.
#[must_use]
pub fn size(
    scenario: &Scenario,
    goals: &[(f64, Whose)],
    replicas_max: u16,
    seeds: u64,
    watch: &mut dyn FnMut(u16) -> bool,
) -> Sizing {
    let mut search = Search { scenario, seeds: seeds.max(1), rows: BTreeMap::new(), watch, stopped: false };
    let answers = goals.iter().map(|&(attainment, whose)| Answer {
        attainment,
        whose,
        replicas: search.smallest(attainment, whose, replicas_max.max(1)),
    });
    let answers: Vec<Answer> = answers.collect();
    let largest = answers.iter().filter_map(|answer| answer.replicas).max();
    search.neighbours(largest, replicas_max);
    Sizing { answers, rows: search.rows.into_values().collect() }
}

struct Search<'a> {
    scenario: &'a Scenario,
    seeds: u64,
    rows: BTreeMap<u16, Row>,
    watch: &'a mut dyn FnMut(u16) -> bool,
    stopped: bool,
}

impl Search<'_> {
    fn smallest(&mut self, attainment: f64, whose: Whose, max: u16) -> Option<u16> {
        let (mut low, mut high) = (0, 1);
        while !self.reaches(high, attainment, whose)? {
            if high == max {
                return None;
            }
            low = high;
            high = high.saturating_mul(2).min(max);
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.reaches(middle, attainment, whose)? { high = middle } else { low = middle }
        }
        Some(high)
    }

    /// `None`: somebody stopped the search.
    fn reaches(&mut self, replicas: u16, attainment: f64, whose: Whose) -> Option<bool> {
        let row = self.row(replicas)?;
        Some(attainment <= if whose == Whose::All { row.all } else { row.priority })
    }

    fn row(&mut self, replicas: u16) -> Option<Row> {
        if let Some(row) = self.rows.get(&replicas) {
            return Some(*row);
        }
        self.stopped |= !(self.watch)(replicas);
        if self.stopped {
            return None;
        }
        let runs: Vec<Run> = (0..self.seeds)
            .map(|seed| {
                let seed = self.scenario.seed.wrapping_add(seed);
                let mut scenario = Scenario { seed, ..self.scenario.clone() };
                scenario.fleet_mut().replicas = replicas;
                play(&scenario, &Policy::Shipped)
            })
            .collect();
        let mean = |of: &dyn Fn(&Run) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
        let row = Row {
            replicas,
            priority: mean(&|run| run.attained(Tier::Priority)),
            regular: mean(&|run| run.attained(Tier::Regular)),
            all: mean(&|run| run.attained_of(|_| true)),
            goodput_per_s: mean(&Run::goodput),
            ttft_p99_ms: mean(&|run| run.ttft(0.99, |_| true).as_secs_f64() * 1e3),
        };
        self.rows.insert(replicas, row);
        Some(row)
    }

    /// The sizes up to one more than the largest answer, so that a chart has no holes; a dozen at most.
    fn neighbours(&mut self, largest: Option<u16>, max: u16) {
        let Some((&smallest, _)) = self.rows.first_key_value() else { return };
        let played = self.rows.last_key_value().map_or(smallest, |(replicas, _)| *replicas);
        let largest = largest.map_or(played, |largest| largest.saturating_add(1)).min(max);
        let step = largest.saturating_sub(smallest).div_ceil(12).max(1);
        let mut at = smallest;
        while at <= largest && self.row(at).is_some() {
            at = at.saturating_add(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Setting;
    use std::time::Duration;

    #[test]
    fn the_smallest_fleet_is_found_and_one_less_does_not_do() {
        let seconds = Duration::from_secs;
        let base = Setting { replicas: 1, knee_per_s: 12.0, ..Setting::CHAT };
        let scenario = Scenario {
            warm_up: seconds(5),
            end: seconds(25),
            drain: seconds(20),
            ..base.scenario(1, 1.0, 1.0)
        };
        let mut played = 0;

        let sizing = size(&scenario, &[(0.95, Whose::All)], 8, 1, &mut |_| {
            played += 1;
            true
        });

        let replicas = sizing.answers[0].replicas.expect("eight are enough");
        let row = |count: u16| sizing.rows.iter().find(|row| row.replicas == count).expect("it was played");
        assert!(row(replicas).all >= 0.95 && row(replicas - 1).all < 0.95, "{:?}", sizing.rows);
        assert_eq!(played, sizing.rows.len(), "no size is played twice");
    }

    #[test]
    fn a_search_can_be_stopped() {
        let scenario = Setting::CHAT.scenario(1, 1.0, 1.0);
        let sizing = size(&scenario, &[(0.99, Whose::All)], 8, 1, &mut |_| false);
        assert_eq!((sizing.answers[0].replicas, sizing.rows.len()), (None, 0));
    }
}
