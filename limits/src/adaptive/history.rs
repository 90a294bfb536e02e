//! What became of the limits, and why: the last changes of a budget.
//!
//! A customer whose limit is not what it was yesterday asks why. So each change is kept with its reason, the last 32 of
//! them, and handed to the caller once, to be logged and counted.

use std::time::Duration;

use crate::meter::Meter;
use crate::window::timeline::{Millis, Timeline};

/// Changes that are kept: a week's worth of one meter's shrinks, or eight hours of one meter's growth.
pub(crate) const CHANGES: u64 = 32;

/// Why a limit changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeReason {
    /// The last minute used much of it.
    Grown,
    /// It was not used for days.
    Shrunk,
    /// There was no traffic at all, so it is back at the start.
    Idle,
    /// The configuration changed.
    Reconfigured,
}

impl ChangeReason {
    /// All reasons. Snapshots count on the order: new ones are appended.
    pub const ALL: [ChangeReason; 4] =
        [ChangeReason::Grown, ChangeReason::Shrunk, ChangeReason::Idle, ChangeReason::Reconfigured];

    /// The name used in logs, metrics and the console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ChangeReason::Grown => "grown",
            ChangeReason::Shrunk => "shrunk",
            ChangeReason::Idle => "idle",
            ChangeReason::Reconfigured => "reconfigured",
        }
    }
}

impl std::fmt::Display for ChangeReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One change of a limit, in tokens per minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitChange {
    /// When, since the process started; zero for a change before that.
    pub at: Duration,
    /// How long before the process started; zero for a change since. Set only after a restore.
    pub before_start: Duration,
    /// Which meter's limit.
    pub meter: Meter,
    /// The limit before.
    pub from: u64,
    /// The limit from then on.
    pub to: u64,
    /// Why.
    pub reason: ChangeReason,
}

/// A change as it is kept: 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) at: Millis,
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) meter: Meter,
    pub(crate) reason: ChangeReason,
}

impl Entry {
    const NONE: Entry =
        Entry { at: 0, from: 0, to: 0, meter: Meter::Prompt, reason: ChangeReason::Reconfigured };

    fn shown(self, timeline: &Timeline) -> LimitChange {
        let (at, before_start) = timeline.process_time(self.at);
        let Entry { from, to, meter, reason, .. } = self;
        LimitChange { at, before_start, meter, from: u64::from(from), to: u64::from(to), reason }
    }
}

/// The last changes of a budget, and which of them nobody has asked for yet.
#[derive(Debug, Clone)]
pub(crate) struct History {
    entries: [Entry; CHANGES as usize],
    recorded: u64,
    taken: u64,
}

impl History {
    pub(crate) const fn new() -> Self {
        History { entries: [Entry::NONE; CHANGES as usize], recorded: 0, taken: 0 }
    }

    /// Keeps a change. The oldest of more than 32 is forgotten.
    pub(crate) fn record(&mut self, entry: Entry) {
        if let Some(place) = self.entries.get_mut((self.recorded % CHANGES) as usize) {
            *place = entry;
            self.recorded += 1;
        }
    }

    /// All changes that are kept, the oldest first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        (self.recorded.saturating_sub(CHANGES)..self.recorded).filter_map(|number| self.entry(number))
    }

    /// As [`entries`](History::entries), in process time.
    pub(crate) fn changes<'a>(&'a self, timeline: &'a Timeline) -> impl Iterator<Item = LimitChange> + 'a {
        self.entries().map(|entry| entry.shown(timeline))
    }

    /// The changes recorded since this was last asked, the oldest first; at most the 32 that are kept.
    pub(crate) fn take_new<'a>(
        &'a mut self,
        timeline: &'a Timeline,
    ) -> impl Iterator<Item = LimitChange> + 'a {
        let new = self.taken.max(self.recorded.saturating_sub(CHANGES))..self.recorded;
        self.taken = self.recorded;
        new.filter_map(|number| self.entry(number)).map(|entry| entry.shown(timeline))
    }

    /// Marks everything kept as known to the caller: it was logged before the restart.
    pub(crate) fn mark_taken(&mut self) {
        self.taken = self.recorded;
    }

    fn entry(&self, number: u64) -> Option<Entry> {
        self.entries.get((number % CHANGES) as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at: Millis) -> Entry {
        Entry { at, from: 1, to: 2, meter: Meter::Generated, reason: ChangeReason::Grown }
    }

    #[test]
    fn only_the_last_changes_are_kept_in_order() {
        let mut history = History::new();

        for at in 0..100 {
            history.record(entry(at));
        }

        let kept: Vec<_> = history.entries().map(|entry| entry.at).collect();
        assert_eq!(kept, (68..100).collect::<Vec<_>>());
    }

    #[test]
    fn each_change_is_handed_out_once() {
        let timeline = Timeline::new(Duration::ZERO);
        let mut history = History::new();
        history.record(entry(10));

        assert_eq!(history.take_new(&timeline).count(), 1);
        assert_eq!(history.take_new(&timeline).count(), 0);
        history.record(entry(20));
        let new: Vec<_> = history.take_new(&timeline).map(|change| change.at).collect();
        assert_eq!(new, [Duration::from_millis(20)]);
    }
}
