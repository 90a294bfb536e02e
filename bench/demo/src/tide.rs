//! The demo's traffic: the launch-day drill without an end, and what somebody at the keyboard adds to it.

use config::Faults;
use drill::scenario::Source;
use std::path::Path;
use std::time::Duration;

/// The drill, as it is in `deploy/drills/`.
const LAUNCH_DAY: &str = include_str!("../../../deploy/drills/launch-day.yaml");
/// Requests per second that the replicas carry within their targets.
const KNEE_PER_S: f64 = 25.6;
/// What a doubled regular tier is.
const DOUBLED: f64 = 2.0;
/// What a surge of priority is.
const SURGE: f64 = 4.0;

/// One moment of the traffic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Phase {
    /// What it shows.
    pub(super) name: &'static str,
    /// Offered load as a multiple of what the fleet carries.
    pub(super) load: f64,
    /// Priority requests per second.
    pub(super) priority_per_s: f64,
    /// Regular requests per second.
    pub(super) regular_per_s: f64,
}

/// Where in the drill we are.
#[derive(Debug, Clone)]
pub(super) struct Tide {
    began: Duration,
    length: Duration,
    source: Source,
    /// Regular traffic is doubled.
    pub(super) doubled: bool,
    /// Priority surges.
    pub(super) surge: bool,
}

impl Tide {
    /// The launch-day drill from its beginning.
    ///
    /// # Errors
    /// The drill that this was built with is wrong, which would be our fault.
    pub(super) fn new(now: Duration) -> Result<Tide, Faults> {
        let drill = drill::command::parse(LAUNCH_DAY, "launch-day", Path::new(""))?;
        let source = drill.scenario.sources.into_iter().next();
        let source = source.unwrap_or_else(|| drill::settings::Setting::CHAT.source(1.0));
        Ok(Tide { began: now, length: drill.scenario.end, source, doubled: false, surge: false })
    }

    /// The traffic at `now`; after the end comes the beginning.
    pub(super) fn at(&self, now: Duration) -> Phase {
        let since = now.saturating_sub(self.began).as_secs_f64();
        let at = Duration::from_secs_f64(since % self.length.as_secs_f64().max(1.0));
        let rate = self.source.rate_at(at);
        let priority_per_s = rate * self.source.priority * if self.surge { SURGE } else { 1.0 };
        let regular_per_s = rate * (1.0 - self.source.priority) * if self.doubled { DOUBLED } else { 1.0 };
        let load = (priority_per_s + regular_per_s) / KNEE_PER_S;
        let name = match (self.surge, load) {
            (true, _) => "priority surge",
            (false, load) if load < 0.8 => "calm",
            (false, load) if load < 1.3 => "busy",
            _ => "launch day",
        };
        Phase { name, load, priority_per_s, regular_per_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tide: &Tide, second: u64) -> Phase {
        tide.at(Duration::from_secs(5 + second))
    }

    #[test]
    fn the_launch_day_begins_again_after_its_end() {
        let tide = Tide::new(Duration::from_secs(5)).unwrap();
        assert_eq!((at(&tide, 0).name, at(&tide, 100).name), ("calm", "launch day"));
        assert_eq!(at(&tide, 240 + 100), at(&tide, 100));
    }

    #[test]
    fn keys_double_one_tier_and_leave_the_other() {
        let mut tide = Tide::new(Duration::from_secs(5)).unwrap();
        let before = at(&tide, 10);
        (tide.doubled, tide.surge) = (true, false);
        let doubled = at(&tide, 10);
        assert_eq!(doubled.priority_per_s, before.priority_per_s);
        assert_eq!(doubled.regular_per_s, 2.0 * before.regular_per_s);
        (tide.doubled, tide.surge) = (false, true);
        assert_eq!(at(&tide, 10).priority_per_s, 4.0 * before.priority_per_s);
    }
}
