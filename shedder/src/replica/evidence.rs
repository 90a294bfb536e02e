//! Evidence against a replica: bodies that it answered with an error and that another replica served.
//!
//! An error of unknown cause says nothing by itself: the request may be broken, and then it fails everywhere. What tells
//! the two apart is the second replica. So only a body that was served elsewhere counts, each body once however often it
//! comes, and only for [`SPAN`]: one client that repeats itself, or a session that is bound to one replica, is one piece.
//!
//! # Guarantees
//!
//! - At most [`BODIES_MAX`] bodies are held, the oldest dropped first.
//! - Every call is O([`BODIES_MAX`]) and allocates only when a body is added.

use std::collections::VecDeque;
use std::time::Duration;

use crate::offer::ReplicaId;

/// So many different bodies make an outlier, as many as failures in a row make one that is down.
pub(crate) const BODIES_MIN: usize = 3;
/// Long enough that a replica with little traffic is found, short enough that a deployment's rare flukes do not add up.
const SPAN: Duration = Duration::from_secs(60);
/// More than are ever compared.
const BODIES_MAX: usize = 16;

/// One body that failed here and was served elsewhere.
#[derive(Debug, Clone, Copy)]
struct Piece {
    body: u64,
    at: Duration,
    served_by: ReplicaId,
    /// The replica came back since: not held against it any more.
    forgiven: bool,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Evidence {
    pieces: VecDeque<Piece>,
}

impl Evidence {
    /// A body that failed here was served by another replica.
    pub(crate) fn add(&mut self, now: Duration, body: u64, served_by: ReplicaId) {
        self.drop_body(body);
        if self.pieces.len() >= BODIES_MAX {
            self.pieces.pop_front();
        }
        self.pieces.push_back(Piece { body, at: now, served_by, forgiven: false });
    }

    /// The body fails elsewhere, too, or was served here after all.
    pub(crate) fn drop_body(&mut self, body: u64) {
        self.pieces.retain(|piece| piece.body != body);
    }

    /// The body failed on a replica that had served it: it fails by chance, and that chance is not this replica's.
    pub(crate) fn on_failed_on(&mut self, body: u64, replica: ReplicaId) {
        self.pieces.retain(|piece| piece.body != body || piece.served_by != replica);
    }

    /// Different bodies held against the replica at `now`.
    pub(crate) fn bodies(&self, now: Duration) -> usize {
        self.recent(now).filter(|piece| !piece.forgiven).count()
    }

    /// The same with what was forgiven: the others are compared with that, or they would look worse than this one for
    /// having been there all the time.
    pub(crate) fn bodies_with_forgiven(&self, now: Duration) -> usize {
        self.recent(now).count()
    }

    /// The replica served a trial: nothing is held against it any more.
    pub(crate) fn forgive(&mut self) {
        self.pieces.iter_mut().for_each(|piece| piece.forgiven = true);
    }

    fn recent(&self, now: Duration) -> impl Iterator<Item = &Piece> {
        self.pieces.iter().filter(move |piece| now.saturating_sub(piece.at) < SPAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn a_body_counts_once_for_a_minute_and_no_more_than_sixteen_are_held() {
        let mut evidence = Evidence::default();
        (0..1_000).for_each(|_| evidence.add(at(0), 7, ReplicaId(1)));
        assert_eq!(evidence.bodies(at(0)), 1);

        (0..1_000).for_each(|body| evidence.add(at(1), body, ReplicaId(1)));

        assert_eq!(evidence.bodies(at(1)), BODIES_MAX);
        assert_eq!(evidence.bodies(at(61)), 0);
    }

    #[test]
    fn a_body_that_fails_where_it_was_served_before_is_dropped() {
        let mut evidence = Evidence::default();
        evidence.add(at(0), 7, ReplicaId(1));

        evidence.on_failed_on(7, ReplicaId(2));
        assert_eq!(evidence.bodies(at(0)), 1, "another replica");
        evidence.on_failed_on(7, ReplicaId(1));
        assert_eq!(evidence.bodies(at(0)), 0);
    }
}
