//! `limits`: where the budgets start, how they move and how far.
//!
//! Each account has, for each model, three budgets of tokens per minute. They start small and move by a
//! published rule: a quarter up when more than half is used, a fifth down when less than a third was used for
//! days. How far up depends on what the customer spends and how large the model is.
//!
//! The bounds of one budget come, per meter, from the account's entry for the model, else from its entry for
//! every model, else from here:
//!
//! ```text
//! ceiling = own ceiling, else max(start, ceilings[size class] * tier_share[spending tier])
//! start   = own start, else limits.start, no higher than the ceiling
//! floor   = own floor, else the start; a floor above the start lifts it
//! ```
//!
//! The default start and ceilings are those that Fireworks publishes for its serverless models, the ceilings from spending
//! tier 3 on; the shares of the other tiers are ours.

use std::time::Duration;

use ::limits::{START, TOKENS_PER_MINUTE_MAX};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::accounts::account::{Account, SpendingTier};
use crate::model::{Model, SizeClass};
use crate::resolve::Resolver;
use crate::units::durations::{hours, minutes};
use crate::yaml::faults::At;

/// A limit of each of the three meters, tokens per minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Meters {
    /// Every input token, cached or not.
    #[schemars(range(min = 1, max = TOKENS_PER_MINUTE_MAX))]
    pub prompt: u64,
    /// Input tokens that were not cached.
    #[schemars(range(min = 1, max = TOKENS_PER_MINUTE_MAX))]
    pub uncached_prompt: u64,
    /// Output tokens, reasoning included.
    #[schemars(range(min = 1, max = TOKENS_PER_MINUTE_MAX))]
    pub generated: u64,
}

/// The same, where each may be left to its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MetersFile {
    /// Every input token, cached or not, per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = TOKENS_PER_MINUTE_MAX))]
    pub prompt: Option<u64>,
    /// Input tokens that were not cached, per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = TOKENS_PER_MINUTE_MAX))]
    pub uncached_prompt: Option<u64>,
    /// Output tokens, reasoning included, per minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = TOKENS_PER_MINUTE_MAX))]
    pub generated: Option<u64>,
}

impl MetersFile {
    /// The three, with their names.
    pub(crate) fn meters(&self) -> [(&'static str, Option<u64>); 3] {
        [("prompt", self.prompt), ("uncached_prompt", self.uncached_prompt), ("generated", self.generated)]
    }

    /// These, and `other` where they are absent.
    pub fn or(self, other: Self) -> Self {
        Self {
            prompt: self.prompt.or(other.prompt),
            uncached_prompt: self.uncached_prompt.or(other.uncached_prompt),
            generated: self.generated.or(other.generated),
        }
    }

    /// These, and `rest` where they are absent.
    pub fn filled(self, rest: Meters) -> Meters {
        Meters {
            prompt: self.prompt.unwrap_or(rest.prompt),
            uncached_prompt: self.uncached_prompt.unwrap_or(rest.uncached_prompt),
            generated: self.generated.unwrap_or(rest.generated),
        }
    }
}

impl Meters {
    fn meters(&self) -> [(&'static str, u64); 3] {
        [("prompt", self.prompt), ("uncached_prompt", self.uncached_prompt), ("generated", self.generated)]
    }

    /// Meter by meter what `pick` takes of the two.
    pub fn with(self, other: Self, pick: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            prompt: pick(self.prompt, other.prompt),
            uncached_prompt: pick(self.uncached_prompt, other.uncached_prompt),
            generated: pick(self.generated, other.generated),
        }
    }

    fn scaled(self, share: f64) -> Self {
        let scale = |tokens: u64| ((tokens as f64 * share) as u64).clamp(1, TOKENS_PER_MINUTE_MAX);
        Self {
            prompt: scale(self.prompt),
            uncached_prompt: scale(self.uncached_prompt),
            generated: scale(self.generated),
        }
    }
}

/// Between which limits a budget moves, and where it starts. `floor <= start <= ceiling` in each meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bounds {
    /// Where it starts, and where it returns to after a long rest.
    pub start: Meters,
    /// Below which it never falls.
    pub floor: Meters,
    /// Above which it never grows.
    pub ceiling: Meters,
}

/// How limits move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LimitPolicy {
    /// By the published rule: growth, shrink and reset below.
    #[default]
    Published,
    /// Not at all: every limit stays at its start.
    Fixed,
}

