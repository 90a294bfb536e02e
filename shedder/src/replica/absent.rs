//! The models and routes that a replica was found to lack, each with the time at which it is tried again.
//!
//! A replica that answers "no such model" to a model of the configuration lacks it for now: an adapter is not loaded yet,
//! a rollout is half done. It is out for requests with the same needs only. One of them tries it again after 1 s, then
//! after twice as long each time, up to 30 s; served there, the replica has it.
//!
//! # Guarantees
//!
//! - At most [`NEEDS_MAX`] keys are held; the oldest is dropped, which only means that it is found out anew.
//! - One trial at a time for each key.
//! - Every call is O([`NEEDS_MAX`]), O(1) while nothing is lacking, and allocates only when a key is added.

use std::collections::VecDeque;
use std::time::Duration;

use crate::offer::RequestId;

const NEEDS_MAX: usize = 64;
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// Whether a replica has what a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Supply {
    /// As far as known.
    Has,
    /// It was found to lack it, and one request may try whether it still does.
    Due,
    /// It was found to lack it.
    Lacks,
}

#[derive(Debug, Clone, Copy)]
struct Lack {
    needs: u64,
    since: Duration,
    pause: Duration,
    /// The next trial.
    again: Duration,
    trial: Option<RequestId>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Absent {
    lacks: VecDeque<Lack>,
}

impl Absent {
    /// What is to be expected of a request with `needs` here; 0 needs nothing.
    pub(crate) fn supply(&self, now: Duration, needs: u64) -> Supply {
        match self.lacks.iter().find(|lack| lack.needs == needs) {
            None => Supply::Has,
            Some(lack) if lack.trial.is_none() && now >= lack.again => Supply::Due,
            Some(_) => Supply::Lacks,
        }
    }

    /// A request with `needs` starts here.
    pub(crate) fn on_start(&mut self, id: RequestId, needs: u64) {
        if let Some(lack) = self.find(needs).filter(|lack| lack.trial.is_none()) {
            lack.trial = Some(id);
        }
    }

    /// A request left, however it ended: another one may try.
    pub(crate) fn on_end(&mut self, id: RequestId, needs: u64) {
        if let Some(lack) = self.find(needs).filter(|lack| lack.trial == Some(id)) {
            lack.trial = None;
        }
    }

    /// A request sent at `sent` was told that `needs` are not here.
    pub(crate) fn on_absent(&mut self, now: Duration, sent: Duration, needs: u64) {
        if needs == 0 {
            return;
        }
        if let Some(lack) = self.find(needs) {
            // One that was under way when this became known says nothing new.
            if sent >= lack.again {
                lack.pause = (2 * lack.pause).min(AGAIN_MAX);
                lack.again = now + lack.pause;
                lack.since = now;
            }
            return;
        }
        if self.lacks.len() >= NEEDS_MAX {
            self.lacks.pop_front();
        }
        let again = now + AGAIN_FIRST;
        self.lacks.push_back(Lack { needs, since: now, pause: AGAIN_FIRST, again, trial: None });
    }

    /// A request sent at `sent` was served. One sent before the lack was found says nothing about now.
    pub(crate) fn on_served(&mut self, sent: Duration, needs: u64) {
        self.lacks.retain(|lack| lack.needs != needs || sent < lack.since);
    }

    /// The next trial of `needs`, if they are lacking.
    pub(crate) fn again(&self, needs: u64) -> Option<Duration> {
        self.lacks.iter().find(|lack| lack.needs == needs).map(|lack| lack.again)
    }

    /// Whether anything is lacking.
    pub(crate) fn is_any(&self) -> bool {
        !self.lacks.is_empty()
    }

    /// The keys of what is lacking, the oldest first.
    pub(crate) fn needs(&self) -> impl Iterator<Item = u64> {
        self.lacks.iter().map(|lack| lack.needs)
    }

    fn find(&mut self, needs: u64) -> Option<&mut Lack> {
        self.lacks.iter_mut().find(|lack| lack.needs == needs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_is_lacking_is_tried_by_one_request_after_a_pause_that_doubles() {
        let mut absent = Absent::default();
        absent.on_absent(at(0), at(0), 7);
        assert_eq!([absent.supply(at(999), 7), absent.supply(at(999), 8)], [Supply::Lacks, Supply::Has]);

        for (due, pause) in
            [(1_000, 2_000), (3_000, 4_000), (7_000, 8_000), (15_000, 16_000), (31_000, 30_000)]
        {
            assert_eq!(absent.supply(at(due), 7), Supply::Due);
            absent.on_start(RequestId(due), 7);
            assert_eq!(absent.supply(at(due), 7), Supply::Lacks, "one at a time");
            absent.on_end(RequestId(due), 7);
            absent.on_absent(at(due), at(due), 7);
            assert_eq!(absent.supply(at(due + pause - 1), 7), Supply::Lacks);
        }

        absent.on_served(at(61_000), 7);
        assert_eq!(absent.supply(at(61_000), 7), Supply::Has);
    }

    #[test]
    fn what_was_under_way_neither_doubles_the_pause_nor_ends_the_lack() {
        let mut absent = Absent::default();
        absent.on_absent(at(100), at(0), 7);

        (0..50).for_each(|n| absent.on_absent(at(200 + n), at(50), 7));
        absent.on_served(at(50), 7);

        assert_eq!(absent.supply(at(1_099), 7), Supply::Lacks);
        assert_eq!(absent.supply(at(1_100), 7), Supply::Due);
    }

    #[test]
    fn no_more_keys_are_held_than_the_bound() {
        let mut absent = Absent::default();
        (1..1_000).for_each(|needs| absent.on_absent(at(needs), at(needs), needs));

        assert_eq!(absent.needs().count(), NEEDS_MAX);
        assert_eq!(absent.supply(at(1_000), 1), Supply::Has, "the oldest is forgotten");
    }
}
