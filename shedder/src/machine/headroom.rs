//! The room that is kept for a tier from those below it, learnt from how often it finds none.
//!
//! A fixed part of the places (0.15 with the default ceilings) is enough for priority while its requests are many and
//! come evenly. Where a replica has four places, or priority comes in bursts, it is not: priority then waits for places
//! that regular requests give back one by one. So regular's ceiling falls by 0.05 in every half second in which priority
//! had to wait *for long* for a place or for memory, by half of all places at most, and what it fell by fades by 2 % in every
//! other. Long is a quarter of the TTFT target, waited or foreseen from how many requests were started lately: where a
//! place comes back in a fifth of a second, waiting for it costs priority nothing, and room kept for it costs everybody.
//!
//! Worth: 12 points of priority attainment on engines with four slots at twice the load; nothing lost where
//! priority never waits. What is kept for regular from flex is learnt in the same way. Of one engine with four slots and short answers 62 % of the capacity was used while every wait
//! counted, and is 94 % since. See `TRIED.md`.

use std::time::Duration;

use crate::tier::{PerTier, Tier};

/// A wait for a place is long from this part of the TTFT target on.
pub(super) const LONG: f64 = 0.25;
/// A place comes back soon within this part of it.
pub(super) const SOON: f64 = 0.15;
const STEP: Duration = Duration::from_millis(500);
const MORE: f64 = 0.05;
const MOST: f64 = 0.5;
const FADE: f64 = 0.98;

/// How far the ceilings of all tiers below each are lowered for it.
#[derive(Debug, Clone)]
pub(super) struct Headroom {
    room: PerTier<f64>,
    short: PerTier<bool>,
    stepped: Duration,
}

impl Headroom {
    pub(super) fn new(now: Duration) -> Self {
        Self { room: PerTier::default(), short: PerTier::default(), stepped: now }
    }

    /// A request of `tier` found no place.
    pub(super) fn on_short(&mut self, tier: Tier) {
        self.short[tier] = true;
    }

    /// One step, when one is due.
    pub(super) fn step(&mut self, now: Duration) {
        if now.saturating_sub(self.stepped) < STEP {
            return;
        }
        self.stepped = now;
        let short = std::mem::take(&mut self.short);
        for tier in Tier::ALL {
            let room = &mut self.room[tier];
            *room = if short[tier] { (*room + MORE).min(MOST) } else { FADE * *room };
        }
    }

    /// The ceilings in force.
    pub(super) fn lower(&self, ceilings: PerTier<f64>) -> PerTier<f64> {
        PerTier::from_fn(|tier| {
            let kept: f64 = tier.above().map(|above| self.room[above]).sum();
            (ceilings[tier] - kept).max(0.0)
        })
    }
}