/// Where the budgets start, how they move and how far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How limits move. Default published.
    pub policy: LimitPolicy,
    /// Where every limit starts, tokens per minute. Default 3,600,000 prompt, 900,000 uncached, 36,000 generated: 60,000, 15,000 and 600 a second.
    pub start: Meters,
    /// How far limits may grow, by the model's size.
    pub ceilings: SizeCeilings,
    /// The share of the ceiling that each spending tier may reach.
    pub tier_share: TierShare,
    /// When limits grow.
    pub growth: Growth,
    /// When limits shrink.
    pub shrink: Shrink,
    /// Time without traffic after which a limit returns to its start, hours. Default 72.
    #[serde(rename = "reset_after_hours", with = "hours")]
    #[schemars(with = "u64", range(min = 1, max = 8760))]
    pub reset_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            policy: LimitPolicy::Published,
            start: Meters {
                prompt: START.prompt,
                uncached_prompt: START.uncached_prompt,
                generated: START.generated,
            },
            ceilings: SizeCeilings::default(),
            tier_share: TierShare::default(),
            growth: Growth::default(),
            shrink: Shrink::default(),
            reset_after: Duration::from_secs(72 * 3600),
        }
    }
}

/// How far limits may grow by the model's size, tokens per minute, at a tier share of 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SizeCeilings {
    /// Small models. Default 216,000,000, 54,000,000, 2,160,000.
    pub small: Meters,
    /// Medium models. Default 43,200,000, 10,800,000, 432,000.
    pub medium: Meters,
    /// Large models. Default 21,600,000, 5,400,000, 216,000.
    pub large: Meters,
}

impl Default for SizeCeilings {
    fn default() -> Self {
        Self {
            small: Meters { prompt: 216_000_000, uncached_prompt: 54_000_000, generated: 2_160_000 },
            medium: Meters { prompt: 43_200_000, uncached_prompt: 10_800_000, generated: 432_000 },
            large: Meters { prompt: 21_600_000, uncached_prompt: 5_400_000, generated: 216_000 },
        }
    }
}

impl SizeCeilings {
    fn of(&self, size: SizeClass) -> Meters {
        match size {
            SizeClass::Small => self.small,
            SizeClass::Medium => self.medium,
            SizeClass::Large => self.large,
        }
    }
}

/// The share of the ceiling that each spending tier may reach. Published practice is the whole ceiling from tier 3 on, less below and more for unlimited spending; how much less and more is ours.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TierShare {
    /// Spending tier 1. Default 0.25: large models still have room to grow by half.
    #[serde(rename = "1")]
    #[schemars(range(min = 0.001, max = 1000.0))]
    pub one: f64,
    /// Spending tier 2. Default 0.5.
    #[serde(rename = "2")]
    #[schemars(range(min = 0.001, max = 1000.0))]
    pub two: f64,
    /// Spending tier 3. Default 1.
    #[serde(rename = "3")]
    #[schemars(range(min = 0.001, max = 1000.0))]
    pub three: f64,
    /// Spending tier 4. Default 1.
    #[serde(rename = "4")]
    #[schemars(range(min = 0.001, max = 1000.0))]
    pub four: f64,
    /// Spending tier unlimited. Default 2.
    #[schemars(range(min = 0.001, max = 1000.0))]
    pub unlimited: f64,
    /// Spending tier enterprise. Default 4; a contract that promises more is a ceiling of the account's own.
    #[schemars(range(min = 0.001, max = 1000.0))]
    pub enterprise: f64,
}

impl Default for TierShare {
    fn default() -> Self {
        Self { one: 0.25, two: 0.5, three: 1.0, four: 1.0, unlimited: 2.0, enterprise: 4.0 }
    }
}

impl TierShare {
    /// The share of one tier.
    pub fn of(&self, tier: SpendingTier) -> f64 {
        match tier {
            SpendingTier::One => self.one,
            SpendingTier::Two => self.two,
            SpendingTier::Three => self.three,
            SpendingTier::Four => self.four,
            SpendingTier::Unlimited => self.unlimited,
            SpendingTier::Enterprise => self.enterprise,
        }
    }
}

