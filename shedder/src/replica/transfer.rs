//! What a prompt's tokens take on the way to or from the computing: KV that travels between cards, uploads, ranks that
//! compute beside each other.
//!
//! The line of [`lag`](super::lag) says what a token takes, s, and not how much of it keeps the engine busy, c: a prompt that
//! is alone shows the sum. The second of two that are sent one right behind the other tells them apart (packet pairs,
//! Keshav 1991): it waits until the first is computed, and not while that one travels.
//!
//! ```text
//! from the first one's sending to the second one's token = lag + c · tokens of the first + s · tokens of the second
//! ```
//!
//! It makes no difference whether an engine computes both in one step. Only pairs count whose first was alone, whose second
//! was sent while much of the first had to be left, whose tokens came in that order, and behind which nothing else was sent before
//! its turn: a third prompt in the same step would make the second wait. c is the least-squares slope through zero over about the
//! last 100 pairs; it is believed as far as two standard errors above it, so pairs that scatter, as where each prompt has a
//! delay of its own, change nothing.
//!
//! Pacing keeps prompts apart, so pairs are rare where they are needed most. Where somebody waits for the pace, one in
//! [`TRIED_EVERY`] may therefore start right behind a prompt that is alone (BBR probes for bandwidth in the same way): it
//! costs the answers beside it the gap of one more prompt, and once enough pairs are known one in [`TRIED_AGAIN_EVERY`].
//!
//! Cost: O(pairs on their way), eight; allocates at the first prompt only.

use std::collections::VecDeque;
use std::time::Duration;

use super::lag::Line;
use crate::offer::RequestId;

/// Pairs that count, about.
const MEMORY: f64 = 100.0;
/// Fewer say nothing.
const PAIRS_MIN: u32 = 8;
/// So many pairs are enough to know.
const PAIRS_KNOWN: u32 = 24;
/// Of so many prompts that are alone one is followed by another for the pair's sake, before that and from then on.
const TRIED_EVERY: u32 = 4;
const TRIED_AGAIN_EVERY: u32 = 32;
/// A shorter first prompt says nothing of what the second waited for.
const FIRST_MIN: u32 = 64;
/// The second is sent before this part of the first one's time is over.
const SENT_WITHIN: f64 = 0.4;
/// So many standard errors above the slope.
const ERRORS: f64 = 2.0;
/// A token keeps the engine busy for at least this part of what it takes: beyond, more than four compute at a time.
const BUSY_MIN: f64 = 0.25;
/// More than this part is as good as all.
const BUSY_MAX: f64 = 0.85;
/// Pairs that scatter by more than this part of what the first takes show something else than waiting.
const SCATTER_MAX: f64 = 0.7;
/// More than that of one pair is an accident, seconds.
const WAITED_MAX: f64 = 1.0;

/// Pairs that are on their way at once, at most: behind a long delay one begins before the last has ended.
const UNDER_WAY_MAX: usize = 8;

/// A prompt that was sent to a replica that had nothing else to compute, and the one that followed it.
#[derive(Debug, Clone, Copy)]
struct Pair {
    first: RequestId,
    sent: Duration,
    tokens: u32,
    /// The first one's token came.
    answered: bool,
    second: Option<(RequestId, u32)>,
}

/// Pairs of prompts on one replica.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pairs {
    /// Those on their way; the last may still lack its second.
    open: VecDeque<Pair>,
    pairs: u32,
    /// Prompts that were alone since the last pair.
    singles: u32,
    weight: f64,
    /// Sums over pairs: tokens of the first squared, times what the second waited for, and that squared.
    squares: f64,
    products: f64,
    waited: f64,
}

impl Pairs {
    /// A prompt was sent; `alone` when nothing was being computed then.
    pub(crate) fn on_sent(
        &mut self,
        now: Duration,
        id: RequestId,
        tokens: u32,
        alone: bool,
        line: Option<Line>,
    ) {
        if alone {
            self.open.pop_back_if(|last| last.second.is_none());
            if self.open.len() == UNDER_WAY_MAX {
                self.open.pop_front();
            }
            self.open.push_back(Pair { first: id, sent: now, tokens, answered: false, second: None });
            self.singles = self.singles.saturating_add(1);
        } else if self.may_follow(now, line) {
            self.open.back_mut().into_iter().for_each(|last| last.second = Some((id, tokens)));
            self.singles = 0;
        } else {
            // In one step with the last, perhaps.
            self.open.pop_back();
        }
    }

    /// Whether a prompt that is sent at `now` makes a pair with the one that was alone.
    fn may_follow(&self, now: Duration, line: Option<Line>) -> bool {
        self.open.back().zip(line).is_some_and(|(last, line)| {
            let within = SENT_WITHIN * f64::from(last.tokens) / line.rate;
            !last.answered
                && last.second.is_none()
                && last.tokens >= FIRST_MIN
                && now.saturating_sub(last.sent).as_secs_f64() <= within
        })
    }

    /// Whether a prompt of `tokens`, for which the pace has no room, is to start all the same for the pair's sake. `most`:
    /// tokens that both may have.
    pub(crate) fn is_to_follow(&self, now: Duration, tokens: f64, most: f64, line: Option<Line>) -> bool {
        let every = if self.pairs < PAIRS_KNOWN { TRIED_EVERY } else { TRIED_AGAIN_EVERY };
        self.singles >= every
            && self.may_follow(now, line)
            && self.open.back().is_some_and(|last| f64::from(last.tokens) + tokens <= most)
    }

