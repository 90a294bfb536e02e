//! The service tiers, in the order in which they are served.
//!
//! Two are shipped. Everything that differs between tiers is a [`PerTier`] value, so a third tier is one
//! more variant and one more field, found by the compiler.

use std::fmt;
use std::ops::{Index, IndexMut};

/// A class of service. The order is the order of service: `Priority < Regular`, the smaller first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Served first, and shed only when nothing of a lower tier is left to shed.
    Priority,
    /// Everything else.
    Regular,
}

impl Tier {
    /// All tiers, highest first.
    pub const ALL: [Self; 2] = [Self::Priority, Self::Regular];

    /// The name used in metrics, configuration and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Priority => "priority",
            Self::Regular => "regular",
        }
    }

    /// The tiers served before this one, highest first.
    pub fn above(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |&tier| tier < self)
    }

    /// The tiers served after this one, lowest first: the order in which they give way.
    pub fn below(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().rev().filter(move |&tier| tier > self)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One value for each tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerTier<T> {
    /// The value of [`Tier::Priority`].
    pub priority: T,
    /// The value of [`Tier::Regular`].
    pub regular: T,
}

impl<T> PerTier<T> {
    /// A value for each tier, made by `make`.
    pub fn from_fn(mut make: impl FnMut(Tier) -> T) -> Self {
        Self { priority: make(Tier::Priority), regular: make(Tier::Regular) }
    }

    /// Every tier with its value, highest first.
    pub fn iter(&self) -> impl Iterator<Item = (Tier, &T)> {
        [(Tier::Priority, &self.priority), (Tier::Regular, &self.regular)].into_iter()
    }
}

impl<T> Index<Tier> for PerTier<T> {
    type Output = T;

    fn index(&self, tier: Tier) -> &T {
        match tier {
            Tier::Priority => &self.priority,
            Tier::Regular => &self.regular,
        }
    }
}

impl<T> IndexMut<Tier> for PerTier<T> {
    fn index_mut(&mut self, tier: Tier) -> &mut T {
        match tier {
            Tier::Priority => &mut self.priority,
            Tier::Regular => &mut self.regular,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_above_come_highest_first_and_tiers_below_lowest_first() {
        assert_eq!(Tier::Regular.above().collect::<Vec<_>>(), [Tier::Priority]);
        assert_eq!(Tier::Priority.below().collect::<Vec<_>>(), [Tier::Regular]);
        assert_eq!(Tier::Priority.above().count(), 0);
        assert!(Tier::Priority < Tier::Regular, "the order is the order of service");
    }
}
