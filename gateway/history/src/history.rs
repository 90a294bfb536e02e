//! All deployments over time, within a bound of memory.
//!
//! A deployment costs nothing until it had traffic, and nothing any more when it had none for a day. Where there is no room
//! for another, days are given up first, of the deployment without traffic for longest first; hours only when there is no day left.

use crate::series::{Ended, Resolution, Sample, Series};
use crate::step::{Point, TierTimes, Tokens};
use shedder::{PerTier, Tier};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of all deployments together.
pub const BYTES_MAX: usize = 64_000_000;
/// Bytes of one deployment, with what is collected of it between two samples; and more once flex was used.
pub const DEPLOYMENT_BYTES_MAX: usize = 250_000;
/// How many more those are.
pub const FLEX_BYTES_MAX: usize = 80_000;
/// A deployment without traffic for so long is forgotten: nothing of it is left to be drawn.
const FORGET_AFTER: Duration = Duration::from_secs(86_400);

/// Every deployment that had traffic.
#[derive(Debug)]
pub struct History {
    bytes_max: usize,
    series: BTreeMap<Arc<str>, Series>,
}

impl Default for History {
    fn default() -> Self {
        History::within(BYTES_MAX)
    }
}

/// The steps of one deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Steps {
    /// When each began, seconds since the epoch, and what it was. Closed ones only.
    pub steps: Vec<(u64, Point)>,
    /// Whether the resolution is kept: days are given up where memory is short.
    pub is_kept: bool,
}

impl History {
    /// An empty one that may hold so many bytes.
    #[must_use]
    pub fn within(bytes_max: usize) -> Self {
        History { bytes_max, series: BTreeMap::new() }
    }

    /// Tells how a deployment is at the wall time `now`. O(log deployments) but for the first time.
    pub fn sample(&mut self, name: &Arc<str>, now: Duration, sample: &Sample) {
        if !self.series.contains_key(name) && sample.totals.is_zero() {
            return;
        }
        if let Some(series) = self.of(name, now) {
            series.sample(now, sample);
        }
    }

    /// Adds times that were collected since the last call.
    pub fn add_times(&mut self, name: &Arc<str>, now: Duration, times: &PerTier<TierTimes>) {
        if let Some(series) = self.of(name, now) {
            series.add_times(now, times);
        }
    }

    /// A request ended.
    pub fn ended(&mut self, name: &Arc<str>, now: Duration, tier: Tier, ended: Ended, tokens: Tokens) {
        if let Some(series) = self.of(name, now) {
            series.ended(now, tier, ended, tokens);
        }
    }

    /// The closed steps of a deployment that began after `since`, seconds since the epoch. O(steps).
    #[must_use]
    pub fn steps(&self, name: &str, resolution: Resolution, since: u64) -> Steps {
        let series = self.series.get(name);
        Steps {
            steps: series.map(|series| series.after(resolution, since)).unwrap_or_default(),
            is_kept: series.is_none_or(|series| series.has(resolution)),
        }
    }

    /// Forgets deployments without traffic for a day, and what flex has made too much. O(deployments).
    pub fn tidy(&mut self, now: Duration) {
        self.series.retain(|_, series| now.saturating_sub(series.active) < FORGET_AFTER);
        let _ = self.make_room(0) || self.make_room_for_fine(0);
    }

