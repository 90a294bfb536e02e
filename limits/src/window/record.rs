//! Where a request's tokens were charged, in little memory, so that a correction finds the place.
//!
//! A stream is charged four times a second, for minutes; keeping each charge would let a request grow a list.
//! So a record keeps a few *runs* of slots and halves their number when it is full, by joining neighbours.
//! What that costs in accuracy falls on the account's side by less than a run's tokens, and never mints:
//!
//! - a correction is spread over the runs in proportion to what was charged there;
//! - a run counts as gone as soon as its first slot has left the minute;
//! - within a run the oldest slots are credited first, so that the credit ends first.

use crate::window::{Booked, Slot};

/// Tokens that were charged in `first..=last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Run {
    pub(crate) first: Slot,
    pub(crate) last: Slot,
    pub(crate) tokens: u64,
}

/// Everything that was charged to one meter for one request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record<const RUNS: usize> {
    runs: [Run; RUNS],
    len: usize,
    /// Charged in runs that have left the minute.
    gone: u64,
    /// Charged as debt, the first of it at place `owed_from`.
    owed: u64,
    owed_from: u64,
}

impl<const RUNS: usize> Record<RUNS> {
    pub(crate) const fn new() -> Self {
        let run = Run { first: 0, last: 0, tokens: 0 };
        Record { runs: [run; RUNS], len: 0, gone: 0, owed: 0, owed_from: 0 }
    }

    /// Tokens charged so far.
    pub(crate) fn total(&self) -> u64 {
        self.runs().map(|run| run.tokens).sum::<u64>().saturating_add(self.gone).saturating_add(self.owed)
    }

    /// The runs, the oldest first.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.runs.iter().take(self.len).copied()
    }

    /// Tokens that became debt, and the place of the first of them in the sequence of all debt.
    ///
    /// Later ones stand behind other requests' debt; to take all of them as standing together at the front
    /// only makes them look paid earlier than they are.
    pub(crate) fn owed(&self) -> (u64, u64) {
        (self.owed_from, self.owed)
    }

    /// Adds what was booked in `slot`, where `oldest` is the oldest slot that still counts.
    pub(crate) fn add(&mut self, slot: Slot, booked: Booked, oldest: Slot) {
        if booked.owed > 0 {
            if self.owed == 0 {
                self.owed_from = booked.owed_from;
            }
            self.owed = self.owed.saturating_add(booked.owed);
        }
        if booked.in_slot > 0 {
            self.add_to_runs(slot, booked.in_slot, oldest);
        }
    }

    fn add_to_runs(&mut self, slot: Slot, tokens: u64, oldest: Slot) {
        if let Some(run) = self.newest_run().filter(|run| run.last == slot) {
            run.tokens = run.tokens.saturating_add(tokens);
            return;
        }
        if self.len == RUNS {
            self.drop_gone(oldest);
        }
        if self.len == RUNS {
            self.join_neighbours();
        }
        if let Some(free) = self.runs.get_mut(self.len) {
            *free = Run { first: slot, last: slot, tokens };
            self.len += 1;
        } else if let Some(run) = self.newest_run() {
            run.last = slot;
            run.tokens = run.tokens.saturating_add(tokens);
        }
    }

    fn newest_run(&mut self) -> Option<&mut Run> {
        self.runs.get_mut(self.len.checked_sub(1)?)
    }

    fn drop_gone(&mut self, oldest: Slot) {
        let mut kept = [Run::default(); RUNS];
        let mut len = 0;
        for run in self.runs.iter().take(self.len) {
            match kept.get_mut(len) {
                Some(place) if run.first >= oldest => {
                    *place = *run;
                    len += 1;
                }
                _ => self.gone = self.gone.saturating_add(run.tokens),
            }
        }
        self.runs = kept;
        self.len = len;
    }

    fn join_neighbours(&mut self) {
        let mut joined = [Run::default(); RUNS];
        let pairs = self.runs.chunks(2);
        self.len = pairs.len();
        for (into, pair) in joined.iter_mut().zip(pairs) {
            if let (Some(first), Some(last)) = (pair.first(), pair.last()) {
                let tokens = pair.iter().map(|run| run.tokens).sum();
                *into = Run { first: first.first, last: last.last, tokens };
            }
        }
        self.runs = joined;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn booked(in_slot: u64) -> Booked {
        Booked { in_slot, owed: 0, owed_from: 0 }
    }

    #[test]
    fn charges_of_one_slot_are_one_run() {
        let mut record = Record::<4>::new();

        record.add(7, booked(10), 0);
        record.add(7, booked(5), 0);

        assert_eq!(record.runs().collect::<Vec<_>>(), [Run { first: 7, last: 7, tokens: 15 }]);
    }

    #[test]
    fn a_full_record_joins_neighbours_and_loses_nothing() {
        let mut record = Record::<4>::new();

        for slot in 1..=100 {
            record.add(slot, booked(u64::from(slot)), 0);
        }

        let runs: Vec<_> = record.runs().collect();
        assert!(runs.len() <= 4);
        assert_eq!(record.total(), (1..=100).sum::<u64>());
        assert!(
            runs.windows(2).all(|pair| pair[0].last < pair[1].first),
            "in order, without overlap: {runs:?}"
        );
        assert_eq!((runs[0].first, runs[runs.len() - 1].last), (1, 100));
    }

    #[test]
    fn runs_that_have_left_make_room_before_any_are_joined() {
        let mut record = Record::<2>::new();
        record.add(1, booked(10), 0);
        record.add(2, booked(20), 0);

        record.add(300, booked(30), 60);

        assert_eq!(record.runs().collect::<Vec<_>>(), [Run { first: 300, last: 300, tokens: 30 }]);
        assert_eq!(record.total(), 60, "what has left still counts as charged");
    }

    #[test]
    fn a_record_of_one_run_stretches_it() {
        let mut record = Record::<1>::new();
        record.add(5, booked(10), 0);

        record.add(9, booked(10), 0);

        assert_eq!(record.runs().collect::<Vec<_>>(), [Run { first: 5, last: 9, tokens: 20 }]);
    }
}
