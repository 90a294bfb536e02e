//! How many tokens fit on a replica whose engine does not tell, learnt from answers that pause.
//!
//! An engine whose KV memory is full throws an answer out and computes it again when there is room. Its stream pauses for
//! long while the others go on, and nobody new gets a first token before it is back. What was held when answers began to
//! pause like that is a little more than what fits.
//!
//! ```text
//! before any:       ceiling = f · limit at the start · what a request holds      f grows by a quarter per answer's time
//! answers paused:   ceiling = 0.95 · what was held, at most what it was
//! later:            ceiling grows by 1 % per answer's time, when ten of those have passed without a pause,
//!                   by 2 % when twenty have, by 4 % when thirty have, by a quarter at most
//! ```
//!
//! It grows only while 0.7 of it is held: what was never held proves nothing. And slowly, compared with the limit N,
//! because memory that is too full cannot be given back: answers that run go on growing until they end, for a minute
//! where they are long, and the engine throws some out again and again meanwhile. The longer it goes well the faster,
//! because a pause may have had another reason, and then far too little is let in.
//!
//! # What is no sign of memory
//!
//! - Most streams of the replica pausing together: the engine, or the network.
//! - A pause in which somebody who came later got a first token: the engine had room (an engine that keeps the arguments
//!   of a tool call back until they are complete looks like that).
//! - A pause when much less is held than was held before without one.
//! - A single pause when less than half of the ceiling is held, as a lost packet at night makes one: there it takes
//!   two, the second begun after the first was over, in the time of one answer.
//! - A client that reads slowly: such gaps are not reported.
//!
//! Cost: O(1), nothing allocates.

use std::time::Duration;

use crate::config::Config;
use crate::learned::{LearnedReplica, sane};

/// Shorter pauses are what prompts, networks and clients make.
const PAUSE_MIN_S: f64 = 0.5;
/// A pause is so many times as long as the usual gap.
const PAUSE_OF_GAP: f64 = 8.0;
/// So many others go on for each answer that pauses.
const OTHERS_GO_ON: u32 = 3;
/// The part that is kept of what did not fit.
const KEPT: f64 = 0.95;
/// Pauses when less than this part is held of what was held without one say nothing about memory.
const OF_PROVEN: f64 = 0.8;
/// What is proven fades in the time of so many answers: others may use the engine's memory too.
const PROVEN_FADES: f64 = 20.0;
/// The part that is held before more is tried.
const HELD_TO_GROW: f64 = 0.7;
/// A single pause says something when this part of the ceiling is held.
const HELD_TO_BELIEVE: f64 = 0.5;
/// Growth in the time of one answer, before answers paused and, at first, after.
const GROWTH: f64 = 0.25;
const GROWTH_KNOWN: f64 = 0.01;
/// Answers' times without a pause before more than what is known is tried, and in which its growth doubles then.
const HOLD: f64 = 10.0;
/// More KV tokens than any engine holds.
const KV_MAX: f64 = 1e12;
/// An answer's time is taken to be this at least, seconds.
const ANSWER_MIN_S: f64 = 1.0;

/// The streams of one replica in the harvest that is coming in.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    going: u32,
    paused: u32,
    /// When the first of the pauses began.
    since: Option<Duration>,
}

/// What runs on a replica, as far as memory is concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Tokens held, by the own count.
    pub(crate) held: f64,
    /// Tokens that one request holds when it has grown.
    pub(crate) each: f64,
    /// Seconds that one answer takes.
    pub(crate) answer_s: f64,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Ceiling {
    /// Requests that it begins with; as many as one likes where an operator holds the limit.
    requests: f64,
    /// Times the start, while nothing is known.
    factor: f64,
    /// Tokens, once answers have paused.
    known: Option<f64>,
    seen: Seen,
    /// The latest dispatch of a request that has a first token.
    begun: Duration,
    /// Most tokens held without a pause, fading.
    proven: f64,
    /// Some request waited for memory.
    wanted: bool,
    stepped: Duration,
    paused: Duration,
    /// When a pause was seen that may have had another reason.
    suspected: Option<Duration>,
}

impl Ceiling {
    pub(crate) fn new(now: Duration, config: &Config) -> Self {
        Self {
            requests: if config.fixed_limit.is_some() { f64::INFINITY } else { config.limit_start },
            factor: 1.0,
            known: None,
            seen: Seen::default(),
            begun: now,
            proven: 0.0,
            wanted: false,
            stepped: now,
            paused: now,
            suspected: None,
        }
    }

