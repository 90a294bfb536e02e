//! What goes wrong in a drill, as it is written in the scenario.

use std::time::Duration;

use super::{Play, Stage, What, Why};
use crate::run::Outcome;
use crate::scenario::{Incident, Shutdown};

/// From its last answer to the end of its process, and from the start of another one to its first connection.
const EXIT: Duration = Duration::from_millis(500);

/// A gateway that was told to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    told: Duration,
    /// When the next one is started, after it is gone.
    pause: Duration,
}

impl Play<'_> {
    pub(super) fn incident(&mut self, now: Duration, incident: Incident) {
        match incident {
            Incident::Lost(replica) => self.lose(now, replica),
            Incident::Back(replica) => self.fleet.bring_back(replica),
            Incident::MetricsFrozen => self.frozen = true,
            Incident::MetricsBack => self.frozen = false,
            Incident::Pace(replica, percent) => self.fleet.pace(replica, percent),
            Incident::Drained(replica, drained) => self.gate.drain(now, replica, drained),
            Incident::Pressure(percent, seconds) => {
                let until = now + Duration::from_secs(seconds);
                self.gate.press(now, f64::from(percent) / 100.0, until);
            }
            // The new configuration is the old one, and a reload keeps what the policy knows.
            Incident::Reload => {}
            Incident::GatewayUpgraded => self.gate.upgrade(now),
            Incident::GatewayLost => self.lose_gateway(now),
            Incident::GatewayBack => self.down = false,
            Incident::GatewayRestarted(pause_ms) => {
                self.leaving = Some(Leaving { told: now, pause: Duration::from_millis(pause_ms) });
            }
        }
    }

    fn lose(&mut self, now: Duration, replica: u16) {
        for ticket in 0..self.tries.len() as u32 {
            let Some(attempt) = self.tries.get(ticket as usize) else { continue };
            if attempt.stage == Stage::Active(replica) {
                let times = attempt.sent_times;
                self.abort_upstream(now, ticket);
                self.over_network(now, What::Failed(ticket, times, Why::Reset));
            }
        }
        self.fleet.lose(replica);
        self.seen.values_mut().for_each(|replicas| replicas.retain(|(on, _)| *on != replica));
    }

    /// What a gateway that was told to end does next. To be called on each tick.
    pub(super) fn leave_gateway(&mut self, now: Duration) {
        let Shutdown { lame_duck, grace } = self.scenario.shutdown;
        let Some(Leaving { told, pause }) = self.leaving.filter(|leaving| now >= leaving.told + lame_duck)
        else {
            return;
        };
        self.down = true;
        if self.live == 0 || now >= told + lame_duck + grace {
            self.leaving = None;
            self.lose_gateway(now);
            self.later(now + EXIT + pause, What::Incident(Incident::GatewayBack));
        }
    }

    /// Every connection breaks; the engines hear of it a network's way later.
    fn lose_gateway(&mut self, now: Duration) {
        self.down = true;
        for ticket in 0..self.tries.len() as u32 {
            let Some(attempt) = self.tries.get(ticket as usize) else { continue };
            if attempt.stage == Stage::Over {
                continue;
            }
            if let Stage::Active(replica) = attempt.stage {
                let abort = What::Abort(ticket, attempt.sent_times, replica);
                self.over_network(now, abort);
            }
            self.refused_connection(now, ticket);
        }
        self.gate.restart(now);
        self.accounts.restart(now);
        self.seen.clear();
    }

    /// Nobody listens, or the connection broke: the client may try again.
    pub(super) fn refused_connection(&mut self, now: Duration, ticket: u32) {
        let unanswered = self.tries.get(ticket as usize).is_some_and(|attempt| attempt.first.is_none());
        self.end(now, ticket, Outcome::Broken, None);
        if unanswered {
            self.come_back(now, ticket, None);
        }
    }
}
