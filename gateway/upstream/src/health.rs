//! The states of a replica, told alike in metrics, the admin API, the command line and the console.

use shedder::ReplicaSnapshot;

/// What a replica is doing for the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It takes requests.
    Serving,
    /// An operator drained it, and requests still run on it.
    Draining,
    /// An operator drained it, and nothing runs on it: it may be stopped.
    Drained,
    /// It failed, and is sent nothing until it answers again.
    Down,
}

impl Health {
    /// All of them.
    pub const ALL: [Health; 4] = [Health::Serving, Health::Draining, Health::Drained, Health::Down];

    /// The state of a replica. One that was drained and then stopped is drained, not down: that is what it was drained for.
    #[must_use]
    pub fn of(replica: &ReplicaSnapshot) -> Health {
        match (replica.drained, replica.active, replica.answers) {
            (true, 0, _) => Health::Drained,
            (true, ..) => Health::Draining,
            (false, _, true) => Health::Serving,
            (false, _, false) => Health::Down,
        }
    }

    /// Its name in metrics and the admin API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Health::Serving => "serving",
            Health::Draining => "draining",
            Health::Drained => "drained",
            Health::Down => "down",
        }
    }
}
