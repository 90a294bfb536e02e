//! The service tiers, and sets of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A service tier. The order is that of precedence.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Served first, shed last.
    Priority,
    /// Everything that says nothing.
    #[default]
    Regular,
    /// Served from what the others leave, with a wait of its own.
    Flex,
}

impl From<Tier> for shedder::Tier {
    fn from(tier: Tier) -> Self {
        match tier {
            Tier::Priority => Self::Priority,
            Tier::Regular => Self::Regular,
            Tier::Flex => Self::Flex,
        }
    }
}

impl From<shedder::Tier> for Tier {
    fn from(tier: shedder::Tier) -> Self {
        match tier {
            shedder::Tier::Priority => Self::Priority,
            shedder::Tier::Regular => Self::Regular,
            shedder::Tier::Flex => Self::Flex,
        }
    }
}

impl Tier {
    /// All tiers, in their order.
    pub const ALL: [Self; 3] = [Self::Priority, Self::Regular, Self::Flex];

    /// Its name in config, metrics and admin API.
    pub fn name(self) -> &'static str {
        shedder::Tier::from(self).name()
    }
}

/// A set of tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiers([bool; Tier::ALL.len()]);

impl Tiers {
    /// All of them.
    pub const ALL: Self = Self([true; Tier::ALL.len()]);

    /// Those of a list.
    pub fn of(tiers: &[Tier]) -> Self {
        Self(Tier::ALL.map(|tier| tiers.contains(&tier)))
    }

    /// The same with one more.
    #[must_use]
    pub fn with(self, tier: Tier) -> Self {
        Self(Tier::ALL.map(|one| one == tier || self.contains(one)))
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(Tier::ALL.map(|one| self.contains(one) && other.contains(one)))
    }

    /// Whether a tier is in it.
    pub fn contains(self, tier: Tier) -> bool {
        self.0.get(tier as usize).is_some_and(|&is_in| is_in)
    }
}

/// As a list of names, the way it is written in the config.
impl Serialize for Tiers {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(Tier::ALL.into_iter().filter(|tier| self.contains(*tier)))
    }
}
