//! A log line that may come with every request of an attacker, told at most once in a while with how often it was due.

use crate::clock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Shortest time between two lines of one kind.
const EVERY: Duration = Duration::from_secs(10);

/// When a kind of line was told last, and how often it was due since.
#[derive(Debug, Default)]
pub struct Seldom {
    due: AtomicU64,
    /// Milliseconds since the process started, plus one; 0: never.
    told: AtomicU64,
}

impl Seldom {
    /// Nothing told yet.
    #[must_use]
    pub const fn new() -> Self {
        Seldom { due: AtomicU64::new(0), told: AtomicU64::new(0) }
    }

    /// The line is due once more. How often it was since it was told last, where it is to be told now. Lock-free.
    pub fn due(&self) -> Option<u64> {
        self.due_at(clock::now())
    }

    fn due_at(&self, now: Duration) -> Option<u64> {
        self.due.fetch_add(1, Ordering::Relaxed);
        let now = now.as_millis() as u64 + 1;
        let told = self.told.load(Ordering::Relaxed);
        let is_time = told == 0 || now >= told + EVERY.as_millis() as u64;
        let is_ours = || self.told.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        (is_time && is_ours()).then(|| self.due.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_told_and_then_one_in_ten_seconds_with_the_count() {
        let seldom = Seldom::new();
        let at = |ms| seldom.due_at(Duration::from_millis(ms));

        assert_eq!(at(0), Some(1));
        assert_eq!([at(1), at(5_000), at(9_999)], [None; 3]);
        assert_eq!(at(10_000), Some(4));
        assert_eq!(at(10_001), None);
    }
}
