//! How many answers may run at once, though nobody knows how long they will be?
//!
//! To hold a part of the limit for each running answer until it has come is safe and wasteful: what is held is used by
//! nobody, while tokens leave the minute all the time (0.90 of the limit used, and one request in a hundred refused that
//! would have fitted). To hold nothing starts far too many. So an answer is admitted by a forecast:
//!
//! ```text
//! whole     = what is expected of the running answers and of this one
//! taken     = used + owed
//! fits      : taken + whole <= limit
//!
//! rate      = tokens per second of a running answer, its waiting included; learnt, unknown at first
//! sustained = taken / 60 s / rate                        so many answers put in what leaves the minute
//! beyond    = whole * (1 - sustained / running)          at least whole - taken, at least 0
//! pressure  = refused / asked, in this minute and the last
//! soon      = taken - what leaves within 2.5 s
//! in turn   : soon < limit and soon + beyond * (1 + 8 * pressure) <= limit
//! ```
//!
//! Fits or in turn: admitted. What a request *reserves* is only as much of its expectation as the minute has room for, so
//! used, owed and reserved tokens together never pass the limit by an admission; the rest of the answer is debt if it finds
//! no room, and paid.
//!
//! # Why
//!
//! - **Sustained answers cost nothing:** they put in as much as leaves. It is counted from what is in the minute, so an
//!   idle account cannot start more than fits, and it is never more than the minute holds, whatever the rate seems to be.
//! - **Pressure** is a damper. Whoever asks for more than the limit would fill each gap at once, and the gap comes back every
//!   minute, larger; so the more is refused, the slower gaps are filled. Below the limit there is no pressure, and nobody
//!   is refused who would have fitted.
//! - **Two and a half seconds ahead**, because most tokens of an answer that begins now come later than that. It also
//!   leaves the lengths of some dozen answers, which nobody knows, room to stray.
//!
//! Proof P11 has the figures, and what other rules and constants came to.

use crate::reservation::ask::{MINUTE_SECONDS, Usual};
use crate::window::SLOT_MS;

/// How far ahead room is looked for, in slots: 2.5 s.
pub(crate) const AHEAD_SLOTS: u32 = (2_500 / SLOT_MS) as u32;

/// What a share of refused asks adds to the weight of what is beyond the sustained.
const DAMPING: f64 = 8.0;

/// The answers of one budget that run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Forecast {
    /// Answers that run; each choice of a request is one.
    running: u64,
    /// Tokens that are still expected of them.
    expected: u64,
    pub(crate) recent: Recent,
}

/// Answers asked for and refused, in the running minute and the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Recent {
    pub(crate) asked: [u32; 2],
    pub(crate) refused: [u32; 2],
}

/// The minute of the generated meter as it is when an answer is asked for, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Minute {
    pub(crate) limit: u64,
    /// Used and owed.
    pub(crate) taken: u64,
    /// What of it leaves within [`AHEAD_SLOTS`].
    pub(crate) leaves: u64,
}

impl Forecast {
    /// Tokens that are still expected of running answers.
    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }

    /// Whether `choices` more answers may run of which `tokens` are expected in all.
    pub(crate) fn admits(&self, usual: &Usual, minute: Minute, choices: u32, tokens: u64) -> bool {
        let Minute { limit, taken, leaves } = minute;
        let whole = self.expected.saturating_add(tokens);
        if taken.saturating_add(whole) <= limit {
            return true;
        }
        let soon = taken.saturating_sub(leaves);
        if soon >= limit {
            return false;
        }
        let running = self.running.saturating_add(u64::from(choices)).max(1) as f64;
        let (taken, whole) = (taken as f64, whole as f64);
        let sustained = usual.rate().map_or(0.0, |rate| taken / MINUTE_SECONDS / rate);
        let beyond = (whole - (whole * sustained / running).min(taken)).max(0.0);
        soon as f64 + beyond * (1.0 + DAMPING * self.recent.pressure()) <= limit as f64
    }

    /// Answers begin, or were refused.
    pub(crate) fn ask(&mut self, admitted: bool) {
        let [asked, _] = &mut self.recent.asked;
        *asked = asked.saturating_add(1);
        let [refused, _] = &mut self.recent.refused;
        *refused = refused.saturating_add(u32::from(!admitted));
    }

    /// `choices` answers begin, of which `tokens` are expected in all.
    pub(crate) fn begin(&mut self, choices: u32, tokens: u64) {
        self.running = self.running.saturating_add(u64::from(choices));
        self.expected = self.expected.saturating_add(tokens);
    }

    /// Up to `tokens` of what a request was expected to generate need no longer be expected: they came, or will not.
    pub(crate) fn expect_less(&mut self, of_request: &mut u64, tokens: u64) {
        let less = tokens.min(*of_request);
        *of_request -= less;
        self.expected = self.expected.saturating_sub(less);
    }

    /// `choices` answers have ended.
    pub(crate) fn end(&mut self, choices: u32) {
        self.running = self.running.saturating_sub(u64::from(choices));
    }
}

