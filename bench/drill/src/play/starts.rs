//! Which regular requests were started since when: what a priority request that is refused is held against.

use std::collections::VecDeque;
use std::time::Duration;

/// Starts are remembered so long: longer than anything waits.
const REMEMBERED: Duration = Duration::from_secs(10);

/// The start of a regular request.
#[derive(Debug, Clone, Copy)]
struct Start {
    at: Duration,
    /// In the order of starts: those of one moment come one after the other.
    number: u64,
    tokens: u32,
}

/// The starts of regular requests, the last ones.
#[derive(Debug, Default)]
pub(super) struct RegularStarts {
    starts: VecDeque<Start>,
    count: u64,
}

impl RegularStarts {
    /// One with so many tokens to compute.
    pub(super) fn push(&mut self, now: Duration, tokens: u32) {
        self.starts.push_back(Start { at: now, number: self.count, tokens });
        self.count += 1;
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Whether one of at least `tokens` was started after the first `before`.
    pub(super) fn overtook(&self, before: u64, tokens: u32) -> bool {
        self.starts.iter().any(|start| start.number >= before && start.tokens >= tokens)
    }

    /// Forgets what no request can have waited for.
    pub(super) fn forget(&mut self, now: Duration) {
        while self.starts.front().is_some_and(|start| now.saturating_sub(start.at) > REMEMBERED) {
            self.starts.pop_front();
        }
    }
}