    /// Tokens that may be held, where one request holds `each`.
    pub(crate) fn tokens(&self, each: f64) -> f64 {
        self.known.unwrap_or(self.factor * self.requests * each).max(1.0)
    }

    /// Tokens that fit, once answers have paused.
    pub(crate) fn known(&self) -> Option<f64> {
        self.known
    }

    /// What is known, for another process.
    pub(crate) fn export(&self, to: &mut LearnedReplica) {
        to.kv_fits = self.known;
        to.kv_tried = Some((self.factor, self.proven));
    }

    /// Goes on with what another process knows.
    pub(crate) fn adopt(&mut self, now: Duration, known: &LearnedReplica) {
        self.known = sane(known.kv_fits, 1.0, KV_MAX).or(self.known);
        if let Some((factor, proven)) = known.kv_tried {
            self.factor = sane(Some(factor), 1.0, KV_MAX).unwrap_or(self.factor);
            self.proven = sane(Some(proven), 0.0, KV_MAX).unwrap_or(self.proven);
        }
        (self.stepped, self.paused) = (now, now);
    }

    /// Another replica of the deployment was found to hold so many; this one has shown nothing yet.
    pub(crate) fn on_known_elsewhere(&mut self, now: Duration, tokens: f64) {
        if self.known.is_none() {
            self.known = Some(tokens);
            self.paused = now;
        }
    }

    /// A request waits for memory.
    pub(crate) fn on_wanted(&mut self) {
        self.wanted = true;
    }

    /// A request that was sent then has its first token.
    pub(crate) fn on_token(&mut self, sent: Duration) {
        self.begun = self.begun.max(sent);
    }

    /// A stream's gaps since the last harvest, `seconds` in all; `usual`: what one of them usually is.
    pub(crate) fn on_gaps(&mut self, now: Duration, seconds: f64, gaps: u32, usual: f64) {
        let longest = seconds - f64::from(gaps.saturating_sub(1)) * usual;
        if longest <= PAUSE_MIN_S.max(PAUSE_OF_GAP * usual) {
            self.seen.going += 1;
            return;
        }
        let since = now.saturating_sub(Duration::try_from_secs_f64(longest).unwrap_or(now));
        self.seen.paused += 1;
        self.seen.since = Some(self.seen.since.map_or(since, |first| first.min(since)));
    }

    /// One step at the end of a harvest.
    pub(crate) fn step(&mut self, now: Duration, load: Load) {
        let answers = now.saturating_sub(self.stepped).as_secs_f64() / load.answer_s.max(ANSWER_MIN_S);
        self.stepped = now;
        let seen = std::mem::take(&mut self.seen);
        let wanted = std::mem::take(&mut self.wanted);
        if seen.paused == 0 {
            self.proven = load.held.max(self.proven * (-answers / PROVEN_FADES).exp());
            if load.held > HELD_TO_GROW * self.tokens(load.each) {
                self.grow(now, answers, wanted, load.answer_s);
            }
        } else if self.is_memory(seen, load.held) && self.is_certain(now, seen, load) {
            let fits = KEPT * load.held;
            self.known = Some(self.known.map_or(fits, |known| known.min(fits)));
            self.paused = now;
        }
    }

    fn is_memory(&self, seen: Seen, held: f64) -> bool {
        let took_others = seen.since.is_some_and(|since| self.begun > since);
        seen.going >= OTHERS_GO_ON.saturating_mul(seen.paused)
            && !took_others
            && held > OF_PROVEN * self.proven
    }

    fn is_certain(&mut self, now: Duration, seen: Seen, load: Load) -> bool {
        let before = self.suspected.replace(now);
        let again = before.is_some_and(|before| {
            seen.since.is_some_and(|since| since > before)
                && now.saturating_sub(before).as_secs_f64() < load.answer_s.max(ANSWER_MIN_S)
        });
        again || load.held > HELD_TO_BELIEVE * self.tokens(load.each)
    }