impl Recent {
    /// The share of asks that were refused.
    fn pressure(&self) -> f64 {
        let sum = |[now, last]: [u32; 2]| f64::from(now) + f64::from(last);
        sum(self.refused) / sum(self.asked).max(1.0)
    }

    /// A new minute begins.
    pub(crate) fn end_minute(&mut self) {
        let move_on = |[now, _]: [u32; 2]| [0, now];
        *self = Recent { asked: move_on(self.asked), refused: move_on(self.refused) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LIMIT: u64 = 36_000;

    /// Answers of 200 tokens that last eight seconds: 24 of them put in 600 tokens per second.
    fn known() -> Usual {
        let mut usual = Usual::default();
        (0..100).for_each(|_| usual.learn(200, 200, Duration::from_secs(8)));
        usual
    }

    fn minute(taken: u64) -> Minute {
        Minute { limit: LIMIT, taken, leaves: taken / 24 }
    }

    /// So many answers run, 100 tokens expected of each; how many more begin one by one?
    fn begun(usual: &Usual, minute: Minute, running: u32) -> u32 {
        let mut forecast = Forecast::default();
        forecast.begin(running, u64::from(running) * 100);
        let one_more = |_: &u32| {
            let admitted = forecast.admits(usual, minute, 1, 100);
            forecast.begin(u32::from(admitted), if admitted { 100 } else { 0 });
            admitted
        };
        (0..1_000).take_while(one_more).count() as u32
    }

    #[test]
    fn an_idle_account_may_begin_what_fits_and_no_more() {
        assert_eq!(begun(&known(), minute(0), 0), 360);
        assert_eq!(begun(&Usual::default(), minute(0), 0), 360);
    }

    #[test]
    fn a_full_minute_lets_as_many_run_as_it_sustains_and_what_leaves_soon() {
        let soon = LIMIT / 24 / 100;
        assert_eq!(u64::from(begun(&known(), minute(LIMIT), 0)), 24 + soon);
        assert_eq!(begun(&known(), minute(LIMIT), 60), 0, "more than that run already");
        assert_eq!(
            u64::from(begun(&Usual::default(), minute(LIMIT), 0)),
            soon,
            "none where no rate is known"
        );
    }

    /// Whoever asks for more than the limit must not fill a gap at once, or it comes back larger in a minute.
    #[test]
    fn the_more_is_refused_the_slower_a_gap_is_filled() {
        let minute = minute(LIMIT * 9 / 10);
        let mut calm = Forecast::default();
        calm.begin(35, 3_500);
        let mut pressed = calm.clone();

        (0..100).for_each(|ask| pressed.ask(ask % 2 == 0));

        assert!(calm.admits(&known(), minute, 1, 2_000));
        assert!(!pressed.admits(&known(), minute, 1, 2_000));
        pressed.recent.end_minute();
        assert!(!pressed.admits(&known(), minute, 1, 2_000), "the last minute counts");
        pressed.recent.end_minute();
        assert!(pressed.admits(&known(), minute, 1, 2_000), "the one before does not");
    }

    #[test]
    fn a_debt_is_nearly_paid_before_anyone_is_admitted() {
        let owing = |debt| Minute { limit: LIMIT, taken: LIMIT + debt, leaves: 1_200 };
        let forecast = Forecast::default();

        assert!(!forecast.admits(&known(), owing(1_200), 1, 100));
        assert!(forecast.admits(&known(), owing(1_199), 1, 100));
    }

    /// Answers can be made to look slow; that must not start any number of fast ones.
    #[test]
    fn a_rate_that_seems_tiny_doubles_what_may_run_at_most() {
        let mut slow = Usual::default();
        slow.learn(1, 1, Duration::from_secs(3_600));

        let begun = begun(&slow, minute(LIMIT), 0);

        assert_eq!(u64::from(begun), LIMIT / 100 + LIMIT / 24 / 100);
    }

    #[test]
    fn what_came_is_no_longer_expected_and_nothing_is_left_behind() {
        let mut forecast = Forecast::default();
        let mut of_request = 100;
        forecast.begin(2, 100);

        forecast.expect_less(&mut of_request, 60);
        assert_eq!((forecast.expected(), of_request), (40, 40));
        forecast.expect_less(&mut of_request, 60);
        forecast.end(2);

        assert_eq!((forecast.expected, forecast.running, of_request), (0, 0, 0));
    }
}