    /// A first token came. Where none ever does, its pair is pushed out by later ones.
    pub(crate) fn on_first_token(&mut self, now: Duration, id: RequestId, line: Option<Line>) {
        self.open.iter_mut().filter(|pair| pair.first == id).for_each(|pair| pair.answered = true);
        let ended = self.open.iter().position(|pair| pair.second.is_some_and(|second| second.0 == id));
        let Some(pair) = ended.and_then(|at| self.open.remove(at)) else { return };
        if let (Some(line), Some((_, own))) = (line.filter(|_| pair.answered), pair.second) {
            let all = now.saturating_sub(pair.sent).as_secs_f64();
            self.pair(f64::from(pair.tokens), all - line.lag - f64::from(own) / line.rate);
        }
    }

    fn pair(&mut self, tokens: f64, waited: f64) {
        let waited = waited.clamp(-WAITED_MAX, WAITED_MAX);
        let keep = 1.0 - 1.0 / MEMORY;
        self.weight = keep * self.weight + 1.0;
        self.squares = keep * self.squares + tokens * tokens;
        self.products = keep * self.products + tokens * waited;
        self.waited = keep * self.waited + waited * waited;
        self.pairs = self.pairs.saturating_add(1);
    }

    /// The part of a token's time on `line` that keeps the engine busy, 1 where nothing shows that it is less.
    pub(crate) fn busy(&self, line: Line) -> f64 {
        if self.pairs < PAIRS_MIN || self.squares <= 0.0 {
            return 1.0;
        }
        let slope = self.products / self.squares;
        let variance = (self.waited - slope * self.products).max(0.0) / self.weight;
        let first = (self.squares / self.weight).sqrt() / line.rate;
        if variance.sqrt() > SCATTER_MAX * first {
            return 1.0;
        }
        let believed = slope + ERRORS * (variance / self.squares).sqrt();
        let busy = believed * line.rate;
        if busy > BUSY_MAX { 1.0 } else { busy.max(BUSY_MIN) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs on an engine that computes a token in `c` and lets it travel for `t`, with noise by their number.
    fn busy(c: f64, t: f64, lag: f64, noise: impl Fn(u32) -> f64) -> f64 {
        let line = Line { lag, extra: 0.0, rate: 1.0 / (c + t) };
        let mut pairs = Pairs::default();
        for n in 0..80u32 {
            let at = |seconds: f64| Duration::from_secs_f64(f64::from(n) * 100.0 + seconds);
            let (a, b) = (200 + 53 * (n % 9), 600 + 71 * (n % 7));
            let (first, second) = (RequestId(2 * u64::from(n)), RequestId(2 * u64::from(n) + 1));
            pairs.on_sent(at(0.0), first, a, true, Some(line));
            pairs.on_sent(at(0.001), second, b, false, Some(line));
            pairs.on_first_token(at(lag + f64::from(a) * (c + t)), first, Some(line));
            let all = lag + f64::from(a + b) * c + f64::from(b) * t + noise(n);
            pairs.on_first_token(at(all), second, Some(line));
        }
        pairs.busy(line)
    }

    #[test]
    fn what_travels_is_told_from_what_is_computed() {
        for (c, t) in [(1e-4, 1e-4), (1.2e-4, 8e-5), (5e-5, 1e-4)] {
            let busy = busy(c, t, 0.02, |n| 0.004 * f64::from(n % 5) - 0.008);
            assert!((busy - c / (c + t)).abs() < 0.1, "{busy} of {}", c / (c + t));
        }
        assert_eq!(busy(1e-4, 0.0, 0.3, |_| 0.0), 1.0);
    }

    /// Each prompt has a delay of its own: pairs scatter, and some wait for nobody.
    #[test]
    fn pairs_that_scatter_change_nothing() {
        let spread = busy(1e-4, 0.0, 0.2, |n| 0.2 * (f64::from(n * 7 % 11) / 5.0 - 1.0) - 0.03);
        assert_eq!(spread, 1.0);
    }

    #[test]
    fn whoever_is_not_a_pair_does_not_count() {
        let line = Line { lag: 0.0, extra: 0.0, rate: 10_000.0 };
        let at = Duration::from_millis;
        let played = |third: bool, order: [u64; 2], behind: u64| {
            let mut pairs = Pairs::default();
            for n in 0..50 {
                let from = 1_000 * n;
                let id = |which: u64| RequestId(3 * n + which);
                pairs.on_sent(at(from), id(0), 1_000, true, Some(line));
                pairs.on_sent(at(from + behind), id(1), 1_000, false, Some(line));
                if third {
                    pairs.on_sent(at(from + behind), id(2), 10, false, Some(line));
                }
                pairs.on_first_token(at(from + 100), id(order[0]), Some(line));
                pairs.on_first_token(at(from + 110), id(order[1]), Some(line));
            }
            pairs.busy(line)
        };
        assert!(played(false, [0, 1], 1) < 0.5, "both at once");
        assert_eq!(played(true, [0, 1], 1), 1.0, "a third between them");
        assert_eq!(played(false, [1, 0], 1), 1.0, "the second overtook");
        assert_eq!(played(false, [0, 1], 80), 1.0, "the first was nearly done");
    }
}