    fn grow(&mut self, now: Duration, answers: f64, wanted: bool, answer_s: f64) {
        let calm = now.saturating_sub(self.paused).as_secs_f64() / answer_s.max(ANSWER_MIN_S) / HOLD;
        match &mut self.known {
            None => self.factor *= (GROWTH * answers).exp(),
            Some(known) if wanted && calm > 1.0 => {
                let rate = (GROWTH_KNOWN * (calm - 1.0).exp2()).min(GROWTH);
                *known *= (rate * answers).exp();
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: f64 = 1_000.0;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn load(held: f64) -> Load {
        Load { held, each: EACH, answer_s: 10.0 }
    }

    /// A replica that holds 50,000 tokens, none of whose answers has paused.
    fn ceiling() -> Ceiling {
        let mut ceiling = Ceiling::new(at(0), &Config::default());
        for n in 1..=40 {
            (0..20).for_each(|_| ceiling.on_gaps(at(250 * n), 0.2, 5, 0.04));
            ceiling.step(at(250 * n), load(50_000.0));
        }
        ceiling
    }

    /// One of `streams` shows a gap of two seconds.
    fn pause(ceiling: &mut Ceiling, now: Duration, streams: u32, held: f64) {
        ceiling.on_gaps(now, 2.0, 1, 0.04);
        (1..streams).for_each(|_| ceiling.on_gaps(now, 0.2, 5, 0.04));
        ceiling.step(now, load(held));
    }

    #[test]
    fn an_answer_that_pauses_while_others_go_on_shows_what_fits() {
        let mut ceiling = ceiling();
        assert_eq!(ceiling.known(), None);

        pause(&mut ceiling, at(12_000), 20, 60_000.0);

        assert_eq!(ceiling.known(), Some(57_000.0));
        pause(&mut ceiling, at(13_000), 20, 70_000.0);
        assert_eq!(
            ceiling.known(),
            Some(57_000.0),
            "what did not fit once does not fit because more is held"
        );
    }

    #[test]
    fn a_pause_says_nothing_where_something_else_explains_it() {
        let mut all = ceiling();
        pause(&mut all, at(12_000), 2, 60_000.0);
        assert_eq!(all.known(), None, "one of two: the engine");

        let mut took_others = ceiling();
        took_others.on_token(at(10_500));
        pause(&mut took_others, at(12_000), 20, 60_000.0);
        assert_eq!(took_others.known(), None, "somebody sent after the pause began has a first token");

        let mut little = ceiling();
        pause(&mut little, at(12_000), 20, 30_000.0);
        assert_eq!(little.known(), None, "50,000 were held before");
    }

    #[test]
    fn what_is_not_held_does_not_grow_and_what_is_known_grows_slowly_and_late() {
        let mut idle = Ceiling::new(at(0), &Config::default());
        (1..400).for_each(|n| idle.step(at(250 * n), load(10_000.0)));
        assert_eq!(idle.tokens(EACH), 64_000.0);

        let mut known = ceiling();
        pause(&mut known, at(12_000), 20, 60_000.0);
        let mut grown = |until: u64| {
            while known.stepped < at(until) {
                known.on_wanted();
                let now = known.stepped + at(250);
                known.step(now, load(55_000.0));
            }
            known.tokens(EACH)
        };
        assert_eq!(grown(112_000), 57_000.0, "ten answers of ten seconds");
        let later = grown(212_000);
        assert!((65_000.0..66_500.0).contains(&later), "1 to 2 % for each of ten more: {later}");
    }

    #[test]
    fn one_pause_while_little_runs_says_nothing_and_two_are_overcome() {
        let each_ms = 250;
        let mut night = Ceiling::new(at(0), &Config::default());
        let quiet = |ceiling: &mut Ceiling, until: u64, held: f64| {
            while ceiling.stepped < at(until) {
                ceiling.on_wanted();
                let now = ceiling.stepped + at(each_ms);
                ceiling.step(now, load(held.min(ceiling.tokens(EACH))));
            }
        };
        quiet(&mut night, 60_000, 4_000.0);
        pause(&mut night, at(60_250), 4, 4_000.0);
        assert_eq!(night.known(), None, "one of four");
        quiet(&mut night, 90_000, 4_000.0);
        pause(&mut night, at(90_250), 4, 4_000.0);
        assert_eq!(night.known(), None, "three answers later");
        pause(&mut night, at(93_000), 4, 4_000.0);
        assert_eq!(night.known(), Some(3_800.0), "and again in the same answer's time");

        quiet(&mut night, 93_000 + 600_000, 1e9);
        let morning = night.tokens(EACH);
        assert!(morning > 60_000.0, "sixty answers later it is no bound any more: {morning}");
    }

    #[test]
    fn what_is_held_without_a_pause_makes_room_for_more() {
        let mut ceiling = ceiling();
        for n in 41..=80 {
            ceiling.step(at(250 * n), load(60_000.0));
        }
        assert!((85_000.0..87_000.0).contains(&ceiling.tokens(EACH)), "until 0.7 of it is held: {ceiling:?}");
    }
}
