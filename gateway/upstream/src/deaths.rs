//! Requests that kill the engine that gets them, found by what was in flight where an engine died.
//!
//! A request is a suspect when its body was in flight on a replica that died, was sent to a second one after that, and that
//! one died, too, with no other body in flight at both. Then it is not sent to a third. That the second sending began after
//! the first death is what tells a cause from a coincidence: a power cut that takes two replicas while a monitoring probe
//! is in flight on both accuses nobody.
//!
//! A replica has died when a connection broke and nobody listens at its address afterwards. A reset alone is no death.
//!
//! # Bounds
//!
//! At most `DEATHS_MAX` deaths are kept, with at most `BODIES_MAX` bodies each, for `KEPT`. A death with more bodies in
//! flight accuses nobody, as none of them stands out. A success clears a body.

use shedder::ReplicaId;
use std::collections::VecDeque;
use std::time::Duration;

/// Deaths that are kept: with [`BODIES_MAX`] they hold 4,096 bodies.
const DEATHS_MAX: usize = 64;
/// Bodies that are kept of one death.
const BODIES_MAX: usize = 64;
/// How long a death is kept.
const KEPT: Duration = Duration::from_secs(300);
/// Connections of one replica that break within this time broke in one death.
const ONE_DEATH: Duration = Duration::from_secs(5);

/// The deaths of a deployment's replicas.
#[derive(Debug, Default)]
pub struct Deaths(VecDeque<Death>);

#[derive(Debug)]
struct Death {
    replica: ReplicaId,
    at: Duration,
    confirmed: bool,
    bodies: Vec<InFlight>,
    /// More bodies were in flight than are kept.
    crowded: bool,
}

/// A body that was in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InFlight {
    body: u64,
    sent: Duration,
}

impl Deaths {
    /// Whether nothing is known: then no body has to be hashed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The connection of a request with this body, sent at `sent`, broke at `now`.
    pub fn on_broken(&mut self, now: Duration, replica: ReplicaId, body: u64, sent: Duration) {
        self.forget(now);
        let same = |death: &&mut Death| death.replica == replica && now.saturating_sub(death.at) <= ONE_DEATH;
        if let Some(death) = self.0.iter_mut().rev().find(same) {
            match death.bodies.len() {
                BODIES_MAX => death.crowded = true,
                _ => death.bodies.push(InFlight { body, sent }),
            }
            return;
        }
        if self.0.len() == DEATHS_MAX {
            self.0.pop_front();
        }
        let bodies = vec![InFlight { body, sent }];
        self.0.push_back(Death { replica, at: now, confirmed: false, bodies, crowded: false });
    }

    /// Nobody listens at the replica's address: what broke there lately was a death.
    pub fn on_refused(&mut self, now: Duration, replica: ReplicaId) {
        let recent = |death: &&mut Death| death.replica == replica && now.saturating_sub(death.at) <= KEPT;
        self.0.iter_mut().rev().find(recent).into_iter().for_each(|death| death.confirmed = true);
    }

    /// The body was answered: it kills nobody.
    pub fn on_success(&mut self, body: u64) {
        self.0.iter_mut().for_each(|death| death.bodies.retain(|known| known.body != body));
        self.0.retain(|death| !death.bodies.is_empty());
    }

    /// Whether the body is a suspect. O(deaths² · bodies), called only while there are deaths.
    #[must_use]
    pub fn is_suspect(&self, now: Duration, body: u64) -> bool {
        let proven = |death: &&Death| {
            death.confirmed
                && !death.crowded
                && now.saturating_sub(death.at) <= KEPT
                && death.sent(body).is_some()
        };
        self.0.iter().filter(proven).any(|first| {
            self.0.iter().filter(proven).any(|second| {
                second.replica != first.replica
                    && second.sent(body).is_some_and(|sent| sent >= first.at)
                    && !second
                        .bodies
                        .iter()
                        .any(|other| other.body != body && first.sent(other.body).is_some())
            })
        })
    }

    fn forget(&mut self, now: Duration) {
        self.0.retain(|death| now.saturating_sub(death.at) <= KEPT);
    }
}

impl Death {
    /// When the body was sent, if it was in flight.
    fn sent(&self, body: u64) -> Option<Duration> {
        self.bodies.iter().filter(|known| known.body == body).map(|known| known.sent).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POISON: u64 = 7;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn died(deaths: &mut Deaths, at: u64, replica: u16, bodies: &[(u64, u64)]) {
        for (body, sent) in bodies {
            deaths.on_broken(s(at), ReplicaId(replica), *body, s(*sent));
        }
        deaths.on_refused(s(at), ReplicaId(replica));
    }

    #[test]
    fn case_f04_a_body_that_was_in_flight_at_two_deaths_is_not_sent_to_a_third() {
        let mut deaths = Deaths::default();
        died(&mut deaths, 10, 0, &[(POISON, 9), (1, 8)]);
        assert!(!deaths.is_suspect(s(11), POISON), "one death may be anything");
        died(&mut deaths, 12, 1, &[(2, 11), (POISON, 11)]);

        assert!(deaths.is_suspect(s(13), POISON));
        assert!(!deaths.is_suspect(s(13), 1) && !deaths.is_suspect(s(13), 2), "they were beside it");
        assert!(!deaths.is_suspect(s(400), POISON), "five minutes later it is forgotten");
        deaths.on_success(POISON);
        assert!(!deaths.is_suspect(s(13), POISON), "an answer clears it");
    }

    #[test]
    fn case_f04_a_power_cut_with_a_probe_in_flight_accuses_nobody() {
        let mut deaths = Deaths::default();
        died(&mut deaths, 10, 0, &[(POISON, 9)]);
        died(&mut deaths, 10, 1, &[(POISON, 9)]);
        assert!(!deaths.is_suspect(s(11), POISON), "it was sent to both before either died");
    }

    #[test]
    fn two_bodies_at_both_deaths_and_resets_without_a_death_accuse_nobody() {
        let mut deaths = Deaths::default();
        died(&mut deaths, 10, 0, &[(POISON, 9), (1, 9)]);
        died(&mut deaths, 12, 1, &[(POISON, 11), (1, 11)]);
        assert!(!deaths.is_suspect(s(13), POISON), "which of the two?");

        let mut resets = Deaths::default();
        resets.on_broken(s(10), ReplicaId(0), POISON, s(9));
        resets.on_broken(s(12), ReplicaId(1), POISON, s(11));
        assert!(!resets.is_suspect(s(13), POISON), "both still listen");
    }

    #[test]
    fn deaths_and_bodies_are_bounded() {
        let mut deaths = Deaths::default();
        (0..10_000).for_each(|n| deaths.on_broken(s(1), ReplicaId(0), n, s(0)));
        assert_eq!((deaths.0.len(), deaths.0[0].bodies.len(), deaths.0[0].crowded), (1, BODIES_MAX, true));
        (0..1_000u16).for_each(|n| deaths.on_broken(s(2), ReplicaId(n), 1, s(0)));
        assert!(deaths.0.len() <= DEATHS_MAX);
    }
}
