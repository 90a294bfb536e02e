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
    /// Everything else.
    #[default]
    Regular,
}

impl From<Tier> for shedder::Tier {
    fn from(tier: Tier) -> Self {
        match tier {
            Tier::Priority => Self::Priority,
            Tier::Regular => Self::Regular,
        }
    }
}

impl From<shedder::Tier> for Tier {
    fn from(tier: shedder::Tier) -> Self {
        match tier {
            shedder::Tier::Priority => Self::Priority,
            shedder::Tier::Regular => Self::Regular,
        }
    }
}

impl Tier {
    /// All tiers, in their order.
    pub const ALL: [Self; 2] = [Self::Priority, Self::Regular];

    /// Its name in config, metrics and admin API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Priority => "priority",
            Self::Regular => "regular",
        }
    }
}

/// A set of tiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiers {
    /// Whether priority is in it.
    pub priority: bool,
    /// Whether regular is in it.
    pub regular: bool,
}

impl Tiers {
    /// All of them.
    pub const ALL: Self = Self { priority: true, regular: true };

    /// Those of a list.
    pub fn of(tiers: &[Tier]) -> Self {
        Self { priority: tiers.contains(&Tier::Priority), regular: tiers.contains(&Tier::Regular) }
    }

    /// Whether a tier is in it.
    pub fn contains(self, tier: Tier) -> bool {
        match tier {
            Tier::Priority => self.priority,
            Tier::Regular => self.regular,
        }
    }
}

/// As a list of names, the way it is written in the config.
impl Serialize for Tiers {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(Tier::ALL.into_iter().filter(|tier| self.contains(*tier)))
    }
}
