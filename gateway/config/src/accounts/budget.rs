//! What the limits of an account say to its budget, for the gateway and for a drill of the same file.

use std::time::Duration;

use ::limits::{AdaptiveRule, BudgetConfig, PerMeter, Policy, TOKENS_PER_MINUTE_MAX};

use super::limits::{Bounds, LimitPolicy, Limits, Meters};

impl Limits {
    /// The budget between these bounds.
    #[must_use]
    pub fn budget(&self, bounds: &Bounds) -> BudgetConfig {
        let meter = |of: fn(&Meters) -> u64| {
            let at_most = |tokens: u64| tokens.min(TOKENS_PER_MINUTE_MAX);
            let (start, floor, ceiling) = (of(&bounds.start), of(&bounds.floor), of(&bounds.ceiling));
            // The config has floor <= start <= ceiling, so this is only another type for the same numbers.
            ::limits::Bounds { start: at_most(start), floor: at_most(floor), ceiling: at_most(ceiling) }
        };
        BudgetConfig {
            policy: self.rule(),
            bounds: PerMeter {
                prompt: meter(|m| m.prompt),
                uncached_prompt: meter(|m| m.uncached_prompt),
                generated: meter(|m| m.generated),
            },
        }
    }

    fn rule(&self) -> Policy {
        let percent = |share: f64| (share * 100.0).round() as u32;
        match self.policy {
            LimitPolicy::Fixed => Policy::Fixed,
            LimitPolicy::Published => Policy::Published(AdaptiveRule {
                grow_above_percent: percent(self.growth.use_over),
                grow_by_percent: percent(self.growth.factor - 1.0),
                grow_every: self.growth.every,
                shrink_below_percent: percent(self.shrink.use_under),
                shrink_by_percent: percent(1.0 - self.shrink.factor),
                shrink_every: self.shrink.every,
                shrink_keeps_percent: percent(self.shrink.unless_over),
                observed: Duration::from_secs(u64::from(self.shrink.days) * 86_400),
                reset_after: self.reset_after,
            }),
        }
    }
}
