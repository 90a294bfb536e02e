//! The room that is kept for higher tiers, learnt from how often they find none.
//!
//! A fixed part of the places (0.15 with the default ceilings) is enough for priority while its requests are many and
//! come evenly. Where a replica has four places, or priority comes in bursts, it is not: priority then waits for places
//! that regular requests give back one by one. So regular's ceiling falls by 0.05 in every half second in which priority
//! had to wait *for long* for a place or for memory, by half of all places at most, and what it fell by fades by 2 % in every
//! other. Long is a quarter of the TTFT target, waited or foreseen from how many requests were started lately: where a
//! place comes back in a fifth of a second, waiting for it costs priority nothing, and room kept for it costs everybody.
//!
//! Worth: 12 points of priority attainment on engines with four slots at twice the load; nothing lost where
//! priority never waits. Of one engine with four slots and short answers 62 % of the capacity was used while every wait
//! counted, and is 94 % since. See `TRIED.md`.
//!
//! Flex leaves room to both: whenever one of them waits for long or is refused, for want of anything, its ceiling falls twice as
//! fast, to nothing if need be, and comes back within minutes. A burst finds running answers that nobody may cut off, so what
//! bursts need has to stay free between them.

use std::time::Duration;

use crate::tier::PerTier;

/// A wait for a place is long from this part of the TTFT target on.
pub(super) const LONG: f64 = 0.25;
/// A place comes back soon within this part of it.
pub(super) const SOON: f64 = 0.15;
const STEP: Duration = Duration::from_millis(500);
const MORE: f64 = 0.05;
const MOST: f64 = 0.5;
const FADE: f64 = 0.98;
/// The same of what is kept from flex: all of it, and it comes back within minutes, as flex itself waits for minutes.
const MORE_OF_FLEX: f64 = 0.1;
const MOST_OF_FLEX: f64 = 1.0;
const FADE_OF_FLEX_S: f64 = 120.0;
/// No sooner than what was started before has ended: so many times as long as an answer holds its place.
const FADE_OF_FLEX_HOLDS: f64 = 2.0;

/// How far the ceilings below the highest are lowered.
#[derive(Debug, Clone)]
pub(super) struct Headroom {
    /// What is kept for priority.
    room: f64,
    short: bool,
    /// What is kept from flex besides, for both tiers above.
    from_flex: f64,
    above_short: bool,
    stepped: Duration,
}

impl Headroom {
    pub(super) fn new(now: Duration) -> Self {
        Self { room: 0.0, short: false, from_flex: 0.0, above_short: false, stepped: now }
    }

    /// Priority found no place.
    pub(super) fn on_short(&mut self) {
        self.short = true;
    }

    /// A request of a tier above flex waited for long, or was refused, for want of whatever flex takes some of.
    pub(super) fn on_above_short(&mut self) {
        self.above_short = true;
    }

    /// One step, when one is due. `hold_s`: how long an answer holds its place.
    pub(super) fn step(&mut self, now: Duration, hold_s: f64) {
        if now.saturating_sub(self.stepped) < STEP {
            return;
        }
        self.stepped = now;
        let short = std::mem::take(&mut self.short);
        self.room = if short { (self.room + MORE).min(MOST) } else { FADE * self.room };
        let fade_s = FADE_OF_FLEX_S.max(FADE_OF_FLEX_HOLDS * hold_s);
        self.from_flex = if std::mem::take(&mut self.above_short) {
            (self.from_flex + MORE_OF_FLEX).min(MOST_OF_FLEX)
        } else {
            self.from_flex * (-STEP.as_secs_f64() / fade_s).exp()
        };
    }

    /// The ceilings in force.
    pub(super) fn lower(&self, ceilings: PerTier<f64>) -> PerTier<f64> {
        PerTier {
            priority: ceilings.priority,
            regular: (ceilings.regular - self.room).max(0.0),
            flex: (ceilings.flex - self.room - self.from_flex).max(0.0),
        }
    }
}
