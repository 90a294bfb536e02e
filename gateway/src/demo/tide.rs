//! The demo's traffic: a cycle of phases, each a multiple of what the replicas carry.

use std::time::Duration;

/// One part of the cycle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Phase {
    /// What it shows.
    pub(super) name: &'static str,
    /// Offered load as a multiple of the knee.
    pub(super) factor: f64,
    length: Duration,
}

const CYCLE: [Phase; 4] = [
    Phase { name: "calm", factor: 0.6, length: Duration::from_secs(20) },
    Phase { name: "busy", factor: 1.2, length: Duration::from_secs(25) },
    Phase { name: "launch day", factor: 2.5, length: Duration::from_secs(35) },
    Phase { name: "ebb", factor: 0.7, length: Duration::from_secs(20) },
];

/// Where in the cycle we are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tide {
    began: Duration,
}

impl Tide {
    /// A cycle that begins now.
    pub(super) fn new(now: Duration) -> Self {
        Tide { began: now }
    }

    /// The phase at `now`; after the last comes the first.
    pub(super) fn at(&self, now: Duration) -> Phase {
        let whole: Duration = CYCLE.iter().map(|phase| phase.length).sum();
        let mut left = now.saturating_sub(self.began).as_secs_f64() % whole.as_secs_f64();
        for phase in CYCLE {
            if left < phase.length.as_secs_f64() {
                return phase;
            }
            left -= phase.length.as_secs_f64();
        }
        CYCLE[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cycle_begins_again_after_its_last_phase() {
        let tide = Tide::new(Duration::from_secs(5));
        assert_eq!(tide.at(Duration::from_secs(5)).name, "calm");
        assert_eq!(tide.at(Duration::from_secs(5 + 46)).name, "launch day");
        assert_eq!(tide.at(Duration::from_secs(5 + 81)).name, "ebb");
        assert_eq!(tide.at(Duration::from_secs(5 + 101)).name, "calm");
    }
}
