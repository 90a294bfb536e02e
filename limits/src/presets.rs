//! Limits for those who do not want to choose any: by spending tier and size of the model.
//!
//! The starting limits, and the ceilings from tier 3 on, are those that Fireworks published for its serverless models. The
//! published tables say that lower tiers have lower ceilings and the unlimited tier higher ones, but not which: the
//! factors below are ours. Large models begin closest to their ceiling, so tier 1 still has room to grow by half there.
//!
//! ```text
//! ceilings at tier 3 and 4     prompt    uncached prompt    generated      (tokens per minute)
//! small   under 600B           216 M           54 M            2.16 M
//! medium  600B to 1.6T         43.2 M          10.8 M          432 k
//! large   1.6T and above       21.6 M          5.4 M           216 k
//!
//! tier          1     2     3     4     unlimited   enterprise
//! of these      1/4   1/2   1     1     2           4
//! ```

use crate::adaptive::AdaptiveRule;
use crate::bounds::Bounds;
use crate::config::{BudgetConfig, Policy};
use crate::meter::PerMeter;

/// The limits of a new account, in tokens per minute.
pub const START: PerMeter<u64> = PerMeter { prompt: 3_600_000, uncached_prompt: 900_000, generated: 36_000 };

/// How much an account may come to use: its ceilings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum SpendingTier {
    /// A payment method is known.
    #[default]
    One,
    /// Some money was spent.
    Two,
    /// The full published ceilings.
    Three,
    /// As tier 3.
    Four,
    /// Twice the published ceilings.
    Unlimited,
    /// Four times the published ceilings.
    Enterprise,
}

impl SpendingTier {
    /// All tiers, the lowest first.
    pub const ALL: [SpendingTier; 6] = [
        SpendingTier::One,
        SpendingTier::Two,
        SpendingTier::Three,
        SpendingTier::Four,
        SpendingTier::Unlimited,
        SpendingTier::Enterprise,
    ];

    /// The name used in configuration: `1` to `4`, `unlimited`, `enterprise`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            SpendingTier::One => "1",
            SpendingTier::Two => "2",
            SpendingTier::Three => "3",
            SpendingTier::Four => "4",
            SpendingTier::Unlimited => "unlimited",
            SpendingTier::Enterprise => "enterprise",
        }
    }

    /// Quarters of the full ceilings.
    const fn quarters(self) -> u64 {
        match self {
            SpendingTier::One => 1,
            SpendingTier::Two => 2,
            SpendingTier::Three | SpendingTier::Four => 4,
            SpendingTier::Unlimited => 8,
            SpendingTier::Enterprise => 16,
        }
    }
}

/// How large a model is, by its total parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModelSize {
    /// Under 600 billion parameters.
    Small,
    /// 600 billion up to 1.6 trillion.
    Medium,
    /// 1.6 trillion and above, or unknown.
    Large,
}

impl ModelSize {
    /// All sizes, the smallest first.
    pub const ALL: [ModelSize; 3] = [ModelSize::Small, ModelSize::Medium, ModelSize::Large];

    /// The name used in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ModelSize::Small => "small",
            ModelSize::Medium => "medium",
            ModelSize::Large => "large",
        }
    }

    /// The full ceilings, in tokens per minute.
    #[must_use]
    pub const fn ceilings(self) -> PerMeter<u64> {
        match self {
            ModelSize::Small => {
                PerMeter { prompt: 216_000_000, uncached_prompt: 54_000_000, generated: 2_160_000 }
            }
            ModelSize::Medium => {
                PerMeter { prompt: 43_200_000, uncached_prompt: 10_800_000, generated: 432_000 }
            }
            ModelSize::Large => {
                PerMeter { prompt: 21_600_000, uncached_prompt: 5_400_000, generated: 216_000 }
            }
        }
    }
}

impl BudgetConfig {
    /// The published rule, starting limits and ceilings for an account of that tier on a model of that size.
    #[must_use]
    pub fn published(tier: SpendingTier, size: ModelSize) -> Self {
        let ceilings = size.ceilings();
        let bounds = PerMeter::from_fn(|meter| {
            let start = *START.get(meter);
            Bounds { start, floor: start, ceiling: ceilings.get(meter) / 4 * tier.quarters() }
        });
        BudgetConfig { policy: Policy::Published(AdaptiveRule::default()), bounds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_valid_and_grows_with_the_tier() {
        for size in ModelSize::ALL {
            let mut below = START;
            for tier in SpendingTier::ALL {
                let config = BudgetConfig::published(tier, size);
                for (meter, bounds) in config.bounds.iter() {
                    let checked = Bounds::new(bounds.start, bounds.floor, bounds.ceiling);
                    assert_eq!(checked, Ok(*bounds), "{tier:?} {size:?} {meter}");
                    assert!(bounds.ceiling >= *below.get(meter), "{tier:?} {size:?} {meter}");
                    assert!(bounds.ceiling > bounds.start, "each tier has room to grow");
                }
                below = config.bounds.map(|bounds| bounds.ceiling);
            }
        }
    }

    #[test]
    fn tier_three_has_the_full_ceilings() {
        for size in ModelSize::ALL {
            let config = BudgetConfig::published(SpendingTier::Three, size);
            assert_eq!(config.bounds.map(|bounds| bounds.ceiling), size.ceilings());
        }
    }
}
