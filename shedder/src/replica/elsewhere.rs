//! What runs on a replica and was started by another process: while one gateway hands over to the next, both send to it.

use std::time::Duration;

use super::{Booked, Replica};
use crate::learned::Neighbour;

/// What runs here of another process.
#[derive(Debug, Clone, Default)]
pub(super) struct Elsewhere {
    booked: Vec<Booked>,
    /// Prompt tokens that wait for the engine, of all of them.
    backlog: u64,
    /// Until when that is believed: nobody tells that they are computed once the other process is gone.
    backlog_until: Duration,
}

impl Replica {
    /// What runs here of another process holds places, in place of what it told before; its prompts wait for the engine
    /// until `backlog_until` at most.
    pub(crate) fn hold(
        &mut self,
        from: Neighbour,
        running: impl Iterator<Item = Booked>,
        backlog_until: Duration,
    ) {
        let Elsewhere { booked, backlog: before, .. } = std::mem::take(self.elsewhere_mut(from));
        booked.iter().for_each(|booked| self.end(0, booked.prompt, booked.kv, false));
        let (mut booked, mut backlog) = (Vec::new(), 0);
        for one in running {
            self.active += 1;
            self.memory.start(one.prompt, one.kv);
            backlog += u64::from(one.backlog);
            booked.push(Booked { backlog: 0, ..one });
        }
        self.limit.on_used(self.active);
        // What is gone of it was computed.
        self.started_tokens += backlog.saturating_sub(before);
        self.backlog = (self.backlog + backlog).saturating_sub(before);
        *self.elsewhere_mut(from) = Elsewhere { booked, backlog, backlog_until };
    }

    fn elsewhere_mut(&mut self, from: Neighbour) -> &mut Elsewhere {
        let [before, after] = &mut self.elsewhere;
        match from {
            Neighbour::Before => before,
            Neighbour::After => after,
        }
    }

    /// What another process told of this replica, as far as it has not ended by itself.
    pub(crate) fn told(&self, from: Neighbour) -> impl Iterator<Item = &Booked> {
        let [before, after] = &self.elsewhere;
        match from {
            Neighbour::Before => before.booked.iter(),
            Neighbour::After => after.booked.iter(),
        }
    }

    /// Gives back the places of what should have ended by now, and what is no longer believed to wait.
    pub(super) fn release_elsewhere(&mut self, now: Duration) {
        for from in [Neighbour::Before, Neighbour::After] {
            let all = &mut self.elsewhere_mut(from).booked;
            let over: Vec<Booked> = all.extract_if(.., |booked| booked.until <= now).collect();
            over.iter().for_each(|booked| self.end(0, booked.prompt, booked.kv, false));
            let told = self.elsewhere_mut(from);
            if told.backlog_until <= now {
                let over = std::mem::take(&mut told.backlog);
                self.backlog = self.backlog.saturating_sub(over);
            }
        }
    }

    /// Places that are held for another process.
    pub(super) fn places_elsewhere(&self) -> usize {
        self.elsewhere.iter().map(|one| one.booked.len()).sum()
    }
}
