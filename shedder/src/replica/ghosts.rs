//! Ghosts: the places of requests that failed quickly, still counted when replicas are compared.
//!
//! A replica that fails in a millisecond is always the emptiest, so that a least-loaded choice sends everything there: the
//! faster it fails the more it gets. So a failed request keeps its place in the comparison for as long as a usual answer
//! would have held it. A ghost is no request: it takes no place, no memory and no backlog from anyone, and with a single
//! replica it changes nothing.
//!
//! # Guarantees
//!
//! - At most [`GHOSTS_MAX`] at a time, each for 10 s at most; [`release`](Ghosts::release) of a tick after that leaves none.
//! - `count` and `tokens` are O(1); adding may allocate.

use std::collections::VecDeque;
use std::time::Duration;

use crate::replica::gap::LIMIT_MAX;

/// As many as a replica can hold requests.
const GHOSTS_MAX: usize = LIMIT_MAX as usize;
/// A second, because a burst is over by then; ten, because a replica that recovers must not be shunned for longer.
const LASTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

#[derive(Debug, Clone, Copy)]
struct Ghost {
    until: Duration,
    tokens_until: Duration,
    tokens: u32,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ghosts {
    ghosts: VecDeque<Ghost>,
    tokens: u64,
}

impl Ghosts {
    /// A request with `tokens` of prompt failed, whose first token would have come after `ttft` and its end after `held`.
    pub(crate) fn add(&mut self, now: Duration, tokens: u32, ttft: Duration, held: Duration) {
        if self.ghosts.len() >= GHOSTS_MAX
            && let Some(oldest) = self.ghosts.pop_front()
        {
            self.tokens -= u64::from(oldest.tokens);
        }
        let until = now + held.clamp(LASTS.0, LASTS.1);
        self.ghosts.push_back(Ghost { until, tokens_until: (now + ttft).min(until), tokens });
        self.tokens += u64::from(tokens);
    }

    /// Forgets what is over at `now`. O(ghosts).
    pub(crate) fn release(&mut self, now: Duration) {
        self.ghosts.retain(|ghost| now < ghost.until);
        for ghost in self.ghosts.iter_mut().filter(|ghost| now >= ghost.tokens_until) {
            ghost.tokens = 0;
        }
        self.tokens = self.ghosts.iter().map(|ghost| u64::from(ghost.tokens)).sum();
    }

    /// Places that count as taken.
    pub(crate) fn count(&self) -> u32 {
        self.ghosts.len() as u32
    }

    /// Prompt tokens that count as waiting.
    pub(crate) fn tokens(&self) -> u64 {
        self.tokens
    }

    pub(crate) fn clear(&mut self) {
        self.ghosts.clear();
        self.tokens = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_ghost_counts_its_tokens_until_the_first_and_its_place_until_the_last() {
        let mut ghosts = Ghosts::default();
        ghosts.add(at(0), 100, at(400), at(3_000));
        ghosts.add(at(0), 50, at(400), at(10));
        ghosts.add(at(0), 30, at(400), at(60_000));

        let mut seen = |now| {
            ghosts.release(at(now));
            (ghosts.count(), ghosts.tokens())
        };

        assert_eq!(seen(399), (3, 180));
        assert_eq!(seen(400), (3, 0));
        assert_eq!(seen(1_000), (2, 0), "a second at least");
        assert_eq!(seen(3_000), (1, 0));
        assert_eq!(seen(10_000), (0, 0), "ten at most");
    }

    #[test]
    fn there_are_never_more_than_places() {
        let mut ghosts = Ghosts::default();
        (0..10_000).for_each(|_| ghosts.add(at(0), 1, at(400), at(3_000)));

        assert_eq!((ghosts.count() as usize, ghosts.tokens()), (GHOSTS_MAX, GHOSTS_MAX as u64));
    }
}