/// When limits grow: after a minute of use, not too often, and not while the model is short.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Growth {
    /// Share of the limit that the last minute must have used. Default 0.5.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub use_over: f64,
    /// What the limit is multiplied with. Default 1.25: with the wait below it doubles in 47 minutes.
    #[schemars(range(min = 1.0, max = 11.0))]
    pub factor: f64,
    /// Least time since the last change, minutes. Default 15.
    #[serde(rename = "every_minutes", with = "minutes")]
    #[schemars(with = "u64", range(min = 1, max = 10_080))]
    pub every: Duration,
    /// Share of the model's regular requests of the last minute that may have been shed, the account's own excepted; above it nothing grows. Default 0.01: limits must not grow into a shortage.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub shed_share_max: f64,
}

impl Default for Growth {
    fn default() -> Self {
        Self { use_over: 0.5, factor: 1.25, every: Duration::from_secs(15 * 60), shed_share_max: 0.01 }
    }
}

/// When limits shrink: after days of little use, and not so far that the use would be half of what remains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shrink {
    /// Share of the limit that the busiest quarter of an hour must have stayed under. Default 0.33.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub use_under: f64,
    /// What the limit is multiplied with. Default 0.8.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub factor: f64,
    /// Least time since the last change, hours. Default 24.
    #[serde(rename = "every_hours", with = "hours")]
    #[schemars(with = "u64", range(min = 1, max = 8760))]
    pub every: Duration,
    /// Full days that are looked back on. Default 3, the most that is remembered.
    #[schemars(range(min = 1, max = 3))]
    pub days: u32,
    /// Share of the lowered limit that this use must stay under. Default 0.5, where growth would begin again.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub unless_over: f64,
}

impl Default for Shrink {
    fn default() -> Self {
        Self {
            use_under: 0.33,
            factor: 0.8,
            every: Duration::from_secs(24 * 3600),
            days: 3,
            unless_over: 0.5,
        }
    }
}

impl Limits {
    /// What cannot hold together.
    pub(crate) fn judge(&self, resolver: &mut Resolver<'_>) {
        let at = At::FILE.key("limits");
        for size in SizeClass::ALL {
            let ceiling = self.ceilings.of(size);
            for ((meter, start), (_, high)) in self.start.meters().into_iter().zip(ceiling.meters()) {
                if start > high {
                    let ceilings = at.key("ceilings");
                    let size_at = ceilings.key(size.name());
                    let fault = format!("must not be below limits.start.{meter} ({start}), is {high}");
                    resolver.fault(&size_at.key(meter), fault);
                }
            }
        }
        if self.shrink.use_under > self.growth.use_over {
            let fault =
                format!("must not exceed growth.use_over ({}), or limits would swing", self.growth.use_over);
            resolver.fault(&at.key("shrink").key("use_under"), fault);
        }
        let (growth, shrink) = (at.key("growth"), at.key("shrink"));
        let shares = [
            (growth.key("use_over"), self.growth.use_over),
            (growth.key("factor"), self.growth.factor),
            (shrink.key("use_under"), self.shrink.use_under),
            (shrink.key("factor"), self.shrink.factor),
            (shrink.key("unless_over"), self.shrink.unless_over),
        ];
        for (at, share) in shares {
            // The rule counts in whole percent, so that it is exact.
            if (share * 100.0 - (share * 100.0).round()).abs() > 1e-6 {
                resolver.fault(&at, format!("must be in steps of 0.01, is {share}"));
            }
        }
    }

    /// Between which limits an account's budget for a model moves. O(the account's own limits).
    pub fn bounds(&self, account: &Account, model: &Model) -> Bounds {
        let entry = |wanted: Option<&str>| account.limits.iter().find(|own| own.model.as_deref() == wanted);
        let (narrow, wide) = (entry(Some(&model.name)), entry(None));
        let pick = |part: fn(&crate::LimitOverride) -> MetersFile| {
            let (narrow, wide) = (narrow.map(part), wide.map(part));
            narrow.unwrap_or_default().or(wide.unwrap_or_default())
        };
        let start = pick(|own| own.start).filled(self.start);
        let share = self.tier_share.of(account.spending_tier);
        let granted = self.ceilings.of(model.size_class).scaled(share).with(start, u64::max);
        let ceiling = pick(|own| own.ceiling).filled(granted);
        let start = start.with(ceiling, u64::min);
        let floor = pick(|own| own.floor).filled(start).with(ceiling, u64::min);
        let start = start.with(floor, u64::max);
        match self.policy {
            LimitPolicy::Published => Bounds { start, floor, ceiling },
            LimitPolicy::Fixed => Bounds { start, floor: start, ceiling: start },
        }
    }
}
