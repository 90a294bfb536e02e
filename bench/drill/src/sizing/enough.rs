//! How many replicas would have sufficed for a drill that was short: the same traffic and events with more of them.
//!
//! Played in virtual time, once per size: doubling, then bisection, at most `PLAYS_MAX` plays and `TIMES_MAX` times the
//! replicas that there were. Judged is what came within the accounts' own limits, for no replica serves the rest.

use serde::Serialize;

use crate::play::play_watched;
use crate::policy::Policy;
use crate::run::{Ended, Outcome, Run};
use crate::scenario::Scenario;

/// The share that has to be served within the service level.
pub const GOAL: f64 = 0.99;
/// Plays of one search: each takes as long as the drill does in virtual time, and more with more replicas.
const PLAYS_MAX: usize = 6;
/// Larger fleets than so many times the drill's are no advice.
const TIMES_MAX: u16 = 8;

/// A fleet that was played.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tried {
    /// Replicas.
    pub replicas: u16,
    /// Share of what came within the accounts' limits that was served within the service level.
    pub served: f64,
}

/// What would have sufficed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Enough {
    /// What there was: the share that was reached.
    Already(f64),
    /// The first fleet is the smallest of those tried that reaches the goal; then come all of them.
    Replicas(u16, Vec<Tried>),
    /// None of these fleets reaches it: what missed is no matter of replicas, or of many more.
    NotReached(Vec<Tried>),
    /// It was not looked for; why not.
    NotSearched(String),
}

/// The share of what came within the accounts' limits that was served within the service level; 1 for nothing.
#[must_use]
pub fn served(run: &Run) -> f64 {
    run.attained_of(|ended: &Ended| !matches!(ended.outcome, Outcome::Limited(_)))
}

/// Searches for a drill that reached `share`. `goes_on` is asked each second of a play.
#[must_use]
pub fn enough(scenario: &Scenario, share: f64, goes_on: &mut dyn FnMut() -> bool) -> Enough {
    if share >= GOAL {
        return Enough::Already(share);
    }
    if scenario.deployments.len() > 1 {
        return Enough::NotSearched(
            "several deployments were played; `tidegate drill plan --config FILE --deployment NAME` sizes one".to_owned(),
        );
    }
    let base = scenario.fleet().replicas.max(1);
    let mut search = Search { scenario, tried: Vec::new(), goes_on, stopped: false };
    let found = search.smallest(base, base.saturating_mul(TIMES_MAX));
    let Search { mut tried, stopped, .. } = search;
    tried.sort_by_key(|one| one.replicas);
    match found {
        _ if stopped => Enough::NotSearched("the search was interrupted".to_owned()),
        Some(replicas) => Enough::Replicas(replicas, tried),
        None => Enough::NotReached(tried),
    }
}

struct Search<'a> {
    scenario: &'a Scenario,
    tried: Vec<Tried>,
    goes_on: &'a mut dyn FnMut() -> bool,
    stopped: bool,
}

impl Search<'_> {
    /// The smallest fleet above `low` that was found to reach the goal.
    fn smallest(&mut self, mut low: u16, max: u16) -> Option<u16> {
        let mut high = low.saturating_mul(2);
        while !self.reaches(high)? {
            if high >= max {
                return None;
            }
            low = high;
            high = high.saturating_mul(2).min(max);
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match self.reaches(middle) {
                Some(true) => high = middle,
                Some(false) => low = middle,
                None => break,
            }
        }
        Some(high)
    }

    /// `None`: it was played often enough, or somebody stopped it.
    fn reaches(&mut self, replicas: u16) -> Option<bool> {
        if self.tried.len() >= PLAYS_MAX || self.stopped {
            return None;
        }
        let mut scenario = self.scenario.clone();
        scenario.fleet_mut().replicas = replicas;
        let run = play_watched(&scenario, &Policy::Shipped, &mut |_, _| (self.goes_on)());
        self.stopped = run.interrupted;
        if self.stopped {
            return None;
        }
        let served = served(&run);
        self.tried.push(Tried { replicas, served });
        Some(served >= GOAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Setting;
    use std::time::Duration;

    /// Half a minute of twice of what two replicas carry.
    fn overload() -> Scenario {
        let seconds = Duration::from_secs;
        let base = Setting { replicas: 2, knee_per_s: 12.8, ..Setting::CHAT };
        Scenario { warm_up: seconds(5), end: seconds(30), drain: seconds(20), ..base.scenario(1, 2.0, 0.0) }
    }

    fn served_by(replicas: u16) -> f64 {
        let mut scenario = overload();
        scenario.fleet_mut().replicas = replicas;
        served(&crate::play::play(&scenario, &Policy::Shipped))
    }

    #[test]
    fn the_fleet_that_is_named_serves_the_goal_and_one_less_does_not() {
        let short = served_by(2);

        let Enough::Replicas(replicas, tried) = enough(&overload(), short, &mut || true) else {
            panic!("twice the load is carried by some fleet");
        };

        assert!(short < GOAL && served_by(replicas) >= GOAL && served_by(replicas - 1) < GOAL);
        assert!(tried.len() <= PLAYS_MAX && tried.iter().any(|one| one.replicas == replicas), "{tried:?}");
    }

    #[test]
    fn nothing_is_played_for_a_drill_that_was_not_short_and_a_search_can_be_stopped() {
        let mut asked = 0;

        assert_eq!(enough(&overload(), GOAL, &mut || panic!("nothing is played")), Enough::Already(GOAL));
        let stopped = enough(&overload(), 0.5, &mut || {
            asked += 1;
            false
        });

        assert_eq!((asked, stopped), (1, Enough::NotSearched("the search was interrupted".to_owned())));
    }
}
