//! What became of the requests of a part of a run.

use std::time::Duration;

use load::{End, Outcome};

/// All requests of a run, in the order in which they were due.
#[derive(Debug, Default)]
pub(super) struct Requests(Vec<Request>);

#[derive(Debug, Clone, Copy)]
struct Request {
    due: Duration,
    priority: bool,
    attained: bool,
    refused: bool,
    tokens: u32,
}

/// Whose requests are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tier {
    /// Priority.
    Priority,
    /// Regular.
    Regular,
    /// All.
    Both,
}

/// Those of one tier that were due in one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Due.
    pub(super) offered: u64,
    /// Of them, complete and in time.
    pub(super) attained: u64,
    /// Of them, refused to the end.
    pub(super) refused: u64,
    /// Tokens of the attained.
    pub(super) tokens: u64,
}

impl Tally {
    /// Attained over offered; 1 where nothing was offered.
    pub(super) fn attainment(&self) -> f64 {
        if self.offered == 0 { 1.0 } else { self.attained as f64 / self.offered as f64 }
    }
}

/// In steps of this it is looked when a run has recovered.
const STEP: Duration = Duration::from_millis(500);
/// What counts as recovered.
const RECOVERED: f64 = 0.99;

impl Requests {
    /// `priority` says of each caller whether it is one.
    pub(super) fn new(outcomes: Vec<Outcome>, priority: &[bool]) -> Self {
        let of = |outcome: Outcome| Request {
            due: outcome.due,
            priority: priority.get(outcome.caller).copied().unwrap_or(false),
            attained: outcome.attained,
            refused: outcome.end == End::Refused,
            tokens: outcome.tokens,
        };
        Self(outcomes.into_iter().map(of).collect())
    }

    /// Those due in the seconds from `from` to `to`.
    pub(super) fn within(&self, tier: Tier, from: f64, to: f64) -> Tally {
        let wanted = |request: &&Request| {
            let due = request.due.as_secs_f64();
            let of_tier = match tier {
                Tier::Priority => request.priority,
                Tier::Regular => !request.priority,
                Tier::Both => true,
            };
            of_tier && due >= from && due < to
        };
        self.0.iter().filter(wanted).fold(Tally::default(), |tally, request| Tally {
            offered: tally.offered + 1,
            attained: tally.attained + u64::from(request.attained),
            refused: tally.refused + u64::from(request.refused),
            tokens: tally.tokens + if request.attained { u64::from(request.tokens) } else { 0 },
        })
    }

    /// Seconds after `from` from which on, to `to`, both tiers attain 99 %. `None`: never, or too late to tell.
    pub(super) fn recovery(&self, from: f64, to: f64) -> Option<f64> {
        let step = STEP.as_secs_f64();
        // A hundred requests of the rarer tier would be better than the few of the last seconds.
        let last = from + (to - from) * 0.75;
        let good = |at: f64| {
            [Tier::Priority, Tier::Regular]
                .iter()
                .all(|tier| self.within(*tier, at, to).attainment() >= RECOVERED)
        };
        let steps = ((last - from) / step) as u32;
        (0..=steps).map(|number| from + step * f64::from(number)).find(|at| good(*at)).map(|at| at - from)
    }

    /// Seconds from the first request to the last.
    pub(super) fn length(&self) -> f64 {
        self.0.last().map_or(0.0, |request| request.due.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(list: &[(u64, bool, bool)]) -> Requests {
        let of = |&(ms, priority, attained): &(u64, bool, bool)| Request {
            due: Duration::from_millis(ms),
            priority,
            attained,
            refused: !attained,
            tokens: 10,
        };
        Requests(list.iter().map(of).collect())
    }

    #[test]
    fn a_window_counts_what_was_due_in_it() {
        let requests =
            requests(&[(500, true, true), (1_000, true, false), (1_500, false, true), (2_000, true, true)]);

        let all = requests.within(Tier::Both, 1.0, 2.0);

        assert_eq!(all, Tally { offered: 2, attained: 1, refused: 1, tokens: 10 });
        assert!((requests.within(Tier::Priority, 0.0, 3.0).attainment() - 2.0 / 3.0).abs() < 1e-9);
        assert!((requests.within(Tier::Priority, 5.0, 6.0).attainment() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn recovered_is_when_it_stays_good_in_both_tiers() {
        let mut list: Vec<(u64, bool, bool)> = (0..200).map(|n| (n * 100, n % 2 == 0, true)).collect();
        // Regular fails until 3.1 s, after a good start.
        for (ms, _, attained) in
            list.iter_mut().filter(|(ms, priority, _)| !priority && (1_000..3_200).contains(ms))
        {
            *attained = *ms < 1_000;
        }

        assert_eq!(requests(&list).recovery(0.0, 20.0), Some(3.5));
        let never: Vec<(u64, bool, bool)> = (0..200).map(|n| (n * 100, n % 2 == 0, n % 10 != 1)).collect();
        assert_eq!(requests(&never).recovery(0.0, 20.0), None);
    }
}
