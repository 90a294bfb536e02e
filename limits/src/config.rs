//! What a budget is configured with: a policy, and bounds for each meter.

use crate::adaptive::AdaptiveRule;
use crate::bounds::Bounds;
use crate::meter::PerMeter;

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
