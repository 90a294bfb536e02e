//! What a budget is configured with: a policy, and bounds for each meter.

use crate::adaptive::AdaptiveRule;
use crate::bounds::Bounds;
use crate::meter::PerMeter;

/// The limits of a new account where nobody chose any, in tokens per minute: those that Fireworks publishes for its
/// serverless models. How far they may grow is the operator's to say.
pub const START: PerMeter<u64> = PerMeter { prompt: 3_600_000, uncached_prompt: 900_000, generated: 36_000 };

/// How limits move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// They follow use, by the published rule of hosted services.
    Published(AdaptiveRule),
    /// They do not: each meter's limit is its start.
    Fixed,
}

impl Policy {
    /// The rule in force; for fixed limits the published one, by which use is observed all the same.
    pub(crate) fn rule(&self) -> AdaptiveRule {
        match self {
            Policy::Published(rule) => *rule,
            Policy::Fixed => AdaptiveRule::default(),
        }
    }
}

/// The configuration of one account's budget on one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetConfig {
    /// How limits move.
    pub policy: Policy,
    /// Between which limits each meter moves.
    pub bounds: PerMeter<Bounds>,
}

impl BudgetConfig {
    /// Limits that follow use by the published rule, from `start` up to `ceilings`, and never below the start.
    #[must_use]
    pub fn published(start: PerMeter<u64>, ceilings: PerMeter<u64>) -> Self {
        let bounds = PerMeter::from_fn(|meter| {
            let start = *start.get(meter);
            Bounds { start, floor: start, ceiling: *ceilings.get(meter) }
        });
        BudgetConfig { policy: Policy::Published(AdaptiveRule::default()), bounds }
    }
}