    /// Bytes that are held. O(deployments).
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.series.iter().map(|(name, series)| name.len() + series.bytes()).sum()
    }

    /// That of a deployment, a new one where there is room.
    fn of(&mut self, name: &Arc<str>, now: Duration) -> Option<&mut Series> {
        if !self.series.contains_key(name) {
            let has_coarse = self.make_room(Series::bytes_of(true) + name.len());
            if !has_coarse && !self.make_room_for_fine(Series::bytes_of(false) + name.len()) {
                return None;
            }
            self.series.insert(Arc::clone(name), Series::new(now, has_coarse));
        }
        self.series.get_mut(name)
    }

    /// Gives up days until there is room for so many bytes. `false`: there is none.
    fn make_room(&mut self, bytes: usize) -> bool {
        while self.bytes() + bytes > self.bytes_max {
            let with_day = self.series.values_mut().filter(|series| series.has(Resolution::Coarse));
            match with_day.min_by_key(|series| series.active) {
                Some(series) => series.give_up_coarse(),
                None => return false,
            }
        }
        true
    }

    /// Gives up whole deployments, now that there are no days, until there is room. `false`: there is none.
    fn make_room_for_fine(&mut self, bytes: usize) -> bool {
        while self.bytes() + bytes > self.bytes_max {
            let idle = self.series.iter().min_by_key(|(_, series)| series.active);
            let Some(idle) = idle.map(|(name, _)| Arc::clone(name)) else { return false };
            self.series.remove(&idle);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Totals;

    const NOON: Duration = Duration::from_secs(1_800_000_000);

    fn name(nth: usize) -> Arc<str> {
        format!("gpu-{nth}").into()
    }

    fn busy(count: u64) -> Sample {
        let totals =
            Totals { admitted: PerTier { priority: count, ..PerTier::default() }, ..Totals::default() };
        Sample { totals, ..Sample::default() }
    }

    fn kept(history: &History, nth: usize) -> (bool, bool) {
        let has = |resolution| {
            let steps = history.steps(&name(nth), resolution, 0);
            steps.is_kept && !steps.steps.is_empty()
        };
        (has(Resolution::Fine), has(Resolution::Coarse))
    }

    /// `count` deployments, each with traffic a second later than the one before, and looked at two minutes later.
    fn filled(count: usize, bytes_max: usize) -> History {
        let mut history = History::within(bytes_max);
        for nth in 0..count {
            history.sample(&name(nth), NOON + Duration::from_secs(nth as u64), &busy(1));
        }
        for nth in (0..count).filter(|nth| history.series.contains_key(&name(*nth))).collect::<Vec<_>>() {
            history.sample(&name(nth), NOON + Duration::from_secs(120 + count as u64), &busy(1));
        }
        history
    }

    #[test]
    fn one_with_traffic_costs_at_most_a_quarter_of_a_megabyte_and_one_without_nothing() {
        let mut history = History::default();
        history.sample(&name(0), NOON, &busy(0));
        assert_eq!(history.bytes(), 0);

        history.sample(&name(0), NOON, &busy(1));
        let collected = size_of::<PerTier<TierTimes>>();
        assert!(
            history.bytes() > 200_000 && history.bytes() + collected <= DEPLOYMENT_BYTES_MAX,
            "{} bytes",
            history.bytes()
        );
    }

    #[test]
    fn flex_is_kept_from_its_first_request_on_and_costs_nothing_before() {
        let mut history = History::default();
        history.sample(&name(0), NOON, &busy(1));
        let before = history.bytes();
        let second = Duration::from_secs(1);
        for nth in 1..20 {
            let tokens = Tokens::default();
            if nth > 10 {
                history.ended(
                    &name(0),
                    NOON + second * nth,
                    Tier::Flex,
                    Ended::Answered { met: true },
                    tokens,
                );
            }
            history.sample(&name(0), NOON + second * nth, &busy(1 + u64::from(nth)));
        }

        let flex: Vec<u32> = history
            .steps(&name(0), Resolution::Fine, 0)
            .steps
            .iter()
            .map(|(_, point)| point.counts(Tier::Flex).answered)
            .collect();
        assert_eq!(flex, [0, 0, 4], "eleven to fourteen");
        let more = history.bytes() - before;
        assert!(more > 20_000 && more <= FLEX_BYTES_MAX, "{more}");
    }

    #[test]
    fn the_bound_in_all_is_kept_and_days_go_first_the_longest_idle_first() {
        let one = filled(1, BYTES_MAX).bytes();
        let history = filled(5, 4 * one + one / 2);

        assert!(history.bytes() <= 4 * one + one / 2);
        assert_eq!(kept(&history, 0), (true, false), "its day made room for the last one");
        for nth in 1..5 {
            assert_eq!(kept(&history, nth), (true, true), "{nth}");
        }
    }

    #[test]
    fn without_any_day_left_the_hour_of_the_longest_idle_goes() {
        let one = filled(1, BYTES_MAX).bytes();
        let history = filled(12, 3 * one);

        assert!(history.bytes() <= 3 * one, "{} of {}", history.bytes(), 3 * one);
        assert_eq!(kept(&history, 0), (false, false));
        assert_eq!(kept(&history, 11), (true, false));
        assert!(history.series.len() > 3);
    }

    #[test]
    fn all_of_three_hundred_fit_into_the_bound() {
        let history = filled(300, BYTES_MAX);

        assert!(history.bytes() <= BYTES_MAX);
        assert_eq!(history.series.len(), 300);
        assert_eq!(kept(&history, 299), (true, true));
        assert_eq!(kept(&history, 0), (true, false));
    }

    #[test]
    fn where_nothing_fits_nothing_is_kept() {
        let mut history = History::within(1_000);
        history.sample(&name(0), NOON, &busy(1));
        assert_eq!(history.bytes(), 0);
    }

    #[test]
    fn a_day_without_traffic_is_forgotten() {
        let mut history = History::default();
        history.sample(&name(0), NOON, &busy(1));
        history.sample(&name(0), NOON + FORGET_AFTER / 2, &busy(1));
        history.tidy(NOON + FORGET_AFTER / 2);
        assert!(history.bytes() > 0);

        history.tidy(NOON + FORGET_AFTER);
        assert_eq!(history.bytes(), 0);
    }

    #[test]
    fn a_request_that_was_limited_is_traffic() {
        let mut history = History::default();
        history.ended(&name(0), NOON, Tier::Regular, Ended::Limited, Tokens::default());
        history.sample(&name(0), NOON + Duration::from_secs(5), &busy(0));

        let steps = history.steps("gpu-0", Resolution::Fine, 0).steps;
        assert_eq!(steps[0].1.counts(Tier::Regular).limited, 1);
    }
}
