//! How much longer waits turn out than predicted, so that who will not be served learns it at once.
//!
//! A wait is predicted from the tokens ahead and the rate at which they are computed. What comes meanwhile and goes first,
//! smaller prompts that fit where a large one does not, places that running answers hold: all that makes the real wait
//! longer, by a factor that nobody can compute and everybody can see. Whoever was let into the queue and refused at the end
//! of its wait had better been refused at the door; so:
//!
//! ```text
//! refused after its whole wait:   correction · 1.2
//! refused at arrival:             correction · 1.2^(−1/32), at least 1
//! always:                         correction → 1, by half in 21 s while somebody waits, in 0.7 s when nobody does
//! ```
//!
//! and the predicted wait of what is ahead is multiplied by it. At rest one of 33 refusals comes after a wait, one of about
//! 20 with what is forgotten meanwhile, and all others at once: the same balance of two steps that finds a quantile by
//! stochastic approximation (Robbins and Monro 1951).
//! Large prompts (over half a pace) and small ones have a factor of their own, and so has each tier below the highest;
//! the wait of priority is never corrected.
//!
//! The factor multiplies what is ahead of a request and nothing else: in front of an empty queue nobody is refused by it.

use std::time::Duration;

use crate::tier::{PerTier, Tier};

const UP: f64 = 1.2;
/// Refusals at arrival for each that comes after the whole wait.
const AT_ARRIVAL: f64 = 32.0;
const MOST: f64 = 50.0;
const STEP: Duration = Duration::from_millis(500);
/// It is forgotten by the factor e in so many seconds, while some have to wait, and otherwise.
const FORGOTTEN_BUSY_S: f64 = 30.0;
const FORGOTTEN_S: f64 = 1.0;

/// The size of a prompt, compared with a pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Small,
    Large,
}

#[derive(Debug, Clone, Copy)]
struct Factors {
    small: f64,
    large: f64,
}

impl Factors {
    fn of(&mut self, size: Size) -> &mut f64 {
        match size {
            Size::Small => &mut self.small,
            Size::Large => &mut self.large,
        }
    }
}

/// The factors of one deployment.
#[derive(Debug, Clone)]
pub(super) struct WaitCorrection {
    factors: PerTier<Factors>,
    /// Since the last step somebody of the tier had to wait.
    waited: PerTier<bool>,
    stepped: Duration,
}

impl WaitCorrection {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            factors: PerTier::from_fn(|_| Factors { small: 1.0, large: 1.0 }),
            waited: PerTier::default(),
            stepped: now,
        }
    }

    /// Times as long as predicted.
    pub(super) fn factor(&self, tier: Tier, size: Size) -> f64 {
        let factors = self.factors[tier];
        match size {
            Size::Small => factors.small,
            Size::Large => factors.large,
        }
    }

    /// A request was refused after its whole wait.
    pub(super) fn on_queue_timeout(&mut self, tier: Tier, size: Size) {
        if tier != Tier::Priority {
            let factor = self.factors[tier].of(size);
            *factor = (*factor * UP).min(MOST);
        }
    }

    /// A request was refused at arrival, by prediction.
    pub(super) fn on_refused_at_arrival(&mut self, tier: Tier, size: Size) {
        let factor = self.factors[tier].of(size);
        *factor = (*factor * UP.powf(-1.0 / AT_ARRIVAL)).max(1.0);
    }

    /// A request has to wait.
    pub(super) fn on_wait(&mut self, tier: Tier) {
        self.waited[tier] = true;
    }

    /// One step, when one is due.
    pub(super) fn step(&mut self, now: Duration) {
        if now.saturating_sub(self.stepped) < STEP {
            return;
        }
        self.stepped = now;
        let waited = std::mem::take(&mut self.waited);
        for tier in Tier::ALL {
            let forgotten_s = if waited[tier] { FORGOTTEN_BUSY_S } else { FORGOTTEN_S };
            let kept = (-STEP.as_secs_f64() / forgotten_s).exp();
            for size in [Size::Small, Size::Large] {
                let factor = self.factors[tier].of(size);
                *factor = 1.0 + kept * (*factor - 1.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests are refused at once when the factor is at least this, and else after their wait.
    fn late_of_a_thousand(needed: f64) -> u32 {
        let mut correction = WaitCorrection::new(Duration::ZERO);
        let mut late = 0;
        for n in 0..2_000 {
            if correction.factor(Tier::Regular, Size::Small) >= needed {
                correction.on_refused_at_arrival(Tier::Regular, Size::Small);
            } else {
                correction.on_queue_timeout(Tier::Regular, Size::Small);
                late += u32::from(n >= 1_000);
            }
        }
        late
    }

    #[test]
    fn one_refusal_of_33_comes_after_a_wait_whatever_the_factor_is() {
        for needed in [1.5, 4.0, 20.0] {
            let late = late_of_a_thousand(needed);
            assert!((24..38).contains(&late), "{needed}: {late}");
        }
    }

    #[test]
    fn each_size_and_tier_has_its_own_and_priority_none() {
        let mut correction = WaitCorrection::new(Duration::ZERO);
        (0..5).for_each(|_| correction.on_queue_timeout(Tier::Regular, Size::Large));
        (0..5).for_each(|_| correction.on_queue_timeout(Tier::Priority, Size::Large));

        assert!(correction.factor(Tier::Regular, Size::Large) > 2.0);
        assert_eq!(correction.factor(Tier::Regular, Size::Small), 1.0);
        assert_eq!(correction.factor(Tier::Priority, Size::Large), 1.0);
    }

    #[test]
    fn it_is_forgotten_when_the_load_is_over() {
        let mut correction = WaitCorrection::new(Duration::ZERO);
        (0..100).for_each(|_| correction.on_queue_timeout(Tier::Regular, Size::Small));
        assert_eq!(correction.factor(Tier::Regular, Size::Small), MOST);

        for n in 1..=20 {
            correction.on_wait(Tier::Regular);
            correction.step(Duration::from_millis(500 * n));
        }
        assert!(correction.factor(Tier::Regular, Size::Small) > 25.0);
        (21..=80).for_each(|n| correction.step(Duration::from_millis(500 * n)));
        assert!(correction.factor(Tier::Regular, Size::Small) < 1.05);
    }
}
